"""Shapes that do not fit: elementwise ops, reshaping, joining, reducing."""

from __future__ import annotations

import graphc
from tests.errors.corpus import mistake


def tensor(*shape: int | str, dtype: str = "float32", name: str = "x") -> graphc.Tensor:
    return graphc.placeholder(shape, dtype, name=name)


@mistake("ShapeError", "add", "x : f32[2, 3]", "y : f32[2, 4]", "3", "4", hint="broadcast|reshape")
def shapes_that_do_not_broadcast() -> object:
    x, y = tensor(2, 3), tensor(2, 4, name="y")
    return x + y  # wrong


@mistake("ShapeError", "multiply", "f32[n]", "f32[m]", hint="same|name")
def two_symbolic_sizes() -> object:
    x, y = tensor("n"), tensor("m", name="y")
    return x * y  # wrong


@mistake("ShapeError", "subtract", "f32[n]", "f32[3]", hint=r"\S")
def a_symbolic_size_against_a_number() -> object:
    x, y = tensor("n"), tensor(3, name="y")
    return x - y  # wrong


@mistake("ShapeError", "add", "f32[8]", "f32[4, 6]", hint=r"broadcast|reshape|\[")
def a_bias_of_the_wrong_length() -> object:
    x, b = tensor(4, 6), graphc.variable([0.0] * 8, name="b")
    return x + graphc.astype(b, "float32")  # wrong


@mistake("ShapeError", "where", "bool[2]", "f32[3]", "f32[4]", hint=r"broadcast|reshape")
def where_of_three_shapes() -> object:
    c, x, y = tensor(2, dtype="bool", name="c"), tensor(3), tensor(4, name="y")
    return graphc.where(c, x, y)  # wrong


@mistake("ShapeError", "reshape", "f32[2, 3]", "6", "8", hint=r"-1|elements")
def reshape_to_another_count() -> object:
    x = tensor(2, 3)
    return graphc.reshape(x, (4, 2))  # wrong


@mistake("ShapeError", "reshape", "-1", hint="one")
def reshape_with_two_unknowns() -> object:
    x = tensor(2, 3)
    return graphc.reshape(x, (-1, -1))  # wrong


@mistake("ShapeError", "reshape", "f32[2, 3]", "4", hint=r"\S")
def reshape_that_does_not_divide() -> object:
    x = tensor(2, 3)
    return graphc.reshape(x, (4, -1))  # wrong


@mistake("ShapeError", "permute_dims", "f32[2, 3]", "(0, 0)", hint=r"each|once|permutation")
def permutation_with_a_repeat() -> object:
    x = tensor(2, 3)
    return graphc.permute_dims(x, (0, 0))  # wrong


@mistake("ShapeError", "permute_dims", "f32[2, 3]", "(0, 2, 1)", hint=r"each|once|permutation")
def permutation_of_the_wrong_length() -> object:
    x = tensor(2, 3)
    return graphc.permute_dims(x, (0, 2, 1))  # wrong


@mistake("ShapeError", "squeeze", "f32[2, 3]", "1", "3", hint=r"size 1|index|reshape")
def squeeze_of_a_size_that_is_not_one() -> object:
    x = tensor(2, 3)
    return graphc.squeeze(x, axis=1)  # wrong


@mistake("ShapeError", "expand_dims", "f32[2, 3]", "5", hint=r"-3.*2|between|range")
def expand_dims_beyond_the_rank() -> object:
    x = tensor(2, 3)
    return graphc.expand_dims(x, axis=5)  # wrong


@mistake("ShapeError", "concat", "f32[2, 3]", "f32[2, 4]", hint=r"axis")
def concat_along_the_wrong_axis() -> object:
    x, y = tensor(2, 3), tensor(2, 4, name="y")
    return graphc.concat([x, y], axis=0)  # wrong


@mistake("ShapeError", "concat", "f32[2, 3]", "f32[3]", hint=r"expand_dims|stack|reshape")
def concat_of_two_ranks() -> object:
    x, y = tensor(2, 3), tensor(3, name="y")
    return graphc.concat([x, y])  # wrong


@mistake("ShapeError", "concat", "got 2 arguments", "x : f32[2]", hint=r"concat\(\[a, b\]")
def concat_without_a_list() -> object:
    x, y = tensor(2), tensor(3, name="y")
    return graphc.concat(x, y)  # wrong


@mistake("ShapeError", "stack", "got 3 arguments", hint=r"stack\(\[a, b\]")
def stack_without_a_list() -> object:
    x, y, z = tensor(2), tensor(2, name="y"), tensor(2, name="z")
    return graphc.stack(x, y, z)  # wrong


@mistake("ShapeError", "concat", "got 2 arguments", hint=r"axis=0.*by its name")
def concat_with_a_positional_axis() -> object:
    x, y = tensor(2, 3), tensor(2, 4, name="y")
    return graphc.concat([x, y], 1)  # wrong


@mistake("ShapeError", "concat", hint=r"one|at least")
def concat_of_nothing() -> object:
    return graphc.concat([])  # wrong


@mistake("ShapeError", "stack", "f32[2]", "f32[3]", hint=r"concat|same")
def stack_of_two_shapes() -> object:
    x, y = tensor(2), tensor(3, name="y")
    return graphc.stack([x, y])  # wrong


@mistake("ShapeError", "broadcast_to", "f32[3]", "(2, 4)", hint=r"1|reshape|equal")
def broadcast_of_a_size_that_is_not_one() -> object:
    x = tensor(3)
    return graphc.broadcast_to(x, (2, 4))  # wrong


@mistake("ShapeError", "flip", "f32[2, 3]", "2", hint=r"-2.*1|between|range")
def flip_of_a_missing_axis() -> object:
    x = tensor(2, 3)
    return graphc.flip(x, axis=2)  # wrong


@mistake("ShapeError", "roll", "f32[2, 3]", hint=r"\S")
def roll_with_more_shifts_than_axes() -> object:
    x = tensor(2, 3)
    return graphc.roll(x, (1, 1, 1), axis=(0, 1))  # wrong


@mistake("ShapeError", "T", "f32[2, 3, 4]", hint=r"mT|permute_dims")
def transpose_of_three_dimensions() -> object:
    x = tensor(2, 3, 4)
    return x.T  # wrong


@mistake("ShapeError", "mT", "f32[3]", hint=r"expand_dims|None|reshape|two")
def matrix_transpose_of_a_vector() -> object:
    x = tensor(3)
    return x.mT  # wrong


@mistake("ShapeError", "unstack", "f32[n, 3]", hint=r"axis|scan|index|int")
def unstack_of_a_symbolic_size() -> object:
    x = tensor("n", 3)
    return graphc.unstack(x, axis=0)  # wrong


@mistake("ShapeError", "sum", "f32[2, 3]", "2", hint=r"-2.*1|between|range")
def sum_over_a_missing_axis() -> object:
    x = tensor(2, 3)
    return graphc.sum(x, axis=2)  # wrong


@mistake("ShapeError", "mean", "f32[2, 3]", hint=r"once|twice|repeat")
def mean_over_the_same_axis_twice() -> object:
    x = tensor(2, 3)
    return graphc.mean(x, axis=(1, -1))  # wrong


@mistake("ShapeError", "max", "f32[0, 3]", hint=r"identity|where|concat|empty|element")
def maximum_of_no_elements() -> object:
    x = tensor(0, 3)
    return graphc.max(x, axis=0)  # wrong


@mistake("ShapeError", "cumulative_sum", "f32[2, 3]", hint=r"axis")
def cumulative_sum_without_an_axis() -> object:
    x = tensor(2, 3)
    return graphc.cumulative_sum(x)  # wrong


@mistake("ShapeError", "repeat", "-1", hint=r"0|negative|count")
def repeat_a_negative_number_of_times() -> object:
    x = tensor(2, 3)
    return graphc.repeat(x, -1)  # wrong


@mistake("ShapeError", "tril", "f32[3]", hint=r"two|matrix|matrices|reshape")
def triangle_of_a_vector() -> object:
    x = tensor(3)
    return graphc.tril(x)  # wrong
