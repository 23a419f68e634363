"""Random shapes, dtypes and arguments drawn by hypothesis, held against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import graphc
from tests.array_api.against_numpy import Cases

NUMBERS = ("int8", "int32", "uint8", "uint64", "float32", "float64")
PAIRS = ("add", "subtract", "multiply", "divide", "less", "equal", "maximum", "where")
OVER_AXES = ("sum", "max", "mean", "any", "argmin", "count_nonzero")
FEW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def elements(dtype: str) -> st.SearchStrategy[Any]:
    """Values whose sums stay finite, so that the order of adding cannot be seen."""
    if dtype.startswith("float"):
        return st.floats(-1000, 1000, width=32).filter(lambda v: v == 0 or abs(v) > 1e-3)
    return arrays.from_dtype(np.dtype(dtype))


@FEW
@given(data=st.data(), name=st.sampled_from(PAIRS))
def test_broadcast_pairs(data: st.DataObject, name: str) -> None:
    shapes = data.draw(arrays.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_dims=4))
    pair = []
    for shape in shapes.input_shapes:
        dtype = data.draw(st.sampled_from(NUMBERS))
        pair.append(data.draw(arrays.arrays(dtype, shape, elements=elements(dtype))))
    cases = Cases(ulps=2, zero_signs=name != "maximum")
    if name == "where":
        cases.add(
            name,
            lambda a, b: graphc.where(a > 0, a, b),
            lambda a, b: np.where(a > 0, a, b),
            *pair,
        )
    else:
        cases.add(name, getattr(graphc, name), getattr(np, name), *pair)
    cases.check()


@FEW
@given(data=st.data(), name=st.sampled_from(OVER_AXES), keepdims=st.booleans())
def test_reductions_over_random_axes(data: st.DataObject, name: str, keepdims: bool) -> None:
    dtype = data.draw(st.sampled_from(NUMBERS))
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6))
    x = data.draw(arrays.arrays(dtype, shape, elements=elements(dtype)))
    one = st.integers(-len(shape), len(shape) - 1)
    axis = data.draw(one if name == "argmin" else one | arrays.valid_tuple_axes(len(shape)))
    # Errors of a sum are relative to its largest terms: compare sums of magnitudes.
    prepare: Any = abs if name in ("sum", "mean") and dtype.startswith("float") else lambda v: v
    cases = Cases(ulps=64, zero_signs=name not in ("max",))
    cases.add(
        f"{name} {dtype}{shape} {axis}",
        lambda v: getattr(graphc, name)(prepare(v), axis=axis, keepdims=keepdims),
        lambda v: np.asarray(getattr(np, name)(prepare(v), axis=axis, keepdims=keepdims)),
        x,
    )
    cases.check()


@FEW
@given(data=st.data())
def test_basic_indices(data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
    index = data.draw(arrays.basic_indices(shape, allow_newaxis=True))
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    cases = Cases()
    cases.add(f"x[{index}] of {shape}", lambda v: v[index], lambda v: v[index], x)
    cases.check()
