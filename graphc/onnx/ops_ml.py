"""Operators of the domain ai.onnx.ml that need no strings (floor 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import graphc
from graphc.base.dtypes import Array
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, op

_ML = "ai.onnx.ml"
_MODES = ("<=", "<", ">=", ">", "==", "!=", "member")  # the modes of nodes, by number
_MEMBER = 6


@op("ArrayFeatureExtractor", domain=_ML)
def array_feature_extractor(c: Context) -> Tensor:
    """The columns of the last axis at some indices."""
    x, places = c.tensor(0), c.tensor(1)
    x = x if x.ndim > 1 else graphc.reshape(x, (1, -1))
    return graphc.take(x, graphc.reshape(places, (-1,)), axis=-1)


@op("Binarizer", domain=_ML)
def binarizer(c: Context) -> Tensor:
    """1 above a threshold, 0 elsewhere."""
    x = c.tensor(0)
    return graphc.astype(x > c.attribute("threshold"), x.dtype)


@op("LabelEncoder", domain=_ML, since=2)
def label_encoder(c: Context) -> Tensor:
    """Each element replaced by the value that belongs to it as a key."""
    if any(c.attribute(n) is not None for n in ("keys_strings", "values_strings")):
        c.refuse("keys or values that are strings")
    keys = _listed(c, "keys_")
    values = _listed(c, "values_")
    if keys.size != values.size:
        c.bad(f"{keys.size} keys for {values.size} values")
    x = c.tensor(0)
    hits = graphc.equal(x[..., None], keys)
    if keys.dtype.kind == "f" and np.isnan(keys).any():  # a NaN is found as a key
        hits = hits | (graphc.isnan(x)[..., None] & np.isnan(keys))
    default = _default(c, values)
    # Of equal keys the last one counts.
    place = graphc.max(graphc.where(hits, np.arange(1, keys.size + 1), 0), axis=-1)
    return graphc.take(np.concatenate([default, values]), place, axis=0)


def _listed(c: Context, prefix: str) -> Array:
    for name, dtype in (("int64s", np.int64), ("floats", np.float32)):
        found = c.attribute(prefix + name)
        if found is not None:
            return np.array(found, dtype)
    value = c.attribute(prefix + "tensor")
    if value is None:
        c.bad(f"no attribute {prefix}... is given")
    return c.known_value(c.plain(value, f"{prefix}tensor"), f"{prefix}tensor").ravel()


def _default(c: Context, values: Array) -> Array:
    value = c.attribute("default_tensor")
    if value is not None:
        found = c.known_value(c.plain(value, "default_tensor"), "default_tensor").ravel()
        if found.size != 1:
            c.bad(f"the default has {found.size} elements")
        return found.astype(values.dtype)
    name, otherwise = ("default_float", -0.0) if values.dtype.kind == "f" else ("default_int64", -1)
    return np.array([c.attribute(name, otherwise)], values.dtype)


# -- trees ----------------------------------------------------------------------------------------


class _Trees:
    """The nodes of all trees as arrays: interior nodes first, then the leaves."""

    def __init__(self, c: Context) -> None:
        self.c = c
        self.features = self._ints("nodes_featureids")
        count = self.features.size
        self.modes = self._values("nodes_modes", count).astype(np.int64)
        self.splits = self._values("nodes_splits", count)
        self.weights = c.known_value(
            c.plain(c.attribute("leaf_weights"), "leaf_weights"), "weights"
        )
        self.targets = self._ints("leaf_targetids")
        self.missing = self._ints("nodes_missing_value_tracks_true", count)
        self.roots = self._ints("tree_roots")
        self.yes = self._next("true", count)
        self.no = self._next("false", count)
        self.leaves = count  # the number of the first leaf
        if self.weights.shape != self.targets.shape or not self.weights.size:
            c.bad(f"{self.weights.size} leaf_weights, {self.targets.size} leaf_targetids")
        if count and not ((self.modes >= 0) & (self.modes < len(_MODES))).all():
            c.bad("a mode of a node is unknown")
        for what, found, size in (("tree_roots", self.roots, count),):
            if ((found < 0) | (found >= size)).any():
                c.bad(f"a number in {what} is outside the {size} nodes")
        self.depth = self._depth()

    def _ints(self, name: str, otherwise: int | None = None) -> Array:
        found = self.c.attribute(name)
        if found is None:
            return np.zeros(otherwise or 0, np.int64)
        return np.array(found, np.int64)

    def _values(self, name: str, count: int) -> Array:
        found = self.c.known_value(self.c.plain(self.c.attribute(name), name), name).ravel()
        if found.size != count:
            self.c.bad(f"{name} has {found.size} elements, expected {count}")
        return found

    def _next(self, branch: str, count: int) -> Array:
        """Where a branch leads; leaves lead to themselves."""
        ids, leafs = self._ints(f"nodes_{branch}nodeids"), self._ints(f"nodes_{branch}leafs")
        if ids.size != count or leafs.size != count:
            self.c.bad(f"the nodes' {branch} branches are {ids.size}, expected {count}")
        found = np.where(leafs != 0, ids + count, ids)
        limit = np.where(leafs != 0, count + self.weights.size, count)
        if ((ids < 0) | (found >= limit)).any():
            self.c.bad(f"a {branch} branch leads to a node that is not there")
        return np.concatenate([found, np.arange(count, count + self.weights.size)])

    def _depth(self) -> int:
        """The number of steps after which every walk is at a leaf. Raises FormatError for none."""
        here, steps = np.unique(self.roots), 0
        while (here < self.leaves).any():
            if steps > self.leaves:
                self.c.bad("the nodes of a tree form a circle")
            here = np.unique(np.concatenate([self.yes[here], self.no[here]]))
            steps += 1
        return steps

    def members(self) -> Array:
        """The sets of the nodes that test membership, a row per node, filled up with NaN."""
        value = self.c.attribute("membership_values")
        nodes = np.flatnonzero(self.modes == _MEMBER)
        if not nodes.size:
            return np.full((self.leaves, 0), np.nan, self.splits.dtype)
        if value is None:
            self.c.bad("membership_values is missing")
        flat = self.c.known_value(self.c.plain(value, "membership_values"), "membership_values")
        ends = np.flatnonzero(np.isnan(flat))
        sets = [s[~np.isnan(s)] for s in np.split(flat, ends)]
        sets = sets[: nodes.size] if len(sets) > nodes.size else sets
        if len(sets) != nodes.size:
            self.c.bad(f"membership_values has {len(sets)} sets, expected {nodes.size}")
        rows = np.full((self.leaves, max(s.size for s in sets)), np.nan, self.splits.dtype)
        for node, items in zip(nodes, sets):
            rows[node, : items.size] = items
        return rows


@op("TreeEnsemble", domain=_ML, since=5)
def tree_ensemble(c: Context) -> Tensor:
    """The values of the leaves that each row reaches in each tree, put together by targets."""
    x = c.tensor(0)
    trees = _Trees(c)
    if x.ndim != 2:
        c.bad(f"the operand has {x.ndim} dims, expected 2")
    width = x.shape[1]
    if isinstance(width, int) and trees.features.size and trees.features.max() >= width:
        c.bad(f"a node asks for feature {trees.features.max()} of {width}")
    # All rows walk all trees at once: as many steps as the deepest tree has.
    rows = graphc.reshape(graphc.arange(x.shape[0]), (-1, 1))
    place = graphc.broadcast_to(graphc.asarray(trees.roots), (x.shape[0], trees.roots.size))
    for _ in range(trees.depth):
        node = graphc.minimum(place, trees.leaves - 1)
        value = x[rows, graphc.take(trees.features, node, axis=0)]
        yes = _decided(trees, node, value)
        place = graphc.where(
            yes, graphc.take(trees.yes, place, axis=0), graphc.take(trees.no, place, axis=0)
        )
    leaf = place - trees.leaves
    return _transformed(c, _aggregated(c, trees, leaf).astype(x.dtype))


def _decided(trees: _Trees, node: Tensor, value: Tensor) -> Tensor:
    split = graphc.take(trees.splits.astype(value.dtype.numpy), node, axis=0)
    mode = graphc.take(trees.modes, node, axis=0)
    answers: Sequence[Tensor] = (
        value <= split,
        value < split,
        value >= split,
        value > split,
        graphc.equal(value, split),
        graphc.not_equal(value, split),
        graphc.any(
            graphc.equal(
                value[..., None],
                graphc.take(trees.members().astype(value.dtype.numpy), node, axis=0),
            ),
            axis=-1,
        ),
    )
    found = answers[0]
    for number in sorted(set(trees.modes.tolist())):
        found = graphc.where(graphc.equal(mode, number), answers[number], found)
    tracks = graphc.not_equal(graphc.take(trees.missing, node, axis=0), 0)
    return found | (graphc.isnan(value) & tracks)


def _aggregated(c: Context, trees: _Trees, leaf: Tensor) -> Tensor:
    weight = graphc.take(trees.weights, leaf, axis=0)[..., None]
    target = graphc.take(trees.targets, leaf, axis=0)[..., None]
    count = int(c.attribute("n_targets", int(trees.targets.max()) + 1))
    hit = graphc.equal(target, np.arange(count))
    kind = int(c.attribute("aggregate_function"))
    if kind in (0, 1):
        total = graphc.sum(graphc.where(hit, weight, 0.0), axis=1)
        return total / float(trees.roots.size) if kind == 0 else total
    if kind not in (2, 3):
        c.bad(f"the aggregate_function {kind} is unknown")
    function: Any = graphc.min if kind == 2 else graphc.max
    none = graphc.inf if kind == 2 else -graphc.inf
    found = function(graphc.where(hit, weight, none), axis=1)
    return graphc.where(graphc.any(hit, axis=1), found, 0.0)


def _transformed(c: Context, scores: Tensor) -> Tensor:
    kind = int(c.attribute("post_transform"))
    if kind == 0:
        return scores
    if kind == 1:
        return graphc.softmax(scores, axis=-1)
    if kind == 2:
        return graphc.sigmoid(scores)
    c.refuse(f"the post_transform {kind}")
