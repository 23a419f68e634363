"""Random graphs: mixed ops, dtypes and symbolic dims, with feeds; the same seed gives the same graph.

Values carry a tag, *exact*: made without rounding. Only exact values reach operations in which a last bit decides (comparisons,
sorting, indices, float to integer), so that results of different but correct rounding stay comparable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphc
from graphc.base.dims import Dim, evaluate, product
from graphc.base.dtypes import FLOAT, INTEGER, bool_, dtype_of, float32, float64, from_storage, to_storage

Array = np.ndarray[Any, Any]
SIZES = {"n": (0, 1, 2, 5, 17), "m": (1, 3, 8, 33)}


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph and whether its bits are exact; `bound` is a rough size of its elements."""

    tensor: graphc.Tensor
    exact: bool
    bound: float = 4.0


class RandomGraph:
    """One random graph: `graph`, `feeds` by input name."""

    def __init__(self, seed: int, nodes: int = 24) -> None:
        self.rng = np.random.default_rng(seed)
        self.sizes = {name: int(self.rng.choice(choices)) for name, choices in SIZES.items()}
        self.dims: dict[str, Any] = {"n": Dim("n"), "m": Dim("m", min=1)}
        self.pool: list[Value] = []
        self.inputs: list[graphc.Tensor] = []
        self.feeds: dict[str, Array] = {}
        self.log: list[str] = []
        for _ in range(int(self.rng.integers(2, 5))):
            self._placeholder()
        made = 0
        attempts = 0
        while made < nodes and attempts < 10 * nodes:
            attempts += 1
            made += self._step()
        self.graph = self._finish()

    # -- parts ------------------------------------------------------------------------------------------
    def choose(self, items: Any) -> Any:
        """One of the items."""
        return items[int(self.rng.integers(len(items)))]

    def pick(self, wanted: Callable[[Value], bool]) -> Value | None:
        """A value of the pool, recent ones more often."""
        found = [v for v in self.pool if wanted(v)]
        if not found:
            return None
        at = len(found) - 1 - int(min(self.rng.geometric(0.25) - 1, len(found) - 1))
        return found[at]

    def add(self, tensor: graphc.Tensor, exact: bool, bound: float = 4.0) -> int:
        """Put a result into the pool unless it is too large."""
        count = evaluate(product(tensor.shape), self.sizes)
        if count > 20_000 or tensor.ndim > 5:
            return 0
        self.pool.append(Value(tensor, exact, min(bound, 1e6)))
        return 1

    def _shape(self) -> tuple[Any, ...]:
        rank = int(self.rng.choice([0, 1, 2, 2, 3]))
        return tuple(self.choose([self.dims["n"], self.dims["m"], 1, 2, 4, 7]) for _ in range(rank))

    def _placeholder(self) -> None:
        dtype = self.choose([float32, float32, float32, float64, float64, *FLOAT, *INTEGER, bool_])
        shape = self._shape()
        name = f"x{len(self.inputs)}"
        tensor = graphc.placeholder(shape, dtype, name=name)
        actual = tuple(evaluate(s, self.sizes) for s in shape)
        self.inputs.append(tensor)
        self.feeds[name] = self._array(actual, dtype)
        self.add(tensor, True)

    def _array(self, shape: tuple[int, ...], dtype: Any) -> Array:
        if dtype.is_bool:
            return self.rng.random(shape) < 0.5
        if dtype.is_integer:
            low = -9 if dtype.kind == "i" else 0
            return self.rng.integers(low, 10, shape).astype(dtype.numpy)
        values = self.rng.normal(0, 1.5, shape).astype(dtype.numpy)
        return from_storage(to_storage(values, dtype), dtype)

    def _finish(self) -> graphc.Graph:
        used = self.pool[len(self.inputs) :] or self.pool
        count = min(len(used), int(self.rng.integers(1, 5)))
        last = used[-count:]
        outputs = {f"y{k}": v.tensor for k, v in enumerate(last)}
        if self.rng.random() < 0.3:
            self._add_gradient(outputs)
        return graphc.Graph(self.inputs, outputs)

    def _add_gradient(self, outputs: dict[str, graphc.Tensor]) -> None:
        floats = [t for t in outputs.values() if t.dtype in (float32, float64)]
        wrt = [x for x in self.inputs if x.dtype in (float32, float64)]
        if not floats or not wrt:
            return
        cost = graphc.sum(floats[-1] * 0.5)
        gradients = graphc.grad(cost, wrt, allow_unused=True)
        for k, g in enumerate(gradients):
            outputs[f"g{k}"] = g

    # -- steps ----------------------------------------------------------------------------------------------
    def _step(self) -> int:
        kinds = [
            self._unary, self._unary, self._binary, self._binary, self._binary, self._reduce, self._reduce, self._view,
            self._view, self._join, self._matmul, self._where, self._integer, self._cast, self._row, self._gather,
            self._cumulative, self._compare,
        ]  # fmt: skip
        return int(self.choose(kinds)())

    def _float(self) -> Value | None:
        return self.pick(lambda v: v.tensor.dtype.is_float)

    def _unary(self) -> int:
        v = self._float()
        if v is None:
            return 0
        x = v.tensor
        options: list[tuple[Callable[[Any], Any], bool, float]] = [
            (graphc.tanh, False, 1), (graphc.sin, False, 1), (graphc.cos, False, 1), (graphc.sigmoid, False, 1),
            (lambda t: graphc.exp(graphc.minimum(t, 2.0)), False, 8), (lambda t: graphc.log1p(abs(t)), False, 4),
            (lambda t: graphc.sqrt(abs(t) + 0.5), False, v.bound), (graphc.negative, v.exact, v.bound), (graphc.abs, v.exact, v.bound),
            (graphc.square, False, v.bound**2), (lambda t: t * 0.5, False, v.bound), (lambda t: 1.0 - t, False, v.bound + 1),
            (lambda t: t + t, v.exact, v.bound * 2), (graphc.softplus, False, v.bound + 1), (graphc.erf, False, 1),
            (lambda t: graphc.log(abs(t) + 1.0), False, 4), (graphc.expm1 if v.bound < 10 else graphc.tanh, False, 1e4),
            (lambda t: graphc.maximum(t, 0.0), v.exact, v.bound), (graphc.atan, False, 2), (lambda t: t / 3.0, False, v.bound),
        ]  # fmt: skip
        function, exact, bound = self.choose(options)
        if bound > 1e5:
            return 0
        return self.add(function(x), exact, bound)

    def _partner(self, v: Value) -> Value:
        same = self.pick(
            lambda o: o.tensor.dtype is v.tensor.dtype and _fits(o.tensor.shape, v.tensor.shape)
        )
        return same or v

    def _binary(self) -> int:
        v = self._float()
        if v is None:
            return 0
        o = self._partner(v)
        bound = v.bound + o.bound
        options: list[tuple[Callable[[Any, Any], Any], bool, float]] = [
            (lambda a, b: a + b, False, bound), (lambda a, b: a - b, False, bound),
            (lambda a, b: a * b, False, v.bound * o.bound), (lambda a, b: a / (abs(b) + 1.0), False, v.bound),
            (graphc.maximum, v.exact and o.exact, bound), (graphc.minimum, v.exact and o.exact, bound),
            (graphc.hypot, False, bound), (graphc.logaddexp, False, bound),
            (lambda a, b: graphc.atan2(a, abs(b) + 0.5), False, 4),
        ]  # fmt: skip
        function, exact, size = self.choose(options)
        if size > 1e5:
            return 0
        return self.add(function(v.tensor, o.tensor), exact, size)

    def _reduce(self) -> int:
        v = self.pick(lambda w: w.tensor.ndim > 0)
        if v is None:
            return 0
        x = v.tensor
        axes = [a for a in range(x.ndim) if self.rng.random() < 0.5]
        axis: Any = None if not axes else (axes[0] if len(axes) == 1 else tuple(axes))
        keep = bool(self.rng.random() < 0.4)
        count = max(1, evaluate(product(x.shape), self.sizes))
        if x.dtype.is_bool:
            return self.add(self.choose([graphc.any, graphc.all])(x, axis=axis, keepdims=keep), True)
        exact_sum = v.exact and x.dtype.is_integer
        reduced = [x.shape[a] for a in (axes or range(x.ndim))]
        nonempty = all(isinstance(s, int) and s > 0 or str(s) == "m" for s in reduced)
        options: list[tuple[Callable[..., Any], bool, float]] = [(graphc.sum, exact_sum, v.bound * count)]
        if x.dtype.is_float and nonempty:
            options += [(graphc.mean, False, v.bound), (graphc.logsumexp, False, v.bound + 8), (graphc.var, False, v.bound**2)]
        if nonempty:
            options += [(graphc.max, v.exact, v.bound), (graphc.min, v.exact, v.bound)]
        function, exact, bound = self.choose(options)
        if bound > 1e5:
            return 0
        return self.add(function(x, axis=axis, keepdims=keep), exact, bound)

    def _view(self) -> int:
        v = self.pick(lambda w: w.tensor.ndim > 0)
        if v is None:
            return 0
        x = v.tensor
        axis = int(self.rng.integers(x.ndim))
        order = tuple(int(a) for a in self.rng.permutation(x.ndim))
        low, high = int(self.rng.integers(0, 3)), int(self.rng.integers(0, 3))
        options: list[Callable[[], Any]] = [
            lambda: graphc.permute_dims(x, order), lambda: graphc.flip(x, axis=axis), lambda: graphc.roll(x, 1, axis=axis),
            lambda: graphc.expand_dims(x, axis=axis), lambda: graphc.reshape(x, (-1,)),
            lambda: graphc.pad(x, [(low, high) if a == axis else (0, 0) for a in range(x.ndim)]),
            lambda: x[(slice(None),) * axis + (slice(None, None, int(self.choose([1, 2, -1]))),)],
            lambda: graphc.broadcast_to(x, (int(self.rng.integers(1, 4)), *x.shape)),
            lambda: graphc.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:])) if x.ndim > 1 else graphc.flip(x),
            lambda: graphc.tile(x, tuple(2 if a == axis else 1 for a in range(x.ndim))),
        ]  # fmt: skip
        return self.add(self.choose(options)(), v.exact, v.bound)

    def _join(self) -> int:
        v = self.pick(lambda w: w.tensor.ndim > 0)
        if v is None:
            return 0
        x = v.tensor
        axis = int(self.rng.integers(x.ndim))
        o = self.pick(lambda w: w.tensor.dtype is x.dtype and w.tensor.shape == x.shape) or v
        joined = graphc.concat([x, o.tensor], axis=axis) if self.rng.random() < 0.6 else graphc.stack([x, o.tensor], axis=axis)
        return self.add(joined, v.exact and o.exact, max(v.bound, o.bound))

    def _matmul(self) -> int:
        v = self.pick(lambda w: w.tensor.ndim >= 1 and not w.tensor.dtype.is_bool)
        if v is None:
            return 0
        x = v.tensor
        o = self.pick(lambda w: w.tensor.dtype is x.dtype and w.tensor.ndim == 2 and w.tensor.shape[0] == x.shape[-1])
        inner = max(1, evaluate(x.shape[-1], self.sizes))
        if o is not None:
            bound = v.bound * o.bound * inner
            return 0 if bound > 1e5 else self.add(graphc.matmul(x, o.tensor), x.dtype.is_integer and v.exact and o.exact, bound)
        bound = v.bound**2 * inner
        if bound > 1e5 or x.ndim != 2:
            return 0
        spec = self.choose(["ij,kj->ik", "ij,ij->i", "ij,ij->j", "ij,ik->jk", "ij,ij->"])
        return self.add(graphc.einsum(spec, x, x), x.dtype.is_integer and v.exact, bound * 20)

    def _compare(self) -> int:
        v = self.pick(lambda w: w.exact and not w.tensor.dtype.is_bool)
        if v is None:
            return 0
        o = self.pick(lambda w: w.exact and w.tensor.dtype is v.tensor.dtype and _fits(w.tensor.shape, v.tensor.shape)) or v
        function = self.choose([graphc.less, graphc.greater_equal, graphc.equal, graphc.not_equal])
        return self.add(function(v.tensor, o.tensor), True)

    def _where(self) -> int:
        condition = self.pick(lambda w: w.tensor.dtype.is_bool)
        if condition is None:
            return 0
        v = self.pick(lambda w: _fits(w.tensor.shape, condition.tensor.shape) or _fits(condition.tensor.shape, w.tensor.shape))
        if v is None or v.tensor.dtype.is_bool:
            return 0
        o = self._partner(v)
        if not (_fits(o.tensor.shape, condition.tensor.shape) or _fits(condition.tensor.shape, o.tensor.shape)):
            o = v
        try:
            tensor = graphc.where(condition.tensor, v.tensor, o.tensor)
        except graphc.ShapeError:
            return 0
        return self.add(tensor, v.exact and o.exact, max(v.bound, o.bound))

    def _integer(self) -> int:
        v = self.pick(lambda w: w.tensor.dtype.is_integer and w.exact)
        if v is None:
            return 0
        o = self._partner(v)
        if not (o.exact and o.tensor.dtype is v.tensor.dtype):
            o = v
        options: list[Callable[[Any, Any], Any]] = [
            lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a & b, lambda a, b: a ^ b,
            lambda a, b: a // b, lambda a, b: a % b, lambda a, b: a << 1, lambda a, b: a >> 1, lambda a, b: ~a,
            graphc.maximum, graphc.minimum, lambda a, b: abs(a), lambda a, b: a // 3, lambda a, b: a % 5,
        ]  # fmt: skip
        return self.add(self.choose(options)(v.tensor, o.tensor), True, 100.0)

    def _cast(self) -> int:
        v = self.pick(lambda w: True)
        if v is None:
            return 0
        targets = [float32, float64, float32, *FLOAT] + ([*INTEGER, bool_] if v.exact else [])
        target = self.choose(targets)
        whole = not v.tensor.dtype.is_float
        exact = v.exact and (target.is_integer or (whole and target.bits >= 32))
        return self.add(graphc.astype(v.tensor, target), exact, v.bound)

    def _row(self) -> int:
        v = self.pick(lambda w: w.tensor.dtype.is_float and w.tensor.ndim > 0)
        if v is None or v.bound > 1e3:
            return 0
        x = v.tensor
        axis = int(self.rng.integers(x.ndim))
        if not (isinstance(x.shape[axis], int) and x.shape[axis] > 0) and str(x.shape[axis]) != "m":
            return 0
        options: list[Callable[[], Any]] = [
            lambda: graphc.nn.softmax(x, axis=axis), lambda: graphc.nn.log_softmax(x, axis=axis),
            lambda: x - graphc.mean(x, axis=axis, keepdims=True), lambda: x - graphc.max(x, axis=axis, keepdims=True),
            lambda: (x - graphc.mean(x, axis=axis, keepdims=True)) / graphc.sqrt(graphc.var(x, axis=axis, keepdims=True) + 0.1),
        ]  # fmt: skip
        return self.add(self.choose(options)(), False, v.bound * 3 + 10)

    def _gather(self) -> int:
        v = self.pick(lambda w: w.tensor.ndim > 0)
        if v is None:
            return 0
        x = v.tensor
        fixed = [a for a in range(x.ndim) if isinstance(x.shape[a], int) and x.shape[a] > 0]
        if not fixed:
            return 0
        axis = self.choose(fixed)
        index = self.rng.integers(-int(x.shape[axis]), int(x.shape[axis]), int(self.rng.integers(1, 6)))
        return self.add(graphc.take(x, graphc.constant(index), axis=axis), v.exact, v.bound)

    def _cumulative(self) -> int:
        v = self.pick(lambda w: w.tensor.ndim > 0 and not w.tensor.dtype.is_bool)
        if v is None:
            return 0
        x = v.tensor
        axis = int(self.rng.integers(x.ndim))
        bound = v.bound * max(1, evaluate(x.shape[axis], self.sizes))
        if v.exact and self.rng.random() < 0.5:
            return self.add(graphc.sort(x, axis=axis), True, v.bound)
        if bound > 1e5:
            return 0
        return self.add(graphc.cumulative_sum(x, axis=axis), v.exact and x.dtype.is_integer, bound)


def _fits(shape: Any, wanted: Any) -> bool:
    """Whether `shape` broadcasts to `wanted`."""
    if len(shape) > len(wanted):
        return False
    tail = wanted[len(wanted) - len(shape) :]
    return all(s == w or (isinstance(s, int) and s == 1) for s, w in zip(shape, tail, strict=True))


def wide_values(graph: graphc.Graph, feeds: dict[str, Array]) -> dict[int, Any]:
    """The graph's values with every float computed in float64: how far the reference itself is from the truth."""
    from_inputs = {id(t): feeds[name] for name, t in graph.inputs}
    sizes: dict[str, int] = {}
    for name, t in graph.inputs:
        for size, actual in zip(t.shape, feeds[name].shape, strict=True):
            if isinstance(size, Dim):
                sizes[str(size)] = actual
    values: dict[int, Any] = {}
    for node in graph.nodes:
        if id(node) in from_inputs:
            array = np.asarray(from_inputs[id(node)])
            values[id(node)] = array.astype(np.float64) if array.dtype.kind == "f" else array
        elif node.op.name == "variable":
            values[id(node)] = node.attr("value").values
        else:
            values[id(node)] = _wide_node(node, [values[id(i)] for i in node.inputs], sizes)
    return values


def _wide_node(node: Any, arrays: list[Any], sizes: dict[str, int]) -> Any:
    from graphc.ir.graph import bind_sizes

    attrs = {k: bind_sizes(v, sizes) for k, v in node.attributes.items()}
    if attrs.get("dtype") is not None and getattr(attrs["dtype"], "is_float", False):
        attrs["dtype"] = dtype_of("float64")
    with np.errstate(all="ignore"):
        value = np.asarray(node.op.reference(*arrays, **attrs))
    return value.astype(np.float64) if node.dtype.is_float else value.astype(node.dtype.numpy)
