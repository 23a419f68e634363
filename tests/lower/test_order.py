"""The order of kernels: what a checkpoint computes again is computed when it is wanted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import graphc

LAYERS = 6
BLOCKS = 6

Block = Callable[[graphc.Tensor, graphc.Tensor], graphc.Tensor]


def block(h: graphc.Tensor, w: graphc.Tensor) -> graphc.Tensor:
    for _ in range(LAYERS):
        h = graphc.tanh(h @ w)
    return h


def chain(function: Block) -> tuple[graphc.Function, np.ndarray]:
    """The gradient of BLOCKS blocks with respect to the weights, and its value."""
    w = graphc.variable(np.eye(16, dtype=np.float32) * 0.9, name="w")
    x = graphc.placeholder(("n", 16), name="x")
    h = x
    for _ in range(BLOCKS):
        h = function(h, w)
    session = graphc.Session(cache_dir="")
    f = session.function([x], graphc.grad(graphc.sum(h), w))
    return f, f(np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 16))


def batch_slots(f: graphc.Function) -> int:
    """Slots of the arena that grow with the batch: kept activations and cotangents."""
    return sum("64*n bytes" in line for line in f.explain("memory").splitlines())


def test_checkpoints_keep_their_borders_and_one_block() -> None:
    kept, expected = chain(block)
    again, found = chain(graphc.checkpoint(block))
    assert batch_slots(kept) >= LAYERS * BLOCKS
    assert batch_slots(again) <= LAYERS + BLOCKS + 3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
