"""`graphc opt`: run passes over a graph, text in, text out (the command line, floor 8)."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any

from graphc.base.errors import GraphError, message
from graphc.cli.model import check_folder, load, save
from graphc.cli.table import json_text, table
from graphc.ir import provenance
from graphc.ir.graph import Graph
from graphc.passes.context import Pass
from graphc.passes.pipeline import GRAPH_PIPELINE, PASSES, optimize
from graphc.rewrite.pattern import AnyRule
from graphc.rewrite.rules import (
    algebra,
    constants,
    contraction,
    folding,
    logic,
    reductions,
    stability,
    views,
)
from graphc.rewrite.trace import Application, Trace, expression

_THEMES: dict[str, tuple[AnyRule, ...]] = {
    "algebra": algebra.RULES,
    "constants": constants.RULES,
    "contraction": contraction.RULES,
    "folding": folding.folding_rules(1 << 20),
    "logic": logic.RULES,
    "reductions": reductions.RULES,
    "stability": stability.RULES,
    "views": views.RULES,
}
_PASS = re.compile(r"\s*(?P<name>[a-z][a-z0-9-]*)\s*(?:\{(?P<options>[^{}]*)\})?\s*(?:,|\Z)")


def execute(options: argparse.Namespace) -> int:
    """Print or write the graph after the passes, or list passes or rules; 0."""
    if options.list_passes or options.list_rules:
        rows = pass_rows() if options.list_passes else rule_rows()
        print(json_text(rows) if options.json else table(rows, indent=""))
        return 0
    check_folder(options.out)
    passes = GRAPH_PIPELINE if options.passes is None else read_passes(options.passes)
    _check_names(options.print_after, passes)
    graph = load(options.model).graph
    trace = Trace()

    def after(step: Pass, result: Graph) -> None:
        if step.name in options.print_after or "all" in options.print_after:
            print(f"# after {step.name}\n{result.text}", file=sys.stderr)

    result = optimize(graph, options.numerics, trace, passes=passes, after=after)
    if options.log:
        print(trace, file=sys.stderr)
    if options.out is not None:
        save(result, options.out)
    if options.json:
        log = [application_row(a) for a in trace.applications]
        print(
            json_text({"passes": [p.name for p in passes], "rewrites": log, "graph": str(result)})
        )
    elif options.out is None:
        print(result.text)
    return 0


def application_row(application: Application) -> dict[str, Any]:
    """One rewrite as plain data, with the user's line of what it changed."""
    return {
        "index": application.index,
        "stage": application.stage,
        "rule": application.rule.name,
        "class": application.rule.cls.value,
        "before": expression(application.before),
        "after": expression(application.after),
        "line": provenance.where(application.before),
        "seconds": application.seconds,
    }


def _check_names(wanted: Sequence[str], passes: Sequence[Pass]) -> None:
    known = [p.name for p in passes]
    for name in wanted:
        if name not in (*known, "all"):
            what = f"--print-after {name}: no such pass runs"
            hint = f"all, or one of {', '.join(dict.fromkeys(known))}"
            raise GraphError(message(what, at="", hint=hint))


# -- the text of a pipeline -------------------------------------------------------------------


def read_passes(text: str) -> tuple[Pass, ...]:
    """The passes of `name,name{option=value,…}`. Raises GraphError for unknown ones."""
    by_name = {p.name: p for p in PASSES}
    found: list[Pass] = []
    position = 0
    while position < len(text):
        match = _PASS.match(text, position)
        if match is None:
            what = f"--passes, column {position + 1}: expected NAME or NAME{{OPTION=VALUE}}, got "
            hint = "for example canonicalize,fold-constants{limit_bytes=4096}"
            raise GraphError(message(f"{what}{text[position:]!r:.60}", at="", hint=hint))
        name = match["name"]
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, 3) or list(by_name)
            what = f"--passes: there is no pass {name!r}"
            raise GraphError(message(what, at="", hint=f"passes: {', '.join(near)}"))
        found.append(_with_options(by_name[name], match["options"] or ""))
        position = match.end()
    return tuple(found)


def _with_options(step: Any, text: str) -> Pass:
    known = {f.name: getattr(step, f.name) for f in dataclasses.fields(step) if f.name != "name"}
    chosen: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = part.partition("=")
        if name not in known or not value.isdecimal():
            listing = ", ".join(f"{n}={v}" for n, v in known.items()) or "it has none"
            what = f"--passes: {step.name} does not take {part!r}"
            raise GraphError(message(what, at="", hint=f"options of {step.name}: {listing}"))
        chosen[name] = int(value)
    result: Pass = dataclasses.replace(step, **chosen) if chosen else step
    return result


# -- lists ------------------------------------------------------------------------------------


def pass_rows() -> list[dict[str, Any]]:
    """Every pass with its options and what it does."""
    pipeline = {p.name for p in GRAPH_PIPELINE}
    rows = []
    for step in PASSES:
        fields = dataclasses.fields(step)  # type: ignore[arg-type]  # every pass is a dataclass
        settings = [f"{f.name}={getattr(step, f.name)}" for f in fields if f.name != "name"]
        rows.append(
            {
                "pass": step.name,
                "default": "yes" if step.name in pipeline else "no",
                "options": ", ".join(settings),
                "does": " ".join((type(step).__doc__ or "").split()).partition(". ")[0].rstrip("."),
            }
        )
    return rows


def rule_rows() -> list[dict[str, Any]]:
    """Every rule with its theme, its class and its equation."""
    return [rule_row(theme, found) for theme, group in _THEMES.items() for found in group]


def rule_row(theme: str, found: AnyRule) -> dict[str, Any]:
    """One rule."""
    return {
        "rule": found.name,
        "theme": theme,
        "class": found.cls.value,
        "equation": " ".join(found.equation.split()),
    }
