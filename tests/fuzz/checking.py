"""Holding compiled results of random graphs against the reference meaning.

How far two right answers may differ is measured, not guessed: `graphc.cli.expectation`.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import numpy as np

import graphc
from graphc.base.dtypes import from_storage, to_storage
from graphc.cli.expectation import UNIT, Expected, expect
from graphc.ir.node import Tensor
from graphc.ir.parse import parse
from tests.conformance.running import Compiled

Array = np.ndarray[Any, Any]
# name: optimize, numerics, fuse
MODES: dict[str, tuple[bool, str, bool]] = {
    "unoptimized": (False, "exact", True),
    "unfused": (False, "exact", False),
    "exact": (True, "exact", True),
    "standard": (True, "standard", True),
    "fast": (True, "fast", True),
}


def differences(expected: Expected, got: dict[str, Array], numerics: str = "exact") -> list[str]:
    """What is wrong with `got`, a line per output; empty when it is right.

    Where the reference overflows, "standard" may give the finite value instead; "fast" promises
    nothing where infinities or NaN occur.
    """
    lenient = numerics != "exact"
    if numerics == "fast" and not expected.finite:
        return []
    problems = []
    for key, tensor in expected.tensors.items():
        a, b = expected.values[key], got[key]
        if a.shape != b.shape or a.dtype != b.dtype:
            problem: str | None = f"expected {a.dtype}{a.shape}, got {b.dtype}{b.shape}"
        elif tensor.dtype.is_float:
            unit = UNIT[tensor.dtype.name]
            wide, spread = expected.wide[key], expected.spread[key]
            with np.errstate(invalid="ignore"):  # infinities are looked at before distances
                problem = _not_finite(a, b, lenient) or _too_far(a, b, wide, spread, unit)
        else:
            count = int(np.sum(a != b))
            problem = f"{count} of {a.size} differ" if count else None
        if problem:
            problems.append(f"{key} {tensor.type}: {problem}")
    return problems


def _not_finite(a: Array, b: Array, lenient: bool) -> str | None:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    wrong = ~(np.isfinite(x) & np.isfinite(y)) & ~((x == y) | (np.isnan(x) & np.isnan(y)))
    if lenient:
        wrong &= ~(np.isfinite(y) & ~np.isfinite(x))
    if not wrong.any():
        return None
    at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return f"{int(wrong.sum())} of {wrong.size} differ, at {at}: expected {x[at]}, got {y[at]}"


def _too_far(a: Array, b: Array, wide: Array, spread: Array, unit: float) -> str | None:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    compared = np.isfinite(x) & np.isfinite(y)
    finite = compared & np.isfinite(wide) & np.isfinite(spread)
    own = np.where(finite, np.abs(x - wide), 0.0).max(initial=0.0, where=finite)
    common = 2.0 * np.max(spread, initial=0.0, where=finite) + 4.0 * float(own)
    allowed = 32.0 * spread + common + 8.0 * unit * np.abs(x) + 1e-30
    over = np.where(compared & np.isfinite(spread), np.abs(x - y) - allowed, -1.0)
    if not (over > 0).any():
        return None
    at = np.unravel_index(int(np.argmax(over)), over.shape)
    return (
        f"{int((over > 0).sum())} of {over.size} differ, at {at}: expected {x[at]:.9g}, "
        f"got {y[at]:.9g}, allowed {allowed[at]:.3g}"
    )


def different_bits(
    a: dict[str, Array], b: dict[str, Array], tensors: dict[str, Tensor]
) -> list[str]:
    """Results whose bits differ (any NaN equals any NaN)."""
    different = []
    for key, tensor in tensors.items():
        x, y = to_storage(a[key], tensor.dtype), to_storage(b[key], tensor.dtype)
        kind = f"u{x.dtype.itemsize}"
        unequal = np.atleast_1d(x).view(kind) != np.atleast_1d(y).view(kind)
        if tensor.dtype.is_float:
            nans = [np.isnan(np.atleast_1d(from_storage(v, tensor.dtype))) for v in (x, y)]
            unequal &= ~(nans[0] & nans[1])
        if unequal.any():
            different.append(f"{key} {tensor.type}: {int(unequal.sum())} of {unequal.size}")
    return different


def check(
    graph: graphc.Graph,
    feeds: dict[str, Array],
    modes: Any = tuple(MODES),
    others: dict[str, Array] | None = None,
) -> list[str]:
    """Everything that must hold of a graph: problems as text, empty when all is right.

    Every mode gives the reference meaning; what promises equal bits has equal bits (optimized
    exactly or not, fused or not, one thread or two); texts read back. others: feeds of other sizes
    for the same compiled code.
    """
    problems = [] if parse(str(graph)) == graph else ["parse(str(graph)) differs"]
    expected = expect(graph, feeds)
    again = None if others is None else (others, expect(graph, others))
    plain: dict[str, Array] | None = None
    for mode in modes:
        try:
            found, got = _check_mode(graph, feeds, mode, expected, again)
        except Exception as error:  # reported like a wrong result, so that it can be shrunk
            problems.append(f"{mode}: raises {_place(error)}")
            continue
        problems += [f"{mode}: {p}" for p in found]
        if MODES[mode][1] == "exact":
            plain = plain or got
            found = different_bits(plain, got, expected.tensors)
            problems += [f"{mode}: bits differ from {modes[0]}: {p}" for p in found]
    return problems


def _check_mode(
    graph: graphc.Graph,
    feeds: dict[str, Array],
    mode: str,
    expected: Expected,
    again: tuple[dict[str, Array], Expected] | None,
) -> tuple[list[str], dict[str, Array]]:
    optimize, numerics, fuse = MODES[mode]
    compiled = Compiled(graph, optimize=optimize, numerics=numerics, fuse=fuse)
    optimized = compiled.compilation.optimized
    problems = []
    if optimized is not graph and parse(str(optimized)) != optimized:
        problems.append("parse(str(optimized)) differs")
    got = compiled(feeds)
    problems += differences(expected, got, numerics)
    if fuse:
        found = different_bits(got, compiled(feeds, threads=2), expected.tensors)
        problems += [f"two threads differ: {p}" for p in found]
    if again is not None:
        others, right = again
        problems += [f"other sizes: {p}" for p in differences(right, compiled(others), numerics)]
    return problems, got


def _place(error: Exception) -> str:
    """The error and the innermost lines it came from."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    lines = ", ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames)
    return f"{type(error).__name__}: {str(error)[:300]} ({lines})"
