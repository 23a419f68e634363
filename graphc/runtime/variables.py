"""The current values of variables (runtime, floor 7): what a session holds and a graph does not.

A variable enters when something that uses it is compiled, assigned or asked for; its value is then
the declared first one, or the one that a checkpoint had for its name.  Invariants: values are
touched under the device's lock only; several values change together or not at all, Ctrl-C included.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.base.dims import shape_text
from graphc.base.dtypes import Array
from graphc.base.errors import DTypeError, FormatError, GraphError, ShapeError, message
from graphc.ir import provenance
from graphc.ir.constant import ConstantValue, from_owned
from graphc.ir.node import Tensor, describe
from graphc.ops.state import VARIABLE
from graphc.runtime.feeding import here
from graphc.runtime.signature import ArraySpec, CallSignature, read_arguments, to_user
from graphc.runtime.state import CallLock, Cell, exchange, store_all

# The places of attributes: a thousand variables enter at once.
_NAME, _VALUE, _UID = map(VARIABLE.attributes.index, ("name", "value", "uid"))


@dataclass(frozen=True, slots=True)
class Saved:
    """A variable's value in stored form, with the name of its dtype."""

    dtype: str
    stored: Array


@dataclass(eq=False, slots=True)
class _Entry:
    variable: Tensor
    name: str
    cell: Cell


class Variables:
    """All variables that a session knows, with their values, in order of their entering."""

    def __init__(self, lock: CallLock) -> None:
        self._lock = lock
        self._table = threading.RLock()  # of what is known; taken before the lock of the values
        self._entries: dict[int, _Entry] = {}
        self._names: set[str] = set()
        self._unnamed = 0
        self._pending: dict[str, Saved] = {}  # of a checkpoint, for variables that are not here yet
        self._origin = ""

    def cells(self, variables: Sequence[Tensor]) -> tuple[Cell, ...]:
        """The cells of variables; new ones enter, in order of their declaration."""
        with self._table:
            self._enter(variables)
            return tuple([self._entries[id(v)].cell for v in variables])

    def value(self, variable: Tensor) -> Array:
        """A copy of the current value, as users receive it."""
        entry = self._of_user(variable, "value")
        with self._lock.threads, self._lock:
            copy = entry.cell.current.copy()
        return to_user(_spec(entry), copy.view(_spec(entry).host))

    def assign(self, variable: Tensor, value: Any) -> None:
        """Set the current value. Raises ShapeError or DTypeError where it does not fit."""
        entry = self._of_user(variable, "assign")
        signature = CallSignature((_spec(entry),), (), name="assign")
        (array,), _ = read_arguments(signature, (value,), {})
        self._replace({entry.name: (entry, array.view(variable.dtype.storage))})

    def snapshot(self) -> dict[str, Saved]:
        """Copies of all current values by name, all of the same moment."""
        with self._table, self._lock.threads, self._lock:
            return {
                e.name: Saved(e.variable.dtype.name, e.cell.current.copy())
                for e in self._entries.values()
            }

    def stored_values(self, variables: Sequence[Tensor]) -> list[ConstantValue]:
        """Copies of current values as constants, all of the same moment."""
        cells = self.cells(variables)
        with self._lock.threads, self._lock:
            arrays = [cell.current.copy() for cell in cells]
        return [from_owned(a, v.dtype) for a, v in zip(arrays, variables, strict=True)]

    def replace_all(self, values: Mapping[str, Saved], origin: str) -> None:
        """Set all known variables from `values`, and keep the others for variables that come later.

        Everything is checked before anything changes. Raises FormatError for a known variable
        without a value, ShapeError and DTypeError for a value of another type.
        """
        with self._table:
            self._replace_all(values, origin)

    def _replace_all(self, values: Mapping[str, Saved], origin: str) -> None:
        known = {e.name: e for e in self._entries.values()}
        missing = [name for name in known if name not in values]
        if missing:
            raise FormatError(
                message(
                    f"{origin} has no value for {', '.join(map(repr, missing))}",
                    operands=[describe(known[name].variable) for name in missing[:4]],
                    at=here(),
                    hint=f"it holds {', '.join(sorted(values)[:12]) or 'nothing'}: "
                    "is it the checkpoint of this model?",
                )
            )
        for name, entry in known.items():
            _check(entry.variable, name, values[name], origin)
        self._replace({name: (entry, values[name].stored) for name, entry in known.items()})
        self._pending = {name: v for name, v in values.items() if name not in known}
        self._origin = origin

    def _replace(self, values: Mapping[str, tuple[_Entry, Array]]) -> None:
        with self._lock.threads, self._lock:
            Cell.own([entry.cell for entry, _ in values.values()])
            targets = [entry.cell.current for entry, _ in values.values()]
            store_all(targets, [array for _, array in values.values()])

    def _of_user(self, variable: Any, what: str) -> _Entry:
        if not isinstance(variable, Tensor) or variable.op.name != "variable":
            kind = variable.op.name if isinstance(variable, Tensor) else type(variable).__name__
            raise GraphError(
                message(
                    f"{what}: expected a variable, got a {kind}",
                    operands=[describe(variable)] if isinstance(variable, Tensor) else [],
                    at=here(),
                    hint="only a graphc.variable has a value that stays; feed placeholders, and "
                    "compute expressions with session.run",
                )
            )
        with self._table:
            self._enter([variable])
            return self._entries[id(variable)]

    def _enter(self, variables: Sequence[Tensor]) -> None:
        """Let the new ones among variables enter: all of them, or none where one does not fit."""
        fresh = {id(v): v for v in variables if id(v) not in self._entries}
        if not fresh:
            return
        names: dict[str, Tensor] = {}
        unnamed = self._unnamed
        given = provenance.names_among(fresh.values())
        for variable in sorted(fresh.values(), key=_creation):
            own = variable.attrs[_NAME] or given.get(id(variable), (None,))[0]
            if own is None:
                own = f"variable_{unnamed}"
                unnamed += 1
            name, k = own, 1
            while name in self._names or name in names:  # two graphs may use the same name
                name, k = f"{own}__{k}", k + 1
            if self._pending and name in self._pending:
                _check(variable, name, self._pending[name], self._origin)
            names[name] = variable
        cells = Cell.sharing([self._first_value(name, v) for name, v in names.items()])
        for (name, variable), cell in zip(names.items(), cells, strict=True):
            self._entries[id(variable)] = _Entry(variable, name, cell)
            self._names.add(name)
            self._pending.pop(name, None)
        self._unnamed = unnamed

    def _first_value(self, name: str, variable: Tensor) -> Array:
        """What a new variable holds; nobody writes the array."""
        saved = self._pending.get(name) if self._pending else None
        if saved is not None:
            return saved.stored
        value: ConstantValue = variable.attrs[_VALUE]
        # What lies in a file is copied: somebody may change the file.
        return value.stored if value.in_memory else value.stored.copy()


def _creation(variable: Tensor) -> int:
    return int(variable.attrs[_UID])


def _spec(entry: _Entry) -> ArraySpec:
    variable = entry.variable
    return ArraySpec(entry.name, variable.dtype, variable.shape, describe(variable))


def _check(variable: Tensor, name: str, saved: Saved, origin: str) -> None:
    if saved.dtype != variable.dtype.name:
        raise DTypeError(
            message(
                f"{origin}: {name!r} is {saved.dtype}, expected {variable.type}",
                operands=[describe(variable)],
                at=here(),
                hint="restore into a model of the same dtypes, or convert the file",
            )
        )
    if saved.stored.shape != variable.shape:
        raise ShapeError(
            message(
                f"{origin}: {name!r} has shape {shape_text(saved.stored.shape)}, "
                f"expected {variable.type}",
                operands=[describe(variable)],
                at=here(),
                hint="restore into a model of the same shapes",
            )
        )


def exchange_back(cells: Iterable[Cell], lock: CallLock) -> None:
    """Undo the last commit of these cells: the spare buffers still hold the values from before."""
    with lock.threads, lock:
        exchange(cells)


def stored_copy(cell: Cell, lock: CallLock) -> Array:
    """A copy of a cell's stored value."""
    with lock.threads, lock:
        return np.array(cell.current)
