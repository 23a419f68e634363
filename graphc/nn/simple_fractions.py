"""Scales that are simple fractions (floor 8). Loaded when one is asked for: the standard module
`fractions` takes a tenth of the time of `import graphc`.
"""

from __future__ import annotations

import math
from fractions import Fraction

_LARGEST = 1024  # denominator


def simple_fraction(scale: float) -> tuple[int, int] | None:
    """Numerator and denominator of the fraction that a float stands for, 1.5 for (3, 2); None where
    it stands for none with a small denominator.
    """
    ratio = Fraction(scale).limit_denominator(_LARGEST)
    close = math.isclose(float(ratio), scale, rel_tol=1e-6)
    return (ratio.numerator, ratio.denominator) if close else None
