"""Targets as data (floor 0): what a machine can do, never code that asks `if name == …`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of machine to compile for.

    triple, cpu, features: as LLVM spells them. vector_bytes: the width of one vector of the loop
    IR; fixed at 64 for every CPU (LLVM splits it on narrower machines) so that results are the same
    bits on all of them.
    """

    name: str
    kind: str  # "cpu" or "gpu"
    triple: str
    cpu: str
    features: str
    vector_bytes: int = 64
    has_fma: bool = True
    has_f16_conversion: bool = True
    has_rounding: bool = True  # floor, ceil, trunc, round-to-even as instructions
    has_scaling: bool = False  # x * 2**n, rounded once, as an instruction
    has_streaming: bool = False  # stores past the caches, of whole lines
    # Sums of products of the parts of int32 words as x86 instructions: of four bytes (AVX-512
    # VNNI), of two halves (SSE2 and its wider forms).
    has_dot_bytes: bool = False
    has_dot_pairs: bool = False
    registers: int = 32  # architectural vector registers of `register_bytes` each
    register_bytes: int = 64
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 1024 * 1024
    shared_bytes: int = 0  # shared memory per block (gpu)
    warp: int = 0  # lanes per warp (gpu)


X86_BASELINE = Target(
    "x86-64", "cpu", "x86_64-unknown-linux-gnu", "x86-64", "",
    has_fma=False, has_f16_conversion=False, has_rounding=False, has_streaming=True,
    has_dot_pairs=True, registers=16, register_bytes=16,
)  # fmt: skip
X86_V3 = Target(
    "x86-64-v3", "cpu", "x86_64-unknown-linux-gnu", "x86-64-v3", "",
    has_streaming=True, has_dot_pairs=True, registers=16, register_bytes=32,
)  # fmt: skip
X86_V4 = Target(
    "x86-64-v4", "cpu", "x86_64-unknown-linux-gnu", "x86-64-v4", "-prefer-256-bit",
    has_scaling=True, has_streaming=True, has_dot_pairs=True,
)  # fmt: skip
X86_V4_VNNI = Target(
    "x86-64-v4-vnni", "cpu", "x86_64-unknown-linux-gnu", "x86-64-v4", "-prefer-256-bit,+avx512vnni",
    has_scaling=True, has_streaming=True, has_dot_bytes=True, has_dot_pairs=True,
)  # fmt: skip
AARCH64 = Target(
    "aarch64-linux", "cpu", "aarch64-unknown-linux-gnu", "generic", "+neon", register_bytes=16
)
RISCV64 = Target(
    "riscv64-linux", "cpu", "riscv64-unknown-linux-gnu", "generic-rv64", "+m,+a,+f,+d,+c",
    has_f16_conversion=False, has_rounding=False, register_bytes=8,
)  # fmt: skip
CUDA_SM90 = Target(
    "cuda-sm_90", "gpu", "nvptx64-nvidia-cuda", "sm_90", "+ptx80",
    vector_bytes=16, registers=255, register_bytes=4, shared_bytes=227 * 1024, warp=32,
)  # fmt: skip

TARGETS = {
    t.name: t for t in (X86_BASELINE, X86_V3, X86_V4, X86_V4_VNNI, AARCH64, RISCV64, CUDA_SM90)
}
