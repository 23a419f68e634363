"""The shape of what users ask for (runtime, floor 7): nests of tensors, the same nests of arrays.

Invariant: a program computes every distinct tensor once, in the order of its first place in the
nest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graphc.autodiff.nest import flatten
from graphc.base.dtypes import Array
from graphc.base.errors import GraphError, message
from graphc.ir.node import Tensor
from graphc.runtime.feeding import here


class Structure:
    """A nest of lists, tuples and dicts of tensors; None stands for nothing.

    leaves: its tensors in order; distinct: each once; places: per leaf its position among the
    distinct.
    """

    def __init__(self, nest: Any, what: str) -> None:
        self.nest = nest
        self.single = isinstance(nest, Tensor)
        self.leaves: list[Tensor]
        self.leaves, self._rebuild = flatten([] if nest is None else nest, what)
        positions: dict[int, int] = {}
        self.distinct: list[Tensor] = []
        for leaf in self.leaves:
            if id(leaf) not in positions:
                positions[id(leaf)] = len(self.distinct)
                self.distinct.append(leaf)
        self.places = [positions[id(leaf)] for leaf in self.leaves]
        self.plain = self.single or nest is None  # what a call gives is the result, as it comes
        # Or it is a tuple of the arrays, each once.
        self.is_flat = self.plain or (
            type(nest) is tuple
            and bool(nest)
            and all(isinstance(t, Tensor) for t in nest)
            and len(self.distinct) == len(nest)
        )

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for nests of the same structure of the same tensors."""
        return (_shape_key(self.nest), *map(id, self.leaves))

    def named(self) -> list[Tensor] | Mapping[str, Tensor]:
        """The outputs of a graph: by the keys of a plain dict, else in order."""
        nest = self.nest
        if isinstance(nest, Mapping) and all(
            isinstance(k, str) and isinstance(v, Tensor) for k, v in nest.items()
        ):
            return dict(nest)
        return self.leaves

    def pack(self, result: Any) -> Any:
        """What the caller gave (an array, a tuple, or None) in the structure of the nest."""
        if self.plain:
            return result if self.single else None
        arrays = () if result is None else result
        return self.build([arrays[k] for k in self.places])

    def build(self, leaves: Sequence[Any]) -> Any:
        """The nest with these leaves."""
        return None if self.nest is None else self._rebuild(iter(leaves))

    def match(self, given: Any, what: str) -> list[Any]:
        """The leaves of another nest of the same structure. Raises GraphError where it differs."""
        if self.nest is None:
            return []
        return list(_matched(self.nest, given, what))


def _shape_key(nest: Any) -> Any:
    if isinstance(nest, Mapping):
        return (dict, *((k, _shape_key(v)) for k, v in nest.items()))
    if isinstance(nest, list | tuple):
        return (type(nest), *map(_shape_key, nest))
    return None


def _matched(nest: Any, given: Any, what: str) -> Iterator[Any]:
    if isinstance(nest, Mapping):
        if not isinstance(given, Mapping) or set(given) != set(nest):
            raise _differs(what, f"a dict with the keys {list(nest)}", given)
        for key, item in nest.items():
            yield from _matched(item, given[key], what)
    elif isinstance(nest, list | tuple):
        if not isinstance(given, list | tuple) or len(given) != len(nest):
            raise _differs(what, f"a sequence of {len(nest)}", given)
        for item, other in zip(nest, given, strict=True):
            yield from _matched(item, other, what)
    else:
        yield given


def _differs(what: str, expected: str, given: Any) -> GraphError:
    got: str = type(given).__name__
    if isinstance(given, Mapping):
        got += f" with the keys {list(given)}"
    elif isinstance(given, list | tuple):
        got += f" of {len(given)}"
    return GraphError(
        message(
            f"{what}: expected {expected}, got a {got}",
            at=here(),
            hint=f"{what} must have the structure of the function's outputs",
        )
    )


def overlaps(target: Array, arrays: Sequence[Any]) -> bool:
    """Whether memory of `target` may belong to one of `arrays` as well."""
    return any(isinstance(a, type(target)) and _bounds_meet(target, a) for a in arrays)


def _bounds_meet(a: Array, b: Array) -> bool:
    start, other = (x.__array_interface__["data"][0] for x in (a, b))
    if a.flags.c_contiguous and b.flags.c_contiguous:
        return bool(start < other + b.nbytes and other < start + a.nbytes)
    return True  # strided memory: not worth a closer look, the result is then copied
