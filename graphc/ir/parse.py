"""The parser of the textual form (floor 1): `parse(str(g))` equals `g`.

Linear in the text; every mistake is a FormatError with line, column, what was expected and what
came. Types are recomputed by the ops and compared with the written ones, so a text cannot lie about
them.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Size, Symbol, divide
from graphc.base.dtypes import ALL, DType
from graphc.base.errors import FormatError, GraphcError, message
from graphc.base.limits import Limits
from graphc.ir import provenance
from graphc.ir.constant import ConstantValue, by_digest, constant_value, from_stored
from graphc.ir.graph import Graph, _check_updates
from graphc.ir.node import Node, Tensor, fresh_uid, make
from graphc.ir.opdef import REGISTRY
from graphc.ir.provenance import Location

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\#[^\n]*) | (?P<newline>\n) | (?P<string>"(?:[^"\\\n]|\\.)*") |
    (?P<label>%[A-Za-z0-9_./]+)
      | (?P<digest>@[0-9a-f]{64}) | (?P<number>-?(?:inf|nan)\b|-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<sign>//|[-{}()\[\]<>,:=+*])""",
    re.VERBOSE,
)
_SHORT = {d.short: d for d in ALL}
MAX_NESTING = 64


@dataclass(slots=True)
class Token:
    """One token with its place."""

    kind: str
    text: str
    line: int
    column: int


def parse(
    text: str,
    constants: Mapping[str, ConstantValue] | None = None,
    *,
    limits: Limits | None = None,
    own_constants: bool = False,
    file: str | None = None,
) -> Graph:
    """The graph of a text as `str(graph)` writes it.

    constants: values by sha256 digest for constants that the text names by digest; those alive in
    this process are found by themselves, unless `own_constants`. file: where the text stands;
    nodes then point at their lines there, otherwise at the line that is running. Raises
    FormatError naming line and column.
    """
    reader = _Reader(_tokens(text), constants or {})
    reader.own_constants = own_constants
    reader.file = file
    graph = reader.graph()
    reader.expect_end()
    return graph


def _format_error(what: str, hint: str | None = None) -> FormatError:
    hint = hint or "graphs are written as str(graph) writes them: graph name { … }"
    return FormatError(message(what, hint=hint))


def parse_size(text: str, symbols: Iterable[Symbol]) -> Size:
    """The size that `str(size)` wrote, over the given symbols. Raises FormatError."""
    reader = _Reader(_tokens(text), {})
    for symbol in symbols:
        reader.symbols[symbol.name] = Dim(symbol.name, symbol.min, symbol.max, symbol.multiple_of)
    size = reader.size()
    reader.expect_end()
    return size


def _tokens(text: str) -> list[Token]:
    result: list[Token] = []
    line, start, position = 1, 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _format_error(
                f"line {line}, column {position - start + 1}: "
                f"unexpected character {text[position]!r}"
            )
        kind = match.lastgroup or ""
        if kind == "newline":
            line, start = line + 1, match.end()
        elif kind != "space":
            result.append(Token(kind, match.group(), line, position - start + 1))
        position = match.end()
    result.append(Token("end", "the end of the text", line, position - start + 1))
    return result


class _Reader:
    def __init__(self, tokens: list[Token], constants: Mapping[str, ConstantValue]) -> None:
        self.tokens = tokens
        self.position = 0
        self.constants = constants
        self.symbols: dict[str, Dim] = {}
        self.depth = 0
        self.own_constants = False
        self.file: str | None = None

    # -- tokens -----------------------------------------------------------------------------------
    @property
    def current(self) -> Token:
        return self.tokens[self.position]

    def fail(
        self, expected: str, token: Token | None = None, hint: str | None = None
    ) -> FormatError:
        t = token or self.current
        what = f"line {t.line}, column {t.column}: expected {expected}, got {t.text!r:.60}"
        return _format_error(what, hint)

    def take(self, kind: str, what: str = "") -> str:
        token = self.current
        if token.kind != kind:
            raise self.fail(what or kind)
        self.position += 1
        return token.text

    def sign(self, text: str) -> None:
        if self.current.text != text or self.current.kind not in ("sign", "word"):
            raise self.fail(repr(text))
        self.position += 1

    def accept(self, text: str) -> bool:
        if self.current.text == text and self.current.kind in ("sign", "word"):
            self.position += 1
            return True
        return False

    def expect_end(self) -> None:
        if self.current.kind != "end":
            raise self.fail("the end of the text")

    def string(self) -> str:
        token = self.current
        try:
            return str(json.loads(self.take("string", "a string")))
        except json.JSONDecodeError as error:
            raise self.fail(f"a string ({error.msg})", token) from None

    def integer(self) -> int:
        token = self.current
        text = self.take("number", "an integer")
        try:
            return int(text)
        except ValueError:
            raise self.fail("an integer", token) from None

    # -- graphs -----------------------------------------------------------------------------------
    def graph(self) -> Graph:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise self.fail(f"at most {MAX_NESTING} nested levels")
        outer = self.symbols
        self.symbols = dict(outer)
        self.sign("graph")
        scope = _Scope(self.string())
        self.sign("{")
        while not self.accept("}"):
            self.statement(scope)
        self.symbols = outer
        self.depth -= 1
        _check_updates(tuple(scope.updates))
        return Graph.build(
            tuple(scope.inputs),
            tuple(scope.outputs.items()),
            tuple(scope.updates),
            scope.name,
            scope.names,
        )

    def statement(self, scope: _Scope) -> None:
        token = self.current
        handlers: dict[str, Callable[[_Scope], None]] = {
            "dim": self.dim,
            "input": self.input,
            "variable": self.variable,
            "output": self.output,
            "update": self.update,
        }
        if token.kind == "label":
            with self.located(token):
                self.node(scope)
        elif token.kind == "word" and token.text in handlers:
            self.position += 1
            with self.located(token):
                handlers[token.text](scope)
        else:
            raise self.fail("a statement (dim, input, variable, %label = …, output, update) or '}'")

    def located(self, token: Token) -> AbstractContextManager[None]:
        """What is made inside stands on the line of `token`."""
        if self.file is None:
            return nullcontext()
        return provenance.standing_at(Location(self.file, token.line))

    def dim(self, scope: _Scope) -> None:
        token = self.current
        name = self.take("word", "the name of a dim")
        bounds: dict[str, int] = {}
        while self.current.text in ("min", "max", "multiple_of"):
            key = self.take("word")
            self.sign("=")
            bounds[key] = self.integer()
        try:
            dim = Dim(name, **bounds)
        except GraphcError as error:
            raise FormatError(f"line {token.line}: {error}") from None
        self.symbols[name] = dim

    def input(self, scope: _Scope) -> None:
        label = self.new_label(scope)
        name = self.string()
        dtype, shape = self.type()
        node = make(REGISTRY["placeholder"], (), (name, shape, dtype, fresh_uid()))
        assert isinstance(node, Tensor)
        if any(name == n for n, _ in scope.inputs):
            raise self.fail(f"an input name other than {name!r}, which is taken")
        scope.inputs.append((name, node))
        self.define(scope, label, node, extra=(name,))

    def variable(self, scope: _Scope) -> None:
        label = self.new_label(scope)
        name = self.string() if self.current.kind == "string" else None
        self.sign("trainable")
        self.sign("=")
        trainable = self.accept("true")
        if not trainable:
            self.sign("false")
        self.sign("=")
        token = self.current
        value = self.value()
        if not isinstance(value, ConstantValue):
            raise self.fail("a constant", token)
        node = make(REGISTRY["variable"], (), (name, value, trainable, fresh_uid()))
        self.check_type(node)
        self.define(scope, label, node, extra=(name,) if name else ())

    def node(self, scope: _Scope) -> None:
        start = self.current
        label = self.new_label(scope)
        self.sign("=")
        token = self.current
        name = self.take("word", "the name of an op")
        if name not in REGISTRY:
            near = difflib.get_close_matches(name, [op.name for op in REGISTRY], 3, 0.5)
            hint = f"ops of that kind: {', '.join(near)}" if near else None
            raise self.fail("the name of an op that graphc has", token, hint)
        op = REGISTRY[name]
        inputs = self.operands(scope)
        attrs = self.attributes(op.attributes, name)
        try:
            node = make(op, inputs, attrs)
        except GraphcError as error:
            raise FormatError(f"line {start.line}: {error}") from None
        except (
            TypeError,
            ValueError,
            IndexError,
            AttributeError,
            KeyError,
            OverflowError,
        ) as error:
            what = f"{name} does not accept these operands and attributes: {error}"
            raise _format_error(f"line {start.line}: {what}") from None
        self.check_type(node)
        self.define(scope, label, node)

    def output(self, scope: _Scope) -> None:
        token = self.current
        name = self.string()
        self.sign("=")
        if name in scope.outputs:
            raise self.fail(f"an output name other than {name!r}, which is taken", token)
        scope.outputs[name] = self.tensor(scope)

    def update(self, scope: _Scope) -> None:
        variable = self.tensor(scope)
        self.sign("=")
        scope.updates.append((variable, self.tensor(scope)))

    # -- parts ------------------------------------------------------------------------------------
    def new_label(self, scope: _Scope) -> str:
        token = self.current
        label = self.take("label", "a label such as %0")[1:]
        if label in scope.nodes:
            raise self.fail(f"a label other than %{label}, which is taken", token)
        return label

    def tensor(self, scope: _Scope) -> Tensor:
        token = self.current
        node = scope.nodes.get(self.take("label", "a label such as %0")[1:])
        if not isinstance(node, Tensor):
            raise self.fail("the label of a tensor defined above", token)
        return node

    def operands(self, scope: _Scope) -> tuple[Node, ...]:
        self.sign("(")
        found: list[Node] = []
        while not self.accept(")"):
            if found:
                self.sign(",")
            token = self.current
            label = self.take("label", "an operand such as %0")[1:]
            if label not in scope.nodes:
                raise self.fail("a label defined above", token)
            found.append(scope.nodes[label])
        return tuple(found)

    def attributes(self, expected: tuple[str, ...], op: str) -> tuple[Any, ...]:
        found: dict[str, Any] = {}
        token = self.current
        if self.accept("{"):
            while not self.accept("}"):
                if found:
                    self.sign(",")
                key = self.take("word", "the name of an attribute")
                self.sign("=")
                found[key] = self.value()
        if tuple(found) != expected:
            raise self.fail(
                f"the attributes of {op}: {', '.join(expected) or 'none'} (in this order)", token
            )
        return tuple(found.values())

    def define(self, scope: _Scope, label: str, node: Node, extra: tuple[str, ...] = ()) -> None:
        scope.nodes[label] = node
        names = list(extra) if extra and (label.isdigit() or label in extra) else [label, *extra]
        if not extra and label.isdigit():
            names = []
        while self.accept("name"):
            names.append(self.string())
        for name in names:
            if scope.names.setdefault(name, node) is not node:
                raise self.fail(f"a name other than {name!r}, which is taken")

    def check_type(self, node: Node) -> None:
        token = self.current
        dtype, shape = self.type()
        written = f"{dtype.short}[{', '.join(map(str, shape))}]"
        if str(node.type) != written:
            raise self.fail(
                f"the type {node.type} that {node.op.name} computes",
                Token("type", written, token.line, token.column),
                "types follow from the operands: correct the type, or the operands",
            )

    def type(self) -> tuple[DType, tuple[Size, ...]]:
        self.sign(":")
        return self.dtype(), self.shape()

    def dtype(self) -> DType:
        token = self.current
        name = self.take("word", "a dtype such as f32")
        if name not in _SHORT:
            raise self.fail("a dtype: " + " ".join(_SHORT), token)
        return _SHORT[name]

    def shape(self) -> tuple[Size, ...]:
        self.sign("[")
        sizes: list[Size] = []
        while not self.accept("]"):
            if sizes:
                self.sign(",")
            sizes.append(self.size())
        return tuple(sizes)

    # -- sizes: sum of products of factors --------------------------------------------------------
    def size(self) -> Size:
        negative = self.accept("-")
        total = self.product()
        total = total * -1 if negative else total
        while self.current.text in ("+", "-") or (
            self.current.kind == "number" and self.current.text[0] == "-"
        ):
            if self.accept("+"):
                total = total + self.product()
            elif self.accept("-"):
                total = total - self.product()
            else:
                total = total + self.product()
        return total

    def product(self) -> Size:
        value = self.factor()
        while self.current.text in ("*", "//"):
            value = value * self.factor() if self.accept("*") else self.quotient(value)
        return value

    def quotient(self, value: Size) -> Size:
        self.sign("//")
        token = self.current
        divisor = self.factor()
        if isinstance(divisor, int) and divisor < 1:
            raise self.fail("a positive divisor", token)
        return divide(value, divisor)

    def factor(self) -> Size:
        token = self.current
        if self.accept("("):
            self.depth += 1
            if self.depth > MAX_NESTING:
                raise self.fail(f"at most {MAX_NESTING} nested levels", token)
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

    # -- attribute values -------------------------------------------------------------------------
    def value(self) -> Any:
        token = self.current
        if token.kind == "string":
            return self.string()
        if token.kind == "number":
            return self.number()
        if token.text == "(":
            return self.sequence()
        if token.text == "<":
            self.position += 1
            size = self.size()
            self.sign(">")
            return size
        if token.text == "const":
            return self.constant()
        if token.text == "graph":
            return self.graph()
        words: dict[str, Any] = {"none": None, "true": True, "false": False}
        name = self.take("word", "a value")
        if name in words:
            return words[name]
        if name in _SHORT:
            return _SHORT[name]
        raise self.fail("a value", token)

    def number(self) -> int | float:
        text = self.take("number")
        return float(text) if any(c in text for c in ".eEn") else int(text)

    def sequence(self) -> tuple[Any, ...]:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise self.fail(f"at most {MAX_NESTING} nested levels")
        self.sign("(")
        items: list[Any] = []
        while not self.accept(")"):
            if items:
                self.sign(",")
                if self.accept(")"):
                    break
            items.append(self.value())
        self.depth -= 1
        return tuple(items)

    def constant(self) -> ConstantValue:
        token = self.current
        self.sign("const")
        dtype, sizes = self.dtype(), self.shape()
        if any(not isinstance(s, int) or s < 0 for s in sizes):
            raise self.fail("a constant of known shape", token)
        shape = tuple(int(s) for s in sizes if isinstance(s, int))
        if self.current.kind == "digest":
            return self.by_digest(dtype, shape)
        if self.current.kind == "string":
            return self.from_base64(dtype, shape)
        values = self.literals()
        count = 1
        for s in shape:
            count *= s
        if len(values) != count:
            raise self.fail(f"{count} elements for shape {list(shape)}, not {len(values)}", token)
        try:
            return constant_value(np.array(values, dtype=dtype.numpy).reshape(shape), dtype)
        except (OverflowError, ValueError, TypeError) as error:
            raise self.fail(f"elements of dtype {dtype} ({error})", token) from None

    def literals(self) -> list[Any]:
        self.sign("[")
        values: list[Any] = []
        while not self.accept("]"):
            if values:
                self.sign(",")
            if self.current.kind == "number":
                values.append(self.number())
            elif self.accept("true"):
                values.append(True)
            else:
                self.sign("false")
                values.append(False)
        return values

    def by_digest(self, dtype: DType, shape: tuple[int, ...]) -> ConstantValue:
        token = self.current
        digest = self.take("digest")[1:]
        value = self.constants.get(digest)
        if value is None and not self.own_constants:
            value = by_digest(digest)
        if value is None:
            raise _format_error(
                f"line {token.line}: the constant @{digest[:12]}… is not in this text",
                "pass it: graphc.parse(text, constants=graph.constants)",
            )
        if value.dtype is not dtype or value.shape != shape:
            raise self.fail(
                f"the type of the constant, {value.dtype.short}{list(value.shape)}", token
            )
        return value

    def from_base64(self, dtype: DType, shape: tuple[int, ...]) -> ConstantValue:
        token = self.current
        try:
            data = base64.b64decode(self.string(), validate=True)
            stored = np.frombuffer(data, dtype.storage.newbyteorder("<")).reshape(shape)
        except (binascii.Error, ValueError) as error:
            raise self.fail(f"base64 of a {dtype.short}{list(shape)} ({error})", token) from None
        return from_stored(stored, dtype)


class _Scope:
    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: dict[str, Node] = {}
        self.inputs: list[tuple[str, Tensor]] = []
        self.outputs: dict[str, Tensor] = {}
        self.updates: list[tuple[Tensor, Tensor]] = []
        self.names: dict[str, Node] = {}
