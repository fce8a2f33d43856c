"""Control groups for tests: real ones (as root), and folders with files that imitate them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from stockworker.adapters.cgroup import Cgroup, Delegation
from tests.harness.waiting import wait_until

SCATTER = (
    "trap '' TERM; "
    ": $(setsid sh -c 'setsid sleep 1000 >/dev/null & echo $0 $$ $! >&2; exec sleep 1000 >/dev/null' $$ &)"
)
"""For a shell: start processes that leave the process group and ignore SIGTERM; print all PIDs once they run."""

_NUMBERS = count(1)


def top() -> Path:
    """The mount point of version 2."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next(Path(where) for _, where, kind, *_ in mounts if kind == "cgroup2")


@contextmanager
def delegated() -> Iterator[Path]:
    """A group like that of a unit with `Delegate=yes`; killed and removed at the end."""
    folder = top() / f"stockworker-{os.getpid()}-{next(_NUMBERS)}"
    folder.mkdir()
    os.setxattr(folder, "user.delegate", b"1")
    try:
        yield folder
    finally:
        group = Cgroup(folder, frozenset())
        group.kill()
        wait_until(group.remove, f"{folder} is empty")


def members(folder: Path) -> set[int]:
    """All processes in a group and below it."""
    return {int(pid) for file in folder.rglob("cgroup.procs") for pid in file.read_text().split()}


def wait_until_members(folder: Path, wanted: set[int]) -> None:
    """Wait until a group and the groups below it contain exactly these processes."""
    wait_until(lambda: members(folder) == wanted, f"nothing but {wanted} runs in {folder}")


def wait_until_empty(folder: Path) -> None:
    """Wait until a group has no groups below it."""
    wait_until(partial(_has_no_folders, folder), f"there is nothing below {folder}")


def _has_no_folders(folder: Path) -> bool:
    return not any(each.is_dir() for each in folder.iterdir())


class Played(Delegation):
    """Groups made of ordinary files, with these controllers: writing to them has no effect."""

    def __init__(self, folder: Path, *controllers: str) -> None:
        (folder / "cgroup.subtree_control").touch()
        super().__init__(folder)
        self.controllers = frozenset(controllers)

    def make(self) -> Cgroup:
        group = super().make()
        (group.folder / "cpu.stat").write_text("usage_usec 0\n")
        (group.folder / "memory.current").write_text("0\n")
        return group
