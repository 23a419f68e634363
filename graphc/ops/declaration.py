"""Declaring elementwise ops (floor 2): the constructors `unary` and `binary`, their samples and
type rule.

One declaration gives the op definition and the public function. Operands are promoted and checked
by the function; broadcasting is implicit. Gradients are declared per operand, `lambda g, out,
*operands: …`, and summed back to the operand's shape here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.base.dtypes import (
    FLOAT,
    Array,
    DType,
    dtype_of,
    promote,
)
from graphc.ir.node import OPERATORS, Node, Tensor, TensorType, make
from graphc.ir.opdef import REGISTRY, Gradient, OpDef, Sample, dtype_error
from graphc.ir.scalar_numpy import NumpyScalar, value
from graphc.ops.families import Elementwise
from graphc.ops.promotion import (
    TensorLike,
    as_tensor,
    as_tensors,
    broadcast_shapes,
    cast,
    float_dtype,
    promoted,
)

Part = Callable[..., Tensor] | None
Unary = Callable[[TensorLike], Tensor]
Binary = Callable[[TensorLike, TensorLike], Tensor]


@dataclass(frozen=True)
class Domain:
    """Where tests draw operands: uniform in [low, high]; the second operand in `second`.

    away: points near which derivatives jump (0 for abs); gradient checks keep a distance.
    """

    low: float = -4.0
    high: float = 4.0
    second: tuple[float, float] | None = None
    away: tuple[float, ...] = ()


_ORDINARY = Domain()


# -- samples ----------------------------------------------------------------

SPECIAL_FLOATS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    1e-3,
    3.0,
    np.inf,
    -np.inf,
    np.nan,
    100.0,
    -100.0,
)


def special_values(dtype: DType) -> Array:
    """Values at which ops go wrong, in reference form."""
    if dtype.is_bool:
        return np.array([False, True])
    if dtype.is_integer:
        limits = np.iinfo(dtype.numpy)
        wanted = [0, 1, 2, 3, 7, limits.max, limits.max - 1, limits.min, -1, -2, -7]
        return np.array([v for v in wanted if limits.min <= v <= limits.max], dtype.numpy)
    limits_of = {"float16": (6.104e-05, 65504.0), "float64": (2.3e-308, 1.797e308)}
    tiny, huge = limits_of.get(dtype.name, (1.18e-38, 3.38e38))
    with np.errstate(all="ignore"):
        found = np.array([*SPECIAL_FLOATS, tiny, -tiny, tiny / 8, huge, -huge], np.float64)
        return value(found.astype(dtype.numpy), dtype).array


def _drawn(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: DType, low: float, high: float
) -> Array:
    if dtype.is_bool:
        return rng.random(shape) < 0.5
    if dtype.is_integer:
        low, high = max(int(low), 0 if dtype.kind == "u" else -100), min(int(high) + 1, 100)
        return rng.integers(int(low), max(int(high), int(low) + 1) + 1, shape).astype(dtype.numpy)
    return value(rng.uniform(low, high, shape).astype(dtype.numpy), dtype).array


UNARY_SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (7,), (3, 5), (2, 0, 3), (131,))
PAIR_SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((), ()),
    ((5,), (5,)),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((0, 3), (1, 3)),
    ((1,), (0,)),
    ((2, 1, 3), (5, 1)),
    ((67,), (67,)),
)


@dataclass(frozen=True)
class ElementwiseSamples:
    """The shape matrix and the special values for an elementwise op."""

    arity: int
    domain: Domain
    leading_bool: bool = False

    def __call__(self, dtype: DType) -> Sequence[Sample]:
        rng = np.random.default_rng(7)
        special = special_values(dtype)
        cases: list[tuple[Array, ...]] = []
        if self.arity == 1:
            cases += [(self.draw(rng, s, dtype, 0),) for s in UNARY_SHAPES]
            cases.append((special,))
            cases.append((self.draw(rng, (4, 6), dtype, 0)[::-1, ::2],))
        else:
            for a, b in PAIR_SHAPES:
                cases.append((self.draw(rng, a, dtype, 0), self.draw(rng, b, dtype, 1)))
            cases.append((special[:, None], special[None, :]))
            cases.append(
                (self.draw(rng, (4, 6), dtype, 0)[::-1, ::2], self.draw(rng, (3, 4), dtype, 1).T)
            )
        if self.leading_bool:
            cases = [(np.asarray(rng.random(np.shape(c[0])) < 0.5), *c) for c in cases]
        return [Sample(c) for c in cases]

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, ...], dtype: DType, operand: int
    ) -> Array:
        """Random values in the domain of an operand."""
        second = self.domain.second if operand == 1 else None
        low, high = second or (self.domain.low, self.domain.high)
        return _drawn(rng, shape, dtype, low, high)


# -- gradients ----------------------------------------------------------------


def sum_to(g: Tensor, shape: tuple[Any, ...]) -> Tensor:
    """`g` summed over the axes along which an operand of `shape` was broadcast."""
    if g.type.shape == shape:
        return g
    offset = g.ndim - len(shape)
    axes = [
        axis
        for axis, size in enumerate(g.shape)
        if axis < offset or (size != shape[axis - offset] and shape[axis - offset] == 1)
    ]
    if axes:
        g = OPERATORS["sum"](g, axis=tuple(axes), keepdims=False)
    return g if g.shape == shape else OPERATORS["reshape"](g, shape)


def gradient_of(parts: Sequence[Part]) -> Gradient | None:
    """The op's gradient out of one expression `part(g, out, *operands)` per operand."""
    if not any(parts):
        return None

    def gradient(g: Tensor, node: Tensor) -> Sequence[Tensor | None]:
        found: list[Tensor | None] = []
        for operand, part in zip(node.inputs, parts, strict=True):
            if part is None or not operand.type.dtype.is_float or operand.op.name == "constant":
                found.append(None)
            else:
                found.append(sum_to(part(g, node, *node.inputs), operand.type.shape))
        return found

    return gradient


# -- declaration ----------------------------------------------------------------


def _type_rule(
    name: str, dtypes: tuple[DType, ...], result: DType | None, hint: str
) -> Callable[[tuple[Node, ...], tuple[Any, ...]], TensorType]:
    allowed = frozenset(dtypes)

    def infer(inputs: tuple[Any, ...], attrs: tuple[Any, ...]) -> TensorType:
        first = inputs[0].type
        shape, dtype = first.shape, first.dtype
        for x in inputs[1:]:
            if x.type.dtype is not dtype:
                dtype_error(
                    f"{name}: operands of different dtypes: {dtype} and {x.type.dtype}", inputs
                )
            if x.type.shape != shape:
                shape = broadcast_shapes(name, [y.type.shape for y in inputs], inputs)
                break
        if dtype not in allowed:
            names = ", ".join(d.name for d in dtypes)
            # Operands as the user gave them, before they were promoted.
            given = [x.inputs[0] if x.op.name == "cast" else x for x in inputs]
            dtype_error(f"{name}: expected {names}, got {dtype}", given, hint)
        return TensorType(shape, result or dtype)

    return infer


def by_scalar(scalar: Callable[..., Any]) -> Callable[..., Array]:
    """A reference that evaluates the scalar body, for functions that NumPy does not have."""

    def reference(*arrays: Array, **attrs: Any) -> Array:
        operands = [value(a, dtype_of(np.asarray(a).dtype)) for a in arrays]
        result: Array = scalar(NumpyScalar(), *operands, **attrs).array
        return result

    return reference


def widely(function: Callable[..., Any]) -> Callable[..., Array]:
    """A NumPy function computed in float64, so that the reference is better than what it judges."""

    def reference(*arrays: Array) -> Array:
        return np.asarray(function(*(np.asarray(a, np.float64) for a in arrays)))

    return reference


def method(name: str) -> Callable[..., Any]:
    """The scalar body that is one method of the scalar language."""

    def scalar(s: Any, *operands: Any) -> Any:
        return s.op(name, *operands)

    return scalar


def in_compute_dtype(body: Callable[..., Any]) -> Callable[..., Any]:
    """A scalar body on 16-bit floats computed in float32 and rounded once at the end."""

    def scalar(s: Any, *operands: Any) -> Any:
        dtype = s.dtype_of(operands[0])
        if dtype.compute is dtype:
            return body(s, *operands)
        return s.cast(body(s, *(s.cast(x, dtype.compute) for x in operands)), dtype)

    return scalar


def declare(
    name: str,
    arity: int,
    *,
    dtypes: tuple[DType, ...],
    scalar: Callable[..., Any],
    reference: Callable[..., Any] | None,
    gradient: Sequence[Part] = (),
    result: DType | None = None,
    domain: Domain = _ORDINARY,
    traits: Iterable[str] = (),
    doc: str = "",
    hint: str = "",
) -> OpDef:
    """Register an elementwise op on operands of one dtype (given promoted)."""
    default_hint = 'convert the operand first, for example graphc.astype(x, "float32")'
    return REGISTRY.add(
        OpDef(
            name,
            (),
            _type_rule(name, dtypes, result, hint or default_hint),
            reference or by_scalar(scalar),
            gradient_of(gradient or (None,) * arity),
            Elementwise(scalar),
            doc=doc,
            traits=frozenset(traits),
            samples=ElementwiseSamples(arity, domain),
            dtypes=dtypes,
        )
    )


def _document(function: Any, name: str, op: OpDef, floats_only: bool, example: str) -> None:
    function.__name__ = function.__qualname__ = name
    function.__module__ = "graphc"
    binary_op = isinstance(op.samples, ElementwiseSamples) and op.samples.arity == 2
    operands = "`x1` and `x2` broadcast as in NumPy" if binary_op else "the shape of `x`"
    accepted = ", ".join(d.name for d in op.dtypes)
    ints = "; integers and bool are converted to float as NumPy does" if floats_only else ""
    call = example or (f"graphc.{name}(x, y)" if binary_op else f"graphc.{name}(x)")
    function.__doc__ = (
        f"{op.doc}\n\n"
        f"Shape: {operands}.\n"
        f"Dtypes: {accepted}{ints}.\n"
        f"Raises: {'ShapeError where shapes do not broadcast, ' if binary_op else ''}"
        f"DTypeError for other dtypes.\n\n"
        f"    {call}\n"
    )


def unary(
    name: str,
    scalar: Callable[..., Any] | str,
    reference: Callable[..., Any] | None = None,
    gradient: Part = None,
    *,
    doc: str,
    dtypes: tuple[DType, ...] = FLOAT,
    result: DType | None = None,
    domain: Domain = _ORDINARY,
    traits: Iterable[str] = (),
    hint: str = "",
    example: str = "",
) -> Unary:
    """Declare an op of one operand and return its public function.

    With `dtypes=FLOAT`, integers and bool are converted to float first.
    """
    op = declare(
        name,
        1,
        dtypes=dtypes,
        scalar=method(scalar) if isinstance(scalar, str) else scalar,
        reference=reference,
        gradient=(gradient,),
        result=result,
        domain=domain,
        traits=traits,
        doc=doc,
        hint=hint,
    )
    floats_only = dtypes == FLOAT

    def function(x: TensorLike, /) -> Tensor:
        tensor = as_tensor(x, op=name)
        if floats_only and not tensor.type.dtype.is_float:
            tensor = cast(tensor, float_dtype(tensor.dtype))
        node: Tensor = make(op, (tensor,), ())  # type: ignore[assignment]  # one result
        return node

    _document(function, name, op, floats_only, example)
    return function


def binary(
    name: str,
    scalar: Callable[..., Any] | str,
    reference: Callable[..., Any] | None = None,
    gradient: Sequence[Part] = (),
    *,
    doc: str,
    dtypes: tuple[DType, ...] = FLOAT,
    result: DType | None = None,
    domain: Domain = _ORDINARY,
    traits: Iterable[str] = (),
    integers_as: DType | None = None,
    hint: str = "",
    example: str = "",
) -> Binary:
    """Declare an op of two operands and return its public function.

    With `dtypes=FLOAT`, integers and bool are converted to float first, or to `integers_as`.
    """
    op = declare(
        name,
        2,
        dtypes=dtypes,
        scalar=method(scalar) if isinstance(scalar, str) else scalar,
        reference=reference,
        gradient=gradient,
        result=result,
        domain=domain,
        traits=traits,
        doc=doc,
        hint=hint,
    )
    floats_only = dtypes == FLOAT

    def function(x1: TensorLike, x2: TensorLike, /) -> Tensor:
        a, b = promoted(name, x1, x2)
        if floats_only and not a.type.dtype.is_float:
            dtype = integers_as or _common_float(name, x1, x2)
            a, b = cast(a, dtype), cast(b, dtype)
        node: Tensor = make(op, (a, b), ())  # type: ignore[assignment]  # one result
        return node

    _document(function, name, op, floats_only, example)
    return function


def _common_float(name: str, *operands: Any) -> DType:
    # NumPy asks per operand: uint8 and int8 meet in float16, though as integers they meet in int16.
    x, y = as_tensors(name, *operands)
    return promote(float_dtype(x.dtype), float_dtype(y.dtype))
