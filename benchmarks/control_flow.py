"""What do branches and loops cost: a turn of a loop, a scan beside the same unrolled, a thousand
layers as calls of one function, a training step through a thousand turns?

Loops run on one thread. The unrolled forms are the same turns written out by Python, which the
compiler may fuse across turns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import graphc
from benchmarks.measure import measure, once, readable
from benchmarks.table import Row

TURNS = 100_000
CELLS = ((64, 1), (256, 1), (64, 16), (256, 16))
STEPS = 50
LAYERS = (10, 1_000)
TRAINED = (16, 1_000, 32, 64)  # batch, steps, features, hidden


def run() -> Iterator[Row]:
    """Costs of turns, of recurrent cells, of layers."""
    with graphc.Session(cache_dir="", threads=1) as session:
        for name, loop in _loops().items():
            start = graphc.placeholder((8,), name="start")
            function = session.function([start], loop(start))
            seconds = _best(lambda f=function: f(np.zeros(8, np.float32)))
            yield {"case": name, "time": f"{seconds / TURNS * 1e9:.1f} ns a turn"}
        for width, batch in CELLS:
            yield _cell(session, width, batch)
    yield from _layers()
    yield _training()


def _loops() -> dict[str, Callable[[graphc.Tensor], Any]]:
    def halves(carry: graphc.Tensor, _: None) -> Any:
        return carry * 0.5 + 1.0, None

    def sums(carry: graphc.Tensor, _: None) -> Any:
        for _ in range(4):
            carry = carry[::-1] * 0.1 + graphc.sum(carry)
        return carry, None

    def counted(start: graphc.Tensor) -> graphc.Tensor:
        init = (graphc.constant(np.int64(0)), start)
        return graphc.while_loop(lambda s: s[0] < TURNS, lambda s: (s[0] + 1, s[1] * 0.5), init)[1]

    def scanned(body: Callable[..., Any]) -> Callable[[graphc.Tensor], Any]:
        return lambda start: graphc.scan(body, start, length=TURNS)[0]

    return {
        "scan, a kernel of 8 elements": scanned(halves),
        "scan, 4 kernels": scanned(sums),
        "while_loop, 2 kernels": counted,
    }


def _cell(session: graphc.Session, width: int, batch: int) -> Row:
    """An LSTM of STEPS turns, as a scan and unrolled."""
    rng = np.random.default_rng(0)
    shapes = {
        "h": (batch, width), "c": (batch, width), "x": (STEPS, batch, width),
        "w": (width, 4 * width), "u": (width, 4 * width), "b": (4 * width,),
    }  # fmt: skip
    inputs = [graphc.placeholder(shape, name=name) for name, shape in shapes.items()]
    arrays = [rng.standard_normal(shape).astype(np.float32) * 0.1 for shape in shapes.values()]
    h, c, x, w, u, b = inputs

    def step(carry: Any, row: graphc.Tensor) -> Any:
        hidden, cell = carry
        z = row @ w + hidden @ u + b
        i, f, g, o = (z[:, k * width : (k + 1) * width] for k in range(4))
        cell = graphc.sigmoid(f) * cell + graphc.sigmoid(i) * graphc.tanh(g)
        hidden = graphc.sigmoid(o) * graphc.tanh(cell)
        return (hidden, cell), hidden

    (last, _), rows = graphc.scan(step, (h, c), x)
    scanned = session.function(inputs, [last, rows])
    carry, found = (h, c), []
    for k in range(STEPS):
        carry, row = step(carry, x[k])
        found.append(row)
    unrolled = session.function(inputs, [carry[0], graphc.stack(found)])
    turn = _best(lambda: scanned(*arrays)) / STEPS
    return {
        "case": f"LSTM, width {width}, batch {batch}",
        "time": f"{readable(turn)} a turn",
        "unrolled": f"{readable(_best(lambda: unrolled(*arrays)) / STEPS)} a turn",
    }


def _best(call: Callable[[], object]) -> float:
    return measure(call, seconds=0.3).best


def _layers() -> Iterator[Row]:
    @graphc.function
    def layer(x: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
        return graphc.nn.relu(x @ w + b)

    def model(count: int) -> tuple[graphc.Tensor, graphc.Tensor]:
        x = y = graphc.placeholder(("n", 64), name="x")
        for _ in range(count):
            w = graphc.variable(np.eye(64, dtype=np.float32))
            y = layer(y, w, graphc.variable(np.zeros(64, np.float32)))
        return x, y

    _compile(*model(3))  # loads the compiler itself
    seconds = [_compile(*model(count)) for count in LAYERS]
    for count, taken in zip(LAYERS, seconds, strict=True):
        row = {"case": f"{count} layers relu(x @ w + b) as calls", "time": readable(taken)}
        yield row | {"unrolled": f"{taken / seconds[0]:.1f} times {LAYERS[0]} layers"}


def _compile(x: graphc.Tensor, y: graphc.Tensor) -> float:
    with tempfile.TemporaryDirectory() as folder, graphc.Session(cache_dir=folder) as session:
        return once(lambda: session.function([x], y))


def _training() -> Row:
    """Compiling and running a step of Adam on an LSTM that reads long sequences."""
    batch, steps, features, hidden = TRAINED
    rng = np.random.default_rng(0)
    shapes = ((features, 4 * hidden), (hidden, 4 * hidden), (4 * hidden,), (hidden, 5))
    arrays = [rng.standard_normal(shape).astype(np.float32) * 0.1 for shape in shapes]
    weights = [graphc.variable(a) for a in arrays]
    x = graphc.placeholder((batch, steps, features), name="x")
    labels = graphc.placeholder((batch,), "int64", name="labels")
    _, (last, _) = graphc.nn.lstm(x, graphc.nn.RecurrentWeights(*weights[:3]))
    loss = graphc.mean(graphc.nn.softmax_cross_entropy(last[0] @ weights[3], labels))
    updates = graphc.optimizers.adam(weights, graphc.grad(loss, weights))
    rows = rng.standard_normal(x.shape).astype(np.float32)
    with graphc.Session(cache_dir="") as session:
        found: list[graphc.Function] = []
        made = once(lambda: found.append(session.function([x, labels], loss, updates=updates)))
        step = _best(lambda: found[0](rows, np.zeros(batch, np.int64)))
    return {
        "case": f"LSTM of {steps} steps, training, width {hidden}, batch {batch}",
        "time": f"{readable(made)} to compile, {readable(step)} a step",
    }
