"""The object loader: what it loads runs, and nothing malformed gets through."""

from __future__ import annotations

import ctypes
import gc
import random
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from graphc.base.errors import CompileError
from graphc.runtime import object_loader
from graphc.runtime.object_loader import addresses, link, load, read

EVERYTHING = """
@counter = global i64 5
@zeros = internal global [100 x i64] zeroinitializer
@table = internal constant [3 x ptr] [ptr @one, ptr @two, ptr @three]
@exported = constant [4 x float] [float 1.5, float 2.5, float 3.5, float 4.5]
@elsewhere = external global i64
declare i64 @outside(i64)

define internal i64 @one(i64 %x) noinline { ret i64 1 }
define internal i64 @two(i64 %x) noinline { %r = mul i64 %x, 2  ret i64 %r }
define i64 @three(i64 %x) noinline { %r = mul i64 %x, 3  ret i64 %r }

define i64 @dispatch(i64 %k, i64 %x) {
  %p = getelementptr ptr, ptr @table, i64 %k
  %f = load ptr, ptr %p
  %r = call i64 %f(i64 %x)
  ret i64 %r
}
define i64 @count() {
  %v = load i64, ptr @counter
  %n = add i64 %v, 1
  store i64 %n, ptr @counter
  ret i64 %n
}
define i64 @bump(i64 %k) {
  %p = getelementptr i64, ptr @zeros, i64 %k
  %v = load i64, ptr %p
  %n = add i64 %v, 10
  store i64 %n, ptr %p
  ret i64 %n
}
define i64 @calls(i64 %x) {
  %a = call i64 @outside(i64 %x)
  %b = call i64 @three(i64 %a)
  ret i64 %b
}
define i64 @takes_address(i64 %x) {
  %r = ptrtoint ptr @outside to i64
  ret i64 %r
}
define i64 @reads_outside() {
  %r = load i64, ptr @elsewhere
  ret i64 %r
}
define double @polynomial(double %x) {
  %a = fmul double %x, 0x400921FB54442D18
  %b = fadd double %a, 0x4005BF0A8B145769
  ret double %b
}
define void @scale(ptr %p) {
  %v = load <16 x float>, ptr %p, align 4
  %w = fmul <16 x float> %v, <
    float 0.0, float 1.0, float 2.0, float 3.0, float 4.0, float 5.0, float 6.0, float 7.0,
    float 8.0, float 9.0, float 10.0, float 11.0, float 12.0, float 13.0, float 14.0, float 15.0>
  store <16 x float> %w, ptr %p, align 4
  ret void
}
define i64 @jump(i64 %k) {
  switch i64 %k, label %other [
    i64 0, label %a  i64 1, label %b  i64 2, label %c  i64 3, label %d  i64 4, label %e
  ]
a: %ra = call i64 @one(i64 1)  ret i64 %ra
b: %rb = call i64 @two(i64 7)  ret i64 %rb
c: %rc = call i64 @three(i64 7) ret i64 %rc
d: %rd = call i64 @count() ret i64 %rd
e: %re = call i64 @bump(i64 7) ret i64 %re
other: ret i64 -1
}
"""

OUTSIDE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x: x + 100)
ELSEWHERE = ctypes.c_int64(4711)
EXTERNALS = {
    "outside": ctypes.cast(OUTSIDE, ctypes.c_void_p).value or 0,
    "elsewhere": ctypes.addressof(ELSEWHERE),
}


def function(
    loaded: object_loader.LoadedObject, name: str, *types: type, result: type = ctypes.c_int64
):
    return ctypes.CFUNCTYPE(result, *types)(loaded.address(name))


INT = ctypes.c_int64


def check_everything(loaded: object_loader.LoadedObject) -> None:
    dispatch = function(loaded, "dispatch", INT, INT)
    assert [dispatch(k, 10) for k in range(3)] == [1, 20, 30]
    count = function(loaded, "count")
    assert [count(), count()] == [6, 7]
    bump = function(loaded, "bump", INT)
    assert [bump(99), bump(99), bump(0)] == [10, 20, 10]
    assert function(loaded, "calls", INT)(5) == 315
    assert function(loaded, "takes_address", INT)(0) == EXTERNALS["outside"]
    assert function(loaded, "reads_outside")() == 4711
    polynomial = function(loaded, "polynomial", ctypes.c_double, result=ctypes.c_double)
    assert polynomial(2.0) == 2.0 * np.pi + np.e
    values = np.ones(16, np.float32)
    function(loaded, "scale", ctypes.c_void_p, result=None)(values.ctypes.data)
    assert values.tolist() == list(range(16))
    jump = function(loaded, "jump", INT)
    assert [jump(k) for k in range(6)] == [1, 14, 21, 8, 10, -1]
    assert np.frombuffer(ctypes.string_at(loaded.address("exported"), 16), np.float32).tolist() == [
        1.5,
        2.5,
        3.5,
        4.5,
    ]


@pytest.mark.parametrize("reloc", ["pic", "dynamicnopic"])
def test_everything_runs(compile_text, reloc: str) -> None:
    check_everything(load(compile_text(EVERYTHING, reloc=reloc), EXTERNALS))


def test_large_code_model(compile_text) -> None:
    check_everything(load(compile_text(EVERYTHING, reloc="static", codemodel="large"), EXTERNALS))


def test_static_addresses_that_do_not_fit(compile_text) -> None:
    with pytest.raises(CompileError, match="does not fit 32"):
        load(
            compile_text(EVERYTHING, machine="x86_64", reloc="static", codemodel="small"), EXTERNALS
        )


def test_missing_symbols_are_named(compile_text) -> None:
    data = compile_text(EVERYTHING)
    with pytest.raises(CompileError, match="'elsewhere'"):
        load(data, {"outside": 1})
    loaded = load(data, EXTERNALS)
    with pytest.raises(CompileError, match=r"no symbol 'nothing'; it has .*'count'"):
        loaded.address("nothing")
    with pytest.raises(CompileError, match="no symbol 'one'"):  # internal
        loaded.address("one")


def pages(base: int, size: int) -> dict[int, str]:
    found = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        for page in range(max(start, base), min(end, base + size), 4096):
            found[page - base] = mode[:3]
    return found


def test_no_page_is_writable_and_executable(compile_text) -> None:
    loaded = load(compile_text(EVERYTHING), EXTERNALS)
    modes = pages(loaded.base, loaded.size)
    assert set(modes.values()) == {"r-x", "r--", "rw-"}
    assert modes[loaded.address("count") - loaded.base & -4096] == "r-x"
    assert modes[loaded.address("counter") - loaded.base & -4096] == "rw-"
    assert modes[loaded.address("exported") - loaded.base & -4096] == "r--"


def test_memory_goes_with_the_object(compile_text) -> None:
    data = compile_text(EVERYTHING)

    def mappings() -> int:
        gc.collect()
        return len(Path("/proc/self/maps").read_text().splitlines())

    load(data, EXTERNALS)
    before = mappings()
    for _ in range(50):
        load(data, EXTERNALS)
    assert mappings() <= before + 3
    kept = load(data, EXTERNALS, permanent=True)
    base, size = kept.base, kept.size
    del kept
    gc.collect()
    assert pages(base, size)


def test_other_machines_code_is_refused(compile_text) -> None:
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}
    for machine, name in other.items():
        data = compile_text("define i64 @f() { ret i64 1 }", machine=name)
        if object_loader.os.uname().machine == machine:
            with pytest.raises(CompileError, match=f"for {name}, this machine is {machine}"):
                load(data)


def test_thread_local_data_is_refused(compile_text) -> None:
    text = "@t = thread_local global i64 1\ndefine i64 @f() { %r = load i64, ptr @t  ret i64 %r }"
    with pytest.raises(CompileError, match="thread-local"):
        read(compile_text(text))


def test_unknown_relocations_are_named(compile_text) -> None:
    data = bytearray(
        compile_text(
            "declare i64 @g()\ndefine i64 @f() { %r = call i64 @g()  ret i64 %r }", "x86_64"
        )
    )
    record = data.index(struct.pack("<I", 4), data.index(b"\x7fELF") + 64)
    found = [
        k
        for k in range(len(data) - 24)
        if data[k + 8 : k + 12] == b"\x04\0\0\0" and data[k + 16 : k + 24] == b"\xfc" + b"\xff" * 7
    ]
    assert len(found) == 1, record
    data[found[0] + 8] = 37
    with pytest.raises(CompileError, match="relocation type 37 of x86_64"):
        read(bytes(data))


def test_no_damage_crashes_the_reader(compile_text) -> None:
    """Bytes are bent in several ways: the answer is a layout or a CompileError."""
    data = compile_text(EVERYTHING)
    for length in range(0, len(data), 7):
        with pytest.raises(CompileError):
            read(data[:length])
    rng = random.Random(5)
    refused = 0
    for position in [*range(64), *rng.sample(range(64, len(data)), 1500)]:
        for value in (0, 0xFF, 0x80):
            bent = bytearray(data)
            bent[position] = value
            try:
                layout = read(bytes(bent))
                image = link(layout, 0x7F00_0000_0000, EXTERNALS)
            except CompileError:
                refused += 1
            else:
                assert len(image) == layout.size
    assert refused > 100


def test_not_elf() -> None:
    for data in (b"", b"x", bytes(64), b"\x7fELF" + bytes(60), b"MZ" + bytes(100)):
        with pytest.raises(CompileError):
            read(data)


def test_linking_elsewhere_moves_every_address(compile_text) -> None:
    layout = read(compile_text(EVERYTHING))
    first, second = addresses(layout, 0x10_0000), addresses(layout, 0x7000_0000_0000)
    assert {name: second[name] - first[name] for name in first} == dict.fromkeys(
        first, 0x7000_0000_0000 - 0x10_0000
    )


def test_loading_is_quick(compile_text) -> None:
    body = "\n".join(
        f"define double @f{k}(double %x) {{ %a = fmul double %x, {k}.125  "
        f"%b = fadd double %a, {k}.0625  ret double %b }}"
        for k in range(1, 301)
    )
    data = compile_text(body)
    best = 1.0
    for _ in range(10):
        start = time.perf_counter()
        loaded = load(data)
        best = min(best, time.perf_counter() - start)
    assert (
        function(loaded, "f300", ctypes.c_double, result=ctypes.c_double)(2.0) == 600.25 + 300.0625
    )
    assert best < 0.02, "the aim is 3 ms; this bound only tells vectorised from not"
