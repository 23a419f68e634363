"""The code of README.md and of every page under docs/ runs and prints what the page says.

A page's ```python blocks are one program, in order. A ```text block directly after a python block
is what that block prints; in it, a line `...` stands for any lines, and `<n>` for any number. A
block that is only to be looked at says so: ```python no-run; one that quotes the source says from
where: ```python from=graphc/ops/special.py, and stands there word for word. ```c is not run.
`pytest --update-golden` writes what is printed into the text blocks.
"""

from __future__ import annotations

import ast
import contextlib
import io
import linecache
import os
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block: what its fence says, its text, its first line, and what it prints."""

    info: str
    text: str
    line: int
    printed: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = list(FENCE.finditer(text))
    result = []
    for k, match in enumerate(found):
        follower = found[k + 1] if k + 1 < len(found) else None
        printed = None
        if follower is not None and follower["info"].strip() == "text":
            between = text[match.end() : follower.start()]
            printed = follower["body"] if not between.strip() else None
        line = text.count("\n", 0, match.start("body"))
        result.append(Block(match["info"].strip(), match["body"], line + 1, printed))
    return result


def matches(expected: str, printed: str) -> bool:
    """`...` on a line of its own is any lines; `<n>` is any number."""
    pattern = ""
    for line in expected.rstrip("\n").split("\n"):
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += re.escape(line.rstrip()).replace("<n>", r"[-+\d.e]+") + r"[ ]*\n"
    return re.fullmatch(pattern, printed.rstrip("\n") + "\n") is not None


def run(page: Path, parts: list[Block], update: bool = False) -> None:
    """The blocks, one after the other, in one namespace; errors name the page's own lines.

    update: a text that is not what is printed becomes it.
    """
    changes: list[tuple[Block, str]] = []
    module = types.ModuleType("page")  # dataclasses ask for the module of what they decorate
    sys.modules["page"] = module
    name = str(page)
    linecache.checkcache(name)
    for part in parts:
        tree = ast.parse(part.text, name)
        ast.increment_lineno(tree, part.line - 1)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(tree, name, "exec"), module.__dict__)
        if part.printed is not None and not matches(part.printed, output.getvalue()):
            changes.append((part, output.getvalue()))
            if update:
                continue
            place = f"{page.name}:{part.line}"
            text = f"{place} prints\n{output.getvalue()}\nthe page says\n{part.printed}"
            pytest.fail(text, pytrace=False)

    if changes:
        text = page.read_text()
        for part, printed in changes:
            old = f"{part.text}```\n\n```text\n{part.printed}```"
            text = text.replace(old, f"{part.text}```\n\n```text\n{printed.rstrip()}\n```")
        page.write_text(text)


@pytest.fixture
def in_folder(tmp_path: Path) -> Iterator[Path]:
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_code_runs(page: Path, in_folder: Path, golden: Any) -> None:
    run(page, [b for b in blocks(page) if b.info == "python"], golden.update)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_quoted_source_is_the_source(page: Path) -> None:
    for block in blocks(page):
        found = re.fullmatch(r"(?:python|c) from=(\S+)", block.info)
        if found:
            source = (ROOT / found[1]).read_text()
            assert block.text in source, f"{page.name}:{block.line} is not in {found[1]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_blocks_say_what_they_are(page: Path) -> None:
    known = r"python( no-run| from=\S+)?|c( from=\S+)?|text|sh"
    wrong = [
        f"{page.name}:{b.line} {b.info!r}" for b in blocks(page) if not re.fullmatch(known, b.info)
    ]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_links_lead_somewhere(page: Path) -> None:
    for match in LINK.finditer(FENCE.sub("", page.read_text())):
        target = match["target"].split("#")[0]
        if target and "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    stack = [ROOT / "README.md"]
    while stack:
        page = stack.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        targets = (m["target"].split("#")[0] for m in LINK.finditer(page.read_text()))
        stack += [(page.parent / t).resolve() for t in targets if t and "://" not in t]
    missing = [str(p.relative_to(ROOT)) for p in PAGES if p not in seen]
    assert not missing, f"no link leads to {missing}"


def test_output_patterns() -> None:
    assert matches("a\n...\nb <n>\n", "a\nx\ny\nb 1.5e-3\n")
    assert matches("a\n...\nb\n", "a\nb\n")
    assert not matches("a\nb\n", "a\n")
    assert not matches("a <n>\n", "a b\n")
    assert not matches("", "a\n")
