"""Gradients that the user decides (floor 3): `stop_gradient`, `custom_gradient`, `checkpoint`.

All three are Alias ops: at run time the value of input 0.  `with_gradient` holds the backward
computation as a `Graph` attribute, so it prints, saves and differentiates again like everything
else.  `barrier` makes a value a different node than the one it was, so that what is recomputed is
not interned with the original.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from graphc.autodiff.closure import extent
from graphc.autodiff.nest import flatten
from graphc.autodiff.reverse import cotangents, zeros_like_type
from graphc.autodiff.substitution import BARRIER, first_type, first_value, ordered, substitute
from graphc.base.errors import GraphError, UnsupportedError
from graphc.ir.bindings import bindings_inside
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, make
from graphc.ir.opdef import REGISTRY, OpDef, fail
from graphc.ops.families import Alias
from graphc.ops.promotion import as_tensor
from graphc.ops.state import placeholder


def _with_gradient_gradient(g: Tensor, node: Tensor) -> Sequence[Tensor | None]:
    backward: Graph = node.attr("backward")
    targets = len(backward.outputs)
    found = instantiate(backward, [g, *node.inputs[1 + targets :]])
    return [None, *found, *[None] * (len(node.inputs) - 1 - targets)]


STOP_GRADIENT = REGISTRY.add(
    OpDef(
        name="stop_gradient",
        attributes=(),
        infer=first_type,
        reference=first_value,
        gradient=None,
        form=Alias(),
        doc="The same value, through which no gradient flows.",
    )
)
WITH_GRADIENT = REGISTRY.add(
    OpDef(
        name="with_gradient",
        attributes=("backward",),
        infer=first_type,
        reference=first_value,
        gradient=_with_gradient_gradient,
        form=Alias(),
        doc="Input 0, whose gradient with respect to inputs 1…n is the graph `backward` of "
        "(g, the other inputs).",
    )
)


def stop_gradient(x: Any) -> Tensor:
    """The same value, treated as a constant by differentiation."""
    return STOP_GRADIENT(as_tensor(x))


def custom_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: `function(*xs)` returns `(y, backward)`, and `backward(g)` gives the gradient to
    use instead.

    y: a tensor or a nest of tensors. backward takes one cotangent per tensor of y and returns one
    per x (a single tensor for a single x; None: no gradient flows). The result is `y`. Raises
    GraphError where types do not fit.

    Example::

        @graphc.custom_gradient
        def clipped(x):
            return x, lambda g: graphc.clip(g, -1, 1)
    """

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        xs = [as_tensor(a) for a in args]
        result = function(*xs)
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            fail(
                GraphError,
                f"custom_gradient: {function.__name__} must return (y, backward), "
                f"got {type(result).__name__}",
                hint="return y, lambda g: …",
            )
        leaves, rebuild = flatten(result[0], "custom_gradient: y")
        return rebuild(iter([_custom(leaves, k, xs, result[1]) for k in range(len(leaves))]))

    return wrapper


def _custom(ys: list[Tensor], k: int, xs: list[Tensor], backward: Callable[..., Any]) -> Tensor:
    """`ys[k]` with its part of the user's gradient: the backward of a cotangent that is zero
    elsewhere.
    """
    if not ys[k].dtype.is_float:
        return ys[k]
    g = placeholder(ys[k].shape, ys[k].dtype)
    seeds = [g if i == k else zeros_like_type(y) for i, y in enumerate(ys)]
    found = backward(*seeds)
    parts = list(found) if isinstance(found, list | tuple) else [found]
    if len(parts) != len(xs):
        fail(
            GraphError,
            f"custom_gradient: backward gives {len(parts)} cotangents for {len(xs)} inputs",
            xs,
        )
    targets, outputs = [], []
    for x, part in zip(xs, parts, strict=True):
        if part is None:
            continue
        tensor = as_tensor(part, like=x)
        if tensor.type != x.type:
            fail(
                GraphError,
                f"custom_gradient: the gradient of an input {x.type} must be {x.type}, "
                f"got {tensor.type}",
                (x, tensor),
                "sum over broadcast dims and convert with graphc.astype",
            )
        targets.append(x)
        outputs.append(tensor)
    return attach(ys[k], targets, [g], outputs) if targets else STOP_GRADIENT(ys[k])


def attach(
    y: Tensor, targets: list[Tensor], formals: list[Tensor], outputs: list[Tensor]
) -> Tensor:
    """`with_gradient` node: the gradient of y with respect to targets is `outputs`, a computation
    from `formals`.
    """
    backward, captured = close(outputs, formals, "backward")
    node = make(WITH_GRADIENT, (y, *targets, *captured), (backward,))
    assert isinstance(node, Tensor)
    return node


def checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose intermediate values are computed again in the backward pass instead
    of being kept.

    function: of tensors (or nests of them) to a tensor or a nest; it may use tensors from outside.
    Costs one more forward computation of `function`, saves the memory of what is inside.

    Example: `h = graphc.checkpoint(block)(h)`.
    """

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        xs, _ = flatten(list(args), "checkpoint: arguments")
        leaves, rebuild = flatten(function(*args), "checkpoint: result")
        return rebuild(iter([_checkpointed(y, xs) for y in leaves]))

    return wrapper


def _checkpointed(y: Tensor, xs: list[Tensor]) -> Tensor:
    if not y.dtype.is_float:
        return y
    body, captured = close([y], xs, "body")
    g = placeholder(y.shape, y.dtype)
    held = [BARRIER(x, g) for x in xs]
    again = instantiate(body, [*held, *captured])
    order = {id(n) for n in ordered(again)}
    pairs = [*zip(xs, held, strict=True), *((c, c) for c in captured)]
    used = [(x, h) for x, h in pairs if _differentiable(x) and id(h) in order]
    if not used or not body.nodes:
        return y
    found = cotangents("checkpoint", again, [g], [h for _, h in used], allow_unused=True)
    return attach(y, [x for x, _ in used], [g], found)


def _differentiable(x: Tensor) -> bool:
    return x.dtype.is_float and x.op.name != "constant"


def close(
    outputs: Sequence[Tensor], formals: Sequence[Tensor], name: str
) -> tuple[Graph, list[Tensor]]:
    """The computation from `formals` to `outputs` as a closed graph, and the tensors that it
    captures from outside.

    Inputs of the graph: the formals, then the captured tensors. Constants and generated values stay
    inside.
    """
    captured = extent(outputs, formals).captured
    mapping: dict[int, Node] = {}
    inputs: list[Tensor] = []
    for tensor in (*formals, *captured):
        inputs.append(placeholder(tensor.shape, tensor.dtype))
        mapping[id(tensor)] = inputs[-1]
    if bindings_inside(outputs, formals):
        fail(
            UnsupportedError,
            f"{name}: a size inside is computed from the values of its tensors",
            outputs,
            "compute the size outside, and use it in the function as it is",
        )
    inner = substitute(outputs, mapping)
    named_inputs = tuple((f"input_{k}", t) for k, t in enumerate(inputs))
    named_outputs = tuple((f"output_{k}", t) for k, t in enumerate(inner))
    return _closed(named_inputs, named_outputs, name), captured


def _closed(
    inputs: tuple[tuple[str, Tensor], ...], outputs: tuple[tuple[str, Tensor], ...], name: str
) -> Graph:
    names: dict[str, Node] = {**dict(outputs), **dict(inputs)}
    return Graph.build(inputs, outputs, (), name, names)


def instantiate(graph: Graph, arguments: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of `graph` with its inputs replaced by `arguments`."""
    mapping: dict[int, Node] = {id(t): a for (_, t), a in zip(graph.inputs, arguments, strict=True)}
    return substitute([t for _, t in graph.outputs], mapping)
