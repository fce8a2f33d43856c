"""Facts about processes, from /proc."""

import os
import time
from contextlib import suppress
from pathlib import Path

from stockworker.adapters import clock

_TIMEOUT_S = 20.0


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def wait_until_gone(*pids: int) -> None:
    """Wait until no process of these runs.

    Raises:
        TimeoutError: some still run.
    """
    deadline = clock.monotonic() + _TIMEOUT_S
    while alive := [pid for pid in pids if is_alive(pid)]:
        if clock.monotonic() > deadline:
            raise TimeoutError(f"still alive: {alive}")
        time.sleep(0.01)


def children(pid: int | None = None) -> set[int]:
    """The children of a process, zombies included; of the current process unless given."""
    found: set[int] = set()
    with suppress(FileNotFoundError, ProcessLookupError):  # the process has ended
        for folder in Path(f"/proc/{pid or os.getpid()}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
                found |= {int(child) for child in (folder / "children").read_text().split()}
    return found


def descendants(pid: int | None = None) -> set[int]:
    """The children of a process, their children and so on, zombies included; of the current process unless given."""
    found = children(pid)
    return found.union(*map(descendants, found))


def descriptors() -> set[int]:
    """The open files of this process."""
    return {int(path.name) for path in Path("/proc/self/fd").iterdir()}
