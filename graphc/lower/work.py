"""How much each step computes and moves (floor 5), as sizes: for profiles and estimates.

A loop of a number of turns that only the data know counts as one turn, a branch as the larger of
its bodies where that is known, and as both otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from graphc.base.dims import Dim, Shape, Size, product
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.lower.control import LoweredCalls, LoweredControl
from graphc.lower.kernel_builder import LoweredKernel
from graphc.lower.lower_graph import Lowered
from graphc.lower.regions import Region
from graphc.ops.families import Contraction, Reduction


@dataclass(frozen=True, slots=True)
class Work:
    """flops: scalar operations; bytes: read and written at least."""

    flops: Size = 0
    bytes: Size = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def times(self, count: Size) -> Work:
        """The same `count` times."""
        return Work(self.flops * count, self.bytes * count)


def work_of_steps(lowered: Lowered) -> list[list[Work]]:
    """The work of each step: of each body, then of the graph
    itself.
    """
    # Thousands of values share a few shapes, and products of symbolic sizes are dear.
    elements = functools.cache(product)
    bodies: dict[Graph, Work] = {}
    found: list[list[Work]] = []
    for source, body in zip(lowered.sources, lowered.bodies, strict=True):
        found.append(_steps(body, bodies, elements))
        bodies[source] = sum(found[-1], Work())
    return [*found, _steps(lowered, bodies, elements)]


def _steps(
    lowered: Lowered, bodies: Mapping[Graph, Work], elements: Callable[[Shape], Size]
) -> list[Work]:
    return [
        _kernel(step, region, elements)
        if isinstance(step, LoweredKernel)
        else _control(step, bodies)
        if isinstance(step, LoweredControl)
        else bodies[step.body].times(len(step.rows))
        if isinstance(step, LoweredCalls)
        else Work()
        for step, region in zip(lowered.steps, lowered.step_regions, strict=True)
    ]


def _kernel(step: LoweredKernel, region: Region, elements: Callable[[Shape], Size]) -> Work:
    return Work(
        _total(_flops(node, elements) for node in region.nodes),
        _total((elements(b.shape), b.dtype.itemsize) for b in step.kernel.params),
    )


def _control(step: LoweredControl, bodies: Mapping[Graph, Work]) -> Work:
    each = [bodies[body] for body in step.bodies]
    if len(each) == 1 and step.node.op.name != "scan":
        return each[0]
    if step.node.op.name == "scan":
        return each[0].times(step.node.attr("length"))
    if step.node.op.name == "cond":
        return Work(_larger(each[0].flops, each[1].flops), _larger(each[0].bytes, each[1].bytes))
    return sum(each, Work())


def _larger(a: Size, b: Size) -> Size:
    return a + b if isinstance(a, Dim) or isinstance(b, Dim) else max(a, b)


def _total(parts: Iterable[tuple[Size, int]]) -> Size:
    """The sum of sizes times factors; equal sizes are counted first, and multiplied once."""
    factors: dict[Size, int] = {}
    for size, factor in parts:
        factors[size] = factors.get(size, 0) + factor
    total: Size = 0
    for size, factor in factors.items():
        total = total + size * factor
    return total


def _flops(node: Tensor, elements: Callable[[Shape], Size]) -> tuple[Size, int]:
    """Scalar operations of a node: a number of elements, and operations on each."""
    if isinstance(node.op.form, Contraction):
        a, b = node.attr("spec").split("->")[0].split(",")
        sizes = dict(zip(a, node.inputs[0].shape, strict=True)) | dict(
            zip(b, node.inputs[1].shape, strict=True)
        )
        return elements(tuple(sizes.values())), 2
    return elements((node.inputs[0] if isinstance(node.op.form, Reduction) else node).shape), 1
