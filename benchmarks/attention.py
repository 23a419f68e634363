"""How long does attention take, forward and with its gradient, and how much memory between?

Heads of 64 features, causal or not; torch's scaled_dot_product_attention and JAX's
dot_product_attention beside it, where they are installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator

import numpy as np

import graphc
from benchmarks.measure import measure, readable
from benchmarks.table import Row
from graphc.base.dtypes import Array

HEADS, FEATURES, THREADS = 8, 64, 2
# Batch, places.
SIZES = ((1, 128), (8, 128), (1, 512), (8, 512), (1, 2048), (1, 4096))
Calls = dict[str, Callable[[], object]]  # by what is timed


def run() -> Iterator[Row]:
    """A row per size, with the gradients of queries, keys and values and without."""
    for batch, places in SIZES:
        shape = (batch, HEADS, places, FEATURES)
        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal(shape).astype(np.float32) for _ in range(4)]
        with graphc.Session(threads=THREADS) as session:
            ours, memory = _graphc(session, arrays)
            every = {"graphc": ours} | {
                name: make(arrays)
                for name, make in (("torch", _torch), ("jax", _jax))
                if importlib.util.find_spec(name)
            }
            for what in ours:
                row: dict[str, object] = {"attention": "×".join(map(str, shape)), "what": what}
                for name, calls in every.items():
                    row[name] = readable(measure(calls[what], seconds=0.3).median)
                row["memory between"] = f"{memory[what] / 1e6:.1f} MB"
                yield row


def _graphc(session: graphc.Session, arrays: list[Array]) -> tuple[Calls, dict[str, int]]:
    q, k, v, weights = (graphc.placeholder(a.shape, a.dtype) for a in arrays)
    calls: Calls = {}
    memory: dict[str, int] = {}
    for what, causal in (("forward", False), ("forward, causal", True)):
        out = graphc.nn.scaled_dot_product_attention(q, k, v, causal=causal)
        forward = session.function([q, k, v], out)
        calls[what] = lambda f=forward: f(*arrays[:3])
        memory[what] = _bytes(forward)
    out = graphc.nn.scaled_dot_product_attention(q, k, v)
    gradients = graphc.grad(graphc.sum(out * weights), [q, k, v])
    step = session.function([q, k, v, weights], [out, *gradients])
    calls["with gradients"] = lambda: step(*arrays)
    memory["with gradients"] = _bytes(step)
    return calls, memory


def _bytes(function: graphc.Function) -> int:
    """The memory that a function holds beside inputs and outputs."""
    return sum(map(int, re.findall(r"slot \d+: (\d+) bytes", function.explain("memory"))))


def _torch(arrays: list[Array]) -> Calls:
    torch = importlib.import_module("torch")
    torch.set_num_threads(THREADS)
    attention = torch.nn.functional.scaled_dot_product_attention
    tensors = [torch.tensor(a) for a in arrays[:3]]
    learned = [t.clone().requires_grad_() for t in tensors]
    weights = torch.tensor(arrays[3])

    def forward(causal: bool) -> object:
        with torch.no_grad():
            return attention(*tensors, is_causal=causal)

    def step() -> object:
        return torch.autograd.grad((attention(*learned) * weights).sum(), learned)

    return {
        "forward": lambda: forward(False),
        "forward, causal": lambda: forward(True),
        "with gradients": step,
    }


def _jax(arrays: list[Array]) -> Calls:
    jax = importlib.import_module("jax")
    # Places before heads, as it wants them.
    *operands, weights = (jax.numpy.swapaxes(jax.numpy.asarray(a), 1, 2) for a in arrays)
    attention = jax.nn.dot_product_attention

    def cost(q: object, k: object, v: object) -> object:
        return (attention(q, k, v) * weights).sum()

    forward = jax.jit(attention, static_argnames=("is_causal",))
    gradient = jax.jit(jax.value_and_grad(cost, argnums=(0, 1, 2)))
    return {
        "forward": lambda: jax.block_until_ready(forward(*operands)),
        "forward, causal": lambda: jax.block_until_ready(forward(*operands, is_causal=True)),
        "with gradients": lambda: jax.block_until_ready(gradient(*operands)),
    }
