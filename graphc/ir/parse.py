"""The parser of the textual form (floor 1): `parse(str(g))` equals `g`.

Linear in the text; every mistake is a FormatError with line, column, what was expected and what
came. Types are recomputed by the ops and compared with the written ones, and attributes are checked
by the ops' rules, so a text cannot lie about them.  No value is computed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Size, Symbol
from graphc.base.dtypes import DType, int64
from graphc.base.errors import FormatError, GraphcError
from graphc.base.limits import Limits
from graphc.base.spelling import close_names
from graphc.ir import provenance
from graphc.ir.bindings import Binding, size_symbol
from graphc.ir.constant import ConstantValue, by_digest, constant_value, from_stored
from graphc.ir.graph import Graph, _check_updates, interned
from graphc.ir.node import Node, Tensor, TensorType, fresh_uid, make
from graphc.ir.opdef import ATTRIBUTE_RULES, REGISTRY, OpDef
from graphc.ir.parse_sizes import SHORT, SizeReader, shape_problem
from graphc.ir.provenance import Location
from graphc.ir.tokens import Token, format_error

# What op definitions raise for operands and attributes that no builder would give them.
_MISUSE = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


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
    this process are found by themselves, unless `own_constants`. limits: what is accepted, for
    texts from strangers. file: where the text stands; nodes then point at their lines there,
    otherwise at the line that is running. Raises FormatError naming line and column.
    """
    bounds = Limits() if limits is None else limits
    # A character is at most 4 bytes: encoding is only needed near the limit.
    if 4 * len(text) > bounds.text_bytes:
        size = len(text.encode(errors="surrogatepass"))
        if size > bounds.text_bytes:
            raise format_error(
                f"expected at most {bounds.text_bytes} bytes of text (limit text_bytes), got {size}"
            )
    reader = _Reader(text, bounds, constants or {}, own_constants)
    reader.file = file
    try:
        graph = reader.graph()
        reader.expect_end()
    except RecursionError:  # nesting is bounded, but the caller may have used up the stack
        hint = "call it from a place that is less deep in calls, or raise sys.setrecursionlimit"
        raise format_error("expected less nesting: Python's stack is used up", hint) from None
    return graph


def _at_line(token: Token, error: GraphcError) -> FormatError:
    """What an op or a dim says, with the line of the text."""
    text = f"line {token.line}: {error}"
    if "  hint: " not in text:
        text += "\n  hint: correct the operands or attributes; docs/format.md lists them by op"
    return FormatError(text)


def parse_size(text: str, symbols: Iterable[Symbol]) -> Size:
    """The size that `str(size)` wrote, over the given symbols. Raises FormatError."""
    # The compiler's own numbers (of operations, say) may be larger than a file's.
    reader = SizeReader(text, Limits(size=1 << 512, size_terms=1 << 20, size_factors=1 << 20))
    for symbol in symbols:
        reader.symbols[symbol.name] = Dim.of(symbol)
    size = reader.size()
    reader.expect_end()
    return size


class _Scope:
    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: dict[str, Node] = {}
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        self.updates: dict[Tensor, Tensor] = {}
        self.names: dict[str, Node] = {}
        self.bindings: list[Binding] = []


class _Reader(SizeReader):
    def __init__(
        self,
        text: str,
        limits: Limits,
        constants: Mapping[str, ConstantValue],
        own_constants: bool,
    ) -> None:
        super().__init__(text, limits)
        self.constants = constants
        self.own_constants = own_constants
        self.file: str | None = None
        self.count = 0
        self.functions: dict[str, Graph] = {}

    # -- graphs -----------------------------------------------------------------------------------
    def graph(self) -> Graph:
        token = self.current
        self.enter()
        outer, functions = self.symbols, self.functions
        self.symbols, self.functions = dict(outer), dict(functions)
        self.sign("graph")
        scope = _Scope(self.string())
        self.sign("{")
        while not self.accept("}"):
            self.statement(scope)
        self.symbols, self.functions = outer, functions
        self.depth -= 1
        try:
            _check_updates(tuple(scope.updates.items()))
        except GraphcError as error:
            raise _at_line(token, error) from None
        return Graph.build(
            tuple(scope.inputs.items()),
            tuple(scope.outputs.items()),
            tuple(scope.updates.items()),
            scope.name,
            scope.names,
            tuple(sorted(scope.bindings, key=lambda pair: pair[0].name)),
        )

    def statement(self, scope: _Scope) -> None:
        token = self.current
        handlers: dict[str, Callable[[_Scope], None]] = {
            "function": self.function,
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
            self.advance()
            with self.located(token):
                handlers[token.text](scope)
        else:
            raise self.fail(
                "a statement (function, dim, input, variable, %label = …, output, update) or '}'"
            )

    def located(self, token: Token) -> AbstractContextManager[None]:
        """What is made inside stands on the line of `token`."""
        if self.file is None:
            return nullcontext()
        return provenance.standing_at(Location(self.file, token.line))

    def function(self, scope: _Scope) -> None:
        """`function @cell = graph "cell" {…}`: a graph for several places below."""
        token = self.current
        label = self.take("function", "a label such as @cell")
        if label in self.functions:
            raise self.fail(f"a label other than {label[:60]}, which is taken", token)
        self.sign("=")
        self.functions[label] = self.body()

    def body(self) -> Graph:
        """A graph inside another one, or the label of a function."""
        token = self.current
        if token.kind != "function":
            graph = self.graph()
            # The constants of a file are not known to have their digests: its bodies stay its own.
            return graph if self.own_constants else interned(graph)
        found = self.functions.get(self.take("function"))
        if found is None:
            raise self.fail("the label of a function above", token)
        # What a function holds counts as deep as if it were written here.
        self.limited(self.depth + found.nesting, "nesting", "nested levels", token)
        return found

    def dim(self, scope: _Scope) -> None:
        token = self.current
        name = self.new_symbol()
        bounds: dict[str, int] = {}
        while self.current.text in ("min", "max", "multiple_of"):
            key = self.take("word")
            self.sign("=")
            place = self.current
            bounds[key] = self.integer()
            if bounds[key] > self.limits.size:
                raise self.fail(f"at most {self.limits.size} (limit size)", place)
        try:
            dim = Dim(name, **bounds)
        except GraphcError as error:
            raise _at_line(token, error) from None
        if self.accept("="):
            self.symbols[name] = self.computed(scope, dim, token)
        elif self.symbols.setdefault(name, dim) != dim:
            raise self.fail("a dim with the bounds that it was declared with above", token)
        self.limited(len(self.symbols), "symbols", "dims", token)

    def computed(self, scope: _Scope, dim: Dim, token: Token) -> Dim:
        """The rest of `dim k min=0 = %5`: a size that the graph computes."""
        (declared,) = dim.symbols()
        if declared.name in self.symbols:
            raise self.fail("a dim of another name: this one is declared above", token)
        place = self.current
        count = self.tensor(scope)
        if count.type != TensorType((), int64):
            raise self.fail(f"the label of an i64[], not of {count.type}", place)
        symbol = size_symbol(
            count, declared.name, declared.min, declared.max, declared.multiple_of, exact=True
        )
        scope.bindings.append((symbol, count))
        return Dim.of(symbol)

    def input(self, scope: _Scope) -> None:
        label = self.new_label(scope)
        token = self.current
        name = self.string()
        if name in scope.inputs:
            raise self.fail("an input name that is not taken", token)
        found = self.type()
        attrs = (name, found.shape, found.dtype, fresh_uid())
        node = make(REGISTRY["placeholder"], (), attrs)
        assert isinstance(node, Tensor)
        scope.inputs[name] = node
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
        if self.current.text != "const":
            raise self.fail("a constant")
        node = make(REGISTRY["variable"], (), (name, self.constant(), trainable, fresh_uid()))
        self.check_type(node)
        self.define(scope, label, node, extra=(name,) if name else ())

    def node(self, scope: _Scope) -> None:
        start = self.current
        label = self.new_label(scope)
        self.sign("=")
        token = self.current
        name = self.take("word", "the name of an op")
        if name not in REGISTRY or name in ("placeholder", "variable"):
            near = close_names(name[:60], [op.name for op in REGISTRY], cutoff=0.5)
            hint = f"ops of that kind: {', '.join(near)}" if near else None
            raise self.fail("the name of an op that graphc has", token, hint)
        op = REGISTRY[name]
        inputs = self.operands(scope)
        attrs = self.attributes(op.attributes, name)
        try:
            self.check_attributes(op, inputs, attrs)
            node = make(op, inputs, attrs)
        except GraphcError as error:
            raise _at_line(start, error) from None
        except _MISUSE as error:
            what = f"{name} does not accept these operands and attributes: {error}"
            raise format_error(f"line {start.line}: {what}") from None
        types = (node.type,) if isinstance(node.type, TensorType) else node.type.items
        for t in types:
            problem = shape_problem(t.shape, t.dtype.itemsize, self.limits)
            if problem:
                raise self.fail(f"{problem} as the result of {name}", start)
        self.check_type(node)
        self.define(scope, label, node)

    def check_attributes(self, op: OpDef, inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> None:
        problem = None
        if op.dtypes and inputs and isinstance(inputs[0], Tensor):
            if inputs[0].dtype not in op.dtypes:
                names = " ".join(d.short for d in op.dtypes)
                problem = f"expected a first operand of {names}, got {inputs[0].type}"
        if problem is None and op.name in ATTRIBUTE_RULES:
            problem = ATTRIBUTE_RULES[op.name](inputs, attrs, self.limits)
        elif problem is None:
            problem = "an op without a rule for its attributes is not read from text"
        if problem:
            raise format_error(f"{op.name}: {problem}", "docs/format.md lists ops and attributes")

    def output(self, scope: _Scope) -> None:
        token = self.current
        name = self.string()
        self.sign("=")
        if name in scope.outputs:
            raise self.fail("an output name that is not taken", token)
        scope.outputs[name] = self.tensor(scope)

    def update(self, scope: _Scope) -> None:
        token = self.current
        variable = self.tensor(scope)
        self.sign("=")
        if variable in scope.updates:
            raise self.fail("a variable that has no update yet", token)
        scope.updates[variable] = self.tensor(scope)

    # -- parts ------------------------------------------------------------------------------------
    def new_label(self, scope: _Scope) -> str:
        token = self.current
        label = self.take("label", "a label such as %0")[1:]
        if label in scope.nodes:
            raise self.fail(f"a label other than %{label[:60]}, which is taken", token)
        self.count += 1
        self.limited(self.count, "nodes", "nodes", token)
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
            self.limited(len(found), "operands", "operands", token)
        return tuple(found)

    def attributes(self, expected: tuple[str, ...], op: str) -> tuple[Any, ...]:
        found: dict[str, Any] = {}
        token = self.current
        if self.accept("{"):
            while not self.accept("}"):
                if found:
                    self.sign(",")
                key = self.take("word", "the name of an attribute")
                if key not in expected or key in found:
                    raise self.wrong_attributes(expected, op, token)
                self.sign("=")
                found[key] = self.value()
        if tuple(found) != expected:
            raise self.wrong_attributes(expected, op, token)
        return tuple(found.values())

    def wrong_attributes(self, expected: tuple[str, ...], op: str, token: Token) -> FormatError:
        names = ", ".join(expected) or "none"
        return self.fail(f"the attributes of {op}: {names} (in this order)", token)

    def define(self, scope: _Scope, label: str, node: Node, extra: tuple[str, ...] = ()) -> None:
        scope.nodes[label] = node
        names = list(extra) if extra and (label.isdigit() or label in extra) else [label, *extra]
        if not extra and label.isdigit():
            names = []
        while self.accept("name"):
            names.append(self.string())
        for name in names:
            if scope.names.setdefault(name, node) is not node:
                raise self.fail(f"a name other than {name[:60]!r}, which is taken")

    def check_type(self, node: Node) -> None:
        token = self.current
        written = self.result_type()
        if node.type != written:
            raise self.fail(
                f"the type {node.type} that {node.op.name} computes",
                Token("type", str(written), token.line, token.column),
                "types follow from the operands: correct the type, or the operands",
            )

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
            self.advance()
            size = self.size()
            self.sign(">")
            return size
        if token.text == "const":
            return self.constant()
        if token.text == "graph" or token.kind == "function":
            return self.body()
        words: dict[str, Any] = {"none": None, "true": True, "false": False}
        name = self.take("word", "a value")
        if name in words:
            return words[name]
        if name in SHORT:
            return SHORT[name]
        raise self.fail("a value", token)

    def sequence(self) -> tuple[Any, ...]:
        self.enter()
        self.sign("(")
        items: list[Any] = []
        while not self.accept(")"):
            if items:
                self.sign(",")
                if self.accept(")"):
                    break
            items.append(self.value())
            self.limited(len(items), "tuple_items", "values")
        self.depth -= 1
        return tuple(items)

    def constant(self) -> ConstantValue:
        self.sign("const")
        token = self.current
        found = self.bare_type()
        shape = tuple(s for s in found.shape if isinstance(s, int))
        if len(shape) != len(found.shape):
            raise self.fail("a constant of known shape", token)
        if self.current.kind == "digest":
            return self.by_digest(found.dtype, shape)
        if self.current.kind == "string":
            return self.from_base64(found.dtype, shape)
        return self.from_literals(found.dtype, shape, token)

    def from_literals(self, dtype: DType, shape: tuple[int, ...], token: Token) -> ConstantValue:
        values = self.literals(dtype)
        count = 1
        for s in shape:
            count *= s
        if len(values) != count:
            raise self.fail(f"{count} elements for shape {list(shape)}, not {len(values)}", token)
        try:
            with np.errstate(over="ignore"):  # 1e99 is an infinity in float32
                array = np.array(values, dtype=dtype.numpy).reshape(shape)
        except (OverflowError, ValueError, TypeError) as error:
            raise self.fail(f"elements of dtype {dtype} ({error})", token) from None
        return constant_value(array, dtype)

    def literals(self, dtype: DType) -> list[Any]:
        self.sign("[")
        values: list[Any] = []
        while not self.accept("]"):
            if values:
                self.sign(",")
            token = self.current
            if token.kind == "number" and not dtype.is_bool:
                value = self.number()
                if isinstance(value, float) and not dtype.is_float:
                    raise self.fail(f"an integer for {dtype}", token)
                values.append(value)
            elif self.accept("true"):
                values.append(True)
            else:
                self.sign("false")
                values.append(False)
            self.limited(len(values), "literal_elements", "elements")
        return values

    def by_digest(self, dtype: DType, shape: tuple[int, ...]) -> ConstantValue:
        token = self.current
        digest = self.take("digest")[1:]
        value = self.constants.get(digest)
        if value is None and not self.own_constants:
            value = by_digest(digest)
        if value is None:
            raise format_error(
                f"line {token.line}: the constant @{digest[:12]}… is not in this "
                + ("file" if self.own_constants else "text"),
                "pass it: graphc.parse(text, constants=graph.constants)",
            )
        if value.dtype is not dtype or value.shape != shape:
            raise self.fail(
                f"the type of the constant, {value.dtype.short}{list(value.shape)}", token
            )
        return value

    def from_base64(self, dtype: DType, shape: tuple[int, ...]) -> ConstantValue:
        token = self.current
        self.limited(len(token.text) * 3 // 4, "inline_bytes", "bytes of base64", token)
        try:
            data = base64.b64decode(self.string(long=True), validate=True)
            if not data:
                raise ValueError("no bytes")
            stored = np.frombuffer(data, dtype.storage.newbyteorder("<")).reshape(shape)
        except (binascii.Error, ValueError) as error:
            raise self.fail(f"base64 of a {dtype.short}{list(shape)} ({error})", token) from None
        return from_stored(stored, dtype)
