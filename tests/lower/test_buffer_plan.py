"""Where values live: no two that are needed at the same time share a byte, and what is free is used
again in parts.
"""

from __future__ import annotations

import itertools
import math
import re

import numpy as np

import graphc
from graphc.backend import llvm_cpu
from graphc.compiler import Compilation
from graphc.lower.free_memory import LINE, FreeMemory
from graphc.runtime.executable import CompileOptions


def test_parts_in_use_never_overlap_and_all_of_it_comes_back() -> None:
    rng = np.random.default_rng(0)
    memory = FreeMemory()
    held: dict[int, int] = {}
    most = 0
    for _ in range(3000):
        if held and rng.random() < 0.5:
            start = int(rng.choice(list(held)))
            memory.give(start, held.pop(start))
            continue
        size = int(rng.integers(0, 5000))
        start, _ = memory.take(size)
        assert start % LINE == 0
        assert start + size <= memory.end
        for other, length in held.items():
            apart = start + max(size, 1) <= other or other + max(length, 1) <= start
            assert apart, (start, size, other, length)
        held[start] = size
        most = max(most, sum(held.values()))
    for start, size in held.items():
        memory.give(start, size)
    end = memory.end
    assert memory.take(end) == (0, True)
    assert memory.end == end < 2 * most


def test_the_smallest_part_that_is_large_enough_is_taken_and_the_last_one_grows() -> None:
    memory = FreeMemory()
    starts = [memory.take(size)[0] for size in (640, 64, 128, 64, 320)]
    memory.give(starts[0], 640)
    memory.give(starts[2], 128)
    assert memory.take(100) == (starts[2], True)
    assert memory.take(64) == (starts[0], True)
    memory.give(starts[4], 320)
    end = memory.end
    assert memory.take(640) == (starts[4], True)
    assert memory.end == end + 320


def arena(text: str) -> int:
    return sum(map(int, re.findall(r"slot \d+: (\d+) bytes", text)))


def test_a_large_value_gives_its_memory_to_several_small_ones() -> None:
    x = graphc.placeholder((64, 64), name="x")
    w = graphc.variable(np.full((64, 256), 0.01, np.float32))
    v = graphc.variable(np.full((256, 64), 0.01, np.float32))
    h = graphc.tanh(x @ w) @ v  # 64 KB between
    parts = [graphc.tanh(h @ graphc.constant(np.eye(64, dtype=np.float32) * k)) for k in (1, 2, 3)]
    total = parts[0] @ parts[1] @ parts[2]
    with graphc.Session(cache_dir="") as session:
        f = session.function([x], total)
        assert arena(f.explain("memory")) == 5 * 64 * 64 * 4  # x @ w and h, then only what is free
        found = f(np.ones((64, 64), np.float32))
        plain = session.function([x], parts)(np.ones((64, 64), np.float32))
    np.testing.assert_allclose(found, plain[0] @ plain[1] @ plain[2], rtol=1e-5)


def test_values_that_are_needed_at_the_same_time_share_no_byte() -> None:
    x = graphc.placeholder((24, 40), name="x")
    weights = [
        graphc.variable(np.ones(shape, np.float32), name=f"w{k}", trainable=True)
        for k, shape in enumerate(((40, 72), (112, 40), (152, 8)))
    ]
    h = x
    for w in weights:  # each layer reads all before it: concatenations are written in place
        h = graphc.concat([h, graphc.tanh(h @ w)], axis=1)
    loss = graphc.mean(graphc.nn.softmax(h) ** 2)
    updates = graphc.optimizers.adam(weights, graphc.grad(loss, weights))
    graph = graphc.Graph([x], loss, updates)
    lowered = Compilation(graph, CompileOptions(), llvm_cpu.host_target()).lowered
    plan = lowered.plan
    lives: dict[int, list[int]] = {}
    bytes_: dict[int, tuple[int, int]] = {}
    for step, kernel in enumerate(lowered.steps):
        for memory in map(plan.memory, kernel.args):
            ref = plan.place(memory)
            if ref.kind != "arena":
                continue
            size = math.prod(memory.shape) * memory.dtype.itemsize
            bytes_[id(memory)] = (ref.offset, ref.offset + size)
            lives.setdefault(id(memory), []).append(step)
            assert ref.offset + size <= plan.slots[ref.number]
    assert len(plan.slots) == 1
    assert plan.reused > 5
    for a, b in itertools.combinations(bytes_, 2):
        if lives[a][0] <= lives[b][-1] and lives[b][0] <= lives[a][-1]:
            assert bytes_[a][1] <= bytes_[b][0] or bytes_[b][1] <= bytes_[a][0]
