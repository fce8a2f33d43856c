"""Programs in their own process groups: start, stop, kill and reap them. Knows nothing of jobs."""

# No thread and no SIGCHLD handler: the event loop watches a pidfd (pidfd_open(2)) per program.
#
# Every group is tethered to this process. The program inherits the reading end of a pipe, and only this process has the
# writing end. When the pipe hangs up, the kernel sends SIGKILL to the whole group (F_SETOWN, F_SETSIG and O_ASYNC,
# fcntl(2)). So the group, grandchildren included, ends with this process, even if that is killed by SIGKILL. It needs
# no code in the group, which could hang. A process that leaves its process group by setsid(2) escapes the tether. The
# optional control group of a program contains it: this process or, after its end, the service manager kills that group.
#
# A start succeeds, or leaves nothing behind. Two stacks in `Process.__init__` have what must be undone: `at_failure`
# only if a later step fails, `handed_over` in both cases, because the program has its own copies of these descriptors.
#
# An end has a fixed order. When the pidfd becomes readable, the program is a zombie, and the kernel does not give its
# number to another process before `wait`. Until then it is safe to kill the rest of the group by that number. Then the
# pipes are read empty, then the zombie is reaped, and only then `on_exit` is called.

import asyncio
import errno
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
from stockworker.adapters.fork_loop import kill_on_hangup

_CHUNK: Final = 64 * 1024
_LAST_CHUNKS: Final = 64
"""Reads after the end: more than any pipe holds, but bounded, because a process outside the group may keep writing."""

_REMOVE_AGAIN_S: Final = 0.1
"""Delay until the next attempt to remove a control group whose killed members have not exited yet."""

_UNKNOWN: Final = 255
"""Keeps `Popen` from waiting for a process that is gone."""

_started: Final[set[int]] = set()
"""The programs of this process that have not been reaped."""

Receive = Callable[[bytes], None]
OnExit = Callable[[int | None], None]
"""Gets the exit code of a process, or the negative number of the signal that killed it; None if the kernel does not know
it, because its parent ignores SIGCHLD or has ended, or something else has waited for it."""


class Inlet:
    """Reads the output of a program when it is available."""

    def __init__(self, descriptor: int, receive: Receive, *, watch: bool = True) -> None:
        """Begin; without `watch`, only `read` reads."""
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        if watch:
            self._loop.add_reader(descriptor, self.read)

    def read(self) -> bool:
        """Pass one chunk on; return False if none is available."""
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


class Supervised:
    """A process in its own session and process group; `Process` and `forks.Forked` differ in how it starts and is reaped.

    The callbacks run on the event loop, `on_exit` once and last. All output of the program arrives before `on_exit`, and
    the rest of its group has been killed by then.
    """

    def __init__(self, on_exit: OnExit, group: Cgroup | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_exit = on_exit
        self._unsent = bytearray()
        self._channel: socket.socket | None = None
        self._group = group
        self._inlets: list[Inlet] = []
        self._pidfd: int | None = None
        self._tether = -1
        self._ended = False

    @property
    def pid(self) -> int:
        """Process ID of the program and of its group; 0 while it is not known."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Send `data` through the socket pair, without waiting; drop it if the program has closed its end."""
        if not self._unsent:
            data = data[self._write(data) :]
            if not data or self._channel is None:
                return
            self._loop.add_writer(self._channel.fileno(), self._flush)
        self._unsent += data

    def send_with(self, data: bytes, descriptors: Sequence[int]) -> None:
        """Send `data` with copies of `descriptors`, without waiting.

        Raises:
            OSError: the program is too slow, or has closed its end.
        """
        if self._channel is None or self._unsent:
            raise BlockingIOError(errno.EAGAIN, "the program does not read")
        socket.send_fds(self._channel, [data], descriptors)

    def read_output(self) -> None:
        """Pass on the standard output so far immediately, up to the capacity of a pipe."""
        self._inlets[0].read()

    def terminate(self) -> None:
        """Send SIGTERM to the whole process group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the whole process group, and to the control group, if there is one."""
        self._signal(signal.SIGKILL)  # the program may not have joined its control group yet
        if self._group is not None:
            self._group.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self.pid and not self._ended:  # until it is reaped, no other process can get its number
            with suppress(ProcessLookupError, PermissionError):  # a group of zombies, or of set-uid programs
                os.killpg(self.pid, number)

    def _write(self, data: bytes | bytearray) -> int:
        """Write as much as the socket accepts; return the number of bytes."""
        if self._channel is None:
            return 0
        try:
            return self._channel.send(data)
        except BlockingIOError:
            return 0
        except OSError:  # its end is closed; the pidfd reports its exit
            return len(data)

    def _flush(self) -> None:
        del self._unsent[: self._write(self._unsent)]
        if not self._unsent:
            self._stop_writing()

    def _stop_writing(self) -> None:
        if self._channel is not None:
            self._loop.remove_writer(self._channel.fileno())

    def _exited(self) -> None:
        self.kill()  # the rest of its group, while the zombie still reserves the group's number
        self._read_rest()
        returncode = self._reap()
        self._finish(returncode)

    def _read_rest(self) -> None:
        for inlet in self._inlets:
            for _ in range(_LAST_CHUNKS):
                if not inlet.read():
                    break

    def _reap(self) -> int | None:
        raise NotImplementedError

    def _finish(self, returncode: int | None) -> None:
        self._ended = True
        self._release()
        self._on_exit(returncode)
        self._remove_group()

    def _remove_group(self) -> None:
        if self._group is not None and not self._group.remove():
            self._loop.call_later(_REMOVE_AGAIN_S, self._remove_group)

    def _release(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        self._stop_writing()
        for inlet in self._inlets:
            inlet.close()
        os.close(self._tether)
        if self._channel is not None:
            self._channel.close()


class Process(Supervised):
    """A program, running in its own session and process group."""

    def __init__(  # noqa: PLR0913 (one callback per kind of event)
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_output: Receive,
        on_exit: OnExit,
        stdin: bytes = b"",
        files: Mapping[str, bytes] = MappingProxyType({}),
        on_message: Receive | None = None,
        packets: bool = False,
        on_errors: Receive | None = None,
        prepare: Sequence[str] = (),
        group: Cgroup | None = None,
    ) -> None:
        """Start a program.

        Args:
            argv: the program and its arguments; there is no shell.
            environment: its complete environment.
            on_output: receives its standard output.
            on_exit: see `OnExit`.
            stdin: its standard input.
            files: for each name, an environment variable has the path of a file with this content, which is not on
                disk. Unlike the environment, only the program and its children can read it.
            on_message: receives the data that it writes to standard *input*, which is then one end of a socket pair.
                The data of `send` arrives there too.
            packets: the socket pair keeps the bounds of what is sent.
            on_errors: receives its standard error, which otherwise goes to standard output.
            prepare: commands that a shell runs before it becomes the program. This process can't run them: it would be
                too late for children that the program starts immediately, and code between fork and exec is not safe
                in a process with threads.
            group: an empty control group for the program; it is removed when the program has ended.

        Raises:
            OSError: it can't be started.
        """
        super().__init__(on_exit, group)
        with ExitStack() as at_failure, ExitStack() as handed_over:
            at_failure.callback(self._remove_group)
            if on_message is None:
                standard_input = _file_with(stdin)
                handed_over.callback(os.close, standard_input)
            else:
                self._channel, other_end = socket.socketpair(
                    type=socket.SOCK_SEQPACKET if packets else socket.SOCK_STREAM
                )
                at_failure.enter_context(self._channel)
                self._channel.settimeout(0.0)
                standard_input = handed_over.enter_context(other_end).fileno()
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
            _started.add(self._popen.pid)
            at_failure.callback(self._abandon)
            kill_on_hangup(tether, self._popen.pid)
            self._pidfd = os.pidfd_open(self._popen.pid)
            at_failure.pop_all()
        self._loop.add_reader(self._pidfd, self._exited)
        if self._popen.stdout is not None:
            self._inlets.append(Inlet(self._popen.stdout.fileno(), on_output))
        if self._channel is not None and on_message is not None:
            self._inlets.append(Inlet(self._channel.fileno(), on_message))
        if self._popen.stderr is not None and on_errors is not None:
            self._inlets.append(Inlet(self._popen.stderr.fileno(), on_errors))

    @property
    def pid(self) -> int:
        return self._popen.pid

    def _reap(self) -> int | None:
        _started.discard(self._popen.pid)
        try:
            os.waitid(os.P_PIDFD, self._pidfd or 0, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # `Popen` would make an exit code of 0 of it
            self._popen.returncode = _UNKNOWN
            return None
        return self._popen.wait()

    def _release(self) -> None:
        super()._release()
        self._close_output()

    def _close_output(self) -> None:
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()

    def _abandon(self) -> None:
        """Undo a start that has failed half-way."""
        self.kill()
        self._popen.wait()
        _started.discard(self._popen.pid)
        self._close_output()


def forbid_core_dumps() -> None:
    """Forbid core dumps of this process and its children: they would write keys and payloads to the disk.

    Children inherit the limit, and systemd-coredump and apport respect it. PR_SET_DUMPABLE would also hide this process
    from others of its user. That would not help: jobs run as the same user and can read the same files.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def keep_exit_statuses() -> None:
    """Undo that SIGCHLD is ignored, which programs inherit: the kernel would forget how children of this process end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def reap_orphans(every_s: float = 10.0) -> None:
    """Reap what the programs of this process have left behind, from now on. For process 1, whose children they become."""
    # By time and not by SIGCHLD, which uvloop keeps for itself.
    asyncio.get_running_loop().call_later(every_s, reap_orphans, every_s)
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid in _started:
                return  # its `Process` is about to reap it, and the others follow next time
            os.waitpid(ended.si_pid, 0)


def _prepared(argv: Sequence[str], commands: Sequence[str]) -> Sequence[str]:
    """A command line that runs the commands first, if there are any."""
    return ("sh", "-c", " && ".join((*commands, 'exec "$@"')), "sh", *argv) if commands else argv


def _file_with(content: bytes) -> int:
    """Make a file without a name. Unlike a pipe, it accepts all data without waiting for a reader."""
    descriptor = os.memfd_create("stockworker")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
