"""Sums of sizes are the same expressions in whatever order they are added."""

from __future__ import annotations

import itertools

from graphc.base.dims import Dim, Size
from graphc.lower.buffer_plan import slot_offsets

n, m = Dim("n"), Dim("m", multiple_of=4)
PARTS: list[Size] = [n * 32, (n * 4 + 63) // 64 * 64, m // 4, 3, m * n, n * -32, m // 4 * 3]
SIZES = {"n": 7, "m": 12}


def _value(size: Size) -> int:
    return size.evaluate(SIZES) if isinstance(size, Dim) else size


def test_every_order_gives_one_expression() -> None:
    found = set()
    for order in itertools.permutations(PARTS):
        total: Size = 0
        for part in order:
            total = total + part
        found.add((total, str(total)))
    assert len(found) == 1, found
    ((total, _),) = found
    assert _value(total) == sum(map(_value, PARTS))


def test_slots_lie_one_after_another_in_whole_lines() -> None:
    slots = (n * 4, 100, n * 4, n * m * 8, 0, 64, n * 4)
    starts, end = slot_offsets(slots)
    at = 0
    for slot, start in zip(slots, starts, strict=True):
        assert _value(start) == at
        at += -(-_value(slot) // 64) * 64
    assert _value(end) == at
