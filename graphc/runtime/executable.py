"""Compiled programs as sessions receive them (runtime, floor 7).

An `Executable` is a graph's object bytes with everything that is needed to call it and to explain
it.  The compiler lives one floor up and fills `COMPILER`; sessions only know this hook.
Invariant: the buffers of the entry are, in this order, inputs, variables, outputs, updates,
constants: each contiguous, in stored form (bfloat16 as uint16).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from graphc.backend.context_slots import FIRST_PROFILE_SLOT as FIRST_PROFILE_SLOT
from graphc.backend.context_slots import WHOLE_PROFILE_SLOT as WHOLE_PROFILE_SLOT
from graphc.base.dims import Size, Symbol
from graphc.base.errors import CompileError
from graphc.ir.constant import ConstantValue
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor, TensorType


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What a session asks of the compiler.

    optimize=False: no rewriting; fuse=False: one region per node.  check_numerics: kernels report
    the first value stored that is NaN or infinite as an error site of kind "numerics".
    """

    device: str = "cpu"
    numerics: str = "standard"
    cache_dir: str | None = None
    check_numerics: bool = False
    profile: bool = False
    optimize: bool = True
    fuse: bool = True


@dataclass(frozen=True, slots=True)
class Site:
    """A place at which a program can stop; the entry returns its position in `sites` plus one.

    op: the op's name; where: the user's line (`provenance.where`), empty when unknown; hint: what
    is wrong and what to do; kind: "value" (an operand that the op cannot work with), "numerics"
    (NaN or infinity with check_numerics), "size", "negative" or "divisor" (of a computed size);
    name: the node's name in the optimized graph.
    """

    op: str
    where: str
    hint: str
    kind: str = "value"
    name: str = ""


@dataclass(frozen=True, slots=True)
class KernelInfo:
    """One launch of a program.

    nodes: what it computes, by names of the optimized graph; lines: the user's; flops, bytes: work.
    """

    name: str
    nodes: tuple[str, ...]
    lines: tuple[str, ...]
    flops: Size = 0
    bytes: Size = 0


@dataclass
class Executable:
    """A compiled graph.

    symbols: in the order of the entry's `dims`; variables: in the order of their buffers; updates:
    the variable that each update buffer belongs to; flops: scalar operations of launches, each with
    the number of launches that have so many; stages(name): the text of a stage for `explain`;
    optimized(): the graph that the kernels compute, with its names; describe_kernels(): the
    launches. computed: the sizes that it finds itself, whose places in `dims` follow those of
    `symbols`; blocks: how many further places of `dims` it uses.
    """

    graph: Graph
    object: bytes
    symbols: tuple[Symbol, ...]
    inputs: tuple[tuple[str, TensorType], ...]
    variables: tuple[Tensor, ...]
    outputs: tuple[tuple[str, TensorType], ...]
    updates: tuple[Tensor, ...]
    constants: tuple[ConstantValue, ...]
    sites: tuple[Site, ...]
    flops: tuple[tuple[Size, int], ...]
    has_parallel: bool
    stages: Callable[[str], str] = field(repr=False)
    from_cache: bool = False
    optimized: Callable[[], Graph] = field(repr=False, kw_only=True)
    describe_kernels: Callable[[], tuple[KernelInfo, ...]] = field(repr=False, kw_only=True)
    computed: tuple[Symbol, ...] = ()
    blocks: int = 0

    @functools.cached_property
    def kernels(self) -> tuple[KernelInfo, ...]:
        """Names, lines and work of each launch, found when somebody asks."""
        return self.describe_kernels()


# "compile": (graph: Graph, options: CompileOptions) -> Executable. Filled by graphc/compiler.py.
COMPILER: dict[str, Callable[[Graph, CompileOptions], Executable]] = {}


def compile_graph(graph: Graph, options: CompileOptions) -> Executable:
    """Compile by the hook."""
    compile_ = COMPILER.get("compile")
    if compile_ is None:
        raise CompileError("the compiler is not loaded: import graphc, not graphc.runtime alone")
    return compile_(graph, options)
