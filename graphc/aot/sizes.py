"""Where the bytes of a library are (floor 8): per kernel, with the names of what it computes.

Read from the object itself, so that the report cannot drift from what the compiler made. Invariant:
the parts of a section and its remainder (constants without a name, padding) add up to its size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.aot.dispatch import dispatch_text
from graphc.aot.elf import Section, Symbol, read_object
from graphc.aot.module import Module
from graphc.aot.pool import pool_text
from graphc.base.errors import FormatError, message

_MOST_ROWS = 24  # of a table; `to_dict` has all
_MOST_NODES = 4  # of a row
_ALL_SETS = "all"
_SET = re.compile(r"graphc\.(\d+)\.(.+)")
_KERNEL = re.compile(r"kernel\.(\d+)")
_DATA = re.compile(r"graphc\.data\.(\d+)")
_DEFINED = re.compile(r"^define internal \w+ @([\w.]+)\(", re.MULTILINE)
_CALLS = ("part.", "body.", "step.", "run.", "entry", "launch", "copy", "arena_bytes")
_TABLES = {
    "graphc.message.": "messages",
    "graphc.isa.": "messages",
    "graphc.weights.": "header of the weights file",
}


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes with one purpose.

    set: the instruction set that it is for, or "all"; kind: "kernel", "math", "calls" (of the
    kernels), "wrapper", "dispatch", "pool", "table" or "rest"; nodes: what a kernel computes, by
    names of the optimized graph; launches: how many times a call of the library runs it.
    """

    bytes: int
    set: str
    kind: str
    name: str
    section: str
    nodes: tuple[str, ...] = ()
    launches: int = 0

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        found: dict[str, Any] = {
            "bytes": self.bytes,
            "set": self.set,
            "kind": self.kind,
            "name": self.name,
            "section": self.section,
        }
        if self.kind == "kernel":
            found |= {"nodes": list(self.nodes), "launches": self.launches}
        return found


@dataclass(frozen=True, slots=True)
class SizeReport:
    """The bytes of a library's object.

    parts: code and tables, the largest first; weights: name and bytes of each value inside, the
    largest first; sections: bytes of those that are loaded; external_bytes: the weights file;
    memory_bytes: zeros that the library has in memory and not in its file.
    """

    name: str
    object_bytes: int
    sets: tuple[str, ...]
    parts: tuple[Part, ...]
    weights: tuple[tuple[str, int], ...]
    sections: tuple[tuple[str, int], ...]
    code_bytes: int
    table_bytes: int
    external_bytes: int
    memory_bytes: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of variables and constants inside of the library."""
        return sum(size for _, size in self.weights)

    def set_bytes(self, name: str) -> int:
        """Bytes of the functions of one instruction set; "all": of those that all share."""
        return sum(p.bytes for p in self.parts if p.set == name and p.kind not in ("table", "rest"))

    @property
    def text(self) -> str:
        """Totals and a table, the largest part first, weights apart."""
        per_set = [f"{s} {bytes_text(self.set_bytes(s))}" for s in (*self.sets, _ALL_SETS)]
        line = (
            f"{self.name}: code {bytes_text(self.code_bytes)} ({', '.join(per_set)}), "
            f"tables {bytes_text(self.table_bytes)}, weights {bytes_text(self.weight_bytes)}"
        )
        if self.external_bytes:
            line += f" and {bytes_text(self.external_bytes)} in a file"
        rows = [
            (str(p.bytes), p.set, p.kind, p.name, _nodes(p), "" if p.launches < 2 else p.launches)
            for p in self.parts
        ]
        heads = ("bytes", "set", "part", "name", "computes", "launches")
        lines = [line, "", *_table(heads, rows, [p.bytes for p in self.parts])]
        if self.weights:
            values = [(str(size), name) for name, size in self.weights]
            sizes = [size for _, size in self.weights]
            lines += ["", *_table(("bytes", "weights"), values, sizes)]
        sections = ", ".join(f"{name} {size}" for name, size in self.sections)
        lines += ["", f"  sections: {sections}"]
        lines += [f"  memory besides the file: {bytes_text(self.memory_bytes)}"]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "object_bytes": self.object_bytes,
            "code_bytes": self.code_bytes,
            "table_bytes": self.table_bytes,
            "weight_bytes": self.weight_bytes,
            "external_bytes": self.external_bytes,
            "memory_bytes": self.memory_bytes,
            "sets": {name: self.set_bytes(name) for name in (*self.sets, _ALL_SETS)},
            "sections": dict(self.sections),
            "parts": [part.describe() for part in self.parts],
            "weights": [{"name": name, "bytes": size} for name, size in self.weights],
        }


def bytes_text(count: int) -> str:
    """`1.5 MB`, in powers of ten."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"


def size_report(content: bytes, module: Module) -> SizeReport:
    """Where the bytes of `content`, the object of `module`, are. Raises FormatError where it is no
    object of that module.
    """
    sections, symbols = read_object(content)
    sort = _Sorting(module)
    names = list(module.weights.sizes)
    parts: dict[Part, int] = {}
    weights: list[tuple[str, int]] = []
    left = [section.size for section in sections]
    for symbol in symbols:
        section = sections[symbol.section]
        left[symbol.section] -= symbol.size
        if not section.loaded or not section.stored:
            continue
        data = _DATA.fullmatch(symbol.name)
        if data:
            weights.append((_value_name(names, int(data[1])), symbol.size))
        else:
            part = sort.part(symbol, section)
            parts[part] = parts.get(part, 0) + symbol.size
    kept = [(k, s) for k, s in enumerate(sections) if s.loaded and s.size]
    for k, section in kept:
        if left[k] < 0:
            raise FormatError(message(f"symbols overlap in section {section.name}", at=""))
        if section.stored and left[k]:
            parts[_rest(section)] = left[k]
    found = [_sized(part, size) for part, size in parts.items()]
    stored = [s for _, s in kept if s.stored]
    code = sum(s.size for s in stored if s.code)
    weights.sort(key=lambda item: (-item[1], item[0]))
    return SizeReport(
        module.interface.name,
        len(content),
        tuple(t.name for t in module.targets),
        tuple(sorted(found, key=lambda p: (-p.bytes, p.set, p.kind, p.name, p.section))),
        tuple(weights),
        tuple((s.name, s.size) for _, s in kept),
        code,
        sum(s.size for s in stored) - code - sum(size for _, size in weights),
        module.weights.end,
        sum(s.size for _, s in kept if not s.stored),
    )


def _sized(part: Part, size: int) -> Part:
    return Part(size, part.set, part.kind, part.name, part.section, part.nodes, part.launches)


def _rest(section: Section) -> Part:
    """What no symbol of a section covers."""
    if section.code:
        name = "padding between functions"
    elif section.name.startswith(".eh_frame"):
        name = "unwind tables"
    else:
        name = "constants of the code, padding"
    return Part(0, _ALL_SETS, "rest", f"{name} ({section.name})", section.name)


def _value_name(names: Sequence[str], number: int) -> str:
    if number >= len(names):
        raise FormatError(message(f"the object holds value {number} of {len(names)}", at=""))
    return names[number]


class _Sorting:
    """Says which part of the report a symbol belongs to."""

    def __init__(self, module: Module) -> None:
        self.sets = tuple(t.name for t in module.targets)
        self.pool = frozenset(_DEFINED.findall(pool_text(module.base)))
        self.dispatch = frozenset(_DEFINED.findall(dispatch_text(module.targets)))
        self.kernels = module.kernels

    def part(self, symbol: Symbol, section: Section) -> Part:
        """The part, without its bytes: those of one part add up."""
        in_set = _SET.fullmatch(symbol.name)
        if in_set:
            return self._of_set(int(in_set[1]), in_set[2], symbol, section)
        if not symbol.function:
            for prefix, name in _TABLES.items():
                if symbol.name.startswith(prefix):
                    return Part(0, _ALL_SETS, "table", name, section.name)
            # Pointers to functions are filled in when the library is loaded, and then only read.
            name = "pointers" if section.name.startswith(".data.rel.ro") else "state of the library"
            return Part(0, _ALL_SETS, "table", name, section.name)
        if symbol.name in self.pool:
            return Part(0, _ALL_SETS, "pool", "thread pool", section.name)
        if symbol.name in self.dispatch:
            return Part(0, _ALL_SETS, "dispatch", "choice of instruction set", section.name)
        if symbol.name.startswith("graphc."):
            return Part(0, _ALL_SETS, "wrapper", "checks, workspace", section.name)
        return Part(0, _ALL_SETS, "wrapper", symbol.name, section.name)

    def _of_set(self, index: int, rest: str, symbol: Symbol, section: Section) -> Part:
        if index >= len(self.sets):
            raise FormatError(message(f"the object has code of instruction set {index}", at=""))
        name = self.sets[index]
        kernel = _KERNEL.fullmatch(rest)
        if kernel:
            infos = self.kernels.get((index, f"@graphc.{rest}"), [])
            nodes = tuple(dict.fromkeys(node for info in infos for node in info.nodes))
            label = infos[0].name if infos else rest
            return Part(0, name, "kernel", label, section.name, nodes, len(infos))
        if rest.startswith(_CALLS):
            return Part(0, name, "calls", "calls of the kernels", section.name)
        if not symbol.function:
            return Part(0, name, "table", "buffers of steps that repeat", section.name)
        return Part(0, name, "math", rest, section.name)


def _nodes(part: Part) -> str:
    shown = ", ".join(part.nodes[:_MOST_NODES])
    more = len(part.nodes) - _MOST_NODES
    return f"{shown} and {more} more" if more > 0 else shown


def _table(
    heads: Sequence[str], rows: Sequence[Iterable[object]], sizes: Sequence[int]
) -> list[str]:
    """Aligned lines, the numbers of the first column at the right; what is left out is summed."""
    cells = [list(heads), *([str(cell) for cell in row] for row in rows[:_MOST_ROWS])]
    widths = [max(len(line[k]) for line in cells) for k in range(len(heads))]
    lines = []
    for first, *others in cells:
        padded = [first.rjust(widths[0])]
        padded += [cell.ljust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append(("  " + "  ".join(padded)).rstrip())
    if len(rows) > _MOST_ROWS:
        left = sizes[_MOST_ROWS:]
        lines.append(f"  {str(sum(left)).rjust(widths[0])}  {len(left)} smaller ones")
    return lines
