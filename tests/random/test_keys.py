"""The generator against published vectors; keys, threads, parts of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc import random
from graphc.base.dtypes import uint32
from graphc.ir.scalar_numpy import NumpyScalar, value
from graphc.ops.random import RANDOM_LONG_BITS, threefry


def constant(tensor: graphc.Tensor) -> np.ndarray:
    """The value of a tensor without inputs."""
    return graphc.Graph([], {"o": tensor}).evaluate()["o"]


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_known_answers(key: Any, counter: Any, expected: Any) -> None:
    """The known-answer vectors that are published with Random123."""
    words = [value(np.array(w, np.uint32), uint32) for w in (*key, *counter)]
    found = threefry(NumpyScalar(), (words[0], words[1]), (words[2], words[3]))
    assert tuple(int(w.array) for w in found) == expected


def test_the_first_word_is_the_published_one() -> None:
    """Key 0 at position 0 is the vector of all zeros, also as native code computes it."""
    zeros = graphc.asarray(np.zeros(2, np.uint32))
    assert constant(random.bits(zeros, (3,)))[0] == 0x6B200159
    assert constant(RANDOM_LONG_BITS(zeros, shape=(3,)))[0] == 0x6B20015999BA4EFE
    key = graphc.placeholder((2,), "uint32")
    with graphc.Session(threads=1) as session:
        run = session.function([key], random.bits(key, (3, 5)))
        for words in ([0, 0], [1, 2], [0xFFFFFFFF, 0x9E3779B9]):
            fed = np.array(words, np.uint32)
            np.testing.assert_array_equal(run(fed), constant(random.bits(fed, (3, 5))))


def test_draws_do_not_depend_on_threads_or_shape() -> None:
    key = graphc.placeholder((2,), "uint32")
    n = graphc.Dim("n")
    x = graphc.placeholder((n, 7))
    fed = np.array([3, 4], np.uint32)
    found = []
    for threads in (1, 2, 5):
        with graphc.Session(threads=threads) as session:
            run = session.function([key, x], random.bits(key, x.shape))
            found.append(run(fed, np.zeros((4096, 7), np.float32)))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[0].ravel()[:35], constant(random.bits(fed, (35,))))


def test_rows_with_keys_of_their_own_do_not_depend_on_the_batch() -> None:
    key = random.key(11)
    rows = graphc.placeholder(("n",), "int64")
    noise = random.normal(random.fold_in(key, rows), (4,))
    assert noise.shape == (*rows.shape, 4)
    graph = graphc.Graph([rows], {"o": noise})
    whole = graph.evaluate({rows: np.arange(9)})["o"]
    parts = [graph.evaluate({rows: np.arange(a, b)})["o"] for a, b in ((0, 2), (2, 3), (3, 9))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    with graphc.Session(threads=2) as session:
        compiled = session.run(noise, {rows: np.arange(9)})
    np.testing.assert_allclose(compiled, whole, rtol=1e-5, atol=1e-6)
    single = constant(random.normal(random.fold_in(key, 5), (4,)))
    np.testing.assert_array_equal(whole[5], single)


DRAWS = {
    "uniform": lambda k: random.uniform(k, (3,), -1.0, 2.0),
    "uniform float64": lambda k: random.uniform(k, (3,), dtype="float64"),
    "normal": lambda k: random.normal(k, (3,)),
    "truncated_normal": lambda k: random.truncated_normal(k, (3,)),
    "exponential": lambda k: random.exponential(k, (3,)),
    "laplace": lambda k: random.laplace(k, (3,)),
    "gumbel": lambda k: random.gumbel(k, (3,)),
    "bernoulli": lambda k: random.bernoulli(k, 0.5, (3,)),
    "randint": lambda k: random.randint(k, 0, 1000, (3,)),
    "randint wide": lambda k: random.randint(k, 0, 2**62, (3,)),
    "permutation": lambda k: random.permutation(k, 20),
    "choice": lambda k: random.choice(k, 50, (3,), replace=False),
    "gamma": lambda k: random.gamma(k, 1.5, (3,)),
    "beta": lambda k: random.beta(k, 1.5, 2.0, (3,)),
    "dirichlet": lambda k: random.dirichlet(k, np.ones(3)),
    "categorical": lambda k: random.categorical(k, np.zeros(9), shape=(3,)),
    "split": lambda k: random.split(k, 3)[1],
}


@pytest.mark.parametrize("name", DRAWS)
def test_an_array_of_keys_draws_with_each(name: str) -> None:
    draw = DRAWS[name]
    keys = random.fold_in(random.key(5), np.arange(6).reshape(2, 3))
    assert keys.shape == (2, 3, 2)
    together = constant(draw(keys))
    alone = constant(draw(random.fold_in(random.key(5), 4)))
    assert together.shape == (2, 3, *alone.shape)
    np.testing.assert_array_equal(together[1, 1], alone)


def test_keys_are_independent() -> None:
    a, b = random.split(random.key(0))
    streams = [constant(random.uniform(k, (3000,))) for k in (a, b)]
    assert abs(np.corrcoef(*streams)[0, 1]) < 0.05
    # Keys that differ in one bit, and steps that follow each other.
    near = [constant(random.uniform(random.key(s), (3000,))) for s in (0, 1, 2, 1 << 32)]
    near += [constant(random.uniform(random.fold_in(a, s), (3000,))) for s in range(4)]
    correlation = np.corrcoef(np.array(near)) - np.eye(len(near))
    assert np.abs(correlation).max() < 4.0 / np.sqrt(3000)
    steps = [constant(random.fold_in(a, s)) for s in (0, 1, 2**40, -1)]
    assert len({tuple(s) for s in steps}) == 4
    step = graphc.placeholder((), "int64")
    dynamic = graphc.Graph([step], {"k": random.fold_in(a, step)})
    np.testing.assert_array_equal(dynamic.evaluate({step: 1})["k"], steps[1])


def test_keys_of_computed_seeds() -> None:
    seed = graphc.placeholder((), "int64")
    keys = graphc.Graph([seed], {"k": random.key(seed)})
    np.testing.assert_array_equal(
        keys.evaluate({seed: 5 + 2**35})["k"], constant(random.key(5 + 2**35))
    )
    many = constant(random.key(np.array([5, 5 + 2**35])))
    np.testing.assert_array_equal(many[1], constant(random.key(5 + 2**35)))


def test_bits_are_balanced() -> None:
    """Each of the 32 bits is set in half of the words, and neighbours do not agree too often."""
    words = constant(random.bits(random.key(9), (20000,)))
    bits = (words[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    assert np.abs(bits.mean(0) - 0.5).max() < 4 * 0.5 / np.sqrt(20000)
    agree = (bits[1:] == bits[:-1]).mean(0)
    assert np.abs(agree - 0.5).max() < 4 * 0.5 / np.sqrt(20000)


def test_wrong_keys_are_refused() -> None:
    for wrong in (np.zeros(2), np.zeros(3, np.uint32), np.uint32(1), 7):
        with pytest.raises(graphc.DTypeError, match=r"a key must be u32\[2\]"):
            random.uniform(wrong, (3,))
    with pytest.raises(graphc.DTypeError, match="data must be integers"):
        random.fold_in(random.key(0), 0.5)
    with pytest.raises(graphc.DTypeError, match="expected an int or integers"):
        random.key(0.5)
