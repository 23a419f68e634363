"""Kernels of convolutional networks: how what stands around their products is lowered."""

from __future__ import annotations

import graphc
from graphc.backend import llvm_cpu
from graphc.compiler import Compilation
from graphc.runtime.executable import CompileOptions


def loops_of(inputs: list[graphc.Tensor], outputs: object) -> str:
    """The text of a graph's kernels."""
    graph = graphc.Graph(inputs, outputs)
    return Compilation(graph, CompileOptions(), llvm_cpu.host_target()).stage("loops")


def test_memory_is_read_in_the_shape_that_a_reshape_gives_it() -> None:
    x = graphc.placeholder((1, 256, 6, 6), name="x")
    w = graphc.placeholder((64, 256 * 36), name="w")
    text = loops_of([x, w], graphc.max(x, axis=0).reshape((1, -1)) @ w.T)
    assert "//" not in text.rpartition("kernel ")[2]
