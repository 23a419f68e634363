"""The rewrite log (floor 3): every application of a rule, in order, with what it changed and where.

It prints as a table for people; `debug.bisect` reads it to name the rule that changed an answer.
The logger "graphc.rewrite" gets every application as it happens, at level DEBUG.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

from graphc.ir import provenance
from graphc.ir.node import Tensor
from graphc.rewrite.pattern import AnyRule

_log = logging.getLogger("graphc.rewrite")


@dataclass(frozen=True, slots=True, eq=False)
class Application:
    """One application: `before` became `after` by `rule`; `seconds` is the time of match and
    replacement.
    """

    index: int
    stage: str
    rule: AnyRule
    before: Tensor
    after: Tensor
    seconds: float

    def __str__(self) -> str:
        place, names = provenance.locations(self.before), provenance.names(self.before)
        name = f"{names[0]} = " if names else ""
        where = f"   {place[0]}" if place else ""
        return (
            f"{self.index:5d} {self.stage}: {self.rule.name} ({self.rule.cls.value})  "
            f"{name}{_written(self.before)}  ->  {_written(self.after)}{where}"
        )


@dataclass(eq=False)
class Trace:
    """The applications of a whole pipeline. `limit`: after that many, no rule applies any more
    (None: no limit).
    """

    limit: int | None = None
    applications: list[Application] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and len(self.applications) >= self.limit

    def add(self, stage: str, rule: AnyRule, before: Tensor, after: Tensor, seconds: float) -> None:
        """Note one application."""
        done = Application(len(self.applications), stage, rule, before, after, seconds)
        self.applications.append(done)
        if _log.isEnabledFor(logging.DEBUG):  # the text costs more than the rewrite
            _log.debug("%s", done)

    def counts(self) -> dict[str, int]:
        """How often each rule applied, the most frequent first."""
        return dict(Counter(a.rule.name for a in self.applications).most_common())

    def __len__(self) -> int:
        return len(self.applications)

    def __str__(self) -> str:
        if not self.applications:
            return "no rewrites"
        lines = [str(a) for a in self.applications]
        summary = ", ".join(f"{name} x{count}" for name, count in self.counts().items())
        return "\n".join([*lines, f"{len(lines)} rewrites: {summary}"])


def expression(node: Tensor, depth: int = 3) -> str:
    """A node as a short expression: `log(add(1, exp(x)))`; deeper parts as `…`."""
    name = provenance.names(node)
    if name and node.op.name != "constant":
        return name[0]
    if node.inputs and depth == 0:
        return "…"
    return _written(node, depth)


def _written(node: Tensor, depth: int = 3) -> str:
    """The same, the outermost op shown even where the node has a name."""
    if node.op.name == "constant":
        values = node.attr("value").values
        return f"{values.item():g}" if values.size == 1 else f"<{node.type}>"
    if not node.inputs:
        return (provenance.names(node) or (node.op.name,))[0]
    inside = ", ".join(expression(i, depth - 1) for i in node.inputs)
    return f"{node.op.name}({inside})"
