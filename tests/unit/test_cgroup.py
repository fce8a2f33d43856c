"""The files of control groups, played by ordinary ones; tests/packages has real groups."""

import os
from pathlib import Path

import pytest

from stockworker.adapters.cgroup import Cgroup, take_over
from tests.harness.cgroups import Played

BOTH = frozenset({"cpu", "memory"})


def written(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_limits_are_for_the_whole_group_and_can_be_lifted(tmp_path: Path) -> None:
    group = Cgroup(tmp_path, BOTH)
    group.limit(512 << 20, 0.5)
    assert written(tmp_path) == {
        "memory.max": str(512 << 20),
        "memory.swap.max": "0",
        "cpu.max": "50000 100000",
    }
    group.limit(None, None)
    assert written(tmp_path) == {"memory.max": "max", "memory.swap.max": "max", "cpu.max": "max 100000"}


def test_what_is_as_it_was_is_not_written_again(tmp_path: Path) -> None:
    group = Cgroup(tmp_path, BOTH)
    group.limit(None, None)
    assert written(tmp_path) == {}
    group.limit(1 << 20, None)
    (tmp_path / "memory.max").unlink()
    group.limit(1 << 20, None)
    assert not (tmp_path / "memory.max").exists()


def test_nothing_is_limited_without_controllers(tmp_path: Path) -> None:
    Cgroup(tmp_path, frozenset()).limit(1 << 20, 0.5)
    assert written(tmp_path) == {}


def test_the_kernel_s_counters_are_read(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n")
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 1\n")
    (tmp_path / "memory.current").write_text("4096\n")
    (tmp_path / "cgroup.procs").write_text("17\n4711\n")
    group = Cgroup(tmp_path, BOTH)
    assert group.cpu_s() == 1.5
    assert group.memory_bytes() == 4096
    assert group.memory_events()["oom_kill"] == 2
    assert group.members() == {17, 4711}


def test_a_group_without_a_memory_controller_counts_nothing(tmp_path: Path) -> None:
    group = Cgroup(tmp_path, frozenset())
    assert group.memory_events() == {}
    assert group.memory_bytes() == 0


def test_a_group_that_is_gone_can_be_killed_and_removed_again(tmp_path: Path) -> None:
    group = Cgroup(tmp_path / "gone", BOTH)
    group.kill()
    assert group.remove()


def test_the_kernel_is_told_to_kill_a_group_whole(tmp_path: Path) -> None:
    groups = Played(tmp_path, "memory")
    groups.make()
    assert written(tmp_path / "handler-1")["memory.oom.group"] == "1"


def test_a_group_of_a_predecessor_that_will_not_go_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "handler-1" / "below").mkdir(parents=True)
    (tmp_path / "handler-1" / "below" / "file").touch()
    (tmp_path / "handler-2").mkdir()
    (tmp_path / "somebody-elses").mkdir()
    groups = Played(tmp_path)
    assert (tmp_path / "handler-1" / "cgroup.kill").read_text() == "1"
    assert (tmp_path / "somebody-elses").exists()
    groups.make()
    assert (tmp_path / "handler-2").exists()


def test_what_nobody_has_delegated_to_us_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getxattr", lambda _path, _name: b"0")
    with pytest.raises(OSError, match=r"is not delegated: set Delegate=yes in the unit|no cgroup v2 is mounted"):
        take_over()
