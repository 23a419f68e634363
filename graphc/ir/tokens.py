"""Tokens of the textual form (floor 1), read one at a time: memory does not grow with the text.

Every mistake is a FormatError with line, column, what was expected and what came.  Numbers and
names have a largest length, so that no token costs more than its place in the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from graphc.base.errors import FormatError, message
from graphc.base.limits import Limits

# Every repetition is of single characters that its successor cannot match: linear in the text.
_TOKEN = re.compile(
    r"""[ \t\r]* (?:(?P<newline>\n) | (?P<comment>\#[^\n]*) | (?P<end>\Z)
      | (?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*)*")
      | (?P<label>%[A-Za-z0-9_./]+)
      | (?P<digest>@[0-9a-f]{64})
      | (?P<function>@[A-Za-z_][A-Za-z0-9_./]*)
      | (?P<number>-?(?:inf|nan)\b|-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)
      | (?P<word>[^\W\d]\w*)
      | (?P<sign>//|[-{}()\[\]<>,:=+*]))""",
    re.VERBOSE,
)
_NUMBER_LENGTH = 64  # no number that is written exactly is longer
_LARGEST = 1 << 64  # above every element of every dtype


@dataclass(slots=True)
class Token:
    """One token with its place."""

    kind: str
    text: str
    line: int
    column: int


def format_error(what: str, hint: str | None = None) -> FormatError:
    """A FormatError with a hint."""
    hint = hint or "graphs are written as str(graph) writes them: graph name { … }"
    return FormatError(message(what, hint=hint))


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a text, the last one of the kind "end"."""
    line, start, position = 1, 0, 0
    match = _TOKEN.match
    while True:
        found = match(text, position)
        if found is None:
            while text[position] in " \t\r":
                position += 1
            raise format_error(
                f"line {line}, column {position - start + 1}: "
                f"unexpected character {text[position]!r}"
            )
        kind = found.lastgroup or ""
        position = found.end()
        if kind == "newline":
            line, start = line + 1, position
        elif kind == "end":
            break
        elif kind != "comment":
            word = found[kind]
            yield Token(kind, word, line, position - len(word) - start + 1)
    yield Token("end", "the end of the text", line, position - start + 1)


class TokenReader:
    """A text with a place in it: `current` is the token that comes next."""

    def __init__(self, text: str, limits: Limits) -> None:
        self.limits = limits
        self._tokens = tokens(text)
        self.current = next(self._tokens)
        self.depth = 0

    def advance(self) -> None:
        """Go to the next token."""
        if self.current.kind != "end":
            self.current = next(self._tokens)

    def fail(
        self, expected: str, token: Token | None = None, hint: str | None = None
    ) -> FormatError:
        """The error at a token (the current one by default)."""
        t = token or self.current
        what = f"line {t.line}, column {t.column}: expected {expected}, got {t.text[:61]!r:.60}"
        return format_error(what, hint)

    def limited(self, count: int, field: str, what: str, token: Token | None = None) -> None:
        """Fail where a count is above the limit of that name."""
        allowed = getattr(self.limits, field)
        if count > allowed:
            raise self.fail(
                f"at most {allowed} {what} (limit {field})",
                token,
                f"for a text that you trust, raise it: graphc.Limits({field}=...)",
            )

    def enter(self, token: Token | None = None) -> None:
        """One level of nesting more; `depth` is lowered by whoever leaves."""
        self.depth += 1
        self.limited(self.depth, "nesting", "nested levels", token)

    def take(self, kind: str, what: str = "") -> str:
        """The text of the current token, which must be of that kind."""
        token = self.current
        if token.kind != kind:
            raise self.fail(what or kind)
        if kind in ("word", "label", "function"):
            self.limited(len(token.text), "name_length", "characters")
        self.advance()
        return token.text

    def sign(self, text: str) -> None:
        """Go over a sign or word, which must be there."""
        if self.current.text != text or self.current.kind not in ("sign", "word"):
            raise self.fail(repr(text))
        self.advance()

    def accept(self, text: str) -> bool:
        """Go over a sign or word if it is there."""
        if self.current.text == text and self.current.kind in ("sign", "word"):
            self.advance()
            return True
        return False

    def expect_end(self) -> None:
        """Fail unless the text is over."""
        if self.current.kind != "end":
            raise self.fail("the end of the text")

    def string(self, *, long: bool = False) -> str:
        """A string as in JSON. long: as long as a constant may be."""
        token = self.current
        if token.kind == "string" and not long:
            self.limited(len(token.text) - 2, "name_length", "characters")
        try:
            text = str(json.loads(self.take("string", "a string")))
        except json.JSONDecodeError as error:
            raise self.fail(f"a string ({error.msg})", token) from None
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise self.fail("a string without halves of characters", token)
        return text

    def number(self) -> int | float:
        """A number."""
        token = self.current
        text = self.take("number", "a number")
        if len(text) > _NUMBER_LENGTH:
            raise self.fail(f"a number of at most {_NUMBER_LENGTH} characters", token)
        if any(c in text for c in ".eEn"):
            return float(text)
        value = int(text)
        if abs(value) > _LARGEST:
            raise self.fail("an integer of at most 64 bits", token)
        return value

    def integer(self) -> int:
        """An integer."""
        token = self.current
        value = self.number() if token.kind == "number" else None
        if not isinstance(value, int):
            raise self.fail("an integer", token)
        return value
