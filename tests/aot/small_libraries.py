"""Objects of small libraries, compiled once for all tests that link, pack or measure them."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc.aot.dispatch import targets_of
from graphc.aot.module import Module, make_module
from graphc.backend.llvm_driver import compile_object, host_target
from graphc.runtime.executable import CompileOptions

HOST = "x86-64-linux" if platform.machine() == "x86_64" else "aarch64-linux"


@functools.cache
def small_library(target: str = HOST, external: bool = False) -> tuple[Module, bytes]:
    """A dense layer, and one kernel that runs twice: its module and its object."""
    x = graphc.placeholder(("batch", 64), "float32", name="x")
    weights = np.linspace(-1, 1, 640, dtype=np.float32).reshape(64, 10)
    w = graphc.variable(weights, name="w")
    b = graphc.variable(np.ones(10, np.float32), name="b")
    u = graphc.placeholder((7, 5), "float64", name="u")
    v = graphc.placeholder((7, 5), "float64", name="v")
    outputs = {
        "y": graphc.nn.softmax(graphc.tanh(x @ w + b)),
        "first": graphc.cumulative_sum(u, axis=0),
        "second": graphc.cumulative_sum(v, axis=0),
    }
    graph = graphc.Graph([x, u, v], outputs, name="small")
    targets = targets_of(target, host_target())
    module = make_module(graph, "small", targets, CompileOptions(), external=external)
    return module, compile_object(module.text, module.base)


def write_object(folder: Path, target: str = HOST) -> tuple[Module, Path]:
    """The module, and its object as a file."""
    module, content = small_library(target)
    path = folder / "small.o"
    path.write_bytes(content)
    return module, path


def needs(found: str | None, what: str) -> str:
    """The path of a tool, or the test is skipped."""
    if found is None:
        pytest.skip(f"{what} is not installed")
    return found
