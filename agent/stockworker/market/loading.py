"""Reads the bars that a job or a command asks for: of an interval, made of shorter bars if needed."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final

from stockworker.market.adjustment import Adjust, adjusted_for
from stockworker.market.bars import Action, Bar, BarColumns, MarketStore, columns_of
from stockworker.market.interval import DAILY, MONTHLY, WEEKLY, Interval
from stockworker.market.resampling import end, resample
from stockworker.protocol.frozen import dataclass

_SECOND: Final = timedelta(seconds=1)
_LAST_DAY: Final = date(9999, 12, 29)
"""The last day that ends in every zone before the calendar does."""


class Incomplete(StrEnum):
    """What happens to a last bar whose time is not over."""

    KEEP = "keep"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class View:
    """Which bars are wanted.

    Attributes:
        interval: of the bars.
        made_of: make them of stored bars of this interval; by default of the longest that fits, if none are stored.
        zone: of the exchange, in which its days end.
        until: the last day; None for all.
        incomplete: what happens to a last bar whose time is not over.
        adjusted_close: whether prices are scaled to the adjusted close.
        adjust: the splits and dividends that prices are adjusted for.
    """

    interval: Interval = DAILY
    made_of: Interval | None = None
    zone: tzinfo = UTC
    until: date | None = None
    incomplete: Incomplete = Incomplete.KEEP
    adjusted_close: bool = False
    adjust: Adjust = Adjust.NONE

    def complete_at(self, now: datetime) -> datetime | None:
        """When the last bar must be over; None if it may be incomplete."""
        if self.incomplete is Incomplete.KEEP:
            return None
        return now if self.until is None else min(now, self._end_of(self.until))

    def is_stored(self, source: Interval) -> bool:
        """Whether bars of an interval are the wanted ones, without a change."""
        is_adjusted = self.adjusted_close or self.adjust is not Adjust.NONE
        return source is self.interval and not is_adjusted and self.incomplete is Incomplete.KEEP

    def of(self, bars: Sequence[Bar], source: Interval, now: datetime, actions: Iterable[Action] = ()) -> list[Bar]:
        """The wanted bars, made of bars of an interval.

        Raises:
            InvalidBar: one has no adjusted close.
            CantAdjust: they can't be adjusted.
        """
        if self.adjusted_close:
            bars = [bar.adjusted() for bar in bars]
        if self.adjust is not Adjust.NONE:
            bars = adjusted_for(bars, source, actions, self.adjust, self.zone)
        complete_at = self.complete_at(now)
        if source is not self.interval:
            return resample(bars, source, self.interval, self.zone, complete_at)
        found = list(bars)
        if found and complete_at is not None and end(found[-1].day, source, self.zone) > complete_at:
            found.pop()
        return found

    def latest(self, interval: Interval) -> date | None:
        """The last day or time of the bars to read."""
        if self.until is None or not interval.has_time:
            return self.until
        return self._end_of(self.until) - _SECOND

    def _end_of(self, day: date) -> datetime:
        return end(min(day, _LAST_DAY), DAILY, self.zone)


def load(
    store: MarketStore, symbol: str, view: View, now: datetime, *, since: date | None = None, last: int | None = None
) -> list[Bar]:
    """The wanted bars of a symbol; none if it has neither these nor shorter ones that fit.

    Args:
        store: has the bars.
        symbol: whose bars are wanted.
        view: which ones.
        now: decides whether the last bar is complete.
        since: of the `last` bars, those from this day on; by default all.
        last: the newest ones; by default all.

    Raises:
        InvalidBar: one has no adjusted close.
        CantAdjust: they can't be adjusted.
    """
    first = None if since is None else view.interval.earliest(since)
    source = _source(store, symbol, view)
    if source is view.interval and view.adjust is Adjust.NONE and view.incomplete is Incomplete.KEEP:
        bars = store.bars(symbol, interval=source, last=last, until=view.latest(source))
        return view.of([bar for bar in bars if first is None or bar.day >= first], source, now)
    bars = store.bars(symbol, interval=source, until=view.latest(source))
    found = view.of(bars, source, now, store.actions(symbol))
    return [bar for bar in found[-(last or len(found)) :] if first is None or bar.day >= first]


def load_columns(store: MarketStore, symbol: str, view: View, now: datetime, fields: Sequence[str]) -> BarColumns:
    """Some fields of the wanted bars, as `load` finds them; read without the others if they are stored as they are wanted."""
    source = _source(store, symbol, view)
    if view.is_stored(source):
        return store.columns(symbol, fields, interval=source, until=view.latest(source))
    return columns_of(load(store, symbol, view, now))


def _source(store: MarketStore, symbol: str, view: View) -> Interval:
    """The interval of the stored bars of which the wanted ones are made."""
    if view.made_of is not None:
        return view.made_of
    is_longer = view.adjust is not Adjust.NONE and view.interval in {WEEKLY, MONTHLY}
    if not is_longer and store.last_day(symbol, view.interval) is not None:
        return view.interval
    fitting = [each for each in store.intervals(symbol) if each.can_make(view.interval)]
    return fitting[-1] if fitting else view.interval
