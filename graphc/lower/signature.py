"""Region signatures (floor 5): equal signatures have equal kernels, so each is lowered once.

A model repeats its layers: a thousand equal blocks are one lowering and one piece of machine code,
launched with other buffers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from graphc.base.dims import Shape
from graphc.base.dtypes import DType
from graphc.ir.node import Tensor, TensorType, TupleType, attr_key
from graphc.ir.text import value_text
from graphc.lower.elements import storage_root
from graphc.lower.kernel_builder import LoweredKernel, Shifted, Stored, Temporary, shifted
from graphc.lower.regions import Region
from graphc.ops.families import Constant

Signature = tuple[object, ...]
# A node by number, a slice by number, or a temporary by number.
_Arg = int | tuple[int] | tuple[int, Shape, DType]


class RegionKey:
    """The signature of a region and its nodes by number (members, views between, what is read from
    memory).
    """

    def __init__(self, region: Region, is_producer: Callable[[Tensor], bool]) -> None:
        self.nodes: list[Tensor] = []
        self.shifts: dict[int, Shifted] = {}
        self._numbers: dict[int, int] = {}
        self._members = {id(n) for n in region.nodes}
        self._is_producer = is_producer
        parts: list[object] = [region.kind, region.rows, region.domain]
        parts += [(s.kind, s.rows, s.domain, len(s.nodes)) for s in region.stages]
        for node in region.nodes:
            self._visit(node, parts)
        parts.append(tuple(self._numbers[id(n)] for n in region.outputs))
        self.signature: Signature = tuple(parts)

    def _visit(self, start: Tensor, parts: list[object]) -> None:
        stack: list[tuple[Tensor, bool]] = [(start, False)]
        while stack:
            node, expanded = stack.pop()
            if id(node) in self._numbers:
                continue
            inside = id(node) in self._members or not self._is_producer(node)
            if id(node) not in self._members and inside and self._slice(node, parts):
                continue
            if not inside or not node.inputs:
                self._leaf(node, parts)
            elif expanded:
                operands = tuple(self._numbers[id(i)] for i in node.inputs)
                parts.append((node.op.name, tuple(map(attr_key, node.attrs)), node.type, operands))
                self._number(node)
            else:
                stack.append((node, True))
                stack.extend((i, False) for i in reversed(node.inputs))

    def _slice(self, node: Tensor, parts: list[object]) -> bool:
        """A slice of memory: where it starts is no part of the code."""
        shift = shifted(node, self._members, self._is_producer)
        if shift is None:
            return False
        self.shifts[id(node)] = shift
        parts.append(("slice", node.attr("steps"), node.type, node.inputs[0].type))
        self._number(node)
        return True

    def _leaf(self, node: Tensor, parts: list[object]) -> None:
        if isinstance(node.op.form, Constant) and node.attr("value").stored.size == 1:
            parts.append((node.attr("value").digest, node.type))  # becomes a literal in the code
        elif not node.inputs and (id(node) in self._members or not self._is_producer(node)):
            parts.append((node.op.name, tuple(map(attr_key, node.attrs)), node.type))  # a generator
        else:
            root = storage_root(node)
            if root is not node and id(root) not in self._numbers:
                parts.append(("memory", root.dtype))
                self._number(root)
            parts.append(("read", node.type, self._numbers.get(id(root), -1)))
        self._number(node)

    def _number(self, node: Tensor) -> None:
        self._numbers[id(node)] = len(self.nodes)
        self.nodes.append(node)

    @property
    def digest(self) -> str:
        """The sha256 of the signature, the same in every process."""
        return hashlib.sha256(_text(self.signature).encode()).hexdigest()

    def number(self, stored: Stored) -> int | None:
        """The number of a node, None for what is not in the signature."""
        return self._numbers.get(id(stored.node if isinstance(stored, Shifted) else stored))


def _text(part: Any) -> str:
    if isinstance(part, tuple):
        return f"({' '.join(map(_text, part))})"
    if isinstance(part, type):
        return part.__name__
    is_type = isinstance(part, TensorType | TupleType)
    return str(part) if is_type else value_text(part, inline=0)


class LoweredRegions:
    """Kernels by signature."""

    def __init__(self) -> None:
        self._known: dict[Signature, list[tuple[LoweredKernel, tuple[_Arg, ...]]]] = {}
        self.reused = 0

    def get(self, key: RegionKey) -> list[LoweredKernel] | None:
        """The kernels of an equal region, with this region's buffers."""
        known = self._known.get(key.signature)
        if known is None:
            return None
        self.reused += 1
        temporaries: dict[int, Temporary] = {}
        result = []
        for lowered, args in known:
            stored: list[Stored] = []
            for arg in args:
                if isinstance(arg, int):
                    stored.append(key.nodes[arg])
                elif len(arg) == 1:
                    stored.append(key.shifts[id(key.nodes[arg[0]])])
                else:
                    stored.append(temporaries.setdefault(arg[0], Temporary(arg[1], arg[2])))
            result.append(LoweredKernel(lowered.kernel, tuple(stored), lowered.overwrites))
        return result

    def put(self, key: RegionKey, kernels: list[LoweredKernel]) -> None:
        """Remember kernels that check nothing (a check belongs to one node)."""
        temporaries: dict[int, int] = {}
        entries = []
        for lowered in kernels:
            args: list[_Arg] = []
            for stored in lowered.args:
                if isinstance(stored, Temporary):
                    number = temporaries.setdefault(id(stored), len(temporaries))
                    args.append((number, stored.shape, stored.dtype))
                    continue
                found = key.number(stored)
                if found is None:
                    return
                args.append((found,) if isinstance(stored, Shifted) else found)
            entries.append((lowered, tuple(args)))
        self._known[key.signature] = entries
