"""Control groups (cgroups(7), version 2) below the one that systemd has given us. Knows nothing of jobs.

A process leaves its process group by setsid(2), and its control group not at all unless it is moved: whatever a program
starts is in the program's group, can be limited as a whole, and dies at one word. That needs `Delegate=` and
`ReadWritePaths=` in the unit (https://systemd.io/CGROUP_DELEGATION) and a kernel that has `cgroup.kill`, 5.14 or later,
as every system has that our Python and systemd run on.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

_OURS: Final = "agent"
_THEIRS: Final = "handler-"
_CONTROLLERS: Final = ("cpu", "memory")
_PERIOD_US: Final = 100_000


class Cgroup:
    """A group, and whatever runs in it.

    Attributes:
        folder: where its files are.
    """

    def __init__(self, folder: Path, controllers: frozenset[str]) -> None:
        self.folder = folder
        self._controllers = controllers
        self._limits: tuple[int | None, float | None] = (None, None)
        self._files: dict[str, int] = {}

    @property
    def join(self) -> str:
        """What a shell has to do to be in the group, and whatever it becomes."""
        return f"echo 0 >{shlex.quote(str(self.folder))}/cgroup.procs"

    def limit(self, memory_bytes: int | None, processors: float | None) -> None:
        """Limit all of the group together, as far as there are controllers; None is no limit.

        Args:
            memory_bytes: memory that is in use, cached files included; nothing is swapped out meanwhile.
            processors: how many of them it may keep busy, such as 0.5.

        Raises:
            OSError: the kernel does not accept it.
        """
        if (memory_bytes, processors) == self._limits:
            return
        if "memory" in self._controllers:
            self._write("memory.max", "max" if memory_bytes is None else str(memory_bytes))
            with suppress(FileNotFoundError):  # a kernel without swap
                self._write("memory.swap.max", "max" if memory_bytes is None else "0")
        if "cpu" in self._controllers:
            quota = "max" if processors is None else f"{processors * _PERIOD_US:.0f}"
            self._write("cpu.max", f"{quota} {_PERIOD_US}")
        self._limits = (memory_bytes, processors)

    def members(self) -> frozenset[int]:
        """The processes that run in the group; of very many only some."""
        return frozenset(map(int, self._read("cgroup.procs").split()))

    def cpu_s(self) -> float:
        """Processor time that all of the group have used, those that have ended included, in seconds."""
        return int(dict(self._pairs("cpu.stat"))["usage_usec"]) / 1e6

    def memory_bytes(self) -> int:
        """Memory that the group has in use, cached files included; 0 without the controller."""
        return int(self._read("memory.current")) if "memory" in self._controllers else 0

    def memory_events(self) -> Mapping[str, int]:
        """How often the group was short of memory (memory.events); nothing without the controller."""
        try:
            return {name: int(times) for name, times in self._pairs("memory.events")}
        except FileNotFoundError:
            return {}

    def kill(self) -> None:
        """Send SIGKILL to everything in the group, and to what it starts meanwhile."""
        with suppress(FileNotFoundError):
            self._write("cgroup.kill", "1")

    def remove(self) -> bool:
        """Remove the group, if nothing runs in it any more; say whether it is gone."""
        while self._files:
            os.close(self._files.popitem()[1])
        with suppress(OSError):
            self.folder.rmdir()
            return True
        with suppress(OSError):
            for folder, _, _ in os.walk(self.folder, topdown=False):  # programs may make groups of their own
                os.rmdir(folder)  # noqa: PTH106 (os.walk gives strings)
        return not self.folder.exists()

    def _pairs(self, name: str) -> Iterator[list[str]]:
        return (line.split() for line in self._read(name).splitlines())

    def _read(self, name: str) -> str:
        """The beginning of a file, kept open: that is a tenth of the time of a job that does nothing."""
        if name not in self._files:
            self._files[name] = os.open(self.folder / name, os.O_RDONLY)
        return os.pread(self._files[name], 4096, 0).decode()

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)


class Delegation:
    """The group that is ours, with a group below it for each program.

    Attributes:
        controllers: what can be limited: of `cpu` and `memory` those that there are.
    """

    def __init__(self, folder: Path) -> None:
        """Take a group over that nobody is in, and end what a predecessor has left below it."""
        self._folder = folder
        self._numbers = count(1)
        for name in _CONTROLLERS:
            with suppress(OSError):  # there is none
                (folder / "cgroup.subtree_control").write_text(f"+{name}")
        self.controllers = frozenset((folder / "cgroup.subtree_control").read_text().split()) & {*_CONTROLLERS}
        for left in folder.glob(f"{_THEIRS}*"):
            group = Cgroup(left, self.controllers)
            group.kill()
            group.remove()

    def make(self) -> Cgroup:
        """Make a group.

        Raises:
            OSError: there are too many.
        """
        while True:
            folder = self._folder / f"{_THEIRS}{next(self._numbers)}"
            with suppress(FileExistsError):  # a predecessor's is not empty yet
                folder.mkdir()
                break
        if "memory" in self.controllers:
            (folder / "memory.oom.group").write_text("1")
        return Cgroup(folder, self.controllers)


def take_over() -> Delegation:
    """Make use of the group that systemd has started us in, and move into a part of it.

    Groups have either members or groups below them with controllers (the rule of no internal processes).

    Raises:
        OSError: it is not ours to use: says why.
    """
    folder = _own_folder()
    leaf = folder / _OURS
    leaf.mkdir(exist_ok=True)
    if (leaf / "cgroup.procs").read_text():
        raise OSError(f"another agent uses {folder}")
    (leaf / "cgroup.procs").write_text("0")
    return Delegation(folder)


def _own_folder() -> Path:
    """Where the group of this process is, if it can be used."""
    with open("/proc/self/cgroup") as file:  # noqa: PTH123
        paths = [line.removeprefix("0::").strip("/\n") for line in file if line.startswith("0::")]
    mounts = list(_mounts())
    if not paths or not mounts:
        raise FileNotFoundError("no cgroup v2 is mounted")
    folder = mounts[0] / paths[0]
    if not _is_delegated(folder):
        raise PermissionError(f"{folder} is not delegated: Delegate=yes in the unit")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} can't be written: ReadWritePaths= in the unit")
    if not (folder / "cgroup.kill").exists():
        raise FileNotFoundError(f"{folder} has no cgroup.kill: a kernel older than 5.14")
    return folder


def _mounts() -> Iterator[Path]:
    """Where version 2 is mounted as a whole: field 4 is the root within the mount (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo") as file:  # noqa: PTH123
        for line in file:
            before, _, after = line.partition(" - ")
            if after.startswith("cgroup2 ") and before.split()[3] == "/":
                yield Path(before.split()[4])


def _is_delegated(folder: Path) -> bool:
    """Whether systemd says so (since version 251)."""
    try:
        return os.getxattr(folder, "user.delegate") == b"1"
    except OSError:
        return False
