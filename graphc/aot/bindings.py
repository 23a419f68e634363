"""Other languages' ways to call a compiled library, written on request (floor 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from graphc.aot.binding_cpp import cpp_text
from graphc.aot.binding_python import python_text
from graphc.aot.binding_rust import rust_files
from graphc.aot.binding_scipy import scipy_text
from graphc.aot.interface import Interface

_FILES: Mapping[str, Callable[[Interface], dict[str, str]]] = {
    "python": lambda i: {f"{i.name}_numpy.py": python_text(i)},
    "cpp": lambda i: {f"{i.name}.hpp": cpp_text(i)},
    "rust": rust_files,
    "scipy": lambda i: {f"{i.name}_scipy.py": scipy_text(i)},
}


def binding_files(interface: Interface, folder: Path, bindings: Iterable[str]) -> list[Path]:
    """Write the files of the bindings (names of options.BINDINGS) beside the library NAME.so.

    Raises UnsupportedError where a graph has no form that a binding needs.
    """
    made = []
    for binding in dict.fromkeys(bindings):
        for file, text in _FILES[binding](interface).items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            made.append(path)
    return made
