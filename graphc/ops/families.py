"""Families (floor 2): what each kind of op must declare so that it can be lowered; data only, no
loops.

| form        | declares                                        | fuses with                   |
|-------------|-------------------------------------------------|------------------------------|
| Source      | nothing: placeholder, variable                  | –                            |
| Constant    | nothing: its value is memory or a literal       | anything, as a literal       |
| Elementwise | scalar(s, *elements, **attrs)                   | anything                     |
| Map         | element(e, index, node): views, gathers, iota   | anything (by index)          |
| Reduction   | identity, prepare, combine, finish; attr "axes" | producers, elementwise after |
| Contraction | "spec": letters of operands and result          | loads before, stores after   |
| Opaque      | lower(b, node): writes loops through a builder  | nothing                      |
| Composite   | expand(node): the same value out of other ops   | as its parts                 |
| Alias       | nothing: input 0 at run time (stop_gradient …)  | anything                     |
| Reshape     | nothing: same elements in row-major order       | anything: memory is shared   |
| Control     | bodies as attributes: calls, branches, loops    | nothing: a step of its own   |
| Item        | attr "index": one result of a node with several | nothing: its memory          |

The constructors here build an `OpDef`, derive what can be derived, and register it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from graphc.base.dims import Size
from graphc.base.dtypes import DType, float32, float64
from graphc.ir.node import Tensor
from graphc.ir.scalar import ScalarLanguage

V = TypeVar("V")


class ElementLanguage(ScalarLanguage[V]):
    """The scalar language plus access to operands, handed to `Map.element`.

    Indices are int64 values.
    """

    @abstractmethod
    def element(
        self, operand: int, index: Sequence[V], where: V | None = None, fill: bool | int | float = 0
    ) -> V:
        """The element of an operand at an index; where `where` (bool) is false: `fill`, memory
        untouched.
        """

    @abstractmethod
    def size(self, value: Size) -> V:
        """A size as an int64 value."""

    @abstractmethod
    def check(self, ok: V) -> None:
        """Record an error of this node where `ok` is false; the call raises ExecutionError
        afterwards.

        The caller must still make the index safe (clamp it) or use `where`.
        """


@dataclass(frozen=True)
class Source:
    """A value that comes from outside."""


@dataclass(frozen=True)
class Constant:
    """A value known at compile time (attr "value": ConstantValue)."""


@dataclass(frozen=True)
class Elementwise:
    """One scalar computation per element; operands broadcast as NumPy does.

    scalar(s, *elements, **attrs) -> element. Operands arrive in their own dtypes (already promoted
    by the public function), the result must have the node's dtype.
    """

    scalar: Callable[..., Any]


@dataclass(frozen=True)
class Map:
    """Each element of the result is computed from operand elements at computed indices.

    element(e: ElementLanguage, index: tuple of int64 values, node) -> value of the node's dtype.
    kind: "view" (index arithmetic only: transpose, slice, pad, broadcast, concat, flip, roll,
    windows, fold is not one), "gather" (data-dependent indices) or "generate" (no operand: iota,
    full, eye).
    """

    element: Callable[[Any, tuple[Any, ...], Tensor], Any]
    kind: str = "view"


@dataclass(frozen=True)
class Reduction:
    """Combine all elements along the attr "axes" (sorted tuple of non-negative ints); attr
    "keepdims".

    All on tuples of values (argmax keeps a value and a position), in the scalar language `s`:
    accumulators(dtype) -> dtypes of the accumulators for an operand of `dtype` (sum of float16 adds
      in float32);
    identity(dtype) -> a value (bool, int, float) per accumulator;
    prepare(s, x, position, dtype) -> tuple entering the accumulators; position: int64 row-major
      position within the reduced axes;
    combine(s, left, right) -> tuple: associative and commutative, on what combining the identity
      (left) with elements gives;
    finish(s, accumulators, count, node) -> element of the node's dtype; count: int64 number of
      reduced elements;
    is_sum: `combine` adds, and sums of float32 are added up in float64 but for the first few
      elements of each (decision 0044).
    """

    accumulators: Callable[[DType], tuple[DType, ...]]
    identity: Callable[[DType], tuple[bool | int | float, ...]]
    prepare: Callable[..., tuple[Any, ...]]
    combine: Callable[..., tuple[Any, ...]]
    finish: Callable[..., Any]
    is_sum: bool = False

    def totals(self, dtype: DType) -> tuple[DType, ...]:
        """The dtypes in which what the accumulators came to is added up, for an operand of `dtype`:
        theirs, or wider.
        """
        return (float64,) if self.is_sum and dtype is float32 else self.accumulators(dtype)


@dataclass(frozen=True)
class Contraction:
    """Sum over products of two operands, the attr "spec" as in einsum: "bij,bjk->bik".

    Letters are single characters; a letter may not repeat within one operand; letters missing from
    the result are summed. Integer products wrap; bool is any(and). 16-bit floats accumulate in
    float32.

    dot: where elements are int32 words of narrow integers, the scalar method that adds up their
    products (`ScalarLanguage.dot`).
    """

    dot: str = ""


class LoopBuilder(ScalarLanguage[V]):
    """What an opaque op writes its loops with. Indices and extents are int64 values.

    Bodies are Python callables that receive the loop variable and write into the current block.
    """

    @abstractmethod
    def size(self, value: Size) -> V:
        """A size as an int64 value."""

    @abstractmethod
    def load(self, operand: int, index: Sequence[V]) -> V:
        """An element of an operand."""

    @abstractmethod
    def store(self, index: Sequence[V], value: V) -> None:
        """Write an element of the result."""

    @abstractmethod
    def read_result(self, index: Sequence[V]) -> V:
        """An element of the result that was stored before."""

    @abstractmethod
    def parallel(self, extents: Sequence[Size], body: Callable[[tuple[V, ...]], None]) -> None:
        """Independent iterations over a grid; outermost, once; touch disjoint results."""

    @abstractmethod
    def loop(self, extent: Size | V, body: Callable[[V], None]) -> None:
        """A serial loop."""

    @abstractmethod
    def lanes(
        self, extent: Size | V, dtype: DType, body: Callable[[V], None], vectors: int = 1
    ) -> None:
        """A loop of independent iterations, in vectors for elements of `dtype`, `vectors` of them
        in flight; neighbours should touch neighbouring elements. No `when`, no `local` inside.
        """

    @abstractmethod
    def running(self, dtype: DType, how: str = "sum") -> Any:
        """A value that starts at 0 and grows by `accumulate`: a "sum", a "maximum", or the sum of
        "products", each added in one rounding where the target can. Declared inside `lanes` it is
        one value per lane, which "products" must be.
        """

    @abstractmethod
    def accumulate(self, handle: Any, *values: V) -> None:
        """Take in a value, or the two factors of a product. Over `lanes` the order is the one that
        vector loops fix.
        """

    @abstractmethod
    def total(self, handle: Any) -> V:
        """What a running value has come to."""

    @abstractmethod
    def when(self, condition: V, body: Callable[[], None]) -> None:
        """Run the body where the condition holds."""

    @abstractmethod
    def local(self, shape: Sequence[Size], dtype: DType) -> Any:
        """Scratch memory of one parallel iteration: a handle for `get` and `put`.

        Shape () is a mutable scalar.
        """

    @abstractmethod
    def get(self, handle: Any, index: Sequence[V] = ()) -> V:
        """Read scratch now (the value does not change with later puts)."""

    @abstractmethod
    def put(self, handle: Any, value: V, index: Sequence[V] = ()) -> None:
        """Write scratch."""

    @abstractmethod
    def check(self, ok: V) -> None:
        """Record an error of this node where `ok` is false."""


@dataclass(frozen=True)
class Opaque:
    """Writes its own loops: lower(b: LoopBuilder, node).

    Operands are materialised, nothing fuses. work(node): scalar operations, where they are more
    than a few per element.
    """

    lower: Callable[[Any, Tensor], None]
    work: Callable[[Tensor], Size] | None = None


@dataclass(frozen=True)
class Composite:
    """expand(node) -> Tensor of the same type, out of other ops; done before regions are made."""

    expand: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Alias:
    """The value of input 0, unchanged."""


@dataclass(frozen=True)
class Reshape:
    """The elements of input 0 in row-major order, in another shape."""


@dataclass(frozen=True)
class Control:
    """A step that runs bodies, closed graphs in its attributes; see `ops/control.py`.

    kind: "call", "cond", "while_loop" or "scan".
    """

    kind: str


@dataclass(frozen=True)
class Item:
    """One result of an op with several: attr "index"."""
