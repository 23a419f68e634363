"""What is known of int64 expressions (floor 4): polynomials over variables, and their bounds.

An int64 expression becomes a polynomial with integer coefficients over *atoms*: variables, symbols
of sizes, and whatever is not polynomial (a load, a floordiv that does not divide …). A bound is
again a polynomial, over sizes only, so `i * n + j < m * n` is decided without knowing n and m. An
expression over a loop variable is only ever evaluated inside the loop: its extent is then at least
1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.base.dims import Atom, Dim, Size, Symbol, divide
from graphc.base.dtypes import int64
from graphc.base.order import topological
from graphc.loops.build import ZERO, iadd, imul, isub
from graphc.loops.nodes import (
    Cast,
    Const,
    Expr,
    For,
    Kernel,
    Let,
    Op,
    Select,
    SizeOf,
    Var,
    const,
    size,
)
from graphc.loops.walk import statements

Monomial = tuple[int, ...]  # ranks of atoms, ascending; () is the constant
Polynomial = Mapping[Monomial, int]
Bounds = tuple[Polynomial | None, Polynomial | None]
Facts = Mapping[int, int]  # size atom -> least value, beyond what its declaration says

_UNBOUNDED: Bounds = (None, None)
_POLYNOMIAL_OPS = frozenset(("add", "sub", "mul", "neg"))
_NO_FACTS: Facts = {}
_PRODUCT_LIMIT = 256  # terms of a product that is multiplied out; beyond, it is an atom


class Ranges:
    """Loop extents and `Let` values of a kernel, and what follows. Memoizes: use one per kernel."""

    def __init__(
        self, extents: Mapping[Var, Expr] | None = None, lets: Mapping[Var, Expr] | None = None
    ) -> None:
        self._extents = dict(extents or {})
        self._lets = {v: value for v, value in (lets or {}).items() if value.dtype is int64}
        self._atoms: list[Expr | Atom] = []
        self._dims: list[
            Size | None
        ] = []  # the atom as a size, None for atoms that are expressions
        self._ranks: dict[Expr | Atom, int] = {}
        self._polynomials: dict[Expr, Polynomial] = {}
        self._expressions: dict[tuple[tuple[Monomial, int], ...], Expr] = {}
        self._coefficients: dict[tuple[tuple[Monomial, int], ...], Expr] = {}
        self._bounds: dict[int, Bounds] = {}
        self._facts: dict[Expr, Facts] = {}
        for v in self._extents:  # outer loops first: sums then start with what changes least
            self._rank(v)

    @staticmethod
    def of_kernel(kernel: Kernel) -> Ranges:
        """The ranges of all variables of a kernel."""
        extents: dict[Var, Expr] = {}
        lets: dict[Var, Expr] = {}
        for statement in statements(kernel.body):
            if isinstance(statement, For):
                extents[statement.var] = statement.extent
            elif isinstance(statement, Let):
                lets[statement.var] = statement.value
        return Ranges(extents, lets)

    def declare(self, v: Var, extent: Expr) -> None:
        """Add a loop variable: 0 <= v < extent."""
        self._extents[v] = extent
        self._rank(v)

    # -- polynomials ----------------------------------------------------------------------------
    def polynomial(self, expr: Expr) -> Polynomial:
        """`expr` as a polynomial."""
        known = self._polynomials.get(expr)
        if known is not None:
            return known
        for node in topological((expr,), self._polynomial_children):
            if node not in self._polynomials:
                self._polynomials[node] = self._polynomial_of(node)
        return self._polynomials[expr]

    def _polynomial_children(self, node: Expr) -> Sequence[Expr]:
        if node in self._polynomials or not isinstance(node, Op):
            return ()
        return node.args if node.name in _POLYNOMIAL_OPS else ()

    def _polynomial_of(self, node: Expr) -> Polynomial:
        known = self._polynomials
        if isinstance(node, Const):
            return {(): int(node.value)} if node.value else {}
        if isinstance(node, SizeOf):
            return self.size_polynomial(node.dim)
        if isinstance(node, Op) and node.name in _POLYNOMIAL_OPS:
            a = known[node.args[0]]
            if node.name == "neg":
                return scaled(a, -1)
            b = known[node.args[1]]
            if node.name == "mul":
                if len(a) * len(b) > _PRODUCT_LIMIT:
                    return {(self._rank(node),): 1}
                return product(a, b)
            return total(a, b if node.name == "add" else scaled(b, -1))
        return {(self._rank(node),): 1}

    def size_polynomial(self, value: Size) -> Polynomial:
        """A size as a polynomial."""
        if isinstance(value, int):
            return {(): value} if value else {}
        return {tuple(sorted(self._rank(a) for a in m)): c for m, c in value.terms}

    def expression(self, polynomial: Polynomial) -> Expr:
        """The polynomial as an expression: sizes, terms by outermost variable, the constant."""
        key = tuple(sorted(polynomial.items()))
        known = self._expressions.get(key)
        if known is not None:
            return known
        groups: dict[Monomial, dict[Monomial, int]] = {}
        for monomial, coefficient in key:
            variables = tuple(r for r in monomial if self._dims[r] is None)
            sizes = tuple(r for r in monomial if self._dims[r] is not None)
            groups.setdefault(variables, {})[sizes] = coefficient
        pure = groups.pop((), {})
        # A lone number goes to the end (`i + 1`), a sum with sizes to the front (`n - 1 - i`).
        last = pure.get((), 0) if len(pure) == 1 else 0
        result = self._coefficient(pure) if pure and not last else ZERO
        for variables, coefficients in sorted(groups.items()):
            factor = imul(*(self._expr_atom(r) for r in variables))
            negative = all(c < 0 for c in coefficients.values()) and result is not ZERO
            size_factor = self._coefficient(scaled(coefficients, -1) if negative else coefficients)
            term = imul(factor, size_factor)
            result = isub(result, term) if negative else iadd(result, term)
        result = iadd(result, const(last))
        self._expressions[key] = result
        return result

    def _coefficient(self, sizes: Polynomial) -> Expr:
        if len(sizes) == 1 and () in sizes:
            return const(sizes[()])
        key = tuple(sorted(sizes.items()))
        known = self._coefficients.get(key)
        if known is None:
            value: Size = 0
            for monomial, coefficient in key:
                term: Size = coefficient
                for rank in monomial:
                    factor = self._dims[rank]
                    assert factor is not None
                    term = term * factor
                value = value + term
            known = self._coefficients[key] = size(value)
        return known

    def split_by_sum(self, a: Polynomial, divisor: Polynomial) -> tuple[Polynomial, Polynomial]:
        """`split_by_divisor` for a divisor of several terms over sizes, such as n + 1."""
        groups: dict[Monomial, dict[Monomial, int]] = {}
        for monomial, coefficient in a.items():
            variables = tuple(r for r in monomial if self._dims[r] is None)
            sizes = tuple(r for r in monomial if self._dims[r] is not None)
            groups.setdefault(variables, {})[sizes] = coefficient
        quotient: Polynomial = {}
        for variables, coefficients in groups.items():
            factor = _exact_quotient(coefficients, divisor)
            if factor:
                quotient = total(quotient, product(factor, {variables: 1}))
        return quotient, total(a, scaled(product(quotient, divisor), -1))

    def _rank(self, atom: Expr | Atom) -> int:
        rank = self._ranks.get(atom)
        if rank is None:
            rank = self._ranks[atom] = len(self._atoms)
            self._atoms.append(atom)
            self._dims.append(None if isinstance(atom, Expr) else _atom_size(atom))
        return rank

    def rank(self, v: Var) -> int:
        """The number that stands for `v` in monomials."""
        return self._rank(v)

    def variables(self, monomial: Monomial) -> set[Var]:
        """The variables on which a monomial depends, those inside loads and divisions included."""
        found: set[Var] = set()
        for rank in monomial:
            if self._dims[rank] is None:
                nodes = topological((self._expr_atom(rank),), lambda e: e.args)
                found.update(node for node in nodes if isinstance(node, Var))
        return found

    def _expr_atom(self, rank: int) -> Expr:
        atom = self._atoms[rank]
        assert isinstance(atom, Expr)
        return atom

    # -- bounds ---------------------------------------------------------------------------------
    def bounds(self, polynomial: Polynomial) -> Bounds:
        """(lower, upper), polynomials over sizes; None where no bound is known."""
        if all(not m or (len(m) == 1 and self._dims[m[0]] is not None) for m in polynomial):
            return polynomial, polynomial
        low: Polynomial | None = {}
        high: Polynomial | None = {}
        for monomial, coefficient in polynomial.items():
            lo, hi = self._monomial_bounds(monomial)
            if coefficient < 0:
                lo, hi = hi, lo
            low = None if low is None or lo is None else total(low, scaled(lo, coefficient))
            high = None if high is None or hi is None else total(high, scaled(hi, coefficient))
        return low, high

    def interval(self, expr: Expr) -> tuple[int | None, int | None]:
        """(least, greatest) value as numbers where they are known."""
        low, high = self.bounds(self.polynomial(expr))
        return self._number(low, 0), self._number(high, 1)

    def nonnegative(self, polynomial: Polynomial, facts: Facts | None = None) -> bool:
        """Whether the polynomial is provably >= 0, given `facts` (default: its variables')."""
        low = self.bounds(polynomial)[0]
        if low is None:
            return False
        return self._least_is_nonnegative(low, self.facts(polynomial) if facts is None else facts)

    def compare(self, a: Expr, b: Expr) -> tuple[bool, bool]:
        """(a < b always, a >= b always). Claims nothing about values that may have wrapped."""
        pa, pb = self.polynomial(a), self.polynomial(b)
        if not self.bounded(pa) or not self.bounded(pb):
            return False, False
        facts = self.facts(pa, pb)
        difference = total(pb, scaled(pa, -1))
        if self.nonnegative(total(difference, {(): -1}), facts):
            return True, False
        return False, self.nonnegative(scaled(difference, -1), facts)

    def bounded(self, polynomial: Polynomial) -> bool:
        """Whether every atom has both bounds: index arithmetic does not wrap, data may."""
        return all(None not in self._atom_bounds(r) for m in polynomial for r in m)

    def facts(self, *polynomials: Polynomial) -> Facts:
        """Least values of size atoms that hold wherever the polynomials' variables exist."""
        found: Facts = _NO_FACTS
        for polynomial in polynomials:
            for rank in {r for m in polynomial for r in m}:
                if self._dims[rank] is None:
                    found = _merged(found, self._facts_of(self._expr_atom(rank)))
        return found

    def _facts_of(self, root: Expr) -> Facts:
        known = self._facts
        for node in topological((root,), lambda e: () if e in known else e.args):
            if node in known:
                continue
            found: Facts = _NO_FACTS
            for a in node.args:
                found = _merged(found, known[a])
            extent = self._extents.get(node) if isinstance(node, Var) else None
            if extent is not None:
                # The loop runs, so its extent is at least 1.
                found = self._at_least_one(self.polynomial(extent))
            known[node] = found
        return known[root]

    def _at_least_one(self, extent: Polynomial) -> Facts:
        ranks = {r for m in extent for r in m}
        if any(self._dims[r] is None for r in ranks):
            return {}
        if len(extent) == 1:
            return dict.fromkeys(ranks, 1)
        offset = extent.get((), 0)
        for monomial, coefficient in extent.items():
            if len(extent) == 2 and len(monomial) == 1 and coefficient > 0 and () in extent:
                return {monomial[0]: -((offset - 1) // coefficient)}
        return {}

    def _monomial_bounds(self, monomial: Monomial) -> Bounds:
        if len(monomial) == 1:
            return self._atom_bounds(monomial[0])
        low: Polynomial = {(): 1}
        high: Polynomial = {(): 1}
        facts = self.facts({monomial: 1})
        for rank in monomial:
            lo, hi = self._atom_bounds(rank)
            # Products of possibly negative factors: not needed precisely.
            if lo is None or hi is None or not self._least_is_nonnegative(lo, facts):
                return _UNBOUNDED
            low, high = product(low, lo), product(high, hi)
        return low, high

    def _atom_bounds(self, rank: int) -> Bounds:
        known = self._bounds.get(rank)
        if known is not None:
            return known
        if self._dims[rank] is not None:
            result: Bounds = ({(rank,): 1}, {(rank,): 1})
        else:
            # Iterative: atoms nest (a floordiv of a mod of a floordiv …), innermost first.
            for node in topological((self._expr_atom(rank),), self._bound_children):
                for r in {r for m in self.polynomial(node) for r in m}:
                    if r not in self._bounds and self._dims[r] is None:
                        self._bounds[r] = _UNBOUNDED  # a cycle of lets cannot be; only a guard
                        self._bounds[r] = self._expr_bounds(self._expr_atom(r))
            result = self._bounds[rank]
        self._bounds[rank] = result
        return result

    def _bound_children(self, node: Expr) -> tuple[Expr, ...]:
        if self._ranks.get(node, -1) in self._bounds:
            return ()
        if isinstance(node, Var):
            source = self._lets.get(node, self._extents.get(node))
            return () if source is None else (source,)
        return (
            tuple(a for a in node.args if a.dtype is int64) if isinstance(node, Op | Select) else ()
        )

    def _expr_bounds(self, node: Expr) -> Bounds:
        if isinstance(node, Var):
            return self._var_bounds(node)
        if isinstance(node, Cast):
            source = node.args[0].dtype
            if source.is_bool:
                return {}, {(): 1}
            if source.is_integer and source.bits < 64:
                half = 1 << (source.bits - 1)
                return (
                    ({(): -half}, {(): half - 1})
                    if source.kind == "i"
                    else ({}, {(): 2 * half - 1})
                )
            return _UNBOUNDED
        if isinstance(node, Select):
            a, b = (self.bounds(self.polynomial(x)) for x in node.args[1:])
            return self._extreme(a[0], b[0], -1), self._extreme(a[1], b[1], 1)
        if isinstance(node, Op) and len(node.args) == 2 and node.args[0].dtype is int64:
            return self._op_bounds(node)
        return _UNBOUNDED

    def _var_bounds(self, node: Var) -> Bounds:
        if node in self._lets:
            return self.bounds(self.polynomial(self._lets[node]))
        if node not in self._extents:
            return _UNBOUNDED
        high = self.bounds(self.polynomial(self._extents[node]))[1]
        return {}, None if high is None else total(high, {(): -1})

    def _op_bounds(self, node: Op) -> Bounds:
        pa, pb = (self.polynomial(x) for x in node.args)
        a, b = self.bounds(pa), self.bounds(pb)
        if node.name in ("minimum", "maximum"):
            sign = -1 if node.name == "minimum" else 1
            # One side of an extreme holds with either operand alone: min(x, n - 1) <= n - 1.
            low = self._extreme(a[0], b[0], sign) if sign < 0 else self._tightest(a[0], b[0], 1)
            high = self._extreme(a[1], b[1], sign) if sign > 0 else self._tightest(a[1], b[1], -1)
            return low, high
        if node.name not in ("floordiv", "mod"):
            return _UNBOUNDED
        facts = self.facts(pa, pb)
        if not self.nonnegative(total(pb, {(): -1}), facts) or b[1] is None:
            return _UNBOUNDED
        if node.name == "mod":
            return {}, total(b[1], {(): -1})
        divisor = _constant(b[0]) if b[0] == b[1] else None
        if divisor is not None:
            low_number, high_number = _constant(a[0]), _constant(a[1])
            if low_number is not None and high_number is not None:
                return _number(low_number // divisor), _number(high_number // divisor)
        if not self.nonnegative(pa, facts):
            return _UNBOUNDED
        return {}, self._quotient_bound(a[1], b[0])

    def _quotient_bound(
        self, high: Polynomial | None, divisor: Polynomial | None
    ) -> Polynomial | None:
        """An upper bound of high // divisor for non-negative `high`."""
        if high is None or divisor is None or len(divisor) != 1:
            return high
        # (n * d - 1) // d <= n - 1: exact where every term but -1 … -d has the factor d.
        up = total(high, {(): 1})
        parts = split_by_divisor(up, divisor)
        return high if parts is None or parts[1] else total(parts[0], {(): -1})

    def _extreme(self, a: Polynomial | None, b: Polynomial | None, sign: int) -> Polynomial | None:
        """A bound covering both: the larger (sign 1) or smaller (-1), where one provably is."""
        if a is None or b is None:
            return None
        difference = scaled(total(a, scaled(b, -1)), sign)
        if self._least_is_nonnegative(difference, {}):
            return a
        if self._least_is_nonnegative(scaled(difference, -1), {}):
            return b
        return None

    def _tightest(self, a: Polynomial | None, b: Polynomial | None, sign: int) -> Polynomial | None:
        if a is None or b is None:
            return b if a is None else a
        # Where neither is provably the tighter one, a number says more than an expression of sizes.
        return self._extreme(a, b, sign) or (b if _constant(a) is None else a)

    def _least_is_nonnegative(self, low: Polynomial, facts: Facts) -> bool:
        """Whether `low`, over sizes only, is provably >= 0.

        Each size is written as its least value plus a rest >= 0: enough that no coefficient is
        negative then.
        """
        result: Polynomial = {}
        for monomial, coefficient in low.items():
            term: Polynomial = {(): coefficient}
            for rank in monomial:
                least = self._least(rank, facts)
                if least is None:
                    return False
                term = product(term, {(rank,): 1, (): least} if least else {(rank,): 1})
            result = total(result, term)
        if all(c >= 0 for c in result.values()):
            return True
        number = self._number(low, 0)
        return number is not None and number >= 0

    def _least(self, rank: int, facts: Facts) -> int | None:
        value = self._dims[rank]
        low = value.bounds()[0] if isinstance(value, Dim) else value
        fact = facts.get(rank)
        if fact is None:
            return low
        atom = self._atoms[rank]
        if isinstance(atom, Symbol):
            fact = -(-fact // atom.multiple_of) * atom.multiple_of
        return fact if low is None else max(low, fact)

    def _number(self, bound: Polynomial | None, side: int) -> int | None:
        """A bound over sizes as a number: its least (side 0) or greatest (side 1) value."""
        if bound is None:
            return None
        result = 0
        for monomial, coefficient in bound.items():
            value = coefficient
            for rank in monomial:
                dim = self._dims[rank]
                pair = dim.bounds() if isinstance(dim, Dim) else (dim, dim)
                if pair[0] is None or pair[0] < 0:
                    return None
                limit = pair[side if coefficient > 0 else 1 - side]
                if limit is None:
                    return None
                value *= limit
            result += value
        return result


# -- polynomial arithmetic ------------------------------------------------------------------------


def total(a: Polynomial, b: Polynomial) -> Polynomial:
    """a + b."""
    if not a:
        return b
    result = dict(a)
    for monomial, coefficient in b.items():
        value = result.get(monomial, 0) + coefficient
        if value:
            result[monomial] = value
        else:
            del result[monomial]
    return result


def scaled(a: Polynomial, factor: int) -> Polynomial:
    """a * factor."""
    if factor == 1:
        return a
    return {m: c * factor for m, c in a.items()} if factor else {}


def product(a: Polynomial, b: Polynomial) -> Polynomial:
    """a * b."""
    result: dict[Monomial, int] = {}
    for m1, c1 in a.items():
        for m2, c2 in b.items():
            key = m1 + m2 if not m1 or not m2 else tuple(sorted(m1 + m2))
            result[key] = result.get(key, 0) + c1 * c2
    return {m: c for m, c in result.items() if c}


def split_by_divisor(a: Polynomial, divisor: Polynomial) -> tuple[Polynomial, Polynomial] | None:
    """(quotient, rest), a == quotient * divisor + rest; None for a divisor of several terms."""
    if len(divisor) != 1:
        return None
    ((monomial, coefficient),) = divisor.items()
    quotient: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for m, c in a.items():
        left = _without(m, monomial)
        if left is None:
            rest[m] = c
            continue
        whole, over = divmod(c, coefficient)
        if whole:
            quotient[left] = whole
        if over:
            rest[m] = over
    return quotient, rest


def _exact_quotient(a: Polynomial, divisor: Polynomial) -> Polynomial | None:
    """a / divisor by long division over sizes, or None where it leaves a rest."""
    lead = max(divisor, key=_by_degree)
    quotient: Polynomial = {}
    while a:
        top = max(a, key=_by_degree)
        left = _without(top, lead)
        if left is None or a[top] % divisor[lead]:
            return None
        step = {left: a[top] // divisor[lead]}
        quotient = total(quotient, step)
        a = total(a, scaled(product(step, divisor), -1))
    return quotient


def _by_degree(monomial: Monomial) -> tuple[int, Monomial]:
    return len(monomial), monomial


def _merged(a: Facts, b: Facts) -> Facts:
    """Both facts; one of the two objects where that says it all."""
    if not b or a is b:
        return a
    return {r: max(a.get(r, v), b.get(r, v)) for r, v in {**a, **b}.items()} if a else b


def _without(monomial: Monomial, factor: Monomial) -> Monomial | None:
    left = list(monomial)
    for rank in factor:
        if rank not in left:
            return None
        left.remove(rank)
    return tuple(left)


def _constant(a: Polynomial | None) -> int | None:
    if a is None or any(m for m in a):
        return None
    return a.get((), 0)


def _number(value: int) -> Polynomial:
    return {(): value} if value else {}


def _atom_size(atom: Atom) -> Size:
    if isinstance(atom, Symbol):
        return Dim(atom.name, atom.min, atom.max, atom.multiple_of)
    return divide(atom.numerator, atom.denominator)
