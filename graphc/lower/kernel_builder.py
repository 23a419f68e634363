"""Kernel parts (floor 5): buffers, loop variables and stores of one kernel while a region is
lowered to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from graphc.base.dims import Shape, Size, bounds
from graphc.base.dtypes import DType, bool_, int64
from graphc.base.errors import CompileError
from graphc.ir.node import Node, Tensor
from graphc.loops.build import EXPR, ZERO, Names, iadd, imul, isub
from graphc.loops.index_math import simplify_kernel, strides, unflatten
from graphc.loops.nodes import (
    Buffer,
    Cast,
    Check,
    Const,
    Expr,
    For,
    Kernel,
    Let,
    Op,
    Stmt,
    Store,
    Var,
    load,
    size,
    var,
)
from graphc.lower.elements import RISKY, Elements, Index, storage_root
from graphc.ops.families import Constant, Reshape
from graphc.ops.gather import surely_inside
from graphc.schedule.choices import USUAL, Choice


@dataclass(frozen=True, eq=False, slots=True)
class Temporary:
    """Memory between two kernels of one region (partial results)."""

    shape: Shape
    dtype: DType


@dataclass(frozen=True, eq=False, slots=True)
class Shifted:
    """Memory of `root` from an element on: what a slice reads.

    The offset is added to the pointer at the launch, so slices at different places are read by one
    and the same kernel.
    """

    node: Tensor  # the slice
    root: Tensor
    offset: Size  # in elements

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.root.dtype


Stored = Tensor | Temporary | Shifted


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows of a node in scratch memory: `buffer` has the rows of the node from `first` on.

    before: how many leading effective dims of the node are the same in all of these rows; rows: the
    sizes of those behind them that count as its row. across: how many dims between them the buffer
    holds whole, in front of the rows.
    """

    buffer: Buffer
    before: int
    rows: Shape
    first: Expr
    across: int = 0

    def place(self, shape: Shape, index: Index) -> Index:
        """The index in the buffer of the element of a node of `shape` at `index`."""
        own = [i for s, i in zip(shape, index, strict=True) if not (isinstance(s, int) and s == 1)]
        across, own = own[self.before :][: self.across], own[self.before + self.across :]
        row: Expr = ZERO
        for s, i in zip(self.rows, own, strict=False):
            row = iadd(imul(row, size(s)), i)
        return (*across, isub(row, self.first), *own[len(self.rows) :])


def shifted(
    node: Tensor, members: set[int], is_producer: Callable[[Tensor], bool]
) -> Shifted | None:
    """A slice of memory as shifted memory.

    None for other nodes, for slices that step back or may leave the memory, and for slices of what
    the kernel itself computes.
    """
    if node.op.name != "slice":
        return None
    base = node.inputs[0]
    root = storage_root(base)
    if (
        id(root) in members
        or not is_producer(root)
        or (isinstance(root.op.form, Constant) and root.size == 1)
    ):
        return None
    starts, steps, sizes = node.attrs
    offset: Size = 0
    for start, step, size_, n, stride in zip(
        starts, steps, sizes, base.shape, strides(base.shape), strict=True
    ):
        low = bounds(start)[0]
        if step < 1 or low is None or low < 0 or not surely_inside(start, step, size_, n):
            return None
        offset = offset + stride * start
    return Shifted(node, root, offset)


@dataclass(frozen=True, slots=True)
class LoweredKernel:
    """A kernel with what each of its params holds: the storage root of a tensor, or a temporary.

    overwrites: positions of args whose memory its one output may take over: each element is read
    before it is written, by the same iteration.
    """

    kernel: Kernel
    args: tuple[Stored, ...]
    overwrites: tuple[int, ...] = ()


@dataclass
class Sites:
    """Run-time checks of a program: site k + 1 belongs to `entries[k]`, a node and the kind of
    check ("value": an operand that the op cannot work with, "numerics": a NaN or an infinity,
    "size": a computed size out of its bounds, "negative": one below zero, "divisor": one that
    divides others and is 0).

    numerics: whether kernels look for NaN and infinity.
    """

    numerics: bool = False
    entries: list[tuple[Node, str]] = field(default_factory=list)
    _numbers: dict[tuple[int, str], int] = field(default_factory=dict)

    def site(self, node: Node, kind: str = "value") -> int:
        """The number of a check of `node`."""
        key = (id(node), kind)
        if key not in self._numbers:
            self.entries.append((node, kind))
            self._numbers[key] = len(self.entries)
        return self._numbers[key]


class KernelBuilder:
    """Collects one kernel.

    `inner(node)`: the node is computed in this kernel at its own element. choice: its schedule.
    """

    def __init__(
        self,
        name: str,
        sites: Sites,
        members: set[int],
        is_producer: Callable[[Tensor], bool],
        choice: Choice = USUAL,
    ) -> None:
        self.name = name
        self.choice = choice
        self.sites = sites
        self.names = Names()
        self.params: dict[tuple[int, Shape], Buffer] = {}
        self.args: list[Stored] = []
        self.outputs: list[Buffer] = []
        self.pending_checks: list[tuple[Check, Expr | None]] = []  # and the value looked at
        self._watched: set[tuple[int, Expr]] = set()
        self._seen_through: set[Expr] = set()
        self.members = members
        self.is_producer = is_producer
        self._shifted: dict[int, Shifted | None] = {}
        self._kept: dict[int, Kept] = {}
        self.elements = Elements(
            self._inline, self._leaf, self._check, self.watch if sites.numerics else None
        )

    # -- variables and buffers --------------------------------------------------------------------
    def variable(self, prefix: str, dtype: DType = int64) -> Var:
        """A fresh variable."""
        return var(self.names.fresh(prefix), dtype)

    def buffer(self, stored: Stored, shape: Shape, label: str) -> Buffer:
        """The param for the memory of `stored`, seen in `shape`."""
        key = (id(stored), shape)
        known = self.params.get(key)
        if known is None:
            known = Buffer(self.names.fresh(label), shape, stored.dtype)
            self.params[key] = known
            self.args.append(stored)
        return known

    def output(self, stored: Stored, shape: Shape, label: str) -> Buffer:
        """The param that results are written to."""
        buffer = self.buffer(stored, shape, label)
        if buffer not in self.outputs:
            self.outputs.append(buffer)
        return buffer

    def tensor_buffer(self, node: Tensor) -> Buffer:
        """The param that holds `node` (its storage root's memory in the node's shape)."""
        root = storage_root(node)
        return self.buffer(root, node.shape, label_of(node if node.name else root))

    def keep(self, node: Tensor, kept: Kept) -> None:
        """Hold a node in scratch memory: it is written and read there from now on."""
        self._kept[id(node)] = kept

    def is_kept(self, node: Tensor) -> bool:
        """Whether a node is held in scratch memory."""
        return id(node) in self._kept

    def _shift(self, node: Tensor) -> Shifted | None:
        if node.op.name != "slice" or id(node) in self.members or self.is_producer(node):
            return None
        if self._kept and self.is_kept(storage_root(node.inputs[0])):
            return None
        if id(node) not in self._shifted:
            self._shifted[id(node)] = shifted(node, self.members, self.is_producer)
        return self._shifted[id(node)]

    def _inline(self, node: Tensor) -> bool:
        if id(node) in self.members:
            return True
        if isinstance(node.op.form, Reshape):
            return not self._in_memory(storage_root(node))
        return not self.is_producer(node) and self._shift(node) is None

    def _in_memory(self, root: Tensor) -> bool:
        """Whether a reshape of `root` is a param in a shape of its own: its index needs no
        division.
        """
        if id(root) in self.members or self.is_kept(root) or not self.is_producer(root):
            return False
        return not (isinstance(root.op.form, Constant) and root.size == 1)

    def _leaf(self, node: Tensor, index: Index, predicate: Expr | None) -> Expr:
        kept = self._kept.get(id(node))
        shift = self._shift(node)
        if kept is not None:
            buffer, index = kept.buffer, kept.place(node.shape, index)
        elif shift is not None:
            base = node.inputs[0]
            buffer = self.buffer(shift, base.shape, label_of(base))
            steps = node.attr("steps")
            index = tuple(imul(i, size(step)) for i, step in zip(index, steps, strict=True))
        else:
            buffer = self.tensor_buffer(node)
        if predicate is None:
            return load(buffer, index)
        return load(buffer, index, predicate, EXPR.constant(0, buffer.dtype))

    def _check(self, node: Tensor, ok: Expr) -> None:
        if isinstance(ok, Const) and ok.value:
            return
        assert ok.dtype is bool_
        self.pending_checks.append((Check(ok, self.sites.site(node)), None))

    def watch(self, node: Tensor, value: Expr) -> None:
        """With `Sites.numerics`: look whether this value of `node` is finite, before the next
        store. A value whose NaN or infinity shows in another that is looked at is left to that one.
        """
        if not self.sites.numerics or not node.dtype.is_float or isinstance(value, Const):
            return
        if (id(node), value) in self._watched:
            return
        self._watched.add((id(node), value))
        if value in self._seen_through:
            return
        self._see_through(value)
        site = self.sites.site(node, "numerics")
        self.pending_checks.append((Check(EXPR.op("isfinite", value), site), value))

    def _see_through(self, value: Expr) -> None:
        """Note everything whose NaN or infinity makes `value` a NaN or an infinity."""
        stack = [value]
        while stack:
            found = stack.pop()
            inner = [x for x in carried(found) if x not in self._seen_through]
            self._seen_through.update(inner)
            stack += inner

    def _chosen(self, node: Tensor) -> bool:
        """Whether the node picks one of values that are watched or constant."""
        if node.op.name not in ("where", "maximum", "minimum"):
            return False
        seen = {key for key, _ in self._watched}
        return all(
            not o.dtype.is_float or isinstance(o.op.form, Constant) or id(o) in seen
            for o in node.inputs
        )

    def checks(self) -> list[Stmt]:
        """The checks that were asked for since the last call, to stand before the next store."""
        found, self.pending_checks = self.pending_checks, []
        return [check for check, value in found if value not in self._seen_through]

    # -- statements -------------------------------------------------------------------------------
    def let(self, prefix: str, value: Expr, body: list[Stmt]) -> Expr:
        """Name a value in `body`; literals and variables stay themselves."""
        if isinstance(value, Const | Var):
            return value
        named = self.variable(prefix, value.dtype)
        body.append(Let(named, value))
        return named

    def store(self, node: Tensor, index: Index, body: list[Stmt]) -> None:
        """Write the value of `node` at `index`."""
        value = self.elements.value(node, index)
        if node.op.name not in RISKY and not self._chosen(node):
            self.watch(node, value)
        body.extend(self.checks())
        kept = self._kept.get(id(node))
        if kept is not None:
            body.append(Store(kept.buffer, kept.place(node.shape, index), value))
        else:
            body.append(Store(self.output(node, node.shape, label_of(node)), index, value))

    def nest(self, extents: list[tuple[Var, Size]], body: list[Stmt]) -> list[Stmt]:
        """Serial loops around `body`, the first outermost."""
        statements = body
        for variable, extent in reversed(extents):
            statements = [For(variable, size(extent), tuple(statements))]
        return statements

    def kernel(self, body: list[Stmt], work: Size, notes: tuple[str, ...] = ()) -> LoweredKernel:
        """The finished kernel, index arithmetic simplified."""
        if self.pending_checks:
            raise CompileError(f"kernel {self.name}: a check was lost")
        kernel = Kernel(
            self.name, tuple(self.params.values()), tuple(self.outputs), tuple(body), work, notes
        )
        return LoweredKernel(simplify_kernel(kernel), tuple(self.args))


# Operands, by position, whose NaN or infinity an op passes on (as one or the other), whatever the
# other operands are. A divisor is none of them: 1 / inf = 0.
_CARRIED = {"add": 2, "sub": 2, "mul": 2, "fma": 3, "neg": 1, "abs": 1, "sqrt": 1, "div": 1}


def carried(value: Expr) -> tuple[Expr, ...]:
    """The operands of a float whose NaN or infinity makes it a NaN or an infinity."""
    if isinstance(value, Op) and value.dtype.is_float:
        return value.args[: _CARRIED.get(value.name, 0)]
    if isinstance(value, Cast) and value.dtype.is_float and value.args[0].dtype.is_float:
        return value.args
    return ()


def label_of(node: Tensor) -> str:
    """A buffer's name: the user's name of the node where it is a plain word, else its op."""
    name = node.name or (node.attr("name") if node.op.name in ("placeholder", "variable") else None)
    name = (name or node.op.name).replace("/", "_").replace(".", "_")
    return name if name.isidentifier() else node.op.name


def spread(flat: Expr, shape: Shape) -> tuple[Expr, ...]:
    """The indices of the element `flat` of a row-major grid."""
    return (flat,) if len(shape) == 1 else unflatten(flat, shape)
