"""Runs attempts in child processes: a pool of reused Python children, and one process per command."""

# Everything happens on the event loop, and nothing here waits for a child. An attempt passes through these steps:
#
# 1. `start` queues it. It gets a slot when one is free, in order of arrival.
# 2. It runs, and `Began` is delivered. Its time-out begins here, so starting a process and importing a handler count.
# 3. It ends by itself: a Python child sends its result, a command exits, or its process is gone, which `outcome`
#    judges.
# 4. Or it is stopped: on request (`stop`), at its time-out, or when it has used up its processor time. The reason is
#    kept in `stopped_as`, and becomes the outcome whatever the attempt still reports: it lost the race. SIGTERM asks it
#    to end, and after `stop_grace_s` SIGKILL ends its whole process group, with everything that it started.
# 5. Exactly one `AttemptResult` is delivered, and the slot is free.
#
# While short jobs wait, a busy Python child gets some of them ahead (`ahead`). They are in `_ahead`: without a slot, without
# `Began` and without a time-out. When the job before ends, the next one takes over its slot. Only its result is delivered if
# it has ended too by then. Jobs that the child has not begun return to the front of the queue where it is busy for long,
# where it or the attempt that runs is stopped, and after a reload.
#
# A Python child gets the handlers that it may run with its first frame (`_configure`), and is used for no other jobs: for
# one type, or for all types that are `shared`. So an idle child fits if it got the same frame. A child that becomes idle
# may displace the one that has been idle for the longest time: `_most_idle` bounds them, however many types there are.
#
# Jobs of a type with `concurrency` share processes while they run: each job has a slot, and the process that has most jobs gets
# the next one (`coroutine_child`). They are given to it as they start, so none of them is ahead.
#
# `must_exit_by` follows from this: at any time an attempt has ended after its time-out and one grace period, and once
# it was asked to stop, after one grace period. The watchdog holds the executor to it: an attempt that is still here
# after that means that the executor has failed to kill it.

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from stockworker.adapters import clock
from stockworker.adapters.cgroup import Delegation
from stockworker.adapters.forks import ForkServer
from stockworker.adapters.shortages import is_shortage
from stockworker.errors import ProtocolMisuse
from stockworker.handlers.spec import CommandHandler, HandlerSpec, Isolation, Limits, PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.body import output_room, sendable
from stockworker.protocol.ids import JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.worker import frames
from stockworker.worker.ahead import JobLengths
from stockworker.worker.children import Child, CommandChild, PythonChild, start_fork_server
from stockworker.worker.coroutine_child import CoroutineChild
from stockworker.worker.outcome import use_up_cpu
from stockworker.worker.output import DEFAULT_KEPT, fit_in_message
from stockworker.worker.sealing import WorkerSealing
from stockworker.worker.work import Began, Blocked, ExecutorEvent, HandlerLogged, Printed, Progressed, Work

_PROCESSORS: Final = os.cpu_count() or 1
_LEAST_IDLE: Final = 4
"""So that a worker with one slot keeps a process for each of the usual types."""

_LOOK_S: Final = 0.005
"""How often to look after children that have jobs ahead."""

_CPU_CHECK_S: Final = 0.1
"""The shortest time between two checks of the processor time of an attempt."""


@dataclass(slots=True)
class _Run:
    """An attempt that runs.

    Attributes:
        child: its process; None if it could not be started, and its result follows immediately.
        timer: for its time-out, then for the end of the grace period.
        cpu_check: when to check its processor time again.
        is_first: its child began to run with it; the start of a process counts.
        must_exit_by: its latest end, the grace period included.
        stopped_as: how it ends, once it was asked to stop.
    """

    work: Work
    started_at: float
    timer: asyncio.TimerHandle
    must_exit_by: float
    cpu_check: asyncio.TimerHandle | None = None
    child: Child | None = None
    is_first: bool = True
    stopped_as: AttemptResult | None = None

    def cancel_timers(self) -> None:
        self.timer.cancel()
        if self.cpu_check is not None:
            self.cpu_check.cancel()


class Executor:
    """Runs up to `slots` attempts at the same time, the others in order. Belongs to the thread of a running event loop.

    Attributes:
        output_bytes: how many bytes of the output of an attempt are kept with its result.
    """

    def __init__(  # noqa: PLR0913 (each is a setting of its own)
        self,
        handlers: Mapping[JobType, HandlerSpec],
        slots: int,
        deliver: Callable[[ExecutorEvent], None],
        *,
        recycle_after: int = 1000,
        stop_grace_s: float = 5.0,
        module_paths: Sequence[str] = (),
        sealing: WorkerSealing | None = None,
        groups: Delegation | None = None,
        output_bytes: int = DEFAULT_KEPT,
    ) -> None:
        """Make an executor; processes are started when they are first needed.

        Args:
            handlers: what runs which type of job.
            slots: how many attempts run at the same time.
            deliver: gets every event, on the event loop; it may call `start` and `stop`.
            recycle_after: jobs after which a Python child is replaced.
            stop_grace_s: time between SIGTERM and SIGKILL, in seconds.
            module_paths: folders to import handlers from, besides what is installed.
            sealing: opens payloads and seals results; None if nothing is sealed.
            groups: where to make a control group for each process; None: they have process groups alone.
            output_bytes: how many bytes of the output of an attempt are kept with its result.

        Raises:
            ConfigError: the settings of a handler can't be passed on.
        """
        self._loop = asyncio.get_running_loop()
        self._slots = slots
        self._deliver = deliver
        self._recycle_after = recycle_after
        self._stop_grace_s = stop_grace_s
        self._sealing = sealing or WorkerSealing()
        self._groups = groups
        self.output_bytes = output_bytes
        self._handlers = handlers
        self._configurations = self._configure(handlers, module_paths)
        self._most_idle = max(slots, _LEAST_IDLE)
        self._runs: dict[Token, _Run] = {}
        self._queue: dict[Token, Work] = {}
        self._ahead: dict[Token, PythonChild] = {}
        self._lengths = JobLengths()
        self._look: asyncio.TimerHandle | None = None
        self._hands_ahead = False
        self._idle: list[PythonChild | CoroutineChild] = []
        self._together: list[CoroutineChild] = []
        self._children: set[Child] = set()
        self._server: ForkServer | None = None
        self._all_gone: asyncio.Future[None] | None = None

    @property
    def running(self) -> frozenset[Token]:
        """The attempts that run."""
        return frozenset(self._runs)

    @property
    def waiting(self) -> int:
        """How many attempts wait for a free slot."""
        return len(self._queue)

    @property
    def must_exit_by(self) -> float | None:
        """The earliest `must_exit_by` of the attempts that run, on the monotonic clock; None if none runs."""
        return min((run.must_exit_by for run in self._runs.values()), default=None)

    def start(self, work: Work) -> None:
        """Start an attempt as soon as a slot is free: `Began`, then exactly one `AttemptResult`, unless `close` comes first.

        Raises:
            ProtocolMisuse: the attempt was started already, or this executor is closed.
        """
        token = work.token
        if self._all_gone is not None or token in self._runs or token in self._queue or token in self._ahead:
            raise ProtocolMisuse(f"job {work.job_id} can't be started: closed, or attempt {work.token} is here already")
        self._queue[token] = work
        self._fill_slots()

    def stop(self, token: Token) -> None:
        """Cancel an attempt: it ends as `Outcome.CANCELLED`, whatever it does. Ignored if the attempt is not here."""
        run = self._runs.get(token)
        cancelled = AttemptResult(token, Outcome.CANCELLED, error="stopped on request", ran_s=0.0)
        if run is not None and run.stopped_as is None:
            self._begin_stop(run, cancelled)
        elif self._queue.pop(token, None) is not None:
            self._loop.call_soon(self._finish, cancelled)
        elif token in self._ahead:
            self._ahead[token].take_back()
            self.stop(token)  # it waits again, or runs, or has ended

    def reload(self, handlers: Mapping[JobType, HandlerSpec], module_paths: Sequence[str]) -> None:
        """Use other handlers, and folders to import them from, for what is started from now on.

        Raises:
            ConfigError: the settings of a handler can't be passed on; nothing has changed.
        """
        self._configurations = self._configure(handlers, module_paths)
        self._handlers = handlers
        while self._idle:
            self._idle.pop().kill()
        for child in {*self._ahead.values()}:
            child.take_back()

    async def close(self) -> None:
        """Kill what runs, without an event about it, and wait until no child process is left."""
        if self._all_gone is None:
            self._all_gone = self._loop.create_future()
            for run in self._runs.values():
                run.cancel_timers()
            self._runs.clear()
            self._queue.clear()
            self._ahead.clear()
            self._idle.clear()
            self._together.clear()
            if self._look is not None:
                self._look.cancel()
            for child in self._children:
                child.kill()
            self._close_server()
        await asyncio.shield(self._all_gone)

    # --- events of the children ---

    def heard(self, event: Progressed | HandlerLogged) -> None:
        """Deliver progress and log lines of a handler; without the progress text if the job is sealed."""
        if event.token in self._runs or event.token in self._ahead:
            secret = isinstance(event, Progressed) and self._sealing.covers(event.token)
            self._deliver(replace(event, text="") if secret else event)

    def ended(self, results: Sequence[AttemptResult], begun: Work | None = None) -> None:
        """Finish attempts of one child; it has begun another one, or is used again if possible."""
        child: Child | None = None
        now = clock.monotonic()
        for result in results:
            run = self._runs.pop(result.token, None)
            if run is not None:
                run.cancel_timers()
                child = run.child
                ran_s = now - run.started_at if result.ran_s is None or run.is_first else result.ran_s
                if run.stopped_as is not None and not isinstance(child, CoroutineChild):  # which has judged it
                    result = replace(run.stopped_as, output=result.output)  # noqa: PLW2901 (it lost the race)
                if result.ran_s != ran_s:
                    result = replace(result, ran_s=ran_s)  # noqa: PLW2901 (completes it)
            elif result.token in self._ahead:
                child = self._ahead.pop(result.token)
            else:
                continue
            self._finish(result)
        if isinstance(child, PythonChild):
            self._lengths.ended(child.type, results)
            if begun is not None and self._ahead.pop(begun.token, None) is not None:
                self._begin(begun, child)
            elif child in self._children and begun is None:
                self._release(child, child.type)
        elif isinstance(child, CoroutineChild):
            self._leave(child)
        self._fill_slots()

    def printed(self, event: Printed) -> None:
        """Deliver what no job can be named for."""
        self._deliver(event)

    def blocked(self, event: Blocked, jobs: Sequence[Work]) -> None:
        """Deliver that a job keeps its event loop, and start those elsewhere that its process has not begun."""
        self._deliver(event)
        for work in jobs:
            self._runs.pop(work.token).cancel_timers()
        self._queue = {**{work.token: work for work in jobs}, **self._queue}
        self._loop.call_soon(self._fill_slots)

    def given_back(self, child: PythonChild, jobs: Sequence[Work], begun: Work | None) -> None:
        """Let jobs wait again, before all others: their child has not begun them, and will not."""
        for work in jobs:
            if self._ahead.pop(work.token, None) is None and (run := self._runs.pop(work.token, None)) is not None:
                run.cancel_timers()
                if begun is None and child in self._children:
                    self._release(child, child.type)
        if begun is not None and self._ahead.pop(begun.token, None) is not None:
            self._begin(begun, child)
        self._queue = {**{work.token: work for work in jobs}, **self._queue}
        self._loop.call_soon(self._fill_slots)

    def exited(self, child: Child) -> None:
        """Forget a child that is gone."""
        self._children.discard(child)
        for group in (self._idle, self._together):
            if child in group:
                group.remove(child)  # type: ignore[arg-type] # it is in there
        self._close_server()

    def _finish(self, result: AttemptResult) -> None:
        closed = self._sealing.close(result)
        if closed.output is not None:  # a sealed one fits already
            room = output_room(closed.result, closed.error)
            closed = replace(closed, output=fit_in_message(closed.output, room))
        # An error may quote others, such as a payload or the operating system; a sealed one is short enough.
        self._deliver(closed if closed.error is None else replace(closed, error=sendable(closed.error)))

    # --- children ---

    def _fill_slots(self) -> None:
        while self._queue and len(self._runs) < self._slots:
            token = next(iter(self._queue))
            self._run(self._queue.pop(token))
        if self._queue and not self._hands_ahead:
            self._hands_ahead = True
            self._loop.call_soon(self._hand_ahead)

    def _begin(self, work: Work, child: PythonChild | None = None) -> _Run:
        """An attempt has a slot; its time-out begins."""
        timer = self._loop.call_later(work.timeout_s, self._time_out, work.token)
        now = clock.monotonic()
        run = self._runs[work.token] = _Run(work, now, timer, now + work.timeout_s + self._stop_grace_s)
        if child is not None:
            run.child, run.is_first = child, False
            self._watch_cpu(run, child.limits)
            self._deliver(Began(work.token))
        return run

    def _run(self, work: Work) -> None:
        run = self._begin(work)
        handler = self._handlers.get(work.type)
        if handler is None:
            self._refuse(work.token, f"no handler for jobs of type {work.type!r} on this worker")
        elif isinstance(opened := self._sealing.open(work), AttemptResult):
            self._end_soon(opened)
        else:
            try:
                run.child = self._occupy(work, opened, handler)
            except OSError as error:
                # A shortage lasts for a moment: it must not keep later jobs of this type away.
                outcome = Outcome.RELEASED if is_shortage(error) else Outcome.REFUSED
                self._end_soon(
                    AttemptResult(work.token, outcome, error=sendable(f"handler can't be started here: {error}"))
                )
            else:
                self._watch_cpu(run, handler.limits)
        self._deliver(Began(work.token))  # not later: under uvloop a quick child's answer can overtake call_soon

    def _occupy(self, work: Work, opened: Work, handler: HandlerSpec) -> Child:
        if isinstance(handler, CommandHandler):
            command = CommandChild(opened, handler, self, self._groups)
            self._children.add(command)
            return command
        if handler.concurrency > 1:
            return self._join(work, opened, handler)
        configuration = self._configurations[work.type]
        fitting = [idle for idle in self._idle if isinstance(idle, PythonChild) and idle.configuration is configuration]
        child = next((idle for idle in reversed(fitting) if idle.has_room(handler.limits)), None)
        if child is not None:
            self._idle.remove(child)
        else:
            if fitting:  # the new one takes the place of one that has no room
                self._idle.remove(fitting[0])
                fitting[0].kill()
            child = PythonChild(configuration, self, self._fork_server(), self._groups)
            self._children.add(child)
        child.run(work, opened, handler.limits)
        return child

    def _join(self, work: Work, opened: Work, handler: PythonHandler) -> CoroutineChild:
        """Run a job beside others of its type, in the process that has most of them and takes one more."""
        configuration = self._configurations[work.type]
        taking = [each for each in self._together if each.configuration is configuration and each.takes(work)]
        child = max(taking, key=lambda each: len(each.running), default=None)
        if child is None:
            child = self._begin_together(configuration, work, handler)
            self._together.append(child)
        child.run(work, opened)
        self._runs[work.token].is_first = not child.ready
        return child

    def _begin_together(self, configuration: bytes, work: Work, handler: PythonHandler) -> CoroutineChild:
        for idle in [*self._idle]:
            if isinstance(idle, CoroutineChild) and idle.configuration is configuration:
                self._idle.remove(idle)
                if idle.has_room(handler.limits):
                    return idle
                idle.kill()
        child = CoroutineChild(work.type, handler, configuration, self, self._fork_server(), self._groups)
        self._children.add(child)
        return child

    def _leave(self, child: CoroutineChild) -> None:
        """Jobs of this process have ended: without any it is idle, and after too many it gets no more."""
        if child.jobs >= self._recycle_after:
            child.reusable = False
        if not child.running and child in self._together:
            self._together.remove(child)
            self._release(child, child.type)

    # --- jobs ahead ---

    def _hand_ahead(self) -> None:
        """Let busy children have the next jobs of their type already, if these are short: see `ahead`."""
        self._hands_ahead = False
        busy = [run for run in self._runs.values() if isinstance(run.child, PythonChild) and run.stopped_as is None]
        for run in busy:
            share = -(-len(self._queue) // len(busy))
            if isinstance(run.child, PythonChild):
                self._hand_to(run.child, run.work.type, share)
        if self._ahead and self._look is None:
            self._look = self._loop.call_later(_LOOK_S, self._look_after)

    def _hand_to(self, child: PythonChild, job_type: JobType, share: int) -> None:
        handler = self._handlers.get(job_type)
        if (
            child.full
            or child.prints
            or not child.reusable
            or child.configuration is not self._configurations.get(job_type)
        ):
            return
        most = min(share, self._lengths.most_ahead(job_type) - len(child.ahead), self._most_jobs(job_type) - child.jobs)
        while most > 0 and self._queue and isinstance(handler, PythonHandler) and child.has_room(handler.limits):
            work = next(iter(self._queue.values()))
            opened = self._sealing.open(work) if work.type == job_type else None
            if not isinstance(opened, Work) or not child.run_next(work, opened):
                return
            del self._queue[work.token]
            self._ahead[work.token] = child
            most -= 1

    def _look_after(self) -> None:
        """Receive results for which no child has rung, and take back jobs that wait for one that takes long."""
        self._look = None
        now = clock.monotonic()
        for child in {*self._ahead.values()}:
            child.receive()
        late = [run for run in self._runs.values() if now - run.started_at > self._lengths.late_after_s(run.work.type)]
        for run in late:
            if isinstance(run.child, PythonChild) and run.child.ahead:
                run.child.take_back()
        if self._ahead:
            self._look = self._loop.call_later(_LOOK_S, self._look_after)

    def _configure(self, handlers: Mapping[JobType, HandlerSpec], module_paths: Sequence[str]) -> dict[JobType, bytes]:
        """The first frame of a child, for each type of the jobs that it may run."""
        controllers = frozenset() if self._groups is None else self._groups.controllers
        shared = {name: each for name, each in handlers.items() if _isolation(each) is Isolation.SHARED}
        frame = frames.encode_configuration(module_paths, shared, controllers)
        return {
            name: frame if name in shared else frames.encode_configuration(module_paths, {name: each}, controllers)
            for name, each in handlers.items()
        }

    def _release(self, child: PythonChild | CoroutineChild, job_type: JobType) -> None:
        is_current = child.configuration is self._configurations.get(job_type)
        if child.reusable and child.jobs < self._most_jobs(job_type) and is_current:
            self._idle.append(child)
            if len(self._idle) > self._most_idle:
                self._idle.pop(0).kill()
        else:
            child.kill()

    def _most_jobs(self, job_type: JobType) -> int:
        return 1 if _isolation(self._handlers.get(job_type)) is Isolation.PER_JOB else self._recycle_after

    def _fork_server(self) -> ForkServer:
        if self._server is None or not self._server.alive:
            together = any(isinstance(each, PythonHandler) and each.concurrency > 1 for each in self._handlers.values())
            self._server = start_fork_server(self._close_server, coroutines=together)
        return self._server

    def _close_server(self) -> None:
        """When this executor is closed, and all children are gone, end what has forked them."""
        if self._all_gone is None or self._children or self._all_gone.done():
            return
        if self._server is not None and self._server.alive:
            self._server.close()
        else:
            self._all_gone.set_result(None)

    def _refuse(self, token: Token, error: str) -> None:
        self._end_soon(AttemptResult(token, Outcome.REFUSED, error=error))

    def _end_soon(self, result: AttemptResult) -> None:
        """End an attempt that nothing runs, but not before `start` has returned."""
        self._loop.call_soon(self.ended, [result])

    # --- stopping ---

    def _time_out(self, token: Token) -> None:
        run = self._runs[token]
        error = f"not done after {run.work.timeout_s:g} s"
        self._begin_stop(run, AttemptResult(token, Outcome.TIMED_OUT, error=error))

    def _watch_cpu(self, run: _Run, limits: Limits) -> None:
        """Stop an attempt whose processes together have used the processor time that the kernel allows to each of them."""
        group = None if run.child is None else run.child.group
        if limits.cpu_s is None or group is None:
            return
        most_s = group.cpu_s() + limits.cpu_s

        def check_after(left_s: float) -> None:  # not before all processors together can have used up the rest
            run.cpu_check = self._loop.call_later(max(left_s / _PROCESSORS, _CPU_CHECK_S), check)

        def check() -> None:
            left_s = most_s - group.cpu_s()
            if left_s > 0:
                check_after(left_s)
            else:
                self._begin_stop(run, use_up_cpu(run.work.token, limits))

        check_after(limits.cpu_s)

    def _begin_stop(self, run: _Run, result: AttemptResult) -> None:
        if isinstance(run.child, PythonChild) and run.child.ahead:
            run.child.take_back()  # a signal must not hit the next one
            if run.work.token not in self._runs:  # it has just ended, or not begun
                if self._queue.pop(run.work.token, None) is not None:
                    self._loop.call_soon(self._finish, result)
                return
        run.stopped_as = result
        run.cancel_timers()
        run.must_exit_by = clock.monotonic() + self._stop_grace_s
        if run.child is not None:
            run.child.terminate(result)
            run.timer = self._loop.call_later(self._stop_grace_s, self._kill, run)

    def _kill(self, run: _Run) -> None:
        if run.child is not None and run.stopped_as is not None:
            grace = f"killed, because it did not stop within {self._stop_grace_s:g} s"
            run.stopped_as = replace(run.stopped_as, error=f"{run.stopped_as.error}; {grace}")
            run.child.force(run.stopped_as)


def _isolation(handler: HandlerSpec | None) -> Isolation | None:
    return handler.isolation if isinstance(handler, PythonHandler) else None
