"""docs/format.md says what is: every op with its operands and attributes, every limit."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import graphc
import graphc.ops.catalog  # the ops register themselves
from graphc.ir.opdef import ATTRIBUTE_RULES, REGISTRY
from graphc.ops.attribute_rules import OpRule

PAGE = (Path(graphc.__file__).parents[1] / "docs/format.md").read_text()


def rows(after: str) -> dict[str, list[str]]:
    """The cells of the table behind a heading, by the word of the first one."""
    table = PAGE.split(f"\n## {after}\n")[1]
    found: dict[str, list[str]] = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            name, *cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
            found.setdefault(name.strip("`"), cells)
        elif found and not line.startswith("|"):
            break
    return found


def test_the_page_lists_every_op() -> None:
    listed = rows("Ops")
    assert list(listed) == sorted(ATTRIBUTE_RULES)
    for name, (operands, attributes, text) in listed.items():
        rule = ATTRIBUTE_RULES[name]
        assert isinstance(rule, OpRule)
        assert operands == f"{rule.least}{'' if rule.least == rule.most else '…'}", name
        assert tuple(re.findall(r"`(\w+)`", attributes)) == REGISTRY[name].attributes, name
        assert text.replace("\\|", "|") == " ".join(REGISTRY[name].doc.split()), name


def test_the_page_says_what_every_attribute_is() -> None:
    first = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    said = {word for cell in first for word in re.findall(r"`(\w+)`", cell)}
    assert said >= {a for op in REGISTRY for a in op.attributes if op.name in ATTRIBUTE_RULES}


def test_the_page_lists_every_limit() -> None:
    defaults = dataclasses.asdict(graphc.Limits())
    assert {name: int(cells[0]) for name, cells in rows("Limits").items()} == defaults
