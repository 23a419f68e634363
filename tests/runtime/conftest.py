"""Hand-written LLVM text to object bytes, without the compiler's own driver."""

from __future__ import annotations

import os
from collections.abc import Callable

import llvmlite.binding as llvm
import pytest

Compile = Callable[..., bytes]

TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}


def compile_text(
    text: str, machine: str | None = None, reloc: str = "pic", codemodel: str = "default"
) -> bytes:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple = TRIPLES[machine or os.uname().machine]
    target = llvm.Target.from_triple(triple).create_target_machine(
        opt=2, reloc=reloc, codemodel=codemodel
    )
    module = llvm.parse_assembly(f'target triple = "{triple}"\n{text}')
    module.verify()
    return target.emit_object(module)


@pytest.fixture(scope="session", name="compile_text")
def _compile_text() -> Compile:
    return compile_text
