"""Placeholders, variables, dims and names that cannot be declared."""

from __future__ import annotations

import numpy as np

import graphc
from tests.errors.corpus import mistake


@mistake("ShapeError", "placeholder", "-1", hint=r"None|symbolic|\"")
def placeholder_with_a_negative_size() -> object:
    return graphc.placeholder((-1, 3), name="x")  # wrong


@mistake("ShapeError", "placeholder", "3.5", hint=r"int|string|Dim")
def placeholder_with_a_fractional_size() -> object:
    return graphc.placeholder((3.5,), name="x")  # wrong


@mistake("ShapeError", "batch size", hint=r"batch")
def dim_with_a_space_in_its_name() -> object:
    return graphc.placeholder(("batch size", 3), name="x")  # wrong


@mistake("ShapeError", "placeholder", "batch", hint=r"\(\"?'?batch\"?'?,\)|tuple")
def placeholder_whose_shape_is_a_bare_name() -> object:
    return graphc.placeholder("batch", name="x")  # wrong


@mistake("ShapeError", "n", "8", "4", hint=r"min|max")
def dim_with_bounds_in_the_wrong_order() -> object:
    return graphc.Dim("n", min=8, max=4)  # wrong


@mistake("GraphError", "my tensor", hint=r"my_tensor|underscore|white")
def name_with_a_space() -> object:
    x = graphc.placeholder((3,), name="x")
    return (x + 1).named("my tensor")  # wrong


@mistake("GraphError", "placeholder", "12", hint=r"string|str|name=")
def placeholder_whose_name_is_a_number() -> object:
    return graphc.placeholder((3,), "float32", 12)  # wrong


@mistake("GraphError", "name_scope", hint=r"name")
def scope_without_a_name() -> object:
    with graphc.name_scope(""):  # wrong
        return graphc.placeholder((3,), name="x")


@mistake("GraphError", "variable", "placeholder", hint=r"array|value")
def variable_out_of_a_tensor() -> object:
    x = graphc.placeholder((3,), name="x")
    return graphc.variable(x, name="w")  # wrong


@mistake("DTypeError", "variable", "NoneType", hint=r"array|number")
def variable_without_a_value() -> object:
    return graphc.variable(None, name="w")  # wrong


@mistake("ShapeError", "zeros", "-2", hint=r"0|negative|non-negative|size")
def zeros_of_a_negative_size() -> object:
    return graphc.zeros((3, -2))  # wrong


@mistake("ShapeError", "eye", "-1", hint=r"0|negative|non-negative|size")
def identity_of_a_negative_size() -> object:
    return graphc.eye(-1)  # wrong


@mistake("GraphError", "Graph", "ndarray", hint=r"placeholder|tensor|constant")
def graph_whose_output_is_an_array() -> object:
    return graphc.Graph([], {"y": np.zeros(3)})  # wrong


@mistake("GraphError", "variable", hint=r"placeholder")
def graph_whose_input_is_a_variable() -> object:
    w = graphc.variable(np.zeros(3), name="w")
    return graphc.Graph([w], w + 1)  # wrong
