"""Objects to shared libraries and programs (floor 8), by whatever linker the machine has.

A C compiler that links for the target, LLVM's `ld.lld`, GNU `ld` or zig: the first that is found
and succeeds. A shared library needs no C library of the target: a bare linker leaves its few
functions (POSIX threads, `mmap`, `strcmp`) to the process that loads it. A program needs one.
Invariants: no shell is run; the output appears whole or not at all; the same inputs give the same
bytes, whatever the folders are called.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphc.base.errors import CompileError, message
from graphc.base.target import Target

# Long enough for zig's first link for a target, which builds a C library (a minute), and for a
# gigabyte of weights on a slow disk.
_SECONDS = 600.0
_MOST_LINES = 40  # of what a linker says
# What a stand-alone program is compiled with: it reads files that it did not write.
_C_FLAGS = ("-std=c99", "-O2", "-fPIE", "-pie", "-fstack-protector-strong")


@dataclass(frozen=True, slots=True)
class _Machine:
    """One architecture: e_machine of its ELF files, and who links for it elsewhere.

    elf: System V ABI, processor supplements; gnu: the names of GNU cross tools, before the tool's;
    packages: of a C cross compiler (Debian, Fedora).
    """

    elf: int
    gnu: tuple[str, ...]
    packages: tuple[str, str]
    # Where a GNU linker ends the read-only part of the data at a page of 64 KB, a library is 67 KB
    # of mostly zeros instead of 14; it costs nothing where pages are 4 KB.
    pads_relro: bool = False


_MACHINES = {
    "x86_64": _Machine(
        62,
        ("x86_64-linux-gnu", "x86_64-unknown-linux-gnu"),
        ("gcc-x86-64-linux-gnu", "gcc-x86_64-linux-gnu"),
    ),
    "aarch64": _Machine(
        183,
        ("aarch64-linux-gnu", "aarch64-unknown-linux-gnu"),
        ("gcc-aarch64-linux-gnu", "gcc-aarch64-linux-gnu"),
        pads_relro=True,
    ),
    "riscv64": _Machine(
        243,
        ("riscv64-linux-gnu", "riscv64-unknown-linux-gnu"),
        ("gcc-riscv64-linux-gnu", "gcc-riscv64-linux-gnu"),
    ),
}
# Debian installs LLVM's tools under names with their version.
_VERSIONS = ("", *(f"-{n}" for n in range(23, 10, -1)))


@dataclass(frozen=True, slots=True)
class Tool:
    """A linker: the words that start its command, and how it is spoken to.

    kind: "gcc", "clang" and "zig" are C compilers that link; "lld" and "ld" are linkers alone.
    """

    command: tuple[str, ...]
    kind: str

    @property
    def compiles(self) -> bool:
        """Whether it takes C sources and knows where the target's C library is."""
        return self.kind in ("gcc", "clang", "zig")


def link_shared(
    obj: Path, out: Path, target: Target, *, linker: str | None = None, exports: Sequence[str]
) -> None:
    """Link one object to the shared library `out`, which offers the functions `exports` only.

    linker: a path or name, with arguments if need be; None: the first that is found. Raises
    CompileError when there is none, or when it fails (with its command and what it said), and
    OSError when `out` cannot be written.
    """
    tools = find_tools(target, linker, needs_compiler=False)
    script = f"{{ global: {' '.join(f'{name};' for name in exports)} local: *; }};\n"

    def command(tool: Tool, folder: Path) -> list[str]:
        (folder / "exports.map").write_text(script)
        shutil.copyfile(obj, folder / "module.o")
        words = ["-soname", out.name, "--version-script=exports.map", *_layout(tool, target)]
        if not tool.compiles:
            return [*tool.command, "-shared", *words, "-o", "linked", "module.o"]
        # No start files: nothing is to be run when the library is loaded. They take 7 KB.
        words += ["-z", "defs"]
        start = [*tool.command, *_target_words(tool, target), "-shared", "-nostartfiles"]
        return [*start, *_through(words), "-o", "linked", "module.o", "-lpthread"]

    _produce(out, target, tools, command)


def compile_program(
    inputs: Sequence[Path],
    out: Path,
    target: Target,
    *,
    linker: str | None = None,
    include: Sequence[Path] = (),
) -> None:
    """Compile and link C sources (C99) and objects to the program `out`.

    include: folders of headers, besides those of the sources. Raises as `link_shared` does.
    """
    tools = find_tools(target, linker, needs_compiler=True)
    folders = dict.fromkeys([*include, *(path.parent for path in inputs if path.suffix == ".c")])

    def command(tool: Tool, folder: Path) -> list[str]:
        names = []
        for k, path in enumerate(inputs):
            names.append(f"{k}{path.suffix}")
            shutil.copyfile(path, folder / names[-1])
        start = [*tool.command, *_target_words(tool, target), *_C_FLAGS]
        start += [f"-I{path.resolve()}" for path in folders]
        words = _through(_layout(tool, target, program=True))
        return [*start, *words, "-o", "linked", *names, "-lm", "-lpthread"]

    _produce(out, target, tools, command)


def _layout(tool: Tool, target: Target, *, program: bool = False) -> list[str]:
    """Words to the linker itself: small, reproducible, tables of pointers read-only."""
    words = ["-s", "--gc-sections", "--build-id=none", "--as-needed", "-z", "now"]
    if tool.kind == "zig":  # its own front end knows a few words only, and lays out as lld does
        return [*words, "-z", "relro"]
    words += ["-z", "noexecstack"]
    # Pages of their own for code and for constants would cost 8 KB: 26.0 instead of 17.8 for a
    # small model. gold has none, and no word for it.
    if not any("gold" in word for word in tool.command):
        words += ["-z", "noseparate-code"]
    lld = tool.kind == "lld" or "-fuse-ld=lld" in (*tool.command, *_target_words(tool, target))
    # A program reads files that it did not write: there the pages of zeros are worth it.
    pads = _machine(target).pads_relro and not lld and not program
    return [*words, "-z", "norelro" if pads else "relro"]


def _through(words: Sequence[str]) -> list[str]:
    """Words to the linker, said to the C compiler that starts it."""
    return [part for word in words for part in ("-Xlinker", word)]


def _target_words(tool: Tool, target: Target) -> list[str]:
    arch = target.triple.split("-")[0]
    if tool.kind == "zig":
        return ["-target", f"{arch}-linux-gnu"]
    if tool.kind == "clang" and not _is_host(target):
        return [f"--target={arch}-linux-gnu", "-fuse-ld=lld"]
    return []


# -- which linker ---------------------------------------------------------------------------------
def find_tools(target: Target, linker: str | None, *, needs_compiler: bool) -> list[Tool]:
    """The linkers that may be tried for a target, the best first; the given one alone, if any.

    Raises CompileError when there is none.
    """
    _machine(target)
    given = linker or (os.environ.get("CC") if _is_host(target) else None)
    if given:
        tool = _given_tool(given, "linker" if linker else "the environment variable CC")
        if tool.compiles or not needs_compiler:
            return [tool]
        if linker:
            raise CompileError(
                message(
                    f"{linker!r} is a linker alone, and a program needs a C compiler",
                    at="",
                    hint="give one (gcc, clang, zig cc), or leave the choice out",
                )
            )
    names = _names(target, needs_compiler)
    found = [tool for tool in map(_look_up, names) if tool is not None]
    if needs_compiler:
        found = [tool for tool in found if tool.compiles]
    if not found:
        raise CompileError(_none_found(target, names, needs_compiler))
    return found


def _names(target: Target, needs_compiler: bool) -> list[str]:
    """What is looked for, in order."""
    machine = _machine(target)
    names = ["cc", "gcc", "clang"] if _is_host(target) else []
    names += [f"{prefix}-gcc" for prefix in machine.gnu]
    if needs_compiler:
        # clang compiles for every target, but finds a C library only where one is installed.
        return [*names, *(f"clang{v}" for v in _VERSIONS), "zig cc", "python -m ziglang cc"]
    names += [f"ld.lld{v}" for v in _VERSIONS]
    names += ["ld"] if _is_host(target) else []
    names += [f"{prefix}-ld" for prefix in machine.gnu]
    return [*names, "zig ld.lld", "python -m ziglang ld.lld"]


def _look_up(name: str) -> Tool | None:
    first, *rest = name.split()
    if first == "python":
        if importlib.util.find_spec("ziglang") is None:
            return None
        return Tool((sys.executable, *rest), _kind(rest))
    path = shutil.which(first)
    return None if path is None else Tool((os.path.abspath(path), *rest), _kind([first, *rest]))


def _given_tool(text: str, source: str) -> Tool:
    """A linker as a user names it: a path (spaces allowed), or a command."""
    try:
        words = [text] if os.path.isfile(text) else shlex.split(text)
    except ValueError:  # an open quote
        words = []
    path = shutil.which(words[0]) if words else None
    if path is None:
        raise CompileError(
            message(
                f"{source} is {text!r}, which is no program on this machine",
                at="",
                hint="give the path or the name of a C compiler or linker: cc, clang, "
                "aarch64-linux-gnu-gcc, ld.lld, zig cc",
            )
        )
    if Path(words[0]).name == "zig" and len(words) == 1:
        words.append("cc")
    return Tool((os.path.abspath(path), *words[1:]), _kind(words))


def _kind(words: Sequence[str]) -> str:
    """How a command is spoken to, by its names."""
    names = [Path(word).name for word in words if not word.startswith("-")]
    if any("lld" in name or name == "mold" for name in names):
        return "lld"
    if any(name in ("zig", "ziglang") for name in names):
        return "zig"
    if any("clang" in name for name in names):
        return "clang"
    plain = ("ld", "ld.bfd", "ld.gold", "gold")
    if any(name in plain or name.endswith(("-ld", "-ld.bfd", "-ld.gold")) for name in names):
        return "ld"
    return "gcc"


def _none_found(target: Target, names: Sequence[str], needs_compiler: bool) -> str:
    debian, fedora = ("gcc", "gcc") if _is_host(target) else _machine(target).packages
    if not needs_compiler:
        debian, fedora = f"{debian} (or lld)", f"{fedora} (or lld)"
    elif not _is_host(target):
        fedora = "clang and a sysroot"
    plain = [n for n in names if not n.endswith(tuple(f"-{k}" for k in range(10, 30)))]
    what = "C compiler" if needs_compiler else "linker"
    return message(
        f"no {what} for {target.name} found",
        operands=[f"looked for: {', '.join(plain)}"],
        at="",
        hint=f"install one: Debian and Ubuntu {debian}, Fedora {fedora}, with pip: ziglang; "
        "--emit object and --emit static need none",
    )


def _is_host(target: Target) -> bool:
    arch = target.triple.split("-")[0]
    names = {"amd64": "x86_64", "arm64": "aarch64"}
    machine = platform.machine().lower()
    return platform.system() == "Linux" and names.get(machine, machine) == arch


def _machine(target: Target) -> _Machine:
    found = _MACHINES.get(target.triple.split("-")[0])
    if found is None:
        raise CompileError(
            message(
                f"no shared library or program for target {target.name!r}",
                at="",
                hint=f"architectures: {', '.join(_MACHINES)}",
            )
        )
    return found


# -- running it -----------------------------------------------------------------------------------
class _Failure(Exception):
    """A linker did not do its work; says what it said."""


def _produce(
    out: Path,
    target: Target,
    tools: Sequence[Tool],
    command: Callable[[Tool, Path], list[str]],
) -> None:
    """Run the tools in order until one has made `out`."""
    failures = []
    for tool in tools:
        # Beside the output: a rename within one folder makes it appear whole.
        with tempfile.TemporaryDirectory(prefix=".graphc-link-", dir=out.parent) as name:
            folder = Path(name)
            try:
                _run(command(tool, folder), folder)
                _check(folder / "linked", target)
            except _Failure as failure:
                failures.append(str(failure))
                continue
            os.replace(folder / "linked", out)
            return
    raise CompileError(
        message(f"linking {out.name} for {target.name} failed", operands=failures, at="")
    )


def _run(command: Sequence[str], folder: Path) -> None:
    """Run a command in a folder. Raises _Failure with what it said."""
    shown = shlex.join(command)
    # LD_RUN_PATH would put folders of this machine into what is linked.
    environment = {k: v for k, v in os.environ.items() if k != "LD_RUN_PATH"} | {"LC_ALL": "C"}
    try:
        # A session of its own, so that what it started ends with it.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise _Failure(f"{shown}\n    {error}") from error
    try:
        said, _ = process.communicate(timeout=_SECONDS)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise _Failure(f"{shown}\n    stopped after {_SECONDS:g} s") from error
        raise
    if process.returncode:
        lines = said.decode(errors="replace").splitlines()
        if len(lines) > _MOST_LINES:
            lines = [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more lines"]
        text = "\n".join(f"    {line}" for line in lines)
        raise _Failure(f"{shown}\n    exit status {process.returncode}\n{text}")


def _check(linked: Path, target: Target) -> None:
    """That the tool made an ELF file of the target's architecture."""
    try:
        with open(linked, "rb") as file:
            head = file.read(20)
    except OSError as error:
        raise _Failure(f"the linker wrote no file: {error.strerror}") from error
    # ELF64, little-endian; e_machine is at byte 18.
    machine = int.from_bytes(head[18:20], "little")
    if head[:6] != b"\x7fELF\x02\x01" or machine != _machine(target).elf:
        raise _Failure(f"the linker wrote no 64-bit ELF file for {target.name}")
