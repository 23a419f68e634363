"""What a compiled function takes and gives (runtime, floor 7); the careful reading of arguments.

The native entry checks arguments in nanoseconds and says only yes or no.  On a no,
`read_arguments` decides: it converts what may be converted without loss, and otherwise raises an
error with name, expected and got.
Invariant: what it returns passes the native checks, and it never changes a value silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from graphc.base.errors import DTypeError, GraphcError, GraphError, ShapeError, message
from graphc.ir.node import Node, describe
from graphc.ops.conditions import Condition
from graphc.runtime.feeding import here

Array = npt.NDArray[Any]

_KINDS = "bif"  # Python values: bool, int, float


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a call: its name for messages, dtype and shape; place: where it was declared."""

    name: str
    dtype: DType
    shape: Shape
    place: str = field(default="", compare=False)

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
    it decides whether the interpreter's lock is released. conditions: what the sizes inside
    the graph must satisfy. computed: sizes that the program finds, in the order of its `dims`
    behind `symbols`; blocks: how many further places of `dims` it uses.
    """

    inputs: tuple[ArraySpec, ...]
    outputs: tuple[ArraySpec, ...]
    symbols: tuple[Symbol, ...] = ()
    single: bool = False
    work: Size = 0
    name: str = "function"
    conditions: tuple[Condition, ...] = ()
    computed: tuple[Symbol, ...] = ()
    blocks: int = 0

    def is_computed(self, size: Size) -> bool:
        """Whether a size is known only when the program has run."""
        return isinstance(size, Dim) and any(s in self.computed for s in size.symbols())

    @property
    def computed_outputs(self) -> tuple[int, ...]:
        """The outputs whose shapes are known only when the program has run."""
        if not self.computed:
            return ()
        outputs = enumerate(self.outputs)
        return tuple(k for k, spec in outputs if any(map(self.is_computed, spec.shape)))

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
    values = by_position(signature, args, keywords)
    arrays = [_read(spec, value) for spec, value in zip(signature.inputs, values)]
    return arrays, read_sizes(signature, arrays)


def by_position(
    signature: CallSignature, args: Sequence[object], keywords: Mapping[str, object]
) -> list[object]:
    """The arguments in the order of the inputs. Raises GraphError for missing and unknown ones."""
    names = [spec.name for spec in signature.inputs]
    known = f"the inputs are {', '.join(names)}" if names else "it takes no arguments"
    arrays = "array" if len(names) == 1 else "arrays"
    expected = f"{signature.name} takes {len(names)} {arrays} ({', '.join(names)})"

    def wrong(what: str, hint: str) -> GraphError:
        return GraphError(message(f"{expected}{what}", at=here(), hint=hint))

    if len(args) > len(names):
        raise wrong(f", got {len(args)}", f"{known}: one argument for each")
    values: dict[str, object] = dict(zip(names, args))
    for name, value in keywords.items():
        if name not in names:
            raise wrong(f", none of them is named {name!r}", known)
        if name in values:
            raise wrong(
                f"; two values were given for {name!r}",
                "give each input once, by position or by name",
            )
        values[name] = value
    missing = [name for name in names if name not in values]
    if missing:
        what = f", got {len(values)}; missing: {', '.join(missing)}"
        raise wrong(what, f"{known}: one argument for each")
    return [values[name] for name in names]


def _read(spec: ArraySpec, value: object) -> Array:
    if isinstance(value, Node):
        raise GraphError(
            message(
                f"{spec.name}: expected {spec}, got a symbolic tensor",
                operands=[*_places(spec), describe(value)],
                at=here(),
                hint="pass values: a NumPy array, a number or a list; tensor.eval(feeds) gives one",
            )
        )
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
        return _round(spec, array)
    limits = np.iinfo(spec.host) if wanted == "i" else None
    if limits and array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        raise _dtype_error(spec, f"values from {array.min()} to {array.max()}")
    return array.astype(spec.host)


def _round(spec: ArraySpec, array: Array) -> Array:
    with np.errstate(over="ignore"):
        rounded = array.astype(spec.dtype.numpy)
        rounded = round_bfloat16(rounded) if spec.dtype is bfloat16 else rounded
    # Rounding is what is expected of a literal; becoming infinite is not.
    if bool((np.isinf(rounded) & ~np.isinf(array.astype(np.float64))).any()):
        raise _dtype_error(spec, f"values up to {np.abs(array.astype(np.float64)).max():g}")
    return to_storage(rounded, spec.dtype)


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
    for condition in signature.conditions:
        value = evaluate(condition.size, sizes)
        if value < 0:
            raise ShapeError(
                message(
                    f"{signature.name}: {condition.says(value)}",
                    operands=_reasons(signature, arrays, places, condition.size, sizes),
                    at=condition.where or here(),
                    hint="feed larger arrays; give the dim bounds, for example "
                    'graphc.Dim("n", min=3), to have this checked first',
                )
            )
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
            f"{spec.name}: expected {spec}, got {array.dtype}{shape_text(array.shape)}, "
            f"an array of shape {array.shape}",
            operands=[*_places(spec), *reasons],
            at=here(),
            hint="reshape the array, or declare the placeholder with the shape that it has",
        )
    )


def _dtype_error(spec: ArraySpec, got: str) -> DTypeError:
    hint = f"convert it, for example {spec.name}.astype({str(spec.host)!r})"
    if got.startswith("complex"):
        hint = "complex numbers are not supported: feed the real and imaginary part apart"
    what = f"{spec.name}: expected {spec}, got {got}"
    return DTypeError(message(what, operands=_places(spec), at=here(), hint=hint))


def _places(spec: ArraySpec) -> list[str]:
    return [spec.place] if spec.place else []


def check_given(spec: ArraySpec, array: object, sizes: Mapping[str, int]) -> None:
    """An array that a result is written into must be exactly right: nothing can be converted."""
    shape = tuple(evaluate(size, sizes) for size in spec.shape)
    expected = (
        f"{spec.name}: out must be a writable C-contiguous {spec.host} array of shape {shape}"
    )
    hint = f"make it with np.empty({shape}, {str(spec.host)!r})"

    def wrong(error: type[GraphcError], got: str) -> GraphcError:
        return error(message(f"{expected}, got {got}", at=here(), hint=hint))

    if type(array) is not np.ndarray:
        raise wrong(DTypeError, type(array).__name__)
    if array.dtype is not spec.host:
        raise wrong(DTypeError, f"dtype {array.dtype}")
    if array.shape != shape:
        raise wrong(ShapeError, f"shape {array.shape}")
    if not (array.flags.c_contiguous and array.flags.writeable and array.flags.aligned):
        raise wrong(ShapeError, "one with other strides, or read-only")


def to_user(spec: ArraySpec, array: Array) -> Array:
    """A result of native code in the form that users receive."""
    if spec.dtype is bfloat16 and host_bfloat16() is None:
        return from_storage(array, bfloat16)
    return array
