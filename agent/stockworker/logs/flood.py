"""Keeps those who can make us log from filling the disk: of each kind of refusal so many lines a minute, and a count."""

import logging
from dataclasses import dataclass
from typing import Final

from stockworker.logs.events import Event

LINES_A_MINUTE: Final = 50
_WINDOW_S: Final = 60.0
_MOST_KINDS: Final = 256

OF_OTHERS: Final = frozenset({Event.MESSAGE_REFUSED, Event.JOB_REJECTED, Event.REPORT_STALE, Event.PUBLISH_REFUSED})
"""Events that anybody who may publish can bring about as often as they like."""


@dataclass(slots=True)
class _Window:
    """What was logged of one kind since `began`, on the clock of the records."""

    began: float
    logged: int = 0
    unlogged: int = 0


class FloodFilter(logging.Filter):
    """Drops lines of a kind beyond `LINES_A_MINUTE`.

    A kind is an event, and of a message the fixed levels of its topic. The last line that is let through says so
    (``muted_s``), and the next one after that minute says how many there were (``unlogged``). Nothing is lost by it
    but words: the dispatcher's counters go on.
    """

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[tuple[Event, str], _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged; notes in its fields what was left out."""
        event = record.__dict__.get("event")
        if event not in OF_OTHERS:
            return True
        fields: dict[str, object] = record.__dict__["fields"]
        kind = (event, "/".join(str(fields.get("topic", "")).split("/")[:2]))
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
