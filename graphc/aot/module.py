"""One LLVM module for a whole library (floor 8): code of each instruction set, data, wrapper.

Every instruction set has its own copy of the kernels, compiled for it by function attributes, so
that one object holds them all. Names start with the index of the set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphc.aot.callable import callable_text
from graphc.aot.dispatch import baseline_of, dispatch_text
from graphc.aot.in_place import updates_in_place, write_in_place
from graphc.aot.interface import Interface, interface
from graphc.aot.pool import pool_text
from graphc.aot.weights import Weights, is_zero
from graphc.aot.wrapper import Layout, Wrapper
from graphc.backend.entry import emit_with_names
from graphc.backend.kernel_facts import scratch_bytes
from graphc.backend.program import BufferRef, Program, placed
from graphc.base.dims import Size
from graphc.base.errors import CompileError
from graphc.base.target import Target
from graphc.compiler import Compilation
from graphc.ir.constant import ConstantValue
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.runtime.executable import CompileOptions, KernelInfo, Site
from graphc.schedule.choices import Choices

_NAME = re.compile(r"@graphc[._]")
_DEFINE = re.compile(r"^(define .*) \{$", re.MULTILINE)
_ABI = {
    "riscv64": '!llvm.module.flags = !{!0}\n!0 = !{i32 1, !"target-abi", !"lp64d"}',
}


@dataclass(frozen=True)
class Module:
    """A library before it is an object.

    kernels: by instruction set and function, the launches that run it, with names of the first
    set's program. Where a program is cut otherwise for another set, its kernels have no names.
    """

    interface: Interface
    targets: tuple[Target, ...]
    text: str
    kernels: dict[tuple[int, str], list[KernelInfo]]
    weights: Weights

    @property
    def base(self) -> Target:
        """What the module as a whole is compiled for."""
        return baseline_of(self.targets[0])


def make_module(
    graph: Graph,
    name: str,
    targets: Sequence[Target],
    options: CompileOptions,
    *,
    external: bool = False,
    choices: Choices | None = None,
) -> Module:
    """Compile a graph to the text of a library with these instruction sets. choices: schedules that
    were found by measuring, of the first one.
    """
    first = Compilation(graph, options, targets[0], choices)
    compilations = [first, *(first.for_target(target) for target in targets[1:])]
    constants: dict[int, int] = {}
    values: list[ConstantValue] = []
    programs = [_program(c, constants, values) for c in compilations]
    count = len(values)
    programs = [replace(p, counts=p.counts | {"constant": count}) for p in programs]
    sites = [c.sites for c in compilations]
    # Equal graphs are cut and checked alike for every instruction set; their numbers are shared.
    if any(s != sites[0] for s in sites):
        raise CompileError("the run-time checks differ between instruction sets")
    positions = {id(v): k for k, v in enumerate(graph.variables)}
    owners = [positions[id(v)] for v, _ in graph.updates]
    chosen = updates_in_place(programs, owners)
    programs = [write_in_place(p, owners, chosen) for p in programs]
    shape = interface(graph, name, [_say(s) for s in sites[0]], external=external)
    weights = Weights(external)
    sizes = tuple(dict.fromkeys(size for p in programs for size in _sizes(p)))
    layout = _layout(graph, shape, values, weights, chosen, sizes)
    base = baseline_of(targets[0])
    infos = first.launch_infos
    kernels: dict[tuple[int, str], list[KernelInfo]] = {}
    sets = []
    for k, (program, target) in enumerate(zip(programs, targets, strict=True)):
        text, functions = emit_with_names(program, target)
        sets.append(_set(text, target, k))
        named = launches_of([functions[launch.kernel] for launch in program.launches()], infos)
        kernels |= {(k, function): found for function, found in named.items()}
    parts = [
        f'target triple = "{base.triple}"',
        *sets,
        dispatch_text(targets),
        pool_text(base),
        *weights.globals,
        Wrapper(shape, layout, targets, base).text(),
        callable_text(shape),
        _ABI.get(base.triple.split("-")[0], ""),
    ]
    return Module(shape, tuple(targets), "\n\n".join(parts), kernels, weights)


def launches_of(
    functions: Sequence[str], infos: Sequence[KernelInfo]
) -> dict[str, list[KernelInfo]]:
    """What each function computes: the launches of a program in order, given as its functions and
    as the infos of the first set; nothing where their numbers differ.
    """
    found: dict[str, list[KernelInfo]] = {}
    if len(functions) == len(infos):
        for function, info in zip(functions, infos, strict=True):
            found.setdefault(function, []).append(info)
    return found


def _program(
    compilation: Compilation, places: dict[int, int], values: list[ConstantValue]
) -> Program:
    """The program with its constants numbered among those of all instruction sets."""
    program = compilation.program
    numbers = []
    for value in compilation.lowered.plan.constants:
        if id(value) not in places:
            places[id(value)] = len(values)
            values.append(value)
        numbers.append(places[id(value)])

    def place(ref: BufferRef) -> BufferRef:
        return ref._replace(number=numbers[ref.number]) if ref.kind == "constant" else ref

    return program.with_refs(place)


def _sizes(program: Program) -> list[Size]:
    """What the workspace of a program is made of."""
    _, end = placed(program)
    return [end, *(scratch_bytes(launch.kernel) for launch in program.launches())]


def _layout(
    graph: Graph,
    shape: Interface,
    constants: list[ConstantValue],
    weights: Weights,
    in_place: frozenset[int],
    sizes: tuple[Size, ...],
) -> Layout:
    updated = {id(v): k for k, v in enumerate(_state_variables(graph))}
    named = [(f"variable {graph.name_of(v)}", v.attr("value")) for v in graph.variables]
    numbered = [(f"constant {k}", value) for k, value in enumerate(constants)]
    if weights.external:
        kept = [
            (graph.name_of(v), value)
            for v, (_, value) in zip(graph.variables, named, strict=True)
            if not (id(v) in updated and is_zero(value))  # the init function fills zeros in
        ]
        weights.plan_file(kept, numbered)
    return Layout(
        variables=tuple(
            updated[id(v)] if id(v) in updated else weights.data(name, value)
            for v, (name, value) in zip(graph.variables, named, strict=True)
        ),
        updates=tuple((updated[id(v)], k in in_place) for k, (v, _) in enumerate(graph.updates)),
        constants=tuple(weights.data(name, value) for name, value in numbered),
        initial=tuple(
            weights.initial(f"variable {m.label}", v.attr("value"))
            for m, v in zip(shape.state, _state_variables(graph), strict=True)
        ),
        arena=sizes,
        file_bytes=weights.end,
        header=weights.header,
    )


def _state_variables(graph: Graph) -> list[Tensor]:
    updated = {id(v) for v, _ in graph.updates}
    return [v for v in graph.variables if id(v) in updated]


def _set(text: str, target: Target, index: int) -> str:
    """The code of one instruction set, with names and attributes of its own."""
    text = text.replace(f'target triple = "{target.triple}"', "", 1)
    text = _NAME.sub(f"@graphc.{index}.", text)
    text = re.sub(
        rf"^define i64 @graphc\.{index}\.",
        f"define internal i64 @graphc.{index}.",
        text,
        flags=re.MULTILINE,
    )
    attributes = f'"target-cpu"="{target.cpu}"'
    if target.features:
        attributes += f' "target-features"="{target.features}"'
    return _DEFINE.sub(rf"\1 {attributes} {{", text)


def _say(site: Site) -> str:
    where = f", at {site.where}" if site.where else ""
    return f"{site.hint}{where}"
