"""Errors (floor 0): one hierarchy under `GraphcError`, one builder for messages.

Every error that a user can cause is built by `message`, so that all of them read alike: what was
expected, what came, where the user wrote it, and what to do.  `assert` is for our own bugs only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable


class GraphcError(Exception):
    """Base of every error that graphc raises on purpose."""


class ShapeError(GraphcError, ValueError):
    """Shapes do not fit the op; raised where the op is declared."""


class DTypeError(GraphcError, TypeError):
    """Dtypes do not fit the op; raised where the op is declared."""


class GraphError(GraphcError, ValueError):
    """A graph is put together wrongly (missing input, duplicate name, foreign tensor)."""


class VerifyError(GraphcError, RuntimeError):
    """A graph or kernel breaks an invariant of its language: a compiler bug or a bad file."""


class UnsupportedError(GraphcError, NotImplementedError):
    """A thing that graphc cannot do, named."""


class CompileError(GraphcError, RuntimeError):
    """The compiler could not produce code."""


class ExecutionError(GraphcError, RuntimeError):
    """A compiled function met values that it cannot compute with (an index out of bounds …)."""


class NumericsError(GraphcError, ArithmeticError):
    """`check_numerics` found a NaN or an infinity."""


class FormatError(GraphcError, ValueError):
    """Text or a file is not what it claims to be."""


class DeviceError(GraphcError, RuntimeError):
    """A device that was asked for cannot run here; says which piece is missing."""


# Filled by floor 1 (`ir.provenance`): the user's line that is running now, empty when unknown.
LOCATOR: dict[str, Callable[[], str]] = {}


def message(
    what: str,
    *,
    operands: Iterable[str] = (),
    at: str | None = None,
    hint: str | None = None,
) -> str:
    """Format an error: `what` first, then one line per operand, the user's line, and the hint.

    at: the line to name instead of the one that is running; empty for none.
    """
    if at is None and "here" in LOCATOR:
        at = LOCATOR["here"]()
    lines = [what]
    lines += [f"  {operand}" for operand in operands]
    if at:
        lines.append(f"  at {at}")
    if hint:
        lines.append(f"  hint: {hint}")
    return "\n".join(lines)


def what_and_hint(error: GraphcError) -> tuple[str, str | None]:
    """The first line and the hint of an error, for a caller that says it again with the op."""
    what, _, rest = str(error).partition("\n")
    _, _, hint = rest.rpartition("  hint: ")
    return what, hint or None
