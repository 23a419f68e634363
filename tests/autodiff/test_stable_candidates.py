"""What is differentiated and has a stabler form is noticed before the rules are loaded."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import graphc
from graphc.autodiff.stable_candidates import _OPS, may_be_stabilized
from graphc.passes.stable import stabilize
from graphc.rewrite.pattern import AnyRule, OpPattern, Pattern, Rule
from graphc.rewrite.rules import stability

x = graphc.placeholder((3, 4), "float32", name="x")
BY_SHAPE = {
    "reciprocal_of_reciprocal": 1 / (1 / x),
    "variance": graphc.mean(x * x, axis=1) - graphc.mean(x, axis=1) ** 2,
}


def _ops(pattern: Pattern) -> set[str]:
    if not isinstance(pattern, OpPattern):
        return set()
    return {pattern.op}.union(*map(_ops, pattern.operands))


@pytest.mark.parametrize("each", stability.RULES, ids=lambda r: r.name)
def test_every_rule_is_looked_for(each: AnyRule) -> None:
    if each.name in BY_SHAPE:
        expression = BY_SHAPE[each.name]
        assert may_be_stabilized([expression]) and stabilize([expression])[0] is not expression
        return
    found = _ops(each.pattern) if isinstance(each, Rule) else set(each.roots_of() or ())
    assert found & _OPS, f"{each.name}: may_be_stabilized does not look for it"


def test_squares_and_products_have_no_stabler_form() -> None:
    expression = graphc.mean((x * x - 2.0) / 3.0) + graphc.sum(graphc.maximum(x @ x.T, 0))
    assert not may_be_stabilized([expression])
    assert may_be_stabilized([expression, graphc.log(x)])


def test_loops_are_looked_at() -> None:
    last, _ = graphc.scan(lambda total, row: (total + row, total), x[0], x)
    assert may_be_stabilized([graphc.sum(last)])


def test_gradients_of_products_load_no_rules() -> None:
    program = (
        "import sys, graphc\n"
        "w = graphc.variable([[1.0, 2.0], [3.0, 4.0]])\n"
        "loss = graphc.mean(graphc.maximum(w @ w, 0) * w)\n"
        "graphc.grad(loss, [w])\n"
        "print(*[m for m in sys.modules if m.startswith('graphc.rewrite')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split() == [], done


def test_the_gradient_is_the_same_without_the_rules() -> None:
    values = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
    loss = graphc.sum(x * x * 0.25)
    (gradient,) = graphc.grad(loss, [x])
    assert (gradient.eval({x: values}) == values * np.float32(0.5)).all()
