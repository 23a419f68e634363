"""Run under callgrind by `test_instruction_counts`: calls of small graphs, one dump of counts each.

Prints nothing; the dumps say what was counted. The code is compiled for a target that valgrind
knows, whatever the machine is.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

import graphc
from graphc.backend import llvm_cpu
from graphc.base.target import X86_V3
from graphc.runtime.cache import ObjectCache
from graphc.runtime.support_code import load_support_code

CALLS = 100
# Valgrind's client requests: a pattern of rotations that does nothing elsewhere; the request is at
# %request, its answer in rdx.
_REQUEST = r"""
define i64 @graphc_request(ptr %request) nounwind {
  %answer = call i64 asm sideeffect "rolq $$3, %rdi\0Arolq $$13, %rdi\0Arolq $$61, %rdi\0A
rolq $$51, %rdi\0Axchgq %rbx, %rbx", "={dx},{ax},0,~{cc},~{memory}"(ptr %request, i64 0)
  ret i64 %answer
}
""".replace("\\0A\n", "\\0A")
_TOOL = (ord("C") << 24) + (ord("T") << 16)
_DUMP, _ZERO, _START, _STOP = _TOOL + 3, _TOOL + 1, _TOOL + 4, _TOOL + 5


class Callgrind:
    """Client requests to callgrind."""

    def __init__(self) -> None:
        code = load_support_code(_REQUEST, {}, ObjectCache(None))
        self._call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(
            code.address("graphc_request")
        )

    def request(self, number: int, argument: int = 0) -> None:
        """Ask for something."""
        words = (ctypes.c_int64 * 6)(number, argument)
        self._call(ctypes.addressof(words))

    def count(self, name: str, function: Any, *arrays: np.ndarray) -> None:
        """A dump of what CALLS calls take."""
        for _ in range(3):
            function(*arrays)
        text = ctypes.create_string_buffer(name.encode())
        self.request(_START)
        self.request(_ZERO)
        for _ in range(CALLS):
            function(*arrays)
        self.request(_DUMP, ctypes.addressof(text))
        self.request(_STOP)


def graphs(session: graphc.Session) -> dict[str, tuple[Any, ...]]:
    """Three small graphs: what a call costs, rows, and products with an activation."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    x = graphc.placeholder((8,), name="x")
    rows = graphc.placeholder(("n", 100), name="rows")
    h = point = graphc.placeholder((1, 4), name="point")
    for k, (a, b) in enumerate(((4, 32), (32, 32), (32, 2))):
        h = h @ graphc.variable(draw(a, b), name=f"w{k}") + graphc.variable(draw(b), name=f"b{k}")
        h = graphc.nn.relu(h) if k < 2 else h
    return {
        "add one to 8 numbers": (session.function([x], x + 1), draw(8)),
        "softmax of 16 rows of 100": (
            session.function([rows], graphc.softmax(rows)),
            draw(16, 100),
        ),
        "MLP 4-32-32-2": (session.function([point], h), draw(1, 4)),
    }


def main() -> None:
    """Count each graph."""
    llvm_cpu.host_target = lambda: X86_V3
    callgrind = Callgrind()
    with graphc.Session(threads=1, cache_dir="") as session:
        for name, (function, *arrays) in graphs(session).items():
            callgrind.count(name, function, *arrays)


if __name__ == "__main__":
    main()
