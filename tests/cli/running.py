"""Running the command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SMALL = """graph "small" {
  dim n min=1 max=64
  input %x "x" : f32[n, 4]
  input %t "t" : i64[n]
  variable %w trainable=true =
    const f32[4, 3] [0.5, 1.0, 2.0, 0.5, -1.0, 2.0, 0.5, 1.0, 2.0, 0.25, 1.0, -2.0] : f32[4, 3]
  %h = einsum(%x, %w) {spec="ab,bc->ac"} : f32[n, 3]
  %e = exp(%h) : f32[n, 3] name "layer/e"
  %l = log(%e) : f32[n, 3]
  %p = gather(%w, %t) {axes=(1,), position=0} : f32[n, 4]
  %half = constant() {value=const f32[] [0.5]} : f32[]
  %v = multiply(%w, %half) : f32[4, 3]
  output "y" = %l
  output "picked" = %p
  update %w = %v
}
"""


def cli(
    *arguments: str,
    folder: Path,
    stdin: str | bytes = b"",
    variables: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """`graphc *arguments` in `folder`; output and errors as text."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GRAPHC_LOG": "", **(variables or {})}
    code = "import sys; from graphc_cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input=data,
        capture_output=True,
        cwd=folder,
        env=environment,
        timeout=120,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def good(*arguments: str, folder: Path, stdin: str = "") -> str:
    """What a command prints that must succeed and say nothing on stderr."""
    done = cli(*arguments, folder=folder, stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr
    return done.stdout


def bad(*arguments: str, folder: Path, says: str, code: int = 1, stdin: str | bytes = b"") -> str:
    """The message of a command that must fail: on stderr, without a traceback, nothing printed."""
    done = cli(*arguments, folder=folder, stdin=stdin)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr, done.stderr
    assert says in done.stderr, done.stderr
    assert done.stderr.startswith("graphc"), done.stderr
    return done.stderr
