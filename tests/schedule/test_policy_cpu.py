"""Sizes of register tiles: what they waste, and where they may have more lanes than columns."""

from __future__ import annotations

import dataclasses

import pytest

from graphc.backend import llvm_cpu
from graphc.base.dtypes import float32
from graphc.schedule.policy_cpu import MOST_ROWS, contraction_tile

HOST = dataclasses.replace(llvm_cpu.host_target(), registers=32, register_bytes=64)


@pytest.mark.parametrize("rows", range(9, 70))
@pytest.mark.parametrize("columns", [12, 28, 64])
def test_few_rows_are_left_over(rows: int, columns: int) -> None:
    tile = contraction_tile(HOST, float32, rows, columns, 500)
    assert tile.rows <= MOST_ROWS
    assert tile.rows * tile.vectors <= 24, "accumulators and operands have registers"
    assert rows % tile.rows <= max(3, rows // tile.rows), "each row left over waits for itself"


@pytest.mark.parametrize(("columns", "width"), [(5, 4), (6, 8), (7, 8), (9, 8), (12, 16), (14, 16)])
def test_masked_lanes_where_the_machine_has_them(columns: int, width: int) -> None:
    assert contraction_tile(HOST, float32, 8, columns, 500).width == width
    small = dataclasses.replace(HOST, register_bytes=16)
    assert contraction_tile(small, float32, 8, columns, 500).width <= columns
