"""Convolutions by fewer multiplications (floor 2): an internal op that the compiler makes of a
convolution of 3 x 3 windows by constant weights.

S. Winograd's F(2 x 2, 3 x 3), in the form of A. Lavin and S. Gray, "Fast algorithms for
convolutional neural networks" (2016): a tile d of 4 x 4 elements and a window g give 2 x 2 results

    y = A' ((G g G') * (B' d B)) A

with 16 multiplications instead of 36, and channels are summed before A. An element of the image is
in those products only that results of its own windows use, so an infinity or a NaN spoils no other
result; a result that is not finite is the sum of products itself. The sum over channels is added up
in blocks of `CHAIN` at most: the rounding errors are those of the plain sum then.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dims import Size
from graphc.base.dtypes import Array, DType, float32
from graphc.ir.constant import arrange, constant_value
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, shape_error
from graphc.ops.contraction import EINSUM, tidy
from graphc.ops.families import Contraction
from graphc.ops.reduction import accurate
from graphc.ops.sampling import draw
from graphc.ops.state import constant_node

PANEL = 8  # results that lie side by side in the transformed weights, where tiles fill vectors
ACROSS = 32  # the same where they do not: vectors run across results then
CHAIN, SHORTEST = 64, 16  # channels of a block: at most, and at least where there are several
SPEC = "abcdef,gbef->agcd"  # windows [n, c, h, w, 3, 3] by weights [m, c, 3, 3]


def chain_of(channels: int) -> int | None:
    """The channels of a block, blocks being equal; None where no such number divides them."""
    for blocks in range(-(-channels // CHAIN), max(1, channels // SHORTEST) + 1):
        if channels % blocks == 0:
            return channels // blocks
    return None


def panel_of(results: int, height: Size, width: Size) -> int:
    """The results of a panel of weights: PANEL, or ACROSS for images whose few tiles would leave a
    fifth of the vectors' elements empty, and of which a row of tiles fills the registers; one panel
    alone would be too little to do for several threads.
    """
    if results < 2 * ACROSS or results % ACROSS:
        return PANEL
    if not isinstance(height, int) or not isinstance(width, int):
        return PANEL
    rows, columns = (height + 1) // 2, (width + 1) // 2
    tiles = rows * columns
    vectors = -(-tiles // 16)
    return ACROSS if 6 <= columns <= 14 and 5 * tiles <= 4 * 16 * vectors else PANEL


def transformed(w: Tensor, panel: int = PANEL) -> Tensor:
    """The constant G g G' of constant weights [m, c, 3, 3], as kernels read it: [blocks of
    channels, 16, panels of results, channels of a block, results of a panel]; zeros fill the last
    panel.
    """
    m, c = (int(s) for s in w.shape[:2])
    chain = chain_of(c)
    assert chain is not None, "asked before"
    panels = -(-m // panel)
    steps: list[tuple[str, tuple[int, ...]]] = [("winograd", ())]
    if panels * panel != m:
        steps.append(("pad", (panels * panel - m, 0, 0)))
    steps.append(("reshape", (panels, panel, c // chain, chain, 16)))
    steps.append(("permute", (2, 4, 0, 3, 1)))
    return constant_node(arrange(w.attr("value"), tuple(steps)))


def _type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    v, w, u = inputs
    found = EINSUM.infer((v, w), attrs)
    assert isinstance(found, TensorType)
    assert isinstance(v, Tensor)
    assert isinstance(w, Tensor)
    assert isinstance(u, Tensor)
    if tidy(attrs[0]) != SPEC or w.shape[2:] != (3, 3) or u.ndim != 5:
        shape_error(f"winograd_convolution: needs {SPEC} with windows of 3 x 3", inputs)
    blocks, places, panels, chain, panel = u.shape
    whole = (blocks * chain, places) == (w.shape[1], 16) and panel in (PANEL, ACROSS)
    if not whole or panels != (w.shape[0] + (panel - 1)) // panel or u.dtype is not w.dtype:
        shape_error(f"winograd_convolution: {u.type} are not the weights {w.type}", inputs)
    return found


# -- reference ------------------------------------------------------------------------------------


def _tiles(v: Array) -> Array:
    """The tiles [n, c, rows, columns, 4, 4] of windows [n, c, h, w, 3, 3]; zeros fill those that
    are cut off.
    """
    odd = [(0, 0), (0, 0), *((0, s % 2) for s in v.shape[2:4]), (0, 0), (0, 0)]
    v = np.pad(v, odd)
    d = np.empty((*v.shape[:2], v.shape[2] // 2, v.shape[3] // 2, 4, 4), v.dtype)
    d[..., :3, :3] = v[:, :, ::2, ::2]
    d[..., :3, 3] = v[:, :, ::2, 1::2, :, 2]
    d[..., 3, :3] = v[:, :, 1::2, ::2, 2]
    d[..., 3, 3] = v[:, :, 1::2, 1::2, 2, 2]
    return d


def _differences(d: Array) -> Array:
    """B' d B along the last two axes."""
    for _ in (0, 1):
        a, b, c, e = (d[..., k] for k in range(4))
        d = np.stack((a - c, b + c, c - b, b - e), -2)
    return d


def _sums(m: Array) -> Array:
    """A' m A along the last two axes."""
    for _ in (0, 1):
        a, b, c, e = (m[..., k] for k in range(4))
        m = np.stack((a + b + c, b - c - e), -2)
    return m


def _reference(v: Array, w: Array, u: Array, spec: str) -> Array:
    assert EINSUM.reference is not None
    direct: Array = EINSUM.reference(v, w, spec)
    rows, columns = v.shape[2:4]
    d = _differences(_tiles(accurate(v)))
    weights = accurate(u).transpose(1, 2, 4, 0, 3).reshape(4, 4, -1, w.shape[1])[:, :, : len(w)]
    m = np.einsum("nctuij,ijkc->nktuij", d, weights, optimize=True)
    y = _sums(m).transpose(0, 1, 2, 4, 3, 5)
    y = y.reshape(*y.shape[:2], 2 * y.shape[2], 2 * y.shape[4])[:, :, :rows, :columns]
    return np.where(np.isfinite(y), y, direct)


_CASES: tuple[tuple[tuple[int, ...], int], ...] = (
    ((1, 1, 3, 3), 1),
    ((2, 3, 6, 5), 4),
    ((1, 16, 5, 9), 9),
    ((0, 2, 4, 4), 3),
)


def _samples(dtype: DType) -> list[Sample]:
    found = []
    for shape, m in _CASES:
        # Whole quarters: transformed, they are not rounded.
        x, w = draw(shape, dtype, 0), np.round(4 * draw((m, shape[1], 3, 3), dtype, 1)) / 4
        v = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
        u = transformed(constant_node(constant_value(w, dtype))).attr("value").values
        found.append(Sample((v, w, u), {"spec": SPEC}))
    return found


WINOGRAD = REGISTRY.add(
    OpDef(
        "winograd_convolution",
        ("spec",),
        _type,
        _reference,
        None,
        Contraction(),
        doc="The sum of products of 3 x 3 windows and weights, by Winograd's F(2 x 2, 3 x 3): "
        "windows, weights, transformed weights.",
        traits=frozenset({"internal"}),
        samples=_samples,
        dtypes=(float32,),
        not_differentiable="it is made after differentiation",
    )
)


def by_winograd(node: Tensor) -> Tensor:
    """A contraction of windows by constant weights, as this op."""
    v, w = node.inputs
    panel = panel_of(int(w.shape[0]), *node.shape[2:])
    return WINOGRAD(v, w, transformed(w, panel), spec=node.attr("spec"))
