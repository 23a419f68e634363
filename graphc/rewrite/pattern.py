"""Patterns and rules (floor 3): what a rewrite looks for, written in the notation of the ops.

A pattern is an expression over wildcards: `log(exp(x))` with `log, exp = ops("log exp")`.  Numbers
match constants that hold that number everywhere; commutative ops match in either order; a wildcard
that occurs twice must be the same node.  A rule is a pattern, a replacement function, and the
floating-point class of the change.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.base.dtypes import ALL, DType
from graphc.base.errors import GraphcError, GraphError, message
from graphc.ir.constant import ConstantValue
from graphc.ir.meaning import normalize
from graphc.ir.node import Tensor, TensorType
from graphc.ir.opdef import REGISTRY

Number = bool | int | float


class RuleClass(enum.Enum):
    """What a rule may do to the bits.

    EXACT: nothing (every bit, the sign of zero, NaN-ness). STABILIZING: closer to the true value
    wherever it differs. ROUNDING: within the rule's bound of rounding errors, same infinities and
    NaNs. DOMAIN: the same where all intermediate values are ordinary numbers; overflow, infinities,
    NaN and signed zero may differ.
    """

    EXACT = "exact"
    STABILIZING = "stabilizing"
    ROUNDING = "rounding"
    DOMAIN = "domain"


EXACT, STABILIZING, ROUNDING, DOMAIN = RuleClass

NUMERICS: dict[str, frozenset[RuleClass]] = {
    "exact": frozenset({EXACT}),
    "standard": frozenset({EXACT, STABILIZING, ROUNDING}),
    "fast": frozenset(RuleClass),
}


def allowed(numerics: str) -> frozenset[RuleClass]:
    """The classes that a numerics mode lets run. Raises GraphError for an unknown mode."""
    if numerics not in NUMERICS:
        modes = ", ".join(map(repr, NUMERICS))
        raise GraphError(message(f"unknown numerics {numerics!r}", hint=f"it is one of {modes}"))
    return NUMERICS[numerics]


# -- patterns
# -----------------------------------------------------------------------------------------


class Pattern:
    """A part of an expression to look for; arithmetic on patterns gives patterns."""

    def __add__(self, other: Operand) -> OpPattern:
        return OpPattern("add", (self, other))

    def __radd__(self, other: Operand) -> OpPattern:
        return OpPattern("add", (other, self))

    def __sub__(self, other: Operand) -> OpPattern:
        return OpPattern("subtract", (self, other))

    def __rsub__(self, other: Operand) -> OpPattern:
        return OpPattern("subtract", (other, self))

    def __mul__(self, other: Operand) -> OpPattern:
        return OpPattern("multiply", (self, other))

    def __rmul__(self, other: Operand) -> OpPattern:
        return OpPattern("multiply", (other, self))

    def __truediv__(self, other: Operand) -> OpPattern:
        return OpPattern("divide", (self, other))

    def __rtruediv__(self, other: Operand) -> OpPattern:
        return OpPattern("divide", (other, self))

    def __pow__(self, other: Operand) -> OpPattern:
        return OpPattern("pow", (self, other))

    def __neg__(self) -> OpPattern:
        return OpPattern("negative", (self,))


Operand = Pattern | Number


@dataclass(frozen=True, eq=False)
class Wildcard(Pattern):
    """Any tensor; with `constant`, only tensors known at compile time; with `dtype`, only of that
    dtype.
    """

    name: str
    constant: bool = False
    dtype: DType | None = None


@dataclass(frozen=True, eq=False)
class Literal(Pattern):
    """A tensor that holds one number everywhere. 0 matches +0.0 only, -0.0 only -0.0."""

    value: Number


class OpPattern(Pattern):
    """An op applied to patterns; `.named("s")` gives the node itself to the replacement."""

    def __init__(self, op: str, operands: Sequence[Operand], name: str | None = None) -> None:
        self.op = op
        self.name = name
        self.operands: tuple[Pattern, ...] = tuple(
            p if isinstance(p, Pattern) else Literal(p) for p in operands
        )
        definition = REGISTRY[op]
        self.commutative = len(self.operands) == 2 and "commutative" in definition.traits
        # The ops that the operands must have, None where anything may be: a quick refusal.
        self.child_ops = tuple(p.op if isinstance(p, OpPattern) else None for p in self.operands)

    def named(self, name: str) -> OpPattern:
        """The same pattern whose node is bound to `name`."""
        return OpPattern(self.op, self.operands, name)


def wildcards(
    names: str, *, constant: bool = False, dtype: DType | None = None
) -> tuple[Wildcard, ...]:
    """One wildcard per name: `x, y = wildcards("x y")`."""
    return tuple(Wildcard(n, constant, dtype) for n in names.split())


def ops(names: str) -> tuple[Callable[..., OpPattern], ...]:
    """Pattern functions of ops by name: `log, exp = ops("log exp")`."""
    return tuple(functools.partial(_apply, n) for n in names.split())


def wildcards_of(pattern: Pattern) -> list[Wildcard]:
    """The wildcards of a pattern, each once, from left to right."""
    if isinstance(pattern, Wildcard):
        return [pattern]
    found: dict[str, Wildcard] = {}
    for operand in pattern.operands if isinstance(pattern, OpPattern) else ():
        found.update((w.name, w) for w in wildcards_of(operand) if w.name not in found)
    return list(found.values())


def _apply(op: str, *operands: Operand) -> OpPattern:
    return OpPattern(op, operands)


# -- matching
# -----------------------------------------------------------------------------------------


class Match:
    """What a pattern bound: `m.x` for the wildcard or named node `x`, `m.root` for the whole."""

    __slots__ = ("bound", "root")

    def __init__(self, root: Tensor, bound: dict[str, Tensor]) -> None:
        self.root = root
        self.bound = bound

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self.bound[name]
        except KeyError:
            raise AttributeError(name) from None


def match(pattern: OpPattern, node: Tensor) -> Match | None:
    """The first way in which `pattern` matches at `node`, or None."""
    for bound in matches(pattern, node, {}):
        return Match(node, bound)
    return None


def matches(
    pattern: Pattern, node: Tensor, bound: dict[str, Tensor]
) -> Iterator[dict[str, Tensor]]:
    """Every way in which the pattern matches, extending `bound`."""
    if isinstance(pattern, Wildcard):
        old = bound.get(pattern.name)
        if old is not None:
            if old is node:
                yield bound
        elif (pattern.dtype is None or node.dtype is pattern.dtype) and (
            not pattern.constant or is_constant(node)
        ):
            yield {**bound, pattern.name: node}
    elif isinstance(pattern, Literal):
        if holds(node, pattern.value):
            yield bound
    elif isinstance(pattern, OpPattern):
        if node.op.name == pattern.op and len(node.inputs) == len(pattern.operands):
            if pattern.name is not None:
                bound = {**bound, pattern.name: node}
            yield from _match_operands(pattern, node.inputs, bound)
            if pattern.commutative and node.inputs[0] is not node.inputs[1]:
                yield from _match_operands(pattern, node.inputs[::-1], bound)


def _match_operands(
    pattern: OpPattern, inputs: Sequence[Tensor], bound: dict[str, Tensor]
) -> Iterator[dict[str, Tensor]]:
    for required, found in zip(pattern.child_ops, inputs, strict=True):
        if required is not None and found.op.name != required:
            return
    if len(inputs) == 1:
        yield from matches(pattern.operands[0], inputs[0], bound)
        return
    states = [bound]
    for operand, found in zip(pattern.operands, inputs, strict=True):
        states = [after for state in states for after in matches(operand, found, state)]
        if not states:
            return
    yield from states


def is_constant(node: Tensor) -> bool:
    """Whether the node's values are known at compile time."""
    return node.op.name in CONSTANT_OPS


def holds(node: Tensor, number: Number) -> bool:
    """Whether `node` holds exactly this number everywhere (as its dtype has it; zeros by their
    sign).
    """
    found = uniform(node)
    if found is None or found != number:
        return False
    if isinstance(found, float) and found == 0:
        return math.copysign(1.0, found) == math.copysign(1.0, number)
    return True


def uniform(node: Tensor) -> Number | None:
    """The one number that a constant, full or broadcast node holds everywhere, None where there is
    no such.
    """
    while node.op.name == "broadcast_to" or node.op.name == "reshape":
        node = node.inputs[0]
    if node.op.name == "full":
        # The attribute is a Python number: what counts is what the dtype makes of it.
        array = normalize(node.attr("value"), TensorType((), node.dtype))
        rounded: Number = array.item()
        return rounded
    if node.op.name != "constant":
        return None
    return _uniform_value(node.attr("value"))


@functools.lru_cache(maxsize=4096)
def _uniform_value(value: ConstantValue) -> Number | None:
    stored = value.stored
    if stored.size == 0:
        return None
    if stored.size > 1:
        flat = stored.reshape(-1)
        # Bit for bit, so that zeros of both signs and NaNs are told apart.
        if not np.all(flat.view(f"u{flat.itemsize}") == flat[:1].view(f"u{flat.itemsize}")):
            return None
    first = value.values.reshape(-1)[0].item()
    assert isinstance(first, bool | int | float)
    return first


# -- rules
# --------------------------------------------------------------------------------------------

Replace = Callable[[Match], Tensor | None]
Where = Callable[[Match], bool]


@dataclass(frozen=True, eq=False)
class Rule:
    """One rewrite: `pattern` → `replace(match)` (None declines), and what it may do to the bits.

    ulps: the bound of a ROUNDING rule (and the tolerance of a DOMAIN rule), in units of rounding of
    the largest intermediate.
    dtypes: dtypes of the first wildcard for which the rule holds; it runs for no others.
    equation: one line for people.
    """

    name: str
    pattern: OpPattern
    replace: Replace
    cls: RuleClass
    dtypes: tuple[DType, ...]
    ulps: float
    equation: str
    where: Where | None = None

    def apply(self, node: Tensor) -> tuple[Match, Tensor] | None:
        """The replacement of `node`, None where the rule does not match."""
        for number in self._numbers:
            if not any(holds(operand, number) for operand in node.inputs):
                return None
        if self._alike and node.inputs[0] is not node.inputs[1]:
            return None
        for bound in matches(self.pattern, node, {}):
            found = Match(node, bound)
            if bound.get(self.first, node).dtype not in self.dtypes or (
                self.where is not None and not self.where(found)
            ):
                continue
            new = self.replace(found)
            if new is not None and new is not node:
                return found, new
        return None

    @functools.cached_property
    def first(self) -> str:
        """The first wildcard without a dtype of its own: `dtypes` speaks of it."""
        return next((w.name for w in wildcards_of(self.pattern) if w.dtype is None), "")

    # What most nodes of the right ops lack: refused before the pattern is walked.
    @functools.cached_property
    def _numbers(self) -> tuple[Number, ...]:
        """The numbers among the operands."""
        return tuple(p.value for p in self.pattern.operands if isinstance(p, Literal))

    @functools.cached_property
    def _alike(self) -> bool:
        """Whether the two operands are one wildcard."""
        operands = self.pattern.operands
        return (
            len(operands) == 2 and isinstance(operands[0], Wildcard) and operands[0] is operands[1]
        )

    def roots_of(self) -> tuple[str, ...] | None:
        """The ops at which the rule applies; None for all."""
        return (self.pattern.op,)

    def may_apply(self, op: str, children: tuple[str, ...]) -> bool:
        """Whether a node of `op` on inputs of the ops `children` can match: a quick refusal."""
        operands = self.pattern.operands
        if op != self.pattern.op or len(children) != len(operands):
            return False
        orders = [children, children[::-1]] if self.pattern.commutative else [children]
        return any(all(map(_may_be, operands, order)) for order in orders)

    def __repr__(self) -> str:
        return f"<rule {self.name} ({self.cls.value}): {self.equation}>"


@dataclass(frozen=True, eq=False)
class NodeRule:
    """A rewrite that looks at whole nodes instead of a pattern: constant folding, view arithmetic.

    roots: names of the ops that it looks at; None for all of them. via: ops that tests put below
    the root.
    """

    name: str
    roots: tuple[str, ...] | None
    replace: Callable[[Tensor], Tensor | None]
    cls: RuleClass
    equation: str
    ulps: float = 0.0
    via: tuple[str, ...] = ()
    accepts: Callable[[str, tuple[str, ...]], bool] | None = None

    def roots_of(self) -> tuple[str, ...] | None:
        """The ops at which the rule applies; None for all."""
        return self.roots

    def may_apply(self, op: str, children: tuple[str, ...]) -> bool:
        """Whether a node of `op` on inputs of the ops `children` can match: a quick refusal."""
        if self.roots is not None and op not in self.roots:
            return False
        return self.accepts is None or self.accepts(op, children)

    def apply(self, node: Tensor) -> tuple[Match, Tensor] | None:
        """The replacement of `node`, None where the rule does not match."""
        new = self.replace(node)
        if new is None or new is node:
            return None
        return Match(node, {}), new

    def __repr__(self) -> str:
        return f"<rule {self.name} ({self.cls.value}): {self.equation}>"


AnyRule = Rule | NodeRule
CONSTANT_OPS = frozenset({"constant", "full"})
UNIFORM_OPS = CONSTANT_OPS | {"broadcast_to", "reshape"}


def _may_be(operand: Pattern, op: str) -> bool:
    """Whether a node of that op can match the operand of a pattern."""
    if isinstance(operand, OpPattern):
        return op == operand.op
    if isinstance(operand, Literal):
        return op in UNIFORM_OPS
    return not (isinstance(operand, Wildcard) and operand.constant) or op in CONSTANT_OPS


def rule(
    pattern: OpPattern,
    *,
    cls: RuleClass,
    dtypes: tuple[DType, ...] = ALL,
    ulps: float = 4.0,
    where: Where | None = None,
) -> Callable[[Replace], Rule]:
    """Decorator: `pattern` is replaced by what the function makes of the match. Its docstring is
    the equation.
    """

    def decorate(function: Replace) -> Rule:
        return Rule(
            name=function.__name__,
            pattern=pattern,
            replace=function,
            cls=cls,
            dtypes=dtypes,
            ulps=ulps,
            equation=_equation(function),
            where=where,
        )

    return decorate


def node_rule(
    *roots: str,
    cls: RuleClass,
    ulps: float = 4.0,
    via: tuple[str, ...] = (),
    accepts: Callable[[str, tuple[str, ...]], bool] | None = None,
) -> Callable[[Callable[[Tensor], Tensor | None]], NodeRule]:
    """Decorator: nodes of the ops `roots` (all ops when none is given) are replaced by what the
    function returns.
    """

    def decorate(function: Callable[[Tensor], Tensor | None]) -> NodeRule:
        equation = _equation(function)
        return NodeRule(
            function.__name__, roots or None, function, cls, equation, ulps, via, accepts
        )

    return decorate


def rules_of(names: Mapping[str, Any]) -> tuple[AnyRule, ...]:
    """The rules among the names of a module, in the order written."""
    return tuple(r for r in names.values() if isinstance(r, Rule | NodeRule))


def _equation(function: Callable[..., Any]) -> str:
    if not function.__doc__:
        raise GraphcError(f"rule {function.__name__}: write its equation as docstring")
    return function.__doc__.strip().splitlines()[0]
