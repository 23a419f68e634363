"""Vectorization (floor 3): one computation over the rows of a batch, as one computation with one
more axis.

`vectorize` replaces a tensor by a batch of tensors and carries the new leading axis through every
op that depends on it, by the op's family: elementwise ops broadcast, reductions and views shift
their axes, contractions take one more letter.  Composites are expanded; ops without a rule are
computed row by row, where the number of rows is static.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

from graphc.base.dims import Size
from graphc.base.errors import UnsupportedError
from graphc.ir import provenance
from graphc.ir.bindings import depends_on, mentioned
from graphc.ir.node import Node, Tensor, make
from graphc.ir.opdef import fail
from graphc.ops.families import (
    Alias,
    Composite,
    Contraction,
    Control,
    Elementwise,
    Item,
    Reduction,
    Reshape,
)
from graphc.ops.joining import stack
from graphc.ops.reshape import to_shape
from graphc.ops.view import broadcast_to

MAX_ROWS = 4096  # of an op without a rule: each row is a node of its own


def vectorize(outputs: Sequence[Tensor], x: Tensor, rows: Tensor) -> list[Tensor]:
    """The outputs with `x` replaced by each of `rows`: shape (n, *x.shape) in, (n, *output.shape)
    out.

    Raises UnsupportedError for an op without a rule when the number of rows is symbolic or large.
    """
    return vectorize_over(outputs, [(x, rows)])


def vectorize_over(
    outputs: Sequence[Tensor],
    rows: Sequence[tuple[Tensor, Tensor]],
    fixed: Sequence[tuple[Tensor, Tensor]] = (),
) -> list[Tensor]:
    """`vectorize` for several tensors at once: pairs of a tensor and its rows, as many of each.

    fixed: pairs of a tensor and what stands for it in every row.
    """
    walk = Vectorizer(rows, fixed)
    return [walk.batched(walk.visit(output)) for output in outputs]


def has_rule(node: Node) -> bool:
    """Whether a node is vectorized as one node, not row by row."""
    forms = Alias | Elementwise | Reduction | Contraction | Reshape
    return isinstance(node.op.form, forms) or node.op.name in VIEWS


class Vectorizer:
    """The state of one vectorization: what each visited node became, and which of them have the new
    axis.
    """

    def __init__(
        self,
        rows: Sequence[tuple[Tensor, Tensor]],
        fixed: Sequence[tuple[Tensor, Tensor]],
    ) -> None:
        self.size = rows[0][1].shape[0]
        self.new: dict[int, Tensor] = {id(x): new for x, new in (*rows, *fixed)}
        self.has_axis: set[int] = {id(x) for x, _ in rows}
        self.results: dict[int, Sequence[Batched]] = {}  # of ops with several, by id of the node
        self.batched_from = frozenset(self.has_axis)
        # Ids are used again when nodes die.
        self.keep: list[Node] = [node for pair in (*rows, *fixed) for node in pair]

    def batched(self, node: Tensor) -> Tensor:
        """The value of a visited node with the leading axis, repeated where it does not depend on
        the row.
        """
        value = self.new[id(node)]
        if id(node) in self.has_axis:
            return value
        return broadcast_to(value, (self.size, *node.shape))

    def visit(self, root: Tensor) -> Tensor:
        """Process everything below `root`, inputs first, without recursion."""
        stack_: list[Tensor] = [root]
        expanded: dict[int, Tensor] = {}
        while stack_:
            node = stack_[-1]
            if id(node) in self.new:
                stack_.pop()
                continue
            waiting = [i for i in node.inputs if id(i) not in self.new]
            if waiting:
                stack_.extend(waiting)
                continue
            if self._expands(node):
                whole = expanded.get(id(node))
                if whole is None:
                    whole = expanded[id(node)] = node.op.form.expand(node)
                    self.keep.append(whole)
                if id(whole) not in self.new:
                    stack_.append(whole)
                    continue
                self._set(node, self.new[id(whole)], id(whole) in self.has_axis)
            else:
                self._process(node)
            stack_.pop()
        return root

    def _expands(self, node: Tensor) -> bool:
        if not isinstance(node.op.form, Composite) or node.op.name in VIEWS:
            return False
        return any(id(i) in self.has_axis for i in node.inputs)

    def _set(self, node: Tensor, value: Tensor, has_axis: bool) -> None:
        self.keep.append(node)
        self.new[id(node)] = value
        if has_axis:
            self.has_axis.add(id(node))

    def _process(self, node: Tensor) -> None:
        if isinstance(node.op.form, Item) and id(node.inputs[0]) in self.results:
            self._set(node, *self.results[id(node.inputs[0])][node.attrs[0]])
            return
        inputs = tuple(self.new[id(i)] for i in node.inputs)
        flags = [id(i) in self.has_axis for i in node.inputs]
        self._refuse_sizes_of_rows(node)
        if not any(flags):
            changed = any(a is not b for a, b in zip(inputs, node.inputs, strict=True))
            fresh = make(node.op, inputs, node.attrs) if changed else node
            self._set(node, fresh, False)  # type: ignore[arg-type]  # several results: only `get` reads
            return
        with provenance.derived_from(node):
            form = node.op.form
            if isinstance(form, Control):
                self.results[id(node)] = CONTROL[form.kind](node, inputs, flags, self.size)
                self._set(node, node, False)
                return
            if isinstance(form, Alias):
                # Input 0 alone is the value; the others only order it.
                self._set(node, inputs[0] if flags[0] else _same(node, inputs), flags[0])
                return
            self._set(node, self._rows_of(node, inputs, flags), True)

    def _refuse_sizes_of_rows(self, node: Tensor) -> None:
        """Raise UnsupportedError for a size that would differ from row to row."""
        for symbol in mentioned(node):
            if depends_on(symbol, self.batched_from):
                fail(
                    UnsupportedError,
                    f"jacobian: the size {symbol} is computed from what is differentiated for many "
                    "rows at once, and would differ from row to row",
                    (node,),
                    "differentiate a smaller part, or row by row with graphc.vjp",
                )

    def _rows_of(self, node: Tensor, inputs: Sequence[Tensor], flags: Sequence[bool]) -> Tensor:
        """The node for all rows, along a new axis 0; flags: which inputs have that axis."""
        form = node.op.form
        full = [self.batched(i) for i in node.inputs]
        rule = VIEWS.get(node.op.name)
        if isinstance(form, Elementwise):
            return _elementwise(node, inputs, flags)
        if isinstance(form, Reduction):
            axes = tuple(a + 1 for a in node.attr("axes"))
            return _with_attrs(node, (full[0],), axes=axes)
        if isinstance(form, Contraction):
            return _contraction(node, inputs, flags)
        if isinstance(form, Reshape):
            return to_shape(full[0], (self.size, *node.shape))
        if rule is not None:
            return rule(node, full)
        return self._row_by_row(node, inputs, flags)

    def _row_by_row(self, node: Tensor, inputs: Sequence[Tensor], flags: Sequence[bool]) -> Tensor:
        if not isinstance(self.size, int) or self.size > MAX_ROWS:
            fail(
                UnsupportedError,
                f"jacobian: {node.op.name} is differentiated row by row, "
                f"which needs a static number "
                f"of rows "
                f"of at most {MAX_ROWS}, got {self.size}",
                (node,),
                "declare the output's shape with ints, or differentiate a smaller part",
            )
        if self.size == 0:
            return broadcast_to(node, (0, *node.shape))
        rows = []
        for k in range(self.size):
            row = tuple(i[k] if flag else i for i, flag in zip(inputs, flags, strict=True))
            rows.append(_same(node, row))
        return stack(rows, axis=0)


def _same(node: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    fresh = make(node.op, tuple(inputs), node.attrs)
    assert isinstance(fresh, Tensor)
    return fresh


def _with_attrs(node: Tensor, inputs: tuple[Tensor, ...], **changed: object) -> Tensor:
    attrs = tuple(changed.get(k, v) for k, v in zip(node.op.attributes, node.attrs, strict=True))
    fresh = make(node.op, inputs, attrs)
    assert isinstance(fresh, Tensor)
    return fresh


def _elementwise(node: Tensor, inputs: Sequence[Tensor], flags: Sequence[bool]) -> Tensor:
    lined_up = []
    for value, flag in zip(inputs, flags, strict=True):
        if flag:
            shape = value.shape[1:]
            value = to_shape(value, (value.shape[0], *(1,) * (node.ndim - len(shape)), *shape))
        lined_up.append(value)
    return _same(node, lined_up)


def _contraction(node: Tensor, inputs: Sequence[Tensor], flags: Sequence[bool]) -> Tensor:
    operands, result = node.attr("spec").split("->")
    letter = next(c for c in string.ascii_letters if c not in operands + result)
    parts = [letter + p if f else p for p, f in zip(operands.split(","), flags, strict=True)]
    return _with_attrs(node, tuple(inputs), spec=",".join(parts) + "->" + letter + result)


Batched = tuple[Tensor, bool]  # a value, and whether it has the new axis
# By kind of control flow: (node, operands, which have the new axis, its size) -> the results.
# Filled by `batching_control.py`.
CONTROL: dict[str, Callable[[Node, Sequence[Tensor], Sequence[bool], Size], list[Batched]]] = {}
Rule = Callable[[Tensor, Sequence[Tensor]], Tensor]
VIEWS: dict[str, Rule] = {}


def _shifted(node: Tensor, full: Sequence[Tensor], **front: tuple[object, ...]) -> Tensor:
    """The op with a per-axis attribute value in front for the new axis."""
    changed = {k: (*v, *node.attr(k)) for k, v in front.items()}
    return _with_attrs(node, tuple(full), **changed)


def _axes_moved(node: Tensor, full: Sequence[Tensor]) -> Tensor:
    return _with_attrs(node, tuple(full), axes=tuple(a + 1 for a in node.attr("axes")))


def _axis_moved(node: Tensor, full: Sequence[Tensor]) -> Tensor:
    return _with_attrs(node, tuple(full), axis=node.attr("axis") + 1)


def _permute(node: Tensor, full: Sequence[Tensor]) -> Tensor:
    axes = (0, *(a + 1 for a in node.attr("axes")))
    return _with_attrs(node, tuple(full), axes=axes)


def _broadcast(node: Tensor, full: Sequence[Tensor]) -> Tensor:
    (x,) = full
    inner = x.shape[1:]
    lined_up = to_shape(x, (x.shape[0], *(1,) * (node.ndim - len(inner)), *inner))
    return broadcast_to(lined_up, (x.shape[0], *node.shape))


def _pad(node: Tensor, full: Sequence[Tensor]) -> Tensor:
    return _shifted(node, full, low=(0,), high=(0,), interior=(0,))


def _slice(node: Tensor, full: Sequence[Tensor]) -> Tensor:
    return _shifted(node, full, starts=(0,), steps=(1,), shape=(full[0].shape[0],))


def _keys(node: Tensor, full: Sequence[Tensor]) -> Tensor:
    return _same(node, full)


VIEWS.update(
    random_bits=_keys,
    random_long_bits=_keys,
    permute_dims=_permute,
    broadcast_to=_broadcast,
    flip=_axes_moved,
    roll=_axes_moved,
    diagonal=_axes_moved,
    embed_diagonal=_axes_moved,
    windows=_axes_moved,
    align_windows=_axes_moved,
    unalign_windows=_axes_moved,
    concat=_axis_moved,
    pad=_pad,
    slice=_slice,
    cumulative_sum=_axis_moved,
    cumulative_prod=_axis_moved,
    cumulative_max=_axis_moved,
    sort=_axis_moved,
    argsort=_axis_moved,
    top_k_positions=_axis_moved,
    softmax=_axis_moved,
    log_softmax=_axis_moved,
)
# Matrices are the last two dims, and every other dim is a batch already.
_MATRICES = (
    "cholesky eigh eigvalsh lu lu_solve qr qr_complete repeated_squares svd svdvals "
    "triangular_solve"
)
VIEWS.update(dict.fromkeys(_MATRICES.split(), _same))
