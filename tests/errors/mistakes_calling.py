"""Sessions and functions fed, fetched and set wrongly, and values that cannot be computed with."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import graphc
from tests.errors.corpus import mistake

THREE = np.arange(3, dtype=np.float32)


def tensor(*shape: int | str, dtype: str = "float32", name: str = "x") -> graphc.Tensor:
    return graphc.placeholder(shape, dtype, name=name)


@mistake("GraphError", "x", "f32[3]", hint=r"feed")
def run_without_a_feed() -> object:
    x = graphc.placeholder((3,), name="x")  # named
    with graphc.Session() as session:
        return session.run(x + 1)


@mistake("GraphError", "'z'", hint=r"x")
def run_with_a_feed_of_an_unknown_name() -> object:
    x = graphc.placeholder((3,), name="x")
    with graphc.Session() as session:
        return session.run(x + 1, {"z": THREE, "x": THREE})  # wrong


@mistake("GraphError", "int", hint=r"placeholder|tensor|name")
def run_with_a_feed_of_a_number() -> object:
    x = graphc.placeholder((3,), name="x")
    with graphc.Session() as session:
        return session.run(x + 1, {0: THREE})  # wrong


@mistake("ShapeError", "x", "f32[3]", "(4,)", hint=r"\S")
def run_with_a_feed_of_another_shape() -> object:
    x = graphc.placeholder((3,), name="x")  # named
    with graphc.Session() as session:
        return session.run(x + 1, {x: np.zeros(4, np.float32)})


@mistake("ShapeError", "x", "f32[n, 3]", "(3,)", hint=r"\S")
def call_with_an_array_of_another_rank() -> object:
    x = graphc.placeholder(("n", 3), name="x")  # named
    with graphc.Session() as session:
        return session.function([x], x + 1)(THREE)


@mistake("DTypeError", "x", "f32[3]", "float64", hint=r"astype|float32")
def call_with_an_array_of_another_dtype() -> object:
    x = graphc.placeholder((3,), name="x")  # named
    with graphc.Session() as session:
        return session.function([x], x + 1)(np.zeros(3))


@mistake("DTypeError", "x", "f32[3]", "complex128", hint=r"real|astype|float32")
def call_with_complex_numbers() -> object:
    x = graphc.placeholder((3,), name="x")  # named
    with graphc.Session() as session:
        return session.function([x], x + 1)(np.zeros(3, np.complex128))


@mistake("ShapeError", "n", "2", "3", "x", "y", hint=r"\S")
def call_with_two_sizes_for_one_symbol() -> object:
    x = graphc.placeholder(("n",), name="x")
    y = graphc.placeholder(("n",), name="y")  # named
    with graphc.Session() as session:
        return session.function([x, y], x + y)(THREE[:2], THREE)


@mistake("ShapeError", "n", "3", "multiple", "4", "x", hint=r"\S")
def call_with_a_size_out_of_bounds() -> object:
    x = graphc.placeholder((graphc.Dim("n", multiple_of=4),), name="x")  # named
    with graphc.Session() as session:
        return session.function([x], x + 1)(THREE)


@mistake("GraphError", "x", "y", "1", "2", hint=r"x.*y|argument")
def call_with_a_missing_argument() -> object:
    x, y = tensor(3), tensor(3, name="y")
    with graphc.Session() as session:
        function = session.function([x, y], x + y)
        return function(THREE)  # wrong


@mistake("GraphError", "1", "2", hint=r"x|argument")
def call_with_an_argument_too_many() -> object:
    x = tensor(3)
    with graphc.Session() as session:
        function = session.function([x], x + 1)
        return function(THREE, THREE)  # wrong


@mistake("GraphError", "'z'", hint=r"x")
def call_with_an_unknown_argument() -> object:
    x = tensor(3)
    with graphc.Session() as session:
        function = session.function([x], x + 1)
        return function(z=THREE)  # wrong


@mistake("GraphError", "'x'", hint=r"once|twice|position")
def call_with_an_argument_given_twice() -> object:
    x = tensor(3)
    with graphc.Session() as session:
        function = session.function([x], x + 1)
        return function(THREE, x=THREE)  # wrong


@mistake("GraphError", "str", hint=r"tensor")
def fetch_of_something_else() -> object:
    x = tensor(3)
    with graphc.Session() as session:
        return session.run([x, "x + 1"], {x: THREE})  # wrong


@mistake("GraphError", "closed", hint=r"with graphc\.Session|new|open")
def use_of_a_closed_session() -> object:
    x = tensor(3)
    with graphc.Session() as session:
        session.run(x + 1, {x: THREE})
    return session.run(x + 1, {x: THREE})  # wrong


@mistake("ShapeError", "w", "f32[3]", "(2,)", hint=r"\S")
def assignment_of_another_shape() -> object:
    w = graphc.variable(THREE, name="w")  # named
    with graphc.Session() as session:
        session.assign(w, THREE[:2])
    return w


@mistake("GraphError", "placeholder", "x", hint=r"variable|feed")
def assignment_to_a_placeholder() -> object:
    x = tensor(3)
    with graphc.Session() as session:
        session.assign(x, THREE)  # wrong
    return x


@mistake("GraphError", "add", hint=r"variable|run|eval")
def value_of_an_expression() -> object:
    x = graphc.variable(THREE, name="w") + 1
    with graphc.Session() as session:
        return session.value(x)  # wrong


@mistake("DeviceError", "abacus", hint=r"cpu")
def an_unknown_device() -> object:
    return graphc.Session(device="abacus")  # wrong


@mistake("GraphError", "threads", "0", hint=r"None|1")
def a_session_without_threads() -> object:
    return graphc.Session(threads=0)  # wrong


@mistake("GraphError", "quick", hint=r"exact.*standard.*fast")
def a_session_of_unknown_numerics() -> object:
    return graphc.Session(numerics="quick")  # wrong


@mistake("GraphError", "check_nan", hint=r"check_numerics")
def a_session_with_an_unknown_option() -> object:
    return graphc.Session(check_nan=True)  # wrong


@mistake("NumericsError", "log", "nan", hint=r"\S")
def a_value_that_is_no_number() -> object:
    x = tensor(3)
    y = graphc.log(x - 1)  # named
    with graphc.Session(check_numerics=True) as session:
        return session.run(graphc.sum(y), {x: THREE})


@mistake("ExecutionError", "take", hint=r"range|bounds|clip|0")
def an_index_beyond_the_end() -> object:
    x, k = tensor(3), tensor(2, dtype="int64", name="k")
    y = graphc.take(x, k)  # named
    with graphc.Session() as session:
        return session.run(y, {x: THREE, k: np.array([0, 7])})


@mistake("GraphError", "hiden", hint=r"hidden")
def fetch_of_a_misspelt_name() -> object:
    x = tensor(3)
    with graphc.Session() as session:
        function = session.function([x], graphc.exp(x).named("hidden") + 1)
        return function.fetch(["hiden"], THREE)  # wrong


@mistake("GraphError", "sourcecode", hint=r"llvm")
def explanation_of_an_unknown_stage() -> object:
    x = tensor(3)
    with graphc.Session() as session:
        function = session.function([x], x + 1)
        return function.explain("sourcecode")  # wrong


@mistake("FormatError", "state", hint=r"save|path|exist")
def restoring_from_a_file_that_is_not_there() -> object:
    with tempfile.TemporaryDirectory() as folder, graphc.Session() as session:
        session.restore(Path(folder) / "state")  # wrong


@mistake("GraphError", "x", "f32[3]", hint=r"feed")
def evaluation_of_an_expression_without_a_feed() -> object:
    x = graphc.placeholder((3,), name="x")  # named
    return (x + 1).eval()


@mistake("ShapeError", "output", "(4,)", "(3,)", hint=r"\S")
def an_output_array_of_another_shape() -> object:
    x = tensor(3)
    with graphc.Session() as session:
        function = session.function([x], x + 1)
        return function(THREE, out=np.zeros(4, np.float32))  # wrong


@mistake("ShapeError", "argmax", "no elements", "[0, 3]", hint=r"min=1")
def the_position_of_the_largest_of_nothing() -> object:
    x = graphc.placeholder(("n", 3), name="x")
    graph = graphc.Graph([x], {"y": graphc.argmax(x, axis=0)})
    return graph.evaluate({"x": np.zeros((0, 3), np.float32)})  # wrong
