"""Elements (floor 5): the value of any node at any index, as a loop-IR expression.

This is index substitution: views change the index, elementwise ops combine values, leaves are
loads. `Elements` is used twice: to lower a region (leaves are its buffers), and by `regions` to
find out at which indices a node reads its producers (leaves are recorded). Depth: callers evaluate
a region's nodes in topological order, so recursion is only as deep as a view chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.base.dims import Shape, Size
from graphc.base.errors import CompileError
from graphc.ir.node import Node, Tensor
from graphc.loops.build import EXPR, ZERO, ExprScalar, both, iadd, imul, literal
from graphc.loops.index_math import unflatten
from graphc.loops.nodes import Const, Expr, Load, load, select, size
from graphc.ops.families import Alias, Constant, ElementLanguage, Elementwise, Map, Reshape

Index = tuple[Expr, ...]
Leaf = Callable[[Tensor, Index, Expr | None], Expr]

# Elementwise ops that make NaN or infinity out of finite values: watched even where the value is
# not stored.
RISKY = frozenset(
    "divide reciprocal log log2 log10 log1p exp exp2 expm1 sqrt rsqrt pow sinh cosh tan asin acos "
    "atanh acosh "
    "square lgamma digamma polygamma remainder floor_divide logaddexp hypot chain_divide "
    "exp_sum log_product log_quotient log1mexp".split()
)
# Arithmetic overflows too, and most of it is in gradients that are stored: it is watched where an
# op below can make a finite number of an infinity or a NaN, so that nothing would be seen later.
# (exp is none of them: exp(-inf) = 0 is what masks are for.)
ARITHMETIC = frozenset(("add", "subtract", "multiply", "negative", "abs"))
ABSORBING = frozenset(
    "where maximum minimum tanh sigmoid erf erfc atan atan2 sign divide reciprocal pow "
    "less less_equal greater greater_equal equal not_equal isfinite isnan isinf".split()
)


class Elements:
    """Values of nodes at indices.

    inline(node): whether the node's value is computed here (else it is a leaf). leaf(node, index,
    predicate): the value of a leaf; `predicate` (or None) guards the memory access. on_check(node,
    ok): an element computation asks for a run-time check on behalf of `node`. on_value(node,
    value): sees the values of `RISKY` ops, and of `ARITHMETIC` before it is absorbed (for
    check_numerics).
    """

    def __init__(
        self,
        inline: Callable[[Tensor], bool],
        leaf: Leaf,
        on_check: Callable[[Tensor, Expr], None],
        on_value: Callable[[Tensor, Expr], None] | None = None,
    ) -> None:
        self.inline = inline
        self.leaf = leaf
        self.on_check = on_check
        self.on_value = on_value
        self.memo: dict[tuple[int, ...], Expr] = {}

    def value(self, node: Tensor, index: Index, predicate: Expr | None = None) -> Expr:
        """The element of `node` at `index` (one int64 expression per dim)."""
        key = (id(node), id(predicate), *map(id, index))
        known = self.memo.get(key)
        if known is None and predicate is not None:
            known = self.memo.get((id(node), id(None), *map(id, index)))
        if known is None:
            known = self.memo[key] = self._compute(node, index, predicate)
        return known

    def define(self, node: Tensor, index: Index, value: Expr) -> None:
        """Fix the value of a node at an index (a finished reduction, an accumulator)."""
        self.memo[(id(node), id(None), *map(id, index))] = value

    def _compute(self, node: Tensor, index: Index, predicate: Expr | None) -> Expr:
        form = node.op.form
        if isinstance(form, Constant) and node.attr("value").stored.size == 1:
            return literal(node.attr("value").values.reshape(-1)[0].item(), node.dtype)
        if not self.inline(node):
            return self.leaf(node, index, predicate)
        if isinstance(form, Elementwise):
            return self._elementwise(node, form, index, predicate)
        if isinstance(form, Map):
            element: Expr = form.element(_Context(self, node, predicate), index, node)
            return element
        if isinstance(form, Reshape):
            source = node.inputs[0]
            return self.value(source, reshape_index(source.shape, node.shape, index), predicate)
        if isinstance(form, Alias):
            return self.value(node.inputs[0], index, predicate)
        raise CompileError(
            f"{node.op.name} is read inside its own kernel at an index that was not computed"
        )

    def _elementwise(
        self, node: Tensor, form: Elementwise, index: Index, predicate: Expr | None
    ) -> Expr:
        operands = [self.value(o, broadcast_index(o.shape, index), predicate) for o in node.inputs]
        value: Expr = form.scalar(EXPR, *operands, **node.attributes)
        if self.on_value is not None and predicate is None:
            self._look(node, operands, value)
        return value

    def _look(self, node: Tensor, operands: list[Expr], value: Expr) -> None:
        assert self.on_value is not None
        if node.op.name in ABSORBING:
            for operand, found in zip(node.inputs, operands, strict=True):
                if operand.op.name in ARITHMETIC and self.inline(operand):
                    self.on_value(operand, found)
        if node.op.name in RISKY:
            self.on_value(node, value)


class _Context(ExprScalar, ElementLanguage[Expr]):
    """The `ElementLanguage` of one node."""

    def __init__(self, elements: Elements, node: Tensor, predicate: Expr | None) -> None:
        self._elements = elements
        self._node = node
        self._predicate = predicate

    def element(
        self,
        operand: int,
        index: Sequence[Expr],
        where: Expr | None = None,
        fill: bool | int | float = 0,
    ) -> Expr:
        source = self._node.inputs[operand]
        if where is None:
            return self._elements.value(source, tuple(index), self._predicate)
        if isinstance(where, Const):
            if where.value:
                return self._elements.value(source, tuple(index), self._predicate)
            return literal(fill, source.dtype)
        guard = where if self._predicate is None else both(self._predicate, where)
        inner = self._elements.value(source, tuple(index), guard)
        filling = literal(fill, source.dtype)
        if isinstance(inner, Load) and inner.predicate is guard and guard is where:
            return load(inner.buffer, inner.indices, where, filling)
        return select(where, inner, filling)

    def size(self, value: Size) -> Expr:
        return size(value)

    def check(self, ok: Expr) -> None:
        if self._predicate is not None:
            ok = EXPR.op("bit_or", ok, EXPR.op("bit_not", self._predicate))
        self._elements.on_check(self._node, ok)


def broadcast_index(shape: Shape, index: Index) -> Index:
    """The index of an operand of `shape` for the element `index` of an elementwise result."""
    tail = index[len(index) - len(shape) :]
    return tuple(
        ZERO if isinstance(s, int) and s == 1 else i for s, i in zip(shape, tail, strict=True)
    )


def reshape_index(source: Shape, result: Shape, index: Index) -> Index:
    """The index into `source` of the element `index` of its reshape to `result` (row-major).

    Dims are matched in groups of equal size, so that dims which the reshape leaves alone stay as
    they are.
    """
    found: list[Expr] = []
    for source_dims, result_dims in reshape_groups(source, result):
        ours = [d for d in result_dims if result[d] != 1]
        theirs = [d for d in source_dims if source[d] != 1]
        if len(ours) == 1 and len(theirs) == 1:
            inner: tuple[Expr, ...] = (index[ours[0]],)
        else:
            offset: Expr = ZERO
            for d in ours:
                offset = iadd(imul(offset, size(result[d])), index[d])
            inner = unflatten(offset, tuple(source[d] for d in theirs))
        spread = iter(inner)
        found += [ZERO if source[d] == 1 else next(spread) for d in source_dims]
    return tuple(found)


def reshape_groups(source: Shape, result: Shape) -> list[tuple[list[int], list[int]]]:
    """Dims of source and result in the finest groups, in order, with equal numbers of elements."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(source) or j < len(result):
        ours, theirs = [], []
        a: Size = 1
        b: Size = 1
        if i < len(source):
            ours.append(i)
            a, i = source[i], i + 1
        if j < len(result):
            theirs.append(j)
            b, j = result[j], j + 1
        while a != b and (i < len(source) or j < len(result)):
            if j >= len(result) or (i < len(source) and _smaller(a, b)):
                ours.append(i)
                a, i = a * source[i], i + 1
            else:
                theirs.append(j)
                b, j = b * result[j], j + 1
        groups.append((ours, theirs))
    # A group of zero-size or provably unequal products cannot be split further: one group of
    # everything.
    total_a = [d for g, _ in groups for d in g]
    total_b = [d for _, g in groups for d in g]
    return groups if _sound(groups, source, result) else [(total_a, total_b)]


def _sound(groups: list[tuple[list[int], list[int]]], source: Shape, result: Shape) -> bool:
    for ours, theirs in groups:
        a: Size = 1
        b: Size = 1
        for d in ours:
            a = a * source[d]
        for d in theirs:
            b = b * result[d]
        if a != b:
            return False
    return True


def _smaller(a: Size, b: Size) -> bool:
    # Any answer is sound (it only decides which side grows next); sizes of more factors are taken
    # as larger.
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    return _degree(a) < _degree(b) or (_degree(a) == _degree(b) and isinstance(a, int))


def _degree(size_: Size) -> int:
    return 0 if isinstance(size_, int) else max(len(m) for m, _ in size_.terms)


def storage_root(node: Node) -> Tensor:
    """The node whose memory `node` shares: through reshapes and aliases."""
    while isinstance(node.op.form, _SHARING):
        node = node.inputs[0]
    return node  # type: ignore[return-value]  # what is in memory has one result


def storage_roots(nodes: Sequence[Tensor]) -> list[Tensor]:
    """The storage root of each of `nodes`."""
    return [storage_root(n) if isinstance(n.op.form, _SHARING) else n for n in nodes]


_SHARING = (Reshape, Alias)
