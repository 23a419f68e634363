"""Loop IR (floor 4): immutable nodes. Expressions are interned, statements are events.

A `Kernel` reads and writes `Buffer`s with nested loops. Sizes are `Dim`s of the graph, known at run
time. Semantics that every handler (text, verify, interpret, emit) must share:

- Index arithmetic is int64 and never wraps. `Load.predicate` false gives `fill` without touching
  memory.
- `For(kind="vector", width=W, interleave=U)`: iterations are independent except for `Accumulate`;
  the handler may run W at a time. Loops do not change results except through the *accumulation
  order*, which is fixed: a vector loop of extent n over one accumulator keeps U*W lanes, which
  start at the identity; element i < n - n % (U*W) goes to lane i % (U*W); the U groups of W are
  combined in order (((g0, g1), g2), g3); each element i that is left goes to lane i % W of that;
  then lanes are combined by halving (lane l with lane l + W/2, then W/4 …), and the accumulator's
  value before the loop first with the result. Serial, parallel and unrolled loops accumulate in
  index order.
- Accumulators may be wider than the values that they take in (`Accumulators.entering`). Then a
  vector loop keeps W lanes: the U groups of each step of U*W elements are first combined in order
  in the values' own dtype, and what they come to is converted. So are the elements that are left,
  each at its lane i % W, from the identity of `entering` on. Everywhere else each value is
  converted by itself.
- `parallel` loops are outermost; iterations touch no common memory. Never more than one per kernel.
- 16-bit floats: each operation computes in float32 and rounds to the dtype.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from graphc.base.dims import Dim, Shape, Size
from graphc.base.dtypes import DType, bool_, int64
from graphc.base.intern import InternTable

_EXPRS: InternTable[Expr] = InternTable()
E = TypeVar("E", bound="Expr")


class Expr:
    """A scalar value. Subclasses: Const, Var, SizeOf, Op, Cast, Bitcast, Select, Load."""

    __slots__ = ("__weakref__", "args", "dtype")
    args: tuple[Expr, ...]
    dtype: DType


class Const(Expr):
    """A literal (bool, int or float; floats already rounded to the dtype)."""

    __slots__ = ("value",)
    value: bool | int | float


class Var(Expr):
    """A loop variable (int64) or a `Let` or accumulator name; unique names within a kernel."""

    __slots__ = ("name",)
    name: str


class SizeOf(Expr):
    """The run-time value of a symbolic size, int64."""

    __slots__ = ("dim",)
    dim: Dim


class Op(Expr):
    """A regular scalar-language method by name (`add`, `exp`, `lt`, `isnan`, `fma`, …)."""

    __slots__ = ("name",)
    name: str


class Cast(Expr):
    """Value conversion to `dtype`."""

    __slots__ = ()


class Bitcast(Expr):
    """Same bits as `dtype`."""

    __slots__ = ()


class Select(Expr):
    """args = (condition, a, b)."""

    __slots__ = ()


class Load(Expr):
    """buffer[indices], or `fill` where a predicate is false; args: *indices[, predicate, fill]."""

    __slots__ = ("buffer", "predicated")
    buffer: Buffer
    predicated: bool

    @property
    def indices(self) -> tuple[Expr, ...]:
        return self.args[:-2] if self.predicated else self.args

    @property
    def predicate(self) -> Expr | None:
        return self.args[-2] if self.predicated else None

    @property
    def fill(self) -> Expr | None:
        return self.args[-1] if self.predicated else None


@dataclass(frozen=True, eq=False, slots=True)
class Buffer:
    """Memory of one tensor, row-major. Identity is the object; names are unique in a kernel.

    scope: "global" (kernel parameter), "local" (scratch of one parallel iteration, symbolic shape
    allowed), "register" (static shape, indices constant after unrolling except one vector-loop
    variable), "shared" (GPU).
    """

    name: str
    shape: Shape
    dtype: DType
    scope: str = "global"


# -- statements -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class Stmt:
    """Base of statements."""


@dataclass(frozen=True, eq=False, slots=True)
class For(Stmt):
    """for var in 0 … extent-1, step 1. kind: serial parallel vector unroll block thread lane."""

    var: Var
    extent: Expr
    body: tuple[Stmt, ...]
    kind: str = "serial"
    width: int = 1
    interleave: int = 1


@dataclass(frozen=True, eq=False, slots=True)
class Let(Stmt):
    """Name a value computed once here, visible to the following statements of the block."""

    var: Var
    value: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Store(Stmt):
    """buffer[indices] = value, where predicate (None: always)."""

    buffer: Buffer
    indices: tuple[Expr, ...]
    value: Expr
    predicate: Expr | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Prefetch(Stmt):
    """Ask for the cache line of buffer[indices], which is read later. Changes nothing: the element
    need not exist. The same line in all lanes of a vector loop.
    """

    buffer: Buffer
    indices: tuple[Expr, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Alloc(Stmt):
    """Bring a local, register or shared buffer into being for the rest of the block."""

    buffer: Buffer


@dataclass(frozen=True, eq=False, slots=True)
class Combine:
    """How accumulators take in values: result_k = results[k] with left/right parameters bound.

    One associative, commutative step on tuples: sum is results=(left0 + right0,); argmax has two
    parameters. `identity[k]` is a Const that leaves the other side unchanged.
    """

    left: tuple[Var, ...]
    right: tuple[Var, ...]
    results: tuple[Expr, ...]
    identity: tuple[Const, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Accumulators(Stmt):
    """Declare mutable accumulators, set to the identity of `combine`; read afterwards as Vars.

    entering: the same step in narrower dtypes, those of the values that are accumulated; None where
    values have the accumulators' dtypes. See the module docstring.
    """

    vars: tuple[Var, ...]
    combine: Combine
    entering: Combine | None = None

    @property
    def dtypes(self) -> tuple[DType, ...]:
        """The dtypes of the values that are accumulated."""
        return tuple(c.dtype for c in (self.entering or self.combine).identity)


@dataclass(frozen=True, eq=False, slots=True)
class Accumulate(Stmt):
    """accumulators = combine(accumulators, values); order as the module docstring fixes it."""

    target: Accumulators
    values: tuple[Expr, ...]


@dataclass(frozen=True, eq=False, slots=True)
class If(Stmt):
    """Run `body` where the condition holds (never inside a vector loop)."""

    condition: Expr
    body: tuple[Stmt, ...]
    otherwise: tuple[Stmt, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Check(Stmt):
    """Where `ok` is false, record error site `site` (first one wins); the call then raises."""

    ok: Expr
    site: int


@dataclass(frozen=True, eq=False, slots=True)
class Barrier(Stmt):
    """All threads of a block wait (GPU)."""


@dataclass(frozen=True, eq=False, slots=True)
class Intrinsic(Stmt):
    """A hardware instruction: `name`, its operands, and its meaning as plain loop IR."""

    name: str
    args: tuple[Expr, ...]
    meaning: tuple[Stmt, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Kernel:
    """One kernel. `params` are global buffers: `outputs` of them are written, the others only read.

    `work`: estimated scalar operations as a size, for the decision to run parallel chunks.
    """

    name: str
    params: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    body: tuple[Stmt, ...]
    work: Size = 0
    notes: tuple[str, ...] = field(default=())


# -- interned constructors ------------------------------------------------------------------------


def const(value: bool | int | float, dtype: DType = int64) -> Const:
    """A literal."""
    # repr tells 0.0 from -0.0 and makes NaN equal to itself.
    return _make(Const, ("const", repr(value), dtype), (), dtype, value=value)


def var(name: str, dtype: DType = int64) -> Var:
    """A variable by name."""
    return _make(Var, ("var", name, dtype), (), dtype, name=name)


def size(value: Size) -> Expr:
    """An int or symbolic size as an int64 expression."""
    if isinstance(value, int):
        return const(value)
    return _make(SizeOf, ("size", value), (), int64, dim=value)


def op(name: str, *args: Expr, dtype: DType) -> Op:
    """A regular method; `dtype` is the result's."""
    return _make(Op, (name, dtype, *map(id, args)), args, dtype, name=name)


def cast(x: Expr, dtype: DType) -> Expr:
    """`x` as `dtype`; no node where it already is."""
    if x.dtype is dtype:
        return x
    return _make(Cast, ("cast", dtype, id(x)), (x,), dtype)


def bitcast(x: Expr, dtype: DType) -> Expr:
    """The bits of `x` as `dtype`."""
    if x.dtype is dtype:
        return x
    return _make(Bitcast, ("bitcast", dtype, id(x)), (x,), dtype)


def select(condition: Expr, a: Expr, b: Expr) -> Expr:
    """a where condition else b."""
    assert condition.dtype is bool_
    assert a.dtype is b.dtype
    if a is b:
        return a
    return _make(Select, ("select", id(condition), id(a), id(b)), (condition, a, b), a.dtype)


def load(
    buffer: Buffer,
    indices: tuple[Expr, ...],
    predicate: Expr | None = None,
    fill: Expr | None = None,
) -> Load:
    """buffer[indices], or `fill` where the predicate is false."""
    assert len(indices) == len(buffer.shape), (buffer.name, len(indices), buffer.shape)
    assert (predicate is None) == (fill is None), buffer.name
    predicated = predicate is not None
    args = indices if predicate is None or fill is None else (*indices, predicate, fill)
    return _make(
        Load,
        ("load", id(buffer), *map(id, args)),
        args,
        buffer.dtype,
        buffer=buffer,
        predicated=predicated,
    )


def _make(
    cls: type[E], key: tuple[object, ...], args: tuple[Expr, ...], dtype: DType, **fields: object
) -> E:
    def build() -> Expr:
        node = cls()
        node.args = args
        node.dtype = dtype
        for name, value in fields.items():
            setattr(node, name, value)
        return node

    node = _EXPRS.get((cls, *key), build)
    assert isinstance(node, cls)
    return node
