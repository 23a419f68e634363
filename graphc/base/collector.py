"""Python's garbage collector (floor 0): out of the way while many objects are made."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection meanwhile: a compilation makes many objects, nearly all alive, and no
    cycles; walking them again and again cost a third of its time.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            if not gc.get_freeze_count():
                # What was made meanwhile counts as old at once, where the next collection of young
                # objects would walk all of it.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
