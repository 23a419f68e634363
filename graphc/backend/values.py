"""Pure expressions of a kernel as LLVM values, each computed once where it belongs (floor 6).

Scopes nest as loops do. An expression is written at the shallowest scope in which everything it
reads is known, so loop-invariant code leaves its loop by construction: outer text is still open
while an inner loop is being written. A value inside a vector loop is either *uniform* (one scalar,
splat on demand) or *varying* (one vector per interleaved group). Invariant: `memo` holds only
values that dominate the place being written and that no store or accumulation since has made stale
(`dependents`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from graphc.backend.llvm_types import compute_type, is_literal, literal, vector_type
from graphc.backend.native_functions import emit_node
from graphc.backend.scalar_emitter import ScalarEmitter
from graphc.base.dims import Dim, Quotient, Size
from graphc.base.dtypes import int64
from graphc.base.errors import CompileError
from graphc.loops.nodes import Accumulators, Buffer, Const, Expr, Load, SizeOf, Var

NOTHING: frozenset[Hashable] = frozenset()


class Entry:
    """Where a value is: `names` (one, or one per group), their `width`, the scope it lives in.

    deps: the accumulators and buffers whose change makes it stale.
    """

    __slots__ = ("deps", "level", "names", "width")

    def __init__(
        self, names: tuple[str, ...], width: int, level: int, deps: frozenset[Hashable] = NOTHING
    ) -> None:
        self.names = names
        self.width = width
        self.level = level
        self.deps = deps


@dataclass(slots=True)
class Region:
    """Text under construction: its lines and the label of the block that is open at its end."""

    block: str
    lines: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Scope:
    """One level of nesting. Nothing moves above `floor`; loads do not move above `load_floor`."""

    region: Region
    floor: int
    load_floor: int
    log: list[object] = field(default_factory=list)


@dataclass(slots=True)
class VectorContext:
    """The vector loop being written: lanes `base + group * width + lane` of its variable.

    In the tail there is one group, of whose lanes only the first `count` exist; `mask` says which.
    level: of the scope where base and count are known.
    targets: the accumulators from outside: of a tail, only existing lanes may change them.
    left: in a tail, narrower ones that take in values for some of them (`Accumulators.entering`).
    """

    var: Var
    base: str
    width: int
    groups: int
    count: str = ""
    mask: str = ""
    level: int = 0
    targets: frozenset[Accumulators] = frozenset()
    left: Mapping[Accumulators, Accumulators] = field(default_factory=dict)


class ValueEmitter(ABC):
    """Writes pure expressions. Subclasses add memory and statements."""

    def __init__(self, scalars: ScalarEmitter) -> None:
        self.e = scalars
        self.scopes: list[Scope] = [Scope(Region("entry"), 0, 0)]
        self.memo: dict[object, Entry] = {}
        self.dependents: dict[Hashable, list[object]] = {}
        self.buffer_level: dict[Buffer, int] = {}
        self.vector: VectorContext | None = None
        self._labels = 0

    # -- scopes ---------------------------------------------------------------------------------
    @property
    def top(self) -> int:
        """The level being written."""
        return len(self.scopes) - 1

    @property
    def region(self) -> Region:
        """The text being written."""
        return self.scopes[-1].region

    def label(self) -> str:
        """A fresh block label."""
        self._labels += 1
        return f"b{self._labels}"

    def push(
        self, region: Region | None = None, skipped: bool = False, conditional: bool = False
    ) -> None:
        """Open a scope, in the current text unless a region is given.

        skipped: it may not run at all; conditional: and it is not a loop, so work stays inside.
        """
        outer = self.scopes[-1]
        level = len(self.scopes)
        self.scopes.append(
            Scope(
                region or outer.region,
                level if conditional else outer.floor,
                level if skipped or conditional else outer.load_floor,
            )
        )

    def pop(self) -> Scope:
        """Close the innermost scope and forget its values."""
        scope = self.scopes.pop()
        memo, level = self.memo, len(self.scopes)
        for key in scope.log:
            entry = memo.get(key)
            if entry is not None and entry.level >= level:
                del memo[key]
        return scope

    def bind(self, key: object, entry: Entry) -> None:
        """Make a value known in the innermost scope."""
        self.memo[key] = entry
        self.scopes[-1].log.append(key)

    def invalidate(self, resource: Hashable) -> None:
        """Forget every value that was computed from an accumulator or buffer."""
        for key in self.dependents.pop(resource, ()):
            self.memo.pop(key, None)

    def at(self, level: int) -> ScalarEmitter:
        """The scalar emitter, writing into the scope of that level."""
        self.e.lines = self.scopes[level].region.lines
        return self.e

    def here(self) -> ScalarEmitter:
        """The scalar emitter, writing at the current place."""
        return self.at(-1)

    # -- expressions ----------------------------------------------------------------------------
    def value(self, root: Expr) -> Entry:
        """The value of an expression, written if it is not known. Iterative: they are deep."""
        memo = self.memo
        found = memo.get(root)
        if found is not None:
            return found
        stack = [root]
        while stack:
            node = stack[-1]
            if node in memo:
                stack.pop()
                continue
            pending = [a for a in self.operands(node) if a not in memo]
            if pending:
                pending.reverse()
                stack.extend(pending)
                continue
            stack.pop()
            self._remember(node, self._write(node))
        return memo[root]

    def scalar(self, root: Expr) -> str:
        """The name of a uniform value."""
        entry = self.value(root)
        if entry.width != 1:
            raise CompileError("a value that must be the same in all lanes of a vector loop is not")
        return entry.names[0]

    def operands(self, node: Expr) -> Iterable[Expr]:
        """The expressions whose values a node is computed from."""
        return node.args

    @abstractmethod
    def load(self, node: Load) -> Entry:
        """The value of a load whose operands are known."""

    def _remember(self, node: object, entry: Entry) -> None:
        self.memo[node] = entry
        self.scopes[entry.level].log.append(node)
        for resource in entry.deps:
            self.dependents.setdefault(resource, []).append(node)

    def _write(self, node: Expr) -> Entry:
        if isinstance(node, Load):
            return self.load(node)
        if not node.args:
            return self._leaf(node)
        args = [self.memo[a] for a in node.args]
        level = self.scopes[-1].floor
        width = groups = 1
        deps = NOTHING
        for a in args:
            if a.level > level:
                level = a.level
            if a.width > 1:
                width, groups = a.width, len(a.names)
            if a.deps:
                deps = deps | a.deps
        e = self.at(level)
        if width == 1:
            return Entry((emit_node(e, node, [a.names[0] for a in args], 1),), 1, level, deps)
        columns = [self.spread(a, x, width, groups) for a, x in zip(args, node.args, strict=True)]
        e = self.at(level)
        names = tuple([emit_node(e, node, list(row), width) for row in zip(*columns, strict=True)])
        return Entry(names, width, level, deps)

    def _leaf(self, node: Expr) -> Entry:
        if isinstance(node, Const):
            return Entry((literal(node.value, node.dtype),), 1, 0)
        if isinstance(node, SizeOf):
            return Entry((self.size(node.dim),), 1, 0)
        if self.vector is not None and node is self.vector.var:
            return self._lanes(self.vector)
        raise CompileError(
            f"the variable {getattr(node, 'name', node)!r} is used where it has no value"
        )

    def _lanes(self, vector: VectorContext) -> Entry:
        e, width = self.here(), vector.width
        t = vector_type("i64", width)
        if is_literal(vector.base):
            first = int(vector.base)
            every = [
                range(first + g * width, first + (g + 1) * width) for g in range(vector.groups)
            ]
            constants = ("<" + ", ".join(f"i64 {lane}" for lane in lanes) + ">" for lanes in every)
            return Entry(tuple(constants), width, self.top)
        base = e.splat(vector.base, "i64", width)
        names = []
        for group in range(vector.groups):
            lanes = ", ".join(f"i64 {group * width + lane}" for lane in range(width))
            names.append(e.emit(f"add {t} {base}, <{lanes}>"))
        return Entry(tuple(names), width, self.top)

    def spread(self, entry: Entry, expr: Expr, width: int, groups: int) -> tuple[str, ...]:
        """The names of a value in a vector computation, a uniform one splat."""
        if entry.width == width:
            return entry.names
        return (self.splat(entry, compute_type(expr.dtype), width),) * groups

    def splat(self, entry: Entry, scalar: str, width: int) -> str:
        """A uniform value in every lane, computed once, where the value itself lives."""
        name = entry.names[0]
        if is_literal(name):
            return self.e.splat(name, scalar, width)
        key = (name, width)
        found = self.memo.get(key)
        if found is None:
            found = Entry((self.at(entry.level).splat(name, scalar, width),), width, entry.level)
            self._remember(key, found)
        return found.names[0]

    def tail_mask(self, elements: int, stride: int = 1, first: int = 0, share: int = 1) -> str:
        """Which of so many elements from `first` on a tail reads: up to its last lane's, where
        `share` lanes read one element and the next one lies `stride` on. Written once a tail,
        outside the loops in it: the loads of a window differ in their addresses only.
        """
        vector = self.vector
        assert vector is not None
        key = ("tail", vector.count, elements, stride, first, share)
        found = self.memo.get(key)
        if found is None:
            level = max(vector.level, self.scopes[-1].floor)
            e, kind = self.at(level), f"<{elements} x i64>"
            last = e.op("sub", int64, 1, vector.count, "1")
            last = e.op("floordiv", int64, 1, last, str(share)) if share > 1 else last
            last = e.op("mul", int64, 1, last, str(stride)) if stride > 1 else last
            last = e.op("sub", int64, 1, last, str(first)) if first else last
            lanes = ", ".join(f"i64 {lane}" for lane in range(elements))
            mask = e.emit(f"icmp sle {kind} <{lanes}>, {e.splat(last, 'i64', elements)}")
            found = Entry((mask,), elements, level)
            self._remember(key, found)
            self.here()
        return found.names[0]

    # -- sizes ----------------------------------------------------------------------------------
    @abstractmethod
    def symbol(self, name: str) -> str:
        """The run-time value of a symbol."""

    def size(self, size: Size) -> str:
        """The run-time value of a size, written in the outermost scope."""
        if not isinstance(size, Dim):
            return str(size)
        found = self.memo.get(size)
        if found is None:
            found = Entry((size_value(size, self.size, self.symbol, self._size_op),), 1, 0)
            self._remember(size, found)
        return found.names[0]

    def _size_op(self, name: str, a: str, b: str) -> str:
        return self.at(0).op(name, int64, 1, a, b)


def size_value(
    dim: Dim,
    size: Callable[[Size], str],
    symbol: Callable[[str], str],
    op: Callable[[str, str, str], str],
) -> str:
    """The value of a symbolic size from its symbols; `size` gives the parts of floor quotients.

    Recursion through `size` goes as deep as floors nest in floors: divisions written in one shape.
    """
    total = "0"
    for monomial, coefficient in dim.terms:
        product = str(coefficient)
        for atom in monomial:
            if isinstance(atom, Quotient):
                # A size that is still to be checked may be 0, and a division by it would trap.
                known = isinstance(atom.denominator, int)
                below = size(atom.denominator)
                below = below if known else op("maximum", below, "1")
                factor = op("floordiv", size(atom.numerator), below)
            else:
                factor = symbol(atom.name)
            product = op("mul", factor, product)
        total = op("add", total, product)
    return total
