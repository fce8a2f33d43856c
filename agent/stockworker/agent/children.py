"""The processes that jobs run in: a Python child is used for many jobs, a command for one."""

import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Final, Protocol

import stockworker
from stockworker.adapters import clock
from stockworker.adapters.process import Process
from stockworker.agent import frames
from stockworker.agent.endings import describe, judge_command, judge_death, too_large
from stockworker.agent.output import Lines
from stockworker.agent.work import Ending, HandlerLogged, Progressed, Work
from stockworker.handlers.spec import CommandHandler, Limits
from stockworker.protocol.body import MAX_CONTENT
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""What of the environment reaches handlers and commands. Nothing else: it may hold secrets."""

_START: Final = "import sys; sys.path.insert(0, sys.argv[1]); from stockworker.agent.runner import main; main()"
"""`-I` ignores PYTHONPATH and the current folder, so the child is told where this very package is."""

_PACKAGE_PARENT: Final = str(Path(stockworker.__file__).resolve().parents[1])


class Owner(Protocol):
    """Who is told what happens in a child."""

    def heard(self, event: Progressed | HandlerLogged) -> None:
        """A handler has something to say."""

    def ended(self, token: Token, ending: Ending) -> None:
        """An attempt has ended."""

    def exited(self, child: "Child") -> None:
        """A child is gone. Told before the end of the attempt that ran in it, if one did."""


class Child(Protocol):
    """A process that an attempt runs in."""

    def terminate(self) -> None:
        """Ask it to end the attempt."""

    def kill(self) -> None:
        """End it and everything that it has started."""


class PythonChild:
    """Runs Python handlers, one job at a time.

    Attributes:
        configuration: the first frame that it was given.
        jobs: how many it has been given.
        reusable: whether it is fit for another one.
    """

    def __init__(self, configuration: bytes, owner: Owner) -> None:
        """Start a process.

        Raises:
            OSError: it can't be started.
        """
        self.configuration = configuration
        self.jobs = 0
        self.reusable = True
        self._owner = owner
        self._buffer = frames.FrameBuffer()
        self._ready = False
        self._token: Token | None = None
        self._limits = Limits()
        self._lines = Lines()
        self._process = Process(
            (sys.executable, "-I", "-X", "utf8", "-c", _START, _PACKAGE_PARENT),
            environment=_environment(),
            on_output=self._printed,
            on_message=self._received,
            on_exit=self._exited,
        )
        self._process.send(configuration)

    def run(self, work: Work, limits: Limits) -> None:
        """Start an attempt; the one before must have ended."""
        self.jobs += 1
        self._token = work.token
        self._limits = limits
        self._lines = Lines()
        self._process.send(frames.encode_work(work))

    def terminate(self) -> None:
        self.reusable = False  # the signal may arrive when the attempt has just ended
        self._process.terminate()

    def kill(self) -> None:
        self.reusable = False
        self._process.kill()

    def _received(self, chunk: bytes) -> None:
        try:
            received = self._buffer.feed(chunk)
        except ValueError:  # a handler has written to a descriptor that is not its own
            self.kill()
            self._end(
                Ending(Outcome.CRASHED, error="the handler wrote into the channel between its process and the worker")
            )
            return
        for frame in received:
            match frame:
                case [frames.READY]:
                    self._ready = True
                case [frames.PROGRESS, self._token, fraction, text]:
                    self._owner.heard(Progressed(Token(frame[1]), fraction, text))
                case [frames.LOG, self._token, level, text]:
                    self._owner.heard(HandlerLogged(Token(frame[1]), level, text))
                case [frames.ENDED, self._token, outcome, result, error, permanent, reusable]:
                    self._process.read_output()
                    self.reusable = self.reusable and reusable
                    self._end(Ending(Outcome(outcome), result, error, permanent))
                case _:  # from a thread that its handler has left behind
                    pass

    def _printed(self, chunk: bytes) -> None:
        if self._token is not None:
            _pass_on(self._owner, self._token, logging.INFO, self._lines.feed(chunk, clock.monotonic()))

    def _exited(self, returncode: int) -> None:
        self.reusable = False
        self._owner.exited(self)
        # Killed while it was starting: memory was short for a moment. It could do so, and will be able to again.
        if self._ready or returncode == -signal.SIGKILL:
            self._end(judge_death(returncode, self._lines.tail, self._limits))
        else:
            printed = self._lines.tail.decode(errors="replace")
            self._end(Ending(Outcome.REFUSED, error=describe("no process for handlers can be started here", printed)))

    def _end(self, ending: Ending) -> None:
        token, self._token = self._token, None
        if token is not None:
            _pass_on(self._owner, token, logging.INFO, self._lines.finish())
            self._owner.ended(token, ending)


class CommandChild:
    """Runs one command for one attempt."""

    def __init__(self, work: Work, handler: CommandHandler, owner: Owner) -> None:
        """Start the command.

        Raises:
            OSError: it can't be started.
        """
        self._token = work.token
        self._limits = handler.limits
        self._owner = owner
        self._output = b""
        self._too_large = False
        self._errors = Lines()
        environment = _environment() | {
            "STOCKWORKER_JOB_ID": work.job_id,
            "STOCKWORKER_JOB_TYPE": work.type,
            "STOCKWORKER_ATTEMPT": str(work.attempt),
        }
        # Not into the environment, as they may hold an API key: every process of this user could read it.
        settings = frames.encode_settings(work.type, handler).encode() if handler.settings else None
        files = {} if settings is None else {"STOCKWORKER_SETTINGS_FILE": settings}
        if shutil.which(handler.argv[0], path=environment.get("PATH")) is None:
            raise FileNotFoundError(f"{handler.argv[0]}: no such program, or it may not be run")
        self._process = Process(
            (*_limiter(handler.limits), *handler.argv),
            environment=environment,
            stdin=work.payload.encode(),
            files=files,
            on_output=self._printed,
            on_errors=self._complained,
            on_exit=self._exited,
        )

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def _printed(self, chunk: bytes) -> None:
        if len(self._output) + len(chunk) > MAX_CONTENT:
            self._too_large = True
            self.kill()
        else:
            self._output += chunk

    def _complained(self, chunk: bytes) -> None:
        _pass_on(self._owner, self._token, logging.WARNING, self._errors.feed(chunk, clock.monotonic()))

    def _exited(self, returncode: int) -> None:
        self._owner.exited(self)
        _pass_on(self._owner, self._token, logging.WARNING, self._errors.finish())
        if self._too_large:
            ending = too_large()
        else:
            ending = judge_command(returncode, self._output, self._errors.tail, self._limits)
        self._owner.ended(self._token, ending)


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def _limiter(limits: Limits) -> tuple[str, ...]:
    """The beginning of a command line that applies limits: prlimit of util-linux.

    Set by ourselves they would come too late for what the command forks at once, and code between fork and exec is not
    safe in a process that has threads.
    """
    options = ["--core=0"]
    if limits.memory_bytes is not None:
        options.append(f"--data={limits.memory_bytes}")
    if limits.cpu_s is not None:
        options.append(f"--cpu={limits.cpu_s}:{limits.cpu_s + 1}")  # SIGXCPU says why, SIGKILL makes sure
    if limits.open_files is not None:
        options.append(f"--nofile={limits.open_files}")
    return ("prlimit", *options, "--")


def _pass_on(owner: Owner, token: Token, level: int, lines: list[str]) -> None:
    for line in lines:
        owner.heard(HandlerLogged(token, level, line))
