"""Libraries with every kind of argument, compiled once, and the C tools that the tests need."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc.aot.dispatch import baseline_of, targets_of
from graphc.aot.header import header_text
from graphc.aot.interface import Interface
from graphc.aot.module import Module, make_module
from graphc.backend.llvm_driver import compile_object, host_target
from graphc.runtime.executable import CompileOptions

STRICT = ("-Wall", "-Wextra", "-pedantic", "-Wshadow", "-Wconversion", "-Wundef", "-Werror")


def every_dtype() -> graphc.Graph:
    """All dtypes as inputs and outputs; bounded sizes, quotients, words of C and Python."""
    n = graphc.Dim("n", min=1, max=64)
    inputs, outputs = [], {}
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        inputs.append(graphc.placeholder((n, 2), dtype, name=f"in/{dtype}"))
        outputs[f"next/{dtype}"] = inputs[-1] + 1
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        inputs.append(graphc.placeholder((n,), dtype, name=f"of/{dtype}"))
        outputs[f"twice/{dtype}"] = inputs[-1] + inputs[-1]
    flags = graphc.placeholder(("lambda",), "bool", name="class")
    outputs |= {"not": ~flags, "every-other": flags[::2], "sum": graphc.sum(inputs[-1])}
    return graphc.Graph([*inputs, flags], outputs, name="every-dtype*/")


def stateful(weights: int = 2) -> graphc.Graph:
    """A state with members of many dtypes, some of them scalar or empty."""
    x = graphc.placeholder(("batch", 3), "float32", name="x")
    w = graphc.variable(np.arange(3 * weights, dtype=np.float32).reshape(3, weights), name="w")
    flags = graphc.variable(np.array([True, False, True]), name="flags")
    count = graphc.variable(np.int64(5), name="layer/count")
    half = graphc.variable(np.array([1, 2, 3, 4, 5], np.float16), name="int")
    empty = graphc.variable(np.zeros((0, 4), np.float32), name="empty")
    total = graphc.variable(np.float64(0.25), name="total*/")
    y = x @ w
    updates = {
        w: w * 0.5,
        flags: ~flags,
        count: count + 1,
        half: half + half,
        empty: empty + 1,
        total: total + graphc.sum(y, dtype="float64"),
    }
    return graphc.Graph([x], {"y": y}, updates, name="stateful")


def weighted() -> graphc.Graph:
    """Weights that may go into a file of their own."""
    x = graphc.placeholder(("batch", 4), "float32", name="x")
    w = graphc.variable(np.arange(12, dtype=np.float32).reshape(4, 3), name="w")
    s = graphc.variable(np.ones(3, np.float32), name="s")
    return graphc.Graph([x], {"y": x @ w + s}, {s: s + 1}, name="weighted")


def integrand(symbolic: bool = False) -> graphc.Graph:
    """A vector of float64 to one float64."""
    x = graphc.placeholder(("n" if symbolic else 2,), "float64", name="x")
    return graphc.Graph([x], {"y": graphc.sum(x * x)}, name="integrand")


# Words of some language, names of some header, and names that generated code uses itself.
NAMES = (
    "for int class NULL EOF INT64_MAX PRId64 SEEK_SET I errno linux status bytes size count k "
    "lambda None True inputs need arrays out pointers match type Self self crate Some Ok Err "
    "Error BAD_SIZE check wrong call run memory main argc names_run names_message char16_t"
).split()


def names(as_sizes: bool = False) -> graphc.Graph:
    """Names that mean something elsewhere, as inputs and outputs, and members or sizes."""
    inputs = [graphc.placeholder((n if as_sizes else 2,), name=f"{n}") for n in NAMES]
    outputs = {f"{n}_": x + 1 for n, x in zip(NAMES, inputs, strict=True)}
    outputs |= {'\'"""%s{}*/ \\': inputs[0] * 2}
    if as_sizes:
        return graphc.Graph(inputs, outputs, name="names")
    held = [graphc.variable(np.ones(2, np.float32), name=f"{n}/") for n in NAMES]
    return graphc.Graph(inputs, outputs, {v: v + 1 for v in held}, name="names")


def products() -> graphc.Graph:
    """Arrays whose numbers of elements are products, sums and quotients of sizes."""
    n, m = graphc.Dim("n"), graphc.Dim("m", min=3)
    x, y = graphc.placeholder((n, m), name="x"), graphc.placeholder((m - 3,), name="y")
    z = graphc.placeholder((n // 2, m), name="z")
    return graphc.Graph([x, y, z], {"a": x @ x.T, "b": y + 1, "c": z + z, "d": x[::2, 0]})


GRAPHS = {
    "dtypes": (every_dtype, False),
    "steps": (stateful, False),
    "beside": (weighted, True),
    "square": (integrand, False),
    "squares": (functools.partial(integrand, True), False),
    "names": (names, False),
    "names_of_sizes": (functools.partial(names, True), False),
    "products": (products, False),
}


@functools.cache
def module(name: str) -> Module:
    """The module of one of GRAPHS, for the plainest instruction set of this architecture."""
    make, external = GRAPHS[name]
    target = baseline_of(targets_of("native", host_target())[0])
    return make_module(make(), name, [target], CompileOptions(), external=external)


@functools.cache
def _object(name: str) -> bytes:
    return compile_object(module(name).text, module(name).base)


def interface_of(name: str) -> Interface:
    """What the library of that name offers."""
    return module(name).interface


def write_library(folder: Path, name: str, *, shared: bool = True) -> Path:
    """NAME.h, NAME.o, the weights file if any and, if asked for, NAME.so: its path, or NAME.o's."""
    (folder / f"{name}.h").write_text(header_text(interface_of(name), "0"))
    path = folder / f"{name}.o"
    path.write_bytes(_object(name))
    if interface_of(name).external:
        parts = module(name).weights.file_parts()
        (folder / f"{name}.safetensors").write_bytes(b"".join(parts))
    if shared:
        path = folder / f"{name}.so"
        soname = f"-Wl,-soname,{name}.so"
        succeed([tool("cc"), "-shared", soname, f"{name}.o", "-o", str(path)], folder)
    return path


def tool(name: str) -> str:
    """The path of a program, or the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def succeed(command: Sequence[str | Path], folder: Path) -> str:
    """Run a command; what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
