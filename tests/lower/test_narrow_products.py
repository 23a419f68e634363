"""Products of narrow integers over words: the values that NumPy has, on every target, and the form
that each target has instructions for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array
from graphc.base.target import TARGETS, Target
from graphc.compiler import Compilation
from graphc.ops.contraction import EINSUM
from graphc.runtime.executable import CompileOptions
from tests.conformance.running import HOST, RUNNABLE, Compiled

Tensor = graphc.Tensor
V4 = TARGETS["x86-64-v4"]
WITH_V4 = [*RUNNABLE, *([V4] if V4 not in RUNNABLE and HOST.has_dot_bytes else [])]
VNNI = TARGETS["x86-64-v4-vnni"]


def _wide(x: Tensor, zero: Tensor | int = 0) -> Tensor:
    """x less a zero point, in int32."""
    found = graphc.astype(x, "int32")
    return found - zero if isinstance(zero, Tensor) or zero else found


def _numbers(shape: tuple[int, ...], dtype: str, seed: int) -> Array:
    """Numbers of the whole range, the extremes often, so that saturating sums would show."""
    limits, rng = np.iinfo(dtype), np.random.default_rng(seed)
    found = rng.integers(limits.min, limits.max + 1, shape)
    extreme = rng.random(shape)
    found = np.where(extreme < 0.4, limits.max, np.where(extreme > 0.7, limits.min, found))
    return np.asarray(found.astype(dtype))


def _agrees(inputs: dict[Tensor, Array], result: Tensor, want: Array, target: Target) -> str:
    """The result holds on a target; its regions as text."""
    graph = graphc.Graph(list(inputs), {"y": result})
    compiled = Compiled(graph, optimize=True, numerics="standard", target=target)
    for threads in (1, 2):
        np.testing.assert_array_equal(compiled(inputs, threads)["y"], want)
    return compiled.compilation.stage("regions")


@pytest.mark.parametrize("target", WITH_V4, ids=lambda t: t.name)
@pytest.mark.parametrize(
    ("left", "right"), [("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8"), ("int8", "uint8")]
)
@pytest.mark.parametrize("constant", [False, True])
def test_matrices(target: Target, left: str, right: str, constant: bool) -> None:
    a, b = _numbers((19, 70), left, 0), _numbers((70, 33), right, 1)
    x, w = graphc.placeholder(a.shape, left, name="x"), graphc.placeholder(b.shape, right, name="w")
    y = _wide(x, 3) @ _wide(graphc.constant(b) if constant else w, -5)
    want = (a.astype(np.int32) - 3) @ (b.astype(np.int32) + 5)
    regions = _agrees({x: a} if constant else {x: a, w: b}, y, want, target)
    assert ("einsum_bytes" if target.has_dot_bytes else "einsum_pairs") in regions


@pytest.mark.parametrize("target", WITH_V4, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
def test_products_that_wrap(target: Target, dtype: str) -> None:
    a, b = _numbers((9, 51), dtype, 2), _numbers((51, 40), dtype, 3)
    x, w = (graphc.placeholder(v.shape, dtype, name=n) for v, n in ((a, "x"), (b, "w")))
    with np.errstate(over="ignore"):
        want = (a.astype(np.int64) @ b.astype(np.int64)).astype(dtype)
    assert " = einsum_" in _agrees({x: a, w: b}, x @ w, want, target)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_constants_at_the_end_of_int32(dtype: str) -> None:
    """Bytes apart from a number that is taken out, which itself is no int32."""
    a, near = _numbers((16, 64), dtype, 15), _numbers((64, 32), "uint8", 16)
    b = (np.iinfo(np.int32).max - near.astype(np.int64)).astype(np.int32)
    x = graphc.placeholder(a.shape, dtype)
    want = (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
    regions = _agrees({x: a}, _wide(x) @ graphc.constant(b), want, HOST)
    assert not HOST.has_dot_bytes or "einsum_bytes" in regions


def test_sums_that_wrap_have_no_limits() -> None:
    """min(x + 2**31 - 1, 5) may be any number below 5, as the sum wraps."""
    a, b = _numbers((16, 64), "int8", 17), _numbers((64, 32), "int8", 18)
    x, w = graphc.placeholder(a.shape, "int8"), graphc.placeholder(b.shape, "int8")
    most = np.int32(2**31 - 1)
    cut = np.minimum(a.astype(np.int32) + most, np.int32(5))
    want = (cut.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
    y = graphc.minimum(_wide(x) + graphc.constant(most), np.int32(5)) @ _wide(w)
    assert "einsum_pairs" not in _agrees({x: a, w: b}, y, want, HOST)


def _convolved(a: Array, b: Array) -> Array:
    """A 3x3 convolution padded by 1 of int32 arrays."""
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(a, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3)
    )
    return np.asarray(np.einsum("nchwij,ocij->nohw", windows, b))


@pytest.mark.parametrize("target", [WITH_V4[0], HOST], ids=lambda t: t.name)
@pytest.mark.parametrize("channels", [3, 16, 18])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("known", [True, False])
def test_convolutions(target: Target, channels: int, dtype: str, known: bool) -> None:
    """Zero points that are known go into the padding; others leave 16 bits."""
    a, b = _numbers((2, channels, 7, 9), dtype, 4), _numbers((32, channels, 3, 3), "int8", 5)
    x, z = graphc.placeholder(a.shape, dtype, name="x"), graphc.placeholder((), "int8", name="z")
    zero: Tensor | int = 7 if known else _wide(z)
    y = graphc.nn.conv(_wide(x, zero), _wide(graphc.constant(b)), padding=1)
    feeds = {x: a} if known else {x: a, z: np.int8(7)}
    want = _convolved(a.astype(np.int32) - 7, b.astype(np.int32))
    regions = _agrees(feeds, y, want, target)
    assert ("einsum_bytes" if known and target.has_dot_bytes else "einsum_pairs") in regions


def test_large_products_have_tiles_and_direct_loops() -> None:
    """What templates take, held against products that are plain."""
    for shapes, spec in (
        (((260, 1028), (1028, 512)), "ab,bc->ac"),
        (((3, 40, 130), (3, 130, 96)), "abc,acd->abd"),
    ):
        a, b = _numbers(shapes[0], "uint8", 6), _numbers(shapes[1], "int8", 7)
        x, w = graphc.placeholder(a.shape, "uint8"), graphc.placeholder(b.shape, "int8")
        want = np.einsum(spec, a.astype(np.int32), b.astype(np.int32), optimize=False)
        _agrees({x: a, w: b}, graphc.einsum(spec, _wide(x), _wide(w)), want, HOST)
    a, b = _numbers((1, 64, 28, 28), "uint8", 8), _numbers((64, 64, 3, 3), "int8", 9)
    x = graphc.placeholder(a.shape, "uint8")
    y = graphc.nn.conv(_wide(x, 100), _wide(graphc.constant(b)), padding=1)
    _agrees({x: a}, y, _convolved(a.astype(np.int32) - 100, b.astype(np.int32)), HOST)


def test_zero_points_that_are_not_known() -> None:
    a, b = _numbers((30, 41), "uint8", 10), _numbers((41, 48), "uint8", 11)
    x, w = graphc.placeholder(a.shape, "uint8"), graphc.placeholder(b.shape, "uint8")
    p, q = graphc.placeholder((), "uint8"), graphc.placeholder((1, 1), "uint8")
    feeds = {x: a, w: b, p: np.uint8(200), q: np.full((1, 1), 9, np.uint8)}
    want = (a.astype(np.int32) - 200) @ (b.astype(np.int32) - 9)
    regions = _agrees(feeds, _wide(x, _wide(p)) @ _wide(w, _wide(q)), want, HOST)
    assert not HOST.has_dot_bytes or "einsum_bytes" in regions
    rows = graphc.placeholder((30, 1), "uint8")
    column = _numbers((30, 1), "uint8", 12)
    want = (a.astype(np.int32) - column) @ (b.astype(np.int32) - 9)
    regions = _agrees({x: a, w: b, rows: column, q: feeds[q]},
                      _wide(x, _wide(rows)) @ _wide(w, _wide(q)), want, HOST)  # fmt: skip
    assert not HOST.has_dot_pairs or "einsum_pairs" in regions


def test_symbolic_rows() -> None:
    x = graphc.placeholder(("n", 64), "int8")
    b = _numbers((64, 80), "int8", 13)
    with graphc.Session() as session:
        product = session.function([x], _wide(x, 2) @ _wide(graphc.constant(b)))
        for rows in (0, 1, 5, 33):
            a = _numbers((rows, 64), "int8", rows)
            want = (a.astype(np.int32) - 2) @ b.astype(np.int32)
            np.testing.assert_array_equal(product(a), want)


Made = Callable[[Tensor, Tensor], Tensor]


def _summed_alone(x: Tensor, w: Tensor) -> Tensor:
    return EINSUM(_wide(x), _wide(w), spec="ab,bdc->ac")


@pytest.mark.parametrize(
    ("name", "make", "shapes"),
    [
        ("wide values", lambda x, w: (_wide(x) * 1000) @ _wide(w), ((32, 64), (64, 32))),
        ("few multiply-adds", lambda x, w: _wide(x) @ _wide(w), ((4, 8), (8, 16))),
        ("a dot product", lambda x, w: _wide(x) @ _wide(w), ((9000,), (9000,))),
        ("a letter of one operand", _summed_alone, ((16, 64), (64, 8, 32))),
    ],
)
def test_what_stays_plain(
    name: str, make: Made, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    x, w = (graphc.placeholder(shape, "int8") for shape in shapes)
    graph = graphc.Graph([x, w], {"y": make(x, w)})
    regions = Compilation(graph, CompileOptions(), VNNI).stage("regions")
    assert "einsum" in regions, name
    assert "einsum_bytes" not in regions, name
    assert "einsum_pairs" not in regions, name


def test_targets_without_instructions_stay_plain() -> None:
    x, w = graphc.placeholder((64, 64), "int8"), graphc.placeholder((64, 64), "int8")
    graph = graphc.Graph([x, w], {"y": _wide(x) @ _wide(w)})
    regions = Compilation(graph, CompileOptions(), TARGETS["aarch64-linux"]).stage("regions")
    assert "pack_words" not in regions
    assembly = Compilation(graph, CompileOptions(), VNNI).stage("assembly")
    assert "vpdpbusd" in assembly
    turned = graphc.Graph([x, w], {"y": _wide(x, 5) @ _wide(w).T})
    assembly = Compilation(turned, CompileOptions(), V4).stage("assembly")
    assert "vpmaddwd" in assembly
    assert "vpdp" not in assembly


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("rows", "form"), [(1, "16"), (5, "16"), (40, "32")])
def test_16_bit_floats_add_up_in_float32(dtype: str, rows: int, form: str) -> None:
    """The same bits as a product of float32, rounded: by tiles of few rows, and widened before."""
    rng = np.random.default_rng(14)
    x, w = graphc.placeholder((rows, 300), dtype), graphc.placeholder((300, 200), dtype)
    wide = graphc.astype(graphc.astype(x, "float32") @ graphc.astype(w, "float32"), dtype)
    graph = graphc.Graph([x, w], {"y": graphc.nn.relu(x @ w), "wide": graphc.nn.relu(wide)})
    compiled = Compiled(graph, optimize=True, numerics="standard")
    feeds = {
        v: graphc.Graph([], {"v": graphc.constant(rng.standard_normal(v.shape), dtype)}).evaluate(
            {}
        )["v"]
        for v in (x, w)
    }
    found = compiled(feeds, 2)
    np.testing.assert_array_equal(found["y"], found["wide"])
    own = graphc.Graph([x, w], {"y": x @ w})
    text = Compilation(own, CompileOptions(), HOST).stage("regions")
    short = "f32" if form == "32" else {"float16": "f16", "bfloat16": "bf16"}[dtype]
    assert f"einsum : {short}[" in text
