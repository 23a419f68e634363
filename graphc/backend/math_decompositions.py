"""The table of math decompositions (floor 6): functions of the scalar language without libm.

Each entry is a function over a `ScalarLanguage` on float32 or float64 operands that uses only
arithmetic, comparisons, select, bit operations, casts, fma, sqrt and round_even, with its declared
largest error in units in the last place. The bounds hold with and without fused multiply-add, and
tests/backend/test_math_float32.py and test_math_float64.py hold every entry to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from graphc.backend import math_exponential as exponential
from graphc.backend import math_logarithm as logarithm
from graphc.backend import math_power as power
from graphc.backend import math_special as special
from graphc.backend import math_trigonometric as trigonometric
from graphc.ir.scalar import ScalarLanguage

V = TypeVar("V")
Body = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Decomposition:
    """One function: its body, its largest errors, and whether it is short enough to inline.

    Where `rare` is given, `function` equals, bit for bit, select(is_rare, rare, common); an emitter
    may branch on whether any lane is rare instead of computing both.
    """

    function: Body
    ulp32: float
    ulp64: float
    cheap: bool = False
    is_rare: Body | None = None
    common: Body | None = None
    rare: Body | None = None


def _periodic(finish: trigonometric.Finish, ulp: float) -> Decomposition:
    return Decomposition(
        trigonometric.any_operand(finish),
        ulp,
        ulp,
        is_rare=trigonometric.is_rare,
        common=trigonometric.common_operand(finish),
        rare=trigonometric.rare_operand(finish),
    )


DECOMPOSITIONS: dict[str, Decomposition] = {
    "exp": Decomposition(exponential.exp, 1.25, 1.25),
    "exp2": Decomposition(exponential.exp2, 1.25, 1.25),
    "expm1": Decomposition(exponential.expm1, 1.75, 1.75),
    "log": Decomposition(logarithm.log, 1.0, 1.0),
    "log2": Decomposition(logarithm.log2, 1.5, 1.0),
    "log10": Decomposition(logarithm.log10, 1.5, 1.0),
    "log1p": Decomposition(logarithm.log1p, 1.75, 1.75),
    "sin": _periodic(trigonometric.sin_from, 1.0),
    "cos": _periodic(trigonometric.cos_from, 1.0),
    "tan": _periodic(trigonometric.tan_from, 2.5),
    "asin": Decomposition(trigonometric.asin, 2.5, 2.5),
    "acos": Decomposition(trigonometric.acos, 1.5, 1.5),
    "atan": Decomposition(trigonometric.atan, 1.75, 1.75),
    "atan2": Decomposition(trigonometric.atan2, 2.0, 2.0),
    "sinh": Decomposition(exponential.sinh, 2.0, 2.0),
    "cosh": Decomposition(exponential.cosh, 1.75, 1.75),
    "tanh": Decomposition(exponential.tanh, 2.5, 2.5),
    "asinh": Decomposition(logarithm.asinh, 2.25, 2.25),
    "acosh": Decomposition(logarithm.acosh, 2.5, 2.5),
    "atanh": Decomposition(logarithm.atanh, 1.5, 1.5),
    "pow": Decomposition(power.pow_, 0.6, 1.5),
    "hypot": Decomposition(power.hypot, 0.6, 1.25),
    "reciprocal_sqrt": Decomposition(power.reciprocal_sqrt, 1.51, 1.51, cheap=True),
    "copysign": Decomposition(power.copysign, 0.0, 0.0, cheap=True),
    "nextafter": Decomposition(power.nextafter, 0.0, 0.0, cheap=True),
    "erf": Decomposition(special.erf, 1.5, 1.5),
    "erfc": Decomposition(special.erfc, 3.75, 4.0),
    "lgamma": Decomposition(special.lgamma, 0.6, 3.5),
    "digamma": Decomposition(special.digamma, 0.6, 4.0),
}


def decompose(s: ScalarLanguage[V], name: str, *operands: V) -> V:
    """The method `name` of the scalar language in terms of simpler ones."""
    result: V = DECOMPOSITIONS[name].function(s, *operands)
    return result
