"""Limits how fast others can fill the log, without muting the lines about anybody else. Pure, but for the filter."""

# Each event declares what can cause it (`events.Cause`). Of an event that others can cause, each key has an allowance in
# each minute: the key is the event, together with the peer or job type that its `Cause` names. So the lines about one
# peer leave those about another one alone.
#
# The lines of all keys together are limited as well. A flood under many keys therefore ends at `MOST_LINES`; from then
# on each key has only the first `FIRST_LINES`, so that the log still shows everything that happens, and who is behind
# it. The number of keys is limited too: what comes under still another key counts for the event as a whole.
#
# What was left out is logged when its minute is over: by the next line of any kind, or by `report`.

import logging
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from stockworker.logs.events import Cause, LinesLeftOut, LogEvent, work
from stockworker.logs.record import log_event

WINDOW_S: Final = 60.0
MOST_LINES: Final = 4000
"""Lines of all keys together in a minute, before each key has only `FIRST_LINES`."""

FIRST_LINES: Final = 5
MOST_KEYS: Final = 1000
_MOST_REPORTED: Final = 50
_OTHERS: Final = "others"

_LIBRARY: Final = work()
"""A library logs something that is not an event, under the name of its logger."""

_log = logging.getLogger(__name__)

Key = tuple[str, str]
"""What happened, and about whom."""


@dataclass(slots=True)
class Window:
    """The lines of one minute.

    Attributes:
        began: when, on the clock of the log records.
        logged: lines of each key that were logged.
        left_out: lines of each key that were not.
        total: lines that were logged.
    """

    began: float
    logged: Counter[Key] = field(default_factory=Counter)
    left_out: Counter[Key] = field(default_factory=Counter)
    total: int = 0

    def is_over(self, now: float) -> bool:
        """Whether its minute is over, or the clock was set back."""
        return not 0 <= now - self.began < WINDOW_S

    def admit(self, key: Key, most: int) -> int:
        """Count a line; return how many more of this key will be logged after it, or -1 if it must be left out."""
        if key not in self.logged and len(self.logged) >= MOST_KEYS:
            key = (key[0], _OTHERS)
        logged = self.logged[key]
        if logged >= most or (self.total >= MOST_LINES and logged >= FIRST_LINES):
            self.left_out[key] += 1
            return -1
        self.logged[key] += 1
        self.total += 1
        return most - logged - 1

    def summary(self) -> list[LinesLeftOut]:
        """What to log about the lines that were left out: the largest numbers first, and one for the rest."""
        found = self.left_out.most_common()
        lines = [LinesLeftOut(about=about, key=key or None, lines=count) for (about, key), count in found]
        rest = sum(count for _, count in found[_MOST_REPORTED:])
        return lines if not rest else [*lines[:_MOST_REPORTED], LinesLeftOut(about=_OTHERS, key=None, lines=rest)]


class FloodFilter(logging.Filter):
    """Drops lines beyond the allowance of their key; the last one before that carries ``muted_s``."""

    def __init__(self) -> None:
        super().__init__()
        self._window = Window(0.0)
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record must be logged."""
        event: LogEvent | None = record.__dict__.get("event")
        cause = _LIBRARY if event is None else event.cause
        if cause.lines_a_minute is None or record.levelno <= logging.DEBUG:
            return True
        self.report(record.created)
        with self._lock:
            window = self._window
            left = window.admit(_key_of(record.name, event, cause), cause.lines_a_minute)
        if left == 0 and event is not None:
            muted_s = round(window.began + WINDOW_S - record.created)
            record.__dict__["fields"] = {**record.__dict__["fields"], "muted_s": muted_s}
        return left >= 0

    def report(self, now: float) -> None:
        """Log how many lines were left out, if their minute is over at `now`."""
        with self._lock:
            if not self._window.is_over(now):
                return
            over, self._window = self._window, Window(now)
        for event in over.summary():
            log_event(_log, event)


def _key_of(logger: str, event: LogEvent | None, cause: Cause) -> Key:
    if event is None:
        return logger, ""
    values = ((name, getattr(event, name)) for name in cause.key)
    return event.name, " ".join(_short(name, str(value)) for name, value in values if value is not None)


def _short(name: str, value: str) -> str:
    return "/".join(value.split("/")[:2])[:80] if name == "topic" else value[:80]
