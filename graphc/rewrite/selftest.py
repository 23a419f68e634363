"""Self-tests of rules (floor 3): every rule is held to the class that it declares, without test
code of its own.

Wildcards are filled with typed random and special values, ops with random attributes; both sides
are computed by the reference meaning and compared as the class promises. Infinities and NaN are
compared apart from numbers: a relative tolerance of infinity would accept anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.base.dims import product
from graphc.base.dtypes import ALL, Array, DType, bfloat16, bool_, float16, round_bfloat16
from graphc.base.errors import GraphcError
from graphc.ir.constant import constant_value
from graphc.ir.graph import Graph
from graphc.ir.meaning import evaluate_node
from graphc.ir.node import Node, Tensor
from graphc.ir.opdef import REGISTRY
from graphc.ops.families import Composite, Contraction, Elementwise, Reduction
from graphc.ops.promotion import as_tensor
from graphc.ops.state import constant_node, placeholder
from graphc.rewrite.attributes import draw_node
from graphc.rewrite.driver import fitted
from graphc.rewrite.pattern import (
    DOMAIN,
    EXACT,
    STABILIZING,
    AnyRule,
    Literal,
    NodeRule,
    OpPattern,
    Pattern,
    Rule,
    Wildcard,
)

Truth = Callable[[Graph, dict[int, Array]], Array]
SHAPES: tuple[tuple[int, ...], ...] = ((211,), (6, 35), (2, 3, 31), (1, 40), (4, 1, 7))
# Exact values cost a millisecond per element.
SMALL_SHAPES: tuple[tuple[int, ...], ...] = ((29,), (3, 7), (2, 2, 5))
EPSILON = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
TINY = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}
# exp overflows here, half of it does not.
NEAR_OVERFLOW = {"float16": 11.4, "bfloat16": 89.0, "float32": 89.0, "float64": 710.0}
HUGE = {"float16": 65504.0, "bfloat16": 3.38e38, "float32": 3.4e38, "float64": 1.7e308}


@dataclass
class Instance:
    """One concrete left-hand side: `root`, and a value for every placeholder in it."""

    root: Tensor
    values: dict[int, Array] = field(default_factory=dict)
    inputs: list[Tensor] = field(default_factory=list)


class RuleFailure(GraphcError):
    """A rule does not keep what its class promises, or never applies."""


def check_rule(rule: AnyRule, *, seed: int = 0, tries: int = 30, truth: Truth | None = None) -> int:
    """Hold a rule to its class for every dtype that it accepts; returns how many instances it was
    applied to.

    truth: the exact value of an expression (NaN where unknown, inf where it has no real value),
    needed for STABILIZING rules. Raises RuleFailure.
    """
    applied = 0
    improved = 0
    for dtype in rule.dtypes if isinstance(rule, Rule) else ALL:
        rng = np.random.default_rng((seed, dtype.bits, ord(dtype.kind), len(dtype.name)))
        for instance in _instances(rule, dtype, rng, tries):
            found = rule.apply(instance.root)
            if found is None:
                continue
            new = fitted(rule, instance.root, found[1])
            applied += 1
            improved += _compare(rule, instance, new, truth)
    if not applied:
        raise RuleFailure(f"{rule!r} was never applied: the generator does not reach it")
    if rule.cls is STABILIZING and truth is not None and not improved:
        raise RuleFailure(f"{rule!r} never came closer to the true value")
    return applied


# -- instances
# ----------------------------------------------------------------------------------------


def _instances(
    rule: AnyRule, dtype: DType, rng: np.random.Generator, tries: int
) -> Iterator[Instance]:
    if isinstance(rule, Rule):
        for _ in range(tries):
            builder = _Builder(dtype, rng, _is_summed(rule.pattern), rule.cls is STABILIZING)
            try:
                root = builder.build(rule.pattern, dtype)
            except GraphcError:
                continue  # drawn attributes that do not fit together
            yield Instance(root, builder.values, builder.inputs)
        return
    for _ in range(tries * 12):
        builder = _Builder(dtype, rng, True, rule.cls is STABILIZING)
        found = builder.around(rule)
        if found is not None:
            yield Instance(found, builder.values, builder.inputs)


def _is_summed(pattern: Pattern) -> bool:
    if not isinstance(pattern, OpPattern):
        return False
    form = REGISTRY[pattern.op].form
    summed = isinstance(form, Reduction | Contraction) or pattern.op in ("softmax", "logsumexp")
    return summed or any(map(_is_summed, pattern.operands))


class _Builder:
    """Fills a pattern: the same wildcard is the same tensor."""

    def __init__(self, dtype: DType, rng: np.random.Generator, tame: bool, small: bool) -> None:
        self.dtype = dtype
        self.rng = rng
        self.tame = tame
        self.small = small  # STABILIZING rules: exact values cost a millisecond per element
        shapes = SMALL_SHAPES if small else SHAPES
        self.shape = shapes[rng.integers(len(shapes))]
        self.special = float(rng.choice([0.0, 0.02, 0.4]))
        self.bound: dict[str, Tensor] = {}
        self.values: dict[int, Array] = {}
        self.inputs: list[Tensor] = []
        self.attrs: dict[Any, dict[str, Any]] = {}

    def build(self, pattern: Pattern, dtype: DType) -> Tensor:
        if isinstance(pattern, Wildcard):
            if pattern.name not in self.bound:
                self.bound[pattern.name] = self._fill(pattern, pattern.dtype or dtype)
            return self.bound[pattern.name]
        if isinstance(pattern, Literal):
            return as_tensor(
                pattern.value, like=bool_ if isinstance(pattern.value, bool) else dtype
            )
        assert isinstance(pattern, OpPattern)
        dtype = self._operand_dtype(pattern, dtype)
        operands = tuple(self.build(p, dtype) for p in pattern.operands)
        return draw_node(pattern.op, operands, self.rng, self.attrs)

    def _operand_dtype(self, pattern: OpPattern, dtype: DType) -> DType:
        accepted = REGISTRY[pattern.op].dtypes
        return dtype if not accepted or dtype in accepted or pattern.op == "where" else accepted[0]

    def _fill(self, wildcard: Wildcard, dtype: DType) -> Tensor:
        if wildcard.constant:
            number = self._constant(dtype)
            shape = () if self.rng.random() < 0.7 else self.shape[-1:]
            return constant_node(constant_value(np.full(shape, number).astype(dtype.numpy), dtype))
        return self.source(dtype)

    def _constant(self, dtype: DType) -> Any:
        pool: list[float] = [1, 2, 3, 0, -1, 7] if dtype.kind != "u" else [1, 2, 3, 0, 7]
        if dtype.is_float:
            pool = [
                1,
                2.0,
                3.0,
                0.5,
                -1.0,
                1.7,
                0.1,
                -0.0,
                0.0,
                4.0,
                -0.25,
                1e-3,
                150.0,
                np.inf,
                np.nan,
            ]
        value = self.rng.choice(np.array(pool, np.float64))
        array = np.asarray(value).astype(dtype.numpy)
        return round_bfloat16(array) if dtype is bfloat16 else array

    def source(self, dtype: DType, shape: tuple[int, ...] | None = None) -> Tensor:
        """A placeholder with a value, mostly of the instance's shape, sometimes one that
        broadcasts.
        """
        if shape is None:
            shape = self.shape
            draw = self.rng.random()
            if not self.tame and draw < 0.15:
                shape = shape[1:]
            elif not self.tame and draw < 0.3:
                shape = (*shape[:-1], 1)
        tensor = placeholder(shape, dtype)
        self.inputs.append(tensor)
        values = random_values(self.rng, shape, dtype, self.special, self.tame)
        self.values[id(tensor)] = self._extreme(values, dtype) if self.small else values
        return tensor

    def _extreme(self, values: Array, dtype: DType) -> Array:
        """For STABILIZING rules, sometimes: all values huge or tiny in sums, else close to 1."""
        if not dtype.is_float or self.rng.random() > 0.15:
            return values
        wide = values.astype(np.float64)
        if self.tame:
            digits = 3 if dtype is float16 else 25 if dtype.bits < 64 else 200
            wide = wide * 10.0 ** float(digits * self.rng.choice([-1, 1]))
        else:
            wide = np.copysign(1 - 10.0 ** -self.rng.uniform(1, 5, wide.shape), wide)
        with np.errstate(all="ignore"):
            array = wide.astype(dtype.numpy)
        return round_bfloat16(array) if dtype is bfloat16 else array

    def around(self, rule: NodeRule) -> Tensor | None:
        """A small random expression that ends in one of the rule's roots."""
        return random_expression(rule.roots, rule.via, self)


def random_expression(
    roots: tuple[str, ...] | None, via: tuple[str, ...], builder: _Builder
) -> Tensor | None:
    """Views, reductions and products around sources, ending in one of `roots`."""
    rng = builder.rng
    inner = (
        "permute_dims", "reshape", "broadcast_to", "slice", "concat", "pad", "flip", "cast", "sum",
        "max", "any",
        "all", "min", "multiply", "softmax", "sigmoid", "einsum", "full", "prod",
        "constant", "add", "where",
    )  # fmt: skip
    last = roots or ("add", "exp", "maximum", "where", "sqrt", "multiply", "cast", "sum")
    current: Tensor = builder.source(builder.dtype, () if rng.random() < 0.1 else None)
    chain = [inner[rng.integers(len(inner))] for _ in range(rng.integers(0, 3))]
    favourite = last[rng.integers(len(last))]
    if via and rng.random() < 0.7:
        chain = list(via)
    elif rng.random() < 0.5:
        chain = [*chain[:1], favourite]
    for op in (*chain, favourite):
        if op == "constant":
            shape = tuple(int(size) for size in current.shape)  # sources have fixed sizes
            values = random_values(rng, shape, current.dtype, 0.1, True)
            current = constant_node(constant_value(values, current.dtype))
            continue
        accepted = REGISTRY[op].dtypes
        if accepted and current.dtype not in accepted:
            return None
        try:
            current = draw_node(op, (current,), rng, builder.attrs, builder.source)
        except (GraphcError, ValueError):
            return None
    return current


# -- values
# -------------------------------------------------------------------------------------------


def random_values(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: DType, special: float, tame: bool
) -> Array:
    """Values of a dtype: ordinary ones, several magnitudes unless `tame`, and a share of special
    ones.
    """
    if dtype.is_bool:
        return rng.random(shape) < 0.5
    if dtype.is_integer:
        limits = np.iinfo(dtype.numpy)
        wide = rng.integers(limits.min, limits.max, shape, dtype.numpy, endpoint=True)
        small = rng.integers(max(-9, limits.min), 10, shape).astype(dtype.numpy)
        return np.where(rng.random(shape) < 0.5, wide, small)
    spread_out = 3.0 if dtype is float16 or rng.random() < 0.6 else float(rng.choice([60.0, 300.0]))
    values = rng.normal(0, spread_out, shape)
    if tame and dtype is not float16 and rng.random() < 0.2:
        values += 1000.0  # digits are lost where differences are small
    if not tame:
        kind = rng.integers(0, 4, shape)
        limit = 4.0 if dtype is float16 else 30.0
        spread = np.sign(values) * 10.0 ** rng.uniform(-limit, limit, shape)
        values = np.where(
            kind == 0, rng.uniform(-90, 90, shape), np.where(kind == 1, spread, values)
        )
    name = dtype.name
    pool = [0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan]
    if not tame:
        pool += [HUGE[name], -HUGE[name], TINY[name], TINY[name] / 8, 100.0, -100.0, 1e-8]
        pool += [NEAR_OVERFLOW[name], -NEAR_OVERFLOW[name]] * 2
    chosen = rng.choice(np.array(pool), shape)
    with np.errstate(all="ignore"):
        array = np.where(rng.random(shape) < special, chosen, values).astype(dtype.numpy)
    return round_bfloat16(array) if dtype is bfloat16 else array


# -- comparison
# ---------------------------------------------------------------------------------------


def evaluate(roots: list[Tensor], values: dict[int, Array]) -> dict[int, Any]:
    """The reference values of everything below `roots`."""
    found: dict[int, Any] = dict(values)
    for node in _below(roots):
        if id(node) not in found:
            found[id(node)] = evaluate_node(node, [found[id(i)] for i in node.inputs], {})
    return found


def _below(roots: list[Tensor]) -> list[Node]:
    return Graph.build((), tuple((str(k), t) for k, t in enumerate(roots)), (), "rule", {}).nodes


def _compare(rule: AnyRule, instance: Instance, new: Tensor, truth: Truth | None) -> int:
    """Raise RuleFailure unless the class is kept; 1 where the new value is clearly closer to the
    truth.
    """
    found = evaluate([instance.root, new], instance.values)
    left, right = found[id(instance.root)], found[id(new)]
    exact = rule.cls is EXACT or not instance.root.dtype.is_float
    if exact:
        bad = ~same_bits(left, right)
    elif rule.cls is STABILIZING:
        if truth is None:
            return 0
        graph = Graph.build((), (("root", instance.root),), (), "rule", {})
        expected = truth(graph, instance.values)
        scale = 1.0 if any(isinstance(n.op.form, Composite) for n in _below([new])) else 0.0
        return _compare_with_truth(rule, instance, left, right, expected, scale)
    else:
        bad = _differs(rule, instance.root, new, found)
    if bad.any():
        _report(rule, instance, left, right, bad)
    return 0


def same_bits(left: Array, right: Array) -> Array:
    """Where two arrays hold the same value, zeros by their sign, any NaN being like any other."""
    if left.dtype.kind != "f":
        return np.asarray(left == right)
    equal = (left == right) & (np.signbit(left) == np.signbit(right))
    return np.asarray(equal | (np.isnan(left) & np.isnan(right)))


def _differs(rule: AnyRule, root: Tensor, new: Tensor, found: dict[int, Any]) -> Array:
    """ROUNDING and DOMAIN: where the difference is more than the bound of the largest intermediate
    value.
    """
    left = np.asarray(found[id(root)], np.float64)
    right = np.asarray(found[id(new)], np.float64)
    ordinary, scale = np.ones(left.shape, bool), np.zeros(left.shape)
    name = root.dtype.name
    for node in _below([root, new]):
        value = np.asarray(found[id(node)])
        if value.dtype.kind != "f":
            continue
        size = np.abs(value.astype(np.float64))
        finite = np.isfinite(size)
        # A zero in between may be a number that underflowed.
        inside = bool(node.inputs) and node is not root and node is not new
        fine = finite & ((size >= TINY[name]) | ((size == 0) & (not inside)))
        terms = _summed_terms(node)
        with np.errstate(over="ignore"):
            size = np.where(finite, size, 0) * terms
        if _lines_up(value.shape, left.shape) and terms == 1:
            scale = np.maximum(scale, size)
            ordinary &= fine
        else:
            scale = np.maximum(scale, size.max(initial=0.0))
            ordinary &= bool(fine.all())
    with np.errstate(all="ignore"):
        bound = rule.ulps * EPSILON[name] * scale + (rule.ulps > 0) * 4 * EPSILON[name] * TINY[name]
        close = (np.abs(left - right) <= bound) | (left == right)
    both_nan = np.isnan(left) & np.isnan(right)
    if rule.cls is DOMAIN:
        return np.asarray(ordinary & ~close)
    # Infinities on their own: a bound of infinity would accept anything.
    special = ~np.isfinite(left) | ~np.isfinite(right)
    return np.asarray(np.where(special, (left != right) & ~both_nan, ~close))


def _is_summed_node(root: Tensor) -> bool:
    return any(isinstance(n.op.form, Reduction | Contraction | Composite) for n in _below([root]))


def _summed_terms(node: Node) -> float:
    form = node.op.form
    if isinstance(form, Elementwise) or not isinstance(form, Reduction | Contraction):
        return 1.0
    sizes = [int(product(i.shape)) for i in node.inputs]
    assert isinstance(node, Tensor)
    return max(1.0, max(sizes) / max(1, int(product(node.shape))))


def _lines_up(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False


def _compare_with_truth(
    rule: AnyRule, instance: Instance, left: Array, right: Array, exact: Array, scale: float
) -> int:
    """STABILIZING: the new value is closer to the true one, or within the bound of it. Gives 1 for
    a clear gain.
    """
    name = instance.root.dtype.name
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    known = np.isfinite(exact) & (np.abs(exact) <= HUGE[name])
    with np.errstate(all="ignore"):
        old = np.where(np.isnan(left), np.inf, np.abs(left - exact))
        fresh = np.where(np.isnan(right), np.inf, np.abs(right - exact))
        bound = EPSILON[name] * (rule.ulps * np.maximum(np.abs(exact), scale) + 4 * TINY[name])
    bad = known & (fresh > old) & (fresh > bound)
    # Without a true number (NaN or infinite operands): no new NaN, and none lost; in a sum one
    # operand spoils all.
    given = [instance.values[id(i)] for i in instance.inputs if i.dtype.is_float]
    if all(_lines_up(v.shape, left.shape) for v in given) and not _is_summed_node(instance.root):
        nan = np.zeros(left.shape, bool)
        for v in given:
            nan = nan | np.isnan(v)
        undefined = np.isinf(exact)  # no real value: NaN is right
        bad |= ~known & ~undefined & np.isnan(right) & ~np.isnan(left)
        bad |= nan & ~np.isnan(right) & ~np.isinf(right)  # hypot(inf, NaN) is inf
    if bad.any():
        _report(rule, instance, left, right, bad, exact)
    return int(bool((known & (old > 8 * bound) & (fresh <= bound)).any()))


def _report(
    rule: AnyRule,
    instance: Instance,
    left: Array,
    right: Array,
    bad: Array,
    exact: Array | None = None,
) -> None:
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    lines = [f"{rule!r} is not {rule.cls.value} for {instance.root.dtype}:"]
    lines.append(f"  at {place}: before {left[place]!r}, after {right[place]!r}")
    if exact is not None:
        lines.append(f"  true value {exact[place]!r}")
    for tensor in instance.inputs:
        value = instance.values[id(tensor)]
        if _lines_up(value.shape, left.shape):
            lines.append(
                f"  operand {np.broadcast_to(value, left.shape)[place]!r} of {tensor.type}"
            )
    raise RuleFailure("\n".join(lines))
