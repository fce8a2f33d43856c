"""The keys of the configuration, continued: when exchanges trade."""

import re
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Final

from stockworker.config.document import quoted
from stockworker.config.key import key as _key
from stockworker.config.kinds import PATH, ListOf, ValueKind, Wrong
from stockworker.protocol.frozen import dataclass

_DAY_S: Final = 86_400
_HOURS: Final = re.compile(r"(\d\d):([0-5]\d)-(\d\d):([0-5]\d)", re.ASCII)
_EARLY: Final = re.compile(r"(\d{4}-\d\d-\d\d) ([01]\d|2[0-3]):([0-5]\d)", re.ASCII)

Hours = tuple[tuple[int, int], ...]
"""When an exchange is open: the seconds from midnight to the beginning and the end of each part."""


def read_hours(text: str) -> Hours:
    """Read ``09:30-16:00``, or several parts with commas between them.

    Raises:
        ValueError: it is written in another form, or a part ends before it begins, or before the one before it.
    """
    found: list[tuple[int, int]] = []
    for part in text.split(","):
        match = _HOURS.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{text[:40]!r} is not a session; write 09:30-16:00, or 09:00-11:30,12:30-15:00")
        hour, minute, last_hour, last_minute = map(int, match.groups())
        begin, end = hour * 3600 + minute * 60, last_hour * 3600 + last_minute * 60
        if not (found[-1][1] if found else 0) <= begin < end <= _DAY_S:
            raise ValueError(f"{text[:40]!r} is not a session; each part ends after it begins, and before the next one")
        found.append((begin, end))
    return tuple(found)


def _parse_hours(written: str) -> Hours:
    try:
        return read_hours(written)
    except ValueError as error:
        raise Wrong(f"must be hours of trade: {error}") from None


def _parse_zone(written: str) -> str:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 (takes 2 ms, and most configurations have no exchange)

    with suppress(ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError in newer versions of Python
        return ZoneInfo(written).key
    raise Wrong(f"must be a time zone, such as America/New_York, not {quoted(written)}")


def _parse_day(written: str) -> date:
    with suppress(ValueError):
        found = date.fromisoformat(written)
        if found.isoformat() == written:
            return found
    raise Wrong(f"must be a day, such as 2024-12-25, not {quoted(written)}")


def _parse_early(written: str) -> tuple[date, int]:
    match = _EARLY.fullmatch(written)
    if match is None:
        raise Wrong(f"must be a day and a time, such as 2024-07-03 13:00, not {quoted(written)}")
    return _parse_day(match[1]), int(match[2]) * 3600 + int(match[3]) * 60


_TEXT: Final = {"type": "string"}
_HOURS_KIND: Final = ValueKind(_parse_hours, "hours, such as 09:30-16:00 or 09:00-11:30,12:30-15:00", schema=_TEXT)
_ZONE: Final = ValueKind(_parse_zone, "a time zone, such as America/New_York", schema=_TEXT)
_DAY: Final = ValueKind(_parse_day, "a day, such as 2024-12-25", schema=_TEXT)
_EARLY_CLOSE: Final = ValueKind(_parse_early, "a day and a time, such as 2024-07-03 13:00", schema=_TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeConfig:
    time_zone: str = _key("UTC", _ZONE, "Time zone of the exchange.")
    session: Hours | None = _key(
        None, _HOURS_KIND, "Hours of trade in this time zone.", shown="the times at which most days have bars"
    )
    holidays: tuple[date, ...] = _key(
        (), ListOf(_DAY, "[2024-01-01, 2024-12-25]"), "Days on which the exchange is closed.", shown="none"
    )
    holidays_file: Path | None = _key(
        None, PATH, "Further such days: a file with a day per line (YYYY-MM-DD), in which # begins a comment."
    )
    early_closes: tuple[tuple[date, int], ...] = _key(
        (),
        ListOf(_EARLY_CLOSE, "[2024-07-03 13:00]"),
        "Days on which the exchange closes early, with the time in its time zone.",
        shown="none",
    )
