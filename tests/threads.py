"""Work done by several threads at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable

# A call that hangs is a failure, not a test that never ends.
SECONDS = 120.0


def at_once(work: Callable[[int], None], count: int) -> None:
    """work(0) to work(count - 1), each in a thread of its own; what one raises is raised here."""
    errors: list[BaseException] = []

    def run(k: int) -> None:
        try:
            work(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), f"a thread still works after {SECONDS:.0f} s"
    if errors:
        raise errors[0]
