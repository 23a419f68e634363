"""Sizes and memory that are found while a program runs (floor 6).

A step binds the sizes of a phase: it writes them into `dims`, checked. Then a block of memory is
taken from what is left of the arena: the context says where the free part begins and where the
arena ends. Where a block does not fit, the program leaves with `MORE_MEMORY` and says how far the
arena would have to reach; nothing that outlives the call has been written by then, so the caller
grows the arena and runs the program again. Nothing is allocated once the arena is large enough.
Invariant: a body gives back what it took, so the free part is a stack.
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.backend.context_slots import ARENA_END_SLOT, FREE_SLOT, MORE_MEMORY
from graphc.backend.loop_emitter import FUNCTION_ATTRIBUTES
from graphc.backend.program import Bind
from graphc.backend.scalar_emitter import ScalarEmitter
from graphc.backend.steps import LAUNCH, Sizes
from graphc.base.dims import Dim, Quotient, Size, Symbol
from graphc.base.dtypes import int64

SCRATCH_LAUNCH = "graphc.launch.scratch"
_MOST_BYTES = float(1 << 61)  # above, bytes may have been counted wrong

# Runs a kernel with scratch memory of a computed size for every thread, from the free part.
SCRATCH_LAUNCH_TEXT = f"""define internal void @{SCRATCH_LAUNCH}(ptr %kernel, ptr %args, i64 %n, \
i64 %work, i64 %slot, i64 %bytes, i1 %large) {{
  %ctx = load ptr, ptr %args, align 8
  %threads_at = getelementptr i64, ptr %ctx, i64 2
  %threads = load i64, ptr %threads_at, align 8
  %whole = mul i64 %bytes, %threads
  %free_at = getelementptr i64, ptr %ctx, i64 {FREE_SLOT}
  %free = load i64, ptr %free_at, align 8
  %end_at = getelementptr i64, ptr %ctx, i64 {ARENA_END_SLOT}
  %end = load i64, ptr %end_at, align 8
  %next = add i64 %free, %whole
  %over = icmp ugt i64 %next, %end
  %full = or i1 %over, %large
  br i1 %full, label %more, label %run
more:
  %huge = add i64 %free, {1 << 61}
  %wanted = select i1 %large, i64 %huge, i64 %next
  store i64 %wanted, ptr %free_at, align 8
  store i64 {MORE_MEMORY}, ptr %ctx, align 8
  ret void
run:
  %place = getelementptr i64, ptr %args, i64 %slot
  store i64 %free, ptr %place, align 8
  %several = icmp sge i64 %n, 0
  br i1 %several, label %loop, label %once
loop:
  call void @{LAUNCH}(ptr %kernel, ptr %args, i64 %n, i64 %work)
  ret void
once:
  call void %kernel(ptr %args, i64 0, i64 1, i64 0)
  ret void
}}"""


def depends_on(size: Size, symbols: frozenset[Symbol]) -> bool:
    """Whether a size mentions one of the symbols."""
    return isinstance(size, Dim) and any(s in symbols for s in size.symbols())


def emit_bind(
    e: ScalarEmitter, step: Bind, places: dict[Symbol, int], pointer: Callable[[int], str]
) -> None:
    """Write checked sizes into `dims`; pointer: the address of each count."""
    site = e.emit("load i64, ptr %ctx, align 8")
    for k, symbol in enumerate(step.symbols):
        size = e.emit(f"load i64, ptr {pointer(k)}, align 8")
        bad = e.emit(f"icmp slt i64 {size}, {symbol.min}")
        if symbol.max is not None:
            above = e.emit(f"icmp sgt i64 {size}, {symbol.max}")
            bad = e.emit(f"or i1 {bad}, {above}")
        if symbol.multiple_of > 1:
            rest = e.emit(f"srem i64 {size}, {symbol.multiple_of}")
            bad = e.emit(f"or i1 {bad}, {e.emit(f'icmp ne i64 {rest}, 0')}")
        site = _first_failure(e, site, bad, step.sites[k])
        e.do(f"store i64 {size}, ptr {_address(e, 'dims', places[symbol])}, align 8")
    e.do(f"store i64 {site}, ptr %ctx, align 8")


def _first_failure(e: ScalarEmitter, site: str, failed: str, number: int) -> str:
    """The number where something failed and nothing has before (site 0); else the site as it is."""
    none = e.emit(f"icmp eq i64 {site}, 0")
    first = e.emit(f"and i1 {failed}, {none}")
    return e.emit(f"select i1 {first}, i64 {number}, i64 {site}")


def _address(e: ScalarEmitter, table: str, place: int) -> str:
    """The address of a place of `ctx` or `dims`."""
    return e.emit(f"getelementptr i64, ptr %{table}, i64 {place}")


def block_text(
    e: ScalarEmitter, step: Bind, name: str, sizes: Sizes, place: int, parameters: str
) -> str:
    """The function that takes the block of a step, whose address goes to `dims[place]`."""
    site = e.emit("load i64, ptr %ctx, align 8")
    for condition, number in step.conditions:
        negative = e.emit(f"icmp slt i64 {sizes.value(condition)}, 0")
        site = _first_failure(e, site, negative, number)
    if step.bytes != 0:
        site = _taken(e, step, sizes, place, site)
    e.do(f"store i64 {site}, ptr %ctx, align 8")
    head = f"define internal void {name}({parameters}) {FUNCTION_ATTRIBUTES} {{"
    return "\n".join([head, *e.lines, "  ret void", "}"])


def _taken(e: ScalarEmitter, step: Bind, sizes: Sizes, place: int, site: str) -> str:
    """Take the block from the free part of the arena, its address to `dims[place]`; the site."""
    large = too_large(e, sizes, step.bytes)
    free_at, end_at = _address(e, "ctx", FREE_SLOT), _address(e, "ctx", ARENA_END_SLOT)
    free = e.emit(f"load i64, ptr {free_at}, align 8")
    end = e.emit(f"load i64, ptr {end_at}, align 8")
    following = e.emit(f"add i64 {free}, {sizes.value(step.bytes)}")
    full = e.emit(f"or i1 {large}, {e.emit(f'icmp ugt i64 {following}, {end}')}")
    huge = e.emit(f"add i64 {free}, {1 << 61}")
    wanted = e.emit(f"select i1 {large}, i64 {huge}, i64 {following}")
    e.do(f"store i64 {free}, ptr {_address(e, 'dims', place)}, align 8")
    e.do(f"store i64 {wanted}, ptr {free_at}, align 8")
    return _first_failure(e, site, full, MORE_MEMORY)


def too_large(e: ScalarEmitter, sizes: Sizes, size: Size) -> str:
    """Whether a size is, or has a part that is, so large that 64 bits may not hold it."""
    if not isinstance(size, Dim):
        return "false"
    memo: dict[Size, str] = {}
    magnitude = _magnitude(e, sizes, size, memo)
    most = magnitude
    for part in memo.values():
        larger = e.emit(f"fcmp ogt double {part}, {most}")
        most = e.emit(f"select i1 {larger}, double {part}, double {most}")
    return e.emit(f"fcmp oge double {most}, {_MOST_BYTES:.17e}")


def _magnitude(e: ScalarEmitter, sizes: Sizes, size: Size, memo: dict[Size, str]) -> str:
    """A bound of a size's absolute value as a double; memo: also of the parts of its quotients."""
    if not isinstance(size, Dim):
        return f"{float(abs(size)):.17e}"
    if size in memo:
        return memo[size]
    total = f"{0.0:.17e}"
    for monomial, coefficient in size.terms:
        product = f"{float(abs(coefficient)):.17e}"
        for atom in monomial:
            if isinstance(atom, Quotient):  # divisors are at least 1
                _magnitude(e, sizes, atom.denominator, memo)
                factor = _magnitude(e, sizes, atom.numerator, memo)
                if isinstance(atom.denominator, int):
                    factor = e.emit(f"fdiv double {factor}, {float(atom.denominator):.17e}")
            else:
                factor = e.emit(f"sitofp i64 {sizes.symbol(atom.name)} to double")
            product = e.emit(f"fmul double {product}, {factor}")
        total = e.emit(f"fadd double {total}, {product}")
    memo[size] = total
    return total


def start_free_part(e: ScalarEmitter, end: str, threads_bytes: str) -> None:
    """The free part of the arena begins behind the static memory and the kernels' scratch."""
    start = e.emit("ptrtoint ptr %arena to i64")
    static = e.op("add", int64, 1, end, threads_bytes)
    free = e.emit(f"add i64 {start}, {static}")
    padded = e.emit(f"add i64 {free}, 63")
    aligned = e.emit(f"and i64 {padded}, -64")
    e.do(f"store i64 {aligned}, ptr {_address(e, 'ctx', FREE_SLOT)}, align 8")
