"""Programs made ahead of time, on other processors and under race and memory checkers.

The processors are emulated (qemu-user), the checkers are valgrind's; where a tool is missing the
test says which and is skipped.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc

MACHINES = {
    "aarch64-linux": ("qemu-aarch64", "aarch64-linux-gnu-gcc", "/usr/aarch64-linux-gnu"),
    "riscv64-linux": ("qemu-riscv64", "riscv64-linux-gnu-gcc", "/usr/riscv64-linux-gnu"),
}
RNG = np.random.default_rng(11)


def mixed() -> graphc.Graph:
    """Products, transcendentals, reductions, sorting and 16-bit floats."""
    x = graphc.placeholder(("batch", 32), name="x")
    w = graphc.variable(RNG.normal(size=(32, 12)).astype(np.float32), name="w")
    half = graphc.astype(x, "float16") * 3
    outputs = {
        "p": graphc.nn.softmax(graphc.tanh(x @ w)),
        "total": graphc.sum(graphc.exp(graphc.astype(x, "float64")), axis=1),
        "sorted": graphc.sort(x, axis=1),
        "best": graphc.argmax(x, axis=1),
        "half": half,
        "sign": x > 0,
    }
    return graphc.Graph([x], outputs, name="mixed")


def training() -> graphc.Graph:
    """A training step whose state is saved between two runs of the program."""
    x = graphc.placeholder(("batch", 8), name="x")
    t = graphc.placeholder(("batch",), "int64", name="t")
    w = graphc.variable(RNG.normal(size=(8, 4)).astype(np.float32), name="w")
    loss = graphc.mean(graphc.nn.softmax_cross_entropy(x @ w, t))
    updates = graphc.optimizers.adam([w], graphc.grad(loss, [w]))
    return graphc.Graph([x, t], {"loss": loss}, updates=updates, name="step")


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(
    command: list[str], folder: Path, inputs: Mapping[str, Any], outputs: list[str]
) -> dict[str, Any]:
    """Run a program on arrays; its outputs, read back from the files that it wrote."""
    arguments = []
    for name, value in inputs.items():
        np.save(folder / f"{name}.npy", value)
        arguments += [f"--{name}", str(folder / f"{name}.npy")]
    for name in outputs:
        arguments += [f"--{name}", str(folder / f"{name}.npy")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: np.load(folder / f"{name}.npy") for name in outputs}


def close(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        wanted = np.asarray(value)
        if wanted.dtype.kind == "f" and wanted.dtype.itemsize > 2:
            unit = 64 * np.finfo(wanted.dtype).eps
            np.testing.assert_allclose(found[name], wanted, rtol=unit, atol=unit)
        else:
            np.testing.assert_array_equal(found[name], wanted)


@pytest.mark.parametrize("target", MACHINES)
def test_other_processors_give_the_reference_meaning(target: str, tmp_path: Path) -> None:
    emulator, compiler, root = MACHINES[target]
    command = [tool(emulator), "-L", root]
    tool(compiler)
    graph = mixed()
    made = graphc.compile(graph, tmp_path / "mixed", target=target, emit="executable")
    for size in (1, 9):
        feeds = {"x": RNG.normal(size=(size, 32)).astype(np.float32)}
        found = run([*command, str(made.library)], tmp_path, feeds, [n for n, _ in graph.outputs])
        close(found, graph.evaluate(feeds))


@pytest.mark.parametrize("target", MACHINES)
def test_shared_libraries_load_on_other_processors(target: str, tmp_path: Path) -> None:
    emulator, compiler, root = MACHINES[target]
    command = [tool(emulator), "-L", root]
    cc = tool(compiler)
    folder = tmp_path / "step"
    graphc.compile(training(), folder, name="step", target=target)
    program = tmp_path / "example"
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-O1"]
    subprocess.run(
        [cc, *flags, "example.c", "step.so", "-Wl,-rpath,$ORIGIN/step", "-o", str(program)],
        cwd=folder,
        check=True,
        timeout=120,
    )
    done = subprocess.run([*command, str(program)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loss" in done.stdout


@pytest.mark.parametrize(
    ("cpu", "chosen"), [("Nehalem", "x86-64"), ("Haswell", "x86-64-v3"), ("Opteron_G1", "x86-64")]
)
def test_an_old_processor_never_meets_a_new_instruction(
    cpu: str, chosen: str, tmp_path: Path
) -> None:
    emulator = tool("qemu-x86_64")
    tool("cc")
    graph = mixed()
    made = graphc.compile(graph, tmp_path / "mixed", target="x86-64-linux", emit="executable")
    feeds = {"x": RNG.normal(size=(5, 32)).astype(np.float32)}
    command = [emulator, "-cpu", cpu, str(made.library)]
    close(run(command, tmp_path, feeds, [n for n, _ in graph.outputs]), graph.evaluate(feeds))
    program = tmp_path / "which"
    source = tmp_path / "which.c"
    source.write_text(
        '#include "m.h"\n#include <stdio.h>\nint main(void){puts(m_isa());return 0;}\n'
    )
    library = graphc.compile(graph, tmp_path / "m", name="m", target="x86-64-linux", emit="static")
    subprocess.run(
        ["cc", str(source), f"-I{tmp_path / 'm'}", str(library.library), "-lm", "-lpthread"]
        + ["-o", str(program)],
        check=True,
        timeout=60,
    )
    done = subprocess.run([emulator, "-cpu", cpu, str(program)], capture_output=True, text=True)
    assert done.stdout.strip() == chosen


def test_a_library_for_a_newer_processor_refuses(tmp_path: Path) -> None:
    emulator = tool("qemu-x86_64")
    tool("cc")
    made = graphc.compile(mixed(), tmp_path / "mixed", target="x86-64-v3", emit="executable")
    np.save(tmp_path / "x.npy", np.zeros((2, 32), np.float32))
    command = [emulator, "-cpu", "Nehalem", str(made.library), "--x", str(tmp_path / "x.npy")]
    command += ["--best", str(tmp_path / "best.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "processor" in done.stderr


@pytest.mark.parametrize("checker", ["memcheck", "helgrind"])
def test_valgrind_finds_nothing(checker: str, tmp_path: Path) -> None:
    valgrind = [tool("valgrind"), f"--tool={checker}", "-q", "--error-exitcode=99"]
    # Long blocks of wide vectors are too much for its translator ("temporary storage exhausted").
    valgrind += ["--vex-guest-max-insns=20"]
    valgrind += ["--leak-check=full", "--show-leak-kinds=all"] if checker == "memcheck" else []
    tool("cc")
    graph = training()
    made = graphc.compile(graph, tmp_path / "step", emit="executable")
    feeds = {
        "x": RNG.normal(size=(3000, 8)).astype(np.float32),
        "t": RNG.integers(0, 4, 3000),
    }
    command = [*valgrind, str(made.library), "--threads", "4", "--steps", "3"]
    found = run(command, tmp_path, feeds, ["loss"])
    with graphc.Session() as session:
        inputs = [tensor for _, tensor in graph.inputs]
        step = session.function(inputs, graph.outputs[0][1], updates=dict(graph.updates))
        expected = [step(**feeds) for _ in range(3)][-1]
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-6)


FORKS = """\
#include "forked.h"
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static float x[3000 * 8];
static int64_t t[3000];
static volatile int stop;

static void *serve(void *forever)
{
    size_t bytes = forked_workspace_size(3000);
    void *workspace = malloc(bytes);
    forked_state *state = malloc(sizeof *state);
    float loss;
    forked_state_init(state);
    do {
        if (forked_run(state, 3000, x, t, &loss, workspace, bytes)) {
            _exit(3);
        }
    } while (forever && !stop);
    free(state);
    free(workspace);
    return NULL;
}

int main(void)
{
    pthread_t other;
    forked_set_threads(3);
    pthread_create(&other, NULL, serve, &other);
    for (int k = 0; k < 40; k++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            serve(NULL);
            forked_set_threads(2 - k % 2);
            serve(NULL);
            forked_set_threads(1);
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        if (status) {
            return 1;
        }
        usleep(20 * (unsigned)k);
    }
    stop = 1;
    pthread_join(other, NULL);
    serve(NULL);
    forked_set_threads(1);
    return 0;
}
"""


def test_a_forked_child_computes_whatever_its_parent_was_doing(tmp_path: Path) -> None:
    compiler = tool("cc")
    folder = tmp_path / "forked"
    graphc.compile(training(), folder, emit="static", target="native")
    (folder / "forks.c").write_text(FORKS)
    build = [compiler, "forks.c", "forked.a", "-pthread", "-o", "forks"]
    subprocess.run(build, cwd=folder, check=True, timeout=60)
    subprocess.run(["./forks"], cwd=folder, check=True, timeout=120)
