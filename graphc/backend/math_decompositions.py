"""The table of math decompositions (floor 6): functions of the scalar language without libm.

Each entry is a function over a `ScalarLanguage` on float32 or float64 operands that uses only arithmetic,
comparisons, select, bit operations, casts, fma, sqrt and round_even, with its declared largest error
in units in the last place; the bounds hold with and without fused multiply-add and are tested.
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

    Where `rare` is given, `function` equals, bit for bit, select(is_rare, rare, common); an emitter may
    branch on whether any lane is rare instead of computing both.
    """

    function: Body
    ulp32: float
    ulp64: float
    cheap: bool = False
    is_rare: Body | None = None
    common: Body | None = None
    rare: Body | None = None


DECOMPOSITIONS: dict[str, Decomposition] = {
    "exp": Decomposition(exponential.exp, 1.5, 1.5),
    "exp2": Decomposition(exponential.exp2, 1.5, 1.5),
    "expm1": Decomposition(exponential.expm1, 2.5, 2.5),
    "log": Decomposition(logarithm.log, 1.5, 1.5),
    "log2": Decomposition(logarithm.log2, 1.5, 1.5),
    "log10": Decomposition(logarithm.log10, 2.0, 2.0),
    "log1p": Decomposition(logarithm.log1p, 2.0, 2.0),
    "sin": Decomposition(
        trigonometric.sin,
        1.5,
        1.5,
        is_rare=trigonometric.is_rare,
        common=trigonometric.sin_common,
        rare=trigonometric.sin_rare,
    ),
    "cos": Decomposition(
        trigonometric.cos,
        1.5,
        1.5,
        is_rare=trigonometric.is_rare,
        common=trigonometric.cos_common,
        rare=trigonometric.cos_rare,
    ),
    "tan": Decomposition(
        trigonometric.tan,
        2.5,
        2.5,
        is_rare=trigonometric.is_rare,
        common=trigonometric.tan_common,
        rare=trigonometric.tan_rare,
    ),
    "asin": Decomposition(trigonometric.asin, 2.5, 2.5),
    "acos": Decomposition(trigonometric.acos, 2.5, 2.5),
    "atan": Decomposition(trigonometric.atan, 2.5, 2.5),
    "atan2": Decomposition(trigonometric.atan2, 2.5, 2.5),
    "sinh": Decomposition(exponential.sinh, 2.5, 2.5),
    "cosh": Decomposition(exponential.cosh, 2.5, 2.5),
    "tanh": Decomposition(exponential.tanh, 2.0, 2.0),
    "asinh": Decomposition(logarithm.asinh, 2.5, 2.5),
    "acosh": Decomposition(logarithm.acosh, 2.5, 2.5),
    "atanh": Decomposition(logarithm.atanh, 2.5, 2.5),
    "pow": Decomposition(power.pow_, 1.0, 1.5),
    "hypot": Decomposition(power.hypot, 1.0, 1.5),
    "reciprocal_sqrt": Decomposition(power.reciprocal_sqrt, 1.5, 1.5, cheap=True),
    "copysign": Decomposition(power.copysign, 0.0, 0.0, cheap=True),
    "nextafter": Decomposition(power.nextafter, 0.0, 0.0, cheap=True),
    "erf": Decomposition(special.erf, 2.5, 2.5),
    "erfc": Decomposition(special.erfc, 1.0, 4.0),
    "lgamma": Decomposition(special.lgamma, 1.0, 4.0),
    "digamma": Decomposition(special.digamma, 1.0, 4.0),
}


def decompose(s: ScalarLanguage[V], name: str, *operands: V) -> V:
    """The method `name` of the scalar language in terms of simpler ones."""
    result: V = DECOMPOSITIONS[name].function(s, *operands)
    return result
