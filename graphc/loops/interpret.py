"""Interpreter of kernels (floor 4): what a scheduled kernel means, executed and checked with NumPy.

Independent loops (parallel, vector, block, thread, lane) run as *lanes*: every statement is
executed for all of them at once, serial loops one step at a time. That is one legal interleaving;
the others are covered by checking that no two iterations touch one address when one of them writes
(between two barriers, for threads). Also found: indices out of bounds, reads of uninitialised
memory, barriers that some threads miss. Accumulation follows the order that `nodes` fixes, bit for
bit; transcendental functions are NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import numpy as np

from graphc.base.dims import evaluate
from graphc.base.dtypes import Array, int64
from graphc.base.errors import ExecutionError, message
from graphc.base.order import topological
from graphc.ir.scalar_numpy import NumpyScalar, Value
from graphc.loops.frames import Frame, Marks, Memory, expand, in_lanes, map_to, part, some_lanes
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Barrier,
    Bitcast,
    Buffer,
    Cast,
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
    SizeOf,
    Stmt,
    Store,
    Var,
)
from graphc.loops.text import statement_text
from graphc.loops.walk import expressions, statements

_INDEPENDENT = ("parallel", "vector", "block", "thread", "lane")
_LANES_AT_ONCE = 1 << 18
_LEFT = (0, 0)  # instead of a number of groups: elements after all whole steps


def interpret(
    kernel: Kernel,
    arrays: Mapping[str, Array],
    sizes: Mapping[str, int] | None = None,
    *,
    has_fma: bool = True,
) -> int:
    """Run `kernel` on arrays by buffer name, in the reference form of their dtypes.

    Outputs are written in place. Returns the error site of the first failed `Check`, or 0. Raises
    ExecutionError, with the statement, for what no correct kernel does.
    """
    return _Interpreter(kernel, arrays, dict(sizes or {}), has_fma).run()


class _Interpreter:
    """One run."""

    def __init__(
        self, kernel: Kernel, arrays: Mapping[str, Array], sizes: dict[str, int], has_fma: bool
    ) -> None:
        self.kernel = kernel
        self.sizes = sizes
        self.scalar = NumpyScalar(has_fma)
        self.site = 0
        self.epochs = count(1)
        self.memories: dict[Buffer, Memory] = {}
        self.orders: dict[Stmt | Combine, list[Expr]] = {}
        self.constants: dict[Expr, Value] = {}
        self.targets: dict[For, tuple[Accumulators, ...]] = {}
        self.owners: dict[Var, tuple[Accumulators, int]] = {}
        for s in statements(kernel.body):
            if isinstance(s, Accumulators):
                self.owners.update({v: (s, k) for k, v in enumerate(s.vars)})
        self.copies: list[tuple[Array, Array]] = []
        for buffer in kernel.params:
            self._bind(buffer, arrays)

    def _bind(self, buffer: Buffer, arrays: Mapping[str, Array]) -> None:
        shape = tuple(evaluate(d, self.sizes) for d in buffer.shape)
        array = arrays.get(buffer.name)
        if array is None:
            raise ExecutionError(f"{self.kernel.name}: no array for the parameter %{buffer.name}")
        if array.shape != shape or array.dtype != buffer.dtype.numpy:
            raise ExecutionError(
                f"{self.kernel.name}: %{buffer.name} needs {buffer.dtype.numpy}{list(shape)}, "
                f"got {array.dtype}{list(array.shape)}"
            )
        written = buffer in self.kernel.outputs
        data = np.array(array).reshape(-1)
        if written:
            self.copies.append((array, data))
        self.memories[buffer] = Memory(
            buffer, shape, data, np.full(data.shape, not written), None, written
        )

    def run(self) -> int:
        """Execute the body; copy outputs back."""
        with np.errstate(all="ignore"):
            self._block(self.kernel.body, Frame(None, None, 1))
        for array, data in self.copies:
            array[...] = data.reshape(array.shape)
        return self.site

    def _fail(self, statement: Stmt, what: str) -> ExecutionError:
        return ExecutionError(
            message(f"{self.kernel.name}: {what}", operands=[statement_text(statement)])
        )

    # -- statements -----------------------------------------------------------------------------
    def _block(self, body: tuple[Stmt, ...], frame: Frame) -> None:
        if frame.lanes:
            for statement in body:
                self._statement(statement, frame)

    def _statement(self, s: Stmt, frame: Frame) -> None:
        if isinstance(s, For):
            self._loop(s, frame)
        elif isinstance(s, Store):
            self._store(s, frame)
        elif isinstance(s, Let):
            frame.values[s.var] = self._eval(s, frame)[0]
        elif isinstance(s, Accumulators):
            frame.cells[s] = [
                Value(np.full(frame.lanes, self._const(c).array), c.dtype)
                for c in s.combine.identity
            ]
        elif isinstance(s, Accumulate):
            self._accumulate(s, frame)
        elif isinstance(s, Alloc):
            self._alloc(s.buffer, frame)
        elif isinstance(s, If):
            holds = np.broadcast_to(self._eval(s, frame)[0].array, frame.lanes)
            self._block(s.body, some_lanes(frame, np.flatnonzero(holds)))
            self._block(s.otherwise, some_lanes(frame, np.flatnonzero(~holds)))
        elif isinstance(s, Check):
            if not self._eval(s, frame)[0].array.all() and not self.site:
                self.site = s.site
        elif isinstance(s, Intrinsic):
            self._block(s.meaning, frame)
        elif not isinstance(s, Prefetch):
            assert isinstance(s, Barrier), s
            self._barrier(s, frame)

    def _alloc(self, buffer: Buffer, frame: Frame) -> None:
        shape = tuple(evaluate(d, self.sizes) for d in buffer.shape)
        total = frame.lanes * int(np.prod(shape, dtype=np.int64))
        data = np.zeros(total, buffer.dtype.numpy)
        self.memories[buffer] = Memory(buffer, shape, data, np.zeros(total, bool), frame, True)

    def _accumulate(self, s: Accumulate, frame: Frame) -> None:
        for owner, index in frame.chain():
            cells = owner.cells.get(s.target)
            if cells is None:
                continue
            values, combine = self._eval(s, frame), s.target.combine
            if s.target.entering is not None and frame.groups.get(s.target) == _LEFT:
                combine = s.target.entering
            elif s.target.entering is not None:
                values = self._entering(s.target, s.target.entering, values, frame)
            old = cells if index is None else [Value(c.array[index], c.dtype) for c in cells]
            for cell, new in zip(cells, self._combine(combine, old, values), strict=True):
                cell.array[slice(None) if index is None else index] = new.array
            return
        raise self._fail(s, "the accumulators are not declared here")

    def _entering(
        self, target: Accumulators, entering: Combine, values: list[Value], frame: Frame
    ) -> list[Value]:
        """Values in the dtypes of the accumulators; the groups of a step of a vector loop are
        combined before they are converted.
        """
        groups = frame.groups.get(target)
        if groups is not None:
            shape = (-1, *groups)
            whole = [Value(in_lanes(v.array, frame, None).reshape(shape), v.dtype) for v in values]
            values = part(whole, np.s_[:, 0])
            for k in range(1, groups[0]):
                values = self._combine(entering, values, part(whole, np.s_[:, k]))
            values = [Value(v.array.reshape(-1), v.dtype) for v in values]
        return self._widened(target, values)

    def _widened(self, target: Accumulators, values: list[Value]) -> list[Value]:
        return [self.scalar.cast(x, v.dtype) for x, v in zip(values, target.vars, strict=True)]

    def _combine(self, combine: Combine, left: list[Value], right: list[Value]) -> list[Value]:
        known = dict(zip(combine.left + combine.right, left + right, strict=True))
        return self._nodes(combine, combine.results, known.__getitem__, None)

    # -- loops ----------------------------------------------------------------------------------
    def _loop(self, loop: For, frame: Frame) -> None:
        extents = self._eval(loop, frame)[0].array
        if extents.ndim and (extents == extents[:1]).all():
            extents = extents[0]
        if extents.ndim:
            # Lanes of one extent at a time; the order between lanes is free.
            for extent in np.unique(extents):
                self._run_loop(
                    loop, int(extent), some_lanes(frame, np.flatnonzero(extents == extent))
                )
        else:
            self._run_loop(loop, int(extents), frame)

    def _run_loop(self, loop: For, extent: int, frame: Frame) -> None:
        if loop.kind not in _INDEPENDENT:
            for k in range(extent):
                frame.values[loop.var] = _int(k)
                self._block(loop.body, frame)
            return
        epoch = next(self.epochs)
        targets = self._targets(loop) if loop.kind == "vector" else ()
        if targets:
            self._vector_accumulate(loop, extent, frame, targets, epoch)
            return
        step = extent if loop.kind in ("thread", "lane") else max(1, _LANES_AT_ONCE // frame.lanes)
        for start in range(0, extent, step or 1):
            self._block(
                loop.body, expand(frame, loop, extent, start, min(extent, start + step), epoch)
            )

    def _targets(self, loop: For) -> tuple[Accumulators, ...]:
        """Accumulators from outside that the loop accumulates into."""
        known = self.targets.get(loop)
        if known is None:
            found: dict[Accumulators, None] = {}
            inside = {s for s in statements(loop.body) if isinstance(s, Accumulators)}
            for s in statements(loop.body):
                if isinstance(s, Accumulate) and s.target not in inside:
                    found[s.target] = None
            known = self.targets[loop] = tuple(found)
        return known

    def _vector_accumulate(
        self, loop: For, extent: int, frame: Frame, targets: tuple[Accumulators, ...], epoch: int
    ) -> None:
        step = loop.width * loop.interleave
        main = extent - extent % step
        kept = {t: loop.width if t.entering else step for t in targets}
        partial = {
            t: [
                Value(np.full(frame.lanes * kept[t], self._const(c).array), c.dtype)
                for c in t.combine.identity
            ]
            for t in targets
        }
        for start in range(0, main, step):
            lanes = expand(frame, loop, extent, start, start + step, epoch)
            lanes.cells.update(partial)
            lanes.groups.update({t: (loop.interleave, loop.width) for t in targets if t.entering})
            self._block(loop.body, lanes)
        for target in targets if extent else ():
            partial[target] = self._join(target, partial[target], loop, frame)
        left = {t: self._left(t, p, loop, frame) for t, p in partial.items()}
        partial, wide = left, partial
        for start in range(main, extent, loop.width):
            stop = min(start + loop.width, extent)
            lanes = expand(frame, loop, extent, start, stop, epoch)
            lanes.groups.update({t: _LEFT for t in targets if t.entering})
            existing = np.s_[:, : stop - start]
            for target in targets:
                some = part(partial[target], existing)
                lanes.cells[target] = [Value(p.array.reshape(-1), p.dtype) for p in some]
            self._block(loop.body, lanes)
            for target in targets:
                for whole, cell in zip(partial[target], lanes.cells[target], strict=True):
                    whole.array[existing] = cell.array.reshape(frame.lanes, -1)
        for target in targets if extent else ():
            result = partial[target]
            if target.entering is not None and extent > main:
                entered = self._widened(target, result)
                result = self._combine(target.combine, wide[target], entered)
            elif target.entering is not None:
                result = wide[target]
            self._fold(target, result, loop, frame)

    def _left(
        self, target: Accumulators, lanes: list[Value], loop: For, frame: Frame
    ) -> list[Value]:
        """What elements after all whole steps go to: the lanes, or narrower ones of their own."""
        if target.entering is None:
            return lanes
        shape = (frame.lanes, loop.width)
        starts = map(self._const, target.entering.identity)
        return [Value(np.full(shape, start.array), start.dtype) for start in starts]

    def _join(
        self, target: Accumulators, partial: list[Value], loop: For, frame: Frame
    ) -> list[Value]:
        """Groups of W in order: lanes x W."""
        shape = (frame.lanes, 1 if target.entering else loop.interleave, loop.width)
        groups = [Value(p.array.reshape(shape), p.dtype) for p in partial]
        result = part(groups, np.s_[:, 0])
        for k in range(1, shape[1]):
            result = self._combine(target.combine, result, part(groups, np.s_[:, k]))
        return [Value(np.array(p.array), p.dtype) for p in result]

    def _fold(self, target: Accumulators, result: list[Value], loop: For, frame: Frame) -> None:
        """Lanes by halving, then the value from before the loop with it."""
        width = loop.width
        while width > 1:
            width //= 2
            low, high = part(result, np.s_[:, :width]), part(result, np.s_[:, width : 2 * width])
            result = self._combine(target.combine, low, high)
        result = part(result, np.s_[:, 0])
        for owner, index in frame.chain():
            cells = owner.cells.get(target)
            if cells is not None:
                at: Any = slice(None) if index is None else index
                for cell, new in zip(
                    cells, self._combine(target.combine, part(cells, at), result), strict=True
                ):
                    cell.array[at] = new.array
                return

    def _barrier(self, s: Stmt, frame: Frame) -> None:
        threads: Frame | None = None
        block_of: Array | None = None
        for owner, _ in frame.chain():
            if owner.kind in ("thread", "lane"):
                owner.epoch = next(self.epochs)
                threads = threads or owner
        if threads is None:
            return
        here: Array | None = None
        for owner, index in frame.chain():
            if owner.kind == "block" or owner.parent is None:
                here = np.zeros(frame.lanes, np.int64) if index is None else index
                block = owner
                break
        for owner, index in threads.chain():
            if owner is block:
                block_of = np.zeros(threads.lanes, np.int64) if index is None else index
        assert here is not None
        assert block_of is not None
        arrived, all_of = np.bincount(here), np.bincount(block_of)
        if (arrived[arrived > 0] != all_of[: len(arrived)][arrived > 0]).any():
            raise self._fail(s, "some threads of a block do not reach the barrier")

    # -- memory ---------------------------------------------------------------------------------
    def _store(self, s: Store, frame: Frame) -> None:
        *indices, value = (v.array for v in self._eval(s, frame)[: len(s.indices) + 1])
        active: Array | None = None
        if s.predicate is not None:
            active = np.broadcast_to(self._eval(s, frame)[-1].array, frame.lanes).nonzero()[0]
            if not len(active):
                return
        memory = self.memories[s.buffer]
        if memory.buffer.scope == "global" and s.buffer not in self.kernel.outputs:
            raise self._fail(s, f"%{s.buffer.name} is not an output")
        at = self._address(s, memory, [in_lanes(i, frame, active) for i in indices], frame, active)
        stored = in_lanes(value, frame, active)
        at = np.broadcast_to(at, stored.shape)  # a 0-d buffer has one address for all lanes
        self._watch(s, memory, at, frame, active, write=True)
        memory.data[at] = stored
        memory.written[at] = True

    def _load(self, s: Stmt, node: Load, args: list[Value], frame: Frame) -> Value:
        if frame is None:
            raise self._fail(s, "a combine step reads memory")
        memory = self.memories.get(node.buffer)
        if memory is None:
            raise self._fail(s, f"%{node.buffer.name} is read before it is allocated")
        active: Array | None = None
        indices = [a.array for a in args[: len(node.indices)]]
        fill = args[-1] if node.predicated else None
        if fill is not None:
            holds = args[-2].array
            if not holds.any():
                return fill
            if not holds.all():
                active = np.broadcast_to(holds, frame.lanes).nonzero()[0]
        if memory.shared or active is not None:
            indices = [in_lanes(i, frame, active) for i in indices]
        at = self._address(s, memory, indices, frame, active)
        if not np.all(memory.written[at]):
            raise self._fail(s, f"%{node.buffer.name} is read where it was never written")
        if memory.shared:
            self._watch(s, memory, at, frame, active, write=False)
        loaded = np.asarray(memory.data[at])
        if active is not None and fill is not None:
            result = np.array(np.broadcast_to(fill.array, frame.lanes))
            result[active] = loaded
            loaded = result
        return Value(loaded, node.dtype)

    def _address(
        self, s: Stmt, memory: Memory, indices: list[Array], frame: Frame, active: Array | None
    ) -> Array:
        at: Array = np.zeros((), np.int64)
        for k, (index, extent) in enumerate(zip(indices, memory.shape, strict=True)):
            bad = (index < 0) | (index >= extent)
            if bad.any():
                wrong = int(np.atleast_1d(index)[np.atleast_1d(bad)][0])
                raise self._fail(
                    s,
                    f"index {wrong} of dim {k} of %{memory.buffer.name}"
                    f" is out of bounds [0, {extent})",
                )
            at = at * extent + index
        if memory.frame is not None:
            lane = map_to(frame, memory.frame)
            at = at + in_lanes(lane, frame, active) * memory.cells
        return at

    def _watch(
        self, s: Stmt, memory: Memory, at: Array, frame: Frame, active: Array | None, write: bool
    ) -> None:
        """Check the access against other iterations of every independent loop around it."""
        at = np.broadcast_to(at, frame.lanes if active is None else active.shape)
        for owner, index in frame.chain():
            if owner is memory.frame:
                return
            if owner.agent is None:
                continue
            agent = owner.agent if index is None else owner.agent[index]
            marks = memory.marks.get(owner.depth)
            if marks is None:
                marks = memory.marks[owner.depth] = Marks(len(memory.data))
            note = marks.write if write else marks.read
            if note(at, agent if active is None else agent[active], owner.epoch):
                name = memory.buffer.name
                raise self._fail(
                    s, f"race on %{name}: two iterations of a {owner.kind} loop touch one element"
                )

    # -- expressions ----------------------------------------------------------------------------
    def _eval(self, s: Stmt, frame: Frame) -> list[Value]:
        def lookup(v: Var) -> Value:
            return self._variable(s, v, frame)

        return self._nodes(s, expressions(s), lookup, frame)

    def _nodes(
        self,
        owner: Stmt | Combine,
        roots: tuple[Expr, ...],
        lookup: Callable[[Var], Value],
        frame: Frame | None,
    ) -> list[Value]:
        order = self.orders.get(owner)
        if order is None:
            order = self.orders[owner] = topological(roots, lambda e: e.args)
        values: dict[Expr, Value] = {}
        for node in order:
            args = [values[a] for a in node.args]
            if isinstance(node, Var):
                values[node] = lookup(node)
            elif isinstance(node, Load):
                assert frame is not None and isinstance(owner, Stmt), "a combine step reads memory"
                values[node] = self._load(owner, node, args, frame)
            else:
                values[node] = self._value(node, args)
        return [values[r] for r in roots]

    def _value(self, node: Expr, args: list[Value]) -> Value:
        if isinstance(node, Op):
            return (
                self.scalar.fma(*args) if node.name == "fma" else self.scalar.op(node.name, *args)
            )
        if isinstance(node, Select):
            return self.scalar.select(*args)
        if isinstance(node, Cast):
            return self.scalar.cast(args[0], node.dtype)
        if isinstance(node, Bitcast):
            return self.scalar.bitcast(args[0], node.dtype)
        if isinstance(node, SizeOf):
            return _int(evaluate(node.dim, self.sizes))
        assert isinstance(node, Const), node
        return self._const(node)

    def _const(self, node: Const) -> Value:
        known = self.constants.get(node)
        if known is None:
            known = self.constants[node] = self.scalar.constant(node.value, node.dtype)
        return known

    def _variable(self, s: Stmt, v: Var, frame: Frame) -> Value:
        known = frame.values.get(v)
        if known is not None:
            return known
        owner = self.owners.get(v)
        for ancestor, index in frame.chain():
            if owner is not None and owner[0] in ancestor.cells:
                cell = ancestor.cells[owner[0]][owner[1]]
                return Value(np.array(cell.array if index is None else cell.array[index]), v.dtype)
            known = ancestor.values.get(v)
            if known is not None:
                if known.array.ndim and index is not None:
                    known = Value(known.array[index], v.dtype)
                # Ancestors stand still while this frame lives: the value cannot change.
                frame.values[v] = known
                return known
        raise self._fail(s, f"the variable {v.name} has no value here")


def _int(value: int) -> Value:
    return Value(np.asarray(value, np.int64), int64)
