"""Intervals of bars, from a minute to a month, and the times at which bars begin. Pure."""

# A bar of a day, a week or a month has a day, in the calendar of its exchange: a `date`. A bar of a shorter interval has the
# time at which it begins: a `datetime` in UTC. So `day` means either, and all bars of a series have the same kind.

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, cast

from stockworker.handlers.kinds import Checked, unknown
from stockworker.protocol.frozen import dataclass

_DAY_S: Final = 86_400
_FIRST_ORDINAL: Final = date(1970, 1, 1).toordinal()
_FIRST_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Interval:
    """How much time a bar is about.

    Attributes:
        name: `5min`, `1h`, `1d`, `1w`, `1mo`.
        seconds: its length; of a month, the shortest one.
    """

    name: str
    seconds: int

    def __str__(self) -> str:
        return self.name

    @property
    def has_time(self) -> bool:
        """Whether its bars begin at a time, and not on a day."""
        return self.seconds < _DAY_S

    def begin(self, day: date) -> date:
        """The first day of a day, week or month. Weeks begin on Mondays."""
        if self is WEEKLY:
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self is MONTHLY else day

    def can_make(self, longer: "Interval") -> bool:
        """Whether bars of a longer interval can be made of those of this one."""
        if longer.seconds <= self.seconds or self is WEEKLY:
            return False
        return not longer.has_time or longer.seconds % self.seconds == 0

    def seconds_of(self, day: date) -> int:
        """The seconds from 1970 (UTC) to a day or time: how stores keep it."""
        if self.has_time:
            return int(time_of(day).timestamp())
        return (day.toordinal() - _FIRST_ORDINAL) * _DAY_S

    def day_of(self, seconds: int) -> date:
        """The day or time of `seconds_of`."""
        if self.has_time:
            return _FIRST_TIME + timedelta(seconds=seconds)
        return _day_of(seconds)

    def all_seconds(self, days: Iterable[date]) -> list[int]:
        """The same for many days."""
        if self.has_time:
            return [int(time_of(day).timestamp()) for day in days]
        return [(day.toordinal() - _FIRST_ORDINAL) * _DAY_S for day in days]

    def all_days(self, seconds: Iterable[int]) -> list[date]:
        """The same for many times."""
        if self.has_time:
            return [_FIRST_TIME + timedelta(seconds=each) for each in seconds]
        return list(map(_day_of, seconds))

    def latest(self, day: date) -> date:
        """The last moment of a day, or the time itself, to compare bars with."""
        if isinstance(day, datetime) or not self.has_time:
            return day
        return datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=UTC)

    def earliest(self, day: date) -> date:
        """The first moment of a day, or the time itself, to compare bars with."""
        if isinstance(day, datetime) or not self.has_time:
            return day
        return datetime(day.year, day.month, day.day, tzinfo=UTC)


@lru_cache(maxsize=50_000)
def _day_of(seconds: int) -> date:
    """The day that begins at a time. The bars of all symbols have the same days."""
    return date.fromordinal(seconds // _DAY_S + _FIRST_ORDINAL)


_MINUTES: Final = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)
_HOURS: Final = (1, 2, 3, 4, 6, 8, 12)

INTERVALS: Final[Mapping[str, Interval]] = {
    **{f"{count}min": Interval(f"{count}min", count * 60) for count in _MINUTES},
    **{f"{count}h": Interval(f"{count}h", count * 3600) for count in _HOURS},
    "1d": Interval("1d", _DAY_S),
    "1w": Interval("1w", 7 * _DAY_S),
    "1mo": Interval("1mo", 28 * _DAY_S),
}
"""Every interval, the shortest first: each of them divides an hour, a day, or is one of the calendar."""

DAILY: Final = INTERVALS["1d"]
WEEKLY: Final = INTERVALS["1w"]
MONTHLY: Final = INTERVALS["1mo"]

_NAME: Final = re.compile(
    r"(\d{1,5}) ?(?:(m|mins?|minutes?)|(h|hours?|hrs?)|(d|days?)|(w|wk|weeks?)|(M|mo|months?))", re.ASCII
)
_LETTERS: Final = {"D": DAILY, "W": WEEKLY, "M": MONTHLY, "daily": DAILY, "weekly": WEEKLY, "monthly": MONTHLY}


def interval(text: str) -> Interval:
    """The interval of a name.

    Raises:
        FieldError: no interval has this name.
    """
    if text not in INTERVALS:
        raise unknown("interval", text, INTERVALS)
    return INTERVALS[text]


def vendor_interval(text: str) -> Interval:
    """The interval that a vendor means: `5m`, `60min`, `1 hour`, `1day`, `1M`, `D`, or a number of minutes.

    Raises:
        FieldError: it is not one of these names.
    """
    found = _LETTERS.get(text) or INTERVALS.get(text)
    if found is not None:
        return found
    seconds = 60 * int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0  # noqa: PLR2004 (more than a month)
    if match := _NAME.fullmatch(text):
        count, minute, hour, day, week, _month = match.groups()
        unit = 60 if minute else 3600 if hour else _DAY_S if day else 7 * _DAY_S if week else 28 * _DAY_S
        seconds = int(count) * unit
    known = {each.seconds: each for each in INTERVALS.values()}
    return known[seconds] if seconds in known else interval(text)


def time_of(day: date) -> datetime:
    """The time of a bar of an interval that `has_time`."""
    return cast(datetime, day)


def written(day: date) -> str:
    """A day as `YYYY-MM-DD`, or a time as `YYYY-MM-DDThh:mm:ssZ`."""
    return f"{day:%Y-%m-%dT%H:%M:%SZ}" if isinstance(day, datetime) else day.isoformat()


INTERVAL: Final = Checked("interval, such as `5min`", interval)
