"""Products of matrices, sums of products, determinants (floor 8)."""

from __future__ import annotations

import graphc
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, op


@op("MatMul")
def matmul(c: Context) -> Tensor:
    """The product of matrices, with leading axes that broadcast."""
    a, b = c.tensor(0), c.tensor(1)
    return graphc.astype(graphc.matmul(a, b), a.dtype)


@op("Gemm")
def gemm(c: Context) -> Tensor:
    """alpha A B + beta C, with A and B transposed or not."""
    a, b = c.tensor(0), c.tensor(1)
    a = a.T if c.attribute("transA") else a
    b = b.T if c.attribute("transB") else b
    product = graphc.matmul(a, b)
    alpha, beta = c.attribute("alpha"), c.attribute("beta")
    if a.dtype.is_integer:
        if alpha != int(alpha) or beta != int(beta):
            c.refuse(f"alpha {alpha} and beta {beta} with integers")
        alpha, beta = int(alpha), int(beta)
    if alpha != 1:
        product = product * alpha
    if not c.has(2) or beta == 0:
        return product
    addend = c.tensor(2)
    addend = graphc.reshape(addend, (-1,)) if addend.ndim == 0 else addend
    return product + (addend if beta == 1 else addend * beta)


@op("Einsum")
def einsum(c: Context) -> Tensor:
    """The sum of products that an equation describes."""
    operands = c.tensors()
    return graphc.astype(graphc.einsum(c.attribute("equation"), *operands), operands[0].dtype)


@op("Det")
def det(c: Context) -> Tensor:
    """The determinants of square matrices."""
    return graphc.linalg.det(c.tensor(0))
