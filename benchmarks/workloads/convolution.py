"""Single convolutions of images (channels first), batch 1, with constant kernels."""

from __future__ import annotations

from benchmarks.workloads.workload import Data, Workload, kernel, normal


def conv(
    channels: int, outputs: int, size: int, window: int, batch: int = 1, stride: int = 1
) -> Workload:
    """window×window, `channels` to `outputs`, on a size×size image, padded to keep the size."""
    side = -(-size // stride)
    step = f" stride {stride}" if stride > 1 else ""
    several = f" batch {batch}" if batch > 1 else ""
    return Workload(
        f"conv {window}×{window} {channels}→{outputs} {size}²{step}{several}",
        "convolution",
        lambda: Data(
            (normal(batch, channels, size, size),),
            {"w": kernel(outputs, channels, window, window)},
        ),
        lambda ns, x, w: ns.conv(ns.image(x[0]), w["w"], stride=stride, padding=window // 2),
        flops=2.0 * batch * outputs * channels * window * window * side * side,
        moved=4.0
        * (
            batch * (channels * size * size + outputs * side * side)
            + channels * outputs * window * window
        ),
    )


def workloads(*, tiny: bool = False) -> list[Workload]:
    """The rows of the table, or the same at sizes that a test can afford."""
    if tiny:
        return [conv(3, 5, 9, 3), conv(4, 6, 7, 1), conv(3, 4, 8, 3, batch=2, stride=2)]
    return [conv(64, 64, 56, 3), conv(256, 256, 14, 3), conv(256, 64, 56, 1)]
