"""Market data: bars, indicator values, and the interface of a store of both."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Final, Protocol

from stockworker.handlers.kinds import Checked, Written
from stockworker.protocol.wire import Integer, Wire

LOWEST_PRICE: Final = 1e-9
HIGHEST_PRICE: Final = 1e12
HIGHEST_VOLUME: Final = 1e15
"""Wide enough for any market, narrow enough that no indicator overflows or divides by a number near zero."""

PRICE_TOLERANCE: Final = 1e-4
"""How far open and close may lie outside low and high, as a fraction of the price. Some providers round each price of an
adjusted bar separately. Such a bar is stored unchanged."""

_SYMBOL: Final = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.^=_:-]{0,31}")


class InvalidBar(ValueError):
    """A bar or a symbol is not valid. The text names the field and its value; `unquoted` has no text of the source."""

    def __init__(self, text: str, unquoted: str | None = None) -> None:
        super().__init__(text)
        self.unquoted = text if unquoted is None else unquoted


def check_symbol(text: str) -> str:
    """Return `text` if it is a valid symbol: up to 32 of the characters that exchanges and providers use.

    Raises:
        InvalidBar: it is not valid.
    """
    if not _SYMBOL.fullmatch(text):
        allowed = "use up to 32 letters, digits and . ^ = _ : -"
        raise InvalidBar(f"{text[:40]!r} is not a valid symbol; {allowed}", f"symbol is not valid; {allowed}")
    return text


@dataclass(frozen=True, slots=True)
class Bar:
    """One symbol's trading day.

    Attributes:
        day: in the exchange's own calendar.
        open: first price of the day, like all prices in the currency of the quote.
        high: highest price.
        low: lowest price.
        close: last price.
        volume: units traded.
        adjusted_close: the close after later splits and dividends, if the provider gives it.

    Raises:
        InvalidBar: a number is not finite or is out of bounds, or open or close is outside low and high by more than
            `PRICE_TOLERANCE`.
    """

    day: date
    open: float
    high: float
    low: float
    close: float
    volume: float
    adjusted_close: float | None = None

    def __post_init__(self) -> None:
        """Refuse a bar that is not valid."""
        for name in ("open", "high", "low", "close", "adjusted_close"):
            price = getattr(self, name)
            if price is not None and not LOWEST_PRICE <= price <= HIGHEST_PRICE:  # false for NaN
                raise InvalidBar(f"{name} {price} is not between {LOWEST_PRICE:g} and {HIGHEST_PRICE:g}")
        if not 0 <= self.volume <= HIGHEST_VOLUME:
            raise InvalidBar(f"volume {self.volume} is not between 0 and {HIGHEST_VOLUME:g}")
        if self.low > self.high:
            raise InvalidBar(f"low {self.low} is above high {self.high}")
        for name in ("open", "close"):
            price = getattr(self, name)
            if not self.low * (1 - PRICE_TOLERANCE) <= price <= self.high * (1 + PRICE_TOLERANCE):
                raise InvalidBar(f"{name} {price} is not between low {self.low} and high {self.high}")

    def adjusted(self) -> "Bar":
        """The bar with all prices scaled by adjusted close / close, and the same volume.

        Raises:
            InvalidBar: the bar has no adjusted close, or a scaled price is out of bounds.
        """
        if self.adjusted_close is None:
            raise InvalidBar(f"{self.day} has no adjusted close")
        factor = self.adjusted_close / self.close
        return Bar(
            self.day, self.open * factor, self.high * factor, self.low * factor, self.adjusted_close, self.volume
        )


def number(value: object) -> float:
    """Read a number: a JSON number, or text as in CSV.

    Raises:
        InvalidBar: it is not a finite number.
    """
    found = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            found = float(value)
    if not math.isfinite(found):
        raise InvalidBar(f"{_shown(value)} is not a number", "is not a number")
    return found


def calendar_day(value: object) -> date:
    """Read a day written as YYYY-MM-DD. Other ISO 8601 forms are refused, because typing errors look like them.

    Raises:
        InvalidBar: it is written in another form, or the day does not exist.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            day = date.fromisoformat(value)
            if day.isoformat() == value:
                return day
    raise InvalidBar(f"{_shown(value)} is not a date; write YYYY-MM-DD", "day is not a date; write YYYY-MM-DD")


SYMBOL: Final = Checked("symbol, such as `AAPL` or `^GSPC`", check_symbol)
DAY: Final = Checked("date, `YYYY-MM-DD`", calendar_day)

Count = Annotated[int, Integer(0, 1 << 53)]


def _shown(value: object) -> str:
    return repr(value)[:40] if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class UpsertCounts:
    """What storing bars changed."""

    inserted: Annotated[Count, Wire("Bars of days that had none.")] = 0
    updated: Annotated[Count, Wire("Bars that replaced a different one of their day.")] = 0
    unchanged: Annotated[Count, Wire("Bars that were stored already, with the same values.")] = 0

    def __add__(self, other: "UpsertCounts") -> "UpsertCounts":
        """Add the counts."""
        return UpsertCounts(
            self.inserted + other.inserted, self.updated + other.updated, self.unchanged + other.unchanged
        )


@dataclass(frozen=True, slots=True)
class IndicatorValue:
    """An indicator on one day."""

    day: Annotated[date, DAY, Wire("The trading day.")]
    value: Annotated[
        float | dict[str, float] | None,
        Written("number, or object of numbers"),
        Wire("Null if the indicator is not defined on that day."),
    ]


class MarketStore(Protocol):
    """Keeps bars and the latest indicator values, by symbol. Several processes may use one store at the same time."""

    def upsert_bars(self, symbol: str, bars: Sequence[Bar]) -> UpsertCounts:
        """Store all bars durably, or none. A bar replaces the stored one of its day; of two for one day the last wins."""

    def bars(self, symbol: str, *, last: int | None = None, until: date | None = None) -> list[Bar]:
        """The bars of a symbol in the order of their days: those up to `until`, and of these the `last`."""

    def last_day(self, symbol: str) -> date | None:
        """The day of the newest bar; None without bars."""

    def symbols(self) -> list[str]:
        """Every symbol that has bars, in order."""

    def store_indicators(self, symbol: str, values: Mapping[str, IndicatorValue]) -> None:
        """Store the newest value of each indicator; a value of an earlier day than the stored one changes nothing."""

    def close(self) -> None:
        """Close the file or the connection."""
