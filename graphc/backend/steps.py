"""Branches and loops over bodies as LLVM functions (floor 6): nothing returns to Python.

A step's function is `f(ctx, args, dims)`; `args` are the pointers that `program` lists for it. A
body is `f(ctx, buffers, dims, arena)`, its buffers being its inputs and then its outputs, so a
branch hands its own arguments on, and a loop keeps one array per body that it changes from turn to
turn. Carries change places: a turn reads one side and writes the other, and the first reads what
was given.
Invariants: stack is taken in entry blocks only, so the number of turns costs none; a loop leaves
after the turn in which a check failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphc.backend.loop_emitter import FUNCTION_ATTRIBUTES
from graphc.backend.program import Branch, Program, Repeat, Step, While
from graphc.backend.scalar_emitter import ScalarEmitter
from graphc.backend.values import size_value
from graphc.base.dims import Dim, Monomial, Quotient, Size, Symbol
from graphc.base.dtypes import int64
from graphc.base.errors import CompileError
from graphc.base.target import Target

# Below this many scalar operations, waking threads costs more than it saves (0.1 us hot, 0.8 us
# asleep).
PARALLEL_THRESHOLD = 20_000
CHUNKS_PER_THREAD = 4
LAUNCH = "graphc.launch"
# Runs a kernel with a parallel loop: through the pool where there is one and the work is worth it.
LAUNCH_TEXT = f"""define internal void @{LAUNCH}(ptr %kernel, ptr %args, i64 %n, i64 %work) {{
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
  %whole = udiv i64 %n, %parts
  %chunk = call i64 @llvm.umax.i64(i64 %whole, i64 1)
  call void %pool(ptr %kernel, ptr %args, i64 %n, i64 %chunk, i64 %threads)
  ret void
serial:
  call void %kernel(ptr %args, i64 0, i64 %n, i64 0)
  ret void
}}"""
COPY = "graphc.copy"
# Copies bytes between places that do not overlap. Not a call of memcpy, which an object has not.
COPY_TEXT = f"""define internal void @{COPY}(ptr %to, ptr %from, i64 %count) "no-builtins" {{
entry:
  %whole = and i64 %count, -32
  %some = icmp ne i64 %whole, 0
  br i1 %some, label %blocks, label %rest
blocks:
  %i = phi i64 [ 0, %entry ], [ %next, %blocks ]
  %source = getelementptr i8, ptr %from, i64 %i
  %target = getelementptr i8, ptr %to, i64 %i
  %block = load <4 x i64>, ptr %source, align 1
  store <4 x i64> %block, ptr %target, align 1
  %next = add i64 %i, 32
  %more = icmp ult i64 %next, %whole
  br i1 %more, label %blocks, label %rest
rest:
  %left = icmp ult i64 %whole, %count
  br i1 %left, label %bytes, label %end
bytes:
  %k = phi i64 [ %whole, %rest ], [ %following, %bytes ]
  %a = getelementptr i8, ptr %from, i64 %k
  %b = getelementptr i8, ptr %to, i64 %k
  %byte = load i8, ptr %a, align 1
  store i8 %byte, ptr %b, align 1
  %following = add i64 %k, 1
  %again = icmp ult i64 %following, %count
  br i1 %again, label %bytes, label %end
end:
  ret void
}}"""


class Sizes:
    """Sizes as values of one function, each computed once."""

    def __init__(self, e: ScalarEmitter, symbols: tuple[Symbol, ...]) -> None:
        self.e = e
        self.known: dict[Size, str] = {}
        self.symbols: dict[str, str] = {}
        for k, symbol in enumerate(symbols):
            address = e.emit(f"getelementptr i64, ptr %dims, i64 {k}")
            self.symbols[symbol.name] = e.emit(f"load i64, ptr {address}, align 8")

    def symbol(self, name: str) -> str:
        """The value of a symbol."""
        if name not in self.symbols:
            raise CompileError(f"the size {name!r} is not among the program's symbols")
        return self.symbols[name]

    def value(self, size: Size) -> str:
        """The value of a size."""
        if not isinstance(size, Dim):
            return str(size)
        found = self.known.get(size)
        if found is None:
            found = self.known[size] = size_value(size, self.value, self.symbol, self._op)
        return found

    def monomial(self, monomial: Monomial) -> str:
        """The value of a product of symbols and quotients."""
        product = "1"
        for atom in monomial:
            if isinstance(atom, Quotient):
                above, below = self.value(atom.numerator), self.value(atom.denominator)
                factor = self._op("floordiv", above, below)
            else:
                factor = self.symbol(atom.name)
            product = self._op("mul", factor, product)
        return product

    def _op(self, name: str, a: str, b: str) -> str:
        return self.e.op(name, int64, 1, a, b)


def step_key(step: Step) -> Step:
    """Steps of equal keys share their function."""
    return replace(step, args=())


def step_text(step: Step, name: str, program: Program, target: Target) -> str:
    """The function of a branch or a loop."""
    writer = _Writer(program, target, len(step.args))
    if isinstance(step, Branch):
        lines = writer.branch(step)
    elif isinstance(step, While):
        lines = writer.while_loop(step)
    elif isinstance(step, Repeat):
        lines = writer.repeat(step)
    else:
        raise CompileError(f"{type(step).__name__} has no function of its own")
    head = f"define internal void {name}(ptr %ctx, ptr %args, ptr %dims) {FUNCTION_ATTRIBUTES} {{"
    return "\n".join([head, "entry:", *writer.allocas, *lines, "}"])


class _Writer:
    """Writes one function; its lines are those of `e`."""

    def __init__(self, program: Program, target: Target, count: int) -> None:
        self.program = program
        self.count = count
        self.e = ScalarEmitter(target)
        self.sizes = Sizes(self.e, program.all_symbols)
        self.allocas: list[str] = []

    # -- small parts ------------------------------------------------------------------------------
    def argument(self, slot: int) -> str:
        """A pointer that the step was given; negative slots count from the end."""
        return self.load("%args", slot % self.count)

    def at(self, array: str, slot: int) -> str:
        """The address of a slot of an array of pointers."""
        return self.e.emit(f"getelementptr ptr, ptr {array}, i64 {slot}") if slot else array

    def load(self, array: str, slot: int) -> str:
        """What a slot holds."""
        return self.e.emit(f"load ptr, ptr {self.at(array, slot)}, align 8")

    def store(self, array: str, slot: int, value: str) -> None:
        """Change a slot."""
        self.e.do(f"store ptr {value}, ptr {self.at(array, slot)}, align 8")

    def array(self, name: str, count: int) -> str:
        """An array of pointers on the stack."""
        self.allocas.append(f"  %{name} = alloca [{max(count, 1)} x ptr], align 64")
        return f"%{name}"

    def label(self, name: str) -> None:
        """Begin a block."""
        self.e.lines.append(f"{name}:")

    def call(self, body: int, buffers: str, arena: str) -> None:
        """Run a body."""
        self.e.do(f"call void @graphc.body.{body}(ptr %ctx, ptr {buffers}, ptr %dims, ptr {arena})")

    def failed(self) -> str:
        """Whether a check has failed."""
        site = self.e.emit("load i64, ptr %ctx, align 8")
        return self.e.emit(f"icmp ne i64 {site}, 0")

    def copy(self, to: str, source: str, size: Size) -> None:
        """Copy the bytes of a carry."""
        self.e.do(f"call void @{COPY}(ptr {to}, ptr {source}, i64 {self.sizes.value(size)})")

    # -- branches ---------------------------------------------------------------------------------
    def branch(self, step: Branch) -> list[str]:
        e = self.e
        predicate = e.emit(f"load i8, ptr {self.argument(0)}, align 1")
        buffers = self.at("%args", 1)
        arenas = self.argument(-2), self.argument(-1)
        holds = e.emit(f"icmp ne i8 {predicate}, 0")
        e.do(f"br i1 {holds}, label %then, label %otherwise")
        for name, body, arena in zip(
            ("then", "otherwise"), (step.then, step.otherwise), arenas, strict=True
        ):
            self.label(name)
            self.call(body, buffers, arena)
            e.do("ret void")
        return e.lines

    # -- loops ------------------------------------------------------------------------------------
    def _start(
        self, buffers: str, inputs: int, carries: int, first: Sequence[tuple[str, str]]
    ) -> str:
        """Let the first turn read the given carries and write the first of two places of each;
        gives the array of the places that are written next.
        """
        spare = self.array("spare", carries)
        for k, (written, other) in enumerate(first):
            self.store(buffers, k, self.argument(k))
            self.store(buffers, inputs + k, written)
            self.store(spare, k, other)
        return spare

    def _turn(self, buffers: str, inputs: int, carries: int, spare: str) -> None:
        """After a turn: what was written is read, and the other place is written."""
        for k in range(carries):
            written, other = self.load(buffers, inputs + k), self.load(spare, k)
            self.store(buffers, k, written)
            self.store(buffers, inputs + k, other)
            self.store(spare, k, written)

    def while_loop(self, step: While) -> list[str]:
        e, carries = self.e, len(step.carries)
        body, condition = self.program.bodies[step.body], self.program.bodies[step.condition]
        inputs = body.inputs
        buffers = self.array("body", inputs + body.outputs)
        asked = self.array("asked", inputs + condition.outputs)
        results = inputs
        places = inputs + carries + 1
        answer = self.argument(places + carries)
        arena_asked, arena = self.argument(-2), self.argument(-1)
        first = [(self.argument(results + k), self.argument(places + k)) for k in range(carries)]
        last = [written for written, _ in first]
        turns = self.argument(results + carries)
        spare = self._start(buffers, inputs, carries, first)
        for k in range(carries, inputs):
            captured = self.argument(k)
            self.store(buffers, k, captured)
            self.store(asked, k, captured)
        self.store(asked, inputs, answer)
        count, following = e.fresh(), e.fresh()
        e.do("br label %ask")
        self.label("ask")
        e.do(f"{count} = phi i64 [ 0, %entry ], [ {following}, %next ]")
        for k in range(carries):
            self.store(asked, k, self.load(buffers, k))
        self.call(step.condition, asked, arena_asked)
        e.do(f"br i1 {self.failed()}, label %leave, label %decide")
        self.label("decide")
        said = e.emit(f"load i8, ptr {answer}, align 1")
        e.do(f"br i1 {e.emit(f'icmp ne i8 {said}, 0')}, label %turn, label %end")
        self.label("turn")
        self.call(step.body, buffers, arena)
        e.do(f"br i1 {self.failed()}, label %leave, label %next")
        self.label("next")
        self._turn(buffers, inputs, carries, spare)
        e.do(f"{following} = add i64 {count}, 1")
        e.do("br label %ask")
        self.label("end")
        e.do(f"store i64 {count}, ptr {turns}, align 8")
        for k, size in enumerate(step.carries):
            self._bring(k, last[k], self.load(buffers, k), size)
        e.do("br label %leave")
        self.label("leave")
        e.do("ret void")
        return e.lines

    def _bring(self, k: int, to: str, source: str, size: Size) -> None:
        """Copy a last carry to its result unless it is there."""
        e = self.e
        there = e.emit(f"icmp eq ptr {to}, {source}")
        e.do(f"br i1 {there}, label %there{k}, label %bring{k}")
        self.label(f"bring{k}")
        self.copy(to, source, size)
        e.do(f"br label %there{k}")
        self.label(f"there{k}")

    def repeat(self, step: Repeat) -> list[str]:
        e, carries = self.e, len(step.carries)
        body = self.program.bodies[step.body]
        inputs, rows = body.inputs, len(step.rows)
        buffers = self.array("body", inputs + body.outputs)
        length = self.sizes.value(step.length)
        odd = e.emit(f"trunc i64 {length} to i1")
        first = []
        results = [self.argument(inputs + k) for k in range(body.outputs)]
        for k in range(carries):  # so that the last turn writes the result itself
            other = self.argument(inputs + body.outputs + k)
            written = e.emit(f"select i1 {odd}, ptr {results[k]}, ptr {other}")
            first.append((written, e.emit(f"select i1 {odd}, ptr {other}, ptr {results[k]}")))
        spare = self._start(buffers, inputs, carries, first)
        for k in range(carries + rows, inputs):
            self.store(buffers, k, self.argument(k))
        moving = [
            (carries + j, self.argument(carries + j), size) for j, size in enumerate(step.rows)
        ]
        moving += [
            (inputs + carries + j, results[carries + j], size)
            for j, size in enumerate(step.results)
        ]
        strides = self._first_rows(step, buffers, length, moving)
        arena = self.argument(-1)
        turn, following = e.fresh(), e.fresh()
        e.do(f"br i1 {e.emit(f'icmp sgt i64 {length}, 0')}, label %turn, label %none")
        self.label("turn")
        e.do(f"{turn} = phi i64 [ 0, %entry ], [ {following}, %next ]")
        self.call(step.body, buffers, arena)
        e.do(f"{following} = add i64 {turn}, 1")
        over = e.emit(f"icmp sge i64 {following}, {length}")
        e.do(f"br i1 {e.emit(f'or i1 {over}, {self.failed()}')}, label %end, label %next")
        self.label("next")
        self._turn(buffers, inputs, carries, spare)
        for (slot, _, _), stride in zip(moving, strides, strict=True):
            row = self.load(buffers, slot)
            self.store(buffers, slot, e.emit(f"getelementptr i8, ptr {row}, i64 {stride}"))
        e.do("br label %turn")
        self.label("none")
        for k, size in enumerate(step.carries):
            self.copy(results[k], self.argument(k), size)
        e.do("br label %end")
        self.label("end")
        e.do("ret void")
        return e.lines

    def _first_rows(
        self, step: Repeat, buffers: str, length: str, moving: Sequence[tuple[int, str, Size]]
    ) -> list[str]:
        """Let the first turn see the first rows, or the last ones; gives the bytes to the next."""
        strides = []
        last = self.sizes.e.op("sub", int64, 1, length, "1") if step.reverse else ""
        for slot, start, size in moving:
            stride = self.sizes.value(size)
            if step.reverse:
                offset = self.e.op("mul", int64, 1, last, stride)
                start = self.e.emit(f"getelementptr i8, ptr {start}, i64 {offset}")
                stride = self.e.op("sub", int64, 1, "0", stride)
            self.store(buffers, slot, start)
            strides.append(stride)
        return strides
