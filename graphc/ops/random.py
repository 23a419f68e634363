"""Random bits (floor 2): counter-based, so that the same key gives the same numbers everywhere.

`random_bits` applies Threefry-2x32 with 20 rounds (Salmon et al., 2011) to the row-major position
of each element: no state, any order of evaluation, any number of threads. A key is two uint32; an
array of keys gives each its own draws, so that a row has the same ones in any batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dtypes import Array, DType, int64, uint32, uint64
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error
from graphc.ir.scalar_numpy import NumpyScalar, value
from graphc.ops.families import Map

# Rotations of Threefry-2x32, and the parity constant of its key schedule (Skein's, 32 bits).
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def threefry(s: Any, key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Two uint32 words out of a key and a counter of two each, in a scalar language."""

    def rotate(x: Any, bits: int) -> Any:
        left = s.op("shift_left", x, s.constant(bits, uint32))
        return s.bit_or(left, s.op("shift_right", x, s.constant(32 - bits, uint32)))

    k0, k1 = key
    k2 = s.op("bit_xor", s.op("bit_xor", k0, k1), s.constant(PARITY, uint32))
    schedule = (k0, k1, k2)
    x, y = s.add(counter[0], k0), s.add(counter[1], k1)
    for group in range(5):
        for bits in ROTATIONS[group % 2]:
            x = s.add(x, y)
            y = s.op("bit_xor", rotate(y, bits), x)
        x = s.add(x, schedule[(group + 1) % 3])
        y = s.add(y, schedule[(group + 2) % 3])
        y = s.add(y, s.constant(group + 1, uint32))
    return x, y


def _words(s: Any, position: Any) -> tuple[Any, Any]:
    high = s.op("shift_right", position, s.constant(32, int64))
    return s.cast(position, uint32), s.cast(high, uint32)


def _bits_type(name: str, dtype: DType) -> Callable[..., TensorType]:
    def infer(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
        (key,), (shape,) = inputs, attrs
        assert isinstance(key, Tensor)
        if not key.ndim or key.shape[-1] != 2 or key.dtype is not uint32:
            dtype_error(
                f"{name}: a key must be u32[2], or u32[…, 2] for several, got {key.type}",
                [key],
                "make it with graphc.random.key(seed)",
            )
        return TensorType((*key.shape[:-1], *shape), dtype)

    return infer


def _first(s: Any, words: tuple[Any, Any]) -> Any:
    return words[0]


def _joined(s: Any, words: tuple[Any, Any]) -> Any:
    high, low = (s.cast(w, uint64) for w in words)
    return s.bit_or(s.op("shift_left", high, s.constant(32, uint64)), low)


def _bits_element(result: Callable[..., Any]) -> Callable[..., Any]:
    def element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
        which = index[: node.inputs[0].ndim - 1]
        position = e.size(0)
        for i, size in zip(index[len(which) :], node.attr("shape"), strict=True):
            position = e.add(e.mul(position, e.size(size)), i)
        key = (e.element(0, [*which, e.size(0)]), e.element(0, [*which, e.size(1)]))
        return result(e, threefry(e, key, _words(e, position)))

    return element


def _bits_reference(result: Callable[..., Any]) -> Callable[..., Array]:
    def reference(key: Array, shape: tuple[int, ...]) -> Array:
        s = NumpyScalar()
        places = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.int64).reshape(shape)
        own = key.reshape(*key.shape[:-1], *(1,) * len(shape), 2)
        words = (value(own[..., 0], uint32), value(own[..., 1], uint32))
        drawn = threefry(s, words, _words(s, value(places, int64)))
        return np.asarray(result(s, drawn).array)

    return reference


def _bits_samples(dtype: DType) -> list[Sample]:
    keys = [np.array(k, np.uint32) for k in ([0, 0], [1, 2], [0xFFFFFFFF, 0x9E3779B9])]
    keys += [np.stack(keys), np.stack([keys, keys[::-1]])]
    return [Sample((k,), {"shape": shape}) for k in keys for shape in ((), (0,), (5,), (3, 7))]


def _declare(name: str, dtype: DType, result: Callable[..., Any], doc: str) -> OpDef:
    return REGISTRY.add(
        OpDef(
            name,
            ("shape",),
            _bits_type(name, dtype),
            _bits_reference(result),
            None,
            Map(_bits_element(result), kind="gather"),
            doc=doc,
            samples=_bits_samples,
            dtypes=(uint32,),
        )
    )


RANDOM_BITS = _declare(
    "random_bits",
    uint32,
    _first,
    "Uniform 32-bit words: Threefry-2x32-20 of the key and each element's row-major "
    "position; of each key where there are several.",
)
RANDOM_LONG_BITS = _declare(
    "random_long_bits",
    uint64,
    _joined,
    "Uniform 64-bit words: both words that Threefry-2x32-20 gives where `random_bits` takes the "
    "first, which is the upper half.",
)
