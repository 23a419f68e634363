"""From a graphc graph to an ONNX model (floor 8).

The declared graph is exported, not the optimized one: convolutions, pools and softmax are still
whole there. Composite ops that ONNX has no word for are expanded; groups that are one operator are
found; then each node is written, inputs before users, under the user's name where it has one.
Everything is made in memory first: what cannot be said raises before a file is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from graphc.base.errors import GraphError, UnsupportedError, message
from graphc.ir import provenance as places
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, TensorType, describe
from graphc.onnx.exporting import (  # noqa: F401  # they fill the table of exporters
    control,
    elementwise,
    gathers,
    products,
    reductions,
    views,
)
from graphc.onnx.exporting.group import Asked, Match
from graphc.onnx.exporting.patterns import match
from graphc.onnx.exporting.sizes import Sizes
from graphc.onnx.exporting.table import EXPORTERS, REFUSED, Making, Results, export_node
from graphc.onnx.exporting.writer import Value, Writer, value_info
from graphc.ops.families import Composite
from graphc.rewrite.driver import RuleSet, rewrite
from graphc.rewrite.pattern import EXACT, node_rule
from graphc.version import __version__

OLDEST = 18  # reductions take their axes as operands, integers have bits


def model_of(graph: Graph, opset: int, *, provenance: bool = True) -> onnx.ModelProto:
    """The ONNX model of a graph with the current values of its variables.

    Raises UnsupportedError for what ONNX cannot say, GraphError for an unknown opset.
    """
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise GraphError(
            message(
                f"export to ONNX: opset must be from {OLDEST} to {newest}, got {opset!r}",
                hint="leave it out for the default",
            )
        )
    if graph.updates:
        variable, _ = graph.updates[0]
        named = ", ".join(graph.name_of(v) for v, _ in graph.updates[:4])
        raise UnsupportedError(
            message(
                f"export to ONNX: the graph updates variables ({named}), and an ONNX model has no "
                "state",
                operands=[describe(variable)],
                at=places.where(variable),
                hint="export a graph without updates: graphc.Graph(inputs, outputs)",
            )
        )
    return _Model(prepared(graph.with_current_values()), opset, provenance).proto()


# -- before nodes are written ---------------------------------------------------------------------


def _any(op: str, children: tuple[str, ...]) -> bool:
    return True


def needs_expansion(node: Node) -> bool:
    """Whether a node is written as what it is made of."""
    if not isinstance(node.op.form, Composite) or node.op.name in REFUSED:
        return False
    if node.op.name == "conv":  # ONNX's has floats only
        return isinstance(node, Tensor) and not node.dtype.is_float
    return node.op.name not in EXPORTERS


@node_rule(cls=EXACT, accepts=_any)
def expand_for_onnx(node: Tensor) -> Tensor | None:
    """f(x) = its definition out of ops that ONNX has"""
    form = node.op.form
    return form.expand(node) if isinstance(form, Composite) and needs_expansion(node) else None


_EXPANSION = RuleSet([expand_for_onnx])


def prepared(graph: Graph) -> Graph:
    """The graph without composite ops that ONNX has no operator for."""
    if not any(needs_expansion(n) for n in graph.nodes):
        return graph
    return rewrite(graph, _EXPANSION, stage="export-onnx")[0]


@dataclass(frozen=True)
class _Step:
    """A node to write, with the group of nodes that it ends."""

    node: Node
    group: Match | None


def steps_of(graph: Graph, opset: int) -> list[_Step]:
    """What is written, in order: the nodes that outputs need, each group as its last node."""
    users: dict[int, int] = {}
    for node in graph.nodes:
        for x in node.inputs:
            users[id(x)] = users.get(id(x), 0) + 1
    named = {id(n) for n in graph.names.values()} | {id(t) for _, t in graph.outputs}

    def alone(node: Node) -> bool:
        return users.get(id(node), 0) == 1 and id(node) not in named

    asked = Asked(alone, opset)
    # Counts are needed by whatever has their symbol in its shape: they come before it.
    needed = {id(t) for _, t in (*graph.outputs, *graph.bindings)}
    steps: list[_Step] = []
    for node in reversed(graph.nodes):
        if id(node) not in needed or node.op.name == "placeholder":
            continue
        group = match(node, asked)
        needed.update(id(x) for x in (node.inputs if group is None else group.inputs))
        steps.append(_Step(node, group))
    return steps[::-1]


# -- writing --------------------------------------------------------------------------------------


class _Model:
    def __init__(self, graph: Graph, opset: int, provenance: bool) -> None:
        self._graph = graph
        self._opset = opset
        self._writer = Writer(opset, provenance)
        self._sizes = Sizes(self._writer)
        self._making = Making(self._writer, self._sizes, self._body)
        self._prepared: dict[int, Graph] = {}

    def proto(self) -> onnx.ModelProto:
        graph, w = self._graph, self._writer
        names = self._names()
        values: dict[int, Results] = {id(t): Value(name, t.dtype) for name, t in graph.inputs}
        self._sizes.read_from([(t, Value(name, t.dtype)) for name, t in graph.inputs])
        for node in graph.variables:
            value = node.attr("value")
            label = names.get(id(node)) or w.unique(graph.name_of(node))
            values[id(node)] = w.stored(value.stored, node.dtype, label, own=True)
        counts = {id(count): symbol for symbol, count in graph.bindings}
        for step in steps_of(graph, self._opset):
            if step.node.op.name != "variable":
                wanted = names.get(id(step.node))
                self._write(step, values, wanted, wanted or graph.name_of(step.node))
            if id(step.node) in counts:
                self._sizes.bind(counts[id(step.node)], _one(values[id(step.node)]))
        outputs = []
        for name, tensor in graph.outputs:
            found = values[id(tensor)]
            assert isinstance(found, Value)
            if found.name != name:
                w.node = tensor
                start = len(w.scope.nodes)
                copy = w.op("Identity", found, dtype=found.dtype)
                w.finish(copy, start, name, True)
            outputs.append(value_info(name, tensor.type))
        inputs = [value_info(name, t.type) for name, t in graph.inputs]
        listed = {*dict(graph.outputs), *dict(graph.inputs)}
        made = onnx.helper.make_graph(
            w.scope.nodes,
            graph.name,
            inputs,
            outputs,
            initializer=w.initializers,
            value_info=[value_info(n, t) for n, t in w.scope.types.items() if n not in listed],
        )
        opsets = [onnx.helper.make_opsetid("", self._opset)]
        return onnx.helper.make_model(
            made,
            opset_imports=opsets,
            ir_version=onnx.helper.find_min_ir_version_for(opsets),
            producer_name="graphc",
            producer_version=__version__,
        )

    def _names(self) -> dict[int, str]:
        """The name of each node that the user named; outputs and inputs have theirs first."""
        graph, w = self._graph, self._writer
        owners = {name: id(t) for name, t in graph.outputs}
        owners |= {name: id(t) for name, t in graph.inputs}
        for name in owners:
            w.reserve(name)
        found = {id(t): name for name, t in reversed(graph.outputs)}
        for name, node in graph.names.items():
            if id(node) not in found:
                own = owners.get(name) == id(node)
                found[id(node)] = name if own else w.unique(name)
        return found

    def _write(
        self, step: _Step, values: dict[int, Results], wanted: str | None, label: str
    ) -> None:
        """Write one step; wanted: the name that the user gave it."""
        w, node = self._writer, step.node
        if node.op.name == "get":
            group = values[id(node.inputs[0])]
            assert isinstance(group, tuple)
            found: Results = group[node.attr("index")]
            start = len(w.scope.nodes)
        elif node.op.name == "constant":
            value = node.attr("value")
            own = wanted is not None and w.scope.parent is None
            name = wanted if own and wanted else label
            values[id(node)] = w.stored(value.stored, value.dtype, name, own)
            return
        else:
            start = len(w.scope.nodes)
            if step.group is not None:
                w.node = node
                xs = [_one(values[id(x)]) for x in step.group.inputs]
                found = step.group.write(self._making, xs)
            else:
                xs = [_one(values[id(x)]) for x in node.inputs]
                found = export_node(self._making, node, xs)
        if isinstance(found, Value):
            assert isinstance(node.type, TensorType)
            fresh = any(found.name in p.output for p in w.scope.nodes[start:])
            if fresh or wanted:
                name = wanted or w.unique(label)
                found = w.finish(found, start, name, wanted is not None)
                w.scope.types[found.name] = node.type
        values[id(node)] = found

    def _body(self, graph: Graph, inputs: Sequence[Value]) -> list[Value]:
        """The outputs of a closed graph of graphc, written into the current scope."""
        body = self._prepared.setdefault(id(graph), prepared(graph))
        values: dict[int, Results] = {
            id(t): value for (_, t), value in zip(body.inputs, inputs, strict=True)
        }
        outer = self._writer.node
        counts = {id(count): symbol for symbol, count in body.bindings}
        for step in steps_of(body, self._opset):
            self._write(step, values, None, f"{body.name}/{body.name_of(step.node)}")
            if id(step.node) in counts:
                self._sizes.bind(counts[id(step.node)], _one(values[id(step.node)]))
        self._writer.node = outer
        return [_one(values[id(t)]) for _, t in body.outputs]


def _one(found: Results) -> Value:
    assert isinstance(found, Value), "tuples reach `get` alone"
    return found
