"""The compiler (floor 8): the stages from a declared graph to an executable, in order, in one
place.

    declared graph -> optimize (passes) -> expand -> lower (regions, loops, buffers)
    -> program -> LLVM -> object bytes

`program_lookup` asks for it where no cached program serves; it is not loaded otherwise.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphc.base.dims import Size
from graphc.base.errors import GraphError
from graphc.base.target import Target
from graphc.ir import provenance
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.kernels import TEMPLATES
from graphc.kernels.search_space import SEARCHED, variants
from graphc.loops.text import kernel_text
from graphc.lower.buffer_plan import LoweredStep
from graphc.lower.kernel_builder import LoweredKernel
from graphc.lower.lower_graph import Lowered, lower_graph
from graphc.lower.regions import Region
from graphc.lower.search_space import candidates
from graphc.lower.work import Work, work_of_steps
from graphc.passes.pipeline import lowerable, optimize
from graphc.program_cache import Contents
from graphc.program_lookup import executable
from graphc.runtime.executable import CompileOptions, Executable, KernelInfo, Site
from graphc.schedule.choices import Choice, Choices

if TYPE_CHECKING:
    from graphc.backend.program import Program

STAGES = ("graph", "optimized", "regions", "loops", "llvm", "assembly", "memory")
_NAMES_PER_KERNEL = 8
_LINES_PER_KERNEL = 4


def _backend() -> Any:
    """The CPU back end, loaded when something is compiled: a cached program does not need it."""
    return importlib.import_module("graphc.backend.llvm_cpu")


@dataclass
class Compilation:
    """One graph on its way through the stages; each is computed when it is first asked for.

    choices: schedules that were found by measuring.
    """

    graph: Graph
    options: CompileOptions
    target: Target
    choices: Choices | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def _timed(self, name: str, build: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = build()
        self.seconds[name] = time.perf_counter() - start
        return result

    @functools.cached_property
    def optimized(self) -> Graph:
        """The graph after rewriting: what the kernels compute, with the user's names."""
        if not self.options.optimize:
            return self.graph
        mode = self.options.numerics
        graph: Graph = self._timed("optimize", lambda: optimize(self.graph, mode))
        return graph

    def with_choices(self, choices: Choices) -> Compilation:
        """The same graph with other schedules; rewriting is not done again."""
        other = Compilation(self.graph, self.options, self.target, choices)
        other.optimized = self.optimized
        return other

    def for_target(self, target: Target) -> Compilation:
        """The same graph for another target; rewriting, which knows none, is not done again."""
        other = Compilation(self.graph, self.options, target)
        other.optimized = self.optimized
        return other

    @functools.cached_property
    def lowered(self) -> Lowered:
        """Regions, kernels and the buffer plan."""
        graph = self.optimized
        if not self.options.optimize:
            graph = self._timed("expand", lambda: lowerable(graph))
        lowered: Lowered = self._timed(
            "lower",
            lambda: lower_graph(
                graph,
                self.graph.variables,
                self.target,
                self.options.fuse,
                self.options.check_numerics,
                TEMPLATES,
                self.choices,
                SEARCHED,
                profile=self.options.profile,
            ),
        )
        return lowered

    @functools.cached_property
    def program(self) -> Program:
        """The steps over the planned buffers."""
        counts = {
            "input": len(self.graph.inputs),
            "variable": len(self.graph.variables),
            "output": len(self.graph.outputs),
            "update": len(self.graph.updates),
        }
        assemble = importlib.import_module("graphc.backend.assemble")
        program: Program = assemble.program_of(
            self.lowered,
            self.graph.symbols,
            counts,
            computed=self.graph.computed,
            profile=self.options.profile,
        )
        return program

    def object(self) -> bytes:
        """The object bytes."""
        data: bytes = self._timed(
            "code", lambda: _backend().compile_program(self.program, self.target)
        )
        return data

    def stage(self, name: str) -> str:
        """The text of a stage. Raises GraphError for an unknown name."""
        if name not in STAGES:
            raise GraphError(f"unknown stage {name!r}: the stages are {', '.join(STAGES)}")
        texts: dict[str, Callable[[], str]] = {
            "graph": lambda: str(self.graph),
            "optimized": lambda: str(self.optimized),
            "regions": lambda: self.lowered.describe_regions(),
            "loops": lambda: "\n".join(kernel_text(k.kernel) for k in self.lowered.all_kernels),
            "llvm": lambda: _backend().emit_program_text(self.program, self.target),
            "assembly": lambda: _backend().program_assembly(self.program, self.target),
            "memory": lambda: self.lowered.describe_plan(),
        }
        return texts[name]()

    # -- what an executable says about its kernels ------------------------------------------------
    @functools.cached_property
    def sites(self) -> tuple[Site, ...]:
        """The run-time checks, in the order of their numbers."""
        names = self.optimized.names
        by_id = {id(n): name for name, n in names.items()}
        return tuple(
            Site(n.op.name, provenance.where(n), _site_hint(n, kind), kind, by_id.get(id(n), ""))
            for n, kind in self.lowered.sites.entries
        )

    @functools.cached_property
    def kernel_infos(self) -> tuple[KernelInfo, ...]:
        """Names, lines and work of each step of the graph itself."""
        return tuple(info for _, info in self._step_infos[-1])

    @functools.cached_property
    def launch_infos(self) -> tuple[KernelInfo, ...]:
        """Names, lines and work of each launch: those of the bodies, then those of the graph."""
        return tuple(
            info
            for part in self._step_infos
            for step, info in part
            if isinstance(step, LoweredKernel)
        )

    @functools.cached_property
    def flops(self) -> tuple[tuple[Size, int], ...]:
        """The scalar operations of the graph's own steps, with the number of steps of so many."""
        return tuple(Counter(work.flops for work in self._works[-1]).items())

    @functools.cached_property
    def _works(self) -> list[list[Work]]:
        return work_of_steps(self.lowered)

    @functools.cached_property
    def _step_infos(self) -> list[list[tuple[LoweredStep, KernelInfo]]]:
        parts = [*self.lowered.bodies, self.lowered]
        return [
            [
                (step, _step_info(part.graph, step, region, work))
                for step, region, work in zip(part.steps, part.step_regions, works, strict=True)
            ]
            for part, works in zip(parts, self._works, strict=True)
        ]


@functools.lru_cache(maxsize=1024)
def _line(place: provenance.Location) -> str:
    return str(place)


def _step_info(graph: Graph, step: LoweredStep, region: Region, work: Work) -> KernelInfo:
    name = step.kernel.name if isinstance(step, LoweredKernel) else region.name
    names = tuple(graph.name_of(n) for n in region.nodes[:_NAMES_PER_KERNEL])
    lines = dict.fromkeys(_line(p) for n in region.nodes for p in provenance.locations(n)[:1])
    return KernelInfo(name, names, tuple(list(lines)[:_LINES_PER_KERNEL]), work.flops, work.bytes)


def _site_hint(node: Node, kind: str) -> str:
    if kind == "numerics":
        return f"a NaN or an infinity came out of {node.op.name}"
    if kind == "size":
        return "the size that it holds is not within the bounds that were declared"
    if kind == "negative":
        return f"a size of {node.op.name} : {node.type} is negative"
    if kind == "divisor":
        return f"a size of {node.op.name} : {node.type} is divided by one that is 0"
    if node.op.refuses:
        return node.op.refuses
    operands = ", ".join(str(i.type) for i in node.inputs)
    return f"an index is out of bounds for its operand ({node.op.name} of {operands})"


def _has_parallel(compilation: Compilation) -> bool:
    return any(
        getattr(s, "kind", "") == "parallel"
        for k in compilation.lowered.all_kernels
        for s in k.kernel.body
    )


def contents_of(compilation: Compilation, data: bytes) -> Contents:
    """What an executable needs of a compilation, beside its object bytes `data`."""
    return Contents(
        data,
        tuple(compilation.lowered.plan.constants),
        compilation.sites,
        compilation.flops,
        _has_parallel(compilation),
        compilation.lowered.blocks,
    )


def compilation_here(graph: Graph, options: CompileOptions, choices: Choices | None) -> Compilation:
    """The compilation of a graph for this machine."""
    return Compilation(graph, options, _backend().host_target(), choices)


def executable_of(compilation: Compilation) -> Executable:
    """The executable of a compilation for this machine, compiled now."""
    contents = contents_of(compilation, compilation.object())
    return executable(compilation.graph, contents, lambda: compilation, False)


def schedules_to_try(region: Region, target: Target) -> list[Choice]:
    """What a search may try for a region, the best guesses first."""
    return candidates(region, target, TEMPLATES, SEARCHED, variants)
