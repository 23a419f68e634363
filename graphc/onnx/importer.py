"""From an ONNX model to a graph (floor 8).

The importer walks the nodes in their order and asks for each the handler of its operator
(`context.op`), which builds tensors with graphc's own functions. An operator without a handler is
expanded: a function of the model itself, or else the function body that ONNX gives for it; else an
UnsupportedError names it. Handlers live in the `ops_*` modules, one theme each.

What must be known when compiling (axes, ranks, repetitions …) is known where it is computed from
initializers and shapes; where it comes from an input, `InputNeeded` names that input, and
`constants` fixes it.

Invariants: a name is bound once per scope, and before it is used; every list that a file can make
long is bounded by `Limits`; subgraphs and functions are walked to a bounded depth, and the nodes
that come from functions and unrolled loops count against a bound.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphc.base.dims import Dim, Size, symbols
from graphc.base.errors import (
    FormatError,
    GraphcError,
    GraphError,
    ShapeError,
    UnsupportedError,
    message,
    what_and_hint,
)
from graphc.base.limits import Limits
from graphc.ir import provenance
from graphc.ir.bindings import bindings_of, declared_count
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor
from graphc.onnx import operators
from graphc.onnx.context import Context, Result, handler_of
from graphc.onnx.declared import (
    check_declared,
    computed_size,
    dim_names,
    given_value,
    may_stand,
    symbol_text,
    unused,
)
from graphc.onnx.elements import DTYPES, name_of
from graphc.onnx.exact_sizes import divided
from graphc.onnx.narrow import CARRIED
from graphc.onnx.pictures import is_read, pictures_of
from graphc.onnx.reader import Model, domain_of, read_file
from graphc.onnx.refusal import InputNeeded, bad, needed, shown, unsupported
from graphc.onnx.schemas import (
    body_of,
    check_types,
    checked_attributes,
    default_protos,
    resolved,
    schema_of,
)
from graphc.onnx.size_arithmetic import sizes_result
from graphc.onnx.values import (
    ForeignValue,
    OptionalValue,
    SequenceValue,
    TensorValue,
    Value,
    of_tensor,
    sources,
)
from graphc.ops.state import placeholder

EXPANDED_NODES = 50_000  # nodes that functions and unrolled loops may make
DEPTH = 32  # subgraphs and functions inside each other

_LOADED = operators.THEMES  # what they register is used here


@dataclass(frozen=True)
class Imported:
    """A graph, and how its outputs make the model's: a name, a list of such, or None per output."""

    graph: Graph
    structure: tuple[Any, ...]
    legal: dict[str, str]  # names of inputs in the graph by the model's, decoded ones included
    carried: dict[str, int]  # ONNX types of the outputs that are of no dtype of graphc


@dataclass
class Scope:
    """Names of a graph or function, inside those of `parent`; `attributes`: a function's own."""

    place: str
    opsets: Mapping[str, int]
    parent: Scope | None = None
    attributes: Mapping[str, Any] | None = None
    depth: int = 0
    values: dict[str, Value] = field(default_factory=dict)

    def find(self, name: str) -> Value | None:
        """The value of a name, here or outside."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.parent
        return None

    def bind(self, name: str, value: Value) -> None:
        """Give a name its value. Raises FormatError for a name that has one."""
        if name in self.values:
            bad(self.place, f"the name {shown(name)} is given twice")
        self.values[name] = value


def import_file(
    path: str | os.PathLike[str],
    constants: Mapping[str, Any],
    sizes: Mapping[str, Size | str],
    limits: Limits,
) -> Imported:
    """The graph of a file."""
    return import_model(read_file(path, limits), constants, sizes, Path(path).stem)


def import_model(
    model: Model,
    constants: Mapping[str, Any] | None = None,
    sizes: Mapping[str, Size | str] | None = None,
    name: str = "model",
) -> Imported:
    """The graph of a checked model. Raises FormatError, UnsupportedError, GraphError."""
    with provenance.recording(False):
        return Importer(model, constants or {}, sizes or {}).run(name)


class Importer:
    """One import. input_names: the model's names of inputs by those in the graph. decoded: what
    stands for pictures that are inputs, by the names of the decoded tensors.
    """

    def __init__(
        self, model: Model, constants: Mapping[str, Any], sizes: Mapping[str, Size | str]
    ) -> None:
        self.model = model
        self.limits = model.limits
        self.input_names: dict[str, str] = {}
        self.decoded: dict[str, Value] = {}
        self._constants = constants
        self._sizes = sizes
        self._symbols: dict[str, Size] = {}
        self._symbol_names: dict[str, int] = {}
        self._dim_names = dim_names(model.proto.graph.input)
        self._legal: dict[str, str] = {}
        self._legal_names: dict[str, int] = {}
        self._inputs: list[tuple[str, Tensor]] = []
        self._pictures = list(pictures_of(model.proto, constants))
        self._carried: dict[str, int] = {}
        self._expanded = 0
        self.randoms = 0  # random nodes so far: each has a seed of its own

    def run(self, name: str) -> Imported:
        """Walk the main graph."""
        proto = self.model.proto.graph
        scope = Scope(f"graph {shown(proto.name)}", self.model.opsets)
        self._read_initializers(proto, scope)
        self._read_inputs(proto, scope)
        self._check_given()
        self.run_nodes(proto.node, scope)
        outputs: list[tuple[str, Tensor]] = []
        structure = tuple(self._output(info, scope, outputs) for info in proto.output)
        self._leave_out_encoded(scope, [t for _, t in outputs])
        names = self._names(scope, outputs)
        sizes = bindings_of([t for _, t in (*self._inputs, *outputs)])
        graph = Graph.build(tuple(self._inputs), tuple(outputs), (), name, names, sizes)
        legal = {name: self._legal[name] for name in (*self.input_names.values(), *self.decoded)}
        return Imported(graph, structure, legal, self._carried)

    # -- inputs and outputs -----------------------------------------------------------------------
    def _read_initializers(self, proto: Any, scope: Scope) -> None:
        for tensor in proto.initializer:
            where = f"{scope.place}: initializer {shown(tensor.name)}"
            if not tensor.name:
                bad(where, "it has no name")
            scope.bind(tensor.name, self.model.tensors.read(where, tensor))
        for sparse in proto.sparse_initializer:
            name = sparse.values.name
            where = f"{scope.place}: sparse initializer {shown(name)}"
            scope.bind(name, self.model.tensors.sparse(where, sparse))

    def _read_inputs(self, proto: Any, scope: Scope) -> None:
        seen: set[str] = set()
        for info in proto.input:
            where = f"{scope.place}: input {shown(info.name)}"
            if not info.name:
                bad(where, "it has no name")
            if info.name in seen:
                bad(where, "two inputs have this name")
            seen.add(info.name)
            if info.name in scope.values and info.name not in self._constants:
                continue  # an initializer is the value of its input
            scope.values[info.name] = self._input(info, where)
            for picture in (p for p in self._pictures if p.input == info.name):
                value = self._input(picture.declared(), picture.where)
                self.decoded[picture.output] = value
                # Where its value must be known, that of the encoded picture may be given.
                self.input_names[self._legal[picture.output]] = info.name

    def _leave_out_encoded(self, scope: Scope, outputs: Sequence[Tensor]) -> None:
        """Take the encoded pictures from the inputs of which nothing but their pixels is used."""
        for name in {p.input for p in self._pictures}:
            value = scope.values[name]
            if isinstance(value, TensorValue) and not is_read(value, outputs):
                del scope.values[name]
                self._inputs = [(n, t) for n, t in self._inputs if t is not value.tensor]

    def _input(self, info: Any, where: str) -> Value:
        kind = info.type.WhichOneof("value")
        if info.name in self._constants:
            return given_value(self._constants[info.name], info.type, where)
        if kind is None:
            bad(where, "it has no type")
        if kind in ("sequence_type", "optional_type", "map_type", "sparse_tensor_type"):
            return ForeignInput(kind.removesuffix("_type"), info.name)
        tensor_type = info.type.tensor_type
        element = tensor_type.elem_type
        dtype = DTYPES.get(element) or CARRIED.get(element)
        if dtype is None:
            if name_of(element).startswith("number"):
                bad(where, f"the element type {element} is unknown")
            return ForeignValue(name_of(element))
        if not tensor_type.HasField("shape"):
            return ForeignInput("tensor of unknown rank", info.name)
        shape = self._shape(tensor_type.shape.dim, where, info.name)
        name = self._legal_name(info.name)
        tensor = placeholder(shape, dtype, name)
        self.input_names[name] = info.name
        self._inputs.append((name, tensor))
        return TensorValue(tensor, element=element)

    def _shape(self, dims: Any, where: str, name: str) -> tuple[Size, ...]:
        if len(dims) > self.limits.rank:
            bad(where, f"{len(dims)} dims, expected at most {self.limits.rank} (limit rank)")
        shape: list[Size] = []
        for axis, dim in enumerate(dims):
            if dim.HasField("dim_value"):
                size = dim.dim_value
                if not 0 <= size <= self.limits.size:
                    bad(where, f"dim {axis} is {size}, expected 0 to {self.limits.size}")
                shape.append(size)
            else:
                shape.append(self._symbol(symbol_text(dim, name, axis)))
        if math.prod(s for s in shape if isinstance(s, int)) > self.limits.size:
            bad(where, "its dims are too large (limit size)")
        return tuple(shape)

    def _symbol(self, text: str) -> Size:
        """The dim of a dim_param: under its own name where that is an identifier, computed where it
        is a sum or product of others.
        """
        if text not in self._symbols:
            computed = self._computed(text)
            if computed is not None:
                if isinstance(computed, int) and not 0 <= computed <= self.limits.size:
                    bad(f"dim {shown(text)}", f"it is {computed}, not 0 to {self.limits.size}")
                self._symbols[text] = computed
                return computed
            label = "".join(c if c.isalnum() or c == "_" else "_" for c in text)[:64] or "n"
            label = label if label.isidentifier() else f"n_{label}"
            unique = unused(label, self._symbol_names)
            if len(self._symbols) >= self.limits.symbols:
                bad("the model", f"more than {self.limits.symbols} symbolic dims (limit symbols)")
            fixed = self._sizes.get(text, self._sizes.get(unique))
            if not isinstance(fixed, Dim):
                fixed = Dim(unique) if fixed is None else int(fixed)
            elif other := {s.name for s in fixed.symbols()} & (self._dim_names - {text}):
                what = f"sizes: {text!r} cannot be {fixed}: {min(other)!r} is another dim"
                raise GraphError(message(what, hint=f"say so by a text: {{{text!r}: '{fixed}'}}"))
            self._symbols[text] = fixed
        return self._symbols[text]

    def _computed(self, text: str) -> Size | None:
        given = self._sizes.get(text)
        known = self._dim_names - {n for n, v in self._sizes.items() if isinstance(v, str)} - {text}
        if not isinstance(given, str):
            return computed_size(text, known, self._symbol)
        size = computed_size(f"({given})", known, self._symbol)
        if size is None:
            what = f"sizes: {text!r} cannot be {given!r}"
            names = ", ".join(sorted(known)) or "none"
            hint = f"write a sum or product of integers and other dims of inputs: {names}"
            raise GraphError(message(what, hint=hint))
        return size

    def _legal_name(self, name: str) -> str:
        """A name of the model as a name of the graph: the same wherever that is legal."""
        if name not in self._legal:
            label = name[: self.limits.name_length]
            label = "".join("_" if not may_stand(c) else c for c in label) or "_"
            self._legal[name] = unused(label, self._legal_names)
        return self._legal[name]

    def _check_given(self) -> None:
        known = [i.name for i in self.model.proto.graph.input]
        for name in self._constants:
            if name not in known:
                what = f"constants: the model has no input {name!r}"
                raise GraphError(message(what, hint=f"its inputs: {', '.join(known)}"))
        for label in self._sizes:
            if label not in self._symbols and label not in self._symbol_names:
                what = f"sizes: the model has no symbolic dim {label!r}"
                raise GraphError(message(what, hint=f"it has: {', '.join(self._symbols)}"))

    def _output(self, info: Any, scope: Scope, outputs: list[tuple[str, Tensor]]) -> Any:
        """The structure of one output; its tensors are added to `outputs`."""
        where = f"{scope.place}: output {shown(info.name)}"
        value = scope.values.get(info.name)
        if value is None:
            bad(where, "no node gives it")
        check_declared(value, info.type, where)
        return self._flatten(value, self._legal_name(info.name), where, outputs)

    def _flatten(
        self, value: Value, label: str, where: str, outputs: list[tuple[str, Tensor]]
    ) -> Any:
        if isinstance(value, SequenceValue):
            return [
                self._flatten(item, f"{label}.{k}", where, outputs)
                for k, item in enumerate(value.items)
            ]
        if isinstance(value, OptionalValue):
            if value.item is None:
                return None
            return self._flatten(value.item, label, where, outputs)
        if isinstance(value, ForeignInput):
            raise value.needed(where)
        if isinstance(value, ForeignValue):
            unsupported(where, f"it is of type {value.what}, which graphc does not have")
        assert isinstance(value, TensorValue)
        if not value.plain:
            self._carried[label] = value.element
        outputs.append((label, value.tensor))
        return label

    def _names(self, scope: Scope, outputs: Sequence[tuple[str, Tensor]]) -> dict[str, Node]:
        names: dict[str, Node] = dict(self._inputs)
        names |= outputs
        for name, value in scope.values.items():
            if isinstance(value, TensorValue) and value.used:
                names.setdefault(self._legal_name(name), value.tensor)
        return names

    # -- nodes ------------------------------------------------------------------------------------
    def run_nodes(self, nodes: Any, scope: Scope) -> None:
        """Bind the outputs of nodes, in order."""
        if len(nodes) > self.limits.nodes:
            bad(scope.place, f"{len(nodes)} nodes (limit nodes)")
        for k, node in enumerate(nodes):
            label = shown(node.name) if node.name else f"{k}"
            self._run_node(node, scope, f"{scope.place}: node {label} ({node.op_type})")

    def _run_node(self, node: Any, scope: Scope, where: str) -> None:
        inputs: list[Value | None] = []
        for name in node.input:
            value = scope.find(name) if name else None
            if isinstance(value, Missing):
                value, name = None, ""
            if name and value is None:
                bad(
                    where,
                    f"it uses {shown(name)}, which no input, initializer or earlier node gives",
                    "nodes stand in the order in which they run; a circle has no such order",
                )
            inputs.append(value)
        results = self.apply(node, scope, where, inputs)
        if len(results) < len(node.output):
            bad(where, f"it names {len(node.output)} outputs, and has {len(results)}")
        for name, result in zip(node.output, results):
            if name and result is None:
                bad(where, f"output {shown(name)} does not exist for these operands")
            if name and result is not None:
                scope.bind(name, result)

    def apply(
        self, node: Any, scope: Scope, where: str, inputs: Sequence[Value | None]
    ) -> list[Value | None]:
        """The outputs of a node."""
        domain = domain_of(node.domain)
        function = self.model.functions.get((domain, node.op_type, node.overload))
        if function is not None:
            return self._call(function, node, scope, where, inputs)
        version = scope.opsets.get(domain)
        if version is None:
            bad(where, f"its domain {shown(domain)} is not among the imported opsets")
        schema = schema_of(domain, node.op_type, version)
        if schema is None:
            unsupported(
                where,
                f"the operator {node.op_type} of domain {shown(domain)} in opset {version} is not "
                "one that graphc knows",
            )
        attributes = checked_attributes(
            node, schema, where, scope.attributes, self.model.tensors, len(inputs)
        )
        for k, value in enumerate(inputs):
            if isinstance(value, ForeignInput):
                raise value.needed(f"{where}: operand {k}")
        check_types(schema, inputs, where)
        if domain == "" and len(node.output) == 1 and all(_is_sizes(v) for v in inputs):
            operands = [v for v in inputs if isinstance(v, TensorValue)]
            sizes = sizes_result(node.op_type, version, operands, attributes)
            if sizes is not None:
                return [sizes]
        handler = handler_of(domain, node.op_type, version)
        if handler is None:
            return self._expand(schema, node, scope, where, inputs, attributes)
        context = Context(self, scope, node, where, version, inputs, attributes)
        try:
            return _as_values(handler(context))
        except InputNeeded as error:
            raise _placed(error, where) from None
        except (GraphcError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            # Besides GraphcErrors: what Python says of numbers in a file that no handler expects,
            # a missing axis, a size of 0 to divide by.
            self._check_decided(error, where, inputs, context.computed)
            if isinstance(error, FormatError | UnsupportedError):
                raise _placed(error, where) from None
            if isinstance(error, GraphcError):
                what, hint = what_and_hint(error)
                raise FormatError(message(f"{where}: {what}", at="", hint=hint)) from None
            what = f"operands and attributes do not fit: {type(error).__name__}: {error}"
            raise FormatError(message(f"{where}: {what}", at="")) from error

    def _check_decided(
        self,
        error: Exception,
        where: str,
        inputs: Sequence[Value | None],
        computed: Sequence[Size],
    ) -> None:
        """Raise InputNeeded where an operator fails on symbolic sizes: with numbers it may not.

        computed: sizes that the node computes from values of its operands.
        """
        shapes = [v.shape for v in inputs if isinstance(v, TensorValue)]
        found = {s for shape in (*shapes, tuple(computed)) for s in symbols(shape)}
        names, sizes = sources([c for c in map(declared_count, found) if c is not None])
        given = [self.input_names[n] for n in names if n in self.input_names]
        if isinstance(error, ShapeError | UnsupportedError):
            sizes = list(dict.fromkeys([*sizes, *sorted(s.name for s in found if not s.origin)]))
        elif not given:
            return
        if given or sizes:
            what = what_and_hint(error)[0] if isinstance(error, GraphcError) else str(error)
            what = what.removeprefix(f"{where}: ")
            raise needed(where, f"{what}: the sizes", given, sizes, divided(shapes))

    def _expand(
        self,
        schema: Any,
        node: Any,
        scope: Scope,
        where: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any],
    ) -> list[Value | None]:
        version = scope.opsets[domain_of(node.domain)]
        body = body_of(schema, node, version, inputs)
        if body is None:
            for k, value in enumerate(inputs):
                if isinstance(value, ForeignValue):
                    what = f"operand {k} is of type {value.what}, which graphc does not have"
                    unsupported(where, f"{what}, and there is no operator {node.op_type}")
            unsupported(
                where,
                f"the operator {node.op_type} of domain {shown(domain_of(node.domain))} "
                f"(opset {version}) is not supported",
            )
        return self._call(body, node, scope, where, inputs, default_protos(schema))

    def _call(
        self,
        function: Any,
        node: Any,
        scope: Scope,
        where: str,
        inputs: Sequence[Value | None],
        defaults: Mapping[str, Any] | None = None,
    ) -> list[Value | None]:
        """The outputs of a function, by its nodes. defaults: its attributes where none is given."""
        self.count(len(function.node), where)
        if len(inputs) > len(function.input):
            bad(where, f"{len(inputs)} operands, expected at most {len(function.input)}")
        given = {a.name: a for a in node.attribute}
        given = {k: r for k, a in given.items() if (r := resolved(a, scope.attributes)) is not None}
        given = {**(defaults or {a.name: a for a in function.attribute_proto}), **given}
        opsets = {domain_of(i.domain): i.version for i in function.opset_import}
        inner = Scope(where, {**scope.opsets, **opsets}, None, given, scope.depth + 1)
        self._check_depth(inner)
        for k, name in enumerate(function.input):
            value = inputs[k] if k < len(inputs) else None
            inner.bind(name, value if value is not None else Missing())
        self.run_nodes(function.node, inner)
        results: list[Value | None] = []
        for k, name in enumerate(function.output):
            if name not in inner.values and k < len(node.output) and node.output[k]:
                bad(where, f"no node of the function gives its output {shown(name)}")
            results.append(inner.values.get(name))
        return results

    def run_subgraph(
        self, graph: Any, scope: Scope, values: Sequence[Value], where: str
    ) -> list[Value]:
        """The outputs of a subgraph, which sees the names of `scope`."""
        self.count(len(graph.node), where)
        place = f"{where}: graph {shown(graph.name)}"
        inner = Scope(place, scope.opsets, scope, scope.attributes, scope.depth + 1)
        self._check_depth(inner)
        self._read_initializers(graph, inner)
        names = [i.name for i in graph.input]
        if len(names) != len(values):
            bad(place, f"it has {len(names)} inputs, expected {len(values)}")
        for name, value in zip(names, values):
            inner.bind(name, value)
        self.run_nodes(graph.node, inner)
        results: list[Value] = []
        for info in graph.output:
            found = inner.find(info.name)  # an outer name may be given back as it is
            if found is None:
                bad(place, f"no node gives its output {shown(info.name)}")
            results.append(found)
        return results

    def count(self, nodes: int, where: str) -> None:
        """Count nodes that come from functions, subgraphs and unrolled loops."""
        self._expanded += nodes
        if self._expanded > EXPANDED_NODES:
            bad(where, f"functions and loops make more than {EXPANDED_NODES} nodes")

    def _check_depth(self, scope: Scope) -> None:
        if scope.depth > min(DEPTH, self.limits.nesting):
            bad(scope.place, f"graphs and functions inside each other to a depth above {DEPTH}")


class Missing(OptionalValue):
    """An operand of a function that its caller left out."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(None)


class ForeignInput(ForeignValue):
    """An input whose kind or rank is known only with its value."""

    __slots__ = ("name",)

    def __init__(self, what: str, name: str) -> None:
        super().__init__(what)
        self.name = name

    def needed(self, where: str) -> Exception:
        """The error that asks for the input's value."""
        return needed(where, f"the {self.what} {shown(self.name)}", [self.name], [])


def _as_values(result: Result) -> list[Value | None]:
    """What a handler gave, as values."""
    if isinstance(result, Tensor | Value) or result is None:
        result = [result]
    return [of_tensor(r) if isinstance(r, Tensor) else r for r in result]


def _placed(error: GraphcError, where: str) -> GraphcError:
    """The error with its place in front, unless it names one inside."""
    text = str(error)
    if text.startswith(where):
        return error
    what, hint = what_and_hint(error)
    text = message(f"{where}: {what}", at="", hint=hint)
    if isinstance(error, InputNeeded):
        return InputNeeded(text, error.inputs, error.sizes)
    return type(error)(text)


def _is_sizes(value: Value | None) -> bool:
    return isinstance(value, TensorValue) and value.plain and value.sizes is not None
