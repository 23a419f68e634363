"""`graphc compile`: ahead of time, for programs without Python (the command line, floor 8)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import graphc
from graphc.aot.example import build_command
from graphc.aot.interface import identifier
from graphc.cli.model import load
from graphc.cli.table import bytes_text, json_text


def execute(options: argparse.Namespace) -> int:
    """Compile the model into a folder and print what was written and its size report; 0."""
    graph = load(options.model).graph
    settings: dict[str, Any] = {
        "name": options.name or _name(options.model),
        "target": options.target,
        "emit": options.emit,
        "weights": options.weights,
        "bindings": options.bindings,
        "max_size": options.max_size,
        "numerics": options.numerics,
        "check_numerics": options.check_numerics,
        "linker": options.linker,
    }
    result = graphc.compile(graph, options.out, **settings)
    if options.json:
        print(json_text(result.to_dict()))
        return 0
    for path in map(Path, result.files):
        print(f"{path}  {bytes_text(path.stat().st_size)}")
    if any(Path(path).name == "example.c" for path in result.files):
        print(f"\nto build the example: cd {options.out} && {build_command(result.library.name)}\n")
    print(result.report)
    return 0


def _name(model: str) -> str | None:
    """The library is called as its model; a model on stdin has no name."""
    return None if model == "-" else identifier(Path(model).stem)
