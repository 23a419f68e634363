"""Python's own words used on tensors that have no value yet."""

from __future__ import annotations

import math
import operator

import numpy as np

import graphc
from tests.errors.corpus import mistake


def tensor(*shape: int | str, dtype: str = "float32", name: str = "x") -> graphc.Tensor:
    return graphc.placeholder(shape, dtype, name=name)


@mistake("GraphError", "bool[]", "truth", hint=r"graphc\.where.*graphc\.cond")
def a_tensor_after_if() -> object:
    x = tensor()
    if x > 0:  # wrong
        return x
    return -x


@mistake("GraphError", "bool[n]", "truth", hint=r"\(a < b\) & \(b < c\)")
def a_chain_of_comparisons() -> object:
    x = tensor("n")
    return 0 < x < 1  # wrong


@mistake("GraphError", "bool[n]", "truth", hint=r"&")
def two_conditions_joined_by_and() -> object:
    x = tensor("n")
    return (x > 0) and (x < 1)  # wrong


@mistake("GraphError", "bool[n]", "truth", hint=r"~")
def a_condition_after_not() -> object:
    x = tensor("n")
    return not x > 0  # wrong


@mistake("GraphError", "truth", hint=r"graphc\.where")
def a_tensor_after_while() -> object:
    x = tensor()
    while x > 1:  # wrong
        x = x / 2
    return x


@mistake("GraphError", "f32[n, 3]", "n", hint=r"shape\[0\]")
def length_of_a_symbolic_dimension() -> object:
    x = tensor("n", 3)
    return len(x)  # wrong


@mistake("GraphError", "f32[n, 3]", "n", hint=r"shape\[0\]|scan")
def a_loop_over_a_symbolic_dimension() -> object:
    x = tensor("n", 3)
    return sum(x)  # wrong


@mistake("GraphError", "float", "f32[]", hint=r"eval|session\.run")
def a_tensor_as_a_float() -> object:
    x = tensor()
    return float(x)  # wrong


@mistake("GraphError", "int", "i64[]", hint=r"eval|session\.run")
def a_tensor_as_an_int() -> object:
    x = tensor(dtype="int64")
    return int(x)  # wrong


@mistake("GraphError", "float", "f32[]", hint=r"graphc")
def a_function_of_the_math_module() -> object:
    x = tensor()
    return math.exp(x)  # wrong


@mistake("GraphError", "i64[]", hint=r"eval|graphc")
def a_tensor_as_a_count() -> object:
    x = tensor(dtype="int64")
    return range(x)  # wrong


@mistake("GraphError", "f32[3]", hint=r"graphc\.any")
def membership_in_a_tensor() -> object:
    x = tensor(3)
    return 1.0 in x  # wrong


@mistake("GraphError", "f32[3]", "NumPy", hint=r"eval")
def a_tensor_as_an_array() -> object:
    x = tensor(3)
    return np.asarray(x)  # wrong


@mistake("ShapeError", "n", hint=r"int|as it is")
def a_symbolic_size_as_a_count() -> object:
    x = tensor("n")
    return operator.index(x.shape[0])  # wrong


@mistake("ShapeError", "n", "3", hint=r"Dim\(|where")
def a_comparison_that_depends_on_a_size() -> object:
    x = tensor("n")
    if x.shape[0] > 3:  # wrong
        return x[:3]
    return x


@mistake("UnsupportedError", "unique", hint=r"\S")
def a_numpy_function_without_a_counterpart() -> object:
    x = tensor(3)
    return np.unique(x)  # wrong


@mistake("UnsupportedError", "out", hint=r"return|new tensor|graphc\.add|result")
def a_numpy_function_that_writes_in_place() -> object:
    x, y = tensor(3), np.zeros(3, np.float32)
    return np.add(x, y, out=y)  # wrong
