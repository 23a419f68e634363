"""The order of steps (floor 5): producers first, and the one next that leaves least memory in use.

Depth first: what was made ready last runs next, while what it reads is in the caches. A step that
frees more memory than it takes goes before all others (the greedy rule of list scheduling under
register pressure): the gradient of a weight is taken as soon as it can be, not after everything
that leads to the inputs. After these come steps that take hardly any, such as the step size that
all weights wait for. Linear in steps and reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LITTLE = 4096  # bytes, less than matter to any cache


@dataclass(slots=True)
class Task:
    """A step before it has a place. reads, writes: values by number; later: values that would
    better be there first (a wish, no need).
    """

    reads: set[int] = field(default_factory=set)
    writes: list[int] = field(default_factory=list)
    later: set[int] = field(default_factory=set)


def run_order(tasks: Sequence[Task], sizes: Mapping[int, int]) -> list[int]:
    """The positions of `tasks` in the order in which they run; among free choices the last one goes
    first.

    sizes: bytes of the values that take memory from when they are written until their last reader
    has run; all others take none.
    """
    state = _State(tasks, sizes)
    found = []
    while (task := state.next()) is not None:
        found.append(task)
        state.run(task)
    assert len(found) == len(tasks), "the steps wait for each other"
    return found


class _State:
    def __init__(self, tasks: Sequence[Task], sizes: Mapping[int, int]) -> None:
        self.tasks = tasks
        self.sizes = sizes
        self.writer = {value: k for k, task in enumerate(tasks) for value in task.writes}
        self.readers: dict[int, set[int]] = {}  # of a value: those that have not run
        self.users: list[list[int]] = [[] for _ in tasks]
        self.releases: dict[int, list[int]] = {}
        self.waiting: list[int] = []
        self.held: list[int] = []
        # What a task frees by running now, less what it takes.
        self.gain = [-sum(sizes.get(value, 0) for value in task.writes) for task in tasks]
        self.takes_little = [gain >= -LITTLE for gain in self.gain]
        for k, task in enumerate(tasks):
            self._enter(k, task)
        for value, readers in self.readers.items():
            if len(readers) == 1:
                self.gain[next(iter(readers))] += sizes[value]
        self.done = [False] * len(tasks)
        self.freeing: list[int] = []
        self.little: list[int] = []
        self.ready: list[int] = []
        self.stuck: list[int] = []
        for k in range(len(tasks)):
            self._offer(k)

    def _enter(self, k: int, task: Task) -> None:
        sources = {self.writer[v] for v in task.reads if v in self.writer} - {k}
        later = {self.writer[v] for v in task.later if v in self.writer} - sources - {k}
        for value in task.reads:
            if value in self.sizes and value in self.writer:
                self.readers.setdefault(value, set()).add(k)
        self.waiting.append(len(sources))
        self.held.append(len(later))
        for source in sources:
            self.users[source].append(k)
        for source in later:
            self.releases.setdefault(source, []).append(k)

    def _offer(self, k: int) -> None:
        """Put a task where it is found, if nothing that it needs is missing."""
        if self.waiting[k]:
            return
        if self.held[k]:
            self.stuck.append(k)
        elif self.gain[k] > 0:
            self.freeing.append(k)
        elif self.takes_little[k]:
            self.little.append(k)
        else:
            self.ready.append(k)

    def next(self) -> int | None:
        """The task to run, None where none is left that can."""
        for tasks in (self.freeing, self.little, self.ready, self.stuck):
            while tasks:
                task = tasks.pop()
                if not self.done[task]:
                    return task
        return None

    def run(self, k: int) -> None:
        """What follows from running a task."""
        self.done[k] = True
        for user in self.users[k]:
            self.waiting[user] -= 1
            self._offer(user)
        for user in self.releases.get(k, ()):
            self.held[user] -= 1
            if not self.held[user]:
                self._offer(user)
        for value in self.tasks[k].reads:
            readers = self.readers.get(value)
            if readers is None:
                continue
            readers.discard(k)
            if len(readers) == 1:
                last = next(iter(readers))
                self.gain[last] += self.sizes[value]
                if self.gain[last] > 0 and not self.held[last]:
                    self._offer(last)
