"""Static libraries: read back by the system's tools, and by a reader of our own."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from graphc.aot import archive as archive_module
from graphc.aot.archive import archive
from graphc.base.errors import FormatError
from tests.aot.small_libraries import needs, small_library

MEMBERS = {
    "fifteen_long.ob": b"",
    "sixteen_long.obj": b"odd",
    "a.o": b"even",
    "höhe.o": b"x" * 7,
}
SYMBOLS = {"a.o": ["run", "stop"], "höhe.o": ["z" * 300]}
MAIN = """#include <stdio.h>
extern int small_abi_version(void);
extern const char *small_message(int);
int main(void) { printf("%d %s\\n", small_abi_version(), small_message(0)); return 0; }
"""


def read(data: bytes) -> tuple[list[tuple[str, bytes]], list[tuple[str, str]]]:
    """Members and index of an archive, by the description of the format."""
    assert data[:8] == b"!<arch>\n"
    members, index, table, at = [], [], b"", 8
    names: dict[int, str] = {}
    while at < len(data):
        header = data[at : at + 60]
        assert header[58:] == b"`\n"
        name, size = header[:16].decode().rstrip(), int(header[48:58])
        content = data[at + 60 : at + 60 + size]
        assert len(content) == size
        if name == "/":
            count = int.from_bytes(content[:4], "big")
            places = struct.unpack_from(f">{count}I", content, 4)
            words = content[4 + 4 * count :].split(b"\0")
            index = [(word.decode(), place) for word, place in zip(words, places, strict=False)]
        elif name == "//":
            table = content
        else:
            if name.startswith("/"):
                start = int(name[1:])
                name = table[start : table.index(b"/\n", start)].decode() + "/"
            names[at] = name[:-1]
            members.append((name[:-1], content))
        at += 60 + size + size % 2
    return members, [(symbol, names[place]) for symbol, place in index]


def test_reads_back() -> None:
    members, index = read(archive(MEMBERS, SYMBOLS))
    assert members == list(MEMBERS.items())
    assert index == [("run", "a.o"), ("stop", "a.o"), ("z" * 300, "höhe.o")]


@pytest.mark.parametrize("symbols", ["", "s", "ab"])
@pytest.mark.parametrize("size", [0, 1, 2])
def test_every_member_starts_at_an_even_place(symbols: str, size: int) -> None:
    given = {"one.o": list(symbols)}
    members, index = read(archive({"one.o": b"x" * size, "two.o": b"y"}, given))
    assert members == [("one.o", b"x" * size), ("two.o", b"y")]
    assert index == [(s, "one.o") for s in symbols]


def test_empty() -> None:
    assert archive({}, {}) == b"!<arch>\n"


@pytest.mark.parametrize("name", ["", "a/b.o", "a\nb.o", "a\0.o"])
def test_names_that_do_not_fit(name: str) -> None:
    with pytest.raises(FormatError, match="is no file name for an archive"):
        archive({name: b""}, {})


def test_symbols_that_do_not_fit() -> None:
    with pytest.raises(FormatError, match=r"'b\.o', which is no member"):
        archive({"a.o": b""}, {"b.o": ["run"]})
    for symbol in ("", "a\0b", "ü"):
        with pytest.raises(FormatError, match="is no name of a symbol"):
            archive({"a.o": b""}, {"a.o": [symbol]})


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "_MOST_BYTES", 300)
    assert len(archive({"a.o": b"x" * 232}, {})) == 300
    with pytest.raises(FormatError, match=r"302 bytes are too many.*\n.*external"):
        archive({"a.o": b"x" * 233}, {})


def test_ar_and_nm_read_it(tmp_path: Path) -> None:
    ar, nm = needs(shutil.which("ar"), "ar"), needs(shutil.which("nm"), "nm")
    _, content = small_library()
    symbols = SYMBOLS | {"small.o": ["small_run", "small_isa"]}
    (tmp_path / "t.a").write_bytes(archive(MEMBERS | {"small.o": content}, symbols))

    def say(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        return done.stdout.decode()

    assert say(ar, "t", "t.a").split() == [*MEMBERS, "small.o"]
    for name, expected in MEMBERS.items():
        assert say(ar, "p", "t.a", name).encode() == expected
    assert "0/0" in say(ar, "tv", "t.a") and "1970" in say(ar, "tv", "t.a")
    done = subprocess.run([nm, "-s", "t.a"], cwd=tmp_path, capture_output=True, text=True)
    for line in ("run in a.o", "stop in a.o", "small_run in small.o", "small_isa in small.o"):
        assert line in done.stdout.splitlines()


def test_a_program_links_against_it(tmp_path: Path) -> None:
    """Found through the index: the object is the last member, behind one that nobody needs."""
    cc = needs(shutil.which("cc"), "a C compiler")
    _, content = small_library()
    data = archive(
        {"other.o": content[:64], "a_long_name_of_an_object.o": content},
        {"a_long_name_of_an_object.o": ["small_abi_version", "small_message"]},
    )
    (tmp_path / "libsmall.a").write_bytes(data)
    (tmp_path / "main.c").write_text(MAIN)
    command = [cc, "main.c", "libsmall.a", "-lpthread", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    assert done.stdout == "1 success\n"
