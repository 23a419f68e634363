"""Linear algebra on what is no matrix, or on matrices that have no answer."""

from __future__ import annotations

import numpy as np

import graphc
from tests.errors.corpus import mistake


def tensor(*shape: int | str, dtype: str = "float64", name: str = "x") -> graphc.Tensor:
    return graphc.placeholder(shape, dtype, name=name)


@mistake("ShapeError", "inv", "square", "f64[3, 4]", hint=r"equal")
def inverse_of_an_oblong_matrix() -> object:
    x = tensor(3, 4)
    return graphc.linalg.inv(x)  # wrong


@mistake("ShapeError", "eigh", "2 or more dims", "f64[3]", hint=r"last two dims")
def eigenvalues_of_a_vector() -> object:
    x = tensor(3)
    return graphc.linalg.eigh(x)  # wrong


@mistake("DTypeError", "svd", "float16", "float32", hint=r"astype")
def singular_values_of_half_floats() -> object:
    x = tensor(3, 4, dtype="float16")
    return graphc.linalg.svd(x)  # wrong


@mistake("ShapeError", "solve", "rows", "f64[3, 3]", "f64[4]", hint=r"\(m,\)")
def right_sides_of_another_length() -> object:
    a, b = tensor(3, 3, name="a"), tensor(4, name="b")
    return graphc.linalg.solve(a, b)  # wrong


@mistake("ShapeError", "qr", "smaller", "m", "n", hint=r"graphc\.Dim")
def factors_of_an_unknown_shape() -> object:
    x = tensor("m", "n")
    return graphc.linalg.qr(x)  # wrong


@mistake("GraphError", "qr", "'full'", hint=r"complete")
def factorization_of_an_unknown_mode() -> object:
    x = tensor(3, 3)
    return graphc.linalg.qr(x, mode="full")  # wrong


@mistake("GraphError", "matrix_norm", "'two'", hint=r"nuc")
def norm_of_an_unknown_order() -> object:
    x = tensor(3, 3)
    return graphc.linalg.matrix_norm(x, ord="two")  # wrong


@mistake("ExecutionError", "solve", "f64[2, 4]", hint=r"singular")
def system_of_a_singular_matrix() -> object:
    x = tensor(2, 2)
    y = graphc.linalg.solve(x, np.ones(2))  # named
    with graphc.Session() as session:
        return session.run(y, {x: np.ones((2, 2))})


@mistake("ExecutionError", "cholesky", "f64[2, 2]", hint=r"positive definite")
def cholesky_of_an_indefinite_matrix() -> object:
    x = tensor(2, 2)
    y = graphc.linalg.cholesky(x)  # named
    with graphc.Session() as session:
        return session.run(y, {x: -np.eye(2)})
