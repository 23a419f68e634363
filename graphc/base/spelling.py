"""Names that a misspelt one may mean (floor 0). `difflib` is loaded when there is one."""

from __future__ import annotations

import importlib
from collections.abc import Iterable


def close_names(name: str, known: Iterable[str], count: int = 3, cutoff: float = 0.6) -> list[str]:
    """Those of the known names that look like `name`, the closest first."""
    matcher = importlib.import_module("difflib")
    found: list[str] = matcher.get_close_matches(name, list(known), count, cutoff)
    return found
