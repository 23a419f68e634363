"""The shipped form: `kernels/` lies beside `graphc/`, imported as `graphc.kernels` everywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.architecture.source_tree import ROOT

FIND = "import graphc.kernels; print(graphc.kernels.__file__)"


def python(code: str, folder: Path) -> str:
    """What `code` prints in a new process that finds modules in `folder` first."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def copied(folder: Path) -> Path:
    """The files that a build reads."""
    for name in ("graphc", "graphc_cli", "kernels"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_the_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    source = copied(tmp_path / "source")
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    wheel = tmp_path / python(build, source).splitlines()[-1]
    with zipfile.ZipFile(wheel) as archive:
        members = {m for m in archive.namelist() if ".dist-info/" not in m}
        (entries,) = (m for m in archive.namelist() if m.endswith("/entry_points.txt"))
        assert "graphc = graphc_cli:main" in archive.read(entries).decode()
    shipped = {p.relative_to(ROOT) for p in (ROOT / "graphc").rglob("*.py")}
    shipped |= {p.relative_to(ROOT) for p in (ROOT / "graphc_cli").rglob("*.py")}
    shipped |= {Path("graphc") / p.relative_to(ROOT) for p in (ROOT / "kernels").rglob("*.py")}
    assert members >= {str(p) for p in shipped} | {
        "graphc/py.typed",
        "graphc/viewer/viewer.js",
        "graphc/viewer/viewer.css",
    }
    folders = ("graphc/", "graphc_cli/")
    assert all(m.startswith(folders) for m in members), "only graphc and its command are installed"
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    assert python(FIND, installed) == str(installed / "graphc" / "kernels" / "__init__.py")


def test_kernels_are_found_in_the_checkout() -> None:
    assert Path(python(FIND, ROOT)).resolve() == ROOT / "kernels" / "__init__.py"


def test_kernels_are_found_where_git_made_no_link(tmp_path: Path) -> None:
    """Systems without symbolic links check out a text file that holds the target's path."""
    source = copied(tmp_path / "source")
    link = source / "graphc" / "kernels"
    link.unlink()
    link.write_text("../kernels")
    assert python(FIND, source) == str(source / "kernels" / "__init__.py")
