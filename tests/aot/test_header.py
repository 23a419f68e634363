"""The header says in C what the library is: clean for strict compilers, and of the right layout."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import graphc
from graphc.aot.header import header_text
from graphc.aot.interface import STATUSES, public_symbols
from tests.aot.c_libraries import (
    GRAPHS,
    STRICT,
    interface_of,
    stateful,
    succeed,
    tool,
    write_library,
)

COMPILERS = {
    "c99": ("cc", "-std=c99", "-x", "c", "-Wc++-compat", "-Wstrict-prototypes"),
    "c11": ("cc", "-std=c11", "-x", "c"),
    "c++98": ("c++", "-std=c++98", "-x", "c++", "-Wno-long-long"),
    "c++20": ("c++", "-std=c++20", "-x", "c++"),
}


def compile_source(folder: Path, compiler: str, source: str) -> None:
    """Check a source file's syntax and types with every warning an error."""
    program, *options = COMPILERS[compiler]
    (folder / "source.txt").write_text(source)
    command = [tool(program), *options, *STRICT, "-fsyntax-only", "source.txt"]
    succeed(command, folder)


def assertions(conditions: list[str]) -> str:
    """Conditions that the compiler checks, in the way that every version of C and C++ has."""
    return "\n".join(
        f"extern int assertion_{k}[({condition}) ? 1 : -1];"
        for k, condition in enumerate(conditions)
    )


@pytest.mark.parametrize("compiler", COMPILERS)
def test_headers_are_clean_and_may_be_included_together_and_twice(
    tmp_path: Path, compiler: str
) -> None:
    for name in GRAPHS:
        (tmp_path / f"{name}.h").write_text(header_text(interface_of(name), "0"))
    includes = "".join(f'#include "{name}.h"\n' for name in GRAPHS)
    compile_source(tmp_path, compiler, includes + includes)


def test_the_state_struct_has_the_layout_that_the_library_uses(tmp_path: Path) -> None:
    shape = interface_of("steps")
    offsets, size = shape.state_offsets()
    conditions = [f"sizeof(steps_state) == {size}", "offsetof(steps_state, graphc_layout) == 0"]
    for member, at in zip(shape.state, offsets, strict=True):
        if member.elements:
            conditions.append(f"offsetof(steps_state, {member.name}) == {at}")
            conditions.append(f"sizeof(((steps_state *)0)->{member.name}) == {member.nbytes}")
    assert len(conditions) == 2 + 2 * 5  # the empty member is left out
    (tmp_path / "steps.h").write_text(header_text(shape, "0"))
    for compiler in ("c99", "c++98"):
        compile_source(tmp_path, compiler, '#include "steps.h"\n' + assertions(conditions))
    with pytest.raises(AssertionError, match="assertion_0"):
        wrong = [f"sizeof(steps_state) == {size + 8}"]
        compile_source(tmp_path, "c99", '#include "steps.h"\n' + assertions(wrong))


def test_a_status_has_32_bits_and_its_codes(tmp_path: Path) -> None:
    (tmp_path / "square.h").write_text(header_text(interface_of("square"), "0"))
    conditions = ["sizeof(square_status) == 4"]
    conditions += [f"square_{name} == {code}" for name, code, _ in STATUSES]
    source = '#include "square.h"\n' + assertions(conditions)
    (tmp_path / "source.c").write_text(source)
    succeed([tool("cc"), "-fshort-enums", "-fsyntax-only", "source.c"], tmp_path)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_header_declares_what_the_library_exports_and_nothing_else(
    tmp_path: Path, name: str
) -> None:
    text = re.sub(r"/\*.*?\*/", "", header_text(interface_of(name), "0"), flags=re.DOTALL)
    declared = set(re.findall(rf"\b({name}_\w+)\(", text))
    assert declared == set(public_symbols(interface_of(name)))
    library = write_library(tmp_path, name)
    uses = ", ".join(f"(void (*)(void)){function}" for function in sorted(declared))
    source = f'#include "{name}.h"\nvoid (*functions[])(void) = {{{uses}}};\nint main(void) {{\n'
    source += f"    return {name}_abi_version() - {name}_ABI_VERSION;\n}}\n"
    (tmp_path / "source.c").write_text(source)
    succeed([tool("cc"), "source.c", str(library), "-Wl,-rpath,.", "-o", "use"], tmp_path)
    succeed([tmp_path / "use"], tmp_path)


def test_arguments_are_described_in_words() -> None:
    text = " ".join(header_text(interface_of("dtypes"), "1.2").replace("\n *", " ").split())
    for sentence in (
        "@param n a size: at least 1, at most 64",
        '@param of_float16 in: "of/float16" of the graph: float16 (the 16 bits of an IEEE 754 '
        "half-precision number), shape [n]",
        '@param every_other out: "every-other" of the graph: bool (each byte 0 or 1), shape '
        "[floor((lambda + 1) / 2)]",
        "Written by graphc 1.2; belongs to the library of the same name.",
    ):
        assert sentence in text


def test_places_in_the_graph_are_listed_with_their_codes() -> None:
    text = header_text(replace(interface_of("square"), sites=("index out of range",)), "0")
    assert "Codes from 100 to 100 name a place" in text
    assert "100: index out of range" in text


def test_no_text_of_the_graph_ends_a_comment() -> None:
    odd = "a*/ int bad; /* \\\n ??/ @file \u202e"
    shape = interface_of("steps")
    inputs = tuple(replace(o, label=odd) for o in shape.inputs)
    members = tuple(replace(o, label=odd) for o in shape.state)
    shape = replace(shape, title=odd, inputs=inputs, state=members, sites=(odd,))
    text = header_text(shape, odd)
    outside = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    assert "int bad" in text and "bad" not in outside
    for bad in ("\\", "??/", "@file", "\u202e"):
        assert bad not in text


def test_names_that_no_library_may_have(tmp_path: Path) -> None:
    graph = stateful()
    for name, reason in (("int", "word of C"), ("std", "namespace"), ("math", "<math.h>")):
        with pytest.raises(graphc.GraphError, match=reason):
            graphc.compile(graph, tmp_path / "x", name=name, emit="object")
    assert list(tmp_path.iterdir()) == []
    made = graphc.compile(graph, tmp_path / "math", emit="object", target="native")
    assert made.library.name == "math_.o"
    with pytest.raises(graphc.GraphError, match=r"got the text 'cpp'"):
        graphc.compile(graph, tmp_path / "x", bindings="cpp")
