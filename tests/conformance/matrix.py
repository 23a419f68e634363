"""The shape matrix: what each op is given beyond the samples of its author.

Large inputs reach the vector main loop, its tail and several parallel blocks; 8-bit operands are
exhaustive, 16-bit ones of unary ops as well, others are random bit patterns (every magnitude, NaN,
infinities, denormals) beside ordinary values. Symbolic graphs are compiled once and run at many
sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Size
from graphc.base.dtypes import Array, DType, from_storage
from graphc.base.errors import GraphcError
from graphc.ir.graph import Graph
from graphc.ir.meaning import evaluate_node
from graphc.ir.node import Node, Tensor
from graphc.ir.opdef import OpDef, Sample
from graphc.ir.scalar_numpy import value
from graphc.ops.declaration import ElementwiseSamples
from graphc.ops.families import Elementwise, Map, Reshape
from graphc.ops.state import placeholder
from tests.conformance.exclusions import NOT_EMPTY, POSITIVE_ONLY
from tests.conformance.matrices import is_factorization, prepared
from tests.ops.cases import Case, cases

# Four blocks of a flat loop (8192 elements), no multiple of a vector, enough work for two threads.
LONG = 3 * 8192 + 37
_SMALL_SIZES: tuple[dict[str, int], ...] = ({"m": 0, "n": 3}, {"m": 1, "n": 1}, {"m": 3, "n": 7})
SYMBOLIC_SIZES: tuple[dict[str, int], ...] = (*_SMALL_SIZES, {"m": 67, "n": 251})


def rng_for(*key: object) -> np.random.Generator:
    """A generator that depends on the case alone."""
    return np.random.default_rng([sum(map(ord, str(k))) for k in key])


def random_bits(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    """Elements of random bits in reference form."""
    if dtype.is_bool:
        return rng.random(shape) < 0.5
    unsigned = np.dtype(f"uint{dtype.bits}")
    bits = rng.integers(0, np.iinfo(unsigned).max, shape, unsigned, endpoint=True)
    return _from_bits(np.asarray(bits), dtype)


def _from_bits(bits: Array, dtype: DType) -> Array:
    if dtype.name == "bfloat16":
        return from_storage(bits, dtype)
    return bits.view(dtype.storage)


def every_value(dtype: DType) -> Array:
    """All elements of an 8- or 16-bit dtype."""
    if dtype.is_bool:
        return np.array([False, True])
    unsigned = np.dtype(f"uint{dtype.bits}")
    return _from_bits(np.arange(np.iinfo(unsigned).max + 1).astype(unsigned), dtype)


def ordinary(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    """Moderate numbers with repetitions."""
    if dtype.is_bool:
        return rng.random(shape) < 0.5
    if dtype.is_integer:
        low = 0 if dtype.kind == "u" else -9
        return rng.integers(low, 10, shape).astype(dtype.numpy)
    return value(rng.uniform(-2.0, 2.0, shape).astype(dtype.numpy), dtype).array


# -- elementwise ---------------------------------------------------------------------------------


def _operand(op: OpDef, dtype: DType, position: int, shape: tuple[int, ...]) -> Array:
    """Half random bits, half values of the op's domain."""
    rng = rng_for(op.name, dtype, position, shape)
    size = int(np.prod(shape))
    wild = random_bits(rng, (size,), dtype)
    if isinstance(op.samples, ElementwiseSamples):
        tame = op.samples.draw(rng, (size,), dtype, position)
    else:
        tame = ordinary(rng, (size,), dtype)
    mixed = np.where(rng.random(size) < 0.5, wild, tame).reshape(shape)
    return _in_domain(op, mixed)


def _in_domain(op: OpDef, values: Array) -> Array:
    if op.name in POSITIVE_ONLY and values.dtype.kind == "f":
        return np.where(values < 0, -values, values)
    return values


def _distinct_attributes(op: OpDef, dtype: DType) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for case in cases(op, dtype):
        if case.sample.attrs not in found:
            found.append(case.sample.attrs)
    return found


def _elementwise_operand_dtypes(op: OpDef, dtype: DType) -> list[DType]:
    return next(iter(cases(op, dtype))).dtypes


def large_elementwise(op: OpDef, dtype: DType) -> Iterator[Sample]:
    """Flat, broadcast and exhaustive operands."""
    kinds = _elementwise_operand_dtypes(op, dtype)
    shapes: list[tuple[tuple[int, ...], ...]]
    if len(kinds) == 1:
        shapes = [((LONG,),), ((37, 1, 67),)]
    elif len(kinds) == 2:
        shapes = [((LONG,), (LONG,)), ((131, 67), (67,)), ((131, 1), (67,)), ((), (LONG,))]
    else:
        shapes = [((LONG,),) * 3, ((131, 1), (131, 67), (67,)), ((LONG,), (), (LONG,))]
    for attrs in _distinct_attributes(op, dtype):
        if dtype.bits <= 8 and len(kinds) == 2 and kinds[0] is kinds[1]:
            yield Sample((every_value(dtype)[:, None], every_value(dtype)[None, :]), attrs)
        if dtype.bits <= 16 and len(kinds) == 1:
            yield Sample((_in_domain(op, every_value(dtype)),), attrs)
        for combination in shapes:
            arrays = [
                _operand(op, kind, k, shape)
                for k, (kind, shape) in enumerate(zip(kinds, combination, strict=True))
            ]
            yield Sample(tuple(arrays), attrs)


# -- everything else -----------------------------------------------------------------------------


def _axes(*choices: Sequence[int]) -> list[dict[str, Any]]:
    return [{"axes": tuple(c), "keepdims": k} for c in choices for k in (False, True)]


_REDUCED: list[tuple[tuple[int, ...], list[dict[str, Any]]]] = [
    ((40007,), _axes((0,))),
    ((5, 4099), _axes((0,), (1,), (0, 1))),
    ((523, 37), _axes((0,), (1,))),
    ((7, 65, 33), _axes((0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2))),
]
_REDUCTIONS = [(shape, attrs) for shape, choices in _REDUCED for attrs in choices]
_REDUCING = (
    "sum", "mean", "max", "max_number", "min", "prod", "any", "all", "logsumexp", "norm", "argmax",
    "argmin",
)  # fmt: skip
_CUMULATIVE = ("cumulative_sum", "cumulative_prod", "cumulative_max", "cumulative_min")
_ALONG = [
    ((5, 1025), {"axis": 1}),
    ((67, 33), {"axis": 0}),
    ((3, 129, 19), {"axis": 1}),
    ((3, 70, 5), {"axis": 2}),
]
_SCANS = [(s, a | {"reverse": r}) for s, a in _ALONG for r in (False, True)]
_SORTS = [(s, a | {"descending": r}) for s, a in _ALONG for r in (False, True)]
_PRODUCTS = [
    ("ij,jk->ik", (37, 53), (53, 41)),
    ("ij,kj->ik", (37, 53), (41, 53)),
    ("ji,jk->ik", (53, 37), (53, 41)),
    ("ij,jk->ki", (33, 129), (129, 17)),
    ("ij,j->i", (131, 517), (517,)),
    ("ij,i->j", (517, 131), (517,)),
    ("i,i->", (40007,), (40007,)),
    ("i,j->ij", (131,), (67,)),
    ("bij,bjk->bik", (3, 17, 33), (3, 33, 19)),
    ("bij,jk->bik", (3, 17, 33), (33, 19)),
    ("ij,ij->ij", (131, 67), (131, 67)),
    ("ijk,ikl->jl", (5, 17, 9), (5, 9, 33)),
    ("ab,cd->adbc", (3, 5), (7, 33)),
    ("bhqd,bhkd->bhqk", (2, 3, 17, 8), (2, 3, 19, 8)),
]
# op -> (shape, attributes) of its first operand; one operand.
_ONE_OPERAND: dict[str, list[tuple[tuple[int, ...], dict[str, Any]]]] = {
    "reshape": [((131, 67), {"shape": (67, 131)}), ((131, 67), {"shape": (131 * 67,)})],
    "permute_dims": [
        ((67, 131), {"axes": (1, 0)}),
        ((7, 65, 33), {"axes": (2, 0, 1)}),
        ((7, 65, 33), {"axes": (1, 0, 2)}),
        ((3, 5, 7, 33), {"axes": (0, 3, 1, 2)}),
    ],
    "broadcast_to": [((1, 67), {"shape": (131, 67)}), ((131, 1), {"shape": (131, 67)})],
    "flip": [((LONG,), {"axes": (0,)}), ((67, 131), {"axes": (0, 1)})],
    "roll": [
        ((LONG,), {"shift": (5000,), "axes": (0,)}),
        ((67, 131), {"shift": (3, -7), "axes": (0, 1)}),
    ],
    "diagonal": [
        ((67, 131), {"axes": (0, 1), "offset": 3}),
        ((67, 5, 131), {"axes": (2, 0), "offset": -3}),
    ],
    "embed_diagonal": [((67,), {"axes": (0, 1), "offset": 2, "sizes": (67, 71)})],
    "slice": [
        ((67, 131), {"starts": (3, 130), "steps": (2, -3), "shape": (30, 40)}),
        ((LONG,), {"starts": (7,), "steps": (1,), "shape": (LONG - 11,)}),
    ],
    "pad": [
        ((67, 131), {"low": (2, 3), "high": (1, 5), "interior": (0, 0), "value": 1}),
        ((LONG,), {"low": (-3,), "high": (8,), "interior": (2,), "value": 0}),
    ],
    "windows": [
        ((5, 131), {"axes": (1,), "size": (5,), "stride": (2,), "dilation": (3,)}),
        ((3, 37, 41), {"axes": (1, 2), "size": (3, 3), "stride": (1, 2), "dilation": (1, 1)}),
    ],
    **dict.fromkeys(_REDUCING, _REDUCTIONS),
    **dict.fromkeys(("softmax", "log_softmax"), _ALONG),
    **dict.fromkeys(_CUMULATIVE, _SCANS),
    **dict.fromkeys(("sort", "argsort"), _SORTS),
}  # fmt: skip


_SELECTING = frozenset((
    "max", "max_number", "min", "argmax", "argmin", "cumulative_max", "cumulative_min", "sort",
    "argsort",
))  # fmt: skip


def _like(op: OpDef, dtype: DType, shape: tuple[int, ...]) -> Array:
    rng = rng_for(op.name, dtype, shape)
    if op.name in ("prod", "cumulative_prod") and dtype.is_float:
        # Products of thousands of factors stay finite only near 1.
        signs = np.where(rng.random(shape) < 0.5, -1.0, 1.0)
        near = signs * rng.uniform(0.997, 1.003, shape)
        return value(near.astype(dtype.numpy), dtype).array
    if dtype.is_integer or op.name in _SELECTING or isinstance(op.form, Map | Reshape):
        # Whatever is moved, compared or wraps may be anything; half of it meets equals.
        wild = random_bits(rng, shape, dtype)
        return np.where(rng.random(shape) < 0.5, wild, ordinary(rng, shape, dtype))
    return ordinary(rng, shape, dtype)


def _indices(rng: np.random.Generator, shape: tuple[int, ...], limit: int) -> Array:
    return rng.integers(0, limit, shape)


def _gathers(op: OpDef, dtype: DType) -> Iterator[Sample]:
    rng = rng_for(op.name, dtype)
    x, flat = _like(op, dtype, (67, 131)), _like(op, dtype, (LONG,))
    if op.name == "gather":
        yield Sample((flat, _indices(rng, (9001,), LONG)), {"axes": (0,), "position": 0})
        yield Sample((x, _indices(rng, (300,), 67)), {"axes": (0,), "position": 0})
        yield Sample((x, _indices(rng, (40, 7), 131)), {"axes": (1,), "position": 1})
    elif op.name == "take_along_axis":
        yield Sample((x, _indices(rng, (90, 131), 67)), {"axis": 0})
        yield Sample((x, _indices(rng, (67, 200), 131)), {"axis": 1})
    elif op.name == "scatter":
        for mode in sorted({c.sample.attrs["mode"] for c in cases(op, dtype)}):
            rows = rng.permutation(67)[:40] if mode == "set" else _indices(rng, (40,), 67)
            updates = _like(op, dtype, (40, 131))
            yield Sample((x, updates, rows), {"axes": (0,), "position": 0, "mode": mode})
    elif op.name == "searchsorted":
        ordered = np.sort(ordinary(rng, (1000,), dtype))
        for side in ("left", "right"):
            yield Sample((ordered, ordinary(rng, (9001,), dtype)), {"side": side})
    elif op.name == "softmax_cross_entropy":
        for shape, axis in (((67, 33), 1), ((129, 1000), 1), ((5, 67, 9), 1)):
            labels = shape[:axis] + shape[axis + 1 :]
            logits = ordinary(rng, shape, dtype)
            yield Sample((logits, _indices(rng, labels, shape[axis])), {"axis": axis})


def _several(op: OpDef, dtype: DType) -> Iterator[Sample]:
    rng = rng_for(op.name, dtype)
    if op.name == "einsum":
        for spec, a, b in _PRODUCTS:
            yield Sample((_like(op, dtype, a), _like(op, dtype, b)), {"spec": spec})
    elif op.name == "concat":
        parts = tuple(_like(op, dtype, (131, k)) for k in (33, 1, 67))
        yield Sample(parts, {"axis": 1})
        yield Sample(tuple(p.T for p in parts), {"axis": 0})
    elif op.name == "linear_recurrence":
        for shape, attrs in _SCANS:
            decay = _like(op, dtype, shape) * dtype.numpy.type(0.4)
            decay = value(decay, dtype).array
            yield Sample((decay, ordinary(rng, shape, dtype)), attrs)
    elif op.name == "conv":
        shared: dict[str, Any] = {"low": (1, 2), "high": (1, 0), "input_dilation": (1, 1)}
        x = _like(op, dtype, (2, 6, 17, 33))
        for groups, stride, dilation in ((1, (1, 1), (1, 1)), (3, (2, 1), (1, 2))):
            w = _like(op, dtype, (12, 6 // groups, 3, 3))
            own: dict[str, Any] = {"groups": groups, "stride": stride, "dilation": dilation}
            yield Sample((x, w), {**shared, **own})


def large(op: OpDef, dtype: DType) -> list[Case]:
    """The large cases of an op at a dtype; empty for generators, whose size is an attribute."""
    if isinstance(op.form, Elementwise):
        samples = list(large_elementwise(op, dtype))
    elif op.name in _ONE_OPERAND:
        samples = [
            Sample((_like(op, dtype, shape),), dict(attrs))
            for shape, attrs in _ONE_OPERAND[op.name]
        ]
    else:
        samples = [*_gathers(op, dtype), *_several(op, dtype)]
    return [Case(op, dtype, sample, 1000 + k) for k, sample in enumerate(samples)]


# -- all cases of an op in one graph ---------------------------------------------------------------


def all_cases(op: OpDef, dtype: DType) -> list[Case]:
    """The author's samples, then the large ones."""
    return [*cases(op, dtype), *large(op, dtype)]


def graph_of(found: Sequence[Case]) -> tuple[Graph, dict[Any, Array]]:
    """One graph of all cases, with its feeds."""
    inputs: list[Tensor] = []
    outputs: dict[str, Any] = {}
    feeds: dict[Any, Array] = {}
    for k, case in enumerate(found):
        placed = case.placeholders(f"c{k}_")
        inputs += placed
        feeds |= dict(zip(placed, case.arrays, strict=True))
        outputs[f"o{k}"] = case.node(placed)
    return Graph(inputs, outputs), feeds


def reference(node: Node, arrays: Sequence[Array]) -> Array:
    """The meaning of one node."""
    return np.asarray(evaluate_node(node, list(arrays), {}))


# -- symbolic sizes -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Symbolic:
    """Nodes over symbolic placeholders and the feeds of one choice of sizes after another."""

    inputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    feeds: tuple[dict[Any, Array], ...]


def symbolic_elementwise(op: OpDef, dtype: DType) -> Symbolic:
    """Equal shapes, a broadcast row and a broadcast column, at sizes from 0 to thousands."""
    kinds = _elementwise_operand_dtypes(op, dtype)
    m, n = Dim("m"), Dim("n")
    inputs, nodes = [], []
    combinations: list[tuple[tuple[Size, ...], ...]] = [
        ((m, n), (m, n), (m, n)),
        ((n,), (m, n), (m, 1)),
        ((m, 1), (n,), (m, n)),
    ]
    for shapes in combinations:
        placed = [placeholder(s, k) for s, k in zip(shapes, kinds, strict=False)]
        case = next(iter(cases(op, dtype)))
        nodes.append(case.node(tuple(placed)))
        inputs += placed
    feeds = []
    for sizes in SYMBOLIC_SIZES:
        one: dict[Any, Array] = {}
        for k, x in enumerate(inputs):
            shape = tuple(sizes.get(str(s), 1) for s in x.shape)
            one[x] = _operand(op, x.dtype, k % len(kinds), shape)
        feeds.append(one)
    return Symbolic(tuple(inputs), tuple(nodes), tuple(feeds))


# How the sizes of a sample change from run to run.
_RESIZED: tuple[Callable[[int], int], ...] = (
    lambda n: n,
    lambda n: 13 * n + 3,
    lambda n: 1,
    lambda n: 0,
)


def symbolic_samples(op: OpDef, dtype: DType) -> Iterator[tuple[Case, Symbolic]]:
    """The author's samples with symbols for sizes; larger, smaller and empty inputs follow."""
    for case in cases(op, dtype):
        built = case.symbolic()
        if built is None or all(isinstance(s, int) for x in built[0] for s in x.shape):
            continue
        inputs, node = built
        has_indices = any(d.is_integer and d is not dtype for d in case.dtypes)
        feeds = []
        for resize in _RESIZED[: 2 if has_indices else 3 if op.name in NOT_EMPTY else 4]:
            fed = _resized_feeds(inputs, case.arrays, resize)
            if fed and op.name == "searchsorted":
                fed[inputs[0]] = np.sort(fed[inputs[0]])
            if fed and is_factorization(op.name) and _fits(node, fed):
                made = prepared(op.name, list(fed.values()))
                fed = {} if made is None else dict(zip(fed, made, strict=True))
            if fed and _fits(node, fed):
                feeds.append(fed)
        if feeds:
            yield case, Symbolic(inputs, (node,), tuple(feeds))


_MOST_ELEMENTS = 300_000


def _resized_feeds(
    inputs: Sequence[Tensor], arrays: Sequence[Array], resize: Callable[[int], int]
) -> dict[Any, Array]:
    """The arrays at other sizes; nothing where that would be too much memory."""
    found: dict[Any, Array] = {}
    for x, a in zip(inputs, arrays, strict=True):
        shape = tuple(
            n if isinstance(s, int) else resize(n) for s, n in zip(x.shape, a.shape, strict=True)
        )
        if np.prod(shape) > _MOST_ELEMENTS:
            return {}
        found[x] = _resized(a, shape)
    return found


def _resized(array: Array, shape: tuple[int, ...]) -> Array:
    if shape == array.shape:
        return array
    if array.size == 0:
        return np.zeros(shape, array.dtype)
    return np.resize(array, shape)


def _fits(node: Node, feeds: dict[Any, Array]) -> bool:
    """Whether the op is defined at these sizes: attributes fix some."""
    static = tuple(placeholder(a.shape, x.dtype) for x, a in feeds.items())
    try:
        node.op.infer(static, node.attrs)
    except (GraphcError, AssertionError):
        return False
    return True
