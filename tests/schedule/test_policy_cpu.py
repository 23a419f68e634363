"""Sizes of register tiles: what they waste, and where they may have more lanes than columns."""

from __future__ import annotations

import dataclasses

import pytest

from graphc.backend import llvm_cpu
from graphc.base.dtypes import float32
from graphc.schedule.policy_cpu import MOST_ROWS, contraction_tile, writes_out_summed

HOST = dataclasses.replace(llvm_cpu.host_target(), registers=32, register_bytes=64)


@pytest.mark.parametrize("rows", range(9, 70))
@pytest.mark.parametrize("columns", [12, 28, 64])
def test_few_rows_are_left_over(rows: int, columns: int) -> None:
    tile = contraction_tile(HOST, float32, rows, columns, 500)
    assert tile.rows <= MOST_ROWS
    assert tile.rows * tile.vectors <= 24, "accumulators and operands have registers"
    assert rows % tile.rows <= max(3, rows // tile.rows), "each row left over waits for itself"


@pytest.mark.parametrize(("columns", "width"), [(5, 8), (7, 8), (9, 16), (12, 16), (14, 16)])
def test_masked_lanes_where_the_machine_has_them(columns: int, width: int) -> None:
    assert contraction_tile(HOST, float32, 8, columns, 500).width == width
    small = dataclasses.replace(HOST, register_bytes=16)
    assert contraction_tile(small, float32, 8, columns, 500).width <= columns


@pytest.mark.parametrize(("summed", "rows"), [(5, 1), (10, 2), (16, 4), (17, 8), (100, 8)])
def test_short_sums_have_low_tiles(summed: int, rows: int) -> None:
    assert contraction_tile(HOST, float32, 1000, 10, summed).rows == rows


def test_few_summed_elements_are_written_out() -> None:
    assert writes_out_summed(5, 2)
    assert writes_out_summed(8, 4)
    assert not writes_out_summed(8, 8), "too much code"
    assert not writes_out_summed(9, 1)
