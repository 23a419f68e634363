"""Linking: what the libraries are like, which tool is chosen, and what happens when it fails."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from graphc.aot import linker
from graphc.aot.linker import Tool, compile_program, find_tools, link_shared
from graphc.base.errors import CompileError
from graphc.base.target import AARCH64, CUDA_SM90, RISCV64, X86_BASELINE, Target
from tests.aot.small_libraries import HOST, needs, write_object

HOST_TARGET = X86_BASELINE if HOST == "x86-64-linux" else AARCH64
FAR_TARGET = AARCH64 if HOST == "x86-64-linux" else X86_BASELINE
EXPORTS = ["small_abi_version", "small_isa", "small_run"]
CROSS = {AARCH64: ("aarch64-linux", "aarch64-linux-gnu-gcc"), HOST_TARGET: (HOST, "cc")}
LINUX = platform.system() == "Linux"
MAIN = """#include <math.h>
#include <stdio.h>
#include "small.h"
int main(int argc, char **argv) {
  (void)argv;
  printf("%d %g\\n", small_abi_version(), sqrt((double)(argc + 3)));
  return 0;
}
"""


def linked(
    folder: Path, target: Target = HOST_TARGET, name: str = "small.so", tool: str | None = None
) -> Path:
    """A shared library of the small model; skips where nothing links it."""
    kind, compiler = CROSS.get(target, ("riscv64-linux", "riscv64-linux-gnu-gcc"))
    if tool is None:
        needs(shutil.which(compiler), compiler)
    folder.mkdir(exist_ok=True)
    _, obj = write_object(folder, kind)
    link_shared(obj, folder / name, target, linker=tool, exports=EXPORTS)
    obj.unlink()
    return folder / name


def readelf(path: Path, what: str) -> str:
    tool = needs(shutil.which("readelf"), "readelf")
    done = subprocess.run([tool, what, path], capture_output=True, text=True, check=True)
    return done.stdout


def script(folder: Path, name: str, body: str) -> Path:
    """A program that stands for a linker."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any linker; the folder is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return folder


def elf_header(folder: Path, target: Target) -> Path:
    """The first bytes of a file for a target."""
    machine = {X86_BASELINE: 62, AARCH64: 183, RISCV64: 243}[target]
    path = folder / "header"
    path.write_bytes(b"\x7fELF\x02\x01" + bytes(12) + machine.to_bytes(2, "little"))
    return path


# -- what comes out -------------------------------------------------------------------------------
@pytest.mark.skipif(not LINUX, reason="loads a library for Linux")
def test_offers_the_exports_only(tmp_path: Path) -> None:
    library = ctypes.CDLL(str(linked(tmp_path)))
    assert library.small_abi_version() == 1
    library.small_isa.restype = ctypes.c_char_p
    assert library.small_isa() != b"none"
    with pytest.raises(AttributeError):
        _ = library.small_threads
    nm = needs(shutil.which("nm"), "nm")
    listing = subprocess.run(
        [nm, "-D", "--defined-only", tmp_path / "small.so"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert sorted(line.split()[-1] for line in listing.stdout.splitlines()) == EXPORTS


@pytest.mark.parametrize("target", [HOST_TARGET, AARCH64], ids=lambda t: t.name)
def test_is_hardened_and_small(tmp_path: Path, target: Target) -> None:
    path = linked(tmp_path, target)
    dynamic, segments = readelf(path, "-dW"), readelf(path, "-lW")
    needed = re.findall(r"NEEDED.*\[(.*)\]", dynamic)
    assert all(re.match(r"(lib(c|m|pthread)|ld-.*)\.", name) for name in needed), needed
    assert "[small.so]" in dynamic and "NOW" in dynamic and "TEXTREL" not in dynamic
    assert "RPATH" not in dynamic and "RUNPATH" not in dynamic
    (stack,) = (line for line in segments.splitlines() if "GNU_STACK" in line)
    assert " RW " in stack and "RWE" not in stack
    assert " RWE " not in segments
    # GNU ld would pad to a page of 64 KB on AArch64.
    assert ("GNU_RELRO" in segments) == (target is X86_BASELINE)
    assert ".symtab" not in readelf(path, "-SW") and "build-id" not in readelf(path, "-SW")
    loaded = sum(
        int(line.split()[4], 16) for line in segments.splitlines() if line.split()[:1] == ["LOAD"]
    )
    # The table of sections and at most one page of 4 KB of padding.
    assert path.stat().st_size - loaded < 4096 + 2500


def test_the_same_bytes_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = linked(tmp_path / "a folder").read_bytes()
    monkeypatch.setenv("LD_RUN_PATH", "/opt/libraries")  # a GNU linker would write it down
    assert first == linked(tmp_path / "another, longer one").read_bytes()
    for word in (b"folder", b"/tmp", b"module.o", b"GCC"):
        assert word not in first


@pytest.mark.parametrize("name", ["with space.so", "a,b.so", "$(touch x);.so", "-o.so"])
def test_any_file_name(tmp_path: Path, name: str) -> None:
    path = linked(tmp_path, name=name)
    assert f"[{name}]" in readelf(path, "-dW")
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize("tool", ["ld", "ld.gold", "ld.lld", "clang", "zig ld.lld", "mold"])
def test_other_linkers(tmp_path: Path, tool: str) -> None:
    needs(shutil.which(tool.split()[0]), tool)
    path = linked(tmp_path, tool=tool)
    if LINUX:
        assert ctypes.CDLL(str(path)).small_abi_version() == 1
    assert not {"RPATH", "TEXTREL"} & set(re.findall(r"\w+", readelf(path, "-dW")))


@pytest.mark.parametrize("target", [HOST_TARGET, AARCH64], ids=lambda t: t.name)
def test_a_program_runs(tmp_path: Path, target: Target) -> None:
    kind, compiler = CROSS[target]
    needs(shutil.which(compiler), compiler)
    command = [str(tmp_path / "small")]
    if target is not HOST_TARGET:
        emulator = needs(shutil.which("qemu-aarch64"), "qemu-aarch64")
        command = [emulator, "-L", "/usr/aarch64-linux-gnu", *command]
    _, obj = write_object(tmp_path, kind)
    (tmp_path / "main.c").write_text(MAIN)
    headers = tmp_path / "headers, more"
    headers.mkdir()
    (headers / "small.h").write_text("int small_abi_version(void);\n")
    compile_program([tmp_path / "main.c", obj], tmp_path / "small", target, include=[headers])
    assert (tmp_path / "small").stat().st_mode & stat.S_IXUSR
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1 2\n"
    assert "GNU_RELRO" in readelf(tmp_path / "small", "-lW")
    with pytest.raises(CompileError, match=r"small\.h"):
        compile_program([tmp_path / "main.c", obj], tmp_path / "other", target)
    assert not (tmp_path / "other").exists()


# -- which tool -----------------------------------------------------------------------------------
@pytest.mark.parametrize("target", [X86_BASELINE, AARCH64, RISCV64], ids=lambda t: t.name)
@pytest.mark.parametrize("program", [False, True])
def test_nothing_found(bare: Path, target: Target, program: bool) -> None:
    with pytest.raises(CompileError) as info:
        find_tools(target, None, needs_compiler=program)
    text = str(info.value)
    own = target is HOST_TARGET and LINUX
    assert f"no {'C compiler' if program else 'linker'} for {target.name} found" in text
    arch = target.triple.split("-")[0]
    looked = re.search(r"looked for: (.*)", text)
    assert looked and f"{arch}-linux-gnu-gcc" in looked[1] and "zig" in looked[1]
    assert ("cc, gcc, clang" in looked[1]) == own
    assert ("ld.lld" in looked[1]) != program
    package = "gcc" if own else f"gcc-{arch.replace('_', '-')}-linux-gnu"
    assert f"Debian and Ubuntu {package}" in text and "pip: ziglang" in text
    assert "--emit object and --emit static need none" in text


def test_order(bare: Path) -> None:
    names = ["zig", "ld", "ld.lld-14", "gcc", "cc"]
    for name in names:
        script(bare, name, "exit 1")
    found = find_tools(HOST_TARGET, None, needs_compiler=False)
    if LINUX:
        assert [(Path(t.command[0]).name, t.kind) for t in found] == [
            ("cc", "gcc"), ("gcc", "gcc"), ("ld.lld-14", "lld"), ("ld", "ld"), ("zig", "lld"),
        ]  # fmt: skip
    far = find_tools(FAR_TARGET, None, needs_compiler=False)
    assert [Path(t.command[0]).name for t in far] == ["ld.lld-14", "zig"]
    programs = find_tools(FAR_TARGET, None, needs_compiler=True)
    assert [(Path(t.command[0]).name, t.command[1:], t.kind) for t in programs] == [
        ("zig", ("cc",), "zig")
    ]


@pytest.mark.skipif(not LINUX, reason="CC is for programs of this machine")
def test_cc_of_the_environment(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(bare, "my-gcc", "exit 1")
    script(bare, "cc", "exit 1")
    monkeypatch.setenv("CC", "my-gcc -m64")
    (own,) = find_tools(HOST_TARGET, None, needs_compiler=True)
    assert own == Tool((str(bare / "my-gcc"), "-m64"), "gcc")
    (given,) = find_tools(HOST_TARGET, "cc", needs_compiler=True)
    assert given.command == (str(bare / "cc"),)
    with pytest.raises(CompileError, match="no linker"):  # CC makes nothing for another machine
        find_tools(FAR_TARGET, None, needs_compiler=False)
    monkeypatch.setenv("CC", "gone")
    with pytest.raises(CompileError, match="variable CC is 'gone', which is no program"):
        find_tools(HOST_TARGET, None, needs_compiler=False)


@pytest.mark.parametrize(
    ("name", "given", "kind", "words"),
    [
        ("aarch64-linux-gnu-gcc-12", "aarch64-linux-gnu-gcc-12", "gcc", ["-Xlinker", "-shared"]),
        (
            "my clang",
            None,
            "clang",
            ["-Xlinker", "-fuse-ld=lld", "--target={arch}-linux-gnu", "relro"],
        ),
        ("zig", "zig", "zig", ["cc", "-target", "{arch}-linux-gnu", "-Xlinker"]),
        ("zig", "zig ld.lld", "lld", ["ld.lld", "--gc-sections", "relro"]),
        ("ld.lld", "ld.lld", "lld", ["noexecstack", "noseparate-code", "relro"]),
        ("aarch64-linux-gnu-ld", None, "ld", ["--gc-sections", "noseparate-code"]),
    ],
)
def test_how_a_given_tool_is_spoken_to(
    bare: Path, tmp_path: Path, name: str, given: str | None, kind: str, words: list[str]
) -> None:
    header = elf_header(tmp_path, FAR_TARGET)
    told = tmp_path / "told"
    path = script(bare, name, f'echo "$@" > {told}; /bin/cp {header} linked; /bin/cat exports.map')
    (tool,) = find_tools(FAR_TARGET, given or str(path), needs_compiler=False)
    assert tool.kind == kind
    link_shared(header, tmp_path / "o.so", FAR_TARGET, linker=given or str(path), exports=EXPORTS)
    assert (tmp_path / "o.so").read_bytes() == header.read_bytes()
    arch = FAR_TARGET.triple.split("-")[0]
    said = told.read_text().split()
    for word in (*words, "-shared", "o.so", "--version-script=exports.map", "-s", "now"):
        assert word.format(arch=arch) in said
    assert ("-Xlinker" in said) == tool.compiles == ("-nostartfiles" in said)


def test_a_tool_that_does_not_fit(bare: Path) -> None:
    script(bare, "ld.lld", "exit 1")
    with pytest.raises(CompileError, match=r"'ld\.lld' is a linker alone"):
        find_tools(HOST_TARGET, "ld.lld", needs_compiler=True)
    for wrong in ("gone", "", "un'closed", "/"):
        if wrong:
            with pytest.raises(CompileError, match="which is no program on this machine"):
                find_tools(HOST_TARGET, wrong, needs_compiler=False)
    with pytest.raises(CompileError, match=r"no shared library or program .*cuda"):
        find_tools(CUDA_SM90, None, needs_compiler=False)


# -- failures -------------------------------------------------------------------------------------
def fails(folder: Path, body: str, out: str = "o.so") -> str:
    tool = script(folder, "some-gcc", body)
    (folder / "in.o").write_bytes(b"")
    with pytest.raises(CompileError) as info:
        link_shared(
            folder / "in.o", folder / out, HOST_TARGET, linker=str(tool), exports=["a", "b"]
        )
    assert not list(folder.glob(".graphc-*"))
    return str(info.value)


def test_failure_shows_command_and_words(tmp_path: Path) -> None:
    (tmp_path / "o.so").write_text("before")
    text = fails(tmp_path, "echo to stdout; echo 'undefined: xyz' >&2; exit 7")
    assert "linking o.so for " in text and f"{tmp_path}/some-gcc -shared" in text
    for words in ("exit status 7", "to stdout", "undefined: xyz"):
        assert words in text
    assert (tmp_path / "o.so").read_text() == "before"


def test_a_long_story_is_cut(tmp_path: Path) -> None:
    text = fails(
        tmp_path, "for i in 1 2 3 4 5 6 7 8 9 10; do printf 'a\\nb\\nc\\nd\\ne\\n'; done; exit 1"
    )
    assert "and 10 more lines" in text and len(text.splitlines()) < 50


def test_success_without_a_library_is_a_failure(tmp_path: Path) -> None:
    assert "the linker wrote no file" in fails(tmp_path, "exit 0")
    assert "no 64-bit ELF file for" in fails(tmp_path, "echo hello > linked")
    header = elf_header(tmp_path, FAR_TARGET)
    assert f"no 64-bit ELF file for {HOST_TARGET.name}" in fails(tmp_path, f"cp {header} linked")
    assert not (tmp_path / "o.so").exists()


def test_a_tool_that_cannot_start(tmp_path: Path) -> None:
    tool = tmp_path / "broken-gcc"
    tool.write_text("#!/nowhere/interpreter\n")
    tool.chmod(0o755)
    (tmp_path / "in.o").write_bytes(b"")
    with pytest.raises(CompileError, match="No such file"):
        link_shared(
            tmp_path / "in.o", tmp_path / "o.so", HOST_TARGET, linker=str(tool), exports=["a"]
        )


def test_the_next_tool_is_tried(bare: Path, tmp_path: Path) -> None:
    header = elf_header(tmp_path, FAR_TARGET)
    arch = FAR_TARGET.triple.split("-")[0]
    script(bare, f"{arch}-linux-gnu-gcc", "echo 'cannot find -lc'; exit 1")
    lld = script(bare, "ld.lld", f"/bin/cp {header} linked")
    link_shared(header, tmp_path / "o.so", FAR_TARGET, exports=["a"])
    assert (tmp_path / "o.so").read_bytes() == header.read_bytes()
    lld.write_text("#!/bin/sh\necho no luck; exit 1\n")
    with pytest.raises(CompileError, match=r"(?s)cannot find -lc.*no luck"):
        link_shared(header, tmp_path / "o.so", FAR_TARGET, exports=["a"])


def test_a_tool_that_hangs_is_stopped_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linker, "_SECONDS", 0.3)
    begin = time.monotonic()
    text = fails(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait")
    assert "stopped after 0.3 s" in text and time.monotonic() - begin < 20
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not _runs(child):
            break
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_the_wrong_architecture_says_so(tmp_path: Path) -> None:
    compiler = needs(shutil.which("cc"), "a C compiler")
    _, obj = write_object(tmp_path, "riscv64-linux")
    with pytest.raises(CompileError) as info:
        link_shared(obj, tmp_path / "o.so", RISCV64, linker=compiler, exports=EXPORTS)
    assert "module.o" in str(info.value) and "exit status" in str(info.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    script(tmp_path, "some-gcc", "exit 0")
    with pytest.raises(FileNotFoundError):
        link_shared(
            tmp_path / "in.o",
            tmp_path / "gone" / "o.so",
            HOST_TARGET,
            linker=str(tmp_path / "some-gcc"),
            exports=["a"],
        )
