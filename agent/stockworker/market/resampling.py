"""Makes longer bars of shorter ones. Pure."""

# A longer bar opens with its first bar and closes with its last one. A value that one of them lacks is not known.
# Hours are counted from midnight, and days end at midnight, in the zone of the exchange. So what a bar belongs to depends on
# its own time only, and bars of hours give the same weeks as the minutes that they are made of.

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import groupby
from typing import Final

from stockworker.market.bars import Bar
from stockworker.market.interval import MONTHLY, Interval, time_of

_HOUR_S: Final = 3_600


def resample(
    bars: Sequence[Bar], source: Interval, target: Interval, zone: tzinfo = UTC, complete_at: datetime | None = None
) -> list[Bar]:
    """The bars of a longer interval.

    Args:
        bars: in the order of their times.
        source: their interval; it `can_make` the other one.
        target: the interval of the result.
        zone: of the exchange.
        complete_at: leave out a last bar whose time is not over then; by default keep it.
    """
    groups = groupby(bars, key=lambda bar: begin(bar.day, source, target, zone))
    found = [_joined(day, list(group)) for day, group in groups]
    if found and complete_at is not None and end(found[-1].day, target, zone) > complete_at:
        found.pop()
    return found


def begin(day: date, source: Interval, target: Interval, zone: tzinfo = UTC) -> date:
    """The day or time of the longer bar to which a bar belongs."""
    if not source.has_time:
        return target.begin(day)
    local = time_of(day).astimezone(zone)
    if not target.has_time:
        return target.begin(local.date())
    seconds = local.hour * 3_600 + local.minute * 60 + local.second
    start = (local - timedelta(seconds=seconds % target.seconds)).replace(microsecond=0)
    # An hour that exists twice is two hours; of longer intervals, both are parts of one.
    return start.replace(fold=local.fold if target.seconds <= _HOUR_S else 0).astimezone(UTC)


def end(day: date, interval: Interval, zone: tzinfo = UTC) -> datetime:
    """When the time of a bar is over."""
    if not interval.has_time:
        after = day + timedelta(seconds=interval.seconds)
        after = (day.replace(day=28) + timedelta(days=4)).replace(day=1) if interval is MONTHLY else after
        return datetime(after.year, after.month, after.day, tzinfo=zone).astimezone(UTC)
    length = timedelta(seconds=interval.seconds)
    if interval.seconds <= _HOUR_S:
        return time_of(day) + length
    return (time_of(day).astimezone(zone) + length).astimezone(UTC)


def _joined(day: date, bars: Sequence[Bar]) -> Bar:
    high, low = (_known([getattr(bar, name) for bar in bars]) for name in ("high", "low"))
    volume = _known([bar.volume for bar in bars])
    return Bar(
        day,
        bars[0].open,
        None if high is None else max(high),
        None if low is None else min(low),
        bars[-1].close,
        None if volume is None else math.fsum(volume),
        bars[-1].adjusted_close,
    )


def _known(values: Sequence[float | None]) -> list[float] | None:
    found = [value for value in values if value is not None]
    return found if len(found) == len(values) else None
