"""Words of narrow integers (floor 2): four bytes or two halves side by side in an int32, and
contractions over them. Lowering makes them of products of narrow integers; no public name does.

The first part of a word is its lowest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Size
from graphc.base.dtypes import Array, DType, int8, int16, int32, uint8, uint16
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, shape_error
from graphc.ops.contraction import LETTERS, contraction_samples, contraction_type, split_spec
from graphc.ops.families import Contraction, Map
from graphc.ops.sampling import draw, strided

# -- packing ---------------------------------------------------------------------------------------


def parts_of(dtype: DType) -> int:
    """How many integers of a dtype a word holds."""
    return int32.bits // dtype.bits


def words_for(size: Size, dtype: DType) -> Size:
    """The number of words for so many integers."""
    return (size + (parts_of(dtype) - 1)) // parts_of(dtype)


def _pack_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,), (axis, _) = inputs, attrs
    assert isinstance(x, Tensor)
    if not 0 <= axis < x.ndim:
        shape_error(f"pack_words: there is no axis {axis}", [x])
    shape = tuple(words_for(s, x.dtype) if d == axis else s for d, s in enumerate(x.shape))
    return TensorType(shape, int32)


def _pack_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    (x,), axis = node.inputs, node.attr("axis")
    count, size = parts_of(x.dtype), x.shape[axis]
    bits = x.dtype.bits
    whole = isinstance(size, int) and size % count == 0
    word = None
    for place in range(count):
        at = e.add(e.mul(index[axis], e.size(count)), e.size(place))
        inside = None if whole or place == 0 else e.lt(at, e.size(size))
        places = (*index[:axis], at, *index[axis + 1 :])
        part = e.bitcast(e.element(0, places, where=inside), _UNSIGNED[bits])
        part = e.cast(part, int32)
        if place:
            part = e.op("shift_left", part, e.constant(bits * place, int32))
        word = part if word is None else e.bit_or(word, part)
    return e.op("bit_xor", word, e.constant(_SIGNS[bits], int32)) if node.attr("flips") else word


_UNSIGNED = {8: uint8, 16: uint16}
# The highest bit of each part of a word.
_SIGNS = {8: 0x80808080 - (1 << 32), 16: 0x80008000 - (1 << 32)}


def _pack_reference(x: Array, axis: int, flips: bool) -> Array:
    count = 4 // x.dtype.itemsize
    short = -x.shape[axis] % count
    x = np.pad(x, [(0, short if d == axis else 0) for d in range(x.ndim)])
    moved = np.ascontiguousarray(np.moveaxis(x, axis, -1), x.dtype.newbyteorder("<"))
    words = moved.view(np.dtype(np.int32).newbyteorder("<")).astype(np.int32)
    return np.moveaxis(words ^ np.int32(_SIGNS[32 // count]) if flips else words, -1, axis)


_SHAPES: tuple[tuple[tuple[int, ...], int], ...] = (
    ((8,), 0),
    ((5, 7), 0),
    ((5, 7), 1),
    ((3, 16), 1),
    ((2, 9, 70), 1),
    ((0, 4), 0),
    ((4, 0), 0),
)


def _pack_samples(dtype: DType) -> Sequence[Sample]:
    found = [
        Sample((draw(shape, dtype),), {"axis": axis, "flips": flips})
        for shape, axis in _SHAPES
        for flips in (False, True)
    ]
    return [*found, Sample((strided(draw((6, 9), dtype)),), {"axis": 1, "flips": False})]


def packed_array(x: Array, axis: int) -> Array:
    """Words of the elements of an array, as `pack_words` makes them."""
    return _pack_reference(x, axis, False)


def _packing(name: str, kind: str, doc: str) -> OpDef:
    return REGISTRY.add(
        OpDef(
            name,
            ("axis", "flips"),
            _pack_type,
            _pack_reference,
            None,
            Map(_pack_element, kind=kind),
            doc=doc,
            samples=_pack_samples,
            dtypes=(int8, uint8, int16, uint16),
        )
    )


# Words that are read often are made once and lie in memory: for fusion they are no view.
PACK_WORDS = _packing(
    "pack_words",
    "gather",
    "Neighbours along an axis side by side in int32 words, as stored, zeros at the end; `flips`: "
    "the highest bit of each changed.",
)
VIEW_WORDS = _packing("view_words", "view", "pack_words, made anew wherever they are read.")


# -- contractions ----------------------------------------------------------------------------------


def _word_samples(dtype: DType) -> list[Sample]:
    """The operands that contractions are tested with, spread over all words by an odd factor."""
    return [
        Sample(tuple(x * np.int32(-1640531527) for x in sample.inputs), sample.attrs)
        for sample in contraction_samples(dtype)
    ]


def _parts(words: Array, kind: type[np.generic]) -> Array:
    """The parts of words along a new last axis, as int32."""
    stored = np.ascontiguousarray(words, np.dtype(np.int32).newbyteorder("<"))
    parts = stored.reshape(-1).view(np.dtype(kind).newbyteorder("<")).astype(np.int32)
    return parts.reshape(*words.shape, 4 // np.dtype(kind).itemsize)


def _summed(a: Array, b: Array, spec: str) -> Array:
    left, right, result = split_spec(spec)
    part = next(c for c in LETTERS if c not in spec)
    return np.asarray(np.einsum(f"{left}{part},{right}{part}->{result}", a, b))


def _bytes_reference(a: Array, b: Array, spec: str) -> Array:
    return _summed(_parts(a, np.uint8), _parts(b, np.int8), spec)


def _pairs_reference(a: Array, b: Array, spec: str) -> Array:
    return _summed(_parts(a, np.int16), _parts(b, np.int16), spec)


EINSUM_BYTES = REGISTRY.add(
    OpDef(
        "einsum_bytes",
        ("spec",),
        contraction_type,
        _bytes_reference,
        None,
        Contraction("dot4"),
        doc="einsum over words: the unsigned bytes of the first operand times the signed ones of "
        "the second.",
        samples=_word_samples,
        dtypes=(int32,),
    )
)
EINSUM_PAIRS = REGISTRY.add(
    OpDef(
        "einsum_pairs",
        ("spec",),
        contraction_type,
        _pairs_reference,
        None,
        Contraction("dot2"),
        doc="einsum over words of two signed 16-bit integers.",
        samples=_word_samples,
        dtypes=(int32,),
    )
)
