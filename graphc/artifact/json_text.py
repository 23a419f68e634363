"""JSON of files (floor 8): read strictly, with one form of error."""

from __future__ import annotations

import json
import re
from typing import Any

from graphc.artifact.refusal import refusal, refuse

_DIGEST = re.compile(r"[0-9a-f]{64}")
# Strings match to their end or to the text's, so that every character is looked at once.
_STRUCTURE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)
_DEPTH = 8  # deeper than any member needs


def read_object(where: str, raw: bytes) -> dict[str, Any]:
    """The JSON object of a member, its keys in the order of the text.

    Raises FormatError for text that is not UTF-8 or JSON, keys that come twice, deep nesting,
    numbers that are not integers, or another value than an object.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise refusal(where, f"byte {error.start}", raw[error.start], "UTF-8") from None
    _check_depth(where, text)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            refuse(where, "keys", [key for key, _ in items], "each key once")
        return result

    def number(text: str) -> Any:
        if len(text) > 20 or not text.lstrip("-").isdigit():
            refuse(where, "number", text, "an integer of at most 19 digits")
        return int(text)

    try:
        value = json.loads(
            text,
            object_pairs_hook=pairs,
            parse_int=number,
            parse_float=number,
            parse_constant=number,
        )
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise refusal(where, at, text[error.pos : error.pos + 20], f"JSON ({error.msg})") from None
    if not isinstance(value, dict):
        refuse(where, "content", text[:20], "a JSON object")
    return value


def _check_depth(where: str, text: str) -> None:
    """The parser of the standard library recurses: how deep the text goes is counted before."""
    depth = 0
    for match in _STRUCTURE.finditer(text):
        token = match[0][0]
        if token in "[{":
            depth += 1
            if depth > _DEPTH:
                refuse(where, "nesting", depth, f"at most {_DEPTH} levels")
        elif token in "]}":
            depth -= 1


def is_count(value: Any) -> bool:
    """Whether a JSON value is an integer that is not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_digest(value: Any) -> bool:
    """Whether a JSON value is a sha256 in hexadecimal."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
