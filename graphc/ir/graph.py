"""Graphs (floor 1): the unit that users compile, print and save.

A `Graph` is immutable: named inputs, named outputs, updates of variables, and the names of nodes
inside. Names live here and not in nodes, so a pass maps them (`rebuild`) and they survive every
rewrite.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphc.base.dims import Symbol
from graphc.base.dtypes import Array
from graphc.base.errors import GraphError, message
from graphc.base.intern import InternTable
from graphc.base.order import topological
from graphc.base.spelling import close_names
from graphc.ir import provenance
from graphc.ir.bindings import (
    Bindings,
    Scope,
    bindings_between,
    check_symbols,
    computed_symbols,
    edges,
    reached,
    rebuilt,
    symbols_of,
)
from graphc.ir.bindings import (
    node_inputs as node_inputs,
)
from graphc.ir.node import OPERATORS, Node, Tensor, TensorType, describe, make

if TYPE_CHECKING:
    from graphc.ir.constant import ConstantValue
    from graphc.ir.opdef import OpDef

_NAMED = frozenset(("placeholder", "variable"))  # ops with a name among their attributes
Outputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


class Graph(Scope):
    """`Graph(inputs, outputs, updates=None, name=None)`.

    inputs: placeholders, in order. outputs: a tensor, a sequence, or a dict by name. updates:
    variable -> its new value, all applied together after a run. Raises GraphError for a placeholder
    that is used but not listed, duplicate names, or anything that is not a graphc tensor.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "bindings",
        "current",
        "inputs",
        "name",
        "names",
        "outputs",
        "updates",
    )
    inputs: tuple[tuple[str, Tensor], ...]
    outputs: tuple[tuple[str, Tensor], ...]
    updates: tuple[tuple[Tensor, Tensor], ...]
    bindings: Bindings  # sizes that the graph computes: symbol, count; by name
    names: dict[str, Node]
    name: str
    # The current values of variables, for the graph of a session's function; no part of equality.
    current: Callable[[Sequence[Tensor]], Sequence[ConstantValue]] | None

    def __init__(
        self,
        inputs: Iterable[Tensor],
        outputs: Outputs,
        updates: Mapping[Tensor, Any] | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name or "graph"
        self.current = None
        placeholders = tuple(inputs)
        self.inputs = tuple(zip(_input_names(placeholders), placeholders, strict=True))
        self.outputs = _named_outputs(outputs)
        self.updates = tuple((v, new_value(v, n)) for v, n in (updates or {}).items())
        _check_updates(self.updates)
        self.bindings = ()
        self.bindings = bindings_between(placeholders, self.roots)
        self.names = self._collect_names()
        self._check_inputs()
        check_symbols(self._all_symbols, self.bindings)

    @classmethod
    def build(
        cls,
        inputs: tuple[tuple[str, Tensor], ...],
        outputs: tuple[tuple[str, Tensor], ...],
        updates: tuple[tuple[Tensor, Tensor], ...],
        name: str,
        names: Mapping[str, Node],
        bindings: Bindings = (),
    ) -> Graph:
        """A graph out of parts that are already checked (passes, the parser).

        bindings: the counts of computed sizes; those that nothing mentions are dropped.
        """
        graph = cls.__new__(cls)
        graph.inputs, graph.outputs, graph.updates, graph.name = inputs, outputs, updates, name
        graph.bindings = ()
        if bindings:
            graph.bindings = reached(graph.roots, dict(bindings).get)
        graph.current = None
        live = {id(n) for n in graph.nodes}
        graph.names = {k: n for k, n in names.items() if id(n) in live}
        return graph

    # -- structure --------------------------------------------------------------------------------
    @functools.cached_property
    def nodes(self) -> list[Node]:
        """Every node, inputs before users, in a deterministic order; declared inputs come first."""
        return topological(self.roots, edges(self.bindings))

    @functools.cached_property
    def ops(self) -> frozenset[OpDef]:
        """The ops of the nodes, those of bodies not included."""
        return frozenset({n.op for n in self.nodes})

    @functools.cached_property
    def patterns(self) -> frozenset[tuple[str, ...]]:
        """The name of each tensor's op with those of its inputs: which rules are about it."""
        tensors = [n for n in self.nodes if isinstance(n, Tensor)]
        found = {(n.op.name, *[i.op.name for i in n.inputs]) for n in tensors if n.inputs}
        return frozenset(found | {(op.name,) for op in {n.op for n in tensors if not n.inputs}})

    @functools.cached_property
    def typed(self) -> tuple[Node, ...]:
        """The first node of each type, as far as types are the same objects."""
        found: dict[int, Node] = {}
        for node in self.nodes:
            found.setdefault(id(node.type), node)
        return tuple(found.values())

    @property
    def roots(self) -> list[Tensor]:
        """Inputs, outputs, updated variables and their new values, counts of computed sizes."""
        found = [t for _, t in self.inputs] + [t for _, t in self.outputs]
        for variable, value in self.updates:
            found += [variable, value]
        return found + [count for _, count in self.bindings]

    @functools.cached_property
    def variables(self) -> list[Tensor]:
        """The variables that are read or updated, in order of first use."""
        return [n for n in self.nodes if n.op.name == "variable" and isinstance(n, Tensor)]

    @functools.cached_property
    def symbols(self) -> tuple[Symbol, ...]:
        """The symbols of all types and attributes in the graph and its bodies, sorted by name:
        those whose sizes come with a call (or, in a body, from outside).
        """
        computed = set(self.computed)
        return tuple(s for s in self._all_symbols if s not in computed)

    @functools.cached_property
    def computed(self) -> tuple[Symbol, ...]:
        """The symbols whose sizes the graph and its bodies compute, sorted by name."""
        found = {s: None for graph in (*self.bodies, self) for s, _ in graph.bindings}
        return tuple(sorted(found, key=lambda s: s.name))

    @functools.cached_property
    def outer_symbols(self) -> tuple[Symbol, ...]:
        """The computed symbols of a body that the graph around it binds."""
        bound = {s for s, _ in self.bindings}
        found = (s for n in self.nodes for v in (_shapes(n), *n.attrs) for s in computed_symbols(v))
        return tuple(dict.fromkeys(s for s in found if s not in bound))

    @functools.cached_property
    def _all_symbols(self) -> tuple[Symbol, ...]:
        return symbols_of(
            itertools.chain(*(graph.typed for graph in (*self.bodies, self))),
            itertools.chain(*(graph.nodes for graph in (*self.bodies, self))),
        )

    @property
    def constants(self) -> dict[str, ConstantValue]:
        """The constants by digest (initial values of variables and those of bodies included)."""
        nodes = itertools.chain(*(graph.nodes for graph in (*self.bodies, self)))
        values = (a for n in nodes for a in n.attrs if type(a).__name__ == "ConstantValue")
        return {v.digest: v for v in values}

    @functools.cached_property
    def own_bodies(self) -> tuple[Graph, ...]:
        """The distinct graphs in the attributes of this graph's nodes, in order of first use."""
        found = {id(a): a for n in self.nodes for a in n.attrs if type(a) is Graph}
        return tuple(dict.fromkeys(found.values()))

    @functools.cached_property
    def bodies(self) -> tuple[Graph, ...]:
        """The distinct graphs inside this one, at any depth, inner ones first."""
        return tuple(dict.fromkeys(b for g in self.own_bodies for b in (*g.bodies, g)))

    @functools.cached_property
    def nesting(self) -> int:
        """How many levels of graphs there are: 1 for a graph without bodies."""
        return 1 + max((g.nesting for g in self.own_bodies), default=0)

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of a name: a user's name, an input, an output, or an automatic `op_k`."""
        node = self.names.get(name, self._automatic_names.get(name))
        if node is None:
            near = close_names(name, self.names) or sorted(self.names)[:12]
            raise GraphError(
                message(
                    f"graph {self.name!r} has no node named {name!r}",
                    hint=f"names here: {', '.join(near)}",
                )
            )
        if not isinstance(node, Tensor):
            raise GraphError(
                message(
                    f"{name!r} is a node of several results, not a tensor",
                    operands=[describe(node)],
                    hint="name one of its results, which are `get` nodes",
                )
            )
        return node

    def __contains__(self, name: object) -> bool:
        return name in self.names or name in self._automatic_names

    def name_of(self, node: Node) -> str:
        """The first name of a node in this graph, its automatic name when the user gave none."""
        return self._first_names.get(id(node)) or self._labels[id(node)]

    @functools.cached_property
    def _first_names(self) -> dict[int, str]:
        first: dict[int, str] = {}
        for name, node in self.names.items():
            first.setdefault(id(node), name)
        return first

    @functools.cached_property
    def _names_of(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for name, node in self.names.items():
            found.setdefault(id(node), []).append(name)
        return found

    @functools.cached_property
    def _labels(self) -> dict[int, str]:
        counts: dict[str, int] = {}
        labels: dict[int, str] = {}
        for node in self.nodes:
            k = counts.get(node.op.name, 0)
            counts[node.op.name] = k + 1
            labels[id(node)] = f"{node.op.name}_{k}"
        return labels

    @functools.cached_property
    def _automatic_names(self) -> dict[str, Node]:
        labels = self._labels
        return {labels[id(n)]: n for n in self.nodes if labels[id(n)] not in self.names}

    # -- text, equality, meaning ------------------------------------------------------------------
    def __str__(self) -> str:
        return self.text

    @functools.cached_property
    def text(self) -> str:
        """The textual form; `graphc.parse` reads it back to an equal graph."""
        return PRINTER["text"](self)

    def __repr__(self) -> str:
        counts = f"{len(self.inputs)} inputs, {len(self.outputs)} outputs, {len(self.nodes)} nodes"
        return f"<Graph {self.name!r}: {counts}>"

    def __eq__(self, other: object) -> bool:
        """Same text: same structure, names and constants (placeholders and variables correspond by
        position).
        """
        return isinstance(other, Graph) and self.text == other.text

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self.text)

    def evaluate(
        self, feeds: Mapping[Any, Any] | None = None, *, updates: bool = False
    ) -> dict[str, Array]:
        """The NumPy reference meaning, unoptimized: a dict by output name.

        feeds: arrays by placeholder or input name; variables may be fed too and have their first
        value otherwise. With `updates` the new values of updated variables are added under
        "update:" + name. bfloat16 values are float32 arrays holding exact bfloat16 values. Raises
        GraphError for missing or unknown feeds, ShapeError and DTypeError for wrong ones.
        """
        found: dict[str, Array] = EVALUATOR["evaluate"](self, feeds or {}, updates)
        return found

    def optimize(self, numerics: str = "standard") -> Graph:
        """The graph after the rewriting passes ("exact", "standard" or "fast")."""
        return OPTIMIZER["optimize"](self, numerics)

    def save(self, path: str | os.PathLike[str], *, provenance: bool = True) -> None:
        """Write the graph and its variables' values to a `.graphc` file; `graphc.load` reads it.

        The values are the current ones of the session for the graph of a function
        (`function.graph.save`), all of the same moment, and the first ones otherwise. The file is
        the old one or the new one at every moment, a kill included. provenance: write the file
        names (without folders) and line numbers of the code that declared the nodes. Raises
        OSError; the old file is then as it was.
        """
        SAVER["save"](self, path, provenance=provenance)

    def export_onnx(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write the graph, with the values of its variables as in `save`, as an ONNX file.

        options: `opset`, `provenance`, `external_data`, as of `graphc.onnx.export`. Raises
        UnsupportedError for what ONNX cannot say, OSError; files are then as they were.
        """
        SAVER["onnx"](self, path, **options)

    def with_current_values(self) -> Graph:
        """The graph whose variables' first values are the current ones of the session that the
        graph belongs to; the graph itself where it belongs to none.
        """
        if self.current is None or not self.variables:
            return self
        values = self.current(self.variables)
        mapping: dict[int, Node] = {}
        with provenance.recording(True):
            for variable, value in zip(self.variables, values, strict=True):
                name, _, trainable, uid = variable.attrs
                provenance.set_derived(variable)
                mapping[id(variable)] = make(variable.op, (), (name, value, trainable, uid))
            for node in self.nodes:
                inputs = tuple(mapping.get(id(i), i) for i in node.inputs)
                if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
                    provenance.set_derived(node)
                    mapping[id(node)] = make(node.op, inputs, node.attrs)
        fresh = self.rebuild(mapping)
        updates = tuple(
            (mapping[id(old)], new)
            for (old, _), (_, new) in zip(self.updates, fresh.updates, strict=True)
        )
        return Graph.build(
            fresh.inputs,
            fresh.outputs,
            updates,  # type: ignore[arg-type]  # tensors become tensors
            self.name,
            fresh.names,
            fresh.bindings,
        )

    # -- change by copy ---------------------------------------------------------------------------
    def rebuild(self, mapping: Mapping[int, Node]) -> Graph:
        """The graph with nodes replaced: `mapping` goes from id(old node) to the new node, for
        every node that changed.

        The mapping must be complete (users of changed nodes are changed as well); names follow.
        """

        def new(node: Tensor) -> Tensor:
            found = mapping.get(id(node), node)
            assert isinstance(found, Tensor)
            return found

        names = {name: mapping.get(id(node), node) for name, node in self.names.items()}
        graph = Graph.build(
            self.inputs,
            tuple((name, new(t)) for name, t in self.outputs),
            tuple((v, new(t)) for v, t in self.updates),
            self.name,
            names,
            rebuilt(self.bindings, mapping),
        )
        graph.current = self.current
        return graph

    def map(self, visit: Callable[[Node, tuple[Tensor, ...]], Node]) -> Graph:
        """Rebuild bottom-up: `visit(node, new_inputs)` gives each node's replacement. The graph
        itself where none is replaced.
        """
        mapping: dict[int, Node] = {}
        for node in self.nodes:
            inputs = tuple([mapping.get(id(i), i) for i in node.inputs]) if node.inputs else ()
            # Tuple-typed inputs only reach `get`.
            fresh = visit(node, inputs)  # type: ignore[arg-type]
            if fresh is not node:
                mapping[id(node)] = fresh
        return self.rebuild(mapping) if mapping else self

    def with_outputs(
        self, outputs: tuple[tuple[str, Tensor], ...], *, updates: bool = True
    ) -> Graph:
        """The same inputs with other outputs."""
        kept = self.updates if updates else ()
        graph = Graph.build(self.inputs, outputs, kept, self.name, self.names, self.bindings)
        graph.current = self.current
        return graph

    # -- checks -----------------------------------------------------------------------------------
    def _collect_names(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        named = provenance.names_among(self.nodes)
        for node in self.nodes:
            own = named.get(id(node), ())
            if not node.inputs and node.op.name in _NAMED and node.attr("name"):
                own = (node.attr("name"), *own)
            for name in own:
                if name in found and found[name] is not node:
                    raise GraphError(
                        message(
                            f"two tensors are named {name!r}",
                            operands=[describe(found[name]), describe(node)],
                            hint="give each a name of its own, or wrap one in `with "
                            "graphc.name_scope(...)`",
                        )
                    )
                found[name] = node
        for name, tensor in self.inputs:
            found.setdefault(name, tensor)
        for name, tensor in self.outputs:
            found.setdefault(name, tensor)
        return found

    def _check_inputs(self) -> None:
        listed = {id(t) for _, t in self.inputs}
        for node in self.nodes:
            if not node.inputs and node.op.name == "placeholder" and id(node) not in listed:
                raise GraphError(
                    message(
                        f"graph {self.name!r}: the placeholder "
                        f"{node.attr('name') or 'without a name'} is needed but not among the "
                        "inputs",
                        operands=[describe(node)],
                        hint="add it to inputs=[…]",
                    )
                )


def _shapes(node: Node) -> tuple[Any, ...]:
    types = (node.type,) if isinstance(node.type, TensorType) else node.type.items
    return tuple(t.shape for t in types)


def _input_names(placeholders: tuple[Tensor, ...]) -> list[str]:
    result: list[str] = []
    for k, tensor in enumerate(placeholders):
        if not isinstance(tensor, Tensor) or tensor.op.name != "placeholder":
            raise GraphError(
                message(
                    f"input {k} of a graph must be a placeholder, got {tensor!r}",
                    hint="make it with graphc.placeholder(shape, dtype); a variable needs no "
                    "listing",
                )
            )
        name = tensor.attr("name") or tensor.name or f"input_{k}"
        if name in result:
            raise GraphError(
                message(
                    f"two inputs are named {name!r}",
                    operands=[describe(t) for t in placeholders[: len(result) + 1]],
                    hint="give each placeholder a name of its own",
                )
            )
        result.append(name)
    return result


def _named_outputs(outputs: Outputs) -> tuple[tuple[str, Tensor], ...]:
    if isinstance(outputs, Tensor):
        pairs: list[tuple[str | None, Any]] = [(None, outputs)]
    elif isinstance(outputs, Mapping):
        pairs = list(outputs.items())
    else:
        pairs = [(None, t) for t in outputs]
    result: dict[str, Tensor] = {}
    for k, (name, tensor) in enumerate(pairs):
        if not isinstance(tensor, Tensor):
            raise GraphError(
                message(
                    f"Graph: output {k} must be a graphc tensor, "
                    f"got {type(tensor).__name__}: {tensor!r:.80}",
                    hint="graphc.constant(value) makes a tensor of an array",
                )
            )
        label = name or tensor.name
        if label is None or label in result:
            label = "output" if len(pairs) == 1 else f"output_{k}"
        result[label] = tensor
    return tuple(result.items())


def new_value(variable: Any, value: Any) -> Any:
    """The new value of a variable as a tensor: arrays and numbers become constants."""
    if isinstance(value, Tensor) or not isinstance(variable, Tensor):
        return value
    return OPERATORS["as_tensor"](value, like=variable, op="updates")


def _check_updates(updates: tuple[tuple[Tensor, Tensor], ...]) -> None:
    for variable, value in updates:
        if not isinstance(variable, Tensor) or variable.op.name != "variable":
            raise GraphError(
                message(
                    f"updates: the key must be a graphc.variable, got {variable!r:.80}",
                    hint="only variables hold state: make it with graphc.variable(first_value)",
                )
            )
        if not isinstance(value, Tensor):
            raise GraphError(
                message(
                    f"updates: the new value of {variable!r} must be a tensor, got {value!r:.80}",
                    hint="graphc.constant(value) makes a tensor of an array",
                )
            )
        if value.type != variable.type:
            raise GraphError(
                message(
                    f"updates: the new value of {variable.name or variable.attr('name')!r} must "
                    f"be {variable.type}, got {value.type}",
                    operands=[describe(variable), describe(value)],
                    hint="reshape or convert it (graphc.astype) so that shape and dtype are the "
                    "variable's",
                )
            )


def interned(body: Graph) -> Graph:
    """The one living body of that text (and of sizes computed outside) that was written on the same
    lines: bodies made again are the same object, as nodes are.

    Equal bodies from other lines are equal and no more: whoever works on bodies works on one of
    them, and an error names the lines of the one that it is in.
    """
    key = body.text, body.outer_symbols, provenance.lines_of(body.nodes)
    return _BODIES.get(key, lambda: body)


_BODIES: InternTable[Graph] = InternTable()
# Filled by higher parts of this floor and by higher floors: text, evaluation, optimization, files.
PRINTER: dict[str, Callable[[Graph], str]] = {}
EVALUATOR: dict[str, Callable[..., Any]] = {}
OPTIMIZER: dict[str, Callable[..., Graph]] = {}
SAVER: dict[str, Callable[..., None]] = {}
