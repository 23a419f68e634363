"""Every rule is held to its declared class; rules that lie are caught."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import graphc
from graphc.base.dtypes import FLOAT
from graphc.passes.expand import expand_composite
from graphc.rewrite.pattern import (
    EXACT,
    ROUNDING,
    STABILIZING,
    AnyRule,
    Match,
    ops,
    rule,
    wildcards,
)
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
from graphc.rewrite.selftest import RuleFailure, check_rule

sys.path.insert(0, str(Path(__file__).parent))
from truth import exact

MODULES = (algebra, constants, contraction, logic, reductions, stability, views)
RULES: list[AnyRule] = [r for m in MODULES for r in m.RULES] + list(folding.folding_rules(1 << 20))


@pytest.mark.parametrize("each", RULES, ids=lambda r: r.name)
def test_rule_keeps_its_class(each: AnyRule) -> None:
    stabilizing = each.cls is STABILIZING
    applied = check_rule(
        each, tries=10 if stabilizing else 30, truth=exact if stabilizing else None
    )
    assert applied >= 2


def test_rules_have_names_of_their_own() -> None:
    names = [r.name for r in (*RULES, expand_composite)]
    assert len(set(names)) == len(names)


x, y = wildcards("x y")
exp, log, sqrt, sum_ = ops("exp log sqrt sum")


def log_of_exp(m: Match):
    """log(exp(x)) = x"""
    return m.x


def add_zero(m: Match):
    """x + 0 = x"""
    return m.x


def naive_log1p(m: Match):
    """log1p(x) = log(1 + x): the wrong way round"""
    return graphc.log(1 + m.x)


def doubled(m: Match):
    """x + y = 2x: wrong"""
    return m.x * 2


(log1p,) = ops("log1p")


@pytest.mark.parametrize(
    "lie",
    [
        rule(log(exp(x)), cls=ROUNDING, dtypes=FLOAT)(log_of_exp),
        rule(log(exp(x)), cls=EXACT, dtypes=FLOAT)(log_of_exp),
        rule(x + 0.0, cls=EXACT, dtypes=FLOAT)(add_zero),
        rule(log1p(x), cls=STABILIZING, dtypes=FLOAT)(naive_log1p),
        rule(x + y, cls=ROUNDING, dtypes=FLOAT)(doubled),
    ],
    ids=["exp-overflow", "rounding-called-exact", "signed-zero", "unstable", "wrong"],
)
def test_a_rule_that_lies_is_caught(lie: AnyRule) -> None:
    with pytest.raises(RuleFailure):
        check_rule(lie, truth=exact)


def test_a_rule_that_never_applies_is_caught() -> None:
    never = rule(x * 1, cls=EXACT, dtypes=FLOAT, where=lambda m: False)(add_zero)
    with pytest.raises(RuleFailure, match="never applied"):
        check_rule(never)
