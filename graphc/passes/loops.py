"""Work moved out of scans (floor 3): before them what needs no carry, behind them what is a sum.

A recurrent layer multiplies each row of its input by a matrix: one product of all rows before the
loop gives the same numbers, and a large product runs far faster than many small ones.  Its gradient
adds a product to an accumulator at each turn: one product over all turns after the loop is the same
sum in another order, so `exact` leaves it where it is.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from graphc.autodiff.batching import has_rule, vectorize_over
from graphc.autodiff.substitution import ordered, substitute
from graphc.base.dims import Size, bounds, product
from graphc.ir import provenance
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, make
from graphc.ops.control import SCAN, closed_body, results_of, scan_parts
from graphc.ops.elementwise import add
from graphc.ops.families import Contraction, Elementwise, Map, Reduction, Reshape
from graphc.ops.state import placeholder
from graphc.passes.context import Context

_CARRY, _SLICE = 1, 2  # what a node of a body depends on, as bits
_VIEWS = ("permute_dims", "reshape", "broadcast_to")


@dataclass(frozen=True)
class MoveOutOfLoops:
    """Invariant work and products of sequences go before scans, sums of products behind them."""

    name: str = "move-out-of-loops"

    def run(self, graph: Graph, context: Context) -> Graph:
        """The graph with smaller loops; the same graph where nothing moves."""
        if SCAN not in graph.ops:
            return graph
        mapping: dict[int, Node] = {}
        results: dict[int, tuple[Tensor, ...]] = {}
        for node in graph.nodes:
            if node.op.name == "get" and id(node.inputs[0]) in results:
                mapping[id(node)] = results[id(node.inputs[0])][node.attrs[0]]
                continue
            inputs = tuple(mapping.get(id(i), i) for i in node.inputs)
            if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
                with provenance.derived_from(node):
                    mapping[id(node)] = make(node.op, inputs, node.attrs)
            current = mapping.get(id(node), node)
            if current.op is SCAN:
                with provenance.derived_from(node):
                    found = _smaller(current, context.numerics != "exact")
                if found is not None:
                    results[id(node)] = found
        return graph.rebuild(mapping) if mapping or results else graph


def _smaller(node: Node, sums: bool) -> tuple[Tensor, ...] | None:
    """The results of a scan with work moved out, None where none moves. sums: sums may move."""
    if node.attr("body").bindings:  # shapes that differ from turn to turn have no common rows
        return None
    loop = _Loop(node)
    moved = loop.move_before()
    if sums:
        moved = loop.move_after() or moved
    return loop.results() if moved else None


class _Loop:
    """One scan, taken apart: placeholders of the body beside the operands that feed them."""

    def __init__(self, node: Node) -> None:
        body: Graph = node.attr("body")
        self.name, self.names = body.name, body.names
        self.length: Size = node.attr("length")
        self.reverse: bool = node.attr("reverse")
        carries, sequences, captured = scan_parts(node)
        places = [t for _, t in body.inputs]
        first, second = len(carries), len(carries) + len(sequences)
        self.carries = list(zip(places[:first], carries, strict=True))
        self.sequences = list(zip(places[first:second], sequences, strict=True))
        self.captured = list(zip(places[second:], captured, strict=True))
        outputs = [t for _, t in body.outputs]
        self.new, self.stacked = outputs[:first], outputs[first:]
        self.sums: dict[int, list[Tensor]] = {}  # by number of a carry: terms, over stacked outputs
        self.gone: set[int] = set()  # carries of which nothing is left in the loop
        self.rows: dict[int, Tensor] = {}  # by number among the stacked: what stands for all turns

    # -- what depends on what ---------------------------------------------------------------------
    def _nodes(self) -> list[Node]:
        return ordered([*self.new, *self.stacked])

    def _depends(self, nodes: Sequence[Node]) -> dict[int, int]:
        found = {id(p): _CARRY for p, _ in self.carries} | {
            id(p): _SLICE for p, _ in self.sequences
        }
        for node in nodes:
            if node.inputs:
                bits = 0
                for i in node.inputs:
                    bits |= found.get(id(i), 0)
                found[id(node)] = bits
        return found

    def _before(self, node: Tensor) -> list[Tensor]:
        """The values of a node of the body for all turns, computed outside: a new leading dim."""
        rows = [(p, s) for p, s in self.sequences]
        return vectorize_over([node], rows, self.captured)

    # -- before the loop --------------------------------------------------------------------------
    def move_before(self) -> bool:
        """Move invariant work, and contractions of rows of sequences, before the loop."""
        nodes = self._nodes()
        depends = self._depends(nodes)
        plain = _movable(nodes)
        inside: dict[int, Node] = {}
        wanted = [n for n in nodes if isinstance(n, Tensor) and id(n) in plain and n.inputs]
        used = self._used_by_turns(nodes, depends)
        for node in wanted:
            bits = depends[id(node)]
            if bits == 0 and id(node) in used and not isinstance(node.op.form, Map | Reshape):
                (value,) = substitute([node], {id(p): v for p, v in self.captured})
                inside[id(node)] = self._operand(node, value, self.captured)
            elif bits == _SLICE and _is_modest(node, depends):
                inside[id(node)] = self._operand(node, self._before(node)[0], self.sequences)
        if inside:
            self._replace(inside)
        return bool(inside)

    def _used_by_turns(self, nodes: Sequence[Node], depends: dict[int, int]) -> set[int]:
        """The nodes that are read by what changes from turn to turn, or that leave the body."""
        used = {id(t) for t in (*self.new, *self.stacked)}
        for node in nodes:
            if depends.get(id(node), 0) or isinstance(node.op.form, Map | Reshape):
                used.update(id(i) for i in node.inputs)
        return used

    def _operand(self, node: Tensor, value: Tensor, places: list[tuple[Tensor, Tensor]]) -> Tensor:
        place = placeholder(node.shape, node.dtype)
        places.append((place, value))
        return place

    def _replace(self, inside: dict[int, Node]) -> None:
        fresh = substitute([*self.new, *self.stacked], inside)
        self.new, self.stacked = fresh[: len(self.new)], fresh[len(self.new) :]

    # -- behind the loop --------------------------------------------------------------------------
    def move_after(self) -> bool:
        """Move the terms that a carry only adds up behind the loop."""
        nodes = self._nodes()
        uses: dict[int, int] = {}
        for node in nodes:
            for i in node.inputs:
                uses[id(i)] = uses.get(id(i), 0) + 1
        for t in (*self.new, *self.stacked):
            uses[id(t)] = uses.get(id(t), 0) + 1
        depends = self._depends(nodes)
        plain = _movable(nodes)
        for number, ((place, _), total) in enumerate(
            zip(list(self.carries), list(self.new), strict=True)
        ):
            terms = _terms(place, total, nodes, uses) if place.dtype.is_float else None
            if terms is None:
                continue
            moving = [t for t in terms if self._is_sum(t, place, depends, plain)]
            if not moving:
                continue
            self.sums[number] = [self._behind(t, depends, plain) for t in moving]
            moved = {id(t) for t in moving}  # `in` would ask tensors whether they are equal
            left = [t for t in terms if id(t) not in moved]
            fresh: Tensor = place
            for term in left:
                fresh = add(fresh, term)
            self.new[number] = fresh
            if not left:
                self.gone.add(number)
        return bool(self.sums)

    def _is_sum(
        self, term: Tensor, place: Tensor, depends: dict[int, int], plain: set[int]
    ) -> bool:
        """Whether a term is better summed up behind the loop: its operands are at hand there."""
        base = _base(term)
        form = base.op.form
        if not (isinstance(form, Contraction) or base.op.name == "sum") or base.dtype.itemsize < 4:
            return False
        if not any(depends.get(id(i), 0) for i in base.inputs):
            return False
        kept = {id(t) for t in self.stacked}
        cost: Size = 0
        for operand in base.inputs:
            free = id(operand) in kept or not depends.get(id(operand), 0)
            outside = depends.get(id(operand), 0) == _SLICE and id(operand) in plain
            if not free and not outside:
                cost = cost + product(operand.shape)
        gain = product(base.shape)
        if cost == 0:
            return True
        return isinstance(cost, int) and isinstance(gain, int) and cost <= 2 * gain

    def _behind(self, term: Tensor, depends: dict[int, int], plain: set[int]) -> Tensor:
        """A term summed over all turns, over placeholders for what the loop stacks."""
        base = _base(term)
        operands = [self._all_turns(i, depends, plain) for i in base.inputs]
        if isinstance(base.op.form, Contraction):
            letters, result = base.attr("spec").split("->")
            turn = next(c for c in string.ascii_letters if c not in letters + result)
            parts = [
                turn + part if many else part
                for part, (_, many) in zip(letters.split(","), operands, strict=True)
            ]
            attrs = {**base.attributes, "spec": ",".join(parts) + "->" + result}
            whole = base.op(*(t for t, _ in operands), **attrs)
        else:
            axes = (0, *(a + 1 for a in base.attr("axes")))
            whole = base.op(operands[0][0], axes=axes, keepdims=False)
            whole = whole if whole.shape == base.shape else whole.reshape(base.shape)
        return substitute([term], {id(base): whole})[0]

    def _all_turns(
        self, operand: Tensor, depends: dict[int, int], plain: set[int]
    ) -> tuple[Tensor, bool]:
        """An operand for all turns, and whether it has a dim for them."""
        bits = depends.get(id(operand), 0)
        if not bits:
            return substitute([operand], {id(p): v for p, v in self.captured})[0], False
        kept = next((k for k, t in enumerate(self.stacked) if t is operand), None)
        if kept is None and bits == _SLICE and id(operand) in plain:
            return self._before(operand)[0], True
        if kept is None:
            kept = len(self.stacked)
            self.stacked.append(operand)
        if kept not in self.rows:
            self.rows[kept] = placeholder((self.length, *operand.shape), operand.dtype)
        return self.rows[kept], True

    # -- put together -----------------------------------------------------------------------------
    def results(self) -> tuple[Tensor, ...]:
        """The results of the smaller loop, in the order of the old one."""
        staying = [k for k in range(len(self.carries)) if k not in self.gone]
        carries = [self.carries[k] for k in staying]
        places = [p for p, _ in (*carries, *self.sequences, *self.captured)]
        operands = [v for _, v in (*carries, *self.sequences, *self.captured)]
        outputs = [*(self.new[k] for k in staying), *self.stacked]
        names = {k: n for k, n in self.names.items() if n.inputs}
        body = closed_body(places, outputs, self.name, names)
        counts = (len(carries), len(self.sequences), self.length, self.reverse)
        found = results_of(SCAN, operands, body, *counts)
        last = dict(zip(staying, found, strict=False))
        rows = found[len(staying) :]
        behind: dict[int, Node] = {id(p): rows[k] for k, p in self.rows.items()}
        finals = []
        for number, (_, start) in enumerate(self.carries):
            final = last.get(number, start)
            for term in self.sums.get(number, ()):
                final = add(final, substitute([term], behind)[0])
            finals.append(final)
        return (*finals, *rows)


_LARGEST_GROWTH = 16  # of a row by its product: all rows' products are in memory at once


def _is_modest(node: Tensor, depends: dict[int, int]) -> bool:
    """Whether a node is a product of rows that are not much smaller than it: no outer product."""
    if not isinstance(node.op.form, Contraction):
        return False
    rows: Size = 0
    for operand in node.inputs:
        if depends.get(id(operand), 0):
            rows = rows + product(operand.shape)
    low, _ = bounds(rows * _LARGEST_GROWTH - product(node.shape))
    return low is not None and low >= 0


def _movable(nodes: Sequence[Node]) -> set[int]:
    """Nodes that cannot fail and are vectorized as one node, and so is all that is below them."""
    found: set[int] = set()
    for node in nodes:
        form = node.op.form
        safe = isinstance(form, Elementwise | Reduction | Contraction | Reshape) or (
            isinstance(form, Map) and form.kind == "view" and has_rule(node)
        )
        if not node.inputs or (safe and all(id(i) in found for i in node.inputs)):
            found.add(id(node))
    return found


def _terms(
    place: Tensor, total: Tensor, nodes: Sequence[Node], uses: dict[int, int]
) -> list[Tensor] | None:
    """The terms that a carry adds to itself, None for a carry that does anything else."""
    if uses.get(id(place)) != 1 or total is place:
        return None
    on_the_way = {id(place)}
    for node in nodes:
        if any(id(i) in on_the_way for i in node.inputs):
            on_the_way.add(id(node))
    terms: list[Tensor] = []
    node = total
    while node is not place:
        if (
            node.op.name != "add"
            or uses[id(node)] != 1
            or any(i.type != node.type for i in node.inputs)
        ):
            return None
        a, b = node.inputs
        if id(a) not in on_the_way:
            a, b = b, a
        if id(a) not in on_the_way or id(b) in on_the_way:
            return None
        terms.append(b)
        node = a
    return terms


def _base(term: Tensor) -> Tensor:
    """What a term is a view of."""
    while term.op.name in _VIEWS and term.inputs:
        term = term.inputs[0]
    return term
