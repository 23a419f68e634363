"""Dtypes that an op does not take, and values that no dtype can hold."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

import graphc
from tests.errors.corpus import mistake


def tensor(*shape: int | str, dtype: str = "float32", name: str = "x") -> graphc.Tensor:
    return graphc.placeholder(shape, dtype, name=name)


@mistake("DTypeError", "bitwise_and", "f32[3]", hint=r"logical_and|int|bool|astype")
def bitwise_and_of_floats() -> object:
    x, y = tensor(3), tensor(3, name="y")
    return x & y  # wrong


@mistake("DTypeError", "bitwise_invert", "f32[3]", hint=r"logical_not|int|bool|astype|-x")
def invert_a_float() -> object:
    x = tensor(3)
    return ~x  # wrong


@mistake("DTypeError", "bitwise_left_shift", "f32[3]", hint=r"int|astype")
def shift_by_a_float() -> object:
    x, y = tensor(3, dtype="int32"), tensor(3, name="y")
    return x << y  # wrong


@mistake("DTypeError", "subtract", "bool[3]", hint=r"logical_xor|!=|\^|astype")
def difference_of_truth_values() -> object:
    x, y = tensor(3, dtype="bool"), tensor(3, dtype="bool", name="y")
    return x - y  # wrong


@mistake("DTypeError", "negative", "bool[3]", hint=r"logical_not|~|astype")
def minus_a_truth_value() -> object:
    x = tensor(3, dtype="bool")
    return -x  # wrong


@mistake("DTypeError", "float31", hint=r"float32")
def placeholder_of_an_unknown_dtype() -> object:
    return graphc.placeholder((3,), "float31", name="x")  # wrong


@mistake("DTypeError", "complex", hint=r"float32|real")
def placeholder_of_complex_numbers() -> object:
    return graphc.placeholder((3,), np.complex64, name="x")  # wrong


@mistake("DTypeError", "int7", hint=r"int8")
def conversion_to_an_unknown_dtype() -> object:
    x = tensor(3)
    return graphc.astype(x, "int7")  # wrong


@mistake("DTypeError", "constant", "Decimal", hint=r"float|array|number")
def constant_of_decimals() -> object:
    return graphc.constant(Decimal("1.5"))  # wrong


@mistake("DTypeError", "<U5", hint=r"number|dtype|one of|float32")
def constant_of_strings() -> object:
    return graphc.constant(np.array(["hello"]))  # wrong


@mistake("DTypeError", "add", "str", hint=r"number|array|tensor")
def sum_with_a_string() -> object:
    x = tensor(3)
    return x + "1"  # wrong


@mistake("DTypeError", "add", "NoneType", hint=r"number|array|tensor")
def sum_with_nothing() -> object:
    x = tensor(3)
    return x + None  # wrong


@mistake("ShapeError", "constant", hint=r"same length|pad|shape|rectang")
def constant_of_ragged_lists() -> object:
    return graphc.constant([[1.0, 2.0], [3.0]])  # wrong


@mistake("DTypeError", "add", "300", "u8[3]", hint=r"astype|0.*255|int16")
def a_number_that_the_dtype_cannot_hold() -> object:
    x = tensor(3, dtype="uint8")
    return x + 300  # wrong


@mistake("DTypeError", "multiply", "-1", "u32[3]", hint=r"astype|0.*4294967295|int")
def a_negative_number_for_an_unsigned_dtype() -> object:
    x = tensor(3, dtype="uint32")
    return x * -1  # wrong


@mistake("DTypeError", "where", "f32[3]", hint=r"!= 0|> 0|bool")
def where_with_a_condition_that_is_no_truth() -> object:
    x = tensor(3)
    return graphc.where(x, x, 0.0)  # wrong


@mistake("DTypeError", "take", "f32[2]", hint=r"int|astype")
def take_at_float_positions() -> object:
    x, k = tensor(5), tensor(2, name="k")
    return graphc.take(x, k)  # wrong


@mistake("DTypeError", "sum", "decimal", hint=r"float32|one of")
def sum_in_an_unknown_dtype() -> object:
    x = tensor(3)
    return graphc.sum(x, dtype="decimal")  # wrong


@mistake("DTypeError", "mean", "i32[3]", hint=r"float|astype")
def mean_of_integers_as_integers() -> object:
    x = tensor(3, dtype="int32")
    return graphc.mean(x, dtype="int32")  # wrong


@mistake("DTypeError", "arange", "str", hint=r"number|int")
def range_up_to_a_string() -> object:
    return graphc.arange("10")  # wrong


@mistake("ShapeError", "arange", "0", hint=r"step")
def range_with_step_zero() -> object:
    return graphc.arange(0, 10, 0)  # wrong
