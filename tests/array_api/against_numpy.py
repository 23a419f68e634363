"""Functions of graphc held against NumPy's on arrays: same dtype, shape, values and refusals.

Many cases are compiled as one graph, which is what makes thousands of them affordable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import graphc

Array = Any
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
DTYPES = ("bool", *INTEGERS, *FLOATS)
SHAPES = ((), (0,), (1,), (5,), (3, 4), (0, 3), (2, 3, 4), (1, 3, 1))


def specials(dtype: str) -> Array:
    """The values at which functions go wrong."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.array([False, True])
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        edges = [limits.max, limits.max - 1, limits.max // 2, limits.min, limits.min + 1]
        values = [0, 1, 2, 3, 5, 7, 63, 100, -1, -2, -3, -7, -100, *edges]
        return np.array([v for v in values if limits.min <= v <= limits.max], kind)
    info = np.finfo(kind)
    numbers: list[float] = [0, 1, 0.5, 1.5, 2.5, 2, 3, np.pi, np.pi / 2, 1e-3, 100, 1e4, np.inf]
    info_edges = [info.max, info.tiny, info.smallest_subnormal, 1 - info.epsneg, 1 + info.eps]
    both = np.array([*numbers, *info_edges], kind)
    return np.concatenate([both, -both, np.array([np.nan], kind)])


def draw(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Array:
    """Random values of a dtype."""
    rng = np.random.default_rng([seed, *shape])
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if kind.kind in "iu":
        return np.asarray(rng.integers(max(-20, np.iinfo(kind).min), 20, shape).astype(kind))
    return np.asarray(rng.normal(0, 2, shape)).astype(kind)


def differs(found: Array, expected: Array, ulps: float, zero_signs: bool = True) -> str:
    """What is wrong with `found`, or nothing: units in the last place for floats, else equality."""
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return f"{found.dtype}{found.shape} instead of {expected.dtype}{expected.shape}"
    bad = found != expected
    if expected.dtype.kind == "f":
        with np.errstate(all="ignore"):
            wide, true = found.astype(np.float64), expected.astype(np.float64)
            unit = np.spacing(np.maximum(np.abs(found), np.abs(expected))).astype(np.float64)
            near = (np.abs(wide - true) <= ulps * unit) & np.isfinite(unit)
            bad = bad & ~near & ~(np.isnan(found) & np.isnan(expected))
            if zero_signs:
                numbers = ~np.isnan(found) & ~np.isnan(expected)
                bad = bad | (numbers & (np.signbit(found) != np.signbit(expected)))
    if not np.any(bad):
        return ""
    where = np.argwhere(np.atleast_1d(bad))[0]
    at = tuple(where)
    return f"at {at}: {np.atleast_1d(found)[at]!r} instead of {np.atleast_1d(expected)[at]!r}"


@dataclass
class Cases:
    """Cases collected by `add`, compiled and compared together by `check`."""

    ulps: float = 0.0
    zero_signs: bool = True
    labels: list[str] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    expected: list[Array] = field(default_factory=list)
    feeds: dict[Any, Array] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(
        self,
        label: str,
        ours: Callable[..., Any],
        theirs: Callable[..., Any],
        *arrays: Array,
    ) -> None:
        """One case: both raise, or both give the same."""
        inputs = [graphc.placeholder(a.shape, a.dtype) for a in arrays]
        found: Any = None
        problem: Exception | None = None
        try:
            found = ours(*inputs)
        except graphc.GraphcError as error:
            problem = error
        with np.errstate(all="ignore"):
            try:
                expected = theirs(*arrays)
            except (ValueError, TypeError, IndexError, OverflowError) as error:
                if problem is None:
                    self.failures.append(f"{label}: accepted; NumPy: {error}")
                return
        if problem is not None:
            self.failures.append(f"{label}: refused: {problem}")
            return
        several = isinstance(found, list | tuple)
        pairs = zip(found, expected, strict=True) if several else [(found, expected)]
        self.feeds.update(zip(inputs, arrays, strict=True))
        for tensor, value in pairs:
            if str(tensor.dtype) != str(np.asarray(value).dtype):
                self.failures.append(f"{label}: {tensor.dtype}, NumPy: {np.asarray(value).dtype}")
            self.labels.append(label)
            self.outputs.append(tensor)
            self.expected.append(np.asarray(value))

    def check(self) -> None:
        """Run what was collected and fail with everything that differs."""
        with graphc.Session(threads=1) as session:
            found = session.run(self.outputs, self.feeds)
        for label, value, expected in zip(self.labels, found, self.expected, strict=True):
            problem = differs(np.asarray(value), expected, self.ulps, self.zero_signs)
            if problem:
                self.failures.append(f"{label}: {problem}")
        assert self.labels, "no case was accepted by both"
        if self.failures:
            first: Sequence[str] = self.failures[:20]
            pytest.fail(f"{len(self.failures)} of {len(self.labels)} cases:\n" + "\n".join(first))
