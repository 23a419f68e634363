"""Loops cut at borders: text before and after, equal results, what is left whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array
from graphc.base.errors import CompileError
from graphc.loops.interpret import interpret
from graphc.loops.nodes import For, Kernel, const
from graphc.loops.parse import parse_kernel
from graphc.loops.text import kernel_text
from graphc.loops.verify import verify
from graphc.loops.walk import statements
from graphc.schedule.cuts import cut, cut_at_borders


@pytest.fixture(scope="module")
def session() -> Iterator[graphc.Session]:
    with graphc.Session(threads=2) as session:
        yield session


def interpreted(kernel: Kernel) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    arrays = {b.name: rng.standard_normal(b.shape).astype(b.dtype.numpy) for b in kernel.params}
    assert interpret(kernel, arrays, {}) == 0
    return {b.name: arrays[b.name] for b in kernel.outputs}


def loop(condition: str, value: str = "%a[i, j]", columns: int = 130, width: int = 8) -> str:
    return f"""\
kernel part(in %a: f32[7, 200], out %o: f32[7, {columns}]) {{
  for i in 7 parallel {{
    for j in {columns} vector({width}, 1) {{
      %o[i, j] = select({condition}, {value}, 0.0:f32)
    }}
  }}
}}
"""


PADDED = """\
kernel padded(in %a: f32[5, 100], out %o: f32[5, 103]) {
  for i in 5 parallel {
    for j in 103 vector(8, 1) {
      %o[i, j] = %a[i, j + -1 ? j + -1 >= 0 & j + -1 < 100 : 0.0:f32]
    }
  }
}
"""


def test_text() -> None:
    before = parse_kernel(PADDED)
    after = cut_at_borders(before)
    verify(after)
    assert (
        kernel_text(after)
        == """\
kernel padded(in %a: f32[5, 100], out %o: f32[5, 103]) {
  for i in 5 parallel {
    for j_1 in 1 {
      %o[i, j_1] = 0.0:f32
    }
    for j_2 in 100 vector(8, 1) {
      %o[i, j_2 + 1] = %a[i, j_2]
    }
    for j_3 in 2 {
      %o[i, j_3 + 101] = 0.0:f32
    }
  }
}
"""
    )
    np.testing.assert_array_equal(interpreted(after)["o"], interpreted(before)["o"])


@pytest.mark.parametrize(
    ("condition", "parts"),
    [
        ("j < 40", 2),
        ("j <= 40", 2),
        ("j > 40", 2),
        ("j >= 40", 2),
        ("40 < j", 2),
        ("40 <= j", 2),
        ("40 > j", 2),
        ("40 >= j", 2),
        ("3 - j < -9", 2),
        ("j >= 30 & j < 90", 3),
        ("j < 30 | j > 31", 3),
        ("i >= j", 2),  # a border that the outer loop moves
        ("j - i > 2", 2),
        ("j + i >= 128", 2),  # some rows have no second part
        ("j - 5 >= i - 9", 2),  # some have no first one
        ("j < 0 | j < 40", 2),
        ("j < 500 & j < 40", 2),
        ("j < 0", 1),
        ("j < 130", 1),
        ("j < i & j < 40", 1),  # two borders whose order is not known
        ("j * 2 < 40", 1),
        ("j % 2 < 1", 1),
        ("j < 10 | j == 20 | j < 30 | j < 50 | j < 70 | j < 90", 1),  # too many parts
    ],
)
def test_conditions(condition: str, parts: int) -> None:
    before = parse_kernel(loop(condition))
    after = cut_at_borders(before)
    verify(after)
    inner = [s for s in statements(after.body) if isinstance(s, For) and s.kind != "parallel"]
    assert len(inner) == parts
    np.testing.assert_array_equal(interpreted(after)["o"], interpreted(before)["o"])


@pytest.mark.parametrize("index", ["(j + 195) % 200", "(j + 4) % 130", "(j + 70) // 100 + j"])
def test_divisions(index: str) -> None:
    before = parse_kernel(loop("i < 5", f"%a[i, {index}]"))
    after = cut_at_borders(before)
    assert "%" not in kernel_text(after).replace("%a", "").replace("%o", "")
    assert "//" not in kernel_text(after)
    np.testing.assert_array_equal(interpreted(after)["o"], interpreted(before)["o"])


def test_short_loops_and_numbers_that_wrap_stay() -> None:
    for text in (loop("j < 30", columns=60), loop(f"j + {1 << 62} + {1 << 62} < {1 << 62}")):
        before = parse_kernel(text)
        assert cut_at_borders(before) is before


def test_what_cannot_be_cut() -> None:
    kernel = parse_kernel("""\
kernel sum(in %a: f32[100], out %o: f32[1]) {
  acc (s: f32 = 0.0:f32) by (x), (y) -> (x + y)
  for j in 100 vector(8, 1) {
    s <- %a[j]
  }
  %o[0] = s
}
""")
    inner = next(s for s in statements(kernel.body) if isinstance(s, For))
    assert cut_at_borders(kernel) is kernel
    with pytest.raises(CompileError, match="more than stores and checks"):
        cut(kernel, inner, [const(10)], {})


def _rolled(x: graphc.Tensor) -> graphc.Tensor:
    return graphc.roll(x, 7, axis=1)


OPS: dict[str, tuple[Callable[[graphc.Tensor], graphc.Tensor], Callable[[Array], Array]]] = {
    "pad": (lambda x: graphc.pad(x, ((1, 2), (3, 20))), lambda a: np.pad(a, ((1, 2), (3, 20)))),
    "roll": (_rolled, lambda a: np.roll(a, 7, 1)),
    "concat": (
        lambda x: graphc.concat([x, x + 1, x], axis=1) * 2,
        lambda a: np.concatenate([a, a + 1, a], 1) * 2,
    ),
    "tril": (graphc.tril, np.tril),
    "triu": (graphc.triu, np.triu),
    "shifted": (
        lambda x: graphc.pad(x[:, 2:], ((0, 0), (0, 2))) - x,
        lambda a: np.pad(a[:, 2:], ((0, 0), (0, 2))) - a,
    ),
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("shape", [(5, 129), (300, 257), (200, 160)])
def test_ops(session: graphc.Session, name: str, shape: tuple[int, int]) -> None:
    of, exact = OPS[name]
    p = graphc.placeholder(shape, name="x")
    f = session.function([p], of(p))
    loops = f.explain("loops")
    assert "for j_1 in" in loops, loops
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(f(x), exact(x))


def test_points_that_decide_nothing() -> None:
    """Cut anywhere, a loop computes the same."""
    kernel = parse_kernel(loop("j >= 30 & j < 90"))
    inner = next(s for s in statements(kernel.body) if isinstance(s, For) and s.kind == "vector")
    whole = cut(kernel, inner, [const(10), const(64)], {})
    np.testing.assert_array_equal(interpreted(whole)["o"], interpreted(kernel)["o"])
