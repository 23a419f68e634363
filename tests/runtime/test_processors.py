"""How many processors may be used: affinity, quotas of both cgroup versions, OMP_NUM_THREADS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphc.runtime import processors
from graphc.runtime.processors import available, cgroup_quota


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_version_2_every_ancestor_counts(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/a/b\n")
    root = tmp_path / "fs"
    write(root / "a/b/cpu.max", "max 100000\n")
    assert cgroup_quota(root, own) is None
    write(root / "a/cpu.max", "250000 100000\n")
    assert cgroup_quota(root, own) == 2.5
    write(root / "a/b/cpu.max", "50000 100000\n")
    assert cgroup_quota(root, own) == 0.5


def test_version_1(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("12:memory:/x\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n")
    root = tmp_path / "fs"
    (root / "cpu,cpuacct").mkdir(parents=True)
    assert cgroup_quota(root, own) is None
    # Inside a container the group named is not visible, the mount itself is the group.
    write(root / "cpu,cpuacct/cpu.cfs_quota_us", "300000\n")
    write(root / "cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    assert cgroup_quota(root, own) == 3.0
    write(root / "cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    assert cgroup_quota(root, own) is None


@pytest.mark.parametrize("text", ["", "x", "1 2 3", "-5 100", "100 0", "max", "ü 1"])
def test_odd_files_are_no_quota(tmp_path: Path, text: str) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/../..//a\ngarbage\n:::\n")
    write(tmp_path / "fs/a/cpu.max", text)
    assert cgroup_quota(tmp_path / "fs", own) is None
    assert cgroup_quota(tmp_path / "fs", tmp_path / "missing") is None


def test_the_least_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processors, "_affinity", lambda: 12)
    for quota, expected in ((None, 12), (3.9, 3), (0.4, 1), (64.0, 12)):
        monkeypatch.setattr(processors, "cgroup_quota", lambda quota=quota: quota)
        assert available() == expected
    monkeypatch.setattr(processors, "cgroup_quota", lambda: None)
    for text, expected in (
        ("5", 5),
        ("4,2", 4),
        ("100", 12),
        ("0", 12),
        ("", 12),
        ("many", 12),
        ("-3", 12),
    ):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert available() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_the_affinity_mask_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert 1 <= available() <= len(before)
