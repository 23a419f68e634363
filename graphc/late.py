"""What is loaded when it is first used (floor 8): public names, and what lower floors ask for by
hooks.

`import graphc` stays quick: programs that declare graphs and call cached functions need neither
rewriting nor lowering nor files of graphs.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence

from graphc.autodiff.reverse import STABILIZER
from graphc.autodiff.stable_candidates import may_be_stabilized
from graphc.ir.graph import OPTIMIZER, SAVER, Graph
from graphc.ir.node import Tensor

NAMES: dict[str, Callable[[], object]] = {
    "compile": lambda: importlib.import_module("graphc.aot").compile,
    "debug": lambda: importlib.import_module("graphc.debug"),
    "load": lambda: importlib.import_module("graphc.artifact.load").load,
    "tune": lambda: importlib.import_module("graphc.tuning").tune,
}


def _save(graph: Graph, path: str | os.PathLike[str], *, provenance: bool) -> None:
    importlib.import_module("graphc.artifact.save").save(graph, path, provenance=provenance)


def _optimize(graph: Graph, numerics: str) -> Graph:
    found: Graph = importlib.import_module("graphc.passes.pipeline").optimize(graph, numerics)
    return found


def _stabilize(outputs: Sequence[Tensor]) -> list[Tensor]:
    if not may_be_stabilized(outputs):
        return list(outputs)
    found: list[Tensor] = importlib.import_module("graphc.passes.stable").stabilize(outputs)
    return found


SAVER["save"] = _save
OPTIMIZER["optimize"] = _optimize
STABILIZER["stabilize"] = _stabilize
