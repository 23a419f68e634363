"""Rules for operands and attributes: one per op, and every sample of the op follows it."""

from __future__ import annotations

import numpy as np
import pytest

import graphc.ops.catalog  # noqa: F401  # the ops register themselves
from graphc.base.dtypes import ALL
from graphc.base.limits import Limits
from graphc.ir.opdef import ATTRIBUTE_RULES, REGISTRY, OpDef
from graphc.ops.attribute_rules import OpRule
from graphc.ops.state import placeholder

OPS = [op for op in REGISTRY if op.name not in ("placeholder", "variable")]


def test_every_op_has_a_rule() -> None:
    assert set(ATTRIBUTE_RULES) == {op.name for op in OPS}


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_the_samples_follow_the_rule(op: OpDef) -> None:
    rule = ATTRIBUTE_RULES[op.name]
    assert isinstance(rule, OpRule) and rule.names == op.attributes
    counts = set()
    for dtype in (op.dtypes or ALL)[:2]:
        for sample in op.samples(dtype) if op.samples else ():
            inputs = tuple(
                placeholder(x.shape, x.dtype.name) for x in map(np.asarray, sample.inputs)
            )
            attrs = tuple(sample.attrs[name] for name in op.attributes)
            assert rule(inputs, attrs, Limits()) is None
            wrong = rule((*inputs, *inputs, *inputs, *inputs), attrs, Limits())
            assert wrong is not None or rule.most > len(inputs) or not inputs
            counts.add(len(inputs))
    assert not counts or min(counts) == rule.least
    assert not counts or max(counts) <= rule.most
