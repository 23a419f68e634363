"""Schedule primitives (floor 5): each changes how a kernel's loops run, never what they compute.

A primitive takes a kernel and loop variables by name, checks legality (CompileError says what
forbids it) and returns a new kernel. Results stay the same bit for bit, except where
`reassociate=True` allows another order of accumulation. Legality of memory access is `dependence`;
it is conservative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphc.base.dims import Size
from graphc.base.errors import CompileError, message
from graphc.base.order import topological
from graphc.loops.build import (
    EXPR,
    ZERO,
    Names,
    both,
    iadd,
    ifloordiv,
    imin,
    imul,
    isub,
    literal,
)
from graphc.loops.index_math import Simplifier
from graphc.loops.nodes import (
    Accumulators,
    Alloc,
    Barrier,
    Buffer,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Load,
    SizeOf,
    Stmt,
    Store,
    Var,
    const,
    load,
    size,
    var,
)
from graphc.loops.ranges import Polynomial, Ranges, total
from graphc.loops.text import statement_text
from graphc.loops.walk import expressions, map_body, statements, substitute, with_body
from graphc.schedule.dependence import accumulates_outward, conflict, defined_inside

UNROLL_LIMIT = 1024  # iterations of all unrolled loops around one statement


def find(kernel: Kernel, name: str) -> For:
    """The loop over the variable `name`."""
    for s in statements(kernel.body):
        if isinstance(s, For) and s.var.name == name:
            return s
    known = ", ".join(s.var.name for s in statements(kernel.body) if isinstance(s, For))
    raise CompileError(
        message(f"kernel {kernel.name} has no loop over {name!r}", hint=f"it has {known}")
    )


def split(kernel: Kernel, name: str, factor: int) -> Kernel:
    """Cut a serial or parallel loop into blocks of `factor` iterations.

    before: for i in n {                        after: for i_0 in size((n + 15) // 16) {
              %o[i] = %a[i]                              for i_1 in minimum(n - i_0 * 16, 16) {
            }                                              %o[i_0 * 16 + i_1] = %a[i_0 * 16 + i_1]
                                                         }
                                                       }
    The inner extent is just `factor` where that divides the extent. A parallel loop stays parallel
    outside.
    """
    loop = find(kernel, name)
    _require(loop.kind in ("serial", "parallel"), "split", loop, f"it is a {loop.kind} loop")
    _require(factor > 0, "split", loop, f"the factor must be positive, got {factor}")
    names = Names(_var_names(kernel))
    outer, inner = var(names.fresh(f"{name}_0")), var(names.fresh(f"{name}_1"))
    blocks, rest = _blocks(loop.extent, outer, factor)
    position = iadd(imul(outer, const(factor)), inner)
    body = _substituted(loop.body, loop.var, position)
    return _replace(kernel, loop, For(outer, blocks, (For(inner, rest, body),), loop.kind))


def reorder(kernel: Kernel, outer_name: str, inner_name: str) -> Kernel:
    """Swap two serial loops, the inner one being all that the outer one holds.

    before: for i in 4 {                        after: for j in 8 {
              for j in 8 {                               for i in 4 {
                %o[i, j] = %a[j, i]                        %o[i, j] = %a[j, i]
              }                                          }
            }                                          }
    Legal where no two iterations that depend on each other differ in both variables, nothing is
    accumulated into accumulators from outside, and the inner extent does not read the outer
    variable.
    """
    outer, inner = find(kernel, outer_name), find(kernel, inner_name)
    _require(
        outer.body == (inner,), "reorder", outer, f"its body is not just the loop over {inner_name}"
    )
    for loop in (outer, inner):
        _require(loop.kind in ("serial", "unroll"), "reorder", loop, f"it is a {loop.kind} loop")
    depends = outer.var in topological((inner.extent,), lambda e: e.args)
    _require(not depends, "reorder", inner, f"its extent depends on {outer_name}")
    _require_private_accumulators(inner, "reorder")
    _require_no_barrier(inner, "reorder")
    ranges = Ranges.of_kernel(kernel)
    through = conflict(outer.var, outer.body, ranges)
    if through is not None and conflict(inner.var, inner.body, ranges, (outer.var,)) is not None:
        raise _illegal(
            "reorder", outer, f"its iterations depend on each other through %{through.name}"
        )
    return _replace(kernel, outer, with_body(inner, (with_body(outer, inner.body),)))


def unroll(kernel: Kernel, name: str) -> Kernel:
    """Write out every iteration of a serial loop of constant extent.

    before: for i in 4 { … }                    after: for i in 4 unroll { … }
    """
    loop = find(kernel, name)
    _require(loop.kind == "serial", "unroll", loop, f"it is a {loop.kind} loop")
    _require(isinstance(loop.extent, Const), "unroll", loop, "its extent is not a constant")
    copies = 1
    for around in (*_path(kernel, loop), loop):
        if around is loop or around.kind == "unroll":
            assert isinstance(around.extent, Const)
            copies *= int(around.extent.value)
    _require(
        copies <= UNROLL_LIMIT, "unroll", loop, f"{copies} copies are more than {UNROLL_LIMIT}"
    )
    return _replace(kernel, loop, replace(loop, kind="unroll"))


def vectorize(
    kernel: Kernel, name: str, width: int, interleave: int = 1, *, reassociate: bool = False
) -> Kernel:
    """Run `width` iterations of a serial loop at a time, `interleave` such groups together.

    before: for i in n { … }                    after: for i in n vector(16, 1) { … }

    Legal where iterations do not depend on each other. Accumulators from outside the loop then take
    their values in another order (see `loops.nodes`), which needs `reassociate=True`.
    """
    loop = find(kernel, name)
    _require(loop.kind == "serial", "vectorize", loop, f"it is a {loop.kind} loop")
    power = width > 0 and width & (width - 1) == 0 and interleave > 0
    _require(
        power, "vectorize", loop, f"the width must be a power of two, got {width} x {interleave}"
    )
    for around in _path(kernel, loop):
        _require(
            around.kind != "vector",
            "vectorize",
            loop,
            f"it is inside the vector loop {around.var.name}",
        )
    for s in statements(loop.body):
        if isinstance(s, For):
            _require(s.kind in ("serial", "unroll"), "vectorize", loop, f"it holds a {s.kind} loop")
            uniform = loop.var not in topological((s.extent,), lambda e: e.args)
            _require(uniform, "vectorize", loop, f"the extent of {s.var.name} depends on {name}")
        what = {If: "an if", Alloc: "an alloc", Barrier: "a barrier"}.get(type(s))
        _require(what is None, "vectorize", loop, f"it holds {what}")
    if not reassociate:
        _require_private_accumulators(loop, "vectorize")
    _require_independent(kernel, loop, "vectorize")
    return _replace(kernel, loop, replace(loop, kind="vector", width=width, interleave=interleave))


def parallelize(kernel: Kernel, name: str) -> Kernel:
    """Run ranges of an outermost serial loop on several threads.

    before: for i in n { … }                    after: for i in n parallel { … }
    """
    loop = find(kernel, name)
    _require(loop.kind == "serial", "parallelize", loop, f"it is a {loop.kind} loop")
    for s in kernel.body:
        beside = s is loop or isinstance(s, Let)
        _require(beside, "parallelize", loop, "it is not outermost and alone")
    for s in statements(kernel.body):
        if isinstance(s, For):
            outside = s.kind in ("serial", "vector", "unroll")
            _require(outside, "parallelize", loop, f"the kernel has a {s.kind} loop")
    _require_private_accumulators(loop, "parallelize")
    _require_independent(kernel, loop, "parallelize")
    return _replace(kernel, loop, replace(loop, kind="parallel"))


def bind(kernel: Kernel, name: str, kind: str) -> Kernel:
    """Run the iterations of a serial loop as GPU blocks, threads of a block, or lanes of a warp.

    before: for i in n { … }                    after: for i in n block { … }
    """
    loop = find(kernel, name)
    _require(
        kind in ("block", "thread", "lane"), "bind", loop, f"{kind!r} is not block, thread or lane"
    )
    _require(loop.kind == "serial", "bind", loop, f"it is a {loop.kind} loop")
    order = {"block": 0, "thread": 1, "lane": 2}
    for around in _path(kernel, loop):
        good = around.kind in ("serial", "unroll") or order.get(around.kind, 9) <= order[kind]
        _require(good, "bind", loop, f"it is inside the {around.kind} loop {around.var.name}")
    for s in statements(loop.body):
        if isinstance(s, For):
            good = s.kind in ("serial", "unroll", "vector") or order.get(s.kind, -1) >= order[kind]
            _require(good, "bind", loop, f"it holds the {s.kind} loop {s.var.name}")
    _require_private_accumulators(loop, "bind")
    _require_independent(kernel, loop, "bind")
    return _replace(kernel, loop, replace(loop, kind=kind))


def stage(kernel: Kernel, name: str, buffer_name: str, scope: str = "local") -> Kernel:
    """Copy the part of an input that one iteration of a loop reads into memory of its own first.

    before: for i in 4 {                        after: for i in 4 {
              for j in 8 {                               alloc local %a_local: f32[1, 8]
                %o[i, j] = %a[i, j]                      for c in 8 {
              }                                            %a_local[0, c] = %a[i, c]
            }                                            }
                                                         for j in 8 {
                                                           %o[i, j] = %a_local[0, j]
                                                         }
                                                       }
    Each index must be a part fixed by the loop plus a part over inner loops that starts at 0.
    Copies that could leave the buffer are predicated.
    """
    loop = find(kernel, name)
    _require(
        scope in ("local", "shared"), "stage", loop, f"the scope {scope!r} is not local or shared"
    )
    found = [b for b in kernel.params if b.name == buffer_name]
    _require(bool(found), "stage", loop, f"the kernel has no parameter %{buffer_name}")
    buffer = found[0]
    _require(
        buffer not in kernel.outputs, "stage", loop, f"%{buffer_name} is written by the kernel"
    )
    for around in (*_path(kernel, loop), loop):
        _require(around.kind != "vector", "stage", loop, f"{around.var.name} is a vector loop")
    return _Stage(kernel, loop, buffer, scope).run()


class _Stage:
    """The work of `stage`."""

    def __init__(self, kernel: Kernel, loop: For, buffer: Buffer, scope: str) -> None:
        self.kernel, self.loop, self.buffer = kernel, loop, buffer
        self.ranges = Ranges.of_kernel(kernel)
        self.inner = defined_inside(loop.body)
        self.names = Names(_var_names(kernel) | {b.name for b in _buffers(kernel)})
        loads = self._loads()
        _require(bool(loads), "stage", loop, f"it does not read %{buffer.name}")
        parts = [[self._parts(i) for i in node.indices] for node in loads]
        self.bases = [base for base, _ in parts[0]]
        for other in parts[1:]:
            same = [base for base, _ in other] == self.bases
            _require(same, "stage", loop, f"it reads %{buffer.name} at different places")
        shape = tuple(self._extent([p[k][1] for p in parts]) for k in range(len(buffer.shape)))
        name = self.names.fresh(f"{buffer.name}_{scope}")
        self.copy = Buffer(name, shape, buffer.dtype, scope)
        self.replacements: dict[Expr, Expr] = {
            node: self._staged(node, [rest for _, rest in p])
            for node, p in zip(loads, parts, strict=True)
        }

    def _loads(self) -> list[Load]:
        roots = [e for s in statements(self.loop.body) for e in expressions(s)]
        nodes = topological(roots, lambda e: e.args)
        return [n for n in nodes if isinstance(n, Load) and n.buffer is self.buffer]

    def _parts(self, index: Expr) -> tuple[Polynomial, Polynomial]:
        """(part that is the same for the whole iteration, part over inner variables)."""
        base: dict[tuple[int, ...], int] = {}
        rest: dict[tuple[int, ...], int] = {}
        for monomial, factor in self.ranges.polynomial(index).items():
            inner = self.ranges.variables(monomial) & self.inner
            (rest if inner else base)[monomial] = factor
        return base, rest

    def _extent(self, rests: list[Polynomial]) -> Size:
        """1 + the greatest value of the inner parts."""
        largest: Size | None = None
        for rest in rests:
            high = self.ranges.bounds(rest)[1]
            bounded = high is not None and self.ranges.nonnegative(rest)
            _require(
                bounded,
                "stage",
                self.loop,
                f"the part of %{self.buffer.name} it reads has no bound",
            )
            assert high is not None
            extent = _as_size(self.ranges.expression(total(high, {(): 1})))
            if isinstance(largest, int) and isinstance(extent, int):
                largest = max(largest, extent)
            _require(
                largest in (None, extent) or (isinstance(largest, int) and isinstance(extent, int)),
                "stage",
                self.loop,
                f"reads of %{self.buffer.name} differ in extent",
            )
            largest = extent if largest is None else largest
        assert largest is not None
        return largest

    def _staged(self, node: Load, rests: list[Polynomial]) -> Expr:
        indices = tuple(self.ranges.expression(r) for r in rests)
        return load(self.copy, indices, node.predicate, node.fill)

    def run(self) -> Kernel:
        """The kernel with the copy in place."""
        simplifier = Simplifier(self.ranges)
        counters: list[tuple[Var, Size]] = []
        source: list[Expr] = []
        target: list[Expr] = []
        for base, extent in zip(self.bases, self.copy.shape, strict=True):
            start = self.ranges.expression(base)
            if extent == 1:
                source.append(start)
                target.append(ZERO)
                continue
            v = var(self.names.fresh("c"))
            self.ranges.declare(v, size(extent))
            counters.append((v, extent))
            source.append(iadd(start, v))
            target.append(v)
        inside = both(
            *(
                both(EXPR.op("ge", i, ZERO), EXPR.op("lt", i, size(d)))
                for i, d in zip(source, self.buffer.shape, strict=True)
            )
        )
        predicate = simplifier.index(inside)
        if isinstance(predicate, Const):
            value: Expr = load(self.buffer, tuple(source))
        else:
            value = load(self.buffer, tuple(source), predicate, literal(0, self.buffer.dtype))
        fill: Stmt = Store(self.copy, tuple(target), value)
        for v, extent in reversed(counters):
            fill = For(v, size(extent), (fill,))
        memo: dict[Expr, Expr] = {}
        body = map_body(self.loop.body, lambda e: substitute(e, self.replacements, memo))
        return _replace(
            self.kernel, self.loop, with_body(self.loop, (Alloc(self.copy), fill, *body))
        )


# -- parts of the primitives ----------------------------------------------------------------------


def _require(holds: bool, primitive: str, loop: For, why: str) -> None:
    if not holds:
        raise _illegal(primitive, loop, why)


def _illegal(primitive: str, loop: For, why: str) -> CompileError:
    return CompileError(
        message(
            f"cannot {primitive} the loop over {loop.var.name}: {why}",
            operands=[statement_text(loop)],
        )
    )


def _require_private_accumulators(loop: For, primitive: str) -> None:
    outward = accumulates_outward(loop.body)
    if outward is not None:
        raise _illegal(primitive, loop, f"it accumulates in order: {statement_text(outward)}")


def _require_no_barrier(loop: For, primitive: str) -> None:
    found = any(isinstance(s, Barrier) for s in statements(loop.body))
    _require(not found, primitive, loop, "it holds a barrier")


def _require_independent(kernel: Kernel, loop: For, primitive: str) -> None:
    through = conflict(loop.var, loop.body, Ranges.of_kernel(kernel))
    if through is not None:
        raise _illegal(
            primitive, loop, f"its iterations may depend on each other through %{through.name}"
        )


def _blocks(extent: Expr, outer: Var, factor: int) -> tuple[Expr, Expr]:
    """(number of blocks, extent of block `outer`)."""
    value = _size_of(extent)
    if value is None:
        count = ifloordiv(iadd(extent, const(factor - 1)), const(factor))
    else:
        if value % factor == 0:
            return size(value // factor), const(factor)
        count = size((value + (factor - 1)) // factor)
    return count, imin(isub(extent, imul(outer, const(factor))), const(factor))


def _size_of(extent: Expr) -> Size | None:
    if isinstance(extent, Const):
        return int(extent.value)
    return extent.dim if isinstance(extent, SizeOf) else None


def _as_size(extent: Expr) -> Size:
    value = _size_of(extent)
    assert value is not None, "a bound is an expression of sizes"
    return value


def _substituted(body: tuple[Stmt, ...], v: Var, value: Expr) -> tuple[Stmt, ...]:
    memo: dict[Expr, Expr] = {}
    return map_body(body, lambda e: substitute(e, {v: value}, memo))


def _replace(kernel: Kernel, old: For, new: For) -> Kernel:
    """The kernel with one loop replaced."""
    return replace(kernel, body=_replace_in(kernel.body, lambda s: new if s is old else None))


def _replace_in(body: tuple[Stmt, ...], change: Callable[[For], For | None]) -> tuple[Stmt, ...]:
    result: list[Stmt] = []
    for s in body:
        if isinstance(s, For):
            result.append(change(s) or with_body(s, _replace_in(s.body, change)))
        elif isinstance(s, If):
            inner, otherwise = _replace_in(s.body, change), _replace_in(s.otherwise, change)
            result.append(If(s.condition, inner, otherwise))
        else:
            result.append(s)
    return tuple(result)


def _path(kernel: Kernel, loop: For) -> tuple[For, ...]:
    """The loops around `loop`, outermost first."""
    return tuple(
        s
        for s in statements(kernel.body)
        if isinstance(s, For) and s is not loop and any(x is loop for x in statements(s.body))
    )


def _var_names(kernel: Kernel) -> set[str]:
    found = {v.name for v in defined_inside(kernel.body)}
    for s in statements(kernel.body):
        if isinstance(s, Accumulators):
            for c in (s.combine, s.entering):
                found.update(v.name for v in (c.left + c.right if c else ()))
    return found


def _buffers(kernel: Kernel) -> list[Buffer]:
    own = [s.buffer for s in statements(kernel.body) if isinstance(s, Alloc)]
    return [*kernel.params, *own]


__all__ = ["bind", "find", "parallelize", "reorder", "split", "stage", "unroll", "vectorize"]
