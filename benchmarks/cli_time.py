"""How long do commands take in a new process?"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import readable
from benchmarks.table import Row

MODEL = """graph "tiny" {
  input %x "x" : f32[8]
  %y = exp(%x) : f32[8]
  output "y" = %y
}
"""
CODE = "import sys; from graphc_cli import main; sys.exit(main())"


def run() -> Iterator[Row]:
    """The best of ten processes, beside Python alone (which is part of each)."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "tiny.g")
        model.write_text(MODEL)
        yield {"command": "python -c pass", "best of 10": readable(_best(["-c", "pass"]))}
        for words in (["--help"], ["inspect"], ["opt"], ["run", "--random"]):
            given = words if words == ["--help"] else [words[0], str(model), *words[1:]]
            yield {
                "command": "graphc " + " ".join(words),
                "best of 10": readable(_best(["-c", CODE, *given])),
            }


def _best(arguments: list[str]) -> float:
    best = float("inf")
    for _ in range(10):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        best = min(best, time.perf_counter() - begin)
    return best
