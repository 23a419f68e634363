"""What only new processes show: imports, first calls cold and from a disk cache, peak memory.

Each contestant gets an empty folder for everything that it caches on disk (compiled code, kernels,
autotuning), runs once (cold) and, in a second process, once more (warm).
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants import Entry
from benchmarks.interleaved import ROOT
from benchmarks.workloads import every

FIRST = {"MLP step": r"^MLP training step", "Transformer step": r"Transformer.*training step"}
MEMORY = "MLP step"
IMPORTS = 5
IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
LIMIT = 120  # seconds that a first call may take

# The installed files of a distribution and of what it requires, as far as that is installed.
SIZE = """
import importlib.metadata as m, re, sys
from pathlib import Path
todo, seen, total = sys.argv[1].split(','), set(), 0
while todo:
    name = re.sub('[-_.]+', '-', todo.pop()).lower()
    if name in seen:
        continue
    seen.add(name)
    try:
        found = m.distribution(name)
    except m.PackageNotFoundError:
        continue
    for file in found.files or ():
        path = found.locate_file(file)
        total += path.stat().st_size if path.is_file() else 0
    for text in found.requires or ():
        if 'extra ==' not in text:
            todo.append(re.match('[A-Za-z0-9._-]+', text)[0])
print(total / 2**20)
"""
OWN_NEEDS = "numpy,llvmlite,networkx,safetensors"  # graphc itself runs from its checkout


def by_process(
    entries: Sequence[Entry], pythons: Mapping[str, str], threads: int
) -> dict[str, dict[str, Any]]:
    """By contestant: import, megabytes, peak, and first calls {title: {cold, warm}}."""
    titles = {}
    for short, pattern in FIRST.items():
        titles[short] = next(w.name for w in every() if re.search(pattern, w.name))
    found = {}
    for entry in entries:
        python = pythons.get(entry.name, sys.executable)
        found[entry.name] = _of(entry, python, titles, threads)
        print(f"{entry.name}: {found[entry.name]}", flush=True)
    return found


def _of(entry: Entry, python: str, titles: Mapping[str, str], threads: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    code = IMPORT.format(entry.needs)
    seconds = [_print(python, code) for _ in range(IMPORTS)]
    if None in seconds:
        return {"missing": f"{entry.needs} is not installed"}
    result["import"] = statistics.median(s for s in seconds if s is not None)
    needs = OWN_NEEDS if entry.needs == "graphc" else entry.needs
    result["megabytes"] = _print(python, SIZE, needs)
    if entry.needs == "graphc" and result["megabytes"] is not None:
        own = [ROOT / "graphc", ROOT / "kernels", ROOT / "graphc_cli"]
        files = [f for folder in own for f in folder.rglob("*") if "__pycache__" not in f.parts]
        result["megabytes"] += sum(f.stat().st_size for f in files if f.is_file()) / 2**20
    result["first"] = {}
    for short, title in titles.items():
        with tempfile.TemporaryDirectory() as folder:
            cold = _first(entry, python, title, threads, Path(folder))
            warm = _first(entry, python, title, threads, Path(folder))
        if "first" in cold and "first" in warm:
            result["first"][short] = {"cold": cold["first"], "warm": warm["first"]}
            if short == MEMORY:
                # The program that a user runs again and again: its code is in the cache.
                result["peak"] = warm["peak"]
    return result


def _print(python: str, code: str, *arguments: str) -> float | None:
    """The number that a program prints, None where it fails."""
    # Compiled bytecode is kept, as for everything that is installed.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [python, "-c", code, *arguments], capture_output=True, text=True, env=environment
    )
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def _first(entry: Entry, python: str, title: str, threads: int, folder: Path) -> dict[str, Any]:
    environment = os.environ | entry.environment | caches(folder)
    if "PYTENSOR_FLAGS" in entry.environment:
        place = f",base_compiledir={folder / 'pytensor'}"
        environment["PYTENSOR_FLAGS"] = entry.environment["PYTENSOR_FLAGS"] + place
    environment |= {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    environment["PYTHONDONTWRITEBYTECODE"] = ""
    command = [python, "-m", "benchmarks.first_call", entry.name, title, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LIMIT)
    if done.returncode:
        return {"missing": done.stderr.strip().splitlines()[-1][:120] if done.stderr else "failed"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def caches(folder: Path) -> dict[str, str]:
    """Variables that send every library's caches into `folder`."""
    places = {
        "GRAPHC_CACHE_DIR": "graphc",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
        "TRITON_CACHE_DIR": "triton",
        "JAX_COMPILATION_CACHE_DIR": "jax",
        "NUMBA_CACHE_DIR": "numba",
        "XDG_CACHE_HOME": "cache",
    }
    found = {k: str(folder / v) for k, v in places.items()}
    # JAX keeps only what took a second to compile, unless told.
    found |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    found |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    return found
