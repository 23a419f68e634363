"""What a compiled function takes and gives (runtime, floor 7); the careful reading of arguments.

The native entry checks arguments in nanoseconds and says only yes or no.  On a no,
`read_arguments` decides: it converts what may be converted without loss, and otherwise raises an
error with name, expected and got.
Invariant: what it returns passes the native checks, and it never changes a value silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.base.dims import Dim, Shape, Size, Symbol, evaluate, shape_text
from graphc.base.dtypes import (
    DType,
    bfloat16,
    from_storage,
    host_bfloat16,
    round_bfloat16,
    to_storage,
)
from graphc.base.errors import DTypeError, GraphError, ShapeError, message

Array = npt.NDArray[Any]

_KINDS = "bif"  # Python values: bool, int, float


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a call: its name for messages, dtype and shape."""

    name: str
    dtype: DType
    shape: Shape

    @property
    def host(self) -> np.dtype[Any]:
        """The NumPy dtype of the arrays that native code takes."""
        return (
            (host_bfloat16() or self.dtype.storage)
            if self.dtype is bfloat16
            else self.dtype.storage
        )

    def __str__(self) -> str:
        return f"{self.dtype}{shape_text(self.shape)}"


@dataclass(frozen=True, slots=True)
class CallSignature:
    """Inputs in order, outputs in order, and the symbols whose sizes the program takes, in order.

    single: the only output is returned itself, not in a tuple. work: scalar operations of one call;
    it decides whether the interpreter's lock is released.
    """

    inputs: tuple[ArraySpec, ...]
    outputs: tuple[ArraySpec, ...]
    symbols: tuple[Symbol, ...] = ()
    single: bool = False
    work: Size = 0
    name: str = "function"

    @property
    def has_foreign_dtypes(self) -> bool:
        """Whether users see other dtypes than native code: bfloat16 where ml_dtypes is missing."""
        specs = (*self.inputs, *self.outputs)
        return any(spec.dtype is bfloat16 for spec in specs) and host_bfloat16() is None


def linear(size: Size) -> tuple[Symbol, int, int] | None:
    """(symbol, b, c) where the size is b * symbol + c with b > 0; such a size tells its symbol."""
    if not isinstance(size, Dim):
        return None
    symbol, factor, constant = None, 0, 0
    for monomial, coefficient in size.terms:
        if not monomial:
            constant = coefficient
        elif len(monomial) == 1 and isinstance(monomial[0], Symbol) and symbol is None:
            symbol, factor = monomial[0], coefficient
        else:
            return None
    return None if symbol is None or factor <= 0 else (symbol, factor, constant)


def binding_places(signature: CallSignature) -> dict[str, tuple[int, int]]:
    """Per symbol the (input, dim) that tells its size: the symbol itself where there is one.

    Raises GraphError where no input tells a symbol.
    """
    places: dict[str, tuple[int, int]] = {}
    for plain in (True, False):
        for i, spec in enumerate(signature.inputs):
            for k, size in enumerate(spec.shape):
                found = linear(size)
                if found is not None and (found[1:] == (1, 0)) is plain:
                    places.setdefault(found[0].name, (i, k))
    for symbol in signature.symbols:
        if symbol.name not in places:
            raise GraphError(
                message(
                    f"{signature.name}: no input tells the size of the dim {symbol.name!r}",
                    operands=[f"{spec.name} : {spec}" for spec in signature.inputs],
                    hint="give the function an input with this dim itself in its shape",
                )
            )
    return places


def read_arguments(
    signature: CallSignature, args: Sequence[object], keywords: Mapping[str, object]
) -> tuple[list[Array], dict[str, int]]:
    """The arguments as arrays for native code, and the sizes. Raises where they do not fit."""
    values = _by_position(signature, args, keywords)
    arrays = [_read(spec, value) for spec, value in zip(signature.inputs, values)]
    return arrays, read_sizes(signature, arrays)


def _by_position(
    signature: CallSignature, args: Sequence[object], keywords: Mapping[str, object]
) -> list[object]:
    names = [spec.name for spec in signature.inputs]
    expected = f"{signature.name} takes {len(names)} arrays ({', '.join(names)})"
    if len(args) > len(names):
        raise GraphError(f"{expected}, got {len(args)}")
    values: dict[str, object] = dict(zip(names, args))
    for name, value in keywords.items():
        if name not in names:
            raise GraphError(f"{expected}, none of them is named {name!r}")
        if name in values:
            raise GraphError(f"{signature.name} got two values for {name!r}")
        values[name] = value
    missing = [name for name in names if name not in values]
    if missing:
        raise GraphError(f"{expected}; missing: {', '.join(missing)}")
    return [values[name] for name in names]


def _read(spec: ArraySpec, value: object) -> Array:
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
        array = _convert(spec, np.asarray(value))
    else:
        array = _convert_python(spec, value)
    if array.ndim != len(spec.shape):
        raise _shape_error(spec, array)
    # `require` copies only what is not C-contiguous and aligned; the view gives the dtype object
    # that native code knows, where an equal one (long long, unpickled) came.
    array = np.require(array, requirements=["C", "A"])
    return array if array.dtype is spec.host else array.view(np.ndarray).view(spec.host)


def _convert(spec: ArraySpec, array: Array) -> Array:
    if spec.dtype is bfloat16 and array.dtype == np.float32:
        # The reference form: float32 that holds bfloat16 values.
        if not np.array_equal(round_bfloat16(array), array, equal_nan=True):
            raise _dtype_error(spec, "float32 with values that bfloat16 has not")
        return to_storage(array, bfloat16)
    if spec.dtype is bfloat16 and host_bfloat16() is None:
        raise _dtype_error(spec, str(array.dtype))
    if array.dtype == spec.host:
        return array
    if not np.can_cast(array.dtype, spec.host, "safe"):
        raise _dtype_error(spec, str(array.dtype))
    return array.astype(spec.host)


def _convert_python(spec: ArraySpec, value: object) -> Array:
    """Python numbers and nests of them take the input's dtype where their kind and value fit."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise _dtype_error(spec, f"{type(value).__name__} ({error})") from error
    got = f"{type(value).__name__} of {array.dtype} values"
    kind = "i" if array.dtype.kind == "u" else array.dtype.kind
    wanted = "i" if spec.dtype.kind == "u" else spec.dtype.kind
    if array.size == 0 and array.dtype.kind == "f":  # `[]` has no kind
        kind = "b"
    if kind not in _KINDS or _KINDS.index(kind) > _KINDS.index(wanted):
        raise _dtype_error(spec, got)
    if wanted == "f":
        rounded = (
            round_bfloat16(array) if spec.dtype is bfloat16 else array.astype(spec.dtype.numpy)
        )
        return to_storage(rounded, spec.dtype)
    limits = np.iinfo(spec.host) if wanted == "i" else None
    if limits and array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        raise _dtype_error(spec, f"values from {array.min()} to {array.max()}")
    return array.astype(spec.host)


def read_sizes(signature: CallSignature, arrays: Sequence[Array]) -> dict[str, int]:
    """The symbols' sizes, every dim and bound checked. Raises ShapeError where they do not fit."""
    sizes: dict[str, int] = {}
    places = binding_places(signature)
    for name, (i, k) in places.items():
        found = linear(signature.inputs[i].shape[k])
        assert found is not None
        _, factor, constant = found
        sizes[name], left = divmod(arrays[i].shape[k] - constant, factor)
        if left:
            raise _shape_error(signature.inputs[i], arrays[i])
    for spec, array in zip(signature.inputs, arrays):
        for size, length in zip(spec.shape, array.shape):
            if evaluate(size, sizes) != length:
                raise _shape_error(spec, array, _reasons(signature, arrays, places, size, sizes))
    for symbol in signature.symbols:
        size = sizes[symbol.name]
        high = symbol.max
        if size < symbol.min or (high is not None and size > high) or size % symbol.multiple_of:
            i, _ = places[symbol.name]
            raise _shape_error(signature.inputs[i], arrays[i], [_bounds_text(symbol, size)])
    return sizes


def _bounds_text(symbol: Symbol, size: int) -> str:
    bounds = (
        f"at least {symbol.min}" if symbol.max is None else f"from {symbol.min} to {symbol.max}"
    )
    multiple = f" and a multiple of {symbol.multiple_of}" if symbol.multiple_of > 1 else ""
    return f"{symbol.name} must be {bounds}{multiple}, it is {size}"


def _reasons(
    signature: CallSignature,
    arrays: Sequence[Array],
    places: Mapping[str, tuple[int, int]],
    size: Size,
    sizes: Mapping[str, int],
) -> list[str]:
    if not isinstance(size, Dim):
        return []
    lines = []
    for symbol in size.symbols():
        i, k = places[symbol.name]
        lines.append(
            f"{symbol.name} is {sizes[symbol.name]} by dim {k} of {signature.inputs[i].name}"
        )
    return lines


def _shape_error(spec: ArraySpec, array: Array, reasons: Sequence[str] = ()) -> ShapeError:
    return ShapeError(
        message(
            f"{spec.name}: expected {spec}, got {array.dtype}{shape_text(array.shape)}",
            operands=reasons,
        )
    )


def _dtype_error(spec: ArraySpec, got: str) -> DTypeError:
    hint = f"convert it, for example {spec.name}.astype({str(spec.host)!r})"
    return DTypeError(message(f"{spec.name}: expected {spec}, got {got}", hint=hint))


def check_given(spec: ArraySpec, array: object, sizes: Mapping[str, int]) -> None:
    """An array that a result is written into must be exactly right: nothing can be converted."""
    shape = tuple(evaluate(size, sizes) for size in spec.shape)
    expected = (
        f"{spec.name}: out must be a writable C-contiguous {spec.host} array of shape {shape}"
    )
    if type(array) is not np.ndarray:
        raise DTypeError(f"{expected}, got {type(array).__name__}")
    if array.dtype is not spec.host:
        raise DTypeError(f"{expected}, got dtype {array.dtype}")
    if array.shape != shape:
        raise ShapeError(f"{expected}, got shape {array.shape}")
    if not (array.flags.c_contiguous and array.flags.writeable and array.flags.aligned):
        raise ShapeError(f"{expected}, got one with other strides, or read-only")


def to_user(spec: ArraySpec, array: Array) -> Array:
    """A result of native code in the form that users receive."""
    if spec.dtype is bfloat16 and host_bfloat16() is None:
        return from_storage(array, bfloat16)
    return array
