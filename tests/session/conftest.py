"""Sessions of these tests share one object cache, apart from the user's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import graphc


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("objects")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHC_CACHE_DIR", str(folder))
        yield


@pytest.fixture
def session() -> Iterator[graphc.Session]:
    with graphc.Session() as opened:
        yield opened


@pytest.fixture
def uncached() -> Iterator[graphc.Session]:
    """A session that loads nothing from the disk: it counts what it compiles."""
    with graphc.Session(cache_dir="") as opened:
        yield opened
