"""The inputs of a graph: read from files, from the command line, or made (floor 8).

Made inputs are: floats from the standard normal distribution; bools by coin flips; integers that
reach an index of a gather, a scatter or a label (through views, casts and arithmetic) from 0 up to
the size of what they index, at most 1 where arithmetic is in between; other integers from -4 (0
where unsigned) to 4.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.base.dims import Size, evaluate, product
from graphc.base.dtypes import Array, DType, bfloat16, round_bfloat16
from graphc.base.errors import FormatError, GraphError, message
from graphc.cli.model import check_sizes
from graphc.ir.evaluate import bind_shape, check_shape, feed_array
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor
from graphc.ops.families import Alias, Elementwise, Map, Reshape

_USUAL = 4  # sizes of dims that nobody asked for; bounds of integers that index nothing


@dataclass(frozen=True)
class Inputs:
    """Arrays by input name in the graph's order, where each came from, and the sizes they bind."""

    arrays: dict[str, Array]
    origins: dict[str, str]
    sizes: dict[str, int]


def gather(
    graph: Graph,
    feeds: Sequence[tuple[str, str]],
    dims: Sequence[tuple[str, int]],
    *,
    random: bool,
    seed: int = 0,
) -> Inputs:
    """The inputs of a run: `feeds` first, then random ones where `random` asks for them.

    Raises GraphError for unknown and missing inputs, FormatError for a file that holds no array,
    ShapeError and DTypeError for one that does not fit, OSError.
    """
    tensors = dict(graph.inputs)
    sizes = dict(dims)
    check_sizes(graph, sizes)
    arrays, origins = _read_feeds(tensors, feeds)
    given = {name: f"--dim {name}" for name in sizes}
    for name, array in arrays.items():
        bind_shape(name, tensors[name], array.shape, sizes, given)
    missing = [name for name in tensors if name not in arrays]
    if missing and not random:
        hint = "--feed NAME=FILE.npy, or --random to make the inputs that are not fed"
        listing = [f"{name} : {tensors[name].type}" for name in missing]
        what = f"no value for input {', '.join(map(repr, missing))}"
        raise GraphError(message(what, operands=listing, at="", hint=hint))
    sizes = {s.name: usual_size(s.min, s.max, s.multiple_of) for s in graph.symbols} | sizes
    for name, array in arrays.items():
        check_shape(name, tensors[name], array.shape, sizes, given)
    made = random_arrays(graph, sizes, seed, wanted=missing)
    origins |= dict.fromkeys(made, f"random, seed {seed}")
    every = arrays | made
    return Inputs({n: every[n] for n in tensors}, {n: origins[n] for n in tensors}, sizes)


def usual_size(low: int, high: int | None, multiple: int) -> int:
    """A size for a dim that nobody gave one: the smallest of at least 4 within its bounds."""
    wanted = -(-max(_USUAL, low) // multiple) * multiple
    return wanted if high is None or wanted <= high else high // multiple * multiple


# -- reading ----------------------------------------------------------------------------------


def _read_feeds(
    tensors: Mapping[str, Tensor], feeds: Sequence[tuple[str, str]]
) -> tuple[dict[str, Array], dict[str, str]]:
    arrays: dict[str, Array] = {}
    origins: dict[str, str] = {}
    for name, text in feeds:
        found = read_archive(text, text) if not name else {name: _value(name, text)}
        for key, value in found.items():
            if key not in tensors:
                what = f"--feed {key}=…: the graph has no input {key!r}"
                hint = f"its inputs: {', '.join(tensors) or 'none'}"
                raise GraphError(message(what, at="", hint=hint))
            if key in arrays:
                what = f"--feed {key}=…: the input is fed twice"
                raise GraphError(message(what, at="", hint="feed it once"))
            arrays[key] = feed_array(value, tensors[key], key)
            origins[key] = text
    return arrays, origins


def _value(name: str, text: str) -> Any:
    """What stands behind `name=`: a number, a list, or the array of a file."""
    path, _, key = text.rpartition(":") if ".npz:" in text else (text, "", "")
    if path.endswith(".npz"):
        found = read_archive(path, text)
        if not key and name not in found and len(found) == 1:
            return next(iter(found.values()))
        if (key or name) not in found:
            what = f"{path}: there is no array {key or name!r}"
            hint = f"its arrays: {', '.join(found) or 'none'}; write {name}={path}:KEY"
            raise FormatError(message(what, at="", hint=hint))
        return found[key or name]
    literal = _literal(text)
    return read_array(path) if literal is None else literal


def _literal(text: str) -> Any:
    """A number, a truth value or a list of them as JSON writes it, inf or nan; None for others."""
    if text.lower().lstrip("+-") in ("inf", "nan"):
        return float(text)
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, bool | int | float | list) else None


def read_array(path: str) -> Array:
    """The array of a .npy file. Raises FormatError for anything else, OSError."""
    with open(path, "rb") as file:
        try:
            found: Array = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise _no_array(path, error) from None
    return found


def read_archive(path: str, shown: str) -> dict[str, Array]:
    """The arrays of a .npz file by name. Raises FormatError for anything else, OSError."""
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise _no_array(shown, error) from None


def _no_array(path: str, error: Exception) -> FormatError:
    what = f"{path}: expected an array without Python objects as numpy.save writes it: {error}"
    hint = "numpy.save(path, array); inline values are numbers and lists such as [1,2]"
    return FormatError(message(what, at="", hint=hint))


# -- making -----------------------------------------------------------------------------------


def random_arrays(
    graph: Graph, sizes: Mapping[str, int], seed: int, wanted: Sequence[str] | None = None
) -> dict[str, Array]:
    """Arrays in reference form for the inputs `wanted` (None: all), as the module says."""
    made: dict[str, Array] = {}
    for position, (name, tensor) in enumerate(graph.inputs):
        if wanted is None or name in wanted:
            rng = np.random.default_rng((abs(seed), position))
            shape = array_shape(name, tensor, sizes)
            made[name] = random_array(rng, shape, tensor.dtype, index_limit(graph, tensor, sizes))
    return made


def array_shape(name: str, tensor: Tensor, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of an input. Raises GraphError where the sizes make one negative or gigantic."""
    shape = tuple(evaluate(size, sizes) for size in tensor.shape)
    if any(n < 0 for n in shape) or product(shape) > 1 << 40:
        what = f"input {name!r} : {tensor.type} would have the shape {list(shape)}"
        raise GraphError(message(what, at="", hint="choose sizes with --dim NAME=SIZE"))
    return shape


def random_array(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: DType, limit: int | None
) -> Array:
    """Values as the module says; limit: of an index, None for what is none."""
    if dtype.is_bool:
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.is_integer:
        low, high = (0, max(limit, 1)) if limit is not None else (-_USUAL, _USUAL + 1)
        high = min(high, int(np.iinfo(dtype.numpy).max))
        low = 0 if dtype.kind == "u" else low
        return np.asarray(rng.integers(low, high, shape)).astype(dtype.numpy)
    values = np.asarray(rng.standard_normal(shape)).astype(dtype.numpy)
    return round_bfloat16(values) if dtype is bfloat16 else values


def index_limit(graph: Graph, tensor: Tensor, sizes: Mapping[str, int]) -> int | None:
    """The size of the smallest thing that an integer input indexes; None where it indexes none."""
    if not tensor.dtype.is_integer:
        return None
    limits: list[int] = []
    reached: dict[int, bool] = {id(tensor): True}  # by id: nothing but views and casts so far
    for node in graph.nodes:
        positions = [k for k, i in enumerate(node.inputs) if id(i) in reached]
        if not positions:
            continue
        for k, limit in _indexed(node):
            if k in positions:
                direct = reached[id(node.inputs[k])]
                size = evaluate(limit, sizes)
                limits.append(size if direct else min(size, 2))
        form = node.op.form
        plain = isinstance(form, Alias | Reshape) or node.op.name == "cast"
        plain = plain or (isinstance(form, Map) and form.kind == "view")
        whole = isinstance(node, Tensor) and node.dtype.is_integer
        if whole and (plain or isinstance(form, Elementwise)):
            reached[id(node)] = plain and all(reached[id(node.inputs[k])] for k in positions)
    return min(limits, default=None)


def _indexed(node: Node) -> Iterator[tuple[int, Size]]:
    """The operands of a node that are indices, each with the size of what it indexes."""
    shape = node.inputs[0].shape if node.inputs and isinstance(node.inputs[0], Tensor) else ()
    name = node.op.name
    if name in ("gather", "scatter"):
        first = 1 if name == "gather" else 2
        yield from ((first + k, shape[axis]) for k, axis in enumerate(node.attr("axes")))
    elif name in ("take_along_axis", "softmax_cross_entropy"):
        yield 1, shape[node.attr("axis")]
