"""Products of narrow types (floor 5): before regions are made, contractions of bytes and of 16-bit
integers become contractions over words that hold several of them (`ops/words.py`), those of 16-bit
floats such of float32.

What reaches lowering are contractions of int32 whose operands are casts of bytes, often less a zero
point. As x = a + p and w = b + q, with bytes a and b, over n summed elements

    sum(x w) = sum(a b) + p (sum(w) - n q) + q sum(x)

so a zero point, and the 128 that makes unsigned bytes of signed ones, cost a sum of the other
operand, which is known now where that one is constant. Integers wrap, so no bit changes. Where
bytes do not serve (a zero point that is not known now below padding), 16-bit integers do, which
hold the difference of two bytes. Contractions of 8-bit and 16-bit integers wrap in their own width:
words serve whatever the signs of their parts.

Words are made below windows, so that an image is packed, not its windows.

Contractions of 16-bit floats add up in float32 by definition, so those of the operands as float32,
rounded at the end, have the same bits. Where each element counts in many results, widening all of
them once is a few percent of the product, which register tiles then serve.
"""

from __future__ import annotations

import numpy as np

from graphc.base.dims import Size, bounds, product
from graphc.base.dtypes import Array, DType, float32, int8, int16, int32
from graphc.base.target import Target
from graphc.ir.constant import constant_value
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, make
from graphc.ir.opdef import OpDef
from graphc.ir.provenance import derived_from
from graphc.lower.contraction import (
    is_dot,
    letter_sizes,
    letters,
    summed_letters,
    vector_letter,
)
from graphc.lower.narrow_factors import (
    Factor,
    Number,
    bytes_of,
    cast_below,
    constant_of,
    halves_of,
    of_sign,
    plus,
    tensor_of,
    times,
)
from graphc.ops import elementwise
from graphc.ops.contraction import EINSUM
from graphc.ops.promotion import cast
from graphc.ops.reduction import SUM
from graphc.ops.reshape import to_shape
from graphc.ops.state import constant_node
from graphc.ops.view import permuted
from graphc.ops.words import (
    EINSUM_BYTES,
    EINSUM_PAIRS,
    PACK_WORDS,
    VIEW_WORDS,
    packed_array,
    words_for,
)

# Multiply-adds below which packing costs more than it saves.
LEAST = 1 << 12
# Rows of the other operand up to which words of a matrix are not laid down in memory: one register
# tile reads each of them.
FEW_ROWS = 4
# Results that each element of a 16-bit operand counts in, and multiply-adds, from which it is
# widened in memory: with fewer, reading half the bytes is what counts.
OFTEN, MANY = 8, 1 << 15


def narrow_products(graph: Graph, target: Target) -> Graph:
    """The graph with its products of narrow integers over words, where the target has instructions
    for them, and those of 16-bit floats in float32.
    """
    if EINSUM not in graph.ops:  # a thousand layers are looked at once
        return graph
    if target.kind != "cpu" or not any(_is_candidate(node) for node in graph.nodes):
        return graph

    def visit(node: Node, inputs: tuple[Tensor, ...]) -> Node:
        same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
        if same and not _is_candidate(node):
            return node
        with derived_from(node):
            made = make(node.op, inputs, node.attrs)
            if not _is_candidate(node):
                return made
            assert isinstance(made, Tensor)
            found = _in_float32(made) if made.dtype.is_float else in_words(made, target)
            return made if found is None else found

    return graph.map(visit)


def _is_candidate(node: Node) -> bool:
    if node.op is not EINSUM or not isinstance(node, Tensor):
        return False
    return node.dtype is int32 or (node.dtype.bits <= 16 and not node.dtype.is_bool)


def in_words(node: Tensor, target: Target) -> Tensor | None:
    """A contraction over words that gives the values of `node`; None where its operands are not
    narrow, or where it is too small.
    """
    sizes = letter_sizes(node)
    if not target.has_dot_pairs or is_dot(node):
        return None
    if (bounds(product(sizes.values()))[0] or 0) < LEAST:
        return None
    if any(not isinstance(sizes[c], int) for c in summed_letters(node)):
        return None
    if any(c not in spec for c in summed_letters(node) for spec in letters(node)[:2]):
        return None  # one operand's own sum: files may have it, the public functions make none
    if node.dtype is not int32:
        return _wrapping(node, target)
    found = _of_bytes(node) if target.has_dot_bytes else None
    return _of_pairs(node) if found is None else found


def _in_float32(node: Tensor) -> Tensor | None:
    """A contraction of 16-bit floats by one of float32; None where that does not pay."""
    sizes, (a, b, out) = letter_sizes(node), letters(node)
    if is_dot(node) or _at_most(product(sizes.values())) < MANY:
        return None
    if any(_at_most(product(sizes[c] for c in out if c not in own)) < OFTEN for own in (a, b)):
        return None
    wide = tuple(cast_below(x, float32) for x in node.inputs)
    return cast(node.op(*wide, spec=node.attr("spec")), node.dtype)


def _at_most(size: Size) -> int:
    """The size; what is not known counts as large."""
    high = bounds(size)[1]
    return 1 << 62 if high is None else high


# -- words ----------------------------------------------------------------------------------------


def _over_words(
    op: OpDef, node: Tensor, factors: list[Factor], dtype: DType, swaps: bool = False
) -> Tensor | None:
    """The contraction `op` of factors of the width of `dtype` in words, None where there is no
    letter that they can be packed along. swaps: the second operand of `node` is its first one.
    """
    letter = _letter(node, dtype)
    if letter is None:
        return None
    words = []
    a, b, out = letters(node)
    for spec, factor in zip((a, b), factors, strict=True):
        axis = spec.index(letter)
        if isinstance(factor.narrow, Tensor):
            words.append(_packed(node, spec, factor, axis))
        else:
            packed = packed_array(factor.narrow, axis)
            words.append(constant_node(constant_value(packed, int32)))
    if swaps:
        return op(*reversed(words), spec=f"{b},{a}->{out}")
    return op(*words, spec=f"{a},{b}->{out}")


def _letter(node: Tensor, dtype: DType) -> str | None:
    """The summed letter that integers lie side by side along: the one that leaves the fewest parts
    of words empty, of those that no window slides along.
    """
    sizes, specs = letter_sizes(node), letters(node)[:2]
    best: tuple[float, str] | None = None
    for c in summed_letters(node):
        size = sizes[c]
        if not all(_is_packable(x, s.index(c)) for x, s in zip(node.inputs, specs, strict=True)):
            continue
        words = words_for(size, dtype)
        assert isinstance(size, int)
        assert isinstance(words, int)
        if 2 * words <= size + 1 and (best is None or words / size < best[0]):
            best = words / size, c
    return None if best is None else best[1]


def _is_packable(x: Tensor, axis: int) -> bool:
    """Whether words along an axis can be made below the windows of an operand."""
    while x.op.name in ("windows", "permute_dims"):
        if x.op.name == "permute_dims":
            axis = x.attr("axes")[axis]
        elif axis >= x.inputs[0].ndim or axis in x.attr("axes"):
            return False
        x = x.inputs[0]
    return True


def _packed(node: Tensor, spec: str, factor: Factor, axis: int) -> Tensor:
    """An operand of a contraction in words: in memory, unless each is read by one register tile."""
    assert isinstance(factor.narrow, Tensor)
    sizes, last = letter_sizes(node), vector_letter(node)
    rows = product(sizes[c] for c in letters(node)[2] if c not in spec)
    few = isinstance(rows, int) and rows <= FEW_ROWS and last is not None and spec[-1] == last
    return _below_windows(VIEW_WORDS if few else PACK_WORDS, factor.narrow, axis, factor.flips)


def _below_windows(op: OpDef, x: Tensor, axis: int, flips: bool) -> Tensor:
    """Words of narrow integers along an axis, made below windows."""
    if x.op.name == "windows":
        return _made(x, _below_windows(PACK_WORDS, x.inputs[0], axis, flips))
    if x.op.name == "permute_dims":
        axes = x.attr("axes")
        return permuted(_below_windows(op, x.inputs[0], axes[axis], flips), axes)
    return op(x, axis=axis, flips=flips)


def _made(x: Tensor, operand: Tensor) -> Tensor:
    made = make(x.op, (operand,), x.attrs)
    assert isinstance(made, Tensor)
    return made


# -- bytes ----------------------------------------------------------------------------------------


def _of_bytes(node: Tensor) -> Tensor | None:
    """A contraction of int32 over words of four bytes."""
    found = [bytes_of(x) for x in node.inputs]
    best: tuple[int, int, list[Factor]] | None = None
    for first in (0, 1):  # which operand is unsigned
        factors = [None if f is None else of_sign(f, k == first) for k, f in enumerate(found)]
        signed = [f for f in factors if f is not None]
        if all(f.flips for f in signed):
            continue  # the other way neither is, and zeros that fill words add nothing
        cost = _cost_of_sums(node, signed) if len(signed) == 2 else None
        if cost is not None and (best is None or cost < best[0]):
            best = cost, first, signed
    if best is None:
        return None
    _, first, factors_ = best
    total = _over_words(EINSUM_BYTES, node, factors_, int8, first == 1)
    if total is None:
        return None
    left = _correction(node, *(f.offset for f in factors_))
    return total if isinstance(left, int) else elementwise.add(total, tensor_of(left))


def _cost_of_sums(node: Tensor, factors: list[Factor]) -> int | None:
    """How many elements have to be summed for the offsets of factors; None where those are windows,
    of which there are too many.
    """
    cost = 0
    for factor, other in zip(factors, reversed(node.inputs), strict=True):
        if factor.is_plain or constant_of(other) is not None:
            continue
        below = other
        while below.inputs and below.op.name != "cast":
            if below.op.name == "windows":
                return None
            below = below.inputs[0]
        cost += bounds(product(other.shape))[1] or 1 << 40
    return cost


def _correction(node: Tensor, p: Number, q: Number) -> Number:
    """p * (sum(w) - n * q) + q * sum(x), in dims that broadcast with the result, or 0."""
    sizes = letter_sizes(node)
    count = product(sizes[c] for c in summed_letters(node))
    assert isinstance(count, int)
    total: Number = 0
    if not isinstance(p, int) or p:
        total = times(p, plus(_sums(node, 1), times(-count, q)))
    if not isinstance(q, int) or q:
        total = plus(total, times(q, _sums(node, 0)))
    return total


def _sums(node: Tensor, k: int) -> Number:
    """The sums of an operand over the summed letters, its other letters where the result has
    them.
    """
    operand, spec, out = node.inputs[k], letters(node)[k], letters(node)[2]
    sizes = letter_sizes(node)
    axes = tuple(d for d, c in enumerate(spec) if c not in out)
    left = "".join(c for c in spec if c in out)
    order = tuple(left.index(c) for c in out if c in left)
    shape = tuple(sizes[c] if c in left else 1 for c in out)
    known = constant_of(operand)
    if known is None:
        return to_shape(permuted(SUM(operand, axes=axes, keepdims=False), order), shape)
    found: Array = known.sum(axes, dtype=np.int64).transpose(order)
    return found.reshape(tuple(s for s in shape if isinstance(s, int)))


# -- 16 bits and less -----------------------------------------------------------------------------


def _of_pairs(node: Tensor) -> Tensor | None:
    """A contraction of int32 over words of two 16-bit integers."""
    halves = [halves_of(x) for x in node.inputs]
    factors = [Factor(half) for half in halves if half is not None]
    return _over_words(EINSUM_PAIRS, node, factors, int16) if len(factors) == 2 else None


def _wrapping(node: Tensor, target: Target) -> Tensor | None:
    """A contraction of 8-bit or 16-bit integers: the lowest bits of one over words."""
    byte = node.dtype.bits == 8 and target.has_dot_bytes
    factors = []
    for x in node.inputs:
        known = constant_of(x)
        if node.dtype.bits == 8 and not byte:
            narrow = cast(x, int16) if known is None else known.astype(np.int16)
        else:
            narrow = x if known is None else known
        factors.append(Factor(narrow))
    op, dtype = (EINSUM_BYTES, int8) if byte else (EINSUM_PAIRS, int16)
    total = _over_words(op, node, factors, dtype)
    return None if total is None else cast(total, node.dtype)
