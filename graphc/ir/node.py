"""Nodes (floor 1): the immutable, interned values of the graph language.

Equal structure is the same object: common subexpressions, equality tests and caches cost nothing. A
node cannot exist with a wrong type, because its op's `infer` computes the type.  `Tensor` is the
node that users hold: its operators are filled in by floor 2 (`ops/operators.py`) through
`OPERATORS` and `HOOKS`.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphc.base.dims import Dim, Shape, Size, product, shape_text
from graphc.base.dtypes import DType
from graphc.base.errors import GraphcError, GraphError, ShapeError, UnsupportedError, message
from graphc.base.intern import InternTable
from graphc.ir import provenance

if TYPE_CHECKING:
    from graphc.ir.opdef import OpDef


@dataclass(frozen=True, slots=True, weakref_slot=True)
class TensorType:
    """Shape and dtype of one tensor; prints as `f32[n, 64]`."""

    shape: Shape
    dtype: DType

    def __str__(self) -> str:
        return self.dtype.short + shape_text(self.shape)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class TupleType:
    """The type of an op with several results."""

    items: tuple[TensorType, ...]

    def __str__(self) -> str:
        return "(" + ", ".join(map(str, self.items)) + ")"


Type = TensorType | TupleType
OPERATORS: dict[str, Callable[..., Tensor]] = {}
HOOKS: dict[str, Callable[..., Any]] = {}  # what gives something else than a tensor
_NODES: InternTable[Node] = InternTable()
_TENSOR_TYPES: InternTable[TensorType] = InternTable()
_TUPLE_TYPES: InternTable[TupleType] = InternTable()
_uids = itertools.count()


class Node:
    """One value: an op applied to inputs with attributes.

    attrs: values in the order of `op.attributes`; hashable and serializable.
    """

    __slots__ = ("__weakref__", "attrs", "inputs", "op", "type")
    op: OpDef
    inputs: tuple[Tensor, ...]
    attrs: tuple[Any, ...]
    type: Type

    def attr(self, name: str) -> Any:
        """The attribute of that name."""
        return self.attrs[self.op.attributes.index(name)]

    @property
    def attributes(self) -> dict[str, Any]:
        """All attributes by name."""
        return dict(zip(self.op.attributes, self.attrs, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        raise GraphcError(
            "nodes are not pickled: save a graph with graph.save(path), or its text with str(graph)"
        )

    def __hash__(self) -> int:
        return id(self) >> 4


class Tensor(Node):
    """A symbolic array: `.shape .dtype .ndim .size`, the operators of the Array API, indexing.

    It has no value and is never truthy: a value comes from `tensor.eval(feeds)` or a session.
    """

    __slots__ = ()
    type: TensorType

    if not TYPE_CHECKING:  # a type checker knows which attributes exist

        def __getattr__(self, name: str) -> object:
            """Say how an attribute of other libraries' arrays is written here."""
            known = HOOKS.get("missing")
            plain = known is None or name.startswith("_")
            text = f"'Tensor' object has no attribute {name!r}" if plain else known(name)
            raise AttributeError(text, name=name, obj=self)

    # -- what it is -------------------------------------------------------------------------------
    @property
    def shape(self) -> Shape:
        """Sizes, each an int or a `Dim`."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.type.shape)

    @property
    def size(self) -> Size:
        """The number of elements."""
        return product(self.type.shape)

    @property
    def device(self) -> str:
        """The Array API's word; a graph has no device until a session runs it."""
        return "any"

    @property
    def name(self) -> str | None:
        """The first name that the user gave, or None."""
        found = provenance.names(self)
        return found[0] if found else None

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix. Raises ShapeError unless `ndim == 2`."""
        return OPERATORS["T"](self)

    @property
    def mT(self) -> Tensor:
        """The last two dimensions swapped. Raises ShapeError when `ndim < 2`."""
        return OPERATORS["mT"](self)

    @property
    def at(self) -> Any:
        """`x.at[index].add(values)` (also `set`, `multiply`, `min`, `max`): a new tensor with those
        elements updated.
        """
        return HOOKS["at"](self)

    def named(self, name: str) -> Tensor:
        """The same tensor with one more name, which stays with it through every rewrite.

        Raises GraphError for a name that is empty or holds white space or quotes.
        """
        provenance.check_name(name)
        provenance.add_name(self, provenance.scoped(name))
        return self

    def eval(self, feeds: Mapping[Any, Any] | None = None) -> Any:
        """The value as a NumPy array, computed once in a session of its own; for looking, not for
        loops.
        """
        return HOOKS["eval"](self, feeds)

    def astype(self, dtype: Any, /) -> Tensor:
        """The tensor converted to another dtype."""
        return OPERATORS["astype"](self, dtype)

    def reshape(self, *shape: Any) -> Tensor:
        """The elements in another shape; one size may be -1."""
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int | Dim) else shape
        return OPERATORS["reshape"](self, sizes)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The sum over `axis` (all by default)."""
        return OPERATORS["sum"](self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """The mean over `axis` (all by default)."""
        return OPERATORS["mean"](self, axis=axis, keepdims=keepdims)

    # -- what it is not ---------------------------------------------------------------------------
    def _no(self, what: str, hint: str) -> GraphError:
        return GraphError(message(what, operands=[describe(self)], hint=hint))

    def __bool__(self) -> bool:
        raise self._no(
            "a symbolic tensor has no truth value: it has no value until a session runs it",
            "choose elementwise with graphc.where(condition, a, b); graphc.cond(condition, then, "
            "otherwise) runs one of two branches; "
            "write `a < b < c` as `(a < b) & (b < c)`, and `and`, `or`, `not` as `&`, `|`, `~`",
        )

    def _no_number(self, kind: str) -> GraphError:
        return self._no(
            f"a symbolic tensor cannot become a Python {kind}",
            "use tensor.eval(feeds) or session.run to get its value; inside the graph use graphc "
            "functions",
        )

    def __float__(self) -> float:
        raise self._no_number("float")

    def __int__(self) -> int:
        raise self._no_number("int")

    def __index__(self) -> int:
        raise self._no_number("index")

    def __complex__(self) -> complex:
        raise self._no_number("complex")

    def __len__(self) -> int:
        if not self.shape:
            raise self._no("len() of a 0-d tensor", "it has no dimension; use tensor.shape")
        first = self.shape[0]
        if isinstance(first, Dim):
            raise self._no(
                f"len() of the symbolic dim {first}: its size is not known before the function is "
                "called",
                "use tensor.shape[0], which works in arithmetic and shapes",
            )
        return first

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __contains__(self, item: object) -> bool:
        raise self._no(
            "`in` needs values that a symbolic tensor does not have",
            "use graphc.any(tensor == item)",
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise self._no(
            "NumPy asked for the values of a symbolic tensor",
            "use the graphc function of the same name (graphc.exp for np.exp), or "
            "tensor.eval(feeds) for values",
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return HOOKS["array_ufunc"](ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return HOOKS["array_function"](function, args, kwargs)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return HOOKS["array_namespace"](api_version)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise self._no(
            "a symbolic tensor never changes in place",
            "use y = x.at[index].set(value) (or .add, .multiply, .min, .max), which gives a new "
            "tensor",
        )

    def __getitem__(self, key: Any) -> Tensor:
        return OPERATORS["getitem"](self, key)

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"<Tensor{name} {self.op.name} {self.type}>"

    def __str__(self) -> str:
        return repr(self)

    __hash__ = Node.__hash__

    # -- operators, one table in floor 2 ----------------------------------------------------------
    def __add__(self, other: Any) -> Tensor:
        return OPERATORS["add"](self, other)

    def __radd__(self, other: Any) -> Tensor:
        return OPERATORS["add"](other, self)

    def __sub__(self, other: Any) -> Tensor:
        return OPERATORS["subtract"](self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return OPERATORS["subtract"](other, self)

    def __mul__(self, other: Any) -> Tensor:
        return OPERATORS["multiply"](self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return OPERATORS["multiply"](other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return OPERATORS["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return OPERATORS["divide"](other, self)

    def __floordiv__(self, other: Any) -> Tensor:
        return OPERATORS["floor_divide"](self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return OPERATORS["floor_divide"](other, self)

    def __mod__(self, other: Any) -> Tensor:
        return OPERATORS["remainder"](self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return OPERATORS["remainder"](other, self)

    def __pow__(self, other: Any) -> Tensor:
        return OPERATORS["pow"](self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return OPERATORS["pow"](other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return OPERATORS["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return OPERATORS["matmul"](other, self)

    def __and__(self, other: Any) -> Tensor:
        return OPERATORS["bitwise_and"](self, other)

    def __rand__(self, other: Any) -> Tensor:
        return OPERATORS["bitwise_and"](other, self)

    def __or__(self, other: Any) -> Tensor:
        return OPERATORS["bitwise_or"](self, other)

    def __ror__(self, other: Any) -> Tensor:
        return OPERATORS["bitwise_or"](other, self)

    def __xor__(self, other: Any) -> Tensor:
        return OPERATORS["bitwise_xor"](self, other)

    def __rxor__(self, other: Any) -> Tensor:
        return OPERATORS["bitwise_xor"](other, self)

    def __lshift__(self, other: Any) -> Tensor:
        return OPERATORS["bitwise_left_shift"](self, other)

    def __rlshift__(self, other: Any) -> Tensor:
        return OPERATORS["bitwise_left_shift"](other, self)

    def __rshift__(self, other: Any) -> Tensor:
        return OPERATORS["bitwise_right_shift"](self, other)

    def __rrshift__(self, other: Any) -> Tensor:
        return OPERATORS["bitwise_right_shift"](other, self)

    def __lt__(self, other: Any) -> Tensor:
        return OPERATORS["less"](self, other)

    def __le__(self, other: Any) -> Tensor:
        return OPERATORS["less_equal"](self, other)

    def __gt__(self, other: Any) -> Tensor:
        return OPERATORS["greater"](self, other)

    def __ge__(self, other: Any) -> Tensor:
        return OPERATORS["greater_equal"](self, other)

    # A tensor, where `object` promises a bool: as NumPy's arrays do.
    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]  # a tensor, no bool
        return OPERATORS["equal"](self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]  # as __eq__
        return OPERATORS["not_equal"](self, other)

    def __neg__(self) -> Tensor:
        return OPERATORS["negative"](self)

    def __pos__(self) -> Tensor:
        return OPERATORS["positive"](self)

    def __abs__(self) -> Tensor:
        return OPERATORS["abs"](self)

    def __invert__(self) -> Tensor:
        return OPERATORS["bitwise_invert"](self)


def make(op: OpDef, inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> Node:
    """The node of `op` on `inputs`: typed, interned, with the user's line recorded."""
    key = (op.name, *map(id, inputs), *map(attr_key, attrs))

    def build() -> Node:
        node_type = op.infer(inputs, attrs)
        node = (Tensor if isinstance(node_type, TensorType) else Node).__new__(
            Tensor if isinstance(node_type, TensorType) else Node
        )
        node.op = op
        node.inputs = inputs  # type: ignore[assignment]  # tuple-typed inputs only reach `get`
        node.attrs = attrs
        node.type = _shared_type(node_type)
        return node

    node = _NODES.get(key, build)
    provenance.record(node)
    return node


def _shared_type(found: Type) -> Type:
    """The living type that is equal: a thousand layers have few types, and walks see each once."""
    if isinstance(found, TensorType):
        return _TENSOR_TYPES.get((found.shape, found.dtype), lambda: found)
    return _TUPLE_TYPES.get(found.items, lambda: found)


def attr_key(value: Any) -> Any:
    """The value of an attribute as part of a key: equal just where the attributes are the same."""
    # 1, 1.0 and True are equal to Python, and so are 0.0 and -0.0: they are different attributes.
    return (type(value), repr(value)) if isinstance(value, float | bool) else value


def describe(node: Node) -> str:
    """One operand line of an error: `x : f32[n, 64]   placeholder, model.py:12`."""
    found = provenance.names(node)
    place = provenance.locations(node)
    label = found[0] if found else node.op.name
    return f"{label} : {node.type}   {node.op.name}" + (f", {place[0]}" if place else "")


def fresh_uid() -> int:
    """A number that no placeholder or variable of this process has had: they are unique by
    creation.
    """
    return next(_uids)


def as_index(value: Any) -> int | None:
    """An int for Python and NumPy integers, None for anything else (bool included)."""
    if isinstance(value, bool | Node) or (
        hasattr(value, "dtype") and getattr(value, "ndim", 0) > 0
    ):
        return None
    try:
        return operator.index(value)
    except (TypeError, ShapeError, UnsupportedError):
        return None
