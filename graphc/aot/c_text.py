"""Pieces of C text that header, example and program share (floor 8).

Sizes become expressions of 64-bit integers over the C names of the symbols. They cannot overflow
once `NAME_workspace_size` has accepted the sizes: it estimates every term without overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from textwrap import wrap

from graphc.aot.interface import Interface, Operand, c_type
from graphc.base.dims import Dim, Quotient, Size, Symbol

WIDTH = 100
# Floor division as C and C++ do not have it; the denominator is at least one.
FLOOR_DIV = """static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}
"""


def size_text(
    size: Size,
    name_of: Callable[[Symbol], str],
    divide: Callable[[str, str], str] = "floor_div({}, {})".format,
) -> str:
    """A size as an expression of C (and, with another `divide`, of Python or Rust)."""
    if not isinstance(size, Dim):
        return str(size)
    text = ""
    for monomial, coefficient in size.terms:
        factors = [_atom_text(atom, name_of, divide) for atom in monomial]
        if abs(coefficient) != 1 or not factors:
            factors.insert(0, str(abs(coefficient)))
        sign = "-" if coefficient < 0 else "+"
        text += f" {sign} " if text else ("-" if coefficient < 0 else "")
        text += " * ".join(factors)
    return text


def _atom_text(
    atom: Symbol | Quotient,
    name_of: Callable[[Symbol], str],
    divide: Callable[[str, str], str],
) -> str:
    if isinstance(atom, Symbol):
        return name_of(atom)
    return divide(
        size_text(atom.numerator, name_of, divide), size_text(atom.denominator, name_of, divide)
    )


def factor(text: str) -> str:
    """An expression in parentheses where it needs them as a factor."""
    return f"({text})" if " + " in text or " - " in text or text.startswith("-") else text


def has_quotient(sizes: Iterable[Size]) -> bool:
    """Whether an expression of these sizes divides."""
    return any(
        isinstance(atom, Quotient)
        for size in sizes
        if isinstance(size, Dim)
        for monomial, _ in size.terms
        for atom in monomial
    )


def symbol_names(interface: Interface) -> Callable[[Symbol], str]:
    """The C name of each symbol."""
    names = {s.symbol.name: s.name for s in interface.sizes}
    return lambda symbol: names[symbol.name]


def names_for(interface: Interface, words: Collection[str]) -> Callable[[str], str]:
    """C names in another language: with underscores where they are words of it, still unique.

    words: none may end with an underscore.
    """
    arguments = [*(s.name for s in interface.sizes), *(o.name for o in interface.operands)]
    taken = {*words, *arguments, *(m.name for m in interface.state)}
    found = {}
    for word in taken.intersection(words):
        name = f"{word}_"
        while name in taken:
            name += "_"
        found[word] = name
    return lambda name: found.get(name, name)


def shape_text(operand: Operand, name_of: Callable[[Symbol], str]) -> str:
    """`[batch, 64]`, as a person reads it, in C names."""
    return f"[{', '.join(size_text(s, name_of, _readable_quotient) for s in operand.shape)}]"


def _readable_quotient(a: str, b: str) -> str:
    return f"floor({factor(a)} / {factor(b)})"


def run_parameters(interface: Interface) -> list[str]:
    """The declarations of the parameters of `NAME_run`, in order."""
    p = interface.name
    parameters = [f"{p}_state *state"] if interface.state else []
    parameters += [f"const {p}_weights *weights"] if interface.external else []
    parameters += size_parameters(interface)
    parameters += [f"const {c_type(o.dtype)} *{o.name}" for o in interface.inputs]
    parameters += [f"{c_type(o.dtype)} *{o.name}" for o in interface.outputs]
    return [*parameters, "void *workspace", "size_t workspace_bytes"]


def size_parameters(interface: Interface) -> list[str]:
    """The declarations of the parameters of `NAME_workspace_size`."""
    return [f"int64_t {s.name}" for s in interface.sizes]


def call_text(start: str, arguments: Iterable[str], indent: str = "    ", end: str = ");") -> str:
    """`start` (which ends with an opening parenthesis), the arguments, `end`: wrapped."""
    arguments = list(arguments)
    line = start + ", ".join(arguments) + end
    if len(line) <= WIDTH:
        return line
    return start + "\n" + indent + f",\n{indent}".join(_fill(arguments, indent)) + end


def _fill(arguments: list[str], indent: str) -> list[str]:
    lines = [arguments[0]]
    for argument in arguments[1:]:
        if len(indent) + len(lines[-1]) + len(argument) + 4 <= WIDTH:
            lines[-1] += f", {argument}"
        else:
            lines.append(argument)
    return lines


def one_line(text: str) -> str:
    """Text of the user's graph on one line; what does not print, by number."""
    text = " ".join(text.split())
    return "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in text)


def plain(text: str) -> str:
    """Text of the user's graph as it may stand inside a comment of C, on one line."""
    shown = one_line(text)
    # No end or start of a comment, no trigraph, no line joined by a backslash, no command of a
    # documentation tool.
    for bad, good in (("*/", "* /"), ("/*", "/ *"), ("??", "? ?"), ("\\", "/"), ("@", "(at)")):
        shown = shown.replace(bad, good)
    return shown


def comment(lines: Iterable[str], indent: str = "", start: str = "/**") -> str:
    """A block comment; a line that starts with spaces keeps them where it is broken."""
    lead = f"{indent} * "
    out = [indent + start]
    for line in lines:
        text = line.lstrip(" ")
        space = " " * (len(line) - len(text))
        hang = space + ("    " if text.startswith("@") else "")
        broken = wrap(
            text,
            WIDTH - len(lead),
            initial_indent=space,
            subsequent_indent=hang,
            break_long_words=False,
            break_on_hyphens=False,
        )
        out += [(lead + part).rstrip() for part in broken or [""]]
    return "\n".join([*out, f"{indent} */"])


def c_literal(text: str) -> str:
    """A string literal of C; bytes beyond ASCII as octal escapes."""
    out = ""
    for byte in text.encode():
        char = chr(byte)
        if char in '"\\?':
            out += "\\" + char
        elif 32 <= byte < 127:
            out += char
        else:
            out += f"\\{byte:03o}"
    return f'"{out}"'
