"""Rules for operands and attributes (floor 2): what each op takes, for readers of texts.

Functions of graphc make nodes with right attributes, and type rules trust them.  A text may hold
anything: a permutation that names a dim twice, a slice beyond the end.  Each op has a
rule here, which says what is wrong before a node is made; compiled code then needs no checks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.base.dims import Dim
from graphc.base.dtypes import DType
from graphc.base.limits import Limits
from graphc.ir.constant import ConstantValue
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor
from graphc.ir.opdef import ATTRIBUTE_RULES
from graphc.ir.parse_sizes import shape_problem, size_problem
from graphc.ops.control import body_problem


@dataclass(frozen=True)
class _Given:
    """What a rule looks at. values: the attributes by name."""

    inputs: tuple[Node, ...]
    values: dict[str, Any]
    limits: Limits

    @property
    def ndim(self) -> int:
        first = self.inputs[0]
        assert isinstance(first, Tensor), "the first operand is a tensor"
        return first.ndim


Problem = str | None
Kind = Callable[[Any, _Given], Problem]
Rule = Callable[[_Given], Problem]


# -- kinds of attributes: None for a fine value, else what was expected ---------------------------


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return _is_int(value) or isinstance(value, Dim)


def _flag(value: Any, given: _Given) -> Problem:
    return None if isinstance(value, bool) else "true or false"


def _text(value: Any, given: _Given) -> Problem:
    return None if isinstance(value, str) else "a string"


def _dtype(value: Any, given: _Given) -> Problem:
    return None if isinstance(value, DType) else "a dtype"


def _number_dtype(value: Any, given: _Given) -> Problem:
    fits = isinstance(value, DType) and not value.is_bool
    return None if fits else "a dtype of numbers"


def _constant(value: Any, given: _Given) -> Problem:
    return None if isinstance(value, ConstantValue) else "a constant"


def _graph(value: Any, given: _Given) -> Problem:
    return None if isinstance(value, Graph) else "a graph"


def _body(value: Any, given: _Given) -> Problem:
    if not isinstance(value, Graph):
        return "a graph"
    problem = body_problem(value)
    return f"a closed graph ({problem})" if problem else None


def _int(low: int, high: int = 1 << 62) -> Kind:
    def kind(value: Any, given: _Given) -> Problem:
        return None if _is_int(value) and low <= value <= high else f"an integer from {low}"

    return kind


def _size(value: Any, given: _Given) -> Problem:
    return size_problem(value, given.limits) if _is_size(value) else "a size"


def _length(value: Any, given: _Given) -> Problem:
    negative = isinstance(value, int) and value < 0
    return "a length that is not negative" if negative else _size(value, given)


def _sizes(value: Any, given: _Given) -> Problem:
    """Sizes of any sign."""
    if not isinstance(value, tuple) or not all(map(_is_size, value)):
        return "a tuple of sizes"
    if len(value) > given.limits.rank:
        return f"at most {given.limits.rank} sizes (limit rank)"
    return next((p for v in value if (p := size_problem(v, given.limits))), None)


def _shape(value: Any, given: _Given) -> Problem:
    if not isinstance(value, tuple) or not all(map(_is_size, value)):
        return "a shape"
    return shape_problem(value, 1, given.limits)


def _ints(low: int) -> Kind:
    def kind(value: Any, given: _Given) -> Problem:
        fits = isinstance(value, tuple) and all(_is_int(v) and v >= low for v in value)
        if not fits or any(v > given.limits.size for v in value):
            return f"a tuple of integers from {low}"
        rank = given.limits.rank
        return None if len(value) <= rank else f"at most {rank} integers (limit rank)"

    return kind


def _axis(value: Any, given: _Given) -> Problem:
    fits = _is_int(value) and 0 <= value < given.ndim
    return None if fits else f"an axis from 0 to {given.ndim - 1}"


def _axes(value: Any, given: _Given) -> Problem:
    """Distinct axes of the first operand, in any order."""
    fits = isinstance(value, tuple) and all(_is_int(v) and 0 <= v < given.ndim for v in value)
    if not fits or len(set(value)) != len(value):
        return f"distinct axes from 0 to {given.ndim - 1}"
    return None


def _sorted_axes(value: Any, given: _Given) -> Problem:
    return _axes(value, given) or (None if list(value) == sorted(value) else "axes in order")


def _permutation(value: Any, given: _Given) -> Problem:
    fits = _axes(value, given) is None and len(value) == given.ndim
    return None if fits else f"each axis from 0 to {given.ndim - 1} once"


def _one_of(*words: str) -> Kind:
    def kind(value: Any, given: _Given) -> Problem:
        return None if isinstance(value, str) and value in words else "one of " + " ".join(words)

    return kind


def _spec(value: Any, given: _Given) -> Problem:
    letters = value.replace(",", "", 1).replace("->", "", 1) if isinstance(value, str) else ""
    fits = isinstance(value, str) and value.count(",") == value.count("->") == 1
    if not fits or not (letters.isascii() and (letters.isalpha() or not letters)):
        return 'letters of two operands and the result: "ab,bc->ac"'
    return None if value.index(",") < value.index("->") else "operands before the result"


def _anything(value: Any, given: _Given) -> Problem:
    return None


# -- what attributes mean together ----------------------------------------------------------------


def _value_of_dtype(value: Any, dtype: DType) -> Problem:
    if dtype.is_bool:
        return None if isinstance(value, bool) else "a value that is true or false"
    if dtype.is_float:
        return None if isinstance(value, float) else "a value with a decimal point"
    limits = np.iinfo(dtype.numpy)
    fits = _is_int(value) and limits.min <= value <= limits.max
    return None if fits else f"an integer value from {limits.min} to {limits.max}"


def _scalar_of_dtype(value: Any, dtype: DType) -> Problem:
    """As a user writes it: `1` for `1.0` or for true."""
    if dtype.is_integer and not isinstance(value, bool):
        return _value_of_dtype(value, dtype)
    return None if isinstance(value, bool | int | float) else "a number"


def _full(given: _Given) -> Problem:
    dtype = given.values["dtype"]
    problem = shape_problem(given.values["shape"], dtype.itemsize, given.limits)
    return problem or _value_of_dtype(given.values["value"], dtype)


def _iota(given: _Given) -> Problem:
    rank = len(given.values["shape"])
    return None if given.values["axis"] < rank else f"an axis from 0 to {rank - 1}"


def _same_lengths(*names: str) -> Rule:
    def rule(given: _Given) -> Problem:
        lengths = {len(given.values[name]) for name in names}
        return None if len(lengths) == 1 else f"{', '.join(names)} of one length"

    return rule


def _diagonal(given: _Given) -> Problem:
    return None if len(given.values["axes"]) == 2 else "two axes"


def _embed_diagonal(given: _Given) -> Problem:
    axes, sizes = given.values["axes"], given.values["sizes"]
    fits = len(axes) == 2 == len(sizes) and axes[0] != axes[1] and max(axes) <= given.ndim
    return None if fits else f"two distinct axes from 0 to {given.ndim}, and two sizes"


def _slice(given: _Given) -> Problem:
    """Lengths only: compiled code looks at the places of a slice that may lie outside."""
    starts, steps, shape = (given.values[n] for n in ("starts", "steps", "shape"))
    fits = len(starts) == len(steps) == len(shape) == given.ndim and 0 not in steps
    return None if fits else f"one start, step (not 0) and size for each of {given.ndim} dims"


def _position(given: _Given) -> Problem:
    axes, position = given.values["axes"], given.values["position"]
    most = given.ndim - len(axes)
    return None if axes and position <= most else f"axes, and a position from 0 to {most}"


def _gather(given: _Given) -> Problem:
    count = len(given.values["axes"])
    fits = len(given.inputs) == 1 + count
    return _position(given) or (None if fits else f"{count} indices, one for each axis")


def _scatter(given: _Given) -> Problem:
    count = len(given.values["axes"])
    fits = len(given.inputs) == 2 + count
    return _position(given) or (None if fits else f"{count} indices, one for each axis")


def _pad(given: _Given) -> Problem:
    first = given.inputs[0]
    assert isinstance(first, Tensor)
    lengths = {len(given.values[name]) for name in ("low", "high", "interior")}
    if lengths != {first.ndim}:
        return f"low, high and interior for {first.ndim} dims"
    return _scalar_of_dtype(given.values["value"], first.dtype)


def _windows(given: _Given) -> Problem:
    return _same_lengths("axes", "size", "stride", "dilation")(given)


def _aligned(given: _Given) -> Problem:
    problem = _same_lengths("axes", "stride", "dilation", "sizes")(given)
    count = len(given.values["axes"])
    places = given.ndim - count
    fits = all(a < places for a in given.values["axes"])
    return problem or (None if fits else f"axes below {places}, the first of the window's")


def _conv(given: _Given) -> Problem:
    lengths = {len(given.values[n]) for n in ("stride", "low", "high", "dilation")}
    lengths.add(len(given.values["input_dilation"]))
    spatial = given.ndim - 2
    return None if lengths == {spatial} else f"one value for each of {spatial} spatial dims"


def _with_gradient(given: _Given) -> Problem:
    """The backward graph takes the cotangent and the operands behind the targets, and gives one
    cotangent per target.
    """
    backward: Graph = given.values["backward"]
    if backward.updates or len(backward.outputs) >= len(given.inputs):
        return "a graph without updates, with an output for each target"
    count = len(backward.outputs)
    targets = given.inputs[1 : 1 + count]
    fed = (given.inputs[0], *given.inputs[1 + count :])
    if [t.type for _, t in backward.outputs] != [t.type for t in targets]:
        return "outputs of the types of operands 1…"
    if [t.type for _, t in backward.inputs] != [t.type for t in fed]:
        return "inputs of the types of operand 0 and the operands behind the targets"
    return None


def _nextafter(given: _Given) -> Problem:
    return None if given.values["dtype"].is_float else "a float dtype"


@dataclass(frozen=True)
class OpRule:
    """How many operands an op takes, what its attributes may be: a kind each, then a rule for all
    together.
    """

    least: int
    most: int
    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    rule: Rule | None = None

    def __call__(self, inputs: tuple[Node, ...], attrs: tuple[Any, ...], limits: Limits) -> Problem:
        """What is wrong, or None."""
        if not self.least <= len(inputs) <= self.most:
            many = "" if self.most == self.least else " or more"
            return f"expected {self.least}{many} operands, got {len(inputs)}"
        given = _Given(inputs, dict(zip(self.names, attrs, strict=True)), limits)
        for name, kind, value in zip(self.names, self.kinds, attrs, strict=True):
            problem = kind(value, given)
            if problem:
                return f"{name}: expected {problem}, got {value!r:.60}"
        problem = None if self.rule is None else self.rule(given)
        if problem is None:
            return None
        shown = ", ".join(f"{name}={value!r:.40}" for name, value in given.values.items())
        return f"expected {problem}, got {shown}"


_ANY = 1 << 30
_ANY_INT = _int(-(1 << 62))


def _declare(
    operands: int | tuple[int, int], ops: str, rule: Rule | None = None, **k: Kind
) -> None:
    least, most = (operands, operands) if isinstance(operands, int) else operands
    for op in ops.split():
        ATTRIBUTE_RULES[op] = OpRule(least, most, tuple(k), tuple(k.values()), rule)


_declare(
    1,
    "abs acos acosh asin asinh atan atanh bitwise_count bitwise_invert ceil cos cosh digamma erf "
    "erfc erfcinv erfinv exp exp2 expm1 floor isfinite isinf isnan lgamma log log10 log1mexp "
    "log1p log2 negative reciprocal round rsqrt sigmoid sign signbit sin sinh softplus sqrt square "
    "stop_gradient tan tanh trunc",
)
_declare(
    2,
    "add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor "
    "chain_divide chain_multiply copysign divide equal exp_sum floor_divide greater greater_equal "
    "hypot less less_equal log_gamma_sample log_product log_quotient logaddexp maximum minimum "
    "multiply not_equal pow remainder subtract",
)
_declare(3, "where")
_declare((1, _ANY), "barrier")
_declare(0, "constant", value=_constant)
_declare(1, "cast bitcast", dtype=_dtype)
_declare(2, "nextafter", _nextafter, dtype=_dtype)
_declare(0, "size", size=_size, dtype=_dtype)
_declare(1, "reshape broadcast_to random_bits random_long_bits", shape=_shape)
_declare(1, "permute_dims", axes=_permutation)
_declare(1, "flip", axes=_axes)
_declare(1, "roll", _same_lengths("shift", "axes"), shift=_sizes, axes=_axes)
_declare(1, "diagonal", _diagonal, axes=_axes, offset=_ANY_INT)
_declare(1, "embed_diagonal", _embed_diagonal, axes=_ints(0), offset=_ANY_INT, sizes=_shape)
_declare(0, "full", _full, value=_anything, shape=_shape, dtype=_dtype)
_declare(0, "iota", _iota, shape=_shape, axis=_int(0), dtype=_number_dtype)
_declare(1, "slice", _slice, starts=_sizes, steps=_ints(-(1 << 62)), shape=_shape)
_declare((2, _ANY), "gather", _gather, axes=_axes, position=_int(0))
_declare(
    (3, _ANY),
    "scatter",
    _scatter,
    axes=_axes,
    position=_int(0),
    mode=_one_of("set", "add", "multiply", "min", "max"),
)
_declare(1, "softmax log_softmax", axis=_axis)
_declare(1, "pack_words view_words", axis=_axis, flips=_flag)
_declare(2, "softmax_cross_entropy take_along_axis", axis=_axis)
_declare((1, _ANY), "concat", axis=_axis)
_declare(1, "copy", slot=_int(0))
_declare((1, _ANY), "with_gradient", _with_gradient, backward=_graph)
_declare(1, "pad", _pad, low=_sizes, high=_sizes, interior=_ints(0), value=_anything)
_declare(
    1,
    "sum mean prod max max_number min any all argmax argmin norm logsumexp",
    axes=_sorted_axes,
    keepdims=_flag,
)
_declare(2, "einsum einsum_bytes einsum_pairs", spec=_spec)
_declare(3, "winograd_convolution", spec=_spec)
_declare(1, "cholesky cofactor det eigh eigvalsh expm logabsdet lu qr qr_complete svd svdvals")
_declare(2, "pinv repeated_squares")
_declare(2, "lu_solve solve", transpose=_flag)
_declare(2, "triangular_solve", lower=_flag, transpose=_flag, unit_diagonal=_flag)
_declare((0, _ANY), "call", body=_body)
_declare((1, _ANY), "cond", then=_body, otherwise=_body)
_declare((0, _ANY), "while_loop", condition=_body, body=_body, carries=_int(0))
_declare(
    (0, _ANY),
    "scan",
    body=_body,
    carries=_int(0),
    sequences=_int(0),
    length=_length,
    reverse=_flag,
)
_declare(1, "get", index=_int(0))
_declare(1, "polygamma", n=_int(0, 1 << 20))
_declare(
    1,
    "cumulative_sum cumulative_prod cumulative_max cumulative_min",
    axis=_axis,
    reverse=_flag,
)
_declare(2, "linear_recurrence", axis=_axis, reverse=_flag)
_declare(1, "argsort sort", axis=_axis, descending=_flag)
_declare(1, "top_k_positions", axis=_axis, count=_int(0), descending=_flag)
_declare(4, "non_max_suppression")
_declare(1, "true_positions", size=_length)
_declare(2, "searchsorted", side=_one_of("left", "right"))
_declare(1, "windows", _windows, axes=_axes, size=_ints(1), stride=_ints(1), dilation=_ints(1))
_declare(
    1,
    "align_windows unalign_windows",
    _aligned,
    axes=_axes,
    stride=_ints(1),
    dilation=_ints(1),
    sizes=_shape,
)
_declare(
    2,
    "conv",
    _conv,
    stride=_ints(1),
    low=_ints(-(1 << 62)),
    high=_ints(-(1 << 62)),
    dilation=_ints(1),
    input_dilation=_ints(1),
    groups=_int(1),
)
