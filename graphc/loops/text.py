"""Text of kernels (floor 4): `kernel_text` prints, `parse_kernel` reads back an equal kernel.

The text is exact: every constant carries its dtype, every symbol its bounds. Expressions are printed with
infix operators; subexpressions used twice in one statement, and very deep ones, get a line of their own
(`$0 = …`), so the text is linear in nodes. The parser builds nodes without folding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphc.base.dims import Dim, Size, Symbol, symbols
from graphc.base.dtypes import ALL, DType, bool_, int64
from graphc.base.errors import FormatError
from graphc.base.order import topological
from graphc.ir.scalar import BINARY, COMPARE, PREDICATE, UNARY
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Barrier,
    Bitcast,
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
    Load,
    Op,
    Select,
    SizeOf,
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
from graphc.loops.ranges import expressions, statements

# name -> (symbol, precedence); all are left-associative.
_INFIX = {
    "bit_or": ("|", 1), "bit_xor": ("^", 2), "bit_and": ("&", 3),
    "eq": ("==", 4), "ne": ("!=", 4), "lt": ("<", 4), "le": ("<=", 4), "gt": (">", 4), "ge": (">=", 4),
    "shift_left": ("<<", 5), "shift_right": (">>", 5),
    "add": ("+", 6), "sub": ("-", 6),
    "mul": ("*", 7), "div": ("/", 7), "floordiv": ("//", 7), "mod": ("%", 7),
}  # fmt: skip
_BY_SYMBOL = {symbol: (name, level) for name, (symbol, level) in _INFIX.items()}
_ATOM = 9
_DEEP = 16  # nesting beyond which a subexpression gets its own line
_SHORT = {d.short: d for d in ALL}
_FUNCTIONS = dict.fromkeys(UNARY + PREDICATE, 1) | dict.fromkeys(BINARY + COMPARE, 2) | {"fma": 3}
_TO_BOOL = frozenset(COMPARE + PREDICATE)


# -- printing -----------------------------------------------------------------------------------------


def kernel_text(kernel: Kernel) -> str:
    """The kernel as text that `parse_kernel` reads back."""
    printer = _Printer(_variable_names(kernel.body))
    params = ", ".join(
        f"{'out' if b in kernel.outputs else 'in'} {_buffer_text(b)}" for b in kernel.params
    )
    work = "" if kernel.work == 0 else f" work({kernel.work})"
    lines = [f"kernel {kernel.name}({params}){work} {{"]
    lines += [f"  size {_symbol_text(s)}" for s in _kernel_symbols(kernel) if s != Symbol(s.name)]
    lines += [f"  note {_quoted(note)}" for note in kernel.notes]
    lines += printer.body(kernel.body, 1)
    return "\n".join([*lines, "}"]) + "\n"


def statement_text(statement: Stmt) -> str:
    """One line for a statement, without its body: for messages."""
    return _Printer(frozenset()).head(statement)[-1]


def expr_text(expr: Expr) -> str:
    """An expression on one line where it is not too deep or shared; for messages and tests."""
    return "; ".join(_Printer(frozenset()).expr(expr))


class _Printer:
    """Prints the statements of one kernel."""

    def __init__(self, variables: frozenset[str]) -> None:
        self._variables = variables

    def body(self, body: tuple[Stmt, ...], depth: int) -> list[str]:
        lines: list[str] = []
        # An explicit stack of (text or statement, depth): kernels may nest deeply.
        stack: list[tuple[Stmt | str, int]] = [(s, depth) for s in reversed(body)]
        while stack:
            item, level = stack.pop()
            indent = "  " * level
            if isinstance(item, str):
                lines.append(indent + item)
                continue
            lines += [indent + line for line in self.head(item)]
            if isinstance(item, If) and item.otherwise:
                stack.append(("}", level))
                stack += [(s, level + 1) for s in reversed(item.otherwise)]
                stack.append(("} else {", level))
                stack += [(s, level + 1) for s in reversed(item.body)]
            elif isinstance(item, For | If | Intrinsic):
                stack.append(("}", level))
                inner = item.meaning if isinstance(item, Intrinsic) else item.body
                stack += [(s, level + 1) for s in reversed(inner)]
        return lines

    def head(self, s: Stmt) -> list[str]:
        """The lines of a statement up to its body."""
        if isinstance(s, For):
            kind = {"serial": "", "vector": f" vector({s.width}, {s.interleave})"}.get(s.kind, f" {s.kind}")
            return self._lines((s.extent,), f"for {s.var.name} in {{0}}{kind} {{{{")
        if isinstance(s, Let):
            return self._lines((s.value,), f"let {s.var.name}: {s.var.dtype.short} = {{0}}")
        if isinstance(s, Store):
            roots = (*s.indices, s.value, *(() if s.predicate is None else (s.predicate,)))
            count = len(s.indices)
            where = "" if s.predicate is None else f" if {{{count + 1}}}"
            holes = ", ".join(f"{{{k}}}" for k in range(count))
            return self._lines(roots, f"%{s.buffer.name}[{holes}] = {{{count}}}{where}")
        if isinstance(s, Alloc):
            return [f"alloc {s.buffer.scope} {_buffer_text(s.buffer)}"]
        if isinstance(s, Accumulators):
            return [self._accumulators(s)]
        if isinstance(s, Accumulate):
            names = ", ".join(v.name for v in s.target.vars)
            return self._lines(s.values, f"{names} <- {_holes(len(s.values))}")
        if isinstance(s, If):
            return self._lines((s.condition,), "if {0} {{")
        if isinstance(s, Check):
            return self._lines((s.ok,), f"check {{0}} site {s.site}")
        if isinstance(s, Intrinsic):
            return self._lines(s.args, f"intrinsic {s.name}({_holes(len(s.args))}) {{{{")
        return ["barrier"]

    def _accumulators(self, s: Accumulators) -> str:
        c = s.combine
        starts = ", ".join(
            f"{v.name}: {v.dtype.short} = {_const_text(i)}" for v, i in zip(s.vars, c.identity, strict=True)
        )
        left, right = (", ".join(v.name for v in side) for side in (c.left, c.right))
        results = ", ".join(self.expr(r, split=False)[-1] for r in c.results)
        return f"acc ({starts}) by ({left}), ({right}) -> ({results})"

    def _lines(self, roots: tuple[Expr, ...], template: str) -> list[str]:
        lines, texts = self._exprs(roots, split=True)
        return [*lines, template.format(*texts)]

    def expr(self, root: Expr, split: bool = True) -> list[str]:
        """Lines for `$k`, then the text of the expression."""
        lines, texts = self._exprs((root,), split)
        return [*lines, texts[0]]

    def _exprs(self, roots: tuple[Expr, ...], split: bool) -> tuple[list[str], list[str]]:
        order = topological(roots, lambda e: e.args)
        uses: dict[Expr, int] = {}
        for node in order:
            for a in node.args:
                uses[a] = uses.get(a, 0) + 1
        for root in roots:
            uses[root] = uses.get(root, 0) + 1
        lines: list[str] = []
        texts: dict[Expr, tuple[str, int, int]] = {}  # text, precedence, depth
        for node in order:
            text, level = self._node(node, [texts[a] for a in node.args])
            depth = 1 + max((texts[a][2] for a in node.args), default=0)
            # Cheap index arithmetic (`i + 1`) reads better repeated than named.
            named = uses[node] > 1 and (depth > 3 or (depth > 1 and node.dtype is not int64))
            if split and node.args and (named or depth > _DEEP):
                name = f"${len(lines)}"
                lines.append(f"{name} = {text}")
                text, level, depth = name, _ATOM, 1
            texts[node] = text, level, depth
        return lines, [texts[root][0] for root in roots]

    def _node(self, node: Expr, args: list[tuple[str, int, int]]) -> tuple[str, int]:
        if isinstance(node, Const):
            return _const_text(node), _ATOM
        if isinstance(node, Var):
            return node.name, _ATOM
        if isinstance(node, SizeOf):
            text = str(node.dim)
            bare = text.isidentifier() and text not in self._variables
            return text if bare else f"size({text})", _ATOM
        plain = [a[0] for a in args]
        if isinstance(node, Op) and node.name in _INFIX:
            symbol, level = _INFIX[node.name]
            a, b = (x if lv >= need else f"({x})" for (x, lv, _), need in zip(args, (level, level + 1), strict=True))
            return f"{a} {symbol} {b}", level
        if isinstance(node, Load):
            inside = ", ".join(plain[: len(node.indices)])
            tail = f" ? {plain[-2]} : {plain[-1]}" if node.predicated else ""
            return f"%{node.buffer.name}[{inside}{tail}]", _ATOM
        if isinstance(node, Op):
            return f"{node.name}({', '.join(plain)})", _ATOM
        if isinstance(node, Select):
            return f"select({', '.join(plain)})", _ATOM
        if isinstance(node, Bitcast):
            return f"bitcast({node.dtype.short}, {plain[0]})", _ATOM
        return f"{node.dtype.short}({plain[0]})", _ATOM


def _const_text(node: Const) -> str:
    if node.dtype is bool_:
        return "true" if node.value else "false"
    return repr(node.value) if node.dtype is int64 else f"{node.value!r}:{node.dtype.short}"


def _buffer_text(buffer: Buffer) -> str:
    return f"%{buffer.name}: {buffer.dtype.short}[{', '.join(map(str, buffer.shape))}]"


def _symbol_text(s: Symbol) -> str:
    top = "none" if s.max is None else str(s.max)
    return f"{s.name} min {s.min} max {top} step {s.multiple_of}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text[1:-1])


def _holes(count: int) -> str:
    return ", ".join(f"{{{k}}}" for k in range(count))


def _variable_names(body: tuple[Stmt, ...]) -> frozenset[str]:
    names: set[str] = set()
    for s in statements(body):
        if isinstance(s, For | Let):
            names.add(s.var.name)
        elif isinstance(s, Accumulators):
            names.update(v.name for v in (*s.vars, *s.combine.left, *s.combine.right))
    return frozenset(names)


def _kernel_symbols(kernel: Kernel) -> tuple[Symbol, ...]:
    sizes: list[Size] = [*(d for b in kernel.params for d in b.shape), kernel.work]
    for s in statements(kernel.body):
        if isinstance(s, Alloc):
            sizes += s.buffer.shape
        for node in topological(expressions(s), lambda e: e.args):
            if isinstance(node, SizeOf):
                sizes.append(node.dim)
    return symbols(sizes)


# -- parsing ------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r'\s+|(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>(?:\d+\.?\d*(?:e[+-]?\d+)?|inf\b|nan\b))'
    r"|(?P<name>[%$]?[A-Za-z_0-9][A-Za-z_0-9.]*)|(?P<symbol><-|->|//|<<|>>|[<>=!]=|[-+*/%&|^<>=?:,()\[\]{}])"
)


def parse_kernel(text: str) -> Kernel:
    """Read the text of one kernel. Raises FormatError with the line."""
    return _Parser(text).kernel()


class _Parser:
    """Recursive descent; the printer bounds the nesting of expressions."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._symbols: dict[str, Symbol] = {}
        self._buffers: dict[str, Buffer] = {}
        self._vars: dict[str, Var] = {}
        self._named: dict[str, Expr] = {}
        self._accumulators: dict[str, Accumulators] = {}
        # Bounds of symbols apply to the parameters before them: read them first.
        for k, (token, _) in enumerate(self._tokens):
            if token == "size" and self._tokens[k + 2][0] == "min":
                name, low, top, step = (self._tokens[k + j][0] for j in (1, 3, 5, 7))
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
            raise self._error(f"expected {token!r}, got {self._peek()!r}")

    def _error(self, what: str) -> FormatError:
        return FormatError(f"kernel text, line {self._tokens[min(self._at, len(self._tokens) - 1)][1]}: {what}")

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
        while not self._accept("}"):
            if self._peek().startswith("$"):
                name = self._next()
                self._expect("=")
                self._named[name] = self._expr()
                continue
            result.append(self._statement())
        return tuple(result)

    def _statement(self) -> Stmt:
        word = self._next()
        method = {
            "for": self._for, "let": self._let, "alloc": self._alloc, "acc": self._declare, "if": self._if,
            "check": self._check, "barrier": Barrier, "intrinsic": self._intrinsic,
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
                width = int(self._next())
                self._expect(",")
                interleave = int(self._next())
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
            start = self._expr()
            if not isinstance(start, Const) or start.dtype is not dtype:
                raise self._error(f"the identity of {names[-1]} must be a {dtype} constant")
            identity.append(start)
        self._expect("by")
        outer = dict(self._vars)
        left = self._parameters(identity)
        self._expect(",")
        right = self._parameters(identity)
        self._expect("->")
        self._expect("(")
        results = tuple(self._expr() for _ in self._list(")"))
        self._vars = outer
        own = tuple(self._variable(n, i.dtype) for n, i in zip(names, identity, strict=True))
        target = Accumulators(own, Combine(left, right, results, tuple(identity)))
        self._accumulators[names[0]] = target
        return target

    def _parameters(self, identity: list[Const]) -> tuple[Var, ...]:
        self._expect("(")
        names = [self._next() for _ in self._list(")")]
        if len(names) != len(identity):
            raise self._error(f"expected {len(identity)} parameters, got {len(names)}")
        return tuple(self._variable(n, i.dtype) for n, i in zip(names, identity, strict=True))

    def _store(self) -> Store:
        name = self._next()
        buffer = self._buffers.get(name)
        if buffer is None:
            raise self._error(f"unknown buffer {name}")
        self._expect("[")
        indices = tuple(self._expr() for _ in self._list("]"))
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
        return Check(ok, int(self._next()))

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
        if self._accept("("):
            inner = self._expr()
            self._expect(")")
            return inner
        if self._accept("-"):
            return self._literal("-" + self._next())
        token = self._next()
        if token[:1].isdigit() or token in ("inf", "nan"):
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
        dtype = self._dtype() if self._peek() == ":" and self._peek(1) in _SHORT and self._accept(":") else int64
        try:
            return const(float(token) if dtype.is_float else int(token), dtype)
        except ValueError:
            raise self._error(f"{token!r} is no {dtype} literal") from None

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
            raise self._error(f"{name} has {len(buffer.shape)} dimensions, got {len(indices)} indices")
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
        if name == "select" and len(args) == 3 and args[0].dtype is bool_ and args[1].dtype is args[2].dtype:
            return select(*args)
        if name not in _FUNCTIONS:
            raise self._error(f"unknown function {name!r} of {len(args)} arguments")
        return self._op(name, args)

    # -- sizes ----------------------------------------------------------------------------------
    def _size(self) -> Size:
        total = self._size_product()
        while self._peek() in ("+", "-"):
            total = total + self._size_product() if self._next() == "+" else total - self._size_product()
        return total

    def _size_product(self) -> Size:
        result = self._size_factor()
        while self._peek() in ("*", "//"):
            result = result * self._size_factor() if self._next() == "*" else result // self._size_factor()
        return result

    def _size_factor(self) -> Size:
        if self._accept("("):
            inner = self._size()
            self._expect(")")
            return inner
        if self._accept("-"):
            return self._size_product() * -1
        token = self._next()
        return int(token) if token.isdigit() else self._symbol(token)

    def _symbol(self, name: str) -> Dim:
        if not name.isidentifier():
            raise self._error(f"expected a size, got {name!r}")
        s = self._symbols.get(name, Symbol(name))
        return Dim(s.name, s.min, s.max, s.multiple_of)


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

