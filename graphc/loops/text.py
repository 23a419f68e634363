"""Text of kernels (floor 4): `kernel_text` prints what `parse.parse_kernel` reads back.

The text is exact: every constant carries its dtype, every symbol its bounds. Expressions are
printed with infix operators; subexpressions used twice in one statement, and very deep ones, get a
line of their own (`$0 = …`), so the text is linear in nodes.
"""

from __future__ import annotations

from graphc.base.dims import Size, Symbol, symbols
from graphc.base.dtypes import bool_, int64
from graphc.base.order import topological
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
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
    Prefetch,
    Select,
    SizeOf,
    Stmt,
    Store,
    Var,
)
from graphc.loops.walk import expressions, statements

# name -> (symbol, precedence); all are left-associative.
INFIX = {
    "bit_or": ("|", 1), "bit_xor": ("^", 2), "bit_and": ("&", 3),
    "eq": ("==", 4), "ne": ("!=", 4),
    "lt": ("<", 4), "le": ("<=", 4), "gt": (">", 4), "ge": (">=", 4),
    "shift_left": ("<<", 5), "shift_right": (">>", 5),
    "add": ("+", 6), "sub": ("-", 6),
    "mul": ("*", 7), "div": ("/", 7), "floordiv": ("//", 7), "mod": ("%", 7),
}  # fmt: skip
_ATOM = 9
_DEEP = 16  # nesting beyond which a subexpression gets its own line


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
            kind = {"serial": "", "vector": f" vector({s.width}, {s.interleave})"}.get(
                s.kind, f" {s.kind}"
            )
            return self._lines((s.extent,), f"for {s.var.name} in {{0}}{kind} {{{{")
        if isinstance(s, Let):
            return self._lines((s.value,), f"let {s.var.name}: {s.var.dtype.short} = {{0}}")
        if isinstance(s, Store):
            roots = (*s.indices, s.value, *(() if s.predicate is None else (s.predicate,)))
            count = len(s.indices)
            where = "" if s.predicate is None else f" if {{{count + 1}}}"
            holes = ", ".join(f"{{{k}}}" for k in range(count))
            return self._lines(roots, f"%{s.buffer.name}[{holes}] = {{{count}}}{where}")
        if isinstance(s, Prefetch):
            holes = _holes(len(s.indices))
            return self._lines(s.indices, f"prefetch %{s.buffer.name}[{holes}]")
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
        starts = ", ".join(
            f"{v.name}: {v.dtype.short} = {_const_text(i)}"
            for v, i in zip(s.vars, s.combine.identity, strict=True)
        )
        text = f"acc ({starts}) by {self._combine(s.combine)}"
        if s.entering is None:
            return text
        entering = ", ".join(_const_text(i) for i in s.entering.identity)
        return f"{text} from ({entering}) by {self._combine(s.entering)}"

    def _combine(self, c: Combine) -> str:
        left, right = (", ".join(v.name for v in side) for side in (c.left, c.right))
        results = ", ".join(self.expr(r, split=False)[-1] for r in c.results)
        return f"({left}), ({right}) -> ({results})"

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
        if isinstance(node, Op) and node.name in INFIX:
            symbol, level = INFIX[node.name]
            (a, level_a, _), (b, level_b, _) = args
            left = a if level_a >= level else f"({a})"
            right = b if level_b > level else f"({b})"
            return f"{left} {symbol} {right}", level
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


def _holes(count: int) -> str:
    return ", ".join(f"{{{k}}}" for k in range(count))


def _variable_names(body: tuple[Stmt, ...]) -> frozenset[str]:
    names: set[str] = set()
    for s in statements(body):
        if isinstance(s, For | Let):
            names.add(s.var.name)
        elif isinstance(s, Accumulators):
            names.update(v.name for v in s.vars)
            for c in (s.combine, s.entering):
                names.update(v.name for v in ((*c.left, *c.right) if c else ()))
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
