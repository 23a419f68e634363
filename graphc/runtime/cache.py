"""Content-addressed store of compiled objects on disk (runtime, floor 7).

One file per key, written under a temporary name and renamed: a reader sees a whole file or none,
so concurrent processes and kills at any moment need no locks.  The file carries a digest over key
and content; a file that does not match is logged, removed and reported as missing, and is then
compiled again.  Invariant: no failure of the disk is an error of the user; the cache is only ever
a shortcut.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import sys
import time
from pathlib import Path

_log = logging.getLogger("graphc.cache")

_MAGIC = b"graphc object 1\n"
_HEADER = struct.Struct(
    f"<{len(_MAGIC)}s32sQ"
)  # magic, SHA-256 of key and content, length of content
_KEY_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_")

DEFAULT_LIMIT = 1 << 30
_STALE_SECONDS = 3600  # a temporary file this old belongs to a process that was killed
_TOUCH_SECONDS = 60  # a file's time of last use is kept to this precision
_SWEEPS_PER_LIMIT = 32  # the folder is measured again after limit / 32 new bytes


def cache_key(*parts: str | bytes) -> str:
    """The key of a content made from `parts`: equal parts in equal order give the equal key."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))  # ("ab", "c") is not ("a", "bc")
        digest.update(data)
    return digest.hexdigest()


def default_directory() -> Path | None:
    """GRAPHC_CACHE_DIR, else the user's cache folder; None where there is none (or it is "off")."""
    chosen = os.environ.get("GRAPHC_CACHE_DIR")
    if chosen is not None:
        return None if chosen in ("", "off") else Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    if base and os.path.isabs(base):  # the XDG specification: relative paths are to be ignored
        return Path(base) / "graphc"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "graphc"


class ObjectCache:
    """`get` and `put` bytes by key in `directory` (None: remembers nothing).

    `limit`: bytes on disk, approximately; beyond it the least recently used files go.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None, limit: int = DEFAULT_LIMIT
    ) -> None:
        self.directory = None if directory is None else Path(directory)
        self.limit = limit
        self._usable: bool | None = None  # not yet tried
        self._until_sweep = 0  # the first put of a process measures the folder

    def get(self, key: str) -> bytes | None:
        """The content stored under `key`, verified; None where there is none."""
        if self.directory is None or self._usable is False:
            return None
        path = self._path(key)
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._disable(error)
            return None
        content = self._unpack(key, data)
        if content is None:
            _log.warning("damaged cache file removed, its content is compiled again: %s", path)
            _remove(path)
            return None
        if not self._trusted(status):
            _log.warning("cache file of another user ignored: %s", path)
            return None
        if time.time() - status.st_mtime > _TOUCH_SECONDS:
            self._touch(path)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Store `content` under `key`. Returns normally whether or not the disk took it."""
        if self.directory is None or not self._prepare(self.directory):
            return
        path = self._path(key)
        temporary = path.with_name(f".{os.urandom(8).hex()}.tmp")
        header = _HEADER.pack(_MAGIC, _digest(key, content), len(content))
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with open(temporary, "xb") as file:
                file.write(header)
                file.write(content)
            os.replace(temporary, path)
        except OSError as error:  # full or read-only disk
            _remove(temporary)
            self._disable(error)
            return
        self._until_sweep -= len(content) + len(header)
        if self._until_sweep < 0:
            self._until_sweep = self.limit // _SWEEPS_PER_LIMIT
            self.sweep()

    def sweep(self) -> None:
        """Remove what killed processes left, then the files used longest ago beyond the limit."""
        found: list[tuple[float, int, str]] = []
        now = time.time()
        for path, status in self._files():
            if path.endswith(".tmp"):
                if now - status.st_mtime > _STALE_SECONDS:
                    _remove(path)
            else:
                found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.limit:
                break
            _remove(path)
            total -= size

    def clear(self) -> None:
        """Remove every stored file."""
        for path, _ in self._files():
            _remove(path)

    # -- inside ---------------------------------------------------------------------------------
    def _path(self, key: str) -> Path:
        if len(key) < 8 or not _KEY_CHARACTERS.issuperset(key):
            raise ValueError(f"a cache key is at least 8 letters, digits, '-' or '_', got {key!r}")
        assert self.directory is not None
        return self.directory / key[:2] / key

    @staticmethod
    def _unpack(key: str, data: bytes) -> bytes | None:
        if len(data) < _HEADER.size:
            return None
        magic, digest, length = _HEADER.unpack_from(data)
        content = data[_HEADER.size :]
        if magic != _MAGIC or length != len(content) or digest != _digest(key, content):
            return None
        return content

    def _prepare(self, directory: Path) -> bool:
        if self._usable is None:
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._usable = os.access(directory, os.W_OK | os.X_OK)
                if not self._usable:
                    self._disable(PermissionError(f"{directory} is not writable"))
                elif not self._trusted(directory.stat()):
                    # Objects are run: a folder where others may write is a way into the process.
                    self._disable(PermissionError(f"{directory} is writable by other users"))
            except OSError as error:
                self._disable(error)
        return bool(self._usable)

    @staticmethod
    def _trusted(status: os.stat_result) -> bool:
        if not hasattr(os, "getuid"):
            return True
        return status.st_uid in (os.getuid(), 0) and not status.st_mode & 0o002

    def _disable(self, error: OSError) -> None:
        if self._usable is not False:
            _log.warning("working without the object cache: %s", error)
        self._usable = False

    @staticmethod
    def _touch(path: Path) -> None:
        try:
            os.utime(path)
        except OSError as error:  # a read-only cache still serves
            _log.debug("time of use not recorded: %s", error)

    def _files(self) -> list[tuple[str, os.stat_result]]:
        found: list[tuple[str, os.stat_result]] = []
        if self.directory is None:
            return found
        for folder in _entries(self.directory):
            if len(folder.name) != 2:
                continue  # not ours
            for entry in _entries(folder.path):
                try:
                    found.append((entry.path, entry.stat(follow_symlinks=False)))
                except OSError as error:  # another process removed it meanwhile
                    _log.debug("skipped in the sweep: %s", error)
        return found


def _entries(directory: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:  # gone or never made
        return []


def _digest(key: str, content: bytes) -> bytes:
    digest = hashlib.sha256(key.encode() + b"\0")
    digest.update(content)
    return digest.digest()


def _remove(path: str | os.PathLike[str]) -> None:
    try:
        os.unlink(path)
    except OSError as error:  # already removed by another process, or a read-only folder
        _log.debug("not removed: %s", error)
