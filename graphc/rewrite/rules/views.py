"""Views merged (floor 3): chains of transposes, reshapes, broadcasts, slices and pads become one of
them, or none.

All EXACT: views move elements and compute nothing. Sizes may be symbolic; a rule that cannot be
sure declines.
"""

from __future__ import annotations

import itertools

from graphc.base.dims import Dim, Size
from graphc.ir.node import Tensor
from graphc.ir.opdef import REGISTRY
from graphc.ops.families import Elementwise
from graphc.ops.joining import CONCAT, padded
from graphc.ops.promotion import as_tensor
from graphc.ops.reshape import to_shape
from graphc.ops.view import FLIP, broadcasted, permuted
from graphc.rewrite.pattern import EXACT, node_rule, rules_of

# -- transposes
# -----------------------------------------------------------------------------------------


@node_rule("permute_dims", cls=EXACT)
def permute_of_permute(node: Tensor) -> Tensor | None:
    """permute(permute(x, p), q) = permute(x, p[q])"""
    inner = node.inputs[0]
    if inner.op.name != "permute_dims":
        return None
    first, second = inner.attr("axes"), node.attr("axes")
    return permuted(inner.inputs[0], tuple(first[a] for a in second))


@node_rule("permute_dims", cls=EXACT)
def permute_of_ones(node: Tensor) -> Tensor | None:
    """permute(x, axes) = reshape(x) where only dims of size 1 change places (or none)"""
    x = node.inputs[0]
    moved = [a for a in node.attr("axes") if not _is_one(x.shape[a])]
    return to_shape(x, node.shape) if moved == sorted(moved) else None


@node_rule("permute_dims", cls=EXACT)
def permute_of_broadcast(node: Tensor) -> Tensor | None:
    """permute(broadcast(x), axes) = broadcast(permute(x, axes)) where x has all the dims"""
    inner = node.inputs[0]
    if inner.op.name != "broadcast_to" or inner.inputs[0].ndim != node.ndim:
        return None
    return broadcasted(permuted(inner.inputs[0], node.attr("axes")), node.shape)


def _is_one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


# -- reshapes
# -------------------------------------------------------------------------------------------


@node_rule("reshape", cls=EXACT)
def reshape_of_reshape(node: Tensor) -> Tensor | None:
    """reshape(reshape(x, s), t) = reshape(x, t), x itself where that is its shape"""
    inner = node.inputs[0]
    if inner.op.name == "reshape":
        return to_shape(inner.inputs[0], node.shape)
    return inner if inner.shape == node.shape else None


@node_rule("reshape", cls=EXACT)
def reshape_of_full(node: Tensor) -> Tensor | None:
    """reshape(broadcast(x)) = broadcast(x) where x is a single number"""
    inner = node.inputs[0]
    if inner.op.name != "broadcast_to" or inner.inputs[0].ndim:
        return None
    return broadcasted(inner.inputs[0], node.shape)


# -- broadcasts
# -----------------------------------------------------------------------------------------


@node_rule("broadcast_to", cls=EXACT)
def broadcast_of_broadcast(node: Tensor) -> Tensor | None:
    """broadcast(broadcast(x, s), t) = broadcast(x, t), x itself where that is its shape"""
    inner = node.inputs[0]
    if inner.op.name == "broadcast_to":
        return broadcasted(inner.inputs[0], node.shape)
    return inner if inner.shape == node.shape else None


@node_rule("broadcast_to", cls=EXACT)
def broadcast_of_new_axes(node: Tensor) -> Tensor | None:
    """broadcast(reshape(x)) = broadcast(x) where the reshape only puts dims of size 1 in front"""
    inner = node.inputs[0]
    if inner.op.name != "reshape":
        return None
    x = inner.inputs[0]
    extra = inner.ndim - x.ndim
    if extra <= 0 or inner.shape[extra:] != x.shape or not all(map(_is_one, inner.shape[:extra])):
        return None
    return broadcasted(x, node.shape)


def _repeated_operand(op: str, children: tuple[str, ...]) -> bool:
    return "broadcast_to" in children and isinstance(REGISTRY[op].form, Elementwise)


@node_rule(cls=EXACT, accepts=_repeated_operand)
def elementwise_of_broadcast(node: Tensor) -> Tensor | None:
    """f(broadcast(x), y) = broadcast(f(x, y)): elementwise ops broadcast by themselves, and compute
    less
    """
    if not isinstance(node.op.form, Elementwise):
        return None
    inputs = node.inputs
    for operand in inputs:
        if operand.op.name == "broadcast_to":
            break
    else:
        return None
    narrow = tuple(i.inputs[0] if i.op.name == "broadcast_to" else i for i in inputs)
    return broadcasted(node.op(*narrow, **node.attributes), node.shape)


@node_rule("full", cls=EXACT)
def full_as_broadcast(node: Tensor) -> Tensor:
    """full(k, shape) = broadcast(k, shape): one form of broadcast"""
    return broadcasted(as_tensor(node.attr("value"), like=node), node.shape)


# -- slices
# ---------------------------------------------------------------------------------------------


@node_rule("slice", cls=EXACT)
def slice_of_all(node: Tensor) -> Tensor | None:
    """slice(x) = x where it takes every element in order"""
    x = node.inputs[0]
    steps = node.attr("steps")
    if node.shape != x.shape or any(not _is_zero(s) for s in node.attr("starts")):
        return None
    if any(step != 1 and not _is_one(size) for step, size in zip(steps, x.shape, strict=True)):
        return None
    return x


@node_rule("slice", cls=EXACT)
def slice_of_slice(node: Tensor) -> Tensor | None:
    """slice(slice(x)) = one slice of x"""
    inner = node.inputs[0]
    if inner.op.name != "slice":
        return None
    starts = tuple(
        a + b * step
        for a, b, step in zip(
            inner.attr("starts"), node.attr("starts"), inner.attr("steps"), strict=True
        )
    )
    steps = tuple(a * b for a, b in zip(inner.attr("steps"), node.attr("steps"), strict=True))
    return node.op(inner.inputs[0], starts=starts, steps=steps, shape=node.shape)


@node_rule("slice", cls=EXACT)
def slice_of_broadcast(node: Tensor) -> Tensor | None:
    """slice(broadcast(x)) = broadcast(x) where x is a single number"""
    inner = node.inputs[0]
    if inner.op.name != "broadcast_to" or inner.inputs[0].ndim:
        return None
    return broadcasted(inner.inputs[0], node.shape)


@node_rule("slice", cls=EXACT)
def slice_of_concat(node: Tensor) -> Tensor | None:
    """slice(concat(x, y, …)) = slice of the operand that it lies in"""
    inner = node.inputs[0]
    if inner.op.name != "concat":
        return None
    axis = inner.attr("axis")
    start, step, size = node.attr("starts")[axis], node.attr("steps")[axis], node.shape[axis]
    if not (isinstance(start, int) and isinstance(size, int) and step > 0 and size > 0):
        return None
    offset = 0
    for operand in inner.inputs:
        length = operand.shape[axis]
        if not isinstance(length, int):
            return None
        if offset <= start and start + (size - 1) * step < offset + length:
            starts = list(node.attr("starts"))
            starts[axis] = start - offset
            return node.op(
                operand, starts=tuple(starts), steps=node.attr("steps"), shape=node.shape
            )
        offset += length
    return None


@node_rule("slice", cls=EXACT)
def slice_of_pad(node: Tensor) -> Tensor | None:
    """slice(pad(x)) = x where the slice takes the padding away again"""
    inner = node.inputs[0]
    if inner.op.name != "pad" or any(inner.attr("interior")):
        return None
    x = inner.inputs[0]
    same = node.shape == x.shape and node.attr("starts") == inner.attr("low")
    return x if same and all(s == 1 for s in node.attr("steps")) else None


def _is_zero(size: Size) -> bool:
    return isinstance(size, int) and size == 0


# -- joins and pads
# -------------------------------------------------------------------------------------


@node_rule("concat", cls=EXACT)
def concat_of_one(node: Tensor) -> Tensor | None:
    """concat(x) = x, empty operands left out"""
    axis = node.attr("axis")
    kept = [i for i in node.inputs if not _is_zero(i.shape[axis])]
    if not kept:
        return node.inputs[0] if len(node.inputs) > 1 else None
    if len(kept) == 1:
        return kept[0]
    return CONCAT(*kept, axis=axis) if len(kept) < len(node.inputs) else None


@node_rule("concat", cls=EXACT)
def concat_of_concat(node: Tensor) -> Tensor | None:
    """concat(concat(x, y), z) = concat(x, y, z)"""
    axis = node.attr("axis")
    parts: list[Tensor] = []
    for operand in node.inputs:
        joined = operand.op.name == "concat" and operand.attr("axis") == axis
        parts += operand.inputs if joined else [operand]
    return CONCAT(*parts, axis=axis) if len(parts) > len(node.inputs) else None


@node_rule("concat", cls=EXACT)
def concat_of_slices(node: Tensor) -> Tensor | None:
    """concat(x[:k], x[k:]) = x"""
    axis = node.attr("axis")
    parts = list(node.inputs)
    for k, (left, right) in enumerate(itertools.pairwise(parts)):
        whole = _adjacent(left, right, axis)
        if whole is not None:
            merged = [*parts[:k], whole, *parts[k + 2 :]]
            return merged[0] if len(merged) == 1 else CONCAT(*merged, axis=axis)
    return None


def _adjacent(left: Tensor, right: Tensor, axis: int) -> Tensor | None:
    """Two neighbouring slices of one tensor as one slice."""
    if left.op.name != "slice" or right.op.name != "slice" or left.inputs[0] is not right.inputs[0]:
        return None
    if left.attr("steps") != right.attr("steps") or left.attr("steps")[axis] != 1:
        return None
    a, b = left.attr("starts"), right.attr("starts")
    others = all(p == q for i, (p, q) in enumerate(zip(a, b, strict=True)) if i != axis)
    if not others or a[axis] + left.shape[axis] != b[axis]:
        return None
    shape = list(left.shape)
    shape[axis] = left.shape[axis] + right.shape[axis]
    return left.op(left.inputs[0], starts=a, steps=left.attr("steps"), shape=tuple(shape))


@node_rule("pad", cls=EXACT)
def pad_of_nothing(node: Tensor) -> Tensor | None:
    """pad(x, 0, 0) = x"""
    widths = (*node.attr("low"), *node.attr("high"), *node.attr("interior"))
    return node.inputs[0] if all(map(_is_zero, widths)) else None


@node_rule("pad", cls=EXACT)
def pad_of_pad(node: Tensor) -> Tensor | None:
    """pad(pad(x)) = one pad of x with the same value"""
    inner = node.inputs[0]
    if inner.op.name != "pad" or any(node.attr("interior")):
        return None
    if repr(inner.attr("value")) != repr(node.attr("value")):
        return None
    widths = (inner.attr("low"), inner.attr("high"), node.attr("low"), node.attr("high"))
    if any(isinstance(w, Dim) or w < 0 for side in widths for w in side):
        return None
    low, high = (
        tuple(p + q for p, q in zip(inner.attr(k), node.attr(k), strict=True))
        for k in ("low", "high")
    )
    return padded(inner.inputs[0], low, high, inner.attr("interior"), node.attr("value"))


@node_rule("flip", cls=EXACT)
def flip_of_flip(node: Tensor) -> Tensor | None:
    """flip(flip(x, p), q) = flip(x, p xor q)"""
    inner = node.inputs[0]
    if inner.op.name != "flip":
        return None
    axes = tuple(sorted(set(inner.attr("axes")) ^ set(node.attr("axes"))))
    return FLIP(inner.inputs[0], axes=axes) if axes else inner.inputs[0]


RULES = rules_of(globals())
