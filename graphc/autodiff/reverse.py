"""Reverse mode (floor 3): `grad` and `vjp`, from the gradients that the ops declare.

Graph to graph: the result is made of ordinary nodes and can be differentiated again. One walk over
the nodes in reverse order, linear in nodes and edges, no recursion. Gradient nodes carry the user's
line of the forward node that they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.autodiff.nest import flatten
from graphc.autodiff.substitution import BARRIER, ordered, replaced, substitute
from graphc.base.errors import DTypeError, GraphError, ShapeError, VerifyError
from graphc.ir import provenance
from graphc.ir.node import Node, Tensor, TensorType, TupleType, make
from graphc.ir.opdef import fail
from graphc.ops.elementwise import add
from graphc.ops.promotion import as_tensor
from graphc.ops.view import broadcasted


def grad(cost: Tensor, wrt: Any, *, allow_unused: bool = False) -> Any:
    """The gradient of a scalar `cost` with respect to every tensor of `wrt`, in the structure of
    `wrt`.

    cost: float tensor of shape (). wrt: float tensors, any nest of lists, tuples and dicts;
    intermediate tensors too. A tensor that `cost` does not depend on raises GraphError, or gives
    zeros with `allow_unused`.

    Example: `gw, gb = graphc.grad(loss, [w, b])`.
    """
    require_scalar("grad", cost)
    leaves, rebuild = flatten(wrt, "grad: wrt")
    seed = as_tensor(1.0, like=cost.dtype)  # a constant, so that the first products stay plain
    found = cotangents("grad", [cost], [seed], leaves, allow_unused=allow_unused)
    return rebuild(iter(found))


def require_scalar(caller: str, cost: object) -> None:
    """Raise GraphError, ShapeError or DTypeError unless `cost` is a float tensor of shape ()."""
    if not isinstance(cost, Tensor):
        fail(
            GraphError, f"{caller}: cost must be a tensor, got {type(cost).__name__}: {cost!r:.80}"
        )
    if cost.shape != ():
        fail(
            ShapeError,
            f"{caller}: cost must be a scalar (shape ()), got {cost.type}",
            (cost,),
            "reduce it first: graphc.sum(cost) or graphc.mean(cost); "
            "for all rows use graphc.jacobian",
        )
    _require_float(f"{caller}: cost", cost)


def vjp(outputs: Any, wrt: Any, cotangents_of_outputs: Any, *, allow_unused: bool = False) -> Any:
    """The vector-Jacobian product: cotangents of `wrt` given cotangents of `outputs`.

    outputs, cotangents_of_outputs: nests of the same structure, each cotangent of its output's
    shape and dtype. Returns the structure of `wrt`. Raises GraphError as `grad` does, and for a
    cotangent of another type.
    """
    out_leaves, _ = flatten(outputs, "vjp: outputs")
    seeds = paired("vjp", "cotangent", out_leaves, cotangents_of_outputs)
    leaves, rebuild = flatten(wrt, "vjp: wrt")
    return rebuild(iter(cotangents("vjp", out_leaves, seeds, leaves, allow_unused=allow_unused)))


def paired(caller: str, what: str, primals: Sequence[Tensor], values: Any) -> list[Tensor]:
    """One value per primal, of the primal's type; arrays and Python scalars are accepted."""
    if isinstance(values, Tensor) or not isinstance(values, list | tuple | dict):
        values = [values]
    flat = _leaves(values)
    if len(flat) != len(primals):
        fail(
            GraphError,
            f"{caller}: expected {len(primals)} {what}s, one per tensor, got {len(flat)}",
        )
    result = []
    for primal, value in zip(primals, flat, strict=True):
        tensor = value if isinstance(value, Tensor) else as_tensor(value, like=primal)
        if tensor.type != primal.type:
            fail(
                ShapeError if tensor.shape != primal.shape else DTypeError,
                f"{caller}: the {what} of a tensor {primal.type} must be {primal.type}, "
                f"got {tensor.type}",
                (primal, tensor),
                "broadcast or convert it to the tensor's own shape and dtype",
            )
        _require_float(f"{caller}: a {what}'s tensor", primal)
        result.append(tensor)
    return result


def _leaves(values: Any) -> list[Any]:
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list | tuple):
        return [leaf for value in values for leaf in _leaves(value)]
    return [values]


def cotangents(
    caller: str,
    outputs: Sequence[Tensor],
    seeds: Sequence[Tensor],
    wrt: Sequence[Tensor],
    *,
    allow_unused: bool,
) -> list[Tensor]:
    """The cotangents of `wrt`: zeros where none flows, an error where nothing is connected."""
    order = ordered(outputs)
    reached = {id(n) for n in order}
    for leaf in wrt:
        _require_float(f"{caller}: wrt", leaf)
        if leaf.op.name == "constant":
            fail(
                GraphError,
                f"{caller}: wrt is a constant, and no gradient flows to constants",
                (leaf,),
                "make it a graphc.placeholder or a graphc.variable",
            )
        if id(leaf) not in reached and not allow_unused:
            fail(
                GraphError,
                f"{caller}: the result does not depend on {leaf.name or 'this tensor'}",
                (leaf, *outputs[:3]),
                "check that it is the tensor used in the computation "
                "(assigning to the name again makes another one), "
                "or pass allow_unused=True to get zeros",
            )
    found = _differentiate(outputs, seeds, wrt)
    return [zeros_like_type(w) if f is None else f for w, f in zip(wrt, found, strict=True)]


# Filled by `graphc/late.py`: outputs to the same values in the form that loses no digits. It
# leaves `barrier` alone.
STABILIZER: dict[str, Callable[[Sequence[Tensor]], list[Tensor]]] = {}


def _differentiate(
    outputs: Sequence[Tensor], seeds: Sequence[Tensor], wrt: Sequence[Tensor]
) -> list[Tensor | None]:
    """`accumulate` on the stable form of the outputs: log(1 + exp(x)) has the gradient of softplus,
    at any x.

    Tensors of `wrt` that are computed must stay in the expression: barriers stand for them
    meanwhile.
    """
    if not STABILIZER:
        return accumulate(ordered(outputs), outputs, seeds, wrt)
    inner = {id(w): w for w in wrt if w.inputs}
    held: dict[int, Node] = {}
    for node in ordered(list(inner.values())) if inner else ():
        if id(node) in inner:
            inputs = tuple(held.get(id(i), i) for i in node.inputs)
            fresh = make(node.op, inputs, node.attrs)
            assert isinstance(fresh, Tensor)  # as is what it stands for, one of `wrt`
            held[id(node)] = BARRIER(fresh)
        elif any(id(i) in held for i in node.inputs):
            held[id(node)] = make(
                node.op, tuple(held.get(id(i), i) for i in node.inputs), node.attrs
            )
    leaves = replaced(wrt, held)
    # The leaves go along as outputs: what a barrier stands on may become stable as well.
    both = STABILIZER["stabilize"]([*(substitute(outputs, held) if held else outputs), *leaves])
    stable, leaves = both[: len(outputs)], both[len(outputs) :]
    found = accumulate(ordered(stable), stable, seeds, leaves)
    if not held:
        return found
    back = {id(leaf): w for leaf, w in zip(leaves, wrt, strict=True) if w.inputs}
    results = iter(_without_barriers([f for f in found if f is not None], back))
    return [None if f is None else next(results) for f in found]


def _without_barriers(results: Sequence[Tensor], back: dict[int, Tensor]) -> list[Tensor]:
    mapping: dict[int, Node] = {}
    for node in ordered(results):
        if id(node) in back:
            mapping[id(node)] = back[id(node)]
            continue
        inputs = tuple(mapping.get(id(i), i) for i in node.inputs)
        if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
            mapping[id(node)] = make(node.op, inputs, node.attrs)
    return replaced(results, mapping)


def accumulate(
    order: Sequence[Node], outputs: Sequence[Tensor], seeds: Sequence[Tensor], wrt: Sequence[Tensor]
) -> list[Tensor | None]:
    """Walk `order` (inputs before users) backwards and sum the cotangents that arrive at each of
    `wrt`.

    None where no gradient flows. A tuple-typed node receives a tuple of cotangents (None for unused
    results).
    """
    depends = _dependent(order, wrt)
    wanted = {id(w) for w in wrt}
    result: dict[int, Tensor] = {}
    pending: dict[int, list[Tensor]] = {}
    slots: dict[int, dict[int, Tensor]] = {}
    for output, seed in zip(outputs, seeds, strict=True):
        pending.setdefault(id(output), []).append(seed)
    with provenance.derived_from(*outputs[:1]):
        for node in reversed(order):
            key = id(node)
            g: Any
            if key in slots:
                items = slots.pop(key)
                assert isinstance(node.type, TupleType)  # only such a node is under a `get`
                g = tuple(items.get(k) for k in range(len(node.type.items)))
            elif key in pending and key in depends:
                g = balanced_sum(pending.pop(key))
            else:
                continue
            if key in wanted:
                result[key] = g
            if node.op.name == "get":
                slots.setdefault(id(node.inputs[0]), {})[node.attrs[0]] = g
                continue
            _propagate(node, g, depends, pending)
    return [result.get(id(w)) for w in wrt]


def _dependent(order: Sequence[Node], wrt: Sequence[Tensor]) -> set[int]:
    """The nodes through which a gradient can reach one of `wrt`."""
    depends = {id(w) for w in wrt}
    for node in order:
        if id(node) in depends or not (
            node.op.gradient or node.op.not_differentiable or node.op.name == "get"
        ):
            continue
        if isinstance(node.type, TensorType) and not node.type.dtype.is_float:
            continue
        for i in node.inputs:
            if id(i) in depends:
                depends.add(id(node))
                break
    return depends


def _propagate(node: Node, g: Any, depends: set[int], pending: dict[int, list[Tensor]]) -> None:
    """Send the cotangent of a node on to its inputs."""
    if not any(id(i) in depends for i in node.inputs):
        return
    provenance.set_derived(node)
    if node.op.gradient is None:
        fail(
            GraphError,
            f"{node.op.name} is not differentiable: {node.op.not_differentiable}",
            (node,),
        )
    # A node of several results comes with a tuple for g; gradients of such ops expect both.
    parts = node.op.gradient(g, node)  # type: ignore[arg-type]  # a tuple, where it expects one
    if len(parts) != len(node.inputs):
        raise VerifyError(
            f"the gradient of {node.op.name} gives {len(parts)} cotangents "
            f"for {len(node.inputs)} inputs"
        )
    for operand, part in zip(node.inputs, parts, strict=True):
        if part is None or id(operand) not in depends:
            continue
        if part.type != operand.type:
            raise VerifyError(
                f"the gradient of {node.op.name}: cotangent {part.type} "
                f"for an operand {operand.type}"
            )
        pending.setdefault(id(operand), []).append(part)


def zeros_like_type(x: Tensor) -> Tensor:
    """Zeros of the type of `x`, not depending on it."""
    return broadcasted(as_tensor(0.0, like=x), x.shape)


def balanced_sum(parts: list[Tensor]) -> Tensor:
    """The sum as a balanced tree: shallow, and more accurate than a chain."""
    while len(parts) > 1:
        paired_up = [add(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = paired_up + parts[len(parts) & ~1 :]
    return parts[0]


def _require_float(what: str, tensor: Tensor) -> None:
    if not tensor.dtype.is_float:
        fail(
            DTypeError,
            f"{what} must have a float dtype, got {tensor.type}",
            (tensor,),
            "integers and bools have no gradient; convert first with graphc.astype(x, 'float32')",
        )
