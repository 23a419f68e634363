"""The public einsum (floor 2): any number of operands, in pairs of least work first.

A letter that an operand repeats is a diagonal view, `...` stands for dims that broadcast, a letter
that one operand has alone is summed before anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.base.dims import Size, bounds
from graphc.ir.node import Tensor
from graphc.ir.opdef import shape_error
from graphc.ops.contraction import LETTERS, contract, tidy
from graphc.ops.promotion import promoted
from graphc.ops.reduction import ANY, SUM
from graphc.ops.reshape import to_shape
from graphc.ops.view import permuted, repeated_axis_view

Term = tuple[Tensor, str]


def einsum(spec: str, /, *operands: Any) -> Tensor:
    """The sum of products that `spec` describes, as NumPy's einsum.

    "ij,jk->ik": a letter per dim; letters not in the result are summed; without "->" the result has
    the letters that occur once, in alphabetic order; "..." stands for leading dims that broadcast;
    a letter repeated in one operand takes its diagonal. More than two operands are contracted in
    pairs, those of least work first. Operands are promoted to one dtype. Raises ShapeError where
    the spec does not fit.

        scores = graphc.einsum("bqhd,bkhd->bhqk", queries, keys)
    """
    if not isinstance(spec, str) or not operands:
        shape_error("einsum: expected a spec and operands", hint='graphc.einsum("ij,jk->ik", a, b)')
    tensors = promoted("einsum", *operands)
    parts, result = _parse(spec, tensors)
    terms = [_simplified(x, letters, spec) for x, letters in zip(tensors, parts, strict=True)]
    _check_sizes(spec, terms, tensors)
    terms = _without_repeated_ones(terms)
    while len(terms) > 1:
        i, j = _cheapest_pair(terms, result)
        (a, left), (b, right) = terms[i], terms[j]
        rest = [t for k, t in enumerate(terms) if k not in (i, j)]
        needed = result + "".join(letters for _, letters in rest)
        if rest:
            kept = "".join(dict.fromkeys(c for c in left + right if c in needed))
        else:
            kept = "".join(c for c in result if c in left + right)
        terms = [*rest, (contract(a, b, tidy(f"{left},{right}->{kept}")), kept)]
    return _finished(*terms[0], result, spec)


def _parse(spec: str, tensors: Sequence[Tensor]) -> tuple[list[str], str]:
    text = spec.replace(" ", "")
    left, arrow, result = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(tensors):
        shape_error(
            f"einsum: {spec!r} has {len(parts)} operands, {len(tensors)} given",
            tensors,
            "one comma-separated part of letters per operand",
        )
    used = {c for c in text if c in LETTERS}
    free = [c for c in LETTERS if c not in used]
    counts = [
        x.ndim - (len(part) - 3) if "..." in part else 0
        for part, x in zip(parts, tensors, strict=True)
    ]
    dots = "".join(free[: max([*counts, 0])])
    full: list[str] = []
    for part, x, count in zip(parts, tensors, counts, strict=True):
        letters = part.replace("...", dots[len(dots) - count :] if count > 0 else "", 1)
        if len(letters) != x.ndim or any(c not in LETTERS for c in letters):
            shape_error(
                f"einsum: {part!r} in {spec!r} does not name the {x.ndim} dims of operand "
                f"{len(full)}",
                tensors,
                "write one letter per dim; ... stands for any number of them",
            )
        full.append(letters)
    everything = "".join(full)
    if not arrow:
        single = sorted(c for c in set(everything) if everything.count(c) == 1 and c not in dots)
        return full, dots + "".join(single)
    result = result.replace("...", dots, 1)
    for c in result:
        if c not in everything or result.count(c) > 1:
            shape_error(
                f"einsum: the result {result!r} of {spec!r} must have letters of operands, each "
                f"once",
                tensors,
                f"{c!r} is in no operand" if c not in everything else f"{c!r} is there twice",
            )
    return full, result


def _simplified(x: Tensor, letters: str, spec: str) -> Term:
    """Repeated letters of one operand as a diagonal."""
    for c in dict.fromkeys(letters):
        places = [i for i, d in enumerate(letters) if d == c]
        if len(places) > 1:
            x = repeated_axis_view(x, places)
            letters = letters.replace(c, "") + c
    return x, letters


def _check_sizes(spec: str, terms: Sequence[Term], operands: Sequence[Tensor]) -> None:
    sizes: dict[str, Size] = {}
    for x, letters in terms:
        for c, size in zip(letters, x.shape, strict=True):
            known = sizes.get(c, 1)
            if known == 1:
                sizes[c] = size
            elif size not in (1, known):
                shape_error(
                    f"einsum {spec!r}: the letter {c!r} stands for sizes {known} and {size}",
                    operands,
                    "dims of one letter must be equal, or 1; sums go over letters that the "
                    "result leaves out",
                )


def _without_repeated_ones(terms: list[Term]) -> list[Term]:
    """Dims of size 1 of letters that are larger elsewhere broadcast: drop them."""
    large = {c for x, letters in terms for c, s in zip(letters, x.shape, strict=True) if s != 1}
    found: list[Term] = []
    for x, letters in terms:
        drop = [i for i, c in enumerate(letters) if x.shape[i] == 1 and c in large]
        shape = tuple(s for i, s in enumerate(x.shape) if i not in drop)
        kept = "".join(c for i, c in enumerate(letters) if i not in drop)
        found.append((to_shape(x, shape), kept))
    return found


def _estimate(size: Size) -> float:
    low, high = bounds(size)
    return float(high if high is not None else max(low or 0, 64))


def _cheapest_pair(terms: Sequence[Term], result: str) -> tuple[int, int]:
    if len(terms) == 2:
        return 0, 1
    best, cost = (0, 1), float("inf")
    for i in range(len(terms)):
        for j in range(i + 1, len(terms)):
            sizes: dict[str, float] = {}
            for x, letters in (terms[i], terms[j]):
                sizes |= {c: _estimate(s) for c, s in zip(letters, x.shape, strict=True)}
            others = result + "".join(t[1] for k, t in enumerate(terms) if k not in (i, j))
            work = after = 1.0
            for c, size in sizes.items():
                work *= size
                after *= size if c in others else 1.0
            # The work decides; of equal work, the smaller intermediate.
            if work + after / 1e6 < cost:
                best, cost = (i, j), work + after / 1e6
    return best


def _finished(x: Tensor, letters: str, result: str, spec: str) -> Tensor:
    """Letters that are not in the result summed, the others in its order."""
    lonely = tuple(i for i, c in enumerate(letters) if c not in result)
    if lonely:
        x = (ANY if x.dtype.is_bool else SUM)(x, axes=lonely, keepdims=False)
        letters = "".join(c for c in letters if c in result)
    assert sorted(letters) == sorted(result), (spec, letters, result)
    return permuted(x, [letters.index(c) for c in result])
