"""Every typical mistake gives an error that says where, what, and how to go on."""

from __future__ import annotations

import pytest

import graphc
from tests.errors import (
    mistakes_calling,
    mistakes_declaring,
    mistakes_dtypes,
    mistakes_graphs,
    mistakes_indexing,
    mistakes_matrices,
    mistakes_networks,
    mistakes_products,
    mistakes_python,
    mistakes_random,
    mistakes_shapes,
)
from tests.errors.corpus import MISTAKES, Mistake, examine

PARTS = (
    mistakes_calling,
    mistakes_declaring,
    mistakes_dtypes,
    mistakes_graphs,
    mistakes_indexing,
    mistakes_matrices,
    mistakes_networks,
    mistakes_products,
    mistakes_python,
    mistakes_random,
    mistakes_shapes,
)


def test_the_corpus_is_large_and_every_part_counts() -> None:
    assert len(MISTAKES) >= 80
    files = {found.file.name for found in MISTAKES.values()}
    assert files == {f"{part.__name__.rpartition('.')[2]}.py" for part in PARTS}


def test_every_mistake_says_where() -> None:
    unmarked = [m.name for m in MISTAKES.values() if not m.marked("wrong") + m.marked("named")]
    assert not unmarked


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(name: str) -> None:
    found = MISTAKES[name]
    complaints = examine(found)
    if complaints:
        try:
            found.run()
            text = "no error"
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        pytest.fail("\n".join(complaints) + "\nthe error was:\n" + text, pytrace=False)


def _silent() -> None:
    graphc.placeholder((2,), name="x")


def _foreign() -> None:
    raise ValueError("something")


def _terse() -> None:
    raise graphc.ShapeError("bad shape")  # wrong


@pytest.mark.parametrize("run", [_silent, _foreign, _terse])
def test_the_judge_is_not_pleased_by_everything(run: object) -> None:
    assert callable(run)
    assert examine(Mistake(run, "ShapeError", ("add",), "reshape"))
