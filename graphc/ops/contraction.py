"""Contractions (floor 2): the one op `einsum` on two operands, and the products that are written
with it.

The attr `spec` reads "bij,bjk->bik": a letter occurs once per operand, letters missing from the
result are summed. Float16 and bfloat16 accumulate in float32, integers wrap, bool is any(and).
Gradients are contractions again.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Shape, Size
from graphc.base.dtypes import ALL, Array, DType, DTypeLike
from graphc.ir import provenance
from graphc.ir.node import OPERATORS, Node, Tensor, TensorType, as_index
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, shape_error
from graphc.ops import elementwise
from graphc.ops.axes import normalize_axes, normalize_axis
from graphc.ops.families import Contraction
from graphc.ops.promotion import TensorLike, as_tensor, promoted
from graphc.ops.reduction import ANY, SUM, accurate
from graphc.ops.reduction import sum as sum_
from graphc.ops.reshape import to_shape
from graphc.ops.sampling import draw, strided
from graphc.ops.view import ROLL, broadcasted, diagonal, matrix_T, matrix_transpose, permuted

LETTERS = string.ascii_letters


def split_spec(spec: str) -> tuple[str, str, str]:
    """("bij", "bjk", "bik") of "bij,bjk->bik"."""
    operands, result = spec.split("->")
    left, right = operands.split(",")
    return left, right, result


def contraction_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    """The type of a contraction of two operands by the attr `spec`; raises ShapeError or DTypeError
    where they do not fit.
    """
    a, b = inputs
    assert isinstance(a, Tensor)
    assert isinstance(b, Tensor)
    if a.dtype is not b.dtype:
        dtype_error(f"einsum: operands of different dtypes: {a.dtype} and {b.dtype}", inputs)
    left, right, result = split_spec(attrs[0])
    sizes: dict[str, Size] = {}
    for letters, x in ((left, a), (right, b)):
        if len(letters) != x.ndim or len(set(letters)) != len(letters):
            shape_error(f"einsum: {letters!r} does not name the {x.ndim} dims of {x.type}", inputs)
        for letter, size in zip(letters, x.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                shape_error(
                    f"einsum {attrs[0]}: the letter {letter!r} stands for sizes "
                    f"{sizes[letter]} and {size}",
                    inputs,
                )
    if len(set(result)) != len(result) or any(letter not in sizes for letter in result):
        shape_error(
            f"einsum: the result {result!r} of {attrs[0]!r} is not made of its letters", inputs
        )
    return TensorType(tuple(sizes[letter] for letter in result), a.dtype)


def _einsum_reference(a: Array, b: Array, spec: str) -> Array:
    if a.dtype == np.bool_:
        counts = np.einsum(spec, a.astype(np.int64), b.astype(np.int64))
        return np.asarray(counts != 0)
    # With `optimize` floats go through BLAS in float64; integers wrap either way.
    return np.asarray(np.einsum(spec, accurate(a), accurate(b), optimize=a.dtype.kind == "f"))


def _einsum_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    a, b = node.inputs
    left, right, result = split_spec(node.attr("spec"))
    return [
        _transposed(g, result, b, right, left, a.shape),
        _transposed(g, result, a, left, right, b.shape),
    ]


def _transposed(
    g: Tensor, result: str, other: Tensor, letters: str, wanted: str, shape: Shape
) -> Tensor:
    # A letter that the operand summed alone has the same gradient everywhere: broadcast it.
    present = "".join(c for c in wanted if c in result or c in letters)
    product_ = EINSUM(g, other, spec=f"{result},{letters}->{present}")
    if present == wanted:
        return product_
    kept = tuple(s if c in present else 1 for c, s in zip(wanted, shape, strict=True))
    return broadcasted(to_shape(product_, kept), shape)


_CASES: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = (
    (",->", (), ()),
    ("i,i->", (5,), (5,)),
    ("i,i->", (0,), (0,)),
    ("i,j->ij", (3,), (4,)),
    ("ij,jk->ik", (1, 1), (1, 1)),
    ("ij,jk->ik", (3, 0), (0, 4)),
    ("ij,jk->ik", (0, 3), (3, 4)),
    ("ij,jk->ik", (17, 33), (33, 19)),
    ("ij,kj->ik", (5, 7), (4, 7)),
    ("ji,jk->ki", (5, 3), (5, 4)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bij,jk->bik", (2, 3, 4), (4, 5)),
    ("ij,ij->ij", (3, 4), (3, 4)),
    ("aij,bj->ab", (2, 3, 4), (5, 4)),
    ("ij,j->i", (6, 70), (70,)),
)


def contraction_samples(dtype: DType) -> list[Sample]:
    """Operands and specs that a contraction is tested with."""
    found = [
        Sample((draw(s, dtype, 0), draw(t, dtype, 1)), {"spec": spec}) for spec, s, t in _CASES
    ]
    a, b = strided(draw((4, 6), dtype, 0)), draw((5, 6), dtype, 1).T
    return [*found, Sample((a, b), {"spec": "ij,jk->ik"})]


EINSUM = REGISTRY.add(
    OpDef(
        "einsum",
        ("spec",),
        contraction_type,
        _einsum_reference,
        _einsum_gradient,
        Contraction(),
        doc="The sum of products of two operands over the letters that the result does not have.",
        samples=contraction_samples,
        dtypes=ALL,
    )
)


# -- products of two ------------------------------------------------------------------------------


def contract(a: Tensor, b: Tensor, spec: str) -> Tensor:
    """`einsum` of two tensors of one dtype by a spec with explicit result, letters summed alone
    first.
    """
    left, right, result = split_spec(spec)
    a, left = _without_lonely(a, left, right + result)
    b, right = _without_lonely(b, right, left + result)
    return EINSUM(a, b, spec=f"{left},{right}->{result}")


def _without_lonely(x: Tensor, letters: str, others: str) -> tuple[Tensor, str]:
    lonely = tuple(i for i, c in enumerate(letters) if c not in others)
    if not lonely:
        return x, letters
    reduce = ANY if x.dtype.is_bool else SUM
    kept = "".join(c for c in letters if c in others)
    return reduce(x, axes=lonely, keepdims=False), kept


def _name(x: Tensor, other: str) -> str:
    return (provenance.names(x) or (other,))[0]


def _inner_mismatch(op: str, a: Tensor, b: Tensor, i: int, j: int) -> None:
    x, y = _name(a, "the first operand"), _name(b, "the second")
    hint = "the summed dims must be equal: the last of x1 and the one before last of x2"
    if op == "tensordot":
        hint = "the summed dims must be equal; name them: axes=([of x1], [of x2])"
    elif op == "vecdot":
        hint = "both operands need the same size along axis"
    if op == "matmul" and b.ndim >= 2 and b.shape[-1] == a.shape[-1]:
        transposed = "T" if b.ndim == 2 else "mT"
        hint = f"did you mean {op_text(op, x, y + '.' + transposed)}?"
    elif op == "matmul" and a.ndim >= 2 and a.shape[-2] == b.shape[j]:
        transposed = "T" if a.ndim == 2 else "mT"
        hint = f"did you mean {op_text(op, x + '.' + transposed, y)}?"
    shape_error(
        f"{op}: inner dimensions differ: {a.shape[i]} ({x}, dim {i}) and {b.shape[j]} ({y}, dim "
        f"{j})",
        [a, b],
        hint,
    )


def op_text(op: str, x: str, y: str) -> str:
    """A call as a person writes it, with x and y for operands without a name."""
    x = x.replace("the first operand", "x")
    return f"graphc.{op}({x}, {y.replace('the second', 'y')})"


def _batch(op: str, a: Tensor, b: Tensor, skip: int) -> tuple[Tensor, str, Tensor, str, str]:
    """Letters of leading dims, matched from the right; dims of size 1 that the other side repeats
    are dropped.

    Gives (a, letters of a, b, letters of b, letters of the result), for the dims before the last
    `skip`.
    """
    count = max(a.ndim, b.ndim) - skip
    letters = LETTERS[:count]
    kept: list[tuple[Tensor, str]] = []
    for x, other in ((a, b), (b, a)):
        own = x.ndim - skip
        mine = letters[count - own :]
        ones = []
        for i in range(own):
            place = other.ndim - skip - own + i
            facing = other.shape[place] if place >= 0 else None
            if x.shape[i] != facing and facing is not None:
                if x.shape[i] == 1:
                    ones.append(i)
                elif facing != 1:
                    shape_error(
                        f"{op}: batch dims do not broadcast: {x.shape[i]} and {facing}",
                        [a, b],
                        "leading dims are a batch: each pair must be equal, or one of them 1",
                    )
        squeezed = to_shape(x, tuple(s for i, s in enumerate(x.shape) if i not in ones))
        kept.append((squeezed, "".join(c for i, c in enumerate(mine) if i not in ones)))
    (a, left), (b, right) = kept
    return a, left, b, right, letters


def matmul(x1: TensorLike, x2: TensorLike, /) -> Tensor:
    """The matrix product `x1 @ x2`, as NumPy's: 1-d operands are vectors, leading dims broadcast.

    (..., n, k) @ (..., k, m) -> (..., n, m); (k,) @ (..., k, m) -> (..., m); (..., n, k) @ (k,) ->
    (..., n). Operands are promoted to one dtype; float16 and bfloat16 accumulate in float32,
    integers wrap, bool is any(and). Raises ShapeError for 0-d operands, where inner dims differ, or
    leading dims do not broadcast.
    """
    a, b = promoted("matmul", x1, x2)
    if not a.ndim or not b.ndim:
        shape_error("matmul: 0-d operands are not allowed", [a, b], "use x1 * x2 to scale")
    inner = -2 if b.ndim > 1 else -1
    if a.shape[-1] != b.shape[inner]:
        _inner_mismatch("matmul", a, b, a.ndim - 1, b.ndim + inner)
    k, n, m = LETTERS[-1], LETTERS[-3], LETTERS[-2]
    if a.ndim == 1 or b.ndim == 1:
        left = "" if a.ndim == 1 else LETTERS[: a.ndim - 1]
        right = "" if b.ndim == 1 else LETTERS[: b.ndim - 2]
        tail = m if b.ndim > 1 else ""
        return EINSUM(a, b, spec=tidy(f"{left}{k},{right}{k}{tail}->{left or right}{tail}"))
    a, left, b, right, batch = _batch("matmul", a, b, 2)
    return EINSUM(a, b, spec=tidy(f"{left}{n}{k},{right}{k}{m}->{batch}{n}{m}"))


def tidy(spec: str) -> str:
    """The spec with letters a, b, c … in order of first use, so that equal contractions are equal
    nodes.
    """
    names: dict[str, str] = {}
    for c in spec:
        if c in LETTERS:
            names.setdefault(c, LETTERS[len(names)])
    return "".join(names.get(c, c) for c in spec)


def vecdot(x1: TensorLike, x2: TensorLike, /, *, axis: int = -1) -> Tensor:
    """The sum of products along one axis of both operands; other dims broadcast.

    Raises ShapeError where the axis differs in size, or is not negative enough for both.
    """
    a, b = promoted("vecdot", x1, x2)
    if not a.ndim or not b.ndim:
        shape_error("vecdot: 0-d operands have no axis to sum over", [a, b], "use x1 * x2")
    i, j = normalize_axis("vecdot", a, axis), normalize_axis("vecdot", b, axis)
    if a.shape[i] != b.shape[j]:
        _inner_mismatch("vecdot", a, b, i, j)
    a = permuted(a, (*(d for d in range(a.ndim) if d != i), i))
    b = permuted(b, (*(d for d in range(b.ndim) if d != j), j))
    a, left, b, right, batch = _batch("vecdot", a, b, 1)
    k = LETTERS[-1]
    return EINSUM(a, b, spec=tidy(f"{left}{k},{right}{k}->{batch}"))


def tensordot(
    x1: TensorLike, x2: TensorLike, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2
) -> Tensor:
    """The sum of products over `axes`: the last n dims of x1 with the first n of x2, or two lists
    of axes.

    Raises ShapeError where summed sizes differ.
    """
    a, b = promoted("tensordot", x1, x2)
    count = as_index(axes)
    if count is not None:
        if not 0 <= count <= min(a.ndim, b.ndim):
            shape_error(
                f"tensordot: axes={count} is more than the dims of an operand",
                [a, b],
                "axes=n sums the last n dims of x1 with the first n of x2",
            )
        pairs: tuple[Sequence[int], Sequence[int]] = (
            range(a.ndim - count, a.ndim),
            range(count),
        )
    else:
        assert not isinstance(axes, int)
        first, second = axes
        pairs = (
            normalize_axes("tensordot", a, first),
            normalize_axes("tensordot", b, second),
        )
    if len(pairs[0]) != len(pairs[1]):
        shape_error(
            f"tensordot: {len(pairs[0])} axes of x1 but {len(pairs[1])} of x2",
            [a, b],
            "axes=([of x1], [of x2]) pairs them in order",
        )
    for i, j in zip(*pairs, strict=True):
        if a.shape[i] != b.shape[j]:
            _inner_mismatch("tensordot", a, b, i, j)
    left, right = LETTERS[: a.ndim], list(LETTERS[a.ndim : a.ndim + b.ndim])
    for i, j in zip(*pairs, strict=True):
        right[j] = left[i]
    summed = {left[i] for i in pairs[0]}
    result = "".join(c for c in (*left, *right) if c not in summed)
    return EINSUM(a, b, spec=tidy(f"{left},{''.join(right)}->{result}"))


def outer(x1: TensorLike, x2: TensorLike, /) -> Tensor:
    """out[i, j] = x1[i] * x2[j] of two vectors. Raises ShapeError unless both have one dim."""
    a, b = promoted("outer", x1, x2)
    if a.ndim != 1 or b.ndim != 1:
        shape_error(
            f"outer: needs two vectors, got {a.ndim} and {b.ndim} dims",
            [a, b],
            "graphc.reshape(x, (-1,)) makes a vector of anything",
        )
    return EINSUM(a, b, spec="a,b->ab")


def trace(x: TensorLike, /, *, offset: int = 0, dtype: DTypeLike | None = None) -> Tensor:
    """The sum of the diagonal `offset` of the last two dims; dtypes as in `sum`.

    Raises ShapeError for fewer than two dims.
    """
    x = as_tensor(x, op="trace")
    if x.ndim < 2:
        hint = "it takes matrices, or stacks of them; graphc.sum adds up a vector"
        shape_error(f"trace: needs at least 2 dims, got {x.ndim}", [x], hint)
    return sum_(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def cross(x1: TensorLike, x2: TensorLike, /, *, axis: int = -1) -> Tensor:
    """The cross product of vectors of 3 elements along `axis`; other dims broadcast."""
    a, b = promoted("cross", x1, x2)
    i, j = normalize_axis("cross", a, axis), normalize_axis("cross", b, axis)
    if a.shape[i] != 3 or b.shape[j] != 3:
        shape_error(
            f"cross: needs 3 elements along axis {axis}, got {a.shape[i]} and {b.shape[j]}",
            [a, b],
            "axis is the dim of the coordinates, the last by default",
        )
    parts = []
    for first, second in ((-1, -2), (-2, -1)):
        left, right = ROLL(a, shift=(first,), axes=(i,)), ROLL(b, shift=(second,), axes=(j,))
        parts.append(elementwise.multiply(left, right))
    return elementwise.subtract(*parts)


OPERATORS.update(matmul=matmul, T=matrix_T, mT=matrix_transpose)
