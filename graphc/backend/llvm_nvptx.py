"""Kernels with block and thread loops to PTX, by the same emitters as the CPU (floor 6).

A kernel takes the context pointer, the pointers of its params and its symbols, in that order.
Block and thread loops become hardware indices: of nested loops the innermost is x. Every intrinsic
is checked against `INTRINSICS` before LLVM sees the text, because an unsupported one ends the
process.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass

from graphc.backend.kernel_facts import Effects, scratch_bytes
from graphc.backend.llvm_types import compute_type, memory_type
from graphc.backend.loop_emitter import LoopEmitter
from graphc.backend.memory_access import Place
from graphc.backend.values import Entry
from graphc.base.dims import Size, product
from graphc.base.errors import CompileError
from graphc.base.target import Target
from graphc.loops.nodes import Alloc, Barrier, Const, For, If, Kernel, Load, SizeOf, Stmt, Store

# Intrinsics that NVPTX lowers to instructions, without their type suffix; each was tried.
INTRINSICS = frozenset(
    "fabs sqrt copysign floor ceil trunc roundeven fma abs smin smax umin umax ctpop ctlz "
    "nvvm.read.ptx.sreg.ctaid.x nvvm.read.ptx.sreg.ctaid.y nvvm.read.ptx.sreg.ctaid.z "
    "nvvm.read.ptx.sreg.tid.x nvvm.read.ptx.sreg.tid.y nvvm.read.ptx.sreg.tid.z "
    "nvvm.read.ptx.sreg.laneid nvvm.barrier.cta.sync.aligned.all".split()
)
_CALL = re.compile(r"@llvm\.([a-z0-9_.]+?)(?:\.(?:v\d+)?(?:[if]\d+|p\d+))*\(")
_AXES = "xyz"
MAX_THREADS = 1024


@dataclass(frozen=True, slots=True)
class LaunchDims:
    """The grid (sizes, known at run time) and the block (ints), x first."""

    grid: tuple[Size, Size, Size]
    block: tuple[int, int, int]


def launch_dims(kernel: Kernel) -> LaunchDims:
    """How a kernel is launched. Raises CompileError where its loops have no such form."""
    grid: list[Size] = [1, 1, 1]
    block = [1, 1, 1]
    for loop, axis in _hardware_axes(kernel).items():
        extent: Size
        if isinstance(loop.extent, Const):
            extent = int(loop.extent.value)
        elif isinstance(loop.extent, SizeOf) and loop.kind == "block":
            extent = loop.extent.dim
        else:
            raise CompileError(
                f"kernel {kernel.name}: the extent of a {loop.kind} loop is not static"
            )
        if loop.kind == "block":
            if grid[axis] not in (1, extent):
                raise CompileError(f"kernel {kernel.name}: two extents on grid axis {_AXES[axis]}")
            grid[axis] = extent
        elif isinstance(extent, int):
            block[axis] = max(block[axis], extent)
    if product(block) > MAX_THREADS:
        raise CompileError(
            f"kernel {kernel.name}: {block} threads per block, {MAX_THREADS} allowed"
        )
    return LaunchDims((grid[0], grid[1], grid[2]), (block[0], block[1], block[2]))


def _hardware_axes(kernel: Kernel) -> dict[For, int]:
    """The axis of every block and thread loop: 0 for the innermost of its kind."""
    axes: dict[For, int] = {}
    stack: list[tuple[Stmt, tuple[For, ...]]] = [(s, ()) for s in reversed(kernel.body)]
    while stack:
        stmt, around = stack.pop()
        if isinstance(stmt, For):
            if stmt.kind in ("block", "thread"):
                axes[stmt] = 0
                same = [f for f in around if f.kind == stmt.kind]
                for depth, outer in enumerate(reversed(same), start=1):
                    axes[outer] = max(axes[outer], depth)
                    if depth > 2:
                        raise CompileError(f"kernel {kernel.name}: four nested {stmt.kind} loops")
            stack.extend((s, (*around, stmt)) for s in reversed(stmt.body))
        elif isinstance(stmt, If):
            stack.extend((s, around) for s in reversed(stmt.body + stmt.otherwise))
    return axes


class NvptxEmitter(LoopEmitter):
    """The loop emitter with hardware indices, shared memory and barriers."""

    def __init__(self, kernel: Kernel, target: Target, functions: dict[str, str]) -> None:
        super().__init__(kernel, target, functions)
        if scratch_bytes(kernel) != 0:
            raise CompileError(
                f"kernel {kernel.name}: local buffers too large for a thread's stack"
            )
        self.axes = _hardware_axes(kernel)
        self.dims = launch_dims(kernel)
        self.shared: list[str] = []
        self._divergent = 0

    def function(self) -> str:
        self.block(self.kernel.body)
        types = ["ptr"] * (1 + len(self.kernel.params)) + ["i64"] * len(self.symbols)
        params = ", ".join(f"{t} %a{slot}" for slot, t in enumerate(types))
        threads = ",".join(map(str, self.dims.block))
        return "\n".join(
            [
                *self.shared,
                f"define ptx_kernel void @{self.kernel.name}({params}) nounwind "
                f'"nvvm.maxntid"="{threads}" {{',
                "entry:",
                *self._allocas,
                *self.region.lines,
                "  ret void",
                "}",
            ]
        )

    def argument(self, slot: int, t: str) -> str:
        return f"%a{slot}"

    def _alloc(self, stmt: Alloc) -> None:
        buffer = stmt.buffer
        if buffer.scope != "shared":
            super()._alloc(stmt)
            return
        count = product(buffer.shape)
        if not isinstance(count, int):
            raise CompileError(f"shared buffer {buffer.name!r} has a symbolic shape")
        name = f"@{self.kernel.name}.shared{len(self.shared)}"
        self.shared.append(
            f"{name} = internal addrspace(3) global [{count} x {memory_type(buffer.dtype)}] undef, "
            "align 16"
        )
        # A constant expression: address-space inference turns its uses into shared accesses.
        pointer = f"addrspacecast (ptr addrspace(3) {name} to ptr)"
        self.bind(
            buffer, Entry((self.at(0).emit(f"getelementptr i8, ptr {pointer}, i64 0"),), 1, 0)
        )
        self.buffer_level[buffer] = self.top

    def _load_scalar(
        self, node: Load, place: Place, predicate: Entry | None, fill: Entry | None, level: int
    ) -> str:
        if predicate is None or fill is None:
            return super()._load_scalar(node, place, predicate, fill, level)
        # A branch, not a redirected pointer: a dummy slot would make every access generic.
        scope = self.scopes[level].region
        start, inside, join = scope.block, self.label(), self.label()
        e = self.at(level)
        e.do(f"br i1 {predicate.names[0]}, label %{inside}, label %{join}")
        e.lines.append(f"{inside}:")
        value = super()._load_scalar(node, place, None, None, level)
        e = self.at(level)
        e.do(f"br label %{join}")
        e.lines.append(f"{join}:")
        scope.block = join
        t = compute_type(node.dtype)
        return e.emit(f"phi {t} [ {fill.names[0]}, %{start} ], [ {value}, %{inside} ]")

    def _store_scalar(
        self, stmt: Store, value: Entry, place: Place, predicate: Entry | None
    ) -> None:
        if predicate is None:
            super()._store_scalar(stmt, value, place, None)
            return
        inside, join = self.label(), self.label()
        e = self.here()
        e.do(f"br i1 {predicate.names[0]}, label %{inside}, label %{join}")
        e.lines.append(f"{inside}:")
        super()._store_scalar(stmt, value, place, None)
        e = self.here()
        e.do(f"br label %{join}")
        e.lines.append(f"{join}:")
        self.region.block = join

    def _barrier(self, stmt: Barrier) -> None:
        if self._divergent:
            raise CompileError(f"kernel {self.kernel.name}: a barrier that some threads miss")
        self.here().do("call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)")
        # What other threads wrote before the barrier is seen after it.
        for buffer in self.mutable:
            self.buffer_level[buffer] = self.top
            self.invalidate(buffer)

    def _hardware_loop(self, stmt: For, changed: Effects) -> None:
        if stmt.kind == "lane":
            index = self._register("laneid")
            launched = self.e.target.warp
        else:
            axis = self.axes[stmt]
            index = self._register(f"{'ctaid' if stmt.kind == 'block' else 'tid'}.{_AXES[axis]}")
            launched = -1 if stmt.kind == "block" else self.dims.block[axis]
        stop = self.scalar(stmt.extent)
        if stmt.kind == "block" or stop == str(launched):
            self._iteration(stmt, index, changed)
            return
        inside = self.here().emit(f"icmp slt i64 {index}, {stop}")
        self._divergent += 1
        self._guarded(inside, changed, lambda: self._iteration(stmt, index, changed))
        self._divergent -= 1

    def _register(self, name: str) -> str:
        found = self.memo.get(name)
        if found is None:
            e = self.at(0)
            value = e.emit(f"call i32 @llvm.nvvm.read.ptx.sreg.{name}()")
            found = Entry((e.emit(f"zext i32 {value} to i64"),), 1, 0)
            self._remember(name, found)
        return found.names[0]


def emit_module(kernels: tuple[Kernel, ...], target: Target) -> str:
    """The LLVM IR text of kernels for a GPU, checked against the allow-list."""
    functions: dict[str, str] = {}
    parts = [f'target triple = "{target.triple}"']
    parts += [NvptxEmitter(kernel, target, functions).function() for kernel in kernels]
    text = "\n\n".join([*parts, *functions.values()]) + "\n"
    check_intrinsics(text)
    return text


def check_intrinsics(text: str) -> None:
    """Raise CompileError for an intrinsic that NVPTX is not known to support."""
    for name in dict.fromkeys(_CALL.findall(text)):
        if name not in INTRINSICS:
            raise CompileError(f"the intrinsic llvm.{name} is not supported on NVPTX")


def compile_ptx(kernels: tuple[Kernel, ...], target: Target) -> str:
    """PTX of kernels; their names are the entry points."""
    driver = importlib.import_module("graphc.backend.llvm_driver")
    text: str = driver.compile_assembly(emit_module(kernels, target), target)
    return text
