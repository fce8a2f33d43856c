"""Reports what is doubtful in the bars of a symbol: holes, jumps, outliers, prices that do not move. Pure."""

# No rule can distinguish an error of a provider from a wild market. So a report changes nothing. It
# lists the days that are worth a look at the source.

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import groupby
from typing import Final, Protocol

from stockworker.market.bars import Bar
from stockworker.market.interval import Interval
from stockworker.protocol.frozen import dataclass

_DAY: Final = timedelta(days=1)
_SATURDAY: Final = 5
FEWEST_SYMBOLS: Final = 3
"""Symbols that must have bars around a day before it can be a holiday because most of them have none."""


@dataclass(frozen=True, slots=True)
class Period:
    """Days or times in a row.

    Attributes:
        first: the first of them.
        last: the last of them.
        days: how many trading days or bars they are.
    """

    first: date
    last: date
    days: int


class Schedule(Protocol):
    """When an exchange trades, as far as the bars of an interval show it."""

    def expected(self, first: date, last: date) -> Iterator[date]:
        """The days or times of all bars from the first to the last one, both included."""

    def behind(self, last: date, until: date) -> int:
        """How many trading days, weeks or months are over after the newest bar."""

    def local_day(self, day: date) -> date:
        """The day of a bar, in the calendar of the exchange."""

    def is_open(self, day: date) -> bool:
        """Whether bars are expected on this day of the exchange."""

    def outside(self, days: Iterable[date]) -> Iterator[Period]:
        """Bars in a row whose times are not those of the exchange, on days on which it is open."""


@dataclass(frozen=True, slots=True)
class TradingCalendar:
    """The days on which an exchange is open.

    Attributes:
        holidays: days on which it is closed, besides weekends.
        weekends: whether it is open on Saturdays and Sundays.
    """

    holidays: frozenset[date] = frozenset()
    weekends: bool = False

    def is_open(self, day: date) -> bool:
        """Whether a bar is expected on this day."""
        return day not in self.holidays and (self.weekends or day.weekday() < _SATURDAY)

    def days(self, first: date, last: date) -> Iterator[date]:
        """The open days from the first to the last one, both included."""
        day = first
        while day <= last:
            if self.is_open(day):
                yield day
            day += _DAY

    def expected(self, first: date, last: date) -> Iterator[date]:
        """The same, for bars of days."""
        return self.days(first, last)

    def behind(self, last: date, until: date) -> int:
        """How many trading days there are after the newest bar."""
        return sum(1 for _ in self.days(last + _DAY, until))

    def local_day(self, day: date) -> date:
        """The day of a bar: a day already."""
        return day

    def outside(self, _days: Iterable[date]) -> Iterator[Period]:
        """Nothing: bars of days have no time."""
        return iter(())


@dataclass(frozen=True, slots=True)
class LongerBars:
    """The calendar of bars of weeks or months: each of them has a bar if the exchange is open on one of its days."""

    interval: Interval
    calendar: TradingCalendar = TradingCalendar()

    def expected(self, first: date, last: date) -> Iterator[date]:
        """The first days of the weeks or months from the first to the last one, both included."""
        return iter(dict.fromkeys(self.interval.begin(day) for day in self.calendar.days(first, last)))

    def behind(self, last: date, until: date) -> int:
        """How many weeks or months are over after the newest bar."""
        unfinished = self.interval.begin(until + _DAY)  # of the last one, no day may be missing
        found = self.expected(last, until)
        return sum(1 for day in found if last < day < unfinished)

    def local_day(self, day: date) -> date:
        """The first day of a bar."""
        return day

    def is_open(self, _day: date) -> bool:
        """Whether a bar may begin on this day: readers have moved it to the first one already."""
        return True

    def outside(self, _days: Iterable[date]) -> Iterator[Period]:
        """Nothing: bars of weeks and months have no time."""
        return iter(())


WEEKDAYS: Final = TradingCalendar()


def observed_calendar(days: Iterable[Collection[date]], holidays: Iterable[date] = ()) -> TradingCalendar:
    """The calendar that most symbols of an exchange follow.

    A day is a holiday if fewer than half of the symbols with earlier and later bars have one on it. At least three symbols
    are needed for that. The exchange is open at weekends if this is not so for most Saturdays and Sundays.

    Args:
        days: the days of the bars of each symbol.
        holidays: further days on which the exchange is closed.
    """
    traded: Counter[date] = Counter()
    changes: Counter[date] = Counter()
    for each in filter(None, days):
        traded.update(each)
        changes[min(each)] += 1
        changes[max(each) + _DAY] -= 1
    closed, count = [], 0
    weekend = [0, 0]  # closed and open days
    for day in _all_days(changes):
        count += changes[day]
        is_open = 2 * traded[day] >= count
        if day.weekday() >= _SATURDAY:
            weekend[is_open] += 1
        if count >= FEWEST_SYMBOLS and not is_open:
            closed.append(day)
    weekends = weekend[True] > weekend[False]
    found = (day for day in closed if weekends or day.weekday() < _SATURDAY)
    return TradingCalendar(frozenset((*found, *holidays)), weekends)


def _all_days(changes: Collection[date]) -> Iterator[date]:
    """Every day from the first to the last one."""
    if changes:
        first, last = min(changes), max(changes)
        for number in range((last - first).days):
            yield first + timedelta(days=number)


@dataclass(frozen=True, slots=True)
class Rules:
    """The bounds of usual prices.

    Attributes:
        jump: change of the close from one bar to the next, as a fraction, such as 0.25 for 25 %.
        spike: the same for a bar whose neighbours agree with each other.
        still_bars: number of bars in a row with the same prices.
    """

    jump: float = 0.25
    spike: float = 0.1
    still_bars: int = 5


USUAL_RULES: Final = Rules()
RULES_OF_TIMES: Final = Rules(still_bars=30)
"""For bars of minutes and hours: between two of them, many prices do not move."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the close.

    Attributes:
        day: of the bar after it.
        factor: by which the close changed: 0.5 after a split of 1 into 2.
        split: a split that has this effect, such as `2:1`; None if none has.
    """

    day: date
    factor: float
    split: str | None = None


_SPLITS: Final = (
    *((new, 1) for new in (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 50)),
    *((1, old) for old in (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 50)),
    *((3, 2), (2, 3), (5, 2), (2, 5)),
)
_SPLIT_TOLERANCE: Final = 0.05
"""How far the change of a price may be from that of a split: the market moves on its day as well."""


def suggested_split(factor: float) -> str | None:
    """The usual split whose effect is nearest to this change of a price, if it is near."""
    new, old = min(_SPLITS, key=lambda each: abs(math.log(factor * each[0] / each[1])))
    return f"{new}:{old}" if abs(math.log(factor * new / old)) <= _SPLIT_TOLERANCE else None


@dataclass(frozen=True, slots=True)
class QualityReport:
    """The doubtful days of a symbol.

    Attributes:
        bars: how many there are.
        first_day: of the oldest bar; None without bars.
        last_day: of the newest bar; None without bars.
        behind: trading days after the newest bar that have none.
        holes: trading days between two bars that have none.
        closed_days: days with bars on which the exchange was closed.
        outside: bars at times of a day at which the exchange was closed.
        jumps: changes of the close that the following bars confirm, as after a split.
        outliers: changes of the close that the next bar reverses.
        still: bars in a row with the same prices, as if the provider repeated an old one.
    """

    bars: int
    first_day: date | None
    last_day: date | None
    behind: int
    holes: tuple[Period, ...]
    closed_days: tuple[date, ...]
    outside: tuple[Period, ...]
    jumps: tuple[Change, ...]
    outliers: tuple[Change, ...]
    still: tuple[Period, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is doubtful."""
        lists = (self.holes, self.closed_days, self.outside, self.jumps, self.outliers, self.still)
        return not (self.behind or any(lists))


def report(
    bars: Sequence[Bar],
    *,
    until: date,
    calendar: Schedule = WEEKDAYS,
    rules: Rules = USUAL_RULES,
    split_days: Collection[date] = (),
) -> QualityReport:
    """Examine the bars of a symbol.

    Args:
        bars: in the order of their days.
        until: the last day whose bar should be there: usually yesterday.
        calendar: when the exchange is open.
        rules: what is doubtful.
        split_days: days of splits that are stored; a jump on one is explained.
    """
    if not bars:
        return QualityReport(0, None, None, 0, (), (), (), (), (), ())
    first, last = bars[0].day, bars[-1].day
    known = frozenset(bar.day for bar in bars if calendar.local_day(bar.day) in split_days)
    jumps, outliers = _changes(bars, rules, known)
    days = dict.fromkeys(calendar.local_day(bar.day) for bar in bars)
    return QualityReport(
        bars=len(bars),
        first_day=first,
        last_day=last,
        behind=calendar.behind(last, until),
        holes=tuple(_holes(bars, calendar)),
        closed_days=tuple(day for day in days if not calendar.is_open(day)),
        outside=tuple(calendar.outside(bar.day for bar in bars)),
        jumps=jumps,
        outliers=outliers,
        still=tuple(_still(bars, rules.still_bars)),
    )


def _holes(bars: Sequence[Bar], calendar: Schedule) -> Iterator[Period]:
    stored = frozenset(bar.day for bar in bars)
    for is_stored, group in groupby(calendar.expected(bars[0].day, bars[-1].day), key=stored.__contains__):
        if not is_stored:
            missing = list(group)
            yield Period(missing[0], missing[-1], len(missing))


def _changes(
    bars: Sequence[Bar], rules: Rules, splits: Collection[date]
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """The jumps, and the outliers, which are none: after an outlier, the next bar is compared with the one before it."""
    jumps, outliers = [], []
    before = bars[0].close
    for place, bar in enumerate(bars[1:], 1):
        if before <= 0 or bar.close <= 0:
            before = bar.close
            continue
        change = Change(bar.day, bar.close / before)
        after = bars[place + 1].close if place + 1 < len(bars) else bar.close
        if _size(change.factor) > rules.spike and after > 0 and 4 * _size(after / before) < _size(change.factor):
            outliers.append(change)
            continue
        if _size(change.factor) > rules.jump and bar.day not in splits:
            jumps.append(replace(change, split=suggested_split(change.factor)))
        before = bar.close
    return tuple(jumps), tuple(outliers)


def _size(factor: float) -> float:
    """How large a change is: the same for a price that doubles, and one that falls to half."""
    return max(factor, 1 / factor) - 1


def _still(bars: Sequence[Bar], fewest: int) -> Iterator[Period]:
    for _, group in groupby(bars, key=lambda bar: bar[1:5]):
        same = list(group)
        if len(same) >= fewest:
            yield Period(same[0].day, same[-1].day, len(same))
