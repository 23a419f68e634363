"""Control flow for users (floor 8): `cond`, `while_loop`, `scan` and `function`.

Each calls the user's Python functions once, with placeholders, and makes one node of what they
compute.  Tensors from outside that they use are captured: they become operands, so gradients flow
to them.  Everything is compiled into the one native function of the graph: nothing returns to
Python between turns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.autodiff.closure import close_bodies
from graphc.autodiff.custom import STOP_GRADIENT
from graphc.autodiff.nest import Rebuild, leaves_of, rebuilder, structure
from graphc.autodiff.segments import scan_of, segmented_scan
from graphc.autodiff.substitution import BARRIER
from graphc.base.dims import Dim, Size
from graphc.base.dtypes import bool_, int64
from graphc.base.errors import GraphError, ShapeError
from graphc.ir import provenance
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor, TensorType, as_index
from graphc.ir.opdef import dtype_error, fail, shape_error
from graphc.ops.control import CALL, COND, WHILE_LOOP, results_of
from graphc.ops.elementwise import WHERE
from graphc.ops.logical import logical_and
from graphc.ops.promotion import TensorLike, as_tensor
from graphc.ops.state import placeholder


def _tensors(nest: Any, what: str, like: Sequence[Tensor] = ()) -> list[Tensor]:
    """The leaves of a nest as tensors; numbers take the dtypes of `like` where it has as many."""
    leaves = leaves_of(nest)
    near: Sequence[Tensor | None] = like if len(like) == len(leaves) else [None] * len(leaves)
    found = []
    for leaf, beside in zip(leaves, near, strict=True):
        if not isinstance(leaf, Tensor | Dim | bool | int | float | np.ndarray | np.generic):
            fail(
                GraphError,
                f"{what} must be tensors (or a list, tuple or dict of them), "
                f"got {type(leaf).__name__}: {leaf!r:.60}",
                hint="a tensor comes from graphc functions; None stands for nothing at all",
            )
        found.append(as_tensor(leaf, like=beside, op=what))
    return found


def _formals(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [placeholder(t.shape, t.dtype) for t in tensors]


def _name(function: Callable[..., Any], otherwise: str) -> str:
    name = getattr(function, "__name__", otherwise)
    return name if name.isidentifier() else otherwise


def _check_types(
    op: str, what: str, found: Sequence[Tensor], expected: Sequence[TensorType], hint: str
) -> None:
    for new, kind in zip(found, expected, strict=True):
        if new.type != kind:
            error = dtype_error if new.shape == kind.shape else shape_error
            error(f"{op}: {what} {kind}, got {new.type}", (new,), hint)


# -- cond -----------------------------------------------------------------------------------------


def cond(
    predicate: TensorLike,
    then: Callable[..., Any],
    otherwise: Callable[..., Any],
    /,
    *operands: Any,
) -> Any:
    """The result of `then(*operands)` where the predicate holds, else of `otherwise(*operands)`;
    only one of them runs.

    predicate: bool of shape (). operands: tensors or nests of them. The functions return the same
    nest of tensors of the same types; tensors from outside may be used in them. What is declared in
    a function runs in its branch only. A gradient is that of the branch that ran, which is computed
    once more for it. Raises DTypeError, ShapeError or GraphError where the results differ.

        y = graphc.cond(x > 0, lambda: graphc.sqrt(x), lambda: graphc.zeros_like(x))
    """
    flag = as_tensor(predicate, op="cond")
    if flag.type != TensorType((), bool_):
        error = dtype_error if flag.shape == () else shape_error
        hint = "compare with something, or reduce with graphc.any or graphc.all"
        error(f"cond: the predicate must be bool[], got {flag.type}", (flag,), hint)
    outer = [_tensors(o, "cond: operands") for o in operands]
    flat = [t for group in outer for t in group]
    formals = _formals(flat)
    with provenance.collecting() as made:
        results = []
        for function in (then, otherwise):
            rest = iter(formals)
            results.append(function(*[rebuilder(o)(rest) for o in operands]))
        groups = _branch_results(results)
    names = (_name(then, "then"), _name(otherwise, "otherwise"))
    bodies, captured = close_bodies(formals, groups, names, made)
    found = results_of(COND, (flag, *flat, *captured), *bodies)
    return rebuilder(results[0])(iter(found))


def _branch_results(results: Sequence[Any]) -> list[list[Tensor]]:
    first, second = map(structure, results)
    if first != second:
        fail(
            GraphError,
            "cond: the branches must return the same structure, "
            f"got {first} and {second} (* is a tensor)",
            hint="return a tensor for a tensor, None for None",
        )
    strong = [[x for x in leaves_of(r) if isinstance(x, Tensor)] for r in results]
    groups = []
    for result, other in zip(results, reversed(strong), strict=True):
        groups.append(_tensors(result, "cond: results of a branch", other))
    types = [t.type for t in groups[0]]
    hint = "convert one of them: graphc.astype, graphc.broadcast_to"
    _check_types("cond", "the other branch must give", groups[1], types, hint)
    return groups


# -- while_loop -----------------------------------------------------------------------------------


def while_loop(
    condition: Callable[[Any], Any],
    body: Callable[[Any], Any],
    init: Any,
    /,
    *,
    maximum: TensorLike | None = None,
    return_turns: bool = False,
) -> Any:
    """`carry = body(carry)` while `condition(carry)` holds, from `init` on; the last carry.

    init: a nest of tensors. condition(carry): bool of shape (). body(carry): the next carry, of the
    same nest and types. maximum: at most that many turns. return_turns: give (carry, turns), turns
    an int64 of shape ().

    The loop has as many turns as the values ask for. Its gradient counts them and then runs a
    scan of that length: the forward computation once more, with every carry kept. Raises
    GraphError, ShapeError or DTypeError where the carry changes or the condition is no bool.

        root = graphc.while_loop(lambda r: abs(r * r - x) > 1e-9, lambda r: (r + x / r) / 2, x)
    """
    carry = _tensors(init, "while_loop: init")
    limited = maximum is not None
    counters = []
    if limited:
        counters = [as_tensor(0, like=int64), _scalar_int(maximum, "while_loop: maximum")]
    formals = _formals([*carry, *counters[:1]])
    rebuild = rebuilder(init)
    asked = condition(rebuild(iter(formals)))
    flag = _tensors(asked, "while_loop: the condition")
    if len(flag) != 1 or flag[0].type != TensorType((), bool_):
        got = ", ".join(str(t.type) for t in flag) or repr(asked)
        hint = "compare with something, or reduce with graphc.any or graphc.all"
        shape_error(f"while_loop: the condition must be bool[], got {got}", flag, hint)
    new = _next_carry("while_loop", init, body(rebuild(iter(formals))), carry)
    if limited:
        flag = [logical_and(flag[0], formals[-1] < counters[1])]
        new = [*new, formals[-1] + 1]
    names = (_name(condition, "condition"), _name(body, "body"))
    bodies, captured = close_bodies(formals, (flag, new), names)
    operands = (*carry, *counters[:1], *captured)
    *last, turns = results_of(WHILE_LOOP, operands, *bodies, len(formals))
    result = rebuild(iter(last))
    return (result, turns) if return_turns else result


def _scalar_int(value: Any, what: str) -> Tensor:
    tensor = as_tensor(value, like=int64, op=what)
    if tensor.shape != () or not tensor.dtype.is_integer:
        dtype_error(f"{what} must be an integer of shape (), got {tensor.type}", (tensor,))
    return tensor


def _next_carry(op: str, old: Any, new: Any, carry: Sequence[Tensor]) -> list[Tensor]:
    if structure(old) != structure(new):
        fail(
            GraphError,
            f"{op}: the carry must keep its structure {structure(old)}, "
            f"got {structure(new)} (* is a tensor)",
            hint="return as many tensors, in the same lists, tuples and dicts, as init has",
        )
    found = _tensors(new, f"{op}: the carry", carry)
    hint = "convert the new carry, or init: graphc.astype, graphc.broadcast_to"
    _check_types(op, "the carry must keep", found, [t.type for t in carry], hint)
    return found


# -- scan -----------------------------------------------------------------------------------------


def scan(
    body: Callable[[Any, Any], Any],
    init: Any,
    sequences: Any = None,
    /,
    *,
    length: Size | None = None,
    reverse: bool = False,
    checkpoint: int | None = None,
    truncate: int | None = None,
) -> Any:
    """A loop over the first axis of `sequences`: `carry, output = body(carry, items)` for each
    item; returns (last carry, stacked outputs).

    init, sequences: nests of tensors, or None. All sequences have the same first size, which may be
    symbolic; `length` says it where there are none. body(carry, items): items is the nest of
    sequences with one item each; it returns the next carry, of the nest and types of `init`, and
    a nest of outputs (or None). Output i of the result belongs to item i. reverse: from the
    last item to the first.

    checkpoint=k: for the gradient only every k-th carry is kept, and k turns at a time are computed
    again; memory for n turns is n / k + k carries instead of n.

    truncate=k: truncated backpropagation through time. The turns are counted from 0 in the order
    in which they run; before every turn k, 2k, 3k … the carry is treated as a constant by
    differentiation. Values stay the same.

    Raises GraphError, ShapeError, DTypeError where structures, types or lengths do not fit.

        total, running = graphc.scan(lambda c, x: (c + x, c + x), graphc.zeros(()), xs)
    """
    carry = _tensors(init, "scan: init")
    rows = _tensors(sequences, "scan: sequences")
    turns = _turns(rows, length)
    for name, value in (("checkpoint", checkpoint), ("truncate", truncate)):
        if value is not None and (as_index(value) is None or value < 1):
            fail(GraphError, f"scan: {name} must be an integer from 1, got {value!r}")
    counters = [] if truncate is None else [as_tensor(0, like=int64)]
    state = _formals([*carry, *counters])
    items = [placeholder(r.shape[1:], r.dtype) for r in rows]
    seen = state if truncate is None else _cut_off(state, int(truncate))
    found = body(rebuilder(init)(iter(seen)), rebuilder(sequences)(iter(items)))
    if not isinstance(found, tuple) or len(found) != 2:
        fail(
            GraphError,
            f"scan: the body must return a pair (carry, outputs), got {structure(found)}",
            hint="return carry, None where there are no outputs",
        )
    new = [*_next_carry("scan", init, found[0], carry), *(c + 1 for c in state[len(carry) :])]
    outputs = _tensors(found[1], "scan: outputs")
    bodies, captured = close_bodies([*state, *items], [[*new, *outputs]], [_name(body, "turn")])
    initial = [*carry, *counters]
    if checkpoint is None:
        last, stacks = scan_of(bodies[0], initial, rows, captured, turns, bool(reverse))
    else:
        every = int(checkpoint)
        last, stacks = segmented_scan(
            bodies[0], initial, rows, captured, turns, bool(reverse), every
        )
    return rebuilder(init)(iter(last)), rebuilder(found[1])(iter(stacks))


def _cut_off(state: Sequence[Tensor], every: int) -> list[Tensor]:
    """The carries, constants to differentiation where the last one, the turn, says so."""
    start = logical_and(state[-1] > 0, state[-1] % every == 0)
    return [WHERE(start, STOP_GRADIENT(t), t) if t.dtype.is_float else t for t in state[:-1]]


def _turns(rows: Sequence[Tensor], length: Size | None) -> Size:
    """The number of turns. Raises ShapeError where sequences and length disagree."""
    for row in rows:
        if row.ndim == 0:
            shape_error("scan: a sequence needs a first axis, got a 0-d tensor", (row,))
    lengths = {row.shape[0] for row in rows}
    if length is not None:
        size = length if isinstance(length, Dim) else as_index(length)
        if size is None or (isinstance(size, int) and size < 0):
            what = f"scan: length must be an integer from 0 or a dim, got {length!r:.60}"
            fail(GraphError, what, hint="graphc.as_dim(n) makes a dim of a tensor n")
        lengths.add(size)
    if len(lengths) > 1:
        shown = ", ".join(sorted(map(str, lengths)))
        hint = "cut or pad them; sizes of different names count as different"
        fail(ShapeError, f"scan: sequences of different lengths: {shown}", rows, hint)
    if not lengths:
        fail(
            GraphError, "scan: without sequences the number of turns is unknown", (), "pass length"
        )
    return lengths.pop()


# -- function -------------------------------------------------------------------------------------


def function(body: Any = None, /, *, checkpoint: bool = False) -> Any:
    """Decorator: calls of this Python function of tensors stay calls of one graph function.

    Its arguments are tensors, arrays or nests of them; anything else that is hashable (a number, a
    string, a dim) is a part of the function. It is run once for each signature (types, nest,
    other arguments); all calls of that signature share the body, so a model of a thousand equal
    layers compiles like one layer. Tensors from outside are captured at the first run.
    checkpoint: what is inside is computed again for the gradient instead of being kept.

        @graphc.function
        def layer(x, w):
            return graphc.nn.relu(x @ w)
    """
    if body is None:
        return functools.partial(function, checkpoint=checkpoint)
    traced: dict[Any, tuple[Graph, list[Tensor], Rebuild]] = {}

    @functools.wraps(body)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = (args, kwargs)
        leaves = leaves_of(given)
        operands = [as_tensor(x) for x in leaves if _is_operand(x)]
        key = (structure(given), *map(_signature, leaves))
        found = traced.get(key)
        if found is None:
            found = traced[key] = _trace(body, given, checkpoint)
        graph, captured, rebuild = found
        return rebuild(iter(results_of(CALL, (*operands, *captured), graph)))

    return wrapper


def _is_operand(leaf: Any) -> bool:
    return isinstance(leaf, Tensor | np.ndarray | np.generic)


def _signature(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.type
    if _is_operand(leaf):
        return TensorType(np.shape(leaf), as_tensor(leaf).dtype)
    try:
        hash(leaf)
    except TypeError:
        fail(
            GraphError,
            f"function: an argument must be a tensor or hashable, got {type(leaf).__name__}",
            hint="pass tensors, arrays, numbers, strings, or lists, tuples and dicts of them",
        )
    return type(leaf), leaf


def _trace(
    body: Callable[..., Any], given: Any, checkpoint: bool
) -> tuple[Graph, list[Tensor], Rebuild]:
    leaves = leaves_of(given)
    formals = _formals([as_tensor(x) for x in leaves if _is_operand(x)])
    seen = iter([BARRIER(f) for f in formals] if checkpoint else formals)
    args, kwargs = rebuilder(given)(iter([next(seen) if _is_operand(x) else x for x in leaves]))
    result = body(*args, **kwargs)
    outputs = _tensors(result, f"function {_name(body, 'function')}: results")
    bodies, captured = close_bodies(formals, [outputs], [_name(body, "function")])
    return bodies[0], captured, rebuilder(result)
