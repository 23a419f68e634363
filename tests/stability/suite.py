"""Cases of the stability suite: what they are, and how a compiled one is judged.

Tolerance: |found - true| <= ulps · ε · scale + one denormal, ε the spacing of the dtype at 1. The
scale is |true| unless a case says why it cannot be: then `scale` is an expression too (the terms
of a sum, say), and `why` is its reason. True values beyond the dtype's range must come out as
infinities of that sign. Gradients are those of sum(weights · value); their truth is a central
difference quotient with a step of 10^-60, relative to the element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np

import graphc
from graphc.base.dtypes import Array
from tests.stability.exact import Exact, mpf, numbers

Expression = Callable[..., Any]
WEIGHTS = (1.0, -0.5, 0.75, 2.0, -1.25, 0.375, 1.5, -3.0)

COMPILED = SimpleNamespace(
    **{n: getattr(graphc.nn, n) for n in graphc.nn.__all__ if not n.startswith("_")}
    | {n: getattr(graphc, n) for n in dir(Exact) if hasattr(graphc, n)}
    | {"vector_norm": graphc.linalg.vector_norm}
)


@dataclass(frozen=True)
class Case:
    """One expression at extreme inputs.

    expression(m, *inputs): m is the compiler's functions or `Exact`. inputs: values, given as
    float64 and rounded to the dtype. labels: further inputs that are passed as they are. scale,
    gradient_scale: expressions like `expression`; the tolerance is in ulps of them (elementwise,
    broadcast); None: of the true value. gradient=False: `why` says why there is none to check.
    mixes: whether elements of the value depend on several elements of an input. digits: of the
    truth; exp(-1e4) is only seen beside 1 with more than 4400.
    """

    name: str
    expression: Expression
    inputs: Sequence[Any]
    by_dtype: dict[str, Sequence[Any]] = field(default_factory=dict)
    extra: Sequence[Any] = ()
    dtypes: tuple[str, ...] = ("float32", "float64")
    ulps: float = 4.0
    scale: Expression | None = None
    gradient: bool = True
    gradient_ulps: float = 8.0
    gradient_scale: Expression | None = None
    digits: int = 500
    mixes: bool = False
    exact: Expression | None = None
    why: str = ""

    def arrays(self, dtype: str) -> list[Array]:
        """The float inputs in a dtype."""
        return [np.asarray(v, dtype) for v in self.by_dtype.get(dtype, self.inputs)]


@dataclass(frozen=True)
class Outcome:
    """Found and true values (float64) of one quantity, with the tolerance."""

    what: str
    found: Array
    true: Array
    bound: Array

    def failures(self) -> list[str]:
        """A line per element out of bounds."""
        lines = []
        for place in np.ndindex(self.true.shape):
            found, true, bound = self.found[place], self.true[place], self.bound[place]
            good = found == true or abs(found - true) <= bound
            if not (good or (np.isnan(found) and np.isnan(true))):
                lines.append(f"{self.what}{list(place)}: {found!r}, true {true!r}, bound {bound:g}")
        return lines


def outcomes(case: Case, dtype: str, numerics: str = "standard") -> list[Outcome]:
    """The compiled value and gradients of a case against the truth."""
    arrays = case.arrays(dtype)
    found = compiled(case, arrays, numerics)
    with mpmath.workdps(case.digits):
        true = _exactly(case, arrays)
        scale = (
            true if case.scale is None else case.scale(Exact, *map(numbers, arrays), *case.extra)
        )
        result = [_outcome("value", found[0], true, scale, case.ulps, dtype)]
        if case.gradient:
            result += _gradient_outcomes(case, arrays, found[1:], true, dtype)
    return result


def compiled(case: Case, arrays: Sequence[Array], numerics: str) -> list[Array]:
    """The value and the gradients, by one compiled function."""
    inputs = [graphc.placeholder(a.shape, a.dtype, name=f"x{k}") for k, a in enumerate(arrays)]
    value = case.expression(COMPILED, *inputs, *case.extra)
    gradients = []
    if case.gradient:
        shape = tuple(int(n) for n in value.shape)
        cost = graphc.sum(value * weights(shape).astype(arrays[0].dtype))
        gradients = list(graphc.grad(cost, inputs))
    with graphc.Session(numerics=numerics, threads=1) as session:
        return list(session.function(inputs, [value, *gradients])(*arrays))


def weights(shape: tuple[int, ...]) -> Array:
    """What each element of the value counts in the cost: short numbers, exact in every dtype."""
    return np.resize(np.asarray(WEIGHTS), shape)


def _exactly(case: Case, arrays: Sequence[Array]) -> Array:
    expression = case.exact or case.expression
    return np.asarray(expression(Exact, *map(numbers, arrays), *case.extra), object)


def _gradient_outcomes(
    case: Case, arrays: Sequence[Array], found: Sequence[Array], value: Array, dtype: str
) -> list[Outcome]:
    scales: Any = [None] * len(arrays)
    if case.gradient_scale is not None:
        scales = case.gradient_scale(Exact, *map(numbers, arrays), *case.extra)
        scales = scales if isinstance(scales, tuple) else (scales,)
    result = []
    for k, gradient in enumerate(found):
        true = slope(case, arrays, k, value.shape)
        scale = true if scales[k] is None else scales[k]
        result.append(_outcome(f"gradient {k}", gradient, true, scale, case.gradient_ulps, dtype))
    return result


def slope(case: Case, arrays: Sequence[Array], which: int, shape: tuple[int, ...]) -> Array:
    """The derivative of sum(weights · value) by each element of one input."""
    counts = numbers(weights(shape))
    inputs = [numbers(a) for a in arrays]
    expression = case.exact or case.expression

    def cost(steps: Array) -> Array:
        moved = [i + steps if k == which else i for k, i in enumerate(inputs)]
        values = np.asarray(expression(Exact, *moved, *case.extra), object)
        return np.asarray(counts * values, object)

    steps = np.asarray(np.frompyfunc(_step, 1, 1)(inputs[which]), object)
    if not case.mixes:
        return _quotient(cost(steps) - cost(-steps), steps)
    result = np.empty(steps.shape, object)
    for place in np.ndindex(result.shape):
        alone = np.full(steps.shape, mpf(0), object)
        alone[place] = steps[place]
        change = (cost(alone) - cost(-alone)).reshape(-1).tolist()
        result[place] = sum(change, mpf(0)) / (2 * steps[place]) if steps[place] else mpf(0)
    return result


def _step(here: Any) -> Any:
    """How far an element is moved; not at all where it is infinite: what it masks has no slope."""
    if not mpmath.isfinite(here):
        return mpf(0)
    return mpf(10) ** -60 * (abs(here) if here else mpf(10) ** -330)


def _quotient(change: Array, steps: Array) -> Array:
    return np.asarray(
        np.frompyfunc(lambda c, h: c / (2 * h) if h else mpf(0), 2, 1)(change, steps), object
    )


def _outcome(what: str, found: Array, true: Array, scale: Any, ulps: float, dtype: str) -> Outcome:
    limits = np.finfo(dtype)
    size = np.broadcast_to(_floats(np.abs(np.asarray(scale, object))), true.shape)
    size = np.minimum(size, float(limits.max))
    bound = ulps * float(limits.eps) * size + 2 * float(limits.smallest_subnormal)
    expected = _floats(true)
    with np.errstate(over="ignore"):
        expected = np.where(np.abs(expected) > limits.max, np.copysign(np.inf, expected), expected)
    return Outcome(what, np.asarray(found, np.float64), expected, bound)


def _floats(values: Any) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(np.frompyfunc(float, 1, 1)(np.asarray(values, object)), np.float64)
