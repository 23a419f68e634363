"""How far a compiled result may be from the reference meaning (the command line, floor 8).

It is measured, not guessed: the graph is evaluated in float64 several times, each time with every
rounding of the graph (and every operand of a sum, which rounds many times) moved by a random part
of a unit. The spread of an output is what roundings alone do to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.base.dtypes import Array, DType, dtype_of
from graphc.ir.bindings import SizeBinder
from graphc.ir.evaluate import bind_feeds
from graphc.ir.graph import Graph
from graphc.ir.meaning import bind_sizes, unrounded_value
from graphc.ir.node import Node, Tensor
from graphc.ops.families import Composite, Contraction, Elementwise

UNIT = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
# The largest finite value.
LARGEST = {
    "float16": 65504.0,
    "bfloat16": (2.0 - 2.0**-7) * 2.0**127,
    "float32": (2.0 - 2.0**-23) * 2.0**127,
    "float64": float(np.finfo(np.float64).max),
}
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


@dataclass(frozen=True)
class Verdict:
    """One result held against what is expected: the element that is worst.

    ulps: its distance in spacings of the dtype at the expected value; allowed: the distance that
    roundings explain, in the same; place: its index; problem: what is wrong, or empty.
    """

    key: str
    ulps: float
    allowed: float
    place: tuple[int, ...]
    expected: float | int | bool | None
    found: float | int | bool | None
    problem: str = ""


def results_of(graph: Graph) -> dict[str, Tensor]:
    """Outputs and new values of variables, keyed as `evaluate(updates=True)` does."""
    updates = {f"update:{graph.name_of(v)}": t for v, t in graph.updates}
    return dict(graph.outputs) | updates


def expect(graph: Graph, feeds: Mapping[str, Array]) -> Expected:
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


def _stays_finite(graph: Graph, values: dict[int, Any]) -> bool:
    """Whether nothing is infinite or NaN on the way to the results, nor would be in its dtype."""
    for node in graph.nodes:
        value = values[id(node)]
        if isinstance(node, Tensor) and node.dtype.is_float:
            if not (np.abs(value) <= LARGEST[node.dtype.name]).all():
                return False
    return True


# -- the graph in float64, with noise ---------------------------------------------------------


def _wide_values(graph: Graph, feeds: Mapping[str, Array], seed: int) -> dict[int, Any]:
    """All values with floats in float64; roundings are imitated by noise unless the seed is 0."""
    bound, sizes = bind_feeds(graph, feeds)
    walk = _Wide(np.random.default_rng(seed) if seed else None)
    return walk.values(graph, {i: _widened(a) for i, a in bound.items()}, sizes)


class _Wide:
    """Evaluates graphs and bodies in float64, with noise where there is a generator."""

    def __init__(self, rng: np.random.Generator | None) -> None:
        self.rng = rng

    def values(self, graph: Graph, values: dict[int, Any], sizes: dict[str, int]) -> dict[int, Any]:
        binder = SizeBinder(graph.bindings)
        with np.errstate(all="ignore"):
            for node in graph.nodes:
                if id(node) not in values:
                    values[id(node)] = self._value(node, values, sizes)
                binder.see(node, values[id(node)], sizes)
        return values

    def _value(self, node: Node, values: dict[int, Any], sizes: Mapping[str, int]) -> Any:
        if node.op.name == "variable":
            return _widened(node.attr("value").values)
        operands = [values[id(i)] for i in node.inputs]
        if not isinstance(node, Tensor):
            found = unrounded_value(node, operands, sizes, self._body)
            return tuple(map(_widened, found))
        return _wide_node(node, operands, sizes, self.rng)

    def _body(self, body: Graph, sizes: Mapping[str, int], *arrays: Array) -> tuple[Array, ...]:
        given: dict[int, Any] = {id(t): a for (_, t), a in zip(body.inputs, arrays, strict=True)}
        values = self.values(body, given, dict(sizes))
        return tuple(values[id(t)] for _, t in body.outputs)


def _widened(value: Any) -> Array:
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _wide_node(
    node: Node, operands: list[Any], sizes: Mapping[str, int], rng: np.random.Generator | None
) -> Any:
    attrs = {k: bind_sizes(v, sizes) for k, v in node.attributes.items()}
    if getattr(attrs.get("dtype"), "is_float", False):
        attrs["dtype"] = dtype_of("float64")
    form, reference = node.op.form, node.op.reference
    assert reference is not None, f"{node.op.name} has no value without a feed"
    assert isinstance(node, Tensor), "nodes of several results are evaluated by their bodies"
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


def _noisy(value: Array, unit: float, rng: np.random.Generator) -> Array:
    if value.dtype.kind != "f":
        return value
    noise = unit * rng.uniform(-1.0, 1.0, value.shape)
    return np.asarray(value * (1.0 + noise))


# -- comparing --------------------------------------------------------------------------------


def compare(expected: Expected, got: Mapping[str, Array], numerics: str) -> list[Verdict]:
    """A verdict per result, in order.

    Integers and bools must be equal. A NaN or an infinity must be one in both, unless the reference
    overflowed on a way that float64 does not (then it tells nothing), or "standard" and "fast" give
    a finite value where the reference has none; "fast" promises nothing where infinities or NaN
    occur at all.
    """
    return [
        _compare(key, expected, np.asarray(got[key]), numerics, tensor.dtype)
        for key, tensor in expected.tensors.items()
    ]


def _compare(key: str, expected: Expected, found: Array, numerics: str, dtype: DType) -> Verdict:
    reference = expected.values[key]
    if reference.shape != found.shape:
        what = f"expected shape {list(reference.shape)}, got {list(found.shape)}"
        return Verdict(key, np.inf, 0.0, (), None, None, what)
    if reference.size == 0:
        return Verdict(key, 0.0, 0.0, (), None, None)
    if not dtype.is_float:
        return _compare_exactly(key, reference, found)
    x, y = reference.astype(np.float64), found.astype(np.float64)
    wide, spread = expected.wide[key], expected.spread[key]
    with np.errstate(all="ignore"):
        unit = spacing(x, dtype)
        ulps = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y) / unit)
        allowed = _allowed(x, y, wide, spread, dtype) / unit
    ulps = np.where(np.isnan(ulps), np.inf, ulps)
    odd = ~(np.isfinite(x) & np.isfinite(y)) & (ulps > 0)
    free = odd & _explained(x, y, wide, dtype, numerics)
    if numerics == "fast" and not expected.finite:
        free = np.ones_like(odd)
    bad = np.where(odd, ~free, ulps > allowed) & ~free
    ulps = np.where(free, 0.0, ulps)
    excess = np.where(bad, np.where(odd, np.inf, ulps), -1.0) if bad.any() else ulps
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), x.shape))
    problem = f"{int(bad.sum())} of {bad.size} elements differ" if bad.any() else ""
    limit = 0.0 if odd[place] else float(allowed[place])
    return Verdict(key, float(ulps[place]), limit, place, float(x[place]), float(y[place]), problem)


def _compare_exactly(key: str, reference: Array, found: Array) -> Verdict:
    bad = reference != found
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
    a, b = reference[place].item(), found[place].item()
    problem = f"{int(bad.sum())} of {bad.size} elements differ" if bad.any() else ""
    return Verdict(key, float(abs(int(a) - int(b))), 0.0, place, a, b, problem)


def _explained(x: Array, y: Array, wide: Array, dtype: DType, numerics: str) -> Array:
    """Where a NaN or an infinity in one of reference x and result y is no mistake of the result."""
    largest = 2.0**16 if dtype.name == "float16" else 2.0**128
    outside = np.abs(wide) >= (largest * 0.5 if dtype.name != "float64" else np.inf)
    overflowed = ~np.isfinite(x) & np.isfinite(wide)
    better = ~np.isfinite(x) & np.isfinite(y) if numerics != "exact" else np.zeros(x.shape, bool)
    found: Array = overflowed | better | (np.isfinite(x) & outside)
    return found


def _allowed(x: Array, y: Array, wide: Array, spread: Array, dtype: DType) -> Array:
    """The distance that roundings explain, per element."""
    finite = np.isfinite(x) & np.isfinite(y) & np.isfinite(wide) & np.isfinite(spread)
    own = np.where(finite, np.abs(x - wide), 0.0).max(initial=0.0)
    common = 2.0 * np.where(finite, spread, 0.0).max(initial=0.0) + 4.0 * float(own)
    found: Array = 32.0 * spread + common + 8.0 * UNIT[dtype.name] * np.abs(x) + 1e-30
    return np.where(np.isfinite(spread), found, np.inf)


def spacing(values: Array, dtype: DType) -> Array:
    """The distance between neighbours of a float dtype at the magnitude of float64 values."""
    if dtype.name == "bfloat16":
        narrow = np.abs(values).astype(np.float32)
        return np.spacing(narrow).astype(np.float64) * 2.0**16
    found: Array = np.spacing(np.abs(values).astype(dtype.numpy)).astype(np.float64)
    return np.where(np.isfinite(found), found, 1.0)
