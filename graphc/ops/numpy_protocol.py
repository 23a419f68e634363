"""NumPy's functions on tensors (floor 2): `np.exp(tensor)`, `array + tensor`, `np.concatenate([a,
b])`.

Two tables from NumPy's functions to adapters with NumPy's parameter names. What is not in them, and
parameters such as `out=` that a graph cannot have, raise an error that names the way to write it.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from graphc.base.errors import UnsupportedError
from graphc.ir.node import Node, Tensor
from graphc.ir.opdef import fail
from graphc.ops import (
    contraction,
    creation,
    cumulative,
    einsum,
    elementwise,
    elementwise_math,
    indexing,
    joining,
    logical,
    reduction,
    reshape,
    rounding,
    searching,
    sorting,
    statistical,
    view,
)

_UFUNCS: dict[np.ufunc, Callable[..., Tensor]] = {
    np.add: elementwise.add,
    np.subtract: elementwise.subtract,
    np.multiply: elementwise.multiply,
    np.divide: elementwise.divide,
    np.floor_divide: elementwise.floor_divide,
    np.remainder: elementwise.remainder,
    np.negative: elementwise.negative,
    np.positive: elementwise.positive,
    np.maximum: elementwise.maximum,
    np.minimum: elementwise.minimum,
    np.power: elementwise_math.pow,
    np.absolute: rounding.abs,
    np.fabs: rounding.abs,
    np.sign: rounding.sign,
    np.floor: rounding.floor,
    np.ceil: rounding.ceil,
    np.trunc: rounding.trunc,
    np.rint: rounding.round,
    np.copysign: rounding.copysign,
    np.nextafter: rounding.nextafter,
    np.conjugate: rounding.conj,
    np.exp: elementwise_math.exp,
    np.exp2: elementwise_math.exp2,
    np.expm1: elementwise_math.expm1,
    np.log: elementwise_math.log,
    np.log2: elementwise_math.log2,
    np.log10: elementwise_math.log10,
    np.log1p: elementwise_math.log1p,
    np.logaddexp: elementwise_math.logaddexp,
    np.sqrt: elementwise_math.sqrt,
    np.square: elementwise_math.square,
    np.reciprocal: elementwise_math.reciprocal,
    np.hypot: elementwise_math.hypot,
    np.sin: elementwise_math.sin,
    np.cos: elementwise_math.cos,
    np.tan: elementwise_math.tan,
    np.arcsin: elementwise_math.asin,
    np.arccos: elementwise_math.acos,
    np.arctan: elementwise_math.atan,
    np.arctan2: elementwise_math.atan2,
    np.sinh: elementwise_math.sinh,
    np.cosh: elementwise_math.cosh,
    np.tanh: elementwise_math.tanh,
    np.arcsinh: elementwise_math.asinh,
    np.arccosh: elementwise_math.acosh,
    np.arctanh: elementwise_math.atanh,
    np.deg2rad: lambda x: elementwise.multiply(x, math.pi / 180.0),
    np.radians: lambda x: elementwise.multiply(x, math.pi / 180.0),
    np.rad2deg: lambda x: elementwise.multiply(x, 180.0 / math.pi),
    np.degrees: lambda x: elementwise.multiply(x, 180.0 / math.pi),
    np.equal: logical.equal,
    np.not_equal: logical.not_equal,
    np.less: logical.less,
    np.less_equal: logical.less_equal,
    np.greater: logical.greater,
    np.greater_equal: logical.greater_equal,
    np.isnan: logical.isnan,
    np.isinf: logical.isinf,
    np.isfinite: logical.isfinite,
    np.signbit: logical.signbit,
    np.bitwise_and: logical.bitwise_and,
    np.bitwise_or: logical.bitwise_or,
    np.bitwise_xor: logical.bitwise_xor,
    np.invert: logical.bitwise_invert,
    np.left_shift: logical.bitwise_left_shift,
    np.right_shift: logical.bitwise_right_shift,
    np.bitwise_count: logical.bitwise_count,
    np.logical_and: logical.logical_and,
    np.logical_or: logical.logical_or,
    np.logical_xor: logical.logical_xor,
    np.logical_not: logical.logical_not,
    np.matmul: contraction.matmul,
    np.vecdot: contraction.vecdot,
}

# Ufunc methods that have a function of their own.
_METHODS = {
    ("add", "reduce"): "sum",
    ("multiply", "reduce"): "prod",
    ("maximum", "reduce"): "max",
    ("minimum", "reduce"): "min",
    ("logical_and", "reduce"): "all",
    ("logical_or", "reduce"): "any",
    ("add", "accumulate"): "cumulative_sum",
    ("multiply", "accumulate"): "cumulative_prod",
    ("multiply", "outer"): "outer",
}


def _refuse(what: str, operands: Sequence[Any], hint: str) -> NoReturn:
    fail(UnsupportedError, what, [x for x in operands if isinstance(x, Node)], hint)


def array_ufunc(
    ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """`Tensor.__array_ufunc__`: NumPy's ufunc as a node. Raises UnsupportedError naming the way."""
    name = f"np.{ufunc.__name__}"
    function = _UFUNCS.get(ufunc)
    if method != "__call__":
        other = _METHODS.get((ufunc.__name__, method))
        hint = f"use graphc.{other}" if other else "write it with graphc functions"
        _refuse(f"{name}.{method} does not take a symbolic tensor", inputs, hint)
    if function is None:
        _refuse(
            f"{name} has no counterpart in graphc",
            inputs,
            "write it with other graphc functions, or apply it to values: tensor.eval(feeds)",
        )
    given = [k for k, v in kwargs.items() if v is not None]
    if "out" in given:
        _refuse(
            f"{name}: a symbolic tensor cannot be written into an array "
            "(out=, or `array += tensor`)",
            inputs,
            "write result = array + tensor, which gives a tensor",
        )
    if given:
        _refuse(
            f"{name} of a symbolic tensor does not take {given[0]}=",
            inputs,
            "convert with graphc.astype, choose elements with graphc.where",
        )
    return function(*inputs)


# -- functions ----------------------------------------------------------------------------


def _take(a: Any, indices: Any, axis: int | None = None, mode: str = "raise") -> Tensor:
    if mode != "raise":
        _refuse(f"np.take: mode={mode!r}", [a], 'clip or wrap the indices first, mode is "raise"')
    return indexing.take(_ravel(a) if axis is None else a, indices, axis=axis or 0)


def _round(a: Any, decimals: int = 0) -> Tensor:
    if decimals == 0:
        return rounding.round(a)
    scale = 10.0**decimals
    return elementwise.divide(rounding.round(elementwise.multiply(a, scale)), scale)


def _dot(a: Any, b: Any) -> Tensor:
    x, y = np.ndim(a), np.ndim(b)
    if x == 0 or y == 0:
        return elementwise.multiply(a, b)
    if y <= 2 or x == 1:
        return (
            contraction.matmul(a, b)
            if y <= 2
            else contraction.tensordot(a, b, axes=((0,), (y - 2,)))
        )
    return contraction.tensordot(a, b, axes=((x - 1,), (y - 2,)))


def _where(condition: Any, x: Any = None, y: Any = None) -> Tensor | tuple[Tensor, ...]:
    if x is None or y is None:
        return searching.nonzero(condition)
    if not isinstance(condition, Tensor) and np.asarray(condition).dtype != bool:
        condition = np.asarray(condition) != 0
    return elementwise.where(condition, x, y)


def _along(join: Callable[..., Tensor], axis: int, least: int) -> Callable[..., Tensor]:
    def adapter(tup: Sequence[Any]) -> Tensor:
        parts = [creation.asarray(t) for t in tup]
        parts = [reshape.to_shape(p, (*[1] * (least - p.ndim), *p.shape)) for p in parts]
        return join(parts, axis=axis if axis < parts[0].ndim else 0)

    return adapter


def _clip(
    a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None
) -> Tensor:
    return rounding.clip(a, a_min if min is None else min, a_max if max is None else max)


def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    return list(joining.split(ary, indices_or_sections, axis=axis))


def _deviation(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def adapter(
        a: Any,
        axis: Any = None,
        *,
        ddof: float = 0,
        keepdims: bool = False,
        correction: float | None = None,
    ) -> Tensor:
        used = ddof if correction is None else correction
        return function(a, axis=axis, correction=used, keepdims=keepdims)

    return adapter


def _reduced(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def adapter(a: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
        return function(a, axis=axis, keepdims=keepdims)

    return adapter


def _summed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def adapter(a: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Tensor:
        return function(a, axis=axis, dtype=dtype, keepdims=keepdims)

    return adapter


def _mean(a: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Tensor:
    x = a if dtype is None else creation.asarray(a, dtype=dtype)
    return reduction.mean(x, axis=axis, keepdims=keepdims)


def _cumulative(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def adapter(a: Any, axis: int | None = None) -> Tensor:
        x = creation.asarray(a)
        return function(reshape.to_shape(x, (x.size,)) if axis is None else x, axis=axis or 0)

    return adapter


def _stack(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    return joining.stack(list(arrays), axis=axis)


def _concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Tensor:
    return joining.concat(list(arrays), axis=axis)


def _expand_dims(a: Any, axis: Any) -> Tensor:
    return reshape.expand_dims(a, axis=axis)


def _reshape(a: Any, /, shape: Any = None, order: str = "C", *, copy: bool | None = None) -> Tensor:
    if order != "C":
        _refuse(f"np.reshape: order={order!r}", [a], "permute the dims first: graphc.permute_dims")
    return reshape.reshape(a, shape)


def _ravel(a: Any) -> Tensor:
    x = creation.asarray(a)
    return reshape.to_shape(x, (x.size,))


def _like(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def adapter(a: Any, dtype: Any = None) -> Tensor:
        return function(a, dtype=dtype)

    return adapter


def _full_like(a: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    return creation.full_like(a, fill_value, dtype=dtype)


def _sort(a: Any, axis: int | None = -1, *, stable: bool | None = None) -> Tensor:
    return sorting.sort(_ravel(a), axis=0) if axis is None else sorting.sort(a, axis=axis)


def _argsort(a: Any, axis: int | None = -1, *, stable: bool | None = None) -> Tensor:
    return sorting.argsort(_ravel(a), axis=0) if axis is None else sorting.argsort(a, axis=axis)


def _pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Tensor:
    return joining.pad(array, pad_width, mode=mode, value=constant_values)


def _einsum(subscripts: str, *operands: Any, optimize: Any = True) -> Tensor:
    return einsum.einsum(subscripts, *operands)


def _size(a: Tensor, axis: int | None = None) -> Any:
    return a.size if axis is None else a.shape[axis]


def _meshgrid(*xi: Any, indexing: str = "xy") -> list[Tensor]:
    return list(creation.meshgrid(*xi, indexing=indexing))


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: _summed(reduction.sum),
    np.prod: _summed(reduction.prod),
    np.mean: _mean,
    np.max: _reduced(reduction.max),
    np.min: _reduced(reduction.min),
    np.amax: _reduced(reduction.max),
    np.amin: _reduced(reduction.min),
    np.any: _reduced(reduction.any),
    np.all: _reduced(reduction.all),
    np.count_nonzero: _reduced(reduction.count_nonzero),
    np.argmax: _reduced(reduction.argmax),
    np.argmin: _reduced(reduction.argmin),
    np.median: _reduced(statistical.median),
    np.var: _deviation(statistical.var),
    np.std: _deviation(statistical.std),
    np.cumsum: _cumulative(cumulative.cumulative_sum),
    np.cumprod: _cumulative(cumulative.cumulative_prod),
    np.concatenate: _concatenate,
    np.stack: _stack,
    np.vstack: _along(joining.concat, 0, 2),
    np.hstack: _along(joining.concat, 1, 1),
    np.split: _split,
    np.reshape: _reshape,
    np.ravel: _ravel,
    np.expand_dims: _expand_dims,
    np.squeeze: lambda a, axis=None: reshape.squeeze(a, axis=axis),
    np.transpose: lambda a, axes=None: view.transpose(a, axes),
    np.swapaxes: lambda a, axis1, axis2: view.swapaxes(a, axis1, axis2),
    np.moveaxis: lambda a, source, destination: view.moveaxis(a, source, destination),
    np.broadcast_to: lambda array, shape: view.broadcast_to(array, shape),
    np.broadcast_arrays: lambda *args: view.broadcast_arrays(*args),
    np.flip: lambda m, axis=None: view.flip(m, axis=axis),
    np.roll: lambda a, shift, axis=None: view.roll(a, shift, axis=axis),
    np.tile: lambda A, reps: joining.tile(A, reps),
    np.repeat: lambda a, repeats, axis=None: joining.repeat(a, repeats, axis=axis),
    np.pad: _pad,
    np.where: _where,
    np.clip: _clip,
    np.round: _round,
    np.around: _round,
    np.nan_to_num: lambda x, copy=True, nan=0.0, posinf=None, neginf=None: rounding.nan_to_num(
        x, nan=nan, posinf=posinf, neginf=neginf
    ),
    np.take: _take,
    np.take_along_axis: lambda arr, indices, axis=-1: indexing.take_along_axis(
        arr, indices, axis=axis
    ),
    np.sort: _sort,
    np.argsort: _argsort,
    np.searchsorted: lambda a, v, side="left", sorter=None: sorting.searchsorted(
        a, v, side=side, sorter=sorter
    ),
    np.dot: _dot,
    np.tensordot: lambda a, b, axes=2: contraction.tensordot(a, b, axes=axes),
    np.outer: lambda a, b: contraction.outer(_ravel(a), _ravel(b)),
    np.einsum: _einsum,
    np.trace: lambda a, offset=0: contraction.trace(a, offset=offset),
    np.tril: lambda m, k=0: creation.tril(m, k=k),
    np.triu: lambda m, k=0: creation.triu(m, k=k),
    np.meshgrid: _meshgrid,
    np.zeros_like: _like(creation.zeros_like),
    np.ones_like: _like(creation.ones_like),
    np.empty_like: _like(creation.empty_like),
    np.full_like: _full_like,
    np.nonzero: searching.nonzero,
    np.argwhere: searching.argwhere,
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: _size,
    np.real: rounding.real,
    np.imag: rounding.imag,
}


def array_function(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`Tensor.__array_function__`: NumPy's function as nodes. Raises UnsupportedError naming the
    way.
    """
    name = f"np.{getattr(function, '__name__', function)}"
    adapter = _FUNCTIONS.get(function)
    operands = _tensors((*args, *kwargs.values()))
    if adapter is None:
        _refuse(
            f"{name} does not take a symbolic tensor",
            operands,
            "use graphc's function for it, or values: tensor.eval(feeds)",
        )
    given = {
        k: v for k, v in kwargs.items() if not (v is None and k in ("out", "where", "initial"))
    }
    try:
        inspect.signature(adapter).bind(*args, **given)
    except TypeError as error:
        _refuse(
            f"{name} of a symbolic tensor: {error}",
            operands,
            "parameters such as out= need values; convert with graphc.astype, choose with "
            "graphc.where",
        )
    return adapter(*args, **given)


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for v in values:
        if isinstance(v, Tensor):
            found.append(v)
        elif isinstance(v, list | tuple):
            found += [x for x in v if isinstance(x, Tensor)]
    return found


_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")


def array_namespace(api_version: str | None = None) -> Any:
    """`Tensor.__array_namespace__`: the module graphc."""
    if api_version is not None and api_version not in _VERSIONS:
        fail(
            UnsupportedError,
            f"__array_namespace__: the version {api_version!r} of the Array API is not known",
            hint="known: " + ", ".join(_VERSIONS),
        )
    return sys.modules["graphc"]
