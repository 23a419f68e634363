"""Sizes in ONNX graphs (floor 8): symbolic dims as int64 tensors, computed from shapes of inputs.

A symbol is read from the first input that has it in its shape, alone or as `a * n + b`. What is
computed once is used again, in bodies of loops too.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.base.dims import Atom, Dim, Shape, Size, Symbol, bounds
from graphc.base.dtypes import int64
from graphc.ir.node import Tensor
from graphc.onnx.exporting.writer import Value, Writer

LOWEST = -(1 << 63)  # ONNX's slices go down to the first element, it included


class Sizes:
    """The sizes of one model. Every size is a vector of one int64."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._sources: dict[str, tuple[Value, int, int, int]] = {}
        self._counts: dict[Symbol, Value] = {}

    def read_from(self, inputs: Sequence[tuple[Tensor, Value]]) -> None:
        """Symbols will be read from the shapes of these."""
        plain: dict[str, tuple[Value, int, int, int]] = {}
        for tensor, value in inputs:
            for axis, size in enumerate(tensor.shape):
                linear = _linear(size)
                if linear is None:
                    continue
                symbol, factor, offset = linear
                old = plain.get(symbol.name)
                if old is None or (abs(old[2]) != 1 and abs(factor) == 1):
                    plain[symbol.name] = (value, axis, factor, offset)
        self._sources = plain

    def bind(self, symbol: Symbol, count: Value) -> None:
        """A symbol whose size the graph computes: `count` is a 0-d tensor of int64."""
        self._counts[symbol] = count

    def vector(self, size: Size) -> Value:
        """A size as a vector of one element."""
        w = self._writer
        if isinstance(size, int):
            return w.ints([size])
        found = w.scope.find(size)
        if found is None:
            found = self._polynomial(size)
            w.scope.known[size] = found
        return found

    def scalar(self, size: Size) -> Value:
        """A size as a 0-d tensor."""
        w = self._writer
        if isinstance(size, int):
            return w.number(size, int64)
        found = w.scope.find(("scalar", size))
        if found is None:
            found = w.squeeze(self.vector(size), [0])
            w.scope.known["scalar", size] = found
        return found

    def shape(self, shape: Shape) -> Value:
        """Sizes as a vector."""
        w = self._writer
        parts: list[Value] = []
        run: list[int] = []
        for size in shape:
            if isinstance(size, int):
                run.append(size)
                continue
            if run:
                parts.append(w.ints(run))
                run = []
            parts.append(self.vector(size))
        if run or not parts:
            parts.append(w.ints(run))
        return parts[0] if len(parts) == 1 else w.op("Concat", *parts, dtype=int64, axis=0)

    def arange(self, count: Size) -> Value:
        """0, 1, … below a size, int64."""
        w = self._writer
        if isinstance(count, int):
            return w.ints(range(count))
        zero, one = w.number(0, int64), w.number(1, int64)
        return w.op("Range", zero, self.scalar(count), one, dtype=int64)

    def reshape(self, x: Value, old: Shape, shape: Shape) -> Value:
        """x in another shape, of as many elements."""
        w = self._writer
        if old == shape:
            return x
        free = [k for k, n in enumerate(shape) if isinstance(n, Dim)]
        rest = [n for n in shape if isinstance(n, int)]
        if len(free) == 1 and 0 not in rest:
            # The one unknown size follows from the number of elements.
            target = w.ints([-1 if isinstance(n, Dim) else n for n in shape])
            return w.op("Reshape", x, target, dtype=x.dtype)
        attrs = {"allowzero": 1} if 0 in rest or free else {}
        return w.op("Reshape", x, self.shape(shape), dtype=x.dtype, **attrs)

    def expand(self, x: Value, shape: Shape) -> Value:
        """x broadcast to a shape."""
        return self._writer.op("Expand", x, self.shape(shape), dtype=x.dtype)

    def slice(
        self, x: Value, starts: Sequence[Size], ends: Sequence[Size], axes: Sequence[int]
    ) -> Value:
        """x[start:end] along axes."""
        w = self._writer
        ranges = (self.shape(tuple(starts)), self.shape(tuple(ends)), w.ints(axes))
        return w.op("Slice", x, *ranges, dtype=x.dtype)

    # -- arithmetic -------------------------------------------------------------------------------
    def _polynomial(self, size: Dim) -> Value:
        w = self._writer
        total: Value | None = None
        for monomial, coefficient in size.terms:
            product: Value | None = None
            for atom in monomial:
                value = self._atom(atom)
                product = value if product is None else w.op("Mul", product, value, dtype=int64)
            if product is None:
                product = w.ints([coefficient])
            elif coefficient != 1:
                product = w.op("Mul", product, w.ints([coefficient]), dtype=int64)
            total = product if total is None else w.op("Add", total, product, dtype=int64)
        assert total is not None, "a dim has terms"
        return total

    def _atom(self, atom: Atom) -> Value:
        w = self._writer
        found = w.scope.find(atom)
        if found is None:
            if isinstance(atom, Symbol):
                found = self._symbol(atom)
            else:
                found = self.floor_divide(
                    self.vector(atom.numerator), self.vector(atom.denominator), atom.numerator
                )
            w.scope.known[atom] = found
        return found

    def floor_divide(self, a: Value, b: Value, size: Size) -> Value:
        """floor(a / b) of sizes, b positive; `size` is what a stands for."""
        w = self._writer
        low = bounds(size)[0]
        if low is None or low < 0:  # ONNX divides towards zero
            a = w.op("Sub", a, w.op("Mod", a, b, dtype=int64), dtype=int64)
        return w.op("Div", a, b, dtype=int64)

    def _symbol(self, symbol: Symbol) -> Value:
        w = self._writer
        count = self._counts.get(symbol)
        if count is not None:
            return w.unsqueeze(count, [0])
        source = self._sources.get(symbol.name)
        if source is None:
            w.refuse(
                f"no input has the dim {symbol.name!r} in its shape, from which it could be read",
                f"give an input a dim {symbol.name!r}",
            )
        value, axis, factor, offset = source
        found = w.op("Shape", value, dtype=int64, start=axis, end=axis + 1)
        if offset:
            found = w.op("Sub", found, w.ints([offset]), dtype=int64)
        if factor != 1:
            found = w.op("Div", found, w.ints([factor]), dtype=int64)
        return found


def _linear(size: Size) -> tuple[Symbol, int, int] | None:
    """(n, a, b) of a * n + b."""
    if not isinstance(size, Dim):
        return None
    found: tuple[Symbol, int] | None = None
    offset = 0
    for monomial, coefficient in size.terms:
        if not monomial:
            offset = coefficient
        elif len(monomial) == 1 and isinstance(monomial[0], Symbol) and found is None:
            found = (monomial[0], coefficient)
        else:
            return None
    return None if found is None else (*found, offset)
