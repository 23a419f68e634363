"""One entry function for a whole program (floor 6): every launch in order over one arena.

The module holds each distinct kernel once (kernels with equal text are equal), the entry
`graphc_entry(ctx, buffers, dims, arena) -> error site` and `graphc_arena_bytes(dims, threads)`.
Invariant: no symbol is needed from outside, so an object can be cached, shipped and loaded as it
is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from graphc.backend.kernel_facts import kernel_symbols, parallel_loop, scratch_bytes
from graphc.backend.loop_emitter import FUNCTION_ATTRIBUTES, NAME, emit_kernel
from graphc.backend.scalar_emitter import ScalarEmitter
from graphc.backend.values import size_value
from graphc.base.dims import Dim, Size, Symbol
from graphc.base.dtypes import int64
from graphc.base.errors import CompileError
from graphc.base.target import Target
from graphc.loops.nodes import Const, For, Kernel, SizeOf

ENTRY = "graphc_entry"
ARENA_BYTES = "graphc_arena_bytes"
# Below this many scalar operations, waking threads costs more than it saves (0.1 us hot, 0.8 us
# asleep).
PARALLEL_THRESHOLD = 20_000
CHUNKS_PER_THREAD = 4
KINDS = ("input", "variable", "output", "update", "constant")


@dataclass(frozen=True, slots=True)
class BufferRef:
    """One buffer of a program: kind is one of KINDS, or "arena" with the index of a slot."""

    kind: str
    index: int


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
    """

    symbols: tuple[Symbol, ...]
    counts: dict[str, int]
    launches: tuple[Launch, ...]
    slots: tuple[Size, ...] = ()
    offsets: tuple[Size, ...] | None = None
    arena: Size | None = None
    notes: tuple[str, ...] = field(default=())


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


def emit_program(program: Program, target: Target) -> str:
    """The LLVM IR text of a program."""
    functions: dict[str, str] = {}
    names: dict[str, str] = {}  # kernel text -> function name
    kernels: dict[Kernel, str] = {}
    for launch in program.launches:
        if launch.kernel not in kernels:
            text = emit_kernel(launch.kernel, target, functions)
            kernels[launch.kernel] = names.setdefault(text, f"@graphc.kernel.{len(names)}")
    parts = [f'target triple = "{target.triple}"']
    parts += [text.replace(NAME, name) for text, name in names.items()]
    entry = _EntryEmitter(program, target, functions, kernels)
    parts.append(entry.text())
    parts.append(_arena_bytes(program, target, functions, entry.scratch))
    parts += functions.values()
    return "\n\n".join(parts) + "\n"


class _EntryEmitter:
    """Writes `graphc_entry`."""

    def __init__(
        self,
        program: Program,
        target: Target,
        functions: dict[str, str],
        kernels: dict[Kernel, str],
    ) -> None:
        self.program, self.kernels = program, kernels
        self.e = ScalarEmitter(target)
        self.e.functions = functions
        self.sizes = _Sizes(self.e, program.symbols)
        self.offsets, self.end = slot_offsets(program)
        self.scratch = tuple(dict.fromkeys(scratch_bytes(x.kernel) for x in program.launches))
        self.pointers: dict[BufferRef, str] = {}
        self.starts: dict[str, int] = {}
        total = 0
        for kind in KINDS:
            self.starts[kind] = total
            total += program.counts.get(kind, 0)
        self.longest = 1
        self.labels = 0

    def text(self) -> str:
        e = self.e
        threads_at = e.emit("getelementptr i64, ptr %ctx, i64 2")
        self.threads = e.emit(f"load i64, ptr {threads_at}, align 8")
        pool_at = e.emit("getelementptr i64, ptr %ctx, i64 1")
        self.pool = e.emit(f"load ptr, ptr {pool_at}, align 8")
        for launch in self.program.launches:
            self._launch(launch)
        site = e.emit("load i64, ptr %ctx, align 8")
        return "\n".join([
            f"define i64 @{ENTRY}(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) "
            f"{FUNCTION_ATTRIBUTES} {{",
            f"  %args = alloca [{self.longest} x i64], align 64",
            *e.lines, f"  ret i64 {site}", "}",
        ])  # fmt: skip

    def _pointer(self, ref: BufferRef) -> str:
        found = self.pointers.get(ref)
        if found is not None:
            return found
        e = self.e
        if ref.kind == "arena":
            offset = self.sizes.value(self.offsets[ref.index])
            found = "%arena"
            if offset != "0":
                found = e.emit(f"getelementptr i8, ptr %arena, i64 {offset}")
        else:
            slot = self.starts[ref.kind] + ref.index
            address = e.emit(f"getelementptr ptr, ptr %buffers, i64 {slot}")
            found = e.emit(f"load ptr, ptr {address}, align 8")
        self.pointers[ref] = found
        return found

    def _launch(self, launch: Launch) -> None:
        kernel, e = launch.kernel, self.e
        if len(launch.args) != len(kernel.params):
            raise CompileError(
                f"kernel {kernel.name}: {len(launch.args)} buffers for {len(kernel.params)} params"
            )
        values = [("ptr", "%ctx")]
        values += [("ptr", self._pointer(ref)) for ref in launch.args]
        values += [("i64", self.sizes.symbol(name)) for name in kernel_symbols(kernel)]
        if scratch_bytes(kernel) != 0:
            end = self.sizes.value(self.end)
            values.append(("ptr", e.emit(f"getelementptr i8, ptr %arena, i64 {end}")))
        self.longest = max(self.longest, len(values))
        for slot, (t, value) in enumerate(values):
            address = e.emit(f"getelementptr i64, ptr %args, i64 {slot}") if slot else "%args"
            e.do(f"store {t} {value}, ptr {address}, align 8")
        loop = parallel_loop(kernel)
        if loop is None:
            e.do(f"call void {self.kernels[kernel]}(ptr %args, i64 0, i64 1, i64 0)")
        else:
            self._launch_parallel(kernel, loop)

    def _launch_parallel(self, kernel: Kernel, loop: For) -> None:
        e, name = self.e, self.kernels[kernel]
        if isinstance(loop.extent, Const):
            extent: Size = int(loop.extent.value)
        elif isinstance(loop.extent, SizeOf):
            extent = loop.extent.dim
        else:
            raise CompileError(f"kernel {kernel.name}: the extent of its parallel loop is no size")
        n, work = self.sizes.value(extent), self.sizes.value(kernel.work)
        serial = f"call void {name}(ptr %args, i64 0, i64 {n}, i64 0)"
        if isinstance(kernel.work, int) and kernel.work < PARALLEL_THRESHOLD:
            e.do(serial)
            return
        self.labels += 1
        k = self.labels
        enough = e.emit(f"icmp sge i64 {work}, {PARALLEL_THRESHOLD}")
        several = e.emit(f"icmp sgt i64 {self.threads}, 1")
        exists = e.emit(f"icmp ne ptr {self.pool}, null")
        useful = e.emit(f"and i1 {enough}, {e.emit(f'and i1 {several}, {exists}')}")
        e.do(f"br i1 {useful}, label %parallel{k}, label %serial{k}")
        e.lines.append(f"parallel{k}:")
        parts = e.emit(f"mul i64 {self.threads}, {CHUNKS_PER_THREAD}")
        padded = e.emit(f"add i64 {n}, {e.emit(f'sub i64 {parts}, 1')}")
        chunk = e.emit(f"udiv i64 {padded}, {parts}")
        e.do(
            f"call void {self.pool}(ptr {name}, ptr %args, i64 {n}, i64 {chunk}, "
            f"i64 {self.threads})"
        )
        e.do(f"br label %after{k}")
        e.lines.append(f"serial{k}:")
        e.do(serial)
        e.do(f"br label %after{k}")
        e.lines.append(f"after{k}:")


def _arena_bytes(
    program: Program, target: Target, functions: dict[str, str], scratch: Iterable[Size]
) -> str:
    e = ScalarEmitter(target)
    e.functions = functions
    sizes = _Sizes(e, program.symbols)
    most = "0"
    for size in scratch:
        value = sizes.value(size)
        most = value if most == "0" else e.op("maximum", int64, 1, most, value)
    scratch_total = e.op("mul", int64, 1, "%threads", most)
    total = e.op("add", int64, 1, sizes.value(slot_offsets(program)[1]), scratch_total)
    return "\n".join([
        f"define i64 @{ARENA_BYTES}(ptr %dims, i64 %threads) {FUNCTION_ATTRIBUTES} {{",
        *e.lines, f"  ret i64 {total}", "}",
    ])  # fmt: skip
