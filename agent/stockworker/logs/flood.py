"""Limits how fast other programs can fill the log: a number of lines a minute for each kind of refusal, and a count."""

import logging
from dataclasses import dataclass
from typing import Final

from stockworker.logs.events import AccessRefused, JobRejected, LogEvent, MessageRefused, PublishRefused, ReportStale

LINES_A_MINUTE: Final = 50
_WINDOW_S: Final = 60.0
_MOST_KINDS: Final = 256

CAUSED_BY_OTHERS: Final = (MessageRefused, JobRejected, AccessRefused, ReportStale, PublishRefused)
"""Events that any client that may publish can cause as often as it likes."""


@dataclass(slots=True)
class _Window:
    """The records of one kind since `began`, on the clock of the log records."""

    began: float
    logged: int = 0
    unlogged: int = 0


class FloodFilter(logging.Filter):
    """Drops lines of a kind beyond `LINES_A_MINUTE`.

    A kind is an event, together with the fixed levels of its topic if it has one. The last line that passes carries
    ``muted_s``, and the first one after that minute carries ``unlogged``, the number of dropped lines. The
    dispatcher's counters count all of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[tuple[type[LogEvent], str], _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record must be logged; add to its fields what was left out."""
        event = record.__dict__.get("event")
        if not isinstance(event, CAUSED_BY_OTHERS):
            return True
        fields: dict[str, object] = record.__dict__["fields"]
        kind = (type(event), "/".join(str(fields.get("topic", "")).split("/")[:2]))
        window = self._windows.get(kind)
        if window is None or not 0 <= record.created - window.began < _WINDOW_S:
            unlogged = 0 if window is None else window.unlogged
            if len(self._windows) >= _MOST_KINDS:
                self._windows.clear()
            window = self._windows[kind] = _Window(record.created)
            if unlogged:
                record.__dict__["fields"] = fields = {**fields, "unlogged": unlogged}
        if window.logged >= LINES_A_MINUTE:
            window.unlogged += 1
            return False
        window.logged += 1
        if window.logged == LINES_A_MINUTE:
            muted_s = round(window.began + _WINDOW_S - record.created)
            record.__dict__["fields"] = {**fields, "muted_s": muted_s}
        return True
