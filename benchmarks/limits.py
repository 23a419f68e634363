"""What can this machine do at best? (multiply-adds per second, bytes per second)

Measured by loops that graphc's own back end compiles: independent fused multiply-adds that fill the
registers, a sum over memory, a copy with ordinary stores and one with stores past the caches; on
one thread and on several. A figure is the best of its rounds: a limit is what was ever reached.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.table import Row
from benchmarks.workloads.workload import Array
from graphc.backend.llvm_driver import LoadedObject, compile_object, host_target, load_object

FMA_TURNS = 400_000
BLOCK = 8  # vectors that one turn of a memory loop moves
MEGABYTES = 128  # of each array: several times the last cache
ROUNDS = 12


@dataclass(frozen=True)
class Limits:
    """flop/s of float32 multiply-adds and bytes/s, by one thread and by `threads`.

    copy: bytes read and bytes written, together.
    """

    threads: int
    flops_one: float
    flops: float
    read_one: float
    read: float
    copy_one: float
    copy: float
    stream_copy_one: float
    stream_copy: float

    @property
    def bandwidth(self) -> float:
        """The most bytes per second that any of the loops moved, on all threads."""
        return max(self.read, self.copy, self.stream_copy)

    def fields(self) -> dict[str, float]:
        """For JSON."""
        return {**asdict(self), "bandwidth": self.bandwidth}


def _loop(name: str, vector: str, phis: Sequence[str], body: Sequence[str], out: str) -> str:
    lines = [
        f'define void @{name}(i64 %n, ptr %x, ptr %y) "min-legal-vector-width"="512" {{',
        "entry:",
        f"  %one = load {vector}, ptr %y",
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]",
        *(f"  {line}" for line in (*phis, *body)),
        "  %i.next = add i64 %i, 1",
        "  %more = icmp ult i64 %i.next, %n",
        "  br i1 %more, label %loop, label %done",
        "done:",
        *(f"  {line}" for line in out.splitlines()),
        "  ret void",
        "}",
    ]
    return "\n".join(lines)


def _sums(vector: str, count: int) -> tuple[list[str], str]:
    """Phis of `count` accumulators, and the lines behind the loop that keep them alive."""
    phis = [f"%a{k} = phi {vector} [ %one, %entry ], [ %s{k}, %loop ]" for k in range(count)]
    joined, last = [], "%s0"
    for k in range(1, count):
        joined.append(f"%j{k} = fadd {vector} {last}, %s{k}")
        last = f"%j{k}"
    return phis, "\n".join([*joined, f"store {vector} {last}, ptr %y"])


def program(lanes: int, registers: int) -> str:
    """LLVM IR of the loops: vectors of `lanes` floats, 3/4 of the registers as accumulators."""
    vector = f"<{lanes} x float>"
    count = registers * 3 // 4
    bits = f"v{lanes}f32"
    phis, keep = _sums(vector, count)
    call = f"call {vector} @llvm.fma.{bits}"
    fma = [f"%s{k} = {call}({vector} %a{k}, {vector} %one, {vector} %one)" for k in range(count)]

    def at(base: str, k: int) -> list[str]:
        return [
            f"%{base}k{k} = add i64 %at, {k}",
            f"%{base}p{k} = getelementptr {vector}, ptr %{base}, i64 %{base}k{k}",
        ]

    place = [f"%at = mul i64 %i, {BLOCK}"]
    loads = [
        line
        for k in range(BLOCK)
        for line in (*at("x", k), f"%v{k} = load {vector}, ptr %xp{k}, align 64")
    ]
    read_phis, read_keep = _sums(vector, BLOCK)
    adds = [f"%s{k} = fadd {vector} %a{k}, %v{k}" for k in range(BLOCK)]

    def stores(mark: str) -> list[str]:
        return [
            line
            for k in range(BLOCK)
            for line in (*at("y", k), f"store {vector} %v{k}, ptr %yp{k}, align 64{mark}")
        ]

    return "\n\n".join(
        [
            f"declare {vector} @llvm.fma.{bits}({vector}, {vector}, {vector})",
            _loop("fma", vector, phis, fma, keep),
            _loop("read", vector, read_phis, [*place, *loads, *adds], read_keep),
            _loop("copy", vector, [], [*place, *loads, *stores("")], ""),
            _loop("stream", vector, [], [*place, *loads, *stores(", !nontemporal !0")], ""),
            "!0 = !{i32 1}",
        ]
    )


class Loops:
    """The compiled loops, each called by several threads at once on their parts of two arrays."""

    NAMES = ("fma", "read", "copy", "stream")

    def __init__(self) -> None:
        target = host_target()
        self.lanes = target.register_bytes // 4
        self.count = target.registers * 3 // 4
        text = program(self.lanes, target.registers)
        self._object: LoadedObject = load_object(compile_object(text, target), self.NAMES)
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
        self._calls = {n: prototype(self._object.address(n)) for n in self.NAMES}
        words = MEGABYTES * 2**18
        self.x, self.y = _aligned(words), _aligned(words)

    def seconds(self, name: str, threads: int) -> float:
        """Of the slowest thread; together they pass over the arrays, or each over its registers."""
        barrier = threading.Barrier(threads)
        taken = [0.0] * threads
        part = self.x.size // threads // (BLOCK * self.lanes) * (BLOCK * self.lanes)

        def work(k: int) -> None:
            turns = FMA_TURNS if name == "fma" else part // (BLOCK * self.lanes)
            places = [a.ctypes.data + 4 * part * k for a in (self.x, self.y)]
            call = self._calls[name]
            barrier.wait()
            begin = time.perf_counter()
            call(turns, *places)
            taken[k] = time.perf_counter() - begin

        started = [threading.Thread(target=work, args=(k,)) for k in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        return max(taken)

    def rate(self, name: str, threads: int) -> float:
        """flop/s or bytes/s."""
        best = min(self.seconds(name, threads) for _ in range(ROUNDS))
        if name == "fma":
            return 2.0 * FMA_TURNS * self.count * self.lanes * threads / best
        return self.x.nbytes * (1 if name == "read" else 2) / best


def _aligned(words: int) -> Array:
    raw = np.ones(words + 16, np.float32)
    start = -raw.ctypes.data % 64 // 4
    return raw[start : start + words]


def measured(threads: int) -> Limits:
    """About a second of loops."""
    loops = Loops()
    one = [loops.rate(name, 1) for name in Loops.NAMES]
    many = [loops.rate(name, threads) for name in Loops.NAMES]
    pairs = [rate for pair in zip(one, many, strict=True) for rate in pair]
    return Limits(threads, *pairs)


def run() -> Iterator[Row]:
    """A row per loop, on one thread and on two."""
    loops = Loops()
    for name in Loops.NAMES:
        row: dict[str, object] = {"loop": name}
        for threads in (1, 2):
            rate = loops.rate(name, threads)
            unit = "GFLOP/s" if name == "fma" else "GB/s"
            row[f"{threads} threads"] = f"{rate / 1e9:.0f} {unit}"
        yield row
