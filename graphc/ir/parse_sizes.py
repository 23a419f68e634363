"""Dtypes, sizes and types of the textual form (floor 1).

A size is a polynomial, which small texts can make large: (a + b) * (a + b) * …  What an operation
may give is bounded before it is done.
"""

from __future__ import annotations

from graphc.base.dims import Dim, Quotient, Shape, Size, divide
from graphc.base.dtypes import ALL, DType
from graphc.base.limits import Limits
from graphc.ir.node import TensorType, TupleType, Type
from graphc.ir.tokens import Token, TokenReader

SHORT = {d.short: d for d in ALL}
_PRODUCTS = 4096  # terms that a product of sizes may have before equal ones are added up
_QUOTIENTS = 16  # levels of quotients inside each other
_SYMBOL_LENGTH = 128


def measure(size: Size) -> tuple[int, int, int]:
    """Terms, factors and levels of quotients of a size, those inside quotients included."""
    if not isinstance(size, Dim):
        return 1, 0, 0
    terms, factors, levels = len(size.terms), 0, 0
    for monomial, _ in size.terms:
        for atom in monomial:
            factors += 1
            if isinstance(atom, Quotient):
                for part in (atom.numerator, atom.denominator):
                    t, f, level = measure(part)
                    terms, factors = terms + t, factors + f
                    levels = max(levels, level + 1)
    return terms, factors, levels


def size_problem(size: Size, limits: Limits) -> str | None:
    """What is too large about a size; None for a fine one."""
    if not isinstance(size, Dim):
        return None if abs(size) <= limits.size else f"a size of at most {limits.size} (limit size)"
    terms, factors, levels = measure(size)
    if terms > limits.size_terms:
        return f"a size of at most {limits.size_terms} terms (limit size_terms)"
    if factors > limits.size_factors:
        return f"a size of at most {limits.size_factors} factors (limit size_factors)"
    if levels > _QUOTIENTS:
        return f"at most {_QUOTIENTS} levels of quotients"
    if any(abs(c) > limits.size for _, c in size.terms):
        return f"coefficients of at most {limits.size} (limit size)"
    return None


def shape_problem(shape: Shape, itemsize: int, limits: Limits) -> str | None:
    """What is wrong with a shape, for elements of `itemsize` bytes; None for a fine one."""
    if len(shape) > limits.rank:
        return f"at most {limits.rank} dims (limit rank)"
    nbytes, products = itemsize, 1
    for size in shape:
        problem = size_problem(size, limits)
        if problem:
            return problem
        if isinstance(size, Dim):
            products *= len(size.terms)
        elif size < 0:
            return "sizes that are not negative"
        else:
            nbytes *= max(size, 1)
    if nbytes > limits.size:
        return f"a tensor of at most {limits.size} bytes (limit size)"
    if products > _PRODUCTS:
        return f"a number of elements with at most {_PRODUCTS} terms"
    return None


class SizeReader(TokenReader):
    """Reads sizes, shapes and types over the declared symbols."""

    def __init__(self, text: str, limits: Limits) -> None:
        super().__init__(text, limits)
        self.symbols: dict[str, Dim] = {}

    def type(self) -> TensorType:
        """`: f32[n, 64]`"""
        self.sign(":")
        return self.bare_type()

    def result_type(self) -> Type:
        """`: f32[n, 64]`, or `: (f32[3], i64[])` of an op with several results."""
        self.sign(":")
        if not self.accept("("):
            return self.bare_type()
        items: list[TensorType] = []
        while not self.accept(")"):
            if items:
                self.sign(",")
            items.append(self.bare_type())
            self.limited(len(items), "tuple_items", "types")
        return TupleType(tuple(items))

    def bare_type(self) -> TensorType:
        """`f32[n, 64]`"""
        dtype = self.dtype()
        token = self.current
        shape = self.shape()
        problem = shape_problem(shape, dtype.itemsize, self.limits)
        if problem:
            raise self.fail(problem, token)
        return TensorType(shape, dtype)

    def dtype(self) -> DType:
        """The short name of a dtype."""
        token = self.current
        name = self.take("word", "a dtype such as f32")
        if name not in SHORT:
            raise self.fail("a dtype: " + " ".join(SHORT), token)
        return SHORT[name]

    def shape(self) -> Shape:
        """`[n, 64]`"""
        self.sign("[")
        sizes: list[Size] = []
        while not self.accept("]"):
            if sizes:
                self.sign(",")
            sizes.append(self.size())
            self.limited(len(sizes), "rank", "dims")
        return tuple(sizes)

    def new_symbol(self) -> str:
        """The name of a symbol that is declared."""
        token = self.current
        name = self.take("word", "the name of a dim")
        if len(name) > _SYMBOL_LENGTH:
            raise self.fail(f"a name of at most {_SYMBOL_LENGTH} characters", token)
        return name

    # -- sizes: sum of products of factors --------------------------------------------------------
    def size(self) -> Size:
        """A size."""
        token = self.current
        negative = self.accept("-")
        total = self._product()
        total = total * -1 if negative else total
        while self.current.text in ("+", "-") or (
            self.current.kind == "number" and self.current.text[0] == "-"
        ):
            if self.accept("-"):
                total = self._fine(total - self._product(), token)
            else:  # `a -1` is a number behind a size
                self.accept("+")
                total = self._fine(total + self._product(), token)
        return self._fine(total, token)

    def _product(self) -> Size:
        token = self.current
        value = self._factor()
        while self.current.text in ("*", "//"):
            if self.accept("*"):
                other = self._factor()
                if _terms(value) * _terms(other) > _PRODUCTS:
                    raise self.fail(f"a product of at most {_PRODUCTS} terms", token)
                value = self._fine(value * other, token)
            else:
                value = self._fine(self._quotient(value), token)
        return value

    def _quotient(self, value: Size) -> Size:
        self.sign("//")
        token = self.current
        divisor = self._factor()
        if isinstance(divisor, int) and divisor < 1:
            raise self.fail("a positive divisor", token)
        return divide(value, divisor)

    def _factor(self) -> Size:
        token = self.current
        if self.accept("("):
            self.enter(token)
            value = self.size()
            self.sign(")")
            self.depth -= 1
            return value
        if token.kind == "number":
            return self.integer()
        name = self.take("word", "a size")
        if name not in self.symbols:
            raise self.fail("a dim declared above with `dim`", token)
        return self.symbols[name]

    def _fine(self, size: Size, token: Token) -> Size:
        problem = size_problem(size, self.limits)
        if problem:
            raise self.fail(problem, token)
        return size


def _terms(size: Size) -> int:
    return len(size.terms) if isinstance(size, Dim) else 1
