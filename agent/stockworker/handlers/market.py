"""Market data: what a bar is, and what a store of bars can do. Nothing here does I/O."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Final, Protocol

LOWEST_PRICE: Final = 1e-9
HIGHEST_PRICE: Final = 1e12
HIGHEST_VOLUME: Final = 1e15
"""Wide enough for any market, narrow enough that no indicator overflows or divides by almost nothing."""

PRICE_TOLERANCE: Final = 1e-4
"""How far open and close may lie outside low and high, as a part of the price: some providers round each price of an
adjusted bar by itself. Such a bar is stored as it came."""

_SYMBOL: Final = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.^=_:-]{0,31}")


class InvalidBar(ValueError):
    """A bar, or its symbol, can't be true. The text names the field and its value."""


def check_symbol(text: str) -> str:
    """Return `text` if it can be a symbol: up to 32 of the characters that exchanges and providers use.

    Raises:
        InvalidBar: it can't.
    """
    if not _SYMBOL.fullmatch(text):
        raise InvalidBar(f"{text[:40]!r} is no symbol: up to 32 letters, digits and . ^ = _ : -")
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
        adjusted_close: the close after later splits and dividends, where the provider gives it.

    Raises:
        InvalidBar: a number is not finite or out of bounds, or open or close lie outside low and high by more than
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
        """Refuse what can't be true."""
        for name in ("open", "high", "low", "close", "adjusted_close"):
            price = getattr(self, name)
            if price is not None and not LOWEST_PRICE <= price <= HIGHEST_PRICE:  # not a number fails it too
                raise InvalidBar(f"{name} {price} is not within {LOWEST_PRICE:g} and {HIGHEST_PRICE:g}")
        if not 0 <= self.volume <= HIGHEST_VOLUME:
            raise InvalidBar(f"volume {self.volume} is not within 0 and {HIGHEST_VOLUME:g}")
        if self.low > self.high:
            raise InvalidBar(f"low {self.low} is above high {self.high}")
        for name in ("open", "close"):
            price = getattr(self, name)
            if not self.low * (1 - PRICE_TOLERANCE) <= price <= self.high * (1 + PRICE_TOLERANCE):
                raise InvalidBar(f"{name} {price} is not within low {self.low} and high {self.high}")

    def adjusted(self) -> "Bar":
        """The bar with all its prices brought to the level of the adjusted close; the volume stays as it was.

        Raises:
            InvalidBar: there is no adjusted close, or a price gets out of bounds.
        """
        if self.adjusted_close is None:
            raise InvalidBar(f"{self.day} has no adjusted close")
        factor = self.adjusted_close / self.close
        return Bar(
            self.day, self.open * factor, self.high * factor, self.low * factor, self.adjusted_close, self.volume
        )


def number(value: object) -> float:
    """Read a number as JSON and CSV hold it.

    Raises:
        InvalidBar: it is none, or not finite.
    """
    found = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            found = float(value)
    if not math.isfinite(found):
        raise InvalidBar(f"{_shown(value)} is not a number")
    return found


def calendar_day(value: object) -> date:
    """Read a day written as YYYY-MM-DD; other ISO 8601 forms are refused, because a mistake looks like one of them.

    Raises:
        InvalidBar: it is written otherwise, or does not exist.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            day = date.fromisoformat(value)
            if day.isoformat() == value:
                return day
    raise InvalidBar(f"{_shown(value)} is no date: write YYYY-MM-DD")


def _shown(value: object) -> str:
    return repr(value)[:40] if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class UpsertCounts:
    """What storing bars changed."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0

    def __add__(self, other: "UpsertCounts") -> "UpsertCounts":
        """Count both."""
        return UpsertCounts(
            self.inserted + other.inserted, self.updated + other.updated, self.unchanged + other.unchanged
        )


@dataclass(frozen=True, slots=True)
class IndicatorValue:
    """An indicator on one day: a number, several by name, or None where it is not defined on that day."""

    day: date
    value: float | dict[str, float] | None


class MarketStore(Protocol):
    """Keeps bars and the latest indicator values, by symbol. Several processes may use one store at once."""

    def upsert_bars(self, symbol: str, bars: Sequence[Bar]) -> UpsertCounts:
        """Store the bars, all or none, durably; a bar replaces the one of its day, and the last of a day wins."""

    def bars(self, symbol: str, *, last: int | None = None, until: date | None = None) -> list[Bar]:
        """The bars of a symbol in the order of their days: up to and including `until`, the `last` of these."""

    def last_day(self, symbol: str) -> date | None:
        """The day of the newest bar; None if there is none."""

    def symbols(self) -> list[str]:
        """Every symbol that has bars, in order."""

    def store_indicators(self, symbol: str, values: Mapping[str, IndicatorValue]) -> None:
        """Keep the newest value of each indicator: one of an earlier day than what is there changes nothing."""

    def indicators(self, symbol: str) -> dict[str, IndicatorValue]:
        """What `store_indicators` has kept, by indicator."""

    def close(self) -> None:
        """Let go of the file or the connection."""
