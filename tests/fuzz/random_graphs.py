"""Random graphs of several kinds, with feeds; the same seed gives the same graph.

The kind decides which steps are likely and how large everything is: `KINDS`. Gradients, second
gradients and updates of variables are added at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import graphc
from graphc.base.dtypes import FLOAT, INTEGER, DType, bfloat16, bool_, float16, float32, float64
from tests.fuzz import steps_control as control
from tests.fuzz import steps_elementwise as elementwise
from tests.fuzz import steps_fusion as fusion
from tests.fuzz import steps_network as network
from tests.fuzz import steps_reduce as reduce
from tests.fuzz import steps_shape as shape
from tests.fuzz import steps_sizes as sizes
from tests.fuzz.building import Builder, Value

Step = Callable[[Builder], int]
SIZES: dict[str, tuple[int, ...]] = {"n": (0, 1, 2, 5, 17), "m": (1, 3, 8, 33)}
LARGE_SIZES: dict[str, tuple[int, ...]] = {"n": (0, 130, 513, 2049), "m": (1, 33, 200)}
FLOATS = (float32, float32, float64)
MIXED = (float32, float32, float32, float64, float64, *FLOAT, *INTEGER, bool_)

PLAIN: dict[Step, int] = {
    elementwise.unary: 3,
    elementwise.binary: 4,
    reduce.reduce: 2,
    shape.view: 2,
    shape.join: 1,
    reduce.matmul: 1,
    elementwise.where: 1,
    elementwise.integer: 1,
    elementwise.cast: 1,
    reduce.row: 1,
    shape.gather: 1,
    reduce.cumulative: 1,
    elementwise.compare: 1,
}


@dataclass(frozen=True)
class Kind:
    """What graphs of a kind are made of: `steps` with their weights."""

    steps: Mapping[Step, int]
    dtypes: tuple[DType, ...] = MIXED
    nodes: int = 24
    known: tuple[int, ...] = (1, 2, 4, 7)
    symbols: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: SIZES)
    symbolic: float = 0.4  # of the dims
    ranks: tuple[int, ...] = (0, 1, 2, 2, 3)
    limit: int = 20_000
    outputs: int = 4
    gradients: float = 0.3
    full_range: bool = False
    specials: bool = False  # NaN, infinities, zeros of both signs, denormals in the feeds


KINDS: dict[str, Kind] = {
    "mixed": Kind(
        PLAIN
        | {
            network.constants: 1,
            elementwise.boolean: 1,
            shape.index_mix: 1,
            network.random_numbers: 1,
        }
    ),
    "integers": Kind(
        {
            elementwise.integer: 8,
            elementwise.compare: 1,
            elementwise.where: 1,
            shape.view: 2,
            reduce.reduce: 2,
            reduce.cumulative: 1,
            reduce.order: 1,
            elementwise.cast: 1,
            shape.scatter: 1,
            reduce.matmul: 1,
            reduce.position: 1,
            shape.gather: 1,
            elementwise.boolean: 1,
        },
        dtypes=(*INTEGER, *INTEGER, bool_),
        full_range=True,
    ),
    "half": Kind(
        PLAIN | {network.activation: 1, elementwise.unary: 4},
        dtypes=(float16, bfloat16, bfloat16, float32),
    ),
    "indexing": Kind(
        {
            shape.gather: 2,
            shape.gather_along: 2,
            shape.scatter: 3,
            shape.scatter_range: 2,
            shape.windows: 2,
            shape.index_mix: 2,
            reduce.order: 3,
            reduce.search: 1,
            reduce.position: 1,
            reduce.cumulative: 2,
            elementwise.unary: 2,
            elementwise.binary: 2,
            elementwise.integer: 1,
            shape.view: 2,
            reduce.reduce: 1,
            elementwise.where: 1,
            elementwise.compare: 1,
        },
        symbolic=0.2,
        known=(1, 3, 5, 8),
    ),
    "network": Kind(
        {
            network.activation: 3,
            network.normalize: 2,
            network.loss: 3,
            network.convolution: 3,
            network.pool: 2,
            network.attention: 1,
            network.special: 2,
            reduce.matmul: 2,
            elementwise.binary: 2,
            reduce.row: 1,
            reduce.reduce: 1,
            shape.view: 1,
            reduce.batched_matmul: 1,
            shape.windows: 1,
        },
        dtypes=FLOATS,
        nodes=14,
        ranks=(2, 3, 3, 4),
        symbolic=0.25,
        known=(2, 4, 6, 8),
        gradients=0.7,
    ),
    "gradients": Kind(
        PLAIN
        | {
            network.special: 2,
            network.activation: 1,
            shape.gather: 1,
            shape.scatter: 1,
            shape.windows: 1,
            reduce.batched_matmul: 1,
            shape.scatter_range: 1,
        },
        dtypes=(float64, float64, float32),
        nodes=12,
        gradients=1.0,
    ),
    "fusion": Kind(
        {
            elementwise.unary: 3,
            elementwise.binary: 5,
            reduce.both_axes: 2,
            reduce.row: 2,
            reduce.reduce: 3,
            shape.view: 2,
            shape.long_views: 1,
            shape.join: 1,
            elementwise.where: 1,
            reduce.matmul: 1,
            elementwise.compare: 1,
        },
        dtypes=FLOATS,
        nodes=30,
        outputs=12,
        ranks=(1, 2, 2, 3),
    ),
    "specials": Kind(
        PLAIN
        | {
            elementwise.unary: 5,
            network.activation: 1,
            reduce.position: 1,
            reduce.order: 1,
            shape.scatter: 1,
        },
        dtypes=(float32, float64, float32, float16, bfloat16),
        nodes=14,
        gradients=0.1,
        specials=True,
    ),
    "structures": Kind(
        {
            fusion.fibonacci: 1,
            fusion.diamonds: 2,
            fusion.reductions_of_reductions: 3,
            fusion.leaves_and_returns: 3,
            fusion.transposed_sum: 2,
            fusion.side_by_side: 2,
            fusion.many_users: 3,
            reduce.both_axes: 2,
            shape.view: 2,
            elementwise.binary: 2,
            reduce.row: 1,
            shape.long_views: 1,
        },
        dtypes=FLOATS,
        nodes=14,
        outputs=14,
        ranks=(1, 2, 2, 3),
        symbolic=0.5,
        gradients=0.2,
    ),
    "control": Kind(
        {
            control.scan: 4,
            control.branch: 2,
            control.loop: 1,
            control.calls: 2,
            elementwise.unary: 1,
            elementwise.binary: 2,
            reduce.matmul: 1,
            shape.view: 1,
        },
        dtypes=(float64, float64, float32),
        nodes=6,
        ranks=(1, 2, 2, 3),
        symbolic=0.4,
        limit=2000,
        gradients=0.8,
    ),
    "sizes": Kind(
        {
            sizes.select: 4,
            sizes.positions: 2,
            sizes.cut: 3,
            sizes.repetition: 2,
            sizes.shape_of_count: 2,
            sizes.together: 2,
            elementwise.unary: 2,
            elementwise.binary: 2,
            reduce.reduce: 3,
            reduce.order: 1,
            reduce.cumulative: 1,
            shape.view: 2,
            control.scan: 1,
            control.branch: 1,
        },
        dtypes=(float32, float64, float64, *INTEGER[:3]),
        nodes=10,
        ranks=(1, 1, 2, 2, 3),
        known=(1, 3, 6),
        limit=3000,
        gradients=0.5,
    ),
    "deep": Kind(PLAIN | {elementwise.binary: 8}, nodes=200, outputs=8, limit=2000, gradients=0.15),
    "large": Kind(
        PLAIN | {reduce.order: 1, network.normalize: 1, shape.scatter: 1, reduce.both_axes: 1},
        nodes=10,
        dtypes=(float32, float32, float64, float16, bfloat16, *INTEGER),
        limit=200_000,
        symbols=LARGE_SIZES,
        known=(1, 3, 64, 100, 1000),
        ranks=(1, 2, 2, 3),
        gradients=0.2,
    ),
}
# Kinds by seed: as many seeds in a row are one round.
ROUND = (
    "mixed",
    "network",
    "indexing",
    "fusion",
    "integers",
    "gradients",
    "large",
    "half",
    "structures",
    "mixed",
    "specials",
)


def kind_of(seed: int) -> str:
    """The kind of graph of a seed; a round in seven has a deep graph, one control flow, and one
    sizes that it computes.
    """
    rare = {26: "sizes", 37: "control", 75: "deep"}
    return rare.get(seed % 77) or ROUND[seed % len(ROUND)]


class RandomGraph:
    """One random graph: `graph`, `feeds` by input name."""

    def __init__(self, seed: int, kind: str | None = None) -> None:
        self.seed = seed
        self.name = kind or kind_of(seed)
        self.kind = KINDS[self.name]
        chance = np.random.default_rng((seed, 1))
        sizes = {name: int(chance.choice(choices)) for name, choices in self.kind.symbols.items()}
        self.builder = Builder(seed, sizes, self.kind.limit)
        self.builder.full_range = self.kind.full_range
        self.builder.specials = self.kind.specials
        self._sources()
        self._run_steps()
        self.graph = self._finish()
        self.feeds = self.builder.feeds

    def _sources(self) -> None:
        b = self.builder
        for _ in range(b.integer(2, 4)):
            wanted = self._shape()
            while b.count(wanted) > self.kind.limit:
                wanted = self._shape()
            b.placeholder(wanted, b.choose(self.kind.dtypes))
        if b.chance(0.3):
            b.variable(tuple(b.choose([1, 2, 4]) for _ in range(b.integer(0, 2))), b.choose(FLOATS))

    def _shape(self) -> tuple[Any, ...]:
        b = self.builder
        rank = int(b.rng.choice(self.kind.ranks))
        symbols = list(b.dims.values())
        return tuple(
            b.choose(symbols) if b.chance(self.kind.symbolic) else b.choose(self.kind.known)
            for _ in range(rank)
        )

    def _run_steps(self) -> None:
        b = self.builder
        steps = [step for step, weight in self.kind.steps.items() for _ in range(weight)]
        made = attempts = 0
        while made < self.kind.nodes and attempts < 10 * self.kind.nodes:
            attempts += 1
            try:
                made += b.choose(steps)(b)
            except (graphc.ShapeError, graphc.UnsupportedError):
                continue  # sizes that do not fit, told as they should be

    def other_feeds(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """Feeds of other, smaller sizes for the same graph; None where all sizes are known."""
        if not self.graph.symbols:
            return None
        b = Builder(self.seed + 1, self.builder.sizes)
        b.full_range, b.specials = self.kind.full_range, self.kind.specials
        b.sizes = {
            name: int(b.rng.integers(name == "m", min(size, 4) + 1))
            for name, size in b.sizes.items()
        }
        for _, t in self.graph.inputs:
            b.placeholder(t.shape, t.dtype)
        return b.feeds

    # -- the end --------------------------------------------------------------------------------
    def _finish(self) -> graphc.Graph:
        b = self.builder
        sources = {id(t) for t in (*b.inputs, *b.variables)}
        made = [v for v in b.pool if id(v.tensor) not in sources] or b.pool
        count = min(len(made), b.integer(1, self.kind.outputs))
        chosen = made[-count:]
        if len(made) > count and b.chance(0.4):  # something from the middle as well
            chosen = [*chosen, b.choose(made[:-count])]
        outputs = {f"y{k}": v.tensor for k, v in enumerate(chosen)}
        if b.chance(self.kind.gradients):
            self._add_gradients(outputs)
        return graphc.Graph(b.inputs, outputs, self._updates(chosen))

    def _add_gradients(self, outputs: dict[str, graphc.Tensor]) -> None:
        b = self.builder
        floats = [t for t in outputs.values() if t.dtype in (float32, float64)]
        wrt = [x for x in (*b.inputs, *b.variables) if x.dtype in (float32, float64)]
        if not floats or not wrt:
            return
        try:
            cost = graphc.sum(graphc.tanh(floats[-1] * 0.5))
            gradients = graphc.grad(cost, wrt, allow_unused=True)
            outputs |= {f"g{k}": g for k, g in enumerate(gradients)}
            if b.chance(0.35) and self.name != "deep":
                again = graphc.sum(graphc.sin(gradients[0]))
                second = graphc.grad(again, wrt, allow_unused=True)
                outputs |= {f"h{k}": g for k, g in enumerate(second)}
        except graphc.UnsupportedError:
            return  # an op without a gradient on the way

    def _updates(self, made: list[Value]) -> dict[graphc.Tensor, graphc.Tensor]:
        b = self.builder
        updates = {}
        for v in b.variables:
            if b.chance(0.5):
                continue
            total = next((w.tensor for w in made if w.tensor.dtype is v.dtype), v)
            moved = v * 0.9 + graphc.tanh(graphc.sum(total)) * 0.1 if v.dtype.is_float else v + 1
            updates[v] = graphc.astype(moved, v.dtype)
        return updates
