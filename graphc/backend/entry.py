"""One entry function for a whole program (floor 6): every launch in order over one arena.

The module holds each distinct kernel once (kernels with equal text are equal), the entry
`graphc_entry(ctx, buffers, dims, arena) -> error site` and `graphc_arena_bytes(dims, threads)`.
Invariant: no symbol is needed from outside, so an object can be cached, shipped and loaded as it
is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from graphc.backend.kernel_facts import kernel_symbols, parallel_loop, scratch_bytes
from graphc.backend.loop_emitter import FUNCTION_ATTRIBUTES, NAME, emit_kernel
from graphc.backend.scalar_emitter import ScalarEmitter
from graphc.backend.values import size_value
from graphc.base.dims import Dim, Size, Symbol
from graphc.base.dtypes import int64
from graphc.base.errors import CompileError
from graphc.base.target import Target
from graphc.loops.nodes import Const, Kernel, SizeOf

ENTRY = "graphc_entry"
ARENA_BYTES = "graphc_arena_bytes"
# Below this many scalar operations, waking threads costs more than it saves (0.1 us hot, 0.8 us
# asleep).
PARALLEL_THRESHOLD = 20_000
CHUNKS_PER_THREAD = 4
LAUNCHES_PER_PART = 32
FIRST_PROFILE_SLOT = 8  # of the context
WHOLE_PROFILE_SLOT = 7
_WHOLE_TICKS = """  %end = {clock}
  %ticks = sub i64 %end, %start
  %whole_at = getelementptr i64, ptr %ctx, i64 7
  %before = load i64, ptr %whole_at, align 8
  %after = add i64 %before, %ticks
  store i64 %after, ptr %whole_at, align 8"""
# The virtual counter of 64-bit Arm: the cycle counter is not readable there outside the kernel.
_CLOCKS = {"aarch64": 'call i64 asm sideeffect "mrs $0, cntvct_el0", "=r"()'}
KINDS = ("input", "variable", "output", "update", "constant")


@dataclass(frozen=True, slots=True)
class BufferRef:
    """One buffer of a program: kind is one of KINDS, or "arena" with the index of a slot.

    offset: bytes from its start.
    """

    kind: str
    index: int
    offset: Size = 0


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel with the buffers of its params, in order."""

    kernel: Kernel
    args: tuple[BufferRef, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """Everything that the entry function does.

    symbols: in the order of the `dims` argument; counts: how many buffers of each of KINDS;
    slots: the bytes of each arena slot; offsets: where each slot starts, one after another if None.
    profile: add the ticks of launch k to slot FIRST_PROFILE_SLOT + k of the context. stop_after:
    after so many launches, go on only if no check has failed.
    """

    symbols: tuple[Symbol, ...]
    counts: dict[str, int]
    launches: tuple[Launch, ...]
    slots: tuple[Size, ...] = ()
    offsets: tuple[Size, ...] | None = None
    arena: Size | None = None
    profile: bool = False
    notes: tuple[str, ...] = field(default=())
    stop_after: int = 0


class _Sizes:
    """Sizes as values of one function, each computed once."""

    def __init__(self, e: ScalarEmitter, symbols: tuple[Symbol, ...]) -> None:
        self.e = e
        self.known: dict[Size, str] = {}
        self.symbols: dict[str, str] = {}
        for k, symbol in enumerate(symbols):
            address = e.emit(f"getelementptr i64, ptr %dims, i64 {k}")
            self.symbols[symbol.name] = e.emit(f"load i64, ptr {address}, align 8")

    def symbol(self, name: str) -> str:
        if name not in self.symbols:
            raise CompileError(f"the size {name!r} is not among the program's symbols")
        return self.symbols[name]

    def value(self, size: Size) -> str:
        if not isinstance(size, Dim):
            return str(size)
        found = self.known.get(size)
        if found is None:
            found = self.known[size] = size_value(size, self.value, self.symbol, self._op)
        return found

    def _op(self, name: str, a: str, b: str) -> str:
        return self.e.op(name, int64, 1, a, b)


def round_up(size: Size) -> Size:
    """A size in bytes rounded up to a cache line."""
    return (size + 63) // 64 * 64


def slot_offsets(program: Program) -> tuple[tuple[Size, ...], Size]:
    """Where each arena slot starts, and where the last one ends."""
    offsets: list[Size] = []
    total: Size = 0
    for size in program.slots:
        offsets.append(total)
        total = total + round_up(size)
    if program.offsets is not None:
        if program.arena is None:
            raise CompileError("a program with slot offsets must give the arena's size")
        return program.offsets, program.arena
    return tuple(offsets), total


@dataclass(frozen=True, slots=True)
class _KernelFacts:
    """One kernel of the program: its function, the symbols it takes, its scratch, its extent."""

    name: str
    symbols: tuple[str, ...]
    scratch: Size
    extent: Size | None  # of the parallel loop; None: there is none


@dataclass(frozen=True, slots=True)
class _Plan:
    """What every part of the program needs to know."""

    kernels: dict[Kernel, _KernelFacts]
    starts: dict[str, int]  # kind -> first slot in the buffers array
    offsets: tuple[Size, ...]
    end: Size


def emit_program(program: Program, target: Target) -> str:
    """The LLVM IR text of a program."""
    functions: dict[str, str] = {}
    names: dict[str, str] = {}  # kernel text -> function name
    kernels: dict[Kernel, _KernelFacts] = {}
    for launch in program.launches:
        kernel = launch.kernel
        if kernel not in kernels:
            text = emit_kernel(kernel, target, functions)
            name = names.setdefault(text, f"@graphc.kernel.{len(names)}")
            kernels[kernel] = _KernelFacts(
                name, kernel_symbols(kernel), scratch_bytes(kernel), _parallel_extent(kernel)
            )
    starts: dict[str, int] = {}
    total = 0
    for kind in KINDS:
        starts[kind] = total
        total += program.counts.get(kind, 0)
    plan = _Plan(kernels, starts, *slot_offsets(program))
    groups = [range(program.stop_after), range(program.stop_after, len(program.launches))]
    chunks = [
        group[at : at + LAUNCHES_PER_PART]
        for group in groups
        for at in range(0, len(group), LAUNCHES_PER_PART)
    ]
    stop = next((k for k, c in enumerate(chunks) if c.start == program.stop_after), 0)
    parts = [f'target triple = "{target.triple}"']
    parts += [text.replace(NAME, name) for text, name in names.items()]
    parts += [
        _PartEmitter(program, target, plan).text(
            f"@graphc.part.{k}", chunk.start, program.launches[chunk.start : chunk.stop]
        )
        for k, chunk in enumerate(chunks)
    ]
    parts += [
        _LAUNCH_TEXT,
        _entry(len(chunks), _clock(target) if program.profile else None, stop),
        _arena_bytes(program, target, plan),
    ]
    parts += functions.values()
    return "\n\n".join(parts) + "\n"


def _parallel_extent(kernel: Kernel) -> Size | None:
    loop = parallel_loop(kernel)
    if loop is None:
        return None
    if isinstance(loop.extent, Const):
        return int(loop.extent.value)
    if isinstance(loop.extent, SizeOf):
        return loop.extent.dim
    raise CompileError(f"kernel {kernel.name}: the extent of its parallel loop is no size")


class _PartEmitter:
    """Writes one part of the program: some launches in a row, in a function of their own.

    One function for everything would take LLVM quadratic time: addresses would live to its end.
    """

    def __init__(self, program: Program, target: Target, plan: _Plan) -> None:
        self.program, self.plan = program, plan
        self.e = ScalarEmitter(target)
        self.sizes = _Sizes(self.e, program.symbols)
        self.pointers: dict[BufferRef, str] = {}
        self.arguments: dict[int, str] = {}  # what the slots of %args hold: kernels only read them
        self.longest = 1
        self.profile = program.profile
        self.clock = _clock(target)

    def text(self, name: str, first: int, launches: tuple[Launch, ...]) -> str:
        for number, launch in enumerate(launches, first):
            if self.profile:
                start = self.e.emit(self.clock)
                self._launch(launch)
                self._add_ticks(number, start)
            else:
                self._launch(launch)
        return "\n".join(
            [
                f"define internal void {name}(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) "
                f"{FUNCTION_ATTRIBUTES} {{",
                f"  %args = alloca [{self.longest} x i64], align 64",
                *self.e.lines,
                "  ret void",
                "}",
            ]
        )

    def _add_ticks(self, number: int, start: str) -> None:
        e = self.e
        ticks = e.emit(f"sub i64 {e.emit(self.clock)}, {start}")
        address = e.emit(f"getelementptr i64, ptr %ctx, i64 {FIRST_PROFILE_SLOT + number}")
        total = e.emit(f"add i64 {e.emit(f'load i64, ptr {address}, align 8')}, {ticks}")
        e.do(f"store i64 {total}, ptr {address}, align 8")

    def _pointer(self, ref: BufferRef) -> str:
        found = self.pointers.get(ref)
        if found is not None:
            return found
        e = self.e
        if ref.offset != 0:
            start = self._pointer(BufferRef(ref.kind, ref.index))
            found = e.emit(f"getelementptr i8, ptr {start}, i64 {self.sizes.value(ref.offset)}")
        elif ref.kind == "arena":
            offset = self.sizes.value(self.plan.offsets[ref.index])
            found = "%arena"
            if offset != "0":
                found = e.emit(f"getelementptr i8, ptr %arena, i64 {offset}")
        else:
            slot = self.plan.starts[ref.kind] + ref.index
            address = e.emit(f"getelementptr ptr, ptr %buffers, i64 {slot}")
            found = e.emit(f"load ptr, ptr {address}, align 8")
        self.pointers[ref] = found
        return found

    def _launch(self, launch: Launch) -> None:
        kernel, e = launch.kernel, self.e
        facts = self.plan.kernels[kernel]
        if len(launch.args) != len(kernel.params):
            raise CompileError(
                f"kernel {kernel.name}: {len(launch.args)} buffers for {len(kernel.params)} params"
            )
        values = [("ptr", "%ctx")]
        values += [("ptr", self._pointer(ref)) for ref in launch.args]
        values += [("i64", self.sizes.symbol(name)) for name in facts.symbols]
        if facts.scratch != 0:
            end = self.sizes.value(self.plan.end)
            values.append(("ptr", e.emit(f"getelementptr i8, ptr %arena, i64 {end}")))
        self.longest = max(self.longest, len(values))
        for slot, (t, value) in enumerate(values):
            if self.arguments.get(slot) == value:
                continue
            self.arguments[slot] = value
            address = e.emit(f"getelementptr i64, ptr %args, i64 {slot}") if slot else "%args"
            e.do(f"store {t} {value}, ptr {address}, align 8")
        if facts.extent is None:
            e.do(f"call void {facts.name}(ptr %args, i64 0, i64 1, i64 0)")
            return
        n = self.sizes.value(facts.extent)
        if isinstance(kernel.work, int) and kernel.work < PARALLEL_THRESHOLD:
            e.do(f"call void {facts.name}(ptr %args, i64 0, i64 {n}, i64 0)")
            return
        work = self.sizes.value(kernel.work)
        e.do(f"call void @{_LAUNCH}(ptr {facts.name}, ptr %args, i64 {n}, i64 {work})")


_LAUNCH = "graphc.launch"
# Runs a kernel with a parallel loop: through the pool where there is one and the work is worth it.
_LAUNCH_TEXT = f"""define internal void @{_LAUNCH}(ptr %kernel, ptr %args, i64 %n, i64 %work) {{
  %ctx = load ptr, ptr %args, align 8
  %threads_at = getelementptr i64, ptr %ctx, i64 2
  %threads = load i64, ptr %threads_at, align 8
  %pool_at = getelementptr i64, ptr %ctx, i64 1
  %pool = load ptr, ptr %pool_at, align 8
  %enough = icmp sge i64 %work, {PARALLEL_THRESHOLD}
  %several = icmp sgt i64 %threads, 1
  %exists = icmp ne ptr %pool, null
  %worth = and i1 %enough, %several
  %useful = and i1 %worth, %exists
  br i1 %useful, label %parallel, label %serial
parallel:
  %parts = mul i64 %threads, {CHUNKS_PER_THREAD}
  %less = sub i64 %parts, 1
  %padded = add i64 %n, %less
  %chunk = udiv i64 %padded, %parts
  call void %pool(ptr %kernel, ptr %args, i64 %n, i64 %chunk, i64 %threads)
  ret void
serial:
  call void %kernel(ptr %args, i64 0, i64 %n, i64 0)
  ret void
}}"""


def _clock(target: Target) -> str:
    return _CLOCKS.get(target.triple.split("-")[0], "call i64 @llvm.readcyclecounter()")


def _entry(parts: int, clock: str | None, stop: int) -> str:
    """The entry function; with a clock it adds the ticks of the whole call to slot
    WHOLE_PROFILE_SLOT. Before part `stop`, if that is not the first, it leaves where a check has
    failed.
    """
    calls = [
        f"  call void @graphc.part.{k}(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena)"
        for k in range(parts)
    ]
    if stop:
        calls[stop:stop] = _LEAVE.splitlines()
    return "\n".join(
        [
            f"define i64 @{ENTRY}(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) "
            f"{FUNCTION_ATTRIBUTES} {{",
            *([f"  %start = {clock}"] if clock else []),
            *calls,
            *(_WHOLE_TICKS.format(clock=clock).splitlines() if clock else []),
            "  %site = load i64, ptr %ctx, align 8",
            "  ret i64 %site",
            "}",
        ]
    )


_LEAVE = """  %early = load i64, ptr %ctx, align 8
  %good = icmp eq i64 %early, 0
  br i1 %good, label %go_on, label %leave
leave:
  ret i64 %early
go_on:"""


def _arena_bytes(program: Program, target: Target, plan: _Plan) -> str:
    e = ScalarEmitter(target)
    sizes = _Sizes(e, program.symbols)
    most = "0"
    for size in dict.fromkeys(facts.scratch for facts in plan.kernels.values()):
        value = sizes.value(size)
        most = value if most == "0" else e.op("maximum", int64, 1, most, value)
    scratch_total = e.op("mul", int64, 1, "%threads", most)
    total = e.op("add", int64, 1, sizes.value(plan.end), scratch_total)
    return "\n".join(
        [
            f"define i64 @{ARENA_BYTES}(ptr %dims, i64 %threads) {FUNCTION_ATTRIBUTES} {{",
            *e.lines,
            f"  ret i64 {total}",
            "}",
        ]
    )
