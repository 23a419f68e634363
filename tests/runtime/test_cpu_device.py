"""The CPU device: programs load and run, also as the first calls of many processes at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphc.base.dims import Dim, symbols
from graphc.base.dtypes import float32
from graphc.base.errors import CompileError, DeviceError
from graphc.runtime import buffers, cpu_device, processors
from graphc.runtime.cache import ObjectCache
from graphc.runtime.caller import Bindings
from graphc.runtime.cpu_device import CpuDevice
from graphc.runtime.signature import ArraySpec, CallSignature

Compile = Callable[..., bytes]

# y = x + x by chunks of 4 over the context's pool; half of the arena is written by the workers.
PROGRAM = """
define i64 @graphc_arena_bytes(ptr %dims, i64 %threads) {
  %n = load i64, ptr %dims
  %b = mul i64 %n, 4
  ret i64 %b
}
define internal void @kernel(ptr %args, i64 %begin, i64 %end, i64 %worker) {
entry:
  %x = load ptr, ptr %args
  %p = getelementptr ptr, ptr %args, i64 1
  %y = load ptr, ptr %p
  %q = getelementptr ptr, ptr %args, i64 2
  %scratch = load ptr, ptr %q
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %i1, %loop ]
  %xp = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %xp
  %w = fadd float %v, %v
  %sp = getelementptr float, ptr %scratch, i64 %i
  store volatile float %w, ptr %sp
  %r = load volatile float, ptr %sp
  %yp = getelementptr float, ptr %y, i64 %i
  store float %r, ptr %yp
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %end
  br i1 %more, label %loop, label %done
done:
  ret void
}
define i64 @graphc_entry(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) {
entry:
  %args = alloca [3 x ptr]
  %x = load ptr, ptr %buffers
  %p = getelementptr ptr, ptr %buffers, i64 1
  %y = load ptr, ptr %p
  store ptr %x, ptr %args
  %a1 = getelementptr ptr, ptr %args, i64 1
  store ptr %y, ptr %a1
  %a2 = getelementptr ptr, ptr %args, i64 2
  store ptr %arena, ptr %a2
  %n = load i64, ptr %dims
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %some, label %done
some:
  %f = getelementptr ptr, ptr %ctx, i64 1
  %parallel = load ptr, ptr %f
  %t = getelementptr i64, ptr %ctx, i64 2
  %threads = load i64, ptr %t
  %serial = icmp eq ptr %parallel, null
  br i1 %serial, label %alone, label %together
alone:
  call void @kernel(ptr %args, i64 0, i64 %n, i64 0)
  br label %done
together:
  call void %parallel(ptr @kernel, ptr %args, i64 %n, i64 4, i64 %threads)
  br label %done
done:
  ret i64 0
}
"""

n = Dim("n")
SIGNATURE = CallSignature(
    (ArraySpec("x", float32, (n,)),),
    (ArraySpec("y", float32, (n,)),),
    symbols((n,)),
    single=True,
    work=n,
)


@pytest.fixture(scope="module")
def program(compile_text: Compile) -> bytes:
    return compile_text(PROGRAM)


@pytest.mark.parametrize("threads", [1, None])
def test_both_ways_to_call(tmp_path: Path, program: bytes, threads: int | None) -> None:
    device = CpuDevice(threads, ObjectCache(tmp_path))
    loaded = device.load(program)
    caller = device.make_caller(SIGNATURE, loaded, Bindings())
    for length in (0, 1, 7, 10_000, 300):
        x = np.arange(length, dtype=np.float32)
        y = device.allocate(x.shape, x.dtype)
        assert device.call(loaded, [buffers.address(x), buffers.address(y)], [length]) == 0
        assert (y == 2 * x).all()
        assert (caller.function(x) == 2 * x).all()
    assert device.arena_bytes(loaded, [10_000]) == 40_000
    assert device.state.arena.capacity >= 40_000


def test_threads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "available", lambda: 3)
    assert [CpuDevice(t).threads for t in (None, 1, 2, 3, 64)] == [3, 1, 2, 3, 3]
    with pytest.raises(DeviceError, match="at least 1, got 0"):
        CpuDevice(0)


def test_making_a_device_starts_nothing(tmp_path: Path, program: bytes) -> None:
    before = len(os.listdir("/proc/self/task"))
    device = CpuDevice(cache=ObjectCache(tmp_path))
    device.make_caller(SIGNATURE, device.load(program), Bindings()).function(
        np.zeros(3, np.float32)
    )
    assert len(os.listdir("/proc/self/task")) == before


def test_llvm_loads_what_the_own_loader_does_not(
    program: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(data: bytes) -> None:
        raise CompileError("relocation type 99 is unknown to the loader")

    monkeypatch.setattr(cpu_device.object_loader, "load", refuse)
    device = CpuDevice(1)
    loaded = device.load(program)
    x = np.arange(5, dtype=np.float32)
    y = np.zeros(5, np.float32)
    device.call(loaded, [buffers.address(x), buffers.address(y)], [5])
    assert y.tolist() == [0, 2, 4, 6, 8]


_FIRST_CALL = """
import sys
import numpy as np
from graphc.base.dims import Dim, symbols
from graphc.base.dtypes import float32
from graphc.runtime.cache import ObjectCache
from graphc.runtime.caller import Bindings
from graphc.runtime.cpu_device import CpuDevice
from graphc.runtime.signature import ArraySpec, CallSignature
n = Dim("n")
signature = CallSignature(
    (ArraySpec("x", float32, (n,)),), (ArraySpec("y", float32, (n,)),), symbols((n,)), True
)
device = CpuDevice(2, ObjectCache(sys.argv[2]))
caller = device.make_caller(signature, device.load(open(sys.argv[1], "rb").read()), Bindings())
x = np.arange(100, dtype=np.float32)
assert (caller.function(x) == 2 * x).all()
print("llvmlite" in sys.modules)
"""


def test_first_calls_of_many_processes(tmp_path: Path, program: bytes) -> None:
    """Processes start on one empty cache, some are killed: all others are right."""
    (tmp_path / "program.o").write_bytes(program)
    command = [
        sys.executable,
        "-c",
        _FIRST_CALL,
        str(tmp_path / "program.o"),
        str(tmp_path / "cache"),
    ]
    rng = random.Random(2)
    batch = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(12)
    ]
    for process in batch[::3]:
        time.sleep(rng.uniform(0.05, 0.4))
        process.send_signal(signal.SIGKILL)
    for k, process in enumerate(batch):
        out, err = process.communicate(timeout=120)
        if k % 3:
            assert process.returncode == 0 and out in (b"True\n", b"False\n"), err.decode()
    # From the cache no process imports LLVM; a flipped byte makes the next one compile again.
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"False\n"
    for path in (tmp_path / "cache").glob("??/[0-9a-f]*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"True\n"
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"False\n"
