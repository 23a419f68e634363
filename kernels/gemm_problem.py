"""A matrix product as a template sees it (beside the floors): letters in groups, sizes of blocks,
and how its operands are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc.base.dims import Shape, Size, product
from graphc.ir.node import Tensor
from graphc.loops.build import imin, isub
from graphc.loops.index_math import unflatten
from graphc.loops.nodes import Expr, const, load, size
from graphc.lower.contraction import ContractionPlan, letters
from graphc.lower.elements import storage_root
from graphc.lower.kernel_builder import label_of
from graphc.ops.families import Alias, Reshape

Letters = list[str]
Place = Mapping[str, Expr]  # the index of each letter


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """A product as groups of letters: `rows` of the row operand alone, `columns` of the other one
    alone (the last letters of the result), `summed` of both, in the order of the chain, `outer`
    the others. Letters of size 1 are in none.

    The last summed letters, `inner`, count as one, which is cut into panels of `depth` elements
    (`schedule.panels`).
    """

    sizes: Mapping[str, Size]
    row_operand: int
    outer: Letters
    rows: Letters
    columns: Letters
    summed: Letters
    depth: int
    inner: Letters

    @property
    def leading(self) -> Letters:
        """The summed letters around panels."""
        return self.summed[: len(self.summed) - len(self.inner)]

    def size(self, group: Letters) -> Size:
        """The number of elements of a group of letters."""
        return product(self.shape(group))

    def shape(self, group: Letters) -> Shape:
        """The sizes of a group's letters."""
        return tuple(self.sizes[c] for c in group)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Sizes of tiles and blocks.

    A register tile has `height` rows of `vectors` vectors of `width` elements. A block of the
    result has `rows` x (`lines` of `columns`), a line being a run along the last column letter.
    shared: the column operand is packed once
    for all blocks, by a kernel of its own. pack_rows: so is a block of the row operand, by each
    step. narrow: a block's last panel may be one vector wide.
    """

    height: int
    width: int
    vectors: int
    rows: int
    lines: int
    columns: int
    shared: bool = False
    pack_rows: bool = True
    narrow: bool = True

    @property
    def panel(self) -> int:
        """The columns of a panel."""
        return self.width * self.vectors


class Operand:
    """Elements of one operand of a product. Groups of letters that are neighbours in its memory
    and in its order count as one dim, so that loops along them step through memory.
    """

    def __init__(self, plan: ContractionPlan, problem: Problem, number: int) -> None:
        self.plan = plan
        self.problem = problem
        self.number = number
        self.letters = [c for c in letters(plan.node)[number] if plan.sizes[c] != 1]
        self.memory = memory_of(plan, plan.node.inputs[number])

    def is_one_dim(self, group: Letters) -> bool:
        """Whether a group of letters can count as one dim."""
        if len(group) == 1:
            return True
        if self.memory is None or group[0] not in self.letters:
            return False
        at = self.letters.index(group[0])
        return self.letters[at : at + len(group)] == group

    def value(self, place: Place, groups: list[tuple[Letters, Expr]]) -> Expr:
        """The element at the indices of single letters and of groups, flattened."""
        place = dict(place)
        whole: dict[str, tuple[Letters, Expr]] = {}  # by first letter
        for group, index in groups:
            if len(group) > 1 and self.is_one_dim(group):
                whole[group[0]] = group, index
            shape = self.problem.shape(group)
            place |= dict(zip(group, unflatten(index, shape), strict=True))
        if not whole or self.memory is None:
            return self.plan.operand(self.number, place)
        dims: list[Size] = []
        indices: list[Expr] = []
        inside = {c for group, _ in whole.values() for c in group}
        for letter in self.letters:
            if letter in whole:
                group, index = whole[letter]
                dims.append(self.problem.size(group))
                indices.append(index)
            elif letter not in inside:
                dims.append(self.problem.sizes[letter])
                indices.append(place[letter])
        buffer = self.plan.builder.buffer(self.memory, tuple(dims), label_of(self.memory))
        return load(buffer, tuple(indices))


def memory_of(plan: ContractionPlan, node: Tensor) -> Tensor | None:
    """The node whose memory holds exactly the elements of `node`, in its order; None where there is
    none, or where some of its rows are in scratch memory.
    """
    while not plan.builder.is_producer(node):
        if not isinstance(node.op.form, Reshape | Alias):
            return None
        node = node.inputs[0]
    root = storage_root(node)
    return None if plan.builder.is_kept(root) else root


def extent(whole: Size, first: Expr, block: int) -> Expr:
    """How many elements of a block that starts at `first` exist."""
    if isinstance(whole, int) and whole % block == 0:
        return const(block)
    return imin(const(block), isub(size(whole), first))


def count(whole: Size, block: int) -> Size:
    """The number of blocks."""
    return (whole + (block - 1)) // block


def up(number: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-number // step) * step
