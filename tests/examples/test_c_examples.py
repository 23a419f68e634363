"""The examples that ship C: exported, built with the machine's C compiler, and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import graphc

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TOOLS = [tool for tool in ("cc", "make") if shutil.which(tool) is None]

pytestmark = pytest.mark.skipif(bool(TOOLS), reason=f"not installed: {', '.join(TOOLS)}")


def output(*command: str | Path, fails: bool = False, **environment: str) -> str:
    """What a command prints; fails: it must exit with 1, and its error output is returned."""
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), **environment},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == (1 if fails else 0), f"{done.stdout}\n{done.stderr}"
    return done.stderr if fails else done.stdout


def built(name: str, folder: Path, *options: str) -> str:
    """Export an example into a folder and build it there; what the export printed."""
    text = output(sys.executable, EXAMPLES / name / "export.py", "--out", folder, *options)
    output("make", "-C", EXAMPLES / name, f"BUILD={folder}", CFLAGS="-O1 -Werror")
    return text


def accuracy(text: str) -> float:
    """The last one printed, in per cent."""
    return float(re.findall(r"accuracy: ([\d.]+)%", text)[-1])


def test_the_deployed_network_gives_the_sessions_bits(tmp_path: Path) -> None:
    exported = built("deploy_c", tmp_path)
    for options in (["1"], ["64"], ["1000"], ["50", "2"]):
        text = output(tmp_path / "serve", tmp_path / "test.bin", *options)
        assert "equal to the session's, bit for bit" in text
        assert accuracy(text) == accuracy(exported) >= 97
    assert "batch" in output(tmp_path / "serve", tmp_path / "test.bin", "0", fails=True)
    content = (tmp_path / "test.bin").read_bytes()
    (tmp_path / "short.bin").write_bytes(content[:-1])
    assert "too short" in output(tmp_path / "serve", tmp_path / "short.bin", fails=True)
    (tmp_path / "other.bin").write_bytes(content[:-4] + b"\x3f\x3f\x3f\x3f")
    done = subprocess.run(
        [tmp_path / "serve", tmp_path / "other.bin"], capture_output=True, text=True
    )
    assert done.returncode == 1 and "probabilities: DIFFERENT" in done.stdout


def test_training_on_the_device_goes_on_where_it_stopped(tmp_path: Path) -> None:
    built("on_device_training", tmp_path, "--target", "native")
    assert accuracy(output(tmp_path / "train", tmp_path)) >= 97
    straight = (tmp_path / "state.bin").read_bytes()
    output(tmp_path / "train", tmp_path, "--epochs", "10")
    assert (tmp_path / "state.bin").read_bytes() != straight
    text = output(tmp_path / "train", tmp_path, "--epochs", "20", "--resume", "--threads", "2")
    assert text.startswith("epoch 11 ")
    assert (tmp_path / "state.bin").read_bytes() == straight

    (tmp_path / "state.bin").write_bytes(straight[:8] + bytes(8) + straight[16:])  # another layout
    refused = output(tmp_path / "train", tmp_path, "--resume", fails=True)
    assert "the state was not made by the init function" in refused
    (tmp_path / "state.bin").write_bytes(straight[:-1])
    refused = output(tmp_path / "train", tmp_path, "--resume", fails=True)
    assert "is not the state of this program" in refused


def test_the_controller_swings_the_pendulum_up(tmp_path: Path) -> None:
    exported = built("mpc", tmp_path, "--steps", "3000", "--target", "native")
    error = re.search(r"error of the next velocity: ([\d.]+) rad/s", exported)
    assert error and float(error[1]) < 0.02
    text = output(tmp_path / "mpc", "8")
    jacobian = re.search(r"Jacobian: within (\S+) of finite differences", text)
    assert jacobian and float(jacobian[1]) < 1e-8
    upright = re.search(r"upright since ([\d.]+) s, angle (\S+) rad", text)
    assert upright and float(upright[1]) < 7 and float(upright[2]) < 0.01
    assert re.search(r"control: median ([\d.]+) us", text)


def test_the_call_that_the_guide_shows(tmp_path: Path) -> None:
    page = (EXAMPLES.parent / "docs" / "ahead_of_time.md").read_text()
    call = page.split("```c\n")[1].split("```")[0]
    x = graphc.placeholder(("batch", 4), name="x")
    w = graphc.variable(np.ones((4, 3), np.float32), name="w")
    graph = graphc.Graph([x], {"y": graphc.nn.softmax(x @ w)}, name="iris")
    graphc.compile(graph, tmp_path, name="iris", emit="static", target="native")
    program = f"""
#include "iris.h"
#include <stdio.h>
#include <stdlib.h>
int main(void)
{{
    int64_t batch = 2;
    float x[8] = {{1, 2, 3, 4, 5, 6, 7, 8}}, y[6];
{textwrap.indent(call, "    ")}
    printf("%.3f %.3f\\n", y[0], y[5]);
    free(workspace);
    return 0;
}}
"""
    (tmp_path / "program.c").write_text(program)
    flags = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{tmp_path}")
    sources = (tmp_path / "program.c", tmp_path / "iris.a")
    output("cc", *flags, *sources, "-pthread", "-o", tmp_path / "program")
    assert output(tmp_path / "program") == "0.333 0.333\n"
