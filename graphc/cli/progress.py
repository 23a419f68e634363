"""Progress of long work (the command line, floor 8): on a terminal only, never in a log file."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

_log = logging.getLogger("graphc.cli")
T = TypeVar("T")


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, with a bar on stderr where it is a terminal and tqdm is there, with a line for
    each where tqdm is not, and with nothing but the log (-v) elsewhere.
    """
    if sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None:
        yield from importlib.import_module("tqdm").tqdm(items, desc=what, leave=False)
        return
    for k, item in enumerate(items, 1):
        if sys.stderr.isatty():
            print(f"{what}: {k} of {len(items)}", file=sys.stderr)
        else:
            _log.info("%s: %d of %d", what, k, len(items))
        yield item
