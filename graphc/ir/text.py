"""The textual form of graphs (floor 1): the printer. `ir/parse.py` reads it back to an equal graph.

    graph "mlp" {
      dim batch min=0
      input %x : f32[batch, 64]
      variable %w trainable=true = const f32[2] [0.5, 1.0] : f32[2]
      %logits = einsum(%x, %w) {spec="bi,ij->bj"} : f32[batch, 10]
      output "loss" = %3
      update %w = %5
    }

A node is written once, after its inputs. Its label is its first name where that is a plain word, a
number otherwise.  A graph that stands in several places inside is a function: written once at the
top, as `function @cell = graph "cell" {…}`, and `@cell` where it stands.  A size that the graph
computes is declared after its count, as `dim k min=0 = %5`.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Symbol
from graphc.base.dtypes import DType
from graphc.ir.constant import ConstantValue
from graphc.ir.graph import PRINTER, Graph
from graphc.ir.node import Node

LITERAL_ELEMENTS = 16  # constants up to this size are printed as numbers
INLINE_BYTES = 1 << 16  # … up to this size as base64, larger ones by digest
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./]*\Z")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_./]")


Functions = dict[Graph, str]  # labels of the graphs that are written at the top


def graph_text(graph: Graph, indent: str = "", inline: int = INLINE_BYTES) -> str:
    """The text of a graph. Constants of more than `inline` bytes (and more than 16 elements) are
    named by digest.
    """
    functions = _functions(graph)
    known: Functions = {}
    lines = []
    for function, label in functions.items():  # inner ones first
        text = _inner_text(function, indent + "  ", inline, known)
        lines.append(f"{indent}  function {label} = {text}")
        known[function] = label
    return _inner_text(graph, indent, inline, functions, lines)


def _functions(graph: Graph) -> Functions:
    """The graphs inside that stand in more than one place, with labels."""
    if not graph.own_bodies:
        return {}
    parts = (*graph.bodies, graph)
    uses = Counter(v for g in parts for n in g.nodes for v in n.attrs if type(v) is Graph)
    found: Functions = {}
    taken: set[str] = set()
    for body in graph.bodies:
        if uses[body] > 1 and not body.outer_symbols:
            name = _NOT_PLAIN.sub("_", body.name)[:40]
            name = name if _PLAIN.match(name) else "f_" + name
            fresh = (name if not k else f"{name}_{k}" for k in itertools.count())
            found[body] = "@" + next(n for n in fresh if n not in taken)
            taken.add(found[body][1:])
    return found


def _inner_text(
    graph: Graph,
    indent: str,
    inline: int,
    functions: Functions,
    first: Sequence[str] = (),
) -> str:
    labels = _labels(graph)
    inner = indent + "  "
    lines = [f"graph {json.dumps(graph.name)} {{", *first]
    # Sizes that the graph around this one computes are known here as they are.
    lines += [inner + symbol_text(s) for s in graph.symbols if s.origin is None]
    sizes: dict[int, list[Symbol]] = {}
    for symbol, count in graph.bindings:
        sizes.setdefault(id(count), []).append(symbol)
    inputs = {id(t): name for name, t in graph.inputs}
    # A thousand layers share their types, and most nodes have no name.
    types = {id(n.type): str(n.type) for n in graph.typed}
    named = graph._names_of
    for node in graph.nodes:
        text = _node_text(node, labels, inputs, inner, inline, functions)
        line = f"{inner}{text} : {types[id(node.type)]}"
        lines.append(line + _names_text(graph, node, labels) if id(node) in named else line)
        computed = sizes.get(id(node), ()) if sizes else ()
        lines += [f"{inner}{symbol_text(s)} = %{labels[id(node)]}" for s in computed]
    lines += [f"{inner}output {json.dumps(name)} = %{labels[id(t)]}" for name, t in graph.outputs]
    lines += [f"{inner}update %{labels[id(v)]} = %{labels[id(t)]}" for v, t in graph.updates]
    return "\n".join(lines) + f"\n{indent}}}"


def _labels(graph: Graph) -> dict[int, str]:
    first = graph._first_names
    labels: dict[int, str] = {}
    number = 0
    for node in graph.nodes:
        name = first.get(id(node))
        if name is not None and _PLAIN.match(name):
            labels[id(node)] = name
        else:
            labels[id(node)] = str(number)
            number += 1
    return labels


def symbol_text(symbol: Symbol) -> str:
    """The declaration of a size that comes with a call."""
    text = f"dim {symbol.name} min={symbol.min}"
    if symbol.max is not None:
        text += f" max={symbol.max}"
    if symbol.multiple_of != 1:
        text += f" multiple_of={symbol.multiple_of}"
    return text


def _node_text(
    node: Node,
    labels: dict[int, str],
    inputs: dict[int, str],
    indent: str,
    inline: int,
    functions: Functions,
) -> str:
    label = labels[id(node)]
    if id(node) in inputs:
        return f"input %{label} {json.dumps(inputs[id(node)])}"
    if node.op.name == "variable":
        attrs = node.attributes
        trainable = "true" if attrs["trainable"] else "false"
        own = "" if attrs["name"] is None else json.dumps(attrs["name"]) + " "
        value = value_text(attrs["value"], indent, inline)
        return f"variable %{label} {own}trainable={trainable} = {value}"
    operands = ", ".join(["%" + labels[id(i)] for i in node.inputs])
    text = f"%{label} = {node.op.name}({operands})"
    if not node.attrs:
        return text
    pairs = zip(node.op.attributes, node.attrs, strict=True)
    texts = [f"{k}={value_text(v, indent, inline, functions)}" for k, v in pairs]
    return f"{text} {{{', '.join(texts)}}}"


def _names_text(graph: Graph, node: Node, labels: dict[int, str]) -> str:
    names = graph._names_of.get(id(node))
    if not names:
        return ""
    own = {labels[id(node)]} | {name for name, t in graph.inputs if t is node}
    if node.op.name == "variable":
        own.add(node.attr("name"))
    more = [name for name in names if name not in own]
    return "".join(f" name {json.dumps(name)}" for name in more)


def value_text(
    value: Any, indent: str = "", inline: int = INLINE_BYTES, functions: Functions | None = None
) -> str:
    """An attribute as text; a graph of `functions` as its label."""
    if functions and isinstance(value, Graph) and value in functions:
        return functions[value]
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        text = repr(float(value))
        return text if any(c in text for c in ".en") else text + ".0"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, DType):
        return value.short
    if isinstance(value, Dim):
        return f"<{value}>"
    if isinstance(value, tuple):
        return (
            "("
            + ", ".join(value_text(v, indent, inline) for v in value)
            + ("," if len(value) == 1 else "")
            + ")"
        )
    if isinstance(value, ConstantValue):
        return constant_text(value, inline)
    if isinstance(value, Graph):
        if functions is None:
            return graph_text(value, indent, inline)
        return _inner_text(value, indent, inline, functions)
    raise TypeError(f"an attribute of type {type(value).__name__} has no textual form")


def constant_text(value: ConstantValue, inline: int = INLINE_BYTES) -> str:
    """`const f32[2] [0.5, 1.0]`, `const f32[99] "base64 of the stored bytes"` or `const f32[9999]
    @sha256`.
    """
    head = f"const {value.dtype.short}[{', '.join(map(str, value.shape))}] "
    if value.size <= LITERAL_ELEMENTS and prints_as_numbers(value):
        return (
            head + "[" + ", ".join(value_text(v) for v in value.values.reshape(-1).tolist()) + "]"
        )
    if value.nbytes <= inline:
        return head + f'"{base64.b64encode(little_endian(value)).decode()}"'
    return head + f"@{value.digest}"


def little_endian(value: ConstantValue) -> bytes:
    """The stored bytes, little-endian."""
    return value.stored.astype(value.stored.dtype.newbyteorder("<")).tobytes()


def prints_as_numbers(value: ConstantValue) -> bool:
    """Whether numbers read back to the same bits: `nan` reads back as the standard quiet NaN, other
    NaN bits need the exact form.
    """
    if not value.dtype.is_float or not np.isnan(value.values).any():
        return True
    standard = np.full((), np.nan, value.dtype.numpy)
    nans = value.values[np.isnan(value.values)]
    return all(n.tobytes() == standard.tobytes() for n in nans.reshape(-1))


PRINTER["text"] = graph_text
