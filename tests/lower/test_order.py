"""The order of kernels: what a checkpoint computes again is computed when it is wanted, and what
frees memory goes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

import graphc
from graphc.lower.run_order import LITTLE, Task, run_order

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


def test_gradients_of_weights_are_taken_before_what_they_read_piles_up() -> None:
    layers = 8
    weights = [
        graphc.variable(np.eye(96, dtype=np.float32), name=f"w{k}", trainable=True)
        for k in range(layers)
    ]
    x = graphc.placeholder((96, 96), name="x")
    h = x
    for w in weights:
        h = graphc.tanh(h @ w)
    gradients = graphc.grad(graphc.sum(h), weights)
    updates = graphc.optimizers.adam(weights, gradients)
    with graphc.Session(cache_dir="") as session:
        step = session.function([x], graphc.sum(h), updates=updates)
        text = step.explain("memory")
    slots = sum(map(int, re.findall(r"slot \d+: (\d+) bytes", text))) // (96 * 96 * 4)
    # The activations, the derivative behind a layer and before it, their transposed copies. All
    # derivatives would be `layers` more.
    assert layers <= slots <= layers + 4


def test_what_frees_memory_goes_first_and_what_takes_little_before_the_rest() -> None:
    big, small = 10 * LITTLE, LITTLE
    tasks = [
        Task(reads={0}, writes=[1]),  # may wait: it frees nothing
        Task(reads={9}, writes=[2]),
        Task(writes=[9]),
        Task(writes=[0]),
        Task(reads={0, 9}),  # the last reader of the small value
    ]
    assert run_order(tasks, {0: big, 1: big, 2: big, 9: small}) == [2, 1, 3, 4, 0]


def test_an_order_has_producers_first_and_wishes_where_they_can_be_met() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        n = int(rng.integers(2, 30))
        names = rng.permutation(n)  # positions say nothing about the order
        tasks = [Task() for _ in range(n)]
        for k in range(n):
            tasks[names[k]].writes = [int(k)]
            earlier = rng.choice(k, min(k, int(rng.integers(0, 4))), replace=False) if k else []
            tasks[names[k]].reads = {int(e) for e in earlier}
        sizes = {k: int(rng.integers(0, 20_000)) for k in range(n) if rng.random() < 0.8}
        wishing, wish = (int(i) for i in rng.integers(0, n, 2))
        tasks[wishing].later = {int(np.argmax(names == wish))}
        order = run_order(tasks, sizes)
        assert sorted(order) == list(range(n))
        done: set[int] = set()
        for task in order:
            assert tasks[task].reads <= done
            done.update(tasks[task].writes)


def test_a_wish_is_met_where_something_else_can_run() -> None:
    tasks = [Task(), Task(writes=[1]), Task(writes=[2], later={1})]
    assert run_order(tasks, {}) == [1, 2, 0]
