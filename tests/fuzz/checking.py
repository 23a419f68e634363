"""Holding compiled results of random graphs against the reference meaning."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc
from graphc.base.dtypes import from_storage, to_storage
from tests.fuzz.random_graphs import wide_values

Array = np.ndarray[Any, Any]
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


def run_compiled(graph: graphc.Graph, feeds: dict[str, Array], **options: Any) -> dict[str, Array]:
    """The outputs of the compiled graph in reference form."""
    with graphc.Session(cache_dir="", threads=1, **options) as session:
        values = session.run(dict(graph.outputs), feeds)
    return {name: reference_form(values[name], t.dtype) for name, t in graph.outputs}


def reference_form(value: Any, dtype: Any) -> Array:
    """A session's result as the reference holds it."""
    array = np.asarray(value)
    return array.astype(np.float32) if dtype.name == "bfloat16" else array


def narrowest(graph: graphc.Graph) -> float:
    """The largest rounding unit of any float in the graph."""
    return max((EPSILON[n.dtype.name] for n in graph.nodes if n.dtype.is_float), default=0.0)


def differences(graph: graphc.Graph, feeds: dict[str, Array], got: dict[str, Array]) -> list[str]:
    """What is wrong with `got`, a line per output; empty when it is right.

    Floats may differ by several times the reference's own distance from float64 plus some rounding units of the largest element.
    """
    expected = graph.evaluate(feeds)
    wide = wide_values(graph, feeds)
    unit = narrowest(graph)
    problems = []
    for name, tensor in graph.outputs:
        a, b = expected[name], got[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            problems.append(f"{name}: expected {a.dtype}{list(a.shape)}, got {b.dtype}{list(b.shape)}")
        elif not tensor.dtype.is_float:
            if not np.array_equal(a, b):
                problems.append(f"{name} {tensor.type}: {int(np.sum(a != b))} of {a.size} differ")
        else:
            problem = _float_difference(a, b, wide[id(tensor)], unit)
            if problem:
                problems.append(f"{name} {tensor.type}: {problem}")
    return problems


def _float_difference(a: Array, b: Array, wide: Array, unit: float) -> str | None:
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return "NaN at other places"
    infinite = np.isinf(a) | np.isinf(b)
    if not np.array_equal(a[infinite], b[infinite]):
        return "infinities differ"
    finite = np.isfinite(a)
    if not finite.any():
        return None
    x, y, w = (np.asarray(v, np.float64)[finite] for v in (a, b, wide))
    own = np.abs(x - np.where(np.isfinite(w), w, x)).max()
    allowed = 16 * own + 512 * unit * max(float(np.abs(x).max()), 1e-30) + 1e-30
    worst = float(np.abs(x - y).max())
    return None if worst <= allowed else f"differs by {worst:.3g}, allowed {allowed:.3g} (largest {np.abs(x).max():.3g})"


def same_bits(a: dict[str, Array], b: dict[str, Array], graph: graphc.Graph) -> list[str]:
    """Outputs whose bits differ (any NaN equals any NaN)."""
    different = []
    for name, tensor in graph.outputs:
        x, y = to_storage(a[name], tensor.dtype), to_storage(b[name], tensor.dtype)
        nan = np.isnan(from_storage(x, tensor.dtype)) if tensor.dtype.is_float else np.zeros(x.shape, bool)
        both = nan & (np.isnan(from_storage(y, tensor.dtype)) if tensor.dtype.is_float else nan)
        kind = f"u{x.dtype.itemsize}"
        if not np.array_equal(np.where(both, 0, x.view(kind)), np.where(both, 0, y.view(kind))):
            different.append(f"{name} {tensor.type}")
    return different
