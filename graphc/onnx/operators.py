"""The modules whose handlers are registered (floor 8): importing this one loads all of them."""

from __future__ import annotations

from graphc.onnx import (
    network_operators,
    ops_control,
    ops_indexing,
    ops_linear,
    ops_math,
    ops_ml,
    ops_reduction,
    ops_sequence,
    ops_shape,
)

THEMES = (
    ops_control,
    ops_indexing,
    ops_linear,
    ops_math,
    ops_ml,
    ops_reduction,
    ops_sequence,
    ops_shape,
    *network_operators.THEMES,
)
