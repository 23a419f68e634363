"""How many processors the process may really use (runtime, floor 7).

The number of threads is bounded by four things: the affinity mask, the CPU quota of the control
groups (v1 and v2, every ancestor counts), OMP_NUM_THREADS, and the machine.  Invariant:
`available() >= 1`, and a quota of 1.5 processors counts as 1, because spinning threads beyond a
quota are throttled.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")

_Reader = Callable[[Path], "float | None"]


def available() -> int:
    """Threads that the process may use at once, at least 1. Read anew at every call."""
    count = _affinity()
    quota = cgroup_quota()
    if quota is not None:
        count = min(count, max(1, int(quota)))
    asked = _omp_num_threads(os.environ.get("OMP_NUM_THREADS", ""))
    if asked is not None:
        count = min(count, asked)
    return max(1, count)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _omp_num_threads(text: str) -> int | None:
    """The outermost level of OMP_NUM_THREADS ("4" or "4,2"); None where it is no number above 0."""
    first = text.split(",")[0].strip()
    return int(first) if first.isascii() and first.isdigit() and int(first) > 0 else None


def cgroup_quota(root: Path = _CGROUP_ROOT, own: Path = _OWN_CGROUPS) -> float | None:
    """The smallest CPU quota, in processors, of the process's control groups; None: no quota."""
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux, or no /proc: nothing limits us
        return None
    quotas: list[float] = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            quotas += _ancestor_quotas(root, path, _v2_quota)
        elif "cpu" in controllers.split(","):
            for mount in (root / controllers, root / "cpu"):
                if mount.is_dir():
                    quotas += _ancestor_quotas(mount, path, _v1_quota)
                    break
    return min(quotas, default=None)


def _ancestor_quotas(mount: Path, path: str, read: _Reader) -> list[float]:
    # In a container the path may name a group that is not visible; the mount itself then is ours.
    parts = [part for part in path.split("/") if part and part != ".."]
    found = [read(mount.joinpath(*parts[:length])) for length in range(len(parts) + 1)]
    return [quota for quota in found if quota is not None]


def _v2_quota(group: Path) -> float | None:
    fields = _fields(group / "cpu.max")
    if len(fields) != 2 or fields[0] == "max":
        return None
    return _ratio(fields[0], fields[1])


def _v1_quota(group: Path) -> float | None:
    quota, period = _fields(group / "cpu.cfs_quota_us"), _fields(group / "cpu.cfs_period_us")
    if len(quota) != 1 or len(period) != 1:
        return None
    return _ratio(quota[0], period[0])


def _ratio(quota: str, period: str) -> float | None:
    if not (quota.isdigit() and period.isdigit()) or int(period) == 0:  # "-1" is no quota
        return None
    return int(quota) / int(period)


def _fields(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").split()
    except OSError:  # the group has no such limit, or is not visible from here
        return []
