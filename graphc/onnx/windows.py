"""Strides, dilations and paddings of convolutions and pools (floor 8), as ONNX writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.base.dims import Shape, Size
from graphc.ir.node import Tensor
from graphc.nn.convolution import same_padding
from graphc.onnx.context import Context

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """Per spatial axis: elements of a window, steps between windows and within one, padding."""

    size: Ints
    stride: Ints
    dilation: Ints
    padding: tuple[tuple[Size, Size], ...]

    @property
    def reach(self) -> Ints:
        """How many elements a window spans."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilation, strict=True))


def per_axis(c: Context, name: str, rank: int, default: int) -> Ints:
    """An attribute with one int per spatial axis. Raises FormatError."""
    found = c.attribute(name)
    if found is None:
        return (default,) * rank
    if len(found) != rank:
        c.bad(f"attribute {name} has {len(found)} values, expected {rank}: one per spatial axis")
    if any(v < 1 for v in found):
        c.bad(f"attribute {name} is {list(found)}, expected values of at least 1")
    return tuple(found)


def pads_of(c: Context, rank: int) -> tuple[tuple[int, int], ...]:
    """The attribute `pads` as (low, high) per spatial axis. Raises FormatError."""
    found = c.attribute("pads") or [0] * (2 * rank)
    if len(found) != 2 * rank:
        c.bad(f"attribute pads has {len(found)} values, expected {2 * rank}: two per spatial axis")
    if any(v < 0 for v in found):
        c.bad(f"attribute pads is {list(found)}, expected no negative ones")
    return tuple(zip(found[:rank], found[rank:], strict=True))


def windows_of(c: Context, x: Tensor, size: Sequence[Size], *, transposed: bool = False) -> Windows:
    """The settings of a node over x [N, C, *S] for windows of `size`. Raises FormatError.

    transposed: padding by a word (auto_pad) is left at 0.
    """
    rank = x.ndim - 2
    if rank < 1 or len(size) != rank:
        c.bad(f"operand 0 has {x.ndim} dims, expected {len(size) + 2}")
    known = tuple(k for k in size if isinstance(k, int))
    if len(known) != rank:
        c.refuse("the size of the kernel is symbolic", "export the model with known weights")
    if any(k < 1 for k in known):
        c.bad(f"a window has the sizes {list(known)}, expected at least 1")
    stride = per_axis(c, "strides", rank, 1)
    dilation = per_axis(c, "dilations", rank, 1)
    windows = Windows(known, stride, dilation, pads_of(c, rank))
    word = c.attribute("auto_pad", "NOTSET")
    if word == "NOTSET":
        return windows
    if word not in ("VALID", "SAME_UPPER", "SAME_LOWER"):
        c.bad(f"attribute auto_pad is {word!r:.40}, which is unknown")
    if word == "VALID" or transposed:
        return Windows(known, stride, dilation, ((0, 0),) * rank)
    pairs = []
    for n, r, s in zip(x.shape[2:], windows.reach, stride, strict=True):
        low, high = same_padding(c.op, x, n, r, s)
        pairs.append((low, high) if word == "SAME_UPPER" else (high, low))
    return Windows(known, stride, dilation, tuple(pairs))


def kernel_of(c: Context, w: Tensor) -> Shape:
    """The spatial sizes of a kernel, which the attribute kernel_shape may repeat."""
    given = c.attribute("kernel_shape")
    if given is not None and tuple(given) != w.shape[2:]:
        c.bad(f"attribute kernel_shape is {list(given)}, and the kernel has {list(w.shape[2:])}")
    return w.shape[2:]
