"""Matrices that a loop multiplies by at each turn, in panels (floor 5).

The rows of a wide matrix lie so far apart that a register tile, which reads a few columns of all of
them, finds each in another page and many in the same sets of the cache.  Copied once before the
loop into panels of a tile's columns, one after another, the matrix is read as it lies.  The copy is
a view of the matrix that is put into memory, so it costs a pass over the matrix per run of the loop
and changes no bit: each result is the same chain over the same values.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.base.dims import Shape, product
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, make
from graphc.ir.provenance import derived_from
from graphc.lower.contraction import is_dot, letters, vector_letter
from graphc.lower.edges import is_view
from graphc.ops.families import Constant, Contraction, Elementwise
from graphc.ops.joining import take_slice
from graphc.ops.reshape import to_shape
from graphc.ops.view import permute_dims
from graphc.schedule import policy_cpu as policy

# Bytes of a matrix from which panels pay: smaller ones stay in the first-level cache as they are.
WORTH_PANELS = 1 << 16

# Elementwise ops between a product and a slice of it that are done after the slice, at most.
MAX_SLICED = 4


def in_panels(body: Graph, moving: Sequence[Tensor]) -> tuple[Graph, list[Tensor]]:
    """The body of a loop with products by wide matrices over panels of them, and the panels, which
    need memory. moving: the inputs that change from turn to turn.
    """
    changing = {id(t) for t in moving}
    for node in body.nodes:
        if any(id(i) in changing for i in node.inputs):
            changing.add(id(node))
    panels: list[Tensor] = []
    split: dict[int, Tensor] = {}  # id of a result -> the same with its columns in two dims

    def visit(node: Node, inputs: tuple[Tensor, ...]) -> Node:
        if not isinstance(node, Tensor) or not inputs:
            return _remade(node, inputs)
        with derived_from(node):
            found: Tensor | None = None
            if isinstance(node.op.form, Contraction):
                found = _over_panels(node, inputs, changing, panels)
            elif isinstance(node.op.form, Elementwise):
                found = _in_two_dims(node, inputs, split)
            elif node.op.name == "slice":
                found = _whole_panels(node, inputs, split)
            if found is None:
                return _remade(node, inputs)
            result = to_shape(found, node.shape)
            split[id(result)] = found
            return result

    new = body.map(visit)
    alive = {id(n) for n in new.nodes}
    return new, [p for p in panels if id(p) in alive]


def _remade(node: Node, inputs: tuple[Tensor, ...]) -> Node:
    if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
        return node
    with derived_from(node):
        return make(node.op, inputs, node.attrs)


def _over_panels(
    node: Tensor, inputs: tuple[Tensor, ...], changing: set[int], panels: list[Tensor]
) -> Tensor | None:
    """The product by panels, its columns as (panel, column of the panel); None where they do not
    pay.
    """
    specs = list(letters(node)[:2])
    out = letters(node)[2]
    last = vector_letter(node)
    if last is None or out[-1] != last or not node.dtype.is_float or is_dot(node):
        return None
    owners = [k for k in (0, 1) if last in specs[k]]
    fixed = [k for k in (0, 1) if id(node.inputs[k]) not in changing]
    if owners != fixed or len(fixed) != 1:
        return None
    (k,) = fixed
    width = 2 * policy.VECTOR_BYTES // node.dtype.compute.itemsize
    matrix, spec = inputs[k], specs[k]
    columns, size = matrix.shape[spec.index(last)], product(matrix.shape)
    if not isinstance(columns, int) or not isinstance(size, int) or _in_memory_for_good(matrix):
        return None
    if columns <= width or columns % width or size * matrix.dtype.itemsize < WORTH_PANELS:
        return None
    others = "".join(c for c in spec if c != last)
    if not all(c in specs[1 - k] and c not in out for c in others):
        return None  # batches of matrices stay what they are
    rows = permute_dims(matrix, tuple(spec.index(c) for c in others + last))
    sizes = rows.shape[:-1]
    panel = permute_dims(
        to_shape(rows, (*sizes, columns // width, width)),
        (len(sizes), *range(len(sizes)), len(sizes) + 1),
    )
    panels.append(panel)
    letter = next(c for c in "pqrstuvwxyzabcdefghijklmno" if c not in "".join(specs))
    specs[k] = f"{letter}{others}{last}"
    operands = list(inputs)
    operands[k] = panel
    text = f"{specs[0]},{specs[1]}->{out[:-1]}{letter}{last}"
    found = make(node.op, tuple(operands), (text,))
    assert isinstance(found, Tensor)
    return found


def _in_memory_for_good(matrix: Tensor) -> bool:
    """Constants are put in order when a graph is compiled."""
    node = matrix
    while is_view(node) and node.inputs:
        node = node.inputs[0]
    return isinstance(node.op.form, Constant)


def _whole_panels(
    node: Tensor, inputs: tuple[Tensor, ...], split: dict[int, Tensor]
) -> Tensor | None:
    """A slice of columns, in two dims, where it has whole panels; None where it has not."""
    source = split.get(id(inputs[0]))
    if source is None:
        return None
    width = source.shape[-1]
    starts, steps, shape = node.attrs
    first, columns = starts[-1], shape[-1]
    others = starts[:-1] == (0,) * (node.ndim - 1) and shape[:-1] == inputs[0].shape[:-1]
    if not others or any(step != 1 for step in steps) or not isinstance(width, int):
        return None
    if not isinstance(first, int) or not isinstance(columns, int):
        return None
    if first < 0 or first % width or columns % width or not columns:
        return None
    return _panels_of(source, first // width, columns // width, MAX_SLICED)


def _panels_of(source: Tensor, first: int, count: int, depth: int) -> Tensor:
    """`count` panels of a tensor with columns in two dims. Elementwise ops are done on them alone,
    so that the part of the product that they use shows; at most `depth` of them.
    """
    axis = source.ndim - 2
    if depth and isinstance(source.op.form, Elementwise):
        operands = [
            i if i.shape == () else _panels_of(i, first, count, depth - 1) for i in source.inputs
        ]
        found = make(source.op, tuple(operands), source.attrs)
        assert isinstance(found, Tensor)
        return found
    return take_slice(source, axis, first, count)


def _in_two_dims(
    node: Tensor, inputs: tuple[Tensor, ...], split: dict[int, Tensor]
) -> Tensor | None:
    """An elementwise op on a result whose columns are in two dims, there: it stays in the kernel of
    the product. None where another operand has another shape.
    """
    parts = [split[id(i)] for i in inputs if id(i) in split]
    if not parts or not all(_has_columns(i, node) or i.shape == () for i in inputs):
        return None
    shape = parts[0].shape
    if any(p.shape != shape for p in parts):
        return None
    operands = [split.get(id(i), i if i.shape == () else _split(i, shape)) for i in inputs]
    found = make(node.op, tuple(operands), node.attrs)
    return found if isinstance(found, Tensor) and found.shape == shape else None


def _has_columns(operand: Tensor, node: Tensor) -> bool:
    """Whether an operand has the shape of its user, or the last dims of it."""
    return operand.ndim > 0 and operand.shape == node.shape[node.ndim - operand.ndim :]


def _split(operand: Tensor, shape: Shape) -> Tensor:
    """An operand with its columns in the last two dims of `shape`."""
    return to_shape(operand, (*operand.shape[:-1], *shape[-2:]))
