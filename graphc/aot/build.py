"""`graphc.compile` (floor 8): a graph to files that need no Python.

Everything is made in a folder of its own first and moved into place file by file when all of it is
there, so that a failure leaves what was there before.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphc.aot.archive import archive
from graphc.aot.bindings import binding_files
from graphc.aot.dispatch import targets_of
from graphc.aot.example import build_files, example_text
from graphc.aot.header import header_text
from graphc.aot.interface import Interface, library_name, public_symbols
from graphc.aot.linker import compile_program, link_shared
from graphc.aot.module import Module, make_module
from graphc.aot.options import Options
from graphc.aot.program_text import program_text
from graphc.aot.sizes import SizeReport, size_report
from graphc.base.errors import CompileError, UnsupportedError, message
from graphc.ir import provenance
from graphc.ir.graph import Graph
from graphc.ir.node import describe
from graphc.program_lookup import schedules_of_user
from graphc.runtime.executable import CompileOptions
from graphc.version import __version__


@dataclass(frozen=True)
class Artifact:
    """What `graphc.compile` made.

    files: every file, the main one first; interface: what C sees; size: where the bytes are.
    """

    files: tuple[Path, ...]
    interface: Interface
    targets: tuple[str, ...]
    size: SizeReport

    @property
    def library(self) -> Path:
        """The main file."""
        return self.files[0]

    @property
    def report(self) -> str:
        """The size report as a table."""
        return self.size.text

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "files": [str(f) for f in self.files],
            "targets": list(self.targets),
            "interface": self.interface.describe(),
            "size": self.size.to_dict(),
        }


@dataclass(frozen=True)
class _Job:
    """One compilation with everything that decides its files."""

    module: Module
    object: bytes
    folder: Path
    options: Options

    @property
    def name(self) -> str:
        return self.module.interface.name

    def path(self, suffix: str) -> Path:
        return self.folder / f"{self.name}{suffix}"

    def write(self, suffix: str, content: str | bytes) -> Path:
        path = self.path(suffix)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


def build(graph: Graph, path: str | os.PathLike[str], options: Options) -> Artifact:
    """`graphc.compile` with its options checked."""
    folder = Path(path)
    graph = graph.with_current_values()
    _check_sizes(graph)
    driver = importlib.import_module("graphc.backend.llvm_driver")
    targets = targets_of(options.target, driver.host_target())
    own = options.name or library_name(folder.resolve().name)
    settings = CompileOptions(numerics=options.numerics, check_numerics=options.check_numerics)
    external = options.weights == "external"
    choices = schedules_of_user() if options.target == "native" else None
    module = make_module(graph, own, targets, settings, external=external, choices=choices)
    content = driver.compile_object(module.text, module.base)
    size = size_report(content, module)
    parent = folder.resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".graphc-", dir=parent) as temporary:
        job = _Job(module, content, Path(temporary), options)
        made = _EMITTERS[options.emit](job)
        if external:
            made.append(job.write(".safetensors", b"".join(module.weights.file_parts())))
        made += binding_files(job.module.interface, job.folder, options.bindings)
        made.append(job.write(".json", _manifest(job)))
        _check_size(made[0], size, options.max_size)
        folder.mkdir(parents=True, exist_ok=True)
        files = tuple(_move(file, Path(temporary), folder) for file in made)
    return Artifact(files, module.interface, tuple(t.name for t in targets), size)


def _check_sizes(graph: Graph) -> None:
    """Raise UnsupportedError where the graph computes a size: a library's memory is fixed."""
    for part in (graph, *graph.bodies):
        for symbol, count in part.bindings:
            raise UnsupportedError(
                message(
                    f"compile: the size {symbol.name!r} is computed by the graph "
                    f"({count.op.name}), and a library asks for all memory before it runs",
                    operands=[describe(count)],
                    at=provenance.where(count) or None,
                    hint="give the size a bound by shapes: graphc.where keeps the shape of what a "
                    "mask selects from",
                )
            )


def _manifest(job: _Job) -> str:
    """NAME.json: the interface for tools and bindings."""
    content = job.module.interface.describe() | {
        "producer": f"graphc {__version__}",
        "emit": job.options.emit,
        "numerics": job.options.numerics,
        "check_numerics": job.options.check_numerics,
        "targets": [t.name for t in job.module.targets],
    }
    return json.dumps(content, indent=1) + "\n"


def _shared(job: _Job) -> list[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{job.name}.o"
        path.write_bytes(job.object)
        link_shared(
            path,
            job.path(".so"),
            job.module.base,
            linker=job.options.linker,
            exports=public_symbols(job.module.interface),
        )
    return [job.path(".so"), *_sources(job, f"{job.name}.so")]


def _static(job: _Job) -> list[Path]:
    symbols = public_symbols(job.module.interface)
    member = f"{job.name}.o"
    made = job.write(".a", archive({member: job.object}, {member: symbols}))
    return [made, *_sources(job, f"{job.name}.a")]


def _object(job: _Job) -> list[Path]:
    return [job.write(".o", job.object), job.write(".h", _header(job))]


def _llvm(job: _Job) -> list[Path]:
    return [job.write(".ll", job.module.text), job.write(".h", _header(job))]


def _executable(job: _Job) -> list[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / f"{job.name}_main.c"
        source.write_text(program_text(job.module.interface))
        (Path(scratch) / f"{job.name}.h").write_text(_header(job))
        content = Path(scratch) / f"{job.name}.o"
        content.write_bytes(job.object)
        out = job.folder / job.name
        compile_program([source, content], out, job.module.base, linker=job.options.linker)
    return [out]


def _header(job: _Job) -> str:
    return header_text(job.module.interface, __version__)


def _sources(job: _Job, library: str) -> list[Path]:
    interface = job.module.interface
    files = {f"{job.name}.h": _header(job), "example.c": example_text(interface)}
    files |= build_files(interface, library)
    made = []
    for file, text in files.items():
        made.append(job.folder / file)
        made[-1].write_text(text)
    return made


_EMITTERS: dict[str, Callable[[_Job], list[Path]]] = {
    "c-library": _shared,
    "static": _static,
    "executable": _executable,
    "object": _object,
    "llvm": _llvm,
}


def _check_size(main: Path, size: SizeReport, max_size: int | None) -> None:
    if max_size is None:
        return
    beyond = main.stat().st_size - size.weight_bytes
    if beyond > max_size:
        raise CompileError(
            message(
                f"{main.name} is {beyond} bytes beyond its weights, more than max_size={max_size}",
                operands=size.text.splitlines(),
                at="",
                hint="one instruction set instead of all (target), or a larger max_size",
            )
        )


def _move(file: Path, temporary: Path, folder: Path) -> Path:
    to = folder / file.relative_to(temporary)
    to.parent.mkdir(parents=True, exist_ok=True)
    if to.is_dir():
        raise CompileError(message(f"{to} is a folder, in the way of a file", at=""))
    shutil.move(file, to)
    return to
