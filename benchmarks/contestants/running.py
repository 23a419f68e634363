"""What every contestant hands back: a call to time, and the values to compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from benchmarks.workloads.reference import STEPS, changes, joined
from benchmarks.workloads.workload import Array, Data, Workload


def as_list(found: Any) -> list[Any]:
    """One output or several."""
    return list(found) if isinstance(found, list | tuple) else [found]


def arrays(found: Any) -> list[Array]:
    """Outputs that NumPy can read, copied."""
    return [np.array(a) for a in as_list(found)]


@dataclass(frozen=True)
class Running:
    """`call(*args)` is one timed call: what it computes is finished when it returns.

    values: outputs as NumPy arrays, of the workload's inputs or of other NumPy arrays; or of a
    training step what `reference.expected` describes, once, before the first timed call.
    """

    call: Callable[..., Any]
    args: tuple[Any, ...]
    values: Callable[..., list[Array]]

    def with_further(self, own: list[Array], data: Data) -> list[Array]:
        """`own` values, each followed by those of the further inputs."""
        return joined([own, *(self.values(*inputs) for inputs in data.further)])


class Contestant(Protocol):
    """A framework in one way of using it. `build` raises Unsupported with the reason."""

    version: str

    def __init__(self, threads: int) -> None: ...

    def build(self, workload: Workload) -> Running:
        """Everything ready but the first call."""


def trained(
    step: Callable[[], Any],
    first: Mapping[str, Array],
    last: Callable[[], Mapping[str, Any]],
) -> list[Array]:
    """The losses of STEPS calls of `step`, and the changes of the weights."""
    losses = np.array([float(np.asarray(step())) for _ in range(STEPS)])
    return [losses, changes(first, {k: np.asarray(v) for k, v in last().items()})]
