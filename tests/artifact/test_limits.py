"""Every limit is a limit; members beyond 4 GiB lie where other tools look for them."""

from __future__ import annotations

import dataclasses
import mmap
import sys
import zipfile
from pathlib import Path

import pytest

import graphc
from graphc.artifact.container import GRAPH, MANIFEST, WEIGHTS, Entry, layout, read_layout
from graphc.artifact.load import load_bytes
from tests.artifact.forge import golden

BASE64 = 'graph "g" {\n%0 = constant() {value=const f32[2] "AACAPwAAgD8="} : f32[2]\n}'
# A value of each limit that the golden file of a training step, or the text above, is beyond.
SMALL = {
    "text_bytes": 1000,
    "manifest_bytes": 10,
    "provenance_bytes": 10,
    "tensor_table_bytes": 10,
    "tensors": 1,
    "nodes": 40,
    "operands": 2,
    "nesting": 1,
    "name_length": 5,
    "symbols": 0,
    "rank": 1,
    "tuple_items": 1,
    "literal_elements": 4,
    "inline_bytes": 4,
    "size": 4,
    "size_terms": 0,
    "size_factors": 0,
}


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(graphc.Limits)])
def test_each_limit_is_kept_and_named(name: str) -> None:
    limits = dataclasses.replace(graphc.Limits(), **{name: SMALL[name]})
    with pytest.raises(graphc.FormatError, match=rf"limit {name}\)"):
        load_bytes(memoryview(golden("training")), check=None, limits=limits)
        graphc.parse(BASE64, limits=limits)


def test_limits_of_files_that_are_trusted_can_be_raised(tmp_path: Path) -> None:
    x = graphc.placeholder((2,), name="x")
    graph = graphc.Graph([x], graphc.concat([x] * 70_000))
    graph.save(tmp_path / "g")
    with pytest.raises(
        graphc.FormatError, match=r"limit operands\)[^\0]*Limits\(operands=\.\.\.\)"
    ):
        graphc.load(tmp_path / "g")
    assert graphc.load(tmp_path / "g", limits=graphc.Limits(operands=70_000)) == graph


def test_a_stack_that_is_used_up_is_a_format_error() -> None:
    text = 'graph "g" { dim n input %x "x" : f32[' + "(" * 60 + "n" + ")" * 60 + "] }"
    assert graphc.parse(text).inputs[0][0] == "x"

    def deeper(calls: int) -> str:
        if calls:
            return deeper(calls - 1)
        try:
            graphc.parse(text)
        except graphc.FormatError as error:
            return str(error)
        return "read"

    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    assert "stack is used up" in deeper(sys.getrecursionlimit() - depth - 120)


@pytest.mark.parametrize("size", [(1 << 32) - 2, (1 << 32) - 1, 5 << 30])
def test_members_beyond_4_gigabytes(size: int, tmp_path: Path) -> None:
    entries = [Entry(MANIFEST, 1, 100), Entry(GRAPH, 2, 200), Entry(WEIGHTS, 3, size)]
    places, directory, end = layout(entries)
    path = tmp_path / "sparse"
    with open(path, "w+b") as file:
        for place in places:
            file.seek(place.header_offset)
            file.write(place.header)
        file.seek(places[-1].end)
        file.write(b"".join(directory) + end)
    assert all(place.start % 64 == 0 for place in places)
    with zipfile.ZipFile(path) as archive:
        found = [(i.filename, i.file_size, i.CRC) for i in archive.infolist()]
    assert found == [(e.name, e.size, e.crc) for e in entries]
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        view = memoryview(data)
        assert [p.entry for p in read_layout(view).values()] == entries
        view.release()
