"""Convolutions that the tests of several templates compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import graphc
import graphc.nn
from graphc.base.dtypes import Array
from graphc.ir.graph import Graph


@dataclass(frozen=True)
class Case:
    """A convolution: channels, results, height, width, kernel and so on, and the batch."""

    channels: int
    results: int
    height: int
    width: int
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    batch: int = 1


def convolution(
    case: Case, batch: int | graphc.Dim | None = None
) -> tuple[Graph, dict[str, Array]]:
    """The convolution with bias, a further operand and a rectifier, and arrays for its inputs.
    batch: as the graph has it, where that is not the case's own.
    """
    rng = np.random.default_rng(2)
    first = case.batch if batch is None else batch
    x = graphc.placeholder((first, case.channels, case.height, case.width), name="x")
    shape = (case.results, case.channels // case.groups, *case.kernel)
    weights = graphc.constant(rng.standard_normal(shape).astype(np.float32))
    bias = graphc.constant(rng.standard_normal(case.results).astype(np.float32))
    out = graphc.nn.conv(
        x, weights, case.stride, case.padding, case.dilation, case.groups, bias=bias
    )
    skip = graphc.placeholder(out.shape, name="skip")
    out = graphc.maximum(out + skip, 0)
    graph = Graph.build([("x", x), ("skip", skip)], [("out", out)], (), "conv", {})
    sizes = (case.batch, *out.shape[1:])
    arrays = {
        "x": rng.standard_normal((case.batch, *x.shape[1:])).astype(np.float32),
        "skip": rng.standard_normal(sizes).astype(np.float32),
    }
    return graph, arrays
