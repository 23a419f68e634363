"""How long does `import graphc` take in a new process?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measure import readable
from benchmarks.table import Row

PROBE = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def run() -> Iterator[Row]:
    """The best of ten processes, beside NumPy alone (which is part of it)."""
    for name in ("numpy", "graphc"):
        seconds = [
            float(subprocess.check_output([sys.executable, "-c", PROBE.format(name)]))
            for _ in range(10)
        ]
        yield {"module": name, "best of 10": readable(min(seconds))}
