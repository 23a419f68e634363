"""Sessions (runtime, floor 7): variables' values, compiled functions and threads of one user.

A session never changes a graph, and nothing of it is global: two sessions have two states.
Invariants: a value of a variable is always whole, and all updates of one call show together.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from graphc.base.collector import collector_paused
from graphc.base.dtypes import Array
from graphc.base.errors import DeviceError, GraphError, message
from graphc.ir.graph import Graph, new_value
from graphc.ir.node import HOOKS, Tensor
from graphc.runtime.cache import ObjectCache, default_directory
from graphc.runtime.checkpoint import read_checkpoint, write_checkpoint
from graphc.runtime.cpu_device import CpuDevice
from graphc.runtime.executable import CompileOptions
from graphc.runtime.feeding import here, open_graph, resolve_feeds
from graphc.runtime.function import Function
from graphc.runtime.program import Workshop
from graphc.runtime.python_entry import output_memory
from graphc.runtime.structure import Structure

NUMERICS = ("exact", "standard", "fast")
_OPTIONS = ("numerics", "check_numerics", "cache_dir", "optimize", "fuse")
_KEPT_RUNS = 256  # compiled fetches that `run` keeps
_KEPT_EVALS = 16


class Session:
    """`Session(device="cpu", threads=None, **options)`: runs graphs, holds the values of variables.

    threads: at most so many (None: the processors that the process may really use). options:
    numerics ("exact", "standard", "fast"), check_numerics (raise at the first NaN or infinity),
    cache_dir (None: the user's cache folder; "": no cache), optimize and fuse (False: compile as
    declared, to find a bug).

    Raises DeviceError for a device that cannot run here, GraphError for an unknown option.

        with graphc.Session() as session:
            y = session.run(x + 1, {x: np.ones(3, np.float32)})
    """

    def __init__(self, device: str = "cpu", threads: int | None = None, **options: Any) -> None:
        _check_device(device)
        if threads is not None and (
            isinstance(threads, bool) or not isinstance(threads, int) or threads < 1
        ):
            raise GraphError(
                message(
                    f"Session: threads must be a positive number, got {threads!r}",
                    at=here(),
                    hint="threads=1, or threads=None for all processors that the process may use",
                )
            )
        self.options = _read_options(device, options)
        cache = ObjectCache(self.options.cache_dir or None)
        self._workshop = Workshop(CpuDevice(threads, cache), self.options)
        self._functions: dict[tuple[Any, ...], Function] = {}
        self._runs: OrderedDict[tuple[Any, ...], Function] = OrderedDict()

    # -- running ------------------------------------------------------------------------------
    def run(self, fetches: Any, feeds: Mapping[Any, Any] | None = None) -> Any:
        """The values of `fetches` (a tensor or a nest of lists, tuples, dicts) in its structure.

        feeds: arrays by tensor or by the placeholder's name; an intermediate tensor may be fed too,
        and what computes it is then not run. Compiled once per set of fetches and fed tensors.
        Raises GraphError for a missing or unknown feed, ShapeError and DTypeError for one that does
        not fit.
        """
        self._workshop.check_open()
        structure = Structure(fetches, "fetches")
        feeds = {} if feeds is None else feeds
        # The keys as they are written: finding a name walks the graph.
        key = (structure.key, tuple(k if isinstance(k, str) else id(k) for k in feeds))
        with self._workshop.lock:
            function = self._runs.get(key) or self._run_of(structure, feeds, key)
            self._runs.move_to_end(key)
        arrays = function(*feeds.values())
        return structure.pack(arrays[0] if structure.single else arrays)

    def _run_of(
        self, structure: Structure, feeds: Mapping[Any, Any], key: tuple[Any, ...]
    ) -> Function:
        fed = resolve_feeds(structure.distinct, feeds)
        resolved = (structure.key, tuple(map(id, fed)))
        function = self._runs.get(resolved)
        if function is None:
            graph = open_graph(structure.distinct, fed, "run")
            function = Function(self._workshop, graph, _distinct_only(structure))
            # The keys hold ids: their tensors must live as long as they do.
            function.held = (structure, fed)
        self._runs[resolved] = self._runs[key] = function
        while len(self._runs) > _KEPT_RUNS:
            self._runs.popitem(last=False)
        return function

    def function(
        self,
        inputs: Iterable[Tensor] | Tensor,
        outputs: Any,
        updates: Mapping[Tensor, Any] | None = None,
        name: str | None = None,
    ) -> Function:
        """Compile a `Function` from placeholders to a nest of tensors, with updates of variables.

        All `updates` commit together after the outputs are computed, or not at all if the call
        raises. Compiled once for all sizes of symbolic dims; the same arguments give the same
        function. Raises GraphError as `Graph` does, CompileError where the compiler fails.
        """
        self._workshop.check_open()
        placeholders = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        structure = Structure(outputs, "outputs")
        pairs = {v: new_value(v, n) for v, n in (updates or {}).items()}
        parts = [i for pair in pairs.items() for i in map(id, pair)]
        key = (tuple(map(id, placeholders)), structure.key, tuple(parts), name)
        with self._workshop.lock, collector_paused():
            found = self._functions.get(key)
            if found is None:
                graph = Graph(placeholders, structure.named(), pairs, name or "function")
                found = self._functions[key] = Function(self._workshop, graph, structure)
            return found

    # -- state --------------------------------------------------------------------------------
    def value(self, variable: Tensor) -> Array:
        """A copy of a variable's current value. Raises GraphError for anything else."""
        self._workshop.check_open()
        return self._workshop.variables.value(variable)

    def assign(self, variable: Tensor, array: Any) -> None:
        """Set a variable's value. Raises ShapeError or DTypeError for one that does not fit."""
        self._workshop.check_open()
        self._workshop.variables.assign(variable, array)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the values of all variables that the session knows to a `.safetensors` file.

        The file appears whole or not at all: after a kill at any moment the old one is still there.
        Variables without a name are called `variable_k` in the order in which the session met them.
        """
        self._workshop.check_open()
        write_checkpoint(path, self._workshop.variables.snapshot())

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Set all variables from a file that `save` wrote; variables met later take theirs then.

        Everything is checked before anything changes. Raises FormatError for a bad file or a
        missing value, ShapeError and DTypeError for one that does not fit.
        """
        self._workshop.check_open()
        values = read_checkpoint(path)
        self._workshop.variables.replace_all(values, os.fspath(path))

    # -- the session itself -------------------------------------------------------------------
    @property
    def compilations(self) -> int:
        """How many programs were compiled so far; those loaded from the cache do not count."""
        return self._workshop.compilations

    @property
    def threads(self) -> int:
        """The threads that a call may use."""
        return self._workshop.device.threads

    def close(self) -> None:
        """Drop functions and state; whatever is called afterwards raises GraphError. Memory that
        was kept for further results goes back to the system.
        """
        with self._workshop.lock:
            self._workshop.close()
            self._functions.clear()
            self._runs.clear()
        self._workshop.device.close()
        memory = output_memory()
        if memory is not None:
            memory.trim()

    def __enter__(self) -> Session:
        self._workshop.check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._workshop.closed else f"{self.threads} threads"
        return f"<Session on {self.options.device}, {state}, {self.compilations} compilations>"


def _distinct_only(structure: Structure) -> Structure:
    """The flat form in which `run` calls its function: every distinct tensor once."""
    return Structure(structure.distinct, "fetches")


def _check_device(device: Any) -> None:
    if device == "cpu":
        return
    if device == "cuda":
        has_driver = importlib.util.find_spec("pycuda") is not None
        missing = "graphc's CUDA runtime" + ("" if has_driver else " and the package pycuda")
        raise DeviceError(
            message(
                f"the device 'cuda' cannot run: missing: {missing}",
                at=here(),
                hint="use device='cpu'; nothing ever runs elsewhere silently",
            )
        )
    raise DeviceError(
        message(f"there is no device {device!r}", at=here(), hint="devices here: 'cpu'")
    )


def _read_options(device: str, options: Mapping[str, Any]) -> CompileOptions:
    for option in options:
        if option not in _OPTIONS:
            raise GraphError(
                message(
                    f"Session: unknown option {option!r}",
                    at=here(),
                    hint=f"the options are {', '.join(_OPTIONS)}",
                )
            )
    numerics = options.get("numerics", "standard")
    if numerics not in NUMERICS:
        raise GraphError(
            message(
                f"Session: unknown numerics {numerics!r}",
                at=here(),
                hint=f"numerics is one of {', '.join(map(repr, NUMERICS))}",
            )
        )
    for option in ("check_numerics", "optimize", "fuse"):
        if not isinstance(options.get(option, False), bool):
            raise GraphError(
                message(
                    f"Session: {option} must be True or False, got {options[option]!r}",
                    at=here(),
                    hint=f"{option}=True",
                )
            )
    cache_dir = options.get("cache_dir")
    folder = default_directory() if cache_dir is None else cache_dir
    known = CompileOptions(device=device)
    return dataclasses.replace(
        known, **{**options, "cache_dir": "" if folder is None else os.fspath(folder)}
    )


# -- tensor.eval ----------------------------------------------------------------------------------

_evals: OrderedDict[tuple[int, ...], tuple[Session, Any]] = OrderedDict()
_evals_lock = threading.Lock()


def evaluate_once(tensor: Tensor, feeds: Mapping[Any, Any] | None = None) -> Any:
    """`Tensor.eval`: a session of its own, in which every variable has its first value."""
    key = (id(tensor),)
    with _evals_lock:
        found = _evals.get(key)
        session = found[0] if found is not None else Session()
        _evals[key] = (session, tensor)  # alive, so that the id stays its own
        _evals.move_to_end(key)
        while len(_evals) > _KEPT_EVALS:
            _evals.popitem(last=False)
    return session.run(tensor, feeds)


HOOKS["eval"] = evaluate_once
