"""Convolutions for users (floor 8): conv and conv_transpose, any spatial rank, in either layout.

Both are the op `conv`; what is done here is to read strides, padding words and layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.base.dims import Dim, Size
from graphc.base.errors import UnsupportedError
from graphc.ir.node import Tensor, as_index
from graphc.ir.opdef import fail, shape_error
from graphc.ops import elementwise
from graphc.ops.axes import as_size, per_axis, same_size
from graphc.ops.convolution import CONV, transposed_kernel
from graphc.ops.promotion import TensorLike, as_tensor, cast, promoted
from graphc.ops.reshape import to_shape
from graphc.ops.view import permuted

Pairs = list[tuple[Size, Size]]
LAYOUTS = ("channels_first", "channels_last")


def channels_first(op: str, x: Tensor, layout: str) -> Tensor:
    """x with its channels at dim 1. Raises ShapeError for an unknown layout."""
    if layout not in LAYOUTS:
        shape_error(f"{op}: unknown layout {layout!r}", [x], f"use one of {', '.join(LAYOUTS)}")
    if layout == "channels_first":
        return x
    return permuted(x, (0, x.ndim - 1, *range(1, x.ndim - 1)))


def in_layout(x: Tensor, layout: str) -> Tensor:
    """x, which has its channels at dim 1, in a layout."""
    return x if layout == "channels_first" else permuted(x, (0, *range(2, x.ndim), 1))


def same_padding(op: str, x: Tensor, size: Size, reach: int, stride: int) -> tuple[int, int]:
    """Padding with which there are ceil(size / stride) windows of `reach` elements; the odd one
    goes high.
    """
    if not isinstance(size, Dim):
        count = -(-size // stride)
        total = max((count - 1) * stride + reach - size, 0)
    elif same_size(size // stride * stride, size):
        total = max(reach - stride, 0)
    else:
        fail(
            UnsupportedError,
            f'{op}: padding "same" with stride {stride} depends on the symbolic size {size}',
            [x],
            f"declare the dim with multiple_of={stride}, or give the padding as ints",
        )
    return total // 2, total - total // 2


def spatial_padding(
    op: str, padding: Any, x: Tensor, reach: Sequence[int], stride: Sequence[int]
) -> Pairs:
    """One (low, high) per spatial axis of x, from an int, a word, ints or pairs."""
    rank = x.ndim - 2
    if isinstance(padding, str):
        word = padding.lower()
        if word == "valid":
            return [(0, 0)] * rank
        if word == "same":
            sizes = x.shape[2:]
            return [
                same_padding(op, x, n, r, s) for n, r, s in zip(sizes, reach, stride, strict=True)
            ]
        shape_error(
            f"{op}: unknown padding {padding!r}",
            [x],
            'padding is "same", "valid", an int, or one int or (low, high) pair per spatial axis',
        )
    if as_index(padding) is not None or isinstance(padding, Dim):
        size = as_size(op, padding, [x])
        return [(size, size)] * rank
    if not isinstance(padding, Sequence) or len(padding) != rank:
        shape_error(
            f"{op}: padding needs one int or (low, high) pair per spatial axis ({rank}), got "
            f"{padding!r:.60}",
            [x],
            "padding=1 pads every side by 1, padding=((1, 2), (0, 0)) each side by its own",
        )
    pairs: Pairs = []
    for entry in padding:
        ends = entry if isinstance(entry, Sequence) else (entry, entry)
        if len(ends) != 2:
            shape_error(
                f"{op}: a pair of paddings is (low, high), got {entry!r:.40}",
                [x],
                "write padding=((1, 2), (0, 0)) for two spatial axes",
            )
        pairs.append((as_size(op, ends[0], [x]), as_size(op, ends[1], [x])))
    return pairs


def positive(op: str, what: str, value: Any, rank: int, x: Tensor) -> tuple[int, ...]:
    """One int of at least 1 per spatial axis. Raises ShapeError."""
    found = per_axis(op, what, value, rank, [x])
    if any(v < 1 for v in found):
        shape_error(
            f"{op}: {what} must be positive, got {value!r:.40}", [x], f"{what} is 1 or more"
        )
    return found


def _operands(op: str, x: Any, w: Any, layout: str) -> tuple[Tensor, Tensor]:
    a, b = promoted(op, x, w)
    if a.ndim != b.ndim or a.ndim < 3:
        hint = "x is [batch, channels, *spatial], w is [out, in / groups, *kernel]"
        if a.ndim + 1 == b.ndim:
            hint = "x has no batch: use x[None]"
        shape_error(
            f"{op}: x and w need as many dims (at least 3), got {a.ndim} and {b.ndim}", [a, b], hint
        )
    for i, k in enumerate(b.shape[2:]):
        if isinstance(k, Dim):
            shape_error(
                f"{op}: the kernel size {k} of spatial axis {i} must be known",
                [a, b],
                "declare w with ints for its spatial axes",
            )
    return channels_first(op, a, layout), b


def with_bias(op: str, out: Tensor, bias: Any) -> Tensor:
    """out [N, O, *P] plus a bias [O], or out itself for None. Raises ShapeError."""
    if bias is None:
        return out
    tensor = cast(as_tensor(bias, like=out, op=op), out.dtype)
    if tensor.shape != (out.shape[1],):
        shape_error(
            f"{op}: bias must have shape [{out.shape[1]}], got {tensor.type}",
            [out, tensor],
            "there is one bias per channel of the result",
        )
    return elementwise.add(out, to_shape(tensor, (out.shape[1], *(1,) * (out.ndim - 2))))


def channels_fit(op: str, channels: Size, w: Tensor, groups: int, x: Tensor) -> None:
    """Raise ShapeError unless the kernel w [O, C / groups, *K] fits x of that many channels."""
    if groups < 1 or w.shape[0] % groups != 0 or w.shape[1] * groups != channels:
        fitting = f"[out, {channels}{f' / {groups}' if groups != 1 else ''}, *kernel]"
        hint = "groups must divide the channels of x and of the result; w has in / groups channels"
        if groups == 1:
            hint = f"w.shape[1] must be the channels of x: {w.shape[1]} there, {channels} in x"
        if w.shape[1] * groups == x.shape[-1]:
            hint = 'is x in layout="channels_last"? Channels come first by default'
        shape_error(
            f"{op}: {channels} channels in {groups} groups do not fit the kernel {w.type}, which "
            f"needs {fitting}",
            [x, w],
            hint,
        )


def conv(
    x: TensorLike,
    w: TensorLike,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    bias: TensorLike | None = None,
    layout: str = "channels_first",
) -> Tensor:
    """The convolution (cross-correlation) of any spatial rank: x [N, C, *S], w [O, C / groups, *K]
    -> [N, O, *P].

    P = (S + low + high - dilation * (K - 1) - 1) // stride + 1 per axis. padding: an int, one int
    or (low, high) pair per axis, "valid" (0), or "same" (P = ceil(S / stride)). groups: channels
    and results in that many independent groups. layout="channels_last": x and the result are [N,
    *S, C]; w stays as it is. bias: [O]. Raises ShapeError where sizes do not fit.

        y = graphc.nn.conv(images, w, stride=2, padding=1)
    """
    first, kernel = _operands("conv", x, w, layout)
    rank = first.ndim - 2
    steps = positive("conv", "stride", stride, rank, first)
    gaps = positive("conv", "dilation", dilation, rank, first)
    channels_fit("conv", first.shape[1], kernel, groups, first)
    reach = [(int_size(k) - 1) * d + 1 for k, d in zip(kernel.shape[2:], gaps, strict=True)]
    pairs = spatial_padding("conv", padding, first, reach, steps)
    out = CONV(
        first,
        kernel,
        stride=steps,
        low=tuple(a for a, _ in pairs),
        high=tuple(b for _, b in pairs),
        dilation=gaps,
        input_dilation=(1,) * rank,
        groups=groups,
    )
    return in_layout(with_bias("conv", out, bias), layout)


def int_size(size: Size) -> int:
    """A size that has been checked to be known."""
    assert isinstance(size, int)
    return size


def _transposed_padding(
    op: str,
    padding: Any,
    extra: tuple[int, ...],
    x: Tensor,
    reach: Sequence[int],
    stride: Sequence[int],
) -> tuple[Pairs, tuple[int, ...]]:
    if isinstance(padding, str) and padding.lower() == "same":
        # As many results as size * stride.
        totals = [max(r - s, 0) for r, s in zip(reach, stride, strict=True)]
        more = tuple(max(s - r, 0) for r, s in zip(reach, stride, strict=True))
        return [(t // 2, t - t // 2) for t in totals], more
    return spatial_padding(op, padding, x, reach, stride), extra


def conv_transpose(
    x: TensorLike,
    w: TensorLike,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    output_padding: int | Sequence[int] = 0,
    bias: TensorLike | None = None,
    layout: str = "channels_first",
) -> Tensor:
    """The transpose of `conv` (its gradient of x): x [N, C, *S], w [C, O / groups, *K] -> [N, O,
    *P].

    P = (S - 1) * stride - low - high + dilation * (K - 1) + 1 + output_padding per axis. padding as
    in `conv`; "same" gives P = S * stride. Raises ShapeError where sizes do not fit, and unless
    output_padding < stride or dilation.
    """
    op = "conv_transpose"
    first, kernel = _operands(op, x, w, layout)
    rank = first.ndim - 2
    steps = positive(op, "stride", stride, rank, first)
    gaps = positive(op, "dilation", dilation, rank, first)
    extra = per_axis(op, "output_padding", output_padding, rank, [first])
    for e, s, d in zip(extra, steps, gaps, strict=True):
        if not 0 <= e < max(s, d):
            shape_error(
                f"{op}: output_padding must be below stride or dilation, got {e}",
                [first, kernel],
                f"from 0 to {max(s, d) - 1} here",
            )
    if groups < 1 or kernel.shape[0] != first.shape[1] or first.shape[1] % groups != 0:
        shape_error(
            f"{op}: {first.shape[1]} channels in {groups} groups do not fit the kernel "
            f"{kernel.type}, which needs [{first.shape[1]}, out / groups, *kernel]",
            [first, kernel],
            "groups must divide the channels of x, which are the first dim of w",
        )
    reach = [(int_size(k) - 1) * d + 1 for k, d in zip(kernel.shape[2:], gaps, strict=True)]
    pairs, extra = _transposed_padding(op, padding, extra, first, reach, steps)
    out = CONV(
        first,
        transposed_kernel(kernel, groups),
        stride=(1,) * rank,
        low=tuple(r - 1 - a for r, (a, _) in zip(reach, pairs, strict=True)),
        high=tuple(r - 1 - b + e for r, (_, b), e in zip(reach, pairs, extra, strict=True)),
        dilation=gaps,
        input_dilation=steps,
        groups=groups,
    )
    return in_layout(with_bias(op, out, bias), layout)
