"""The graph pipeline: same meaning, names and lines kept, a log that can be bisected."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.errors import GraphcError, VerifyError
from graphc.debug import bisect
from graphc.ir import provenance
from graphc.ir.verify import verify
from graphc.passes import simplify
from graphc.passes.expand import ExpandComposites, StripAliases
from graphc.passes.pipeline import GRAPH_PIPELINE, PASSES, lowerable, optimize
from graphc.rewrite.driver import RuleSet, rewrite
from graphc.rewrite.pattern import DOMAIN, EXACT, Match, node_rule, ops, rule, wildcards
from graphc.rewrite.trace import Trace
from graphc.testing import random_inputs

MODES = ("exact", "standard", "fast")


def model() -> graphc.Graph:
    x = graphc.placeholder(("n", 5), "float32", name="x")
    w = graphc.variable(np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3), name="w")
    with graphc.name_scope("head"):
        logits = (x @ w).named("logits")
    p = graphc.exp(logits) / graphc.sum(graphc.exp(logits), axis=1, keepdims=True)
    loss = -graphc.mean(graphc.log(p)[:, 0])
    spread = graphc.mean(x**2, axis=1) - graphc.mean(x, axis=1) ** 2
    flat = graphc.reshape(graphc.permute_dims(graphc.permute_dims(x, (1, 0)), (1, 0)), (-1,))
    g = graphc.grad(loss, w)
    outputs = {"loss": loss, "spread": spread, "flat": flat * 2.0 * 3.0, "g": g}
    return graphc.Graph([x], outputs, updates={w: w - 0.1 * g}, name="model")


@pytest.mark.parametrize("mode", MODES)
def test_the_meaning_stays(mode: str) -> None:
    graph = model()
    feeds = random_inputs(graph, sizes={"n": 4})
    expected = graph.evaluate(feeds, updates=True)
    seen = []

    def after(step: Any, result: graphc.Graph) -> None:
        verify(result)
        assert graphc.parse(str(result)) == result
        seen.append(step.name)

    found = optimize(graph, mode, after=after).evaluate(feeds, updates=True)
    assert seen == [p.name for p in GRAPH_PIPELINE]
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


def test_the_result_is_a_fixed_point() -> None:
    for mode in MODES:
        once = optimize(model(), mode)
        assert optimize(once, mode) == once


def test_only_allowed_classes_run() -> None:
    for mode, classes in (("exact", {"exact"}), ("standard", {"exact", "rounding", "stabilizing"})):
        trace = Trace()
        optimize(model(), mode, trace)
        found = {a.rule.cls.value for a in trace.applications}
        assert found <= classes
        assert "exact" in found
    with pytest.raises(GraphcError, match="unknown numerics 'precise'"):
        optimize(model(), "precise")


def test_names_survive() -> None:
    optimized = optimize(model())
    assert optimized["head/logits"].op.name == "einsum"
    assert set(dict(optimized.outputs)) == {"loss", "spread", "flat", "g"}


def test_new_nodes_point_at_the_users_lines() -> None:
    x = graphc.placeholder((3,), name="x")
    y = graphc.log(1 + graphc.exp(x))
    line = provenance.locations(y)[0]
    (result,) = (t for _, t in optimize(graphc.Graph([x], {"y": y})).outputs)
    assert result.op.name == "softplus"
    assert line in provenance.locations(result)


def test_the_log_reads() -> None:
    trace = Trace()
    optimize(model(), trace=trace)
    text = str(trace)
    assert "naive_softmax (stabilizing)" in text
    assert "test_pipeline.py:" in text
    assert str(Trace()) == "no rewrites"
    assert sum(trace.counts().values()) == len(trace)


def test_the_logger_gets_every_application(caplog: pytest.LogCaptureFixture) -> None:
    graph = model()  # its gradients are rewritten as well, before
    caplog.set_level(logging.DEBUG, "graphc.rewrite")
    trace = Trace()
    optimize(graph, trace=trace)
    # More than the trace has: looking ahead, the pipeline rewrites what it then drops.
    assert len(trace) and set(map(str, trace.applications)) <= set(caplog.messages)


def test_explaining_a_cached_function_logs_its_rewrites(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x = graphc.placeholder((3,), name="x")
    y = graphc.log(1 + graphc.exp(x))
    for cached in (False, True):
        with graphc.Session(cache_dir=tmp_path) as session:
            function = session.function([x], y)
            assert session.compilations == int(not cached)
            caplog.set_level(logging.DEBUG, "graphc.rewrite")
            if cached:
                function.explain("optimized")
                assert any("softplus_of_exp" in line for line in caplog.messages)
            caplog.clear()


def test_a_logged_name_stands_before_what_it_names() -> None:
    x = graphc.placeholder((3,), name="x")
    y = graphc.log(graphc.exp(x).named("grown") + 1).named("y")
    trace = Trace()
    optimize(graphc.Graph([x], {"y": y}), trace=trace)
    assert "y = log(add(grown, 1))  ->  softplus(x)" in str(trace)


def test_expansion_leaves_nothing_composite() -> None:
    x = graphc.placeholder((3, 4), name="x")
    y = graphc.nn.log_softmax(graphc.stop_gradient(x)) + graphc.logsumexp(x)
    for graph in (lowerable(graphc.Graph([x], {"y": y})), optimize(graphc.Graph([x], {"y": y}))):
        names = {n.op.name for n in graph.nodes}
        assert not names & {"log_softmax", "logsumexp", "stop_gradient", "with_gradient"}


@pytest.mark.parametrize("step", PASSES, ids=lambda p: p.name)
def test_passes_are_plain_data(step: Any) -> None:
    assert step == type(step)()
    assert hash(step) == hash(type(step)())
    assert isinstance(step.name, str)


FORMS: dict[str, tuple[Any, str]] = {
    "matrix product written out": (
        lambda x: graphc.sum(x[:, :, None] * graphc.permute_dims(x, (1, 0))[None], axis=1),
        "einsum",
    ),
    "softmax": (lambda x: graphc.exp(x) / graphc.sum(graphc.exp(x), axis=1, keepdims=True), "max"),
    "sigmoid": (lambda x: 1 / (1 + graphc.exp(-x)), "sigmoid"),
    "variance": (lambda x: graphc.mean(x * x) - graphc.mean(x) ** 2, "mean"),
    "double transpose": (lambda x: graphc.exp(x.T).T.T.T, "permute_dims"),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_that_are_found(name: str) -> None:
    build, wanted = FORMS[name]
    x = graphc.placeholder((4, 4), "float64", name="x")
    graph = graphc.Graph([x], {"y": build(x)})
    result = optimize(graph)
    assert wanted in {n.op.name for n in result.nodes}
    values = np.random.default_rng(0).normal(size=(4, 4))
    np.testing.assert_allclose(
        result.evaluate({"x": values})["y"], graph.evaluate({"x": values})["y"], rtol=1e-10
    )


# -- the driver ------------------------------------------------------------------------

a, b = wildcards("a b")
(exp,) = ops("exp")


@rule(a + b, cls=EXACT)
def swap(m: Match) -> Any:
    """a + b = b + a, for ever"""
    return m.root.op(m.b, m.a)


@rule(exp(a), cls=EXACT)
def grow(m: Match) -> Any:
    """exp(a) = exp(-a) * 1: never ends"""
    return graphc.exp(m.a + 1.0)


@rule(exp(a), cls=EXACT)
def shrink_type(m: Match) -> Any:
    """exp(a) = something of another type"""
    return graphc.reshape(m.a, (9,))


@rule(exp(a), cls=DOMAIN)
def wrong_exp(m: Match) -> Any:
    """exp(a) = 1 + a: wrong"""
    return m.a + 1.0


def small() -> graphc.Graph:
    x, y = graphc.placeholder((3, 3), name="x"), graphc.placeholder((3, 3), name="y")
    return graphc.Graph([x, y], {"z": graphc.exp(x + y) * graphc.tanh(x)})


def test_opposing_rules_are_named() -> None:
    with pytest.raises(GraphcError, match="oppose each other: swap"):
        rewrite(small(), [swap], "exact")


def test_growing_rules_are_named() -> None:
    with pytest.raises(GraphcError, match="do not end: grow"):
        rewrite(small(), [grow], "exact")


def test_a_rule_may_not_change_the_type() -> None:
    with pytest.raises(VerifyError, match="shrink_type changes the type"):
        rewrite(small(), [shrink_type], "exact")


def test_lost_broadcasting_is_put_back() -> None:
    x = graphc.placeholder((3,), name="x")
    graph = graphc.Graph([x], {"y": x * np.ones((2, 3), np.float32)})
    result = optimize(graph, "exact")
    assert result.outputs[0][1].shape == (2, 3)
    assert {n.op.name for n in result.nodes} == {"placeholder", "broadcast_to"}


def test_the_limit_stops_rules() -> None:
    full = Trace()
    optimize(model(), trace=full)
    for limit in (0, 1, len(full) // 2):
        trace = Trace(limit)
        optimize(model(), trace=trace)
        assert len(trace) == limit
        # The same prefix, so that bisecting makes sense.
        assert [x.rule.name for x in trace.applications] == [
            x.rule.name for x in full.applications[:limit]
        ]


def test_bisect_names_the_wrong_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = simplify._rule_set("simplify-algebra", "standard", 1 << 20).rules
    lie = node_rule("sigmoid", cls=EXACT)(_lie)
    broken = RuleSet((*rules, lie))
    right = simplify._rule_set

    def rule_set(name: str, numerics: str, limit_bytes: int) -> RuleSet:
        return broken if name == "simplify-algebra" else right(name, numerics, limit_bytes)

    monkeypatch.setattr(simplify, "_rule_set", rule_set)
    x = graphc.placeholder((6,), "float32", name="x")
    y = graphc.sigmoid(x * 2.0 * 3.0) + graphc.log(1 + graphc.exp(x)) * 1.0
    graph = graphc.Graph([x], {"y": y})
    culprit = bisect(graph, {"x": np.linspace(-3, 3, 6, dtype=np.float32)})
    assert culprit is not None
    assert culprit.rule == "_lie"
    assert "test_pipeline.py" in str(culprit)
    assert "sigmoid" in str(culprit)


def _lie(node: Any) -> Any:
    """sigmoid(x) = tanh(x): wrong"""
    return graphc.tanh(node.inputs[0])


def test_bisect_is_content_with_a_right_pipeline() -> None:
    graph = model()
    assert bisect(graph, random_inputs(graph)) is None


def test_deep_chains_are_linear() -> None:
    x = graphc.placeholder((2,), name="x")
    y = x
    for _ in range(20_000):
        y = graphc.negative(graphc.negative(graphc.sin(y))) * 1.0
    result = optimize(graphc.Graph([x], {"y": y}))
    assert sum(n.op.name == "sin" for n in result.nodes) == 20_000
    assert len(result.nodes) == 20_001


def test_aliases_and_composites_are_optional_passes() -> None:
    assert StripAliases().ops == ("stop_gradient", "with_gradient")
    assert ExpandComposites() == ExpandComposites()
