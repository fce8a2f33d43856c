"""A process that runs several jobs of one type at the same time, as coroutines."""

# It gets jobs as soon as they have a slot, in packets of all that one turn of the event loop has started. What it has not
# taken out of its queue it has not begun. So if a job keeps its event loop (`coroutines` reports it), the jobs in the queue are
# given back, and it gets no more until the loop goes on.
#
# A job that one more crash would fail runs alone in such a process. `blame` explains it, and judges the jobs that end with it.

import asyncio
import json
import logging
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from stockworker.adapters import clock
from stockworker.adapters.cgroup import Delegation
from stockworker.adapters.forks import Forked, ForkServer
from stockworker.adapters.shortages import names_shortage
from stockworker.handlers.spec import Limits, PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.fields import FieldError
from stockworker.protocol.ids import JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.worker import frames
from stockworker.worker.blame import Killed, after_death, after_kill
from stockworker.worker.children import PROGRESS_BURST, PROGRESS_PER_S, RECORDS_BURST, Owner, shortage
from stockworker.worker.outcome import describe, judge_death
from stockworker.worker.output import KeptOutput, Lines, Throttle
from stockworker.worker.work import Blocked, HandlerLogged, Printed, Progressed, Work

_ROOM: Final = frames.LONGEST_PACKET // 2
"""Bytes of the jobs in one packet; a larger job is not in a packet with others."""

_MOST_STOPS: Final = 100
"""Attempts in one packet that must end."""

_AGAIN_S: Final = 0.005
"""When to try again after the queue was full."""


class OwnerOfMany(Owner, Protocol):
    """The receiver of the events of such a child."""

    def printed(self, event: Printed) -> None:
        """The process has printed a line, and nothing shows which job did."""

    def blocked(self, event: Blocked, jobs: Sequence[Work]) -> None:
        """A job keeps the event loop. Its process will not run `jobs`, and has not begun them."""


class CoroutineChild:
    """Runs up to `concurrency` jobs of one type.

    Attributes:
        configuration: the first frame that it was given.
        group: its control group, where it has one.
        jobs: how many it has begun.
        type: of its jobs.
        running: the jobs that it has, by token.
        ready: whether it has started.
        reusable: whether it can run another one.
    """

    def __init__(
        self,
        job_type: JobType,
        handler: PythonHandler,
        configuration: bytes,
        owner: OwnerOfMany,
        server: ForkServer,
        groups: Delegation | None = None,
    ) -> None:
        """Start a process, in a control group of its own where there are `groups`.

        Raises:
            OSError: it can't be started.
        """
        self.configuration = configuration
        self.type = job_type
        self.jobs = 0
        self.running: dict[Token, Work] = {}
        self.ready = False
        self.reusable = True
        self._limits = handler.limits
        self._concurrency = handler.concurrency
        self._owner = owner
        self._buffer = frames.FrameBuffer(frames.LONGEST_FRAME)
        self._stopped: dict[Token, AttemptResult] = {}
        self._alone = False
        self._blocked: Blocked | None = None
        self._killed: Killed | None = None
        self._fault = ""
        self._lines = Lines()
        self._outputs: dict[Token, KeptOutput] = {}
        self._throttles: dict[tuple[type, Token], Throttle] = {}
        self._jobs_due: list[tuple[Token, bytes]] = []
        self._stops_due: list[Token] = []
        self._flush_at: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()
        self.group = None if groups is None else groups.make()
        if self.group is not None:
            self.group.limit(self._limits.memory_bytes, self._limits.processors)
        self._process = Forked(
            server, on_output=self._printed, on_message=self._received, on_exit=self._exited, group=self.group
        )
        self._process.send(configuration)

    def has_room(self, limits: Limits) -> bool:
        """Whether the memory that earlier jobs have left behind is at most half of what its jobs may use."""
        most = limits.memory_bytes
        return most is None or self.group is None or self.group.memory_bytes() <= most // 2

    def takes(self, work: Work) -> bool:
        """Whether it can run this job beside those that it has."""
        if not self.reusable or self._blocked is not None:
            return False
        return not self.running or (not work.alone and not self._alone and len(self.running) < self._concurrency)

    def run(self, work: Work, opened: Work) -> None:
        """Start an attempt. `opened` is the same with its payload unsealed."""
        self.jobs += 1
        self.running[work.token] = work
        self._alone = work.alone
        job, payload = frames.encode_job(opened)
        if payload:
            self._process.send(payload)
        self._jobs_due.append((work.token, job))
        self._flush_soon()

    def terminate(self, stopped: AttemptResult) -> None:
        self._stopped[stopped.token] = stopped
        self._stops_due.append(stopped.token)
        self._flush_soon()

    def force(self, stopped: AttemptResult) -> None:
        """Kill it, with all its jobs, because an attempt did not stop."""
        self._stopped[stopped.token] = stopped
        self._process.receive()
        if stopped.token in self.running and self._killed is None:
            untaken = {token for packet in self._process.take_back() for token in json.loads(packet)[1]}
            listened = stopped.token not in untaken and stopped.token not in self._stops_due
            self._killed = Killed(stopped, listened, self._blocked)
            self.kill()

    def kill(self) -> None:
        self.reusable = False
        self._process.kill()

    # --- to the process ---

    def _flush_soon(self) -> None:
        if self._flush_at is None:
            self._flush_at = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_at = None
        while self._jobs_due or self._stops_due:
            count, size = 0, 0
            while count < len(self._jobs_due) and (size := size + len(self._jobs_due[count][1])) <= _ROOM:
                count += 1
            stops = self._stops_due if count == len(self._jobs_due) else []  # never before its job
            packet = frames.encode_packet([job for _, job in self._jobs_due[:count]], stops[:_MOST_STOPS])
            if not self._process.put(packet):
                if self.reusable:
                    self._flush_at = self._loop.call_later(_AGAIN_S, self._flush)
                return
            del self._jobs_due[:count], stops[:_MOST_STOPS]

    def _take_back(self) -> list[Work]:
        """Take back the jobs that it has not begun."""
        tokens = [token for token, _ in self._jobs_due]
        self._jobs_due.clear()
        for packet in self._process.take_back():
            jobs, stops = json.loads(packet)
            tokens += [job[0] for job in jobs]
            self._stops_due += stops
        self._flush_soon()
        untouched = [token for token in tokens if token in self.running and token not in self._stopped]
        self.jobs -= len(untouched)
        return [self.running.pop(token) for token in untouched]

    # --- from the process ---

    def _received(self, chunk: bytes) -> None:
        if self._fault:
            return
        self._process.read_output()  # while all jobs that may have written it are running
        results: list[AttemptResult] = []
        try:
            for line in self._buffer.feed(chunk):
                self._handle(frames.decode(line), results)
        except FieldError as error:
            # A handler has written to a descriptor that is not its own, by mistake or with intent.
            self._fault = f"the handler wrote into the channel between its process and the worker: a frame {error}"
            self.kill()
        if results:
            self._owner.ended(results)

    def _handle(self, event: frames.FromChild, results: list[AttemptResult]) -> None:
        match event:
            case frames.ChildEnded(result=result, reusable=reusable):
                if self.running.pop(result.token, None) is not None:
                    results.append(self._with_output(self._stopped.pop(result.token, result)))
                    self._forget(result.token)
                self.reusable = self.reusable and reusable and (bool(self.running) or self._is_alone())
            case Progressed(token=token) if token in self.running:
                if self._throttle(Progressed, token, PROGRESS_BURST, PROGRESS_PER_S).admit(clock.monotonic()):
                    self._owner.heard(event)
            case HandlerLogged(token=token) if token in self.running:
                if self._throttle(HandlerLogged, token, RECORDS_BURST).admit(clock.monotonic()):
                    self._owner.heard(event)
            case frames.ChildOutput(token=token, text=text, omitted=omitted) if token in self.running:
                self._output_of(token).omit(omitted)
                self._output_of(token).add(text.encode())
            case Blocked(token=token) if token in self.running:
                self._blocked = event
                self._owner.blocked(event, self._take_back())
            case frames.ChildMoving():
                self._blocked = None
            case frames.ChildReady():
                self.ready = True
            case _:  # from what an attempt that has ended has left behind
                pass

    def _throttle(self, kind: type, token: Token, *rate: float) -> Throttle:
        found = self._throttles.get((kind, token))
        if found is None:
            found = self._throttles[kind, token] = Throttle(*rate)  # type: ignore[arg-type]
        return found

    def _output_of(self, token: Token) -> KeptOutput:
        found = self._outputs.get(token)
        if found is None:
            found = self._outputs[token] = KeptOutput(self._owner.output_bytes)
        return found

    def _with_output(self, result: AttemptResult) -> AttemptResult:
        found = self._outputs.pop(result.token, None)
        return result if found is None else replace(result, output=found.take())

    def _forget(self, token: Token) -> None:
        if self._throttles:
            self._throttles.pop((Progressed, token), None)
            self._throttles.pop((HandlerLogged, token), None)

    def _is_alone(self) -> bool:
        """Whether its jobs have left no process behind."""
        return self.group is None or self.group.members() <= {self._process.pid}

    def _printed(self, chunk: bytes) -> None:
        if len(self.running) == 1:
            self._output_of(next(iter(self.running))).add(chunk)
        self._pass_on(self._lines.feed(chunk, clock.monotonic()))

    def _pass_on(self, lines: list[str]) -> None:
        for line in lines:
            if len(self.running) == 1:
                self._owner.heard(HandlerLogged(next(iter(self.running)), logging.INFO, line))
            else:
                self._owner.printed(Printed(self.type, line))

    def _exited(self, returncode: int | None) -> None:
        self.reusable = False
        self._owner.exited(self)
        self._pass_on(self._lines.finish())
        if not self.running:
            return
        running = [*self.running]
        if self._killed is not None and self._killed.stopped.token in self.running:
            results = after_kill(running, self._stopped, self._killed)
        else:
            results = after_death(running, self._stopped, self._judge(running[0], returncode))
        self.running.clear()
        self._owner.ended(list(map(self._with_output, results)))

    def _judge(self, token: Token, returncode: int | None) -> AttemptResult:
        if self._fault:
            return AttemptResult(token, Outcome.CRASHED, error=describe(self._fault))
        # Killed while it was starting: memory was short for a moment. It could start, and will be able to again.
        if self.ready or returncode == -signal.SIGKILL:
            short = shortage(self.group, self.type, self._limits)
            return judge_death(token, returncode, self._lines.tail, self._limits, short)
        printed = self._lines.tail.decode(errors="replace")
        outcome = Outcome.RELEASED if names_shortage(printed) else Outcome.REFUSED
        return AttemptResult(token, outcome, error=describe("no process for handlers can be started here", printed))
