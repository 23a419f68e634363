"""Reductions over every axis form, on small dtypes and empty arrays: NumPy's dtypes and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc
from tests.array_api.against_numpy import FLOATS, SHAPES, Cases, draw

KEEP = ({"keepdims": False}, {"keepdims": True})
DTYPES = ("bool", "int8", "int32", "uint8", "uint64", *FLOATS)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy on empty slices


def axes(ndim: int, several: bool) -> Iterator[Any]:
    yield None
    yield from range(-ndim, ndim)
    if several and ndim >= 2:
        yield from ((0, -1), (), tuple(range(ndim)))


def check(
    name: str, ours: Any, theirs: Any, dtypes: Any, options: Any, ulps: float, several: bool = True
) -> None:
    cases = Cases(ulps=ulps)
    for dtype in dtypes:
        for shape in (*SHAPES, (40, 33)):
            for axis in axes(len(shape), several):
                for more in options:
                    both = {**more, "axis": axis}
                    label = f"{name} {dtype}{shape} {both}"
                    cases.add(
                        label,
                        lambda x, k=both: ours(x, **k),
                        lambda x, k=both: np.asarray(theirs(x, **k)),
                        draw(shape, dtype),
                    )
    cases.check()


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "max", "min", "any", "all"])
def test_reduction(name: str) -> None:
    exact = name in ("max", "min", "any", "all")
    # Products of float16 are taken in float32 here: they do not overflow on the way, as NumPy's do.
    dtypes = [d for d in DTYPES if (name, d) != ("prod", "float16")]
    theirs = getattr(np, name)

    def rounded_once(x: Any, **options: Any) -> Any:
        """NumPy's result in float64, in the dtype that NumPy gives: its float32 sums down a column
        are off by hundreds of units where terms cancel, graphc's are not.
        """
        if exact or x.dtype.kind != "f":
            return theirs(x, **options)
        return theirs(x, dtype="float64", **options).astype(theirs(x, **options).dtype)

    check(name, getattr(graphc, name), rounded_once, dtypes, KEEP, 0 if exact else 200)


@pytest.mark.parametrize("name", ["var", "std"])
def test_spread(name: str) -> None:
    def theirs(x: Any, correction: float = 0, **options: Any) -> Any:
        return getattr(np, name)(x, ddof=correction, **options)

    options = ({"correction": 0}, {"correction": 1, "keepdims": True})
    check(name, getattr(graphc, name), theirs, FLOATS, options, 400)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions(name: str) -> None:
    check(name, getattr(graphc, name), getattr(np, name), DTYPES, KEEP, 0, several=False)


def test_count_nonzero() -> None:
    check("count_nonzero", graphc.count_nonzero, np.count_nonzero, DTYPES, KEEP, 0)


def test_dtype_argument() -> None:
    cases = Cases(ulps=200)
    for dtype in DTYPES:
        for to in ("int8", "int64", "float32", "float64"):
            for name in ("sum", "prod", "cumulative_sum", "cumulative_prod"):
                x = draw((9,), dtype)
                if x.dtype.kind == "f" and to.startswith("int"):
                    continue
                cases.add(
                    f"{name} {dtype} as {to}",
                    lambda x, n=name, t=to: getattr(graphc, n)(x, dtype=t),
                    lambda x, n=name, t=to: getattr(np, n)(x, dtype=t),
                    x,
                )
    cases.check()
