"""`graphc explain`: the text of a compiler stage (the command line, floor 8)."""

from __future__ import annotations

import argparse
import difflib
import importlib
import re

from graphc.base.errors import GraphError, message
from graphc.cli.model import compilation, load
from graphc.cli.table import json_text
from graphc.compiler import Compilation

# The stages that have one part per kernel, and the line with which the part of a name begins.
_HEADS = {
    "regions": r"region {name} \(",
    "loops": r"kernel {name}\(",
    "llvm": r"define [^\n]*@\"?{name}\"?\(",
    "assembly": r"\"?{name}\"?:",
}
_ENDS = {"regions": r"region ", "loops": r"kernel ", "llvm": r"\}", "assembly": r"\.Lfunc_end\d+:"}


def execute(options: argparse.Namespace) -> int:
    """Print the stage; 0. Raises GraphError for a kernel that does not exist."""
    graph = load(options.model).graph
    stages = compilation(graph, options.numerics)
    text = stages.stage(options.stage)
    if options.kernel is not None:
        text = only(stages, options.stage, text, options.kernel)
    text = text.rstrip("\n")
    if options.json:
        print(json_text({"stage": options.stage, "kernel": options.kernel, "text": text}))
    else:
        print(text)
    return 0


def only(stages: Compilation, stage: str, text: str, name: str) -> str:
    """The part of a stage's text that belongs to one kernel (all of that name).

    Raises GraphError for a stage without kernels and for an unknown name.
    """
    if stage not in _HEADS:
        what = f"--kernel {name}: the stage {stage} has no parts by kernel"
        hint = f"stages that have: {', '.join(_HEADS)}"
        raise GraphError(message(what, at="", hint=hint))
    names = dict.fromkeys(k.kernel.name for k in stages.lowered.all_kernels)
    if stage == "regions":
        parts = (*stages.lowered.bodies, stages.lowered)
        names = dict.fromkeys(r.name for part in parts for r in part.regions)
    if name not in names:
        near = difflib.get_close_matches(name, names, 3) or list(names)[:12]
        what = (
            f"--kernel {name}: there is no {'region' if stage == 'regions' else 'kernel'} {name!r}"
        )
        raise GraphError(message(what, at="", hint=f"known: {', '.join(near)}"))
    functions = native_names(stages, name) if stage in ("llvm", "assembly") else [name]
    comment = {"llvm": ";", "assembly": "#"}.get(stage)
    kept = [f"{comment} kernel {name}: {', '.join(functions)}"] if comment else []
    kept += _parts(text, stage, functions)
    return "\n".join(kept)


def native_names(stages: Compilation, name: str) -> list[str]:
    """The native functions of a kernel: kernels of equal text are one function, numbered in order
    of their first launch.
    """
    emit = importlib.import_module("graphc.backend.loop_emitter").emit_kernel
    numbers: dict[str, int] = {}
    found: dict[str, None] = {}
    for launch in stages.program.launches():
        number = numbers.setdefault(emit(launch.kernel, stages.target, {}), len(numbers))
        if launch.kernel.name == name:
            found[f"graphc.kernel.{number}"] = None
    return list(found)


def _parts(text: str, stage: str, names: list[str]) -> list[str]:
    """The lines of the parts that begin with one of the names."""
    either = "|".join(map(re.escape, names))
    head = re.compile(_HEADS[stage].format(name=f"(?:{either})"))
    end = re.compile(_ENDS[stage])
    closed = stage in ("llvm", "assembly")  # by a line of the part; by the next part elsewhere
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        if inside and end.match(line):
            inside = False
            kept += [line] if closed else []
        inside = inside or head.match(line) is not None
        if inside:
            kept.append(line)
    return kept
