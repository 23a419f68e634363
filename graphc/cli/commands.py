"""From a command's name to its module (the command line, floor 8)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from graphc.cli import bench, compile, explain, export, inspect, opt, run, verify, view
from graphc.cli.logs import configure
from graphc.ir import provenance

COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": run.execute,
    "inspect": inspect.execute,
    "compile": compile.execute,
    "explain": explain.execute,
    "export": export.execute,
    "opt": opt.execute,
    "bench": bench.execute,
    "verify": verify.execute,
    "view": view.execute,
}


def execute(options: argparse.Namespace) -> int:
    """Run the command of parsed options; returns its exit code. Raises what the command raises."""
    provenance.hide_callers()
    configure(options.verbose, os.environ.get("GRAPHC_LOG", ""))
    return COMMANDS[options.command](options)
