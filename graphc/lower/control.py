"""Steps that run bodies (floor 5): a call, branch or loop with the memory that it needs.

Such a step takes its operands from memory and leaves each result in memory; the arena of a body is
a temporary of the step that runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc.base.dims import Dim, Size
from graphc.base.dtypes import bool_, uint8
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, TensorType, TupleType
from graphc.lower.elements import storage_roots
from graphc.lower.kernel_builder import Stored, Temporary
from graphc.ops.families import Control


@dataclass(eq=False, slots=True)
class LoweredControl:
    """A node that runs bodies, with the memory of its buffers in the order of `backend.program`.

    bodies: the node's, in the order of its attributes; values: all buffers but the arenas; arenas:
    of each body, None where it needs none.
    """

    node: Node
    bodies: tuple[Graph, ...]
    values: tuple[Stored, ...]
    arenas: tuple[Temporary | None, ...]

    @property
    def args(self) -> tuple[Stored, ...]:
        """Everything that must be in memory while the step runs."""
        if not any(self.arenas):
            return self.values
        return self.values + tuple([a for a in self.arenas if a is not None])

    @property
    def overwrites(self) -> tuple[int, ...]:
        """No result may take over the memory of an operand."""
        return ()


@dataclass(eq=False, slots=True)
class LoweredCalls:
    """Calls of one body one after another, each of which reads what the one before gave.

    rows: of each call its operands, and where its result goes: the last one's place and another
    take turns. arena: of the body, None where it needs none; args: everything that must be in
    memory while the step runs.
    """

    body: Graph
    rows: tuple[tuple[Stored, ...], ...]
    arena: Temporary | None
    args: tuple[Stored, ...]

    @property
    def overwrites(self) -> tuple[int, ...]:
        """No result may take over the memory of an operand."""
        return ()


def control_node(node: Node) -> Node | None:
    """The node that runs bodies and has `node` as a result, or None."""
    origin = node.inputs[0] if node.inputs else node
    return origin if isinstance(origin.op.form, Control) else None


def bodies_of(node: Node) -> tuple[Graph, ...]:
    """The bodies of a node, in the order of its attributes."""
    return tuple([a for a in node.attrs if isinstance(a, Graph)])


def lower_control(
    node: Node, results: Sequence[Tensor], arenas_of: Mapping[Graph, Size]
) -> LoweredControl:
    """The step of a node. results: its `get` nodes that are used; arenas_of: bytes by body."""
    assert isinstance(node.type, TupleType)
    used = {r.attrs[0]: r for r in results}
    given = storage_roots(node.inputs)
    made: list[Stored] = [
        used[k] if k in used else Temporary(t.shape, t.dtype) for k, t in enumerate(node.type.items)
    ]
    kind = node.op.name
    values: list[Stored] = [*given, *made]
    if kind != "call":
        values += map(_temporary, _places(node))
    if kind == "while_loop":
        values.append(Temporary((), bool_))
    bodies = bodies_of(node)
    arena_bytes = [arenas_of[body] for body in bodies]
    together = kind in ("cond", "while_loop")  # bodies that never run at the same time
    arenas = _shared(arena_bytes) if together else tuple(map(_arena, arena_bytes))
    return LoweredControl(node, bodies, tuple(values), arenas)


def lower_calls(results: Sequence[Tensor], arenas_of: Mapping[Graph, Size]) -> LoweredCalls:
    """The step of calls of one body: of their results each is an operand of the next call, and only
    the last one is read otherwise.
    """
    calls = [r.inputs[0] for r in results]
    (body,) = bodies_of(calls[0])
    last = results[-1]
    turns: tuple[Stored, Stored] = (last, Temporary(last.shape, last.dtype))
    places = [turns[k % 2] for k in reversed(range(len(results)))]
    first = storage_roots(calls[0].inputs)
    rows: list[tuple[Stored, ...]] = [(*first, places[0])]
    args: list[Stored] = [*first]
    for k, call in enumerate(calls[1:], 1):
        before = results[k - 1]
        fed = [places[k - 1] if i is before else i for i in call.inputs]
        rows.append((*fed, places[k]))
        args += [i for i in call.inputs if i is not before]
    arena = _arena(arenas_of[body])
    args += turns if arena is None else (*turns, arena)
    return LoweredCalls(body, tuple(rows), arena, tuple(args))


def _places(node: Node) -> tuple[TensorType, ...]:
    """The second places of carries."""
    if node.op.name not in ("scan", "while_loop"):
        return ()
    assert isinstance(node.type, TupleType)
    return node.type.items[: node.attr("carries")]


def _temporary(t: TensorType) -> Temporary:
    return Temporary(t.shape, t.dtype)


def _arena(size: Size) -> Temporary | None:
    return None if size == 0 else Temporary((size,), uint8)


def _shared(sizes: Sequence[Size]) -> tuple[Temporary | None, ...]:
    """One arena for bodies of which one runs at a time, where it is known which needs most."""
    fixed = [s for s in sizes if not isinstance(s, Dim)]
    most = _arena(max(fixed, default=0))
    shared: dict[Size, Temporary | None] = {}
    for size in sizes:
        shared.setdefault(size, _arena(size) if isinstance(size, Dim) else most)
    return tuple(shared[size] if size != 0 else None for size in sizes)
