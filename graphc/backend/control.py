"""Control flow and accumulators in SSA form (floor 6): guards, loops, phis, combining steps.

A loop is a do-while loop behind a guard. Accumulators are SSA values, merged by phis where paths
join; buffers and accumulators that a scope changes are known beforehand (`Effects`), so that
nothing computed from them is kept over the change.
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.backend.kernel_facts import Effects
from graphc.backend.llvm_types import compute_type, is_literal, literal, vector_type
from graphc.backend.memory_access import MemoryEmitter
from graphc.backend.values import Entry, Region
from graphc.loops.nodes import Combine, Var

NO_EFFECTS = Effects((), ())


class ControlEmitter(MemoryEmitter):
    """Adds control flow to the memory emitter."""

    def counted_loop(self, count: str, body: Callable[[str], None]) -> None:
        self._loop("0", count, 1, NO_EFFECTS, body)

    # -- accumulators ---------------------------------------------------------------------------
    def _identity(self, combine: Combine, k: int, width: int, groups: int) -> Entry:
        const = combine.identity[k]
        names = (literal(const.value, const.dtype, width),) * groups
        return Entry(names, width, self.top)

    def _is_identity(self, combine: Combine, entries: list[Entry]) -> bool:
        """Whether values are literally the identity: combined with what lanes that started at the
        identity came to, they change no bit of it.
        """
        return all(
            entry.width == 1 and entry.names == (literal(c.value, c.dtype, 1),)
            for entry, c in zip(entries, combine.identity, strict=True)
        )

    def _set(self, variable: Var, entry: Entry) -> None:
        """Give an accumulator its new value."""
        self.invalidate(variable)
        self.memo[variable] = Entry(entry.names, entry.width, self.top, frozenset((variable,)))

    def _combine(self, combine: Combine, left: list[Entry], right: list[Entry]) -> list[Entry]:
        """One combining step at the current place, on vectors of any one width."""
        own = frozenset((combine,))
        for params, entries in ((combine.left, left), (combine.right, right)):
            for param, entry in zip(params, entries, strict=True):
                self.memo[param] = Entry(entry.names, entry.width, self.top, own)
        results = []
        for result, before in zip(combine.results, left, strict=True):
            entry = self.value(result)
            if entry.width < before.width:
                names = self.spread(entry, result, before.width, len(before.names))
                entry = Entry(names, before.width, self.top)
            results.append(entry)
        self.invalidate(combine)
        for param in (*combine.left, *combine.right):
            del self.memo[param]
        return results

    def _join_groups(self, combine: Combine, entries: list[Entry]) -> list[Entry]:
        """The accumulators of interleaved groups to those of one, in order."""
        width, top = entries[0].width, self.top
        total = [Entry(x.names[:1], width, top) for x in entries]
        for group in range(1, len(entries[0].names)):
            more = [Entry((x.names[group],), width, top) for x in entries]
            total = self._combine(combine, total, more)
        return total

    def _fold_lanes(self, combine: Combine, total: list[Entry], dtypes: list[str]) -> list[Entry]:
        """Lane accumulators to one value each, by halving."""
        width = total[0].width
        while width > 1:
            width //= 2
            low = [self._part(x, t, 0, width) for x, t in zip(total, dtypes, strict=True)]
            high = [self._part(x, t, width, width) for x, t in zip(total, dtypes, strict=True)]
            total = self._combine(combine, low, high)
        return total

    def _part(self, entry: Entry, scalar: str, start: int, width: int) -> Entry:
        """Lanes start … start + width - 1 of a vector."""
        e, t, name = self.here(), vector_type(scalar, entry.width), entry.names[0]
        if width == 1:
            return Entry((e.emit(f"extractelement {t} {name}, i64 {start}"),), 1, self.top)
        mask = ", ".join(f"i32 {start + k}" for k in range(width))
        part = e.emit(f"shufflevector {t} {name}, {t} poison, <{width} x i32> <{mask}>")
        return Entry((part,), width, self.top)

    # -- scopes and blocks ----------------------------------------------------------------------
    def _settle(self, changed: Effects) -> None:
        """After a scope closed: what it changed now lives in the scope around it."""
        for variable, _ in changed.accumulators:
            entry = self.memo[variable]
            if entry.level > self.top:
                self._set(variable, entry)
        for buffer in changed.buffers:
            self.buffer_level[buffer] = self.top
            self.invalidate(buffer)

    def _inline(self, changed: Effects, run: Callable[[], None]) -> None:
        """`run` in a scope of its own within the current text."""
        self.push()
        run()
        self.pop()
        self._settle(changed)

    def _guarded(
        self, condition: str, changed: Effects, run: Callable[[], None], conditional: bool = False
    ) -> None:
        """`run` where the condition holds; accumulators merge afterwards."""
        if condition == "false":
            return
        if condition == "true":
            self._inline(changed, run)
            return
        outer, start = self.region, self.region.block
        before = [self.memo[v] for v, _ in changed.accumulators]
        inside, join = self.label(), self.label()
        self.push(Region(inside), skipped=True, conditional=conditional)
        run()
        inner = self.pop().region
        after = [self.memo[v] for v, _ in changed.accumulators]
        outer.lines.append(f"  br i1 {condition}, label %{inside}, label %{join}")
        outer.lines.append(f"{inside}:")
        outer.lines += inner.lines
        outer.lines += [f"  br label %{join}", f"{join}:"]
        outer.block = join
        e = self.here()
        for (variable, _), old, new in zip(changed.accumulators, before, after, strict=True):
            t = compute_type(variable.dtype, old.width)
            names = tuple(
                e.emit(f"phi {t} [ {a}, %{start} ], [ {b}, %{inner.block} ]")
                for a, b in zip(old.names, new.names, strict=True)
            )
            self._set(variable, Entry(names, old.width, self.top))
        self._settle(changed)

    def _loop(
        self, start: str, stop: str, step: int, changed: Effects, body: Callable[[str], None]
    ) -> None:
        """A do-while loop at the current place; start < stop is known."""
        if is_literal(start) and is_literal(stop) and int(start) + step >= int(stop):
            self._inline(changed, lambda: body(start))  # a single turn
            return
        outer = self.region
        entry_block, header, after = outer.block, self.label(), self.label()
        before = [self.memo[v] for v, _ in changed.accumulators]
        region = Region(header)
        self.push(region)
        counter = self.e.fresh()
        phis: list[tuple[str, str, str]] = []
        for (variable, _), old in zip(changed.accumulators, before, strict=True):
            names = tuple(self.e.fresh() for _ in old.names)
            t = compute_type(variable.dtype, old.width)
            phis += [(name, t, x) for name, x in zip(names, old.names, strict=True)]
            self._set(variable, Entry(names, old.width, self.top))
        for buffer in changed.buffers:
            self.buffer_level[buffer] = self.top
            self.invalidate(buffer)
        body(counter)
        e = self.here()
        following = e.emit(f"add nuw nsw i64 {counter}, {step}")
        more = e.emit(f"icmp slt i64 {following}, {stop}")
        results = [x for v, _ in changed.accumulators for x in self.memo[v].names]
        latch = region.block
        self.pop()
        lines = outer.lines
        lines += [
            f"  br label %{header}",
            f"{header}:",
            f"  {counter} = phi i64 [ {start}, %{entry_block} ], [ {following}, %{latch} ]",
        ]
        for (name, t, first), last in zip(phis, results, strict=True):
            lines.append(f"  {name} = phi {t} [ {first}, %{entry_block} ], [ {last}, %{latch} ]")
        lines += region.lines
        lines += [f"  br i1 {more}, label %{header}, label %{after}", f"{after}:"]
        outer.block = after
        self._settle(changed)
