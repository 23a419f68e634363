"""Programs to objects for CPUs (floor 6): emit the text, hand it to the LLVM driver.

The driver, and llvmlite with it, is imported when something is compiled, not before.
"""

from __future__ import annotations

import importlib
from typing import Any

from graphc.backend.entry import ENTRY, emit_program
from graphc.backend.program import Program
from graphc.base.target import Target


def driver() -> Any:
    """The llvmlite driver, imported on first use: cached objects are loaded without it."""
    return importlib.import_module("graphc.backend.llvm_driver")


def host_target() -> Target:
    """The target of this machine."""
    target: Target = driver().host_target()
    return target


def emit_program_text(program: Program, target: Target) -> str:
    """The LLVM IR of a whole program: one module."""
    return emit_program(program, target)


def compile_program(program: Program, target: Target) -> bytes:
    """The relocatable object of a program; it defines ENTRY and ARENA_BYTES."""
    content: bytes = driver().compile_object(emit_program(program, target), target)
    return content


def program_assembly(program: Program, target: Target) -> str:
    """The assembly text of a program, for `explain("assembly")`."""
    text: str = driver().compile_assembly(emit_program(program, target), target)
    return text


__all__ = [
    "ENTRY",
    "compile_program",
    "driver",
    "emit_program_text",
    "host_target",
    "program_assembly",
]
