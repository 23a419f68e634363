"""From a graph to something that can be called (runtime, floor 7): compile, load, bind to state.

A `Workshop` is what all functions of one session share: device, options, variables, and the count
of compilations.  Invariant: a program reads and writes the cells of its session, unless it was
built with cells of its own (profiling).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from graphc.base.dims import Dim, Size, product
from graphc.base.errors import ExecutionError, GraphError, NumericsError, message
from graphc.ir.graph import Graph
from graphc.ir.node import describe
from graphc.ops.conditions import size_conditions
from graphc.runtime.caller import RELEASE_WORK, Bindings, Caller
from graphc.runtime.cpu_device import CpuDevice
from graphc.runtime.executable import CompileOptions, Executable, Site, compile_graph
from graphc.runtime.feeding import here
from graphc.runtime.signature import ArraySpec, CallSignature
from graphc.runtime.state import Cell
from graphc.runtime.variables import Variables

_WORK_TERMS = 8  # a longer size expression would cost more to evaluate than it decides


class NumericsSite(NumericsError):
    """A kernel met a NaN or an infinity; the function that was called says more."""

    def __init__(self, site: Site) -> None:
        super().__init__(f"{site.op}: a NaN or an infinity, at {site.where}")
        self.site = site


class ValueSite(ExecutionError):
    """A kernel met a value that an op cannot work with; the function that was called says more."""

    def __init__(self, site: Site) -> None:
        what = f"{site.op}: a value that it cannot compute with; no variable was changed"
        super().__init__(message(what, at=site.where or None, hint=site.hint))
        self.site = site


@dataclass(frozen=True)
class Program:
    """A compiled, loaded and bound graph. `caller.function(*arrays)` runs it."""

    executable: Executable
    caller: Caller
    cells: tuple[Cell, ...]

    @property
    def updated_cells(self) -> tuple[Cell, ...]:
        """The cells that a call writes."""
        return tuple(self.cells[k] for k in self.caller.bindings.updates)


class Workshop:
    """Compiles graphs for one session. Safe to use from several threads."""

    def __init__(self, device: CpuDevice, options: CompileOptions) -> None:
        self.device = device
        self.options = options
        self.compilations = 0
        self.shut = np.zeros(1, np.int64)  # native code reads it; not 0: closed
        self.lock = threading.RLock()
        self._variables: Variables | None = None

    @property
    def variables(self) -> Variables:
        """The values of the session's variables."""
        with self.lock:
            if self._variables is None:
                self._variables = Variables(self.device.state.lock)
            return self._variables

    @property
    def closed(self) -> bool:
        """Whether the session was closed."""
        return bool(self.shut[0])

    def close(self) -> None:
        """Refuse further calls."""
        self.shut[0] = 1

    def check_open(self) -> None:
        """Raise GraphError where the session was closed."""
        if self.closed:
            raise GraphError(
                message(
                    "the session is closed",
                    at=here(),
                    hint="use it inside `with graphc.Session() as session:`, or open a new one",
                )
            )

    def build(
        self,
        graph: Graph,
        *,
        single: bool = False,
        rewrite: bool = True,
        profile: bool = False,
        checked: bool = True,
    ) -> Program:
        """Compile a graph and bind it.

        single: calls return the only output itself. rewrite=False: the graph is optimized already.
        profile: kernels are timed, and the variables are copies. checked=False: NaN is let through.
        """
        self.check_open()
        options = replace(
            self.options,
            profile=profile,
            optimize=self.options.optimize and rewrite,
            check_numerics=self.options.check_numerics and checked,
        )
        with self.lock:
            executable = compile_graph(graph, options)
            self.compilations += not executable.from_cache
            return self.bind(executable, single=single, profile=profile)

    def bind(
        self, executable: Executable, *, single: bool = False, profile: bool = False
    ) -> Program:
        """Load an executable and bind it to the session's state; see `build`."""
        with self.lock:
            loaded = self.device.load(executable.object)
            signature = _signature(executable, single)
            cells = self.variables.cells(executable.variables)
            if profile:
                lock = self.device.state.lock
                with lock.threads, lock:
                    cells = tuple(Cell.of([cell.current for cell in cells]))
            places = {id(v): k for k, v in enumerate(executable.variables)}
            bindings = Bindings(
                cells,
                tuple(places[id(v)] for v in executable.updates),
                tuple(c.stored for c in executable.constants),
                _raiser(executable),
                len(executable.kernels) if profile else 0,
            )
            caller = self.device.make_caller(signature, loaded, bindings)
        return Program(executable, caller, cells)


def _signature(executable: Executable, single: bool) -> CallSignature:
    def known_later(size: Dim) -> bool:
        return any(s in executable.computed for s in size.symbols())

    places = {name: describe(t) for name, t in executable.graph.inputs}
    return CallSignature(
        tuple(ArraySpec(n, t.dtype, t.shape, places[n]) for n, t in executable.inputs),
        tuple(ArraySpec(n, t.dtype, t.shape) for n, t in executable.outputs),
        executable.symbols,
        single,
        _work(executable),
        executable.graph.name,
        tuple(c for c in size_conditions(executable.graph) if not known_later(c.size)),
        executable.computed,
        executable.blocks,
    )


def _work(executable: Executable) -> Size:
    """Scalar operations of a call, which decide whether other Python threads may run meanwhile."""
    if any(n.op.name == "while_loop" for g in _with_bodies(executable.graph) for n in g.nodes):
        return RELEASE_WORK  # nobody knows how many turns there are
    total: Size = 0
    for flops, count in executable.flops:
        total = total + flops * count
    if not isinstance(total, Dim) and total == 0:
        types = [t for _, t in (*executable.inputs, *executable.outputs)]
        types += [v.type for v in executable.variables]
        for t in types:
            total = total + product(t.shape)
    if isinstance(total, Dim) and (
        len(total.terms) > _WORK_TERMS or any(s in executable.computed for s in total.symbols())
    ):
        return RELEASE_WORK
    return total


def _with_bodies(graph: Graph) -> tuple[Graph, ...]:
    return (graph, *graph.bodies)


def _raiser(executable: Executable) -> Callable[[int], object]:
    sites = executable.sites

    def report(number: int) -> object:
        if not 0 < number <= len(sites):
            raise ExecutionError(f"{executable.graph.name}: unknown error site {number}")
        site = sites[number - 1]
        if site.kind == "numerics":
            raise NumericsSite(site)
        raise ValueSite(site)

    return report
