"""Functions on dtypes against NumPy and the Array API."""

from __future__ import annotations

import numpy as np
import pytest

from graphc.base.dtypes import ALL, DType, bfloat16, float32
from graphc.base.errors import DTypeError
from graphc.ops.data_types import can_cast, finfo, iinfo, isdtype, result_type
from graphc.ops.state import placeholder


@pytest.mark.parametrize("dtype", [d for d in ALL if d is not bfloat16], ids=str)
def test_limits(dtype: DType) -> None:
    if dtype.is_float:
        ours, theirs = finfo(dtype), np.finfo(dtype.numpy)
        assert (ours.bits, ours.eps, ours.max, ours.min) == (
            theirs.bits, theirs.eps, theirs.max, theirs.min
        )  # fmt: skip
        assert ours.smallest_normal == theirs.smallest_normal
    elif dtype.is_integer:
        limits = np.iinfo(dtype.numpy)
        assert (iinfo(dtype).min, iinfo(dtype).max) == (limits.min, limits.max)
    else:
        with pytest.raises(DTypeError, match="expected an integer dtype, got bool"):
            iinfo(dtype)
        with pytest.raises(DTypeError, match="expected a float dtype, got bool"):
            finfo(dtype)


def test_bfloat16_limits() -> None:
    assert finfo("bfloat16").eps == 2.0**-7
    assert finfo("bfloat16").max == float.fromhex("0x1.fep127")


def test_kinds() -> None:
    assert isdtype("float32", "real floating")
    assert isdtype("int8", ("bool", "signed integer"))
    assert not isdtype("bool", "numeric")
    assert isdtype("uint8", "uint8")
    assert not isdtype("float32", "complex floating")
    with pytest.raises(DTypeError):
        isdtype("float32", "whole")


def test_casts_and_results() -> None:
    assert can_cast("int8", "int16")
    assert not can_cast("int16", "int8")
    assert not can_cast(placeholder((2,), "float64"), "float32")
    x = placeholder((2,), "float32")
    assert result_type(x, 1.0, True) is float32
    assert result_type(x, np.ones(2)).name == "float64"
    assert result_type("int8", "uint8").name == "int16"
    assert result_type(1, 2.0).name == "float64"
    assert result_type("int8", 2.0).name == "float64"
    with pytest.raises(DTypeError, match="at least one"):
        result_type()
