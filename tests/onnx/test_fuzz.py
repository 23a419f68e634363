"""Random damage: a model that was changed is imported, or refused by an error of graphc."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

import graphc
from graphc.base.limits import Limits
from graphc.onnx.importer import import_model
from graphc.onnx.reader import read_bytes
from tests.onnx.suite import node_models

_MESSAGE = 11
INTS = [0, 1, -1, 2, 7, 8, 17, 22, 100, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -1.0, 1e30, float("nan"), float("inf")]
WORDS = ["", "x", "y", "..", "a b", "Add", "Loop", "Reshape", "Cast", "Concat", "ai.onnx.ml"]


def damaged(model: Any, rng: random.Random) -> bytes:
    """The bytes of a model after a few changes of its fields, or of its bytes."""
    if rng.random() < 0.25:
        return _damaged_bytes(bytearray(model.SerializeToString()), rng)
    proto = type(model).FromString(model.SerializeToString())
    for _ in range(rng.randint(1, 3)):
        fields = [(m, f, v) for m in _messages(proto) for f, v in m.ListFields()]
        message, field, value = rng.choice(fields)
        if rng.random() < 0.15:
            message.ClearField(field.name)
        elif isinstance(value, str | bytes | int | float):
            _set(message, field.name, _changed(value, proto, rng))
        elif not hasattr(value, "ListFields") and len(value):
            _change_list(value, field, proto, rng)
    data: bytes = proto.SerializeToString()
    return data


def _messages(proto: Any) -> list[Any]:
    found, stack = [], [proto]
    while stack:
        found.append(stack.pop())
        for field, value in found[-1].ListFields():
            if field.type == _MESSAGE:
                stack += [value] if hasattr(value, "ListFields") else list(value)
    return found


def _set(message: Any, name: str, value: Any) -> None:
    try:
        setattr(message, name, value)
    except (ValueError, TypeError, OverflowError):
        message.ClearField(name)  # the field cannot hold it


def _change_list(values: Any, field: Any, proto: Any, rng: random.Random) -> None:
    place = rng.randrange(len(values))
    if rng.random() < 0.4:
        del values[place]
    elif field.type == _MESSAGE:
        values.add().CopyFrom(values[place])
    else:
        try:
            values[place] = _changed(values[place], proto, rng)
        except (ValueError, TypeError, OverflowError):
            del values[place]


def _changed(value: Any, proto: Any, rng: random.Random) -> Any:
    if isinstance(value, str):
        names = [i.name for i in proto.graph.input]
        names += [name for n in proto.graph.node for name in (*n.input, *n.output)]
        return rng.choice([*WORDS, value + "1", *names])
    if isinstance(value, bytes):
        return value[: rng.randrange(len(value) + 1)] + rng.randbytes(rng.randint(0, 3))
    if isinstance(value, float):
        return rng.choice(FLOATS)
    return rng.choice([*INTS, value + 1, value - 1])


def _damaged_bytes(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(data))
        kind = rng.random()
        if kind < 0.5:
            data[place] = rng.randrange(256)
        elif kind < 0.75:
            del data[place : place + rng.randint(1, min(8, len(data) - 1))]
        else:
            data[place:place] = rng.randbytes(rng.randint(1, 4))
    return bytes(data)


def read_all(seed: int, count: int) -> None:
    rng = random.Random(seed)
    models: Sequence[Any] = [m for m in node_models().values() if m.ByteSize() < 20_000]
    refused = 0
    for _ in range(count):
        data = damaged(rng.choice(models), rng)
        try:
            import_model(read_bytes(data, Limits()))
        except graphc.GraphcError as error:
            assert isinstance(error, graphc.FormatError | graphc.UnsupportedError), error
            refused += 1
    assert refused > count // 4


def test_damage() -> None:
    read_all(0, 200)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_more_damage(seed: int) -> None:
    read_all(seed, 5000)
