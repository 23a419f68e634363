"""Logging for the command line (floor 8): -v, -vv and GRAPHC_LOG. The library itself sets up none.

`GRAPHC_LOG=compiler:info,runtime:debug` sets the level of parts (loggers `graphc.PART`), a word
without a colon that of everything.
"""

from __future__ import annotations

import logging
import sys

from graphc.base.errors import GraphError, message

_LEVELS = ("debug", "info", "warning", "error")
_FORMAT = "%(relativeCreated)7.0f ms  %(name)s: %(message)s"


def configure(verbosity: int, parts: str) -> None:
    """Send the log to stderr: warnings always, more for `-v` (info), `-vv` (debug) and `parts`.

    Raises GraphError where `parts` is not `PART:LEVEL,…`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger("graphc")
    root.addHandler(handler)
    root.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)])
    for part in filter(None, (p.strip() for p in parts.split(","))):
        name, _, level = part.rpartition(":")
        if level.lower() not in _LEVELS:
            raise GraphError(
                message(
                    f"GRAPHC_LOG: expected PART:LEVEL, got {part!r}",
                    hint=f"GRAPHC_LOG=compiler:info,runtime:debug; the levels are "
                    f"{', '.join(_LEVELS)}",
                )
            )
        logger = logging.getLogger(f"graphc.{name}" if name else "graphc")
        logger.setLevel(level.upper())
