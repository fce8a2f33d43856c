"""Writes log lines in a thread of its own, so that a reader that stopped reading can't stop the program."""

# A full pipe, a terminal on hold, a hung systemd journal or a stalled disk blocks a write for as long as it likes. A
# service must go on without its log: jobs, leases and signals depend on the event loop. So the loop only appends to a
# queue. If the queue is full, or a write fails (a full disk), lines are dropped and counted, and the count is logged once
# a line can be written again.
#
# The thread is a daemon: no end of the process waits for it longer than `finish` does. Standard error is replaced as
# well, because libraries, warnings and Python itself print there without asking.

import atexit
import copy
import io
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Final, TextIO, cast

from stockworker.logs.events import LinesLost
from stockworker.logs.record import as_record

MOST_WAITING: Final = 2000
"""Lines that wait for the writing thread."""

_FINISH_S: Final = 1.0


class Writer:
    """A thread that does what is put, in order.

    Attributes:
        stream: where text goes.
        report: logs how many lines were lost; raises if it can't.
    """

    def __init__(self, stream: TextIO, most_waiting: int = MOST_WAITING) -> None:
        self.stream = stream
        self.report: Callable[[int], object] = lambda lost: self.print(f"lost {lost} lines\n")
        self._most_waiting = most_waiting
        self._waiting: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._lost = 0
        self._lost_lock = threading.Lock()
        threading.Thread(target=self._work, name="log", daemon=True).start()

    def put(self, write: Callable[[], object]) -> None:
        """Queue what writes a line, and raises if it can't; or drop and count it."""
        if self._waiting.qsize() < self._most_waiting:
            self._waiting.put(write)
        else:
            self._lose(1)

    def finish(self, timeout_s: float = _FINISH_S) -> bool:
        """Wait until everything is written; False if it takes longer than that."""
        written = threading.Event()
        self._waiting.put(written.set)
        return written.wait(timeout_s)

    def print(self, text: str) -> None:
        """Write a text, in this thread."""
        self.stream.write(text)
        self.stream.flush()

    def _work(self) -> None:
        while True:
            write = self._waiting.get()
            try:
                write()
            except Exception:  # noqa: BLE001 (any failure: there is no other place to log it)
                self._lose(1)
            else:
                self._report_lost()

    def _lose(self, lines: int) -> None:
        with self._lost_lock:
            self._lost += lines

    def _report_lost(self) -> None:
        with self._lost_lock:
            lost, self._lost = self._lost, 0
        if lost:
            try:
                self.report(lost)
            except Exception:  # noqa: BLE001 (as above)
                self._lose(lost)


class Detached(logging.Handler):
    """Lets another handler handle records in the thread of a writer.

    Args:
        target: may block for ever, and raises if it can't write.
        writer: its thread.
    """

    def __init__(self, target: logging.Handler, writer: Writer) -> None:
        super().__init__()
        self._target = target
        self._writer = writer
        writer.report = lambda lost: target.handle(as_record(LinesLost(lines=lost)))

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record: its text as it is now, because its arguments may change."""
        record = copy.copy(record)
        try:
            record.msg, record.args = record.getMessage(), None
        except Exception:  # noqa: BLE001 (a library's line whose arguments do not fit is still a line)
            record.msg, record.args = f"{record.msg} (its arguments do not fit)", None
        self._writer.put(partial(self._target.handle, record))


class _Printed(io.TextIOBase):
    """In place of standard error: what is printed there."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write(self, text: str) -> int:
        self._writer.put(partial(self._writer.print, text))
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._writer.stream.fileno()

    def isatty(self) -> bool:
        return self._writer.stream.isatty()


_writer: Writer | None = None


def detach() -> None:
    """From now on, no log line and nothing that is printed to standard error makes this program wait."""
    global _writer  # noqa: PLW0603 (as there is one standard error)
    _writer = Writer(sys.stderr)
    sys.stderr = cast("TextIO", _Printed(_writer))
    logging.captureWarnings(capture=True)
    atexit.register(_finish_at_exit)


def detached(handler: logging.Handler) -> logging.Handler:
    """The handler to use in place of this one, which writes to `standard_error`."""
    return handler if _writer is None else Detached(handler, _writer)


def standard_error() -> TextIO:
    """Standard error itself."""
    return sys.stderr if _writer is None else _writer.stream


def finish() -> bool:
    """Wait a moment for the log to be written; return whether it is, or there is nothing to wait for."""
    return _writer is None or _writer.finish()


def _finish_at_exit() -> None:
    if not finish():
        os._exit(1)  # Python itself would wait for the lock of standard error
