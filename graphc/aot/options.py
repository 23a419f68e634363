"""What may be asked of `graphc.compile` (floor 8), checked before anything is loaded or made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from graphc.aot.c_words import why_not_a_library
from graphc.base.errors import GraphError, UnsupportedError, message

EMIT = ("c-library", "static", "executable", "object", "llvm")
WEIGHTS = ("inside", "external")
NUMERICS = ("exact", "standard", "fast")
BINDINGS = ("python", "cpp", "rust", "scipy")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `graphc.compile`. Raises GraphError or UnsupportedError for a wrong one."""

    name: str | None = None
    target: str = "host"
    emit: str = "c-library"
    weights: str = "inside"
    bindings: Sequence[str] = ()
    max_size: int | None = None
    numerics: str = "standard"
    check_numerics: bool = False
    linker: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.bindings, str):
            raise GraphError(
                message(
                    f"bindings must be a sequence of names, got the text {self.bindings!r}",
                    hint=f"bindings={(self.bindings,)!r}; there are {', '.join(BINDINGS)}",
                )
            )
        if self.emit == "ptx" or self.target.startswith("cuda"):
            raise UnsupportedError(
                message(
                    "whole graphs cannot be compiled for GPUs yet: there is no schedule for them",
                    hint="a CPU target: native, host, aarch64-linux …",
                )
            )
        choices = [
            ("emit", self.emit, EMIT),
            ("weights", self.weights, WEIGHTS),
            ("numerics", self.numerics, NUMERICS),
            *(("bindings", binding, BINDINGS) for binding in self.bindings),
        ]
        for option, given, allowed in choices:
            if given not in allowed:
                raise GraphError(
                    message(f"unknown {option} {given!r}", hint=f"one of: {', '.join(allowed)}")
                )
        if self.max_size is not None and self.max_size < 1:
            raise GraphError(message(f"max_size must be a number of bytes, got {self.max_size}"))
        if self.name is not None and not _NAME.match(self.name):
            raise GraphError(
                message(
                    f"name={self.name!r} cannot start names of C",
                    hint="letters, digits and underscores, a letter first",
                )
            )
        reason = why_not_a_library(self.name) if self.name is not None else ""
        if reason:
            raise GraphError(
                message(
                    f"name={self.name!r} cannot name a library: it is {reason}",
                    hint=f"name={f'{self.name}_model'!r}",
                )
            )
