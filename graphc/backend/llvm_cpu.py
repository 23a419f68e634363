"""Programs to objects for CPUs (floor 6): emit the text, hand it to LLVM. llvmlite is imported only here."""

from __future__ import annotations

import importlib
from typing import Any

from graphc.backend.entry import ENTRY, Program, emit_program
from graphc.base.target import Target


def driver() -> Any:
    """The llvmlite driver, imported on first use: most processes load cached objects and never need it."""
    return importlib.import_module("graphc.backend.llvm_driver")


def host_target() -> Target:
    """The target of this machine."""
    return driver().host_target()  # type: ignore[no-any-return]


def emit_program_text(program: Program, target: Target) -> str:
    """The LLVM IR of a whole program: one module."""
    return emit_program(program, target)


def compile_program(program: Program, target: Target) -> bytes:
    """The relocatable object of a program, with the symbols `graphc_entry` and `graphc_arena_bytes`."""
    return driver().compile_object(emit_program(program, target), target)  # type: ignore[no-any-return]


def program_assembly(program: Program, target: Target) -> str:
    """The assembly text of a program, for `explain("assembly")`."""
    return driver().compile_assembly(emit_program(program, target), target)  # type: ignore[no-any-return]


__all__ = ["ENTRY", "compile_program", "driver", "emit_program_text", "host_target", "program_assembly"]
