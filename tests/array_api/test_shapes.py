"""Manipulation, indexing, sorting, searching, creation and products against NumPy's."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import graphc
from tests.array_api.against_numpy import DTYPES, SHAPES, Cases, draw, specials

Function = Any
BY_AXIS: dict[str, tuple[Function, Function]] = {
    "expand_dims": (
        lambda x, a: graphc.expand_dims(x, axis=a),
        lambda x, a: np.expand_dims(x, a),
    ),
    "flip": (lambda x, a: graphc.flip(x, axis=a), lambda x, a: np.flip(x, a)),
    "roll": (lambda x, a: graphc.roll(x, -7, axis=a), lambda x, a: np.roll(x, -7, a)),
    "unstack": (lambda x, a: graphc.unstack(x, axis=a), lambda x, a: np.unstack(x, axis=a)),
    "stack": (
        lambda x, a: graphc.stack([x, graphc.flip(x)], axis=a),
        lambda x, a: np.stack([x, np.flip(x)], a),
    ),
    "concat": (
        lambda x, a: graphc.concat([x, graphc.flip(x)], axis=a),
        lambda x, a: np.concat([x, np.flip(x)], axis=a),
    ),
    "sort": (
        lambda x, a: graphc.sort(x, axis=a),
        lambda x, a: np.sort(x, axis=a, kind="stable"),
    ),
}
# NumPy takes a 0-d array for one of size 1 here; the standard wants one dim or more.
BY_AXIS_OF_SOME: dict[str, tuple[Function, Function]] = {
    "squeeze": (lambda x, a: graphc.squeeze(x, axis=a), lambda x, a: np.squeeze(x, a)),
    "repeat": (lambda x, a: graphc.repeat(x, 3, axis=a), lambda x, a: np.repeat(x, 3, a)),
    "take": (
        lambda x, a: graphc.take(x, np.array([0, -1, 0]), axis=a),
        lambda x, a: np.take(x, np.array([0, -1, 0]), a),
    ),
    "diff": (lambda x, a: graphc.diff(x, n=2, axis=a), lambda x, a: np.diff(x, 2, a)),
    "cumulative_sum": (
        lambda x, a: graphc.cumulative_sum(x, axis=a, include_initial=True),
        lambda x, a: np.cumulative_sum(x, axis=a, include_initial=True),
    ),
    "cumulative_prod": (
        lambda x, a: graphc.cumulative_prod(x, axis=a),
        lambda x, a: np.cumulative_prod(x, axis=a),
    ),
    "argsort": (
        lambda x, a: graphc.argsort(x, axis=a),
        lambda x, a: np.argsort(x, axis=a, kind="stable"),
    ),
}


@pytest.mark.parametrize("name", [*BY_AXIS, *BY_AXIS_OF_SOME])
def test_every_axis_and_one_too_far(name: str) -> None:
    cases = Cases(ulps=16)
    ours, theirs = BY_AXIS.get(name) or BY_AXIS_OF_SOME[name]
    for dtype in ("float32", "int8", "bool"):
        for shape in SHAPES if name in BY_AXIS else SHAPES[1:]:
            for axis in range(-len(shape) - 1, len(shape) + 1):
                cases.add(
                    f"{name} {dtype}{shape} axis {axis}",
                    lambda x, a=axis: ours(x, a),
                    lambda x, a=axis: theirs(x, a),
                    draw(shape, dtype),
                )
    cases.check()


ROLLS = [
    (1, (0, -1)),
    (2, (0, 0)),
    ((1, -2), 0),
    ((1, 2), (0, 0)),
    ((1, -7), (0, 1)),
    (3, None),
    (1, ()),
    ((1, 2, 3), (0, 0)),
]


def test_shapes_by_other_arguments() -> None:
    cases = Cases()
    for shape in SHAPES:
        x = draw(shape)
        for shift, axis in ROLLS if shape else ROLLS[:-2]:  # NumPy stumbles over no axes of 0 dims
            cases.add(
                f"roll {shape} {shift} {axis}",
                lambda x, s=shift, a=axis: graphc.roll(x, s, axis=a),
                lambda x, s=shift, a=axis: np.roll(x, s, a),
                x,
            )
        for size in ((-1,), (1, -1), (2, -1), (6,), (4, 3), (0, -1), (), (1, 1)):
            cases.add(
                f"reshape {shape} {size}",
                lambda x, s=size: graphc.reshape(x, s),
                lambda x, s=size: np.reshape(x, s),
                x,
            )
        for wanted in SHAPES_WANTED:
            cases.add(
                f"broadcast_to {shape} {wanted}",
                lambda x, s=wanted: graphc.broadcast_to(x, s),
                lambda x, s=wanted: np.broadcast_to(x, s),
                x,
            )
        for counts in ((2,), (2, 1), (1, 2, 3), (0,)):
            cases.add(
                f"tile {shape} {counts}",
                lambda x, c=counts: graphc.tile(x, c),
                lambda x, c=counts: np.tile(x, c),
                x,
            )
        for k in (-7, -1, 0, 2, 9) if len(shape) > 1 else ():
            for name in ("tril", "triu"):
                cases.add(
                    f"{name} {shape} {k}",
                    lambda x, k=k, n=name: getattr(graphc, n)(x, k=k),
                    lambda x, k=k, n=name: getattr(np, n)(x, k),
                    x,
                )
    cases.check()


LIMITS: list[Any] = [(0, 1), (0, -5), (-3, 7.5)]
SHAPES_WANTED: list[Any] = [(5,), (3, 4), (2, 3, 4), (0, 3), (7, 3, 4), ()]
INDICES: tuple[Any, ...] = (
    (0,),
    (-1,),
    (slice(None), 1),
    (slice(None, None, -1),),
    (slice(3, 0, -2),),
    (Ellipsis, 0),
    (0, None, Ellipsis, None),
    (slice(10, 20),),
    (slice(-2, None),),
    (slice(100, -100, -3),),
    (1, 2, 3),
    (),
    ([0, -1], [1, 2]),
    ([[0], [1]], [1, 2]),
    (0, slice(None), [1, 2]),
    ([0, 1], slice(None), [1, 2]),
    (slice(None), [0, 1], [2, 3]),
    (slice(None), 0, [0, 1]),
    (slice(None, None, 3), None, [0]),
    (np.array([True, False, True, False]),),
    (4,),
    (-5,),
    (0, 0, 0, 0),
    (slice(None, None, 0),),
    ([4],),
    (Ellipsis, Ellipsis),
    (1.0,),
)


def test_indexing() -> None:
    cases = Cases()
    for index in INDICES:
        key = tuple(np.array(part) if isinstance(part, list) else part for part in index)
        cases.add(f"x[{index}]", lambda x, k=key: x[k], lambda x, k=key: x[k], draw((4, 5, 6)))
    cases.check()


def test_sorting_and_searching() -> None:
    cases = Cases()
    special = np.array([3, 1, np.nan, -0.0, 0.0, -np.inf, np.inf, np.nan, 1])
    ties = np.array([3, 1, 2, 1, 1], "uint8")
    for x in (special, ties):
        cases.add("sort", graphc.sort, lambda x: np.sort(x, kind="stable"), x)
        cases.add("argsort", graphc.argsort, lambda x: np.argsort(x, kind="stable"), x)
    cases.add(
        "argsort descending keeps the order of ties",
        lambda x: graphc.argsort(x, descending=True),
        lambda x: np.array([0, 2, 1, 3, 4]),
        ties,
    )
    for side, dtype, size in itertools.product(("left", "right"), DTYPES[1:], (0, 1, 20)):
        cases.add(
            f"searchsorted {side} {dtype} {size}",
            lambda a, b, s=side: graphc.searchsorted(a, b, side=s),
            lambda a, b, s=side: np.searchsorted(a, b, side=s),
            np.sort(draw((size,), dtype)),
            draw((3, 4), dtype),
        )
    cases.check()


def test_creation() -> None:
    cases = Cases(ulps=2)
    for limits in ((5,), (-3,), (2, 9, 3), (9, 2, -3), (0, 1, 0.1), (1, 0, -0.25), (3.5,)):
        cases.add(
            f"arange {limits}", lambda v=limits: graphc.arange(*v), lambda v=limits: np.arange(*v)
        )
    for ends, num, end in itertools.product(LIMITS, (0, 1, 2, 5), (True, False)):
        for dtype in (None, "float32", "int32"):
            cases.add(
                f"linspace {ends} {num} {end} {dtype}",
                lambda e=ends, n=num, p=end, d=dtype: graphc.linspace(
                    e[0], e[1], n, endpoint=p, dtype=d
                ),
                lambda e=ends, n=num, p=end, d=dtype: np.linspace(
                    e[0], e[1], n, endpoint=p, dtype=d
                ),
            )
    for size, k in itertools.product(((3, None), (3, 4), (4, 3), (0, 3)), range(-5, 6)):
        cases.add(
            f"eye {size} {k}",
            lambda s=size, k=k: graphc.eye(*s, k=k),
            lambda s=size, k=k: np.eye(*s, k=k),
        )
    cases.check()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_conversion_between_all_dtypes() -> None:
    cases = Cases()
    for first, second in itertools.product(DTYPES, DTYPES):
        x = specials(first)
        if x.dtype.kind == "f" and np.dtype(second).kind in "iu":
            x = x[(x >= 0) & (x < 100)]  # elsewhere C leaves the result open
        cases.add(
            f"astype {first} {second}",
            lambda x, d=second: graphc.astype(x, d),
            lambda x, d=second: x.astype(d),
            x,
        )
    cases.check()


RANKS = [
    ((3,), (3,)),
    ((3, 4), (4,)),
    ((3,), (3, 4)),
    ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((0,), (0,)),
    ((3, 0), (0, 4)),
    ((), (3,)),
    ((3, 4), (3, 4)),
    ((2, 3, 4), (3, 4, 5)),
]
EINSUMS = [
    ("ij,jk", (2, 3), (3, 4)),
    ("ba", (2, 3)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("...ij,jk", (2, 3, 4), (4, 5)),
    ("...a,...b->...ab", (3, 1, 2), (4, 5)),
    ("b...a->a...b", (2, 3, 4)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("iij,jk", (3, 3, 2), (2, 2)),
    ("i,i->", (0,), (0,)),
    ("ij,jk->ik", (2, 3), (4, 4)),
    ("ij->k", (3, 3)),
    ("i", (3, 4)),
]


def test_products() -> None:
    cases = Cases(ulps=2000)
    for (a, b), dtype in itertools.product(RANKS, ("int8", "bool", "uint8", "float32", "float64")):
        pair = draw(a, dtype), draw(b, dtype, seed=1)
        cases.add(f"matmul {a} {b} {dtype}", graphc.matmul, np.matmul, *pair)
    for spec, *shapes in EINSUMS:
        cases.add(
            f"einsum {spec} {shapes}",
            lambda *x, s=spec: graphc.einsum(s, *x),
            lambda *x, s=spec: np.einsum(s, *x),
            *[draw(s, seed=i) for i, s in enumerate(shapes)],
        )
    for axes in (0, 1, 2, 3, ([1, 0], [0, 1]), ((-1,), (-2,)), ([0, 1], [0])):
        cases.add(
            f"tensordot {axes}",
            lambda a, b, n=axes: graphc.tensordot(a, b, axes=n),
            lambda a, b, n=axes: np.tensordot(a, b, axes=n),
            draw((3, 4)),
            draw((4, 3), seed=1),
        )
    for n in range(5):
        cases.add(
            f"matrix_power {n}",
            lambda x, n=n: graphc.linalg.matrix_power(x, n),
            lambda x, n=n: np.linalg.matrix_power(x, n),
            draw((2, 3, 3)),
        )
    for shape, order in itertools.product(((3, 4), (0, 3)), (2, 1, 0, np.inf, 3, -1)):
        cases.add(
            f"vector_norm {shape} {order}",
            lambda x, o=order: graphc.linalg.vector_norm(x, ord=o, axis=0),
            lambda x, o=order: np.linalg.vector_norm(x, ord=o, axis=0),
            draw(shape),
        )
    cases.check()
