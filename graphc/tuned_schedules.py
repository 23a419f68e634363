"""Schedules that `graphc.tune` found, kept in the object cache (floor 8): one record for a machine
and a version of the compiler, choices by the digest of what a kernel computes.

A record that cannot be read is reported and counts as none: kernels are then scheduled as usual.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from graphc.base.errors import FormatError
from graphc.program_lookup import schedules_key
from graphc.runtime.cache import ObjectCache
from graphc.schedule.choices import Choice, Found

_log = logging.getLogger("graphc.tune")


@dataclass(frozen=True)
class Tuned(Found):
    """Choices by key, and the digest of all of them: part of the key of programs."""

    digest: str


def stored(cache: ObjectCache) -> Tuned | None:
    """What was found on this machine; None where nothing was."""
    data = cache.get(schedules_key())
    return None if data is None else read(data)


def read(data: bytes) -> Tuned | None:
    """A record as choices; None where it holds none, or cannot be read."""
    try:
        records = json.loads(data)
        by_key = {key: Choice.read(record) for key, record in records.items()}
    except (ValueError, AttributeError, FormatError) as error:
        _log.warning("tuned schedules are not read: %s", error)
        return None
    return Tuned(by_key, hashlib.sha256(data).hexdigest()) if by_key else None


def store(cache: ObjectCache, choices: Mapping[str, Choice], tried: set[str]) -> None:
    """Take over the results of a search over the kernels `tried`: those without a choice are
    scheduled as usual again.
    """
    before = stored(cache)
    kept = {} if before is None else {k: c for k, c in before.by_key.items() if k not in tried}
    records = {key: choice.record() for key, choice in sorted({**kept, **choices}.items())}
    if records or before is not None:
        cache.put(schedules_key(), json.dumps(records).encode())
