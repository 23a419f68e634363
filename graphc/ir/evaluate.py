"""The reference evaluator (floor 1): a graph's meaning by NumPy, node by node, unoptimized.

Every compiled result is held against it. Values are kept only as long as they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Symbol, evaluate, shape_text
from graphc.base.dtypes import Array, DType, dtype_of, from_storage, to_storage
from graphc.base.errors import DTypeError, GraphError, ShapeError, message
from graphc.ir.bindings import SizeBinder
from graphc.ir.graph import EVALUATOR, Graph
from graphc.ir.meaning import evaluate_node
from graphc.ir.node import Node, Tensor, describe

Dims = tuple[int, ...]


def feed_array(value: Any, tensor: Tensor, name: str) -> Array:
    """A fed value as an array in reference form.

    Python scalars and lists take the tensor's dtype; arrays must have it (ml_dtypes bfloat16 and
    float32 are both taken for bfloat16). Raises DTypeError naming the input, expected and got.
    """
    if isinstance(value, Tensor):
        raise GraphError(
            message(
                f"feed {name!r} is a symbolic tensor",
                hint="feed values: NumPy arrays, numbers or lists",
            )
        )
    dtype = tensor.dtype
    if not hasattr(value, "dtype"):
        try:
            array = np.asarray(value)
            safe = array.dtype.kind in (
                "biuf" if dtype.is_float else "biu" if dtype.is_integer else "b"
            )
            if safe or array.size == 0:
                return normalize_feed(array, dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise DTypeError(
                message(
                    f"feed {name!r}: cannot make a {dtype} array of {value!r:.80}: {error}",
                    operands=[describe(tensor)],
                    hint=f"feed an array of dtype {dtype}",
                )
            ) from None
        raise _wrong_dtype(name, tensor, array.dtype.name)
    array = np.asarray(value)
    if array.dtype.name == "bfloat16" and dtype.name == "bfloat16":
        return array.astype(np.float32)
    try:
        got = dtype_of(array.dtype)
    except DTypeError:
        raise _wrong_dtype(name, tensor, str(array.dtype)) from None
    if got is dtype or (dtype.name == "bfloat16" and got.name == "float32"):
        return normalize_feed(array, dtype)
    raise _wrong_dtype(name, tensor, got.name)


def normalize_feed(array: Array, dtype: DType) -> Array:
    """Native byte order, the reference form of the dtype."""
    return from_storage(to_storage(array.astype(dtype.numpy), dtype), dtype)


def _wrong_dtype(name: str, tensor: Tensor, got: str) -> DTypeError:
    return DTypeError(
        message(
            f"feed {name!r}: expected {tensor.type}, got dtype {got}",
            operands=[describe(tensor)],
            hint=f"convert it: array.astype({tensor.dtype.name!r})",
        )
    )


def _wrong_shape(what: str, tensor: Tensor, hint: str | None = None) -> ShapeError:
    hint = hint or f"feed an array of shape {shape_text(tensor.shape)}"
    return ShapeError(message(what, operands=[describe(tensor)], hint=hint))


def bind_shape(
    name: str, tensor: Tensor, actual: Dims, sizes: dict[str, int], origin: dict[str, str]
) -> None:
    """Match a fed array's shape with the declared one, binding symbols into `sizes`.

    origin: where each symbol's size is from, for messages. Raises ShapeError naming input, dim,
    expected and got.
    """
    shape = tensor.shape
    if len(actual) != len(shape):
        raise _wrong_shape(
            f"feed {name!r}: expected shape {shape_text(shape)} ({len(shape)} dims), "
            f"got {list(actual)} ({len(actual)} dims)",
            tensor,
        )
    for axis, (size, got) in enumerate(zip(shape, actual, strict=True)):
        if (
            isinstance(size, Dim)
            and len(size.terms) == 1
            and size.terms[0][1] == 1
            and len(size.terms[0][0]) == 1
        ):
            atom = size.terms[0][0][0]
            if isinstance(atom, Symbol):
                _bind_symbol(f"feed {name!r}, dim {axis}", tensor, atom, got, sizes, origin)


def check_shape(
    name: str, tensor: Tensor, actual: Dims, sizes: Mapping[str, int], origin: Mapping[str, str]
) -> None:
    """After binding: every size must come out as declared. Raises ShapeError."""
    for axis, (size, got) in enumerate(zip(tensor.shape, actual, strict=True)):
        if isinstance(size, Dim) and any(s.name not in sizes for s in size.symbols()):
            missing = [s.name for s in size.symbols() if s.name not in sizes]
            raise _wrong_shape(
                f"feed {name!r}, dim {axis}: {size} does not tell the size of {', '.join(missing)}",
                tensor,
                f"feed a tensor that has {missing[0]} alone as a dim",
            )
        expected = evaluate(size, sizes)
        if expected != got:
            known = [s.name for s in size.symbols()] if isinstance(size, Dim) else []
            because = "".join(f"; {n} = {sizes[n]} from {origin.get(n, '')}" for n in known)
            raise _wrong_shape(
                f"feed {name!r}, dim {axis}: "
                f"expected {size}{f' = {expected}' if known else ''}, got {got} "
                f"(shape {list(actual)}, declared {shape_text(tensor.shape)}{because})",
                tensor,
            )


def _bind_symbol(
    place: str,
    tensor: Tensor,
    symbol: Symbol,
    got: int,
    sizes: dict[str, int],
    origin: dict[str, str],
) -> None:
    if symbol.name in sizes:
        return
    if (
        got < symbol.min
        or (symbol.max is not None and got > symbol.max)
        or got % symbol.multiple_of
    ):
        limits = f"min={symbol.min}, max={symbol.max}, multiple_of={symbol.multiple_of}"
        raise _wrong_shape(
            f"{place}: the size {got} is outside the bounds of dim {symbol.name!r} ({limits})",
            tensor,
            "the bounds were declared with graphc.Dim",
        )
    sizes[symbol.name] = got
    origin[symbol.name] = place


def bind_feeds(graph: Graph, feeds: Mapping[Any, Any]) -> tuple[dict[int, Array], dict[str, int]]:
    """Feeds by id of node in reference form, and the sizes that their shapes bind."""
    by_name = dict(graph.inputs)
    values: dict[int, Array] = {}
    labels: dict[int, tuple[str, Tensor]] = {}
    for key, value in feeds.items():
        tensor = (
            key
            if isinstance(key, Tensor)
            else by_name.get(key, graph[key] if key in graph else None)
        )
        if tensor is None:
            raise GraphError(
                message(
                    f"feed {key!r}: the graph has no such input",
                    hint=f"its inputs: {', '.join(by_name) or 'none'}",
                )
            )
        label = next((n for n, t in graph.inputs if t is tensor), tensor.name or str(key))
        values[id(tensor)] = feed_array(value, tensor, label)
        labels[id(tensor)] = (label, tensor)
    missing = [n for n, t in graph.inputs if id(t) not in values]
    if missing:
        raise GraphError(
            message(
                f"no feed for input {', '.join(map(repr, missing))}",
                operands=[describe(by_name[n]) for n in missing],
                hint="pass feeds={placeholder or name: array}",
            )
        )
    sizes: dict[str, int] = {}
    origin: dict[str, str] = {}
    for key_id, (label, tensor) in labels.items():
        bind_shape(label, tensor, values[key_id].shape, sizes, origin)
    for key_id, (label, tensor) in labels.items():
        check_shape(label, tensor, values[key_id].shape, sizes, origin)
    return values, sizes


def run_nodes(
    graph: Graph,
    values: dict[int, Any],
    sizes: dict[str, int],
    visit: Callable[[Node, Any], None] | None = None,
) -> dict[int, Any]:
    """Evaluate every node that has no value yet; `visit(node, value)` sees each.

    Sizes that the graph computes are added to `sizes` as they become known. Returns all values by
    id. Raises ExecutionError for a computed size that is out of its bounds.
    """
    binder = SizeBinder(graph.bindings)
    for node in graph.nodes:
        if id(node) not in values:
            if node.op.name == "variable":
                values[id(node)] = node.attr("value").values
            else:
                values[id(node)] = evaluate_node(node, [values[id(i)] for i in node.inputs], sizes)
        binder.see(node, values[id(node)], sizes)
        if visit is not None:
            visit(node, values[id(node)])
    return values


def evaluate_graph(
    graph: Graph, feeds: Mapping[Any, Any], updates: bool = False
) -> dict[str, Array]:
    """`Graph.evaluate`."""
    values, sizes = bind_feeds(graph, feeds)
    run_nodes(graph, values, sizes)
    result = {name: np.array(values[id(t)]) for name, t in graph.outputs}
    if updates:
        result |= {f"update:{graph.name_of(v)}": np.array(values[id(t)]) for v, t in graph.updates}
    return result


def evaluate_body(body: Graph, sizes: Mapping[str, int], *arrays: Array) -> tuple[Array, ...]:
    """The outputs of a body (see `ops/control.py`) on arrays in reference form, in order."""
    values = {id(t): array for (_, t), array in zip(body.inputs, arrays, strict=True)}
    run_nodes(body, values, dict(sizes))
    return tuple(values[id(t)] for _, t in body.outputs)


EVALUATOR["evaluate"] = evaluate_graph
EVALUATOR["body"] = evaluate_body
