"""Hand-written LLVM text to object bytes and programs, without the compiler."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import pytest

from graphc.base.dims import Symbol, symbols
from graphc.base.dtypes import DType, dtype_of
from graphc.runtime import support_code
from graphc.runtime.cache import ObjectCache
from graphc.runtime.caller import Bindings, Caller, NativeCaller, make_caller
from graphc.runtime.device import LoadedProgram
from graphc.runtime.object_loader import LoadedObject, load
from graphc.runtime.python_entry import load_entry, object_layout
from graphc.runtime.signature import ArraySpec, CallSignature
from graphc.runtime.state import CallState
from graphc.runtime.thread_pool import ThreadPool

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


# Programs. `copy`: buffers[1] = bytes of buffers[0], as many as dims[0] says (float32).
# `site`: returns dims[0] as the error site.
# `count`: variable + 1 -> update, output = variable (int64 scalars).
PROGRAMS = """
define i64 @no_arena(ptr %dims, i64 %threads) { ret i64 0 }
define i64 @big_arena(ptr %dims, i64 %threads) {
  %n = load i64, ptr %dims
  %b = mul i64 %n, 1000
  ret i64 %b
}
define i64 @nothing(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) { ret i64 0 }
define i64 @site(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) {
  %n = load i64, ptr %dims
  ret i64 %n
}
define i64 @double(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) {
entry:
  %in = load ptr, ptr %buffers
  %p = getelementptr ptr, ptr %buffers, i64 1
  %out = load ptr, ptr %p
  %n = load i64, ptr %dims
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %one ]
  %last = icmp sge i64 %i, %n
  br i1 %last, label %done, label %one
one:
  %ip = getelementptr float, ptr %in, i64 %i
  %v = load float, ptr %ip
  %w = fadd float %v, %v
  %op = getelementptr float, ptr %out, i64 %i
  store float %w, ptr %op
  %i1 = add i64 %i, 1
  br label %loop
done:
  ret i64 0
}
define i64 @touch_arena(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) {
  %n = load i64, ptr %dims
  %b = mul i64 %n, 1000
  %l = sub i64 %b, 8
  %p = getelementptr i8, ptr %arena, i64 %l
  store volatile i64 1, ptr %p
  store volatile i64 1, ptr %arena
  ret i64 0
}
; buffers: limit (input), variable, output, update
define i64 @count(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) {
  %limit.p = load ptr, ptr %buffers
  %limit = load i64, ptr %limit.p
  %b1 = getelementptr ptr, ptr %buffers, i64 1
  %variable.p = load ptr, ptr %b1
  %variable = load i64, ptr %variable.p
  %b2 = getelementptr ptr, ptr %buffers, i64 2
  %output.p = load ptr, ptr %b2
  %b3 = getelementptr ptr, ptr %buffers, i64 3
  %update.p = load ptr, ptr %b3
  store i64 %variable, ptr %output.p
  %next = add i64 %variable, 1
  store i64 %next, ptr %update.p
  %bad = icmp sge i64 %variable, %limit
  %site = select i1 %bad, i64 7, i64 0
  ret i64 %site
}
; buffers: two variables, their updates: each variable + 1
define i64 @count_two(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) {
  %b1 = getelementptr ptr, ptr %buffers, i64 1
  %b2 = getelementptr ptr, ptr %buffers, i64 2
  %b3 = getelementptr ptr, ptr %buffers, i64 3
  %first.p = load ptr, ptr %buffers
  %second.p = load ptr, ptr %b1
  %first.update.p = load ptr, ptr %b2
  %second.update.p = load ptr, ptr %b3
  %first = load i64, ptr %first.p
  %second = load i64, ptr %second.p
  %first.next = add i64 %first, 1
  %second.next = add i64 %second, 1
  store i64 %first.next, ptr %first.update.p
  store i64 %second.next, ptr %second.update.p
  ret i64 0
}
; sleeps without Python: spins dims[0] million steps
define i64 @spin(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) {
entry:
  %n = load i64, ptr %dims
  %steps = mul i64 %n, 1000000
  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %k1, %loop ]
  call void asm sideeffect "", "r"(i64 %k)
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %steps
  br i1 %more, label %loop, label %done
done:
  ret i64 0
}
"""


@pytest.fixture(scope="session")
def programs(compile_text: Compile) -> LoadedObject:
    return load(compile_text(PROGRAMS), permanent=True)


@pytest.fixture(scope="session")
def entry(tmp_path_factory: pytest.TempPathFactory) -> LoadedObject:
    if support_code.support_target() is None or object_layout() is None:
        pytest.skip("no native entry here")
    return load_entry(ObjectCache(tmp_path_factory.mktemp("cache")))


class Maker:
    """Makes callers of one kind, native or Python."""

    def __init__(self, programs: LoadedObject, entry: LoadedObject | None) -> None:
        self.programs = programs
        self.entry = entry
        self.state = CallState(ThreadPool(), 1, entry.address("graphc_try_lock") if entry else 0)

    def __call__(
        self,
        inputs: dict[str, tuple[DType | str, tuple[Any, ...]]],
        outputs: dict[str, tuple[DType | str, tuple[Any, ...]]] | None = None,
        program: str = "nothing",
        arena: str = "no_arena",
        single: bool = False,
        work: Any = 0,
        **bindings: Any,
    ) -> Caller:
        specs = [
            tuple(ArraySpec(name, dtype_of(dtype), shape) for name, (dtype, shape) in group.items())
            for group in (inputs, outputs or {})
        ]
        found: dict[str, Symbol] = {}
        for spec in (*specs[0], *specs[1]):
            found.update({symbol.name: symbol for symbol in symbols(spec.shape)})
        signature = CallSignature(specs[0], specs[1], tuple(found.values()), single, work, "f")
        loaded = LoadedProgram(
            self.programs.address(program), self.programs.address(arena), self.programs
        )
        made = make_caller(signature, loaded, Bindings(**bindings), self.state, self.entry)
        assert isinstance(made, NativeCaller) == (self.entry is not None)
        return made


@pytest.fixture(params=["native", "python"])
def make(request: pytest.FixtureRequest, programs: LoadedObject) -> Maker:
    return Maker(programs, request.getfixturevalue("entry") if request.param == "native" else None)


@pytest.fixture
def native(programs: LoadedObject, entry: LoadedObject) -> Maker:
    return Maker(programs, entry)
