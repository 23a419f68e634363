"""Random graphs as libraries: the session's bits on their own instruction set, right on others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.aot.library import Library
from graphc.cli.expectation import expect
from tests.fuzz.checking import differences, different_bits
from tests.fuzz.random_graphs import RandomGraph

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None, reason="no C compiler (cc) to link a library with"
)
ALWAYS = 22
MORE = 400
BATCH = 20
Arrays = dict[str, np.ndarray[Any, Any]]


def by_session(graph: graphc.Graph, feeds: Arrays) -> Arrays:
    with graphc.Session(cache_dir="") as session:
        function = session.function(
            [t for _, t in graph.inputs], dict(graph.outputs), updates=dict(graph.updates)
        )
        got = dict(function(*(feeds[name] for name, _ in graph.inputs)))
        return got | {f"update:{graph.name_of(v)}": session.value(v) for v, _ in graph.updates}


def by_library(library: Library, feeds: Arrays) -> Arrays:
    state = library.new_state() if library.graph.updates else None
    got = library.run(feeds, state, shift=1)
    if state is not None:
        got |= {f"update:{name}": value for name, value in library.values(state).items()}
    return got


def check_seed(seed: int, folder: Path) -> None:
    made = RandomGraph(seed)
    graph, expected = made.graph, expect(made.graph, made.feeds)
    external = "external" if seed % 3 == 0 else "inside"
    graphc.compile(graph, folder, name="random", weights=external)
    library = Library(graph, folder)
    own = library.chosen
    plain = {k: np.asarray(v) for k, v in by_session(graph, made.feeds).items()}
    for target in library.available():
        library.select(target)
        for threads in (1, 3):
            library.set_threads(threads)
            got = by_library(library, made.feeds)
            wide = {k: np.asarray(v).astype(expected.values[k].dtype) for k, v in got.items()}
            problems = differences(expected, wide, "standard")
            if target == own:
                same = {k: np.asarray(v).astype(expected.values[k].dtype) for k, v in plain.items()}
                problems += different_bits(same, wide, expected.tensors)
            assert not problems, f"seed {seed} on {target}, {threads} threads: {problems}"
    library.close()


@pytest.mark.parametrize("seed", range(ALWAYS))
def test_fixed_seeds(seed: int, tmp_path: Path) -> None:
    check_seed(seed, tmp_path / "random")


@pytest.mark.slow
@pytest.mark.parametrize("first", range(ALWAYS, MORE, BATCH))
def test_more_seeds(first: int, tmp_path: Path) -> None:
    for seed in range(first, min(first + BATCH, MORE)):
        check_seed(seed, tmp_path / str(seed))
