"""`graphc view`: a picture of the graph (the command line, floor 8)."""

from __future__ import annotations

import argparse
from pathlib import Path

from graphc.base.atomic_file import replacing
from graphc.cli.model import Model, check_folder, compilation, load
from graphc.viewer.dot import dot_text
from graphc.viewer.model_explorer import json_of
from graphc.viewer.page import page
from graphc.viewer.scenes import scene, scenes


def execute(options: argparse.Namespace) -> int:
    """Write the picture and print where it is; 0."""
    check_folder(options.out)
    model = load(options.model)
    target = options.out or _default(model, options.format)
    text = picture(model, options.format, options.numerics)
    if target == "-":
        print(text, end="" if text.endswith("\n") else "\n")
        return 0
    with replacing(target) as file:
        file.write(text.encode())
    print(f"{target}: {len(model.graph.nodes)} nodes, {len(text.encode())} bytes")
    return 0


def picture(model: Model, form: str, numerics: str) -> str:
    """The text of a picture: "html", "dot" (the graph as declared) or "json"."""
    name = model.graph.name
    if form == "dot":
        return dot_text(scene("declared", model.graph), name)
    found = scenes(compilation(model.graph, numerics))
    return page(name, found) if form == "html" else json_of(name, found)


def _default(model: Model, form: str) -> str:
    return f"graph.{form}" if model.source == "stdin" else f"{Path(model.source).stem}.{form}"
