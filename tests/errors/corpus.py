"""The collection of typical mistakes: `mistake` files one, `examine` judges the error it gives.

A mistake is a small function that does one thing wrong. The line that is wrong ends in `# wrong`:
the error must be raised there and name that line. Where the mistake shows only when the function
is called, the line that the message must name (the placeholder, the op) ends in `# named`.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import graphc


@dataclass(frozen=True)
class Mistake:
    """One wrong program and what its error must say.

    error: the class, exactly. says: fragments that the message holds, such as the op and the
    types of the operands. hint: a regular expression that the hint's line matches.
    """

    run: Callable[[], object]
    error: str
    says: tuple[str, ...]
    hint: str

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def file(self) -> Path:
        return Path(inspect.getsourcefile(self.run) or "")

    def marked(self, mark: str) -> list[int]:
        """The lines of the source file that end in `# mark`."""
        lines, first = inspect.getsourcelines(self.run)
        return [first + k for k, line in enumerate(lines) if line.rstrip().endswith(f"# {mark}")]


MISTAKES: dict[str, Mistake] = {}


def mistake(
    error: str, *says: str, hint: str
) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """File the function that follows."""

    def add(run: Callable[[], object]) -> Callable[[], object]:
        found = Mistake(run, error, says, hint)
        if found.name in MISTAKES:
            raise ValueError(f"two mistakes are called {found.name}")
        MISTAKES[found.name] = found
        return run

    return add


def examine(found: Mistake) -> list[str]:
    """What is wrong with the error that a mistake gives; empty when nothing is."""
    try:
        found.run()
    except graphc.GraphcError as error:
        return _judge(found, error)
    except Exception as error:
        return [f"raised {type(error).__name__}, not a GraphcError: {error}"]
    return ["raised nothing"]


def _judge(found: Mistake, error: graphc.GraphcError) -> list[str]:
    text = str(error)
    complaints = []
    if type(error).__name__ != found.error:
        complaints.append(f"raised {type(error).__name__}, not {found.error}")
    complaints += [f"does not say {part!r}" for part in found.says if part not in text]
    hints = re.findall(r"^ *hint: (.+(?:\n {4,}.+)*)", text, re.MULTILINE)
    if len(hints) != 1:
        complaints.append(f"has {len(hints)} hints")
    elif not re.search(found.hint, hints[0]):
        complaints.append(f"the hint does not match {found.hint!r}")
    complaints += _judge_place(found, error, text)
    if "/graphc/" in text or "site-packages" in text:
        complaints.append("shows paths inside graphc")
    if len(text) > 2000:
        complaints.append(f"is {len(text)} letters long")
    return complaints


def _judge_place(found: Mistake, error: graphc.GraphcError, text: str) -> list[str]:
    complaints = []
    wrong, named = found.marked("wrong"), found.marked("named")
    for line in wrong + named:
        if not re.search(rf"\b{re.escape(found.file.name)}:{line}\b", text):
            complaints.append(f"does not name {found.file.name}:{line}")
    frames = traceback.extract_tb(error.__traceback__)
    raised = [f.lineno for f in frames if f.filename == str(found.file)]
    if wrong and raised[-1] not in wrong:
        complaints.append(f"raised at line {raised[-1]}, not at {wrong}")
    return complaints
