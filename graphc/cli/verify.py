"""`graphc verify`: the compiled result against the reference meaning (the command line, floor 8).

Each sample is a set of inputs: random ones, and extreme ones (zeros of both signs, tiny, large,
infinite and NaN values, the ends of integer ranges), at several sizes of the symbolic dims. The
reference evaluates the graph as it was declared, op by op in NumPy.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.aot.library import Library
from graphc.base.dtypes import Array, DType, bfloat16, round_bfloat16
from graphc.base.errors import ExecutionError, message
from graphc.cli.expectation import Expected, Verdict, compare, expect
from graphc.cli.inputs import array_shape, index_limit, random_arrays, usual_size
from graphc.cli.model import check_sizes, compiled, load
from graphc.cli.progress import progress
from graphc.cli.table import json_text, table
from graphc.ir.graph import Graph
from graphc.runtime.session import Session

_THREADS = 4  # of a library, besides one
_STOPPED = Verdict("stopped at a NaN or an infinity", 0.0, 0.0, (), None, None)
_OTHER_SIZE = 17  # no multiple of any vector's length


@dataclass(frozen=True)
class Sample:
    """Inputs by name, and how they were made."""

    title: str
    feeds: dict[str, Array]


@dataclass(frozen=True)
class Finding:
    """A verdict on one sample in one mode: numerics, and for a library what it ran on."""

    mode: str
    sample: str
    verdict: Verdict


def execute(options: argparse.Namespace) -> int:
    """Print a table of worst distances; 0 where all results are right, 1 otherwise."""
    graph = load(options.model).graph
    sizes = dict(options.dim)
    check_sizes(graph, sizes)
    made = samples(graph, sizes, options.samples, options.seed)
    expected, skipped = references(graph, made)
    findings: list[Finding] = []
    if options.artifact is not None:
        findings += check_library(Library(graph, options.artifact), expected, options.threads)
        return report(findings, skipped, len(expected), options.json)
    for numerics in options.numerics:
        with Session(threads=options.threads, numerics=numerics) as session:
            findings += check(session, graph, expected, numerics)
    return report(findings, skipped, len(expected), options.json)


def references(
    graph: Graph, made: Iterable[Sample]
) -> tuple[list[tuple[Sample, Expected]], list[str]]:
    """The samples with what is expected of them, and why some have no reference value.

    Raises ExecutionError where none has one.
    """
    expected: list[tuple[Sample, Expected]] = []
    skipped: list[str] = []
    for sample in progress(list(made), "reference"):
        try:
            expected.append((sample, expect(graph, sample.feeds)))
        except (IndexError, ValueError, ZeroDivisionError) as error:  # NumPy's word for bad values
            skipped.append(f"{sample.title}: {error}")
    if not expected:
        what = f"the reference has no value for any sample: {skipped[0]}"
        hint = "choose sizes with --dim, or other inputs with --seed"
        raise ExecutionError(message(what, at="", hint=hint))
    return expected, skipped


def check_library(
    library: Library, expected: list[tuple[Sample, Expected]], threads: int | None
) -> Iterator[Finding]:
    """Run every sample in every instruction set that this machine has, on one thread and several,
    each from the first state.

    A library made with check_numerics may stop where the graph meets a NaN or an infinity.
    """
    graph = library.graph
    for target in library.available():
        library.select(target)
        for count in dict.fromkeys((1, threads or _THREADS)):
            library.set_threads(count)
            mode = f"{library.numerics}, {target}, {count} thread{'s' if count > 1 else ''}"
            for sample, right in progress(expected, f"verify {target}"):
                state = library.new_state() if graph.updates else None
                try:
                    got: dict[str, Any] = dict(library.run(sample.feeds, state))
                except ExecutionError:
                    if right.finite or not library.check_numerics:
                        raise
                    yield Finding(mode, sample.title, _STOPPED)
                    continue
                if state is not None:
                    got |= {f"update:{k}": v for k, v in library.values(state).items()}
                plain = {k: np.asarray(v).astype(right.values[k].dtype) for k, v in got.items()}
                for verdict in compare(right, plain, library.numerics):
                    yield Finding(mode, sample.title, verdict)
    library.close()


def check(
    session: Session, graph: Graph, expected: list[tuple[Sample, Expected]], numerics: str
) -> Iterator[Finding]:
    """Run every sample from the variables' first values and compare."""
    function = compiled(session, graph)
    for sample, right in progress(expected, f"verify {numerics}"):
        for variable in graph.variables:
            session.assign(variable, variable.attr("value").values)
        got: dict[str, Any] = dict(function(*(sample.feeds[name] for name, _ in graph.inputs)))
        got |= {f"update:{graph.name_of(v)}": session.value(v) for v, _ in graph.updates}
        plain = {k: np.asarray(v).astype(right.values[k].dtype) for k, v in got.items()}
        for verdict in compare(right, plain, numerics):
            yield Finding(numerics, sample.title, verdict)


# -- samples ----------------------------------------------------------------------------------


def samples(graph: Graph, dims: Mapping[str, int], count: int, seed: int) -> Iterator[Sample]:
    """`count` random samples, then extreme ones, over several sizes of the dims not in `dims`."""
    choices = _sizes(graph, dims)
    for k in range(count):
        sizes = choices[k % len(choices)]
        yield Sample(f"random {k}{_dims(sizes)}", random_arrays(graph, sizes, seed + k))
    for k, kind in enumerate(("zero", "small", "large", "special")):
        sizes = choices[k % len(choices)]
        yield Sample(f"{kind}{_dims(sizes)}", _extreme(graph, sizes, kind, seed))


def _dims(sizes: Mapping[str, int]) -> str:
    listed = ", ".join(f"{name}={size}" for name, size in sizes.items())
    return f" ({listed})" if listed else ""


def _sizes(graph: Graph, dims: Mapping[str, int]) -> list[dict[str, int]]:
    """Usual sizes, odd ones, and the smallest (at least 1: NumPy reduces nothing empty)."""
    found: list[dict[str, int]] = []
    for wanted in (0, _OTHER_SIZE, 1):
        sizes = {}
        for s in graph.symbols:
            low = max(s.min, wanted)
            size = usual_size(low, s.max, s.multiple_of) if wanted != 1 else _least(s.min, s)
            sizes[s.name] = dims.get(s.name, size)
        if sizes not in found:
            found.append(sizes)
    return found


def _least(low: int, symbol: Any) -> int:
    least: int = -(-max(low, 1) // symbol.multiple_of) * symbol.multiple_of
    return least if symbol.max is None or least <= symbol.max else low


def _extreme(graph: Graph, sizes: Mapping[str, int], kind: str, seed: int) -> dict[str, Array]:
    made = {}
    for position, (name, tensor) in enumerate(graph.inputs):
        rng = np.random.default_rng((abs(seed), position, len(kind)))
        shape = array_shape(name, tensor, sizes)
        choices = extremes(tensor.dtype, kind, index_limit(graph, tensor, sizes))
        values = rng.choice(choices, shape) if choices.size else rng.random(shape) < 0.5
        made[name] = np.asarray(values)
    return made


def extremes(dtype: DType, kind: str, limit: int | None) -> Array:
    """The values of a kind of extreme sample in a dtype; empty for bool. limit: of an index."""
    if dtype.is_bool:
        return np.zeros(0, bool)
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        if limit is not None:
            ends = [0] if kind == "zero" else [0, min(max(limit - 1, 0), int(info.max))]
        else:
            ends = {"zero": [0], "small": [0, 1]}.get(kind, [int(info.min), 0, 1, int(info.max)])
        return np.array(ends, dtype.numpy)
    narrow = np.finfo(np.float32) if dtype is bfloat16 else np.finfo(dtype.numpy)
    tiny, subnormal = float(narrow.tiny), float(narrow.tiny) / 8
    large = 2.0 ** (narrow.maxexp // 4)  # products of a few stay finite
    ordinary = [1.0, -1.0, 0.5, -3.0]
    values = {
        "zero": [0.0, -0.0],
        "small": [0.0, tiny, -tiny, subnormal, -subnormal, 1.0, -1.0],
        "large": [large, -large, *ordinary],
        "special": [math.inf, -math.inf, math.nan, 0.0, -0.0, *ordinary],
    }[kind]
    array = np.array(values).astype(dtype.numpy)
    return round_bfloat16(array) if dtype is bfloat16 else array


# -- report -----------------------------------------------------------------------------------


def report(findings: list[Finding], skipped: list[str], count: int, as_json: bool) -> int:
    """Print the worst finding of every result in every mode, on random and on extreme inputs; the
    exit code.
    """
    worst: dict[tuple[str, str, bool], Finding] = {}
    for finding in findings:
        extreme = not finding.sample.startswith("random")
        key = (finding.mode, finding.verdict.key, extreme)
        old = worst.get(key)
        if old is None or _badness(finding) > _badness(old):
            worst[key] = finding
    failed = sum(bool(f.verdict.problem) for f in findings)
    rows = [_row(finding) for finding in worst.values()]
    if as_json:
        facts = {"samples": count, "failed": failed, "skipped": skipped, "results": rows}
        print(json_text(facts))
        return 1 if failed else 0
    print(table(rows, indent=""))
    for line in skipped:
        print(f"skipped, the reference has no value: {line}")
    verdict = f"{failed} of {len(findings)} comparisons failed" if failed else "all right"
    print(f"{count} samples: {verdict}")
    return 1 if failed else 0


def _badness(finding: Finding) -> tuple[bool, float]:
    return bool(finding.verdict.problem), finding.verdict.ulps


def _row(finding: Finding) -> dict[str, Any]:
    verdict = finding.verdict
    return {
        "mode": finding.mode,
        "result": verdict.key,
        "worst ulp": verdict.ulps,
        "allowed": verdict.allowed,
        "at": list(verdict.place),
        "expected": verdict.expected,
        "got": verdict.found,
        "sample": finding.sample,
        "verdict": verdict.problem or "right",
    }
