"""Adjusts prices for splits and dividends that were stored. Pure."""

# The method of CRSP, which Yahoo, Tiingo and Alpha Vantage use as well. On the ex-day of a split, a share becomes `ratio`
# shares: earlier prices are divided by the ratio, and earlier volumes multiplied. On the ex-day of a dividend, the price falls
# by it: earlier prices are multiplied by 1 - dividend / close, with the last close before that day. A dividend on the day of a
# split is one of a share after the split. The newest prices stay as they are.

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, date, tzinfo
from enum import StrEnum
from typing import Final

from stockworker.market.bars import Action, ActionKind, Bar
from stockworker.market.interval import Interval, time_of

_LARGE: Final = math.log(1.4)
"""A split that changes the price by more than markets usually do in a day: prices without it are adjusted already."""


class Adjust(StrEnum):
    """What prices are adjusted for."""

    NONE = "none"
    SPLITS = "splits"
    DIVIDENDS = "dividends"
    ALL = "all"

    def covers(self, kind: ActionKind) -> bool:
        """Whether prices are adjusted for this."""
        return self is Adjust.ALL or self.value == f"{kind.value}s"


class CantAdjust(ValueError):
    """Prices can't be adjusted. The text has the reason."""


def adjusted_for(
    bars: Sequence[Bar], interval: Interval, actions: Iterable[Action], adjust: Adjust, zone: tzinfo = UTC
) -> list[Bar]:
    """The bars with adjusted prices and volumes.

    Args:
        bars: in the order of their days, with the prices of their time.
        interval: of the bars.
        actions: all that are known.
        adjust: which of them count.
        zone: of the exchange, in which days end.

    Raises:
        CantAdjust: the bars are longer than a day, prices are adjusted already, or a dividend is not below the price.
    """
    counted = sorted(each for each in actions if adjust.covers(each.kind))
    if not counted:
        return [bar._replace(adjusted_close=None) for bar in bars]
    if interval.seconds > 86_400:  # noqa: PLR2004 (a day)
        raise CantAdjust(f"bars of {interval} can't be adjusted; make them of bars of 1d")
    found: list[Bar] = []
    price = volume = 1.0
    after: Bar | None = None
    for bar in reversed(bars):
        day = time_of(bar.day).astimezone(zone).date() if interval.has_time else bar.day
        if after is None:
            counted = [each for each in counted if each.day <= day]
        elif counted and counted[-1].day > day:
            same = [each for each in counted if each.day > day]
            del counted[-len(same) :]
            ratio = math.prod(each.value for each in same if each.kind is ActionKind.SPLIT)
            _check_raw(bar, after, ratio, same[0].day)
            price *= _factor(bar.close, ratio, same)
            volume *= ratio
        found.append(_scaled(bar, price, volume))
        after = bar
    found.reverse()
    return found


def _factor(close: float, ratio: float, actions: Sequence[Action]) -> float:
    """By what prices before these actions are multiplied."""
    dividends = math.fsum(each.value for each in actions if each.kind is ActionKind.DIVIDEND)
    if dividends and dividends >= close / ratio:
        raise CantAdjust(
            f"the dividend of {dividends:g} on {actions[0].day} is not below the close before it, {close / ratio:g}"
        )
    return (1.0 - dividends * ratio / close) / ratio if dividends else 1.0 / ratio


def _check_raw(before: Bar, after: Bar, ratio: float, day: date) -> None:
    """Check that prices fell with a large split: otherwise their source has adjusted them already."""
    if before.close <= 0 or after.close <= 0:
        raise CantAdjust(f"prices of 0 and below, such as before {day}, can't be adjusted")
    expected, seen = math.log(ratio), math.log(before.close / after.close)
    if abs(expected) > _LARGE and abs(seen) < abs(seen - expected):
        raise CantAdjust(
            f"the close went from {before.close:g} to {after.close:g} with the split of {ratio:g} on {day}: these prices are "
            "adjusted for splits already; leave splits out of adjust"
        )


def _scaled(bar: Bar, price: float, volume: float) -> Bar:
    open_, high, low = (None if each is None else each * price for each in bar[1:4])
    return Bar(bar.day, open_, high, low, bar.close * price, None if bar.volume is None else bar.volume * volume)
