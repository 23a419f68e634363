"""The textual form of graphs with bodies: functions once, equal after reading, refusals."""

from __future__ import annotations

import time

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import float32
from graphc.ir import provenance
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ir.parse import parse
from graphc.ir.verify import verify
from graphc.ops.control import CALL, COND, SCAN, WHILE_LOOP, closed_body, results_of
from graphc.ops.state import placeholder


def layer(width: int = 3, name: str = "layer") -> Graph:
    x, w = placeholder((width,), float32), placeholder((width, width), float32)
    return closed_body([x, w], [graphc.tanh(x @ w)], name)


def chain(count: int) -> tuple[Graph, list[Tensor]]:
    x, w = placeholder((3,), float32, name="x"), placeholder((3, 3), float32, name="w")
    y = x
    for _ in range(count):
        (y,) = results_of(CALL, (y, w), layer())
    return Graph([x, w], {"y": y}), [x, w]


def test_equal_bodies_are_one_object() -> None:
    assert layer() is layer()


def test_a_function_is_written_once() -> None:
    graph, _ = chain(50)
    text = str(graph)
    assert text.count('graph "layer"') == 1
    assert text.count("body=@layer}") == 50
    again = parse(text)
    assert again == graph and str(again) == text
    assert len({id(b) for b in again.bodies}) == 1
    verify(again)


def test_a_body_that_stands_once_is_written_in_place() -> None:
    graph, _ = chain(1)
    assert "function" not in str(graph)
    assert parse(str(graph)) == graph


def test_reading_gives_the_same_values() -> None:
    graph, _ = chain(3)
    feeds = {"x": np.ones(3, np.float32), "w": np.eye(3, dtype=np.float32) * 0.5}
    np.testing.assert_array_equal(
        graph.evaluate(feeds)["y"], parse(str(graph)).evaluate(feeds)["y"]
    )


def all_ops() -> Graph:
    n = graphc.Dim("n")
    x, t = placeholder((n, 2), float32, name="x"), placeholder((), "bool", name="t")
    c, s = placeholder((2,), float32), placeholder((2,), float32)
    small = graphc.sum(c) < 100.0
    up = closed_body([c, s], [c + s, c * 2.0], "up")
    again = closed_body([c, s], [c - s, c * 3.0], "down")
    init = graphc.zeros(2, dtype="float32")
    last, rows = results_of(SCAN, (init, x), up, 1, 1, n, False)
    first, second = results_of(COND, (t, last, init), up, again)
    ask = closed_body([c], [small], "ask")
    double = closed_body([c], [c * 2.0], "double")
    final, turns = results_of(WHILE_LOOP, (first + second + 1.0,), ask, double, 1)
    return Graph([x, t], {"final": final, "turns": turns, "rows": rows})


def test_all_ops_print_and_read() -> None:
    graph = all_ops()
    again = parse(str(graph))
    assert again == graph
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "t": np.array(True)}
    for name, value in graph.evaluate(feeds).items():
        np.testing.assert_array_equal(again.evaluate(feeds)[name], value)


def test_symbols_and_constants_of_bodies_belong_to_the_graph(tmp_path: object) -> None:
    n = graphc.Dim("n")
    x = placeholder((n,), float32, name="x")
    c = placeholder((), float32)
    table = graphc.constant(np.arange(40, dtype=np.float32))
    length = graphc.asarray(n, dtype="float32")
    body = closed_body([c], [c + graphc.sum(table) * length], "body")
    (y,) = results_of(CALL, (x[0],), body)
    (z,) = results_of(CALL, (y,), body)
    graph = Graph([x], {"z": z})
    assert [s.name for s in body.symbols] == ["n"]
    assert len(graph.constants) == 1
    assert parse(str(graph)) == graph
    path = f"{tmp_path}/g.graphc"
    graph.save(path)
    assert graphc.load(path) == graph


def test_deep_chains_of_functions_stay_linear() -> None:
    """Each function calls the one below twice: written out they would be 2**20 bodies."""
    x = placeholder((), float32)
    body = closed_body([x], [x * 2.0], "f")
    for _ in range(20):
        (once,) = results_of(CALL, (x,), body)
        (twice,) = results_of(CALL, (once,), body)
        body = closed_body([x], [twice], "f")
    start = time.process_time()
    (y,) = results_of(CALL, (x,), body)
    graph = Graph([x], {"y": y})
    assert len(str(graph)) < 20_000
    assert parse(str(graph)) == graph
    assert time.process_time() - start < 2.0


def test_bodies_nest_to_a_limit() -> None:
    x = placeholder((), float32)
    body = closed_body([x], [x * 2.0], "f")
    with pytest.raises(graphc.GraphcError, match="nest at most"):
        for _ in range(100):
            (y,) = results_of(CALL, (x,), body)
            body = closed_body([x], [y], "f")


HEAD = 'graph "g" {\n  input %x "x" : f32[2]\n'
BODY = 'graph "b" { input %a "in_0" : f32[2] %b = exp(%a) : f32[2] output "o" = %b }'
REFUSED = {
    "an unknown function": "%c = call(%x) {body=@f} : (f32[2])",
    "a label twice": f"function @f = {BODY} function @f = {BODY}",
    "no graph": "%c = call(%x) {body=3} : (f32[2])",
    "operands of another type": f"%c = call() {{body={BODY}}} : (f32[2])",
    "a variable inside": "%c = call(%x) {body="
    + BODY.replace(
        "%b =", "variable %v trainable=true = const f32[2] [0.0, 0.0] : f32[2] %b ="
    ).replace("exp(%a)", "add(%a, %v)")
    + "} : (f32[2])",
    "another type": f"%c = call(%x) {{body={BODY}}} : (f32[3])",
    "a missing item": f"%c = call(%x) {{body={BODY}}} : (f32[2]) %d = get(%c) {{index=1}} : f32[2]",
    "an item of a tensor": "%d = get(%x) {index=0} : f32[2]",
    "a tuple as an operand": f"%c = call(%x) {{body={BODY}}} : (f32[2]) %d = exp(%c) : f32[2]",
    "a tuple as an output": f'%c = call(%x) {{body={BODY}}} : (f32[2]) output "c" = %c',
    "a predicate of floats": f"%c = cond(%x, %x) {{then={BODY}, otherwise={BODY}}} : (f32[2])",
    "a negative length": f"%c = scan(%x) {{body={BODY}, carries=1, sequences=0, length=-1, "
    "reverse=false} : (f32[2])",
    "too many carries": f"%c = scan(%x) {{body={BODY}, carries=2, sequences=0, length=1, "
    "reverse=false} : (f32[2])",
    "a sequence of another length": f"%c = scan(%x) {{body={BODY}, carries=0, sequences=1, "
    "length=3, reverse=false} : (f32[3, 2])",
    "a condition that is no bool": f"%c = while_loop(%x) {{condition={BODY}, body={BODY}, "
    "carries=1} : (f32[2], i64[])",
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(what: str) -> None:
    with pytest.raises(graphc.FormatError, match=r"line \d"):
        parse(HEAD + REFUSED[what] + "\n}")


def test_functions_count_in_the_nesting() -> None:
    lines = ['function @f0 = graph "b" { input %a "a" : f32[] output "o" = %a }']
    for k in range(80):
        lines.append(
            f'function @f{k + 1} = graph "b" {{ input %a "a" : f32[] '
            f"%c = call(%a) {{body=@f{k}}} : (f32[]) %d = get(%c) {{index=0}} : f32[] "
            'output "o" = %d }'
        )
    with pytest.raises(graphc.FormatError, match="nest"):
        parse(HEAD + "\n".join(lines) + "\n}")


def test_lines_inside_bodies_are_saved(tmp_path: object) -> None:
    x = placeholder((4,), float32, name="x")
    last, _ = graphc.scan(lambda c, r: (graphc.tanh(c + r), None), x[0], x)
    graph = Graph([x], {"y": last})
    path = f"{tmp_path}/g.graphc"
    graph.save(path)
    (body,) = graphc.load(path).bodies
    places = [provenance.locations(n) for n in body.nodes if n.op.name == "tanh"]
    assert places[0][0].file == "test_text.py"


def _root(x: Tensor) -> Tensor:
    return graphc.exp(graphc.sin(x))


@graphc.custom_gradient
def _own_gradient(x: Tensor) -> tuple[Tensor, object]:
    return _root(x), lambda g: g * graphc.cos(x)


def _turn(carry: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    return graphc.sin(carry) * row, carry


def _scanned(x: Tensor, **options: int) -> Tensor:
    rows: Tensor = graphc.scan(_turn, graphc.ones((), dtype="float32"), x, **options)[1]
    return rows


# Each makes its bodies anew whenever it is called.
MAKERS = {
    "checkpoint": lambda x: graphc.checkpoint(_root)(x),
    "checkpoint of a custom gradient": lambda x: graphc.checkpoint(_own_gradient)(x),
    "custom_gradient": _own_gradient,
    "function": lambda x: graphc.function(_root)(x),
    "function, checkpoint": lambda x: graphc.function(_own_gradient, checkpoint=True)(x),
    "cond": lambda x: graphc.cond(
        graphc.sum(x) > 0, graphc.checkpoint(_root), lambda h: h * 2.0, x
    ),
    "while_loop": lambda x: graphc.while_loop(lambda h: graphc.sum(h) < 3.0, lambda h: h + 1.0, x),
    "scan": _scanned,
    "scan, checkpoint": lambda x: _scanned(x, checkpoint=2),
    "scan, truncate": lambda x: _scanned(x, truncate=2),
}


@pytest.mark.parametrize("what", MAKERS)
def test_bodies_made_twice_are_written_once(what: str) -> None:
    """Wherever bodies come from, also differentiated, the graph that is read back is equal."""
    make = MAKERS[what]
    x, y = (graphc.placeholder((4,), "float32", name=name) for name in "xy")
    values = {"a": make(x), "b": make(y), "c": make(make(x))}
    first = graphc.grad(graphc.sum(values["c"] + values["b"]), [x, y])
    second = graphc.grad(graphc.sum(first[0]), x) if what != "while_loop" else first[0]
    graph = Graph([x, y], {**values, "gx": first[0], "gy": first[1], "h": second})
    for found in (graph, graph.optimize()):
        assert parse(str(found)) == found
        bodies = [a for n in found.nodes for a in n.attrs if isinstance(a, Graph)]
        assert found is not graph or len(bodies) > len(set(bodies))
