"""The program inside a child process: runs Python handlers, one job at a time, until the worker closes the channel."""

# Standard input is one end of a socket pair to the worker, and jobs come through a packet queue. Both are moved to other
# descriptors, so that handlers find an empty standard input. They may print anything: the worker logs each line. The new
# descriptors are high ones, because some libraries close the low ones, and the next file that is opened gets the lowest
# free one. If one of them leads elsewhere later, nothing is written to it, and the process exits.
#
# A handler may fork. The copy is not a runner: it has no channel, ends where the handler returns, and what it logs
# goes to standard error. So no two processes ever write frames into the same channel.
#
# Started by `stockworker.worker.children`; imports as little as possible, because every child waits for it.

import faulthandler
import fcntl
import inspect
import io
import json
import logging
import math
import os
import resource
import select
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from stockworker.adapters import clock
from stockworker.adapters.fork_loop import QUEUE
from stockworker.adapters.packet_queue import QueueReader
from stockworker.adapters.shortages import is_shortage
from stockworker.handlers.api import Context, Handler, Job, Json, PermanentError
from stockworker.handlers.discovery import load
from stockworker.handlers.spec import Limits, PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.fields import parse_json
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome
from stockworker.worker import frames, leftovers
from stockworker.worker.attempt_log import JobLog, RunningAttempt, text_of
from stockworker.worker.leftovers import ProcessState, isolated
from stockworker.worker.outcome import accept_result, describe, find_non_finite

if TYPE_CHECKING:  # slow to import, and few children run coroutines
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Coroutine, Iterable

_CHUNK: Final = 64 * 1024
_HIGHEST_DESCRIPTOR: Final = 1024
_SPARE: Final = 8
_OWN: Final = (__name__, leftovers.__name__, "stockworker.worker.coroutines", "asyncio.")
"""Modules whose lines do not help the author of a handler."""

_MISSING: Final = ". Install it, or add its folder to worker.handler_paths, and reload the worker"
_NO_CHANNEL: Final = 70
"""Exit code of a process that has lost its channel (EX_SOFTWARE in sysexits.h)."""

_encode_result: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

_QUIET_S: Final = 0.001


class Channel:
    """The channel to the worker, and the queue of jobs. Any thread of a handler may send frames.

    The worker reads when this process rings. After most frames that is immediately. The results of short jobs wait for each
    other, at most `_QUIET_S`: waking the worker costs more time than such a job takes. They are in the channel by then, so they
    survive this process.
    """

    def __init__(self, descriptor: int, queue_descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._identity = _identity(descriptor)
        self._queue_descriptor = queue_descriptor
        self._queue_identity = _identity(queue_descriptor)
        self._queue = QueueReader(queue_descriptor)
        self._lock = threading.Lock()
        self._rang_at = clock.monotonic()
        self._lines = self._receive()

    @property
    def queue_descriptor(self) -> int:
        """It is readable when jobs have arrived."""
        return self._queue_descriptor

    def send(self, frame: bytes, *, ring: bool = True) -> None:
        with self._lock:
            view = memoryview(frame)
            while view:
                self._check()
                view = view[self._write(view) :]
        if ring or clock.monotonic() - self._rang_at > _QUIET_S:
            self.ring()

    def _write(self, view: memoryview) -> int:
        try:
            return os.write(self._descriptor, view)
        except BlockingIOError:  # the worker has not read yet
            self.ring()
            self._wait(select.POLLOUT)
            return 0

    def _wait(self, what: int) -> None:
        poll = select.poll()
        poll.register(self._descriptor, what)
        poll.poll()

    def ring(self) -> None:
        """Let the worker read."""
        self._rang_at = clock.monotonic()
        self._check_queue()
        self._queue.ring()

    def receive(self) -> Any:
        """Return the next frame; None if the worker has closed its end."""
        line = next(self._lines, None)
        return None if line is None else json.loads(line)

    def receive_payload(self, *, as_it_is: bool) -> str:
        """Return the payload that follows a packet (`frames`)."""
        if as_it_is:
            return next(self._lines).decode()
        (payload,) = self.receive()
        return str(payload)

    def next_job(self) -> bytes:
        """Return the packet of the next job; b"" if the worker has closed its end."""
        self._check_queue()
        packet = self._queue.take_now()
        if packet is None:
            self.ring()
            packet = self._queue.take()
        return packet

    def next_packet(self) -> bytes | None:
        """Return the next packet; None if there is none now, b"" if the worker has closed its end."""
        self._check_queue()
        return self._queue.take_now()

    def close_copy(self) -> None:
        """Close the channel in a forked copy of this process."""
        if _identity(self._descriptor) == self._identity:
            os.close(self._descriptor)
        if _identity(self._queue_descriptor) == self._queue_identity:
            self._queue.close()

    def _check(self) -> None:
        """End this process if the descriptor is not the channel any more: it may be a file of the handler."""
        if _identity(self._descriptor) != self._identity:
            _end_without_channel()

    def _check_queue(self) -> None:
        if _identity(self._queue_descriptor) != self._queue_identity:
            _end_without_channel()

    def _receive(self) -> Iterator[bytes]:
        """Yield lines until the worker closes its end."""
        buffer = frames.FrameBuffer()
        self._check()
        while True:
            try:
                chunk = os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                self._wait(select.POLLIN)
                continue
            if not chunk:
                return
            yield from buffer.feed(chunk)


def _end_without_channel() -> NoReturn:
    with suppress(OSError):
        os.write(2, b"the handler has closed the channel between its process and the worker\n")
    os._exit(_NO_CHANNEL)


def _identity(descriptor: int) -> tuple[int, int] | None:
    """What a descriptor belongs to; None if it is closed."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Runner:
    """Runs one attempt at a time."""

    def __init__(self, handlers: Mapping[str, PythonHandler], channel: Channel) -> None:
        self._specs = handlers
        self._channel = channel
        self._loaded: dict[str, Handler] = {}
        self._log = JobLog(self._send, self._current)
        self._logger = logging.getLogger("stockworker.job")
        self._attempt: RunningAttempt | None = None
        self._logging: RunningAttempt | None = None
        self._is_copy = False
        self._forking = threading.local()
        self._state: ProcessState | None = None

    def terminate(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGTERM: the job gets the chance to end by itself."""
        if self._attempt is None:
            os._exit(128 + signal.SIGTERM)
        self._attempt.cancel()

    def _current(self) -> RunningAttempt | None:
        """The attempt that what runs now belongs to; the last one while none runs."""
        return self._logging

    def watch_forks(self) -> None:
        """Make sure that a forked copy of this process does not act as a runner, and that SIGTERM ends it."""
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._become_copy
        )

    def _before_fork(self) -> None:
        # A SIGTERM to the copy waits until the copy has the default handler. Before, it would only set a flag.
        self._forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _after_fork(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._forking.mask)

    def _become_copy(self) -> None:
        self._is_copy = self._log.in_copy = True
        self._channel.close_copy()
        if signal.getsignal(signal.SIGTERM) == self.terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._after_fork()

    def run(self, token: str, job_id: str, job_type: str, number: int, payload: str | int | None) -> bool:
        """Run one attempt, and send its result; return whether this process can run another one."""
        began = clock.monotonic()
        if not isinstance(payload, str):
            payload = self._channel.receive_payload(as_it_is=payload == frames.AS_IT_IS)
        attempt = self._attempt = self._logging = RunningAttempt(Token(token), self._send)
        left: list[str] = []
        try:
            result = self._execute(attempt, job_id, job_type, number, payload)
        except MemoryError as error:
            result = judge_shortage(attempt.token, error, self._specs[job_type].limits)
            left = ["memory"]  # what leaks would make every following job fail too
        flush()
        if self._state is None:
            left = ["a module that was imported in part"]
        else:
            left += self._state.restore()
            if left:
                self._logger.info(
                    "a new process will run the next job, because this one left behind: %s", ", ".join(left)
                )
        self._attempt = None
        ran_s = clock.monotonic() - began
        if not self._is_copy:
            ended = frames.encode_result(result, ran_s=ran_s, reusable=not left)
            self._channel.send(attempt.kept() + ended, ring=bool(left))
        return not left

    def _send(self, frame: bytes) -> None:
        if not self._is_copy:
            self._channel.send(frame)

    def _execute(self, attempt: RunningAttempt, job_id: str, job_type: str, number: int, payload: str) -> AttemptResult:
        token, spec = attempt.token, self._specs[job_type]
        try:
            handler = self._load(job_type, spec)
        except BaseException as error:  # noqa: BLE001 (a module may raise anything while it is imported)
            return judge_load(token, error)
        try:
            job = Job(job_id, job_type, number, parse_json(payload))
        except ValueError as error:
            return AttemptResult(token, Outcome.ERROR, error=describe(f"payload {error}"), permanent=True)
        context = Context(self._logger, spec.settings, attempt.progress, attempt.is_cancelled)
        try:
            with limited(spec.limits):
                result = isolated(_call, handler, job, context, attempt)
                if self._is_copy:
                    end_copy(None)
            return encode_result(token, result)
        except BaseException as error:
            if self._is_copy:
                end_copy(error)
            if isinstance(error, MemoryError):
                raise
            return judge_error(token, error)

    def _load(self, job_type: str, spec: PythonHandler) -> Handler:
        handler = self._loaded.get(job_type)
        if handler is None:
            self._state = None
            handler = self._loaded[job_type] = load(spec.function)
            self._prepare()
            self._state = self._read_state()
        return handler

    def _read_state(self) -> ProcessState:
        return ProcessState()

    def _prepare(self) -> None:
        """Set what every job needs, whatever the modules of handlers have set while they were imported."""
        signal.signal(signal.SIGTERM, self.terminate)
        if self._log not in logging.root.handlers:
            logging.root.addHandler(self._log)
        self._logger.setLevel(logging.INFO)
        self._logger.disabled, self._logger.propagate = False, True


def judge_load(token: Token, error: BaseException) -> AttemptResult:
    """Judge an attempt whose handler can't be loaded."""
    # A shortage lasts for a moment: it must not keep later jobs of this type away.
    outcome = Outcome.ERROR if is_shortage(error) else Outcome.REFUSED
    advice = _MISSING if isinstance(error, ModuleNotFoundError) else ""
    return AttemptResult(token, outcome, error=_describe(error, "handler can't be loaded here: ", advice))


def judge_error(token: Token, error: BaseException) -> AttemptResult:
    """Judge an attempt whose handler has raised `error`."""
    if isinstance(error, PermanentError):
        return AttemptResult(token, Outcome.ERROR, error=text_of(error), permanent=True)
    return AttemptResult(token, Outcome.ERROR, error=_describe(error))


def judge_shortage(token: Token, error: MemoryError, limits: Limits) -> AttemptResult:
    """Judge an attempt for which memory was short."""
    allowed = "" if limits.memory_bytes is None else f" of {limits.memory_bytes} bytes"
    text = describe(f"MemoryError: limit{allowed} exceeded", _traceback(error))
    return AttemptResult(token, Outcome.ERROR, error=text)


def _call(handler: Handler, job: Job, context: Context, attempt: RunningAttempt) -> Json:
    result = handler(job, context)
    return _await(result, attempt, context.log) if inspect.iscoroutine(result) else result


def _await(coroutine: "Coroutine[Any, Any, Json]", attempt: RunningAttempt, log: logging.Logger) -> Json:
    """Run a coroutine on an event loop of its own."""
    import asyncio  # noqa: PLC0415 (slow to import, and few children run coroutines)

    async def run() -> Json:
        this = asyncio.current_task()
        attempt.wake = partial(_wake, asyncio.get_running_loop(), this)
        if attempt.cancelled:  # before there was a task to cancel
            attempt.cancel()
        try:
            return await coroutine
        finally:
            attempt.wake = None
            warn_of_tasks(asyncio.all_tasks() - {this}, log)

    return asyncio.run(run())


def _wake(loop: "AbstractEventLoop", task: "Task[Any] | None") -> None:
    if task is not None:
        loop.call_soon_threadsafe(task.cancel)


def warn_of_tasks(tasks: "Iterable[Task[Any]]", log: logging.Logger) -> None:
    """Log the names of tasks that a job has not waited for."""
    names = sorted(getattr(task.get_coro(), "__qualname__", task.get_name()) for task in tasks)
    if names:
        log.warning("cancelled tasks that the job left behind: %s", ", ".join(names))


def flush() -> None:
    """Write out what was printed, whatever a handler has put in place of the streams."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(Exception):
            stream.flush()  # type: ignore[union-attr] # None is possible, too


def end_copy(error: BaseException | None) -> NoReturn:
    """End a forked copy, whose handler has returned or raised `error`, as the interpreter would."""
    code = error.code if isinstance(error, SystemExit) else error and _describe(error)
    if code is not None and not isinstance(code, int):
        with suppress(Exception):
            print(code, file=sys.stderr)  # noqa: T201
        code = 1
    flush()
    os._exit((code or 0) & 0xFF)


def encode_result(token: Token, result: Json) -> AttemptResult:
    """Judge what a handler returned. A value that JSON can't hold fails every attempt, so the error is permanent."""
    advice = _lazy(result)
    if advice is not None:
        return AttemptResult(token, Outcome.ERROR, error=advice, permanent=True)
    try:
        text = _encode_result(result)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        problem = str(error)
        if problem.startswith("Out of range float"):  # the encoder does not name the place
            problem = f"{find_non_finite(result)}, and JSON has no such number"
        return AttemptResult(token, Outcome.ERROR, error=describe(f"the result is not JSON: {problem}"), permanent=True)
    return accept_result(token, text)


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Apply limits to this process while the body runs: the soft ones, so that they can be lifted again."""
    if limits == Limits():
        yield
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted = {
        resource.RLIMIT_DATA: limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_s and limits.cpu_s + math.ceil(used.ru_utime + used.ru_stime),
        resource.RLIMIT_NOFILE: limits.open_files,
    }
    previous = {kind: resource.getrlimit(kind) for kind, value in wanted.items() if value is not None}
    try:
        for kind, (_, hard) in previous.items():
            value = wanted[kind] or 0
            resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
        yield
    finally:
        for kind, pair in previous.items():
            resource.setrlimit(kind, pair)


def _lazy(result: Json) -> str | None:
    """What to do about a result that is still to be computed: by `async def`, or by `yield`."""
    if inspect.iscoroutine(result):
        result.close()  # else the interpreter complains that it was never awaited
        return "the handler returned a coroutine that it has not awaited: use `return await ...`"
    if inspect.isasyncgen(result):
        return "the handler is an `async def` function with `yield`: use a plain function that returns the result"
    if inspect.isgenerator(result):
        result.close()
        return "the handler is a generator, because it contains `yield`: use `return`, with a list for several values"
    return None


def _describe(error: BaseException, context: str = "", advice: str = "") -> str:
    try:
        text = "".join(traceback.format_exception_only(error)).strip()
        return describe(f"{context}{text}{advice}", _traceback(error))
    except Exception:  # noqa: BLE001 (as above)
        return context + text_of(error)


def _traceback(error: BaseException) -> str:
    """The lines of a traceback, without those of the runner."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(_OWN):
        trace = trace.tb_next
    return "".join(traceback.format_tb(trace))


def _move(descriptor: int) -> int:
    """Move a descriptor out of the way."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, min(most, _HIGHEST_DESCRIPTOR) - _SPARE)
    os.close(descriptor)
    return moved


def prepare() -> tuple[Channel, dict[str, PythonHandler]]:
    """Make this process one that serves the worker at the other end of standard input; return what it runs."""
    channel = Channel(_move(0), _move(QUEUE))
    os.open(os.devnull, os.O_RDONLY)  # it becomes standard input
    faulthandler.enable()  # prints the Python line that led to a crash in C code
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    paths, handlers = channel.receive()
    sys.path += paths
    specs = {
        job_type: PythonHandler(function, settings, Limits(*limits), concurrency=concurrency)
        for job_type, (function, settings, limits, concurrency) in handlers.items()
    }
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, exit statuses of children are lost
    return channel, specs


def run_in_turn(channel: Channel, specs: Mapping[str, PythonHandler]) -> None:
    """Run one job after another, until the worker closes the queue."""
    runner = Runner(specs, channel)
    signal.signal(signal.SIGTERM, runner.terminate)
    runner.watch_forks()
    channel.send(frames.encode(frames.READY))
    while (packet := channel.next_job()) and runner.run(*json.loads(packet)):
        pass
    channel.receive()  # the worker ends this process
