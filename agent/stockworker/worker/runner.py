"""The program inside a child process: runs Python handlers, one job at a time, until the worker closes the channel."""

# Standard input is one end of a socket pair to the worker. It is moved to another descriptor, so that handlers find an
# empty standard input. They may print anything: the worker logs each line.
#
# Started by `stockworker.worker.children`; imports as little as possible, because every child waits for it.

import faulthandler
import io
import json
import logging
import math
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.handlers.api import Context, Handler, Job, Json, PermanentError
from stockworker.handlers.discovery import load
from stockworker.handlers.spec import Limits, PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.body import sendable
from stockworker.protocol.fields import parse_json
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome
from stockworker.worker import frames
from stockworker.worker.outcome import accept_result, describe
from stockworker.worker.output import LONGEST_LINE, Throttle

_CHUNK: Final = 64 * 1024
_PROGRESS_INTERVAL_S: Final = 0.5
_encode_result: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

Send = Callable[[bytes], None]


class Channel:
    """The channel to the worker. Any thread of a handler may send frames."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, frame: bytes) -> None:
        with self._lock:
            view = memoryview(frame)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def receive(self) -> Iterator[list[Any]]:
        """Yield frames until the worker closes its end."""
        buffer = frames.FrameBuffer()
        while chunk := os.read(self._descriptor, _CHUNK):
            yield from map(json.loads, buffer.feed(chunk))


class JobLog(logging.Handler):
    """Sends log records to the worker, limited in number and length."""

    def __init__(self, send: Send) -> None:
        super().__init__()
        self._send = send
        self._throttle = Throttle()
        self._token: str | None = None

    def begin(self, token: str) -> None:
        """From now on records belong to this attempt."""
        self._token = token
        self._throttle = Throttle()

    def emit(self, record: logging.LogRecord) -> None:
        if self._token is None or not self._throttle.admit(clock.monotonic()):
            return
        level = min(max(record.levelno, 0), frames.HIGHEST_LEVEL)
        if self._throttle.refused:
            left_out, self._throttle.refused = self._throttle.refused, 0
            self._send(frames.encode(frames.LOG, self._token, level, f"({left_out} records left out)"))
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 (arguments that do not fit the text; as every handler of `logging` does)
            self.handleError(record)
        else:
            self._send(frames.encode(frames.LOG, self._token, level, sendable(text, LONGEST_LINE)))


class RunningAttempt:
    """What the context of one attempt does. A thread that outlives the attempt can't act for the next one."""

    __slots__ = ("_progress_at", "_send", "cancelled", "token")

    def __init__(self, token: Token, send: Send) -> None:
        self.token = token
        self.cancelled = False
        self._send = send
        self._progress_at = -math.inf

    def is_cancelled(self) -> bool:
        return self.cancelled

    def progress(self, fraction: float, message: str = "") -> None:
        now = clock.monotonic()
        if now - self._progress_at >= _PROGRESS_INTERVAL_S:
            self._progress_at = now
            fraction = min(1.0, max(0.0, float(fraction)))  # in this order NaN becomes 0
            self._send(frames.encode(frames.PROGRESS, self.token, fraction, sendable(str(message))))


class Runner:
    """Runs one attempt at a time."""

    def __init__(self, handlers: Mapping[str, PythonHandler], send: Send) -> None:
        self._specs = handlers
        self._send = send
        self._loaded: dict[str, Handler] = {}
        self._log = JobLog(send)
        self._logger = logging.getLogger("stockworker.job")
        self._attempt: RunningAttempt | None = None
        logging.getLogger().addHandler(self._log)
        self._logger.setLevel(logging.INFO)

    def terminate(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGTERM: the job gets the chance to end by itself."""
        if self._attempt is None:
            os._exit(128 + signal.SIGTERM)
        self._attempt.cancelled = True

    def run(self, token: str, job_id: str, job_type: str, number: int, payload: str) -> None:
        """Run one attempt, and send its result."""
        attempt = self._attempt = RunningAttempt(Token(token), self._send)
        self._log.begin(token)
        reusable = True
        try:
            result = self._execute(attempt, job_id, job_type, number, payload)
        except MemoryError as error:
            limit = self._specs[job_type].limits.memory_bytes
            allowed = "" if limit is None else f" of {limit} bytes"
            result = AttemptResult(
                attempt.token, Outcome.ERROR, error=describe(f"MemoryError: limit{allowed} exceeded", _traceback(error))
            )
            reusable = False  # what leaks would make every following job fail too
        for stream in (sys.stdout, sys.stderr):
            with suppress(ValueError, OSError):  # a handler may have closed it
                stream.flush()
        self._attempt = None
        self._send(frames.encode_result(result, reusable=reusable))

    def _execute(self, attempt: RunningAttempt, job_id: str, job_type: str, number: int, payload: str) -> AttemptResult:
        token, spec = attempt.token, self._specs[job_type]
        try:
            handler = self._load(job_type, spec)
        except BaseException as error:  # noqa: BLE001 (a module may raise anything while it is imported)
            return AttemptResult(token, Outcome.REFUSED, error=_describe(error, "handler can't be loaded here: "))
        try:
            job = Job(job_id, job_type, number, parse_json(payload))
        except ValueError as error:
            return AttemptResult(token, Outcome.ERROR, error=describe(f"payload {error}"), permanent=True)
        context = Context(self._logger, spec.settings, attempt.progress, attempt.is_cancelled)
        try:
            with limited(spec.limits):
                result = handler(job, context)
            return encode_result(token, result)
        except MemoryError:
            raise
        except PermanentError as error:
            return AttemptResult(token, Outcome.ERROR, error=describe(_text(error)), permanent=True)
        except BaseException as error:  # noqa: BLE001 (whatever a handler raises, sys.exit included, must not end the child)
            return AttemptResult(token, Outcome.ERROR, error=_describe(error))

    def _load(self, job_type: str, spec: PythonHandler) -> Handler:
        handler = self._loaded.get(job_type)
        if handler is None:
            handler = self._loaded[job_type] = load(spec.function)
        return handler


def encode_result(token: Token, result: Json) -> AttemptResult:
    """Judge what a handler returned. A value that JSON can't hold fails every attempt, so the error is permanent."""
    try:
        text = _encode_result(result)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        problem = str(error)
        if problem.startswith("Out of range float"):  # the encoder does not name the place
            problem = f"{find_non_finite(result)}, and JSON has no such number"
        return AttemptResult(token, Outcome.ERROR, error=describe(f"the result is not JSON: {problem}"), permanent=True)
    return accept_result(token, text)


def find_non_finite(value: Json, path: str = "result") -> str | None:
    """Describe where the first NaN or infinity in `value` is; the encoder has found that there is one."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path} is {value}"
    items: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, dict):
        items = iter(value.items())
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    return next((found for key, item in items if (found := find_non_finite(item, f"{path}[{key!r}]"))), None)


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


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 (a class of the handler's own may do anything here)
        return f"{type(error).__name__} (its text can't be shown)"


def _describe(error: BaseException, context: str = "") -> str:
    return describe(context + "".join(traceback.format_exception_only(error)), _traceback(error))


def _traceback(error: BaseException) -> str:
    """The lines of a traceback, without the first one, which is always in this file."""
    trace = error.__traceback__
    return "".join(traceback.format_tb(trace.tb_next if trace else None))


def _take_channel() -> int:
    """Move standard input out of the way."""
    channel = os.dup(0)  # not inheritable, unlike a standard stream
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 (the raw descriptor is wanted)
        os.dup2(nothing.fileno(), 0)
    return channel


def main() -> None:
    """Serve the worker at the other end of standard input."""
    channel = Channel(_take_channel())
    faulthandler.enable()  # prints the Python line that led to a crash in C code
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    received = channel.receive()
    paths, handlers = next(received)
    sys.path += paths
    specs = {
        job_type: PythonHandler(function, settings, Limits(*limits))
        for job_type, (function, settings, limits) in handlers.items()
    }
    runner = Runner(specs, channel.send)
    signal.signal(signal.SIGTERM, runner.terminate)
    channel.send(frames.encode(frames.READY))
    for frame in received:
        runner.run(*frame)
