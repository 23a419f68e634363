"""The size report: it adds up, names what the user named, and survives bytes that are no object."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from graphc.aot.elf import read_object
from graphc.aot.module import launches_of
from graphc.aot.sizes import Part, SizeReport, bytes_text, size_report
from graphc.base.errors import FormatError
from graphc.base.target import TARGETS as INSTRUCTION_SETS
from tests.aot.small_libraries import HOST, small_library

TARGETS = [HOST, "x86-64-v3", "aarch64-linux", "riscv64-linux"]


def report(target: str = HOST, external: bool = False) -> SizeReport:
    module, content = small_library(target, external)
    return size_report(content, module)


def kernels(found: SizeReport) -> list[Part]:
    return [part for part in found.parts if part.kind == "kernel"]


@pytest.mark.parametrize("target", TARGETS)
def test_everything_adds_up(target: str) -> None:
    found = report(target)
    sections = dict(found.sections)
    stored = sum(size for name, size in found.sections if not name.startswith(".bss"))
    assert found.memory_bytes == sections[".bss"] > 0
    assert found.code_bytes == sections[".text"] == sum_of(found, ".text")
    assert found.code_bytes + found.table_bytes + found.weight_bytes == stored < found.object_bytes
    # A section with weights holds them besides its parts.
    total = sum(part.bytes for part in found.parts) + found.weight_bytes
    assert total == stored
    shared = found.set_bytes("all")
    rest = sum(p.bytes for p in found.parts if p.kind == "rest" and p.section == ".text")
    assert shared + sum(map(found.set_bytes, found.sets)) + rest == found.code_bytes
    assert all(found.set_bytes(name) > 0 for name in found.sets)
    assert [p.bytes for p in found.parts] == sorted((p.bytes for p in found.parts), reverse=True)


def sum_of(found: SizeReport, section: str) -> int:
    return sum(part.bytes for part in found.parts if part.section == section)


@pytest.mark.parametrize("target", TARGETS)
def test_kernels_have_the_names_of_the_graph(target: str) -> None:
    found = report(target)
    for name in found.sets:
        by_node = {node: p for p in kernels(found) if p.set == name for node in p.nodes}
        assert by_node["first"] is by_node["second"]  # equal code is there once
        assert by_node["first"].launches == 2
        assert by_node["y"].launches == 1 and by_node["y"] is not by_node["first"]
        assert by_node["y"].bytes > 100


@pytest.mark.parametrize("target", TARGETS)
def test_math_belongs_to_its_instruction_set(target: str) -> None:
    found = report(target)
    for name in found.sets:
        functions = {p.name: p.bytes for p in found.parts if p.set == name and p.kind == "math"}
        # They are short where one instruction scales by a power of two, and stand in the loop.
        if not INSTRUCTION_SETS[name].has_scaling:
            assert any(f.startswith("tanh.") and size > 100 for f, size in functions.items())
        assert {f.partition(".")[0] for f in functions} <= {"tanh", "exp"}
        own = [p for p in found.parts if p.set == name and p.kind in ("kernel", "math", "calls")]
        assert found.set_bytes(name) == sum(p.bytes for p in own)
    assert {p.kind for p in found.parts if p.set == "all"} >= {"pool", "wrapper", "dispatch"}


def test_names_are_left_out_where_a_set_is_cut_otherwise() -> None:
    module, content = small_library()
    infos = [info for found in module.kernels.values() for info in found]
    functions = ["@graphc.kernel.0"] * len(infos)
    assert launches_of(functions, infos) == {"@graphc.kernel.0": infos}
    assert launches_of(functions, infos[:-1]) == {}
    found = size_report(content, replace(module, kernels={}))
    assert kernels(found) and all(not part.nodes for part in kernels(found))


def test_weights_are_named_and_apart() -> None:
    found = report()
    assert found.weights == (("variable w", 2560), ("variable b", 40))
    assert found.external_bytes == 0
    outside = report(external=True)
    assert outside.weights == () and outside.weight_bytes == 0
    assert outside.external_bytes > 2600
    assert "in a file" in outside.text
    header = [part for part in outside.parts if part.name == "header of the weights file"]
    assert len(header) == 1 and header[0].bytes == outside.external_bytes - 2600


def test_text() -> None:
    found = report()
    lines = found.text.splitlines()
    assert lines[0].startswith(f"small: code {bytes_text(found.code_bytes)} (")
    for name in found.sets:
        assert f"{name} {bytes_text(found.set_bytes(name))}" in lines[0]
    assert lines[0].endswith("weights 2.6 kB")
    head = lines[2]
    assert head.split() == ["bytes", "set", "part", "name", "computes", "launches"]
    rows = lines[3 : lines.index("", 3)]
    starts = [head.index(word) for word in ("set", "part", "name", "computes")]
    assert rows[0][: starts[0]].strip() == str(found.parts[0].bytes)
    for row in rows[:-1]:
        assert row[: starts[0]].strip().isdigit()
        assert all(row[at - 1] == " " for at in starts if at <= len(row))
    assert int(rows[-1].split()[0]) == sum(p.bytes for p in found.parts[24:])
    assert rows[-1].endswith(f"{len(found.parts) - 24} smaller ones")
    assert any("variable w" in line for line in lines)


def test_dictionary_is_json_and_complete() -> None:
    found = report()
    content = json.loads(json.dumps(found.to_dict()))
    assert len(content["parts"]) == len(found.parts)
    total = sum(part["bytes"] for part in content["parts"])
    assert total == content["code_bytes"] + content["table_bytes"]
    assert content["weights"][0] == {"name": "variable w", "bytes": 2560}
    twice = [p for p in content["parts"] if p.get("launches") == 2]
    assert twice and all({"first", "second"} <= set(p["nodes"]) for p in twice)


def test_bytes_text() -> None:
    cases = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 2_150_000: "2.1 MB", 3 * 10**9: "3.0 GB"}
    assert {count: bytes_text(count) for count in cases} == cases


def test_the_object_of_another_module() -> None:
    module, _ = small_library("x86-64-v3")
    _, content = small_library("x86-64-linux")
    with pytest.raises(FormatError, match="code of instruction set 1"):
        size_report(content, module)
    outside, _ = small_library("x86-64-linux", external=True)
    with pytest.raises(FormatError, match=r"value \d of 0"):
        size_report(content, outside)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not start as"),
        (b"\x7fELF\x01\x01" + bytes(100), "does not start as"),
        (b"\x7fELF\x02\x01" + bytes(100), "no sections"),
        (b"\x7fELF\x02\x01" + bytes(52) + b"\xff\x00\x01\x00\x00\x00", "255 bytes, not 64"),
    ],
)
def test_what_is_no_object(content: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        read_object(content)


def test_cut_off_anywhere() -> None:
    """The table of sections is at the end: nothing can be read when any of it is missing."""
    _, content = small_library()
    for end in {*range(0, len(content), 97), len(content) - 1}:
        with pytest.raises(FormatError):
            read_object(content[:end])


def test_changed_bytes_are_refused_or_read() -> None:
    """Nothing but FormatError ever comes out, and nothing outside of the bytes is read."""
    module, content = small_library()
    start = int.from_bytes(content[40:48], "little")
    generator = random.Random(5)
    refused = 0
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(3):
            place = generator.choice(
                [generator.randrange(64), generator.randrange(start, len(content))]
            )
            changed[place] = generator.choice([0, 1, 255, generator.randrange(256)])
        try:
            size_report(bytes(changed), module)
        except FormatError:
            refused += 1
    assert 50 < refused < 300
