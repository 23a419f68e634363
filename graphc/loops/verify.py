"""Verification of kernels (floor 4): `verify` raises VerifyError for a malformed kernel.

Every handler may rely on what is checked here: names are unique and defined before use, dtypes and
ranks fit, only outputs are written, the parallel loop is outermost and alone, vector loops hold
what can run W at a time, accumulators are not shared by independent iterations. Bounds, races and
initialisation depend on sizes and are found by the interpreter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from graphc.base.dtypes import DType, bool_, int32, int64
from graphc.base.errors import VerifyError, message
from graphc.base.order import topological
from graphc.ir.scalar import BINARY, COMPARE, DOTS, PREDICATE, TERNARY, UNARY
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Barrier,
    Bitcast,
    Buffer,
    Check,
    Combine,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Let,
    Load,
    Op,
    Prefetch,
    Select,
    Stmt,
    Store,
    Var,
)
from graphc.loops.text import expr_text, statement_text
from graphc.loops.walk import expressions, statements

KINDS = ("serial", "parallel", "vector", "unroll", "block", "thread", "lane")
_RESERVED = frozenset(
    "for in let alloc acc by if else check site barrier intrinsic note work kernel out prefetch "
    "true false inf nan size select bitcast min none from".split()
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_ARITY = (
    dict.fromkeys(UNARY + PREDICATE, 1)
    | dict.fromkeys(BINARY + COMPARE, 2)
    | dict.fromkeys(TERNARY, 3)
)
_TO_BOOL = frozenset(COMPARE + PREDICATE)
_ANY_KIND = frozenset(("minimum", "maximum", *COMPARE))
_LOGIC = frozenset(("bit_and", "bit_or", "bit_xor", "bit_not"))
_INTEGER_ONLY = frozenset((*_LOGIC, "shift_left", "shift_right", "count_ones"))
_NUMBERS = frozenset("neg abs add sub mul floordiv mod pow floor ceil trunc round_even".split())


def verify(kernel: Kernel) -> None:
    """Raise VerifyError, with the statement, unless `kernel` is well formed."""
    _Verifier(kernel).run()


@dataclass(eq=False, slots=True)
class _Scope:
    """What is visible in a block: variables, buffers, and the loops around it."""

    loops: tuple[For, ...] = ()
    names: dict[Var, Stmt] = field(default_factory=dict)
    buffers: set[Buffer] = field(default_factory=set)
    targets: dict[Accumulators, tuple[For, ...]] = field(default_factory=dict)

    def inner(self, loop: For | None = None) -> _Scope:
        """A copy for a nested block."""
        loops = self.loops if loop is None else (*self.loops, loop)
        return _Scope(loops, dict(self.names), set(self.buffers), dict(self.targets))

    def loop_of_kind(self, *kinds: str) -> For | None:
        return next((loop for loop in reversed(self.loops) if loop.kind in kinds), None)


class _Verifier:
    """One kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.var_names: set[str] = set()
        self.buffer_names: set[str] = set()
        self.well_typed: set[Expr] = set()

    def _error(self, what: str, statement: Stmt | None = None) -> VerifyError:
        operands = () if statement is None else (statement_text(statement),)
        # A bug of the compiler: no line of the user is to blame.
        what = f"kernel {self.kernel.name}: {what}"
        return VerifyError(message(what, operands=operands, at=""))

    def run(self) -> None:
        """Check the signature, then every statement with an explicit stack."""
        kernel = self.kernel
        if not _NAME.fullmatch(kernel.name):
            raise self._error("a kernel's name must be an identifier (dots allowed)")
        scope = _Scope()
        for buffer in kernel.params:
            self._buffer(buffer, None)
            if buffer.scope != "global":
                raise self._error(f"the parameter %{buffer.name} has the scope {buffer.scope!r}")
            scope.buffers.add(buffer)
        for buffer in kernel.outputs:
            if buffer not in scope.buffers:
                raise self._error(f"the output %{buffer.name} is not a parameter")
        if len(set(kernel.outputs)) != len(kernel.outputs):
            raise self._error("an output is listed twice")
        self._placement()
        stack = [(kernel.body, scope)]
        while stack:
            body, scope = stack.pop()
            for statement in body:
                stack.extend(self._statement(statement, scope))

    def _placement(self) -> None:
        """The parallel loop stands at the top, once; every range repeats what stands beside it."""
        parallel = [
            s for s in statements(self.kernel.body) if isinstance(s, For) and s.kind == "parallel"
        ]
        if not parallel:
            return
        if len(parallel) > 1:
            raise self._error("a second parallel loop", parallel[1])
        if not any(s is parallel[0] for s in self.kernel.body):
            raise self._error("a parallel loop must be outermost", parallel[0])
        for s in self.kernel.body:
            if s is not parallel[0] and not isinstance(s, Let | Check):
                raise self._error("only let and check may stand beside a parallel loop", s)

    # -- statements -----------------------------------------------------------------------------
    def _statement(self, s: Stmt, scope: _Scope) -> Iterable[tuple[tuple[Stmt, ...], _Scope]]:
        for root in expressions(s):
            self._expr(root, s, scope)
        if isinstance(s, For):
            return self._for(s, scope)
        if isinstance(s, If):
            self._needs(s.condition.dtype is bool_, "an if's condition must be bool", s)
            self._needs(scope.loop_of_kind("vector") is None, "an if inside a vector loop", s)
            return (s.body, scope.inner()), (s.otherwise, scope.inner())
        if isinstance(s, Intrinsic):
            return ((s.meaning, scope.inner()),)
        if isinstance(s, Accumulators):
            self._accumulators(s, scope)
        elif isinstance(s, Let):
            self._needs(s.var.dtype is s.value.dtype, f"{s.var.name} is {s.var.dtype}", s)
            self._declare(s.var, s, scope)
        elif isinstance(s, Alloc):
            self._alloc(s, scope)
        elif isinstance(s, Store):
            self._store(s, scope)
        elif isinstance(s, Prefetch):
            self._prefetch(s, scope)
        elif isinstance(s, Accumulate):
            self._accumulate(s, scope)
        elif isinstance(s, Check):
            self._needs(s.ok.dtype is bool_, "a check must be bool", s)
            self._needs(s.site > 0, "the site of a check must be positive", s)
        elif isinstance(s, Barrier):
            self._needs(scope.loop_of_kind("thread") is not None, "a barrier outside threads", s)
            self._needs(scope.loop_of_kind("vector") is None, "a barrier inside a vector loop", s)
        else:
            raise self._error(f"unknown statement {type(s).__name__}")
        return ()

    def _needs(self, holds: bool, what: str, s: Stmt) -> None:
        if not holds:
            raise self._error(what, s)

    def _declare(self, v: Var, s: Stmt, scope: _Scope) -> None:
        self._needs(_NAME.fullmatch(v.name) is not None, f"{v.name!r} is no identifier", s)
        self._needs(v.name not in _RESERVED, f"{v.name!r} is a word of the language", s)
        self._needs(v.name not in self.var_names, f"{v.name} is declared twice", s)
        self.var_names.add(v.name)
        scope.names[v] = s

    def _buffer(self, buffer: Buffer, s: Stmt | None) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.]*", buffer.name):
            raise self._error(f"the buffer name {buffer.name!r} is no identifier", s)
        if buffer.name in self.buffer_names:
            raise self._error(f"two buffers are called %{buffer.name}", s)
        self.buffer_names.add(buffer.name)

    def _for(self, s: For, scope: _Scope) -> Iterable[tuple[tuple[Stmt, ...], _Scope]]:
        self._needs(s.kind in KINDS, f"unknown kind of loop {s.kind!r}", s)
        self._needs(s.var.dtype is int64, "a loop variable must be int64", s)
        self._needs(s.extent.dtype is int64, "an extent must be int64", s)
        vector = scope.loop_of_kind("vector")
        if s.kind == "vector":
            self._needs(vector is None, "a vector loop inside a vector loop", s)
            power = s.width > 0 and s.width & (s.width - 1) == 0
            self._needs(power and s.interleave > 0, "a vector's width must be a power of two", s)
        else:
            self._needs(s.width == s.interleave == 1, f"a {s.kind} loop has no width", s)
        if vector is not None:
            self._needs(s.kind in ("serial", "unroll"), f"a {s.kind} loop inside a vector loop", s)
            uniform = vector.var not in _reads(s.extent)
            self._needs(uniform, "an extent that differs between the lanes of a vector loop", s)
        if s.kind == "unroll":
            self._needs(isinstance(s.extent, Const), "an unrolled loop needs a constant extent", s)
        if s.kind in ("block", "thread", "lane"):
            self._needs(scope.loop_of_kind("parallel") is None, f"{s.kind} inside parallel", s)
        if s.kind == "block":
            inner = scope.loop_of_kind("thread", "lane")
            self._needs(inner is None, "a block loop inside a thread loop", s)
        inside = scope.inner(s)
        self._declare(s.var, s, inside)
        return ((s.body, inside),)

    def _alloc(self, s: Alloc, scope: _Scope) -> None:
        buffer = s.buffer
        self._buffer(buffer, s)
        known = buffer.scope in ("local", "register", "shared")
        self._needs(known, f"{buffer.scope!r} memory cannot be allocated", s)
        self._needs(scope.loop_of_kind("vector") is None, "an alloc inside a vector loop", s)
        if buffer.scope == "register":
            fixed = all(isinstance(d, int) for d in buffer.shape)
            self._needs(fixed, "a register buffer needs constant sizes", s)
        if buffer.scope == "shared":
            outside = scope.loop_of_kind("thread", "lane") is None
            self._needs(outside, "shared memory belongs to a block, not to a thread", s)
        scope.buffers.add(buffer)

    def _store(self, s: Store, scope: _Scope) -> None:
        self._access(s.buffer, s.indices, s, scope)
        if s.buffer.scope == "global":
            self._needs(s.buffer in self.kernel.outputs, f"%{s.buffer.name} is not an output", s)
        fits = s.value.dtype is s.buffer.dtype
        self._needs(fits, f"%{s.buffer.name} holds {s.buffer.dtype}, not {s.value.dtype}", s)
        if s.predicate is not None:
            self._needs(s.predicate.dtype is bool_, "a predicate must be bool", s)

    def _prefetch(self, s: Prefetch, scope: _Scope) -> None:
        self._access(s.buffer, s.indices, s, scope)
        vector = scope.loop_of_kind("vector")
        if vector is not None:
            uniform = not any(vector.var in _reads(index) for index in s.indices)
            self._needs(uniform, "a prefetch that differs between the lanes of a vector loop", s)

    def _accumulators(self, s: Accumulators, scope: _Scope) -> None:
        self._combine(s.combine, tuple(v.dtype for v in s.vars), s)
        if s.entering is not None:
            self._combine(s.entering, s.dtypes, s)
            for v, dtype in zip(s.vars, s.dtypes, strict=True):
                wider = v.dtype.is_float and dtype.is_float and v.dtype.itemsize > dtype.itemsize
                self._needs(wider, f"{dtype} enters {v.name}, which is {v.dtype}", s)
        for v in s.vars:
            self._declare(v, s, scope)
        scope.targets[s] = scope.loops

    def _combine(self, combine: Combine, dtypes: tuple[DType, ...], s: Accumulators) -> None:
        groups = (combine.left, combine.right, combine.results, combine.identity)
        same = {len(dtypes), len(s.vars)} == {len(group) for group in groups}
        self._needs(same and len(dtypes) > 0, "accumulators and combine differ in number", s)
        for group in groups:
            for v, dtype, x in zip(s.vars, dtypes, group, strict=True):
                self._needs(dtype is x.dtype, f"combine is {x.dtype} where {v.name} is {dtype}", s)
        params = set(combine.left + combine.right)
        self._needs(len(params) == 2 * len(dtypes), "parameters of combine must differ", s)
        for node in topological(combine.results, lambda e: e.args):
            self._needs(not isinstance(node, Load), "combine reads memory", s)
            if isinstance(node, Var):
                self._needs(node in params, f"combine reads {node.name}", s)
            self._type(node, s)

    def _accumulate(self, s: Accumulate, scope: _Scope) -> None:
        outer = scope.targets.get(s.target)
        if outer is None:
            raise self._error("the accumulators are not declared here", s)
        self._needs(len(s.values) == len(s.target.vars), "wrong number of values", s)
        verb = "is" if s.target.entering is None else "takes in"
        for v, dtype, x in zip(s.target.vars, s.target.dtypes, s.values, strict=True):
            self._needs(dtype is x.dtype, f"{v.name} {verb} {dtype}, not {x.dtype}", s)
        for loop in scope.loops[len(outer) :]:
            independent = loop.kind in ("parallel", "block", "thread", "lane")
            self._needs(
                not independent, f"iterations of a {loop.kind} loop share an accumulator", s
            )
        for root in s.values:
            own = _reads(root).intersection(s.target.vars)
            self._needs(not own, "an accumulator is read by its own accumulate", s)

    # -- expressions ----------------------------------------------------------------------------
    def _expr(self, root: Expr, s: Stmt, scope: _Scope) -> None:
        for node in topological((root,), lambda e: e.args):
            if isinstance(node, Var):
                owner = scope.names.get(node)
                if owner is None:
                    raise self._error(f"{node.name} ({node.dtype}) is not defined here", s)
                if isinstance(owner, Accumulators):
                    self._reads_accumulator(owner, s, scope)
            elif isinstance(node, Load):
                self._access(node.buffer, node.indices, s, scope)
            self._type(node, s)

    def _reads_accumulator(self, owner: Accumulators, s: Stmt, scope: _Scope) -> None:
        """Inside a vector loop that accumulates, an accumulator has one value for each lane."""
        loop = scope.loop_of_kind("vector")
        if loop is None or any(x is loop for x in scope.targets[owner]):
            return
        for inner in statements(loop.body):
            shared = isinstance(inner, Accumulate) and inner.target is owner
            self._needs(not shared, "an accumulator is read in the vector loop that adds to it", s)

    def _access(self, buffer: Buffer, indices: tuple[Expr, ...], s: Stmt, scope: _Scope) -> None:
        self._needs(buffer in scope.buffers, f"%{buffer.name} does not exist here", s)
        rank = len(buffer.shape)
        self._needs(
            len(indices) == rank, f"%{buffer.name} has {rank} dims, got {len(indices)} indices", s
        )
        for index in indices:
            self._needs(index.dtype is int64, f"an index of %{buffer.name} is {index.dtype}", s)
        if buffer.scope == "register":
            self._register(buffer, indices, s, scope)

    def _register(self, buffer: Buffer, indices: tuple[Expr, ...], s: Stmt, scope: _Scope) -> None:
        kinds = {loop.var: loop.kind for loop in scope.loops}
        found = {v for index in indices for v in _reads(index)}
        fixed = all(kinds.get(v) in ("unroll", "vector") for v in found) and not any(
            isinstance(node, Load) for node in topological(indices, lambda e: e.args)
        )
        what = f"an index of the register buffer %{buffer.name} is not constant after unrolling"
        self._needs(fixed, what, s)
        vector = {v for v in found if kinds[v] == "vector"}
        dims = [index for index in indices if vector & _reads(index)]
        self._needs(len(dims) <= 1, f"%{buffer.name} has the vector variable in two indices", s)

    def _type(self, node: Expr, s: Stmt) -> None:
        if node in self.well_typed:
            return
        wrong = _type_error(node)
        if wrong is not None:
            raise self._error(f"{wrong}: {expr_text(node)}", s)
        self.well_typed.add(node)


def _reads(root: Expr) -> set[Var]:
    return {node for node in topological((root,), lambda e: e.args) if isinstance(node, Var)}


def _type_error(node: Expr) -> str | None:
    """What is wrong with the dtypes of a node, or None."""
    dtypes = [a.dtype for a in node.args]
    if isinstance(node, Op):
        return _op_error(node)
    if isinstance(node, Select):
        good = dtypes[0] is bool_ and dtypes[1] is dtypes[2] is node.dtype
        return None if good else "select needs (bool, x, x)"
    if isinstance(node, Bitcast):
        good = dtypes[0].bits == node.dtype.bits and bool_ not in (dtypes[0], node.dtype)
        return None if good else "bitcast between different widths"
    if isinstance(node, Load):
        if node.dtype is not node.buffer.dtype:
            return f"%{node.buffer.name} holds {node.buffer.dtype}"
        if node.predicated and (dtypes[-2] is not bool_ or dtypes[-1] is not node.dtype):
            return "a load's predicate must be bool and its fill of the buffer's dtype"
    if isinstance(node, Const):
        kind = bool if node.dtype.is_bool else float if node.dtype.is_float else int
        return (
            None
            if type(node.value) is kind
            else f"a {node.dtype} constant must be a {kind.__name__}"
        )
    return None


def _op_error(node: Op) -> str | None:
    if node.name not in _ARITY:
        return f"unknown op {node.name!r}"
    if len(node.args) != _ARITY[node.name]:
        return f"{node.name} takes {_ARITY[node.name]} operands"
    dtype = node.args[0].dtype
    if any(a.dtype is not dtype for a in node.args):
        return f"{node.name} needs operands of one dtype"
    if node.dtype is not (bool_ if node.name in _TO_BOOL else dtype):
        return f"{node.name} of {dtype} is not {node.dtype}"
    if node.name in DOTS:
        return None if dtype is int32 else f"{node.name} does not take {dtype}"
    if dtype.is_bool:
        allowed = node.name in _LOGIC or node.name in _ANY_KIND
    elif dtype.is_integer:
        allowed = node.name in _INTEGER_ONLY or node.name in _ANY_KIND or node.name in _NUMBERS
    else:
        allowed = node.name not in _INTEGER_ONLY
    return None if allowed else f"{node.name} does not take {dtype}"
