"""The only module that talks to llvmlite (floor 6): text to objects, objects to addresses.

Import it through `importlib` where it is first needed: llvmlite costs 60 ms and 179 MB of mapping.
Object files hold no reference to outside symbols; `undefined_symbols` lets tests hold us to that.
"""

from __future__ import annotations

import itertools
import threading

import llvmlite.binding as llvm

from graphc.backend.loop_emitter import TILE
from graphc.base.errors import CompileError, message
from graphc.base.target import AARCH64, X86_BASELINE, X86_V3, X86_V4, X86_V4_VNNI, Target

_OLDEST_LLVM = 22
_LOCK = threading.Lock()
_machines: dict[tuple[str, str, str, int], llvm.TargetMachine] = {}


def llvm_version() -> str:
    """LLVM's version, part of every cache key."""
    return ".".join(map(str, llvm.llvm_version_info))


def host_target() -> Target:
    """The best of our targets that this machine can run."""
    triple = llvm.get_process_triple()
    if triple.startswith("aarch64"):
        return AARCH64
    if not triple.startswith("x86_64"):
        raise CompileError(f"no target for this machine: {triple}")
    features = llvm.get_host_cpu_features()
    v3 = ("avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe")
    v4 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
    if not all(features.get(name, False) for name in v3):
        return X86_BASELINE
    if not all(features.get(name, False) for name in v4):
        return X86_V3
    return X86_V4_VNNI if features.get("avx512vnni", False) else X86_V4


def _check_version(version: tuple[int, ...]) -> None:
    """Raise CompileError for an LLVM that reads another text than we write."""
    if version[0] < _OLDEST_LLVM:
        raise CompileError(
            message(
                f"graphc needs LLVM {_OLDEST_LLVM} or newer (llvmlite 0.50); the llvmlite that is "
                f"installed has {'.'.join(map(str, version))}",
                hint='pip install "llvmlite>=0.50"; an old numba asks for an older one',
            )
        )


def _machine(target: Target, level: int) -> llvm.TargetMachine:
    key = (target.triple, target.cpu, target.features, level)
    found = _machines.get(key)
    if found is None:
        if not _machines:
            _check_version(llvm.llvm_version_info)
            # A third of code generation for no gain: emitted loops have one counter, and both x86
            # and ARM address memory by base + scaled counter.
            llvm.set_option("graphc", "-disable-lsr")
            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
            llvm.initialize_native_asmparser()  # for the instructions that no intrinsic names
        found = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=level, reloc="pic", codemodel="default"
        )
        _machines[key] = found
    return found


def _module(text: str, target: Target, level: int) -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
    machine = _machine(target, level)
    try:
        module = llvm.parse_assembly(text)
    except RuntimeError as error:
        raise CompileError(f"LLVM rejects the emitted text: {error}") from error
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    return module, machine


def _promote(module: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    """Put register buffers into registers."""
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)


def compile_object(text: str, target: Target, level: int = 1, verify: bool = False) -> bytes:
    """LLVM IR text to a relocatable object. Raises CompileError with LLVM's message."""
    with _LOCK:
        module, machine = _module(text, target, level)
        if verify:
            _verify(module)
        if TILE in text:
            _promote(module, machine)
        return bytes(machine.emit_object(module))


def compile_assembly(text: str, target: Target, level: int = 1, verify: bool = False) -> str:
    """LLVM IR text to the target's assembly (PTX for NVPTX)."""
    with _LOCK:
        module, machine = _module(text, target, level)
        if verify:
            _verify(module)
        if TILE in text:
            _promote(module, machine)
        return str(machine.emit_assembly(module))


def _verify(module: llvm.ModuleRef) -> None:
    try:
        module.verify()
    except RuntimeError as error:
        raise CompileError(f"LLVM's verifier: {error}") from error


class LoadedObject:
    """An object in memory, ready to be called; it is unloaded with the last reference."""

    def __init__(self, content: bytes, symbols: tuple[str, ...]) -> None:
        builder = llvm.JITLibraryBuilder().add_object_img(content)
        for name in symbols:
            builder.export_symbol(name)
        # A library's name can never be used again, not even after it is unloaded.
        self._tracker = builder.link(_jit(), f"graphc{next(_numbers)}")

    def address(self, symbol: str) -> int:
        """The address of an exported symbol."""
        return int(self._tracker[symbol])


_jits: list[llvm.LLJIT] = []
_numbers = itertools.count()


def _jit() -> llvm.LLJIT:
    if not _jits:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        _jits.append(llvm.create_lljit_compiler())
    return _jits[0]


def load_object(content: bytes, symbols: tuple[str, ...]) -> LoadedObject:
    """Load object bytes for this machine and resolve `symbols` in them."""
    with _LOCK:
        return LoadedObject(content, symbols)


def undefined_symbols(content: bytes) -> tuple[str, ...]:
    """The symbols that an ELF object needs from outside: none, for everything we emit."""
    header = _elf_table(content)
    names: list[str] = []
    for kind, offset, size, link in header:
        if kind != 2:  # SHT_SYMTAB
            continue
        _, strings, _, _ = header[link]
        for at in range(offset + 24, offset + size, 24):
            if int.from_bytes(content[at + 6 : at + 8], "little") == 0:
                start = strings + int.from_bytes(content[at : at + 4], "little")
                names.append(content[start : content.index(b"\0", start)].decode())
    return tuple(name for name in names if name)


def _elf_table(content: bytes) -> list[tuple[int, int, int, int]]:
    """(type, offset, size, link) of every section of a 64-bit little-endian ELF object."""
    if content[:6] != b"\x7fELF\x02\x01":
        raise CompileError("not a 64-bit little-endian ELF object")
    start = int.from_bytes(content[40:48], "little")
    count = int.from_bytes(content[60:62], "little")
    table = []
    for at in range(start, start + 64 * count, 64):
        table.append((
            int.from_bytes(content[at + 4 : at + 8], "little"),
            int.from_bytes(content[at + 24 : at + 32], "little"),
            int.from_bytes(content[at + 32 : at + 40], "little"),
            int.from_bytes(content[at + 40 : at + 44], "little"),
        ))  # fmt: skip
    return table
