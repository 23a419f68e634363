"""`graphc.tune` (floor 8): schedules of a function's kernels, found by measuring.

For each kernel that takes a part of the time, a few schedules are tried that keep every bit of its
results (`lower/search_space`, `kernels/search_space`).  Contestant k of the search is the whole
program with the k-th schedule of every such kernel, so all kernels are searched at once; the usual
program takes part in every round, in turns with the others, and each launch is timed by itself. A
schedule wins by a distance: its upper quartile lies below the lower quartile of the usual one. The
winners then run together against the usual program, and those that win again are kept.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphc.base.dtypes import Array
from graphc.base.errors import GraphError, message
from graphc.compiler import Compilation, executable_of, schedules_to_try
from graphc.loops.text import kernel_text
from graphc.lower.kernel_builder import LoweredKernel
from graphc.lower.regions import Region
from graphc.program_lookup import cache_of
from graphc.runtime.executable import FIRST_PROFILE_SLOT, WHOLE_PROFILE_SLOT
from graphc.runtime.feeding import here
from graphc.runtime.function import Function
from graphc.runtime.profile import seconds_of_ticks
from graphc.runtime.program import Program, Workshop
from graphc.runtime.signature import read_arguments
from graphc.schedule.choices import USUAL, Choice
from graphc.tuned_schedules import store

_log = logging.getLogger("graphc.tune")

_LEAST_SHARE = 0.01  # of a call's time: faster kernels are not searched
_SAMPLE_SECONDS = 2e-3  # a sample is so many calls that it takes about this long
_MAX_CALLS = 1000
_LEAST_ROUNDS, _MOST_ROUNDS = 7, 40
_COMPILING = 0.5  # part of the time in which contestants are compiled, at most


@dataclass(frozen=True, slots=True)
class TunedKernel:
    """One kernel of a search: what it computes, seconds per call as usual and at best, the schedule
    that was kept (empty: the usual one), and how many were tried.
    """

    nodes: tuple[str, ...]
    usual_seconds: float
    best_seconds: float
    choice: str
    tried: int


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a search found; prints as a table.

    usual_seconds, best_seconds: of a call, as usual and with what was kept. refused: contestants
    that were left out because their results were not the same bits.
    """

    function: str
    kernels: tuple[TunedKernel, ...]
    usual_seconds: float
    best_seconds: float
    refused: int = 0

    def __str__(self) -> str:
        kept = sum(bool(k.choice) for k in self.kernels)
        head = (
            f"{self.function}: {_time(self.usual_seconds)} -> {_time(self.best_seconds)} per call, "
            f"{kept} of {len(self.kernels)} kernels scheduled anew"
        )
        rows = [("usual", "best", "tried", "schedule", "computes")]
        for k in self.kernels:
            times = (_time(k.usual_seconds), _time(k.best_seconds), str(k.tried))
            rows.append((*times, k.choice or "as before", ", ".join(k.nodes)))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [head]
        for row in rows if self.kernels else ():
            numbers = [text.rjust(width) for text, width in zip(row[:3], widths, strict=False)]
            lines.append("  ".join([*numbers, row[3].ljust(widths[3]), row[4]]).rstrip())
        if self.refused:
            lines.append(f"{self.refused} contestants refused: their results were other bits")
        return "\n".join(lines)


def tune(function: Function, *args: Any, seconds: float = 60.0, **kwargs: Any) -> Tuning:
    """Search schedules for the kernels of a compiled function, for these arguments, by measuring.

    Offline work: it takes about `seconds` and wants the machine for itself. What is found is kept
    in the session's cache folder, for this machine and this version of graphc, and is used from
    then on by everything compiled there that has such a kernel, `function` included. Results keep
    their bits; state of the session does not change. Without arguments: zeros of known sizes.

    Raises GraphError for what is no function of a session, for wrong arguments, and where the
    session has no cache folder.

        print(graphc.tune(step, images, labels, seconds=30))
    """
    workshop = _checked(function, seconds)
    with workshop.lock:
        if not args and not kwargs:
            args = function.zeros("tune")
        arrays, _ = read_arguments(function.signature, args, kwargs)
        result = Search(function, arrays, seconds).run()
        function.rebuild()
    return result


def _checked(function: Any, seconds: Any) -> Workshop:
    problem = hint = ""
    if not isinstance(function, Function):
        problem = f"expected a function of a session, got {type(function).__name__}"
        hint = "f = session.function(inputs, outputs); graphc.tune(f, *arrays)"
    elif isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        problem, hint = f"seconds must be a positive number, got {seconds!r}", "seconds=30"
    elif not function.workshop.options.cache_dir:
        problem = "the session has no cache folder, where results would be kept"
        hint = "give cache_dir= to graphc.Session, or set GRAPHC_CACHE_DIR to a folder"
    if problem:
        raise GraphError(message(f"tune: {problem}", at=here(), hint=hint))
    workshop: Workshop = function.workshop
    workshop.check_open()
    return workshop


# -- contestants ----------------------------------------------------------------------------------


class _Recorder:
    """Choices that remember which regions asked."""

    def __init__(self, by_key: Mapping[str, Choice]) -> None:
        self.by_key = by_key
        self.regions: dict[str, Region] = {}

    def of(self, key: str, region: Region) -> Choice:
        """For a region, which is remembered."""
        self.regions.setdefault(key, region)
        return self.by_key.get(key, USUAL)


@dataclass
class Contestant:
    """A program with its own schedules.

    owners: the key of what each step computes; texts: of the loops of each key; choices: those that
    change the loops.
    """

    choices: Mapping[str, Choice]
    compilation: Compilation
    regions: Mapping[str, Region]
    owners: list[str | None]
    texts: Mapping[str, str]
    program: Program
    samples: list[dict[str, float]] = field(default_factory=list)  # seconds by key; "": all

    def times(self, key: str) -> list[float]:
        """The samples of one kernel."""
        return [s[key] for s in self.samples if key in s]


def _contestant(
    workshop: Workshop,
    plain: Compilation,
    choices: Mapping[str, Choice],
    usual: Mapping[str, str] | None = None,
) -> Contestant | None:
    """A program with these choices, None where they change nothing. usual: the texts of the usual
    program, None for that one itself.
    """
    recorder = _Recorder(choices)
    compilation = plain.with_choices(recorder)
    lowered = compilation.lowered
    keys = {id(region): key for key, region in recorder.regions.items()}
    by_kernel = {
        id(step.kernel): keys[id(region)]
        for step, region in zip(lowered.steps, lowered.step_regions, strict=True)
        if isinstance(step, LoweredKernel) and id(region) in keys
    }
    owners = [
        by_kernel.get(id(s.kernel)) if isinstance(s, LoweredKernel) else None for s in lowered.steps
    ]
    texts: dict[str, str] = {}
    for key, step in zip(owners, lowered.steps, strict=True):
        if key is not None and isinstance(step, LoweredKernel):
            texts[key] = texts.get(key, "") + kernel_text(step.kernel)
    if usual is not None:
        choices = {key: c for key, c in choices.items() if texts[key] != usual[key]}
        if not choices:
            return None
    program = workshop.bind(executable_of(compilation), profile=True)
    return Contestant(choices, compilation, recorder.regions, owners, texts, program)


def sample_steps(one: Contestant, arrays: Sequence[Array], calls: int) -> list[float]:
    """Seconds per call of each step, by the ticks that a profiled program counts."""
    function, context = one.program.caller.function, one.program.caller.context
    context[FIRST_PROFILE_SLOT:] = 0
    context[WHOLE_PROFILE_SLOT] = 0
    begin = time.perf_counter()
    for _ in range(calls):
        function(*arrays)
    seconds = time.perf_counter() - begin
    ticks = context[FIRST_PROFILE_SLOT : FIRST_PROFILE_SLOT + len(one.owners)].tolist()
    return seconds_of_ticks(ticks, int(context[WHOLE_PROFILE_SLOT]), seconds, calls)


# -- the search -----------------------------------------------------------------------------------

# Seconds per call of each step of a contestant, with these arguments, over so many calls.
Sample = Callable[[Contestant, Sequence[Array], int], list[float]]


class Search:
    """A search for one function and its arguments. sample: how steps are timed."""

    def __init__(
        self,
        function: Function,
        arrays: Sequence[Array],
        seconds: float,
        sample: Sample = sample_steps,
    ) -> None:
        self._function = function
        self._workshop = function.workshop
        self._arrays = arrays
        self._sample = sample
        self._seconds = seconds
        self._begin = time.perf_counter()
        self._calls = 1
        self.refused = 0

    def run(self) -> Tuning:
        """Search, keep what won, and say what was found."""
        backend = importlib.import_module("graphc.backend.llvm_cpu")
        options = replace(self._workshop.options, profile=True)
        plain = Compilation(self._function.compiled_graph, options, backend.host_target())
        usual = _contestant(self._workshop, plain, {})
        assert usual is not None, "without texts to compare with there is a program"
        results = self.results_of(usual)
        self._measure([usual], _LEAST_ROUNDS)
        tried = self._candidates(usual)
        others = self._contestants(usual, tried, results)
        usual.samples.clear()
        if others:
            self._measure([usual, *others], _MOST_ROUNDS)
        best = {k: c for k in tried if (c := _winner(usual, others, k)) is not None}
        kept, final = self._confirmed(usual, best, results)
        folder = self._workshop.options.cache_dir
        store(cache_of(folder), kept, set(tried))
        return self._report(usual, final, kept, others)

    def _candidates(self, usual: Contestant) -> dict[str, list[Choice]]:
        """The schedules to try for each kernel that takes a part of the time."""
        whole = _median(usual.times(""))
        target = usual.compilation.target
        found: dict[str, list[Choice]] = {}
        for key in dict.fromkeys(k for k in usual.owners if k is not None):
            if _median(usual.times(key)) >= _LEAST_SHARE * whole:
                choices = schedules_to_try(usual.regions[key], target)
                if choices:
                    found[key] = choices
        return found

    def _contestants(
        self, usual: Contestant, tried: Mapping[str, list[Choice]], results: list[bytes]
    ) -> list[Contestant]:
        others: list[Contestant] = []
        for k in range(max(map(len, tried.values()), default=0)):
            if self._elapsed() > _COMPILING * self._seconds:
                _log.info("tune: %d contestants, there was no time for more", len(others))
                break
            choices = {key: found[k] for key, found in tried.items() if k < len(found)}
            other = _contestant(self._workshop, usual.compilation, choices, usual.texts)
            if other is None:
                continue
            if self.results_of(other) == results:
                others.append(other)
            else:
                self._refuse(other.choices)
        return others

    def _confirmed(
        self, usual: Contestant, best: Mapping[str, Choice], results: list[bytes]
    ) -> tuple[dict[str, Choice], Contestant]:
        """The choices that win again when they run together, and the program that they make."""
        if not best:
            return {}, usual
        together = _contestant(self._workshop, usual.compilation, best, usual.texts)
        if together is None or self.results_of(together) != results:
            self._refuse(best)
            return {}, usual
        usual.samples.clear()
        self._measure([usual, together], _MOST_ROUNDS, self._seconds / 4)
        kept = {k: c for k, c in best.items() if _winner(usual, [together], k) is not None}
        faster = _median(together.times("")) < _median(usual.times(""))
        return (kept, together) if kept and faster else ({}, usual)

    def _measure(self, contestants: Sequence[Contestant], rounds: int, more: float = 0.0) -> None:
        """Samples of all contestants in turns, until four fifths of the time are over, but for so
        many `more` seconds in any case.
        """
        end = max(self._seconds * 0.8, self._elapsed() + more)
        for done in range(rounds):
            if done >= _LEAST_ROUNDS and self._elapsed() > end:
                break
            for one in contestants:
                each = self._sample(one, self._arrays, self._calls)
                sums: dict[str, float] = {"": sum(each)}
                for key, seconds in zip(one.owners, each, strict=True):
                    if key is not None:
                        sums[key] = sums.get(key, 0.0) + seconds
                one.samples.append(sums)
            if done == 0:
                longest = max(c.samples[-1][""] for c in contestants) or _SAMPLE_SECONDS
                self._calls = max(1, min(_MAX_CALLS, round(_SAMPLE_SECONDS / longest)))

    def results_of(self, one: Contestant) -> list[bytes]:
        """The bits of outputs and of updated variables after a first call."""
        outputs = one.program.caller.function(*self._arrays) or ()
        arrays = [*outputs, *(cell.current for cell in one.program.updated_cells)]
        return [a.tobytes() for a in arrays]

    def _refuse(self, choices: Mapping[str, Choice]) -> None:
        self.refused += 1
        texts = ", ".join(dict.fromkeys(map(str, choices.values())))
        _log.warning("tune: refused, results are other bits: %s", texts)

    def _elapsed(self) -> float:
        return time.perf_counter() - self._begin

    def _report(
        self,
        usual: Contestant,
        final: Contestant,
        kept: Mapping[str, Choice],
        others: Sequence[Contestant],
    ) -> Tuning:
        names = {
            key: info.nodes
            for key, info in zip(usual.owners, usual.compilation.kernel_infos, strict=True)
            if key is not None
        }
        kernels = []
        for key in dict.fromkeys(key for other in others for key in other.choices):
            tried = sum(key in other.choices for other in others)
            before = _median(usual.times(key))
            after = _median(final.times(key)) if key in kept else before
            choice = str(kept[key]) if key in kept else ""
            kernels.append(TunedKernel(names[key], before, after, choice, tried))
        return Tuning(
            self._function.name,
            tuple(sorted(kernels, key=lambda k: -k.usual_seconds)),
            _median(usual.times("")),
            _median(final.times("")),
            self.refused,
        )


def _winner(usual: Contestant, others: Sequence[Contestant], key: str) -> Choice | None:
    """The choice with the least median among those whose upper quartile is below the lower one of
    the usual schedule.
    """
    lower = np.quantile(usual.times(key), 0.25)
    best: tuple[float, Choice] | None = None
    for other in others:
        if key not in other.choices:
            continue
        middle, upper = np.quantile(other.times(key), (0.5, 0.75)).tolist()
        if upper < lower and (best is None or middle < best[0]):
            best = middle, other.choices[key]
    return None if best is None else best[1]


def _median(samples: Sequence[float]) -> float:
    return float(np.median(samples))


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
