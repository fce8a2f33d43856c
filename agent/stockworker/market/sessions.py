"""The times at which an exchange trades within a day, for the report on the quality of bars that have a time. Pure."""

# An exchange counts its hours by the clocks of its city. So the times of bars become local ones, and a session is a set of
# local times. Without a given session, the bars themselves show it: it has the times at which most days have a bar.
# On some days an exchange closes early. Then most symbols have no bar at the last times of the day, as on a holiday.

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import groupby
from typing import Final

from stockworker.config.exchanges import Hours
from stockworker.market.interval import Interval, time_of
from stockworker.market.quality import FEWEST_SYMBOLS, Period, TradingCalendar, observed_calendar
from stockworker.protocol.frozen import dataclass

_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class TradingHours:
    """The times at which bars are expected.

    Attributes:
        calendar: the days on which the exchange is open.
        times: at which bars begin on such a day: seconds from midnight, in order.
        zone: of the exchange.
        closed: further times at which it was closed, as after an early end.
        early: those of them that are known, and not only observed: no bar is expected to begin then.
    """

    calendar: TradingCalendar
    times: tuple[int, ...]
    zone: tzinfo = UTC
    closed: frozenset[datetime] = frozenset()
    early: frozenset[datetime] = frozenset()

    def expected(self, first: date, last: date) -> Iterator[date]:
        """The beginnings of all bars from the first to the last one, both included."""
        begin, end = time_of(first), time_of(last)
        for day in self.calendar.days(self.local_day(begin), self.local_day(end)):
            yield from (each for each in self.of_day(day) if begin <= each <= end and each not in self.closed)

    def of_day(self, day: date) -> Iterator[datetime]:
        """The times at which bars begin on a day with a whole session."""
        midnight = datetime.combine(day, time(), self.zone)
        for seconds in self.times:
            local = midnight + timedelta(seconds=seconds)
            found = local.astimezone(UTC)
            if found.astimezone(self.zone).replace(tzinfo=None) == local.replace(
                tzinfo=None
            ):  # not one that clocks skip
                yield found

    def behind(self, last: date, until: date) -> int:
        """Trading days after the newest bar."""
        return self.calendar.behind(self.local_day(last), until)

    def local_day(self, day: date) -> date:
        """The day of a time, in the calendar of the exchange."""
        return time_of(day).astimezone(self.zone).date()

    def is_open(self, day: date) -> bool:
        """Whether it is a trading day."""
        return self.calendar.is_open(day)

    def outside(self, days: Iterable[date]) -> Iterator[Period]:
        """Bars in a row that begin at other times."""
        known = frozenset(self.times)
        for day, group in groupby(days, key=self.local_day):
            if self.calendar.is_open(day):
                others = [each for each in group if seconds_of_day(each, self.zone) not in known or each in self.early]
                if others:
                    yield Period(others[0], others[-1], len(others))


def seconds_of_day(moment: date, zone: tzinfo) -> int:
    """The seconds from midnight to a time, by the clocks of a zone."""
    local = time_of(moment).astimezone(zone)
    return local.hour * 3600 + local.minute * 60 + local.second


def observed_hours(
    times: Sequence[Sequence[date]],
    interval: Interval,
    zone: tzinfo,
    hours: Hours | None = None,
    holidays: Iterable[date] = (),
    early_closes: Mapping[date, int] | None = None,
) -> TradingHours:
    """The hours that most symbols of an exchange follow.

    Args:
        times: of the bars of each symbol, in order.
        interval: of the bars.
        zone: of the exchange.
        hours: when it is open, if that is known.
        holidays: further days on which it is closed.
        early_closes: days on which it closes early, with the seconds from midnight.
    """
    days = [{time_of(each).astimezone(zone).date() for each in of_symbol} for of_symbol in times]
    calendar = observed_calendar(days, holidays)
    counts = Counter(seconds_of_day(each, zone) for of_symbol in times for each in of_symbol)
    usual = _usual(counts, sum(map(len, days))) if hours is None else _within(counts, interval, hours)
    found = TradingHours(calendar, usual, zone)
    early = frozenset(_after(found, early_closes or {}))
    return TradingHours(calendar, usual, zone, early.union(_closed(found, times, days)), early)


def _usual(counts: Counter[int], days: int) -> tuple[int, ...]:
    """The times at which at least half of the days have a bar."""
    return tuple(sorted(seconds for seconds, count in counts.items() if 2 * count >= days))


def _within(counts: Counter[int], interval: Interval, hours: Hours) -> tuple[int, ...]:
    """The times of bars that are, at least with a part, within these hours. Bars may begin at full hours or not."""
    shifts = Counter[int]()
    for seconds, count in counts.items():
        shifts[seconds % interval.seconds] += count
    shift = shifts.most_common(1)[0][0] if shifts else 0
    every = range(shift, _DAY_S, interval.seconds)
    return tuple(each for each in every if any(each < end and each + interval.seconds > begin for begin, end in hours))


def _after(hours: TradingHours, early_closes: Mapping[date, int]) -> Iterator[datetime]:
    """The times of the usual session after an early end."""
    for day, end in early_closes.items():
        yield from (each for each in hours.of_day(day) if seconds_of_day(each, hours.zone) >= end)


def _closed(
    hours: TradingHours, times: Sequence[Sequence[date]], days: Sequence[Collection[date]]
) -> Iterator[datetime]:
    """The times at which fewer than half of the symbols with bars of the day have one, of at least three symbols."""
    symbols = Counter(day for of_symbol in days for day in of_symbol)
    traded = Counter(each for of_symbol in times for each in of_symbol)
    for day, count in symbols.items():
        if count >= FEWEST_SYMBOLS and hours.calendar.is_open(day):
            begin = datetime.combine(day, time(), hours.zone)
            for each in hours.expected(begin, begin + timedelta(days=1) - timedelta(seconds=1)):
                if 2 * traded[each] < count:
                    yield time_of(each)
