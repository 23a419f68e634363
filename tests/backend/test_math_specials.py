"""Math functions, compiled: C99's special values; bits do not depend on how code is run."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc.backend.math_decompositions import DECOMPOSITIONS
from graphc.base.dtypes import DType, float32, float64
from graphc.base.target import TARGETS, Target
from graphc.compiler import Compilation
from graphc.ir.scalar import BINARY, UNARY
from graphc.ir.scalar_numpy import NumpyScalar, Value
from graphc.runtime.executable import CompileOptions
from tests.backend.math_truth import EXACT, INEXACT, Array, compiled, interpreted
from tests.backend.running import RUNNABLE

INF, NAN = math.inf, math.nan
NEAREST = RUNNABLE[-1]
DTYPES = (float32, float64)

# name -> (arguments, exact values); the sign of zero counts, NaN stands for any NaN.
ODD_FROM_ZERO = ([0.0, -0.0, NAN], [0.0, -0.0, NAN])
SPECIAL: dict[str, tuple[list[float], list[float]]] = {
    "exp": ([0.0, -0.0, INF, -INF, NAN, 1e4, -1e4], [1, 1, INF, 0.0, NAN, INF, 0.0]),
    "exp2": (
        [0.0, 3.0, -1.0, INF, -INF, NAN, -126.0, 1e4],
        [1, 8, 0.5, INF, 0.0, NAN, 2.0**-126, INF],
    ),
    "expm1": ([0.0, -0.0, INF, -INF, NAN, -1e4], [0.0, -0.0, INF, -1, NAN, -1]),
    "log": ([1.0, 0.0, -0.0, INF, -1.0, -INF, NAN], [0.0, -INF, -INF, INF, NAN, NAN, NAN]),
    "log2": (
        [1.0, 8.0, 2.0**-126, 0.0, -0.0, INF, -1.0, NAN],
        [0.0, 3, -126, -INF, -INF, INF, NAN, NAN],
    ),
    "log10": ([1.0, 0.0, -0.0, INF, -1.0, NAN], [0.0, -INF, -INF, INF, NAN, NAN]),
    "log1p": ([0.0, -0.0, -1.0, -2.0, INF, -INF, NAN], [0.0, -0.0, -INF, NAN, INF, NAN, NAN]),
    "sin": ([0.0, -0.0, INF, -INF, NAN], [0.0, -0.0, NAN, NAN, NAN]),
    "cos": ([0.0, -0.0, INF, -INF, NAN], [1, 1, NAN, NAN, NAN]),
    "tan": ([0.0, -0.0, INF, -INF, NAN], [0.0, -0.0, NAN, NAN, NAN]),
    "asin": ([0.0, -0.0, 1.5, -1.5, INF, NAN], [0.0, -0.0, NAN, NAN, NAN, NAN]),
    "acos": ([1.0, 1.5, -1.5, INF, NAN], [0.0, NAN, NAN, NAN, NAN]),
    "atan": ODD_FROM_ZERO,
    "sinh": ([0.0, -0.0, INF, -INF, NAN, 1e4], [0.0, -0.0, INF, -INF, NAN, INF]),
    "cosh": ([0.0, -0.0, INF, -INF, NAN, -1e4], [1, 1, INF, INF, NAN, INF]),
    "tanh": ([0.0, -0.0, INF, -INF, NAN, 1e4], [0.0, -0.0, 1, -1, NAN, 1]),
    "asinh": ([0.0, -0.0, INF, -INF, NAN], [0.0, -0.0, INF, -INF, NAN]),
    "acosh": ([1.0, 0.5, -INF, INF, NAN], [0.0, NAN, NAN, INF, NAN]),
    "atanh": ([0.0, -0.0, 1.0, -1.0, 1.5, -INF, NAN], [0.0, -0.0, INF, -INF, NAN, NAN, NAN]),
    "erf": ([0.0, -0.0, INF, -INF, NAN, 30.0], [0.0, -0.0, 1, -1, NAN, 1]),
    "erfc": ([0.0, -0.0, INF, -INF, NAN, 40.0, -40.0], [1, 1, 0.0, 2, NAN, 0.0, 2]),
    "lgamma": (
        [1.0, 2.0, 0.0, -0.0, -3.0, INF, -INF, NAN],
        [0.0, 0.0, INF, INF, INF, INF, INF, NAN],
    ),
    "digamma": ([0.0, -0.0, -3.0, INF, -INF, NAN], [-INF, INF, NAN, INF, NAN, NAN]),
    "reciprocal_sqrt": ([0.0, -0.0, 4.0, INF, -1.0, NAN], [INF, -INF, 0.5, 0.0, NAN, NAN]),
}  # fmt: skip
# Every pair of these, against NumPy's float64 functions, which follow C99's annex F.
EDGES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 2.0**-149, 2.0**24 + 2, 2.0**53, 1e30, INF, NAN]
PAIRED = {"pow": np.power, "atan2": np.arctan2, "hypot": np.hypot}


def same(a: Array, b: Array) -> Array:
    """Equal values with equal signs of zero, or both NaN."""
    return ((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str, dtype: DType) -> None:
    arguments, expected = (np.array(v, dtype.numpy) for v in SPECIAL[name])
    for target in RUNNABLE:
        got = compiled(name, dtype, target)(arguments)
        wrong = ~same(got, expected)
        assert not wrong.any(), (target.name, arguments[wrong], got[wrong], expected[wrong])


def test_every_function_has_special_values() -> None:
    assert {*SPECIAL, *PAIRED, *EXACT} == set(DECOMPOSITIONS)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PAIRED)
def test_special_pairs(name: str, dtype: DType) -> None:
    edges = np.array(EDGES + [-e for e in EDGES], dtype.numpy)
    x, y = (v.ravel() for v in np.meshgrid(edges, edges))
    with np.errstate(all="ignore"):
        exact = PAIRED[name](x.astype(np.float64), y.astype(np.float64))
        expected = exact.astype(dtype.numpy)
        got = compiled(name, dtype, NEAREST)(x, y)
        # Where the value is no special one an ulp is allowed, but neither its sign nor its kind.
        close = np.abs(got - expected) <= 2 * np.spacing(np.abs(expected))
    ordinary = np.isfinite(expected) & (expected != 0)
    wrong = ~np.where(ordinary, close & (np.sign(got) == np.sign(expected)), same(got, expected))
    assert not wrong.any(), (x[wrong], y[wrong], got[wrong], expected[wrong])


def scattered(dtype: DType, count: int) -> list[Array]:
    """Random patterns and moderate numbers, for two operands."""
    rng = np.random.default_rng(24)
    unsigned = np.uint32 if dtype is float32 else np.uint64
    patterns = rng.integers(0, 2**dtype.bits, (2, count), dtype=unsigned).view(dtype.numpy)
    moderate = (rng.normal(size=(2, count)) * 4).astype(dtype.numpy)
    return list(np.concatenate([patterns, moderate], axis=1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", INEXACT)
def test_vector_and_scalar_code_agree(name: str, dtype: DType) -> None:
    """The tail of a vector loop is scalar code: moving elements there changes no bit."""
    operands = scattered(dtype, 500)[: 2 if name in BINARY else 1]
    function = compiled(name, dtype, NEAREST)
    whole = function(*operands)
    lanes = 64 // dtype.itemsize
    for start in range(0, whole.size, lanes - 1):
        part = function(*(a[start : start + lanes - 1] for a in operands))
        assert same(part, whole[start : start + lanes - 1]).all()


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: str(t.name))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", INEXACT)
def test_compiled_code_is_the_decomposition(name: str, dtype: DType, target: Target) -> None:
    """Compiled bits are those of the decomposition evaluated by `NumpyScalar`, fused or not."""
    operands = scattered(dtype, 1500)[: 2 if name in BINARY else 1]
    got = compiled(name, dtype, target)(*operands)
    wrong = ~same(got, interpreted(name, dtype, target.has_fma)(*operands))
    assert not wrong.any(), [a[wrong] for a in operands]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [n for n in DECOMPOSITIONS if DECOMPOSITIONS[n].is_rare])
def test_rare_and_common_parts_make_the_function(name: str, dtype: DType) -> None:
    entry = DECOMPOSITIONS[name]
    assert entry.is_rare and entry.common and entry.rare
    s = NumpyScalar()
    x = Value(scattered(dtype, 2000)[0], dtype)
    with np.errstate(all="ignore"):
        rare = entry.is_rare(s, x).array
        parts = np.where(rare, entry.rare(s, x).array, entry.common(s, x).array)
        assert same(entry.function(s, x).array, parts).all()
    assert 0.05 < rare.mean() < 0.95


def test_table_names_methods_of_the_language() -> None:
    assert set(DECOMPOSITIONS) <= {*UNARY, *BINARY}


def test_documented_bounds_are_the_declared_ones() -> None:
    text = (Path(__file__).parents[2] / "docs" / "math-accuracy.md").read_text()
    row = r"\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|"
    rows = {m[1]: [float(v) for v in m.groups()[1:]] for m in re.finditer(row, text)}
    assert set(rows) == set(INEXACT)
    for name, (narrow, narrow_seen, wide, wide_seen) in rows.items():
        entry = DECOMPOSITIONS[name]
        assert (narrow, wide) == (entry.ulp32, entry.ulp64), name
        assert narrow_seen <= narrow and wide_seen <= wide, name


def test_long_kernels_call_what_short_ones_have_in_line() -> None:
    """Hundreds of copies of one function would take LLVM a second."""
    x = graphc.placeholder((1000,), name="x")
    deep = x
    for _ in range(120):
        deep = graphc.exp(-deep * 0.5)
    calls = []
    for y in (graphc.exp(x), deep):
        options = CompileOptions(cache_dir="")
        made = Compilation(graphc.Graph([x], y), options, TARGETS["x86-64-v4"])
        calls.append(made.stage("llvm").count("call <16 x float> @graphc.exp."))
    assert calls[0] == 0
    assert calls[1] > 60
