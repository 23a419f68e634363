"""The example and the stand-alone program: right results, clear errors, and no harm by any file."""

from __future__ import annotations

import random
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.aot.example import build_files, example_text
from graphc.aot.program_text import help_text, program_text
from graphc.base.dims import evaluate
from tests.aot.c_libraries import (
    GRAPHS,
    STRICT,
    every_dtype,
    interface_of,
    stateful,
    succeed,
    tool,
    write_library,
)

Arrays = dict[str, np.ndarray[Any, Any]]


def build_example(folder: Path, name: str) -> Path:
    """`example`, linked with NAME.so, in the folder."""
    library = write_library(folder, name)
    (folder / "example.c").write_text(example_text(interface_of(name)))
    command = [tool("cc"), "-std=c99", *STRICT, "example.c", str(library), "-Wl,-rpath,."]
    succeed([*command, "-o", "example"], folder)
    return folder / "example"


def build_program(folder: Path, name: str, *options: str) -> Path:
    """The stand-alone program NAME, in the folder."""
    library = write_library(folder, name, shared=False)
    (folder / "main.c").write_text(program_text(interface_of(name)))
    command = [tool("cc"), "-std=c99", *STRICT, *options, "main.c", str(library), "-pthread"]
    succeed([*command, "-o", name], folder)
    return folder / name


def run(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it in its folder."""
    return subprocess.run(
        [program, *arguments],
        cwd=program.parent,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    )


def fnv1a(data: bytes) -> str:
    """The checksum that the example prints (http://www.isthe.com/chongo/tech/comp/fnv/)."""
    value = 14695981039346656037
    for byte in data:
        value = (value ^ byte) * 1099511628211 % 2**64
    return f"fnv1a {value:016x}"


def arrays_of(sizes: dict[str, int]) -> Arrays:
    """An array for each input of `every_dtype`, by its C name, of values that all dtypes hold."""
    rng = np.random.default_rng(3)
    made = {}
    for o in interface_of("dtypes").inputs:
        shape = tuple(evaluate(size, sizes) for size in o.shape)
        values = rng.integers(0, 2 if o.dtype.is_bool else 100, shape)
        made[o.name] = values.astype(o.dtype.numpy)
    return made


# -- the example ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_the_example_builds_without_a_warning_and_runs(tmp_path: Path, name: str) -> None:
    done = run(build_example(tmp_path, name), "--threads=2")
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"^(\w+): (\w+) \[", done.stdout, re.MULTILINE)
    assert shown == [(o.name, o.dtype.name) for o in interface_of(name).outputs]


def test_the_example_reads_inputs_and_prints_checksums(tmp_path: Path) -> None:
    example = build_example(tmp_path, "steps")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    x.tofile(tmp_path / "x.bin")
    w = np.arange(6, dtype=np.float32).reshape(3, 2)
    done = run(example, "2", "x=x.bin", "--steps=2", "--save=state.bin")
    values = (x @ w / 2).ravel()
    expected = " ".join(f"{v:.9g}" for v in values)
    assert done.stdout == f"y: float32 [2, 2] {expected}  {fnv1a(values.tobytes())}\n"
    again = run(example, "2", "x=x.bin", "--load=state.bin")
    assert fnv1a((values / 2).tobytes()) in again.stdout
    made = np.resize(np.arange(1, 8, dtype=np.float32) / 8, (1, 3))
    assert fnv1a((made @ w).tobytes()) in run(example, "1").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["4", "65"], 1, "a size is out of bounds (see dtypes.h)"),
        (["3", "2", "class_=nothing.bin"], 1, "nothing.bin: cannot be read"),
        (["3", "2", "class_=dtypes.h"], 1, "dtypes.h: cannot be read, or does not hold 3 bytes"),
        (["2", "x=1"], 2, "an argument is unknown"),
        (["two"], 2, "not a number: two"),
    ],
)
def test_the_example_says_what_is_wrong(
    example_of_dtypes: Path, arguments: list[str], code: int, text: str
) -> None:
    done = run(example_of_dtypes, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr


@pytest.fixture(scope="module")
def example_of_dtypes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of the library with every dtype."""
    return build_example(tmp_path_factory.mktemp("example"), "dtypes")


@pytest.mark.parametrize("library", ["square.so", "square.a"])
def test_cmake_and_pkg_config_find_the_library_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    shared = library.endswith(".so")
    write_library(folder, "square", shared=shared)
    if not shared:
        succeed([tool("ar"), "rcs", "square.a", "square.o"], folder)
    for file, text in build_files(interface_of("square"), library).items():
        (folder / file).write_text(text)
    (folder / "example.c").write_text(example_text(interface_of("square")))
    succeed([tool("cmake"), "-S", folder, "-B", tmp_path / "build"], tmp_path)
    succeed([tool("cmake"), "--build", tmp_path / "build"], tmp_path)
    expected = run(tmp_path / "build" / "example").stdout
    assert "y: float64 []" in expected
    monkeypatch.setenv("PKG_CONFIG_PATH", str(folder))
    flags = succeed([tool("pkg-config"), "--cflags", "--libs", "square"], tmp_path).split()
    succeed([tool("cc"), folder / "example.c", *flags, "-o", "example"], tmp_path)
    assert run(tmp_path / "example").stdout == expected


# -- the program ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of the library with every dtype."""
    return build_program(tmp_path_factory.mktemp("program"), "dtypes")


def save(folder: Path, arrays: Arrays) -> list[str]:
    """The arrays as files, and the arguments that name them."""
    arguments = []
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        arguments += [f"--{name}", f"{name}.npy"]
    return arguments


def test_the_program_computes_every_dtype(program: Path) -> None:
    sizes = {"n": 5, "lambda": 7}
    arrays = arrays_of(sizes)
    outputs = interface_of("dtypes").outputs
    arguments = save(program.parent, arrays)
    arguments += [f"--{o.name}={o.name}.out.npy" for o in outputs]
    done = run(program, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    feeds = {o.label: arrays[o.name] for o in interface_of("dtypes").inputs}
    expected = every_dtype().evaluate(feeds)
    for o in outputs:
        got = np.load(program.parent / f"{o.name}.out.npy")
        assert got.dtype == o.dtype.numpy
        np.testing.assert_array_equal(got, expected[o.label])
    assert not list(program.parent.glob("*.part"))


def test_files_of_all_format_versions_and_of_bfloat16_bits_are_read(program: Path) -> None:
    arrays = arrays_of({"n": 2, "lambda": 0})
    arguments = save(program.parent, arrays)
    path = program.parent / "of_float32.npy"
    for version in ((1, 0), (2, 0), (3, 0)):
        with path.open("wb") as file:
            np.lib.format.write_array(file, arrays["of_float32"], version=version)
        done = run(program, *arguments, "--twice_float32", "out.npy")
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(np.load(program.parent / "out.npy"), 2 * arrays["of_float32"])
    bits = (arrays["of_bfloat16"].view(np.uint32) >> 16).astype(np.uint16)
    content = npy_bytes("{'descr': '<V2', 'fortran_order': False, 'shape': (2,), }", bits.tobytes())
    (program.parent / "of_bfloat16.npy").write_bytes(content)
    done = run(program, *arguments, "--twice_bfloat16", "out.npy")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(program.parent / "out.npy"), 2 * arrays["of_bfloat16"])


def test_the_program_keeps_a_state(tmp_path: Path) -> None:
    program = build_program(tmp_path, "steps")
    x = np.ones((2, 3), np.float32)
    np.save(tmp_path / "x.npy", x)
    done = run(program, "--x=x.npy", "--y=y.npy", "--steps=2", "--save-state=s.bin")
    assert done.returncode == 0, done.stderr
    done = run(program, "--x=x.npy", "--y=z.npy", "--state=s.bin", "--threads=3")
    assert done.returncode == 0, done.stderr
    with graphc.Session() as session:
        graph = stateful()
        step = session.function(
            [t for _, t in graph.inputs], graph.outputs[0][1], dict(graph.updates)
        )
        results = [step(x) for _ in range(3)]
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), results[1])
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), results[2])
    (tmp_path / "short.bin").write_bytes((tmp_path / "s.bin").read_bytes()[:-1])
    (tmp_path / "other.bin").write_bytes(bytes((tmp_path / "s.bin").stat().st_size))
    for file, text in (
        ("short.bin", "bytes of data, got"),
        ("other.bin", "the state was not made"),
    ):
        done = run(program, "--x=x.npy", "--y=y.npy", f"--state={file}")
        assert done.returncode == 1 and text in done.stderr


def test_the_program_finds_its_weights_beside_itself(tmp_path: Path) -> None:
    program = build_program(tmp_path, "beside")
    np.save(tmp_path / "x.npy", np.ones((1, 4), np.float32))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    command = [program, "--x", "../x.npy", "--y", "y.npy"]
    succeed(command, folder)
    np.testing.assert_array_equal(np.load(folder / "y.npy"), [[19, 23, 27]])
    done = run(program, "--x=x.npy", "--y=y.npy", "--weights=x.npy")
    assert done.returncode == 1
    assert done.stderr.startswith("beside: x.npy: the weights file cannot be mapped")


WRONG: list[tuple[list[str], int, str]] = [
    (["--foo=1"], 2, "unknown argument --foo=1"),
    (["word"], 2, "unknown argument word"),
    (["--class_=x.npy"], 2, "--class_ is given twice"),
    (
        ["--n=0"],
        1,
        "command line: the size n = 0 is out of its bounds (at least 1, at most 64)",
    ),
    (["--n=x"], 2, "--n: expected a whole number from 0 to 9223372036854775807, got x"),
    (["--n=3"], 1, "in_int8.npy: input in_int8, dim 0: expected 3 as from the command line, got 2"),
    (["--threads=257"], 2, "--threads: expected a whole number from 1 to 256, got 257"),
    (["--threads"], 2, "--threads needs a value"),
    (["--sum=y.npy"], 2, "two outputs go to y.npy"),
    (["--steps=2"], 2, "unknown argument --steps=2"),
    (["--sum=/nowhere/at/all.npy"], 1, "/nowhere/at/all.npy: No such file or directory"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), WRONG)
def test_wrong_arguments_are_named(
    program: Path, arguments: list[str], code: int, text: str
) -> None:
    given = save(program.parent, arrays_of({"n": 2, "lambda": 3}))
    done = run(program, *given, "--not_=y.npy", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr
    assert not list(program.parent.glob("*.part"))


def test_missing_arguments_are_named(program: Path) -> None:
    given = save(program.parent, arrays_of({"n": 2, "lambda": 3}))
    done = run(program, *given)
    assert done.returncode == 2 and "no file for any output: --next_int8 FILE.npy" in done.stderr
    done = run(program, *given[2:], "--sum=y.npy")
    assert done.returncode == 2 and "no file for input " in done.stderr


def npy_bytes(header: str, data: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    """A .npy file with this header; length: as it claims."""
    text = header.encode("latin-1")
    claimed = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", claimed) + text + data


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
DAMAGED = {
    b"": "it does not start like one",
    b"PK\x03\x04 and more": "it does not start like one",
    b"\x93NUMPY\x01": "it does not start like one",
    npy_bytes(GOOD, version=4): "its format version is none of 1, 2 and 3",
    npy_bytes(GOOD, length=999): "it ends within the header",
    b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}": "its header is longer than 65536 bytes",
    npy_bytes("{}"): "its header is damaged",
    npy_bytes(GOOD.replace("}", "")): "its header is damaged",
    npy_bytes(GOOD.replace("'shape'", "'descr'")): "its header is damaged",
    npy_bytes(GOOD.replace("'<f4'", "[('a', '<f4')]")): "its header is damaged, or of a structured",
    npy_bytes(GOOD.replace("2", "2" * 30)): "its header is damaged",
    npy_bytes(GOOD.replace("2,", "-2,")): "its header is damaged",
    npy_bytes(GOOD.replace("2,", "2," * 65)): "its header is damaged",
    npy_bytes(GOOD.replace("2,", "2,2")): "expected shape [n] (1 dims), got [2, 2] (2 dims)",
    npy_bytes(GOOD, b"1234567"): "expected 8 bytes of data, got 7",
    npy_bytes(GOOD, b"123456789"): "expected 8 bytes of data, got 9",
    npy_bytes(GOOD.replace("<f4", "<f8")): "expected dtype float32 ('<f4'), got float64 ('<f8')",
    npy_bytes(GOOD.replace("<f4", "")): "expected dtype float32 ('<f4'), got another dtype ('')",
    npy_bytes(GOOD.replace("<f4", ">f4")): "got another dtype ('>f4')",
    npy_bytes(GOOD.replace("False", "True")): "expected C order, got Fortran order",
    npy_bytes(GOOD.replace("2,", "9223372036854775799,")): "damaged",
    npy_bytes(GOOD.replace("2,", "922337203685477579,")): "is out of its bounds",
}


def test_damaged_files_are_refused_by_name(program: Path) -> None:
    given = save(program.parent, arrays_of({"n": 2, "lambda": 3}))
    at = given.index("--of_float32")
    rest = given[:at] + given[at + 2 :]
    for content, text in DAMAGED.items():
        (program.parent / "of_float32.npy").write_bytes(content)
        done = run(program, *rest, "--of_float32=of_float32.npy", "--sum=y.npy")
        assert (done.returncode, done.stdout) == (1, ""), content
        assert done.stderr.startswith("dtypes: of_float32.npy: "), content
        assert text in done.stderr or "expected 2 as from in_int8.npy" in done.stderr, content


def test_elements_that_a_dtype_does_not_have_are_refused(program: Path) -> None:
    given = save(program.parent, arrays_of({"n": 2, "lambda": 3}))
    np.save(program.parent / "of_bfloat16.npy", np.array([1, 1.001], np.float32))
    done = run(program, *given, "--sum=y.npy")
    assert done.returncode == 1 and "element 1 is not a bfloat16" in done.stderr
    given = save(program.parent, arrays_of({"n": 2, "lambda": 3}))
    path = program.parent / "class_.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x02")
    done = run(program, *given, "--sum=y.npy")
    assert done.returncode == 1 and "element 2 of dtype bool is 2" in done.stderr


def test_pipes_are_read_and_written(tmp_path: Path) -> None:
    program = build_program(tmp_path, "square")
    np.save(tmp_path / "x.npy", np.array([3.0, 4.0]))
    np.save(tmp_path / "y.npy", np.float64(25))
    content = (tmp_path / "x.npy").read_bytes()
    done = subprocess.run(
        [program, "--x", "/dev/stdin", "--y", "/dev/stdout"],
        input=content,
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    assert done.stdout == (tmp_path / "y.npy").read_bytes()


def test_help_is_a_table_of_inputs_and_outputs(program: Path) -> None:
    done = run(program, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == help_text(interface_of("dtypes"))
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["--class_", "in", "bool", "[lambda]", "class"] in rows
    expected = "--every_other out bool [floor((lambda + 1) / 2)] every-other"
    assert expected.split() in rows


def sanitized(folder: Path) -> Path:
    """A program that stops at any access out of bounds, overflow or leak."""
    flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    source = folder / "probe.c"
    source.write_text("int main(void) { return 0; }\n")
    probe = [tool("cc"), *flags, "probe.c", "-o", "probe"]
    if subprocess.run(probe, cwd=folder, capture_output=True, timeout=120).returncode:
        pytest.skip("the C compiler has no sanitizers")
    return build_program(folder, "squares", *flags)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The file cut short, or with bytes changed, doubled or removed."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(data), 128))
        way = rng.randrange(4)
        if way == 0:
            data[at] = (
                rng.choice(b"\x00\xff(),'{}: 9\\L-\n<")
                if rng.random() < 0.7
                else rng.randrange(256)
            )
        elif way == 1:
            del data[at : at + rng.randint(1, 8)]
        elif way == 2:
            data[at:at] = data[at : at + rng.randint(1, 40)] * rng.randint(1, 5)
        elif rng.random() < 0.3:
            del data[at:]
        if not data:
            break
    return bytes(data)


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_mutated_files_do_no_harm(tmp_path: Path, count: int) -> None:
    program = sanitized(tmp_path)
    np.save(tmp_path / "x.npy", np.arange(4.0))
    content = (tmp_path / "x.npy").read_bytes()
    rng = random.Random(5)
    codes = set()
    for k in range(count):
        (tmp_path / "x.npy").write_bytes(mutated(content, rng))
        done = run(program, "--x=x.npy", "--y=y.npy")
        codes.add(done.returncode)
        harmless = done.returncode in (0, 1) and "Sanitizer" not in done.stderr
        assert harmless and "runtime error" not in done.stderr, f"file {k}: {done.stderr}"
    assert codes == {0, 1}
