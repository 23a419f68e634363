"""Functions that naive expressions become (floor 2): exp and log of sums, products, 1 - exp(x).

Users write `exp(a) / exp(b)`, `log(a * b)`, `log(1 - exp(x))`; the rules of
`rewrite/rules/stability` put these ops in their place. No intermediate value overflows, underflows
or cancels before the result does. They are not public names: there is always a plain way to write
them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.base.dtypes import FLOAT, Array
from graphc.ops.declaration import Domain, declare, in_compute_dtype, widely
from graphc.ops.elementwise import chain_divide, chain_multiply, negative
from graphc.ops.elementwise_math import expm1

# -- exp(x + y) -----------------------------------------------------------------------------------


def _exp_sum_scalar(s: Any, x: Any, y: Any) -> Any:
    # exp magnifies the rounding error of the sum by the sum's size: multiply by 1 + that error
    # (Knuth's two-sum). Beyond 2048 the result is 0 or infinite, and the error means nothing.
    total = s.add(x, y)
    part = s.sub(total, x)
    error = s.add(s.sub(x, s.sub(total, part)), s.sub(y, part))
    near = s.lt(s.abs(total), s.like(total, 2048.0))
    one = s.like(total, 1.0)
    return s.mul(s.exp(total), s.select(near, s.add(one, error), one))


def _exp_sum_reference(x: Array, y: Array) -> Array:
    total = x + y
    part = total - x
    error = (x - (total - part)) + (y - part)
    return np.asarray(np.exp(total) * (1.0 + np.where(np.abs(total) < 2048, error, 0.0)))


EXP_SUM = declare(
    "exp_sum",
    2,
    dtypes=FLOAT,
    scalar=in_compute_dtype(_exp_sum_scalar),
    reference=widely(_exp_sum_reference),
    gradient=(
        lambda g, out, x, y: chain_multiply(g, out),
        lambda g, out, x, y: chain_multiply(g, out),
    ),
    traits=("commutative",),
    doc="exp(x1 + x2), without the error that the rounding of the sum makes.",
)

# -- log(x * y), log(x / y) -----------------------------------------------------------------------

# (largest, smallest normal, exponents by which operands are scaled down or up so that neither
# they nor their product or quotient leave the range).
_RANGE = {
    32: (3.4028234663852886e38, 2.0**-126, -65, 100),
    64: (1.7976931348623157e308, 2.0**-1022, -513, 800),
}


def _log_scaled(s: Any, x: Any, y: Any, quotient: bool) -> Any:
    """log of the product or quotient of powers of two times the operands, and of those powers."""
    dtype = s.dtype_of(x)
    largest, smallest, down, up = _RANGE[dtype.bits]
    if quotient:
        down = -up
    combine = s.div if quotient else s.mul
    size = s.abs(combine(x, y))
    a, b = s.abs(x), s.abs(y)
    top, bottom = s.like(x, largest), s.like(x, smallest)
    zero, one = s.like(x, 0.0), s.like(x, 1.0)
    ordinary = s.bit_and(s.le(s.maximum(a, b), top), s.gt(s.minimum(a, b), zero))
    large = s.bit_and(ordinary, s.gt(size, top))
    small = s.bit_and(ordinary, s.lt(size, bottom))
    scale = s.select(large, s.like(x, 2.0**down), s.select(small, s.like(x, 2.0**up), one))
    other = scale
    if quotient:
        other = s.select(large, s.like(x, 2.0**-down), s.select(small, s.like(x, 2.0**-up), one))
    shift = s.select(
        large,
        s.like(x, -2 * down * math.log(2.0)),
        s.select(small, s.like(x, -2 * up * math.log(2.0)), zero),
    )
    return s.add(s.op("log", combine(s.mul(x, scale), s.mul(y, other))), shift)


def _log_product_scalar(s: Any, x: Any, y: Any) -> Any:
    return _log_scaled(s, x, y, False)


def _log_quotient_scalar(s: Any, x: Any, y: Any) -> Any:
    return _log_scaled(s, x, y, True)


def _log_product_reference(x: Array, y: Array) -> Array:
    (m, e), (n, f) = np.frexp(x), np.frexp(y)
    plain = x * y
    usual = (np.abs(plain) > 1e-300) & (np.abs(plain) < 1e300)
    finite = np.isfinite(x) & np.isfinite(y)
    scaled: Array = np.log(m * n) + (e + f) * math.log(2.0)
    return np.where(usual | ~finite, np.log(plain), scaled)


def _log_quotient_reference(x: Array, y: Array) -> Array:
    (m, e), (n, f) = np.frexp(x), np.frexp(y)
    plain = x / y
    usual = (np.abs(plain) > 1e-300) & (np.abs(plain) < 1e300)
    finite = np.isfinite(x) & np.isfinite(y) & (y != 0)
    return np.where(usual | ~finite, np.log(plain), np.log(m / n) + (e - f) * math.log(2.0))


LOG_PRODUCT = declare(
    "log_product",
    2,
    dtypes=FLOAT,
    scalar=in_compute_dtype(_log_product_scalar),
    reference=widely(_log_product_reference),
    gradient=(
        lambda g, out, x, y: chain_divide(g, x),
        lambda g, out, x, y: chain_divide(g, y),
    ),
    domain=Domain(0.1, 6.0),
    traits=("commutative",),
    doc="log(x1 * x2), also where the product overflows or underflows.",
)
LOG_QUOTIENT = declare(
    "log_quotient",
    2,
    dtypes=FLOAT,
    scalar=in_compute_dtype(_log_quotient_scalar),
    reference=widely(_log_quotient_reference),
    gradient=(
        lambda g, out, x, y: chain_divide(g, x),
        lambda g, out, x, y: negative(chain_divide(g, y)),
    ),
    domain=Domain(0.1, 6.0),
    doc="log(x1 / x2), also where the quotient overflows or underflows.",
)

# -- log(1 - exp(x)) ------------------------------------------------------------------------------


def _log1mexp_scalar(s: Any, x: Any) -> Any:
    # Mächler: near 0 expm1 keeps the digits, far below log1p does.
    near = s.gt(x, s.like(x, -math.log(2.0)))
    by_expm1 = s.op("log", s.neg(s.op("expm1", x)))
    return s.select(near, by_expm1, s.op("log1p", s.neg(s.exp(x))))


def _log1mexp_reference(x: Array) -> Array:
    return np.where(x > -math.log(2.0), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


LOG1MEXP = declare(
    "log1mexp",
    1,
    dtypes=FLOAT,
    scalar=in_compute_dtype(_log1mexp_scalar),
    reference=widely(_log1mexp_reference),
    gradient=(lambda g, out, x: negative(chain_divide(g, expm1(negative(x)))),),
    domain=Domain(-6.0, -0.1),
    doc="log(1 - exp(x)), accurate for every negative x.",
)
