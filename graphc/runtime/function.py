"""Compiled functions (runtime, floor 7): called with arrays, looked into by name.

A call is one native call: arguments are checked, all kernels run, and the new values of variables
are committed together, or not at all.  Invariant: a call that raises has changed no variable.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.base.dims import evaluate
from graphc.base.dtypes import Array, from_storage
from graphc.base.errors import DTypeError, ExecutionError, GraphError, NumericsError, message
from graphc.ir import provenance
from graphc.ir.evaluate import run_nodes
from graphc.ir.graph import Graph
from graphc.ir.node import Node, TensorType
from graphc.runtime import diagnosis
from graphc.runtime.caller import bound_for_method
from graphc.runtime.executable import FIRST_PROFILE_SLOT, WHOLE_PROFILE_SLOT
from graphc.runtime.feeding import here, near
from graphc.runtime.native_method import replace_call
from graphc.runtime.profile import KernelTime, Profile, seconds_of_ticks
from graphc.runtime.program import NumericsSite, Program, ValueSite, Workshop
from graphc.runtime.signature import CallSignature, by_position, read_arguments
from graphc.runtime.structure import Structure, overlaps
from graphc.runtime.variables import exchange_back, stored_copy

_log = logging.getLogger("graphc.runtime")

STAGES = ("graph", "optimized", "regions", "loops", "llvm", "assembly", "memory")
_KEPT_FETCHES = 32  # compiled variants for `fetch` that a function keeps
_PROFILE_SECONDS = 0.2
_PROFILE_CALLS = 1000


class Function:
    """A compiled graph: `f(*arrays)`, `f(name=array)` give arrays in the structure of its outputs.

    Made by `session.function`. One compile serves all sizes of its symbolic dims. Calls from
    several threads are safe; all updates of a call commit together after its outputs are computed.
    """

    # `_bound` is what native code reads, see `native_method`.
    __slots__ = ("__dict__", "__weakref__", "_bound")

    def __init__(self, workshop: Workshop, graph: Graph, structure: Structure) -> None:
        self._workshop = workshop
        self._structure = structure
        self._graph = graph
        graph.current = workshop.variables.stored_values
        self._compiled = graph
        if len(structure.distinct) != len(structure.leaves):
            labels = [name for name, _ in graph.outputs]
            pairs = {
                p: (labels[k], structure.leaves[k])
                for k, p in reversed([*enumerate(structure.places)])
            }
            self._compiled = graph.with_outputs(tuple(pairs[k] for k in sorted(pairs)))
        self._variants: dict[tuple[bool, tuple[str, ...]], Program] = {}
        self._profiled: Program | None = None
        self._checks = workshop.options.check_numerics
        self._unwatched: tuple[int, ...] | None = None  # results that no kernel looks at
        self.held: object = None  # what must live as long as the function
        self._build()
        entry = workshop.device.entry
        if entry is not None:
            replace_call(Function, "_bound", entry)

    def _build(self) -> None:
        """Compile, or take from the cache, and call that program from now on."""
        structure, workshop = self._structure, self._workshop
        self._program = workshop.build(self._compiled, single=structure.single)
        self._run = self._program.caller.function
        into = self._program.caller.attempt_into
        self._into = into if structure.single and not self._checks else None
        direct = structure.is_flat and not self._checks
        self._bound = bound_for_method(
            self._program.caller, Function._call_slowly, workshop.shut, direct
        )

    def rebuild(self) -> None:
        """Compile again, with the schedules that were found meanwhile; calls give the same bits."""
        with self._workshop.lock:
            self._variants.clear()
            self._profiled = None
            self._build()

    # -- calling ------------------------------------------------------------------------------
    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """Run with arrays by position or by the inputs' names.

        Arrays of another layout are copied; numbers and lists take the input's dtype. out: arrays
        to write into, in the structure of the outputs; they are returned. Raises GraphError,
        ShapeError or DTypeError for wrong arguments, ExecutionError for values that an op cannot
        compute with, NumericsError with `check_numerics`; no variable has changed then.
        """
        return self._call_slowly(*args, out=out, **kwargs)

    def _call_slowly(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """A call whose arguments native code does not take, or on a machine without it."""
        if self._workshop.closed:
            self._workshop.check_open()
        try:
            if out is not None or self._checks:
                if self._into is not None and not kwargs and out is not None:
                    result = self._into(*args, out)
                    if result is out:
                        return out
                return self._call_carefully(args, kwargs, out)
            return self._structure.pack(self._run(*args, **kwargs))
        except NumericsSite as found:
            raise self._diagnosed(found, args, kwargs) from None
        except ValueSite as found:
            raise self._explained(found, args, kwargs) from None

    def _call_carefully(self, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Any:
        if not self._checks:
            return self._call_into(args, kwargs, out)
        # Kernels look at what they compute and store. Results that come from elsewhere (a feed, a
        # sort) are looked at here, and the new values of variables are then taken back.
        with self._workshop.lock:
            if out is None:
                result = self._run(*args, **kwargs)
                arrays = (result,) if self._structure.single else result or ()
            else:
                arrays = self._call_into(args, kwargs, out, packed=False)
                result = out
            if self._unwatched is None:
                self._unwatched = diagnosis.unwatched(self._program.executable)
            if self._unwatched and self._holds_bad(arrays, self._unwatched):
                exchange_back(self._program.updated_cells, self._workshop.device.state.lock)
                raise self._diagnosed(None, args, kwargs)
        return result if out is not None else self._structure.pack(result)

    def _holds_bad(self, arrays: Sequence[Array], places: Sequence[int]) -> bool:
        executable, cells = self._program.executable, self._program.updated_cells
        count = len(executable.outputs)
        dtypes = [
            *(t.dtype for _, t in executable.outputs),
            *(v.dtype for v in executable.updates),
        ]
        return diagnosis.any_bad(
            (arrays[k] if k < count else cells[k - count].current, dtypes[k]) for k in places
        )

    def _call_into(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any, packed: bool = True
    ) -> Any:
        program = self._program
        values = by_position(program.caller.signature, args, kwargs)
        given = self._structure.match(out, "out")
        for (name, t), array in zip(self._graph.outputs, given, strict=True):
            _check_out(name, t.type, array)
        first: dict[int, Array] = {}
        for k, array in zip(self._structure.places, given, strict=True):
            first.setdefault(k, array)
        targets: list[Array] = []
        for k in range(len(first)):
            spec = program.caller.signature.outputs[k]
            array = first[k]
            fits = array.dtype is spec.host and array.flags.carray and type(array) is np.ndarray
            if not fits or overlaps(
                array, [*values, *targets, *(first[j] for j in first if j > k)]
            ):
                array = np.empty(array.shape, spec.host)
            targets.append(array)
        program.caller.into(values, targets)
        for k, array in zip(self._structure.places, given, strict=True):
            if array is not targets[k]:
                np.copyto(array, targets[k])
        return out if packed else targets

    def _diagnosed(
        self, found: NumericsSite | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> NumericsError:
        """The error for a call that met a NaN or an infinity."""
        graph, values, sizes = self._for_reference(args, kwargs)
        names = [found.site.name] if found is not None and found.site.name else []
        suspects: Iterable[Node] = itertools.chain(
            diagnosis.suspects_of(graph, names),
            (t for _, t in graph.outputs),
            (t for _, t in graph.updates),
            graph.nodes if found is not None else (),
        )
        origin = diagnosis.find_origin(graph, values, sizes, suspects)
        if origin is not None:
            return diagnosis.numerics_error(graph, origin)
        if found is not None:
            return diagnosis.vague_error(found.site.op, found.site.where, "")
        roots = [t for _, t in (*graph.outputs, *graph.updates)]
        where = next((provenance.where(t) for t in roots if provenance.where(t)), "")
        return diagnosis.vague_error(f"a result of {graph.name}", where, "")

    def _explained(
        self, found: ValueSite, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> ExecutionError:
        """The error for a call that met a value that an op cannot work with."""
        site = found.site
        graph, values, sizes = self._for_reference(args, kwargs)
        if site.kind == "size":
            try:
                run_nodes(graph, dict(values), sizes)
            except ExecutionError as error:  # the reference meaning names the size and its bounds
                return error
        operands: tuple[str, ...] = ()
        node = diagnosis.node_at(graph, site.op, site.where)
        if node is None:  # it is in a body, maybe of several that are equal
            refused = diagnosis.find_refusal(graph, values, sizes)
            if refused is not None and refused.node.op.name == site.op:
                site = replace(site, where=diagnosis.lines_of(refused.node, refused.calls))
                operands = refused.operands
        else:
            try:
                operands = diagnosis.operand_ranges(graph, values, sizes, node)
            except IndexError as error:  # an earlier op meets such a value as well
                _log.debug("the operands of %s are not known: %s", site.op, error)
        return diagnosis.value_error(site, operands)

    def _for_reference(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Graph, dict[int, Array], dict[str, int]]:
        """What the reference meaning needs to repeat a call: the optimized graph, values, sizes."""
        program = self._program
        arrays, sizes = read_arguments(program.caller.signature, args, kwargs)
        graph = program.executable.optimized()
        values: dict[int, Array] = {}
        for (_, t), array in zip(graph.inputs, arrays, strict=True):
            values[id(t)] = from_storage(array.view(t.dtype.storage), t.dtype)
        lock = self._workshop.device.state.lock
        for variable, cell in zip(program.executable.variables, program.cells, strict=True):
            values[id(variable)] = from_storage(stored_copy(cell, lock), variable.dtype)
        return graph, values, sizes

    # -- looking inside -----------------------------------------------------------------------
    @property
    def graph(self) -> Graph:
        """The declared graph; its `save` writes the session's current values of variables."""
        return self._graph

    @property
    def compiled_graph(self) -> Graph:
        """The graph that is compiled: results that stand twice in the structure stand here once."""
        return self._compiled

    @property
    def signature(self) -> CallSignature:
        """What a call takes and gives."""
        return self._program.caller.signature

    @property
    def workshop(self) -> Workshop:
        """What compiles for the session."""
        return self._workshop

    @property
    def name(self) -> str:
        """The name of the graph."""
        return self._graph.name

    @property
    def computed_sizes(self) -> dict[str, int]:
        """The sizes that the graph computed in the last call, by the names of their dims."""
        return self._program.caller.computed_sizes()

    def __repr__(self) -> str:
        inputs = ", ".join(f"{name}: {t.type}" for name, t in self._graph.inputs)
        outputs = ", ".join(f"{name}: {t.type}" for name, t in self._graph.outputs)
        return f"<Function {self.name}({inputs}) -> ({outputs})>"

    def fetch(self, names: str | Sequence[str], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The values of named nodes for these arguments, as the optimized program computes them.

        A name that optimization removed is computed from the declared graph. Updates are not
        committed. Raises GraphError for an unknown name.
        """
        self._workshop.check_open()
        wanted = (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
        places = {name: self._is_in_optimized(name) for name in wanted}
        result: dict[str, Any] = {}
        for optimized in (True, False):
            group = tuple(name for name in wanted if places[name] is optimized)
            if group:
                program = self._variant(optimized, group)
                result |= zip(group, program.caller.function(*args, **kwargs), strict=True)
        return {name: result[name] for name in wanted}

    def _is_in_optimized(self, name: str) -> bool:
        optimized = self._program.executable.optimized()
        for graph, found in ((optimized, True), (self._graph, False)):
            if name in graph.names:
                return found
        # `op_k` counts the ops of one graph: the declared one is the one that the user sees.
        for graph, found in ((self._graph, False), (optimized, True)):
            if name in graph:
                return found
        raise GraphError(
            message(
                f"fetch: no node of {self.name!r} is named {name!r}",
                at=here(),
                hint=near(name, self._graph.names),
            )
        )

    def _variant(self, optimized: bool, names: tuple[str, ...]) -> Program:
        key = (optimized, names)
        with self._workshop.lock:
            found = self._variants.get(key)
            if found is None:
                graph = self._program.executable.optimized() if optimized else self._graph
                wanted = tuple((name, graph[name]) for name in names)
                found = self._workshop.build(
                    graph.with_outputs(wanted, updates=False), rewrite=not optimized, checked=False
                )
                if len(self._variants) >= _KEPT_FETCHES:
                    self._variants.pop(next(iter(self._variants)))
                self._variants[key] = found
            return found

    def explain(self, stage: str = "regions") -> str:
        """The text of a stage: graph optimized regions loops llvm assembly memory.

        Raises GraphError for another word.
        """
        if stage not in STAGES:
            raise GraphError(
                message(
                    f"explain: there is no stage {stage!r}",
                    at=here(),
                    hint=f"the stages are {', '.join(STAGES)}",
                )
            )
        return self._program.executable.stages(stage)

    def profile(self, *args: Any, calls: int | None = None, **kwargs: Any) -> Profile:
        """Run with these arguments, timing every kernel; without any, with zeros of known sizes.

        The state of the session stays as it is: the profiled program has variables of its own.
        calls: how often to run (by default for about 0.2 s).
        """
        self._workshop.check_open()
        with self._workshop.lock:
            if self._profiled is None:
                single = self._structure.single
                self._profiled = self._workshop.build(self._compiled, single=single, profile=True)
            program = self._profiled
            if not args and not kwargs:
                args = self.zeros("profile")
            arrays, sizes = read_arguments(program.caller.signature, args, kwargs)
            return _measure(program, arrays, sizes, calls)

    def zeros(self, wanted: str) -> tuple[Array, ...]:
        """Zeros for all inputs. Raises GraphError where a size is symbolic. wanted: for what."""
        types = [(name, t.type) for name, t in self._graph.inputs]
        symbolic = [name for name, t in types if not all(isinstance(s, int) for s in t.shape)]
        if symbolic:
            raise GraphError(
                message(
                    f"{wanted}: the sizes of {', '.join(symbolic)} are symbolic",
                    at=here(),
                    hint="pass arrays, as in a call",
                )
            )
        return tuple(np.zeros(t.shape, t.dtype.numpy) for _, t in types)


def _check_out(name: str, type_: TensorType, array: Any) -> None:
    expected = f"out for {name!r} : {type_}"
    problem = ""
    if not isinstance(array, np.ndarray):
        problem = f"expected an array, got {type(array).__name__}"
    elif array.dtype.name != type_.dtype.name and array.dtype != type_.dtype.numpy:
        problem = f"expected dtype {type_.dtype}, got {array.dtype}"
    elif not array.flags.writeable:
        problem = "the array is read-only"
    if problem:
        hint = f"make it with np.empty(shape, {type_.dtype.name!r})"
        raise DTypeError(message(f"{expected}: {problem}", at=here(), hint=hint))


def _measure(
    program: Program, arrays: Sequence[Array], sizes: Mapping[str, int], calls: int | None
) -> Profile:
    function, context = program.caller.function, program.caller.context
    function(*arrays)  # the first call reserves memory
    context[FIRST_PROFILE_SLOT:] = 0
    context[WHOLE_PROFILE_SLOT] = 0
    begin = time.perf_counter()
    done = 0
    while True:
        function(*arrays)
        done += 1
        seconds = time.perf_counter() - begin
        if done >= (_PROFILE_CALLS if calls is None else calls):
            break
        if calls is None and seconds > _PROFILE_SECONDS:
            break
    infos = program.executable.kernels
    ticks = context[FIRST_PROFILE_SLOT : FIRST_PROFILE_SLOT + len(infos)].tolist()
    each = seconds_of_ticks(ticks, int(context[WHOLE_PROFILE_SLOT]), seconds, done)
    known = {**sizes, **program.caller.computed_sizes()}
    kernels = tuple(
        KernelTime(k.name, k.nodes, k.lines, s, evaluate(k.flops, known), evaluate(k.bytes, known))
        for k, s in zip(infos, each, strict=True)
    )
    return Profile(program.executable.graph.name, done, seconds / done, kernels)
