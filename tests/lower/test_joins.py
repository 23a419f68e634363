"""Concatenations that are written part by part: what is in place, what is copied, their values."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.backend import llvm_cpu
from graphc.compiler import Compilation
from graphc.lower.lower_graph import Lowered
from graphc.runtime.executable import CompileOptions

RNG = np.random.default_rng(0)


def lowered(inputs: list[graphc.Tensor], outputs: object) -> Lowered:
    graph = graphc.Graph(inputs, outputs)
    return Compilation(graph, CompileOptions(), llvm_cpu.host_target()).lowered


def agrees(inputs: list[graphc.Tensor], outputs: dict[str, graphc.Tensor]) -> None:
    arrays = [RNG.normal(size=[int(n) for n in x.shape]).astype(np.float32) for x in inputs]
    expected = graphc.Graph(inputs, outputs).evaluate(dict(zip(inputs, arrays, strict=True)))
    for threads in (1, 2):
        with graphc.Session(cache_dir="", threads=threads) as session:
            found = session.function(inputs, outputs)(*arrays)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5, err_msg=key)


def image(channels: int, batch: int = 1) -> graphc.Tensor:
    return graphc.placeholder((batch, channels, 16, 24), name="x")


def dense_block(x: graphc.Tensor, layers: int) -> graphc.Tensor:
    """Every layer reads the results of all before it (Huang et al. 2016)."""
    for k in range(layers):
        w = graphc.constant(RNG.normal(size=(8, x.shape[1])).astype(np.float32) * 0.2)
        new = graphc.einsum("oc,nchw->nohw", w, graphc.nn.relu(x * 0.5 + k))
        x = graphc.concat([x, new], axis=1)
    return x


def test_a_dense_block_is_one_buffer() -> None:
    x = image(16)
    y = graphc.max(dense_block(graphc.exp(x), 12), axis=(2, 3))
    found = lowered([x], y)
    joined = [r for r in found.regions if r.kind == "joined"]
    assert len(joined) == 12
    assert not any(step.kernel.name.startswith("concat") for step in found.kernels)
    agrees([x], {"y": y})


@pytest.mark.parametrize("batch", [1, 3])
def test_values_of_joined_tensors(batch: int) -> None:
    x = image(8, batch)
    a, b = graphc.exp(x * 0.1), graphc.tanh(x)
    joined = graphc.concat([a, x, b, a, graphc.flip(b, axis=3), graphc.zeros_like(x)], axis=1)
    longer = graphc.concat([b, joined, a[:, 2:5]], axis=1)
    outputs = {
        "pooled": graphc.nn.max_pool(joined, 3, 2, 1),
        "longer": graphc.nn.avg_pool(longer, 2),
        "again": graphc.nn.relu(joined[:, 4:12]),
        "part": a,
        "itself": graphc.concat([b, a * 2.0], axis=1),
    }
    agrees([x], outputs)


def test_a_part_takes_over_no_memory() -> None:
    """The slot of an operand that dies may be as large as the whole, not as the part."""
    x = image(16)
    a = graphc.exp(x)
    b = graphc.sin(graphc.concat([a, a * 2.0], axis=1)) * 2.0
    c = graphc.cos(graphc.max(b, axis=1, keepdims=True) + x)
    y = graphc.nn.max_pool(graphc.concat([c, graphc.sqrt(graphc.abs(c) + 1.0), c * c], axis=1), 2)
    agrees([x], {"y": y})


def test_what_the_caller_holds_is_no_part() -> None:
    x = image(16)
    a = graphc.exp(x)
    whole = graphc.concat([a, graphc.cos(x)], axis=1)
    v = graphc.variable(np.zeros((1, 32, 16, 24), np.float32), name="state")
    found = lowered([x], {"a": a, "pooled": graphc.nn.max_pool(whole, 2)})
    assert [part.op.name for part in found.plan.joins.roots] == ["cos"]
    with graphc.Session(cache_dir="") as session:
        step = session.function([x], {"a": a}, {v: v * 0.5 + whole})
        array = RNG.normal(size=(1, 16, 16, 24)).astype(np.float32)
        step(array)
        step(array)
        expected = np.concatenate([np.exp(array), np.cos(array)], axis=1) * 1.5
        np.testing.assert_allclose(session.value(v), expected, rtol=1e-5)
