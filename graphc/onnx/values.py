"""What a name of a model holds while it is imported (floor 8).

A `TensorValue` knows a graphc tensor, or a stored array that becomes one when it is first used as
such. Small integer arrays moreover know their elements as *sizes*: ints and `graphc.Dim`s, so that
the shape arithmetic of models (Shape, Gather, Concat, Mul …) stays arithmetic on dims, and what it
computes serves as a shape again. Sequences and optionals exist at import only, as Python values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Shape, Size
from graphc.base.dtypes import Array, DType, from_storage, to_storage
from graphc.base.order import topological
from graphc.ir.bindings import bindings_of
from graphc.ir.constant import ConstantValue, from_owned
from graphc.ir.graph import Graph, node_inputs
from graphc.ir.node import Node, Tensor
from graphc.onnx.elements import DTYPES, ELEMENTS
from graphc.ops.joining import stack
from graphc.ops.promotion import as_tensor, cast
from graphc.ops.reshape import to_shape
from graphc.ops.state import constant_node

SIZE_ELEMENTS = 1024  # arrays up to this many elements are looked at as sizes
FOLD_ELEMENTS = 1 << 24  # elements that all steps of a computation at import may have together


class Value:
    """A tensor, a sequence, an optional, or something that graphc cannot hold."""

    __slots__ = ()


class TensorValue(Value):
    """One tensor: `.tensor`, `.shape`, `.dtype`; `.sizes` where its elements are known as sizes.

    element: the ONNX element type. For types that graphc carries in a wider dtype (int4 in int8)
    it says which; `plain` is then False.
    """

    __slots__ = ("_known", "_stored", "_tensor", "dtype", "element", "shape", "sizes")

    def __init__(
        self,
        tensor: Tensor | None,
        *,
        stored: Array | None = None,
        sizes: Array | None = None,
        dtype: DType | None = None,
        element: int | None = None,
    ) -> None:
        self._tensor = tensor
        self._stored = stored
        self._known: Array | None = None
        shaped = tensor if tensor is not None else stored if stored is not None else sizes
        assert shaped is not None
        self.shape: Shape = shaped.shape
        self.dtype: DType = tensor.dtype if tensor is not None else dtype  # type: ignore[assignment]  # given then
        self.element = ELEMENTS[self.dtype] if element is None else element
        self.sizes = self._small_sizes() if sizes is None else sizes

    def _small_sizes(self) -> Array | None:
        if not self.dtype.is_integer or self._stored is None or self._stored.size > SIZE_ELEMENTS:
            return None
        sizes: Array = np.empty(self._stored.shape, object)
        sizes[...] = self._stored.tolist()
        return sizes

    @property
    def plain(self) -> bool:
        """Whether the element type is that of the tensor's dtype."""
        return DTYPES.get(self.element) is self.dtype

    @property
    def used(self) -> bool:
        """Whether the value is a tensor already."""
        return self._tensor is not None

    @property
    def ndim(self) -> int:
        """The number of dims."""
        return len(self.shape)

    @property
    def tensor(self) -> Tensor:
        """The value as a tensor."""
        if self._tensor is None:
            if self._stored is not None:
                self._tensor = constant_node(from_owned(self._stored, self.dtype))
            else:
                assert self.sizes is not None
                self._tensor = sizes_tensor(self.sizes, self.dtype)
        return self._tensor

    def known(self) -> Array | None:
        """The value in reference form where it depends on no input, else None.

        Computed by the reference meaning of the ops where that is little work.
        """
        if self._known is None:
            self._known = self._compute()
        return self._known

    def _compute(self) -> Array | None:
        if self._stored is not None:
            return from_storage(self._stored, self.dtype)
        if self.sizes is not None and not any(isinstance(s, Dim) for s in self.sizes.flat):
            return np.array(self.sizes.tolist(), self.dtype.numpy).reshape(self.sizes.shape)
        tensor = self.tensor
        if tensor.op.name == "constant":
            value: ConstantValue = tensor.attr("value")
            return value.values
        nodes = topological(_roots(tensor), node_inputs)
        if any(map(_is_open, nodes)) or _work(nodes) > FOLD_ELEMENTS:
            return None
        graph = Graph.build((), (("value", tensor),), (), "constant", {})
        return graph.evaluate({})["value"]

    def depends_on(self) -> tuple[list[str], list[str]]:
        """Names of the placeholders and of the symbols that the value is computed from."""
        return ([], []) if self._stored is not None else sources([self.tensor])


class SequenceValue(Value):
    """A sequence of values of one kind. element: that of its tensors, 0 where nobody said."""

    __slots__ = ("element", "items")

    def __init__(self, items: Iterable[Value], element: int = 0) -> None:
        self.items = tuple(items)
        self.element = element


class OptionalValue(Value):
    """A value that may be missing."""

    __slots__ = ("item",)

    def __init__(self, item: Value | None) -> None:
        self.item = item


class ForeignValue(Value):
    """A value of a type that graphc does not have: it may be passed on, but not computed with."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what


def of_tensor(tensor: Tensor) -> TensorValue:
    """The value of a tensor; a size or a constant of a few integers is known as sizes."""
    if tensor.op.name == "constant" and tensor.dtype.is_integer and tensor.size <= SIZE_ELEMENTS:
        sizes: Array = np.empty(tensor.shape, object)
        sizes[...] = tensor.attr("value").values.tolist()
        return TensorValue(tensor, sizes=sizes)
    return TensorValue(tensor)


def of_array(array: Any, dtype: DType) -> TensorValue:
    """The value of an array in reference form, copied."""
    stored = np.array(to_storage(np.asarray(array), dtype), order="C", copy=True)
    return TensorValue(None, stored=stored, dtype=dtype)


def of_sizes(sizes: Any, dtype: DType) -> TensorValue:
    """The value of an array (or a nest of lists) of ints and dims."""
    if not isinstance(sizes, np.ndarray) or sizes.dtype != object:
        sizes = object_array(sizes)
    return TensorValue(None, sizes=sizes, dtype=dtype)


def object_array(sizes: Any) -> Array:
    """Ints and dims as an array of objects: a dim is one element."""
    if isinstance(sizes, Dim | int | np.integer):
        found: Array = np.empty((), object)
        found[()] = sizes if isinstance(sizes, Dim) else int(sizes)
        return found
    if isinstance(sizes, np.ndarray):
        sizes = sizes.tolist()
        if not isinstance(sizes, list):
            return object_array(sizes)
    items = [object_array(s) for s in sizes]
    found = np.empty((len(items), *(items[0].shape if items else ())), object)
    for k, item in enumerate(items):
        found[k] = item if item.ndim else item[()]
    return found


def sizes_tensor(sizes: Array, dtype: DType) -> Tensor:
    """Sizes as a tensor; one without dims is a constant."""
    flat = sizes.ravel().tolist()
    if not any(isinstance(s, Dim) for s in flat):
        return constant_node(from_owned(np.array(flat, dtype.storage).reshape(sizes.shape), dtype))
    parts = [cast(as_tensor(s, like=dtype), dtype) for s in flat]
    return to_shape(parts[0] if sizes.ndim == 0 else stack(parts), sizes.shape)


def static_shape(shape: Sequence[Size]) -> tuple[int, ...] | None:
    """The shape where all its sizes are numbers, else None."""
    numbers = [s for s in shape if isinstance(s, int)]
    return tuple(numbers) if len(numbers) == len(shape) else None


def sources(roots: Sequence[Node]) -> tuple[list[str], list[str]]:
    """Names of the placeholders and of the declared symbols from which nodes are computed, the
    counts of computed sizes included.
    """
    names: dict[str, None] = {}
    symbols: dict[str, None] = {}
    counts = [count for _, count in bindings_of(roots)]
    for node in topological([*roots, *counts], node_inputs):
        if node.op.name == "placeholder":
            names[str(node.attr("name"))] = None
        else:
            found = [s for size in _dims(node.attrs) for s in size.symbols()]
            symbols.update((s.name, None) for s in found if s.origin is None)
    return list(names), list(symbols)


def _roots(tensor: Tensor) -> list[Node]:
    return [tensor]


def _dims(attribute: Any) -> list[Dim]:
    """The dims in an attribute, tuples inside tuples included."""
    found: list[Dim] = []
    stack_ = [attribute]
    while stack_:
        item = stack_.pop()
        if isinstance(item, Dim):
            found.append(item)
        elif isinstance(item, tuple):
            stack_ += item
    return found


def _is_open(node: Node) -> bool:
    return node.op.name in ("placeholder", "variable") or bool(_dims(node.attrs))


def _work(nodes: Sequence[Node]) -> int:
    total = 0
    for node in nodes:
        types = (node.type,) if isinstance(node, Tensor) else getattr(node.type, "items", ())
        for t in types:
            count = 1
            for size in t.shape:
                if isinstance(size, Dim):
                    return FOLD_ELEMENTS + 1
                count *= size
            total += count
    return total
