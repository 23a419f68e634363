"""Sizes of tiles and blocks for a product on a machine (beside the floors): a model of its time.

Only speed depends on what is chosen here, never a bit of a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphc.base.dims import Size
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.kernels.gemm_problem import Blocks, Problem, up
from graphc.lower.contraction import letters
from graphc.lower.edges import is_view
from graphc.ops.families import Alias, Reshape
from graphc.schedule import policy_cpu as policy

# Rows, columns of float32, and bytes of a block of the result, at most: 256 KB of a second-level
# cache. Measured with 1024 and 2048 squared: half or twice as many are 1 to 5 % slower.
ROWS, COLUMN_BYTES, BLOCK_BYTES = 256, 2048, 256 * 1024
UNKNOWN_ROWS = 128  # where sizes are not known
# Heights of register tiles, the preferred one first: lower ones wait for additions.
HEIGHTS = (8, 10, 9, 12, 11, 7, 6, 5, 4, 3, 2, 1)
# Cycles, as measured on a machine that does two vector operations in each: to pack a vector in a
# step, or once for all steps (which goes through memory); what a panel of one vector costs more.
PACKED, SHARED, NARROW = 5.0, 12.0, 0.15
# Threads that should find work: with more steps than these any number of threads does.
THREADS = 4


def blocks_for(problem: Problem, node: Tensor, target: Target) -> Blocks:
    """The sizes of blocks and tiles for a machine; known sizes are cut into equal parts."""
    width = policy.VECTOR_BYTES // node.dtype.itemsize
    # Accumulators fill about three quarters of the vector registers, the rest holds operands.
    budget = max(2, target.registers * target.register_bytes // policy.VECTOR_BYTES * 3 // 4)
    vectors = 2 if budget >= 16 else 1
    rows = problem.size(problem.rows)
    height = tile_height(rows, budget // vectors)
    own = letters(node)[problem.row_operand]
    last = next(c for c in reversed(own) if problem.sizes[c] != 1)
    in_place = last == problem.summed[-1] and in_memory(node, problem.row_operand)
    wide = up(COLUMN_BYTES // node.dtype.itemsize, width * vectors)
    default = Blocks(
        height, width, vectors, up(UNKNOWN_ROWS, height), 1, wide, pack_rows=not in_place
    )
    sizes = (rows, problem.size(problem.columns), problem.size(problem.summed))
    sharable = len(problem.columns) == 1 and in_memory(node, 1 - problem.row_operand)
    if not all(isinstance(size, int) for size in (*sizes, problem.size(problem.outer))):
        length = problem.sizes[problem.columns[-1]]
        if len(problem.columns) > 1 and isinstance(length, int):
            default = replace(default, lines=max(1, wide // length), columns=length)
        return replace(default, shared=sharable)
    found = list(_candidates(problem, default, sharable))
    return min(found, key=lambda blocks: _cycles(problem, blocks))


def tile_height(rows: Size, most: int) -> int:
    """Rows of a register tile, at most `most`, such that few rows of the last tile are wasted."""
    heights = [h for h in HEIGHTS if h <= max(1, most)]
    if not isinstance(rows, int):
        return heights[0]
    # Below six rows x two vectors the chains of additions are too few to fill the pipelines.
    wide = [h for h in heights if h >= 6] or heights
    return min(wide, key=lambda h: (-(-rows // h) * h, wide.index(h)))


def _candidates(problem: Problem, default: Blocks, sharable: bool) -> Iterator[Blocks]:
    """Blocks that cut rows and columns into equal parts, within the limits."""
    rows, lines = _known(problem.size(problem.rows)), _known(problem.size(problem.columns[:-1]))
    length = _known(problem.sizes[problem.columns[-1]])
    panel = default.panel
    whole = len(problem.columns) > 1
    across = lines if whole else length
    for row_block in _parts(rows, ROWS, default.height):
        least = 1 if whole else panel  # always stands: long lines may leave room for one only
        for block in dict.fromkeys((*_parts(across, across, least), least)):
            columns = block * length if whole else block
            room = BLOCK_BYTES // (policy.VECTOR_BYTES // default.width)
            if block > 1 and (columns > default.columns or columns * row_block > room):
                continue
            sizes = (block, length) if whole else (1, block)
            for shared in (False, True) if sharable and row_block < rows else (False,):
                if shared and row_block > up(UNKNOWN_ROWS, default.height):
                    continue
                for narrow in (False, True):
                    yield replace(
                        default,
                        rows=row_block,
                        lines=sizes[0],
                        columns=sizes[1],
                        shared=shared,
                        narrow=narrow,
                    )


def _parts(whole: int, most: int, multiple: int) -> list[int]:
    """Sizes of equal parts, multiples of a number, the largest first."""
    found = (up(-(-whole // parts), multiple) for parts in range(1, 33))
    return list(dict.fromkeys(size for size in found if size <= up(most, multiple))) or [multiple]


def _cycles(problem: Problem, blocks: Blocks) -> tuple[float, int]:
    """An estimate of the time of a product, and the code that it takes."""
    rows, depth = _known(problem.size(problem.rows)), _known(problem.size(problem.summed))
    outer = _known(problem.size(problem.outer))
    columns = _known(problem.size(problem.columns))
    used = blocks.lines * blocks.columns
    unit = blocks.width if blocks.narrow else blocks.panel
    vectors = up(used, unit) / blocks.width
    odd = vectors % blocks.vectors
    tall = up(blocks.rows, blocks.height)
    step = tall * (vectors + odd * NARROW) * depth / 2
    step += 3 * tall * vectors * -(-depth // problem.depth)
    if blocks.pack_rows:
        step += PACKED * tall / blocks.width * depth
    before = 0.0
    if blocks.shared:
        before = SHARED * up(columns, blocks.panel) / blocks.width * depth * outer / THREADS
    else:
        step += PACKED * vectors * depth
    steps = outer * -(-rows // blocks.rows) * -(-columns // used)
    rounds = max(steps / THREADS, 1) if steps >= 4 * THREADS else -(-steps // THREADS)
    return before + rounds * step, int(blocks.narrow)


def _known(size: Size) -> int:
    assert isinstance(size, int), size
    return size


def in_memory(node: Tensor, operand: int) -> bool:
    """Whether an operand is no view: reading it again and again costs loads alone."""
    found = node.inputs[operand]
    while isinstance(found.op.form, Reshape | Alias):
        found = found.inputs[0]
    return not is_view(found)


def one_line(problem: Problem, node: Tensor) -> bool:
    """Whether the columns are neighbours in their operand's memory in the result's order."""
    number = 1 - problem.row_operand
    own = [c for c in letters(node)[number] if problem.sizes[c] != 1]
    at = own.index(problem.columns[0])
    return own[at : at + len(problem.columns)] == problem.columns and in_memory(node, number)
