"""Updates over their variables: where they may, and that elements are read before they go."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc.aot.in_place import updates_in_place, write_in_place
from graphc.aot.library import Library
from graphc.backend.program import BufferRef, Launch, Program
from graphc.base.target import X86_V3
from graphc.compiler import Compilation
from graphc.loops.parse import parse_kernel
from graphc.loops.text import kernel_text
from graphc.runtime.executable import CompileOptions

Updates = dict[graphc.Tensor, graphc.Tensor]


def variables(count: int, shape: tuple[int, ...] = (40,)) -> list[graphc.Tensor]:
    rng = np.random.default_rng(count)
    return [graphc.variable(rng.normal(size=shape), name=f"v{k}") for k in range(count)]


def shared() -> Updates:
    """One kernel writes all three, and each reads what another one overwrites."""
    a, b, c = variables(3)
    return {a: a * 0.9 + c, b: b + a * 2, c: c * b - a}


def shifted() -> Updates:
    (a,) = variables(1)
    return {a: graphc.flip(a)}


def total() -> Updates:
    (a,) = variables(1)
    return {a: a / graphc.sum(a)}


def swapped() -> Updates:
    a, b = variables(2)
    return {a: b * 2, b: a * 2}


def product() -> Updates:
    (a,) = variables(1, (12, 12))
    return {a: a @ a}


def own_and_product() -> Updates:
    a, b = variables(2, (12, 12))
    return {a: a - 0.1 * (b @ b.T), b: b + 1}


def short_sums() -> Updates:
    """Rows that fill no whole vectors, whose results could be computed twice if they lay apart."""
    (w,) = variables(1, (3, 20))
    g = graphc.variable(np.linspace(-1, 1, 480).reshape(8, 3, 20), name="g")
    return {w: w * 2 - graphc.sum(g, axis=0)}


def scalar_and_rows() -> Updates:
    """A counter that scales an array in the same step."""
    counter = graphc.variable(np.float64(1), name="counter")
    (a,) = variables(1)
    return {counter: counter + 1, a: a / counter}


# Only what no later kernel reads, and what is read element for element, may be overwritten.
CASES: list[tuple[Callable[[], Updates], set[int]]] = [
    (shared, {2}),
    (shifted, set()),
    (total, set()),
    (swapped, set()),
    (product, set()),
    (own_and_product, {0, 1}),
    (scalar_and_rows, {1}),
    (short_sums, {0}),
]


@pytest.mark.parametrize(("declare", "expected"), CASES)
def test_which_updates_may(declare: Callable[[], Updates], expected: set[int]) -> None:
    graph = graphc.Graph([], {}, updates=declare())
    program = Compilation(graph, CompileOptions(), X86_V3).program
    positions = {id(v): k for k, v in enumerate(graph.variables)}
    assert updates_in_place([program], [positions[id(v)] for v, _ in graph.updates]) == expected


KERNEL = """
kernel step(in %m: f64[40], in %w: f64[40], out %m2: f64[40], out %w2: f64[40]) work(80) {
  for i in 40 vector(8, 1) {
    %m2[i] = %m[i] * 0.5:f64
    %w2[i] = %w[i] - %m[i] * 0.5:f64 + MORE
  }
}
"""


def step_program(more: str) -> Program:
    kernel = parse_kernel(KERNEL.replace("MORE", more))
    places = (("variable", 0), ("variable", 1), ("update", 0), ("update", 1))
    args = tuple(BufferRef(kind, index) for kind, index in places)
    return Program((), {"variable": 2, "update": 2}, (Launch(kernel, args),))


def test_elements_are_read_before_they_are_overwritten() -> None:
    program = step_program("%w[i]")
    assert updates_in_place([program], [0, 1]) == {0, 1}
    (launch,) = write_in_place(program, [0, 1], frozenset((0, 1))).steps
    lines = [line.strip() for line in kernel_text(launch.kernel).splitlines()]
    kept = lines.index("let kept_0: f64 = %m[i]")
    assert kept < lines.index(next(line for line in lines if line.startswith("%m2[i]")))
    assert "%m[i]" not in next(line for line in lines if line.startswith("%w2[i]"))


@pytest.mark.parametrize("more", ["%m[39 - i]", "%w[0]", "%m2[i]"])
def test_other_elements_forbid_it(more: str) -> None:
    program = step_program(more)
    name = 1 if more.startswith("%w") else 0
    assert name not in updates_in_place([program], [0, 1])


def test_what_is_stored_twice_forbids_it() -> None:
    kernel = parse_kernel("""
kernel step(in %m: f64[40], out %m2: f64[40]) work(48) {
  for b in 2 {
    let start: i64 = minimum(b * 32, 8)
    for i in 32 vector(8, 1) {
      %m2[start + i] = %m[start + i] * 0.5:f64
    }
  }
}
""")
    args = (BufferRef("variable", 0), BufferRef("update", 0))
    program = Program((), {"variable": 1, "update": 1}, (Launch(kernel, args),))
    assert updates_in_place([program], [0]) == frozenset()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) to link a library with")
@pytest.mark.parametrize(
    "declare",
    [shared, shifted, total, swapped, product, own_and_product, scalar_and_rows, short_sums],
)
def test_results_are_those_of_the_session(declare: Callable[[], Updates], tmp_path: Path) -> None:
    updates = declare()
    graph = graphc.Graph([], {}, updates=updates)
    graphc.compile(graph, tmp_path / "step", target="native")
    library = Library(graph, tmp_path / "step")
    state = library.new_state()
    with graphc.Session() as session:
        step = session.function([], {}, updates=updates)
        for _ in range(3):
            step()
            library.run({}, state)
        for name, value in library.values(state).items():
            np.testing.assert_array_equal(value, session.value(graph[name]))
