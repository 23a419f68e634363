"""Where a NaN or an infinity comes from (runtime, floor 7): the reference meaning, node by node.

Given the arguments and variables of a call that went wrong, the optimized graph is evaluated by
NumPy until the values are known to be bad, and the way back is followed to the node whose own
inputs are finite: into a body, and there to the turn of a loop in which a result of the body became
bad.  Values are dropped as soon as no node needs them.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.base.dtypes import Array, DType
from graphc.base.errors import ExecutionError, NumericsError, message
from graphc.base.order import topological
from graphc.ir import provenance
from graphc.ir.bindings import Bindings, SizeBinder, edges
from graphc.ir.graph import Graph
from graphc.ir.meaning import evaluate_node
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ops.families import Contraction, Elementwise, Map, Reduction
from graphc.runtime.executable import Executable, Site

_log = logging.getLogger("graphc.runtime")
_MOST_SECONDS = 20.0  # of a loop in the reference
_CALLED = {"call": "a function called"}  # how errors name what runs a body
_EXPONENT = {"bfloat16": 0x7F80, "float16": 0x7C00}  # all ones in a NaN and in an infinity


def unwatched(executable: Executable) -> tuple[int, ...]:
    """The positions, outputs first, then updates, of results that kernels do not look at.

    With check_numerics kernels look at every value that they compute and store. That leaves what is
    copied as it is (feeds, variables, constants) and what opaque ops (sort, scatter) write.
    """
    graph = executable.optimized()
    news = {id(v): new for v, new in graph.updates}
    results = [*(t for _, t in graph.outputs), *(news.get(id(v), v) for v in executable.updates)]
    storage_root = importlib.import_module("graphc.lower.elements").storage_root
    watched = Elementwise | Map | Reduction | Contraction
    return tuple(
        k
        for k, t in enumerate(results)
        if t.dtype.is_float and not isinstance(storage_root(t).op.form, watched)
    )


def any_bad(arrays: Iterable[tuple[Array, DType]]) -> bool:
    """Whether one of some stored arrays holds a NaN or an infinity."""
    with np.errstate(all="ignore"):
        return any(_is_bad(stored, dtype) for stored, dtype in arrays)


def _is_bad(stored: Array, dtype: DType) -> bool:
    if not dtype.is_float or stored.size == 0:
        return False
    mask = _EXPONENT.get(dtype.name)
    if mask is not None:
        bits = stored.view(np.uint16) & np.uint16(mask)
        return bool((bits == mask).any())
    flat = stored.reshape(-1)
    # A finite sum of squares has finite terms; an infinite one may come from large finite terms.
    # BLAS runs at the speed of memory, three times as fast as `sum`.
    return not (np.isfinite(np.dot(flat, flat)) or np.isfinite(flat).all())


@dataclass(frozen=True, slots=True)
class Bad:
    """What is wrong with one array of `graph`, and the ranges of the node's inputs. calls: the
    nodes that run `graph` where it is a body, from the inside out.
    """

    node: Node
    summary: str
    operands: tuple[str, ...]
    graph: Graph
    calls: tuple[Node, ...] = ()


class _Found(Exception):
    """Ends the evaluation at the node that was looked for."""

    def __init__(self, found: Bad) -> None:
        super().__init__(found.summary)
        self.found = found


class _Inside:
    """Evaluates bodies and stops where finite inputs give a result that is not finite.

    Where compiled code left a loop, the reference may never do so: there is an end to the time.
    """

    def __init__(self) -> None:
        self.end = time.monotonic() + _MOST_SECONDS

    def __call__(self, body: Graph, sizes: Mapping[str, int], *arrays: Array) -> tuple[Array, ...]:
        if time.monotonic() > self.end:
            raise _TookTooLong
        results = [t for _, t in body.outputs]
        finite = not any(map(describe_bad, arrays))
        values, bad = _evaluated(body, _given(body, arrays), dict(sizes), self, results)
        for result in results:
            if finite and id(result) in bad:
                raise _Found(_follow(result, bad))
        return tuple(values[id(t)] for t in results)


class _TookTooLong(Exception):
    """The reference of a loop runs on."""


def describe_bad(array: Array) -> str:
    """`2 nan, 1 inf of 12 elements, the first nan at [0, 3]`; empty where all are finite."""
    values = np.asarray(array)
    if values.dtype.kind != "f":
        return ""
    nan, infinite = np.isnan(values), np.isinf(values)
    counts = [(int(nan.sum()), "nan", nan), (int(infinite.sum()), "inf", infinite)]
    found = [(count, kind, where) for count, kind, where in counts if count]
    if not found:
        return ""
    _, kind, where = found[0]
    parts = ", ".join(f"{count} {kind}" for count, kind, _ in found)
    place = ""
    if values.ndim:
        first = np.unravel_index(int(np.argmax(where)), values.shape)
        place = f", the first {kind} at [{', '.join(str(int(i)) for i in first)}]"
    return f"{parts} of {values.size} element{'s' if values.size != 1 else ''}{place}"


def find_origin(
    graph: Graph, values: Mapping[int, Array], sizes: Mapping[str, int], suspects: Iterable[Node]
) -> Bad | None:
    """The node in which the bad values of the first bad suspect begin; None where none is bad.

    values: of placeholders and variables by id, in reference form. Infinite constants are taken as
    meant.
    """
    try:
        _, bad = _evaluated(graph, values, dict(sizes), _Inside())
    except _Found as inside:
        return inside.found
    except _TookTooLong:
        _log.info("%s: the reference runs for too long to say where it began", graph.name)
        return None
    for suspect in suspects:
        if id(suspect) in bad:
            return _follow(suspect, bad)
    return None


# The value of a node, of its operands' values.
_Evaluate = Callable[[Node, list[Any], dict[str, int]], Any]


def _walk(
    nodes: Sequence[Node],
    bindings: Bindings,
    given: Mapping[int, Array],
    sizes: dict[str, int],
    evaluate: _Evaluate,
    kept: Iterable[Node],
    live: dict[int, Any],
) -> Iterator[Node]:
    """Nodes in order, each when `live` has the values, by id of the node, that it, later ones and
    `kept` need.
    """
    uses = Counter(id(i) for node in nodes for i in node.inputs)
    uses.update(map(id, kept))
    binder = SizeBinder(bindings)
    for node in nodes:
        if id(node) in given:
            live[id(node)] = given[id(node)]
        else:
            arrays = [live[id(i)] for i in node.inputs]
            try:
                live[id(node)] = evaluate(node, arrays, sizes)
            except _Found as inside:
                calls = (*inside.found.calls, node)
                raise _Found(replace(inside.found, calls=calls)) from None
        binder.see(node, live[id(node)], sizes)
        yield node
        for i in node.inputs:
            uses[id(i)] -= 1
            if not uses[id(i)]:
                live.pop(id(i), None)


def _given(body: Graph, arrays: Sequence[Array]) -> dict[int, Array]:
    """The values of a body's inputs by id."""
    return {id(t): array for (_, t), array in zip(body.inputs, arrays, strict=True)}


def _evaluated(
    graph: Graph,
    given: Mapping[int, Array],
    sizes: dict[str, int],
    inside: _Inside,
    kept: Iterable[Node] = (),
) -> tuple[dict[int, Any], dict[int, Bad]]:
    """The values of `kept` nodes, and what is bad, both by id of the node."""
    bad: dict[int, Bad] = {}
    live: dict[int, Any] = {}

    def evaluate(node: Node, arrays: list[Any], sizes: dict[str, int]) -> Any:
        return evaluate_node(node, arrays, sizes, inside)

    for node in _walk(graph.nodes, graph.bindings, given, sizes, evaluate, kept, live):
        summary = _summary(live[id(node)]) if node.op.name != "constant" else ""
        if summary:
            known = any(id(i) in bad for i in node.inputs)
            operands = () if known else tuple(_range(graph, i, live[id(i)]) for i in node.inputs)
            bad[id(node)] = Bad(node, summary, operands, graph)
    return live, bad


def operand_ranges(
    graph: Graph, values: Mapping[int, Array], sizes: dict[str, int], node: Node
) -> tuple[str, ...]:
    """The inputs of a node with the ranges of their values; only what they need is evaluated."""
    needed: list[Node] = topological(node.inputs, edges(graph.bindings))
    live: dict[int, Any] = {}
    for _ in _walk(needed, graph.bindings, values, sizes, evaluate_node, node.inputs, live):
        pass
    return tuple(_range(graph, i, live[id(i)]) for i in node.inputs)


def find_refusal(graph: Graph, values: Mapping[int, Array], sizes: Mapping[str, int]) -> Bad | None:
    """The first node, at any depth, that cannot compute with its operands, and who runs it; None
    where the reference meaning computes, or does not tell in time.
    """
    end = time.monotonic() + _MOST_SECONDS

    def inside(body: Graph, sizes: Mapping[str, int], *arrays: Array) -> tuple[Array, ...]:
        if time.monotonic() > end:
            raise _TookTooLong
        return run(body, _given(body, arrays), dict(sizes))

    def run(graph: Graph, given: Mapping[int, Array], sizes: dict[str, int]) -> tuple[Array, ...]:
        def evaluate(node: Node, arrays: list[Any], sizes: dict[str, int]) -> Any:
            try:
                return evaluate_node(node, arrays, sizes, inside)
            except (IndexError, ExecutionError) as error:
                ranges = zip(node.inputs, arrays, strict=True)
                operands = tuple(_range(graph, i, array) for i, array in ranges)
                raise _Found(Bad(node, str(error), operands, graph)) from error

        results = [t for _, t in graph.outputs]
        live: dict[int, Any] = {}
        for _ in _walk(graph.nodes, graph.bindings, given, sizes, evaluate, results, live):
            pass
        return tuple(live[id(t)] for t in results)

    try:
        run(graph, values, dict(sizes))
    except _Found as refused:
        return refused.found
    except _TookTooLong:
        _log.info("%s: the reference runs for too long to say which op it was", graph.name)
    return None


def node_at(graph: Graph, op: str, where: str) -> Node | None:
    """The node of an op at a user's line, None for one in a body: its operands change."""
    return next((n for n in graph.nodes if n.op.name == op and provenance.where(n) == where), None)


def value_error(site: Site, operands: Iterable[str]) -> ExecutionError:
    """The error for a value that an op cannot work with."""
    label = f"{site.op} {site.name!r}" if site.name and site.name != site.op else site.op
    return ExecutionError(
        message(
            f"{label}: a value that it cannot compute with; no variable was changed",
            operands=operands,
            at=site.where or None,
            hint=site.hint,
        )
    )


def _follow(node: Node, bad: Mapping[int, Bad]) -> Bad:
    while True:
        before = next((i for i in node.inputs if id(i) in bad), None)
        if before is None:
            return bad[id(node)]
        node = before


def _summary(value: Any) -> str:
    parts = value if isinstance(value, tuple) else (value,)
    return next((text for text in map(describe_bad, parts) if text), "")


def _range(graph: Graph, node: Node, value: Any) -> str:
    label = f"{graph.name_of(node) if _is_named(graph, node) else node.op.name} : {node.type}"
    if isinstance(value, tuple) or value.size == 0:
        return label
    with np.errstate(all="ignore"):
        return f"{label}   from {value.min()} to {value.max()}"


def numerics_error(graph: Graph, found: Bad) -> NumericsError:
    """The error that names op, node, line, kind and count, and the ranges of the inputs."""
    node, inside = found.node, found.graph is not graph
    graph = found.graph
    kinds = {"placeholder": "the feed", "variable": "the variable"} if not inside else {}
    label = kinds.get(node.op.name, node.op.name)
    what = f"{label} {graph.name_of(node)!r}" if _is_named(graph, node) else label
    if node.op.name in kinds:
        hint = "it held them before the call: look at where it comes from"
    elif "nan" in found.summary:
        hint = "keep the operands in the op's domain, for example with graphc.where or graphc.clip"
    else:
        hint = (
            "the result is too large for its dtype, or the op has a pole there: scale the operands"
        )
    return NumericsError(
        message(
            f"{what} : {_type_text(node)} holds {found.summary}; no variable was changed",
            operands=found.operands,
            at=lines_of(node, found.calls) or None,
            hint=hint,
        )
    )


def lines_of(node: Node, calls: Iterable[Node]) -> str:
    """The user's line of a node, and those of what runs the body that it is in."""
    found = {provenance.where(node): ""}
    for call in calls:
        found.setdefault(
            provenance.where(call), f"in {_CALLED.get(call.op.name, call.op.name)} at "
        )
    return "\n  ".join(prefix + where for where, prefix in found.items() if where)


def _is_named(graph: Graph, node: Node) -> bool:
    return graph.names.get(graph.name_of(node)) is node


def _type_text(node: Node) -> str:
    return str(node.type) if isinstance(node.type, TensorType) else node.op.name


def vague_error(what: str, where: str, summary: str) -> NumericsError:
    """The error where the reference meaning of the same call stays finite."""
    return NumericsError(
        message(
            f"{what} holds {summary or 'nan or inf'}; no variable was changed",
            at=where or None,
            hint="the NumPy meaning of the same call is finite: values near a dtype's limits, or "
            "a bug; graphc.debug.bisect tells which rewrite makes the difference",
        )
    )


def suspects_of(graph: Graph, names: Iterable[str]) -> list[Tensor]:
    """The tensors of these names in the graph, those that exist."""
    return [graph[name] for name in names if name in graph]
