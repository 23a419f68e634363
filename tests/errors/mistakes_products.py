"""Matrix products and contractions whose sizes do not meet; differentiation that cannot be."""

from __future__ import annotations

import numpy as np

import graphc
from tests.errors.corpus import mistake


def tensor(*shape: int | str, dtype: str = "float32", name: str = "x") -> graphc.Tensor:
    return graphc.placeholder(shape, dtype, name=name)


@mistake("ShapeError", "matmul", "64", "10", "x : f32[n, 64]", "w : f32[10, 64]", hint=r"\.T|\.mT")
def matmul_of_inner_sizes_that_differ() -> object:
    x, w = tensor("n", 64), tensor(10, 64, name="w")
    return graphc.matmul(x, w)  # wrong


@mistake("ShapeError", "matmul", "f32[3, 4]", "f32[5]", hint=r"\S")
def matrix_times_a_vector_of_another_length() -> object:
    x, v = tensor(3, 4), tensor(5, name="v")
    return x @ v  # wrong


@mistake("ShapeError", "matmul", "f32[]", hint=r"\*|multiply")
def matmul_with_a_scalar() -> object:
    x, s = tensor(3, 4), tensor(name="s")
    return x @ s  # wrong


@mistake("ShapeError", "matmul", hint=r"\*|multiply")
def matmul_with_a_number() -> object:
    x = tensor(3, 4)
    return x @ 2.0  # wrong


@mistake("ShapeError", "matmul", "f32[2, 3, 4]", "f32[5, 4, 6]", hint=r"batch|broadcast|first")
def matmul_of_two_batches() -> object:
    x, y = tensor(2, 3, 4), tensor(5, 4, 6, name="y")
    return x @ y  # wrong


@mistake("ShapeError", "vecdot", "f32[3]", "f32[4]", hint=r"\S")
def dot_product_of_two_lengths() -> object:
    x, y = tensor(3), tensor(4, name="y")
    return graphc.vecdot(x, y)  # wrong


@mistake("ShapeError", "tensordot", "f32[2, 3]", "f32[4, 5]", hint=r"axes")
def tensordot_over_sizes_that_differ() -> object:
    x, y = tensor(2, 3), tensor(4, 5, name="y")
    return graphc.tensordot(x, y, axes=1)  # wrong


@mistake("ShapeError", "einsum", "k", "ij,jl->ik", hint=r"\S")
def einsum_with_a_result_letter_from_nowhere() -> object:
    x, y = tensor(2, 3), tensor(3, 4, name="y")
    return graphc.einsum("ij,jl->ik", x, y)  # wrong


@mistake("ShapeError", "einsum", "ij,jk,kl->il", "3", "2", hint=r"operand|comma|part")
def einsum_with_a_missing_operand() -> object:
    x, y = tensor(2, 3), tensor(3, 4, name="y")
    return graphc.einsum("ij,jk,kl->il", x, y)  # wrong


@mistake("ShapeError", "einsum", "j", "3", "4", "f32[2, 3]", "f32[4, 5]", hint=r"\S")
def einsum_with_one_letter_for_two_sizes() -> object:
    x, y = tensor(2, 3), tensor(4, 5, name="y")
    return graphc.einsum("ij,jk->ik", x, y)  # wrong


@mistake("ShapeError", "einsum", "ijk", "f32[2, 3]", hint=r"letter|dim|\.\.\.")
def einsum_with_more_letters_than_dimensions() -> object:
    x = tensor(2, 3)
    return graphc.einsum("ijk->i", x)  # wrong


@mistake("ShapeError", "trace", "f32[3]", hint=r"two|matrix|matrices|sum")
def trace_of_a_vector() -> object:
    x = tensor(3)
    return graphc.trace(x)  # wrong


@mistake("ShapeError", "outer", "f32[2, 3]", hint=r"reshape|einsum|vector|one")
def outer_product_of_a_matrix() -> object:
    x, y = tensor(2, 3), tensor(4, name="y")
    return graphc.outer(x, y)  # wrong


@mistake("ShapeError", "grad", "f32[n]", hint=r"sum|mean|vjp|jacobian")
def gradient_of_a_vector() -> object:
    x = tensor("n")
    return graphc.grad(x * x, x)  # wrong


@mistake("DTypeError", "grad", "i64", hint=r"float|astype")
def gradient_of_an_integer_cost() -> object:
    x = tensor(3, dtype="int64")
    return graphc.grad(graphc.sum(x), x)  # wrong


@mistake("DTypeError", "grad", "i32[3]", hint=r"float|astype")
def gradient_by_an_integer_variable() -> object:
    k = graphc.variable(np.zeros(3, np.int32), name="k")
    cost = graphc.sum(graphc.astype(k, "float32") ** 2)
    return graphc.grad(cost, k)  # wrong


@mistake("GraphError", "grad", "ndarray", hint=r"variable|placeholder|tensor")
def gradient_by_an_array() -> object:
    w = np.ones(3, np.float32)
    cost = graphc.sum(tensor(3) * w)
    return graphc.grad(cost, w)  # wrong


@mistake("GraphError", "grad", "name", hint=r"tensor|variable")
def gradient_by_a_name() -> object:
    w = graphc.variable(np.ones(3, np.float32), name="name")
    return graphc.grad(graphc.sum(w * w), "name")  # wrong


@mistake("ShapeError", "hessian", "f32[n]", hint=r"sum|mean|jacobian")
def hessian_of_a_vector() -> object:
    x = tensor("n")
    return graphc.hessian(x * x, x)  # wrong


@mistake("ShapeError", "vjp", "f32[3]", "f32[4]", hint=r"\S")
def vjp_with_a_cotangent_of_another_shape() -> object:
    x = tensor(3)
    return graphc.vjp(x * x, x, tensor(4, name="v"))  # wrong


@mistake("ShapeError", "jvp", "f32[3]", "f32[4]", hint=r"\S")
def jvp_with_a_tangent_of_another_shape() -> object:
    x = tensor(3)
    return graphc.jvp(x * x, x, tensor(4, name="v"))  # wrong
