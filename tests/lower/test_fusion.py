"""What becomes one kernel, by count ("It must show" 7), and that fused results are the unfused ones
bit for bit.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import graphc
from benchmarks.models import mlp_step
from graphc.backend import llvm_cpu
from graphc.compiler import Compilation
from graphc.loops.nodes import For, Kernel, Store
from graphc.loops.walk import statements
from graphc.runtime.executable import CompileOptions

RNG = np.random.default_rng(0)


def lowered(inputs: list[graphc.Tensor], outputs: Any, **options: Any) -> Compilation:
    """The compilation of a graph for this machine."""
    graph = graphc.Graph(inputs, outputs)
    return Compilation(graph, CompileOptions(**options), llvm_cpu.host_target())


def kernels(compilation: Compilation) -> list[Kernel]:
    return [k.kernel for k in compilation.lowered.kernels]


def run(inputs: list[graphc.Tensor], outputs: Any, arrays: list[Any], **options: Any) -> Any:
    with graphc.Session(cache_dir="", **options) as session:
        return session.function(inputs, outputs)(*arrays)


def test_the_chain_is_one_kernel_and_one_pass() -> None:
    a, b, c, d = (graphc.placeholder(("n",), name=name) for name in "abcd")
    y = graphc.tanh(a * b + c) * graphc.sigmoid(d) - graphc.exp(-a * a)
    compilation = lowered([a, b, c, d], y)
    (kernel,) = kernels(compilation)
    assert len(kernel.params) == 5
    assert compilation.lowered.plan.slots == []
    loops = [s for s in statements(kernel.body) if isinstance(s, For) and s.kind == "vector"]
    stores = [s for s in statements(kernel.body) if isinstance(s, Store)]
    assert len(loops) == len(stores) == 1


def softmax_naive(x: graphc.Tensor) -> graphc.Tensor:
    e = graphc.exp(x - graphc.max(x, axis=1, keepdims=True))
    return e / graphc.sum(e, axis=1, keepdims=True)


def layer_norm(x: graphc.Tensor) -> graphc.Tensor:
    centered = x - graphc.mean(x, axis=1, keepdims=True)
    return centered / graphc.sqrt(graphc.mean(centered * centered, axis=1, keepdims=True) + 1e-5)


ROWS = {
    "softmax": lambda x: graphc.nn.softmax(x, axis=-1),
    "softmax by hand": softmax_naive,
    "log_softmax": lambda x: graphc.nn.log_softmax(x, axis=-1),
    "layer norm": layer_norm,
    "rms norm": lambda x: x / graphc.sqrt(graphc.mean(x * x, axis=1, keepdims=True) + 1e-5),
    "logsumexp": lambda x: graphc.logsumexp(x, axis=1),
    "row sum of exp": lambda x: graphc.sum(graphc.exp(x), axis=1) * 2.0,
    "column mean, scaled": lambda x: graphc.mean(x * x, axis=0) * 3.0,
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("columns", [10, 33, "d"])
def test_rows_are_one_kernel(name: str, columns: Any) -> None:
    x = graphc.placeholder(("n", columns), name="x")
    y = ROWS[name](x)
    compilation = lowered([x], y)
    assert len(compilation.lowered.regions) == 1, compilation.stage("regions")
    # Columns of unknown length are added up in chains, which a second kernel combines.
    chains = columns == "d" and name == "column mean, scaled"
    assert len(kernels(compilation)) == 1 + chains, compilation.stage("loops")
    array = RNG.normal(size=(7, 33 if columns == "d" else columns)).astype(np.float32)
    got = run([x], y, [array])
    np.testing.assert_allclose(
        got, graphc.Graph([x], y).evaluate({x: array})["output"], rtol=2e-5, atol=1e-6
    )


def test_the_gradient_of_softmax_cross_entropy_is_one_kernel() -> None:
    logits = graphc.placeholder(("n", 10), name="logits")
    t = graphc.placeholder(("n",), "int64", name="t")
    loss = graphc.sum(graphc.nn.softmax_cross_entropy(logits, t))
    gradient = graphc.grad(loss, logits)
    compilation = lowered([logits, t], gradient)
    assert len(kernels(compilation)) == 1, compilation.stage("regions")


def test_matmul_takes_bias_and_activation_along() -> None:
    x = graphc.placeholder(("n", 20), name="x")
    w = graphc.placeholder((20, 30), name="w")
    b = graphc.placeholder((30,), name="b")
    y = graphc.nn.gelu(x @ w + b)
    compilation = lowered([x, w, b], y)
    assert len(kernels(compilation)) == 1, compilation.stage("regions")


def test_several_outputs_of_one_kernel() -> None:
    """The moments and the new value of Adam in one pass."""
    v = graphc.variable(np.zeros(100, np.float32), name="v")
    g = graphc.placeholder((100,), name="g")
    updates = graphc.optimizers.adam([v], [g])
    graph = graphc.Graph([g], {}, updates)
    compilation = Compilation(graph, CompileOptions(), llvm_cpu.host_target())
    big = [k for k in kernels(compilation) if any(p.shape == (100,) for p in k.params)]
    assert len(big) == 1, compilation.stage("regions")


def test_a_value_read_at_other_elements_is_stored_once() -> None:
    """x -> x + flip(x), again and again: without a store the work would double each time."""
    x = graphc.placeholder(("n",), name="x")
    y = x
    for _ in range(12):
        y = graphc.tanh(y + graphc.flip(y))
    compilation = lowered([x], y)
    assert len(kernels(compilation)) == 12
    array = RNG.normal(size=9).astype(np.float32)
    np.testing.assert_allclose(
        run([x], y, [array]), graphc.Graph([x], y).evaluate({x: array})["output"], rtol=1e-4
    )


def test_equal_steps_of_an_unrolled_recurrence_share_their_kernels() -> None:
    """Where a slice starts is an offset of the launch, not part of the code."""
    steps = 40
    x = graphc.placeholder(("n", steps, 3), name="x")
    w = graphc.placeholder((3, 4), name="w")
    u = graphc.placeholder((4, 4), name="u")
    h = graphc.tanh(x[:, 0] @ w)
    for t in range(1, steps):
        h = graphc.tanh(x[:, t] @ w + h @ u)
    compilation = lowered([x, w, u], h)
    assert len({id(k) for k in kernels(compilation)}) <= 4 < steps < len(kernels(compilation))
    arrays = [RNG.normal(size=s).astype(np.float32) for s in ((5, steps, 3), (3, 4), (4, 4))]
    expected = graphc.Graph([x, w, u], h).evaluate(dict(zip("xwu", arrays, strict=True)))["output"]
    np.testing.assert_allclose(run([x, w, u], h, arrays), expected, rtol=1e-4, atol=1e-6)


def test_fused_bits_are_unfused_bits() -> None:
    x = graphc.placeholder(("n", "d"), name="x")
    s = graphc.nn.softmax(x, axis=-1)
    z = graphc.tanh(s) * layer_norm(x)
    outputs = {"z": z, "m": graphc.mean(z), "c": graphc.sum(z * z, axis=0)}
    array = RNG.normal(size=(37, 53)).astype(np.float32)
    with graphc.Session(cache_dir="", numerics="exact") as session:
        fused = session.function([x], outputs)(array)
    with graphc.Session(cache_dir="", numerics="exact", fuse=False) as session:
        apart = session.function([x], outputs)(array)
    for name in outputs:
        assert fused[name].tobytes() == apart[name].tobytes(), name


def test_every_decision_has_its_reason() -> None:
    x = graphc.placeholder(("n", 8), name="x")
    w = graphc.placeholder((8, 8), name="w")
    y = graphc.exp(x) @ w
    text = lowered([x, w], graphc.nn.softmax(y, axis=-1) * 2.0).stage("regions")
    assert "joins" in text
    assert "is kept out: a contraction reads each element many times" in text


def test_the_mlp_step_allocates_nothing_after_its_first_call() -> None:
    """Arena and state stay where they are, and NumPy hands out nothing but the returned loss."""
    model = mlp_step(batch=32, sizes=(64, 48, 10))
    with graphc.Session(cache_dir="") as session:
        step = session.function(model.inputs, model.outputs, updates=model.updates)
        for _ in range(3):
            step(*model.arrays)
        tracemalloc.start()
        for _ in range(200):  # the interpreter's own caches fill
            step(*model.arrays)
        before = tracemalloc.take_snapshot()
        for _ in range(500):
            step(*model.arrays)
        after = tracemalloc.take_snapshot()
        tracemalloc.stop()
    own = (tracemalloc.Filter(False, tracemalloc.__file__), tracemalloc.Filter(False, __file__))
    growth = sum(
        s.size_diff
        for s in after.filter_traces(own).compare_to(before.filter_traces(own), "filename")
    )
    assert growth < 4096, growth
