"""The object cache: damage is noticed, processes and kills do not break it, the size is bounded."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphc.runtime.cache import ObjectCache, cache_key, default_directory

KEY = cache_key("some", b"thing")


def files(directory: Path) -> list[Path]:
    return [p for p in directory.rglob("*") if p.is_file()]


def test_round_trip_and_missing(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "deep" / "er")
    assert cache.get(KEY) is None
    cache.put(KEY, b"code")
    assert cache.get(KEY) == b"code"
    cache.put(KEY, b"")
    assert ObjectCache(tmp_path / "deep" / "er").get(KEY) == b""
    cache.clear()
    assert cache.get(KEY) is None


def test_keys_separate_their_parts() -> None:
    assert cache_key("ab", "c") != cache_key("a", "bc")
    assert cache_key("ab") == cache_key(b"ab")


@pytest.mark.parametrize(
    "key", ["short", "../../../../etc/passwd", "with/slash/in/it", "nul\0nul\0nul"]
)
def test_keys_that_are_no_file_names(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="cache key"):
        ObjectCache(tmp_path).get(key)


def test_every_flipped_byte_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(KEY, b"some machine code")
    (path,) = files(tmp_path)
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x40]) + good[position + 1 :])
        caplog.clear()
        with caplog.at_level(logging.WARNING, "graphc.cache"):
            assert cache.get(KEY) is None, position
        assert "damaged" in caplog.text
        assert not path.exists()
        cache.put(KEY, b"some machine code")
        assert cache.get(KEY) == b"some machine code"


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(KEY, b"abc")
    (path,) = files(tmp_path)
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        assert cache.get(KEY) is None
    path.write_bytes(good + b"x")
    assert cache.get(KEY) is None


def test_a_file_under_another_key_is_not_taken(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(KEY, b"abc")
    (path,) = files(tmp_path)
    other = cache_key("other")
    (tmp_path / other[:2]).mkdir(exist_ok=True)
    os.replace(path, tmp_path / other[:2] / other)
    assert cache.get(other) is None


def test_a_folder_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    cache = ObjectCache(blocker / "cache")
    with caplog.at_level(logging.WARNING, "graphc.cache"):
        cache.put(KEY, b"abc")
        cache.put(KEY, b"abc")
    assert cache.get(KEY) is None
    assert len(caplog.records) == 1, "said once"


def test_a_folder_open_to_others_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o777)
    cache = ObjectCache(tmp_path)
    with caplog.at_level(logging.WARNING, "graphc.cache"):
        cache.put(KEY, b"abc")
    assert cache.get(KEY) is None
    assert "writable by other users" in caplog.text


def test_no_directory_remembers_nothing() -> None:
    cache = ObjectCache(None)
    cache.put(KEY, b"abc")
    assert cache.get(KEY) is None


def test_the_oldest_go_first(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, limit=10_000)
    now = time.time()
    keys = [cache_key(str(i)) for i in range(10)]
    for age, key in enumerate(keys):
        cache.put(key, bytes(900))
        os.utime(tmp_path / key[:2] / key, (now - 10_000 + age, now - 10_000 + age))
    assert cache.get(keys[0]) is not None  # its use is recorded, so keys[1] is the oldest now
    cache.put(cache_key("more"), bytes(3000))
    cache.sweep()
    kept = [key for key in keys if cache.get(key) is not None]
    assert keys[0] in kept
    assert keys[1] not in kept and keys[2] not in kept and keys[9] in kept
    assert sum(p.stat().st_size for p in files(tmp_path)) <= 10_000


def test_the_limit_holds_without_being_asked(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, limit=50_000)
    for i in range(300):
        cache.put(cache_key(str(i)), bytes(1000))
    assert sum(p.stat().st_size for p in files(tmp_path)) <= 50_000 * 1.1


def test_left_over_temporary_files_go(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(KEY, b"abc")
    old, fresh = (tmp_path / KEY[:2] / f".{name}.tmp" for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache.sweep()
    assert not old.exists() and fresh.exists() and cache.get(KEY) == b"abc"


def test_default_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    assert default_directory() == tmp_path
    monkeypatch.setenv("GRAPHC_CACHE_DIR", "off")
    assert default_directory() is None
    monkeypatch.delenv("GRAPHC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "graphc"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_directory() == Path.home() / ".cache" / "graphc"


# The store without numpy: 200 processes must be light.
_WRITER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("cache", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
cache = module.ObjectCache(sys.argv[2])
for i in range(int(sys.argv[3])):
    key = module.cache_key(str(i % 7))
    content = key.encode() * 3_000
    found = cache.get(key)
    assert found is None or found == content, "a wrong content was returned"
    cache.put(key, content)
print("done")
"""


def test_two_hundred_processes_some_killed(tmp_path: Path) -> None:
    source = sys.modules[ObjectCache.__module__].__file__
    assert source is not None
    rng = random.Random(1)
    killed = finished = 0
    for _ in range(10):
        batch = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    "-c",
                    _WRITER,
                    source,
                    str(tmp_path),
                    "7" if n % 3 else "100000",
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for n in range(20)
        ]
        for n, process in enumerate(batch):
            if n % 3 == 0:  # these write for ever
                time.sleep(rng.uniform(0.0, 0.08))
                process.send_signal(signal.SIGKILL)
        for n, process in enumerate(batch):
            out, err = process.communicate(timeout=60)
            if n % 3 == 0:
                killed += process.returncode == -signal.SIGKILL
            else:
                assert process.returncode == 0, err.decode()
                assert out == b"done\n" and err == b"", err.decode()
                finished += 1
    assert (killed, finished) == (70, 130)
    cache = ObjectCache(tmp_path)
    for i in range(7):
        key = cache_key(str(i))
        assert cache.get(key) == key.encode() * 3_000
