"""The smallest graphs that once came out wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array, dtype_of, round_bfloat16
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ir.opdef import REGISTRY
from tests.conformance.running import RUNNABLE, Compiled


def run(inputs: Sequence[Tensor], y: Tensor, feeds: Mapping[Any, Array]) -> tuple[Array, Array]:
    """(compiled, meaning), the compiled value the same in both modes and on every target."""
    graph = Graph(list(inputs), {"y": y})
    expected = graph.evaluate(feeds)["y"]
    first = Compiled(graph, optimize=False, numerics="exact")(feeds)["y"]
    second = Compiled(graph, optimize=True, numerics="standard")(feeds)["y"]
    np.testing.assert_array_equal(first, second)
    for target in RUNNABLE:
        other = Compiled(graph, optimize=False, numerics="exact", target=target)(feeds)["y"]
        np.testing.assert_array_equal(first, other)
    return first, expected


@pytest.mark.parametrize("columns", [1, 2, 3, 5, 9, 17, 33])
def test_last_lane_of_rows_in_16_bits(columns: int) -> None:
    """A tail of one lane stored 32 bits of a bfloat16: the next row's first element was lost."""
    dtype = dtype_of("bfloat16")
    a = graphc.placeholder((4, 6), dtype)
    b = graphc.placeholder((6, columns), dtype)
    rng = np.random.default_rng(0)
    feeds = {
        x: round_bfloat16(rng.integers(-3, 4, tuple(x.shape)).astype(np.float32)) for x in (a, b)
    }
    got, expected = run([a, b], REGISTRY["einsum"](a, b, spec="ij,jk->ik"), feeds)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("source", "to"), [("int64", "int32"), ("int32", "int8"), ("int64", "int8")]
)
def test_last_lane_of_narrowing_casts(source: str, to: str) -> None:
    """The same, where integers are cut off."""
    x = graphc.placeholder((3, 17), source)
    values = np.arange(51).reshape(3, 17).astype(source) * 7
    y = graphc.permute_dims(graphc.permute_dims(x, (1, 0)).astype(to), (1, 0))
    got, expected = run([x], y, {x: values})
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["int8", "int16", "float16", "bool", "float32"])
def test_zero_fill_of_gathered_lanes(dtype: str) -> None:
    """Lanes without an element showed what the stack held instead of zero."""
    x = graphc.placeholder((5,), dtype)
    y = REGISTRY["embed_diagonal"](x, axes=(0, 1), offset=1, sizes=(5, 6))
    got, expected = run([x], y, {x: np.arange(1, 6).astype(dtype)})
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_many_small_updates_of_16_bits(dtype: str) -> None:
    """A thousand ones scattered into one place: in 16 bits the sum stood still at 256 or 2048."""
    x = graphc.placeholder((2,), dtype)
    updates = graphc.placeholder((3000,), dtype)
    where_to = graphc.placeholder((3000,), "int64")
    y = REGISTRY["scatter"](x, updates, where_to, axes=(0,), position=0, mode="add")
    kind = dtype_of(dtype).numpy
    feeds = {
        x: np.zeros(2, kind),
        updates: np.ones(3000, kind),
        where_to: np.zeros(3000, np.int64),
    }
    got, expected = run([x, updates, where_to], y, feeds)
    np.testing.assert_array_equal(got, expected)
    assert abs(float(got[0]) - 3000.0) <= 8.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_softmax_is_rounded_once(dtype: str) -> None:
    """Every step was rounded to 16 bits."""
    kind = dtype_of(dtype)
    x = graphc.placeholder((3, 200), dtype)
    values = np.random.default_rng(1).uniform(-4, 4, (3, 200)).astype(np.float32)
    values = round_bfloat16(values) if dtype == "bfloat16" else values.astype(np.float16)
    graph = Graph([x], {"y": graphc.nn.log_softmax(x)})
    got = Compiled(graph, optimize=True, numerics="standard")({x: values})["y"]
    wide = values.astype(np.float64)
    truth = wide - np.log(np.sum(np.exp(wide), axis=1, keepdims=True))
    step = 2.0**-10 if kind.name == "float16" else 2.0**-7
    assert np.max(np.abs(got - truth) / np.abs(truth)) <= 0.51 * step


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 7])
def test_gradient_of_a_step_over_a_symbolic_axis(size: int) -> None:
    """The gradient of x[::3] had two elements where x had none."""
    x = graphc.placeholder(("n",), "float64")
    (g,) = graphc.grad(graphc.sum(x[::3] * 2.0), [x])
    got, expected = run([x], g, {x: np.ones(size)})
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(got, np.where(np.arange(size) % 3 == 0, 2.0, 0.0))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_nextafter_of_zeros(dtype: str) -> None:
    """Equal operands give the second one, as in C: NumPy's float16 gives the first."""
    x, y = graphc.placeholder((2,), dtype), graphc.placeholder((2,), dtype)
    kind = dtype_of(dtype).numpy
    feeds = {x: np.array([0.0, -0.0], kind), y: np.array([-0.0, 0.0], kind)}
    got, expected = run([x, y], graphc.nextafter(x, y), feeds)
    np.testing.assert_array_equal(np.signbit(got), [True, False])
    np.testing.assert_array_equal(np.signbit(expected), [True, False])
