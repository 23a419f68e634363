"""PTX of a few kernels as golden text, and what the same kernels compute, by the interpreter."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphc.backend.llvm_nvptx import (
    check_intrinsics,
    compile_ptx,
    emit_module,
    launch_dims,
)
from graphc.backend.math_decompositions import DECOMPOSITIONS
from graphc.base.dims import Dim, evaluate
from graphc.base.dtypes import ALL, DType, float32, float64
from graphc.base.errors import CompileError
from graphc.base.target import CUDA_SM90
from graphc.ir.scalar import BINARY, COMPARE, PREDICATE, UNARY
from graphc.loops.build import EXPR, literal
from graphc.loops.interpret import interpret
from graphc.loops.nodes import Barrier, Buffer, Expr, For, Kernel, Store, cast, const, size, var
from tests.backend.test_scalar_ops import EXACT_BINARY, EXACT_UNARY, accepts
from tests.conftest import Golden
from tests.golden.gpu_kernels import GOLDEN, flat, row_argmax, row_sums, scale_add

PTX = Path(__file__).parent / "ptx"


@pytest.mark.parametrize("make", GOLDEN, ids=lambda f: f.__name__)
def test_ptx_text(make: Callable[[], Kernel], golden: Golden) -> None:
    text = compile_ptx((make(),), CUDA_SM90)
    golden.check(PTX / f"{make.__name__}.ptx", text)


def test_what_they_compute() -> None:
    """Also finds races and missed barriers."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 300)).astype(np.float32)
    o = np.zeros(3, np.float32)
    assert interpret(row_sums(), {"x": x, "o": o}, {"n": 3, "m": 300}) == 0
    np.testing.assert_allclose(o, x.sum(1), rtol=1e-4)
    places = np.zeros(3, np.int64)
    assert interpret(row_argmax(), {"x": x, "o": places}, {"n": 3, "m": 300}) == 0
    assert (places == x.argmax(1)).all()
    a, b, c = (rng.normal(size=200).astype(np.float32) for _ in range(3))
    o = np.zeros(200, np.float32)
    interpret(scale_add(), {"a0": a, "a1": b, "a2": c, "o": o}, {"n": 200})
    np.testing.assert_allclose(o, np.maximum(a * b + c, 0), rtol=1e-5, atol=1e-6)


def test_launch_dims() -> None:
    dims = launch_dims(scale_add())
    assert dims.block == (128, 1, 1)
    assert evaluate(dims.grid[0], {"n": 129}) == 2
    assert dims.grid[1:] == (1, 1)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_every_method_compiles(dtype: DType) -> None:
    """All methods and casts give PTX; none calls a library, and no intrinsic is unknown."""
    kernels = []
    for name in [*UNARY, *PREDICATE, *BINARY, *COMPARE]:
        exact = name in EXACT_UNARY + EXACT_BINARY + COMPARE + PREDICATE
        if not (accepts(name, dtype) if exact else dtype.is_float and name in DECOMPOSITIONS):
            continue
        count = 1 if name in UNARY or name in PREDICATE else 2

        def body(*xs: Expr, name: str = name) -> Expr:
            return cast(EXPR.op(name, *xs), float64)

        kernels.append(flat(f"k_{name}", dtype, float64, count, body))
    kernels += [flat(f"to_{to}", dtype, to, 1, lambda v, to=to: cast(v, to)) for to in ALL]
    text = compile_ptx(tuple(kernels), CUDA_SM90)
    assert ".extern" not in text
    assert len(re.findall(r"\.visible \.entry", text)) == len(kernels)


def test_unsupported_intrinsics_are_refused() -> None:
    with pytest.raises(CompileError, match=r"llvm\.exp is not supported on NVPTX"):
        check_intrinsics("  %a = call float @llvm.exp.f32(float %x)")
    check_intrinsics("  %a = call <2 x float> @llvm.fma.v2f32(<2 x float> %x)")


def test_divergent_barriers_are_refused() -> None:
    n, t, u = Dim("n"), var("t"), var("u")
    o = Buffer("o", (n,), float32)
    wide = For(u, const(64), (Store(o, (u,), literal(0, float32)),), "thread")
    kernel = Kernel("k", (o,), (o,), (For(t, const(32), (Barrier(),), "thread"), wide))
    with pytest.raises(CompileError, match="a barrier that some threads miss"):
        emit_module((kernel,), CUDA_SM90)


def test_symbolic_thread_loops_are_refused() -> None:
    n, t = Dim("n"), var("t")
    o = Buffer("o", (n,), float32)
    store = Store(o, (t,), literal(0, float32))
    kernel = Kernel("k", (o,), (o,), (For(t, size(n), (store,), "thread"),))
    with pytest.raises(CompileError, match="the extent of a thread loop is not static"):
        launch_dims(kernel)
