"""The fields of a row of bars, and the columns in which they are found."""

from collections.abc import Mapping
from typing import Final

from stockworker.handlers.kinds import Custom
from stockworker.market.bars import HIGHEST_PRICE, HIGHEST_VOLUME
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.wire import Items


@dataclass(frozen=True, slots=True)
class BarField:
    """A field of a row.

    Attributes:
        columns: the column names that are recognised, in lower case and without anything but letters.
        kind: what is accepted.
        meaning: for the reference page.
        required: whether a row without it is invalid.
    """

    columns: tuple[str, ...]
    kind: str
    meaning: str
    required: bool = False


_PRICE: Final = f"number, above 0, to {HIGHEST_PRICE:g}"

BAR_FIELDS: Final[Mapping[str, BarField]] = {
    "symbol": BarField(("symbol", "ticker"), "symbol", "Optional if the payload names the symbol."),
    "day": BarField(
        ("day", "date", "datetime"),
        "date, `YYYY-MM-DD`",
        "The trading day; tomorrow (UTC) at the latest. If the interval is shorter than a day: the time at which the bar "
        "begins, such as `2024-01-02T14:30:00Z`.",
        required=True,
    ),
    "time": BarField(
        ("time",),
        "time, `hh:mm:ss`",
        "The time at which the bar begins, if `day` has none. Of an interval of a day or longer, any other time than midnight "
        "makes the row invalid. Without a day, it is the day with the time.",
    ),
    "open": BarField(
        ("open",), _PRICE, "First price of the day; not outside low and high by more than 0.01 %. Optional."
    ),
    "high": BarField(("high",), _PRICE, "Highest price. Optional."),
    "low": BarField(("low",), _PRICE, "Lowest price. Optional."),
    "close": BarField(("close",), _PRICE, "Last price; not outside low and high by more than 0.01 %.", required=True),
    "volume": BarField(("volume", "vol"), f"number, 0 to {HIGHEST_VOLUME:g}", "Units traded. Optional."),
    "adjusted_close": BarField(
        ("adjclose", "adjustedclose"), _PRICE, "The close after later splits and dividends. Optional."
    ),
    "interval": BarField(
        ("interval", "per", "timeframe"),
        "interval",
        "Optional; the same in all rows. Names of vendors, such as `5m`, `60` or `D`, are read too.",
    ),
    "split": BarField(
        ("split", "splits", "stocksplits", "splitfactor", "splitcoefficient", "splitratio"),
        "number, or `2:1`",
        "New shares for an old one, from this day on; 1, 0 or nothing on other days. Optional.",
    ),
    "dividend": BarField(
        ("dividend", "dividends", "divcash", "dividendamount", "cashdividend"),
        "number, at least 0",
        "Money for a share, whose ex-day this day is; 0 or nothing on other days. Optional.",
    ),
}
"""What a row holds. A CSV file may name its columns, and a JSON object its keys, in any of the recognised ways."""

RECORDS: Final = Items(Custom("bar", lambda value: value), most=1_000_000)
"""Bars in a payload. Each is checked as a row later, and not as a field."""

FIELD_OF_COLUMN: Final = {column: name for name, each in BAR_FIELDS.items() for column in each.columns}
"""The field of each column that is recognised."""
