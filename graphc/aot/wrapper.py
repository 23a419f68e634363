"""The functions that C calls, as LLVM text (floor 8): checks, workspace, state, the call itself.

`NAME_run` checks every size and pointer before it touches memory, lays the buffers out as the
compiled entry wants them, calls the entry of the chosen instruction set, and commits the updates of
the state only when the call went well.
Invariants: nothing is allocated; nothing but the workspace, the outputs and the state is written;
every function may run in many threads at once, on different workspaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.aot.data import bytes_global, c_string
from graphc.aot.interface import FIRST_SITE, STATUSES, Interface, Operand
from graphc.aot.wrapper_text import NEED, THREADS, WEIGHTS
from graphc.backend.llvm_types import float_literal
from graphc.backend.scalar_emitter import ScalarEmitter
from graphc.backend.values import size_value
from graphc.base.dims import Dim, Quotient, Size, Symbol
from graphc.base.dtypes import int64
from graphc.base.target import Target

CODE = {name: code for name, code, _ in STATUSES}
# No size of an array or of the workspace may come near what 64 bits can count.
_MOST_BYTES = float(1 << 60)
_CONTEXT_WORDS = 8
_ALIGN = 64


@dataclass(frozen=True, slots=True)
class Data:
    """Where the bytes of a variable or constant are: a global of the module, or the weights file.

    symbol: the global's name; offset: in the weights file (symbol empty); zero: all bytes are zero
    and no data is kept.
    """

    nbytes: int
    symbol: str = ""
    offset: int = 0
    zero: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """How the wrapper fills the entry's buffers, in the order of the program.

    variables: for each, its position in the state, or its data; updates: for each, the position in
    the state of the variable that it becomes, and whether the entry writes it there itself;
    constants: their data; initial: of each member of the state; arena: sizes in bytes that the
    workspace is made of; file_bytes, header: of the weights file.
    """

    variables: tuple[int | Data, ...]
    updates: tuple[tuple[int, bool], ...]
    constants: tuple[Data, ...]
    initial: tuple[Data, ...]
    arena: tuple[Size, ...]
    file_bytes: int = 0
    header: bytes = b""


class _Function:
    """One function of the wrapper while it is written."""

    def __init__(self, target: Target) -> None:
        self.e = ScalarEmitter(target)
        self.symbols: dict[str, str] = {}
        self.known: dict[Size, str] = {}
        self.blocks = 0

    def size(self, size: Size) -> str:
        """A size as an i64."""
        if not isinstance(size, Dim):
            return str(size)
        found = self.known.get(size)
        if found is None:
            found = size_value(size, self.size, self.symbols.__getitem__, self._op)
            self.known[size] = found
        return found

    def _op(self, name: str, a: str, b: str) -> str:
        return self.e.op(name, int64, 1, a, b)

    def estimate(self, size: Size) -> str:
        """A double that is at least about the size, also where 64 bits would overflow."""
        if not isinstance(size, Dim):
            return _double(size)
        total = _double(0)
        for monomial, coefficient in size.terms:
            value = _double(abs(coefficient))
            for atom in monomial:
                value = self.e.emit(f"fmul double {value}, {self._atom(atom)}")
            total = self.e.emit(f"fadd double {total}, {value}")
        return total

    def _atom(self, atom: Symbol | Quotient) -> str:
        if isinstance(atom, Quotient):  # its denominator is at least one
            return self.estimate(atom.numerator)
        return self.e.emit(f"sitofp i64 {self.symbols[atom.name]} to double")

    def branch(self, condition: str, otherwise: str) -> None:
        """Go on where the condition holds, else to the label."""
        self.blocks += 1
        label = f"ok{self.blocks}"
        self.e.do(f"br i1 {condition}, label %{label}, label %{otherwise}")
        self.e.lines.append(f"{label}:")

    def all_of(self, conditions: Sequence[str]) -> str:
        """The conjunction."""
        total = "true"
        for condition in conditions:
            total = condition if total == "true" else self.e.emit(f"and i1 {total}, {condition}")
        return total


def _double(value: float) -> str:
    return float_literal(float(value))


class Wrapper:
    """Writes the public functions of one library."""

    def __init__(
        self, interface: Interface, layout: Layout, targets: Sequence[Target], base: Target
    ) -> None:
        self.i, self.layout, self.targets, self.base = interface, layout, targets, base
        self.p = interface.name

    def text(self) -> str:
        """All functions, as LLVM text."""
        parts = [
            "declare ptr @memcpy(ptr, ptr, i64)",
            "declare ptr @memset(ptr, i32, i64)",
            "declare i32 @strcmp(ptr, ptr)",
            self._entries(),
            self._workspace(),
            self._run(),
            self._message(),
            self._isa(),
            THREADS.format(p=self.p),
            f"define i32 @{self.p}_abi_version() nounwind {{\n  ret i32 1\n}}",
        ]
        if self.i.state:
            parts.append(self._state_init())
        if self.i.external:
            parts.append(self._weights())
        return "\n\n".join(parts)

    # -- sizes ------------------------------------------------------------------------------------
    def _size_parameters(self) -> list[str]:
        return [f"i64 %n.{k}" for k in range(len(self.i.sizes))]

    def _function(self) -> _Function:
        f = _Function(self.base)
        f.symbols = {s.symbol.name: f"%n.{k}" for k, s in enumerate(self.i.sizes)}
        return f

    def _check(self) -> str:
        """`graphc.check(sizes) -> i1`: every bound, every condition, and no overflow."""
        f = self._function()
        e = f.e
        bounds = []
        for k, size in enumerate(self.i.sizes):
            symbol = size.symbol
            bounds.append(e.emit(f"icmp sge i64 %n.{k}, {symbol.min}"))
            if symbol.max is not None:
                bounds.append(e.emit(f"icmp sle i64 %n.{k}, {symbol.max}"))
            if symbol.multiple_of != 1:
                rest = e.emit(f"srem i64 %n.{k}, {symbol.multiple_of}")
                bounds.append(e.emit(f"icmp eq i64 {rest}, 0"))
        f.branch(f.all_of(bounds), "bad")
        sizes = [o.nbytes for o in self.i.operands] + list(self.layout.arena)
        fits = [
            e.emit(f"fcmp ole double {f.estimate(size)}, {_double(_MOST_BYTES)}")
            for size in dict.fromkeys(sizes)
            if isinstance(size, Dim)
        ]
        f.branch(f.all_of(fits), "bad")
        quotients = dict.fromkeys(d for size in sizes for d in _denominators(size))
        for denominator in quotients:
            f.branch(e.emit(f"icmp sgt i64 {f.size(denominator)}, 0"), "bad")
        good = [e.emit(f"icmp sge i64 {f.size(c.size)}, 0") for c in self.i.conditions]
        total = f.all_of(good)
        parameters = ", ".join(self._size_parameters())
        return "\n".join(
            [
                f"define internal i1 @graphc.check({parameters}) nounwind {{",
                "entry:",
                *e.lines,
                f"  ret i1 {total}",
                "bad:",
                "  ret i1 false",
                "}",
            ]
        )

    def _entries(self) -> str:
        many = range(len(self.targets))
        entries = ", ".join(f"ptr @graphc.{k}.entry" for k in many)
        arenas = ", ".join(f"ptr @graphc.{k}.arena_bytes" for k in many)
        return "\n".join(
            [
                f"@graphc.entries = internal constant [{len(many)} x ptr] [{entries}]",
                f"@graphc.arenas = internal constant [{len(many)} x ptr] [{arenas}]",
                NEED.format(extra=self._spare_bytes() + _ALIGN),
            ]
        )

    def _spares(self) -> tuple[dict[int, int], int]:
        """Where in the workspace each update that is not written in place is kept meanwhile."""
        places: dict[int, int] = {}
        end = 0
        for k, (member, in_place) in enumerate(self.layout.updates):
            if not in_place:
                places[k] = end
                end += -(-_bytes(self.i.state[member]) // _ALIGN) * _ALIGN
        return places, end

    def _spare_bytes(self) -> int:
        return self._spares()[1]

    def _store_dims(self, f: _Function) -> None:
        for k in range(len(self.i.sizes)):
            at = f.e.emit(f"getelementptr i64, ptr %dims, i64 {k}")
            f.e.do(f"store i64 %n.{k}, ptr {at}, align 8")

    def _workspace(self) -> str:
        f = self._function()
        count = max(1, len(self.i.sizes))
        f.e.do(f"%dims = alloca [{count} x i64], align 8")
        f.e.do("%level = call i64 @graphc.level()")
        f.branch(f.e.emit("icmp sge i64 %level, 0"), "bad")
        arguments = ", ".join(self._size_parameters())
        f.branch(f.e.emit(f"call i1 @graphc.check({arguments})"), "bad")
        self._store_dims(f)
        f.e.do("%threads = call i64 @graphc.read(ptr @graphc.threads)")
        need = f.e.emit("call i64 @graphc.need(ptr %dims, i64 %threads, i64 %level)")
        return "\n".join(
            [
                self._check(),
                "",
                f"define i64 @{self.p}_workspace_size({arguments}) nounwind {{",
                "entry:",
                *f.e.lines,
                f"  ret i64 {need}",
                "bad:",
                "  ret i64 0",
                "}",
            ]
        )

    # -- the call ---------------------------------------------------------------------------------
    def _parameters(self) -> list[str]:
        parameters = ["ptr %state"] if self.i.state else []
        parameters += ["ptr %weights"] if self.i.external else []
        parameters += self._size_parameters()
        parameters += [f"ptr %a.{k}" for k in range(len(self.i.operands))]
        return [*parameters, "ptr %workspace", "i64 %workspace_bytes"]

    def _run(self) -> str:
        f = self._function()
        e = f.e
        buffers = len(self.i.operands) + len(self.layout.variables) + len(self.layout.updates)
        buffers += len(self.layout.constants)
        e.do(f"%dims = alloca [{max(1, len(self.i.sizes))} x i64], align 8")
        e.do(f"%buffers = alloca [{max(1, buffers)} x ptr], align 8")
        e.do(f"%ctx = alloca [{_CONTEXT_WORDS} x i64], align 64")
        e.do("%level = call i64 @graphc.level()")
        f.branch(e.emit("icmp sge i64 %level, 0"), "unsupported")
        sizes = ", ".join(self._size_parameters())
        f.branch(e.emit(f"call i1 @graphc.check({sizes})"), "bad_size")
        self._check_pointers(f)
        self._store_dims(f)
        e.do("%threads = call i64 @graphc.read(ptr @graphc.threads)")
        need = e.emit("call i64 @graphc.need(ptr %dims, i64 %threads, i64 %level)")
        f.branch(e.emit(f"icmp uge i64 %workspace_bytes, {need}"), "too_small")
        address = e.emit("ptrtoint ptr %workspace to i64")
        rest = e.emit(f"and i64 {e.emit(f'sub i64 0, {address}')}, {_ALIGN - 1}")
        e.do(f"%spare = getelementptr i8, ptr %workspace, i64 {rest}")
        e.do(f"%arena = getelementptr i8, ptr %spare, i64 {self._spare_bytes()}")
        self._fill_context(f)
        self._fill_buffers(f)
        at = e.emit("getelementptr ptr, ptr @graphc.entries, i64 %level")
        entry = e.emit(f"load ptr, ptr {at}, align 8")
        site = e.emit(f"call i64 {entry}(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena)")
        e.do(f"%site = add i64 {site}, {FIRST_SITE - 1}")
        f.branch(e.emit(f"icmp eq i64 {site}, 0"), "stopped")
        self._commit(f)
        lines = [
            f"define i32 @{self.p}_run({', '.join(self._parameters())}) nounwind {{",
            "entry:",
            *e.lines,
            "  ret i32 0",
            "stopped:",
            "  %status = trunc i64 %site to i32",
            "  ret i32 %status",
        ]
        for label, name in _FAILURES.items():
            lines += [f"{label}:", f"  ret i32 {CODE[name]}"]
        return "\n".join([*lines, "}"])

    def _check_pointers(self, f: _Function) -> None:
        e = f.e
        present = [e.emit("icmp ne ptr %workspace, null")]
        present += [e.emit("icmp ne ptr %state, null")] if self.i.state else []
        present += [e.emit("icmp ne ptr %weights, null")] if self.i.external else []
        aligned = []
        for k, operand in enumerate(self.i.operands):
            here = e.emit(f"icmp ne ptr %a.{k}, null")
            if not isinstance(operand.elements, int) or operand.elements == 0:
                empty = e.emit(f"icmp eq i64 {f.size(operand.elements)}, 0")
                here = e.emit(f"or i1 {here}, {empty}")
            present.append(here)
            if operand.dtype.itemsize > 1:
                aligned.append(self._is_aligned(f, f"%a.{k}", operand.dtype.itemsize))
        if self.i.state:
            aligned.append(self._is_aligned(f, "%state", 8))
        f.branch(f.all_of(present), "null_pointer")
        f.branch(f.all_of(aligned), "misaligned")
        if self.i.state:
            mark = e.emit("load i64, ptr %state, align 8")
            right = e.emit(f"icmp eq i64 {mark}, {_signed(self.i.layout_mark())}")
            f.branch(right, "bad_state")
        if self.i.external:
            e.do("%weights.base = load ptr, ptr %weights, align 8")
            f.branch(e.emit("icmp ne ptr %weights.base, null"), "bad_weights")

    @staticmethod
    def _is_aligned(f: _Function, pointer: str, size: int) -> str:
        address = f.e.emit(f"ptrtoint ptr {pointer} to i64")
        rest = f.e.emit(f"and i64 {address}, {size - 1}")
        return f.e.emit(f"icmp eq i64 {rest}, 0")

    def _fill_context(self, f: _Function) -> None:
        e = f.e
        several = e.emit("icmp sgt i64 %threads, 1")
        pool = e.emit(f"select i1 {several}, ptr @graphc.parallel, ptr null")
        for k in range(_CONTEXT_WORDS):
            at = e.emit(f"getelementptr i64, ptr %ctx, i64 {k}")
            if k == 1:
                e.do(f"store ptr {pool}, ptr {at}, align 8")
            else:
                e.do(f"store i64 {'%threads' if k == 2 else '0'}, ptr {at}, align 8")

    def _fill_buffers(self, f: _Function) -> None:
        """Inputs, variables, outputs, updates, constants: the order of the entry."""
        offsets, _ = self.i.state_offsets()
        spares, _ = self._spares()

        def member(k: int) -> str:
            return f.e.emit(f"getelementptr i8, ptr %state, i64 {offsets[k]}")

        pointers = [f"%a.{k}" for k in range(len(self.i.inputs))]
        pointers += [
            member(v) if isinstance(v, int) else self._data(f, v) for v in self.layout.variables
        ]
        first = len(self.i.inputs)
        pointers += [f"%a.{first + k}" for k in range(len(self.i.outputs))]
        for k, (position, in_place) in enumerate(self.layout.updates):
            pointers.append(
                member(position)
                if in_place
                else f.e.emit(f"getelementptr i8, ptr %spare, i64 {spares[k]}")
            )
        pointers += [self._data(f, c) for c in self.layout.constants]
        for k, pointer in enumerate(pointers):
            at = f.e.emit(f"getelementptr ptr, ptr %buffers, i64 {k}")
            f.e.do(f"store ptr {pointer}, ptr {at}, align 8")

    def _data(self, f: _Function, data: Data) -> str:
        if data.symbol:
            return f"@{data.symbol}"
        return f.e.emit(f"getelementptr i8, ptr %weights.base, i64 {data.offset}")

    def _commit(self, f: _Function) -> None:
        offsets, _ = self.i.state_offsets()
        spares, _ = self._spares()
        for k, start in spares.items():
            member, _ = self.layout.updates[k]
            to = f.e.emit(f"getelementptr i8, ptr %state, i64 {offsets[member]}")
            source = f.e.emit(f"getelementptr i8, ptr %spare, i64 {start}")
            count = _bytes(self.i.state[member])
            f.e.emit(f"call ptr @memcpy(ptr {to}, ptr {source}, i64 {count})")

    # -- the rest ---------------------------------------------------------------------------------
    def _state_init(self) -> str:
        f = _Function(self.base)
        e = f.e
        offsets, size = self.i.state_offsets()
        arguments = ["ptr %state"] + (["ptr %weights"] if self.i.external else [])
        present = [e.emit(f"icmp ne {argument}, null") for argument in arguments]
        f.branch(f.all_of(present), "null_pointer")
        f.branch(self._is_aligned(f, "%state", 8), "misaligned")
        if self.i.external:
            e.do("%weights.base = load ptr, ptr %weights, align 8")
            f.branch(e.emit("icmp ne ptr %weights.base, null"), "bad_weights")
        e.emit(f"call ptr @memset(ptr %state, i32 0, i64 {size})")
        for at, data in zip(offsets, self.layout.initial, strict=True):
            if not data.zero:
                to = e.emit(f"getelementptr i8, ptr %state, i64 {at}")
                source = self._data(f, data)
                e.emit(f"call ptr @memcpy(ptr {to}, ptr {source}, i64 {data.nbytes})")
        e.do(f"store i64 {_signed(self.i.layout_mark())}, ptr %state, align 8")
        lines = [
            f"define i32 @{self.p}_state_init({', '.join(arguments)}) nounwind {{",
            "entry:",
            *e.lines,
            "  ret i32 0",
        ]
        for label in ("null_pointer", "misaligned", "bad_weights"):
            lines += [f"{label}:", f"  ret i32 {CODE[_FAILURES[label]]}"]
        lines += ["}", "", f"define i64 @{self.p}_state_size() nounwind {{"]
        lines += [f"  ret i64 {size}", "}"]
        return "\n".join(lines)

    def _message(self) -> str:
        texts = {code: text for _, code, text in STATUSES}
        texts |= {FIRST_SITE + k: text for k, text in enumerate(self.i.sites)}
        lines = [c_string(f"graphc.message.{code}", text) for code, text in texts.items()]
        lines += [
            c_string("graphc.message.none", "unknown status"),
            f"define ptr @{self.p}_message(i32 %status) nounwind {{",
            "entry:",
            "  switch i32 %status, label %none [",
            *(f"    i32 {code}, label %m{code}" for code in texts),
            "  ]",
        ]
        for code in texts:
            lines += [f"m{code}:", f"  ret ptr @graphc.message.{code}"]
        return "\n".join([*lines, "none:", "  ret ptr @graphc.message.none", "}"])

    def _isa(self) -> str:
        """`NAME_isa()` and `NAME_select_isa(name)`."""
        lines = [c_string(f"graphc.isa.{k}", t.name) for k, t in enumerate(self.targets)]
        lines += [
            c_string("graphc.isa.none", "none"),
            f"define ptr @{self.p}_isa() nounwind {{",
            "entry:",
            "  %level = call i64 @graphc.level()",
            "  switch i64 %level, label %none [",
            *(f"    i64 {k}, label %l{k}" for k in range(len(self.targets))),
            "  ]",
        ]
        for k in range(len(self.targets)):
            lines += [f"l{k}:", f"  ret ptr @graphc.isa.{k}"]
        lines += [
            "none:",
            "  ret ptr @graphc.isa.none",
            "}",
            "",
            f"define i32 @{self.p}_select_isa(ptr %name) nounwind {{",
            "entry:",
            "  %given = icmp ne ptr %name, null",
            "  br i1 %given, label %try0, label %null",
            "null:",
            f"  ret i32 {CODE['NULL_POINTER']}",
        ]
        for k in range(len(self.targets)):
            following = f"try{k + 1}" if k + 1 < len(self.targets) else "fail"
            lines += [
                f"try{k}:",
                f"  %c{k} = call i32 @strcmp(ptr %name, ptr @graphc.isa.{k})",
                f"  %same{k} = icmp eq i32 %c{k}, 0",
                f"  br i1 %same{k}, label %ask{k}, label %{following}",
                f"ask{k}:",
                f"  %has{k} = call i64 @graphc.has(i64 {k})",
                f"  %yes{k} = icmp ne i64 %has{k}, 0",
                f"  br i1 %yes{k}, label %set{k}, label %fail",
                f"set{k}:",
                f"  %old{k} = atomicrmw xchg ptr @graphc.chosen, i64 {k} seq_cst",
                "  ret i32 0",
            ]
        lines += ["fail:", f"  ret i32 {CODE['UNSUPPORTED_CPU']}", "}"]
        return "\n".join(lines)

    def _weights(self) -> str:
        return "\n".join(
            [
                bytes_global("graphc.weights.header", self.layout.header),
                WEIGHTS.format(
                    p=self.p,
                    size=self.layout.file_bytes,
                    header=len(self.layout.header),
                    bad=CODE["BAD_WEIGHTS"],
                    null=CODE["NULL_POINTER"],
                ),
            ]
        )


_FAILURES = {
    "unsupported": "UNSUPPORTED_CPU",
    "bad_size": "BAD_SIZE",
    "null_pointer": "NULL_POINTER",
    "misaligned": "MISALIGNED",
    "bad_state": "BAD_STATE",
    "bad_weights": "BAD_WEIGHTS",
    "too_small": "WORKSPACE_TOO_SMALL",
}


def _denominators(size: Size) -> list[Dim]:
    """The symbolic denominators of floor quotients inside a size, the innermost first."""
    found: list[Dim] = []
    if isinstance(size, Dim):
        for monomial, _ in size.terms:
            for atom in monomial:
                if isinstance(atom, Quotient):
                    for part in (atom.numerator, atom.denominator):
                        found += _denominators(part)
                    if isinstance(atom.denominator, Dim):
                        found.append(atom.denominator)
    return found


def _bytes(operand: Operand) -> int:
    size = operand.nbytes
    assert isinstance(size, int), "a variable has a fixed shape"
    return size


def _signed(mark: int) -> int:
    return mark - (1 << 64) if mark >> 63 else mark
