"""Elementwise math functions (floor 2): powers, exponentials, logarithms, trigonometry, special functions.

Each is one method or a short body of the scalar language; backends decompose the methods themselves.
References compute in float64. Gradients use `chain_multiply`/`chain_divide`: a zero cotangent stays zero.
"""

from __future__ import annotations

import numpy as np

from graphc.ops.elementwise import (
    Domain,
    chain_multiply,
    unary,
    widely,
)

exp = unary(
    "exp",
    "exp",
    widely(np.exp),
    lambda g, out, x: chain_multiply(g, out),
    doc="e to the power x.",
    traits=("monotone",),
)
