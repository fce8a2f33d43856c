"""The program of a fork server: see `forks`. Every process that it forks has a copy of this, so it imports little."""

import fcntl
import gc
import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

_LARGEST: Final = 8192
_DESCRIPTORS: Final = 4
_TETHER: Final = 3

QUEUE: Final = 4
"""The descriptor of the packet queue in a forked process."""


def serve(descriptor: int) -> bool:
    """Fork processes for the one at the other end of this socket, until it closes that.

    Returns:
        Whether this is one of them.
    """
    gc.collect()
    gc.disable()
    gc.freeze()  # a collection would write to all objects, and so copy the memory that is shared until then
    channel = socket.socket(fileno=descriptor)
    while True:
        packet, descriptors, _, _ = socket.recv_fds(channel, _LARGEST, _DESCRIPTORS)
        if not packet:
            return False
        for request in map(json.loads, packet.splitlines()):
            match request:
                case ["fork", number, folder]:
                    if _fork(channel, number, descriptors):
                        channel.detach()
                        _begin(folder, descriptors)
                        return True
                case ["reap", pid]:
                    _answer(channel, "reaped", pid, _wait(pid))
                case _:
                    raise AssertionError(f"{request} is not a request")


def _fork(channel: socket.socket, number: int, descriptors: Sequence[int]) -> bool:
    """Fork; return whether this is the new process."""
    try:
        pid = os.fork()
    except OSError as error:
        _answer(channel, "failed", number, f"Cannot fork: {error.strerror}")
    else:
        if pid == 0:
            return True
        _answer(channel, "forked", number, pid)
    for each in descriptors:
        os.close(each)
    return False


def _begin(folder: str, descriptors: Sequence[int]) -> None:
    """Become what the worker has asked for."""
    standard_input, output, tether, queue = descriptors
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    if folder:
        with open(f"{folder}/cgroup.procs", "w") as file:  # noqa: PTH123 (pathlib would have to be imported)
            file.write("0")
    os.dup2(standard_input, 0)
    _move({tether: _TETHER, queue: QUEUE})
    os.set_inheritable(_TETHER, True)  # noqa: FBT003 (it has no name)
    kill_on_hangup(_TETHER, os.getpid())
    os.closerange(QUEUE + 1, os.sysconf("SC_OPEN_MAX"))
    gc.enable()


def _move(numbers: Mapping[int, int]) -> None:
    """Give descriptors other numbers, even if one has a number that another one will have."""
    copies = {fcntl.fcntl(old, fcntl.F_DUPFD, max(numbers.values()) + 1): new for old, new in numbers.items()}
    for copy, new in copies.items():
        os.dup2(copy, new)


def _wait(pid: int) -> int | None:
    with suppress(ChildProcessError):
        return os.waitpid(pid, 0)[1]
    return None


def _answer(channel: socket.socket, *answer: Any) -> None:
    with suppress(OSError):  # the worker has ended
        channel.send(json.dumps(answer).encode())


def kill_on_hangup(descriptor: int, group: int) -> None:
    """Make the kernel kill the group when the last writer of this pipe is gone.

    The setting belongs to the open file, which the program has inherited. So it stays when this descriptor is closed.
    """
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -group)
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
