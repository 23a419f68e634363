"""Examples in the docstrings of public names: they are Python, and what they call exists."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

import graphc

MODULES = (graphc, graphc.nn, graphc.optimizers, graphc.random, graphc.linalg, graphc.testing)
CLASSES = (graphc.Session, graphc.Function, graphc.Graph, graphc.Tensor, graphc.Dim)
CODE = re.compile(r"(?:^    .*\n|^\n)*^    .*$", re.MULTILINE)


def documented() -> Iterator[tuple[str, Any]]:
    for place in (*MODULES, graphc.debug, *CLASSES):
        for name in getattr(place, "__all__", None) or dir(place):
            found = getattr(place, name, None)
            if not name.startswith("_") and callable(found):
                yield f"{place.__name__}.{name}", found


def examples(function: Any) -> list[str]:
    """The indented blocks of a docstring that speak of graphc."""
    text = inspect.getdoc(function) or ""
    blocks = [textwrap.dedent(block.group()) for block in CODE.finditer(text)]
    return [block for block in blocks if "graphc." in block]


def chains(tree: ast.AST) -> Iterator[list[str]]:
    """`graphc.nn.relu` as ["nn", "relu"], for every such name."""
    for node in ast.walk(tree):
        names: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            names.insert(0, inner.attr)
            inner = inner.value
        if names and isinstance(inner, ast.Name) and inner.id == "graphc":
            yield names


PUBLIC = dict(documented())


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_are_python_and_name_what_exists(name: str) -> None:
    for example in examples(PUBLIC[name]):
        for names in chains(ast.parse(example)):
            found: Any = graphc
            for part in names:
                assert hasattr(found, part), f"{name}: graphc.{'.'.join(names)} does not exist"
                found = getattr(found, part)


def test_examples_are_found() -> None:
    count = sum(bool(examples(function)) for function in PUBLIC.values())
    assert count > 90
