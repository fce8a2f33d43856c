"""The processes that jobs run in: a Python child is used for many jobs, a command for one."""

# A Python child is used for many jobs, because starting an interpreter and importing a handler takes longer than most
# jobs. `Isolation` decides for which; `executor` obeys it. It is used again only if the last job has left nothing behind
# that could affect the next one:
#
# - It has sent its result by itself, and reports that it is reusable: `leftovers` has restored its state. A child that got
#   a signal never is, because the signal may arrive when the attempt has just ended, and would hit the next one.
# - No other process is left in its control group. Between short jobs that it got ahead, nothing looks for those; they end
#   with it when it has run the last one.
# - Its memory leaves room for the limit of the next job (`has_room`).
# - Its handlers and settings are still the current ones, and it has not run `recycle_after` jobs yet, so that small
#   leaks do not add up.
#
# A thread that a handler has left behind may still send frames. They have the token of an ended attempt, and are
# ignored. Output is read before a result is delivered, so the log lines of a job never follow its end.

import json
import logging
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

import stockworker
from stockworker.adapters import clock
from stockworker.adapters.cgroup import Cgroup, Delegation
from stockworker.adapters.forks import Forked, ForkServer
from stockworker.adapters.process import Process
from stockworker.adapters.shortages import names_shortage
from stockworker.handlers.spec import CommandHandler, Limits
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.body import MAX_CONTENT
from stockworker.protocol.fields import FieldError
from stockworker.protocol.ids import JobType, Token, owner_of
from stockworker.protocol.job import Outcome
from stockworker.protocol.sealed import is_sealed
from stockworker.worker import frames
from stockworker.worker.outcome import describe, find_shortage, judge_command, judge_death, too_large
from stockworker.worker.output import KeptOutput, Lines, Throttle
from stockworker.worker.work import HandlerLogged, Progressed, Work

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""The environment variables that reach handlers and commands. No others, because they may hold secrets."""

_START: Final = "import sys; sys.path.insert(0, sys.argv[1]); from stockworker.worker.preloaded import main; main()"
"""`-I` ignores PYTHONPATH and the current folder, so the child gets the location of this package."""

# `runner` limits both in its process already, where a handler can prevent it. These limits leave room for a worker that
# was busy, and receives the frames of some seconds together.
PROGRESS_BURST: Final = 20
PROGRESS_PER_S: Final = 2.0
RECORDS_BURST: Final = 400

_PACKAGE_PARENT: Final = str(Path(stockworker.__file__).resolve().parents[1])


class Owner(Protocol):
    """The receiver of the events of a child."""

    @property
    def output_bytes(self) -> int:
        """How many bytes of the output of an attempt are kept with its result."""

    def heard(self, event: Progressed | HandlerLogged) -> None:
        """A handler has logged a line or reported progress."""

    def ended(self, results: Sequence[AttemptResult], begun: Work | None = None) -> None:
        """Attempts of one child have ended, and another one may have begun in it."""

    def given_back(self, child: "PythonChild", jobs: Sequence[Work], begun: Work | None) -> None:
        """A child will not run these jobs, and has not begun them. If the first counted as running, another one may."""

    def exited(self, child: "Child") -> None:
        """A child is gone. Called before `ended` for the attempt that ran in it, if one did."""


class Child(Protocol):
    """A process that an attempt runs in.

    Attributes:
        group: its control group, where it has one: what it starts is in there too.
    """

    @property
    def group(self) -> Cgroup | None: ...

    def terminate(self, stopped: AttemptResult) -> None:
        """Ask it to end an attempt, which then ends in this way."""

    def force(self, stopped: AttemptResult) -> None:
        """Kill it, because it did not end an attempt; in which way that ends now."""

    def kill(self) -> None:
        """End it and everything that it has started."""


class PythonChild:
    """Runs Python handlers, one job at a time: the next one is in its queue already (`ahead`).

    Attributes:
        configuration: the first frame that it was given.
        group: its control group, where it has one.
        jobs: how many it has begun, or has ahead.
        limits: what its newest job may use.
        type: of its newest job.
        ahead: jobs that it will run after the one that runs, in order.
        full: its queue had no room for one more; it has some when the next job has ended.
        prints: whether a job has printed something.
        reusable: whether it can run another one.
    """

    def __init__(
        self, configuration: bytes, owner: Owner, server: ForkServer, groups: Delegation | None = None
    ) -> None:
        """Start a process, in a control group of its own where there are `groups`.

        Raises:
            OSError: it can't be started.
        """
        self.configuration = configuration
        self.jobs = 0
        self.ahead: deque[Work] = deque()
        self.full = False
        self.prints = False
        self.reusable = True
        self._owner = owner
        self._buffer = frames.FrameBuffer(frames.LONGEST_FRAME)
        self._ready = False
        self._faulty = False
        self._token: Token | None = None
        self.type = JobType("")
        self._work: Work | None = None
        self._takes_more = True
        self.limits = Limits()
        self._has_output = True
        self._begin_output()
        self.group = None if groups is None else groups.make()
        self._process = Forked(
            server, on_output=self._printed, on_message=self._received, on_exit=self._exited, group=self.group
        )
        self._process.send(configuration)

    def has_room(self, limits: Limits) -> bool:
        """Whether the memory that earlier jobs have left behind is at most half of what this job may use.

        The kernel counts that memory against a new limit, and kills the child immediately if it exceeds it.
        """
        most = limits.memory_bytes
        return most is None or self.group is None or self.group.memory_bytes() <= most // 2

    def run(self, work: Work, opened: Work, limits: Limits) -> None:
        """Start an attempt; the one before must have ended. `opened` is the same with its payload unsealed."""
        self.jobs += 1
        self._work = work
        self._token = work.token
        self.type = work.type
        self.limits = limits
        self._begin_output()
        if self.group is not None:
            self.group.limit(limits.memory_bytes, limits.processors)
        packet, payload = frames.encode_work(opened)
        self._takes_more = not payload
        if payload:
            self._process.send(payload)
        self._process.put(packet)

    def run_next(self, work: Work, opened: Work) -> bool:
        """Let it run a job of the same type after those that it has; return False if it takes no more.

        Args:
            work: the job, in case it is given back.
            opened: the same with its payload unsealed.
        """
        packet, payload = frames.encode_work(opened)
        if payload or not self._takes_more:
            return False
        if not self._process.put(packet):
            self.full = True
            return False
        self.jobs += 1
        self.ahead.append(work)
        return True

    def take_back(self) -> None:
        """Give back the jobs that it has not begun, then receive what it has sent.

        It may take packets meanwhile. So even the job that counts as running can be one of those that it has not begun.
        """
        self.full = False
        if self.ahead:
            left = {json.loads(packet)[0] for packet in self._process.take_back()}
            mine = [work for work in (self._work, *self.ahead) if work is not None]
            given_back = [work for work in mine if work.token in left]
            self.ahead = deque(work for work in self.ahead if work.token not in left)
            begun = None
            if self._token in left:
                begun = self._advance()
            self.jobs -= len(given_back)
            self._owner.given_back(self, given_back, begun)
        self.receive()

    def _advance(self) -> Work | None:
        """Note that the first job ahead has begun, if there is one."""
        self._work = self.ahead.popleft() if self.ahead else None
        self._token = None if self._work is None else self._work.token
        self._begin_output()
        return self._work

    def receive(self) -> None:
        """Receive what it has sent."""
        self._process.receive()

    def _begin_output(self) -> None:
        if not self._has_output:
            return
        self._has_output = False
        self._lines = Lines()
        self._kept = KeptOutput(self._owner.output_bytes)
        self._progress = Throttle(PROGRESS_BURST, PROGRESS_PER_S)
        self._records = Throttle(RECORDS_BURST)

    def terminate(self, _stopped: AttemptResult) -> None:
        self.reusable = False  # the signal may arrive when the attempt has just ended
        self._process.terminate()

    def force(self, _stopped: AttemptResult) -> None:
        self.kill()

    def kill(self) -> None:
        self.reusable = False
        self._process.kill()

    def _received(self, chunk: bytes) -> None:
        if self._faulty:
            return
        results: list[AttemptResult] = []
        fault = ""
        try:
            for line in self._buffer.feed(chunk):
                self._handle(frames.decode(line), results)
        except FieldError as error:
            # A handler has written to a descriptor that is not its own, by mistake or with intent.
            self._faulty = True
            self.kill()
            fault = f"the handler wrote into the channel between its process and the worker: a frame {error}"
        if results:
            self._owner.ended(results, self._work if self._token is not None else None)
        if fault:
            self._end(Outcome.CRASHED, describe(fault))

    def _handle(self, event: frames.FromChild, results: list[AttemptResult]) -> None:
        match event:
            case frames.ChildEnded(result=result, reusable=reusable) if result.token == self._token:
                self._process.read_output()
                results.append(self._finish_output(result))
                self.full = False
                self._token = self._work = None
                self.reusable = self.reusable and reusable and (bool(self.ahead) or self._is_alone())
                if reusable:
                    self._advance()
            case frames.ChildReady():
                self._ready = True
            case Progressed(token=self._token):
                self._has_output = True
                if self._progress.admit(clock.monotonic()):
                    self._owner.heard(event)
            case HandlerLogged(token=self._token):
                self._has_output = True
                if self._records.admit(clock.monotonic()):
                    self._owner.heard(event)
            case frames.ChildOutput(token=self._token, text=text, omitted=omitted):
                self._has_output = True
                self._process.read_output()  # what was printed before comes before
                self._kept.omit(omitted)
                self._kept.add(text.encode())
            case _:  # from a thread that its handler has left behind
                pass

    def _is_alone(self) -> bool:
        """Whether the job has left no process behind. Killing only those would break a library that relies on them."""
        return self.group is None or self.group.members() <= {self._process.pid}

    def _printed(self, chunk: bytes) -> None:
        if self._token is not None:
            self._has_output = self.prints = True
            self._keep(chunk)
            _pass_on(self._owner, self._token, logging.INFO, self._lines.feed(chunk, clock.monotonic()))

    def _keep(self, chunk: bytes) -> None:
        """Keep what was printed, unless a job of another submitter may have begun, and printed it."""
        readers = {_reader(work) for work in (self._work, *self.ahead) if work is not None} if self.ahead else ()
        if len(readers) > 1:
            self._kept.omit(len(chunk))
        else:
            self._kept.add(chunk)

    def _exited(self, returncode: int | None) -> None:
        self.reusable = False
        self._owner.exited(self)
        self.take_back()
        # Killed while it was starting: memory was short for a moment. It could start, and will be able to again.
        if self._token is None:
            return
        if self._ready or returncode == -signal.SIGKILL:
            short = shortage(self.group, self.type, self.limits)
            self._deliver(judge_death(self._token, returncode, self._lines.tail, self.limits, short))
        else:
            printed = self._lines.tail.decode(errors="replace")
            outcome = Outcome.RELEASED if names_shortage(printed) else Outcome.REFUSED
            self._end(outcome, describe("no process for handlers can be started here", printed))

    def _end(self, outcome: Outcome, error: str) -> None:
        if self._token is not None:
            self._deliver(AttemptResult(self._token, outcome, error=error))

    def _deliver(self, result: AttemptResult) -> None:
        self._token = None
        self._owner.ended([self._finish_output(result)])

    def _finish_output(self, result: AttemptResult) -> AttemptResult:
        """Pass on the rest of the output; return the result with what is kept."""
        if not self._has_output:
            return result
        _pass_on(self._owner, result.token, logging.INFO, self._lines.finish())
        return replace(result, output=self._kept.take())


class CommandChild:
    """Runs one command for one attempt."""

    def __init__(self, work: Work, handler: CommandHandler, owner: Owner, groups: Delegation | None = None) -> None:
        """Start the command, in a control group of its own where there are `groups`.

        Raises:
            OSError: it can't be started.
        """
        self._token = work.token
        self.type = work.type
        self.limits = handler.limits
        self._owner = owner
        self._output = b""
        self._too_large = False
        self._errors = Lines()
        self._kept = KeptOutput(owner.output_bytes)
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
        self.group = None if groups is None else groups.make()
        controllers = frozenset() if groups is None else groups.controllers
        if self.group is not None:
            self.group.limit(handler.limits.memory_bytes, handler.limits.processors)
        self._process = Process(
            handler.argv,
            environment=environment,
            stdin=work.payload.encode(),
            files=files,
            on_output=self._printed,
            on_errors=self._complained,
            on_exit=self._exited,
            prepare=_limiting(handler.limits.of_each_process(controllers)),
            group=self.group,
        )

    def terminate(self, _stopped: AttemptResult) -> None:
        self._process.terminate()

    def force(self, _stopped: AttemptResult) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.kill()

    def _printed(self, chunk: bytes) -> None:
        if len(self._output) + len(chunk) > MAX_CONTENT:
            self._too_large = True
            self.kill()
        else:
            self._output += chunk

    def _complained(self, chunk: bytes) -> None:
        self._kept.add(chunk)
        _pass_on(self._owner, self._token, logging.WARNING, self._errors.feed(chunk, clock.monotonic()))

    def _exited(self, returncode: int | None) -> None:
        self._owner.exited(self)
        _pass_on(self._owner, self._token, logging.WARNING, self._errors.finish())
        if self._too_large:
            result = too_large(self._token)
        else:
            short = shortage(self.group, self.type, self.limits)
            result = judge_command(self._token, returncode, self._output, self._errors.tail, self.limits, short)
        self._owner.ended([replace(result, output=self._kept.take())])


def start_fork_server(on_exit: Callable[[], None], *, coroutines: bool = False) -> ForkServer:
    """Start the process that forks Python children; some of them run `coroutines`.

    Raises:
        OSError: it can't be started.
    """
    arguments = (_PACKAGE_PARENT, frames.COROUTINES) if coroutines else (_PACKAGE_PARENT,)
    return ForkServer((sys.executable, "-I", "-X", "utf8", "-c", _START, *arguments), _environment(), on_exit)


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def _limiting(limits: Limits) -> list[str]:
    """How a shell applies limits."""
    commands = ["ulimit -c 0"]
    if limits.memory_bytes is not None:
        commands.append(f"ulimit -d {limits.memory_bytes // 1024}")
    if limits.cpu_s is not None:
        # SIGXCPU names the reason, SIGKILL cannot be ignored.
        commands += [f"ulimit -S -t {limits.cpu_s}", f"ulimit -H -t {limits.cpu_s + 1}"]
    if limits.open_files is not None:
        commands.append(f"ulimit -n {limits.open_files}")
    return commands


def _reader(work: Work) -> str | None:
    """Return the same value for jobs whose outputs the same clients may read."""
    owner = owner_of(work.job_id)
    return work.job_id if owner is None and is_sealed(work.payload) else owner


def shortage(group: Cgroup | None, job_type: JobType, limits: Limits) -> str:
    return "" if group is None else find_shortage(group.memory_events(), job_type, limits)


def _pass_on(owner: Owner, token: Token, level: int, lines: list[str]) -> None:
    for line in lines:
        owner.heard(HandlerLogged(token, level, line))
