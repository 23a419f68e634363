"""Vectorization of control flow (floor 3): one loop over batches of carries instead of many loops.

A carry has the new axis if its first value has, or if a turn gives it one.  Decisions are the same
in every row, but for the predicate of a `cond`: then both branches run and each row takes its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.autodiff.batching import CONTROL, Batched, Vectorizer
from graphc.autodiff.substitution import substitute
from graphc.base.dims import Size
from graphc.base.errors import UnsupportedError
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor
from graphc.ir.opdef import fail
from graphc.ops.control import CALL, COND, SCAN, WHILE_LOOP, closed_body, results_of
from graphc.ops.elementwise import WHERE
from graphc.ops.reshape import to_shape
from graphc.ops.state import placeholder
from graphc.ops.view import broadcast_to, permuted


class _Body:
    """A body over batches: of its inputs, those that `flags` says have the new axis."""

    def __init__(self, body: Graph, flags: Sequence[bool], size: Size) -> None:
        self.body, self.size = body, size
        inputs = [t for _, t in body.inputs]
        self.places = [
            placeholder((size, *t.shape), t.dtype) if flag else t
            for t, flag in zip(inputs, flags, strict=True)
        ]
        rows = [(t, p) for t, p, flag in zip(inputs, self.places, flags, strict=True) if flag]
        self.outputs = [t for _, t in body.outputs]
        if rows:
            walk = Vectorizer(rows, ())
            for t in self.outputs:
                walk.visit(t)
            self.new = [walk.new[id(t)] for t in self.outputs]
            self.flags = [id(t) in walk.has_axis for t in self.outputs]
        else:
            self.new, self.flags = self.outputs, [False] * len(self.outputs)

    def closed(self, flags: Sequence[bool]) -> Graph:
        """The body whose outputs have the axis where `flags` says so."""
        outputs = [
            broadcast_to(new, (self.size, *old.shape)) if flag and not own else new
            for new, old, own, flag in zip(self.new, self.outputs, self.flags, flags, strict=True)
        ]
        return closed_body(self.places, outputs, self.body.name)


def _either(a: Sequence[bool], b: Sequence[bool]) -> list[bool]:
    return [x or y for x, y in zip(a, b, strict=True)]


def _with_axis(
    operands: Sequence[Tensor], have: Sequence[bool], want: Sequence[bool], size: Size
) -> list[Tensor]:
    return [
        broadcast_to(t, (size, *t.shape)) if flag and not own else t
        for t, own, flag in zip(operands, have, want, strict=True)
    ]


def _call(
    node: Node, operands: Sequence[Tensor], flags: Sequence[bool], size: Size
) -> list[Batched]:
    body = _Body(node.attr("body"), flags, size)
    found = results_of(CALL, operands, body.closed(body.flags))
    return list(zip(found, body.flags, strict=True))


def _cond(
    node: Node, operands: Sequence[Tensor], flags: Sequence[bool], size: Size
) -> list[Batched]:
    then = _Body(node.attr("then"), flags[1:], size)
    otherwise = _Body(node.attr("otherwise"), flags[1:], size)
    have = _either(then.flags, otherwise.flags)
    if not flags[0]:
        found = results_of(COND, operands, then.closed(have), otherwise.closed(have))
        return list(zip(found, have, strict=True))
    every = [True] * len(have)
    both = []
    for body in (then, otherwise):
        mapping: dict[int, Node] = {
            id(p): t for p, t in zip(body.places, operands[1:], strict=True)
        }
        closed = body.closed(every)
        both.append(substitute([t for _, t in closed.outputs], mapping))
    chosen = []
    for a, b in zip(*both, strict=True):
        where = to_shape(operands[0], (size, *(1,) * (a.ndim - 1)))
        chosen.append((WHERE(where, a, b), True))
    return chosen


def _scan(
    node: Node, operands: Sequence[Tensor], flags: Sequence[bool], size: Size
) -> list[Batched]:
    n, m = node.attr("carries"), node.attr("sequences")
    carried = list(flags[:n])
    while True:
        body = _Body(node.attr("body"), [*carried, *flags[n:]], size)
        more = _either(carried, body.flags[:n])
        if more == carried:
            break
        carried = more
    have = [*carried, *body.flags[n:]]
    first = _with_axis(operands[:n], flags[:n], carried, size)
    # Turns come first in sequences and in stacked outputs, the new axis behind them.
    rows = [
        _second_first(t) if flag else t
        for t, flag in zip(operands[n : n + m], flags[n : n + m], strict=True)
    ]
    attrs = (body.closed(have), n, m, node.attr("length"), node.attr("reverse"))
    found = list(results_of(SCAN, (*first, *rows, *operands[n + m :]), *attrs))
    for k in range(n, len(found)):
        if have[k]:
            found[k] = _second_first(found[k])
    return list(zip(found, have, strict=True))


def _second_first(x: Tensor) -> Tensor:
    return permuted(x, (1, 0, *range(2, x.ndim)))


def _while(
    node: Node, operands: Sequence[Tensor], flags: Sequence[bool], size: Size
) -> list[Batched]:
    n = node.attr("carries")
    carried = list(flags[:n])
    while True:
        body = _Body(node.attr("body"), [*carried, *flags[n:]], size)
        more = _either(carried, body.flags)
        if more == carried:
            break
        carried = more
    condition = _Body(node.attr("condition"), [*carried, *flags[n:]], size)
    if condition.flags[0]:
        fail(
            UnsupportedError,
            "jacobian: a while_loop that ends at another turn in each row has no batched form",
            (node,),
            "use graphc.scan with a fixed length and graphc.where",
        )
    first = _with_axis(operands[:n], flags[:n], carried, size)
    bodies = (condition.closed([False]), body.closed(carried))
    found = results_of(WHILE_LOOP, (*first, *operands[n:]), *bodies, n)
    return list(zip(found, [*carried, False], strict=True))


CONTROL.update(call=_call, cond=_cond, scan=_scan, while_loop=_while)
