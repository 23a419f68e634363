"""Convolutions of floats and their transposes, deformable ones too (floor 8)."""

from __future__ import annotations

from graphc.base.dims import Dim
from graphc.ir.node import Tensor
from graphc.nn.convolution import conv, conv_transpose, int_size
from graphc.nn.sampling import deform_conv
from graphc.onnx.context import Context, op
from graphc.onnx.windows import Windows, kernel_of, windows_of
from graphc.ops.joining import padded

Pairs = tuple[tuple[int, int], ...]


@op("Conv")
def conv_(c: Context) -> Tensor:
    """Convolution with optional bias."""
    x, w = c.tensor(0), c.tensor(1)
    at = windows_of(c, x, kernel_of(c, w))
    groups = c.attribute("group")
    return conv(x, w, at.stride, at.padding, at.dilation, groups, bias=c.optional(2))


@op("ConvTranspose")
def conv_transpose_(c: Context) -> Tensor:
    """The transpose of a convolution."""
    x, w = c.tensor(0), c.tensor(1)
    at = windows_of(c, x, kernel_of(c, w), transposed=True)
    extra = tuple(c.attribute("output_padding") or (0,) * (x.ndim - 2))
    if len(extra) != x.ndim - 2 or any(e < 0 for e in extra):
        c.bad(f"attribute output_padding is {list(extra)}, expected one int per spatial axis")
    pairs, more = _transposed_pads(c, x, at, extra)
    groups, bias = c.attribute("group"), c.optional(2)
    fits = all(e < max(s, d) for e, s, d in zip(extra, at.stride, at.dilation, strict=True))
    own = extra if fits else (0,) * len(extra)
    beyond = more if fits else tuple(m + e for m, e in zip(more, extra, strict=True))
    if any(beyond):
        # More than a transposed convolution reaches: zeros, and the bias on them.
        out = conv_transpose(x, w, at.stride, pairs, at.dilation, groups, output_padding=own)
        out = padded(out, (0,) * x.ndim, (0, 0, *beyond))
        return out if bias is None else out + bias.reshape((-1, *(1,) * (x.ndim - 2)))
    return conv_transpose(
        x, w, at.stride, pairs, at.dilation, groups, output_padding=own, bias=bias
    )


def _transposed_pads(
    c: Context, x: Tensor, at: Windows, extra: tuple[int, ...]
) -> tuple[Pairs, tuple[int, ...]]:
    """Padding per axis, and how many elements the result has beyond what the windows reach."""
    word = c.attribute("auto_pad", "NOTSET")
    wanted = c.attribute("output_shape")
    if wanted is None and word not in ("SAME_UPPER", "SAME_LOWER"):
        pairs = tuple((int_size(a), int_size(b)) for a, b in at.padding)
        return pairs, (0,) * len(extra)
    found, more = [], []
    if wanted is not None:
        wanted = wanted[-len(extra) :]  # older models give batch and channels too
    for axis, n in enumerate(x.shape[2:]):
        if wanted is None:
            total = at.reach[axis] + extra[axis] - at.stride[axis]
        elif isinstance(n, Dim):
            c.refuse(f"output_shape is given, and spatial axis {axis} has the symbolic size {n}")
        else:
            full = (n - 1) * at.stride[axis] + extra[axis] + at.reach[axis]
            total = full - int(wanted[axis])
        more.append(max(-total, 0))
        total = max(total, 0)
        half = total // 2
        found.append((half, total - half) if word == "SAME_UPPER" else (total - half, half))
    return tuple(found), tuple(more)


@op("DeformConv")
def deform_conv_(c: Context) -> Tensor:
    """Deformable convolution."""
    x, w = c.tensor(0), c.tensor(1)
    at = windows_of(c, x, kernel_of(c, w))
    return deform_conv(
        x,
        w,
        c.tensor(2),
        at.stride,
        at.padding,
        at.dilation,
        c.attribute("group"),
        mask=c.optional(4),
        offset_groups=c.attribute("offset_group"),
        bias=c.optional(3),
    )
