"""Indices that do not fit, and indexing that a static graph cannot express."""

from __future__ import annotations

import graphc
from tests.errors.corpus import mistake


def tensor(*shape: int | str, dtype: str = "float32", name: str = "x") -> graphc.Tensor:
    return graphc.placeholder(shape, dtype, name=name)


@mistake("ShapeError", "3", "f32[2, 3]", hint=r"2|\.\.\.|index")
def more_indices_than_dimensions() -> object:
    x = tensor(2, 3)
    return x[0, 0, 0]  # wrong


@mistake("ShapeError", "5", "f32[2, 3]", hint=r"-2.*1|between|range")
def index_beyond_the_end() -> object:
    x = tensor(2, 3)
    return x[5]  # wrong


@mistake("ShapeError", "...", hint=r"one|single")
def two_ellipses() -> object:
    x = tensor(2, 3)
    return x[..., 0, ...]  # wrong


@mistake("DTypeError", "1.5", "f32[2, 3]", hint=r"int|//")
def a_float_as_index() -> object:
    x = tensor(2, 3)
    return x[1.5]  # wrong


@mistake("ShapeError", "0", "f32[2, 3]", hint=r"step|flip")
def slice_with_step_zero() -> object:
    x = tensor(2, 3)
    return x[::0]  # wrong


@mistake("ShapeError", "f32[3]", "bool[2]", hint="sizes of the dims")
def a_mask_of_another_shape() -> object:
    x, mask = tensor(3), tensor(2, dtype="bool", name="mask")
    return x[mask]  # wrong


@mistake("DTypeError", "str", "f32[2, 3]", hint=r"int|slice")
def a_name_as_index() -> object:
    x = tensor(2, 3)
    return x["column"]  # wrong


@mistake("ShapeError", "f32[]", hint=r"\S")
def index_of_a_scalar() -> object:
    x = tensor()
    return x[0]  # wrong


@mistake("ShapeError", "i64[2]", "i64[3]", hint=r"broadcast|same|reshape")
def index_arrays_of_two_shapes() -> object:
    x = tensor(4, 5)
    i, j = tensor(2, dtype="int64", name="i"), tensor(3, dtype="int64", name="j")
    return x[i, j]  # wrong


@mistake("DTypeError", "f32[2]", hint=r"int|astype")
def index_with_float_positions() -> object:
    x, k = tensor(4), tensor(2, name="k")
    return x[k]  # wrong


@mistake("DTypeError", "f32[4]", "i64[1]", hint="graphc.take")
def slice_up_to_an_end_that_is_no_scalar() -> object:
    x, k = tensor(4), tensor(1, dtype="int64", name="k")
    return x[:k]  # wrong


@mistake("DTypeError", "f32[]", hint="int64")
def a_size_that_is_no_integer() -> object:
    count = tensor()
    return graphc.as_dim(count)  # wrong


@mistake("ShapeError", "i64[2]", hint="one dim per element")
def a_size_that_is_no_scalar() -> object:
    sizes = tensor(2, dtype="int64")
    return graphc.as_dim(sizes)  # wrong


@mistake("GraphError", "f32[4]", hint=r"\.at\[")
def assignment_to_an_element() -> object:
    x = tensor(4)
    x[0] = 1.0  # wrong
    return x


@mistake("ShapeError", "f32[4]", "f32[3]", hint=r"broadcast|reshape|shape")
def update_with_values_of_another_shape() -> object:
    x, y = tensor(4), tensor(3, name="y")
    return x.at[:2].set(y)  # wrong


@mistake("ShapeError", "take_along_axis", "f32[4, 5]", "i64[4]", hint=r"expand_dims|rank|dim|None")
def take_along_axis_with_fewer_dimensions() -> object:
    x, k = tensor(4, 5), tensor(4, dtype="int64", name="k")
    return graphc.take_along_axis(x, k, axis=1)  # wrong


@mistake("ShapeError", "take", "f32[4, 5]", hint=r"axis")
def take_from_a_matrix_without_an_axis() -> object:
    x, k = tensor(4, 5), tensor(2, dtype="int64", name="k")
    return graphc.take(x, k)  # wrong


@mistake("ShapeError", "bool[2]", "f32[3]", hint=r"\S")
def a_known_mask_of_another_length() -> object:
    x = tensor(3)
    return x[[True, False]]  # wrong


@mistake("ShapeError", "searchsorted", "f32[2, 3]", hint=r"sorted|vector|one")
def search_in_a_matrix() -> object:
    x, v = tensor(2, 3), tensor(4, name="v")
    return graphc.searchsorted(x, v)  # wrong
