"""Programs in groups of their own: started, told to stop, killed and reaped. Knows nothing of jobs.

No thread and no SIGCHLD handler: the event loop watches a pidfd (pidfd_open(2)) per program.

Every group is tethered to this process: the program inherits the reading end of a pipe whose writing end is open here
alone, and the kernel is asked to send SIGKILL to the whole group when that pipe hangs up (F_SETOWN, F_SETSIG and
O_ASYNC, fcntl(2)). So a group dies with this process however that ends, even by SIGKILL, without a line of code in the
group that could be stuck, and grandchildren too. What leaves its process group by setsid(2) escapes that, and is ended
with the control group that a program can be given as well: by us, or by the service manager if we are no more.
"""

import asyncio
import fcntl
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import MappingProxyType
from typing import Final

from stockworker.adapters.cgroup import Cgroup

_CHUNK: Final = 64 * 1024
_LAST_CHUNKS: Final = 64
"""Reads after the end: more than any pipe holds, and not for ever if something outside the group goes on writing."""

_REMOVE_AGAIN_S: Final = 0.1
"""After this it is tried again to remove a control group whose members have been killed, and are not dead yet."""

Receive = Callable[[bytes], None]


class _Inlet:
    """Reads what a program writes, whenever there is some."""

    def __init__(self, descriptor: int, receive: Receive) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self.read)

    def read(self) -> bool:
        """Pass one chunk on. False: there is none now."""
        try:
            data = os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # the other side of a socket closed with data unread: ECONNRESET
            data = b""
        if not data:
            self.close()
            return False
        self._receive(data)
        return True

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)


class Process:
    """A program, running in a session and process group of its own.

    The callbacks run on the event loop, `on_exit` once and last. Everything that the program wrote before it ended
    arrives before `on_exit`; whatever of its group outlived it has been killed by then.
    """

    def __init__(  # noqa: PLR0913 (one callback per thing that a program can do)
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_output: Receive,
        on_exit: Callable[[int], None],
        stdin: bytes = b"",
        files: Mapping[str, bytes] = MappingProxyType({}),
        on_message: Receive | None = None,
        on_errors: Receive | None = None,
        prepare: Sequence[str] = (),
        group: Cgroup | None = None,
    ) -> None:
        """Start a program.

        Args:
            argv: the program and its arguments; no shell is involved.
            environment: all of its environment.
            on_output: is given what it writes to standard output.
            on_exit: is given its exit code, or the negative number of the signal that killed it.
            stdin: what it reads from standard input.
            files: for each name a variable is set to the path of a file with this content, which is nowhere on disk.
                Unlike its environment, nobody but the program and what it starts is handed that.
            on_message: is given what it writes to standard *input*, which is then one end of a socket pair; what
                `send` sends arrives there too.
            on_errors: is given what it writes to standard error; without it that goes to standard output.
            prepare: what a shell does before it becomes the program, a command each. Done by ourselves it would come too
                late for what the program starts at once, and code between fork and exec is not safe in a process that
                has threads.
            group: the control group to run it in, which nothing else is in; removed when the program has ended.

        Raises:
            OSError: it can't be started.
        """
        self._loop = asyncio.get_running_loop()
        self._on_exit = on_exit
        self._unsent = bytearray()
        self._channel: socket.socket | None = None
        self._group = group
        with ExitStack() as at_failure, ExitStack() as handed_over:
            at_failure.callback(self._remove_group)
            if on_message is None:
                standard_input = _file_with(stdin)
                handed_over.callback(os.close, standard_input)
            else:
                self._channel, theirs = socket.socketpair()
                at_failure.enter_context(self._channel)
                self._channel.settimeout(0.0)
                standard_input = handed_over.enter_context(theirs).fileno()
            attached = {name: _file_with(content) for name, content in files.items()}
            for descriptor in attached.values():
                handed_over.callback(os.close, descriptor)
            tether, self._tether = os.pipe()
            handed_over.callback(os.close, tether)
            at_failure.callback(os.close, self._tether)
            self._popen = subprocess.Popen(  # noqa: S603 (argv comes from the configuration)
                _prepared(argv, prepare if group is None else (group.join, *prepare)),
                stdin=standard_input,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if on_errors is None else subprocess.PIPE,
                env={**environment, **{name: f"/dev/fd/{descriptor}" for name, descriptor in attached.items()}},
                start_new_session=True,
                pass_fds=(tether, *attached.values()),
            )
            at_failure.callback(self._abandon)
            _kill_on_hangup(tether, self._popen.pid)
            self._pidfd = os.pidfd_open(self._popen.pid)
            at_failure.pop_all()
        self._loop.add_reader(self._pidfd, self._exited)
        self._inlets = []
        if self._channel is not None and on_message is not None:
            self._inlets.append(_Inlet(self._channel.fileno(), on_message))
        if self._popen.stderr is not None and on_errors is not None:
            self._inlets.append(_Inlet(self._popen.stderr.fileno(), on_errors))
        if self._popen.stdout is not None:
            self._output = _Inlet(self._popen.stdout.fileno(), on_output)
            self._inlets.append(self._output)

    @property
    def pid(self) -> int:
        """Process id of the program, and the id of its group."""
        return self._popen.pid

    def send(self, data: bytes) -> None:
        """Send `data` through the socket pair, without waiting; nothing happens if the program has closed its end."""
        if not self._unsent:
            data = data[self._write(data) :]
            if not data or self._channel is None:
                return
            self._loop.add_writer(self._channel.fileno(), self._flush)
        self._unsent += data

    def read_output(self) -> None:
        """Pass on at once what has been written to standard output until now, up to what a pipe holds."""
        self._output.read()

    def terminate(self) -> None:
        """Send SIGTERM to the whole process group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the whole group, and to what has left it, if there is a control group."""
        self._signal(signal.SIGKILL)  # the program may not have joined its control group yet
        if self._group is not None:
            self._group.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._popen.returncode is None:  # until it is reaped, nobody else can get its number
            with suppress(ProcessLookupError, PermissionError):  # a group of zombies, or of set-uid programs
                os.killpg(self._popen.pid, number)

    def _write(self, data: bytes | bytearray) -> int:
        """Write what the socket takes; say how much that was."""
        if self._channel is None:
            return 0
        try:
            return self._channel.send(data)
        except BlockingIOError:
            return 0
        except OSError:  # its end is closed: that it has exited is told by the pidfd
            return len(data)

    def _flush(self) -> None:
        del self._unsent[: self._write(self._unsent)]
        if not self._unsent:
            self._stop_writing()

    def _stop_writing(self) -> None:
        if self._channel is not None:
            self._loop.remove_writer(self._channel.fileno())

    def _exited(self) -> None:
        self.kill()  # what it leaves behind, while the zombie still keeps the group's number from being used again
        for inlet in self._inlets:
            for _ in range(_LAST_CHUNKS):
                if not inlet.read():
                    break
        self._release()
        self._on_exit(self._popen.wait())
        self._remove_group()

    def _remove_group(self) -> None:
        if self._group is not None and not self._group.remove():
            self._loop.call_later(_REMOVE_AGAIN_S, self._remove_group)

    def _release(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._stop_writing()
        for inlet in self._inlets:
            inlet.close()
        os.close(self._tether)
        for stream in (self._channel, self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()

    def _abandon(self) -> None:
        """Undo a start that has failed half-way."""
        self.kill()
        self._popen.wait()
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()


def forbid_core_dumps() -> None:
    """A core dump of this process, or of one that it starts, would put keys and payloads on the disk.

    The limit is inherited, and systemd-coredump and apport honour it. PR_SET_DUMPABLE would go further, and hide this
    process from others of its user: in vain, as jobs run as the same user and can read what it reads.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _prepared(argv: Sequence[str], commands: Sequence[str]) -> Sequence[str]:
    """The command line of a shell that does something first, if there is anything to do."""
    return ("sh", "-c", " && ".join((*commands, 'exec "$@"')), "sh", *argv) if commands else argv


def _file_with(content: bytes) -> int:
    """Make a file without a name: unlike a pipe it takes everything at once, and nobody has to wait for a reader."""
    descriptor = os.memfd_create("stockworker")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _kill_on_hangup(descriptor: int, group: int) -> None:
    """Let the kernel kill the group when the last writer of this pipe is gone.

    The setting belongs to the open file, which the program has inherited: it lasts when our descriptor is closed.
    """
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -group)
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
