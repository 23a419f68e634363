"""Loads and stores (floor 6): which form each access takes, and its text.

In a vector loop an access whose offset is linear in the loop's variable with coefficient 1 is a
vector load, with -1 a vector load reversed, with 2 to 4 as many vector loads and what is wanted of
them; coefficient 0 is one scalar load, splat; where 2, 4 or 8 lanes read the same element, a
shorter vector spread; anything else is a gather over per-lane pointers. Stores likewise, those with
2 to 4 by masks. The constant part of an offset is added last: accesses to neighbouring rows share
one address and differ in the displacement of their instructions. A false predicate never touches
memory: uniform predicates redirect the pointer to a dummy slot, varying ones use the target's
masked instructions or redirect lane by lane. Alignment is that of one element.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping

from graphc.backend import strides
from graphc.backend.llvm_types import (
    compute_type,
    is_literal,
    memory_type,
    splat_literal,
    suffix,
    vector_type,
)
from graphc.backend.values import NOTHING, Entry, ValueEmitter
from graphc.base.dtypes import DType, int64
from graphc.base.order import topological
from graphc.loops.build import ZERO
from graphc.loops.index_math import (
    flatten,
    linear_parts,
    repeated_parts,
    without_constants,
)
from graphc.loops.nodes import Buffer, Expr, Load, Store, Var

Indices = tuple[Expr, ...]
# coefficient, rest, displacement: the flat offset is their sum, the first times the lane's index
Access = tuple[Expr, Expr, int]
# rest, displacement, count: each element is read by `count` neighbouring lanes
Repeated = tuple[Expr, int, int]
Place = tuple[str, int]  # an address and a displacement from it, in elements
_ZEROS = frozenset(("0", "false", "0x0000000000000000"))
_STRIDES = ("2", "3", "4")  # a load and a shuffle each; a gather costs as much as 8 lanes or more


class MemoryEmitter(ValueEmitter):
    """Adds memory to the value emitter. `mutable`: buffers that the kernel writes; `ahead`: loads
    ahead of which lines are asked for, and by how many bytes.
    """

    mutable: frozenset[Buffer]
    ahead: Mapping[Load, int]
    line_mark = ""  # of stores that write whole lines past the caches; else empty
    _accesses: dict[object, Access]
    _repeated: dict[object, Repeated | None]

    @abstractmethod
    def pointer(self, buffer: Buffer) -> str:
        """The address of a buffer's first element, known in the outermost scope."""

    @abstractmethod
    def dummy(self) -> str:
        """The address of a slot that anything may be read from and written to."""

    # -- access forms ---------------------------------------------------------------------------
    def access(self, shape_of: Buffer, indices: Indices) -> Access:
        """(coefficient, rest, displacement) of the flat offset over the vector variable.

        Coefficient 0 outside vector loops, and where the offset is not linear: `rest` then varies
        itself.
        """
        key = ("access", shape_of, indices, self.vector.var if self.vector else None)
        found = self._accesses.get(key)
        if found is None:
            varying, displacement = without_constants(shape_of.shape, indices)
            offset = flatten(shape_of.shape, varying)
            parts = linear_parts(offset, self.vector.var) if self.vector else None
            found = self._accesses[key] = (*(parts or (ZERO, offset)), displacement)
        return found

    def operands(self, node: Expr) -> Iterable[Expr]:
        if not isinstance(node, Load):
            return node.args
        repeated = self.repeated(node)
        if repeated is not None:
            return repeated[:1]
        coefficient, rest, _ = self.access(node.buffer, node.indices)
        return (coefficient, rest, *node.args[-2:]) if node.predicated else (coefficient, rest)

    def repeated(self, node: Load) -> Repeated | None:
        """How a load whose offset is rest + lane // count, with a count that divides the lanes,
        reads its elements; None for others.
        """
        vector = self.vector
        if vector is None or node.predicated:
            return None
        key = ("repeated", node.buffer, node.indices, vector.var)
        if key not in self._repeated:
            found = None
            if self.access(node.buffer, node.indices)[0] is ZERO:
                varying, displacement = without_constants(node.buffer.shape, node.indices)
                parts = repeated_parts(flatten(node.buffer.shape, varying), vector.var)
                if parts is not None and self._is_uniform(parts[0]):
                    found = parts[0], displacement, parts[1]
            self._repeated[key] = found
        known = self._repeated[key]
        # Lanes of a vector start at multiples of its width.
        return known if known is not None and vector.width % known[2] == 0 else None

    def _is_uniform(self, index: Expr) -> bool:
        """Whether all variables of an index are the same in all lanes."""
        nodes = topological((index,), lambda e: e.args)
        return not any(
            isinstance(n, Load) or (isinstance(n, Var) and self.memo[n].width > 1) for n in nodes
        )

    def load(self, node: Load) -> Entry:
        repeated = self.repeated(node)
        if repeated is not None:
            return self._load_repeated(node, repeated)
        factor, offset, displacement = self.access(node.buffer, node.indices)
        coefficient, rest = self.memo[factor], self.memo[offset]
        predicate = self.memo[node.args[-2]] if node.predicated else None
        fill = self.memo[node.args[-1]] if node.predicated else None
        written = node.buffer in self.mutable
        scope = self.scopes[-1]
        level = max(
            scope.load_floor if predicate is None else scope.floor,
            self.buffer_level.get(node.buffer, 0) if written else 0,
        )
        deps = frozenset((node.buffer,)) if written else NOTHING
        for entry in (coefficient, rest, predicate, fill):
            if entry is not None:
                level = max(level, entry.level)
                deps |= entry.deps
        if self.vector is None or (coefficient.names[0] == "0" and rest.width == 1):
            uniform = predicate is None or predicate.width == 1
            if uniform and (fill is None or fill.width == 1):
                place = self._address(node.buffer, rest), displacement
                name = self._load_scalar(node, place, predicate, fill, level)
                return Entry((name,), 1, level, deps)
        return self._load_vector(node, (coefficient, rest, displacement), predicate, fill, deps)

    def _load_repeated(self, node: Load, repeated: Repeated) -> Entry:
        """Per group width / count elements, each for `count` lanes."""
        vector, dtype, (offset, displacement, count) = self.vector, node.dtype, repeated
        assert vector is not None
        rest, width = self.memo[offset], vector.width
        few = width // count
        t, start = memory_type(dtype), self._address(node.buffer, rest)
        e = self.here()
        row = self._offset(t, start, e.op("floordiv", int64, 1, vector.base, str(count)))
        mask = None
        if vector.mask and few > 1:  # the first lane of a tail always exists
            mask = self.tail_mask(few, share=count)
        names = []
        for group in range(vector.groups):
            address = self._offset(t, row, str(displacement + group * few))
            raw = self._load_row(address, mask, dtype, few)
            e, kind = self.here(), memory_type(dtype, few)
            order = ", ".join(f"i32 {lane // count}" for lane in range(width))
            spread = f"shufflevector {kind} {raw}, {kind} poison, <{width} x i32> <{order}>"
            names.append(e.splat(raw, t, width) if few == 1 else e.emit(spread))
        deps = frozenset((node.buffer,)) if node.buffer in self.mutable else NOTHING
        values = tuple(self.here().from_memory(raw, dtype, width) for raw in names)
        return Entry(values, width, self.top, deps | rest.deps)

    def _load_scalar(
        self,
        node: Load,
        place: Place,
        predicate: Entry | None,
        fill: Entry | None,
        level: int,
    ) -> str:
        dtype = node.dtype
        e = self.at(level)
        t = memory_type(dtype)
        address = self._offset(t, place[0], str(place[1]))
        if predicate is not None:
            dummy = self.dummy()
            address = self.at(level).emit(
                f"select i1 {predicate.names[0]}, ptr {address}, ptr {dummy}"
            )
        e = self.at(level)
        value = e.from_memory(e.emit(f"load {t}, ptr {address}, align {dtype.itemsize}"), dtype, 1)
        if predicate is None or fill is None:
            return value
        return e.select(predicate.names[0], value, fill.names[0], dtype, 1)

    def _offset(self, t: str, base: str, offset: str) -> str:
        return (
            base if offset == "0" else self.e.emit(f"getelementptr {t}, ptr {base}, i64 {offset}")
        )

    def _load_vector(
        self,
        node: Load,
        access: tuple[Entry, Entry, int],
        predicate: Entry | None,
        fill: Entry | None,
        deps: frozenset[object],
    ) -> Entry:
        vector, dtype = self.vector, node.dtype
        assert vector is not None
        coefficient, rest, displacement = access
        width, groups = vector.width, vector.groups
        fills = None
        if fill is not None:
            fills = self.spread(fill, node.args[-1], width, groups)
        masks = self._masks(predicate, width, groups)
        contiguous = coefficient.names[0] == "1" and rest.width == 1
        native = masks is None or self._native_mask(dtype)
        names = []
        if contiguous and (native or predicate is None):
            addresses = self._contiguous(node.buffer, rest, displacement)
            if masks is None and node in self.ahead:
                for address in addresses:
                    self.fetch(self._offset("i8", address, str(self.ahead[node])))
            for group, address in enumerate(addresses):
                if native:
                    names.append(self._load_row(address, _mask_of(masks, group), dtype, width))
                else:
                    names.append(self._load_first(address, dtype, width))
        elif masks is None and coefficient.names[0] == "-1" and rest.width == 1:
            for address in self._backwards(node.buffer, rest, displacement):
                names.append(self._reversed(self._load_row(address, None, dtype, width), dtype))
        elif predicate is None and native and coefficient.names[0] in _STRIDES and rest.width == 1:
            names = self._strided(node.buffer, access)
        else:
            addresses = self._lane_addresses(node.buffer, access, masks)
            for group, address in enumerate(addresses):
                names.append(self._gather(address, _mask_of(masks, group), dtype, width))
        e = self.here()
        values = [e.from_memory(raw, dtype, width) for raw in names]
        if masks is not None and fills is not None:
            # Native masked loads leave zeros; redirected lanes hold whatever the dummy slot holds.
            zeroed = native if contiguous else self._native_gather(dtype)
            values = [
                x if zeroed and _is_zero(f) else e.select(m, x, f, dtype, width)
                for m, x, f in zip(masks, values, fills, strict=True)
            ]
        return Entry(tuple(values), width, self.top, deps)

    def fetch(self, address: str) -> None:
        """Ask for the line of an address, which need not exist, to be read, into all levels."""
        self.here().do(f"call void @llvm.prefetch.p0(ptr {address}, i32 0, i32 3, i32 1)")

    def _load_row(self, address: str, mask: str | None, dtype: DType, width: int) -> str:
        t, e = memory_type(dtype, width), self.here()
        if mask is None:
            return e.emit(f"load {t}, ptr {address}, align {dtype.itemsize}")
        return e.emit(
            f"call {t} @llvm.masked.load.{_memory_suffix(dtype, width)}.p0(ptr align "
            f"{dtype.itemsize} {address}, {vector_type('i1', width)} {mask}, {t} zeroinitializer)"
        )

    def _load_first(self, address: str, dtype: DType, width: int) -> str:
        """The existing lanes of a tail, for targets without masked loads: copied one by one."""
        t, scalar = memory_type(dtype, width), memory_type(dtype)
        slot = self.slot(scalar, width)
        self.here().do(f"store {t} zeroinitializer, ptr {slot}, align {dtype.itemsize}")
        self._copy(address, slot, scalar, dtype.itemsize)
        return self.here().emit(f"load {t}, ptr {slot}, align {dtype.itemsize}")

    def _copy(self, source: str, to: str, scalar: str, align: int) -> None:
        assert self.vector is not None

        def body(k: str) -> None:
            e = self.here()
            a = e.emit(f"getelementptr {scalar}, ptr {source}, i64 {k}")
            b = e.emit(f"getelementptr {scalar}, ptr {to}, i64 {k}")
            x = e.emit(f"load {scalar}, ptr {a}, align {align}")
            e.do(f"store {scalar} {x}, ptr {b}, align {align}")

        self.counted_loop(self.vector.count, body)

    @abstractmethod
    def slot(self, scalar: str, width: int) -> str:
        """Stack memory for one vector."""

    @abstractmethod
    def counted_loop(self, count: str, body: Callable[[str], None]) -> None:
        """A loop that changes nothing the kernel knows of; count > 0."""

    def _masks(self, predicate: Entry | None, width: int, groups: int) -> tuple[str, ...] | None:
        """The lanes of each group that may touch memory; None: all."""
        tail = self.vector.mask if self.vector else ""
        if predicate is None:
            return (tail,) if tail else None
        if predicate.width > 1:
            masks = predicate.names
        else:
            masks = (self.splat(predicate, "i1", width),) * groups
        if not tail:
            return masks
        m = vector_type("i1", width)
        return tuple([self.here().emit(f"and {m} {mask}, {tail}") for mask in masks])

    def _native_mask(self, dtype: DType) -> bool:
        size = self.e.target.register_bytes
        return size >= 64 or (size >= 32 and dtype.bits >= 32)

    def _address(self, buffer: Buffer, rest: Entry) -> str:
        """The address of a uniform offset, written once, where the offset itself is known."""
        pointer = self.pointer(buffer)
        if rest.names[0] == "0":
            return pointer
        key = ("start", pointer, rest.names[0])
        start = self.memo.get(key)
        if start is None:
            self.at(rest.level)
            address = self._offset(memory_type(buffer.dtype), pointer, rest.names[0])
            start = Entry((address,), 1, rest.level)
            self._remember(key, start)
        return start.names[0]

    def _contiguous(self, buffer: Buffer, rest: Entry, displacement: int) -> list[str]:
        """The address of each group of a contiguous access; the invariant part is added outside."""
        vector = self.vector
        assert vector is not None
        t, start = memory_type(buffer.dtype), self._address(buffer, rest)
        key = ("row", start, vector.base)
        row = self.memo.get(key)
        if row is None:
            self.here()
            row = Entry((self._offset(t, start, vector.base),), 1, self.top)
            self._remember(key, row)
        every = ("groups", row.names[0], displacement)
        found = self.memo.get(every)
        if found is None:
            self.here()
            places = [displacement + group * vector.width for group in range(vector.groups)]
            found = Entry(tuple(self._offset(t, row.names[0], str(p)) for p in places), 1, self.top)
            self._remember(every, found)
        return list(found.names)

    def _backwards(self, buffer: Buffer, rest: Entry, displacement: int) -> list[str]:
        """The lowest address of each group of an access that steps back by one element a lane."""
        vector = self.vector
        assert vector is not None
        t, start = memory_type(buffer.dtype), self._address(buffer, rest)
        row = self._offset(t, start, self.here().op("sub", int64, 1, "0", vector.base))
        lowest = [displacement - (group + 1) * vector.width + 1 for group in range(vector.groups)]
        return [self._offset(t, row, str(place)) for place in lowest]

    def _reversed(self, value: str, dtype: DType) -> str:
        """The lanes of a vector as it is in memory, last first."""
        assert self.vector is not None
        width = self.vector.width
        t = memory_type(dtype, width)
        lanes = ", ".join(f"i32 {lane}" for lane in reversed(range(width)))
        return self.here().emit(f"shufflevector {t} {value}, {t} poison, <{width} x i32> <{lanes}>")

    def _strided(self, buffer: Buffer, access: tuple[Entry, Entry, int]) -> list[str]:
        """Per group every s-th element, s = 2, 3 or 4, by s loads that end where the last lane's
        element does, and a shuffle for each but the first.
        """
        vector, dtype = self.vector, buffer.dtype
        assert vector is not None
        coefficient, rest, displacement = access
        stride, width, t = int(coefficient.names[0]), vector.width, memory_type(dtype)
        row = self._strided_row(buffer, rest, stride)
        starts = [k * width for k in range(stride)]
        masks: list[str] | None = None
        if vector.mask:
            masks = [self.tail_mask(width, stride, first) for first in starts]
        else:
            starts[-1] = stride * (width - 1) + 1 - width
        names = []
        for group in range(vector.groups):
            place = displacement + group * width * stride
            parts = []
            for k, first in enumerate(starts):
                address = self._offset(t, row, str(place + first))
                parts.append(self._load_row(address, masks[k] if masks else None, dtype, width))
            names.append(self._every(parts, starts, stride, dtype))
        return names

    def _strided_row(self, buffer: Buffer, rest: Entry, stride: int) -> str:
        """The address of the first lane's element where the offset is rest + stride * lane."""
        vector, start = self.vector, self._address(buffer, rest)
        assert vector is not None
        key = ("row", start, vector.base, stride)
        row = self.memo.get(key)
        if row is None:
            step = self.here().op("mul", int64, 1, vector.base, str(stride))
            row = Entry((self._offset(memory_type(buffer.dtype), start, step),), 1, self.top)
            self._remember(key, row)
        return row.names[0]

    def _store_strided(
        self, buffer: Buffer, access: tuple[Entry, Entry, int], names: list[str]
    ) -> None:
        """Per group as many stores as the stride, each of the lanes that lie there."""
        vector, dtype = self.vector, buffer.dtype
        assert vector is not None
        stride, width = int(access[0].names[0]), vector.width
        row, t = self._strided_row(buffer, access[1], stride), memory_type(dtype, width)
        for group, name in enumerate(names):
            for k in range(stride):
                order, mask = strides.scattered(width, stride, k)
                place = access[2] + (group * stride + k) * width
                address = self._offset(memory_type(dtype), row, str(place))
                moved = self.here().emit(f"shufflevector {t} {name}, {t} poison, {order}")
                self._store_row(moved, address, mask, dtype, width)

    def _every(self, parts: list[str], starts: list[int], stride: int, dtype: DType) -> str:
        """The elements 0, stride, 2 * stride, … of what vectors from `starts` on hold."""
        assert self.vector is not None
        width, e = self.vector.width, self.here()
        t = memory_type(dtype, width)
        whole = parts[0]
        for k in range(1, stride):
            order = strides.gathered(width, starts, stride, k)
            whole = e.emit(f"shufflevector {t} {whole}, {t} {parts[k]}, {order}")
        return whole

    def _lane_addresses(
        self,
        buffer: Buffer,
        access: tuple[Entry, Entry, int],
        masks: tuple[str, ...] | None,
    ) -> list[str]:
        """A vector of pointers per group; masked-out lanes point elsewhere for emulated gathers."""
        vector = self.vector
        assert vector is not None
        width, t = vector.width, vector_type("i64", vector.width)
        coefficient, rest, displacement = access
        offsets = self._lane_offsets(coefficient, rest)
        dummy = self.dummy() if masks is not None else ""
        redirect = masks is not None and not self._native_gather(buffer.dtype)
        pointer = self.pointer(buffer)
        e = self.here()
        pointer = self._offset(memory_type(buffer.dtype), pointer, str(displacement))
        addresses = []
        for group, offset in enumerate(offsets):
            pointers = e.emit(
                f"getelementptr {memory_type(buffer.dtype)}, ptr {pointer}, {t} {offset}"
            )
            if redirect and masks is not None:
                nowhere = e.splat(dummy, "ptr", width)
                pointers = e.choose(masks[group], pointers, nowhere, "ptr", width)
            addresses.append(pointers)
        return addresses

    def _lane_offsets(self, coefficient: Entry, rest: Entry) -> list[str]:
        vector = self.vector
        assert vector is not None
        width, groups = vector.width, vector.groups
        rests = rest.names if rest.width > 1 else (self.splat(rest, "i64", width),) * groups
        if coefficient.names[0] == "0":
            return list(rests)
        lanes = self.value(vector.var).names
        factor = self.splat(coefficient, "i64", width)
        e = self.here()
        t = vector_type("i64", width)
        result = []
        for lane, start in zip(lanes, rests, strict=True):
            scaled = lane if coefficient.names[0] == "1" else e.emit(f"mul {t} {lane}, {factor}")
            result.append(e.emit(f"add {t} {scaled}, {start}"))
        return result

    def _native_gather(self, dtype: DType) -> bool:
        return self.e.target.register_bytes >= 32 and dtype.bits >= 32

    def _gather(self, pointers: str, mask: str | None, dtype: DType, width: int) -> str:
        t, m = memory_type(dtype, width), vector_type("i1", width)
        active = mask if mask and self._native_gather(dtype) else splat_literal("true", "i1", width)
        return self.e.emit(
            f"call {t} @llvm.masked.gather.{_memory_suffix(dtype, width)}.v{width}p0("
            f"<{width} x ptr> align {dtype.itemsize} {pointers}, {m} {active}, {t} zeroinitializer)"
        )

    # -- stores ---------------------------------------------------------------------------------
    def store(self, stmt: Store) -> None:
        """Write a store at the current place."""
        buffer, dtype = stmt.buffer, stmt.buffer.dtype
        value = self.value(stmt.value)
        predicate = None if stmt.predicate is None else self.value(stmt.predicate)
        factor, offset, displacement = self.access(buffer, stmt.indices)
        coefficient, rest = self.value(factor), self.value(offset)
        scalar = coefficient.names[0] == "0" and rest.width == 1
        if self.vector is None or (scalar and (predicate is None or predicate.width == 1)):
            self._store_scalar(stmt, value, (self._address(buffer, rest), displacement), predicate)
        else:
            self._store_vector(stmt, value, (coefficient, rest, displacement), predicate)
        self.buffer_level[buffer] = self.top
        self.invalidate(buffer)
        assert dtype is stmt.value.dtype

    def _store_scalar(
        self, stmt: Store, value: Entry, place: Place, predicate: Entry | None
    ) -> None:
        dtype = stmt.buffer.dtype
        dummy = self.dummy() if predicate is not None else ""
        e = self.here()
        name, t = value.names[-1], memory_type(dtype)
        if value.width > 1:
            # Every lane stores to one place: the last one stays.
            kind, last = compute_type(dtype, value.width), str(value.width - 1)
            if self.vector is not None and self.vector.mask:
                last = e.op("sub", int64, 1, self.vector.count, "1")
            name = e.emit(f"extractelement {kind} {name}, i64 {last}")
        address = self._offset(t, place[0], str(place[1]))
        if predicate is not None:
            address = e.emit(f"select i1 {predicate.names[0]}, ptr {address}, ptr {dummy}")
        e.do(f"store {t} {e.to_memory(name, dtype, 1)}, ptr {address}, align {dtype.itemsize}")

    def _store_vector(
        self,
        stmt: Store,
        value: Entry,
        access: tuple[Entry, Entry, int],
        predicate: Entry | None,
    ) -> None:
        vector, dtype = self.vector, stmt.buffer.dtype
        assert vector is not None
        coefficient, rest, displacement = access
        width, groups = vector.width, vector.groups
        values = self.spread(value, stmt.value, width, groups)
        masks = self._masks(predicate, width, groups)
        contiguous = coefficient.names[0] == "1" and rest.width == 1
        native = masks is None or self._native_mask(dtype)
        e = self.here()
        stored = [e.to_memory(x, dtype, width) for x in values]
        if predicate is not None and vector.mask:
            native = False  # a mask that may fold to one lane: see `_store_row`
        if contiguous and (native or predicate is None):
            for group, address in enumerate(self._contiguous(stmt.buffer, rest, displacement)):
                if native:
                    self._store_row(stored[group], address, _mask_of(masks, group), dtype, width)
                else:
                    self._store_first(stored[group], address, dtype, width)
            return
        # Two lanes at least in each part: see `_store_row`.
        known = coefficient.names[0] in _STRIDES and width >= 2 * int(coefficient.names[0])
        if masks is None and known and rest.width == 1 and self._native_mask(dtype):
            self._store_strided(stmt.buffer, access, stored)
            return
        addresses = self._lane_addresses(stmt.buffer, access, masks)
        t, m = memory_type(dtype, width), vector_type("i1", width)
        native = masks is not None and self._native_gather(dtype)
        e = self.here()
        for group, address in enumerate(addresses):
            active = masks[group] if masks and native else splat_literal("true", "i1", width)
            e.do(
                f"call void @llvm.masked.scatter.{_memory_suffix(dtype, width)}.v{width}p0({t} "
                f"{stored[group]}, <{width} x ptr> align {dtype.itemsize} {address}, {m} {active})"
            )

    def _store_row(
        self, value: str, address: str, mask: str | None, dtype: DType, width: int
    ) -> None:
        t, e = memory_type(dtype, width), self.here()
        if mask is None:
            e.do(f"store {t} {value}, ptr {address}, {self.line_mark or f'align {dtype.itemsize}'}")
            return
        if self.vector is not None and self.vector.count == "1":
            # LLVM up to 22.1 writes a truncated vector at its full width where the mask is one
            # constant lane (llvm issue 179489): memory behind the element would be overwritten.
            first = e.emit(f"extractelement {t} {value}, i64 0")
            scalar = memory_type(dtype)
            e.do(f"store {scalar} {first}, ptr {address}, align {dtype.itemsize}")
            return
        e.do(
            f"call void @llvm.masked.store.{_memory_suffix(dtype, width)}.p0({t} {value}, "
            f"ptr align {dtype.itemsize} {address}, {vector_type('i1', width)} {mask})"
        )

    def _store_first(self, value: str, address: str, dtype: DType, width: int) -> None:
        """The existing lanes of a tail, for targets without masked stores: copied one by one."""
        t, scalar = memory_type(dtype, width), memory_type(dtype)
        slot = self.slot(scalar, width)
        self.here().do(f"store {t} {value}, ptr {slot}, align {dtype.itemsize}")
        self._copy(slot, address, scalar, dtype.itemsize)


def _mask_of(masks: tuple[str, ...] | None, group: int) -> str | None:
    """The mask of a group, None where all lanes are active."""
    return None if masks is None else masks[group]


def _memory_suffix(dtype: DType, width: int) -> str:
    return suffix(memory_type(dtype), width)


def _is_zero(name: str) -> bool:
    """Whether an operand is the literal whose bits are all zero."""
    return is_literal(name) and name.strip("splat()").rpartition(" ")[2] in _ZEROS
