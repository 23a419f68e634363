"""The modules of the operators of neural networks, images and signals (floor 8)."""

from __future__ import annotations

from types import ModuleType

from graphc.onnx import (
    ops_activation,
    ops_attention,
    ops_conv,
    ops_image,
    ops_loss,
    ops_norm,
    ops_pool,
    ops_quantized,
    ops_recurrent,
    ops_signal,
    pictures,
)

THEMES: tuple[ModuleType, ...] = (
    ops_activation,
    ops_attention,
    ops_conv,
    ops_image,
    ops_loss,
    ops_norm,
    ops_pool,
    ops_quantized,
    ops_recurrent,
    ops_signal,
    pictures,
)
