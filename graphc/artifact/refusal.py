"""Refusals of files (floor 8): one form for all of them.

FormatError: graph.txt: local header: compression method is 8, expected 0
"""

from __future__ import annotations

from typing import NoReturn

from graphc.base.errors import FormatError, message

_HINT = "give a file that graph.save wrote, as it was written; docs/format.md describes it"


def refusal(where: str, field: str, came: object, expected: str, hint: str = _HINT) -> FormatError:
    """The error: which member, which field, what it says, what it may say."""
    shown = repr(came)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return FormatError(message(f"{where}: {field} is {shown}, expected {expected}", hint=hint))


def refuse(where: str, field: str, came: object, expected: str, hint: str = _HINT) -> NoReturn:
    """Raise `refusal`."""
    raise refusal(where, field, came, expected, hint)


def check_limit(where: str, field: str, came: int, allowed: int, limit: str) -> None:
    """Refuse a count above the limit of that name in `graphc.Limits`."""
    if came > allowed:
        refuse(
            where,
            field,
            came,
            f"at most {allowed} (limit {limit})",
            f"for a file that you trust: graphc.load(path, limits=graphc.Limits({limit}=...))",
        )
