"""Parser of kernel text (floor 4): reads back what `text.kernel_text` prints, node for node.

Nodes are built without folding, so that the parsed kernel prints as the same text. Recursive
descent over expressions is safe because the printer bounds their nesting; anything deeper is
rejected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from graphc.base.dims import Dim, Size, Symbol
from graphc.base.dtypes import ALL, DType, bool_, int64
from graphc.base.errors import FormatError
from graphc.ir.scalar import BINARY, COMPARE, PREDICATE, TERNARY, UNARY
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Barrier,
    Buffer,
    Check,
    Combine,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Let,
    Prefetch,
    Stmt,
    Store,
    Var,
    bitcast,
    cast,
    const,
    load,
    op,
    select,
    size,
    var,
)
from graphc.loops.text import INFIX

_BY_SYMBOL = {symbol: (name, level) for name, (symbol, level) in INFIX.items()}
_SHORT = {d.short: d for d in ALL}
_FUNCTIONS = (
    dict.fromkeys(UNARY + PREDICATE, 1)
    | dict.fromkeys(BINARY + COMPARE, 2)
    | dict.fromkeys(TERNARY, 3)
)
_TO_BOOL = frozenset(COMPARE + PREDICATE)
_DEEPEST = 100  # nesting of parentheses and blocks

_TOKEN = re.compile(
    r"""\s+
    | (?P<string> "(?:[^"\\]|\\.)*" )
    | (?P<number> (?: \d+\.?\d*(?:e[+-]?\d+)? | inf\b | nan\b ) (?: :[a-z]+\d* )? )
    | (?P<name> [%$]?[A-Za-z_0-9][A-Za-z_0-9.]* )
    | (?P<symbol> <- | -> | // | << | >> | [<>=!]= | [-+*/%&|^<>=?:,()\[\]{}] )
    """,
    re.VERBOSE,
)


def parse_kernel(text: str) -> Kernel:
    """Read the text of one kernel. Raises FormatError with the line."""
    return _Parser(text).kernel()


class _Parser:
    """Recursive descent; the printer bounds the nesting of expressions."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0
        self._symbols: dict[str, Symbol] = {}
        self._buffers: dict[str, Buffer] = {}
        self._vars: dict[str, Var] = {}
        self._named: dict[str, Expr] = {}
        self._accumulators: dict[str, Accumulators] = {}
        self._read_symbols()

    def _read_symbols(self) -> None:
        """Bounds of symbols apply to the parameters before them too: read them first."""
        words = [token for token, _ in self._tokens]
        for k in range(len(words) - 8):
            if words[k] == "size" and words[k + 2] == "min":
                name, low, top, step = words[k + 1], words[k + 3], words[k + 5], words[k + 7]
                if not (low.isdigit() and step.isdigit() and (top.isdigit() or top == "none")):
                    self._at = k + 1
                    raise self._error(f"expected bounds of the size {name}")
                maximum = None if top == "none" else int(top)
                self._symbols[name] = Symbol(name, int(low), maximum, int(step))

    # -- tokens ---------------------------------------------------------------------------------
    def _peek(self, ahead: int = 0) -> str:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)][0]

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _accept(self, token: str) -> bool:
        if self._peek() != token:
            return False
        self._at += 1
        return True

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise self._error(f"expected {token!r}, got {self._next()!r}")

    def _error(self, what: str) -> FormatError:
        """An error at the last token that was taken."""
        line = self._tokens[min(max(self._at - 1, 0), len(self._tokens) - 1)][1]
        return FormatError(f"kernel text, line {line}: {what}")

    def _number(self) -> int:
        token = self._next()
        if not token.isdigit():
            raise self._error(f"expected a number, got {token!r}")
        return int(token)

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error("nested too deeply")
        yield
        self._depth -= 1

    def _list(self, end: str) -> Iterator[None]:
        """Yields once for each element of a comma-separated list that `end` closes."""
        while not self._accept(end):
            yield
            if self._peek() != end:
                self._expect(",")

    def _dtype(self) -> DType:
        name = self._next()
        if name not in _SHORT:
            raise self._error(f"unknown dtype {name!r}")
        return _SHORT[name]

    # -- kernel and statements ------------------------------------------------------------------
    def kernel(self) -> Kernel:
        self._expect("kernel")
        name = self._next()
        params: list[Buffer] = []
        outputs: list[Buffer] = []
        self._expect("(")
        for _ in self._list(")"):
            role = self._next()
            if role not in ("in", "out"):
                raise self._error(f"expected 'in' or 'out', got {role!r}")
            params.append(self._buffer("global"))
            if role == "out":
                outputs.append(params[-1])
        work: Size = 0
        if self._accept("work"):
            self._expect("(")
            work = self._size()
            self._expect(")")
        self._expect("{")
        while self._peek() == "size" and self._peek(2) == "min":
            self._at += 8
        notes = []
        while self._accept("note"):
            notes.append(_unquoted(self._next()))
        body = self._block()
        if self._peek():
            raise self._error(f"expected the end, got {self._peek()!r}")
        return Kernel(name, tuple(params), tuple(outputs), body, work, tuple(notes))

    def _buffer(self, scope: str) -> Buffer:
        name = self._next()
        if not name.startswith("%"):
            raise self._error(f"expected a buffer such as %a, got {name!r}")
        self._expect(":")
        dtype = self._dtype()
        shape: list[Size] = []
        self._expect("[")
        for _ in self._list("]"):
            shape.append(self._size())
        buffer = Buffer(name[1:], tuple(shape), dtype, scope)
        self._buffers[name] = buffer
        return buffer

    def _block(self) -> tuple[Stmt, ...]:
        """Statements up to the closing brace."""
        result: list[Stmt] = []
        with self._deeper():
            while not self._accept("}"):
                if self._peek().startswith("$"):
                    name = self._next()
                    self._expect("=")
                    self._named[name] = self._expr()
                else:
                    result.append(self._statement())
        return tuple(result)

    def _statement(self) -> Stmt:
        word = self._next()
        method = {
            "for": self._for, "let": self._let, "alloc": self._alloc, "acc": self._declare,
            "if": self._if, "check": self._check, "barrier": Barrier, "intrinsic": self._intrinsic,
            "prefetch": self._prefetch,
        }.get(word)  # fmt: skip
        if method is not None and self._peek() not in ("<-", ","):
            return method()
        self._at -= 1
        return self._store() if word.startswith("%") else self._accumulate()

    def _for(self) -> For:
        v = self._variable(self._next(), int64)
        self._expect("in")
        extent = self._expr()
        kind, width, interleave = "serial", 1, 1
        if self._peek() != "{":
            kind = self._next()
            if kind not in ("parallel", "vector", "unroll", "block", "thread", "lane"):
                raise self._error(f"unknown kind of loop {kind!r}")
            if kind == "vector":
                self._expect("(")
                width = self._number()
                self._expect(",")
                interleave = self._number()
                self._expect(")")
        self._expect("{")
        return For(v, extent, self._block(), kind, width, interleave)

    def _variable(self, name: str, dtype: DType) -> Var:
        if not name.replace(".", "_").isidentifier():
            raise self._error(f"expected a variable's name, got {name!r}")
        self._vars[name] = var(name, dtype)
        return self._vars[name]

    def _let(self) -> Let:
        name = self._next()
        self._expect(":")
        dtype = self._dtype()
        self._expect("=")
        value = self._expr()
        return Let(self._variable(name, dtype), value)

    def _alloc(self) -> Alloc:
        return Alloc(self._buffer(self._next()))

    def _declare(self) -> Accumulators:
        names: list[str] = []
        identity: list[Const] = []
        self._expect("(")
        for _ in self._list(")"):
            names.append(self._next())
            self._expect(":")
            dtype = self._dtype()
            self._expect("=")
            start = self._identity()
            if start.dtype is not dtype:
                raise self._error(f"the identity of {names[-1]} must be a {dtype} constant")
            identity.append(start)
        combine, entering = self._combine(identity), None
        if self._accept("from"):
            self._expect("(")
            entering = self._combine([self._identity() for _ in self._list(")")])
        own = tuple(self._variable(n, i.dtype) for n, i in zip(names, identity, strict=True))
        target = Accumulators(own, combine, entering)
        self._accumulators[names[0]] = target
        return target

    def _identity(self) -> Const:
        start = self._expr()
        if not isinstance(start, Const):
            raise self._error("an identity must be a constant")
        return start

    def _combine(self, identity: list[Const]) -> Combine:
        self._expect("by")
        outer = dict(self._vars)
        left = self._parameters(identity)
        self._expect(",")
        right = self._parameters(identity)
        self._expect("->")
        self._expect("(")
        results = tuple(self._expr() for _ in self._list(")"))
        self._vars = outer
        return Combine(left, right, results, tuple(identity))

    def _parameters(self, identity: list[Const]) -> tuple[Var, ...]:
        self._expect("(")
        names = [self._next() for _ in self._list(")")]
        if len(names) != len(identity):
            raise self._error(f"expected {len(identity)} parameters, got {len(names)}")
        return tuple(self._variable(n, i.dtype) for n, i in zip(names, identity, strict=True))

    def _prefetch(self) -> Prefetch:
        return Prefetch(*self._element())

    def _element(self) -> tuple[Buffer, tuple[Expr, ...]]:
        name = self._next()
        buffer = self._buffers.get(name)
        if buffer is None:
            raise self._error(f"unknown buffer {name}")
        self._expect("[")
        return buffer, tuple(self._expr() for _ in self._list("]"))

    def _store(self) -> Store:
        buffer, indices = self._element()
        self._expect("=")
        value = self._expr()
        predicate = None
        # `if` on the same line is the store's predicate, on a new line it is a statement.
        if self._peek() == "if" and self._tokens[self._at][1] == self._tokens[self._at - 1][1]:
            self._at += 1
            predicate = self._expr()
        return Store(buffer, indices, value, predicate)

    def _accumulate(self) -> Accumulate:
        first = self._next()
        while self._accept(","):
            self._next()
        self._expect("<-")
        if first not in self._accumulators:
            raise self._error(f"{first!r} is no accumulator")
        target = self._accumulators[first]
        values = [self._expr()]
        while self._accept(","):
            values.append(self._expr())
        return Accumulate(target, tuple(values))

    def _if(self) -> If:
        condition = self._expr()
        self._expect("{")
        body = self._block()
        otherwise: tuple[Stmt, ...] = ()
        if self._accept("else"):
            self._expect("{")
            otherwise = self._block()
        return If(condition, body, otherwise)

    def _check(self) -> Check:
        ok = self._expr()
        self._expect("site")
        return Check(ok, self._number())

    def _intrinsic(self) -> Intrinsic:
        name = self._next()
        self._expect("(")
        args = tuple(self._expr() for _ in self._list(")"))
        self._expect("{")
        return Intrinsic(name, args, self._block())

    # -- expressions ----------------------------------------------------------------------------
    def _expr(self, level: int = 1) -> Expr:
        left = self._primary()
        while True:
            name, precedence = _BY_SYMBOL.get(self._peek(), ("", 0))
            if precedence < level:
                return left
            self._at += 1
            right = self._expr(precedence + 1)
            left = self._op(name, (left, right))

    def _op(self, name: str, args: tuple[Expr, ...]) -> Expr:
        if len(args) != _FUNCTIONS[name] or any(a.dtype is not args[0].dtype for a in args):
            kinds = ", ".join(a.dtype.short for a in args)
            raise self._error(f"{name} does not take ({kinds})")
        return op(name, *args, dtype=bool_ if name in _TO_BOOL else args[0].dtype)

    def _primary(self) -> Expr:
        with self._deeper():
            return self._operand()

    def _operand(self) -> Expr:
        if self._accept("("):
            inner = self._expr()
            self._expect(")")
            return inner
        if self._accept("-"):
            return self._literal("-" + self._next())
        token = self._next()
        if token[:1].isdigit() or token.partition(":")[0] in ("inf", "nan"):
            return self._literal(token)
        if token in ("true", "false"):
            return const(token == "true", bool_)
        if token.startswith("$") and token in self._named:
            return self._named[token]
        if token.startswith("%"):
            return self._load(token)
        if self._peek() == "(":
            return self._call(token)
        if token in self._vars:
            return self._vars[token]
        if token.isidentifier():
            return size(self._symbol(token))
        raise self._error(f"expected an expression, got {token!r}")

    def _literal(self, token: str) -> Expr:
        digits, _, short = token.partition(":")
        if short and short not in _SHORT:
            raise self._error(f"unknown dtype {short!r}")
        dtype = _SHORT[short] if short else int64
        try:
            return const(float(digits) if dtype.is_float else int(digits), dtype)
        except ValueError:
            raise self._error(f"{digits!r} is no {dtype} literal") from None

    def _load(self, name: str) -> Expr:
        if name not in self._buffers:
            raise self._error(f"unknown buffer {name}")
        buffer = self._buffers[name]
        self._expect("[")
        indices: list[Expr] = []
        predicate = fill = None
        while not self._accept("]"):
            if self._accept("?"):
                predicate = self._expr()
                self._expect(":")
                fill = self._expr()
            else:
                indices.append(self._expr())
            if self._peek() not in ("]", "?"):
                self._expect(",")
        if len(indices) != len(buffer.shape):
            raise self._error(
                f"{name} has {len(buffer.shape)} dimensions, got {len(indices)} indices"
            )
        return load(buffer, tuple(indices), predicate, fill)

    def _call(self, name: str) -> Expr:
        self._expect("(")
        if name == "size":
            value = self._size()
            self._expect(")")
            return size(value)
        if name == "bitcast":
            dtype = self._dtype()
            self._expect(",")
            x = self._expr()
            self._expect(")")
            return bitcast(x, dtype)
        args = tuple(self._expr() for _ in self._list(")"))
        if name in _SHORT and len(args) == 1:
            return cast(args[0], _SHORT[name])
        if (
            name == "select"
            and len(args) == 3
            and args[0].dtype is bool_
            and args[1].dtype is args[2].dtype
        ):
            return select(*args)
        if name not in _FUNCTIONS:
            raise self._error(f"unknown function {name!r} of {len(args)} arguments")
        return self._op(name, args)

    # -- sizes ----------------------------------------------------------------------------------
    def _size(self) -> Size:
        total = self._size_product()
        while self._peek() in ("+", "-"):
            total = (
                total + self._size_product()
                if self._next() == "+"
                else total - self._size_product()
            )
        return total

    def _size_product(self) -> Size:
        result = self._size_factor()
        while self._peek() in ("*", "//"):
            result = (
                result * self._size_factor()
                if self._next() == "*"
                else result // self._size_factor()
            )
        return result

    def _size_factor(self) -> Size:
        if self._peek() in ("(", "-"):
            with self._deeper():
                if self._accept("-"):
                    return self._size_product() * -1
                self._expect("(")
                inner = self._size()
                self._expect(")")
                return inner
        token = self._next()
        return int(token) if token.isdigit() else self._symbol(token)

    def _symbol(self, name: str) -> Dim:
        if not name.isidentifier():
            raise self._error(f"expected a size, got {name!r}")
        s = self._symbols.get(name, Symbol(name))
        return Dim(s.name, s.min, s.max, s.multiple_of)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text[1:-1])


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line, at = 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise FormatError(f"kernel text, line {line}: unexpected character {text[at]!r}")
        token = match.group()
        if match.lastgroup is not None:
            yield token, line
        line += token.count("\n")
        at = match.end()
    yield "", line
