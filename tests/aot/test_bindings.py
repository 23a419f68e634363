"""Each binding is compiled or imported as its users would, and computes what the session does."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from graphc.aot.bindings import binding_files
from graphc.aot.options import BINDINGS
from graphc.base.dims import evaluate
from graphc.base.errors import UnsupportedError
from tests.aot.c_libraries import (
    GRAPHS,
    NAMES,
    every_dtype,
    interface_of,
    succeed,
    tool,
    write_library,
)
from tests.threads import at_once


def load(folder: Path, name: str, binding: str = "python", suffix: str = "numpy") -> ModuleType:
    """The generated Python module, imported from its file."""
    write_library(folder, name)
    (file,) = binding_files(interface_of(name), folder, [binding])
    assert file.name == f"{name}_{suffix}.py"
    spec = importlib.util.spec_from_file_location(f"generated_{name}_{suffix}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- Python ---------------------------------------------------------------------------------------


def test_python_computes_every_dtype(tmp_path: Path) -> None:
    module = load(tmp_path, "dtypes")
    shape = interface_of("dtypes")
    rng = np.random.default_rng(2)
    feeds: dict[str, Any] = {}
    for o in shape.inputs:
        size = tuple(evaluate(s, {"n": 3, "lambda": 5}) for s in o.shape)
        feeds[o.label] = rng.integers(0, 2 if o.dtype.is_bool else 99, size).astype(o.dtype.numpy)
    bits = (feeds["of/bfloat16"].view(np.uint32) >> 16).astype(np.uint16)
    given = [bits if o.label == "of/bfloat16" else feeds[o.label] for o in shape.inputs]
    results = module.run(*given)
    if importlib.util.find_spec("ml_dtypes") is not None:
        own = bits.view(importlib.import_module("ml_dtypes").bfloat16)
        again = module.run(*(own if a is bits else a for a in given))["twice/bfloat16"]
        np.testing.assert_array_equal(again, results["twice/bfloat16"])
    expected = every_dtype().evaluate(feeds)
    assert list(results) == list(expected)
    for label, value in expected.items():
        got = results[label]
        if label == "twice/bfloat16":
            got = (got.astype(np.uint32) << 16).view(np.float32)
        assert got.dtype == value.dtype
        np.testing.assert_array_equal(got, value)


def test_python_keeps_a_state(tmp_path: Path) -> None:
    module = load(tmp_path, "steps")
    state = module.State()
    assert state.names() == ["w", "flags", "layer/count", "int", "empty", "total*/"]
    x = np.ones((2, 3), np.float32)
    first = module.run(state, x)["y"]
    np.testing.assert_array_equal(first, x @ np.arange(6, dtype=np.float32).reshape(3, 2))
    assert state["layer/count"] == 6 and state["flags"].tolist() == [False, True, False]
    assert state["int"].dtype == np.float16 and state["int"].tolist() == [2, 4, 6, 8, 10]
    state.save(tmp_path / "state.bin")
    second = module.run(state, x)["y"]
    np.testing.assert_array_equal(second, first / 2)
    other = module.State()
    other.load(tmp_path / "state.bin")
    np.testing.assert_array_equal(module.run(other, x)["y"], second)
    other["w"] = np.zeros((3, 2), np.float32)
    assert not module.run(other, x)["y"].any()
    (tmp_path / "state.bin").write_bytes(bytes((tmp_path / "state.bin").stat().st_size))
    with pytest.raises(ValueError, match="not a state of steps"):
        other.load(tmp_path / "state.bin")
    with pytest.raises(ValueError, match=r"w: expected shape \(3, 2\), got \(2, 3\)"):
        other["w"] = np.zeros((2, 3), np.float32)
    with pytest.raises(KeyError, match="no variable 'v': there are w, flags"):
        other["v"]


def test_python_takes_names_that_mean_something_elsewhere(tmp_path: Path) -> None:
    module = load(tmp_path, "names")
    state = module.State()
    inputs = [np.full(2, k, np.float32) for k in range(len(NAMES))]
    outputs = module.run(state, *inputs)
    assert all((outputs[f"{name}_"] == k + 1).all() for k, name in enumerate(NAMES))
    assert state.names() == [f"{name}/" for name in NAMES] and (state["lambda/"] == 2).all()
    module = load(tmp_path, "names_of_sizes")
    sizes = list(module.SIZES)
    outputs = module.run(*inputs, **{sizes[3]: 2})
    assert all((outputs[f"{name}_"] == k + 1).all() for k, name in enumerate(NAMES))


def test_python_refuses_wrong_arrays_by_name(tmp_path: Path) -> None:
    module = load(tmp_path, "beside")
    with pytest.raises(module.Error, match="weights file cannot be mapped") as caught:
        module.Weights(tmp_path / "beside.h")
    assert caught.value.status == 7
    with module.Weights() as weights:
        state = module.State(weights)
        x = np.ones((2, 4), np.float32)
        y = np.zeros((2, 3), np.float32)
        assert module.run(state, weights, x, out={"y": y})["y"] is y
        np.testing.assert_array_equal(y, [[19, 23, 27]] * 2)
        transposed = np.ones((4, 2), np.float32).T
        np.testing.assert_array_equal(module.run(state, weights, transposed)["y"], y + 1)
        wrong: list[tuple[type[Exception], str, Any, dict[str, Any]]] = [
            (TypeError, "x: expected dtype float32, got float64", x.astype(float), {}),
            (
                ValueError,
                r"x: expected shape \[batch, 4\] = \(3, 4\), got \(2, 4\)",
                x,
                {"batch": 3},
            ),
            (ValueError, r"x: expected shape \[batch, 4\] = \(2, 4\), got \(2,\)", x[:, 0], {}),
            (ValueError, "out: no such output: 'z'", x, {"out": {"z": y}}),
            (ValueError, r"out\['y'\]: expected float32 of shape", x, {"out": {"y": y[:1]}}),
            (ValueError, "writable C-contiguous", x, {"out": {"y": y[::-1]}}),
            (ValueError, "the size batch = -1 is out of its bounds", x, {"batch": -1}),
        ]
        for error, text, value, options in wrong:
            with pytest.raises(error, match=text):
                module.run(state, weights, value, **options)
        flat = np.zeros(20, np.float32)
        with pytest.raises(ValueError, match="overlaps an input"):
            module.run(state, weights, flat[:8].reshape(2, 4), out={"y": flat[4:10].reshape(2, 3)})


def test_python_runs_in_many_threads(tmp_path: Path) -> None:
    module = load(tmp_path, "squares")
    assert module.set_threads(2) == 2 and module.isa() != "none"
    results: dict[int, float] = {}

    def work(k: int) -> None:
        for _ in range(50):
            results[k] = float(module.run(np.full(k + 1, 2.0))["y"])

    at_once(work, 6)
    assert results == {k: 4.0 * (k + 1) for k in range(6)}
    assert module.set_threads(1) == 1


def test_the_python_module_is_found_beside_a_library_of_the_same_name(tmp_path: Path) -> None:
    write_library(tmp_path, "square")
    binding_files(interface_of("square"), tmp_path, ["python"])
    code = (
        "import square_numpy, sys\n"
        "print(square_numpy.run([3.0, 4.0])['y'], 'graphc' in sys.modules)"
    )
    assert succeed([sys.executable, "-c", code], tmp_path) == "25.0 False\n"


# -- C++ and Rust ---------------------------------------------------------------------------------

CPP = """\
#include "steps.hpp"
#include "steps.hpp"
#include <iostream>

template <class F> void refused(F action)
{
    try {
        action();
        std::cout << "nothing\\n";
    } catch (const std::exception &problem) {
        std::cout << problem.what() << "\\n";
    }
}

int main()
{
    namespace steps = graphc::steps;
    const std::vector<float> x(6, 1.0f);
    std::vector<float> y(4);
    steps::call call(2);
    steps::state first;
    call.run(first, x, y);
    steps::state second(first);
    first.save("state.bin");
    call.run(first, x, y);
    std::cout << y[0] << " " << first->layer_count << " " << second->layer_count << "\\n";
    second = first;
    second.load("state.bin");
    std::cout << second->layer_count << " " << call.x_count() << "\\n";
    refused([&] { call.run(first, x, {y.data(), 3}); });
    refused([&] { second.load("steps.h"); });
    refused([&] { steps::call(-1); });
    refused([&] { steps::check(steps_BAD_STATE); });
}
"""


def test_cpp_compiles_without_a_warning_and_runs(tmp_path: Path) -> None:
    library = write_library(tmp_path, "steps")
    binding_files(interface_of("steps"), tmp_path, ["cpp"])
    (tmp_path / "use.cpp").write_text(CPP)
    strict = ["-std=c++17", "-Wall", "-Wextra", "-pedantic", "-Wshadow", "-Wconversion", "-Werror"]
    command = [tool("c++"), *strict, "use.cpp", str(library), "-Wl,-rpath,.", "-o", "use"]
    succeed(command, tmp_path)
    assert succeed([tmp_path / "use"], tmp_path).splitlines() == [
        "3 7 6",
        "6 6",
        "y: expected 4 elements, got 3",
        "steps.h: not a state of steps",
        "steps: sizes out of bounds, or no code for this processor",
        "the state was not made by the init function of this library",
    ]


def test_cpp_of_every_library_compiles(tmp_path: Path) -> None:
    source = ""
    for name in GRAPHS:
        write_library(tmp_path, name, shared=False)
        binding_files(interface_of(name), tmp_path, ["cpp"])
        source += f'#include "{name}.hpp"\n'
    (tmp_path / "all.cpp").write_text(source)
    command = [tool("c++"), "-std=c++17", "-Wall", "-Wextra", "-Wshadow", "-Werror"]
    succeed([*command, "-fsyntax-only", "all.cpp"], tmp_path)


RUST = """
fn main() {
    let mut state = library::State::new().unwrap();
    let mut call = library::Call::new(2).unwrap();
    let x = vec![1f32; call.x_count()];
    let mut y = vec![0f32; call.y_count()];
    call.run(&mut state, &x, &mut y).unwrap();
    call.run(&mut state, &x, &mut y).unwrap();
    println!("{} {} {:?}", y[0], state.layer_count, state.flags);
    println!("{}", call.run(&mut state, &x[1..], &mut y).unwrap_err());
    println!("{}", library::Call::new(-1).is_err());
}
"""


def test_rust_compiles_without_a_warning_and_runs(tmp_path: Path) -> None:
    compiler = tool("rustc")
    write_library(tmp_path, "steps")
    binding_files(interface_of("steps"), tmp_path, ["rust"])
    (tmp_path / "use.rs").write_text(RUST)
    link = ["-L", ".", "-l", "dylib:+verbatim=steps.so", "-C", "link-arg=-Wl,-rpath,."]
    strict = ["--edition=2021", "-D", "warnings"]
    library = ["--crate-type=rlib", "--crate-name=library", "rust/src/lib.rs"]
    succeed([compiler, *strict, *library], tmp_path)
    crate = ["--extern", "library=liblibrary.rlib", *link, "use.rs", "-o", "use"]
    succeed([compiler, *strict, *crate], tmp_path)
    assert succeed([tmp_path / "use"], tmp_path).splitlines() == [
        "3 7 [true, false, true]",
        "a size is outside of its bounds, or the sizes together are too large",
        "true",
    ]


@pytest.mark.parametrize("name", ["dtypes", "beside", "names", "names_of_sizes", "products"])
def test_rust_of_other_libraries_compiles(tmp_path: Path, name: str) -> None:
    binding_files(interface_of(name), tmp_path, ["rust"])
    command = [tool("rustc"), "--edition=2021", "-D", "warnings", "--emit=metadata"]
    succeed([*command, "--crate-type=rlib", "rust/src/lib.rs"], tmp_path)


@pytest.mark.slow
def test_cargo_builds_the_crate(tmp_path: Path) -> None:
    cargo = tool("cargo")
    write_library(tmp_path, "steps")
    binding_files(interface_of("steps"), tmp_path, ["rust"])
    (tmp_path / "rust" / "examples").mkdir()
    (tmp_path / "rust" / "examples" / "use.rs").write_text(RUST.replace("library::", "steps::"))
    output = succeed([cargo, "run", "-q", "--offline", "--example", "use"], tmp_path / "rust")
    assert output.startswith("3 7 [true, false, true]\n")


# -- SciPy ----------------------------------------------------------------------------------------


def test_scipy_integrates_the_compiled_function(tmp_path: Path) -> None:
    integrate = pytest.importorskip("scipy.integrate")
    module = load(tmp_path, "square", "scipy", "scipy")
    value, _ = integrate.nquad(module.low_level_callable(), [[0, 1], [0, 2]])
    assert value == pytest.approx(2 / 3 + 8 / 3, rel=1e-12)
    sized = load(tmp_path, "squares", "scipy", "scipy")
    value, _ = integrate.quad(sized.low_level_callable(1), 0, 3)
    assert value == pytest.approx(9, rel=1e-12)
    with pytest.raises(ValueError, match="a size is out of bounds"):
        sized.low_level_callable(-1)
    # A function of two variables, asked for one.
    value, *_ = integrate.quad(module.low_level_callable(), 0, 3, full_output=1)
    assert np.isnan(value)


def test_scipy_of_another_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="one float64 vector") as caught:
        binding_files(interface_of("beside"), tmp_path, ["scipy"])
    assert "x: float32['batch', '4']" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_all_bindings_are_written_once(tmp_path: Path) -> None:
    made = binding_files(interface_of("square"), tmp_path, [*BINDINGS, "cpp"])
    assert [str(path.relative_to(tmp_path)) for path in made] == [
        "square_numpy.py",
        "square.hpp",
        "rust/Cargo.toml",
        "rust/build.rs",
        "rust/src/lib.rs",
        "square_scipy.py",
    ]
    for path in made:
        if path.suffix == ".py":
            compile(path.read_text(), path.name, "exec")
