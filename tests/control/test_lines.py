"""Errors in bodies: those of the second of two equal bodies name its own lines, and the call's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import graphc
from graphc.base.errors import ExecutionError, NumericsError
from graphc.ir import provenance
from graphc.ir.graph import Graph
from graphc.passes.pipeline import optimize

Tensor = graphc.Tensor
Body = Callable[[Tensor, Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def session() -> Iterator[graphc.Session]:
    with graphc.Session(threads=1, cache_dir="") as session:
        yield session


def one() -> Body:
    def body(c: Tensor, x: Tensor, i: Tensor) -> Tensor:
        y = graphc.log(x + c) * 2.0 + 1.0
        return y + graphc.take(c, i)

    return body


def two() -> Body:
    def body(c: Tensor, x: Tensor, i: Tensor) -> Tensor:
        y = graphc.log(x + c) * 2.0 + 1.0
        return y + graphc.take(c, i)

    return body


def _called(body: Body, c: Tensor, x: Tensor, i: Tensor) -> Tensor:
    found: Tensor = graphc.function(body)(c, x, i)
    return found


def _branch(body: Body, c: Tensor, x: Tensor, i: Tensor) -> Tensor:
    found: Tensor = graphc.cond(graphc.sum(c) < 1e9, body, lambda c, x, i: c, c, x, i)
    return found


def _turns(body: Body, c: Tensor, x: Tensor, i: Tensor) -> Tensor:
    found: Tensor = graphc.scan(lambda c, _: (body(c, x, i), None), c, length=2)[0]
    return found


def _while(body: Body, c: Tensor, x: Tensor, i: Tensor) -> Tensor:
    found: Tensor = graphc.while_loop(
        lambda c: graphc.sum(c) < 1.0, lambda c: abs(body(c, x, i)) + 1.0, c
    )
    return found


RUNS = {"a function called": _called, "cond": _branch, "scan": _turns, "while_loop": _while}


def _line(function: Callable[..., object], text: str) -> str:
    lines, start = inspect.getsourcelines(function)
    (number,) = [start + k for k, line in enumerate(lines) if text in line]
    return f"test_lines.py:{number} "


def _places() -> list[Tensor]:
    c, x, z = (graphc.placeholder((4,), "float32", name=name) for name in "cxz")
    i, j = (graphc.placeholder((4,), "int64", name=name) for name in "ij")
    return [c, x, z, i, j]


START = np.zeros(4, np.float32)
GOOD, NEGATIVE = np.float32([1, 2, 3, 4]), np.float32([1, 2, -3, 4])
INSIDE, OUTSIDE = np.array([0, 1, 2, 3]), np.array([0, 1, 2, 9])


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("how", RUNS)
def test_an_index_out_of_bounds(session: graphc.Session, how: str, second: bool) -> None:
    c, x, z, i, j = places = _places()
    run = RUNS[how]
    function = session.function(places, run(one(), c, x, i) + run(two(), c, z, j))
    assert function.explain("regions").count(" = gather :") == 1  # it is compiled once
    with pytest.raises(ExecutionError) as caught:
        function(START, GOOD, GOOD, *((INSIDE, OUTSIDE) if second else (OUTSIDE, INSIDE)))
    message = str(caught.value)
    assert f"at {_line(two if second else one, 'take')}" in message
    assert _line(one if second else two, "take") not in message
    assert f"  in {how} at " in message
    assert "from 0 to 9" in message


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("how", RUNS)
def test_a_value_that_is_not_finite(how: str, second: bool) -> None:
    c, x, z, i, j = places = _places()
    run = RUNS[how]
    with graphc.Session(threads=1, cache_dir="", check_numerics=True) as session:
        function = session.function(places, run(one(), c, x, i) + run(two(), c, z, j))
        given = (GOOD, NEGATIVE) if second else (NEGATIVE, GOOD)
        with pytest.raises(NumericsError) as caught:
            function(START, *given, INSIDE, INSIDE)
    message = str(caught.value)
    assert f"at {_line(two if second else one, 'log')}" in message
    assert _line(one if second else two, "log") not in message
    assert f"  in {how} at " in message


def test_the_gradient_of_the_second() -> None:
    c, x, z, i, _ = _places()
    value = graphc.sum(_called(one(), c, x, i)) + graphc.sum(_called(two(), c, z, i))
    with graphc.Session(threads=1, cache_dir="", check_numerics=True) as session:
        function = session.function([c, x, z, i], graphc.grad(value, [x, z]))
        with pytest.raises(NumericsError) as caught:
            function(START, GOOD, np.float32([1, 2, 0, 4]), INSIDE)
    message = str(caught.value)
    assert _line(two, "log") in message and _line(one, "log") not in message


def test_custom_gradients_that_are_equal() -> None:
    @graphc.custom_gradient
    def first(x: Tensor) -> tuple[Tensor, object]:
        return x * 2.0, lambda g: g / x

    @graphc.custom_gradient
    def other(x: Tensor) -> tuple[Tensor, object]:
        return x * 2.0, lambda g: g / x

    _, x, z, *_ = _places()
    gradients = graphc.grad(graphc.sum(first(x)) + graphc.sum(other(z)), [x, z])
    with graphc.Session(threads=1, cache_dir="", check_numerics=True) as session:
        function = session.function([x, z], gradients)
        with pytest.raises(NumericsError) as caught:
            function(GOOD, np.float32([1, 0, 3, 4]))
    lines, start = inspect.getsourcelines(test_custom_gradients_that_are_equal)
    own = [start + k for k, line in enumerate(lines) if "lambda g" in line and "line" not in line]
    assert f"at test_lines.py:{own[1]} " in str(caught.value)


def test_equal_bodies_are_one_object_on_the_same_lines_only() -> None:
    c, x, z, i, j = places = _places()
    bodies = (one(), one(), two(), two())
    operands = ((c, x, i), (c, x, j), (c, z, i), (c, z, j))
    graph = graphc.Graph(places, [_called(b, *at) for b, at in zip(bodies, operands, strict=True)])
    found = [a for n in graph.nodes for a in n.attrs if isinstance(a, Graph)]
    assert len(set(found)) == 1 and len(set(map(id, found))) == 2
    assert str(graph).count("function @") == 1
    assert graphc.parse(str(graph)) == graph


BODY = """graph "one" {
    input %in_0 "in_0" : f32[4, 3]
    %turns = scan(%in_0) {body=graph "turn" {
      input %in_0 "in_0" : f32[3]
      %0 = log(%in_0) : f32[3]
      output "out_0" = %0
    }, carries=0, sequences=1, length=4, reverse=false} : (f32[4, 3])
    %1 = get(%turns) {index=0} : f32[4, 3]
    %2 = reshape(%1) {shape=(12,)} : f32[12]
    %3 = reshape(%2) {shape=(4, 3)} : f32[4, 3]
    output "out_0" = %3
  }"""
FILE = f"""graph "two" {{
  input %x "x" : f32[4, 3]
  %0 = call(%x) {{body={BODY}}} : (f32[4, 3])
  %1 = get(%0) {{index=0}} : f32[4, 3]
  %2 = call(%1) {{body={BODY}}} : (f32[4, 3])
  %3 = get(%2) {{index=0}} : f32[4, 3]
  output "y" = %3
}}
"""


def test_bodies_of_a_file_in_which_a_loop_has_a_name() -> None:
    graph = optimize(graphc.parse(FILE, file="two.g"))
    bodies = [n.attr("body") for n in graph.nodes if n.op.name == "call"]
    assert bodies[0] == bodies[1] and "turns" in bodies[1].names
    lines = [provenance.where(body.names["turns"]) for body in bodies]
    assert lines == [f"two.g:{n}" for n, line in enumerate(FILE.splitlines(), 1) if "scan" in line]
