"""Processes that are forked from one that has everything imported already. Knows nothing of jobs."""

# A new Python interpreter costs 60 to 130 ms of processor time and 12 MiB, a forked one 3 ms and what it changes. So one
# process, the **fork server**, imports what its children need, and forks them on request. It has no threads and no event
# loop, and imports nothing afterwards, so a fork copies a quiet process.
#
# Requests are packets of a socket pair: the fork server's standard input. A request to fork brings the descriptors that
# this process has made: one end of a socket pair for standard input, a pipe for standard output and error, the reading
# end of the tether (`process` explains it), and that of a `packet_queue`. The new process begins a session, joins its
# control group, ties itself to its tether and closes all other descriptors. `fork_loop.serve` then returns in it, and
# the program goes on as if it had been started.
#
# A forked process is a child of the fork server, which must reap it. It does so only on request: until then the number of
# the process stays reserved, so this process can kill its group, as in `process`. The fork server answers with the exit
# status. If the fork server has ended itself, its children continue, and their exit statuses are unknown.
#
# This process never waits for the fork server. The socket keeps what it sends to a process that does not exist yet, and
# `Forked` keeps a signal for it.

import json
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Final

from stockworker.adapters.cgroup import Cgroup
from stockworker.adapters.packet_queue import QueueWriter
from stockworker.adapters.process import Inlet, OnExit, Process, Receive, Supervised

_TAIL: Final = 4096
_MOST_CHUNKS: Final = 16
"""Chunks that are received before others get their turn."""

_CANNOT_FORK: Final = b"Cannot fork: the process that forks has ended"
"""What a process printed that the fork server could not make before it ended: a shortage, see `shortages`."""


class ForkServer:
    """A process that forks others.

    Attributes:
        alive: whether it can be asked for more.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], on_exit: Callable[[], None]) -> None:
        """Start it.

        Args:
            argv: a program that calls `fork_loop.serve`.
            environment: of all its processes.
            on_exit: called when it has ended.

        Raises:
            OSError: it can't be started.
        """
        self.alive = True
        self._on_exit = on_exit
        self._printed = b""
        self._requested: dict[int, Forked] = {}
        self._forked: dict[int, Forked] = {}
        self._count = 0
        self._process = Process(
            argv,
            environment=environment,
            on_output=self._keep,
            on_message=self._answered,
            on_exit=self._exited,
            packets=True,
        )

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._process.pid

    def fork(self, process: "Forked", folder: str, descriptors: Sequence[int]) -> None:
        """Ask for a process with these descriptors as standard input, output and tether, in the control group `folder`.

        If the fork server has just ended, and this program has not noticed yet, the process fails when it does.

        Raises:
            OSError: the request can't be sent.
        """
        self._count += 1
        with suppress(BrokenPipeError, ConnectionResetError):
            self._process.send_with(json.dumps(["fork", self._count, folder]).encode(), descriptors)
        self._requested[self._count] = process

    def reap(self, pid: int) -> bool:
        """Ask for the exit status of a process that has ended; return False if it can't be known."""
        if self.alive:
            self._process.send(f'["reap",{pid}]\n'.encode())
        return self.alive

    def close(self) -> None:
        """End it."""
        self._process.kill()

    def _keep(self, chunk: bytes) -> None:
        self._printed = (self._printed + chunk)[-_TAIL:]

    def _answered(self, packet: bytes) -> None:
        match json.loads(packet):
            case ["forked", number, pid]:
                process = self._forked[pid] = self._requested.pop(number)
                process.begin(pid)
            case ["failed", number, problem]:
                self._requested.pop(number).fail(problem.encode())
            case ["reaped", pid, status]:
                self._forked.pop(pid).reaped(None if status is None else os.waitstatus_to_exitcode(status))
            case answer:
                raise AssertionError(f"{answer} is not an answer")

    def _exited(self, _returncode: int | None) -> None:
        self.alive = False
        for process in [*self._requested.values()]:
            process.fail(self._printed or _CANNOT_FORK)
        for process in [*self._forked.values()]:
            process.orphaned()
        self._on_exit()


class Forked(Supervised):
    """A process of a fork server. The callbacks are those of `Process`.

    What the process sends is received only when it rings, or on `receive`.
    """

    def __init__(
        self,
        server: ForkServer,
        *,
        on_output: Receive,
        on_message: Receive,
        on_exit: OnExit,
        group: Cgroup | None = None,
    ) -> None:
        """Ask for a process. If it can't be forked, it ends with exit code 1, and the reason is its output.

        Raises:
            OSError: it can't be asked for.
        """
        super().__init__(on_exit, group)
        self._server = server
        self._pid = 0
        self._due: list[signal.Signals] = []
        self._is_zombie = False
        self._left: list[bytes] = []
        self._on_output = on_output
        with ExitStack() as at_failure, ExitStack() as handed_over:
            at_failure.callback(self._remove_group)
            self._channel, other_end = socket.socketpair()
            at_failure.enter_context(self._channel)
            self._channel.settimeout(0.0)
            handed_over.enter_context(other_end)
            tether, self._tether = os.pipe()
            handed_over.callback(os.close, tether)
            at_failure.callback(os.close, self._tether)
            self._output, output = os.pipe()
            handed_over.callback(os.close, output)
            at_failure.callback(os.close, self._output)
            self._queue = QueueWriter()
            at_failure.callback(self._queue.close)
            folder = "" if group is None else str(group.folder)
            server.fork(self, folder, (other_end.fileno(), output, tether, self._queue.reading_end))
            at_failure.pop_all()
        self._messages = Inlet(self._channel.fileno(), on_message, watch=False)
        bell = Inlet(self._queue.bell, lambda _: self.receive())
        self._inlets = [Inlet(self._output, on_output), self._messages, bell]

    @property
    def pid(self) -> int:
        return self._pid

    def put(self, packet: bytes) -> bool:
        """Append a packet to its queue; return False if that is full."""
        return not self._ended and self._queue.put(packet)

    def receive(self) -> None:
        """Receive what it has sent."""
        for _ in range(_MOST_CHUNKS):
            if self._ended or not self._messages.read():
                return
        self._loop.call_soon(self.receive)

    def take_back(self) -> list[bytes]:
        """Take back the packets that it has not taken."""
        return self._left if self._ended else self._queue.take_back()

    def begin(self, pid: int) -> None:
        """It exists."""
        self._pid = pid
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:  # too many open files: its end would stay unnoticed
            self.kill()
            self._exited()
        else:
            self._loop.add_reader(self._pidfd, self._exited)
            for number in self._due:
                self._signal(number)

    def fail(self, problem: bytes) -> None:
        """It will not exist."""
        self._on_output(problem)
        self._finish(1)

    def reaped(self, returncode: int | None) -> None:
        """It does not exist any more."""
        self._finish(returncode)

    def orphaned(self) -> None:
        """Its fork server does not exist any more."""
        if self._is_zombie:
            self._finish(None)

    def _signal(self, number: signal.Signals) -> None:
        if not self._pid:
            self._due.append(number)
        elif not self._ended:
            super()._signal(number)
            with suppress(ProcessLookupError):  # it may be about to make its group
                os.kill(self._pid, number)

    def _exited(self) -> None:
        self.kill()
        self._read_rest()
        self._is_zombie = True
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
        if not self._server.reap(self._pid):
            self._finish(None)

    def _release(self) -> None:
        super()._release()
        os.close(self._output)
        self._left = self._queue.take_back()
        self._queue.close()
