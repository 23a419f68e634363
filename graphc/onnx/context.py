"""One node of a model as its handler sees it, and the table of handlers (floor 8).

A handler is a function of a `Context` that gives the node's outputs: a tensor, a `Value`, or a
sequence of such; trailing outputs that the node does not name may be given all the same. It is
registered for an operator from a version of its domain on:

    @op("LeakyRelu")
    def leaky_relu(c: Context) -> Tensor:
        return activations.leaky_relu(c.tensor(0), c.attribute("alpha"))

Numbers of operands and the names and types of attributes are checked before a handler runs, against
the operator's schema, and what a handler's ops raise (ShapeError, DTypeError …) becomes a
FormatError that names the node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

import graphc
from graphc.base.dims import Dim, Size
from graphc.base.dtypes import Array, DType
from graphc.ir.node import Tensor
from graphc.onnx.elements import DTYPES, name_of
from graphc.onnx.refusal import bad, needed, unsupported
from graphc.onnx.values import (
    ForeignValue,
    OptionalValue,
    SequenceValue,
    TensorValue,
    Value,
)

if TYPE_CHECKING:
    from graphc.onnx.importer import Importer, Scope

Result = Tensor | Value | None | Sequence[Tensor | Value | None]
Handler = Callable[["Context"], Result]
HANDLERS: dict[tuple[str, str], list[tuple[int, Handler]]] = {}


def op(*names: str, since: int = 1, domain: str = "") -> Callable[[Handler], Handler]:
    """Register a handler for operators from a version of their domain on, up to the next one."""

    def register(handler: Handler) -> Handler:
        for name in names:
            HANDLERS.setdefault((domain, name), []).append((since, handler))
            HANDLERS[domain, name].sort(key=lambda pair: -pair[0])
        return handler

    return register


def handler_of(domain: str, name: str, version: int) -> Handler | None:
    """The handler of an operator at a version, or None."""
    for since, handler in HANDLERS.get((domain, name), ()):
        if since <= version:
            return handler
    return None


class Context:
    """A node: its operands (`tensor`, `known`, `sizes` …), attributes and place.

    op: the operator's name. version: that of its domain. outputs: the names of the outputs, ""
    for those that nobody wants.
    """

    def __init__(
        self,
        importer: Importer,
        scope: Scope,
        node: Any,
        where: str,
        version: int,
        inputs: Sequence[Value | None],
        attributes: dict[str, Any],
    ) -> None:
        self.importer = importer
        self.scope = scope
        self.where = where
        self.op: str = node.op_type
        self.name: str = node.name
        self.version = version
        self.inputs = tuple(inputs)
        self.outputs: tuple[str, ...] = tuple(node.output)
        self.computed: list[Size] = []  # sizes that come from values of operands
        self._attributes = attributes

    # -- operands -----------------------------------------------------------------------------
    def has(self, k: int) -> bool:
        """Whether operand k is given."""
        return k < len(self.inputs) and self.inputs[k] is not None

    def wants(self, k: int) -> bool:
        """Whether the node names output k."""
        return k < len(self.outputs) and self.outputs[k] != ""

    def any_value(self, k: int) -> Value:
        """Operand k, of whatever kind. Raises FormatError where it is missing."""
        found = self.inputs[k] if k < len(self.inputs) else None
        if found is None:
            self.bad(f"operand {k} is missing")
        return found

    def value(self, k: int) -> TensorValue:
        """Operand k, which must be a tensor of a type that graphc has."""
        return self.plain(self.any_value(k), f"operand {k}")

    def carried(self, k: int) -> TensorValue:
        """Operand k, which may be a tensor of a type that graphc only carries (`narrow`)."""
        return self._tensor_value(self.any_value(k), f"operand {k}")

    def plain(self, found: Value, what: str) -> TensorValue:
        """A value as a tensor of a dtype of graphc. Raises FormatError, UnsupportedError."""
        value = self._tensor_value(found, what)
        if not value.plain:
            self.refuse(f"{what} is of type {name_of(value.element)}, which graphc does not have")
        return value

    def _tensor_value(self, found: Value, what: str) -> TensorValue:
        if isinstance(found, OptionalValue) and found.item is not None:
            found = found.item
        if isinstance(found, ForeignValue):
            self.refuse(f"{what} is of type {found.what}, which graphc does not have")
        if not isinstance(found, TensorValue):
            kind = "a sequence" if isinstance(found, SequenceValue) else "an empty optional"
            self.bad(f"{what} is {kind}, expected a tensor")
        return found

    def tensor(self, k: int) -> Tensor:
        """Operand k as a tensor."""
        return self.value(k).tensor

    def optional(self, k: int) -> Tensor | None:
        """Operand k as a tensor, None where it is not given."""
        return self.tensor(k) if self.has(k) else None

    def tensors(self) -> list[Tensor]:
        """All operands as tensors."""
        return [self.tensor(k) for k in range(len(self.inputs))]

    def known(self, k: int, what: str) -> Array:
        """The value of operand k, which must be known when compiling; `what` names it in errors.

        Raises InputNeeded, which names the inputs that it depends on.
        """
        return self.known_value(self.value(k), what)

    def known_value(self, value: TensorValue, what: str) -> Array:
        """The value of a tensor, which must be known when compiling. Raises InputNeeded."""
        found = value.known()
        if found is None:
            raise self.needed(value, what)
        return found

    def needed(self, value: TensorValue, what: str) -> Exception:
        """The error where a value must be known when compiling and is not."""
        names, symbols = value.depends_on()
        known = self.importer.input_names
        # Inside a loop a value may come from its carries, which nobody can fix.
        return needed(self.where, what, [known[n] for n in names if n in known], symbols)

    def number(self, k: int, what: str) -> Any:
        """The one element of operand k, known when compiling, as a Python number."""
        found = self.known(k, what)
        if found.size != 1:
            self.bad(f"{what} has {found.size} elements, expected one")
        return found.reshape(()).item()

    def ints(self, k: int, what: str) -> tuple[int, ...]:
        """The elements of operand k, integers known when compiling."""
        return tuple(int(v) for v in self.known(k, what).ravel())

    def sizes(self, k: int, what: str) -> tuple[Size, ...]:
        """The elements of operand k as sizes: ints, dims where it is computed from shapes, and
        dims that the graph computes where it is data; these must not be negative.
        """
        value = self.value(k)
        if value.sizes is not None:
            return tuple(s if isinstance(s, Dim) else int(s) for s in value.sizes.ravel().tolist())
        if value.known() is not None or not value.dtype.is_integer:
            return self.ints(k, what)
        found = tuple(graphc.as_dim(e) for e in self.elements(k, what))
        self.computed += found
        return found

    def elements(self, k: int, what: str) -> list[Tensor]:
        """The elements of operand k, a tensor of known size and at most one dim."""
        value = self.value(k)
        if value.ndim > 1 or not all(isinstance(s, int) for s in value.shape):
            raise self.needed(value, what)
        if value.ndim and value.shape[0] > self.importer.limits.rank:
            self.bad(f"{what} has {value.shape[0]} elements (limit rank)")
        flat = graphc.reshape(value.tensor, (-1,))
        return [flat[j] for j in range(int(flat.shape[0]))]

    def is_known(self, k: int) -> bool:
        """Whether operand k is known when compiling: as numbers, or as sizes."""
        value = self.value(k)
        return value.sizes is not None or value.known() is not None

    # -- attributes ---------------------------------------------------------------------------
    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute: the node's, else the schema's default, else `default`.

        int, float, str, lists of these, `Value` for tensors, the proto for graphs.
        """
        found = self._attributes.get(name)
        return default if found is None else found

    def dtype(self, element: int, what: str) -> DType:
        """The dtype of an ONNX element type. Raises UnsupportedError naming the operator."""
        if element not in DTYPES:
            self.refuse(f"{what} is {name_of(element)}, which graphc does not have")
        return DTYPES[element]

    # -- subgraphs ----------------------------------------------------------------------------
    def run(self, graph: Any, values: Sequence[Value]) -> list[Value]:
        """The outputs of a subgraph (an attribute) with its inputs given."""
        return self.importer.run_subgraph(graph, self.scope, values, self.where)

    # -- errors -------------------------------------------------------------------------------
    def bad(self, what: str) -> NoReturn:
        """Raise FormatError: the node is not valid."""
        bad(self.where, what)

    def refuse(self, what: str, hint: str | None = None) -> NoReturn:
        """Raise UnsupportedError: graphc cannot do this."""
        unsupported(self.where, what, hint)


def integers(values: Sequence[Any]) -> tuple[int, ...]:
    """A list attribute as ints."""
    return tuple(int(np.int64(v)) for v in values)
