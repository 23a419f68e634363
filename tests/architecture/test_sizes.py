"""Sizes, docstrings and names: what keeps every file readable in one sitting."""

from __future__ import annotations

import ast
import re

from tests.architecture.source_tree import ROOT, Module, everything, functions, library

MODULE_LINES = 600
FUNCTION_LINES = 60
# Written, shrinking only: "path" or "path:function" -> reason.
EXCEPTIONS: dict[str, str] = {}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "basic", "misc", "common"}
UNFINISHED = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b")


def within(found: dict[str, int], limit: int) -> None:
    """No size in `found` is above the limit, but for the exceptions."""
    wrong = {k: n for k, n in found.items() if n > limit and k not in EXCEPTIONS}
    listing = "\n".join(f"{key}: {lines} lines" for key, lines in sorted(wrong.items()))
    assert not wrong, f"over {limit} lines:\n{listing}"


def function_sizes() -> dict[str, int]:
    return {
        f"{m}:{name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for m in everything()
        for name, node in functions(m)
    }


def test_modules_are_short() -> None:
    within({str(m): m.lines for m in everything()}, MODULE_LINES)


def test_functions_are_short() -> None:
    within(function_sizes(), FUNCTION_LINES)


def test_exceptions_are_still_needed() -> None:
    sizes = {str(m): m.lines > MODULE_LINES for m in everything()}
    sizes |= {key: lines > FUNCTION_LINES for key, lines in function_sizes().items()}
    stale = [key for key in EXCEPTIONS if not sizes.get(key)]
    assert not stale, f"take these off the list: {stale}"


def test_every_module_starts_with_its_purpose() -> None:
    wrong = []
    for module in everything():
        text = ast.get_docstring(module.tree)
        if text is None and module.lines:
            wrong.append(f"{module}: no docstring")
        elif text and module.name in library() and not module.is_package and len(text) < 60:
            wrong.append(
                f"{module}: purpose, floor and invariant do not fit into {len(text)} letters"
            )
    assert not wrong, "\n".join(wrong)


def public_definitions(module: Module) -> list[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Module-level functions and classes without an underscore."""
    return [
        (node.name, node)
        for node in module.tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]


def test_everything_public_has_a_docstring() -> None:
    wrong = [
        f"{module}:{node.lineno}: {name}"
        for module in library().values()
        for name, node in public_definitions(module)
        if not ast.get_docstring(node)
    ]
    assert not wrong, "without a docstring:\n" + "\n".join(wrong)


def test_no_vague_module_names() -> None:
    wrong = [str(m) for m in everything() if m.path.stem in VAGUE_NAMES]
    assert not wrong, f"name the thing or the transformation: {wrong}"


def test_nothing_is_left_unfinished() -> None:
    wrong = [
        f"{m}:{k}: {line.strip()}"
        for m in everything()
        for k, line in enumerate(m.path.read_text().splitlines(), 1)
        if UNFINISHED.search(line) and m.path != (ROOT / "tests/architecture/test_sizes.py")
    ]
    assert not wrong, "\n".join(wrong)
