"""What all commands share: help, versions, usage errors, logs, interruptions, broken pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import graphc
from graphc_cli import describe, parser
from graphc_cli.parser import build
from tests.cli.running import ROOT, bad, cli, good

COMMANDS = "run inspect compile export explain opt bench verify view completion".split()
PROBE = """
import json, sys
import graphc_cli
try:
    graphc_cli.main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted(m.split(".")[0] for m in sys.modules)]))
"""


def test_help_and_mistakes_import_nothing_heavy(tmp_path: Path) -> None:
    for arguments, code in (
        (["--help"], 0),
        (["run", "--help"], 0),
        (["--version"], 0),
        (["compile", "model.g"], 2),
    ):
        done = subprocess.run(
            [sys.executable, "-c", PROBE, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        found, modules = json.loads(done.stdout.splitlines()[-1])
        assert found == code, done.stderr
        assert not {"numpy", "graphc", "llvmlite", "networkx"} & set(modules)


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    actions = [a for a in build()._actions if a.choices and a.dest == "command"]
    assert list(actions[0].choices or ()) == COMMANDS
    for name in COMMANDS:
        with pytest.raises(SystemExit) as end:
            build().parse_args([name, "--help"])
        assert end.value.code == 0
        text = capsys.readouterr().out
        assert "example:\n" in text and f"graphc {name}" in text.partition("example:")[2]
        assert "exit codes" in text


def test_version() -> None:
    assert parser.version() == graphc.__version__


def test_usage_errors(models: Path) -> None:
    for arguments, says in (
        (["nothing"], "invalid choice"),
        (["run"], "MODEL"),
        (["run", "m.g", "--feed", "x"], "NAME=VALUE"),
        (["run", "m.g", "--dim", "n=-1"], "NAME=SIZE"),
        (["run", "m.g", "--threads", "0"], "at least 1"),
        (["verify", "m.g", "--numerics", "exact,quick"], "'quick' is not one of"),
        (["compile", "m.g", "-o", "x", "--bindings", "java"], "'java' is not one of"),
        (["opt"], "MODEL is required"),
    ):
        with pytest.raises(SystemExit) as end:
            build_and_check(arguments)
        assert end.value.code == 2, says
    bad("run", "m.g", "--feed", "x", folder=models, says="hint: graphc run --help", code=2)


def build_and_check(arguments: list[str]) -> None:
    # `opt` alone is told apart after parsing, so main is what is called.
    sys.modules["graphc_cli"].main(arguments)


def test_traceback_is_shown_on_request(models: Path) -> None:
    done = cli("inspect", "missing.g", "--traceback", folder=models)
    assert done.returncode == 1 and "Traceback" in done.stderr
    assert "FileNotFoundError" in done.stderr


def test_bugs_are_called_bugs() -> None:
    assert describe(graphc.GraphError("wrong")) == "error: wrong"
    assert "this is a bug of graphc" in describe(KeyError("x"))
    assert describe(FileNotFoundError(2, "No such file", "a.g")) == "error: a.g: No such file"


def test_logs(models: Path) -> None:
    quiet = cli("run", "small.g", "--random", folder=models, variables={"GRAPHC_CACHE": ""})
    assert quiet.stderr == ""
    done = cli("verify", "small.g", "--samples", "1", "-v", folder=models)
    assert "graphc.cli: verify standard: 1 of 5" in done.stderr
    assert "graphc.cli" not in done.stdout
    done = cli(
        "verify", "small.g", "--samples", "1", folder=models, variables={"GRAPHC_LOG": "cli:info"}
    )
    assert "graphc.cli: verify standard" in done.stderr
    done = cli("inspect", "small.g", folder=models, variables={"GRAPHC_LOG": "cli:loud"})
    assert done.returncode == 1 and "GRAPHC_LOG: expected PART:LEVEL" in done.stderr


def test_an_interrupted_command_ends_with_one_line(models: Path) -> None:
    # Whoever started the tests may ignore Ctrl-C (a shell in the background does).
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from graphc_cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "bench", "small.g", "--seconds", "60", "-v"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=models,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stderr is not None
    for line in process.stderr:  # the log says when the measuring has begun
        if "bench: 1 of" in line:
            break
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert rest.splitlines()[-1] == "graphc bench: interrupted" and "Traceback" not in rest


def test_nobody_reads_the_output(models: Path) -> None:
    """`graphc … | head -1`: no complaint."""
    code = "import sys; from graphc_cli import main; sys.exit(main())"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", code, "opt", "--list-rules"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            cwd=models,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 141 and done.stderr == ""


def test_names_cannot_steer_the_terminal(models: Path) -> None:
    hostile = models / "hostile.g"
    text = (models / "small.g").read_text().replace('graph "small"', 'graph "\\u001b[2Jx"')
    hostile.write_text(text)
    assert "\x1b" not in good("inspect", "hostile.g", folder=models)
