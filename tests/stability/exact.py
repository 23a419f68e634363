"""The true value of an expression: the same expression, evaluated on mpmath numbers.

A case of the suite is written once, `lambda m, x: m.log(1 + m.exp(x))`, and called twice: with
`m` the compiler's functions, and with `m` this module's `Exact`, whose arrays hold mpmath numbers
of hundreds or thousands of digits. There naive formulas are right, because nothing is rounded
that a float64 could see; so the truth of a function is its textbook definition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

from graphc.base.dtypes import Array

mpf = mpmath.mpf


def numbers(values: Any) -> Array:
    """Floats as mpmath numbers of the same value."""
    array = np.asarray(values, np.float64)
    if array.ndim == 0:
        return _wrapped(mpf(float(array)))
    return np.asarray(np.frompyfunc(lambda v: mpf(float(v)), 1, 1)(array), object)


def _wrapped(value: Any) -> Array:
    cell = np.empty((), object)
    cell[()] = value
    return cell


def _each(function: Callable[..., Any]) -> Callable[..., Array]:
    apply = np.frompyfunc(function, 1, 1)

    def mapped(x: Any, /) -> Array:
        found = apply(x)
        return found if isinstance(found, np.ndarray) else _wrapped(found)

    return mapped


def _each_two(function: Callable[..., Any]) -> Callable[..., Array]:
    apply = np.frompyfunc(function, 2, 1)

    def mapped(x: Any, y: Any, /) -> Array:
        found = apply(x, y)
        return found if isinstance(found, np.ndarray) else _wrapped(found)

    return mapped


def _reduced(function: Callable[..., Any]) -> Callable[..., Array]:
    def reduce(x: Any, *, axis: Any = None, keepdims: bool = False) -> Array:
        found = function(np.asarray(x, object), axis=axis, keepdims=keepdims)
        return found if isinstance(found, np.ndarray) else _wrapped(found)

    return reduce


def _log(x: Any) -> Any:
    return mpmath.log(x) if x > 0 else mpf("-inf") if x == 0 else mpf("nan")


def _larger(x: Any, y: Any) -> Any:
    return x if x >= y else y


def _smaller(x: Any, y: Any) -> Any:
    return x if x <= y else y


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def _lgamma(x: Any) -> Any:
    return mpmath.re(mpmath.loggamma(x))


class Exact:
    """The functions that cases use, by their textbook definitions, on arrays of mpmath numbers."""

    exp = staticmethod(_each(mpmath.exp))
    exp2 = staticmethod(_each(lambda x: mpf(2) ** x))
    expm1 = staticmethod(_each(lambda x: mpmath.exp(x) - 1))
    log = staticmethod(_each(_log))
    log1p = staticmethod(_each(lambda x: _log(1 + x)))
    log2 = staticmethod(_each(lambda x: mpmath.log(x) / mpmath.log(2)))
    log10 = staticmethod(_each(lambda x: mpmath.log(x) / mpmath.log(10)))
    sqrt = staticmethod(_each(mpmath.sqrt))
    rsqrt = staticmethod(_each(lambda x: 1 / mpmath.sqrt(x)))
    square = staticmethod(_each(lambda x: x * x))
    reciprocal = staticmethod(_each(lambda x: 1 / x))
    abs = staticmethod(_each(abs))
    sin = staticmethod(_each(mpmath.sin))
    cos = staticmethod(_each(mpmath.cos))
    tan = staticmethod(_each(mpmath.tan))
    asin = staticmethod(_each(mpmath.asin))
    acos = staticmethod(_each(mpmath.acos))
    atan = staticmethod(_each(mpmath.atan))
    sinh = staticmethod(_each(mpmath.sinh))
    cosh = staticmethod(_each(mpmath.cosh))
    tanh = staticmethod(_each(mpmath.tanh))
    asinh = staticmethod(_each(mpmath.asinh))
    acosh = staticmethod(_each(mpmath.acosh))
    atanh = staticmethod(_each(mpmath.atanh))
    erf = staticmethod(_each(mpmath.erf))
    erfc = staticmethod(_each(mpmath.erfc))
    lgamma = staticmethod(_each(_lgamma))
    digamma = staticmethod(_each(mpmath.digamma))
    sigmoid = staticmethod(_each(_sigmoid))
    log_sigmoid = staticmethod(_each(lambda x: mpmath.log(_sigmoid(x))))
    softplus = staticmethod(_each(lambda x: mpmath.log(1 + mpmath.exp(x))))
    silu = staticmethod(_each(lambda x: x * _sigmoid(x)))
    gelu = staticmethod(_each(lambda x: x / 2 * mpmath.erfc(-x / mpmath.sqrt(2))))
    mish = staticmethod(_each(lambda x: x * mpmath.tanh(mpmath.log(1 + mpmath.exp(x)))))
    elu = staticmethod(_each(lambda x: x if x > 0 else mpmath.exp(x) - 1))
    hypot = staticmethod(_each_two(lambda x, y: mpmath.sqrt(x * x + y * y)))
    atan2 = staticmethod(_each_two(mpmath.atan2))
    maximum = staticmethod(_each_two(_larger))
    minimum = staticmethod(_each_two(_smaller))
    logaddexp = staticmethod(_each_two(lambda x, y: mpmath.log(mpmath.exp(x) + mpmath.exp(y))))
    pow = staticmethod(_each_two(lambda x, y: mpmath.power(x, y)))
    sum = staticmethod(_reduced(np.sum))
    prod = staticmethod(_reduced(np.prod))
    max = staticmethod(_reduced(np.max))
    min = staticmethod(_reduced(np.min))
    mean = staticmethod(_reduced(np.mean))

    @staticmethod
    def where(condition: Any, x: Any, y: Any) -> Array:
        """x where the condition holds, else y."""
        return np.where(np.asarray(condition, bool), x, y)

    @staticmethod
    def matmul(x: Any, y: Any) -> Array:
        """The matrix product."""
        return np.asarray(np.dot(x, y), object)

    @staticmethod
    def cumulative_sum(x: Any, *, axis: int = 0) -> Array:
        """Running sums."""
        return np.asarray(np.cumsum(x, axis=axis), object)

    @classmethod
    def var(cls, x: Any, *, axis: Any = None, keepdims: bool = False) -> Array:
        """The mean of squared distances from the mean."""
        return cls.mean(
            (x - cls.mean(x, axis=axis, keepdims=True)) ** 2, axis=axis, keepdims=keepdims
        )

    @classmethod
    def std(cls, x: Any, *, axis: Any = None, keepdims: bool = False) -> Array:
        """The root of the variance."""
        return cls.sqrt(cls.var(x, axis=axis, keepdims=keepdims))

    @classmethod
    def vector_norm(cls, x: Any, *, axis: Any = None) -> Array:
        """sqrt(sum(x²))"""
        return cls.sqrt(cls.sum(x * x, axis=axis))

    @classmethod
    def logsumexp(cls, x: Any, *, axis: Any = None, keepdims: bool = False) -> Array:
        """log(sum(exp(x)))"""
        return cls.log(cls.sum(cls.exp(x), axis=axis, keepdims=keepdims))

    @classmethod
    def softmax(cls, x: Any, *, axis: int = -1) -> Array:
        """exp(x) / sum(exp(x))"""
        return np.asarray(cls.exp(x) / cls.sum(cls.exp(x), axis=axis, keepdims=True), object)

    @classmethod
    def log_softmax(cls, x: Any, *, axis: int = -1) -> Array:
        """log(softmax(x)), as x - logsumexp(x): exact where x holds -inf as well."""
        return np.asarray(x - cls.logsumexp(x, axis=axis, keepdims=True), object)

    @classmethod
    def softmax_cross_entropy(cls, logits: Any, labels: Any) -> Array:
        """-log_softmax(logits) at integer labels."""
        rows = np.arange(len(labels))
        return np.asarray(-cls.log_softmax(logits)[rows, labels], object)

    @classmethod
    def layer_norm(cls, x: Any, *, epsilon: float = 0.0) -> Array:
        """(x - mean) / sqrt(variance + epsilon) over the last axis."""
        centered = x - cls.mean(x, axis=-1, keepdims=True)
        return np.asarray(centered / cls.sqrt(cls.var(x, axis=-1, keepdims=True) + epsilon), object)
