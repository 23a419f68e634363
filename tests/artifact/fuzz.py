"""Fuzzing of the file reader and the text parser: changed files must be refused or be read.

    python -m tests.artifact.fuzz --minutes 30 --seed 0

Each case is a golden file changed by one to four mutations: of bytes, or, with all digests made to
fit again, of the text (by tokens), the table, the provenance or the manifest.  Whatever is raised
but a FormatError, a case slower than 2 s of processor time, one that takes more memory than twice
the file and 64 MB, or an accepted graph that does not print to a text that reads back is a failure;
its seed and number make it again. Nothing touches the disk.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
import resource
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import graphc
from graphc.artifact.load import load_bytes
from graphc.artifact.save import graph_parts
from graphc.base.limits import Limits
from graphc.ir.opdef import REGISTRY
from tests.artifact.forge import Parts, golden, parts
from tests.artifact.malformed_text import TEXTS
from tests.artifact.models import MODELS

SECONDS = 2.0
MEMORY = 64 << 20
TRACED = 16  # one case in so many runs under tracemalloc, which is slow
ADDRESS_SPACE = 4 << 30

_PIECES = re.compile(r'"(?:[^"\\\n]|\\.)*"|[%@]?[\w./]+|//|\s+|.', re.DOTALL)
_NUMBERS = ("0", "1", "-1", "2", "63", "64", "65", "255", "4294967296", "9223372036854775807")
_NUMBERS += ("4611686018427387904", "-9223372036854775808", "1e308", "nan", "-inf", "9" * 30)
_SIGNS = tuple("{}()[]<>,:=+*-") + ("//", "none", "true", "false", "graph", "const", "name", "dim")
_WORDS = (*(op.name for op in REGISTRY), "f32", "i64", "bf16", "bool", "n", "batch", "input")
_BYTES = (b"\0", b"\xff", b"\x7f", b"\x80", b"PK\3\4", b"PK\1\2", b"PK\5\6", b"\xff" * 4, b"\0" * 8)
_JSON: tuple[Any, ...] = (0, -1, 1, 1 << 62, 1 << 64, True, None, "", "x", [], {}, [0], "0" * 64)


# What is changed, and how often: "parse" gives a text to the parser, all others make files.
KINDS = {
    "bytes": 3,
    "text": 8,
    "parse": 4,
    "table": 2,
    "provenance": 1,
    "manifest": 1,
    "text bytes": 2,
}


@dataclass
class Tally:
    """What a run saw."""

    cases: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    messages: set[str] = field(default_factory=set)
    slowest: float = 0.0
    largest: int = 0


class Fuzzer:
    """Cases by seed and number: each is made from its own random numbers alone."""

    def __init__(self, seed: int, kinds: Mapping[str, int] = KINDS) -> None:
        self.kinds = kinds
        self.seed = seed
        self.files = {name: golden(name) for name in MODELS}
        self.parts = {name: parts(name) for name in MODELS}
        # Alive as long as the fuzzer: texts for `parse` name the tensors of these by digest.
        self.graphs = {
            name: load_bytes(memoryview(data), check=None, limits=Limits())
            for name, data in self.files.items()
        }
        self.pieces = [
            p for found in self.parts.values() for p in _PIECES.findall(found.text.decode())
        ]

    def case(self, number: int) -> tuple[str, bytes | str]:
        """The kind of a case and its bytes (a text for the kind "parse")."""
        rng = random.Random(self.seed * 1_000_003 + number)
        name = rng.choice(tuple(MODELS))
        kind = rng.choices(tuple(self.kinds), tuple(self.kinds.values()))[0]
        found = self.parts[name]
        if kind == "bytes":
            return kind, self.change_bytes(rng, self.files[name])
        if kind == "text bytes":
            return kind, replace(found, text=self.change_bytes(rng, found.text)).sealed()
        if kind in ("text", "parse"):
            text = found.text.decode()
            if rng.random() < 0.1:
                text = rng.choice(TEXTS)[3] or text
            text = self.change_text(rng, text)
            if kind == "parse":
                return kind, text
            raw = text.encode("utf-8", "surrogatepass")
            return kind, replace(found, text=raw).sealed()
        return kind, self.change_json(rng, found, kind).sealed()

    def change_bytes(self, rng: random.Random, data: bytes) -> bytes:
        """Bits, bytes, words, cuts, insertions and copies."""
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(changed) + 1)
            action = rng.randrange(6)
            if action == 0 and at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            elif action == 1:
                changed[at : at + 1] = rng.randbytes(1)
            elif action == 2:
                word = rng.choice(_BYTES)
                changed[at : at + len(word)] = word
            elif action == 3:
                del changed[at : at + rng.choice((1, 2, 8, 64, 1000))]
            elif action == 4:
                changed[at:at] = rng.choice(_BYTES)
            else:
                start = rng.randrange(len(changed) + 1)
                changed[at:at] = changed[start : start + rng.choice((1, 8, 100))]
        return bytes(changed)

    def change_text(self, rng: random.Random, text: str) -> str:
        """Tokens replaced, left out, doubled, exchanged, put in; lines moved."""
        pieces = _PIECES.findall(text)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(pieces) + 1)
            action = rng.randrange(8)
            if action <= 2:
                pieces[at : at + 1] = [self.piece(rng, pieces)]
            elif action == 3:
                del pieces[at : at + rng.choice((1, 1, 2, 10))]
            elif action == 4:
                pieces.insert(at, self.piece(rng, pieces))
            elif action == 5:
                count = rng.choice((2, 2, 10, 70, 300))
                pieces[at:at] = pieces[at : at + rng.choice((1, 2, 3, 12))] * count
            elif action == 6:
                start = rng.randrange(len(pieces) + 1)
                pieces[at:at] = pieces[start : start + rng.choice((1, 5, 20, 60))]
            else:
                lines = "".join(pieces).split("\n")
                a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[a], lines[b] = lines[b], lines[a]
                pieces = _PIECES.findall("\n".join(lines))
        return "".join(pieces)

    def piece(self, rng: random.Random, pieces: list[str]) -> str:
        """A token: a number, a sign, a word, one of this text or of another."""
        source = rng.choice((_NUMBERS, _NUMBERS, _SIGNS, _WORDS, pieces or _SIGNS, self.pieces))
        found = rng.choice(source)
        return f" {found} " if rng.random() < 0.3 else found

    def change_json(self, rng: random.Random, found: Parts, kind: str) -> Parts:
        """A value somewhere inside replaced, left out or doubled."""

        def change(value: Any) -> Any:
            for _ in range(rng.randint(1, 3)):
                holder, inner = None, value
                while isinstance(inner, dict | list) and inner and rng.random() < 0.8:
                    holder = inner
                    keys = list(inner) if isinstance(inner, dict) else range(len(inner))
                    key: Any = rng.choice(keys)
                    inner = inner[key]
                if holder is None:
                    continue
                action = rng.randrange(4)
                if action == 0:
                    del holder[key]
                elif action == 1 and isinstance(inner, int) and not isinstance(inner, bool):
                    holder[key] = inner + rng.choice((-1, 1, 8, 64, 1 << 32, -inner * 2))
                elif action == 2 and isinstance(holder, dict):
                    holder[rng.choice((*_NUMBERS, "__metadata__", str(key) + "x"))] = copy.deepcopy(
                        inner
                    )
                else:
                    holder[key] = copy.deepcopy(rng.choice(_JSON))
            return value

        if kind == "table":
            return found.with_table(change)
        if kind == "provenance":
            return found.with_provenance(change)
        return replace(found, manifest=change)

    def run(self, number: int, tally: Tally) -> str | None:
        """Run one case; what is wrong, or None."""
        kind, data = self.case(number)
        traced = number % TRACED == 0
        tally.cases[kind] += 1
        if traced:
            tracemalloc.start()
        begin = time.process_time()
        graph: graphc.Graph | None = None
        try:
            if isinstance(data, str):
                graph = graphc.parse(data)
            else:
                graph = load_bytes(memoryview(data), check=None, limits=Limits())
        except graphc.FormatError as error:
            text = str(error)
            tally.messages.add(re.sub(r"[0-9]+|'.*'|\".*\"", "", text.splitlines()[0])[:120])
            if "hint: " not in text:
                return f"no hint: {text}"
        except Exception as error:  # exactly what this looks for
            return f"{type(error).__name__}: {error}"
        finally:
            seconds = time.process_time() - begin
            peak = tracemalloc.get_traced_memory()[1] if traced else 0
            if traced:
                tracemalloc.stop()
        tally.slowest = max(tally.slowest, 0.0 if traced else seconds)
        tally.largest = max(tally.largest, peak)
        if seconds > SECONDS * (8 if traced else 1):
            return f"{seconds:.1f} s"
        if peak > 2 * len(data) + MEMORY:
            return f"{peak} bytes of memory"
        if graph is not None:
            tally.accepted[kind] += 1
            return unlike_itself(graph)
        return None


def unlike_itself(graph: graphc.Graph) -> str | None:
    """Whether an accepted graph is not what its own file and text say."""
    if graphc.parse(str(graph), graph.constants) != graph:
        return "the text of the graph reads back to another one"
    data = b"".join(bytes(part) for part in graph_parts(graph))
    if load_bytes(memoryview(data), check=None, limits=Limits()) != graph:
        return "the file of the graph reads back to another one"
    return None


def fuzz(
    seed: int,
    first: int,
    cases: int | None,
    seconds: float,
    kinds: Mapping[str, int] = KINDS,
) -> tuple[Tally, list[str]]:
    """Run cases from number `first` on until their count or the time is up; tally and failures."""
    fuzzer, tally = Fuzzer(seed, kinds), Tally()
    failures: list[str] = []
    end = time.monotonic() + seconds
    number = first
    while time.monotonic() < end and (cases is None or number < first + cases):
        problem = fuzzer.run(number, tally)
        if problem:
            failures.append(f"seed {seed}, case {number}: {problem[:500]}")
        number += 1
    return tally, failures


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Fuzz graphc.load and graphc.parse.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, default=None)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    # A file that asks for more is a MemoryError, which is a failure.
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    kinds = {kind: KINDS[kind] for kind in options.kinds}
    tally, failures = fuzz(options.seed, options.first, options.cases, 60 * options.minutes, kinds)
    print("\n".join(failures))
    print(
        json.dumps(
            {
                "seed": options.seed,
                "cases": sum(tally.cases.values()),
                "by kind": tally.cases,
                "accepted": tally.accepted,
                "different refusals": len(tally.messages),
                "slowest case, s": round(tally.slowest, 3),
                "largest traced peak, bytes": tally.largest,
                "failures": len(failures),
            }
        )
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
