"""Graphs as users write them, exported: what the model says, and that it computes the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array
from tests.onnx_export.running import (
    RUNTIME,
    assert_same,
    model_of,
    onnx,
    operators,
    run_reference,
    run_runtime,
)


def values(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def variable(*shape: int, name: str, seed: int = 0) -> graphc.Tensor:
    return graphc.variable(values(*shape, seed=seed) * np.float32(0.3), name=name)


def assert_same_in_runtime(graph: graphc.Graph, feeds: dict[str, Array]) -> Any:
    """What the reference evaluator cannot run: exported and checked, compared where ONNX Runtime
    is installed. Returns the model.
    """
    model = model_of(graph)
    if RUNTIME:
        found = run_runtime(graph, model, feeds)
        for name, expected in graph.evaluate(feeds).items():
            np.testing.assert_allclose(found[name], expected, 1e-4, 1e-5, err_msg=name)
    return model


def network() -> graphc.Graph:
    """A small convolutional network with names."""
    x = graphc.placeholder(("batch", 3, 16, 16), name="x")
    with graphc.name_scope("encoder"):
        w = variable(8, 3, 3, 3, name="kernel")
        h = graphc.nn.conv(x, w, padding=1, bias=variable(8, name="bias"))
        h = graphc.nn.relu(h).named("hidden")
    h = graphc.nn.max_pool(h, 2)
    h = graphc.nn.max_pool(h, 3, 2, 1)
    h = graphc.nn.avg_pool(h, 3, 1, 1, count_include_pad=False)
    h = graphc.nn.avg_pool(h, 2, 1, padding=1)
    flat = h.reshape(-1, 8 * 5 * 5)
    logits = flat @ variable(10, 200, name="out").T + variable(10, name="offset")
    return graphc.Graph([x], {"probabilities": graphc.nn.softmax(logits)}, name="network")


def test_network_is_made_of_onnx_operators() -> None:
    model = assert_same(network(), {"x": values(2, 3, 16, 16)})
    assert operators(model) == [
        "Conv", "Relu", "MaxPool", "MaxPool", "AveragePool", "AveragePool", "Reshape", "Gemm",
        "Softmax",
    ]  # fmt: skip


def test_names_and_dims_are_kept() -> None:
    model = model_of(network())
    graph = model.graph
    assert graph.name == "network"
    assert [v.name for v in graph.input] == ["x"]
    assert [v.name for v in graph.output] == ["probabilities"]
    assert {"encoder/kernel", "encoder/bias", "out", "offset"} <= {
        t.name for t in graph.initializer
    }
    assert "encoder/hidden" in [name for node in graph.node for name in node.output]
    dims = graph.input[0].type.tensor_type.shape.dim
    assert (dims[0].dim_param, dims[1].dim_value) == ("batch", 3)
    assert graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    places = [node.doc_string for node in graph.node]
    assert places[0].startswith("test_models.py:")


def test_bias_of_a_named_product_stays_apart() -> None:
    x = graphc.placeholder((2, 3), name="x")
    product = (x @ variable(3, 4, name="w")).named("product")
    graph = graphc.Graph([x], {"y": product + variable(4, name="b"), "p": product})
    model = assert_same(graph, {"x": values(2, 3)})
    assert operators(model) == ["MatMul", "Add"]


def test_sizes_are_computed_in_the_model() -> None:
    n, m = graphc.Dim("n"), graphc.Dim("m")
    x = graphc.placeholder((n, m), name="x")
    y = graphc.placeholder((2 * n + 1,), name="y")
    outputs = {
        "flat": x.reshape(-1),
        "both": graphc.reshape(x, (m, n)),
        "rows": graphc.arange(n * m + 3),
        "half": x[: n // 2, ::2],
        "back": x[::-1, 1:],
        "tail": x[-1],
        "mean": graphc.mean(x, axis=0),
        "wide": graphc.broadcast_to(x[:, None], (n, 3, m)),
        "size": graphc.asarray(n * 2 + m),
        "rolled": graphc.roll(x, 1, axis=0),
        "padded": graphc.pad(x, ((n, 0), (0, 1))),
        "triangle": graphc.tril(x),
        "windows": graphc.windows(x, 2, axes=1),
        "sum": graphc.sum(y) + graphc.asarray(n),
        "eye": graphc.eye(n, dtype="float32"),
        "order": graphc.argsort(x, axis=1),
    }
    graph = graphc.Graph([x, y], outputs)
    for rows, columns in ((4, 6), (3, 5), (7, 2)):
        assert_same(graph, {"x": values(rows, columns), "y": values(2 * rows + 1)})


def test_a_dim_of_no_input_is_refused() -> None:
    n, m = graphc.Dim("n"), graphc.Dim("m")
    x = graphc.placeholder((n * m,), name="x")
    graph = graphc.Graph([x], {"y": graphc.ones((n,), dtype="float32") + graphc.sum(x)})
    with pytest.raises(graphc.UnsupportedError, match="no input has the dim 'n' in its shape"):
        model_of(graph)


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (graphc.nn.relu, "Relu"),
        (graphc.nn.gelu, "Gelu"),
        (lambda x: graphc.nn.gelu(x, "tanh"), "Gelu"),
        (lambda x: graphc.nn.leaky_relu(x, 0.2), "LeakyRelu"),
        (lambda x: graphc.nn.elu(x, 0.7), "Elu"),
        (graphc.nn.selu, "Selu"),
        (graphc.nn.hard_swish, "HardSwish"),
        (graphc.nn.mish, "Mish"),
        (graphc.nn.softsign, "Softsign"),
        (graphc.nn.softplus, "Softplus"),
        (graphc.nn.log_softmax, "LogSoftmax"),
    ],
)
def test_activation(function: Any, operator: str) -> None:
    x = graphc.placeholder(("n", 5), name="x")
    graph = graphc.Graph([x], {"y": function(x * 2.0)})
    model = assert_same(graph, {"x": values(4, 5)})
    assert operators(model) == ["Mul", operator]


def test_numbers_of_float64_are_no_attributes_of_float32() -> None:
    x = graphc.placeholder((4,), "float64", name="x")
    outputs = {"selu": graphc.nn.selu(x), "leaky": graphc.nn.leaky_relu(x, 0.1)}
    outputs |= {"half": graphc.nn.leaky_relu(x, 0.5), "norm": graphc.nn.layer_norm(x, x)}
    graph = graphc.Graph([x], outputs)
    feeds = {"x": values(4).astype(np.float64)}
    model = model_of(graph)
    found = run_reference(graph, model, feeds)
    for name, expected in graph.evaluate(feeds).items():
        np.testing.assert_allclose(found[name], expected, 1e-13, 1e-15, err_msg=name)
    assert operators(model).count("LeakyRelu") == 1


def test_activation_of_16_bit_floats_is_computed_in_float32() -> None:
    x = graphc.placeholder((4,), "float16", name="x")
    graph = graphc.Graph([x], {"y": graphc.nn.gelu(x)})
    assert operators(assert_same(graph, {"x": values(4).astype(np.float16)})) == [
        "Cast", "Gelu", "Cast",
    ]  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("settings", [(1, 0, 1, 0), (2, 1, 1, 1), (3, 2, 2, 0), (2, 0, 2, 1)])
def test_transposed_convolution(settings: tuple[int, ...], groups: int) -> None:
    stride, padding, dilation, extra = settings
    x = graphc.placeholder(("n", 4, 6, 5), name="x")
    w, b = variable(4, 3, 3, 3, name="w"), variable(3 * groups, name="b")
    given = (stride, padding, dilation, groups)
    y = graphc.nn.conv_transpose(x, w, *given, output_padding=extra, bias=b)
    graph, feeds = graphc.Graph([x], {"y": y}), {"x": values(2, 4, 6, 5)}
    # The reference evaluator's ConvTranspose has one group.
    check = assert_same if groups == 1 or stride == 1 else assert_same_in_runtime
    assert ("ConvTranspose" if stride > 1 else "Conv") in operators(check(graph, feeds))


def test_top_k_is_one_operator() -> None:
    x = graphc.placeholder(("n", 9), name="x")
    largest, places = graphc.top_k(x, 3)
    smallest, _ = graphc.top_k(x, 2, largest=False)
    graph = graphc.Graph([x], {"largest": largest, "places": places, "smallest": smallest})
    assert sorted(operators(assert_same(graph, {"x": values(4, 9)}))) == ["TopK", "TopK"]


def test_sizes_that_the_graph_computes() -> None:
    x = graphc.placeholder(("n", 4), name="x")
    v = graphc.placeholder(("n",), name="v")
    rows, columns = graphc.nonzero(x > 0)
    chosen = x[v > 0]
    outputs = {"rows": rows, "columns": columns, "chosen": chosen, "sum": graphc.sum(chosen)}
    outputs |= {"again": graphc.concat([chosen, chosen * 2.0], axis=0)[::2]}
    graph = graphc.Graph([x, v], outputs)
    for seed in (0, 1):
        model = assert_same(graph, {"x": values(5, 4, seed=seed), "v": values(5, seed=seed)})
    assert operators(model).count("NonZero") == 2
    assert_same(graph, {"x": -np.abs(values(5, 4)), "v": np.zeros(5, np.float32)})


def test_factorizations_are_refused() -> None:
    x = graphc.placeholder((3, 3), name="x")
    graph = graphc.Graph([x], {"det": graphc.linalg.det(x), "inverse": graphc.linalg.inv(x)})
    with pytest.raises(graphc.UnsupportedError, match="ONNX has no factorizations of matrices"):
        model_of(graph)
    assert_same(graphc.Graph([x], {"det": graphc.linalg.det(x)}), {"x": values(3, 3)})


def test_control_flow() -> None:
    x = graphc.placeholder(("n", 3), name="x")
    w = variable(3, 3, name="w")
    last, rows = graphc.scan(lambda h, row: (h @ w + row, graphc.tanh(h)), x[0], x)
    chosen = graphc.cond(graphc.sum(x) > 0, lambda a: a * 2.0, lambda a: a - 1.0, last)
    grown = graphc.while_loop(lambda v: graphc.sum(v) < 100.0, lambda v: v * 2.0, graphc.exp(last))
    graph = graphc.Graph([x], {"last": last, "rows": rows, "chosen": chosen, "grown": grown})
    for seed in (0, 1):
        model = assert_same(graph, {"x": values(4, 3, seed=seed)})
    assert {"Scan", "If", "Loop"} <= set(operators(model))


def test_products() -> None:
    a = graphc.placeholder(("n", 3, 4), name="a")
    b = graphc.placeholder(("n", 4, 5), name="b")
    c = graphc.placeholder((4, 5), name="c")
    graph = graphc.Graph(
        [a, b, c],
        {
            "batched": a @ b,
            "shared": a @ c,
            "turned": graphc.einsum("nij,kj->nik", a, c.T),
            "vector": c @ c[0],
            "outer": graphc.outer(c[0], c[1]),
            "all": graphc.einsum("nij,njk->", a, b),
            "two": graphc.einsum("nij,njk->ik", a, b),
            "elements": graphc.einsum("ij,ij->ji", c, c),
        },
    )
    model = assert_same(graph, {"a": values(2, 3, 4), "b": values(2, 4, 5), "c": values(4, 5)})
    assert {"MatMul", "Einsum", "Mul"} <= set(operators(model))


def test_attention_and_norms() -> None:
    x = graphc.placeholder(("n", 6, 8), name="x")
    h = graphc.nn.layer_norm(x, variable(8, name="scale"), variable(8, name="bias"))
    h = graphc.nn.scaled_dot_product_attention(h, h, h, causal=True)
    h = graphc.nn.rms_norm(h + x)
    assert_same(graphc.Graph([x], {"y": h}), {"x": values(2, 6, 8)})


def test_normalizations_are_operators() -> None:
    x = graphc.placeholder(("n", 4, 5), name="x")
    scale, bias, mean = (variable(4, name=name, seed=k) for k, name in enumerate("abc"))
    spread = graphc.variable(np.array([1, 2, 0.5, 3], np.float32), name="variance")
    h = graphc.nn.batch_norm(x, scale, bias, mean, spread, epsilon=1e-3)
    h = graphc.nn.layer_norm(h, variable(5, name="scale"), variable(5, name="bias"))
    h = graphc.nn.layer_norm(h, variable(4, 5, name="both"), axis=(1, 2), epsilon=1e-4)
    h = graphc.nn.layer_norm(h * 2.0)  # without a scale: what ONNX needs one for
    model = assert_same(graphc.Graph([x], {"y": h}), {"x": values(2, 4, 5)})
    names = operators(model)
    assert names[:3] == ["BatchNormalization", "LayerNormalization", "LayerNormalization"]
    assert names.count("LayerNormalization") == 2


def test_gradients_are_exported() -> None:
    x = graphc.placeholder((2, 2, 7, 7), name="x")
    w = variable(3, 2, 3, 3, name="w")
    h = graphc.nn.max_pool(graphc.nn.conv(x, w, stride=2, padding=1), 2, 1)
    cost = graphc.mean(graphc.nn.softmax(h.reshape(2, -1)) ** 3)
    gradients = graphc.grad(cost, [x, w])
    graph = graphc.Graph([x], {"cost": cost, "gx": gradients[0], "gw": gradients[1]})
    assert_same(graph, {"x": values(2, 2, 7, 7)})


def test_an_output_may_be_an_input_or_a_variable_and_given_twice() -> None:
    x = graphc.placeholder((2,), name="x")
    w = variable(2, name="w")
    y = x + w
    graph = graphc.Graph(
        [x], {"same": x, "weights": w, "y": y, "again": y, "one": graphc.constant(1.5)}
    )
    assert_same(graph, {"x": values(2)})


def test_an_output_and_a_variable_may_have_one_name() -> None:
    x = graphc.placeholder((2,), name="x")
    w = variable(2, name="y")
    graph = graphc.Graph([x], {"y": x * w})
    model = assert_same(graph, {"x": values(2)})
    assert [t.name for t in model.graph.initializer] == ["y_0"]


def test_current_values_of_a_session_are_exported(tmp_path: Path) -> None:
    x = graphc.placeholder((2,), name="x")
    w = graphc.variable(np.zeros(2, np.float32), name="w")
    with graphc.Session() as session:
        function = session.function([x], {"y": x + w})
        session.assign(w, np.array([3, 4], np.float32))
        function.graph.export_onnx(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    found = run_reference(function.graph, model, {"x": np.ones(2, np.float32)})
    np.testing.assert_array_equal(found["y"], [4, 5])


# -- files, refusals ------------------------------------------------------------------------------


def test_file(tmp_path: Path) -> None:
    network().export_onnx(tmp_path / "a.onnx")
    graphc.onnx.export(network(), tmp_path / "b.onnx", provenance=False)
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert os.listdir(tmp_path) != [] and all("tmp" not in n for n in os.listdir(tmp_path))
    assert all(not n.doc_string for n in onnx.load(tmp_path / "b.onnx").graph.node)
    x = values(2, 3, 16, 16)
    expected = network().evaluate({"x": x})["probabilities"]
    found = run_reference(network(), model, {"x": x})["probabilities"]
    np.testing.assert_allclose(found, expected, 1e-5, 1e-6)


def test_external_data(tmp_path: Path) -> None:
    x = graphc.placeholder((4, 600), name="x")
    graph = graphc.Graph([x], {"y": x @ variable(600, 7, name="w") + variable(7, name="b")})
    graphc.onnx.export(graph, tmp_path / "model.onnx", external_data=True)
    assert sorted(os.listdir(tmp_path)) == ["model.onnx", "model.onnx.data"]
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    feeds = {"x": values(4, 600)}
    found = run_reference(graph, onnx.load(tmp_path / "model.onnx"), feeds)["y"]
    np.testing.assert_allclose(found, graph.evaluate(feeds)["y"], 1e-5, 1e-5)


def test_what_onnx_cannot_say_is_refused_before_a_file_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    x = graphc.placeholder((2,), name="x")
    # A seed of its own: equal nodes are one, and keep the line that made them first.
    noise = graphc.random.uniform(graphc.random.key(860_321), (2,))
    with pytest.raises(graphc.UnsupportedError) as caught:
        graphc.Graph([x], {"y": x + noise}).export_onnx(path)
    text = str(caught.value)
    assert text.startswith("export to ONNX: random_bits: ")
    assert "at test_models.py:" in text and "graphc.random.uniform" in text
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["model.onnx"]


def test_updates_are_refused(tmp_path: Path) -> None:
    x = graphc.placeholder((2,), name="x")
    w = variable(2, name="w")
    graph = graphc.Graph([x], {"y": x + w}, updates={w: w + 1.0})
    with pytest.raises(graphc.UnsupportedError, match="updates variables"):
        graph.export_onnx(tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("opset", [17, 99, 18, 20, 26])
def test_opsets(opset: int, tmp_path: Path) -> None:
    graph = network()
    if opset in (17, 99):
        with pytest.raises(graphc.GraphError, match=r"opset must be from 18 to \d+, got"):
            graph.export_onnx(tmp_path / "model.onnx", opset=opset)
        return
    model = model_of(graph, opset)
    assert model.opset_import[0].version == opset
    x = values(1, 3, 16, 16)
    found = run_reference(graph, model, {"x": x})["probabilities"]
    np.testing.assert_allclose(found, graph.evaluate({"x": x})["probabilities"], 1e-5, 1e-6)


def test_running_reductions_along_other_axes() -> None:
    x = graphc.placeholder(("n", 5), name="x")
    outputs = {}
    for function in (graphc.cumulative_prod, graphc.cumulative_max, graphc.cumulative_min):
        for axis in (0, 1):
            backwards = function(graphc.flip(x, axis=axis), axis=axis)
            outputs[f"{function.__name__}_{axis}"] = graphc.flip(backwards, axis=axis)
            outputs[f"forward_{function.__name__}_{axis}"] = function(x, axis=axis)
    assert_same_in_runtime(graphc.Graph([x], outputs), {"x": values(4, 5)})
