"""Holding compiled results of random graphs against the reference meaning.

How far two right answers may differ is measured, not guessed: the graph is evaluated in float64
several times, each time with every rounding of the graph (and every operand of a sum, which rounds
many times) moved by a random part of a unit. The spread of an output is what roundings alone do.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import graphc
from graphc.base.dtypes import dtype_of, from_storage, to_storage
from graphc.ir.evaluate import bind_feeds
from graphc.ir.graph import bind_sizes
from graphc.ir.node import Node, Tensor
from graphc.ir.parse import parse
from graphc.ops.families import Composite, Contraction, Elementwise
from tests.conformance.running import Compiled

Array = np.ndarray[Any, Any]
UNIT = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
TRIALS = 3
# Elementwise ops that return one of their operands, or something that no rounding moves.
SELECTING = frozenset(
    "negative abs maximum minimum where sign floor ceil trunc round copysign nextafter".split()
)
ACCUMULATING = frozenset(
    "sum mean prod cumulative_sum cumulative_prod linear_recurrence scatter align_windows "
    "unalign_windows".split()
)
LOGARITHMIC = frozenset("logsumexp log_softmax softmax_cross_entropy".split())
# name: optimize, numerics, fuse
MODES: dict[str, tuple[bool, str, bool]] = {
    "unoptimized": (False, "exact", True),
    "unfused": (False, "exact", False),
    "exact": (True, "exact", True),
    "standard": (True, "standard", True),
    "fast": (True, "fast", True),
}


@dataclass(frozen=True)
class Expected:
    """The reference results by key (outputs, then "update:" and the variable), with tensors.

    wide: the float64 values of the same; spread: what roundings may do to each element. finite:
    whether everything on the way is finite.
    """

    values: dict[str, Array]
    tensors: dict[str, Tensor]
    wide: dict[str, Array]
    spread: dict[str, Array]
    finite: bool


def results_of(graph: graphc.Graph) -> dict[str, Tensor]:
    """Outputs and new values of variables, keyed as `evaluate(updates=True)` does."""
    updates = {f"update:{graph.name_of(v)}": t for v, t in graph.updates}
    return dict(graph.outputs) | updates


def expect(graph: graphc.Graph, feeds: dict[str, Array]) -> Expected:
    """The reference meaning with its measured tolerance."""
    tensors = results_of(graph)
    values = graph.evaluate(feeds, updates=True)
    floats = {k: t for k, t in tensors.items() if t.dtype.is_float}
    runs = [_wide_values(graph, feeds, seed) for seed in range(TRIALS + 1)]
    wide = {k: runs[0][id(t)] for k, t in floats.items()}
    spread = {}
    finite = _stays_finite(graph, runs[0])
    with np.errstate(all="ignore"):
        for k, t in floats.items():
            distances = np.abs(np.stack([r[id(t)] for r in runs[1:]]) - wide[k])
            spread[k] = np.where(np.isnan(distances), 0.0, distances).max(axis=0)
    return Expected(values, tensors, wide, spread, finite)


def _stays_finite(graph: graphc.Graph, values: dict[int, Any]) -> bool:
    """Whether nothing is infinite or NaN on the way to the results."""
    found = (values[id(node)] for node in graph.nodes)
    return all(
        bool(np.isfinite(v).all())
        for v in found
        if isinstance(v, np.ndarray) and v.dtype.kind == "f"
    )


def _wide_values(graph: graphc.Graph, feeds: dict[str, Array], seed: int) -> dict[int, Any]:
    """All values with floats in float64; roundings are imitated by noise unless the seed is 0."""
    rng = np.random.default_rng(seed) if seed else None
    bound, sizes = bind_feeds(graph, feeds)
    values: dict[int, Any] = {i: _widened(a) for i, a in bound.items()}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if id(node) in values:
                continue
            if node.op.name == "variable":
                values[id(node)] = _widened(node.attr("value").values)
            else:
                values[id(node)] = _wide_node(
                    node, [values[id(i)] for i in node.inputs], sizes, rng
                )
    return values


def _widened(value: Any) -> Array:
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _wide_node(node: Node, operands: list[Any], sizes: dict[str, int], rng: Any) -> Any:
    attrs = {k: bind_sizes(v, sizes) for k, v in node.attributes.items()}
    if getattr(attrs.get("dtype"), "is_float", False):
        attrs["dtype"] = dtype_of("float64")
    form, reference = node.op.form, node.op.reference
    assert reference is not None
    if not isinstance(node, Tensor):
        return tuple(_widened(v) for v in reference(*operands, **attrs))
    unit = UNIT.get(node.dtype.name, 0.0)
    many = isinstance(form, Composite | Contraction) or node.op.name in ACCUMULATING
    if rng is not None and unit and many:
        operands = [_noisy(o, unit, rng) for o in operands]
    value = _widened(reference(*operands, **attrs))
    if not unit:
        return value.astype(node.dtype.numpy)
    rounds = many or (isinstance(form, Elementwise) and node.op.name not in SELECTING)
    value = value.astype(np.float64)
    if rng is None or not rounds:
        return value
    if node.op.name in LOGARITHMIC:  # rounds at the size of its operands, or of 1, and cancels
        size = 1.0 + np.abs(np.nan_to_num(operands[0], posinf=0.0, neginf=0.0)).max(initial=0.0)
        value = value + unit * size * rng.uniform(-1.0, 1.0, value.shape)
    if many:  # roundings of one sign add up where the terms are alike
        count = max((o.size for o in operands if isinstance(o, np.ndarray)), default=1)
        unit *= 1.0 + 0.3 * (count / max(value.size, 1)) ** 0.5
    return _noisy(value, unit, rng)


def _noisy(value: Array, unit: float, rng: Any) -> Array:
    if value.dtype.kind != "f":
        return value
    noise = unit * rng.uniform(-1.0, 1.0, value.shape)
    return np.asarray(value * (1.0 + noise))


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
