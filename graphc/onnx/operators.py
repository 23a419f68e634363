"""The modules whose handlers are registered (floor 8): importing this one loads all of them."""

from __future__ import annotations

from types import ModuleType

from graphc.onnx import (
    network_operators,
    ops_control,
    ops_creation,
    ops_indexing,
    ops_linear,
    ops_math,
    ops_ml,
    ops_reduction,
    ops_sequence,
    ops_shape,
)

THEMES: tuple[ModuleType, ...] = (
    ops_control,
    ops_creation,
    ops_indexing,
    ops_linear,
    ops_math,
    ops_ml,
    ops_reduction,
    ops_sequence,
    ops_shape,
    *network_operators.THEMES,
)
