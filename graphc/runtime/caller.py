"""Makes the function that runs a loaded program (runtime, floor 7): native, or else in Python.

`make_caller` writes the record that `python_entry` works from: what to check, where the pointers
go.  The same record without a fallback serves the slow path, which reads the arguments with care
and tries again.
Invariant: native and Python callers take, return and raise the same.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.base.dims import Quotient, Size, Symbol, evaluate
from graphc.base.errors import ExecutionError, UnsupportedError
from graphc.runtime import buffers
from graphc.runtime.device import LoadedProgram
from graphc.runtime.native_call import (
    ARENA_END_SLOT,
    FREE_SLOT,
    MORE_MEMORY,
    Slots,
    call_arena_bytes,
    call_entry,
    slots,
)
from graphc.runtime.native_method import MethodDef
from graphc.runtime.object_loader import LoadedObject
from graphc.runtime.python_entry import (
    ALIGNED,
    C_CONTIGUOUS,
    CODE_STACK,
    METHOD_FLAGS,
    WRITEABLE,
    Code,
    DimKind,
    Refusal,
    Slot,
)
from graphc.runtime.signature import (
    CallSignature,
    binding_places,
    check_given,
    linear,
    read_arguments,
    to_user,
)
from graphc.runtime.state import CallState, Cell, exchange, longer, pauses

Array = npt.NDArray[Any]

CONTEXT_SLOTS = 8  # the first three have a meaning, two more for programs that compute sizes
RELEASE_WORK = 200_000  # scalar operations, some 20 us: from here on other Python threads may run
_UNBOUNDED = (1 << 63) - 1
_MOST_TRIES = 1000  # with an arena that is large enough
_HUGE = 1 << 40  # more elements than memory holds; a divisor of the size may stand beside it


@dataclass(frozen=True, slots=True)
class Bindings:
    """The pointers of a program that are not arguments.

    cells: one per variable; updates: the number of the variable that each new value belongs to;
    constants: arrays, kept alive by the caller. on_error: called with an error site, must raise.
    context_slots: further places of the context, which a profiling program uses.
    """

    cells: tuple[Cell, ...] = ()
    updates: tuple[int, ...] = ()
    constants: tuple[Array, ...] = ()
    on_error: Callable[[int], object] | None = None
    context_slots: int = 0


class Caller:
    """A program with its signature, ready to be called.

    `function(*arrays)` returns new arrays; `into(arrays, outputs)` writes into given ones.
    `context` is what the program gets: error site, parallel function, threads, profile.
    """

    def __init__(
        self, signature: CallSignature, program: LoadedProgram, bindings: Bindings, state: CallState
    ) -> None:
        self.signature = signature
        self.program = program
        self.bindings = bindings
        self.state = state
        self.context = np.zeros(CONTEXT_SLOTS + bindings.context_slots, np.int64)
        self.context[1:3] = state.parallel, state.threads
        self._computed: dict[str, int] = {}
        self.function: Callable[..., Any] = self._call
        # Takes the arguments and then the outputs to write into; gives an int where they do not fit
        # as they are. None: no native code does that here.
        self.attempt_into: Callable[..., Any] | None = None
        binding_places(signature)  # raises where a size would stay unknown
        if bindings.updates:
            with state.lock.threads, state.lock:
                Cell.make_spares([bindings.cells[variable] for variable in bindings.updates])

    def into(self, args: Sequence[object], outputs: Sequence[Array]) -> None:
        """Run with the results written into `outputs`: fitting arrays that no input overlaps."""
        arrays, sizes = read_arguments(self.signature, args, {})
        later = self.signature.computed_outputs
        for k, (spec, array) in enumerate(zip(self.signature.outputs, outputs, strict=True)):
            if k not in later:
                check_given(spec, array, sizes)
        self._run(arrays, sizes, list(outputs))

    def _call(self, *args: object, **keywords: object) -> Any:
        arrays, sizes = read_arguments(self.signature, args, keywords)
        later = self.signature.computed_outputs
        outputs = [
            None
            if k in later
            else np.empty(tuple(evaluate(size, sizes) for size in spec.shape), spec.host)
            for k, spec in enumerate(self.signature.outputs)
        ]
        return self._pack(self._run(arrays, sizes, outputs))

    def _pack(self, outputs: Sequence[Array]) -> Any:
        shown = [to_user(spec, array) for spec, array in zip(self.signature.outputs, outputs)]
        if self.signature.single:
            return shown[0]
        return tuple(shown) if shown else None

    def _run(
        self, arrays: Sequence[Array], sizes: dict[str, int], outputs: Sequence[Array | None]
    ) -> list[Array]:
        """Run once; an output that is None, or of a computed size, is copied out of the arena."""
        signature, bindings, state = self.signature, self.bindings, self.state
        further = len(signature.computed) + signature.blocks
        dims = slots([sizes[symbol.name] for symbol in signature.symbols] + [0] * further)
        later = signature.computed_outputs
        with state.lock.threads, state.lock:
            state.arena.reserve(call_arena_bytes(self.program.arena_bytes, dims, state.threads))
            pointers = [buffers.address(array) for array in arrays]
            pointers += [int(cell.record[0]) for cell in bindings.cells]
            first_output = len(pointers)
            pointers += [
                0 if array is None or k in later else buffers.address(array)
                for k, array in enumerate(outputs)
            ]
            pointers += [int(bindings.cells[variable].record[1]) for variable in bindings.updates]
            pointers += [buffers.address(array) for array in bindings.constants]
            places = slots(pointers)
            site = self._enter(places, dims)
            results = list(outputs)
            if not site:
                found = zip(signature.computed, dims[len(signature.symbols) :])
                self._computed = {symbol.name: size for symbol, size in found}
                for k in later:
                    results[k] = self._copied(k, places[first_output + k], outputs[k], sizes)
                exchange(bindings.cells[variable] for variable in bindings.updates)
        if site:
            self._report(site)
        return [array for array in results if array is not None]

    def computed_sizes(self) -> dict[str, int]:
        """The sizes that the program found in its last call, by name."""
        return dict(self._computed)

    def _enter(self, places: Slots, dims: Slots) -> int:
        """Call the entry, again with more memory where it asks for that. Gives the error site."""
        arena, context = self.state.arena, self.context
        while True:
            context[ARENA_END_SLOT] = arena.address + arena.capacity
            site = call_entry(
                self.program.entry, places, dims, arena.address, buffers.address(context)
            )
            if site != MORE_MEMORY:
                return site
            needed = int(context[FREE_SLOT]) - arena.address
            if needed <= arena.capacity:
                raise ExecutionError(f"{self.signature.name}: memory is asked for twice (a bug)")
            arena.reserve(needed)

    def _copied(self, k: int, source: int, given: Array | None, sizes: Mapping[str, int]) -> Array:
        """An output of a computed size, from where the program left it in the arena."""
        spec = self.signature.outputs[k]
        known = {**sizes, **self._computed}
        if given is None:
            given = np.empty(tuple(evaluate(size, known) for size in spec.shape), spec.host)
        else:
            check_given(spec, given, known)
        ctypes.memmove(buffers.address(given), source, given.nbytes)
        return given

    def _report(self, site: int) -> None:
        if self.bindings.on_error is not None:
            self.bindings.on_error(site)
        raise ExecutionError(f"{self.signature.name}: error site {site} was reported")


class NativeCaller(Caller):
    """The same through the native entry."""

    def __init__(
        self,
        signature: CallSignature,
        program: LoadedProgram,
        bindings: Bindings,
        state: CallState,
        entry: LoadedObject,
    ) -> None:
        super().__init__(signature, program, bindings, state)
        self._entry = entry
        self._records: list[_Record] = []
        # One for all records: it always has the sizes of the last call.
        further = len(signature.computed) + signature.blocks
        self.dims = np.zeros(len(signature.symbols) + further + 1, np.int64)
        self._attempt = self._native(_write_record(self, given=False, fallback=None))
        self._attempt_into = self._native(_write_record(self, given=True, fallback=None))
        if not signature.has_foreign_dtypes:
            self.attempt_into = self._attempt_into
            self.function = self._native(_write_record(self, given=False, fallback=self._slow))
        else:
            self.function = self._slow

    def into(self, args: Sequence[object], outputs: Sequence[Array]) -> None:
        """Run with the results written into `outputs`: fitting arrays that no input overlaps."""
        if type(self._attempt_into(*args, *outputs)) is not int:
            return
        arrays, sizes = read_arguments(self.signature, args, {})
        for spec, array in zip(self.signature.outputs, outputs, strict=True):
            check_given(spec, array, sizes)
        self._insist(self._attempt_into, (*arrays, *outputs), sizes)

    def _slow(self, *args: object, **keywords: object) -> Any:
        arrays, sizes = read_arguments(self.signature, args, keywords)
        result = self._insist(self._attempt, arrays, sizes)
        if not self.signature.has_foreign_dtypes:
            return result
        return self._pack((result,) if self.signature.single else result or ())

    def _insist(
        self, attempt: Callable[..., Any], arrays: Sequence[Array], sizes: dict[str, int]
    ) -> Any:
        dims = [sizes[symbol.name] for symbol in self.signature.symbols]
        dims += [0] * (len(self.signature.computed) + self.signature.blocks)
        pause, vain = pauses(), 0
        while True:
            result = attempt(*arrays)
            if type(result) is not int:
                return result
            if result == Refusal.BUSY:
                self.state.lock.settle()
                time.sleep(pause)
                pause = longer(pause)
            elif result == Refusal.ARENA:
                needed = call_arena_bytes(self.program.arena_bytes, dims, self.state.threads)
                with self.state.lock.threads, self.state.lock:
                    asked = max(int(record.array[Slot.NEEDED]) for record in self._records)
                    before = self.state.arena.capacity
                    self.state.arena.reserve(max(needed, asked))
                    # Another thread may have made it larger meanwhile, but not for ever.
                    vain = vain + 1 if self.state.arena.capacity == before else 0
                if vain > _MOST_TRIES:
                    raise ExecutionError(
                        f"{self.signature.name}: memory is asked for twice (a bug)"
                    )
            else:
                raise ExecutionError(
                    f"{self.signature.name}: arguments that fit were refused (a bug)"
                )

    def computed_sizes(self) -> dict[str, int]:
        """The sizes that the program found in its last call, by name."""
        first = len(self.signature.symbols)
        return {s.name: int(self.dims[first + k]) for k, s in enumerate(self.signature.computed)}

    def _native(self, record: _Record) -> Callable[..., Any]:
        self._records.append(record)
        bound = (record.array, record.kept, self.context, self.program, self.bindings, self.state)
        return _new_function(self._entry, bound)


def bound_for_method(
    caller: Caller, fallback: Callable[..., Any], shut: Array, direct: bool
) -> tuple[object, ...]:
    """What a `Function` keeps for the native method: a record, and what it refers to.

    fallback: called with the `Function` and the arguments where they do not fit the record, or a
    value is one that an op cannot work with.
    shut: a word that is not 0 once the session is closed. direct=False: the fallback always runs.
    """
    if direct and isinstance(caller, NativeCaller) and not caller.signature.has_foreign_dtypes:
        record = _write_record(caller, given=False, fallback=fallback)
        record.set(Slot.ON_ERROR, 0)
        record.set(Slot.SHUT, buffers.address(shut))
        caller._records.append(record)
        return (record.array, record.kept, shut, caller)
    record = _Record()
    record.set(Slot.ARGUMENTS, -1)  # never as many as are given
    record.set(Slot.FALLBACK, record.keep(fallback))
    return (record.array, record.kept)


def make_caller(
    signature: CallSignature,
    program: LoadedProgram,
    bindings: Bindings,
    state: CallState,
    entry: LoadedObject | None,
) -> Caller:
    """The fastest caller that serves. `entry`: from `python_entry`, None where there is none."""
    if entry is None or signature.computed_outputs:  # which are copied after the call
        return Caller(signature, program, bindings, state)
    try:
        return NativeCaller(signature, program, bindings, state, entry)
    except UnsupportedError:  # a size expression too deep for the native check
        return Caller(signature, program, bindings, state)


# -- records --------------------------------------------------------------------------------------


class _Record:
    """A record under construction: one int64 array, parts of it referring to others by address."""

    def __init__(self) -> None:
        self.array = np.zeros(len(Slot), np.int64)
        self.kept: list[object] = []

    def set(self, slot: Slot, value: int) -> None:
        self.array[slot] = value

    def table(self, values: Sequence[int]) -> int:
        """The address of a table with these words (and one more, so that it is never empty)."""
        table = np.array([*values, 0], np.int64)
        self.kept.append(table)
        return buffers.address(table)

    def keep(self, value: object) -> int:
        """The address of an object that lives as long as the record."""
        self.kept.append(value)
        return id(value)


def _write_record(
    caller: NativeCaller, given: bool, fallback: Callable[..., Any] | None
) -> _Record:
    signature, bindings, state = caller.signature, caller.bindings, caller.state
    record = _Record()
    numbers = {symbol.name: k for k, symbol in enumerate(signature.symbols)}
    inputs, variables, outputs = len(signature.inputs), len(bindings.cells), len(signature.outputs)
    first_update = inputs + variables + outputs
    first_constant = first_update + len(bindings.updates)

    _write_arguments(record, signature, numbers, given, inputs + variables)
    rows = [
        word
        for symbol in signature.symbols
        for word in (
            symbol.min,
            _UNBOUNDED if symbol.max is None else symbol.max,
            symbol.multiple_of,
        )
    ]
    record.set(Slot.SYMBOLS, len(signature.symbols))
    record.set(Slot.SYMBOL_TABLE, record.table(rows))
    updated = {variable: first_update + k for k, variable in enumerate(bindings.updates)}
    cells = [
        word
        for k, cell in enumerate(bindings.cells)
        for word in (cell.record_address, inputs + k, updated.get(k, -1))
    ]
    record.set(Slot.CELLS, variables)
    record.set(Slot.CELL_TABLE, record.table(cells))
    pointers = [0] * first_constant + [buffers.address(array) for array in bindings.constants]
    record.set(Slot.BUFFERS, record.table(pointers))
    record.set(Slot.DIMS, buffers.address(caller.dims))
    record.set(Slot.RESULTS, record.table([0] * outputs))
    ranks = [len(spec.shape) for spec in signature.outputs]
    record.set(Slot.SHAPE, record.table([0] * max(ranks, default=0)))

    record.set(Slot.ENTRY, caller.program.entry)
    record.set(Slot.ARENA_BYTES, caller.program.arena_bytes)
    record.set(Slot.ARENA, buffers.address(state.arena.record))
    record.set(Slot.LOCK, state.lock.address)
    record.set(Slot.CONTEXT, buffers.address(caller.context))
    record.set(Slot.KIND, 1 if signature.single else 2 if outputs else 0)
    record.set(Slot.WORK, record.table(_code(signature.work, numbers)))
    record.set(Slot.RELEASE, RELEASE_WORK)
    record.set(Slot.FALLBACK, 0 if fallback is None else record.keep(fallback))
    record.set(Slot.ON_ERROR, record.keep(caller._report))
    record.set(Slot.SHUT, record.table([0]))
    return record


def _write_arguments(
    record: _Record,
    signature: CallSignature,
    numbers: dict[str, int],
    given: bool,
    first_output: int,
) -> None:
    places = binding_places(signature)
    arguments: list[int] = []
    checks: list[int] = []
    outputs: list[int] = []
    for i, spec in enumerate((*signature.inputs, *(signature.outputs if given else ()))):
        is_output = i >= len(signature.inputs)
        slot = i - len(signature.inputs) + first_output if is_output else i
        dims: list[int] = []
        for k, size in enumerate(spec.shape):
            dims += _argument_dim(size, numbers, places, (i, k))
            if dims[-4] == DimKind.CODE:
                checks += (i, k, record.table(_code(size, numbers)))
        flags = C_CONTIGUOUS | ALIGNED | (WRITEABLE if is_output else 0)
        arguments += (record.keep(spec.host), flags, len(spec.shape), record.table(dims), slot)
        arguments.append(spec.host.itemsize)
    for condition in signature.conditions:
        wanted = condition.size
        # Checks compare a length with a size: floor(wanted / 2**40) adds 0, or -1 if negative.
        i, k = places[wanted.symbols()[0].name]
        expected = signature.inputs[i].shape[k] + wanted // _HUGE
        checks += (i, k, record.table(_code(expected, numbers)))
    for k, spec in enumerate(signature.outputs):
        table = record.table(
            [word for size in spec.shape for word in _output_dim(record, size, numbers)]
        )
        itemsize = spec.host.itemsize
        outputs += (record.keep(spec.host), len(spec.shape), table, first_output + k, itemsize)
    record.set(Slot.ARGUMENTS, len(arguments) // 6)
    record.set(Slot.ARGUMENT_TABLE, record.table(arguments))
    record.set(Slot.CHECKS, len(checks) // 3)
    record.set(Slot.CHECK_TABLE, record.table(checks))
    record.set(Slot.OUTPUTS, len(signature.outputs))
    record.set(Slot.OUTPUT_TABLE, record.table(outputs))
    record.set(Slot.GIVEN, int(given))


def _argument_dim(
    size: Size, numbers: dict[str, int], places: dict[str, tuple[int, int]], place: tuple[int, int]
) -> tuple[int, int, int, int]:
    if isinstance(size, int):
        return DimKind.FIXED, size, 0, 0
    found = linear(size)
    if found is not None:
        symbol, factor, constant = found
        if places.get(symbol.name) == place:
            return DimKind.BIND, numbers[symbol.name], factor, constant
        if (factor, constant) == (1, 0) and places[symbol.name] < place:  # bound when it is read
            return DimKind.SYMBOL, numbers[symbol.name], 0, 0
    return DimKind.CODE, 0, 0, 0


def _output_dim(record: _Record, size: Size, numbers: dict[str, int]) -> tuple[int, int]:
    if isinstance(size, int):
        return DimKind.FIXED, size
    found = linear(size)
    if found is not None and found[1:] == (1, 0):
        return DimKind.SYMBOL, numbers[found[0].name]
    return DimKind.CODE, record.table(_code(size, numbers))


def _code(size: Size, numbers: dict[str, int]) -> list[int]:
    """A size expression as instructions. Raises UnsupportedError beyond the machine's stack
    and for factors that it cannot hold.
    """
    code: list[int] = []
    if _emit(size, numbers, code) > CODE_STACK:
        raise UnsupportedError(f"the size {size} is too deeply nested for native checks")
    if any(abs(word) >= 1 << 63 for word in code):
        raise UnsupportedError(f"the size {size} has a factor of more than 63 bits")
    return [*code, Code.END]


def _emit(size: Size | Symbol, numbers: dict[str, int], code: list[int]) -> int:
    """Appends instructions that leave the size on the stack; returns the places they need."""
    if isinstance(size, Symbol):
        code += (Code.SYMBOL, numbers[size.name])
        return 1
    if isinstance(size, int):
        code += (Code.CONSTANT, size)
        return 1
    depth = 1
    for k, (monomial, coefficient) in enumerate(size.terms):
        code += (Code.CONSTANT, coefficient)
        held = 1 if k == 0 else 2
        for atom in monomial:
            if isinstance(atom, Quotient):
                depth = max(depth, held + _emit(atom.numerator, numbers, code))
                depth = max(depth, held + 1 + _emit(atom.denominator, numbers, code))
                code.append(Code.DIVIDE)
            else:
                depth = max(depth, held + _emit(atom, numbers, code))
            code.append(Code.MULTIPLY)
        if k:
            code.append(Code.ADD)
    return depth


# -- Python objects -------------------------------------------------------------------------------


_methods: dict[int, MethodDef] = {}  # CPython refers to them for ever


def _new_function(entry: LoadedObject, bound: tuple[object, ...]) -> Callable[..., Any]:
    """A built-in function with `bound`, a tuple whose first item is a record, as its self."""
    address = entry.address("graphc_python_call")
    method = _methods.get(address)
    if method is None:
        method = _methods[address] = MethodDef(b"graphc_function", address, METHOD_FLAGS, None)
    prototype = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p
    )
    new = prototype(("PyCFunction_NewEx", ctypes.pythonapi))
    function: Callable[..., Any] = new(ctypes.addressof(method), bound, None)
    return function
