"""Statements of the loop IR as LLVM IR text, in clean SSA form (floor 6).

Loops are do-while loops behind a guard; accumulators are phis. A vector loop becomes a main loop of
width * interleave lanes and a scalar tail, with the accumulation order that `loops.nodes` fixes.
Structurally equal kernels give equal text, whatever their names, so that a program emits each once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from graphc.backend.control import ControlEmitter
from graphc.backend.fetching import fetched_ahead
from graphc.backend.kernel_facts import (
    Effects,
    buffer_bytes,
    effects,
    kernel_symbols,
    scratch_buffers,
    stack_buffers,
)
from graphc.backend.llvm_types import (
    compute_type,
    is_literal,
    memory_type,
    splat_literal,
    vector_type,
)
from graphc.backend.scalar_emitter import ScalarEmitter
from graphc.backend.streaming import FENCE, MARK, streaming_stores
from graphc.backend.values import Entry, VectorContext
from graphc.base.dims import bounds, product
from graphc.base.dtypes import int64
from graphc.base.errors import CompileError
from graphc.base.target import Target
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Barrier,
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
    Prefetch,
    SizeOf,
    Stmt,
    Store,
    Var,
    var,
)
from graphc.loops.walk import statements
from graphc.schedule.policy_cpu import VECTOR_BYTES

NAME = "@KERNEL@"  # replaced by the function's name last
# How names of register buffers and of single elements start: the driver promotes where some are.
TILE = "%tile"
FUNCTION_ATTRIBUTES = 'nounwind "min-legal-vector-width"="512"'


class LoopEmitter(ControlEmitter):
    """Writes one kernel as a function of the native ABI; see `emit_kernel`.

    functions: internal functions of the module, shared by its kernels; streamed: params that are
    written past the caches.
    """

    def __init__(
        self,
        kernel: Kernel,
        target: Target,
        functions: dict[str, str],
        streamed: frozenset[Buffer] = frozenset(),
    ) -> None:
        scalars = ScalarEmitter(target)
        scalars.functions = functions
        super().__init__(scalars)
        self.kernel = kernel
        self._streamed = streamed
        self._lines: frozenset[Store] = frozenset()  # stores that go past the caches at this place
        self.symbols = kernel_symbols(kernel)
        self.mutable = frozenset(kernel.outputs) | frozenset(
            s.buffer for s in statements(kernel.body) if isinstance(s, Alloc)
        )
        self.ahead = fetched_ahead(kernel)
        self._accesses = {}
        self._repeated = {}
        self._slots = {p: k + 1 for k, p in enumerate(kernel.params)}
        self._on_stack = stack_buffers(kernel)
        self._allocas: list[str] = []
        self._dummy = ""
        self._vector_slots: dict[tuple[str, int], str] = {}
        self._effects: dict[Stmt, Effects] = {}
        self._handlers: dict[type[Stmt], Callable[..., None]] = {
            For: self._for, Let: self._let, Store: self._store, Alloc: self._alloc, If: self._if,
            Accumulators: self._accumulators, Accumulate: self._accumulate, Check: self._check,
            Intrinsic: self._intrinsic, Barrier: self._barrier, Prefetch: self._prefetch,
        }  # fmt: skip

    # -- the function ---------------------------------------------------------------------------
    def function(self) -> str:
        """The text of the function, its name written as NAME."""
        self.block(self.kernel.body)
        lines = self.region.lines
        if self._streamed:
            lines.append(f"  {FENCE}")
        return "\n".join([
            f"define internal void {NAME}(ptr %args, i64 %begin, i64 %end, i64 %worker) "
            f"{FUNCTION_ATTRIBUTES} {{",
            "entry:", *self._allocas, *lines, "  ret void", "}",
        ])  # fmt: skip

    def argument(self, slot: int, t: str) -> str:
        """The argument in a slot of the argument array."""
        key = ("argument", slot)
        found = self.memo.get(key)
        if found is None:
            e = self.at(0)
            address = e.emit(f"getelementptr i64, ptr %args, i64 {slot}") if slot else "%args"
            found = Entry((e.emit(f"load {t}, ptr {address}, align 8"),), 1, 0)
            self._remember(key, found)
        return found.names[0]

    def symbol(self, name: str) -> str:
        return self.argument(1 + len(self._slots) + self.symbols.index(name), "i64")

    def pointer(self, buffer: Buffer) -> str:
        slot = self._slots.get(buffer)
        if slot is not None:
            return self.argument(slot, "ptr")
        found = self.memo.get(buffer)
        if found is None:
            raise CompileError(f"buffer {buffer.name!r} is used before it is allocated")
        return found.names[0]

    def dummy(self) -> str:
        if not self._dummy:
            self._dummy = self._alloca("[8 x i64]")
        return self._dummy

    def _alloca(self, t: str, prefix: str = "%stack") -> str:
        name = f"{prefix}{len(self._allocas)}"
        self._allocas.append(f"  {name} = alloca {t}, align 64")
        return name

    def slot(self, scalar: str, width: int) -> str:
        found = self._vector_slots.get((scalar, width))
        if found is None:
            found = self._vector_slots[scalar, width] = self._alloca(f"[{width} x {scalar}]")
        return found

    def _scratch(self, buffer: Buffer) -> str:
        base = self.memo.get("scratch")
        if base is None:
            buffers = scratch_buffers(self.kernel)
            pointer = self.argument(1 + len(self._slots) + len(self.symbols), "ptr")
            offsets = []
            total = "0"
            for each in buffers:
                offsets.append(total)
                size = self.size(buffer_bytes(each))
                total = self.at(0).op("add", int64, 1, total, size)
            e = self.at(0)
            start = e.op("mul", int64, 1, "%worker", total)
            own = e.emit(f"getelementptr i8, ptr {pointer}, i64 {start}")
            base = Entry((own,), 1, 0)
            self._remember("scratch", base)
            for each, offset in zip(buffers, offsets, strict=True):
                e = self.at(0)
                address = e.emit(f"getelementptr i8, ptr {own}, i64 {offset}")
                self._remember(("scratch", each), Entry((address,), 1, 0))
        return self.memo[("scratch", buffer)].names[0]

    # -- statements -----------------------------------------------------------------------------
    def block(self, body: tuple[Stmt, ...]) -> None:
        """Write statements one after another at the current place."""
        for kind, run in itertools.groupby(body, type):
            if kind is Check:
                self._check(*(s for s in run if isinstance(s, Check)))
                continue
            for stmt in run:
                self._handlers[kind](stmt)

    def _let(self, stmt: Let) -> None:
        entry = self.value(stmt.value)
        # The name keeps this value though what it was computed from may change.
        self.bind(stmt.var, Entry(entry.names, entry.width, entry.level))

    def _store(self, stmt: Store) -> None:
        self.line_mark = MARK if stmt in self._lines else ""
        self.store(stmt)
        self.line_mark = ""

    def _alloc(self, stmt: Alloc) -> None:
        buffer = stmt.buffer
        if buffer in self._on_stack:
            t = f"[{product(buffer.shape)} x {memory_type(buffer.dtype)}]"
            in_registers = buffer.scope == "register" or not buffer.shape
            pointer = self._alloca(t, TILE if in_registers else "%stack")
        else:
            pointer = self._scratch(buffer)
        self.bind(buffer, Entry((pointer,), 1, 0))
        self.buffer_level[buffer] = self.top

    def _prefetch(self, stmt: Prefetch) -> None:
        """Ask for a cache line."""
        _, offset, displacement = self.access(stmt.buffer, stmt.indices)
        start = self._address(stmt.buffer, self.value(offset))
        self.here()
        self.fetch(self._offset(memory_type(stmt.buffer.dtype), start, str(displacement)))

    def _intrinsic(self, stmt: Intrinsic) -> None:
        self.block(stmt.meaning)

    def _barrier(self, stmt: Barrier) -> None:
        raise CompileError(f"kernel {self.kernel.name}: a barrier outside a GPU kernel")

    def _check(self, *stmts: Check) -> None:
        # Neighbours share one branch: where it is taken the first of them that failed is found.
        alike: dict[int, list[tuple[str, int]]] = {}
        for stmt in stmts:
            ok, width = self._passes(stmt)
            if ok != "true":
                alike.setdefault(width, []).append((ok, stmt.site))
        for width, found in alike.items():
            self._branch_to_failure(width, found)

    def _passes(self, stmt: Check) -> tuple[str, int]:
        """Whether a check passes: i1 per lane, lanes masked out included; and the lanes."""
        entry = self.value(stmt.ok)
        e = self.here()
        ok = entry.names[0]
        if entry.width > 1:
            t = vector_type("i1", entry.width)
            for name in entry.names[1:]:
                ok = e.emit(f"and {t} {ok}, {name}")
            if self.vector is not None and self.vector.mask:
                missing = e.emit(
                    f"xor {t} {self.vector.mask}, {splat_literal('true', 'i1', entry.width)}"
                )
                ok = e.emit(f"or {t} {ok}, {missing}")
        return ok, entry.width

    def _branch_to_failure(self, width: int, found: list[tuple[str, int]]) -> None:
        context = self.argument(0, "ptr")
        failed, passed = self.label(), self.label()
        e = self.here()
        t = vector_type("i1", width) if width > 1 else "i1"
        every = found[0][0]
        for ok, _ in found[1:]:
            every = e.emit(f"and {t} {every}, {ok}")
        e.do(f"br i1 {self._all_lanes(every, width)}, label %{passed}, label %{failed}")
        e.lines.append(f"{failed}:")
        site = str(found[-1][1])
        for ok, earlier in reversed(found[:-1]):
            site = e.emit(f"select i1 {self._all_lanes(ok, width)}, i64 {site}, i64 {earlier}")
        e.emit(f"cmpxchg ptr {context}, i64 0, i64 {site} monotonic monotonic, align 8")
        e.do(f"br label %{passed}")
        e.lines.append(f"{passed}:")
        self.region.block = passed

    def _all_lanes(self, ok: str, width: int) -> str:
        if width == 1:
            return ok
        t = vector_type("i1", width)
        return self.here().emit(f"call i1 @llvm.vector.reduce.and.v{width}i1({t} {ok})")

    # -- accumulators ---------------------------------------------------------------------------
    def _accumulators(self, stmt: Accumulators) -> None:
        width, groups = (self.vector.width, self.vector.groups) if self.vector else (1, 1)
        for k, variable in enumerate(stmt.vars):
            self._set(variable, self._identity(stmt.combine, k, width, groups))
            self.scopes[-1].log.append(variable)

    def _accumulate(self, stmt: Accumulate) -> None:
        target, vector = stmt.target, self.vector
        across = vector is not None and target in vector.targets
        values = [self.value(v) for v in stmt.values]
        if target.entering is not None:
            if vector is not None and across:
                values = self._one_group(target.entering, stmt.values, values, vector)
            if vector is not None and target in vector.left:
                target = vector.left[target]
            else:
                values = self._widened(target, values)
        before = [self.memo[v] for v in target.vars]
        after = self._combine(target.combine, before, values)
        for variable, old, new in zip(target.vars, before, after, strict=True):
            masked = vector is not None and across and vector.mask
            self._set(variable, self._existing(variable, old, new) if masked else new)

    def _one_group(
        self, combine: Combine, exprs: tuple[Expr, ...], values: list[Entry], vector: VectorContext
    ) -> list[Entry]:
        """The groups of a step combined in order."""
        width, groups = vector.width, vector.groups
        columns = [self.spread(x, e, width, groups) for x, e in zip(values, exprs, strict=True)]
        return self._join_groups(combine, [Entry(names, width, self.top) for names in columns])

    def _widened(self, target: Accumulators, values: list[Entry]) -> list[Entry]:
        """Values converted to the dtypes of wider accumulators."""
        e, found = self.here(), []
        for x, narrow, v in zip(values, target.dtypes, target.vars, strict=True):
            names = tuple([e.cast(name, narrow, v.dtype, x.width) for name in x.names])
            found.append(Entry(names, x.width, self.top))
        return found

    def _existing(self, variable: Var, old: Entry, new: Entry) -> Entry:
        """`new` in the lanes of a tail that exist, `old` in the others."""
        assert self.vector is not None
        (a,), (b,) = new.names, old.names
        chosen = self.here().select(self.vector.mask, a, b, variable.dtype, new.width)
        return Entry((chosen,), new.width, self.top)

    # -- control --------------------------------------------------------------------------------
    def _effects_of(self, stmt: For | If) -> Effects:
        found = self._effects.get(stmt)
        if found is None:
            body = stmt.body if isinstance(stmt, For) else stmt.body + stmt.otherwise
            found = self._effects[stmt] = effects(body)
        return found

    def _if(self, stmt: If) -> None:
        changed = self._effects_of(stmt)
        condition = self.scalar(stmt.condition)
        opposite = ""
        if stmt.otherwise and condition not in ("true", "false"):
            opposite = self.here().emit(f"xor i1 {condition}, true")
        elif stmt.otherwise:
            opposite = "false" if condition == "true" else "true"
        self._guarded(condition, changed, lambda: self.block(stmt.body), conditional=True)
        if stmt.otherwise:
            self._guarded(opposite, changed, lambda: self.block(stmt.otherwise), conditional=True)

    # -- loops ----------------------------------------------------------------------------------
    def _for(self, stmt: For) -> None:
        changed = self._effects_of(stmt)
        if stmt.kind == "parallel":
            condition = self.here().emit("icmp slt i64 %begin, %end")
            self._guarded(condition, changed, lambda: self._serial(stmt, "%begin", "%end"))
            return
        if stmt.kind in ("block", "thread", "lane"):
            self._hardware_loop(stmt, changed)
            return
        stop = self.scalar(stmt.extent)
        if stmt.kind == "unroll":
            self._unroll(stmt, stop, changed)
            return
        if is_literal(stop):
            positive = "true" if int(stop) > 0 else "false"
        elif _known_positive(stmt.extent):
            positive = "true"
        else:
            positive = self.here().emit(f"icmp sgt i64 {stop}, 0")
        if stmt.kind == "vector" and stmt.width > 1:
            self._guarded(positive, changed, lambda: self._vector(stmt, stop))
        elif stop == "1":
            self._iteration(stmt, "0", changed)
        else:
            self._guarded(positive, changed, lambda: self._serial(stmt, "0", stop))

    def _hardware_loop(self, stmt: For, changed: Effects) -> None:
        raise CompileError(f"kernel {self.kernel.name}: a {stmt.kind} loop outside a GPU kernel")

    def _serial(self, stmt: For, start: str, stop: str) -> None:
        def body(counter: str) -> None:
            self.bind(stmt.var, Entry((counter,), 1, self.top))
            self.block(stmt.body)

        self._loop(start, stop, 1, self._effects_of(stmt), body)

    def _iteration(self, stmt: For, index: str, changed: Effects) -> None:
        """The body once, its variable a known operand."""

        def run() -> None:
            self.bind(stmt.var, Entry((index,), 1, self.top))
            self.block(stmt.body)

        self._inline(changed, run)

    def _unroll(self, stmt: For, stop: str, changed: Effects) -> None:
        if not is_literal(stop):
            raise CompileError(
                f"kernel {self.kernel.name}: an unrolled loop needs a constant extent"
            )
        for index in range(int(stop)):
            self._iteration(stmt, str(index), changed)

    def _vector(self, stmt: For, stop: str) -> None:
        """Main loop of width * interleave elements at a time, then the tail."""
        if self.vector is not None:
            raise CompileError(f"kernel {self.kernel.name}: a vector loop inside a vector loop")
        changed = self._effects_of(stmt)
        start = self._whole(stop, stmt.width * stmt.interleave)
        some = self.here().op("lt", int64, 1, "0", start)
        left = self.here().op("lt", int64, 1, start, stop)
        before = {v: self.memo[v] for v, _ in changed.accumulators}
        for variable, declared in changed.accumulators:
            k = declared.vars.index(variable)
            one = some == "false" or declared.entering is not None
            groups = 1 if one else stmt.interleave
            self._set(variable, self._identity(declared.combine, k, stmt.width, groups))
        if self._streamed and some != "false":
            some = self._vector_streamed(stmt, start, some)
        self._guarded(some, changed, lambda: self._vector_main(stmt, start))
        targets = tuple(dict.fromkeys(a for _, a in changed.accumulators))
        for declared in targets:
            lanes = [self.memo[v] for v in declared.vars]
            self._set_all(declared, self._join_groups(declared.combine, lanes))
        self._guarded(left, changed, lambda: self._vector_tail(stmt, start, stop))
        for declared in targets:
            lanes = [self.memo[v] for v in declared.vars]
            dtypes = [compute_type(v.dtype) for v in declared.vars]
            total = self._fold_lanes(declared.combine, lanes, dtypes)
            first = [before[v] for v in declared.vars]
            if not self._is_identity(declared.combine, first):
                total = self._combine(declared.combine, first, total)
            self._set_all(declared, total)

    def _set_all(self, declared: Accumulators, entries: list[Entry]) -> None:
        for variable, entry in zip(declared.vars, entries, strict=True):
            self._set(variable, entry)

    def _vector_tail(self, stmt: For, start: str, stop: str) -> None:
        """Vectors of which only the first lanes exist, so that short loops are vector code as
        well.
        """
        changed, width = self._effects_of(stmt), stmt.width
        targets = frozenset(a for _, a in changed.accumulators)
        left = {a: _narrow(a) for a in targets if a.entering}
        for narrow in left.values():
            for k, variable in enumerate(narrow.vars):
                self._set(variable, self._identity(narrow.combine, k, width, 1))
                self.scopes[-1].log.append(variable)
        own = dict.fromkeys(left.get(a, a) for _, a in changed.accumulators)
        changed = Effects(tuple((v, a) for a in own for v in a.vars), changed.buffers)

        def some(base: str, groups: int, count: str = "", mask: str = "") -> None:
            self.vector = VectorContext(
                stmt.var, base, width, groups, count, mask, self.top, targets, left
            )
            self.block(stmt.body)
            self.vector = None

        def body(base: str) -> None:
            e = self.here()
            count = e.op("minimum", int64, 1, e.op("sub", int64, 1, stop, base), str(width))
            t = vector_type("i64", width)
            lanes = ", ".join(f"i64 {lane}" for lane in range(width))
            mask = e.emit(f"icmp ult {t} <{lanes}>, {e.splat(count, 'i64', width)}")
            some(base, 1, count, mask)

        wide = bool(left) and len(left) == len(targets)
        if wide and start == "0" and is_literal(stop) and int(stop) >= width:
            # No whole step: what vectors are full need no mask.
            groups = int(stop) // width
            self._inline(changed, lambda: some(start, groups))
            start = str(groups * width)
        once = stmt.interleave == 1 or (is_literal(stop) and int(stop) - int(start) <= width)
        if once and start != stop:
            self._inline(changed, lambda: body(start))
        elif not once:
            self._loop(start, stop, width, changed, body)
        for target, narrow in left.items():
            entered = self._widened(target, [self.memo[v] for v in narrow.vars])
            before = [self.memo[v] for v in target.vars]
            self._set_all(target, self._combine(target.combine, before, entered))

    def _whole(self, stop: str, step: int) -> str:
        """The largest multiple of `step` that is not above `stop`."""
        if is_literal(stop):
            return str(int(stop) // step * step)
        e = self.here()
        if step & (step - 1) == 0:
            return e.emit(f"and i64 {stop}, {-step}")
        return e.emit(f"sub i64 {stop}, {e.emit(f'urem i64 {stop}, {step}')}")

    def _vector_streamed(self, stmt: For, stop: str, some: str) -> str:
        """The main loop with stores past the caches, for buffers that begin at lines; whether the
        main loop is still to run.
        """
        stores = streaming_stores(stmt, self._streamed)
        if not stores:
            return some
        e, together = self.at(0), ""
        for pointer in sorted({self.pointer(s.buffer) for s in stores}):
            bits = e.emit(f"ptrtoint ptr {pointer} to i64")
            together = e.emit(f"or i64 {together}, {bits}") if together else bits
        odd = e.emit(f"and i64 {together}, {VECTOR_BYTES - 1}")
        whole = e.emit(f"icmp eq i64 {odd}, 0")
        e = self.here()
        lines, rest = e.emit(f"and i1 {some}, {whole}"), e.emit(f"xor i1 {whole}, true")
        rest = e.emit(f"and i1 {some}, {rest}")
        self._lines = stores
        changed = self._effects_of(stmt)
        self._guarded(lines, changed, lambda: self._vector_main(stmt, stop))
        self._lines = frozenset()
        return rest

    def _vector_main(self, stmt: For, stop: str) -> None:
        targets = frozenset(a for _, a in self._effects_of(stmt).accumulators)

        def body(counter: str) -> None:
            self.vector = VectorContext(
                stmt.var, counter, stmt.width, stmt.interleave, targets=targets
            )
            self.block(stmt.body)
            self.vector = None

        step = stmt.width * stmt.interleave
        self._loop("0", stop, step, self._effects_of(stmt), body)


def _narrow(wide: Accumulators) -> Accumulators:
    """Accumulators for values before they enter wider ones."""
    assert wide.entering is not None
    names = zip(wide.vars, wide.dtypes, strict=True)
    return Accumulators(tuple(var(f"{v.name}.left", d) for v, d in names), wide.entering)


def _known_positive(extent: Expr) -> bool:
    """Whether a loop certainly runs at least once."""
    if isinstance(extent, Const):
        return extent.value > 0
    if isinstance(extent, SizeOf):
        low = bounds(extent.dim)[0]
        return low is not None and low > 0
    return False


def emit_kernel(
    kernel: Kernel,
    target: Target,
    functions: dict[str, str],
    streamed: frozenset[Buffer] = frozenset(),
) -> str:
    """The kernel's function text, named NAME; `streamed` params are written past the caches.

    Internal functions it needs are added to `functions`.
    """
    return LoopEmitter(kernel, target, functions, streamed).function()
