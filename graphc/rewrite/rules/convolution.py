"""Convolutions by fewer multiplications (floor 3): products of 3 x 3 windows and constant weights
become `winograd_convolution`, where their sizes say that it is faster.

Which convolutions these are, and all roundings within, depend on sizes alone, never on the machine.
The roundings are others than those of the sum of products, so the rule is ROUNDING. Its bound goes
by the norm of a window: with k = 9 * channels, a result differs by at most

    ULPS * eps * k * max|d| * sum|g|

over the elements d of the 4 x 4 tiles that it lies in, of all channels, and the weights g of its
own result. Infinities and NaN are the same (`ops/winograd`).
"""

from __future__ import annotations

from graphc.base.dims import Size
from graphc.base.dtypes import float32
from graphc.ir.node import Tensor
from graphc.ops.contraction import tidy
from graphc.ops.families import Constant
from graphc.ops.winograd import ACROSS, PANEL, SPEC, by_winograd, chain_of, panel_of
from graphc.rewrite.pattern import ROUNDING, node_rule, rules_of

ULPS = 1.0
# Channels, results, tiles, products of all three, and of channels and tiles, from which it is
# faster; the products of all three where vectors run across results (measured).
CHANNELS, RESULTS, TILES, WORK, ELEMENTS, FEW = 16, 32, 48, 200_000, 3000, 50_000


@node_rule("einsum", cls=ROUNDING, ulps=ULPS, accepts=lambda _, below: "windows" in below)
def winograd(node: Tensor) -> Tensor | None:
    """einsum(windows(x), w) = winograd_convolution(windows(x), w, G w G'), w known, 3 x 3"""
    v, w = node.inputs
    if node.dtype is not float32 or tidy(node.attr("spec")) != SPEC:
        return None
    if v.op.name != "windows" or not isinstance(w.op.form, Constant):
        return None
    if v.attr("axes") != (2, 3) or v.attr("size") != (3, 3):
        return None
    if v.attr("stride") != (1, 1) or v.attr("dilation") != (1, 1):
        return None
    return by_winograd(node) if pays(w.shape[1], w.shape[0], node.shape[2], node.shape[3]) else None


def pays(channels: Size, results: Size, height: Size, width: Size) -> bool:
    """Whether a convolution with these sizes is faster in this form, whatever the batch."""
    assert isinstance(channels, int), "weights are known"
    assert isinstance(results, int), "weights are known"
    if not isinstance(height, int) or not isinstance(width, int):
        return False
    if channels < CHANNELS or results < RESULTS or results % PANEL or chain_of(channels) is None:
        return False
    tiles = -(-height // 2) * -(-width // 2)
    elements = tiles * channels
    if panel_of(results, height, width) == ACROSS:
        return tiles >= TILES and elements * results >= FEW
    return tiles >= TILES and elements >= ELEMENTS and elements * results >= WORK


RULES = rules_of(globals())
