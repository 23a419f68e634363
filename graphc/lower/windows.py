"""Reductions over windows (floor 5): pools, sums of neighbours, the transposes of windows.

The places within a window are the innermost axes of the view, a few each, and the results lie side
by side in memory. `along_results` moves the window axes to the front, so that vectors run across
results and a result is one chain over its window in index order. What stands below windows and has
a condition for each element, padding along the results and joined tensors, gets memory: elements
are read several times, and vectors of them without conditions.
"""

from __future__ import annotations

from graphc.base.dims import product
from graphc.ir.node import Node, Tensor, make
from graphc.lower.edges import is_view
from graphc.ops.families import Elementwise, Reduction, Reshape
from graphc.ops.view import permuted
from graphc.schedule import policy_cpu as policy

_WINDOWS = frozenset(("windows", "align_windows", "unalign_windows"))
_MOST = 256  # elements of one window: longer ones fill vectors by themselves
_FEW_OPS = 8  # elementwise ops and their operands that are computed again for a reduction
_FEWEST = 4  # results in a row: fewer fill no vector


def along_results(node: Tensor, inputs: tuple[Tensor, ...], forced: list[Tensor]) -> Node:
    """The reduction with its reduced axes in front where it is one over short windows, else as it
    is; what needs memory for it is added to `forced`.
    """
    (operand,) = inputs
    if not _over_windows(node, operand):
        return make(node.op, inputs, node.attrs)
    axes = node.attr("axes")
    kept = tuple(a for a in range(operand.ndim) if a not in axes)
    forced.extend(conditional_views(operand, kept[-1]))
    attrs = tuple(
        tuple(range(len(axes))) if name == "axes" else value
        for name, value in node.attributes.items()
    )
    return make(node.op, (_turned(operand, (*axes, *kept)),), attrs)


def _over_windows(node: Tensor, operand: Tensor) -> bool:
    if not isinstance(node.op.form, Reduction) or operand.ndim < 2:
        return False
    axes = set(node.attr("axes"))
    inner = [a for a, s in enumerate(operand.shape) if s != 1]
    kept = [a for a in inner if a not in axes]
    reduced = [a for a in inner if a in axes]
    if not kept or not reduced or reduced[-1] != inner[-1]:
        return False
    count, row = product(operand.shape[a] for a in reduced), operand.shape[kept[-1]]
    if not isinstance(count, int) or count > _MOST or (isinstance(row, int) and row < _FEWEST):
        return False
    sources = _sources(operand)
    if any(s.ndim not in (0, operand.ndim) for s in sources):
        return False  # dims of size 1 that only broadcasting adds cannot be moved
    # Windows side by side are a reshape, their axes between the others.
    apart = reduced[0] < kept[-1] and any(isinstance(s.op.form, Reshape) for s in sources)
    return apart or any(map(has_windows, sources))


def _sources(operand: Tensor) -> list[Tensor]:
    """What a few cheap elementwise ops read that the operand is computed with, the operand itself
    where it is something else; nothing where the ops are many or dear, and better stay one kernel.
    """
    found: list[Tensor] = []
    for node in (ops := [operand]):
        form = node.op.form
        if not isinstance(form, Elementwise):
            found.append(node)
        elif len(ops) > _FEW_OPS or node.op.name in policy.DEAR:
            return []
        else:
            ops.extend(i for i in node.inputs if isinstance(i, Tensor))
    return found


def _turned(operand: Tensor, order: tuple[int, ...]) -> Tensor:
    """The operand with its axes in this order, its elementwise ops on such operands: they stay in
    the kernel of the reduction.
    """
    done: dict[int, Tensor] = {}
    stack: list[Tensor] = [operand]
    while stack:
        node = stack[-1]
        inputs = [i for i in node.inputs if isinstance(i, Tensor)]
        if not isinstance(node.op.form, Elementwise):
            done[id(node)] = permuted(node, order) if node.ndim == len(order) else node
        elif missing := [i for i in inputs if id(i) not in done]:
            stack += missing
            continue
        else:
            made = make(node.op, tuple(done[id(i)] for i in inputs), node.attrs)
            assert isinstance(made, Tensor)
            done[id(node)] = made
        stack.pop()
    return done[id(operand)]


def has_windows(operand: Tensor) -> bool:
    """Whether a chain of views reads windows."""
    node = operand
    while is_view(node) and node.inputs:
        if node.op.name in _WINDOWS:
            return True
        node = node.inputs[0]
    return False


def conditional_views(operand: Tensor, row: int) -> list[Tensor]:
    """The first view of an operand's chain that chooses among elements along its axis `row`, or
    from several tensors, as a list.
    """
    node, axis = operand, row
    while is_view(node) and node.inputs:
        if node.op.name == "permute_dims":
            axis = node.attr("axes")[axis]
        elif node.op.name == "concat":
            return [node]
        elif node.op.name == "pad":
            if node.shape[axis] != node.inputs[0].shape[axis]:
                return [node]
        elif isinstance(node.op.form, Reshape):
            # Dims from the axis on stay what they are where those before it are split or merged.
            behind = node.ndim - axis
            if node.inputs[0].shape[-behind:] != node.shape[axis:]:
                return []
            axis = node.inputs[0].ndim - behind
        elif node.op.name != "windows" or axis >= node.inputs[0].ndim:
            return []
        node = node.inputs[0]
    return []
