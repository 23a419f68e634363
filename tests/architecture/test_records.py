"""`graphc.base.records` against the standard decorator, class by class."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import KW_ONLY, field
from typing import Any, ClassVar

import pytest

from graphc.base import records


class Plain:
    """Two fields, one with a default."""

    a: int
    b: tuple[int, ...] = (1, 2)


class Rich:
    """Every kind of field, and names that the constructor's text uses itself."""

    kind: ClassVar[str] = "rich"
    store: int
    made: list[int] = field(default_factory=list)
    hidden: int = field(default=3, repr=False, compare=False)
    derived: int = field(init=False)
    fixed: int = field(default=7, init=False)
    _: KW_ONLY
    MISSING: int = 5
    last: str = "x"

    def __post_init__(self) -> None:
        object.__setattr__(self, "derived", self.store + 1)


class Own:
    """Methods of its own stay."""

    a: int

    def __repr__(self) -> str:
        return "own"

    def __hash__(self) -> int:
        return 17

    def __eq__(self, other: object) -> bool:
        return True


class Empty:
    """No field."""


OPTIONS: list[dict[str, bool]] = [
    {},
    {"frozen": True},
    {"frozen": True, "slots": True},
    {"slots": True},
    {"eq": False, "repr": False},
    {"frozen": True, "eq": False, "slots": True},
    {"frozen": True, "slots": True, "weakref_slot": True},
]
ARGUMENTS: dict[type, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    Plain: [((1,), {}), ((1, (3,)), {}), ((), {"a": 1, "b": ()})],
    Rich: [((1,), {}), ((1, [2]), {"last": "y"}), ((2,), {"hidden": 9, "MISSING": 6})],
    Own: [((1,), {}), ((2,), {})],
    Empty: [((), {})],
}


def both(plain: type, options: dict[str, bool]) -> tuple[Any, Any]:
    def fresh() -> type:
        # A class of its own for each decorator: they write into it.
        space = {k: v for k, v in vars(plain).items() if k not in ("__dict__", "__weakref__")}
        return type(plain.__name__, (), space)

    ours: Callable[..., Any] = records.dataclass
    return dataclasses.dataclass(**options)(fresh()), ours(**options)(fresh())  # type: ignore[call-overload]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("plain", ARGUMENTS, ids=lambda c: c.__name__)
def test_as_the_standard_decorator(plain: type, options: dict[str, bool]) -> None:
    standard, ours = both(plain, options)
    pairs = [(standard(*a, **k), ours(*a, **k)) for a, k in ARGUMENTS[plain]]
    for s, o in pairs:
        names = [f.name for f in dataclasses.fields(s)]
        assert [f.name for f in dataclasses.fields(o)] == names
        assert [getattr(o, n) for n in names] == [getattr(s, n) for n in names]
        if options.get("repr", True):
            assert repr(o) == repr(s)
        for name in names:
            if options.get("frozen"):
                with pytest.raises(dataclasses.FrozenInstanceError):
                    setattr(o, name, 0)
                with pytest.raises(dataclasses.FrozenInstanceError):
                    delattr(o, name)
            else:
                other = copy.copy(o)
                setattr(other, name, 0)
                assert getattr(other, name) == 0
        assert hasattr(o, "__dict__") == hasattr(s, "__dict__")
    for s, o in pairs:
        for t, p in pairs:
            assert (o == p) == (s == t)
        assert (o == s) == (plain is Own)
    hashable = [standard.__hash__ is not None, ours.__hash__ is not None]
    assert hashable[0] == hashable[1]
    if options.get("frozen") and options.get("eq", True) and plain is not Rich:  # has a list
        for (arguments, named), (_, o) in zip(ARGUMENTS[plain], pairs, strict=True):
            assert hash(o) == hash(ours(*arguments, **named))
    given = [list(inspect.signature(c).parameters) for c in (standard, ours)]
    assert given[0] == given[1]
    for wrong in ((), (1, 2, 3, 4, 5)):
        with pytest.raises(TypeError):
            ours(*wrong) if plain is not Empty or wrong else ours(1)


@records.dataclass(frozen=True, slots=True)
class Point:
    """At module level, so that it can be pickled."""

    x: int
    y: int = 2


def test_copies_replacements_and_inheritance() -> None:
    point = Point(1)
    assert pickle.loads(pickle.dumps(point)) == copy.copy(point) == copy.deepcopy(point) == point
    assert dataclasses.replace(point, y=5) == Point(1, 5)
    assert {point: "a"}[Point(1, 2)] == "a"

    @records.dataclass(frozen=True, slots=True)
    class Named(Point):
        name: str = ""

    assert Named(1, 2, "n").name == "n"
    assert Named(1) != Point(1)
    assert repr(Named(1)).endswith("Named(x=1, y=2, name='')")
