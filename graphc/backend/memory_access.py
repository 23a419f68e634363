"""Loads and stores (floor 6): which form each access takes, and its text.

In a vector loop an access whose offset is linear in the loop's variable with coefficient 1 is a vector
load; coefficient 0 is one scalar load, splat; anything else is a gather over per-lane pointers. A false
predicate never touches memory: uniform predicates redirect the pointer to a dummy slot, varying ones use
the target's masked instructions or redirect lane by lane. Alignment is that of one element.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphc.backend.llvm_types import (
    compute_type,
    is_literal,
    memory_type,
    splat_literal,
    suffix,
    vector_type,
)
from graphc.backend.values import NOTHING, Entry, ValueEmitter
from graphc.base.dtypes import DType
from graphc.loops.build import ZERO
from graphc.loops.index_math import flatten, linear_parts
from graphc.loops.nodes import Buffer, Expr, Load, Store

Indices = tuple[Expr, ...]
_ZEROS = frozenset(("0", "false", "0x0000000000000000"))


class MemoryEmitter(ValueEmitter):
    """Adds memory to the value emitter. `mutable`: buffers that the kernel writes."""

    mutable: frozenset[Buffer]
    _accesses: dict[object, tuple[Expr, Expr]]

    def pointer(self, buffer: Buffer) -> str:
        """The address of a buffer's first element, known in the outermost scope."""
        raise NotImplementedError

    def dummy(self) -> str:
        """The address of a slot that anything may be read from and written to."""
        raise NotImplementedError

    # -- access forms ---------------------------------------------------------------------------
    def access(self, shape_of: Buffer, indices: Indices) -> tuple[Expr, Expr]:
        """(coefficient, rest) of the flat offset over the vector variable.

        (0, offset) outside vector loops, and where the offset is not linear: `rest` then varies itself.
        """
        key = ("access", shape_of, indices, self.vector.var if self.vector else None)
        found = self._accesses.get(key)
        if found is None:
            offset = flatten(shape_of.shape, indices)
            parts = linear_parts(offset, self.vector.var) if self.vector else None
            found = self._accesses[key] = parts or (ZERO, offset)
        return found

    def operands(self, node: Expr) -> Iterable[Expr]:
        if not isinstance(node, Load):
            return node.args
        parts = self.access(node.buffer, node.indices)
        return (*parts, *node.args[-2:]) if node.predicated else parts

    def load(self, node: Load) -> Entry:
        coefficient, rest = (self.memo[x] for x in self.access(node.buffer, node.indices))
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
                name = self._load_scalar(node, rest, predicate, fill, level)
                return Entry((name,), 1, level, deps)
        return self._load_vector(node, coefficient, rest, predicate, fill, deps)

    def _load_scalar(
        self, node: Load, offset: Entry, predicate: Entry | None, fill: Entry | None, level: int
    ) -> str:
        dtype, base = node.dtype, self.pointer(node.buffer)
        e = self.at(level)
        t = memory_type(dtype)
        address = self._offset(t, base, offset.names[0])
        if predicate is not None:
            dummy = self.dummy()
            address = self.at(level).emit(
                f"select i1 {predicate.names[0]}, ptr {address}, ptr {dummy}"
            )
        e = self.at(level)
        value = e.from_memory(
            e.emit(f"load {t}, ptr {address}, align {dtype.itemsize}"), dtype, 1
        )
        if predicate is None or fill is None:
            return value
        return e.select(predicate.names[0], value, fill.names[0], dtype, 1)

    def _offset(self, t: str, base: str, offset: str) -> str:
        return base if offset == "0" else self.e.emit(f"getelementptr {t}, ptr {base}, i64 {offset}")

    def _load_vector(
        self,
        node: Load,
        coefficient: Entry,
        rest: Entry,
        predicate: Entry | None,
        fill: Entry | None,
        deps: frozenset[object],
    ) -> Entry:
        vector, dtype = self.vector, node.dtype
        assert vector is not None
        width, groups = vector.width, vector.groups
        masks = self._masks(predicate, width, groups)
        fills = None
        if fill is not None:
            fills = self.spread(fill, node.args[-1], width, groups)
        t = memory_type(dtype, width)
        names = []
        contiguous = coefficient.names[0] == "1" and rest.width == 1
        contiguous = contiguous and (masks is None or self._native_mask(dtype) or predicate is None)
        if contiguous:
            addresses = self._contiguous(node.buffer, rest)
        else:
            addresses = self._lane_addresses(node.buffer, coefficient, rest, masks)
        e = self.here()
        for group, address in enumerate(addresses):
            mask = None if masks is None else masks[group]
            if not contiguous:
                raw = self._gather(address, mask, dtype, width)
            elif mask is None:
                raw = e.emit(f"load {t}, ptr {address}, align {dtype.itemsize}")
            else:
                raw = e.emit(
                    f"call {t} @llvm.masked.load.{_memory_suffix(dtype, width)}.p0(ptr align "
                    f"{dtype.itemsize} {address}, {vector_type('i1', width)} {mask}, {t} zeroinitializer)"
                )
            value = e.from_memory(raw, dtype, width)
            if mask is not None and fills is not None and not _is_zero(fills[group]):
                value = e.select(mask, value, fills[group], dtype, width)
            names.append(value)
        return Entry(tuple(names), width, self.top, deps)

    def _masks(self, predicate: Entry | None, width: int, groups: int) -> tuple[str, ...] | None:
        if predicate is None:
            return None
        if predicate.width > 1:
            return predicate.names
        return (self.splat(predicate, "i1", width),) * groups

    def _native_mask(self, dtype: DType) -> bool:
        size = self.e.target.register_bytes
        return size >= 64 or (size >= 32 and dtype.bits >= 32)

    def _contiguous(self, buffer: Buffer, rest: Entry) -> list[str]:
        """The address of each group of a contiguous access; the invariant part is added outside."""
        vector = self.vector
        assert vector is not None
        t = memory_type(buffer.dtype)
        pointer = self.pointer(buffer)
        key = ("start", pointer, rest.names[0])
        start = self.memo.get(key)
        if start is None:
            self.at(rest.level)
            start = Entry((self._offset(t, pointer, rest.names[0]),), 1, rest.level)
            self._remember(key, start)
        key = ("row", start.names[0], vector.base)
        row = self.memo.get(key)
        if row is None:
            e = self.here()
            first = self._offset(t, start.names[0], vector.base)
            names = [first]
            for group in range(1, vector.groups):
                names.append(e.emit(f"getelementptr {t}, ptr {first}, i64 {group * vector.width}"))
            row = Entry(tuple(names), 1, self.top)
            self._remember(key, row)
        return list(row.names)

    def _lane_addresses(
        self, buffer: Buffer, coefficient: Entry, rest: Entry, masks: tuple[str, ...] | None
    ) -> list[str]:
        """A vector of pointers per group, redirected where a mask without native support is false."""
        vector = self.vector
        assert vector is not None
        width, t = vector.width, vector_type("i64", vector.width)
        offsets = self._lane_offsets(coefficient, rest)
        pointer, dummy = self.pointer(buffer), self.dummy() if masks is not None else ""
        redirect = masks is not None and not self._native_gather(buffer.dtype)
        e = self.here()
        addresses = []
        for group, offset in enumerate(offsets):
            pointers = e.emit(f"getelementptr {memory_type(buffer.dtype)}, ptr {pointer}, {t} {offset}")
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
        coefficient, rest = (self.value(x) for x in self.access(buffer, stmt.indices))
        scalar = coefficient.names[0] == "0" and rest.width == 1
        if self.vector is None or (scalar and (predicate is None or predicate.width == 1)):
            self._store_scalar(stmt, value, rest, predicate)
        else:
            self._store_vector(stmt, value, coefficient, rest, predicate)
        self.buffer_level[buffer] = self.top
        self.invalidate(buffer)
        assert dtype is stmt.value.dtype

    def _store_scalar(
        self, stmt: Store, value: Entry, offset: Entry, predicate: Entry | None
    ) -> None:
        dtype, pointer = stmt.buffer.dtype, self.pointer(stmt.buffer)
        dummy = self.dummy() if predicate is not None else ""
        e = self.here()
        name, t = value.names[-1], memory_type(dtype)
        if value.width > 1:
            # Every lane stores to one place: the last one stays.
            kind = compute_type(dtype, value.width)
            name = e.emit(f"extractelement {kind} {name}, i64 {value.width - 1}")
        address = self._offset(t, pointer, offset.names[0])
        if predicate is not None:
            address = e.emit(f"select i1 {predicate.names[0]}, ptr {address}, ptr {dummy}")
        e.do(f"store {t} {e.to_memory(name, dtype, 1)}, ptr {address}, align {dtype.itemsize}")

    def _store_vector(
        self, stmt: Store, value: Entry, coefficient: Entry, rest: Entry, predicate: Entry | None
    ) -> None:
        vector, dtype = self.vector, stmt.buffer.dtype
        assert vector is not None
        width, groups = vector.width, vector.groups
        values = self.spread(value, stmt.value, width, groups)
        masks = self._masks(predicate, width, groups)
        contiguous = coefficient.names[0] == "1" and rest.width == 1
        contiguous = contiguous and (masks is None or self._native_mask(dtype))
        if contiguous:
            addresses = self._contiguous(stmt.buffer, rest)
        else:
            addresses = self._lane_addresses(stmt.buffer, coefficient, rest, masks)
        e, t, m = self.here(), memory_type(dtype, width), vector_type("i1", width)
        for group, address in enumerate(addresses):
            stored = e.to_memory(values[group], dtype, width)
            if contiguous and masks is None:
                e.do(f"store {t} {stored}, ptr {address}, align {dtype.itemsize}")
            elif contiguous and masks is not None:
                e.do(
                    f"call void @llvm.masked.store.{_memory_suffix(dtype, width)}.p0({t} {stored}, "
                    f"ptr align {dtype.itemsize} {address}, {m} {masks[group]})"
                )
            else:
                native = masks is not None and self._native_gather(dtype)
                active = masks[group] if masks and native else splat_literal("true", "i1", width)
                e.do(
                    f"call void @llvm.masked.scatter.{_memory_suffix(dtype, width)}.v{width}p0({t} {stored}, "
                    f"<{width} x ptr> align {dtype.itemsize} {address}, {m} {active})"
                )


def _memory_suffix(dtype: DType, width: int) -> str:
    return suffix(memory_type(dtype), width)


def _is_zero(name: str) -> bool:
    """Whether an operand is the literal whose bits are all zero."""
    return is_literal(name) and name.strip("splat()").rpartition(" ")[2] in _ZEROS

