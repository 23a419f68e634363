"""Nests (floor 3): lists, tuples and dicts of tensors, taken apart and put together again.

Every function of this package takes a tensor or any nest of them and answers in the same structure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from graphc.base.errors import GraphError, message
from graphc.ir.node import Tensor

Rebuild = Callable[[Iterator[Any]], Any]


def flatten(nest: Any, what: str) -> tuple[list[Tensor], Rebuild]:
    """The tensors of a nest in order, and the function that builds the same structure out of other
    leaves.

    what: the name of the argument, for the error. Raises GraphError for a leaf that is not a
    tensor.
    """
    if isinstance(nest, Tensor):
        return [nest], next
    if isinstance(nest, dict):
        keys = list(nest)
        leaves, rebuild_items = _flatten_items([nest[k] for k in keys], what)
        return leaves, lambda new: dict(zip(keys, rebuild_items(new), strict=True))
    if isinstance(nest, list | tuple):
        leaves, rebuild_items = _flatten_items(nest, what)
        if isinstance(nest, list):
            return leaves, rebuild_items
        if hasattr(nest, "_fields"):  # a named tuple takes its items one by one
            return leaves, lambda new: type(nest)(*rebuild_items(new))
        return leaves, lambda new: tuple(rebuild_items(new))
    raise GraphError(
        message(
            f"{what} must be a tensor or a list, tuple or dict of tensors, "
            f"got {type(nest).__name__}: {nest!r:.80}",
            hint="make a tensor with graphc.placeholder, graphc.variable or graphc.constant",
        )
    )


def _flatten_items(
    items: Sequence[Any], what: str
) -> tuple[list[Tensor], Callable[[Iterator[Any]], list[Any]]]:
    leaves: list[Tensor] = []
    rebuilders: list[Rebuild] = []
    for item in items:
        found, rebuild = flatten(item, what)
        leaves += found
        rebuilders.append(rebuild)
    return leaves, lambda new: [r(new) for r in rebuilders]


def leaves_of(nest: Any) -> list[Any]:
    """The leaves of a nest in order, whatever they are; None is a nest without leaves."""
    if nest is None:
        return []
    if isinstance(nest, dict):
        nest = list(nest.values())
    if isinstance(nest, list | tuple):
        return [leaf for item in nest for leaf in leaves_of(item)]
    return [nest]


def rebuilder(nest: Any) -> Rebuild:
    """The function that builds the structure of `nest` out of other leaves."""
    if nest is None:
        return lambda new: None
    if isinstance(nest, dict):
        parts = {k: rebuilder(v) for k, v in nest.items()}
        return lambda new: {k: part(new) for k, part in parts.items()}
    if isinstance(nest, list | tuple):
        items = [rebuilder(item) for item in nest]
        if isinstance(nest, list):
            return lambda new: [item(new) for item in items]
        if hasattr(nest, "_fields"):  # a named tuple takes its items one by one
            return lambda new: type(nest)(*[item(new) for item in items])
        return lambda new: tuple([item(new) for item in items])
    return next


def structure(nest: Any) -> str:
    """What nests of equal structure have in common, to compare and to show: `(*, {a: *})`."""
    if nest is None:
        return "None"
    if isinstance(nest, dict):
        return "{" + ", ".join(f"{k!r}: {structure(v)}" for k, v in nest.items()) + "}"
    if isinstance(nest, list | tuple):
        inner = ", ".join(map(structure, nest))
        if hasattr(nest, "_fields"):
            return f"{type(nest).__name__}({inner})"
        return f"[{inner}]" if isinstance(nest, list) else f"({inner})"
    return "*"
