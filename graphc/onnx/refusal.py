"""Refusals of ONNX files (floor 8): which place of the file, what is wrong, what to do.

A place reads like a path: "graph 'main': node 3 'conv1' (Conv)".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from graphc.base.errors import FormatError, UnsupportedError, message

_HINT = "check the file with onnx.checker.check_model, or export it again"


def shown(text: object, most: int = 80) -> str:
    """A name or a value of a file, quoted and not too long."""
    quoted = repr(text)
    return quoted if len(quoted) <= most else quoted[: most - 4] + "...'"


def bad(where: str, what: str, hint: str = _HINT) -> NoReturn:
    """Raise FormatError: the file is not a valid model."""
    raise FormatError(message(f"{where}: {what}", at="", hint=hint))


def unsupported(where: str, what: str, hint: str | None = None) -> NoReturn:
    """Raise UnsupportedError: the file is valid, and graphc cannot do it."""
    raise UnsupportedError(message(f"{where}: {what}", at="", hint=hint))


class InputNeeded(UnsupportedError):
    """A value must be known when compiling, and comes from inputs or sizes that are not.

    inputs: names of inputs whose values decide it; sizes: names of symbolic dims that do.
    """

    def __init__(self, text: str, inputs: Sequence[str], sizes: Sequence[str]) -> None:
        super().__init__(text)
        self.inputs = tuple(inputs)
        self.sizes = tuple(sizes)


def needed(
    where: str,
    what: str,
    inputs: Sequence[str],
    sizes: Sequence[str],
    multiples: Mapping[str, int] | None = None,
) -> InputNeeded:
    """The error where `what` must be known when compiling. multiples: of what the sizes may be
    multiples, for the hint.
    """
    parts = []
    hints = []
    if not inputs and not sizes:
        parts.append("what is only there when the model runs")
    if inputs:
        parts.append("the inputs " + ", ".join(map(repr, inputs)))
        given = ", ".join(f"{n!r}: ..." for n in inputs)
        hints.append(f"constants={{{given}}}")
    if sizes:
        parts.append("the sizes " + ", ".join(sizes))
        hints.append("sizes={" + ", ".join(f"{n!r}: ..." for n in sizes) + "}")
    text = message(
        f"{where}: {what} must be known when compiling, but depends on {' and '.join(parts)}",
        at="",
        hint=_hint(hints, sizes, multiples or {}),
    )
    return InputNeeded(text, inputs, sizes)


def _hint(given: list[str], sizes: Sequence[str], multiples: Mapping[str, int]) -> str | None:
    if not given:
        return None
    text = f"fix them: graphc.onnx.load(path, {', '.join(given)})"
    dims = [f"{n!r}: graphc.Dim({n!r}, min={m}, multiple_of={m})" for n, m in multiples.items()]
    if dims:
        text += f"; or say that they are multiples: sizes={{{', '.join(dims)}}}"
    elif len(sizes) > 1:
        text += f"; or say what one is made of: sizes={{{sizes[0]!r}: '{sizes[1]} + 1'}}"
    return text
