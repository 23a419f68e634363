"""Gradients of control flow (floor 3): each is control flow again, so any order works.

    call        a call of the body's vector-Jacobian product
    cond        a cond of the branches' products; the branch that ran is computed again
    scan        a scan in the other direction, which carries the cotangents of the carries and sums
                up those of captured operands
    while_loop  the gradient of a scan of as many turns as were counted

What the way back needs of the forward computation is kept: the carries before each turn, and the
results of contractions, reductions and other heavy ops; cheap elementwise work is computed again
from these.  For that the forward node is made once more with further outputs; the pass
`merge-control` makes one node of the two.  What depends on a `barrier` in a body is computed again
and never kept: checkpointing rests on it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from graphc.autodiff.reverse import _differentiate, zeros_like_type
from graphc.autodiff.substitution import ordered, substitute
from graphc.base.intern import IdentityTable
from graphc.ir.bindings import computed_symbols
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor
from graphc.ops.control import (
    CALL,
    COND,
    GRADIENTS,
    SCAN,
    closed_body,
    items,
    results_of,
    scan_parts,
)
from graphc.ops.elementwise import add
from graphc.ops.families import Composite, Contraction, Elementwise, Item, Opaque, Reduction
from graphc.ops.sizes import as_dim
from graphc.ops.state import placeholder

Parts = list[Tensor | None]
Given = tuple[Tensor | None, ...]
_HEAVY = Composite | Contraction | Item | Opaque | Reduction


@dataclass(frozen=True)
class _Pullback:
    """Cotangents of the inputs of a body, over its inputs, `kept` nodes of it, and `seeds`.

    given: the outputs that have a cotangent, by number, and seeds: placeholders of these. parts:
    one for each input. used: the numbers of the inputs that the parts need; kept: the values
    inside the body that they need, and places: placeholders of these.
    """

    given: tuple[int, ...]
    seeds: tuple[Tensor, ...]
    parts: tuple[Tensor | None, ...]
    used: tuple[int, ...]
    kept: tuple[Tensor, ...]
    places: tuple[Tensor, ...]


def _pull(body: Graph, given: Sequence[int]) -> tuple[list[Tensor], Parts]:
    """The cotangents of all inputs of a body, None where none flows, over seeds of outputs."""
    outputs = [body.outputs[k][1] for k in given]
    seeds = [placeholder(t.shape, t.dtype) for t in outputs]
    wrt = [t for _, t in body.inputs if t.dtype.is_float]
    found = iter(_differentiate(outputs, seeds, wrt))
    return seeds, [next(found) if t.dtype.is_float else None for _, t in body.inputs]


def _pullback(
    body: Graph, given: Sequence[int], fixed: Container[int], keep: bool = True
) -> _Pullback:
    """fixed: numbers of inputs from which nothing heavy is worth keeping (the same in all turns).
    keep: whether anything may be kept.
    """
    seeds, parts = _pull(body, given)
    present = [p for p in parts if p is not None]
    varying = {id(t) for k, (_, t) in enumerate(body.inputs) if k not in fixed}
    # What has a size of its own in every turn cannot be stacked: it is computed again.
    local = {s for s, _ in body.bindings}
    kept = [
        t
        for t in (_kept(present, seeds, varying) if keep else [])
        if not any(s in local for s in computed_symbols(t.shape))
    ]
    places = [placeholder(t.shape, t.dtype) for t in kept]
    mapping: dict[int, Node] = {id(t): p for t, p in zip(kept, places, strict=True)}
    fresh = iter(substitute(present, mapping) if mapping else present)
    parts = [None if p is None else next(fresh) for p in parts]
    below = {id(n) for n in ordered([p for p in parts if p is not None])}
    used = [k for k, (_, t) in enumerate(body.inputs) if id(t) in below]
    groups = (tuple(given), tuple(seeds), tuple(parts), tuple(used), tuple(kept), tuple(places))
    return _Pullback(*groups)


def _kept(parts: Sequence[Tensor], seeds: Sequence[Tensor], varying: set[int]) -> list[Tensor]:
    """The nodes of the forward computation to keep: results of heavy ops that the parts need, or
    what is made of them alone.
    """
    back = {id(s) for s in seeds}  # what depends on a cotangent
    free: set[int] = set()  # what may be kept: depends on a varying input, on no barrier
    held: set[int] = set()
    for node in ordered(parts):
        inputs = [id(i) for i in node.inputs]
        if any(i in back for i in inputs):
            back.add(id(node))
        if node.op.name == "barrier" or any(i in held for i in inputs):
            held.add(id(node))
        elif id(node) in varying or any(i in free for i in inputs):
            free.add(id(node))
    chosen: set[int] = set()
    while True:
        found, users = _frontier(parts, chosen, free - back)
        # What a kept value is only used for is kept in its place, where it takes no more memory: of
        # tanh(x @ w + h @ u) not the two products, nor their sum.
        better = {
            id(u): u
            for t in found
            for u in users.get(id(t), ())
            if len(users[id(t)]) == 1 and id(u) in free - back and _replaces(u, t)
        }
        if not better:
            return found
        chosen |= set(better)


def _frontier(
    parts: Sequence[Tensor], chosen: set[int], free: set[int]
) -> tuple[list[Tensor], dict[int, list[Node]]]:
    """The first nodes of `free` on all ways down from `parts` that are heavy or chosen, and who
    uses which node above them.
    """
    found: dict[int, Tensor] = {}
    users: dict[int, list[Node]] = {}
    seen: set[int] = set()
    stack: list[Node] = list(reversed(parts))
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        stops = id(node) in chosen or isinstance(node.op.form, _HEAVY)
        if stops and id(node) in free and isinstance(node, Tensor):
            found[id(node)] = node
            continue
        for i in {id(i): i for i in node.inputs}.values():
            users.setdefault(id(i), []).append(node)
        stack.extend(reversed(node.inputs))
    for part in parts:  # a part itself is used as it is
        users.setdefault(id(part), []).append(part)
    return list(found.values()), users


def _replaces(user: Node, value: Tensor) -> bool:
    """Whether an elementwise user of a value is as good to keep."""
    if not isinstance(user.op.form, Elementwise) or not isinstance(user, Tensor):
        return False
    return user.shape == value.shape and user.dtype.itemsize <= value.dtype.itemsize


def _numbers(g: Given) -> list[int]:
    return [k for k, part in enumerate(g) if part is not None]


def _present(parts: Sequence[Tensor | None]) -> list[Tensor]:
    return [p for p in parts if p is not None]


def _at(parts: Sequence[Tensor], numbers: Sequence[int], count: int) -> Parts:
    """Parts in their places among `count`, None elsewhere."""
    found: Parts = [None] * count
    for number, part in zip(numbers, parts, strict=True):
        found[number] = part
    return found


# -- call -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _CallPlan:
    """How calls of one body are differentiated: the same two bodies for all of them.

    forward: with what is kept as further outputs, None where nothing is; backward: of the
    cotangents, the inputs `used`, and what is kept; its outputs belong to the inputs `wanted`.
    """

    forward: Graph | None
    backward: Graph
    used: tuple[int, ...]
    wanted: tuple[int, ...]


# By identity: equal bodies from other lines have gradients on those lines.
_PLANS: IdentityTable[Graph, dict[tuple[int, ...], _CallPlan]] = IdentityTable()


def _call_plan(body: Graph, given: tuple[int, ...]) -> _CallPlan:
    if body not in _PLANS:
        _PLANS[body] = {}
    plans = _PLANS.get(body, {})
    if given not in plans:
        found = _pullback(body, given, ())
        inputs = [t for _, t in body.inputs]
        outputs = [t for _, t in body.outputs]
        formals = [*found.seeds, *(inputs[k] for k in found.used), *found.places]
        wanted = [k for k, p in enumerate(found.parts) if p is not None]
        backward = closed_body(formals, _present(found.parts), f"{body.name}_backward")
        forward = None
        if found.kept:
            forward = closed_body(inputs, [*outputs, *found.kept], body.name, body.names)
        plans[given] = _CallPlan(forward, backward, found.used, tuple(wanted))
    return plans[given]


def _call_gradient(g: Given, node: Node) -> Sequence[Tensor | None]:
    body: Graph = node.attr("body")
    plan = _call_plan(body, tuple(_numbers(g)))
    kept: tuple[Tensor, ...] = ()
    if plan.forward is not None:
        kept = results_of(CALL, node.inputs, plan.forward)[len(body.outputs) :]
    operands = [*_present(g), *(node.inputs[k] for k in plan.used), *kept]
    found = results_of(CALL, operands, plan.backward)
    return _at(found, plan.wanted, len(node.inputs))


# -- cond -----------------------------------------------------------------------------------------


def _cond_gradient(g: Given, node: Node) -> Sequence[Tensor | None]:
    given = _numbers(g)
    predicate, *operands = node.inputs
    branches: list[Graph] = [node.attr("then"), node.attr("otherwise")]
    pulled = [_pullback(b, given, (), keep=False) for b in branches]
    wanted = [k for k in range(len(operands)) if any(p.parts[k] is not None for p in pulled)]
    used = sorted({k for p in pulled for k in p.used})
    bodies = []
    for branch, found in zip(branches, pulled, strict=True):
        inputs = [t for _, t in branch.inputs]
        parts = [found.parts[k] for k in wanted]
        outputs = [
            zeros_like_type(operands[k]) if p is None else p
            for k, p in zip(wanted, parts, strict=True)
        ]
        formals = [*found.seeds, *(inputs[k] for k in used)]
        bodies.append(closed_body(formals, outputs, f"{branch.name}_backward"))
    fed = (predicate, *_present(g), *(operands[k] for k in used))
    found_parts = results_of(COND, fed, *bodies)
    return [None, *_at(found_parts, wanted, len(operands))]


# -- scan -----------------------------------------------------------------------------------------


def _scan_pullback(node: Node, g: Given) -> _Pullback:
    """The pullback of one turn: a carry has a cotangent if its last value has, or if a later turn
    gives it one.
    """
    body: Graph = node.attr("body")
    carries, sequences = node.attr("carries"), node.attr("sequences")
    fixed = range(carries + sequences, len(node.inputs))
    given = set(_numbers(g))
    while True:
        found = _pullback(body, sorted(given), fixed)
        more = {k for k in range(carries) if found.parts[k] is not None} - given
        if not more:
            return found
        given |= more


def _scan_gradient(g: Given, node: Node) -> Sequence[Tensor | None]:
    body: Graph = node.attr("body")
    carries, sequences, _ = scan_parts(node)
    n, last = len(carries), len(carries) + len(sequences)
    one = _scan_pullback(node, g)
    inputs = [t for _, t in body.inputs]
    states = [k for k in one.given if k < n]
    seeds = dict(zip(one.given, one.seeds, strict=True))
    kept_rows = _kept_rows(node, [inputs[k] for k in one.used if k < n], one.kept)
    summed = [k for k in range(last, len(inputs)) if one.parts[k] is not None]
    sums = [placeholder(inputs[k].shape, inputs[k].dtype) for k in summed]
    rows = [k for k in range(n, last) if one.parts[k] is not None]
    outer = [k for k in one.used if k >= last]
    read = [k for k in one.used if n <= k < last]
    stacked = [k for k in one.given if k >= n]

    formals = [
        *(seeds[k] for k in states),
        *sums,
        *(seeds[k] for k in stacked),
        *(inputs[k] for k in one.used if k < n),
        *one.places,
        *(inputs[k] for k in (*read, *outer)),
    ]
    new = [_or_zeros(one.parts[k], inputs[k]) for k in states]
    new += [_added(s, one.parts[k]) for s, k in zip(sums, summed, strict=True)]
    parts = _present([one.parts[k] for k in rows])
    backward = closed_body(formals, [*new, *parts], f"{body.name}_backward")
    operands = [
        *(_or_zeros(g[k], carries[k]) for k in states),
        *(zeros_like_type(node.inputs[k]) for k in summed),
        *_present([g[k] for k in stacked]),
        *kept_rows,
        *(node.inputs[k] for k in (*read, *outer)),
    ]
    count = len(states) + len(sums)
    slices = len(stacked) + len(kept_rows) + len(read)
    length, reverse = node.attr("length"), node.attr("reverse")
    found = results_of(SCAN, operands, backward, count, slices, length, not reverse)
    return _at(found, (*states, *summed, *rows), len(inputs))


def _kept_rows(node: Node, places: Sequence[Tensor], kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Carries before each turn and values inside the body, of all turns: outputs of the scan."""
    if not places and not kept:
        return ()
    body: Graph = node.attr("body")
    _, *rest = node.attrs
    outputs = [t for _, t in body.outputs]
    inputs = [t for _, t in body.inputs]
    forward = closed_body(inputs, [*outputs, *places, *kept], body.name, body.names)
    return results_of(SCAN, node.inputs, forward, *rest)[len(outputs) :]


def _or_zeros(part: Tensor | None, like: Tensor) -> Tensor:
    return zeros_like_type(like) if part is None else part


def _added(total: Tensor, part: Tensor | None) -> Tensor:
    """The sum one by one: each term may later move behind the loop."""
    assert part is not None
    terms: list[Tensor] = []
    stack = [part]
    while stack:
        term = stack.pop()
        if term.op.name == "add" and all(i.type == term.type for i in term.inputs):
            stack.extend(reversed(term.inputs))
        else:
            terms.append(term)
    for term in terms:
        total = add(total, term)
    return total


# -- while_loop -----------------------------------------------------------------------------------


def _while_gradient(g: Given, node: Node) -> Sequence[Tensor | None]:
    """The loop as a scan: how many turns there are is known once it has run."""
    carries: int = node.attr("carries")
    turns = as_dim(items(node)[carries])
    scan = results_of(SCAN, node.inputs, node.attr("body"), carries, 0, turns, False)
    (whole,) = scan[0].inputs if scan else (None,)
    assert whole is not None, "a cotangent belongs to a carry"
    return _scan_gradient(g[:carries], whole)


GRADIENTS.update(
    call=_call_gradient,
    cond=_cond_gradient,
    scan=_scan_gradient,
    while_loop=_while_gradient,
)
