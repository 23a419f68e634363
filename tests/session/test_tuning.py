"""`graphc.tune`: what it tries keeps every bit, what it keeps was faster by a distance, and who
compiles afterwards uses it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import tuning
from graphc.base.errors import GraphError
from graphc.program_lookup import cache_of, schedules_of
from graphc.schedule.choices import LOOPS, Choice
from graphc.tuned_schedules import store
from graphc.tuning import Contestant, Search, Tuning

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def values(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[graphc.Session]:
    with graphc.Session(threads=2, cache_dir=tmp_path) as opened:
        yield opened


def product(session: graphc.Session) -> tuple[graphc.Function, list[Array]]:
    x = graphc.placeholder((40, 70), name="x")
    y = graphc.placeholder((70, 50), name="y")
    return session.function([x, y], graphc.tanh(x @ y)), [values(40, 70), values(70, 50)]


def timed(factor: Callable[[Choice | None], float], last: float = 1.0) -> Any:
    """Times by the choice of the only kernel (None: the usual one), with a scatter of 10 %; that of
    the program of the winners, which is measured last, is `last` times as long.
    """
    count = 0
    seen: list[Any] = []

    def sample(one: Contestant, arrays: Sequence[Array], calls: int) -> list[float]:
        nonlocal count
        count += 1
        choice = next(iter(one.choices.values()), None)
        if not any(one is c for c in seen):
            seen.append(one)
        again = sum(next(iter(c.choices.values()), None) == choice for c in seen) > 1
        slower = last if again and one is seen[-1] else 1.0
        return [factor(choice) * slower * (1 + 0.01 * (count * 7 % 11))] * len(one.owners)

    return sample


def search(function: graphc.Function, arrays: list[Array], sample: Any) -> Tuning:
    return Search(function, arrays, 1000.0, sample).run()


class Favourite:
    """Takes 0.6 of the time with the first tile of generic loops that is tried."""

    choice: Choice | None = None

    def __call__(self, choice: Choice | None) -> float:
        if self.choice is None and choice is not None and choice.template == LOOPS:
            self.choice = choice
        return 0.6 if choice is not None and choice == self.choice else 1.0


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three schedules are tried, two of them of generic loops."""
    whole = tuning.schedules_to_try

    def some(region: Any, target: Any) -> list[Choice]:
        found = whole(region, target)
        return [*found[:1], *[c for c in found if c.template == LOOPS][:2]]

    monkeypatch.setattr(tuning, "schedules_to_try", some)


# -- what is chosen -------------------------------------------------------------------------------


@pytest.mark.usefixtures("few")
def test_the_fastest_wins_and_is_used(session: graphc.Session, tmp_path: Path) -> None:
    function, arrays = product(session)
    before, usual = function(*arrays).copy(), function.explain("loops")
    favourite = Favourite()
    found = search(function, arrays, timed(favourite))
    (kernel,) = found.kernels
    assert kernel.choice == str(favourite.choice)
    assert kernel.best_seconds < 0.7 * kernel.usual_seconds and kernel.tried >= 2
    assert "1 of 1 kernels" in str(found) and kernel.choice in str(found)
    function.rebuild()
    assert function.explain("loops") != usual
    np.testing.assert_array_equal(function(*arrays), before)
    tuned = schedules_of(str(tmp_path))
    assert tuned is not None
    assert [str(c) for c in tuned.by_key.values()] == [kernel.choice]


@pytest.mark.usefixtures("few")
def test_within_the_spread_nothing_changes(session: graphc.Session, tmp_path: Path) -> None:
    function, arrays = product(session)
    found = search(function, arrays, timed(lambda c: 1.0 if c is None else 0.97))
    assert [k.choice for k in found.kernels] == [""]
    assert found.best_seconds == found.usual_seconds
    assert schedules_of(str(tmp_path)) is None


@pytest.mark.usefixtures("few")
def test_winners_that_do_not_win_again_are_dropped(session: graphc.Session, tmp_path: Path) -> None:
    function, arrays = product(session)
    fast = timed(Favourite(), last=2.0)
    assert [k.choice for k in search(function, arrays, fast).kernels] == [""]
    assert schedules_of(str(tmp_path)) is None


@pytest.mark.usefixtures("few")
def test_a_new_search_takes_the_place_of_an_old_one(
    session: graphc.Session, tmp_path: Path
) -> None:
    function, arrays = product(session)
    search(function, arrays, timed(Favourite()))
    store(cache_of(str(tmp_path)), {"another": Choice(None, (("block", 4096),))}, set())
    search(function, arrays, timed(lambda c: 1.0))
    tuned = schedules_of(str(tmp_path))
    assert tuned is not None and set(tuned.by_key) == {"another"}


@pytest.mark.usefixtures("few")
def test_other_bits_are_refused(
    session: graphc.Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    favourite = Favourite()

    class Suspicious(Search):
        def results_of(self, one: Contestant) -> list[bytes]:
            wrong = any(favourite(c) < 1 for c in one.choices.values())
            return [b"other"] if wrong else super().results_of(one)

    function, arrays = product(session)
    with caplog.at_level(logging.WARNING, "graphc.tune"):
        found = Suspicious(function, arrays, 1000.0, timed(favourite)).run()
    assert found.refused == 1 and str(favourite.choice) in caplog.text
    assert "refused" in str(found)
    assert schedules_of(str(tmp_path)) is None


# -- what is tried --------------------------------------------------------------------------------


def _contraction() -> tuple[list[graphc.Tensor], Any, list[Array]]:
    x = graphc.placeholder(("n", 37), name="x")
    w = graphc.variable(values(37, 65))
    return [x], graphc.nn.relu(x @ w), [values(29, 37)]


def _batched() -> tuple[list[graphc.Tensor], Any, list[Array]]:
    x, y = graphc.placeholder((3, 33, 70)), graphc.placeholder((3, 70, 48))
    return [x, y], x @ y + 1, [values(3, 33, 70), values(3, 70, 48)]


def _transposed() -> tuple[list[graphc.Tensor], Any, list[Array]]:
    x, y = graphc.placeholder((300, 20)), graphc.placeholder((40, 300))
    return [x, y], graphc.einsum("ki,jk->ij", x, y), [values(300, 20), values(40, 300)]


def _convolved() -> tuple[list[graphc.Tensor], Any, list[Array]]:
    x = graphc.placeholder((2, 8, 9, 9))
    return (
        [x],
        graphc.nn.conv(x, graphc.constant(values(16, 8, 3, 3)), padding=1),
        [values(2, 8, 9, 9)],
    )


def _flat() -> tuple[list[graphc.Tensor], Any, list[Array]]:
    x, y = graphc.placeholder((317, 333)), graphc.placeholder((317, 333))
    return [x, y], graphc.exp(x) * y, [values(317, 333), values(317, 333)]


@pytest.mark.parametrize("make", [_contraction, _batched, _transposed, _convolved, _flat])
def test_every_candidate_gives_the_same_bits(session: graphc.Session, make: Any) -> None:
    inputs, output, arrays = make()
    function = session.function(inputs, output)
    found = search(function, arrays, timed(lambda c: 1.0))
    assert found.refused == 0
    assert max(k.tried for k in found.kernels) > 3


# -- who uses it ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("few")
def test_later_sessions_use_it_where_it_is_kept(tmp_path: Path) -> None:
    texts = []
    for folder in ("here", "here", "elsewhere"):
        with graphc.Session(threads=2, cache_dir=tmp_path / folder) as session:
            function, arrays = product(session)
            texts.append(function.explain("loops"))
            if len(texts) == 1:
                search(function, arrays, timed(Favourite()))
            function(*arrays)
    assert texts[0] == texts[2] != texts[1]


@pytest.mark.usefixtures("few")
def test_libraries_for_this_machine_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    with graphc.Session(threads=2) as session:
        function, arrays = product(session)
        objects = []
        for name in ("before", "after"):
            made = graphc.compile(
                function.graph, tmp_path / name, name="p", target="native", emit="object"
            )
            objects.append(next(f for f in made.files if f.suffix == ".o").read_bytes())
            if name == "before":
                search(function, arrays, timed(Favourite()))
    assert objects[0] != objects[1]


def test_a_record_that_cannot_be_read_counts_as_none(
    session: graphc.Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = cache_of(str(tmp_path))
    store(cache, {"key": Choice(None, (("block", 4096),))}, set())
    (key,) = [p.name for p in tmp_path.rglob("*") if len(p.name) == 64]
    for damaged in (b"no JSON", b"[]", b'{"key": {"template": 3, "settings": {}}}'):
        cache.put(key, damaged)
        with caplog.at_level(logging.WARNING, "graphc.tune"):
            assert schedules_of(str(tmp_path)) is None
        assert "not read" in caplog.text
        caplog.clear()
    function, arrays = product(session)
    function(*arrays)


# -- calls ----------------------------------------------------------------------------------------


def test_tune_leaves_state_alone_and_says_what_it_found(session: graphc.Session) -> None:
    x = graphc.placeholder(("n", 16), name="x")
    w = graphc.variable(values(16, 16))
    step = session.function([x], graphc.sum(x @ w), updates={w: w + 1})
    before = session.value(w)
    found = graphc.tune(step, values(8, 16), seconds=0.3)
    np.testing.assert_array_equal(session.value(w), before)
    assert found.usual_seconds > 0 and found.refused == 0
    assert all(k.best_seconds <= k.usual_seconds for k in found.kernels)
    step(values(8, 16))
    np.testing.assert_array_equal(session.value(w), before + 1)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda f: graphc.tune(3), "expected a function of a session, got int"),
        (lambda f: graphc.tune(f, seconds=0), "seconds must be a positive number"),
        (lambda f: graphc.tune(f, seconds=1), "tune: the sizes of x are symbolic"),
    ],
)
def test_wrong_calls(session: graphc.Session, call: Any, expected: str) -> None:
    x = graphc.placeholder(("n", 4), name="x")
    with pytest.raises(GraphError, match=expected):
        call(session.function([x], x + 1))


def test_results_need_a_folder() -> None:
    x = graphc.placeholder((4,), name="x")
    with graphc.Session(cache_dir="") as session:
        with pytest.raises(GraphError, match="no cache folder") as caught:
            graphc.tune(session.function([x], x + 1))
    assert "GRAPHC_CACHE_DIR" in str(caught.value)
