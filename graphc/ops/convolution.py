"""The convolution op (floor 2): a composite of pad, windows and a contraction, with a gradient of
its own.

x is [N, C, *spatial], w is [O, C / groups, *kernel]; per spatial axis, with x spread by
`input_dilation` and padded by `low` and `high` (negative: cut off):

    out[n, o, p] = sum over c, k of x[n, c, p * stride + k * dilation] * w[o, c, k]

The gradient of x is a convolution again (stride and input_dilation exchanged, the kernel turned
around), so that no form of it is slower than the op itself; the gradient of w is a contraction of
windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dims import Dim, Shape, Size
from graphc.base.dtypes import NUMERIC, Array, DType
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, shape_error
from graphc.ops.contraction import EINSUM, LETTERS, tidy
from graphc.ops.families import Composite
from graphc.ops.joining import padded
from graphc.ops.reduction import accurate
from graphc.ops.reshape import split_axis, to_shape
from graphc.ops.sampling import draw
from graphc.ops.view import FLIP, permuted
from graphc.ops.windows import WINDOWS, window_count

ATTRIBUTES = ("stride", "low", "high", "dilation", "input_dilation", "groups")
Ints = tuple[int, ...]


def spread_size(size: Size, gap: int) -> Size:
    """The size of an axis whose elements are `gap` apart."""
    return size if gap == 1 or size == 0 else (size - 1) * gap + 1


def _conv_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    x, w = inputs
    stride, low, high, dilation, spread, groups = attrs
    assert isinstance(x, Tensor)
    assert isinstance(w, Tensor)
    if x.dtype is not w.dtype:
        dtype_error(f"conv: operands of different dtypes: {x.dtype} and {w.dtype}", inputs)
    if x.ndim != w.ndim or x.ndim < 3:
        shape_error(
            f"conv: x needs [batch, channels, *spatial] and w [out, in, *kernel] of as many dims, "
            f"got {x.ndim} and {w.ndim}",
            inputs,
        )
    if w.shape[1] * groups != x.shape[1] or w.shape[0] // groups * groups != w.shape[0]:
        shape_error(
            f"conv: w {w.type} does not fit {x.shape[1]} channels in {groups} groups: "
            "it needs [out, channels / groups, *kernel], out a multiple of groups",
            inputs,
        )
    shape: list[Size] = [x.shape[0], w.shape[0]]
    for i, size in enumerate(x.shape[2:]):
        k = w.shape[2 + i]
        if isinstance(k, Dim):
            shape_error(f"conv: the kernel size {k} must be known", inputs)
        whole = spread_size(size, spread[i]) + low[i] + high[i]
        count = window_count(whole, k, stride[i], dilation[i])
        if isinstance(count, int) and count < 1:
            shape_error(
                f"conv: a kernel of {(k - 1) * dilation[i] + 1} elements does not fit spatial axis "
                f"{i} "
                f"of size {size} padded to {whole}",
                inputs,
                "use a smaller kernel, or padding",
            )
        shape.append(count)
    return TensorType(tuple(shape), x.dtype)


# -- as other ops ---------------------------------------------------------------------------------


def _letters(rank: int) -> tuple[str, str, list[str]]:
    """Letters of places, of kernel elements, and those of batch, groups, channels and results."""
    return LETTERS[:rank], LETTERS[rank : 2 * rank], list(LETTERS[2 * rank : 2 * rank + 4])


def _window_view(x: Tensor, kernel: Shape, node: Tensor) -> Tensor:
    """x as windows: [N, C, *places, *kernel]."""
    stride, low, high, dilation, spread, _ = node.attrs
    rank = len(kernel)
    gaps = (0, 0, *(s - 1 for s in spread))
    x = padded(x, (0, 0, *low), (0, 0, *high), gaps)
    axes = tuple(range(2, 2 + rank))
    return WINDOWS(x, axes=axes, size=kernel, stride=stride, dilation=dilation)


def _conv_expand(node: Tensor) -> Tensor:
    x, w = node.inputs
    groups, kernel = node.attr("groups"), w.shape[2:]
    rank = len(kernel)
    p, k, (n, g, c, m) = _letters(rank)
    plain = all(s == 1 for s in (*kernel, *node.attr("stride")))
    if plain:  # a kernel of one element is a product of matrices: no windows
        _, low, high, _, spread, _ = node.attrs
        v = padded(x, (0, 0, *low), (0, 0, *high), (0, 0, *(s - 1 for s in spread)))
        w, k = to_shape(w, w.shape[:2]), ""
    else:
        v = _window_view(x, kernel, node)
    if groups == 1:
        return EINSUM(v, w, spec=tidy(f"{n}{c}{p}{k},{m}{c}{k}->{n}{m}{p}"))
    v = split_axis(v, 1, (groups, x.shape[1] // groups))
    w = split_axis(w, 0, (groups, w.shape[0] // groups))
    out = EINSUM(v, w, spec=tidy(f"{n}{g}{c}{p}{k},{g}{m}{c}{k}->{n}{g}{m}{p}"))
    return to_shape(out, node.shape)


def transposed_kernel(w: Tensor, groups: int) -> Tensor:
    """[O, C / groups, *K] as [C, O / groups, *K], turned around: the kernel that carries cotangents
    back.
    """
    rank = w.ndim - 2
    outs, ins = w.shape[0] // groups, w.shape[1]
    w = FLIP(w, axes=tuple(range(2, w.ndim)))
    if groups == 1:
        return permuted(w, (1, 0, *range(2, w.ndim)))
    apart = split_axis(w, 0, (groups, outs))
    swapped = permuted(apart, (0, 2, 1, *range(3, 3 + rank)))
    return to_shape(swapped, (groups * ins, outs, *w.shape[2:]))


def _x_gradient(g: Tensor, node: Tensor) -> Tensor:
    x, w = node.inputs
    stride, low, _, dilation, spread, groups = node.attrs
    back_low, back_high = [], []
    for i, size in enumerate(x.shape[2:]):
        k = w.shape[2 + i]
        assert isinstance(k, int)
        # The spread cotangent, padded, must have exactly as many windows as x, spread, has
        # elements.
        back_low.append(dilation[i] * (k - 1) - low[i])
        back_high.append(
            spread_size(size, spread[i]) - spread_size(node.shape[2 + i], stride[i]) + low[i]
        )
    return CONV(
        g,
        transposed_kernel(w, groups),
        stride=spread,
        low=tuple(back_low),
        high=tuple(back_high),
        dilation=dilation,
        input_dilation=stride,
        groups=groups,
    )


def _w_gradient(g: Tensor, node: Tensor) -> Tensor:
    x, w = node.inputs
    groups, kernel = node.attr("groups"), w.shape[2:]
    p, k, (n, h, c, m) = _letters(len(kernel))
    v = _window_view(x, kernel, node)
    if groups == 1:
        return EINSUM(g, v, spec=tidy(f"{n}{m}{p},{n}{c}{p}{k}->{m}{c}{k}"))
    v = split_axis(v, 1, (groups, x.shape[1] // groups))
    g = split_axis(g, 1, (groups, g.shape[1] // groups))
    return to_shape(EINSUM(g, v, spec=tidy(f"{n}{h}{m}{p},{n}{h}{c}{p}{k}->{h}{m}{c}{k}")), w.shape)


def _conv_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    return [_x_gradient(g, node), _w_gradient(g, node)]


# -- reference ------------------------------------------------------------------------------------


def _conv_reference(
    x: Array,
    w: Array,
    stride: Ints,
    low: Ints,
    high: Ints,
    dilation: Ints,
    input_dilation: Ints,
    groups: int,
) -> Array:
    x, w = accurate(x), accurate(w)
    rank = x.ndim - 2
    sizes = [spread_size(n, s) for n, s in zip(x.shape[2:], input_dilation, strict=True)]
    wide = np.zeros((*x.shape[:2], *sizes), x.dtype)
    steps: list[Any] = [slice(None, None, s) for s in input_dilation]
    wide[(..., *steps)] = x
    pads = [(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True)]
    wide = np.pad(wide, [(0, 0), (0, 0), *pads])
    crops: list[Any] = [
        slice(max(-a, 0), n - max(-b, 0)) for a, b, n in zip(low, high, wide.shape[2:], strict=True)
    ]
    wide = wide[(..., *crops)]
    reach = tuple((k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(wide, reach, tuple(range(2, 2 + rank)))
    view = view[
        (
            slice(None),
            slice(None),
            *(slice(None, None, s) for s in stride),
            *(slice(None, None, d) for d in dilation),
        )
    ]
    summed = tuple(range(2 + rank, 2 + 2 * rank))
    ins, outs = w.shape[1], w.shape[0] // groups
    parts = []
    for i in range(groups):
        piece, kernel = view[:, i * ins : (i + 1) * ins], w[i * outs : (i + 1) * outs]
        found = np.tensordot(piece, kernel, ((1, *summed), (1, *range(2, 2 + rank))))
        parts.append(np.moveaxis(found, -1, 1))
    return np.concatenate(parts, 1)


_CASES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((1, 1, 1), (1, 1, 1), {}),
    ((2, 3, 9), (4, 3, 3), {"stride": (2,), "low": (1,), "high": (1,)}),
    ((2, 3, 5, 6), (4, 3, 1, 1), {}),
    ((2, 3, 6, 7), (4, 3, 3, 2), {"low": (1, 0), "high": (1, 2)}),
    (
        (1, 2, 8, 8),
        (3, 2, 3, 3),
        {"stride": (2, 3), "dilation": (2, 1), "low": (1, 1), "high": (0, 1)},
    ),
    ((2, 4, 7), (6, 2, 3), {"groups": 2, "low": (-1,), "high": (2,)}),
    ((2, 4, 6, 5), (4, 1, 3, 3), {"groups": 4, "low": (1, 1), "high": (1, 1)}),
    ((2, 3, 4), (2, 3, 3), {"input_dilation": (3,), "low": (2,), "high": (2,)}),
    ((1, 2, 4, 5, 3), (2, 2, 2, 3, 2), {"stride": (1, 2, 1)}),
    ((0, 2, 5), (3, 2, 2), {}),
)


def conv_attrs(rank: int, **given: Any) -> dict[str, Any]:
    """All attributes of the op, those not given at their neutral values."""
    ones, zeros = (1,) * rank, (0,) * rank
    neutral = {
        "stride": ones,
        "low": zeros,
        "high": zeros,
        "dilation": ones,
        "input_dilation": ones,
        "groups": 1,
    }
    return neutral | given


def _conv_samples(dtype: DType) -> list[Sample]:
    return [
        Sample((draw(a, dtype, 0), draw(b, dtype, 1)), conv_attrs(len(a) - 2, **given))
        for a, b, given in _CASES
    ]


CONV = REGISTRY.add(
    OpDef(
        "conv",
        ATTRIBUTES,
        _conv_type,
        _conv_reference,
        _conv_gradient,
        Composite(_conv_expand),
        doc="Cross-correlation over spatial axes, channels first.",
        samples=_conv_samples,
        dtypes=NUMERIC,
    )
)
