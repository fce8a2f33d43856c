"""Market data: bars, indicator values, and the interface of a store of both."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from enum import StrEnum
from functools import partial
from itertools import repeat
from operator import le
from typing import Annotated, Any, Final, NamedTuple, Protocol

from stockworker.handlers.kinds import Checked, Written
from stockworker.market.interval import DAILY, Interval, written
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.wire import Integer, Wire

HIGHEST_PRICE: Final = 1e12
HIGHEST_VOLUME: Final = 1e18
"""Wide enough for any market, narrow enough that no indicator overflows."""

PRICE_TOLERANCE: Final = 1e-4
"""How far open and close may lie outside low and high, as a fraction of the price. Some providers round each price of an
adjusted bar separately. Such a bar is stored unchanged."""

_SYMBOL: Final = re.compile(
    r"(?!.{33}|.*(?:\.\.|//))\.?[A-Za-z0-9^$@#](?:[A-Za-z0-9.^=_:&/$@#+* -]{0,30}[A-Za-z0-9.^=_:&/$@#+*-])?", re.ASCII
)
SYMBOL_CHARACTERS: Final = "letters, digits, spaces and . ^ = _ : & / $ @ # + * -"


class InvalidBar(ValueError):
    """A bar or a symbol is not valid. The text names the field and its value; `unquoted` has no text of the source."""

    def __init__(self, text: str, unquoted: str | None = None) -> None:
        super().__init__(text)
        self.unquoted = text if unquoted is None else unquoted


def check_symbol(text: str) -> str:
    """Return `text` if it is a valid symbol: up to 32 of the characters that exchanges and providers use.

    A symbol begins with a letter, a digit or one of ``^ $ @ #``, perhaps after a point, and does not end with a space.
    It holds neither ``..`` nor ``//``, which would mean something else in an address or in the name of a file.

    Raises:
        InvalidBar: it is not valid.
    """
    if not _SYMBOL.fullmatch(text):
        rules = f"use up to 32 {SYMBOL_CHARACTERS}, beginning with a letter, a digit or ^ $ @ # ."
        raise InvalidBar(f"{text[:40]!r} is not a valid symbol; {rules}", f"symbol is not valid; {rules}")
    return text


class Bar(NamedTuple):
    """One symbol's trading day, or another interval of time. `check_bar` has the rules of a valid one.

    Attributes:
        day: in the exchange's own calendar; of an interval shorter than a day, the time at which it begins (UTC).
        open: first price, like all prices in the currency of the quote; None if it is not known.
        high: highest price; None if it is not known.
        low: lowest price; None if it is not known.
        close: last price.
        volume: units traded; None if it is not known, as for indices and currencies.
        adjusted_close: the close after later splits and dividends, if the provider gives it.
    """

    day: date
    open: float | None
    high: float | None
    low: float | None
    close: float
    volume: float | None = None
    adjusted_close: float | None = None

    def adjusted(self) -> "Bar":
        """The bar with all prices scaled by adjusted close / close, and the same volume.

        Raises:
            InvalidBar: the bar has no adjusted close, a close of 0, or a scaled price is out of bounds.
        """
        if self.adjusted_close is None:
            raise InvalidBar(f"{written(self.day)} has no adjusted close")
        if self.close == 0:
            raise InvalidBar(f"{written(self.day)} has a close of 0, which no factor can adjust")
        factor = self.adjusted_close / self.close
        open_, high, low = (None if price is None else price * factor for price in self[1:4])
        return check_bar(Bar(self.day, open_, high, low, self.adjusted_close, self.volume))


make_bar: Final[Callable[[Iterable[Any]], Bar]] = partial(tuple.__new__, Bar)
"""`Bar._make` without a check of the number of values, in a third of its time."""


def bars_of(days: Sequence[date], columns: Sequence[Sequence[float]]) -> Iterator[Bar]:
    """Bars of columns; without the last column, none has an adjusted close."""
    whole = [*columns, *([repeat(None)] * (len(Bar._fields) - 1 - len(columns)))]
    return map(make_bar, zip(days, *whole, strict=False))


class BarColumns(NamedTuple):
    """The fields of bars, each as a column with a value for each day. Columns that nothing needs may be empty."""

    days: Sequence[date]
    open: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    low: Sequence[float | None] = ()
    close: Sequence[float] = ()
    volume: Sequence[float | None] = ()


def columns_of(bars: Sequence[Bar]) -> BarColumns:
    """All columns of bars."""
    return BarColumns(*list(zip(*bars, strict=True))[:-1]) if bars else BarColumns(())


def check_bar(bar: Bar, *, above_zero: bool = False, tolerance: float = PRICE_TOLERANCE) -> Bar:
    """Return `bar` if it is valid.

    Args:
        bar: any bar.
        above_zero: whether a price of 0, or a negative one, is an error.
        tolerance: how far open and close may lie outside low and high, as a fraction of the price.

    Raises:
        InvalidBar: a number is not finite or is out of bounds, low is above high, or open or close is outside of them.
    """
    if is_usual(bar):
        return bar
    _, open_, high, low, close, volume, adjusted = bar
    for name, price in zip(_PRICES, (open_, high, low, close, adjusted), strict=True):
        if price is not None and not -HIGHEST_PRICE <= price <= HIGHEST_PRICE:  # false for NaN
            raise InvalidBar(f"{name} {price} is not between {-HIGHEST_PRICE:g} and {HIGHEST_PRICE:g}")
        if price is not None and price <= 0 and above_zero:
            raise InvalidBar(f"{name} {price} is not above 0; if its market allows this, set prices to any")
    if volume is not None and not 0 <= volume <= HIGHEST_VOLUME:
        raise InvalidBar(f"volume {volume} is not between 0 and {HIGHEST_VOLUME:g}")
    if low is not None and high is not None and low > high:
        raise InvalidBar(f"low {low} is above high {high}")
    for name, price in (("open", open_), ("close", close)):
        if price is not None and (
            (low is not None and price < low - abs(low) * tolerance)
            or (high is not None and price > high + abs(high) * tolerance)
        ):
            raise InvalidBar(f"{name} {price} is not between low {low} and high {high}; tolerance is {tolerance:g}")
    return bar


def is_usual(bar: Bar) -> bool:
    """Whether a bar is complete, and valid by any rules of `check_bar`, as nearly all are."""
    _, open_, high, low, close, volume, adjusted = bar
    return (
        (open_ is not None and high is not None and low is not None)
        and (0 < low <= open_ <= high <= HIGHEST_PRICE and low <= close <= high)
        and (volume is not None and 0 <= volume <= HIGHEST_VOLUME)
        and (adjusted is None or 0 < adjusted <= HIGHEST_PRICE)
    )


def are_usual(columns: Sequence[Sequence[float]]) -> bool:
    """The same for many bars: the columns of their numbers, without the last one if no bar has an adjusted close."""
    open_, high, low, close, volume, *adjusted = columns
    ordered = (low, open_), (open_, high), (low, close), (close, high)
    return (
        all(all(map(le, one, other)) for one, other in ordered)
        and (min(low) > 0 and max(high) <= HIGHEST_PRICE)
        and (_are_numbers(volume) and min(volume) >= 0 and max(volume) <= HIGHEST_VOLUME)
        and all(_are_numbers(each) and min(each) > 0 and max(each) <= HIGHEST_PRICE for each in adjusted)
    )


def _are_numbers(column: Sequence[float]) -> bool:
    return not math.isnan(sum(column))


_PRICES: Final = ("open", "high", "low", "close", "adjusted_close")


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
    raise InvalidBar(f"{shown(value)} is not a date; write YYYY-MM-DD", "day is not a date; write YYYY-MM-DD")


def shown(value: object) -> str:
    """A value of a source, for an error."""
    return repr(value)[:40] if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"


SYMBOL: Final = Checked("symbol, such as `AAPL` or `^GSPC`", check_symbol)
DAY: Final = Checked("date, `YYYY-MM-DD`", calendar_day)

Count = Annotated[int, Integer(0, 1 << 53)]


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
    """An indicator on one day, or at one time."""

    day: Annotated[
        date, DAY, Wire("The trading day; with an interval shorter than a day, the time, `YYYY-MM-DDThh:mm:ssZ`.")
    ]
    value: Annotated[
        float | dict[str, float] | None,
        Written("number, or object of numbers"),
        Wire("Null if the indicator is not defined on that day."),
    ]


class StoredSymbol(NamedTuple):
    """What a store has of a symbol and an interval."""

    symbol: str
    bars: int
    first_day: date
    last_day: date
    interval: Interval = DAILY


@dataclass(frozen=True, slots=True)
class LastAnswer:
    """The last answer of a provider for a symbol, as far as the next request needs it.

    Attributes:
        request: a digest of the request.
        etag: the validator of that name (RFC 9110, section 8.8); empty if there was none.
        modified: `Last-Modified`; empty if there was none.
        last_day: of the newest bar after the answer was stored.
    """

    request: str
    etag: str
    modified: str
    last_day: date


class ActionKind(StrEnum):
    """What a company did."""

    SPLIT = "split"
    DIVIDEND = "dividend"


class Action(NamedTuple):
    """A split or a dividend.

    Attributes:
        day: the first day on which the share trades without the dividend, or split.
        kind: which of them.
        value: of a split, the new shares for an old one, such as 2; of a dividend, the money for a share.
    """

    day: date
    kind: ActionKind
    value: float


def select_columns(fields: Sequence[str], mark: str) -> str:
    """The query of `MarketStore.columns`, with a mark in place of the symbol, the interval and the last time."""
    columns = ", ".join(("time", *(name for name in fields if name in BarColumns._fields)))
    return f"SELECT {columns} FROM bar WHERE symbol = {mark} AND interval = {mark} AND time <= {mark} ORDER BY time"  # noqa: S608 (names of this class)


class MarketStore(Protocol):
    """Keeps bars and the latest indicator values, by symbol and interval. Several processes may use one at the same time."""

    def identity(self) -> str:
        """16 hexadecimal digits, chosen at random when the store was made: equal if two programs use the same store."""

    def upsert(self, bars: Mapping[str, Sequence[Bar]], interval: Interval = DAILY) -> dict[str, UpsertCounts]:
        """Store all bars of all symbols durably, or none. A bar replaces the stored one of its day.

        No two bars of a symbol may have the same day.
        """

    def bars(
        self, symbol: str, *, interval: Interval = DAILY, last: int | None = None, until: date | None = None
    ) -> list[Bar]:
        """The bars of a symbol in the order of their days: those up to `until`, and of these the `last`."""

    def columns(
        self, symbol: str, fields: Sequence[str], *, interval: Interval = DAILY, until: date | None = None
    ) -> BarColumns:
        """The days and some fields of the same bars up to `until`, in half the time of `bars`."""

    def first_day(self, symbol: str, interval: Interval = DAILY) -> date | None:
        """The day of the oldest bar; None without bars."""

    def last_day(self, symbol: str, interval: Interval = DAILY) -> date | None:
        """The day of the newest bar; None without bars."""

    def symbols(self, interval: Interval | None = None) -> list[str]:
        """Every symbol that has bars, of this interval or of any, in order."""

    def intervals(self, symbol: str) -> list[Interval]:
        """The intervals of which a symbol has bars, the shortest first."""

    def stored_symbols(self) -> list[StoredSymbol]:
        """What there is of each symbol and interval, in order."""

    def indicators(self, symbol: str, interval: Interval = DAILY) -> dict[str, IndicatorValue]:
        """The stored indicator values of a symbol, by label."""

    def delete(self, symbols: Sequence[str], interval: Interval | None = None) -> dict[str, int]:
        """Delete all that is stored of symbols, of this interval or of any; return how many bars each of them had."""

    def store_actions(self, actions: Mapping[str, Sequence[Action]]) -> int:
        """Store the splits and dividends of symbols; return how many are new or different."""

    def actions(self, symbol: str) -> list[Action]:
        """The splits and dividends of a symbol, in the order of their days."""

    def store_indicators(self, values: Mapping[str, Mapping[str, IndicatorValue]], interval: Interval = DAILY) -> None:
        """Store the newest values by symbol and label; one of an earlier day than the stored one changes nothing."""

    def last_answer(self, symbol: str, interval: Interval = DAILY) -> LastAnswer | None:
        """The last answer of a provider for a symbol, if it had a validator."""

    def store_answer(self, symbol: str, answer: LastAnswer | None, interval: Interval = DAILY) -> None:
        """Keep the last answer of a provider for a symbol, or forget it."""

    def begin_request(self, provider: str, most: int, period_s: float) -> float:
        """Count a request, unless a provider has got `most` in the last `period_s` from all that use this store.

        Returns:
            0 if the request was counted and may begin; otherwise seconds after which to ask again.
        """

    def close(self) -> None:
        """Close the file or the connection."""
