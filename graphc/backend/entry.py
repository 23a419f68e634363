"""One entry function for a whole program (floor 6): every step in order over one arena.

The module holds each distinct kernel once (kernels with equal text are equal), each body once, the
entry `graphc_entry(ctx, buffers, dims, arena) -> error site` and `graphc_arena_bytes(dims,
threads)`. The context is [error site, parallel function or null, threads, then places that the
entry fills: scratch memory, the program's buffers; the end of the arena, which only programs that
compute sizes read, and its free part].
Invariant: no symbol is needed from outside, so an object can be cached, shipped and loaded as it
is.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backend.context_slots import BUFFERS_SLOT, SCRATCH_SLOT, WHOLE_PROFILE_SLOT
from graphc.backend.dynamic import SCRATCH_LAUNCH_TEXT, start_free_part
from graphc.backend.functions import PARAMETERS, Code, clock_of, written_calls
from graphc.backend.loop_emitter import FUNCTION_ATTRIBUTES
from graphc.backend.program import Program, placed
from graphc.backend.scalar_emitter import ScalarEmitter
from graphc.backend.steps import COPY_TEXT, LAUNCH_TEXT, Sizes
from graphc.base.dims import Size
from graphc.base.dtypes import int64
from graphc.base.target import Target
from graphc.loops.nodes import Kernel

ENTRY = "graphc_entry"
ARENA_BYTES = "graphc_arena_bytes"
_WHOLE_TICKS = f"""  %end = {{clock}}
  %ticks = sub i64 %end, %start
  %whole_at = getelementptr i64, ptr %ctx, i64 {WHOLE_PROFILE_SLOT}
  %before = load i64, ptr %whole_at, align 8
  %after = add i64 %before, %ticks
  store i64 %after, ptr %whole_at, align 8"""


def emit_program(program: Program, target: Target) -> str:
    """The LLVM IR text of a program."""
    return emit_with_names(program, target)[0]


def emit_with_names(program: Program, target: Target) -> tuple[str, dict[Kernel, str]]:
    """The LLVM IR text of a program, and the function of each kernel."""
    code = Code(program, target)
    for number in range(len(program.bodies)):
        code.body(number)
    calls = code.main()
    texts = [
        f'target triple = "{target.triple}"',
        *code.texts,
        LAUNCH_TEXT,
        *([COPY_TEXT] if program.bodies else []),
        *([SCRATCH_LAUNCH_TEXT] if program.computed else []),
        _entry(code, calls),
        _arena_bytes(code),
        *code.functions.values(),
    ]
    return "\n\n".join(texts) + "\n", {k: facts.name for k, facts in code.kernels.items()}


def _entry(code: Code, calls: Sequence[str]) -> str:
    """The entry function; with a profile it adds the ticks of the whole call to slot
    WHOLE_PROFILE_SLOT.
    """
    clock = clock_of(code.target) if code.program.profile else None
    return "\n".join(
        [
            f"define i64 @{ENTRY}({PARAMETERS}) {FUNCTION_ATTRIBUTES} {{",
            *([f"  %start = {clock}"] if clock else []),
            *_context(code),
            *written_calls(calls, _FAILED),
            *(_WHOLE_TICKS.format(clock=clock).splitlines() if clock else []),
            "  %site = load i64, ptr %ctx, align 8",
            "  ret i64 %site",
            "}",
        ]
    )


def _context(code: Code) -> list[str]:
    """Where scratch memory and the program's buffers are, for whoever does not get them."""
    e = ScalarEmitter(code.target)
    sizes = Sizes(e, code.program.all_symbols)
    scratches = _scratches(code)
    end = sizes.value(placed(code.program)[1]) if scratches or code.program.computed else "0"
    if scratches:
        scratch = e.emit(f"getelementptr i8, ptr %arena, i64 {end}")
        e.do(f"store ptr {scratch}, ptr {_slot(e, SCRATCH_SLOT)}, align 8")
    if code.program.bodies:
        e.do(f"store ptr %buffers, ptr {_slot(e, BUFFERS_SLOT)}, align 8")
    if code.program.computed:
        threads = e.emit(f"load i64, ptr {_slot(e, 2)}, align 8")
        start_free_part(e, end, e.op("mul", int64, 1, threads, _most(e, sizes, scratches)))
    return e.lines


def _scratches(code: Code) -> list[Size]:
    """The bytes per thread of the kernels' scratch, as far as they are known before the call."""
    found = dict.fromkeys(facts.scratch for facts in code.kernels.values())
    return [size for size in found if size != 0 and not code.is_computed(size)]


def _most(e: ScalarEmitter, sizes: Sizes, candidates: Sequence[Size]) -> str:
    most = "0"
    for size in candidates:
        value = sizes.value(size)
        most = value if most == "0" else e.op("maximum", int64, 1, most, value)
    return most


def _slot(e: ScalarEmitter, slot: int) -> str:
    return e.emit(f"getelementptr i64, ptr %ctx, i64 {slot}")


_FAILED = "%failed.{k} = load i64, ptr %ctx, align 8\n  ret i64 %failed.{k}"


def _arena_bytes(code: Code) -> str:
    e = ScalarEmitter(code.target)
    sizes = Sizes(e, code.program.all_symbols)
    scratch_total = e.op("mul", int64, 1, "%threads", _most(e, sizes, _scratches(code)))
    end = sizes.value(placed(code.program)[1])
    total = e.op("add", int64, 1, end, scratch_total)
    return "\n".join(
        [
            f"define i64 @{ARENA_BYTES}(ptr %dims, i64 %threads) {FUNCTION_ATTRIBUTES} {{",
            *e.lines,
            f"  ret i64 {total}",
            "}",
        ]
    )
