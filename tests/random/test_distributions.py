"""Draws against their distribution functions: Kolmogorov and Smirnov's test, chi-square, moments.

Seeds are fixed: a test that passes once always passes. The bounds are those of a level of 0.001.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import graphc
from graphc import random
from graphc.ops.random import RANDOM_LONG_BITS
from tests.random.test_keys import constant

N = 4000
KEY = random.key(7)
KOLMOGOROV = 1.95  # sqrt(n) times the distance exceeds it with probability 0.001
Distribution = Callable[[Any], Any]


def below(x: Any) -> float:
    """The distribution function of a standard normal."""
    return math.erfc(-float(x) / math.sqrt(2)) / 2


def truncated(low: float, high: float) -> Distribution:
    """The distribution function of a normal between two ends, by its upper tail."""
    tail = [float(mpmath.ncdf(-mpmath.mpf(e))) if math.isfinite(e) else 0.0 for e in (low, high)]
    return lambda x: (tail[0] - float(mpmath.ncdf(-mpmath.mpf(x)))) / (tail[0] - tail[1])


def gamma_below(a: float) -> Distribution:
    return lambda x: float(mpmath.gammainc(a, 0, x, regularized=True))


CONTINUOUS: dict[str, tuple[Callable[..., graphc.Tensor], Distribution]] = {
    "uniform": (lambda d: random.uniform(KEY, (N,), dtype=d), lambda x: x),
    "uniform range": (
        lambda d: random.uniform(KEY, (N,), -3.0, 2.0, dtype=d),
        lambda x: x / 5 + 0.6,
    ),
    "normal": (lambda d: random.normal(KEY, (N,), dtype=d), below),
    "normal placed": (
        lambda d: random.normal(KEY, (N,), 3.0, 0.5, dtype=d),
        lambda x: below((x - 3) * 2),
    ),
    "truncated": (lambda d: random.truncated_normal(KEY, (N,), dtype=d), truncated(-2, 2)),
    "truncated aside": (
        lambda d: random.truncated_normal(KEY, (N,), -0.5, 3.0, dtype=d),
        truncated(-0.5, 3),
    ),
    "truncated open": (
        lambda d: random.truncated_normal(KEY, (N,), 1.0, math.inf, dtype=d),
        truncated(1, math.inf),
    ),
    "exponential": (
        lambda d: random.exponential(KEY, (N,), 2.0, dtype=d),
        lambda x: -math.expm1(-x / 2),
    ),
    "gumbel": (
        lambda d: random.gumbel(KEY, (N,), 1.0, 2.0, dtype=d),
        lambda x: math.exp(-math.exp(-(x - 1) / 2)),
    ),
    "laplace": (
        lambda d: random.laplace(KEY, (N,), dtype=d),
        lambda x: math.exp(x) / 2 if x < 0 else 1 - math.exp(-x) / 2,
    ),
    "gamma": (lambda d: random.gamma(KEY, 2.5, (N,), dtype=d), gamma_below(2.5)),
    "gamma small": (lambda d: random.gamma(KEY, 0.4, (N,), dtype=d), gamma_below(0.4)),
    "beta": (
        lambda d: random.beta(KEY, 2.0, 1.0, (N,), dtype=d),
        lambda x: x * x,
    ),
}


def distance(values: np.ndarray, distribution: Distribution) -> float:
    """Between the empirical distribution function and another, times sqrt(n)."""
    ordered = np.sort(values.astype(np.float64))
    expected = np.array([distribution(x) for x in ordered])
    n = len(ordered)
    over = (np.arange(1, n + 1) / n - expected).max()
    under = (expected - np.arange(n) / n).max()
    return float(max(over, under) * math.sqrt(n))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_distribution(name: str, dtype: str) -> None:
    draw, distribution = CONTINUOUS[name]
    values = constant(draw(dtype))
    assert values.dtype == np.dtype(dtype)
    assert distance(values, distribution) < KOLMOGOROV
    half = distance(values[: N // 2], lambda x: distribution(x) ** 1.3)
    assert half > KOLMOGOROV, "the test would not notice another distribution"


def test_distances_of_many_keys_are_distributed_as_they_should_be() -> None:
    """One key says little: over 400 of them Kolmogorov's distance has its own distribution."""
    n = 1000
    drawn = np.sort(constant(random.uniform(random.key(np.arange(400)), (n,))), axis=1)
    place = np.arange(1, n + 1) / n
    apart = np.maximum((place - drawn).max(1), (drawn - place + 1 / n).max(1)) * math.sqrt(n)
    for limit in (0.8276, 1.2238, 1.3581, 1.6276):  # half, a tenth, a twentieth, a hundredth
        share = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * limit) ** 2) for k in range(1, 20))
        assert abs((apart > limit).mean() - share) < 3.5 * math.sqrt(share * (1 - share) / 400)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["uniform", "normal", "truncated", "exponential", "gamma"])
def test_16_bit_dtypes(name: str, dtype: str) -> None:
    """Rounded, but with the right moments."""
    draw, _ = CONTINUOUS[name]
    tensor = draw(dtype)
    assert tensor.dtype == getattr(graphc, dtype)
    values = constant(tensor).astype(np.float64)
    wide = constant(draw("float32"))
    assert abs(values.mean() - wide.mean()) < 0.1
    assert abs(values.std() / wide.std() - 1) < 0.1
    if name == "uniform":
        assert values.min() >= 0
        assert values.max() < 1


def test_tails_of_truncated_normals() -> None:
    for dtype, ends in (("float32", (9.0, 10.0)), ("float64", (30.0, math.inf))):
        values = constant(random.truncated_normal(KEY, (N,), *ends, dtype=dtype))
        assert values.min() >= ends[0]
        assert values.max() <= ends[1]
        assert distance(values, truncated(*ends)) < KOLMOGOROV
        mirrored = constant(random.truncated_normal(KEY, (N,), -ends[1], -ends[0], dtype=dtype))
        np.testing.assert_allclose(mirrored, -values)
    beyond = constant(random.truncated_normal(KEY, (9,), 50.0, 60.0))
    np.testing.assert_array_equal(beyond, 50.0)


def test_uniform_keeps_its_ends() -> None:
    """[1, 2) in float32: the largest draws would round to 2."""
    for dtype in ("float32", "float16", "bfloat16"):
        low, high = (np.asarray(v) for v in (1.0, 2.0))
        values = constant(random.uniform(KEY, (200000,), low, high, dtype=dtype))
        assert values.min() >= 1
        assert values.max() < 2
    tight = constant(random.uniform(KEY, (1000,), 1.0, 1.0 + 2.0**-23))
    np.testing.assert_array_equal(tight, 1.0)
    np.testing.assert_array_equal(constant(random.uniform(KEY, (5,), 3.0, 3.0)), 3.0)


def chi_square(counts: np.ndarray, chances: np.ndarray) -> float:
    """The statistic in standard deviations above its mean, by Wilson and Hilferty's cube root."""
    expected = chances * counts.sum()
    free = len(counts) - 1
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return float(((statistic / free) ** (1 / 3) - (1 - 2 / (9 * free))) / math.sqrt(2 / (9 * free)))


def test_randint() -> None:
    for dtype in ("int8", "int32", "int64", "uint8", "uint32", "uint64"):
        drawn = constant(random.randint(KEY, 3, 40, (8000,), dtype=dtype))
        assert drawn.dtype == np.dtype(dtype)
        counts = np.bincount(drawn.astype(np.int64) - 3, minlength=37)
        assert len(counts) == 37
        assert abs(chi_square(counts, np.full(37, 1 / 37))) < 3.3
    signed = constant(random.randint(KEY, -2, 4, (6000,)))
    assert abs(chi_square(np.bincount(signed + 2, minlength=6), np.full(6, 1 / 6))) < 3.3


WIDE = [
    (-(2**63), 2**63, "int64"),
    (0, 2**64, "uint64"),
    (0, 3 * 2**61, "int64"),
    (-(2**62), 2**63, "int64"),
    (0, 2**32, "uint32"),
    (-(2**31), 2**31, "int32"),
    (0, 3 * 2**40 + 1, "int64"),
]


@pytest.mark.parametrize(("low", "high", "dtype"), WIDE)
def test_randint_of_wide_ranges(low: int, high: int, dtype: str) -> None:
    """A remainder of a 64-bit word would make the lower part of 3 * 2**61 twice as likely."""
    drawn = constant(random.randint(KEY, low, high, (6000,), dtype=dtype))
    share = [(int(v) - low) / (high - low) for v in drawn]
    assert min(share) >= 0
    assert max(share) < 1
    assert distance(np.array(share), lambda x: x) < KOLMOGOROV


def test_randint_is_the_scaled_word() -> None:
    """The definition, in Python's integers: floor(word * range / 2**64), or / 2**128."""
    longs = [int(w) for w in constant(RANDOM_LONG_BITS(KEY, shape=(50,)))]
    for low, high in ((0, 10), (-5, 1000), (0, 2**32)):
        expected = [low + (w * (high - low) >> 64) for w in longs]
        assert constant(random.randint(KEY, low, high, (50,))).tolist() == expected
    halves = [constant(RANDOM_LONG_BITS(k, shape=(50,))) for k in random.split(KEY)]
    words = [int(a) << 64 | int(b) for a, b in zip(*halves)]
    for low, high in ((0, 2**32 + 1), (-(2**63), 2**63 - 1), (7, 2**40)):
        expected = [low + (w * (high - low) >> 128) for w in words]
        assert constant(random.randint(KEY, low, high, (50,))).tolist() == expected
    # Computed limits always take the wide product; an empty range gives its start.
    stop = graphc.placeholder((3,), "int64")
    graph = graphc.Graph([stop], {"o": random.randint(KEY, -4, stop, (3,))})
    expected = [-4 + (w * max(h + 4, 0) >> 128) for w, h in zip(words[:3], (6, -4, -9))]
    assert graph.evaluate({stop: np.array([6, -4, -9])})["o"].tolist() == expected
    with graphc.Session(threads=1) as session:
        run = session.function([stop], random.randint(KEY, -4, stop, (3,)))
        assert run(np.array([6, -4, -9])).tolist() == expected


def test_randint_refuses_what_is_no_range() -> None:
    with pytest.raises(graphc.ShapeError, match="no range of int8: low 0, high 300"):
        random.randint(KEY, 0, 300, dtype="int8")
    with pytest.raises(graphc.ShapeError, match="low 5, high 5"):
        random.randint(KEY, 5, 5)
    with pytest.raises(graphc.DTypeError, match="expected an integer dtype"):
        random.randint(KEY, 0, 5, dtype="float32")
    with pytest.raises(graphc.DTypeError, match="low and high must be integers"):
        random.randint(KEY, 0.5, 5)


def test_bernoulli() -> None:
    coin = constant(random.bernoulli(KEY, 0.2, (8000,)))
    assert coin.dtype == bool
    assert abs(chi_square(np.bincount(coin, minlength=2), np.array([0.8, 0.2]))) < 3.3
    chances = np.array([0.0, 1.0], np.float32)
    each = constant(random.bernoulli(KEY, chances, (500, 2)))
    assert not each[:, 0].any()
    assert each[:, 1].all()


def test_categorical() -> None:
    chances = np.array([0.5, 0.3, 0.0, 0.15, 0.05])
    with np.errstate(divide="ignore"):
        logits = np.log(chances) + 7
    drawn = constant(random.categorical(KEY, logits, shape=(6000,)))
    counts = np.bincount(drawn, minlength=5)
    assert counts[2] == 0
    kept = [0, 1, 3, 4]
    assert abs(chi_square(counts[kept], chances[kept])) < 3.3
    rows = np.log(np.array([[0.9, 0.1], [0.1, 0.9]]))
    by_row = constant(random.categorical(KEY, rows, shape=(2000, 2)))
    np.testing.assert_allclose(by_row.mean(0), [0.1, 0.9], atol=0.03)
    by_column = constant(random.categorical(KEY, rows.T.copy(), axis=0, shape=(2000, 2)))
    np.testing.assert_array_equal(by_column, by_row)
    assert random.categorical(KEY, rows).shape == (2,)
    with pytest.raises(graphc.ShapeError, match="does not hold the batch"):
        random.categorical(KEY, rows, shape=(1,))


def test_permutation() -> None:
    keys = random.fold_in(KEY, np.arange(4800))
    orders = constant(random.permutation(keys, 4))
    assert np.array_equal(np.sort(orders, axis=1), np.tile(np.arange(4), (4800, 1)))
    _, counts = np.unique(orders @ np.array([1000, 100, 10, 1]), return_counts=True)
    assert len(counts) == 24
    assert abs(chi_square(counts, np.full(24, 1 / 24))) < 3.3
    x = np.arange(12).reshape(6, 2)
    rows = constant(random.permutation(KEY, x))
    np.testing.assert_array_equal(np.sort(rows[:, 0]), x[:, 0])
    np.testing.assert_array_equal(rows[:, 1], rows[:, 0] + 1)
    columns = constant(random.permutation(KEY, x, axis=1, independent=True))
    np.testing.assert_array_equal(np.sort(columns, axis=1), x)
    n = graphc.Dim("n")
    data = graphc.placeholder((n,), "int64")
    graph = graphc.Graph([data], {"o": random.permutation(KEY, n) + 0 * data})
    found = graph.evaluate({data: np.zeros(9, np.int64)})["o"]
    assert sorted(found) == list(range(9))


def test_choice() -> None:
    shares = np.array([0.0, 1.0, 2.0, 0.0, 3.0, 0.0])
    drawn = constant(random.choice(KEY, 6, (6000,), probabilities=shares))
    counts = np.bincount(drawn, minlength=6)
    assert counts[[0, 3, 5]].sum() == 0
    assert abs(chi_square(counts[[1, 2, 4]], np.array([1, 2, 3]) / 6)) < 3.3
    even = constant(random.choice(KEY, 5, (4000,)))
    assert abs(chi_square(np.bincount(even, minlength=5), np.full(5, 0.2))) < 3.3
    data = np.arange(20.0).reshape(10, 2)
    rows = constant(random.choice(KEY, data, (2, 3), replace=False))
    assert rows.shape == (2, 3, 2)
    assert len(set(rows[..., 0].ravel())) == 6
    keys = random.fold_in(KEY, np.arange(3000))
    pairs = constant(random.choice(keys, 3, (2,), replace=False, probabilities=[0.5, 0.3, 0.2]))
    assert np.all(pairs[:, 0] != pairs[:, 1])
    # The first is drawn by the shares, the second by what they are without it.
    both = np.bincount(pairs @ np.array([3, 1]), minlength=9)[[1, 2, 3, 5, 6, 7]]
    p = [0.5 * 0.6, 0.5 * 0.4, 0.3 * 5 / 7, 0.3 * 2 / 7, 0.2 * 5 / 8, 0.2 * 3 / 8]
    assert abs(chi_square(both, np.array(p))) < 3.3
    with pytest.raises(graphc.ShapeError, match="cannot choose 4 of 3 without replacement"):
        random.choice(KEY, 3, (4,), replace=False)
    with pytest.raises(graphc.ShapeError, match="probabilities must have shape"):
        random.choice(KEY, 3, (4,), probabilities=[0.5, 0.5])


def test_dirichlet() -> None:
    a = np.array([0.5, 2.0, 3.5])
    drawn = constant(random.dirichlet(KEY, a, (4000,), dtype="float64"))
    assert drawn.shape == (4000, 3)
    np.testing.assert_allclose(drawn.sum(-1), 1)
    np.testing.assert_allclose(drawn.mean(0), a / 6, atol=0.012)
    np.testing.assert_allclose(drawn.var(0), a * (6 - a) / 36 / 7, rtol=0.1)
    # Concentrations at which plain samples are 0 and their quotient NaN.
    tiny = constant(random.dirichlet(KEY, np.full(4, 1e-3, np.float32), (50,)))
    np.testing.assert_allclose(tiny.sum(-1), 1, rtol=1e-6)


# -- gradients ------------------------------------------------------------------------------------


def derivative(draw: Callable[[graphc.Tensor], graphc.Tensor], at: float) -> tuple[Any, Any]:
    """A draw and its elementwise derivative by one parameter."""
    p = graphc.placeholder((), "float64")
    out = draw(p)
    slope = graphc.jvp(out, [p], [graphc.ones((), dtype="float64")])
    values = graphc.Graph([p], {"o": out, "d": slope}).evaluate({p: np.asarray(at)})
    return values["o"], values["d"]


def test_reparameterized_gradients() -> None:
    for draw in (
        lambda p: random.normal(KEY, (20,), p, 2.0, dtype="float64"),
        lambda p: random.normal(KEY, (20,), 1.0, p, dtype="float64"),
        lambda p: random.uniform(KEY, (20,), p, 9.0, dtype="float64"),
        lambda p: random.exponential(KEY, (20,), p, dtype="float64"),
        lambda p: random.laplace(KEY, (20,), p, p, dtype="float64"),
        lambda p: random.truncated_normal(KEY, (20,), p, 4.0, dtype="float64"),
        lambda p: random.truncated_normal(KEY, (20,), -1.0, p, dtype="float64"),
    ):
        graphc.testing.check_grad(draw, [np.asarray(1.3)], order=2)


@pytest.mark.parametrize("a", [0.02, 0.3, 0.9, 1.0, 2.5, 40.0, 2000.0])
def test_gamma_gradient_is_that_of_the_quantile(a: float) -> None:
    """d/da F(z(a), a) = 0: the sample moves as the quantile that it is."""
    z, slope = derivative(lambda p: random.gamma(KEY, p, (6,)), a)
    with mpmath.workdps(30):
        step = mpmath.mpf(10) ** -8 * a
        for value, found in zip(z, slope):
            if value < 1e-200:
                continue
            x = mpmath.mpf(float(value))
            low, high = (mpmath.gammainc(a + s, 0, x, regularized=True) for s in (-step, step))
            density = mpmath.exp((a - 1) * mpmath.log(x) - x - mpmath.loggamma(a))
            expected = float(-(high - low) / (2 * step) / density)
            assert math.isclose(found, expected, rel_tol=1e-6), (value, found, expected)


def test_gamma_gradient_of_expectations() -> None:
    """E[z] = a, E[z²] = a + a²: derivatives 1 and 1 + 2 a, second ones 0 and 2."""
    a = graphc.placeholder((), "float64")
    z = random.gamma(KEY, a, (20000,))
    costs = [graphc.mean(z), graphc.mean(z * z)]
    first = [graphc.grad(c, a) for c in costs]
    second = [graphc.grad(g, a) for g in first]
    graph = graphc.Graph([a], {f"g{i}": g for i, g in enumerate([*first, *second])})
    found = list(graph.evaluate({a: np.asarray(2.5)}).values())
    np.testing.assert_allclose(found, [1, 6, 0, 2], atol=0.12)


def test_beta_and_dirichlet_gradients() -> None:
    a = graphc.placeholder((), "float64")
    mean = graphc.mean(random.beta(KEY, a, 2.0, (20000,), dtype="float64"))
    graph = graphc.Graph([a], {"g": graphc.grad(mean, a)})
    # E = a / (a + 2).
    np.testing.assert_allclose(graph.evaluate({a: np.asarray(3.0)})["g"], 2 / 25, atol=0.005)


def test_parameters_do_not_share_a_draw() -> None:
    many = np.arange(3.0, dtype=np.float32)
    for draw in (
        lambda: random.normal(KEY, (), many),
        lambda: random.uniform(KEY, (2, 1), 0.0, many + 1),
        lambda: random.exponential(KEY, (), many),
        lambda: random.bernoulli(KEY, many, ()),
    ):
        with pytest.raises(graphc.ShapeError, match=r"is larger than what is drawn[\s\S]*shape="):
            draw()
    each = constant(random.normal(KEY, (2, 3), 100 * many))
    np.testing.assert_allclose(each.mean(0), 100 * many, atol=5)


def test_draws_in_a_loop() -> None:
    """A scan with a key per turn is the same turns one after another, gradient included."""
    start, xs = np.zeros((2, 3)), np.linspace(-1, 1, 24).reshape(4, 2, 3)

    def turn(h: graphc.Tensor, items: Any) -> tuple[graphc.Tensor, None]:
        x, t = items
        noise, mask, shape = random.split(random.fold_in(KEY, t), 3)
        h = graphc.tanh(graphc.nn.dropout(h + x, 0.3, mask))
        h = h + random.normal(noise, (2, 3), dtype="float64")
        return h + 0.1 * random.gamma(shape, graphc.exp(h), dtype="float64"), None

    x = graphc.placeholder((4, 2, 3), "float64")
    looped = graphc.scan(turn, start, (x, graphc.iota((4,))))[0]
    rolled: Any = graphc.asarray(start)
    for t in range(4):
        rolled = turn(rolled, (x[t], t))[0]
    both = [looped, rolled, graphc.grad(graphc.sum(looped), x), graphc.grad(graphc.sum(rolled), x)]
    with graphc.Session(threads=1) as session:
        found = session.run(both, {x: xs})
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
    np.testing.assert_allclose(found[2], found[3], rtol=1e-9, atol=1e-12)


def test_compiled_draws_are_the_reference() -> None:
    """Native code computes the same words; floats agree to rounding."""
    draws = [
        random.normal(KEY, (70,)),
        random.truncated_normal(KEY, (70,), dtype="float64"),
        random.gamma(KEY, np.linspace(0.1, 7, 70)),
        random.dirichlet(KEY, np.ones(5), (3,)),
        random.choice(KEY, 40, (9,), replace=False),
        random.randint(KEY, 0, 2**63 - 1, (30,)),
        random.categorical(KEY, np.zeros(30), shape=(20,)),
    ]
    with graphc.Session(threads=2) as session:
        for tensor, found in zip(draws, session.run(draws)):
            expected = constant(tensor)
            if tensor.dtype.is_float:
                np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
            else:
                np.testing.assert_array_equal(found, expected)
