"""The command `graphc`: reads the command line and hands it to the command's module.

This package lies beside `graphc` so that `--help` and a wrong option answer at once: nothing here
imports NumPy or graphc before a command really runs. The work is done by `graphc.cli`.

Exit codes: 0 success, 1 failure, 2 a wrong command line, 130 interrupted, 141 nobody reads the
output any more.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from graphc_cli.completion import script
from graphc_cli.parser import build

FAILED, INTERRUPTED, BROKEN_PIPE = 1, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` when None) and return its exit code.

    A wrong command line, `--help` and `--version` end in SystemExit, as argparse does it.
    """
    parser = build()
    options = parser.parse_args(arguments)
    if options.command == "opt" and not (
        options.model or options.list_passes or options.list_rules
    ):
        parser.error("opt: MODEL is required (or --list-passes, --list-rules)")
    try:
        if options.command == "completion":
            print(script(parser, options.shell), end="")
            code = 0
        else:
            code = int(importlib.import_module("graphc.cli.commands").execute(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # What is left in the buffer goes nowhere: Python would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        if options.traceback:
            traceback.print_exc()
        else:
            print(f"graphc {options.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if options.traceback:
            traceback.print_exc()
        else:
            print(f"graphc {options.command}: {describe(error)}", file=sys.stderr)
        return FAILED


def describe(error: Exception) -> str:
    """An error as its user should read it: what graphc raises on purpose as it is, problems with
    files in the system's words, anything else as what it is, a bug of ours.
    """
    known = getattr(sys.modules.get("graphc.base.errors"), "GraphcError", None)
    if known is not None and isinstance(error, known):
        return f"error: {error}"
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename is not None else ""
        return f"error: {name}{error.strerror or error}"
    if isinstance(error, MemoryError):
        return f"error: not enough memory: {error}".rstrip(": ")
    return (
        f"internal error: {type(error).__name__}: {error}\n"
        "  hint: this is a bug of graphc; run again with --traceback and report what it prints"
    )
