"""`python -m benchmarks [NAME …] [--json]`: run benchmarks and print their tables.

`python -m benchmarks PROGRAM [OPTION …]` runs one of the larger ones, which have their own options
(--help tells them) and write files.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.measure import OutsideLoad, machine
from benchmarks.table import json_lines, text

PROGRAMS = ("peers", "shapes")


def names() -> list[str]:
    """Every benchmark: the modules of this folder that have a `run`."""
    folder = Path(__file__).parent
    return sorted(p.stem for p in folder.glob("*.py") if "\ndef run()" in p.read_text())


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in PROGRAMS:
        sys.exit(importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:]))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", choices=[*names(), []], help="default: all of them")
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    options = parser.parse_args()
    for name in options.name or names():
        module = importlib.import_module(f"benchmarks.{name}")
        with OutsideLoad() as load:
            rows = list(module.run())
        if options.json:
            print(json_lines(name, machine(), rows))
            continue
        print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}")
        print(f"{machine()}; {load}\n")
        print(text(rows))


if __name__ == "__main__":
    main()
