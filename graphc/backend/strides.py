"""Which lanes of a vector every s-th element of memory is (floor 6), as text of LLVM constants."""

from __future__ import annotations

from collections.abc import Sequence


def gathered(width: int, starts: Sequence[int], stride: int, k: int) -> str:
    """The shuffle that joins what vectors 0 … k - 1 hold of the elements 0, stride, 2 * stride, …
    with vector k, which begins at element starts[k].
    """
    lanes = []
    for lane in range(width):
        inside = stride * lane - starts[k]
        if k == 1 and stride * lane < width:
            lanes.append(stride * lane)
        else:
            lanes.append(width + inside if 0 <= inside < width else lane)
    return _order(lanes)


def scattered(width: int, stride: int, k: int) -> tuple[str, str]:
    """(shuffle, mask) of the k-th vector of memory, of which every stride-th element is a lane."""
    places = range(k * width, (k + 1) * width)
    bits = ", ".join("i1 true" if place % stride == 0 else "i1 false" for place in places)
    return _order([place // stride for place in places]), f"<{bits}>"


def _order(lanes: Sequence[int]) -> str:
    return f"<{len(lanes)} x i32> <{', '.join(f'i32 {lane}' for lane in lanes)}>"
