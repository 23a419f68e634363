"""Files that appear whole (floor 0): the old file or the new one at every moment, after a kill too.

The new content is complete and on the disk before it takes the name.  What a killed process left
behind is named `.NAME.<12 hex digits>.tmp`; the next write of the same file removes it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_log = logging.getLogger("graphc.base")

# A temporary file is made an instant before it is locked: one that is this young is left alone.
_STALE_SECONDS = 60.0


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file, open for reading and writing, that takes the name `path` when the block ends.

    An existing file keeps its content until then, and for good where the block raises; whoever has
    it open or mapped keeps the old content. Raises OSError.
    """
    # Through a symbolic link the file that it names is replaced, not the link.
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    _remove_stale(target)
    temporary = target.with_name(f".{target.name}.{os.urandom(6).hex()}.tmp")
    try:
        with open(temporary, "x+b") as file:
            _lock(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _lock(descriptor: int) -> bool:
    """Mark a temporary file as in use. The system drops the mark when the process ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # held by its writer, or a file system without locks
    return True


def _remove_stale(target: Path) -> None:
    pattern = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{12}\.tmp")
    youngest = time.time() - _STALE_SECONDS
    try:
        with os.scandir(target.parent) as entries:
            found = [Path(e.path) for e in entries if pattern.fullmatch(e.name)]
    except OSError as error:  # a folder that may be written but not listed
        _log.debug("cannot look for leftovers in %s: %s", target.parent, error)
        return
    for left in found:
        try:
            if left.stat().st_mtime > youngest:
                continue
            with open(left, "rb") as file:
                if _lock(file.fileno()):
                    left.unlink(missing_ok=True)
        except OSError as error:  # another process was quicker, or it belongs to another user
            _log.debug("left as it is: %s: %s", left, error)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
