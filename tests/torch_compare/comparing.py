"""Values and gradients of one function in graphc and in torch, on the same float64 arrays.

torch is looked up when a comparison runs, so that the folder can be collected without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc

Array = Any
RNG_SEED = 20


def torch() -> Any:
    """The module torch."""
    return importlib.import_module("torch")


def draw(*shapes: tuple[int, ...], seed: int = RNG_SEED) -> list[Array]:
    """Normal float64 arrays."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


def compare(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    arrays: list[Array],
    *,
    tolerance: float = 1e-10,
) -> None:
    """Hold `ours(*tensors)` against `theirs(*tensors)`: the value, then the gradients of
    sum(value * weights) by every float array.
    """
    t = torch()
    inputs = [graphc.placeholder(a.shape, a.dtype) for a in arrays]
    value = ours(*inputs)
    floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    weights = np.random.default_rng(3).normal(size=value.shape)
    loss = graphc.sum(value * weights)
    wanted = [inputs[i] for i in floats]
    with graphc.Session(threads=1) as session:
        found, gradients = session.run(
            (value, graphc.grad(loss, wanted, allow_unused=True)),
            dict(zip(inputs, arrays, strict=True)),
        )
    theirs_in = [t.tensor(a, requires_grad=i in floats) for i, a in enumerate(arrays)]
    expected = theirs(*theirs_in)
    (expected * t.tensor(weights)).sum().backward()
    assert found.shape == tuple(expected.shape)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    for i, gradient in zip(floats, gradients, strict=True):
        other = theirs_in[i].grad
        other = np.zeros_like(arrays[i]) if other is None else other.numpy()
        np.testing.assert_allclose(
            gradient, other, rtol=tolerance, atol=tolerance, err_msg=f"gradient by operand {i}"
        )
