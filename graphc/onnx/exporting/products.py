"""Products of matrices and convolutions in ONNX (floor 8): MatMul, Gemm, Einsum, Conv.

16-bit floats are summed in float32, as graphc does; integers that ONNX has no product for in wider
ones, whose low bits are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.base.dtypes import DType, int32
from graphc.ir.node import Tensor
from graphc.onnx.exporting.table import REFUSED, Making, exports
from graphc.onnx.exporting.views import flipped, padded, spread
from graphc.onnx.exporting.writer import Value
from graphc.ops.contraction import split_spec

_FACTORIZATIONS = """
cholesky cofactor eigh eigvalsh expm logabsdet lu lu_solve pinv qr qr_complete solve svd svdvals
triangular_solve
""".split()
REFUSED.update(dict.fromkeys(_FACTORIZATIONS, "ONNX has no factorizations of matrices"))


@dataclass(frozen=True)
class Letters:
    """What the letters of a product of two operands do."""

    left: str
    right: str
    result: str

    @property
    def batch(self) -> str:
        """In both operands and the result, in the result's order."""
        return "".join(c for c in self.result if c in self.left and c in self.right)

    @property
    def summed(self) -> str:
        """In both operands and not in the result."""
        return "".join(c for c in self.left if c in self.right and c not in self.result)

    @property
    def rows(self) -> str:
        """In the left operand and the result alone."""
        return "".join(c for c in self.left if c in self.result and c not in self.right)

    @property
    def columns(self) -> str:
        """In the right operand and the result alone."""
        return "".join(c for c in self.right if c in self.result and c not in self.left)


def letters_of(spec: str) -> Letters:
    """The letters of "ab,bc->ac"."""
    return Letters(*split_spec(spec))


def product_dtype(m: Making, dtype: DType) -> DType:
    """The dtype in which products of a dtype are summed."""
    if dtype.is_bool:
        return int32
    return m.writer.compute_dtype("MatMul", dtype.compute)


@exports("det")
def _det(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return m.writer.apply("Det", xs[0])


@exports("einsum")
def _einsum(m: Making, node: Tensor, xs: list[Value]) -> Value:
    w = m.writer
    letters = letters_of(node.attr("spec"))
    dtype = product_dtype(m, node.dtype)
    a, b = (w.cast(x, dtype) for x in xs)
    a, left = _summed_alone(m, a, letters.left, letters.right, letters.result)
    b, right = _summed_alone(m, b, letters.right, letters.left, letters.result)
    letters = Letters(left, right, letters.result)
    if not letters.summed:
        found = _outer(m, a, b, letters, dtype)
    elif max(map(len, (letters.summed, letters.rows, letters.columns))) == 1:
        found = _matmul(m, a, b, letters, dtype)
    else:
        equation = f"{left},{right}->{letters.result}"
        found = w.op("Einsum", a, b, dtype=dtype, equation=equation)
    return w.cast(found, node.dtype)


def _summed_alone(m: Making, x: Value, own: str, other: str, result: str) -> tuple[Value, str]:
    """x summed over letters that nothing else has."""
    alone = [k for k, c in enumerate(own) if c not in other and c not in result]
    if not alone:
        return x, own
    w = m.writer
    found = w.op("ReduceSum", x, w.ints(alone), dtype=x.dtype, keepdims=0)
    return found, "".join(c for k, c in enumerate(own) if k not in alone)


def _outer(m: Making, a: Value, b: Value, letters: Letters, dtype: DType) -> Value:
    """A product without a sum: both operands in the order of the result, broadcast."""
    w = m.writer
    wide = []
    for x, own in ((a, letters.left), (b, letters.right)):
        present = [c for c in letters.result if c in own]
        x = w.transpose(x, [own.index(c) for c in present])
        missing = [k for k, c in enumerate(letters.result) if c not in own]
        wide.append(w.unsqueeze(x, missing))
    return w.op("Mul", *wide, dtype=dtype)


def _matmul(m: Making, a: Value, b: Value, letters: Letters, dtype: DType) -> Value:
    """One sum, at most one dim of rows and one of columns, any number of batch dims."""
    w, batch = m.writer, letters.batch
    rows, columns, k = letters.rows, letters.columns, letters.summed
    left, right = batch + rows + k, batch + k + columns
    a = w.transpose(a, [letters.left.index(c) for c in left])
    b = w.transpose(b, [letters.right.index(c) for c in right])
    n = len(batch)
    if batch and not rows:
        a = w.unsqueeze(a, [n])
    if batch and not columns:
        b = w.unsqueeze(b, [n + 1])
    found = w.op("MatMul", a, b, dtype=dtype)
    if batch:
        added = ([] if rows else [n]) + ([] if columns else [n + 1])
        found = w.squeeze(found, added)
    made = batch + rows + columns
    return w.transpose(found, [made.index(c) for c in letters.result])


# -- convolution ----------------------------------------------------------------------------------


@exports("conv")
def _conv(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return convolved(m, node, xs[0], xs[1], None)


def convolved(m: Making, node: Tensor, x: Value, kernel: Value, bias: Value | None) -> Value:
    """A conv node of floats, with a bias per channel of the result. Spread inputs become a
    transposed convolution where that says the same.
    """
    stride, low, high, dilation, gaps, groups = node.attrs
    w = m.writer
    dtype = w.compute_dtype("Conv", node.dtype.compute)
    given = (x, kernel) if bias is None else (x, kernel, bias)
    x, kernel, *rest = (w.cast(v, dtype) for v in given)
    sizes = [n for n in node.inputs[1].shape[2:] if isinstance(n, int)]
    attrs = {"kernel_shape": sizes, "dilations": list(dilation), "group": groups}
    transposed = _transposed(node, sizes)
    if transposed is not None:
        kernel = _turned(m, node.inputs[1], kernel, groups)
        found = w.op("ConvTranspose", x, kernel, *rest, dtype=dtype, **attrs, **transposed)
        return w.cast(found, node.dtype)
    behind = [g - 1 for g in gaps]
    x = spread(m, x, node.inputs[0].shape, (0, 0, *behind), 0)
    ends = [h - g for h, g in zip(high, behind, strict=True)]
    first, last = ((0, 0, *(min(n, 0) for n in widths)) for widths in (low, ends))
    x = padded(m, x, node.ndim, first, last, 0)
    pads = [max(n, 0) for n in (*low, *ends)]
    found = w.op("Conv", x, kernel, *rest, dtype=dtype, strides=list(stride), pads=pads, **attrs)
    return w.cast(found, node.dtype)


def _transposed(node: Tensor, sizes: list[int]) -> dict[str, list[int]] | None:
    """Attributes of the ConvTranspose that a convolution of a spread input is, None for others."""
    stride, low, high, dilation, gaps, _ = node.attrs
    if all(g == 1 for g in gaps) or any(s != 1 for s in stride):
        return None
    reach = [(k - 1) * d for k, d in zip(sizes, dilation, strict=True)]
    begins = [r - a for r, a in zip(reach, low, strict=True)]
    ends = [r - b for r, b in zip(reach, high, strict=True)]
    extra = [max(-e, 0) for e in ends]
    beyond = any(e >= max(g, d) for e, g, d in zip(extra, gaps, dilation, strict=True))
    if beyond or any(n < 0 for n in begins):
        return None
    pads = [*begins, *(max(e, 0) for e in ends)]
    return {"strides": list(gaps), "pads": pads, "output_padding": extra}


def _turned(m: Making, kernel: Tensor, value: Value, groups: int) -> Value:
    """The kernel [O, C / groups, *K] of a convolution as that of its transpose, [C, O / groups,
    *K].
    """
    w = m.writer
    value = flipped(m, value, range(2, kernel.ndim))
    rest = range(2, kernel.ndim)
    if groups == 1:
        return w.transpose(value, (1, 0, *rest))
    outs, ins, *sizes = kernel.shape
    apart = (groups, outs // groups, ins, *sizes)
    value = m.sizes.reshape(value, kernel.shape, apart)
    value = w.transpose(value, (0, 2, 1, *(a + 1 for a in rest)))
    swapped = (groups, ins, outs // groups, *sizes)
    return m.sizes.reshape(value, swapped, (groups * ins, outs // groups, *sizes))
