"""What becomes of control flow on its way down, by count and by text."""

from __future__ import annotations

import numpy as np

import graphc
from graphc.backend import llvm_cpu
from graphc.compiler import Compilation
from graphc.lower.lower_graph import Lowered
from graphc.runtime.executable import CompileOptions
from tests.control_native.checking import body, call, graph_of, place, same, scan, while_loop


def compilation(graph: graphc.Graph, **options: bool) -> Compilation:
    return Compilation(graph, CompileOptions(**options), llvm_cpu.host_target())


def names(lowered: Lowered) -> list[str]:
    return [k.kernel.name for k in lowered.kernels]


def test_a_transpose_is_made_once_before_the_loop() -> None:
    c, w = place((4, 64)), place((64, 64))
    step = body([c, w], [graphc.tanh(c @ w.T)])
    start, matrix = place((4, 64), "start"), place((64, 64), "matrix")
    (last,) = scan(step, [start], [], [matrix], length=5)
    graph = graph_of([start, matrix], [last])
    low = compilation(graph, optimize=False).lowered
    assert names(low) == ["permute_dims"]
    assert [n for b in low.bodies for n in names(b)] == ["einsum_tanh"]
    rng = np.random.default_rng(0)
    values = {k: rng.standard_normal(t.shape).astype(np.float32) * 0.1 for k, t in graph.inputs}
    same(graph, values, rtol=1e-5)


def test_a_transpose_leaves_all_loops_around_it() -> None:
    c, w = place((4, 64)), place((64, 64))
    (inner,) = scan(body([c, w], [c @ w.T]), [c], [], [w], length=3)
    step = body([c, w], [graphc.tanh(inner)])
    i, v, m = place((), dtype="int64"), place((4, 64)), place((64, 64))
    (stepped,) = call(step, v, m)
    few, zero = body([i, v, m], [i < 2]), graphc.constant(np.int64(0))
    start, matrix = place((4, 64), "start"), place((64, 64), "matrix")
    loop = while_loop(few, body([i, v, m], [i + 1, stepped]), [zero, start], [matrix])
    (once,) = scan(step, [start], [], [matrix], length=2)
    graph = graph_of([start, matrix], [loop[1], once])
    low = compilation(graph, optimize=False).lowered
    assert "permute_dims" in names(low)  # of the scan of a scan
    in_bodies = {b.graph.name: names(b) for b in low.bodies}
    assert sum("permute_dims" in found for found in in_bodies.values()) <= 1  # of the call
    rng = np.random.default_rng(0)
    values = {k: rng.standard_normal(t.shape).astype(np.float32) * 0.05 for k, t in graph.inputs}
    same(graph, values, rtol=1e-4)


def test_equal_kernels_of_bodies_are_one_function() -> None:
    a, b = place(16), place(16)
    one, two = body([a], [a * 2 + 1, a]), body([b, a], [b * 2 + 1, b - a])
    x = place(16, "x")
    first = call(one, x)
    second = call(two, *first)
    text = compilation(graph_of([x], [*first, *second]), optimize=False).stage("llvm")
    assert text.count("define internal void @graphc.body") == 2
    assert text.count("define internal void @graphc.kernel") == 3  # 2a + 1, copy, difference


def test_a_thousand_calls_are_one_loop() -> None:
    x = y = place((2, 4), "x")
    a, w = place((2, 4)), place((4, 4))
    layer = body([a, w], [graphc.nn.relu(a @ w)])
    for k in range(1000):
        (y,) = call(layer, y, graphc.variable(np.eye(4, dtype=np.float32), name=f"w{k}"))
    found = compilation(graphc.Graph([x], {"y": y}))
    assert len(found.lowered.plan.slots) == 1  # the place of the output takes turns with it
    text = found.stage("llvm")
    assert text.count("call void @graphc.body.0") == 1
    assert len(text) < 60_000


def test_equal_steps_over_slices_are_one_loop() -> None:
    """Rows of a table with places in inputs, variables, constants and the arena, with offsets."""
    x, n = place((32, 6), "x"), 32
    w = graphc.variable(np.arange(6, dtype=np.float32), name="w")
    rows = [graphc.sort(x[k] * w) for k in range(n)]
    graph = graph_of([x], [graphc.stack(rows), *rows[:3], rows[-1] + w])
    text = compilation(graph).stage("llvm")
    assert "@graphc.table.0 = internal constant" in text
    assert text.count("call void @graphc.kernel") == 19  # of 70: four times 17, and 2
    rng = np.random.default_rng(0)
    same(graph, {"x": rng.standard_normal((n, 6)).astype(np.float32)})


def test_places_of_symbolic_sizes_are_numbers_in_the_table() -> None:
    """Every result is kept to the end: hundreds of places, all of them sums of products."""
    a, b, w = place(("n", 5)), place(("m", 3)), place(5)
    layer = body([a, b, w], [graphc.sort(a * w), b * 0.9, graphc.tanh(w + graphc.sum(b))])
    x, y = place(("n", 5), "x"), place(("m", 3), "y")
    kept = [(x, y, graphc.constant(np.ones(5, np.float32)))]
    for _ in range(100):
        kept.append(call(layer, *kept[-1]))
    rows = graphc.stack([k[2] + graphc.sum(k[0]) + graphc.sum(k[1]) for k in kept[1:]])
    graph = graph_of([x, y], [rows, *kept[-1]])
    text = compilation(graph).stage("llvm")
    assert text.count("call void @graphc.body") < 25
    start = text.index("define internal void @graphc.run.0")
    function = text[start : text.index("\n}", start)]
    assert function.count("getelementptr i8, ptr %arena") < 80  # one per argument, not per row
    rng = np.random.default_rng(0)
    for n, m in ((1, 0), (3, 7)):
        feeds = {
            "x": rng.standard_normal((n, 5)).astype(np.float32),
            "y": rng.standard_normal((m, 3)).astype(np.float32) * 0.01,
        }
        same(graph, feeds, rtol=1e-4)


def test_a_run_inside_of_a_body() -> None:
    """Constants of a body are the program's."""
    a = place(("n", 4))
    y = a
    for k in range(20):
        y = graphc.sort(y + graphc.constant(np.arange(4, dtype=np.float32) * (k % 5 - 2)))
    start = place(("n", 4), "start")
    graph = graph_of([start], scan(body([a], [y * 0.5, y]), [start], length=3))
    assert "@graphc.run.0" in compilation(graph, optimize=False).stage("llvm")
    same(graph, {"start": np.ones((5, 4), np.float32)}, rtol=1e-5)


def test_stages_show_bodies() -> None:
    c, x = place(3), place(3)
    start, rows = place(3, "start"), place(("n", 3), "rows")
    graph = graph_of([start, rows], scan(body([c, x], [graphc.exp(c) + x]), [start], [rows]))
    found = compilation(graph)
    assert "body body: 1 regions" in found.stage("regions")
    assert "region scan (control" in found.stage("regions")
    assert "kernel exp_add" in found.stage("loops")
    assert "arena" in found.stage("memory")
    assert "@graphc.step.0" in found.stage("llvm")


def test_results_that_nobody_uses_cost_a_place_only() -> None:
    a = place(4)
    x = place(4, "x")
    results = call(body([a], [a + 1, graphc.exp(a), a * 2]), x)
    graph = graph_of([x], results[1:2])
    low = compilation(graph, optimize=False).lowered
    assert len(low.steps) == 1
    same(graph, {"x": np.ones(4, np.float32)})
