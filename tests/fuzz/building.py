"""What every step of a random graph works with: the values so far, and random choices.

Values carry a tag, *exact*: made without rounding. Only exact values reach operations in which a
last bit decides (comparisons, sorting, indices, float to integer), so that results of different but
correct rounding stay comparable. Their `bound` is a rough size of the elements: what may overflow
is not made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphc
from graphc.base.dims import Dim, evaluate, product
from graphc.base.dtypes import DType, from_storage, to_storage

Array = np.ndarray[Any, Any]
SPECIALS = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-7, 1.0, -1.0)
LARGEST = 1e5  # of values that take part in arithmetic
LARGEST_HALF = 2e3  # the same for float16, whose largest number is 65504


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph, whether its bits are exact, and a rough size of its elements."""

    tensor: graphc.Tensor
    exact: bool
    bound: float = 4.0


class Builder:
    """The values of a graph in the making. `sizes` are the dims' sizes in the feeds."""

    def __init__(self, seed: int, sizes: dict[str, int], limit: int = 20_000) -> None:
        self.rng = np.random.default_rng(seed)
        self.sizes = sizes
        self.limit = limit
        self.dims: dict[str, Any] = {name: Dim(name, min=0 if name == "n" else 1) for name in sizes}
        self.pool: list[Value] = []
        self.inputs: list[graphc.Tensor] = []
        self.variables: list[graphc.Tensor] = []
        self.feeds: dict[str, Array] = {}
        self.full_range = False
        self.specials = False

    # -- chance ---------------------------------------------------------------------------------
    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return bool(self.rng.random() < probability)

    def integer(self, low: int, high: int) -> int:
        """An int from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def choose(self, items: Any) -> Any:
        """One of the items."""
        return items[int(self.rng.integers(len(items)))]

    # -- values ---------------------------------------------------------------------------------
    def pick(self, wanted: Callable[[Value], Any] = bool) -> Value | None:
        """A value of the pool, recent ones more often."""
        found = [v for v in self.pool if wanted(v)]
        if not found:
            return None
        at = len(found) - 1 - int(min(self.rng.geometric(0.25) - 1, len(found) - 1))
        return found[at]

    def pick_float(self, ndim: int = 0) -> Value | None:
        """A float value of at least `ndim` dims."""
        return self.pick(lambda v: v.tensor.dtype.is_float and v.tensor.ndim >= ndim)

    def add(self, tensor: graphc.Tensor, exact: bool, bound: float = 4.0) -> int:
        """Put a result into the pool unless it is too large; how many were put there."""
        most = LARGEST_HALF if tensor.dtype.name == "float16" else LARGEST
        too_much = tensor.dtype.is_float and bound > most
        if too_much or self.count(tensor.shape) > self.limit or tensor.ndim > 5:
            return 0
        self.pool.append(Value(tensor, exact, bound))
        return 1

    def count(self, shape: Any) -> int:
        """The number of elements of a shape in the feeds."""
        return int(evaluate(product(shape), self.sizes))

    def size(self, size: Any) -> int:
        """A dim's size in the feeds."""
        return int(evaluate(size, self.sizes))

    def surely(self, size: Any) -> bool:
        """Whether a dim is never zero, whatever is fed."""
        return size > 0 if isinstance(size, int) else str(size) in self.dims and str(size) != "n"

    # -- sources --------------------------------------------------------------------------------
    def placeholder(self, shape: Any, dtype: DType) -> Value:
        """A new input, with its feed."""
        name = f"x{len(self.inputs)}"
        tensor = graphc.placeholder(shape, dtype, name=name)
        self.inputs.append(tensor)
        self.feeds[name] = self.array(tuple(self.size(s) for s in shape), dtype)
        wide = self.full_range and dtype.is_integer
        value = Value(tensor, True, 2.0**dtype.bits if wide else 10.0 if dtype.is_integer else 6.0)
        self.pool.append(value)
        return value

    def variable(self, shape: tuple[int, ...], dtype: DType) -> Value:
        """A new variable of known sizes."""
        value = self.array(shape, dtype)
        name = f"v{len(self.variables)}"
        tensor = graphc.variable(value, name=name, dtype=dtype)
        self.variables.append(tensor)
        made = Value(tensor, True, 6.0)
        self.pool.append(made)
        return made

    def array(self, shape: tuple[int, ...], dtype: DType) -> Array:
        """Random elements in reference form."""
        if dtype.is_bool:
            return np.asarray(self.rng.random(shape) < 0.5)
        if dtype.is_integer:
            info = np.iinfo(dtype.numpy)
            low, high = (info.min, info.max) if self.full_range else (max(-9, info.min), 9)
            return self.rng.integers(low, high, shape, dtype=dtype.numpy, endpoint=True)
        values = np.asarray(self.rng.normal(0, 1.5, shape)).astype(dtype.numpy)
        if self.specials:
            odd = self.rng.choice(SPECIALS, shape).astype(dtype.numpy)
            values = np.asarray(np.where(self.rng.random(shape) < 0.12, odd, values))
        return from_storage(to_storage(values, dtype), dtype)

    def weights(self, shape: tuple[int, ...], like: graphc.Tensor) -> graphc.Tensor:
        """A new small operand of known sizes: an input, a variable or a constant."""
        kind = self.choose(["input", "variable", "constant"])
        if kind == "input" and len(self.inputs) < 8:
            return self.placeholder(shape, like.dtype).tensor
        if kind == "variable" and like.dtype.name != "bfloat16" and len(self.variables) < 4:
            return self.variable(shape, like.dtype).tensor
        return graphc.constant(self.array(shape, like.dtype), dtype=like.dtype)


def fits(shape: Any, wanted: Any) -> bool:
    """Whether `shape` broadcasts to `wanted`."""
    if len(shape) > len(wanted):
        return False
    tail = wanted[len(wanted) - len(shape) :]
    return all(s == w or (isinstance(s, int) and s == 1) for s, w in zip(shape, tail, strict=True))
