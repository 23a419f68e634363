"""Moving elements between channels and space (floor 8): reshapes and transposes alone."""

from __future__ import annotations

from graphc.base.dims import Size
from graphc.ir.node import Tensor
from graphc.ir.opdef import shape_error
from graphc.ops.axes import same_size
from graphc.ops.promotion import TensorLike, as_tensor
from graphc.ops.reshape import to_shape
from graphc.ops.view import permuted

ORDERS = ("depth_first", "channel_first")


def _image(op: str, x: TensorLike, block: int, order: str = "depth_first") -> Tensor:
    first = as_tensor(x, op=op)
    if first.ndim < 3 or block < 1:
        shape_error(
            f"{op}: needs x [N, C, *S] and a block of at least 1, got {first.type} and {block}",
            [first],
            "use x[None] where there is no batch",
        )
    if order not in ORDERS:
        shape_error(
            f"{op}: unknown order {order!r:.40}", [first], f"use one of {', '.join(ORDERS)}"
        )
    return first


def _divided(op: str, what: str, size: Size, by: int, x: Tensor) -> Size:
    if not same_size(size // by * by, size):
        shape_error(
            f"{op}: {what} {size} is not surely a multiple of {by}",
            [x],
            f"declare a symbolic dim with multiple_of={by}",
        )
    return size // by


def depth_to_space(x: TensorLike, block: int, *, order: str = "depth_first") -> Tensor:
    """Channels as blocks of space: [N, C * block**D, *S] -> [N, C, *(S * block)], D = len(S).

    order: "depth_first": the place within a block is the slower part of the channel;
    "channel_first": the faster one, as in `pixel_shuffle`. Raises ShapeError unless the channels
    are a multiple of block**D.
    """
    op = "depth_to_space"
    first = _image(op, x, block, order)
    rank = first.ndim - 2
    n, channels, *sizes = first.shape
    own = _divided(op, "the number of channels", channels, block**rank, first)
    inner = (block,) * rank
    if order == "depth_first":
        apart = to_shape(first, (n, *inner, own, *sizes))
        channel, within = 1 + rank, range(1, 1 + rank)
    else:
        apart = to_shape(first, (n, own, *inner, *sizes))
        channel, within = 1, range(2, 2 + rank)
    pairs = [p for i, w in enumerate(within) for p in (2 + rank + i, w)]
    return to_shape(permuted(apart, (0, channel, *pairs)), (n, own, *(s * block for s in sizes)))


def space_to_depth(x: TensorLike, block: int, *, order: str = "depth_first") -> Tensor:
    """Blocks of space as channels, the inverse of `depth_to_space`: [N, C, *S] -> [N, C * block**D,
    *(S / block)].

    Raises ShapeError unless the sizes are multiples of block.
    """
    op = "space_to_depth"
    first = _image(op, x, block, order)
    rank = first.ndim - 2
    n, channels, *sizes = first.shape
    counts = [_divided(op, f"spatial axis {i}", s, block, first) for i, s in enumerate(sizes)]
    apart = to_shape(first, (n, channels, *(p for c in counts for p in (c, block))))
    blocks = tuple(range(2, 2 + 2 * rank, 2))
    within = tuple(range(3, 3 + 2 * rank, 2))
    moved = (*within, 1) if order == "depth_first" else (1, *within)
    return to_shape(permuted(apart, (0, *moved, *blocks)), (n, channels * block**rank, *counts))


def pixel_shuffle(x: TensorLike, factor: int) -> Tensor:
    """[N, C * factor**D, *S] -> [N, C, *(S * factor)]: sub-pixel convolution (Shi et al., 2016)."""
    return depth_to_space(x, factor, order="channel_first")


def pixel_unshuffle(x: TensorLike, factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`: [N, C, *S] -> [N, C * factor**D, *(S / factor)]."""
    return space_to_depth(x, factor, order="channel_first")


def channel_shuffle(x: TensorLike, groups: int) -> Tensor:
    """The channels of `groups` groups interleaved (ShuffleNet): [N, C, *S] -> [N, C, *S].

    Raises ShapeError unless the channels are a multiple of groups.
    """
    first = _image("channel_shuffle", x, groups)
    n, channels, *sizes = first.shape
    own = _divided("channel_shuffle", "the number of channels", channels, groups, first)
    apart = to_shape(first, (n, groups, own, *sizes))
    return to_shape(permuted(apart, (0, 2, 1, *range(3, apart.ndim))), first.shape)
