"""Dropout (floor 8): elements or whole channels set to a constant at random, in training only.

Masks are functions of a key (`graphc.random`), so that a step can be repeated. With an array of
keys, one per example (of shape x.shape[:k] + (2,)), an example has the same mask in any batch.
"""

from __future__ import annotations

import math

from graphc.base.dims import shape_text
from graphc.base.dtypes import float32
from graphc.ir.node import Tensor
from graphc.ir.opdef import shape_error
from graphc.nn.activations import SELU_ALPHA, SELU_SCALE
from graphc.ops import elementwise, logical
from graphc.ops.axes import Axes, normalize_axes
from graphc.ops.promotion import TensorLike, as_tensor
from graphc.ops.reduction import as_float
from graphc.ops.reshape import to_shape
from graphc.random import keys


def _checked_rate(op: str, x: Tensor, rate: float) -> None:
    if not 0 <= rate < 1:
        shape_error(
            f"{op}: rate must be from 0 to below 1, got {rate}",
            [x],
            "rate is the share of elements that become 0",
        )


def _kept(op: str, x: Tensor, rate: float, key: TensorLike, shared: Axes) -> Tensor:
    """Whether an element stays, true with probability 1 - rate: of x's shape, 1 in shared axes."""
    axes = normalize_axes(op, x, shared)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    source = keys.checked(op, key)
    rows = source.ndim - 1
    if source.shape[:-1] != x.shape[:rows]:
        shape_error(
            f"{op}: keys {source.type} do not belong to the first dims of x, {shape_text(x.shape)}",
            [x, source],
            "give one key, or one per example: graphc.random.fold_in(key, numbers)",
        )
    drawn = keys.unit(source, shape[rows:], float32)
    return to_shape(logical.greater_equal(drawn, rate), shape)


def dropout(
    x: TensorLike, rate: float, key: TensorLike, *, training: bool = True, shared: Axes = ()
) -> Tensor:
    """x with each element zeroed with probability `rate` and the others divided by 1 - rate.

    key: of graphc.random.key; draw a new one per step (graphc.random.fold_in(key, step)). shared:
    axes along which one decision holds for all elements. x itself without training. Raises
    ShapeError unless 0 <= rate < 1.
    """
    return _dropped("dropout", x, rate, key, training, shared)


def _dropped(
    op: str, x: TensorLike, rate: float, key: TensorLike, training: bool, shared: Axes
) -> Tensor:
    x = as_float(op, x)
    _checked_rate(op, x, rate)
    if not training or rate == 0:
        return x
    keep = _kept(op, x, rate, key, shared)
    return elementwise.where(keep, x * (1.0 / (1.0 - rate)), 0.0)


def spatial_dropout(
    x: TensorLike, rate: float, key: TensorLike, *, training: bool = True, axis: int = 1
) -> Tensor:
    """x (batch, channels, *spatial) with whole channels zeroed with probability `rate` and the
    others divided by 1 - rate, for any number of spatial dims (Tompson et al., 2015).

    axis: of the channels, -1 where they come last. As `dropout` otherwise. Raises ShapeError for
    fewer than 2 dims.
    """
    op = "spatial_dropout"
    tensor = as_float(op, x)
    if tensor.ndim < 2:
        hint = "x is (batch, channels, *spatial); graphc.nn.dropout drops single elements"
        shape_error(f"{op}: needs at least 2 dims, got {tensor.ndim}", [tensor], hint)
    (channel,) = normalize_axes(op, tensor, axis)
    spatial = tuple(i for i in range(1, tensor.ndim) if i != channel)
    return _dropped(op, tensor, rate, key, training, spatial)


def alpha_dropout(
    x: TensorLike,
    rate: float,
    key: TensorLike,
    *,
    training: bool = True,
    shared: Axes = (),
) -> Tensor:
    """Dropout for `selu`: dropped elements become the value that selu approaches at -inf, and the
    whole is scaled and shifted so that mean 0 and variance 1 stay (Klambauer et al., 2017).

    shared: axes along which one decision holds; the spatial ones drop whole feature maps. As
    `dropout` otherwise.
    """
    op = "alpha_dropout"
    x = as_float(op, x)
    _checked_rate(op, x, rate)
    if not training or rate == 0:
        return x
    keep = _kept(op, x, rate, key, shared)
    floor = -SELU_ALPHA * SELU_SCALE
    kept = 1.0 - rate
    scale = 1.0 / math.sqrt(kept * (1.0 + rate * floor * floor))
    shift = -scale * floor * rate
    return elementwise.where(keep, x * scale + shift, as_tensor(floor * scale + shift, like=x))


__all__ = ["alpha_dropout", "dropout", "spatial_dropout"]
