"""Sizes that the graph computes (floor 1): symbols that are bound while a graph runs.

The number of True elements of a mask is known when the mask is.  A symbol stands for such a size in
shapes and attributes; its `origin` says which tensor holds the count.  Graphs list the pairs as
`Graph.bindings`: they are roots like updates, and a pass may replace a count by another tensor of
the same value, while the symbol stays what it is.
Invariant: whatever mentions a symbol comes after its count in `Graph.nodes`.
"""

from __future__ import annotations

import itertools
import operator
import weakref
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from graphc.base.dims import Dim, Size, Symbol
from graphc.base.errors import ExecutionError, GraphError, message
from graphc.ir import provenance
from graphc.ir.node import Node, Tensor, TensorType, describe, fresh_uid

Binding = tuple[Symbol, Tensor]
Bindings = tuple[Binding, ...]


class Origin:
    """Where a size is from: the int64 scalar that holds it. Symbols compare it by identity.

    what: what went wrong where the size is out of its bounds, as the op that asked for it says it.
    """

    __slots__ = ("__weakref__", "count", "name", "what")

    def __init__(self, count: Tensor, name: str, what: str) -> None:
        self.count = count
        self.name = name
        self.what = what


class Scope:
    """What may stand in an attribute and mention symbols of the graph around it: a body."""

    __slots__ = ()

    @property
    def outer_symbols(self) -> tuple[Symbol, ...]:
        """The computed symbols inside that are bound outside."""
        raise NotImplementedError  # abstract: `Graph`, on a later module of this floor, has it


# The same count under the same bounds is the same symbol, as long as somebody uses it.
_Key = tuple[int, str | None, int, int | None, int]
_ORIGINS: weakref.WeakValueDictionary[_Key, Origin] = weakref.WeakValueDictionary()
_TAKEN: weakref.WeakValueDictionary[str, Origin] = weakref.WeakValueDictionary()


def size_symbol(
    count: Tensor,
    name: str | None = None,
    min: int = 0,
    max: int | None = None,
    multiple_of: int = 1,
    what: str = "",
    *,
    exact: bool = False,
) -> Symbol:
    """The symbol for the size that `count`, an int64 scalar, holds.

    Sizes of a program need names of their own: a number is added to a name that is taken, unless
    it must be `exact`, as in a text.
    """
    key = (id(count), name, min, max, multiple_of)
    origin = _ORIGINS.get(key)
    if origin is None:
        label = name if exact and name else _free_name(name)
        origin = Origin(count, label, what)
        _ORIGINS[key] = _TAKEN[label] = origin
    return Symbol(origin.name, min, max, multiple_of, origin)


def _free_name(wanted: str | None) -> str:
    found = wanted or f"_k{fresh_uid()}"
    numbers = itertools.count(1)
    while found in _TAKEN:
        found = f"{wanted}_{next(numbers)}" if wanted else f"_k{fresh_uid()}"
    return found


def origin_of(symbol: Symbol) -> Origin | None:
    """Where a computed size is from; None for a size that comes with a call."""
    return symbol.origin if isinstance(symbol.origin, Origin) else None


_SIZED = frozenset((Dim, tuple))  # what holds sizes among attributes


def symbols_of(typed: Iterable[Node], nodes: Iterable[Node]) -> tuple[Symbol, ...]:
    """The symbols in the types of `typed` and in the attributes of nodes, sorted by name."""
    wanted: dict[int, Dim] = {}  # each once: a thousand layers share their dims
    nested: list[tuple[Any, ...]] = [
        (value,) for node in nodes for value in node.attrs if type(value) in _SIZED
    ]
    for node in typed:
        items = (node.type,) if isinstance(node.type, TensorType) else node.type.items
        nested += [t.shape for t in items]
    while nested:
        for value in nested.pop():
            if isinstance(value, Dim):
                wanted[id(value)] = value
            elif isinstance(value, tuple):
                nested.append(value)
    found = dict.fromkeys(s for size in wanted.values() for s in size.symbols())
    return tuple(sorted(found, key=lambda s: s.name))


def computed_symbols(value: Any) -> tuple[Symbol, ...]:
    """The computed symbols of an attribute (or a size), each once."""
    if isinstance(value, Dim):
        return tuple(s for s in value.symbols() if s.origin is not None)
    if isinstance(value, tuple):
        return tuple(dict.fromkeys(s for v in value for s in computed_symbols(v)))
    return value.outer_symbols if isinstance(value, Scope) else ()


def mentioned(node: Node) -> tuple[Symbol, ...]:
    """The computed symbols in the type and the attributes of a node."""
    if not _ORIGINS:  # nothing in this process computes a size: the common case costs nothing
        return ()
    types = (node.type,) if isinstance(node.type, TensorType) else node.type.items
    values = (*(t.shape for t in types), *node.attrs)
    return tuple(dict.fromkeys(s for v in values for s in computed_symbols(v)))


def reached(
    roots: Iterable[Node],
    count_of: Callable[[Symbol], Tensor | None],
    cut: Iterable[int] = (),
) -> Bindings:
    """The bindings that the nodes below `roots` need, those of their counts included, by name.

    cut: ids of nodes that are not looked at.
    """
    if not _ORIGINS:
        return ()
    found: dict[Symbol, Tensor] = {}
    seen = set(cut)
    stack = list(roots)
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        stack += node.inputs
        for symbol in mentioned(node):
            count = None if symbol in found else count_of(symbol)
            if count is not None:
                found[symbol] = count
                stack.append(count)
    return tuple(sorted(found.items(), key=lambda pair: pair[0].name))


def declared_count(symbol: Symbol) -> Tensor | None:
    """The tensor that a symbol was made of."""
    origin = origin_of(symbol)
    return None if origin is None else origin.count


def children(node: Node) -> tuple[Node, ...]:
    """What a node as a user made it needs: its inputs, and the counts of the sizes it mentions."""
    if not _ORIGINS:
        return node.inputs
    counts = map(declared_count, mentioned(node))
    return (*node.inputs, *(count for count in counts if count is not None))


def moved_sizes(node: Node, mapping: Mapping[int, Node]) -> tuple[Any, ...]:
    """The attributes of a node with sizes whose counts were replaced as sizes of their own."""
    sizes: dict[str, Size] = {}
    for symbol in mentioned(node):
        count = declared_count(symbol)
        fresh = None if count is None else mapping.get(id(count), count)
        if fresh is not count and isinstance(fresh, Tensor):
            bounds = (symbol.min, symbol.max, symbol.multiple_of)
            origin = origin_of(symbol)
            what = "" if origin is None else origin.what
            sizes[symbol.name] = Dim.of(size_symbol(fresh, None, *bounds, what))
    return tuple(_with_sizes(a, sizes) for a in node.attrs) if sizes else node.attrs


def _with_sizes(value: Any, sizes: Mapping[str, Size]) -> Any:
    if isinstance(value, Dim):
        return value.substitute(sizes)
    if isinstance(value, tuple):
        return tuple(_with_sizes(v, sizes) for v in value)
    return value


def bindings_of(roots: Iterable[Node]) -> Bindings:
    """The bindings of a graph with these roots, as its symbols were made."""
    return reached(roots, declared_count)


def bindings_between(inputs: Iterable[Tensor], roots: Iterable[Node]) -> Bindings:
    """The bindings of a graph from `inputs`, at which looking ends, to `roots`.

    A size that an input has in its shape is told by that input, and not computed.
    """
    given = tuple(inputs)
    told = {s for t in given for s in computed_symbols(t.shape)}
    cut = {id(t) for t in given}
    return reached(roots, lambda s: None if s in told else declared_count(s), cut)


def bindings_inside(roots: Iterable[Node], inputs: Iterable[Node]) -> Bindings:
    """The bindings of a body: those whose counts depend on its inputs. Others are bound outside."""
    sources = {id(node) for node in inputs}
    known: dict[Symbol, bool] = {}

    def depends(symbol: Symbol) -> bool:
        if symbol not in known:
            known[symbol] = depends_on(symbol, sources)
        return known[symbol]

    return reached(roots, lambda s: declared_count(s) if depends(s) else None)


def _meets(root: Node, sources: Container[int]) -> bool:
    """Whether a node depends on one of `sources`, through inputs and sizes."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) in sources:
            return True
        if id(node) in seen:
            continue
        seen.add(id(node))
        stack += children(node)
    return False


def depends_on(symbol: Symbol, sources: Container[int]) -> bool:
    """Whether a size is computed from one of the nodes with these ids."""
    count = declared_count(symbol)
    return count is not None and _meets(count, sources)


def edges(bindings: Bindings) -> Callable[[Node], tuple[Node, ...]]:
    """The edge function of traversals that put a count before whatever mentions its symbol."""
    if not bindings:
        return _INPUTS
    counts = dict(bindings)

    def needs(node: Node) -> tuple[Node, ...]:
        needed = (counts.get(symbol) for symbol in mentioned(node))
        return (*node.inputs, *(count for count in needed if count is not None))

    return needs


_INPUTS: Callable[[Node], tuple[Node, ...]] = operator.attrgetter("inputs")  # quicker to call


def node_inputs(node: Node) -> tuple[Node, ...]:
    """The inputs of a node (the edge function of every traversal)."""
    return node.inputs


class SizeBinder:
    """Binds sizes while a graph is evaluated node by node."""

    def __init__(self, bindings: Bindings) -> None:
        self._waiting: dict[int, list[Binding]] = {}
        for symbol, count in bindings:
            self._waiting.setdefault(id(count), []).append((symbol, count))

    def see(self, node: Node, value: Any, sizes: dict[str, int]) -> None:
        """Note the value of a node. Raises ExecutionError where it is no possible size."""
        for symbol, count in self._waiting.get(id(node), ()):
            size = int(value)
            if not symbol.allows(size):
                raise ExecutionError(wrong_size(symbol, count, str(size)))
            known = sizes.setdefault(symbol.name, size)
            if known != size:
                raise ExecutionError(wrong_size(symbol, count, f"{size}, fed were {known}"))


def wrong_size(symbol: Symbol, count: Tensor, found: str) -> str:
    """The message for a computed size that is not as its symbol says."""
    origin = origin_of(symbol)
    what = origin.what if origin is not None and origin.what else ""
    return message(
        f"{what}{': ' if what else ''}the computed size of dim {symbol.name!r} must be within its "
        f"bounds {symbol.bounds_text}, it is {found}; no variable was changed",
        operands=[describe(count)],
        at=provenance.where(count) or None,
        hint="graphc.as_dim(count, min=…, max=…) declares the bounds of a computed size",
    )


def rebuilt(bindings: Bindings, mapping: Mapping[int, Node]) -> Bindings:
    """Bindings with counts replaced by id."""
    pairs = []
    for symbol, count in bindings:
        fresh = mapping.get(id(count), count)
        assert isinstance(fresh, Tensor)
        pairs.append((symbol, fresh))
    return tuple(pairs)


def check_symbols(symbols: Iterable[Symbol], bindings: Bindings) -> None:
    """Raise GraphError where two symbols of a graph have the same name."""
    seen: dict[str, Symbol] = {}
    for symbol in symbols:
        other = seen.setdefault(symbol.name, symbol)
        if other == symbol:
            continue
        if other.origin is symbol.origin:
            what = (
                f"the dim {symbol.name!r} is declared twice with different bounds: "
                f"{other.bounds_text} and {symbol.bounds_text}"
            )
            raise GraphError(message(what, hint="make one graphc.Dim and use it in every shape"))
        raise GraphError(
            message(
                f"two sizes are named {symbol.name!r}, at least one of them computed by the graph",
                operands=[describe(count) for s, count in bindings if s in (symbol, other)],
                hint="give each a name of its own: graphc.as_dim(count, name=…)",
            )
        )
