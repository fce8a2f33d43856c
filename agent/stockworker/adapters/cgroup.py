"""Control groups (cgroups(7), version 2) below the one that systemd delegates to this service. It knows no jobs."""

# A process can leave its process group by setsid(2), but not its control group. So all children of a program are in the
# program's group: one setting limits them together, and one write kills them. This needs `Delegate=` and
# `ReadWritePaths=` in the unit (https://systemd.io/CGROUP_DELEGATION), and a kernel with `cgroup.kill` (5.14 or later).
# All systems with the required Python and systemd have one.
#
# The groups of a worker, below the folder that systemd made for its unit:
#
#     stockworker@1.service/    delegated; has no processes, so that it may enable controllers for the groups below it
#     ├── agent/                this process
#     ├── handler-1/            a child with everything that it has started
#     └── handler-2/            another one
#
# A program joins its group itself, before it becomes the program that was asked for: a process that is moved later
# could have started others already. With a memory limit the kernel ends the whole group (`memory.oom.group`), because a
# job that lost one of its processes would hang or give a wrong result.

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

_OWN: Final = "agent"
_HANDLER: Final = "handler-"
_CONTROLLERS: Final = ("cpu", "memory")
_PERIOD_US: Final = 100_000


class Cgroup:
    """A group and the processes in it.

    Attributes:
        folder: the folder of its files.
    """

    def __init__(self, folder: Path, controllers: frozenset[str]) -> None:
        self.folder = folder
        self._controllers = controllers
        self._limits: tuple[int | None, float | None] = (None, None)
        self._files: dict[str, int] = {}

    @property
    def join(self) -> str:
        """The command with which a shell, and the program that it becomes, joins the group."""
        return f"echo 0 >{shlex.quote(str(self.folder))}/cgroup.procs"

    def limit(self, memory_bytes: int | None, processors: float | None) -> None:
        """Limit all processes of the group together, if the controllers exist; None means no limit.

        Args:
            memory_bytes: memory in use, cached files included. With a limit, the group does not use swap.
            processors: the number of processors that it may keep busy, such as 0.5.

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
        """The processes in the group; not all of them if there are very many."""
        return frozenset(map(int, self._read("cgroup.procs").split()))

    def cpu_s(self) -> float:
        """Processor time of the group in seconds, processes that have ended included."""
        return int(dict(self._pairs("cpu.stat"))["usage_usec"]) / 1e6

    def memory_bytes(self) -> int:
        """Memory that the group uses, cached files included; 0 without the controller."""
        return int(self._read("memory.current")) if "memory" in self._controllers else 0

    def memory_events(self) -> Mapping[str, int]:
        """How often the group ran short of memory (memory.events); empty without the controller."""
        try:
            return {name: int(times) for name, times in self._pairs("memory.events")}
        except FileNotFoundError:
            return {}

    def kill(self) -> None:
        """Send SIGKILL to all processes in the group, and to those that they start meanwhile."""
        with suppress(FileNotFoundError):
            self._write("cgroup.kill", "1")

    def remove(self) -> bool:
        """Remove the group if it is empty; return whether it is gone."""
        while self._files:
            os.close(self._files.popitem()[1])
        with suppress(OSError):
            self.folder.rmdir()
            return True
        with suppress(OSError):
            for folder, _, _ in os.walk(self.folder, topdown=False):  # programs may make their own groups
                os.rmdir(folder)  # noqa: PTH106 (os.walk gives strings)
        return not self.folder.exists()

    def _pairs(self, name: str) -> Iterator[list[str]]:
        return (line.split() for line in self._read(name).splitlines())

    def _read(self, name: str) -> str:
        """The beginning of a file. The file stays open: opening takes a tenth of the time of an empty job."""
        if name not in self._files:
            self._files[name] = os.open(self.folder / name, os.O_RDONLY)
        return os.pread(self._files[name], 4096, 0).decode()

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)


class Delegation:
    """The group of this service, with a group below it for each program.

    Attributes:
        controllers: the available ones of `cpu` and `memory`.
    """

    def __init__(self, folder: Path) -> None:
        """Take over an empty group, and kill the processes that a predecessor has left below it."""
        self._folder = folder
        self._numbers = count(1)
        for name in _CONTROLLERS:
            with suppress(OSError):  # it is not available
                (folder / "cgroup.subtree_control").write_text(f"+{name}")
        self.controllers = frozenset((folder / "cgroup.subtree_control").read_text().split()) & {*_CONTROLLERS}
        for left in folder.glob(f"{_HANDLER}*"):
            group = Cgroup(left, self.controllers)
            group.kill()
            group.remove()

    def make(self) -> Cgroup:
        """Make a group.

        Raises:
            OSError: there are too many groups.
        """
        while True:
            folder = self._folder / f"{_HANDLER}{next(self._numbers)}"
            with suppress(FileExistsError):  # the predecessor's group is not empty yet
                folder.mkdir()
                break
        if "memory" in self.controllers:
            (folder / "memory.oom.group").write_text("1")
        return Cgroup(folder, self.controllers)


def take_over() -> Delegation:
    """Take over the group in which systemd started this process, and move into a group below it.

    A group has either processes, or groups below it with controllers (the rule of no internal processes).

    Raises:
        OSError: this process may not use the group; the text has the reason.
    """
    folder = _own_folder()
    leaf = folder / _OWN
    leaf.mkdir(exist_ok=True)
    if (leaf / "cgroup.procs").read_text():
        raise OSError(f"another worker uses {folder}")
    (leaf / "cgroup.procs").write_text("0")
    return Delegation(folder)


def _own_folder() -> Path:
    """The folder of this process's group, if it is usable."""
    with open("/proc/self/cgroup") as file:  # noqa: PTH123
        paths = [line.removeprefix("0::").strip("/\n") for line in file if line.startswith("0::")]
    mounts = list(_mounts())
    if not paths or not mounts:
        raise FileNotFoundError("no cgroup v2 is mounted")
    folder = mounts[0] / paths[0]
    if not _is_delegated(folder):
        raise PermissionError(f"{folder} is not delegated: set Delegate=yes in the unit")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} is not writable: set ReadWritePaths= in the unit")
    if not (folder / "cgroup.kill").exists():
        raise FileNotFoundError(f"{folder} has no cgroup.kill: the kernel is older than 5.14")
    return folder


def _mounts() -> Iterator[Path]:
    """The complete mounts of version 2: field 4 is the root within the mount (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo") as file:  # noqa: PTH123
        for line in file:
            before, _, after = line.partition(" - ")
            if after.startswith("cgroup2 ") and before.split()[3] == "/":
                yield Path(before.split()[4])


def _is_delegated(folder: Path) -> bool:
    """Whether systemd marks the group as delegated (since version 251)."""
    try:
        return os.getxattr(folder, "user.delegate") == b"1"
    except OSError:
        return False
