"""What check_numerics looks at: values whose NaN or infinity shows nowhere else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import bool_, float32, float64, int32
from graphc.ir.scalar_numpy import NumpyScalar, Value
from graphc.loops.nodes import cast, op, select, var
from graphc.lower.kernel_builder import carried

SPECIAL = [0.0, -0.0, 1.0, -3.5, 1e-45, 3e38, np.inf, -np.inf, np.nan]
X, Y, Z = (var(name, float32) for name in "xyz")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("add", 2),
        ("sub", 2),
        ("mul", 2),
        ("div", 2),
        ("fma", 3),
        ("neg", 1),
        ("abs", 1),
        ("sqrt", 1),
    ]
    + [("minimum", 2), ("maximum", 2), ("exp", 1), ("tanh", 1), ("copysign", 2), ("pow", 2)],
)
def test_carried_operands_never_vanish(name: str, count: int) -> None:
    operands = (X, Y, Z)[:count]
    kept = carried(op(name, *operands, dtype=float32))
    scalar = NumpyScalar()
    vanished: set[object] = set()
    for values in itertools.product(SPECIAL, repeat=count):
        arrays = [Value(np.array([v], np.float32), float32) for v in values]
        with np.errstate(all="ignore"):
            found = scalar.fma(*arrays) if name == "fma" else scalar.op(name, *arrays)
        result = found.array
        for operand, value in zip(operands, values, strict=True):
            if not np.isfinite(value) and np.isfinite(result).all():
                vanished.add(operand)
    assert vanished.isdisjoint(kept)
    # And nothing is looked at in vain, but for ops whose result may be finite for some values only.
    if name in ("add", "sub", "mul", "div", "fma", "neg", "abs", "sqrt"):
        assert set(operands) - vanished == set(kept)


def test_casts_carry_between_floats_only() -> None:
    assert carried(cast(X, float64)) == (X,)
    assert carried(cast(X, int32)) == ()
    assert carried(select(op("lt", X, Y, dtype=bool_), X, Y)) == ()


def adam_like(session: graphc.Session) -> graphc.Function:
    m, v, w = (graphc.placeholder((4, 32), "float32", name=name) for name in "mvw")
    root = graphc.sqrt(v * 0.999) + 1e-8
    return session.function([m, v, w], [w - (m * 0.9) / root, m * 0.9, v * 0.999])


def test_a_kernel_looks_at_ends_and_divisors() -> None:
    with graphc.Session(check_numerics=True, cache_dir="") as session:
        text = adam_like(session).explain("loops")
        assert text.count("check isfinite") == 2, text


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operand", range(3))
def test_every_operand_is_still_seen(operand: int, bad: float) -> None:
    arrays = [np.ones((4, 32), np.float32) for _ in range(3)]
    with graphc.Session(check_numerics=True, threads=1) as session:
        step = adam_like(session)
        step(*arrays)
        arrays[operand][2, 17] = bad
        with pytest.raises(graphc.NumericsError, match=f"'{'mvw'[operand]}'"):
            step(*arrays)
