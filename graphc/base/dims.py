"""Symbolic dimensions (floor 0): sizes that are known when the compiled function is called.

A dim of a shape is an int or a `Dim`.  A `Dim` is a polynomial with integer coefficients over
*atoms*: named symbols with bounds, and floor quotients (`n // 4`) that do not divide evenly, or of
symbols that are multiples (`4 * (n // 4)` is `n` then).  Equal values are equal polynomials, so
shape inference is decidable for what it is asked: equal, or one, or an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from graphc.base.errors import GraphError, ShapeError, message

Size = Union[int, "Dim"]
Shape = tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A named size with its bounds: min <= size <= max, size % multiple_of == 0.

    origin: what the graph computes the size from (`ir/bindings.py`), compared by identity; None for
    a size that comes with a call.
    """

    name: str
    min: int = 0
    max: int | None = None
    multiple_of: int = 1
    origin: object = field(default=None, repr=False)

    def allows(self, size: int) -> bool:
        """Whether a size is within the bounds."""
        fits = self.min <= size and (self.max is None or size <= self.max)
        return fits and size % self.multiple_of == 0

    @property
    def bounds_text(self) -> str:
        """`(min=0, max=None, multiple_of=1)`"""
        return f"(min={self.min}, max={self.max}, multiple_of={self.multiple_of})"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Quotient:
    """floor(numerator / denominator), denominator a positive size."""

    numerator: Dim
    denominator: Size

    def __str__(self) -> str:
        return f"({_factor_text(self.numerator)} // {_factor_text(self.denominator)})"


Atom = Symbol | Quotient
Monomial = tuple[Atom, ...]  # sorted by text; () is the constant


class Dim:
    """A symbolic size: `Dim("batch", min=1, max=None, multiple_of=1)`, or an expression of such.

    The same name means the same size everywhere in a graph. `+ - * //` and `%` with ints and dims
    give dims (an int where the result is known). Bounds are checked at every call of the compiled
    function.

    `==` asks whether two sizes are the same expression, hence equal at every call; it never asks
    about one call. So `n == 3` is False even where n may turn out to be 3, and dims are keys of
    dicts. `<`, `<=`, `>`, `>=` answer from the bounds, and raise where these leave it open. For an
    answer per call, compare as tensors: `graphc.equal(graphc.asarray(n), 3)`.
    """

    __slots__ = ("_hash", "terms")
    _hash: int
    terms: tuple[tuple[Monomial, int], ...]

    def __init__(
        self, name: str, min: int = 0, max: int | None = None, multiple_of: int = 1
    ) -> None:
        if not isinstance(name, str) or not name.isidentifier():
            raise ShapeError(
                message(
                    f"a dim's name must be an identifier, got {name!r}", hint='for example "batch"'
                )
            )
        if min < 0 or (max is not None and max < min) or multiple_of < 1:
            raise ShapeError(
                message(
                    f"the bounds of dim {name!r} leave no size: "
                    f"min={min}, max={max}, multiple_of={multiple_of}",
                    hint="bounds need 0 <= min <= max and multiple_of >= 1",
                )
            )
        self._set((((Symbol(name, min, max, multiple_of),), 1),))

    @classmethod
    def of(cls, symbol: Symbol) -> Dim:
        """The size that a symbol stands for."""
        dim = cls.__new__(cls)
        dim._set((((symbol,), 1),))
        return dim

    def _set(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        object.__setattr__(self, "terms", terms)
        object.__setattr__(self, "_hash", hash(terms))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a Dim never changes")

    def __reduce__(self) -> tuple[Any, ...]:
        return (_from_terms, (dict(self.terms),))

    # -- structure ------------------------------------------------------------------------------
    def symbols(self) -> tuple[Symbol, ...]:
        """The symbols inside, each once, in order of first use."""
        found: dict[Symbol, None] = {}
        for monomial, _ in self.terms:
            for atom in monomial:
                if isinstance(atom, Symbol):
                    found[atom] = None
                else:
                    for part in (atom.numerator, atom.denominator):
                        if isinstance(part, Dim):
                            found.update(dict.fromkeys(part.symbols()))
        return tuple(found)

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The value with each symbol bound by name. Raises GraphError for an unbound symbol."""
        total = 0
        for monomial, coefficient in self.terms:
            value = coefficient
            for atom in monomial:
                value *= _evaluate_atom(atom, sizes)
            total += value
        return total

    def bounds(self) -> tuple[int | None, int | None]:
        """(lower, upper) bounds of the value that follow from the symbols' bounds; None is
        unbounded.
        """
        low: int | None = 0
        high: int | None = 0
        for monomial, coefficient in self.terms:
            lo, hi = _monomial_bounds(monomial)
            if coefficient < 0:
                lo, hi = hi, lo
            low = None if low is None or lo is None else low + coefficient * lo
            high = None if high is None or hi is None else high + coefficient * hi
        return low, high

    def substitute(self, sizes: Mapping[str, Size]) -> Size:
        """The size with symbols replaced by name; others stay."""
        total: Size = 0
        for monomial, coefficient in self.terms:
            value: Size = coefficient
            for atom in monomial:
                value = value * _substitute_atom(atom, sizes)
            total = total + value
        return total

    # -- arithmetic -----------------------------------------------------------------------------
    def __add__(self, other: Size) -> Size:
        if not isinstance(other, int | Dim):
            return NotImplemented
        total = dict(self.terms)
        for monomial, coefficient in _terms(other):
            if monomial not in total:
                return _from_terms(_sum(self.terms, _terms(other)))
            total[monomial] += coefficient
        if not all(total.values()) or any(_reduces(m, c) for m, c in total.items()):
            return _from_terms(total)
        return _ordered(tuple(total.items())) if self.terms[0][0] else _from_terms(total)

    __radd__ = __add__

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Size) -> Size:
        if not isinstance(other, int | Dim):
            return NotImplemented
        return self + other * -1

    def __rsub__(self, other: Size) -> Size:
        return self * -1 + other

    def __mul__(self, other: Size) -> Size:
        if not isinstance(other, int | Dim):
            return NotImplemented
        if isinstance(other, int) and self.terms[0][0]:  # a constant comes last
            return _scaled(self, int(other))
        product: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in _terms(other):
                key = tuple(sorted(m1 + m2, key=str))
                product[key] = product.get(key, 0) + c1 * c2
        return _from_terms(product)

    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        if not isinstance(other, int | Dim):
            return NotImplemented
        return divide(self, other)

    def __rfloordiv__(self, other: int) -> Size:
        return divide(other, self)

    def __mod__(self, other: Size) -> Size:
        if not isinstance(other, int | Dim):
            return NotImplemented
        return self - divide(self, other) * other

    def __rmod__(self, other: int) -> Size:
        return other - divide(other, self) * self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self._hash == other._hash and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def _compare(self, other: Size, symbol: str) -> bool:
        low, high = bounds(self - other)
        truth = {
            "<": (high is not None and high < 0, low is not None and low >= 0),
            "<=": (high is not None and high <= 0, low is not None and low > 0),
            ">": (low is not None and low > 0, high is not None and high <= 0),
            ">=": (low is not None and low >= 0, high is not None and high < 0),
        }[symbol]
        if truth[0]:
            return True
        if truth[1]:
            return False
        raise ShapeError(
            message(
                f"whether {self} {symbol} {other} holds is not known before the function is called",
                hint='give the dim bounds, for example graphc.Dim("n", min=2), or use graphc.where',
            )
        )

    def __lt__(self, other: Size) -> bool:
        return self._compare(other, "<")

    def __le__(self, other: Size) -> bool:
        return self._compare(other, "<=")

    def __gt__(self, other: Size) -> bool:
        return self._compare(other, ">")

    def __ge__(self, other: Size) -> bool:
        return self._compare(other, ">=")

    def __bool__(self) -> bool:
        return self != 0 if self.bounds()[0] == 0 == self.bounds()[1] else self > 0

    def __index__(self) -> int:
        raise ShapeError(
            message(
                f"the dim {self} is symbolic: its size is not known before the function is called",
                hint="use it in shapes and arithmetic as it is, or declare the placeholder with "
                "an int",
            )
        )

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            factors = [str(a) for a in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+"
            text += (f" {sign} " if text else ("-" if coefficient < 0 else "")) + "*".join(factors)
        return text or "0"

    def __repr__(self) -> str:
        return f"Dim({self})"


def _factor_text(size: Size) -> str:
    text = str(size)
    return f"({text})" if isinstance(size, Dim) and (" " in text or "*" in text) else text


def _terms(size: Size) -> tuple[tuple[Monomial, int], ...]:
    return size.terms if isinstance(size, Dim) else (((), int(size)),)


def _sum(*groups: Iterable[tuple[Monomial, int]]) -> dict[Monomial, int]:
    total: dict[Monomial, int] = {}
    for group in groups:
        for monomial, coefficient in group:
            total[monomial] = total.get(monomial, 0) + coefficient
    return total


def _from_terms(terms: Mapping[Monomial, int]) -> Size:
    kept = {m: c for m, c in terms.items() if c}
    if any(_reduces(m, c) for m, c in kept.items()):
        reduced = _sum(*((_reduced(m, c),) for m, c in kept.items()))
        return _from_terms(reduced)
    if all(not m for m in kept):
        return kept.get((), 0)
    dim = Dim.__new__(Dim)
    # Symbols first, the constant last: `n + 1`, as a person writes it.
    dim._set(
        tuple(sorted(kept.items(), key=lambda item: (-len(item[0]), [str(a) for a in item[0]])))
    )
    return dim


def _is_even(atom: Atom) -> bool:
    """Whether a symbol is divided by a number of which it is a multiple."""
    if isinstance(atom, Symbol) or not isinstance(atom.denominator, int):
        return False
    monomial, coefficient = atom.numerator.terms[0]
    if len(atom.numerator.terms) > 1 or len(monomial) != 1 or coefficient != 1:
        return False
    return isinstance(monomial[0], Symbol) and monomial[0].multiple_of % atom.denominator == 0


def _reduces(monomial: Monomial, coefficient: int) -> bool:
    """Whether a coefficient and the divisor of an even division have a common factor."""
    if abs(coefficient) == 1 or not monomial:
        return False
    divisors = [a.denominator for a in monomial if isinstance(a, Quotient) and _is_even(a)]
    return any(isinstance(d, int) and math.gcd(coefficient, d) > 1 for d in divisors)


def _reduced(monomial: Monomial, coefficient: int) -> tuple[Monomial, int]:
    """A term without the common factors: 2 * (n // 4) is n // 2 where n is a multiple of 4."""
    atoms: list[Atom] = []
    for atom in monomial:
        if isinstance(atom, Quotient) and _is_even(atom):
            assert isinstance(atom.denominator, int)
            common = math.gcd(coefficient, atom.denominator)
            coefficient //= common
            (whole,) = atom.numerator.terms[0][0]
            rest = atom.denominator // common
            atom = whole if rest == 1 else Quotient(atom.numerator, rest)
        atoms.append(atom)
    return tuple(sorted(atoms, key=str)), coefficient


def _scaled(dim: Dim, factor: int) -> Size:
    """A dim times a number: its terms stay in their order."""
    if factor in (0, 1):
        return dim if factor else 0
    if any(_reduces(monomial, c * factor) for monomial, c in dim.terms):
        return _from_terms({monomial: c * factor for monomial, c in dim.terms})
    return _ordered(tuple((monomial, c * factor) for monomial, c in dim.terms))


def _ordered(terms: tuple[tuple[Monomial, int], ...]) -> Dim:
    """The dim of terms in their order, which cannot be written more simply."""
    dim = Dim.__new__(Dim)
    dim._set(terms)
    return dim


def _evaluate_atom(atom: Atom, sizes: Mapping[str, int]) -> int:
    if isinstance(atom, Symbol):
        if atom.name not in sizes:
            raise GraphError(
                message(
                    f"the size of dim {atom.name!r} is not known",
                    hint=f"known are {', '.join(sorted(sizes)) or 'none'}: "
                    f"feed a tensor that has {atom.name} in its shape",
                )
            )
        return sizes[atom.name]
    numerator, denominator = (evaluate(part, sizes) for part in (atom.numerator, atom.denominator))
    if denominator < 1:
        raise ShapeError(
            message(
                f"the size {atom} divides {numerator} by {denominator}",
                hint="sizes are divided by positive ones: give the dim bounds with min=1",
            )
        )
    return numerator // denominator


def _substitute_atom(atom: Atom, sizes: Mapping[str, Size]) -> Size:
    if isinstance(atom, Symbol):
        return sizes.get(atom.name, _from_terms({(atom,): 1}))
    return divide(substitute(atom.numerator, sizes), substitute(atom.denominator, sizes))


def _monomial_bounds(monomial: Monomial) -> tuple[int | None, int | None]:
    low: int | None = 1
    high: int | None = 1
    for atom in monomial:
        if isinstance(atom, Symbol):
            lo: int | None = -(-atom.min // atom.multiple_of) * atom.multiple_of
            hi = atom.max
        else:
            lo, hi = _quotient_bounds(atom)
        if lo is None or lo < 0 or low is None:
            return None, None  # products of possibly negative factors: not needed precisely
        low = low * lo
        high = None if high is None or hi is None else high * hi
    return low, high


def _quotient_bounds(atom: Quotient) -> tuple[int | None, int | None]:
    lo, hi = atom.numerator.bounds()
    dlo, dhi = bounds(atom.denominator)
    if dlo is None or dlo < 1:
        dlo = 1
    low = None if lo is None else (lo // dhi if dhi is not None else 0) if lo >= 0 else lo // dlo
    return low, None if hi is None else hi // dlo


def divide(a: Size, b: Size) -> Size:
    """floor(a / b) as a size; exact where every term of `a` has the factor `b`."""
    if isinstance(b, int):
        if b == 0:
            raise ShapeError(
                message(f"division of the size {a} by zero", hint="divide by a size of at least 1")
            )
        if isinstance(a, int):
            return a // b
        if b == 1:
            return a
        # Terms with the factor b leave the floor, and so does as much of the constant as has it:
        # (4*n + m + 5) // 4 == n + 1 + (m + 1) // 4.
        whole = _from_terms({m: c // b for m, c in a.terms if c % b == 0 or not m})
        rest = _from_terms({m: c if m else c % b for m, c in a.terms if c % b})
        return whole + _quotient(rest, b)
    if isinstance(a, Dim):
        exact_size = _divide_exactly(a, b)
        if exact_size is not None:
            return exact_size
    return _quotient(a, b)


def _quotient(a: Size, b: Size) -> Size:
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if isinstance(a, int):
        a = _constant_dim(a)
    assert isinstance(a, Dim)
    if isinstance(b, int) and [len(m) for m, _ in a.terms] in ([1], [1, 0]):
        ((inner,), coefficient), *constant = a.terms
        if isinstance(inner, Quotient) and coefficient == 1:
            # (x // p + c) // q == (x + p * c) // (p * q)
            more = inner.denominator * (constant[0][1] if constant else 0)
            return divide(inner.numerator + more, inner.denominator * b)
    return _from_terms({(Quotient(a, b),): 1})


def _constant_dim(value: int) -> Dim:
    dim = Dim.__new__(Dim)
    dim._set((((), value),))
    return dim


def _divide_exactly(a: Dim, b: Dim) -> Size | None:
    """a / b as a polynomial where b is one monomial that divides every term of a, or a = k * b."""
    if len(b.terms) == 1:
        monomial, coefficient = b.terms[0]
        quotient: dict[Monomial, int] = {}
        for m, c in a.terms:
            rest = list(m)
            for atom in monomial:
                if atom not in rest:
                    return None
                rest.remove(atom)
            if c % coefficient:
                return None
            quotient[tuple(rest)] = c // coefficient
        return _from_terms(quotient)
    if len(a.terms) == len(b.terms):
        factor, left = divmod(a.terms[0][1], b.terms[0][1])
        if not left and a == b * factor:
            return factor
    return None


def evaluate(size: Size, sizes: Mapping[str, int]) -> int:
    """The value of a size with symbols bound by name."""
    return size.evaluate(sizes) if isinstance(size, Dim) else size


def substitute(size: Size, sizes: Mapping[str, Size]) -> Size:
    """The size with symbols replaced by name."""
    return size.substitute(sizes) if isinstance(size, Dim) else size


def bounds(size: Size) -> tuple[int | None, int | None]:
    """(lower, upper) bounds of a size; None is unbounded."""
    return size.bounds() if isinstance(size, Dim) else (size, size)


def divisors(size: Size) -> tuple[Dim, ...]:
    """The symbolic sizes by which a size divides, those inside others included."""
    found: dict[Dim, None] = {}
    stack = [size]
    while stack:
        part = stack.pop()
        for monomial, _ in part.terms if isinstance(part, Dim) else ():
            for atom in monomial:
                if isinstance(atom, Quotient):
                    stack += (atom.numerator, atom.denominator)
                    if isinstance(atom.denominator, Dim):
                        found[atom.denominator] = None
    return tuple(found)


def product(shape: Iterable[Size]) -> Size:
    """The number of elements of a shape."""
    total: Size = 1
    for size in shape:
        total = total * size
    return total


def symbols(shape: Iterable[Size]) -> tuple[Symbol, ...]:
    """The symbols of a shape, each once."""
    found: dict[Symbol, None] = {}
    for size in shape:
        if isinstance(size, Dim):
            found.update(dict.fromkeys(size.symbols()))
    return tuple(found)


def shape_text(shape: Iterable[Size]) -> str:
    """`[n, 64]`"""
    return "[" + ", ".join(str(s) for s in shape) + "]"
