"""Cases generated from op definitions: every op, every dtype it accepts, every sample of its
author.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphc
import graphc.ops.convolution
import graphc.ops.random  # noqa: F401  # every module with ops
from graphc.base.dims import Dim, Size
from graphc.base.dtypes import (
    Array,
    DType,
    bfloat16,
    dtype_of,
    float16,
    float32,
    round_bfloat16,
)
from graphc.base.errors import GraphcError
from graphc.ir.node import Node, Tensor, TensorType, make
from graphc.ir.opdef import REGISTRY, OpDef, Sample
from graphc.ops.families import Source
from graphc.ops.state import placeholder

# Spacing of the dtypes that floats are compared in.
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}

# Ops that have no samples, and why.
WITHOUT_SAMPLES = {
    "placeholder": "its value is fed",
    "variable": "its value is state",
    "constant": "its value is an attribute; constants appear in every other test",
    "stop_gradient": "an alias: the value is its operand's; tested with differentiation",
    "barrier": "an alias: the value is its operand's; tested with differentiation",
    "with_gradient": "an alias: the value is its operand's; tested with differentiation",
    "call": "its attribute is a graph; tests/control holds it",
    "cond": "its attributes are graphs; tests/control holds it",
    "while_loop": "its attributes are graphs; tests/control holds it",
    "scan": "its attribute is a graph; tests/control holds it",
    "get": "a result of one of these; tests/control holds it",
}


@dataclass(frozen=True)
class Case:
    """One sample of an op at one dtype."""

    op: OpDef
    dtype: DType
    sample: Sample
    number: int

    @property
    def arrays(self) -> list[Array]:
        """The inputs in reference form, rounded where the dtype is bfloat16."""
        found = [np.asarray(x) for x in self.sample.inputs]
        if self.dtype is not bfloat16:
            return found
        return [round_bfloat16(a) if a.dtype == np.float32 else a for a in found]

    @property
    def dtypes(self) -> list[DType]:
        """The dtypes of the inputs: a float32 array stands for bfloat16 where that is the case's
        dtype.
        """
        return [
            self.dtype if a.dtype == self.dtype.numpy else dtype_of(a.dtype) for a in self.arrays
        ]

    def node(self, inputs: tuple[Tensor, ...]) -> Node:
        """The op on the given inputs."""
        return make(self.op, inputs, tuple(self.sample.attrs[a] for a in self.op.attributes))

    def placeholders(self, prefix: str = "") -> tuple[Tensor, ...]:
        """Inputs of the sample's static shapes."""
        return tuple(
            placeholder(a.shape, d, name=f"{prefix}x{i}")
            for i, (a, d) in enumerate(zip(self.arrays, self.dtypes, strict=True))
        )

    def symbolic(self) -> tuple[tuple[Tensor, ...], Node] | None:
        """Inputs whose sizes above 1 are symbols, and the node; None where the attributes fix
        sizes.
        """
        inputs = tuple(
            placeholder([self._symbol(n) for n in a.shape], d)
            for a, d in zip(self.arrays, self.dtypes, strict=True)
        )
        try:
            node = self.node(inputs)
        except (GraphcError, AssertionError):
            return None
        return inputs, node

    @staticmethod
    def _symbol(size: int) -> Size:
        return size if size == 1 else Dim(f"n{size}")

    def __str__(self) -> str:
        return f"{self.op.name}-{self.dtype.name}-{self.number}"


def ops_with_samples() -> list[OpDef]:
    """Every registered op but the sources."""
    return [op for op in REGISTRY if op.samples is not None and not isinstance(op.form, Source)]


def cases(op: OpDef, dtype: DType) -> Iterator[Case]:
    """All samples of an op at a dtype."""
    assert op.samples is not None
    for number, sample in enumerate(op.samples(dtype)):
        yield Case(op, dtype, sample, number)


def tolerance(dtype: DType, roundings: float = 4.0) -> tuple[float, float]:
    """(relative, absolute) tolerance of values that may differ by some roundings of their dtype.

    Absolute: numbers below the smallest normal one lose digits.
    """
    smallest = {float16: 2.0**-14, float32: 2.0**-126, bfloat16: 2.0**-126}.get(dtype, 2.0**-1022)
    return roundings * EPSILON[dtype.name], roundings * smallest * EPSILON[dtype.name]


def assert_same(
    got: Any, expected: Any, dtype: DType, roundings: float, what: str, scale: float = 0.0
) -> None:
    """Equal shapes and values: integers and bool exactly, floats up to roundings; NaN and inf at
    equal places.

    scale: the size of the terms that were added up, where results may cancel.
    """
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    if not dtype.is_float:
        np.testing.assert_array_equal(got, expected, err_msg=what)
        return
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    relative, absolute = tolerance(dtype, roundings)
    special = ~np.isfinite(expected) | ~np.isfinite(got)
    np.testing.assert_array_equal(got[special], expected[special], err_msg=what)
    np.testing.assert_allclose(
        got[~special],
        expected[~special],
        rtol=relative,
        atol=absolute + relative * scale,
        err_msg=what,
    )


def result_types(node: Node) -> tuple[TensorType, ...]:
    """The types of all results."""
    return (node.type,) if isinstance(node.type, TensorType) else node.type.items
