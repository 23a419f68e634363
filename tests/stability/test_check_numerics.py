"""`check_numerics`: a NaN or an infinity in the middle of a training step is reported with the line
that made it, also where a later `where`, `maximum` or division absorbs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc

ROWS = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], np.float32)
CLEAN = np.array([[1.0, 2.0, 0.5], [0.25, 3.0, 1.0]], np.float32)

# What is planted; each is finite for CLEAN and not for ROWS.
PLANTED: dict[str, Callable[[Any], Any]] = {
    "log of a negative number": lambda h: graphc.log(h),
    "log of zero": lambda h: graphc.log(graphc.abs(h)),
    "zero by zero": lambda h: h / h,
    "division by zero": lambda h: 1.0 / h,
    "overflow of exp": lambda h: graphc.exp(graphc.where(h > 0, h, 200.0)),
    "overflow of a product": lambda h: graphc.where(h > 0, h, 1e30) * 1e30,
    "overflow of a sum": lambda h: graphc.where(h > 0, h, 3e38) + 3e38,
    "square root of a negative number": lambda h: graphc.sqrt(h),
    "infinity minus infinity": lambda h: (h * 0 + graphc.where(h > 0, h, 1e38) * 1e38) - 1e38,
    "power of a negative number": lambda h: graphc.pow(h, 0.3),
    "negative power of zero": lambda h: graphc.pow(graphc.abs(h), -2.5),
    "asin out of range": lambda h: graphc.asin(graphc.where(h > 0, 0.5, h - 1.0)),
}
# What happens to it afterwards: each makes finite numbers of NaN or infinity.
ABSORBED: dict[str, Callable[[Any], Any]] = {
    "kept": lambda v: v,
    "where": lambda v: graphc.where(graphc.isfinite(v), v, 0.0),
    "maximum": lambda v: graphc.where(
        graphc.isnan(v), 0.0, graphc.minimum(graphc.maximum(v, -1.0), 1.0)
    ),
    "divided away": lambda v: graphc.where(graphc.isnan(v), 0.0, 1.0 / (1.0 + graphc.abs(v))),
}


def training_step(session: graphc.Session, plant: Any, absorb: Any) -> tuple[Any, Any]:
    """A step of a small network with something planted between its two layers; and a variable."""
    x = graphc.placeholder((2, 3), "float32", name="x")
    w = graphc.variable(np.eye(3, dtype=np.float32), name="w")
    hidden = x @ w
    planted = plant(hidden)
    scaled = absorb(planted) * 0.5
    loss = graphc.mean(graphc.tanh(scaled) ** 2)
    g = graphc.grad(loss, w)
    return session.function([x], loss, updates={w: w - 0.1 * g}), w


@pytest.mark.parametrize("absorbed", ABSORBED)
@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_value_is_reported_with_its_line(kind: str, absorbed: str) -> None:
    with graphc.Session(check_numerics=True, threads=1) as session:
        step, w = training_step(session, PLANTED[kind], ABSORBED[absorbed])
        with pytest.raises(graphc.NumericsError) as caught:
            step(ROWS)
        text = str(caught.value)
        with open(__file__) as source:
            lines = source.read().splitlines()
        number = next(k for k, text_ in enumerate(lines, 1) if f'"{kind}": lambda' in text_)
        assert f"test_check_numerics.py:{number}" in text, text
        assert "nan" in text or "inf" in text
        np.testing.assert_array_equal(session.value(w), np.eye(3))


@pytest.mark.parametrize("kind", ["log of a negative number", "square root of a negative number"])
def test_finite_values_pass(kind: str) -> None:
    with graphc.Session(check_numerics=True, threads=1) as session:
        step, w = training_step(session, PLANTED[kind], ABSORBED["where"])
        assert np.isfinite(step(CLEAN))
        assert not np.array_equal(session.value(w), np.eye(3))


def test_infinite_constants_are_meant() -> None:
    x = graphc.placeholder((2, 3), "float32", name="x")
    masked = graphc.where(x > 0, x, -np.inf)
    with graphc.Session(check_numerics=True, threads=1) as session:
        weights = session.run(graphc.nn.softmax(masked), {x: ROWS})
    assert np.isfinite(weights).all()
