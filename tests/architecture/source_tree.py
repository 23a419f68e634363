"""The source files of the project as syntax trees, and the imports between them.

Nothing is imported or run: what the tests of this folder say holds for every module that lies in
the tree, also for those that only a special machine would load.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Module:
    """One source file. name: as imported (`graphc.base.dims`), a package its own name."""

    name: str
    path: Path
    tree: ast.Module
    lines: int

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))


@dataclass(frozen=True)
class Import:
    """One import. target: a module of the project, or the name as written for others.

    inside: the function that holds it, or "". lazy: written as importlib.import_module("…").
    typing: inside `if TYPE_CHECKING:`.
    """

    module: Module
    target: str
    line: int
    inside: str = ""
    lazy: bool = False
    typing: bool = False

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: imports {self.target}"


def _read(path: Path, name: str) -> Module:
    text = path.read_text()
    return Module(name, path, ast.parse(text, str(path)), text.count("\n"))


def _under(folder: Path, prefix: str) -> Iterator[Module]:
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder)
        if (
            folder.name == "graphc" and relative.parts[0] == "kernels"
        ) or "__pycache__" in path.parts:
            continue  # the symbolic link: its files are read once, from kernels/
        parts = [prefix, *relative.with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        yield _read(path, ".".join(p for p in parts if p))


@functools.cache
def library() -> dict[str, Module]:
    """The modules that are shipped, by name: graphc, kernels (as imported), graphc_cli."""
    folders = {"graphc": "graphc", "kernels": "graphc.kernels", "graphc_cli": "graphc_cli"}
    modules = [m for folder, name in folders.items() for m in _under(ROOT / folder, name)]
    return {m.name: m for m in modules}


@functools.cache
def everything() -> tuple[Module, ...]:
    """The library, the tests, examples and benchmarks."""
    rest = [m for part in ("tests", "examples", "benchmarks") for m in _under(ROOT / part, part)]
    return (*library().values(), *rest)


def functions(module: Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its qualified name, methods and nested ones included."""
    stack: list[tuple[str, ast.AST]] = [("", module.tree)]
    while stack:
        prefix, node = stack.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + child.name, child
                stack.append((f"{prefix}{child.name}.", child))
            elif isinstance(child, ast.ClassDef):
                stack.append((f"{prefix}{child.name}.", child))
            else:
                stack.append((prefix, child))


def imports(module: Module) -> list[Import]:
    """Every import of a module, lazy ones included, in order of lines."""
    found: list[Import] = []
    stack: list[tuple[ast.AST, str, bool]] = [(module.tree, "", False)]
    while stack:
        node, inside, typing = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside = getattr(node, "name", "lambda")
        for target in _targets(module, node):
            lazy = isinstance(node, ast.Call)
            line = getattr(node, "lineno", 0)
            found.append(Import(module, target, line, inside, lazy, typing))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            stack += [(child, inside, True) for child in node.body]
            stack += [(child, inside, typing) for child in node.orelse]
        else:
            stack += [(child, inside, typing) for child in ast.iter_child_nodes(node)]
    return sorted(found, key=lambda i: i.line)


def _targets(module: Module, node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [_existing(alias.name) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
        base = package[: len(package) - node.level + 1] if node.level else []
        origin = ".".join([*base, *([node.module] if node.module else [])])
        return [_existing(f"{origin}.{alias.name}") for alias in node.names]
    if (
        isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("import_module")
        and node.args
    ):
        argument = node.args[0]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            return [_existing(argument.value)]
        return ["<computed>"]
    return []


def _existing(name: str) -> str:
    """The module that holds `name`: itself, or the longest prefix that is a module of ours."""
    if not name.startswith("graphc"):
        return name
    parts = name.split(".")
    while len(parts) > 1 and ".".join(parts) not in library():
        parts.pop()
    return ".".join(parts)
