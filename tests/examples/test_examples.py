"""The examples, run as a user runs them: in a process of their own, from another folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PNG = b"\x89PNG\r\n\x1a\n"


def run(folder: Path, name: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},  # the tree that is tested
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def pictures(folder: Path) -> set[str]:
    found = {p for p in folder.rglob("*.png") if p.read_bytes()[:8] == PNG}
    assert all(p.stat().st_size > 5_000 for p in found)
    return {str(p.relative_to(folder)) for p in found}


def accuracy(text: str) -> float:
    found = re.search(r"test accuracy: ([\d.]+)%", text)
    assert found, text
    return float(found[1])


def test_digits_with_a_convolutional_network(tmp_path: Path) -> None:
    assert accuracy(run(tmp_path, "digits.py")) >= 97
    assert pictures(tmp_path) == {"out/digits/loss.png", "out/digits/misread.png"}


def test_digits_with_dense_layers(tmp_path: Path) -> None:
    text = run(tmp_path, "digits.py", "--model", "mlp", "--output", "here", "--seed", "3")
    assert accuracy(text) >= 96
    assert pictures(tmp_path) == {"here/loss.png", "here/misread.png"}


def test_black_scholes_agrees_with_the_closed_forms(tmp_path: Path) -> None:
    text = run(tmp_path, "black_scholes.py", "--options", "20000")
    found = re.search(r"largest error against the closed forms: (\S+) of", text)
    assert found and float(found[1]) < 1e-12


def test_newton_converges_quadratically(tmp_path: Path) -> None:
    text = run(tmp_path, "fit_curve.py", "--degree", "3")
    lengths = [float(line.split()[2]) for line in text.splitlines() if re.match(r" +\d+ +\d", line)]
    assert lengths[-1] < 1e-12
    assert 4 <= len(lengths) <= 20, "Newton's method needs few steps"
    last = [length for length in lengths if length < 1e-3]
    assert sum(length > 1e-12 for length in last) <= 4, "near the minimum, digits double per step"
    assert pictures(tmp_path) == {"out/fit_curve/curve.png"}


def test_the_autoencoder_beats_principal_components(tmp_path: Path) -> None:
    text = run(tmp_path, "autoencoder.py", "--epochs", "40")
    found = re.findall(r": (0\.\d+)", text)
    assert len(found) == 2 and float(found[0]) < float(found[1])
    assert pictures(tmp_path) == {"out/autoencoder/digits.png"}
