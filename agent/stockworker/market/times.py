"""Reads the times of bars: a cell with a time, or one with a day and another with a time; local times become UTC. Pure."""

# Without a zone, 09:30 can mean any of 24 hours, so a local time needs `time_zone`. When clocks go forward, an hour of local
# times does not exist. When they go back, one exists twice, and `ambiguous_time` decides which one is meant.

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from stockworker.market.bars import InvalidBar, shown
from stockworker.market.interval import time_of
from stockworker.market.source_format import TIME_UNITS, AmbiguousTime, SourceFormat, zone

_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ] *(\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?) ?(Z|[+-]\d\d:?\d\d(?::?\d\d)?)?)?", re.ASCII
)
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,]\d{1,9})?)? ?([AaPp][Mm])?", re.ASCII)
_DIGITS: Final = re.compile(r"\d{1,6}", re.ASCII)
_OFFSET: Final = re.compile(r"[+-]\d\d:?\d\d|Z|UTC|GMT", re.ASCII)
_ZONE: Final = re.compile(r"[A-Za-z_]{1,20}(?:/[A-Za-z_+-]{1,20}){0,2}", re.ASCII)
_WITH_TIME: Final = ("%H", "%I", "%T", "%X", "%c")
_COUNT: Final = re.compile(r"[+-]?\d{1,20}(?:\.\d{0,20})?(?:[eE]\+?\d{1,2})?", re.ASCII)
_FIRST_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOON: Final = 12
_MIDNIGHT: Final = timedelta()


class Times:
    """Reads the times of bars as the options describe them."""

    def __init__(self, written: SourceFormat) -> None:
        self._written = written
        self._format = written.date_format
        self._format_has_time = any(code in (written.date_format or "") for code in _WITH_TIME)

    def read(self, value: object, time: object) -> datetime:
        """The time in a cell, or of a day in a cell with the cell of a time beside it, in UTC.

        Raises:
            InvalidBar: it is not a time, has no zone, or does not exist or exists twice in its zone.
        """
        text = str(value).strip()
        clock_time = None if time is None or str(time).strip() == "" else str(time).strip()
        try:
            found = self._moment(text, clock_time)
        except InvalidBar:
            raise
        except (ValueError, OverflowError):
            raise self._no_time(value) from None
        return self.utc(found)

    def _moment(self, text: str, clock_time: str | None) -> datetime:
        if units := TIME_UNITS.get(self._format or ""):
            if not _COUNT.fullmatch(text):
                raise ValueError
            return _FIRST_TIME + timedelta(seconds=float(text) / units)
        if iso := _ISO.fullmatch(text):
            if iso[2] is None:
                return self._joined(date.fromisoformat(iso[1]), clock_time, text)
            found = datetime.fromisoformat(f"{iso[1]}T{iso[2].replace(',', '.')}{iso[3] or ''}")
            return found if clock_time is None else self._joined(found, clock_time, text)
        if self._format is None or not text.isascii():
            raise ValueError
        if self._format_has_time:
            return datetime.strptime(text, self._format)  # noqa: DTZ007 (its zone is in the format, or in `time_zone`)
        day, _, rest = text.partition(" ")
        if rest and clock_time is None and len(self._format.split()) == 1:
            text, clock_time = day, rest.strip()
        return self._joined(datetime.strptime(text, self._format).date(), clock_time, text)  # noqa: DTZ007 (a day)

    def _joined(self, day: date, clock_time: str | None, text: str) -> datetime:
        """A day with the time of a cell of its own; the day may have a midnight as well."""
        if clock_time is None:
            raise InvalidBar(
                f"{shown(text)} has no time, but its interval needs one; set interval to 1d if bars are of days",
                "day has no time, but its interval needs one; set interval to 1d if bars are of days",
            )
        zone_of_day = None
        if isinstance(day, datetime):
            if _since_midnight(day):
                raise InvalidBar("has a time beside the day, and another one in it", None)
            zone_of_day = day.tzinfo
        clock_text, _, zone_text = clock_time.partition(" ")
        if zone_text[:2].lower() in {"am", "pm"}:
            clock_text, zone_text = f"{clock_text} {zone_text[:2]}", zone_text[2:].strip()
        found = datetime(day.year, day.month, day.day, tzinfo=zone_of_day) + _time_of_day(clock_text)
        return found.replace(tzinfo=_zone_of(zone_text.strip())) if zone_text else found

    def local_day(self, time: date) -> date:
        """The day of a time in the zone of the exchange."""
        return time_of(time).astimezone(self._written.time_zone or UTC).date()

    def utc(self, moment: datetime) -> datetime:
        """A time in UTC, without a part of a second.

        Raises:
            InvalidBar: it has no zone, or does not exist or exists twice in its zone.
        """
        if moment.microsecond:
            moment = moment.replace(microsecond=0)
        if moment.tzinfo is not None and not isinstance(moment.tzinfo, ZoneInfo):
            return moment.astimezone(UTC)
        where = moment.tzinfo or self._written.time_zone
        if where is None:
            how = "has no time zone; set time_zone, such as America/New_York or UTC"
            raise InvalidBar(f"{moment:%Y-%m-%d %H:%M:%S} {how}", f"time {how}")
        local = moment.replace(tzinfo=where)
        first, second = local.utcoffset(), local.replace(fold=1).utcoffset()
        if first != second:
            local = self._chosen(local, gap=(first or _MIDNIGHT) < (second or _MIDNIGHT))
        return local.astimezone(UTC)

    def _chosen(self, local: datetime, *, gap: bool) -> datetime:
        place = f"in {local.tzinfo}, because of its change of clocks"
        if gap:
            raise InvalidBar(f"{local:%Y-%m-%d %H:%M:%S} does not exist {place}", f"time does not exist {place}")
        if self._written.ambiguous_time is AmbiguousTime.REFUSE:
            how = f"exists twice {place}; set ambiguous_time to first or second"
            raise InvalidBar(f"{local:%Y-%m-%d %H:%M:%S} {how}", f"time {how}")
        return local.replace(fold=self._written.ambiguous_time is AmbiguousTime.SECOND)

    def _no_time(self, value: object) -> InvalidBar:
        wanted = self._format or "YYYY-MM-DD hh:mm:ss"
        how = f"is not a time; write {wanted}, or set date_format"
        return InvalidBar(f"{shown(value)} {how}", f"day {how}")


def _time_of_day(text: str) -> timedelta:
    """Read 09:30, 09:30:00, 9:30 AM, or the digits 093000 or 930.

    Raises:
        ValueError: it is not one of these.
    """
    if found := _CLOCK.fullmatch(text):
        hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
        if found[4]:
            if not 1 <= hour <= _NOON:
                raise ValueError
            hour = hour % _NOON + (_NOON if found[4].lower() == "pm" else 0)
    elif _DIGITS.fullmatch(text):
        digits = text.zfill(6) if len(text) > 4 else text.zfill(4).ljust(6, "0")  # noqa: PLR2004 (hhmm or hhmmss)
        hour, minute, second = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    else:
        raise ValueError
    if hour > 23 or minute > 59 or second > 59:  # noqa: PLR2004 (a clock)
        raise ValueError
    return timedelta(hours=hour, minutes=minute, seconds=second)


def _since_midnight(moment: datetime) -> timedelta:
    return timedelta(hours=moment.hour, minutes=moment.minute, seconds=moment.second)


@lru_cache(maxsize=64)
def _zone_of(text: str) -> tzinfo:
    """A zone that a source writes after a time: an offset such as -05:00, or a name such as US/Eastern."""
    if _OFFSET.fullmatch(text):
        offset = "+00:00" if text in {"Z", "UTC", "GMT"} else text
        return datetime.strptime(offset, "%z").tzinfo or UTC
    if not _ZONE.fullmatch(text):
        raise ValueError
    return zone(text)
