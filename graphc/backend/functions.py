"""The functions that run steps (floor 6): parts of the entry, bodies, and loops over runs of steps.

All have one form: `f(ctx, buffers, dims, arena)`, where `buffers` are those of the program or of
the body that the steps belong to. A step stores the pointers of its buffers into an array on the
stack, which the kernel, the body or the step's own function (`steps`) reads.
Invariant: an array of arguments is only read by whom it is handed to, so a slot is stored again
only where its value changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphc.backend.context_slots import (
    BUFFERS_SLOT,
    FIRST_PROFILE_SLOT,
    FREE_SLOT,
    SCRATCH_SLOT,
)
from graphc.backend.dynamic import (
    SCRATCH_LAUNCH,
    block_text,
    depends_on,
    emit_bind,
    too_large,
)
from graphc.backend.kernel_facts import kernel_symbols, parallel_loop, scratch_bytes
from graphc.backend.loop_emitter import FUNCTION_ATTRIBUTES, NAME, emit_kernel
from graphc.backend.program import (
    KINDS,
    Bind,
    BufferRef,
    Call,
    Launch,
    Program,
    Publish,
    Step,
    placed,
)
from graphc.backend.run_table import ARENA, Column, RunTable
from graphc.backend.runs import Run, find_runs
from graphc.backend.scalar_emitter import ScalarEmitter
from graphc.backend.steps import LAUNCH, PARALLEL_THRESHOLD, Sizes, step_key, step_text
from graphc.backend.streaming import streamed
from graphc.base.dims import Size
from graphc.base.errors import CompileError
from graphc.base.target import Target
from graphc.loops.nodes import Const, Kernel, SizeOf
from graphc.lower.buffer_plan import slot_offsets

STEPS_PER_PART = 32
PARAMETERS = "ptr %ctx, ptr %buffers, ptr %dims, ptr %arena"
# The virtual counter of 64-bit Arm: the cycle counter is not readable there outside the kernel.
_CLOCKS = {"aarch64": 'call i64 asm sideeffect "mrs $0, cntvct_el0", "=r"()'}


def clock_of(target: Target) -> str:
    """The instruction that reads the clock."""
    return _CLOCKS.get(target.triple.split("-")[0], "call i64 @llvm.readcyclecounter()")


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """One kernel of the program: its function, the symbols it takes, its scratch, its extent."""

    name: str
    symbols: tuple[str, ...]
    scratch: Size
    extent: Size | None  # of the parallel loop; None: there is none


@dataclass(frozen=True, slots=True)
class Frame:
    """A list of steps and what its buffers are.

    starts: the first slot of each kind in `buffers`; offsets: where each arena slot starts; main:
    it is the program's own list, not a body's.
    """

    steps: tuple[Step, ...]
    starts: dict[str, int]
    offsets: tuple[Size, ...]
    main: bool = False


@dataclass
class Code:
    """What is written once and shared by all functions of a program."""

    program: Program
    target: Target
    kernels: dict[Kernel, KernelFacts] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)  # that kernels call
    texts: list[str] = field(default_factory=list)
    _kernel_names: dict[str, str] = field(default_factory=dict)  # by text
    _step_names: dict[object, str] = field(default_factory=dict)
    _parts: int = 0
    _runs: int = 0

    def __post_init__(self) -> None:
        self._streamed = streamed(self.program, self.target)
        for launch in self.program.launches():
            if launch.kernel not in self.kernels:
                self.kernels[launch.kernel] = self._kernel(launch.kernel)
        self.texts += [text.replace(NAME, name) for text, name in self._kernel_names.items()]
        self.starts: dict[str, int] = {}
        total = 0
        for kind in KINDS:
            self.starts[kind] = total
            total += self.program.counts.get(kind, 0)
        self.places = {s: k for k, s in enumerate(self.program.all_symbols)}

    def is_computed(self, size: Size) -> bool:
        """Whether a size becomes known while the program runs."""
        return depends_on(size, frozenset(self.program.computed))

    def _kernel(self, kernel: Kernel) -> KernelFacts:
        past = self._streamed.get(kernel, frozenset())
        text = emit_kernel(kernel, self.target, self.functions, past)
        name = self._kernel_names.setdefault(text, f"@graphc.kernel.{len(self._kernel_names)}")
        extent = _parallel_extent(kernel)
        return KernelFacts(name, kernel_symbols(kernel), scratch_bytes(kernel), extent)

    def step(self, step: Step) -> str:
        """The function of a step that runs bodies in its own way."""
        key = step_key(step)
        name = self._step_names.get(key)
        if name is None:
            name = self._step_names[key] = f"@graphc.step.{len(self._step_names)}"
            self.texts.append(step_text(step, name, self.program, self.target))
        return name

    def body(self, number: int) -> None:
        """Write the function of a body."""
        body = self.program.bodies[number]
        starts = {"input": 0, "output": body.inputs}
        frame = Frame(body.steps, starts, slot_offsets(body.slots)[0])
        name = f"@graphc.body.{number}"
        parts = self._parted(frame, find_runs(body.steps))
        if len(parts) == 1 and not self._binding(frame, parts[0]):
            self.texts.append(FunctionEmitter(self, frame).part(name, parts[0]))
            return
        calls = self._calls(frame, parts)
        head = f"define internal void {name}({PARAMETERS}) {FUNCTION_ATTRIBUTES} {{"
        takes = any(isinstance(step, Bind) for step in body.steps)
        lines = [
            *(_KEEP_FREE.splitlines() if takes else []),
            *written_calls(calls, "ret void"),
            *(_GIVE_BACK.splitlines() if takes else []),
        ]
        self.texts.append("\n".join([head, *lines, "  ret void", "}"]))

    def main(self) -> list[str]:
        """Write the program's own steps: the functions to call in order, and LEAVE where a check
        that has failed ends the program.
        """
        program = self.program
        frame = Frame(program.steps, self.starts, placed(program)[0], main=True)
        stop = program.stop_after
        before = find_runs(program.steps[:stop])
        after = [Run(r.start + stop, r.period, r.rows) for r in find_runs(program.steps[stop:])]
        first = self._calls(frame, self._parted(frame, before)) if before else []
        rest = self._calls(frame, self._parted(frame, after)) if after else []
        return [*first, *([LEAVE] if stop and first[-1:] != [LEAVE] else []), *rest]

    def _calls(self, frame: Frame, parts: Sequence[Sequence[Run]]) -> list[str]:
        """The functions of parts, in order; after one that binds sizes comes that of its block."""
        found: list[str] = []
        for runs in parts:
            found.append(self.part(frame, runs))
            step = self._binding(frame, runs)
            if step is not None:
                found += [LEAVE, self.block(step), LEAVE]
        return found

    @staticmethod
    def _binding(frame: Frame, runs: Sequence[Run]) -> Bind | None:
        """The step that ends these runs by binding sizes."""
        step = frame.steps[runs[-1].start] if runs else None
        return step if isinstance(step, Bind) else None

    def block(self, step: Bind) -> str:
        """Write the function that takes a block of memory; its name."""
        name = f"@graphc.block.{step.block}"
        e = ScalarEmitter(self.target)
        sizes = Sizes(e, self.program.all_symbols)
        place = len(self.program.all_symbols) + step.block
        self.texts.append(block_text(e, step, name, sizes, place, PARAMETERS))
        return name

    @staticmethod
    def _parted(frame: Frame, runs: Sequence[Run]) -> list[list[Run]]:
        """One function for everything would take LLVM quadratic time: addresses would live to its
        end.
        """
        parts: list[list[Run]] = [[]]
        for run in runs:
            parts[-1].append(run)
            # Sizes are read where a part begins: a part ends where some become known.
            if len(parts[-1]) == STEPS_PER_PART or isinstance(frame.steps[run.start], Bind):
                parts.append([])
        return parts if parts[-1] or len(parts) == 1 else parts[:-1]

    def part(self, frame: Frame, runs: Sequence[Run]) -> str:
        """Write some steps in a row as a function; its name."""
        name = f"@graphc.part.{self._parts}"
        self._parts += 1
        self.texts.append(FunctionEmitter(self, frame).part(name, runs))
        return name

    def run(self, frame: Frame, run: Run) -> str:
        """Write a run as a function with a loop over a table; its name."""
        number = self._runs
        self._runs += 1
        name = f"@graphc.run.{number}"
        self.texts.append(RunEmitter(self, frame).text(name, f"@graphc.table.{number}", run))
        return name


def written_calls(calls: Sequence[str], leave: str) -> list[str]:
    """The calls of `Code.main` or of a body as instructions; leave: what ends the function."""
    lines: list[str] = []
    for k, call in enumerate(calls):
        if call == LEAVE:
            lines += _LEAVE_WHERE_FAILED.format(k=k, leave=leave.format(k=k)).splitlines()
        else:
            lines.append(f"  call void {call}({PARAMETERS})")
    return lines


LEAVE = ""  # among calls: leave where a check has failed
_LEAVE_WHERE_FAILED = """  %early.{k} = load i64, ptr %ctx, align 8
  %good.{k} = icmp eq i64 %early.{k}, 0
  br i1 %good.{k}, label %go_on.{k}, label %leave.{k}
leave.{k}:
  {leave}
go_on.{k}:"""
_KEEP_FREE = f"""  %free_at = getelementptr i64, ptr %ctx, i64 {FREE_SLOT}
  %free = load i64, ptr %free_at, align 8"""
# After MORE_MEMORY the place holds how much is needed, which must reach the caller.
_GIVE_BACK = """  %last = load i64, ptr %ctx, align 8
  %fine = icmp eq i64 %last, 0
  %now = load i64, ptr %free_at, align 8
  %kept = select i1 %fine, i64 %free, i64 %now
  store i64 %kept, ptr %free_at, align 8"""


def _parallel_extent(kernel: Kernel) -> Size | None:
    loop = parallel_loop(kernel)
    if loop is None:
        return None
    if isinstance(loop.extent, Const):
        return int(loop.extent.value)
    if isinstance(loop.extent, SizeOf):
        return loop.extent.dim
    raise CompileError(f"kernel {kernel.name}: the extent of its parallel loop is no size")


class FunctionEmitter:
    """Writes one function that runs steps of a frame."""

    def __init__(self, code: Code, frame: Frame) -> None:
        self.code, self.frame = code, frame
        self.e = ScalarEmitter(code.target)
        self.sizes = Sizes(self.e, code.program.all_symbols)
        self.pointers: dict[BufferRef, str] = {}
        self.profile = code.program.profile and frame.main
        self._globals: str | None = None
        self._scratch: str | None = None

    def part(self, name: str, runs: Sequence[Run]) -> str:
        """The text of a function for these runs, those of several rows in functions of their
        own.
        """
        longest = 1
        arguments: dict[int, str] = {}  # what the slots of %args hold
        for run in runs:
            if run.rows > 1:
                self.e.do(f"call void {self.code.run(self.frame, run)}({PARAMETERS})")
                continue
            step = self.frame.steps[run.start]
            slots, values = self._filled(step)
            longest = max(longest, len(slots))
            for slot, (t, value) in enumerate(slots):
                if arguments.get(slot) != value:
                    arguments[slot] = value
                    self._store("%args", slot, t, value)
            self._timed(str(run.start), step, "%args", values)
        return self._function(name, [f"  %args = alloca [{longest} x i64], align 64"])

    def _function(self, name: str, allocas: Sequence[str]) -> str:
        head = f"define internal void {name}({PARAMETERS}) {FUNCTION_ATTRIBUTES} {{"
        return "\n".join([head, *allocas, *self.e.lines, "  ret void", "}"])

    def _store(self, array: str, slot: int, t: str, value: str) -> None:
        e = self.e
        address = e.emit(f"getelementptr i64, ptr {array}, i64 {slot}") if slot else array
        e.do(f"store {t} {value}, ptr {address}, align 8")

    # -- steps ------------------------------------------------------------------------------------
    def _filled(self, step: Step) -> tuple[list[tuple[str, str]], list[str]]:
        """What the argument array of a step holds, types with values, and the pointers in it."""
        values = [self.pointer(ref) for ref in step.args]
        before, after = self._fixed(step)
        return [*before, *(("ptr", v) for v in values), *after], values

    def _fixed(self, step: Step) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """What stands before and after the pointers: a kernel takes the context, sizes, scratch."""
        if not isinstance(step, Launch):
            return [], []
        facts = self.code.kernels[step.kernel]
        if len(step.args) != len(step.kernel.params):
            raise CompileError(
                f"kernel {step.kernel.name}: {len(step.args)} buffers for "
                f"{len(step.kernel.params)} params"
            )
        after = [("i64", self.sizes.symbol(name)) for name in facts.symbols]
        if self.code.is_computed(facts.scratch):
            after.append(("ptr", "null"))  # found when the kernel is launched
        elif facts.scratch != 0:
            after.append(("ptr", self._of_context("_scratch", SCRATCH_SLOT)))
        return [("ptr", "%ctx")], after

    def _of_context(self, memo: str, slot: int) -> str:
        found: str | None = getattr(self, memo)
        if found is None:
            address = self.e.emit(f"getelementptr i64, ptr %ctx, i64 {slot}")
            found = self.e.emit(f"load ptr, ptr {address}, align 8")
            setattr(self, memo, found)
        return found

    def _timed(self, number: str, step: Step, args: str, values: Sequence[str]) -> None:
        if not self.profile:
            self._invoke(step, args, values)
            return
        e, clock = self.e, clock_of(self.code.target)
        start = e.emit(clock)
        self._invoke(step, args, values)
        ticks = e.emit(f"sub i64 {e.emit(clock)}, {start}")
        slot = e.emit(f"add i64 {number}, {FIRST_PROFILE_SLOT}")
        address = e.emit(f"getelementptr i64, ptr %ctx, i64 {slot}")
        total = e.emit(f"add i64 {e.emit(f'load i64, ptr {address}, align 8')}, {ticks}")
        e.do(f"store i64 {total}, ptr {address}, align 8")

    def _invoke(self, step: Step, args: str, values: Sequence[str]) -> None:
        """Run a step whose arguments are in `args`, the pointers among them being `values`."""
        if isinstance(step, Launch):
            self._launch(step.kernel, args)
        elif isinstance(step, Bind):
            emit_bind(self.e, step, self.code.places, values.__getitem__)
        elif isinstance(step, Publish):
            for output, value in zip(step.outputs, values, strict=True):
                self._store("%buffers", self.frame.starts["output"] + output, "ptr", value)
        elif isinstance(step, Call):
            callee = f"@graphc.body.{step.body}"
            self.e.do(f"call void {callee}(ptr %ctx, ptr {args}, ptr %dims, ptr {values[-1]})")
        else:
            self.e.do(f"call void {self.code.step(step)}(ptr %ctx, ptr {args}, ptr %dims)")

    def _launch(self, kernel: Kernel, args: str) -> None:
        e, facts = self.e, self.code.kernels[kernel]
        if self.code.is_computed(facts.scratch):
            self._launch_with_scratch(kernel, args)
            return
        if facts.extent is None:
            e.do(f"call void {facts.name}(ptr {args}, i64 0, i64 1, i64 0)")
            return
        n = self.sizes.value(facts.extent)
        if isinstance(kernel.work, int) and kernel.work < PARALLEL_THRESHOLD:
            e.do(f"call void {facts.name}(ptr {args}, i64 0, i64 {n}, i64 0)")
            return
        work = self.sizes.value(kernel.work)
        e.do(f"call void @{LAUNCH}(ptr {facts.name}, ptr {args}, i64 {n}, i64 {work})")

    def _launch_with_scratch(self, kernel: Kernel, args: str) -> None:
        facts = self.code.kernels[kernel]
        extent = "-1" if facts.extent is None else self.sizes.value(facts.extent)
        slot = 1 + len(kernel.params) + len(facts.symbols)
        self.e.do(
            f"call void @{SCRATCH_LAUNCH}(ptr {facts.name}, ptr {args}, i64 {extent}, "
            f"i64 {self.sizes.value(kernel.work)}, i64 {slot}, "
            f"i64 {self.sizes.value(facts.scratch)}, "
            f"i1 {too_large(self.e, self.sizes, facts.scratch)})"
        )

    # -- buffers ----------------------------------------------------------------------------------
    def pointer(self, ref: BufferRef) -> str:
        """The address of a buffer."""
        found = self.pointers.get(ref)
        if found is None:
            found = self.pointers[ref] = self._address(ref)
        return found

    def _address(self, ref: BufferRef) -> str:
        e = self.e
        if ref.kind == "nothing":
            return "null"
        if ref.offset != 0:
            start = self.pointer(BufferRef(ref.kind, ref.number))
            return e.emit(f"getelementptr i8, ptr {start}, i64 {self.sizes.value(ref.offset)}")
        if ref.kind == "block":
            place = len(self.code.program.all_symbols) + ref.number
            address = e.emit(f"getelementptr ptr, ptr %dims, i64 {place}")
            return e.emit(f"load ptr, ptr {address}, align 8")
        if ref.kind == "arena":
            offset = self.sizes.value(self.frame.offsets[ref.number])
            if offset == "0":
                return "%arena"
            return e.emit(f"getelementptr i8, ptr %arena, i64 {offset}")
        buffers, starts = "%buffers", self.frame.starts
        if ref.kind not in starts:  # a body's constants are the program's
            buffers, starts = self._of_context("_globals", BUFFERS_SLOT), self.code.starts
        slot = starts[ref.kind] + ref.number
        address = e.emit(f"getelementptr ptr, ptr {buffers}, i64 {slot}")
        return e.emit(f"load ptr, ptr {address}, align 8")


class RunEmitter(FunctionEmitter):
    """Writes a run: a loop over the rows of a table that says where each row's buffers are."""

    def __init__(self, code: Code, frame: Frame) -> None:
        super().__init__(code, frame)
        self.table = RunTable(frame.starts, frame.offsets)
        self._basis: list[str] = []

    def text(self, name: str, table: str, run: Run) -> str:
        """The text of the function and of its table."""
        steps = self.frame.steps[run.start : run.start + run.period]
        allocas = []
        first: list[list[str]] = []
        for j, step in enumerate(steps):
            before, after = self._fixed(step)
            each = [self.frame.steps[run.start + r * run.period + j].args for r in range(run.rows)]
            values: list[str] = []
            for k, refs in enumerate(zip(*each, strict=True)):
                if refs[-1] == refs[0] and all(map(refs[0].__eq__, refs)):
                    values.append(self.pointer(refs[0]))
                else:
                    self.table.add(j, len(before) + k, refs)
                    values.append("")
            slots = [*before, *(("ptr", v) for v in values), *after]
            allocas.append(f"  %args.{j} = alloca [{max(len(slots), 1)} x i64], align 64")
            for slot, (t, value) in enumerate(slots):
                if value:
                    self._store(f"%args.{j}", slot, t, value)
            first.append(values)
        words = self.table.finish()
        if self.table.starts:
            allocas.append(f"  %starts = alloca [{len(self.table.starts)} x ptr], align 64")
            for ref, place in self.table.starts.items():
                start = "%arena" if ref == ARENA else self.pointer(ref)
                self._store("%starts", place, "ptr", start)
        self._basis = [self.sizes.monomial(m) for m in self.table.basis]
        self._loop(run, steps, first, table)
        flat = "i64 " + ", i64 ".join(map(str, words or [0]))
        count = max(len(words), 1)
        head = f"{table} = internal constant [{count} x i64] [{flat}]\n\n"
        return head + self._function(name, ["entry:", *allocas])

    def _loop(
        self, run: Run, steps: Sequence[Step], first: Sequence[list[str]], table: str
    ) -> None:
        e = self.e
        for step in steps:  # sizes are computed before the loop
            self._prepare(step)
        row, following = e.fresh(), e.fresh()
        e.do("br label %loop")
        e.lines.append("loop:")
        e.do(f"{row} = phi i64 [ 0, %entry ], [ {following}, %loop ]")
        start = e.emit(f"mul i64 {row}, {self.table.words}")
        base = e.emit(f"getelementptr i64, ptr {table}, i64 {start}")
        number = e.emit(f"mul i64 {row}, {run.period}") if self.profile else ""
        for j, step in enumerate(steps):
            values = list(first[j])
            before = len(self._fixed(step)[0])
            for column in self.table.columns:
                if column.step == j:
                    value = self._resolved(column, base)
                    values[column.slot - before] = value
                    self._store(f"%args.{j}", column.slot, "ptr", value)
            at = e.emit(f"add i64 {number}, {run.start + j}") if self.profile else ""
            self._timed(at, step, f"%args.{j}", values)
        e.do(f"{following} = add i64 {row}, 1")
        e.do(f"br i1 {e.emit(f'icmp slt i64 {following}, {run.rows}')}, label %loop, label %end")
        e.lines.append("end:")

    def _prepare(self, step: Step) -> None:
        if isinstance(step, Launch):
            extent = self.code.kernels[step.kernel].extent
            for size in (extent, step.kernel.work):
                if size is not None:
                    self.sizes.value(size)

    def _resolved(self, column: Column, row: str) -> str:
        """The address that a row of the table says."""
        e = self.e

        def word(k: int) -> str:
            at = column.at + k
            address = e.emit(f"getelementptr i64, ptr {row}, i64 {at}") if at else row
            return e.emit(f"load i64, ptr {address}, align 8")

        start, first = "%arena", 0
        if column.kind != "arena":
            start, first = self._start(word(0)), 1
        if column.kind == "buffer":
            return start
        total = word(first)
        if column.symbolic:
            for k, value in enumerate(self._basis, first + 1):
                total = e.emit(f"add i64 {total}, {e.emit(f'mul i64 {word(k)}, {value}')}")
        return e.emit(f"getelementptr i8, ptr {start}, i64 {total}")

    def _start(self, index: str) -> str:
        """The start that a word of the table names."""
        e, array = self.e, "%buffers"
        if self.table.starts:
            known = e.emit(f"icmp slt i64 {index}, 0")
            array = e.emit(f"select i1 {known}, ptr %starts, ptr %buffers")
            inverted = e.emit(f"xor i64 {index}, -1")
            index = e.emit(f"select i1 {known}, i64 {inverted}, i64 {index}")
        address = e.emit(f"getelementptr ptr, ptr {array}, i64 {index}")
        return e.emit(f"load ptr, ptr {address}, align 8")
