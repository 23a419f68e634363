"""Elementwise operators (floor 8): arithmetic, comparisons, bits, conversions."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

import graphc
from graphc.base.dtypes import DType
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, Handler, Result, op
from graphc.onnx.elements import FLOAT
from graphc.onnx.narrow import CARRIED, carried, numbers_of
from graphc.onnx.size_arithmetic import fits
from graphc.onnx.values import TensorValue, Value

Unary = Callable[..., Tensor]


def _pair(c: Context) -> tuple[Tensor, Tensor]:
    """Two operands; before opset 7 the second one may be lined up from an axis on."""
    a, b = c.tensor(0), c.tensor(1)
    if c.version >= 7 or b.shape == a.shape:
        return a, b
    if not c.attribute("broadcast", 0):
        c.bad(f"operands of shapes {a.shape} and {b.shape} without the attribute broadcast")
    axis = c.attribute("axis")
    if axis is None:
        return a, b
    place = axis + a.ndim if axis < 0 else axis
    if place < 0 or place + b.ndim > a.ndim:
        c.bad(f"axis {axis} does not fit operands of {a.ndim} and {b.ndim} dims")
    return a, graphc.reshape(b, (*b.shape, *[1] * (a.ndim - place - b.ndim)))


def _register_pairs() -> None:
    table: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "Add": graphc.add,
        "Sub": graphc.subtract,
        "Mul": graphc.multiply,
        "Div": quotient,
        "And": graphc.logical_and,
        "Or": graphc.logical_or,
        "Xor": graphc.logical_xor,
        "Equal": graphc.equal,
        "Less": graphc.less,
        "LessOrEqual": graphc.less_equal,
        "Greater": graphc.greater,
        "GreaterOrEqual": graphc.greater_equal,
        "BitwiseAnd": graphc.bitwise_and,
        "BitwiseOr": graphc.bitwise_or,
        "BitwiseXor": graphc.bitwise_xor,
    }
    for name, function in table.items():
        op(name)(_of_pair(function))


def _of_pair(function: Callable[[Tensor, Tensor], Tensor]) -> Handler:
    return lambda c: function(*same_dtype(c, *_pair(c)))


def _of_one(function: Unary) -> Handler:
    return lambda c: function(c.tensor(0))


def same_dtype(c: Context, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, which must be of one dtype. Raises FormatError."""
    for k, tensor in enumerate(tensors):
        if tensor.dtype is not tensors[0].dtype:
            c.bad(f"operand {k} is of dtype {tensor.dtype}, operand 0 of {tensors[0].dtype}")
    return tensors


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """a / b; of integers rounded toward zero."""
    if a.dtype.is_float:
        return graphc.divide(a, b)
    down = graphc.floor_divide(a, b)
    if a.dtype.kind == "u":
        return down
    inexact = graphc.not_equal(graphc.remainder(a, b), 0)
    return graphc.where(inexact & ((a < 0) != (b < 0)), down + 1, down)


def _register_unaries() -> None:
    table: dict[str, Unary] = {
        "Abs": graphc.abs,
        "Acos": graphc.acos,
        "Acosh": graphc.acosh,
        "Asin": graphc.asin,
        "Asinh": graphc.asinh,
        "Atan": graphc.atan,
        "Atanh": graphc.atanh,
        "BitwiseNot": graphc.bitwise_invert,
        "Ceil": graphc.ceil,
        "Cos": graphc.cos,
        "Cosh": graphc.cosh,
        "Erf": graphc.erf,
        "Exp": graphc.exp,
        "Floor": graphc.floor,
        "IsNaN": graphc.isnan,
        "Log": graphc.log,
        "Neg": graphc.negative,
        "Not": graphc.logical_not,
        "Reciprocal": graphc.reciprocal,
        "Relu": graphc.nn.relu,
        "Round": graphc.round,
        "Sigmoid": graphc.sigmoid,
        "Sign": graphc.sign,
        "Sin": graphc.sin,
        "Sinh": graphc.sinh,
        "Sqrt": graphc.sqrt,
        "Tan": graphc.tan,
        "Tanh": graphc.tanh,
    }
    for name, function in table.items():
        op(name)(_of_one(function))


_register_pairs()
_register_unaries()


@op("LeakyRelu")
def leaky_relu(c: Context) -> Tensor:
    """x, and alpha x below 0."""
    return graphc.nn.leaky_relu(c.tensor(0), c.attribute("alpha"))


@op("Identity")
def identity(c: Context) -> Value:
    """The operand, of whatever kind."""
    return c.any_value(0)


@op("Mod")
def mod(c: Context) -> Tensor:
    """The remainder with the divisor's sign, or with the dividend's (fmod)."""
    a, b = same_dtype(c, c.tensor(0), c.tensor(1))
    if not c.attribute("fmod"):
        return graphc.remainder(a, b)
    if a.dtype.kind == "u":
        return graphc.remainder(a, b)
    rest = graphc.remainder(graphc.abs(a), graphc.abs(b))
    if a.dtype.is_float:
        return graphc.copysign(rest, a)
    return graphc.where(a < 0, -rest, rest)


@op("Pow")
def power(c: Context) -> Tensor:
    """x ** y in x's dtype."""
    x, y = _pair(c)
    if x.dtype.is_float or y.dtype is x.dtype:
        return graphc.pow(x, graphc.astype(y, x.dtype))
    return graphc.astype(graphc.pow(x, y), x.dtype)


@op("IsInf")
def is_inf(c: Context) -> Tensor:
    """Which elements are infinite, of the signs asked for."""
    x = c.tensor(0)
    up, down = c.attribute("detect_positive"), c.attribute("detect_negative")
    found = graphc.isinf(x)
    if up and down:
        return found
    if not up and not down:
        return graphc.logical_and(found, False)
    return found & ((x > 0) if up else (x < 0))


@op("Max", "Min")
def extreme(c: Context) -> Tensor:
    """The largest or smallest of the operands, by elements."""
    function = graphc.maximum if c.op == "Max" else graphc.minimum
    return reduce(function, same_dtype(c, *c.tensors()))


@op("Sum", "Mean")
def sum_of_operands(c: Context) -> Tensor:
    """The sum or mean of the operands, by elements."""
    operands = same_dtype(c, *c.tensors())
    total = reduce(graphc.add, operands)
    return total if c.op == "Sum" else graphc.divide(total, float(len(operands)))


@op("Clip")
def clip(c: Context) -> Tensor:
    """x between two bounds, which are attributes."""
    return _clipped(c.tensor(0), c.attribute("min"), c.attribute("max"))


@op("Clip", since=11)
def clip_inputs(c: Context) -> Tensor:
    """x between two bounds, which are operands; the upper one wins where they cross."""
    return _clipped(c.tensor(0), c.optional(1), c.optional(2))


def _clipped(x: Tensor, low: Any, high: Any) -> Tensor:
    if low is not None:
        x = graphc.maximum(x, low)
    return x if high is None else graphc.minimum(x, high)


@op("Where")
def where(c: Context) -> Tensor:
    """Elements of the second or third operand."""
    return graphc.where(c.tensor(0), *same_dtype(c, c.tensor(1), c.tensor(2)))


@op("BitShift")
def bit_shift(c: Context) -> Tensor:
    """x shifted left or right by y bits."""
    x, y = same_dtype(c, c.tensor(0), c.tensor(1))
    direction = c.attribute("direction")
    if direction not in ("LEFT", "RIGHT"):
        c.bad(f"the direction {direction!r} is neither LEFT nor RIGHT")
    if direction == "LEFT":
        return graphc.bitwise_left_shift(x, y)
    return graphc.bitwise_right_shift(x, y)


# -- conversions ----------------------------------------------------------------------------------


@op("Cast")
def cast(c: Context) -> Value | Tensor:
    """The elements converted to another type."""
    return _cast(c, _element(c))


def _cast(c: Context, element: int) -> Value | Tensor:
    value = c.carried(0)
    if element in CARRIED:
        saturate = bool(c.attribute("saturate", 1))
        mode = c.attribute("round_mode", "up")
        return carried(numbers_of(value), element, saturate=saturate, round_mode=mode)
    dtype = c.dtype(element, "the type to cast to")
    if value.plain:
        return converted(c, value, dtype)
    return graphc.astype(numbers_of(value), dtype)


def _element(c: Context) -> int:
    to: Any = c.attribute("to")
    if isinstance(to, str):  # opset 1 wrote the name
        names = {"FLOAT": FLOAT, "DOUBLE": 11, "INT32": 6, "INT64": 7, "BOOL": 9, "FLOAT16": 10}
        if to.upper() not in names:
            c.refuse(f"the type to cast to is {to!r}")
        return names[to.upper()]
    return int(to)


@op("CastLike")
def cast_like(c: Context) -> Value | Tensor:
    """The elements converted to the type of another operand."""
    return _cast(c, c.carried(1).element)


def converted(c: Context, value: TensorValue, dtype: DType) -> Value | Tensor:
    """A value in another dtype; sizes stay sizes."""
    if value.dtype is dtype:
        return value
    if value.sizes is not None and value.dtype.is_integer and fits(value.sizes, dtype):
        if dtype.is_integer and dtype.bits >= 32:
            return TensorValue(None, sizes=value.sizes, dtype=dtype)
    return graphc.astype(value.tensor, dtype)


@op("BitCast")
def bit_cast(c: Context) -> Tensor:
    """The bits of the elements as another type of the same width; a bool is the byte 0 or 1."""
    x, dtype = c.tensor(0), c.dtype(_element(c), "the type to cast to")
    if max(8, x.dtype.bits) != max(8, dtype.bits):
        c.bad(f"bits of {x.dtype} as {dtype}: the widths differ")
    if x.dtype.is_bool:
        x = graphc.astype(x, "uint8")
    if dtype.is_bool:
        return graphc.not_equal(x, 0)
    return graphc.bitcast(x, dtype)


# -- random ---------------------------------------------------------------------------------------


def key(c: Context) -> Tensor:
    """The key of a random node: of its seed where it has one, else of its number in the model."""
    seed = c.attribute("seed")
    c.importer.randoms += 1
    if seed is None:
        return graphc.random.key(c.importer.randoms)
    return graphc.random.key(int(np.float32(seed).view(np.uint32)))


def _random_dtype(c: Context, like: Tensor | None) -> DType:
    element = c.attribute("dtype")
    if element is None:
        return like.dtype if like is not None else graphc.float32
    return c.dtype(element, "the dtype")


def _drawn(c: Context, shape: Any, dtype: DType) -> Tensor:
    if not dtype.is_float:
        c.refuse(f"random numbers of dtype {dtype}")
    if c.op.startswith("RandomUniform"):
        low, high = c.attribute("low"), c.attribute("high")
        return graphc.random.uniform(key(c), shape, low, high, dtype=dtype)
    mean, scale = c.attribute("mean"), c.attribute("scale")
    return graphc.random.normal(key(c), shape, mean, scale, dtype=dtype)


@op("RandomUniform", "RandomNormal")
def random(c: Context) -> Tensor:
    """Random numbers of a given shape."""
    return _drawn(c, tuple(c.attribute("shape")), _random_dtype(c, None))


@op("RandomUniformLike", "RandomNormalLike")
def random_like(c: Context) -> Tensor:
    """Random numbers of an operand's shape."""
    x = c.tensor(0)
    return _drawn(c, x.shape, _random_dtype(c, x))


@op("Bernoulli")
def bernoulli(c: Context) -> Tensor:
    """Ones with the probabilities that the operand gives."""
    x = c.tensor(0)
    return graphc.astype(graphc.random.bernoulli(key(c), x), _random_dtype(c, x))


@op("Multinomial")
def multinomial(c: Context) -> Result:
    """Classes drawn by unnormalized log-probabilities, [batch, classes] to [batch, samples]."""
    x = c.tensor(0)
    count = c.attribute("sample_size")
    batch, classes = x.shape
    # The class of the largest logit plus Gumbel noise has the distribution of the softmax.
    unit = graphc.random.uniform(key(c), (batch, count, classes), dtype="float32")
    noise = -graphc.log(-graphc.log1p(-unit))
    found = graphc.argmax(graphc.astype(x, "float32")[:, None, :] + noise, axis=-1)
    return graphc.astype(found, c.dtype(c.attribute("dtype"), "the dtype"))
