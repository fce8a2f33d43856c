"""What an attempt reports while it runs in its process: progress, and what it logs and prints."""

# What it logs and prints goes two ways. Lines go to the log of the worker (`frames.LOG`), bounded in number and length. All of it
# is kept with the attempt (`frames.OUTPUT`), of which only the end counts: so text that is not logged waits here, within
# bounds, for the next line that is, or for the end of the attempt.

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from stockworker.adapters import clock
from stockworker.protocol.body import sendable, text_bytes
from stockworker.protocol.ids import Token
from stockworker.worker import frames
from stockworker.worker.outcome import describe
from stockworker.worker.output import LONGEST_LINE, MOST_KEPT, Throttle

_PROGRESS_INTERVAL_S: Final = 0.5

_KEEPING: Final = threading.Lock()
"""Several threads of a handler may print and log."""

Send = Callable[[bytes], None]


class RunningAttempt:
    """What the context of one attempt does. A thread that outlives the attempt can't act for the next one.

    Attributes:
        token: its name.
        cancelled: whether it must stop.
        wake: makes a coroutine notice that; None in a plain function.
        records: bounds its log records.
    """

    __slots__ = ("_kept", "_kept_size", "_omitted", "_progress_at", "_send", "cancelled", "records", "token", "wake")

    def __init__(self, token: Token, send: Send) -> None:
        self.token = token
        self._send = send
        self._progress_at = -math.inf
        self.cancelled = False
        self.wake: Callable[[], object] | None = None
        self.records = Throttle()
        self._kept: list[str] = []
        self._kept_size = 0
        self._omitted = 0

    def keep(self, text: str) -> None:
        """Add text to the output of the attempt. It waits for `kept`, and only the end of it is kept."""
        with _KEEPING:
            self._kept.append(text)
            self._kept_size += len(text)
            if self._kept_size > 2 * MOST_KEPT:  # not for each text: that would copy all of them
                self._cut()

    def _cut(self) -> None:
        text = "".join(self._kept)
        self._kept = [text[-MOST_KEPT:]]
        self._kept_size = len(self._kept[0])
        self._omitted += text_bytes(text[:-MOST_KEPT])

    def kept(self) -> bytes:
        """Return the frame of the output that waits; b"" if none does."""
        if not self._kept:
            return b""
        with _KEEPING:
            self._cut()
            (text,), omitted = self._kept, self._omitted
            self._kept, self._kept_size, self._omitted = [], 0, 0
        return frames.encode(frames.OUTPUT, self.token, text, omitted)

    def is_cancelled(self) -> bool:
        return self.cancelled

    def cancel(self) -> None:
        """Ask it to end."""
        self.cancelled = True
        if self.wake is not None:
            self.wake()

    def progress(self, fraction: float, message: str = "") -> None:
        now = clock.monotonic()
        if now - self._progress_at >= _PROGRESS_INTERVAL_S:
            self._progress_at = now
            fraction = min(1.0, max(0.0, float(fraction)))  # in this order NaN becomes 0
            self._send(frames.encode(frames.PROGRESS, self.token, fraction, sendable(str(message))))


class JobLog(logging.Handler):
    """Sends log records to the worker, limited in number and length.

    Attributes:
        in_copy: this is a forked copy of the process, which has no channel: the records go to standard error.
    """

    def __init__(self, send: Send, find: Callable[[], RunningAttempt | None]) -> None:
        """Make a handler of records; `find` returns the attempt that the current one belongs to."""
        super().__init__()
        self._send = send
        self._find = find
        self.in_copy = False

    def emit(self, record: logging.LogRecord) -> None:
        attempt = self._find()
        if attempt is None:
            return
        level, text = self._read(record)
        if not self.in_copy:
            attempt.keep(f"{time.strftime('%H:%M:%SZ', time.gmtime(record.created))} {_level_name(level)} {text}\n")
        if not attempt.records.admit(clock.monotonic()):
            return
        if self.in_copy:
            with suppress(OSError):
                os.write(2, f"{text[:LONGEST_LINE]}\n".encode())
            return
        lines = [text[:LONGEST_LINE]]
        if attempt.records.refused:
            left_out, attempt.records.refused = attempt.records.refused, 0
            lines.insert(0, f"({left_out} records left out)")
        logged = [frames.encode(frames.LOG, attempt.token, level, line) for line in lines]
        self._send(b"".join([attempt.kept(), *logged]))

    def _read(self, record: logging.LogRecord) -> tuple[int, str]:
        """The level and the text of a record."""
        try:
            return min(max(int(record.levelno), 0), frames.HIGHEST_LEVEL), sendable(self.format(record), MOST_KEPT)
        except Exception as error:  # noqa: BLE001 (arguments that do not fit the text: no fault of the job)
            place = f"{record.pathname}:{record.lineno}"
            return logging.WARNING, sendable(f"a log record of {place} can't be shown: {text_of(error)}", LONGEST_LINE)


def _level_name(level: int) -> str:
    return sendable(logging.getLevelName(level), 40)


def text_of(error: BaseException) -> str:
    """The text of an exception; a class of the handler's own may do anything while it makes it."""
    try:
        return describe(str(error))
    except Exception:  # noqa: BLE001
        return f"{type(error).__name__} (its text can't be shown)"
