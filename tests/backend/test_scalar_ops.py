"""Every scalar method, compiled, against `NumpyScalar`: dtypes x widths x targets."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest

from graphc.backend.llvm_cpu import emit_program_text
from graphc.backend.math_decompositions import DECOMPOSITIONS
from graphc.base.dims import Dim
from graphc.base.dtypes import (
    ALL,
    FLOAT,
    DType,
    bool_,
    dtype_of,
    from_storage,
    to_storage,
)
from graphc.base.target import TARGETS
from graphc.ir.scalar import BINARY, COMPARE, PREDICATE, UNARY
from graphc.ir.scalar_numpy import NumpyScalar, Value
from graphc.loops.build import EXPR
from graphc.loops.nodes import (
    Buffer,
    Expr,
    For,
    Kernel,
    Store,
    bitcast,
    cast,
    load,
    op,
    select,
    size,
    var,
)
from tests.backend.running import DRIVER, RUNNABLE, Native, chain

Array = np.ndarray[Any, Any]
EXACT_UNARY = "neg abs floor ceil trunc round_even sqrt bit_not count_ones".split()
EXACT_BINARY = (
    "add sub mul div floordiv mod minimum maximum copysign nextafter pow "
    "bit_and bit_or bit_xor shift_left shift_right"
).split()
TARGET_NAMES = [t.name for t in RUNNABLE]


def accepts(name: str, dtype: DType) -> bool:
    """Whether the method is defined on the dtype and exact there."""
    if dtype.is_float:
        return not (name.startswith(("bit_", "shift_")) or name in ("count_ones", "pow"))
    if dtype.is_bool:
        return (
            name
            in ("bit_and bit_or bit_xor bit_not minimum maximum add mul eq ne lt le gt ge").split()
        )
    if name in ("sqrt", "div", "copysign", "nextafter"):
        return False
    return not (name in PREDICATE and (name != "signbit" or dtype.kind == "u"))


@functools.cache
def samples(dtype: DType) -> Array:
    """Special values of a dtype and some ordinary ones, in the reference form."""
    rng = np.random.default_rng(7)
    if dtype.is_bool:
        return np.array([False, True])
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        special = [
            0,
            1,
            2,
            3,
            5,
            7,
            8,
            info.min,
            info.min + 1,
            info.max,
            info.max - 1,
            info.max // 2,
        ]
        special += [dtype.bits - 1, dtype.bits, 2 * dtype.bits]
        if dtype.kind == "i":
            special += [-1, -2, -3, -7, -dtype.bits]
        drawn = rng.integers(info.min, info.max, 16, dtype.numpy, endpoint=True)
        return np.concatenate([np.array([v for v in special if v <= info.max], dtype.numpy), drawn])
    limits = {"float16": (2.0**-24, 65504.0), "bfloat16": (2.0**-133, 3.3895314e38)}
    if dtype.name in limits:
        tiny, big = limits[dtype.name]
    else:
        finfo = np.finfo(dtype.numpy)
        tiny, big = float(finfo.smallest_subnormal), float(finfo.max)
    special = [
        0.0,
        tiny,
        3 * tiny,
        0.25,
        0.5,
        0.75,
        1.0,
        1.5,
        2.5,
        3.0,
        7.0,
        100.25,
        1e-3,
        big,
        big / 3,
    ]
    special += [np.inf, np.nan, 2.0**10 + 1, 2.0**15 - 0.5, 0.49999997, 4194303.5, 8388607.5]
    values = np.concatenate([special, rng.normal(size=12) * 10, rng.normal(size=6) * (big / 8)])
    with np.errstate(over="ignore"):
        both = np.concatenate([values, -values]).astype(dtype.numpy)
    return from_storage(to_storage(both, dtype), dtype)


def pairs(dtype: DType) -> tuple[Array, Array]:
    """Every pair of samples."""
    values = samples(dtype)
    a, b = np.array(list(itertools.product(values, values)), dtype=dtype.numpy).T
    return np.ascontiguousarray(a), np.ascontiguousarray(b)


def elementwise(
    name: str, dtype: DType, result: DType, operands: int, width: int, body: Any
) -> Kernel:
    """o[j] = body(a[j] …) over n elements."""
    n, j = Dim("n"), var("j")
    inputs = tuple(Buffer(f"a{k}", (n,), dtype) for k in range(operands))
    output = Buffer("o", (n,), result)
    value: Expr = body(*(load(b, (j,)) for b in inputs))
    store = Store(output, (j,), value)
    kind = "vector" if width > 1 else "serial"
    loop = For(j, size(n), (store,), kind, width, 2 if 1 < width < 16 else 1)
    return Kernel(name, (*inputs, output), (output,), (loop,), n)


def same(got: Array, want: Array, dtype: DType, name: str) -> Array:
    """Equal bits; any NaN for a NaN; the sign of a zero from minimum and maximum is free."""
    if not dtype.is_float:
        return np.asarray(got == want)
    equal = (got == want) & (np.signbit(got) == np.signbit(want))
    if name in ("minimum", "maximum", "nextafter"):  # NumPy itself differs between dtypes
        equal |= (got == 0) & (want == 0)
    return np.asarray(equal | (np.isnan(got) & np.isnan(want)))


def check(
    kernels: list[Kernel], wants: list[Array], inputs: list[Array], dtype: DType, target: str
) -> None:
    """Run all kernels, each with buffers of its own for the output and the shared inputs."""
    n = len(inputs[0])
    program = chain(kernels)
    native = Native(program, TARGETS[target])
    stored = [to_storage(x, dtype) for x in inputs]
    arrays, outputs = [], []
    for kernel in kernels:
        arrays += stored[: len(kernel.params) - 1]
        outputs.append(np.zeros(n, kernel.outputs[0].dtype.storage))
    assert native([*arrays, *outputs], {"n": n}) == 0
    for kernel, out, want in zip(kernels, outputs, wants, strict=True):
        result = kernel.outputs[0].dtype
        good = same(from_storage(out, result), want, result, kernel.name)
        if not good.all():
            at = int(np.argmin(good))
            values = [float(x[at]) for x in inputs]
            raise AssertionError(
                f"{kernel.name} {dtype} {target}: operands {values}: "
                f"got {from_storage(out, result)[at]!r}, want {want[at]!r} ({(~good).sum()} wrong)"
            )


@pytest.mark.parametrize("target", TARGET_NAMES)
@pytest.mark.parametrize("width", [1, 8, 16])
@pytest.mark.parametrize("dtype", [d.name for d in ALL])
def test_regular_methods(dtype: str, width: int, target: str) -> None:
    """Unary, binary, comparing and predicate methods on special and ordinary values."""
    d, s = dtype_of(dtype), NumpyScalar()
    a, b = pairs(d)
    kernels, wants = [], []
    for name in [*EXACT_UNARY, *PREDICATE, *EXACT_BINARY, *COMPARE]:
        if not accepts(name, d):
            continue
        count = 1 if name in UNARY or name in PREDICATE else 2
        result = bool_ if name in COMPARE or name in PREDICATE else d

        def body(*xs: Expr, name: str = name) -> Expr:
            return EXPR.op(name, *xs)

        kernels.append(elementwise(name, d, result, count, width, body))
        wants.append(s.op(name, *(Value(x, d) for x in (a, b)[:count])).array)
    check(kernels, wants, [a, b], d, target)


@pytest.mark.parametrize("target", TARGET_NAMES)
@pytest.mark.parametrize("width", [1, 16])
@pytest.mark.parametrize("dtype", [d.name for d in ALL])
def test_conversions(dtype: str, width: int, target: str) -> None:
    """Casts to every dtype, bitcasts to every dtype of the same width, select and fma."""
    d, s = dtype_of(dtype), NumpyScalar(has_fma=TARGETS[target].has_fma)
    a, b = pairs(d)
    x = Value(a, d)
    kernels, wants = [], []
    for to in ALL:
        kernels.append(elementwise(f"cast to {to}", d, to, 1, width, lambda v, to=to: cast(v, to)))
        wants.append(s.cast(x, to).array)
        if to.bits == d.bits and not d.is_bool:
            kernels.append(
                elementwise(f"bitcast to {to}", d, to, 1, width, lambda v, to=to: bitcast(v, to))
            )
            wants.append(s.bitcast(x, to).array)
    kernels.append(
        elementwise("select", d, d, 2, width, lambda p, q: select(EXPR.op("lt", p, q), p, q))
    )
    wants.append(np.where(a < b, a, b))
    if d in FLOAT:
        kernels.append(elementwise("fma", d, d, 2, width, lambda p, q: op("fma", p, q, p, dtype=d)))
        wants.append(s.fma(x, Value(b, d), x).array)
    check(kernels, wants, [a, b], d, target)


def remainder_operands(kind: str, dtype: DType) -> tuple[Array, Array]:
    """Operands of mod: ordinary, far apart, any bits, and multiples or nearly multiples."""
    rng, n = np.random.default_rng(11), 20_000
    if kind == "bits":
        draw = rng.integers(0, 2**64, (2, n), np.uint64).astype(f"u{dtype.itemsize}")
        a, b = draw.view(dtype.numpy)
    elif kind == "multiples":
        b = rng.integers(1, 1000, n) * rng.choice([0.1, 1, 3e-3], n)
        a = b * rng.integers(0, 10**7, n) + rng.choice([0, 1e-9, -1e-9], n)
    else:
        a, b = rng.normal(size=n) * (1e6 if kind == "far" else 1), rng.normal(size=n)
    return a.astype(dtype.numpy), b.astype(dtype.numpy)


@pytest.mark.parametrize("target", TARGET_NAMES)
@pytest.mark.parametrize("kind", ["ordinary", "far", "bits", "multiples"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_remainders_are_exact(dtype: str, kind: str, target: str) -> None:
    """The quick vector way and the long division both give NumPy's bits."""
    d, s = dtype_of(dtype), NumpyScalar()
    a, b = remainder_operands(kind, d)
    kernels, wants = [], []
    for name in ("mod", "floordiv"):
        for width in (1, 16):
            kernels.append(
                elementwise(name, d, d, 2, width, lambda p, q, name=name: EXPR.op(name, p, q))
            )
            wants.append(s.op(name, Value(a, d), Value(b, d)).array)
    check(kernels, wants, [a, b], d, target)


@pytest.mark.parametrize("target", ["aarch64-linux", "x86-64", "x86-64-v3"])
@pytest.mark.parametrize("dtype", [d.name for d in ALL])
def test_no_library_calls(dtype: str, target: str) -> None:
    """Objects of every method need nothing from outside, also for machines that are not here."""
    d = dtype_of(dtype)
    kernels = []
    for name in [*UNARY, *PREDICATE, *BINARY, *COMPARE]:
        exact = name in EXACT_UNARY + EXACT_BINARY + COMPARE + PREDICATE
        if not (accepts(name, d) if exact else d.is_float and name in DECOMPOSITIONS):
            continue
        count = 1 if name in UNARY or name in PREDICATE else 2
        result = bool_ if name in COMPARE or name in PREDICATE else d

        def body(*xs: Expr, name: str = name) -> Expr:
            return EXPR.op(name, *xs)

        kernels += [elementwise(name, d, result, count, width, body) for width in (1, 16)]
    kernels += [
        elementwise("cast", d, to, 1, width, lambda v, to=to: cast(v, to))
        for to in ALL
        for width in (1, 16)
    ]
    text = emit_program_text(chain(kernels), TARGETS[target])
    assert DRIVER.undefined_symbols(DRIVER.compile_object(text, TARGETS[target])) == ()


@pytest.mark.parametrize("name", BINARY + UNARY + COMPARE + PREDICATE)
def test_every_method_has_code(name: str) -> None:
    """A method is exact here or a math decomposition, which has tests of its own."""
    exact = EXACT_UNARY + EXACT_BINARY + COMPARE + PREDICATE + ["reciprocal_sqrt"]
    assert name in exact or name in DECOMPOSITIONS
