"""Names of other libraries: each leads to one that exists, and none of them exists itself."""

from __future__ import annotations

from typing import Any

import pytest

import graphc
from graphc.other_names import ADVICE, OTHER_NAMES

PAIRS = [(m, a, b) for m, table in OTHER_NAMES.items() for a, b in table.items()]


def resolve(module: str, name: str) -> Any:
    path = name.removeprefix("graphc.") if name.startswith("graphc.") else f"{module}.{name}"[7:]
    found: Any = graphc
    for part in path.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(("module", "theirs", "ours"), PAIRS)
def test_the_other_name_leads_to_ours(module: str, theirs: str, ours: str) -> None:
    assert resolve(module, ours) is not None
    with pytest.raises(AttributeError, match=ours.replace(".", r"\.")):
        resolve(module, theirs)


def test_advice_is_for_names_that_do_not_exist() -> None:
    for module, table in ADVICE.items():
        for name, advice in table.items():
            with pytest.raises(AttributeError) as caught:
                resolve(module, name)
            assert advice in str(caught.value)


def test_a_typing_error_is_recognised() -> None:
    with pytest.raises(AttributeError, match="did you mean softplus"):
        _ = graphc.nn.softpluss
    with pytest.raises(AttributeError, match=r"no attribute 'qwertz'$"):
        _ = graphc.qwertz
    assert not hasattr(graphc, "cumsum")


def test_methods_of_other_arrays_say_how_they_are_written() -> None:
    x = graphc.placeholder((3,), name="x")
    for name, text in {
        "max": r"graphc\.max\(x\)",
        "numpy": r"tensor\.eval\(feeds\)",
        "cumsum": r"graphc\.cumulative_sum\(x\)",
        "qwertz": r"no attribute 'qwertz'$",
    }.items():
        with pytest.raises(AttributeError, match=text):
            getattr(x, name)
    assert not hasattr(x, "__array_interface__")
