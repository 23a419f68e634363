"""What the importer keeps and decides: names, symbolic sizes, shape arithmetic, control flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import graphc
from tests.onnx.models import (
    data_of,
    function,
    graph,
    model,
    node,
    one_node,
    onnx,
    small,
    tensor_input,
)

F32 = np.float32
I64 = np.int64


def loaded(tmp_path: Path, proto: Any, *args: Any, **kwargs: Any) -> graphc.Graph:
    onnx.checker.check_model(proto)
    path = tmp_path / "model.onnx"
    path.write_bytes(data_of(proto))
    return graphc.onnx.load(path, *args, **kwargs)


def run(found: graphc.Graph, **feeds: Any) -> list[Any]:
    """The outputs, compiled; the reference meaning agrees."""
    expected = found.evaluate(feeds)
    inputs = [tensor for _, tensor in found.inputs]
    with graphc.Session() as session:
        outputs = session.function(inputs, dict(found.outputs))(**feeds)
    for name, value in outputs.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
    return [outputs[name] for name, _ in found.outputs]


def typed(outputs: list[str], ranks: list[int], element: int = 1) -> list[Any]:
    return [tensor_input(n, [None] * r, element) for n, r in zip(outputs, ranks)]


def test_names_and_sizes(tmp_path: Path) -> None:
    found = loaded(tmp_path, small())
    assert found.name == "model"
    assert [(n, str(t.type)) for n, t in found.inputs] == [("x", "f32[batch, 3]")]
    assert [(n, str(t.type)) for n, t in found.outputs] == [("y", "f32[batch, 2]")]
    assert found["h"].shape[1] == found["a"].shape[1] == 2
    assert found["w"].op.name == "constant"
    assert graphc.parse(str(found)) == found
    for rows in (1, 4):
        x = np.linspace(-1, 1, 3 * rows, dtype=F32).reshape(rows, 3)
        weights = np.arange(6, dtype=F32).reshape(3, 2) / 8
        (y,) = run(found, x=x)
        np.testing.assert_allclose(y, np.maximum(x @ weights + [-1, 0.5], 0), rtol=1e-6)


def test_illegal_names_are_made_legal(tmp_path: Path) -> None:
    nodes = [node("Relu", ["the input"], ["a b"]), node("Neg", ["a b"], ["a\tb"])]
    inputs = [tensor_input("the input", ["batch size", "2*n"])]
    found = loaded(tmp_path, model(nodes, inputs, typed(["a b", "a\tb"], [2, 2])))
    assert [n for n, _ in found.inputs] == ["the_input"]
    assert [n for n, _ in found.outputs] == ["a_b", "a_b_1"]
    assert str(found.inputs[0][1].type) == "f32[batch_size, n_2_n]"
    assert graphc.parse(str(found)) == found


def test_sizes_are_fixed(tmp_path: Path) -> None:
    found = loaded(tmp_path, small(), sizes={"batch": 7})
    assert found.outputs[0][1].shape == (7, 2)
    with pytest.raises(graphc.GraphError, match="no symbolic dim 'rows'"):
        loaded(tmp_path, small(), sizes={"rows": 7})
    with pytest.raises(graphc.GraphError, match="no input 'z'"):
        loaded(tmp_path, small(), {"z": 7})


def flattened_by_shape() -> Any:
    """What exporters write for x.view(x.size(0), -1) * x.size(1)."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["flat"]),
        node("Slice", ["s", "one", "two"], ["m1"]),
        node("Squeeze", ["m1", "axes"], ["m"]),
        node("Cast", ["m"], ["mf"], to=1),
        node("Mul", ["flat", "mf"], ["y"]),
    ]
    values = {
        "zero": I64(0),
        "axes": np.array([0]),
        "rest": np.array([-1]),
        "one": np.array([1]),
        "two": np.array([2]),
    }
    return model(nodes, [tensor_input("x", ["n", "m", 2])], typed(["y"], [2]), values)


def test_shape_arithmetic_stays_symbolic(tmp_path: Path) -> None:
    found = loaded(tmp_path, flattened_by_shape())
    assert str(found.outputs[0][1].type) == "f32[n, 2*m]"
    x = np.random.default_rng(0).standard_normal((3, 5, 2)).astype(F32)
    np.testing.assert_allclose(run(found, x=x)[0], x.reshape(3, 10) * 5, rtol=1e-6)


def test_size_arithmetic_decides_branches(tmp_path: Path) -> None:
    """A branch on a shape is chosen when compiling; the other one need not even fit."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["m"], axis=0),
        node("Equal", ["m", "one"], ["c"]),
        node(
            "If",
            ["c"],
            ["y"],
            then_branch=graph([node("Squeeze", ["x", "axis"], ["a"])], [], ["a"], "yes"),
            else_branch=graph([node("Relu", ["x"], ["b"])], [], ["b"], "no"),
        ),
    ]
    proto = model(
        nodes,
        [tensor_input("x", ["n", 3])],
        typed(["y"], [2]),
        {"one": I64(1), "axis": np.array([1])},
    )
    found = loaded(tmp_path, proto)
    np.testing.assert_array_equal(run(found, x=-np.ones((2, 3), F32))[0], np.zeros((2, 3)))


def test_a_branch_on_data(tmp_path: Path) -> None:
    nodes = [
        node("ReduceSum", ["x"], ["t"], keepdims=0),
        node("Greater", ["t", "zero"], ["c"]),
        node(
            "If",
            ["c"],
            ["y"],
            then_branch=graph([node("Sqrt", ["x"], ["a"])], [], ["a"], "yes"),
            else_branch=graph([node("Neg", ["x"], ["b"])], [], ["b"], "no"),
        ),
    ]
    proto = model(nodes, [tensor_input("x", ["n"])], typed(["y"], [1]), {"zero": F32(0)})
    found = loaded(tmp_path, proto)
    np.testing.assert_allclose(run(found, x=np.array([4, 9], F32))[0], [2, 3])
    np.testing.assert_allclose(run(found, x=np.array([-4, 1], F32))[0], [4, -1])


def counted_loop(condition: bool, constant: bool) -> Any:
    """v doubles; the row before each turn is an output; ends at 100 where there is a condition."""
    last = [node("Less", ["w", "hundred"], ["again"])] if condition else []
    last = last or [node("Identity", ["going"], ["again"])]
    body = graph(
        [node("Add", ["v", "v"], ["w"]), *last, node("Identity", ["v"], ["row"])],
        ["k", "going", "v"],
        ["again", "w", "row"],
        "body",
    )
    nodes = [node("Loop", ["m", "", "x"], ["y", "rows"], body=body)]
    inputs = [tensor_input("x", []), *([] if constant else [tensor_input("m", [], 7)])]
    values = {"hundred": F32(100)} | ({"m": I64(20)} if constant else {})
    return model(nodes, inputs, typed(["y", "rows"], [0, 1]), values)


@pytest.mark.parametrize("condition", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_loops(tmp_path: Path, condition: bool, constant: bool) -> None:
    found = loaded(tmp_path, counted_loop(condition, constant))
    for turns in (20,) if constant else (0, 1, 5, 20):
        feeds = {"x": F32(3)} | ({} if constant else {"m": I64(turns)})
        y, rows = run(found, **feeds)
        expected, value = [], 3.0
        while len(expected) < turns and not (condition and expected and value >= 100):
            expected.append(value)
            value *= 2
        assert y == value
        np.testing.assert_array_equal(rows, expected)


def test_a_loop_that_grows_is_unrolled(tmp_path: Path) -> None:
    body = graph(
        [
            node("Concat", ["v", "v"], ["w"], axis=0),
            node("Identity", ["going"], ["again"]),
        ],
        ["k", "going", "v"],
        ["again", "w"],
        "body",
    )
    nodes = [node("Loop", ["m", "", "x"], ["y"], body=body)]
    inputs = [tensor_input("x", [2]), tensor_input("m", [], 7)]
    proto = model(nodes, inputs, typed(["y"], [1]))
    with pytest.raises(graphc.UnsupportedError, match="the inputs 'm'"):
        loaded(tmp_path, proto)
    found = loaded(tmp_path, proto, {"m": 3})
    assert found.outputs[0][1].shape == (16,)
    assert [n for n, _ in found.inputs] == ["x"]


def test_a_scan_of_symbolic_length(tmp_path: Path) -> None:
    body = graph(
        [node("Add", ["s", "v"], ["t"]), node("Mul", ["t", "v"], ["row"])],
        ["s", "v"],
        ["t", "row"],
        "body",
    )
    scan = node(
        "Scan",
        ["start", "x"],
        ["y", "rows"],
        body=body,
        num_scan_inputs=1,
        scan_input_directions=[1],
        scan_input_axes=[1],
    )
    inputs = [tensor_input("start", [2]), tensor_input("x", [2, "n"])]
    found = loaded(tmp_path, model([scan], inputs, typed(["y", "rows"], [1, 2])))
    x = np.random.default_rng(0).standard_normal((2, 6)).astype(F32)
    y, rows = run(found, start=np.ones(2, F32), x=x)
    totals = 1 + np.cumsum(x[:, ::-1], axis=1)
    np.testing.assert_allclose(y, totals[:, -1], rtol=1e-5)
    np.testing.assert_allclose(rows, (totals * x[:, ::-1]).T, rtol=1e-5)


def test_sizes_from_data(tmp_path: Path) -> None:
    """nonzero, gather, a range and a reshape whose sizes only the data tell."""
    nodes = [
        node("Greater", ["x", "zero"], ["mask"]),
        node("NonZero", ["mask"], ["places"]),
        node("Transpose", ["places"], ["rows"], perm=[1, 0]),
        node("GatherND", ["x", "rows"], ["kept"]),
        node("Shape", ["kept"], ["count"]),
        node("Squeeze", ["count"], ["n"]),
        node("Range", ["start", "n", "step"], ["numbers"]),
        node("Reshape", ["kept", "column"], ["y"]),
    ]
    values = {"zero": F32(0), "start": I64(0), "step": I64(1), "column": np.array([-1, 1])}
    outputs = [*typed(["y"], [2]), *typed(["numbers"], [1], 7)]
    found = loaded(tmp_path, model(nodes, [tensor_input("x", ["n"])], outputs, values))
    for data in ([1, -2, 3], [-1], [5, 6, 7, 8]):
        x = np.array(data, F32)
        y, numbers = run(found, x=x)
        np.testing.assert_array_equal(y, x[x > 0][:, None])
        np.testing.assert_array_equal(numbers, np.arange((x > 0).sum()))


@pytest.mark.parametrize(
    ("wanted", "expected"), [([3, 4], (3, 4)), ([0, -1], (2, 6)), ([-1, 2], (6, 2))]
)
def test_a_shape_that_is_an_input(tmp_path: Path, wanted: list[int], expected: Any) -> None:
    nodes = [node("Reshape", ["x", "s"], ["y"])]
    inputs = [tensor_input("x", [2, "n"]), tensor_input("s", [2], 7)]
    found = loaded(tmp_path, model(nodes, inputs, typed(["y"], [2])))
    x = np.arange(12, dtype=F32).reshape(2, 6)
    np.testing.assert_array_equal(run(found, x=x, s=np.array(wanted))[0], x.reshape(expected))
    with pytest.raises(graphc.ExecutionError), graphc.Session() as session:
        inputs_ = [tensor for _, tensor in found.inputs]
        session.function(inputs_, dict(found.outputs))(x=x, s=np.array([5, 5]))


def test_a_slice_that_is_an_input(tmp_path: Path) -> None:
    nodes = [node("Slice", ["x", "a", "b"], ["y"])]
    inputs = [tensor_input("x", ["n"]), tensor_input("a", [1], 7), tensor_input("b", [1], 7)]
    found = loaded(tmp_path, model(nodes, inputs, typed(["y"], [1])))
    x = np.arange(9, dtype=F32)
    for a, b in ((0, 4), (2, 100), (-3, -1), (5, 2), (-100, 3), (9, 9)):
        (y,) = run(found, x=x, a=np.array([a]), b=np.array([b]))
        np.testing.assert_array_equal(y, x[a:b])


def test_axes_that_are_an_input(tmp_path: Path) -> None:
    nodes = [node("ReduceSum", ["x", "axes"], ["y"])]
    inputs = [tensor_input("x", [2, 3]), tensor_input("axes", [1], 7)]
    proto = model(nodes, inputs, typed(["y"], [2]))
    with pytest.raises(graphc.UnsupportedError) as error:
        loaded(tmp_path, proto)
    assert "the axes must be known when compiling" in str(error.value)
    assert "constants={'axes': ...}" in str(error.value)
    found = loaded(tmp_path, proto, {"axes": [1]})
    np.testing.assert_array_equal(run(found, x=np.ones((2, 3), F32))[0], [[3], [3]])


def test_functions_of_the_model(tmp_path: Path) -> None:
    scaled = helper.make_node("Elu", ["h"], ["y"])
    scaled.attribute.add(name="alpha", ref_attr_name="alpha", type=1)
    body = function(
        "layer", ["x", "w"], ["y"], [helper.make_node("MatMul", ["x", "w"], ["h"]), scaled]
    )
    body.attribute.append("alpha")
    calls = [
        helper.make_node("layer", ["x", "w"], ["a"], domain="own", alpha=0.5),
        helper.make_node("layer", ["a", "w"], ["y"], domain="own", alpha=2.0),
    ]
    proto = model(
        calls,
        [tensor_input("x", ["n", 2])],
        typed(["y"], [2]),
        {"w": np.array([[1, -1], [0.5, 2]], F32)},
        functions=[body],
        opsets={"": 21, "own": 1},
    )
    found = loaded(tmp_path, proto)
    x = np.array([[1, -2], [0.5, 0.25]], F32)
    w = np.array([[1, -1], [0.5, 2]])
    expected = x
    for alpha in (0.5, 2.0):
        h = expected @ w
        expected = np.where(h > 0, h, alpha * (np.exp(np.minimum(h, 0)) - 1))
    np.testing.assert_allclose(run(found, x=x)[0], expected, rtol=1e-5)


def test_broadcasts_that_sizes_decide(tmp_path: Path) -> None:
    """Two names for one size: numbers settle it, and the error says which to give."""
    nodes = [node("Add", ["a", "b"], ["y"])]
    proto = model(nodes, [tensor_input("a", ["n"]), tensor_input("b", ["m"])], typed(["y"], [1]))
    with pytest.raises(graphc.UnsupportedError, match=r"sizes m, n|sizes n, m"):
        loaded(tmp_path, proto)
    assert loaded(tmp_path, proto, sizes={"n": 3, "m": 3}).outputs[0][1].shape == (3,)
    assert loaded(tmp_path, proto, sizes={"n": 1, "m": 3}).outputs[0][1].shape == (3,)


def test_random_numbers_have_seeds(tmp_path: Path) -> None:
    nodes = [
        node("RandomNormal", [], ["a"], shape=[1000], seed=3.0),
        node("RandomNormal", [], ["b"], shape=[1000], seed=3.0, mean=5.0),
        node("RandomUniform", [], ["c"], shape=[1000]),
        node("RandomUniform", [], ["d"], shape=[1000]),
    ]
    found = loaded(tmp_path, model(nodes, [], typed(["a", "b", "c", "d"], [1] * 4)))
    a, b, c, d = run(found)
    np.testing.assert_allclose(a + 5, b, rtol=1e-5)
    assert abs(a.mean()) < 0.2
    assert not np.array_equal(c, d)
    assert 0 <= c.min() and c.max() < 1


@pytest.mark.parametrize("version", [7, 9, 11, 13, 17, 21, 24])
def test_opsets(tmp_path: Path, version: int) -> None:
    proto = one_node("Add", {"x": (2, "n"), "z": (2, "n")}, version=version)
    proto.graph.output[0].CopyFrom(tensor_input("y0", [2, "n"]))
    (y,) = run(loaded(tmp_path, proto), x=np.ones((2, 3), F32), z=np.ones((2, 3), F32))
    np.testing.assert_array_equal(y, np.full((2, 3), 2))


def test_a_newer_opset_is_refused(tmp_path: Path) -> None:
    proto = one_node("Add", {"x": (2,), "z": (2,)}, version=10_000)
    (tmp_path / "model.onnx").write_bytes(data_of(proto))
    with pytest.raises(graphc.UnsupportedError, match="it needs opset 10000"):
        graphc.onnx.load(tmp_path / "model.onnx")


def test_strings_are_refused_by_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("StringConcat", ["a", "a"], ["y"], name="join")]
    proto = model(nodes, [tensor_input("a", [1], 8)], [tensor_input("y", [1], 8)])
    with pytest.raises(graphc.UnsupportedError, match=r"node 'join' \(StringConcat\).*string"):
        loaded(tmp_path, proto)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(graphc.FormatError, match=r"cannot read .nowhere\.onnx."):
        graphc.onnx.load("nowhere.onnx")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphc.onnx.importlib.util.find_spec", lambda name: None)
    with pytest.raises(graphc.UnsupportedError, match=r"pip install graphc\[onnx\]"):
        graphc.onnx.load("model.onnx")
