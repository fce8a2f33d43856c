"""The program inside a child process that runs coroutines: many jobs of one type at the same time, until the worker ends it."""

# Each job is one task of the event loop. A context variable names the attempt, so that log records, printed lines and tasks
# have an owner, also in tasks that a job makes and in `asyncio.to_thread`.
#
# What belongs to the process as a whole can't be separated between jobs that run at the same time. `leftovers` restores it
# whenever no job runs here.
#
# A job that keeps the loop, because it computes or waits without `await`, stops all others. A thread looks for that: it can
# report to the worker which job it is. It can't where C code keeps the interpreter's lock. The worker knows how to judge both.
#
# A forked copy of the process has the tasks of all jobs. It must run none of them: it ends where its handler waits.

import asyncio
import io
import json
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from signal import SIGTERM, signal
from types import FrameType
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.handlers.api import Context, Handler, Job, Json
from stockworker.handlers.discovery import check_coroutine
from stockworker.handlers.spec import PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.body import sendable
from stockworker.protocol.fields import parse_json
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome
from stockworker.worker import frames
from stockworker.worker.attempt_log import RunningAttempt, Send
from stockworker.worker.leftovers import KEPT_TOGETHER, ProcessState
from stockworker.worker.outcome import describe
from stockworker.worker.output import LONGEST_LINE, MOST_KEPT, Lines
from stockworker.worker.runner import (
    Channel,
    Runner,
    encode_result,
    end_copy,
    flush,
    judge_error,
    judge_load,
    judge_shortage,
    limited,
    warn_of_tasks,
)

_LOOK_S: Final = 1.0
"""How long the loop may not move before its job is named."""

_owner: ContextVar["NeighbourAttempt"] = ContextVar("attempt")


class NeighbourAttempt(RunningAttempt):
    """An attempt beside others.

    Attributes:
        began: when, on the monotonic clock.
        task: runs it.
        tasks: others that it has made, and that have not ended.
        ended: whether its result is known.
    """

    __slots__ = ("_lines", "began", "ended", "task", "tasks")

    def __init__(self, token: Token, send: Send) -> None:
        super().__init__(token, send)
        self.began = clock.monotonic()
        self.task: asyncio.Task[None] | None = None
        self.tasks: set[asyncio.Task[Any]] = set()
        self.ended = False
        self._lines: Lines | None = None

    def printed(self, text: str) -> None:
        """Pass on what it has printed, line by line, and keep it."""
        self.keep(sendable(text, MOST_KEPT))
        if self._lines is None:
            self._lines = Lines()
        self._pass_on(self._lines.feed(text.encode(errors="replace"), clock.monotonic()))

    def finish_output(self) -> None:
        self._pass_on([] if self._lines is None else self._lines.finish())
        if kept := self.kept():
            self._send(kept)

    def _pass_on(self, lines: list[str]) -> None:
        if lines:
            logged = (
                frames.encode(frames.LOG, self.token, logging.INFO, sendable(line, LONGEST_LINE)) for line in lines
            )
            self._send(b"".join([self.kept(), *logged]))


class JobStream(io.TextIOBase):
    """Standard output or error: lines of jobs go to the worker with the name of the attempt, others to the real stream."""

    encoding = "utf-8"

    def __init__(self, real: Any, find: Callable[[], NeighbourAttempt | None]) -> None:
        self._real = real
        self._find = find

    def write(self, text: str) -> int:
        attempt = self._find()
        if attempt is None:
            return int(self._real.write(text))
        attempt.printed(text)
        return len(text)

    def flush(self) -> None:
        self._real.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._real.fileno())

    @property
    def buffer(self) -> Any:
        return self._real.buffer


class CoroutineRunner(Runner):
    """Runs the jobs of one type, as many at the same time as the worker sends."""

    def __init__(self, job_type: str, spec: PythonHandler, channel: Channel) -> None:
        super().__init__({job_type: spec}, channel)
        self._type = job_type
        self._spec = spec
        self._handler: Handler | None = None
        self._loop = asyncio.new_event_loop()
        self._running: dict[str, NeighbourAttempt] = {}
        self._results: list[tuple[AttemptResult, float]] = []
        self._left_tasks: set[asyncio.Task[Any]] = set()
        self._spent: list[str] = []
        self._busy = threading.Event()
        self._beats = 0
        self._blocked = False
        self._serves = True

    def serve(self) -> None:
        """Run jobs until the worker closes the queue."""
        signal(SIGTERM, self.terminate)
        self.watch_forks()
        self._loop.set_task_factory(self._make_task)  # type: ignore[arg-type] # the types lack `options`
        self._loop.add_reader(self._channel.queue_descriptor, self._take)
        threading.Thread(target=self._watch, args=(threading.get_ident(),), daemon=True).start()
        self._channel.send(frames.encode(frames.READY))
        while self._serves:
            try:
                self._loop.run_forever()
            except BaseException as error:  # noqa: BLE001 (SystemExit of a task: what awaits the task gets it, too)
                if not self._is_copy:
                    self._logger.warning("%s left a task of a job, or a callback", type(error).__name__)
            if self._is_copy:
                end_copy(None)
        self._channel.receive()  # the worker ends this process

    def terminate(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGTERM: the jobs get the chance to end by themselves."""
        if not self._running:
            os._exit(128 + SIGTERM)
        self._loop.call_soon_threadsafe(self._cancel_all)

    def _cancel_all(self) -> None:
        for attempt in self._running.values():
            attempt.cancel()

    def _become_copy(self) -> None:
        super()._become_copy()
        self._loop._ready = deque(maxlen=0)  # type: ignore[attr-defined] # noqa: SLF001 (so the loop of the copy runs nothing)
        self._loop.stop()

    def _current(self) -> NeighbourAttempt | None:
        attempt = _owner.get(None)
        if attempt is None and len(self._running) == 1:
            return next(iter(self._running.values()))
        return attempt

    def _printing(self) -> NeighbourAttempt | None:
        return None if self._is_copy else self._current()

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        attempt = _owner.get(None)
        if attempt is not None:
            tasks = self._left_tasks if attempt.ended else attempt.tasks
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        return task

    # --- jobs ---

    def _take(self) -> None:
        while (packet := self._channel.next_packet()) is not None:
            if not packet:
                self._serves = False
                self._loop.remove_reader(self._channel.queue_descriptor)
                self._loop.stop()
                return
            jobs, stopped = json.loads(packet)
            for job in jobs:
                self._begin(*job)
            for token in stopped:
                if token in self._running:
                    self._running[token].cancel()
        if self._running:
            self._busy.set()

    def _begin(self, token: str, job_id: str, job_type: str, number: int, payload: str | None) -> None:
        attempt = self._running[token] = NeighbourAttempt(Token(token), self._send)
        if payload is None:
            payload = self._large_payload(token)
        try:
            handler = self._handler or self._load_handler()
        except BaseException as error:  # noqa: BLE001 (a module may raise anything while it is imported)
            self._end(attempt, judge_load(attempt.token, error))
            return
        try:
            job = Job(job_id, job_type, number, parse_json(payload))
        except ValueError as error:
            failed = AttemptResult(attempt.token, Outcome.ERROR, error=describe(f"payload {error}"), permanent=True)
            self._end(attempt, failed)
            return
        attempt.task = asyncio.Task(self._run(handler, attempt, job), loop=self._loop)

    def _large_payload(self, token: str) -> str:
        while True:  # a job that was taken back may have left its payload in the channel
            owner, payload = self._channel.receive()
            if owner == token:
                return str(payload)

    def _load_handler(self) -> Handler:
        handler = self._load(self._type, self._spec)
        check_coroutine(self._spec.function, handler)
        self._handler = handler
        return handler

    def _prepare(self) -> None:
        super()._prepare()
        sys.stdout, sys.stderr = (JobStream(real, self._printing) for real in (sys.stdout, sys.stderr))

    def _read_state(self) -> ProcessState:
        return ProcessState(KEPT_TOGETHER)

    async def _run(self, handler: Handler, attempt: NeighbourAttempt, job: Job) -> None:
        _owner.set(attempt)
        attempt.wake = (
            attempt.task.cancel if attempt.task is not None else None
        )  # not before: a task that never began has no end
        if attempt.cancelled:
            attempt.cancel()
        decimal: Any = sys.modules.get("decimal")
        if decimal is not None:
            decimal.setcontext(decimal.getcontext().copy())
        context = Context(self._logger, self._spec.settings, attempt.progress, attempt.is_cancelled)
        try:
            value: Json = await handler(job, context)
            if self._is_copy:
                end_copy(None)
            result = encode_result(attempt.token, value)
        except MemoryError as error:
            result = judge_shortage(attempt.token, error, self._spec.limits)
            self._spent = ["memory"]  # what leaks would make every following job fail too
        except BaseException as error:  # noqa: BLE001 (a handler may raise anything)
            if self._is_copy:
                end_copy(error)
            result = judge_error(attempt.token, error)
        self._end(attempt, result)

    def _end(self, attempt: NeighbourAttempt, result: AttemptResult) -> None:
        attempt.ended = True
        if attempt.tasks:
            self._cancel_tasks(attempt)
        attempt.finish_output()
        del self._running[attempt.token]
        if not self._results:
            self._loop.call_soon(self._deliver)
        self._results.append((result, clock.monotonic() - attempt.began))

    def _cancel_tasks(self, attempt: NeighbourAttempt) -> None:
        warn_of_tasks(attempt.tasks, self._logger)
        for task in attempt.tasks:
            self._left_tasks.add(task)
            task.add_done_callback(self._left_tasks.discard)
            task.cancel()

    def _deliver(self) -> None:
        """Send the results of this turn of the loop; if no job runs any more, restore the process."""
        flush()
        left = self._spent if self._running else self._restore()
        results, self._results = self._results, []
        written = [frames.encode_result(result, ran_s=ran_s, reusable=not left) for result, ran_s in results]
        self._channel.send(b"".join(written))

    def _restore(self) -> list[str]:
        if self._handler is None or self._state is None:
            return ["a module that was imported in part"]
        left = [*self._spent, *self._state.restore()]
        if any(not task.done() for task in self._left_tasks):
            left.append("tasks")
        if self._loop.get_task_factory() != self._make_task:
            left.append("the task factory of the event loop")
        if left:
            self._logger.info(
                "a new process will run the next job, because these have left behind: %s", ", ".join(left)
            )
        return left

    # --- the thread that watches the loop ---

    def _watch(self, main_thread: int) -> None:
        while True:
            self._busy.wait()
            seen = self._beats
            try:
                self._loop.call_soon_threadsafe(self._beat)
            except RuntimeError:  # the loop is closed
                return
            time.sleep(_LOOK_S)
            if self._beats == seen and not self._blocked:
                self._report(main_thread)
            elif not self._running:
                self._busy.clear()

    def _beat(self) -> None:
        self._beats += 1
        if self._blocked:
            self._blocked = False
            self._send(frames.encode(frames.MOVING))

    def _report(self, main_thread: int) -> None:
        task = asyncio.current_task(self._loop)
        owners = (each for each in (*self._running.values(),) if task is each.task or task in each.tasks)
        attempt = next(owners, None) if task is not None else None
        frame = sys._current_frames().get(main_thread)  # noqa: SLF001 (documented, for such uses)
        if attempt is None or frame is None:
            return
        self._blocked = True
        place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
        self._send(frames.encode(frames.BLOCKED, attempt.token, sendable(place, LONGEST_LINE)))


def run_together(channel: Channel, specs: Mapping[str, PythonHandler]) -> None:
    """Run the jobs of one type at the same time, until the worker closes the queue."""
    ((job_type, spec),) = specs.items()
    with limited(spec.limits):
        CoroutineRunner(job_type, spec, channel).serve()
