"""The floors: a module imports only from lower floors or from its own, and never in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import networkx

from tests.architecture.source_tree import Import, Module, imports, library

# Longest prefix wins. Whatever of graphc is not listed stands on the top floor.
FLOORS = {
    "graphc.base": 0,
    "graphc.ir": 1,
    "graphc.ops": 2,
    "graphc.autodiff": 3,
    "graphc.rewrite": 3,
    "graphc.passes": 3,
    "graphc.loops": 4,
    "graphc.schedule": 5,
    "graphc.lower": 5,
    "graphc.kernels": 5,
    "graphc.backend": 6,
    "graphc.runtime": 7,
    "graphc.artifact": 8,
    "graphc": 8,
    "graphc_cli": 8,
}

# Modules that may import the templates of kernels/.
KERNEL_USERS = {"graphc.compiler"}


def floor(name: str) -> int:
    prefixes = [p for p in FLOORS if name == p or name.startswith(p + ".")]
    return FLOORS[max(prefixes, key=len)]


def project_imports() -> list[Import]:
    return [i for m in library().values() for i in imports(m) if i.target in library()]


def test_every_floor_exists() -> None:
    missing = [p for p in FLOORS if not any(n == p or n.startswith(p + ".") for n in library())]
    assert not missing, f"floors without a module: {missing}"


def test_imports_go_down() -> None:
    wrong = [
        f"{i} (floor {floor(i.module.name)} -> {floor(i.target)})"
        for i in project_imports()
        if floor(i.target) > floor(i.module.name)
    ]
    assert not wrong, "imports that go up:\n" + "\n".join(wrong)


def test_lower_floors_do_not_import_the_package_itself() -> None:
    wrong = [str(i) for i in project_imports() if i.target == "graphc" and floor(i.module.name) < 8]
    assert not wrong, "import the module, not the package:\n" + "\n".join(wrong)


def test_templates_are_imported_by_the_compiler_only() -> None:
    wrong = [
        str(i)
        for i in project_imports()
        if i.target.startswith("graphc.kernels")
        and not i.module.name.startswith("graphc.kernels")
        and i.module.name not in KERNEL_USERS
    ]
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles() -> None:
    """At module level; importing a submodule also runs its packages' `__init__`."""
    edges = networkx.DiGraph()
    for i in project_imports():
        if i.typing or (i.inside and i.lazy):
            continue
        targets = [i.target]
        while "." in targets[-1]:
            targets.append(targets[-1].rpartition(".")[0])
        inside = {t for t in targets if (i.module.name + ".").startswith(t + ".")}
        edges.add_edges_from(
            (i.module.name, t) for t in targets if t not in inside or t == i.target
        )
    cycles = [sorted(c) for c in networkx.strongly_connected_components(edges) if len(c) > 1]
    assert not cycles, f"import cycles: {cycles}"


def test_a_module_that_goes_up_is_found(tmp_path: Path) -> None:
    """The checks above can fail: an import of a higher floor is seen in each way to write it."""
    for text in (
        "from graphc.loops import nodes",
        "import graphc.loops.nodes",
        "def f():\n    from graphc.loops.nodes import Kernel",
        "import importlib\ndef f():\n    return importlib.import_module('graphc.loops.nodes')",
    ):
        planted = Module("graphc.base.planted", tmp_path / "planted.py", ast.parse(text), 1)
        (found,) = (i for i in imports(planted) if i.target.startswith("graphc"))
        assert floor(found.target) == 4 > floor(planted.name), text
