"""Graphs, functions and their text, put together wrongly."""

from __future__ import annotations

import numpy as np

import graphc
from tests.errors.corpus import mistake


def tensor(*shape: int | str, dtype: str = "float32", name: str = "x") -> graphc.Tensor:
    return graphc.placeholder(shape, dtype, name=name)


@mistake("GraphError", "y", "f32[3]", hint=r"inputs")
def an_input_that_is_not_listed() -> object:
    x = tensor(3)
    y = graphc.placeholder((3,), "float32", name="y")  # named
    return graphc.Graph([x], x + y)  # wrong


@mistake("GraphError", "'x'", hint=r"name")
def two_inputs_of_one_name() -> object:
    x = tensor(3)
    y = tensor(3)
    return graphc.Graph([x, y], x + y)  # wrong


@mistake("GraphError", "'h'", "exp", "log", hint=r"name_scope|name")
def two_tensors_of_one_name() -> object:
    x = tensor(3)
    h = graphc.exp(x).named("h")  # named
    k = graphc.log(x).named("h")  # named
    return graphc.Graph([x], h + k)  # wrong


@mistake("GraphError", "w", "f32[3]", "f32[]", hint=r"shape|reshape|astype")
def update_of_another_shape() -> object:
    w = graphc.variable(np.zeros(3, np.float32), name="w")
    return graphc.Graph([], graphc.sum(w), updates={w: graphc.sum(w)})  # wrong


@mistake("GraphError", "w", "f32[3]", "f64[3]", hint=r"astype")
def update_of_another_dtype() -> object:
    w = graphc.variable(np.zeros(3, np.float32), name="w")
    return graphc.Graph([], graphc.sum(w), updates={w: graphc.astype(w, "float64")})  # wrong


@mistake("GraphError", "updates", "x", "placeholder", hint=r"variable")
def update_of_a_placeholder() -> object:
    x = tensor(3)
    return graphc.Graph([x], x, updates={x: x + 1})  # wrong


@mistake("GraphError", "hiden", hint=r"hidden")
def lookup_of_a_misspelt_name() -> object:
    x = tensor(3)
    graph = graphc.Graph([x], graphc.exp(x).named("hidden") + 1)
    return graph["hiden"]  # wrong


@mistake("GraphError", "n", "min=1", "min=2", hint=r"Dim")
def one_symbol_with_two_bounds() -> object:
    x = graphc.placeholder((graphc.Dim("n", min=1),), name="x")
    y = graphc.placeholder((graphc.Dim("n", min=2),), name="y")
    return graphc.Graph([x, y], [x + 1, y + 1])  # wrong


@mistake("GraphError", "x", hint=r"feed|x")
def evaluation_without_a_feed() -> object:
    x = graphc.placeholder((3,), "float32", name="x")  # named
    return graphc.Graph([x], x + 1).evaluate({})


@mistake("ShapeError", "x", "f32[3]", "4", hint=r"\S")
def evaluation_with_a_feed_of_another_shape() -> object:
    x = graphc.placeholder((3,), "float32", name="x")  # named
    return graphc.Graph([x], x + 1).evaluate({x: np.zeros(4, np.float32)})


@mistake("FormatError", "line 1", hint=r"graph")
def text_that_is_no_graph() -> object:
    return graphc.parse("hello, world")  # wrong


@mistake("FormatError", "expq", hint=r"exp")
def text_with_an_unknown_op() -> object:
    x = tensor(3)
    text = str(graphc.Graph([x], graphc.exp(x))).replace("exp", "expq")
    return graphc.parse(text)  # wrong


@mistake("FormatError", "type", hint=r"\S")
def text_with_a_wrong_type() -> object:
    x = tensor(3)
    text = str(graphc.Graph([x], graphc.exp(x)))
    head, _, tail = text.rpartition("exp")
    return graphc.parse(head + "exp" + tail.replace("f32[3]", "f32[4]"))  # wrong


@mistake("GraphError", "quick", hint=r"exact.*standard.*fast")
def optimization_in_an_unknown_mode() -> object:
    x = tensor(3)
    return graphc.Graph([x], x + 1).optimize(numerics="quick")  # wrong
