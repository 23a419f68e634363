"""Op definitions (floor 1): one object per op, from which everything else derives.

An `OpDef` holds what every part of the compiler asks of an op: its type rule, its NumPy meaning,
its gradient, the form in which it is lowered (a family object of `ops/families.py`), facts, and
samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from graphc.base.dtypes import DType
from graphc.base.errors import DTypeError, GraphcError, ShapeError, message
from graphc.base.limits import Limits
from graphc.ir.node import Node, Tensor, Type, describe, make

Gradient = Callable[[Tensor, Tensor], "Sequence[Tensor | None]"]


@dataclass(frozen=True)
class Sample:
    """One test case: input arrays (reference form) or (shape, dtype) requests are drawn by the op's
    author.
    """

    inputs: tuple[Any, ...]
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class OpDef:
    """One op.

    infer(inputs, attrs): the result type; raises through `fail`.
    reference(*arrays, **attrs): the NumPy meaning on arrays of `dtype.numpy`; returns an array (or
      a tuple for several results). It is called with warnings off, inputs never changed. A result
      in a wider float is rounded to the op's dtype.
    gradient(g, node): cotangents of the inputs (None: no gradient flows), g and the results shaped
      as the tensors they belong to; None for an op through which no gradient flows; see
      `not_differentiable` for ops where asking is an error.
    form: the family object that says how the op is lowered.
    traits: facts for rewriting: commutative, associative, idempotent, involution, monotone, …
    samples(dtype): test inputs, for ops that are not elementwise.
    """

    name: str
    attributes: tuple[str, ...]
    infer: Callable[[tuple[Node, ...], tuple[Any, ...]], Type]
    reference: Callable[..., Any] | None
    gradient: Gradient | None
    form: Any
    doc: str = ""
    traits: frozenset[str] = frozenset()
    samples: Callable[[DType], Sequence[Sample]] | None = None
    dtypes: tuple[DType, ...] = ()  # dtypes of the first operand that the op accepts
    not_differentiable: str = ""
    refuses: str = ""  # what it means that a run-time check of the op fails, if not a bad index

    def __call__(self, *inputs: Tensor, **attrs: Any) -> Tensor:
        """The node of this op; attributes in keyword form, all of them."""
        node = make(self, inputs, tuple(attrs[a] for a in self.attributes))
        assert isinstance(node, Tensor), f"{self.name} has several results: use make and get"
        return node

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class Registry:
    """All ops by name. Filled while graphc is imported, read afterwards."""

    def __init__(self) -> None:
        self._ops: dict[str, OpDef] = {}

    def add(self, op: OpDef) -> OpDef:
        if op.name in self._ops:
            raise GraphcError(f"the op {op.name!r} is declared twice")
        self._ops[op.name] = op
        return op

    def __getitem__(self, name: str) -> OpDef:
        return self._ops[name]

    def __contains__(self, name: object) -> bool:
        return name in self._ops

    def __iter__(self) -> Iterator[OpDef]:
        return iter(self._ops.values())

    def __len__(self) -> int:
        return len(self._ops)


REGISTRY = Registry()

# Filled by floor 2 (`ops/attribute_rules.py`), asked by readers of texts before a node is made:
# what is wrong with the attributes of an op on these inputs, None where nothing is. Builders give
# right ones by construction.
AttributeRule = Callable[[tuple[Node, ...], tuple[Any, ...], Limits], str | None]
ATTRIBUTE_RULES: dict[str, AttributeRule] = {}


def fail(
    error: type[GraphcError], what: str, operands: Sequence[Node] = (), hint: str | None = None
) -> NoReturn:
    """Raise `error` with the operands' types and places and the user's line.

    `what` starts with the op: "matmul: inner dimensions differ: 64 (x, dim 1) and 10 (w, dim 0)".
    """
    raise error(message(what, operands=[describe(n) for n in operands], hint=hint))


def shape_error(what: str, operands: Sequence[Node] = (), hint: str | None = None) -> NoReturn:
    """`fail` with ShapeError."""
    fail(ShapeError, what, operands, hint)


def dtype_error(what: str, operands: Sequence[Node] = (), hint: str | None = None) -> NoReturn:
    """`fail` with DTypeError."""
    fail(DTypeError, what, operands, hint)
