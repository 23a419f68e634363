"""Sizes whose divisions come out even (floor 8).

Exporters write what a model computes: a picture of h by w elements in windows of 4 by 4 has the
shape [h // 4, 4, w // 4, 4]. It holds all elements where the divisions leave no rest, which is seen
when the model runs. Here sizes are taken as if they left none: as polynomials over the symbols with
fractions as coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from graphc.base.dims import Dim, Quotient, Size, Symbol, product

Polynomial = dict[tuple[Symbol, ...], Fraction]


def even(size: Size) -> Polynomial | None:
    """A size without its floors; None where it is divided by a symbolic one."""
    if not isinstance(size, Dim):
        return {(): Fraction(size)} if size else {}
    total: Polynomial = {}
    for monomial, coefficient in size.terms:
        term: Polynomial = {(): Fraction(coefficient)}
        for atom in monomial:
            if isinstance(atom, Symbol):
                factor: Polynomial | None = {(atom,): Fraction(1)}
            elif isinstance(atom.denominator, int):
                factor = even(atom.numerator)
                factor = factor and {m: c / atom.denominator for m, c in factor.items()}
            else:
                factor = None
            if factor is None:
                return None
            term = _times(term, factor)
        for key, value in term.items():
            total[key] = total.get(key, Fraction(0)) + value
    return {m: c for m, c in total.items() if c}


def _times(a: Polynomial, b: Polynomial) -> Polynomial:
    found: Polynomial = {}
    for m, c in a.items():
        for n, d in b.items():
            key = tuple(sorted(m + n, key=str))
            found[key] = found.get(key, Fraction(0)) + c * d
    return found


def filled(given: Sequence[Size], wanted: Sequence[Size]) -> tuple[Size, ...] | None:
    """A shape of as many elements as `given` if divisions come out even, its -1 written out; None
    where that is not so, or the size in place of -1 is no sum of products then.
    """
    whole, known = even(product(given)), even(product(s for s in wanted if s != -1))
    negative = [s for s in wanted if isinstance(s, int) and s < 0]
    if not whole or not known or negative not in ([], [-1]):
        return None
    if -1 not in wanted:
        return tuple(wanted) if whole == known else None
    rest = _quotient(whole, known)
    return None if rest is None else tuple(rest if s == -1 else s for s in wanted)


def _quotient(a: Polynomial, b: Polynomial) -> Size | None:
    """a / b where b is one term and the coefficients of the quotient are integers, else None."""
    if len(b) != 1:
        return None
    ((monomial, divisor),) = b.items()
    total: Size = 0
    for symbols, coefficient in a.items():
        rest, number = list(symbols), coefficient / divisor
        for symbol in monomial:
            if symbol not in rest:
                return None
            rest.remove(symbol)
        if number.denominator != 1:
            return None
        total = total + product([int(number), *map(Dim.of, rest)])
    return total


def divided(shapes: Iterable[Sequence[Size]]) -> dict[str, int]:
    """The least multiples of declared symbols whose divisions in shapes come out even."""
    found: dict[str, int] = {}
    stack = [size for shape in shapes for size in shape if isinstance(size, Dim)]
    while stack:
        for monomial, _ in stack.pop().terms:
            for atom in monomial:
                if isinstance(atom, Quotient) and isinstance(atom.denominator, int):
                    stack.append(atom.numerator)
                    for symbol in atom.numerator.symbols():
                        if symbol.origin is None:
                            least = found.get(symbol.name, 1)
                            found[symbol.name] = math.lcm(least, atom.denominator)
    return dict(sorted(found.items()))
