"""How a source of bars is written: the options, and the vendors whose sources need no options of their own."""

# `SourceFormat` is the only list of the options. Its fields give the reference page, the errors, the payload of
# `data_import`, the settings of `price_update`, and the profiles of vendors, which are nothing but options.

import codecs
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from stockworker.handlers.kinds import Checked, Custom, unknown
from stockworker.market.bars import PRICE_TOLERANCE, SYMBOL
from stockworker.market.interval import INTERVAL, INTERVALS, Interval
from stockworker.protocol.fields import FieldError, check_integer, check_object, check_text
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.wire import Flag, Integer, Items, Number, Text, Wire, plan_of

FIELDS: Final = (
    "symbol",
    "day",
    "time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "adjusted_close",
    "interval",
    "split",
    "dividend",
)
"""What a row may hold, in the order in which rows are read."""

_MOST_COLUMNS: Final = 1_000
_ENCODINGS: Final = [
    "utf-8",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "iso8859-1",
    "iso8859-2",
    "iso8859-15",
    "cp1250",
    "cp1251",
    "cp1252",
    "cp437",
    "shift_jis",
    "euc_jp",
    "gb18030",
    "big5",
    "euc_kr",
]


class Words(Items):
    """A list of short texts."""

    def __init__(self) -> None:
        super().__init__(Text(20), 50)
        self.notation = "list of texts"


class Content(StrEnum):
    """What sort of text a source is."""

    CSV = "csv"
    JSON = "json"


class Layout(StrEnum):
    """How a JSON source arranges its bars."""

    ROWS = "rows"
    LINES = "lines"
    BY_DATE = "by_date"
    COLUMNS = "columns"


class Prices(StrEnum):
    """Which prices are valid."""

    POSITIVE = "positive"
    ANY = "any"


class TimeOfDay(StrEnum):
    """What a time of day beside the day does."""

    REFUSE = "refuse"
    IGNORE = "ignore"


class UnendedLine(StrEnum):
    """What happens to a last row that may be cut off."""

    REFUSE = "refuse"
    KEEP = "keep"


class AmbiguousTime(StrEnum):
    """What a local time means that exists twice, because clocks went back."""

    REFUSE = "refuse"
    FIRST = "first"
    SECOND = "second"


def encoding_name(text: str) -> str:
    """The name that Python uses for an encoding.

    Raises:
        ValueError: it is not known, or not one of those that are read.
    """
    try:
        name = codecs.lookup(text).name
    except LookupError:
        name = ""
    if name not in _ENCODINGS:
        raise ValueError(f"{text[:40]!r} is not an encoding that is read; use one of {', '.join(_ENCODINGS)}")
    return name


def zone(text: str) -> ZoneInfo:
    """The time zone of a name.

    Raises:
        ValueError: no zone has this name.
    """
    try:
        return ZoneInfo(text)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError in newer versions of Python
        raise ValueError(f"{text[:40]!r} is not a time zone, such as America/New_York") from None
    except KeyError:
        raise ValueError(f"{text[:40]!r} is not a time zone, such as America/New_York") from None


def _one_character(text: str) -> str:
    if len(text) != 1 or text in '"\r\n' or not (text.isprintable() or text == "\t"):
        raise ValueError("must be one character, such as ;")
    return text


def _date_format(text: str) -> str:
    if text not in TIME_UNITS and (not all(code in text for code in ("%d",)) or len(text) > 40):  # noqa: PLR2004 (longer ones are not dates)
        raise ValueError(f"{text[:40]!r} is not a date format, such as %d.%m.%Y, or one of {', '.join(TIME_UNITS)}")
    return text


TIME_UNITS: Final[Mapping[str, int]] = {"epoch": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}
"""Dates that are numbers: how many of its units a second has."""


def _sign(*allowed: str) -> Checked:
    def check(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{text[:10]!r} is not one of {' '.join(map(repr, allowed))}")
        return text

    return Checked(f"one of {', '.join(f'`{sign}`' for sign in allowed)}", check)


def _columns(value: Any) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    for name, column in check_object(value).items():
        if name not in FIELDS:
            raise unknown("field", name, FIELDS)
        try:
            found[name] = check_text(column) if isinstance(column, str) else check_integer(column, 1, _MOST_COLUMNS)
        except FieldError as error:
            raise error.inside(name) from None
    return found


def _symbols(value: Any) -> dict[str, str]:
    found = {}
    for name, theirs in check_object(value).items():
        try:
            found[SYMBOL.read(name)] = check_text(theirs, 100)
        except FieldError as error:
            raise error.inside(str(name)[:40]) from None
    return found


ZONE: Final = Checked("time zone", zone)
MISSING: Final = ("null", "nan", "none", "n/a", "na", "n/d", "-", "--")
COLUMNS_KIND: Final = Custom("object of texts or numbers", _columns)


@dataclass(frozen=True, slots=True)
class SourceFormat:
    """The options."""

    content: Annotated[
        Content | None,
        Wire("What the source is. By default it is `json` if it begins with `[` or `{`, and `csv` otherwise."),
    ] = None
    encoding: Annotated[
        str | None,
        Checked("encoding", encoding_name),
        Wire(
            "The encoding of the text, such as `cp1252`. By default UTF-8, or UTF-16 if it begins with a byte order mark."
        ),
    ] = None
    delimiter: Annotated[
        str | None,
        Checked("one character", _one_character),
        Wire("What separates the cells of a row. By default the most frequent of `,`, `;`, `|` and tab in the header."),
    ] = None
    skip_lines: Annotated[int, Integer(0, 1_000), Wire("Lines before the header that are not read.")] = 0
    header: Annotated[
        bool, Flag(), Wire("Whether a CSV file has a header. Without one, `columns` has the numbers of the columns.")
    ] = True
    comment: Annotated[str | None, Text(10), Wire("Lines that begin with this text are not read.")] = None
    columns: Annotated[
        Mapping[str, str | int] | None,
        COLUMNS_KIND,
        Wire(
            'Columns whose names are not recognised, by field: `{"close": "Last"}`; or their numbers, from 1: `{"close": 5}`.'
        ),
    ] = None
    decimal: Annotated[str, _sign(".", ","), Wire("The decimal sign.")] = "."
    thousands: Annotated[
        str | None, _sign(",", ".", "'", " "), Wire("The sign between groups of three digits. By default none.")
    ] = None
    currency: Annotated[str, Text(20), Wire("Signs before or after a number, such as `$€`.")] = ""
    multipliers: Annotated[
        bool, Flag(), Wire("Whether a number may end in K (thousand), M (million), B (billion) or T (trillion).")
    ] = False
    missing: Annotated[
        tuple[str, ...],
        Words(),
        Wire("Words for a value that is not known, in any case; an empty cell is one as well."),
    ] = MISSING
    date_format: Annotated[
        str | None,
        Checked("format", _date_format),
        Wire(
            "How a day is written if not as `YYYY-MM-DD`: with the codes of strptime, such as `%m/%d/%Y`, or a number of "
            "seconds (`epoch`), milliseconds (`epoch_ms`) or microseconds (`epoch_us`) since 1970."
        ),
    ] = None
    time_zone: Annotated[
        ZoneInfo | None,
        ZONE,
        Wire(
            "The time zone of the exchange, such as `America/New_York`. With an `interval` shorter than a day, times "
            "without a zone are local times there. For days, times are converted to it; by default numbers mean UTC, and "
            "other times stay as they are written."
        ),
    ] = None
    time_of_day: Annotated[
        TimeOfDay,
        Wire(
            "What a time beside the day does, other than midnight, if bars are of days or longer: `refuse` the row, or "
            "`ignore`."
        ),
    ] = TimeOfDay.REFUSE
    interval: Annotated[
        Interval | None,
        INTERVAL,
        Wire(
            f"The interval of the bars: {', '.join(f'`{name}`' for name in INTERVALS)}. By default that of the rows if "
            "they name one, and `1d` otherwise."
        ),
    ] = None
    ambiguous_time: Annotated[
        AmbiguousTime,
        Wire(
            "What a local time means that exists twice, because clocks went back: `refuse` the row, or the `first` or the "
            "`second` one. A local time that does not exist is always refused."
        ),
    ] = AmbiguousTime.REFUSE
    unended_line: Annotated[
        UnendedLine,
        Wire(
            "What happens to the last row of a CSV answer if its line has no end, and the server has sent neither a length "
            "nor chunks: `refuse` it, because its last number may be cut off, or `keep` it. A last cell that is in quotes, "
            "or in a column that is not read, needs no choice."
        ),
    ] = UnendedLine.REFUSE
    prices: Annotated[
        Prices, Wire("Which prices are valid: those above 0 (`positive`), or also 0 and negative ones (`any`).")
    ] = Prices.POSITIVE
    tolerance: Annotated[
        float, Number(0, 1), Wire("How far open and close may lie outside low and high, as a fraction of the price.")
    ] = PRICE_TOLERANCE
    path: Annotated[
        str | None,
        Text(200),
        Wire(
            "The way to the bars in a JSON source: keys with points between them, such as `chart.result[0]`. In a key, `*` is any text."
        ),
    ] = None
    layout: Annotated[
        Layout | None,
        Wire(
            "How a JSON source arranges its bars: a list of objects or lists (`rows`, the default), one value after the "
            "other (`lines`), an object of objects by day (`by_date`), or a list for each field (`columns`)."
        ),
    ] = None
    symbols: Annotated[
        Mapping[str, str] | None,
        Custom("object of texts", _symbols),
        Wire('How the source writes symbols that it names otherwise: `{"BRK.B": "BRK-B"}`.'),
    ] = None


DEFAULTS: Final = SourceFormat()
OPTIONS: Final = tuple(each.name for each in plan_of(SourceFormat).fields)

_OHLC_LETTERS: Final = {"day": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
_OHLC_PLACES: Final = {"day": 1, "open": 2, "high": 3, "low": 4, "close": 5, "volume": 6}
_NEW_YORK: Final = "America/New_York"
_US_DATE: Final = "%m/%d/%Y"

PROFILES: Final[Mapping[str, Mapping[str, Any]]] = {
    "csv": {"content": "csv"},
    "json": {"content": "json"},
    "ndjson": {"content": "json", "layout": "lines"},
    "yahoo": {"content": "csv"},
    "yahoo-chart": {
        "content": "json",
        "path": "chart.result[0]",
        "layout": "columns",
        "columns": {"day": "timestamp"},
        "date_format": "epoch",
        "time_zone": _NEW_YORK,
        "time_of_day": "ignore",
    },
    "yfinance": {
        "skip_lines": 3,
        "header": False,
        "columns": {"day": 1, "close": 2, "high": 3, "low": 4, "open": 5, "volume": 6},
    },
    "stooq": {"content": "csv"},
    "stooq-bulk": {"content": "csv", "date_format": "%Y%m%d"},
    "nasdaq": {"columns": {"close": "Close/Last"}, "date_format": _US_DATE, "currency": "$", "thousands": ","},
    "investing": {
        "columns": {"close": "Price", "volume": "Vol."},
        "date_format": _US_DATE,
        "thousands": ",",
        "multipliers": True,
    },
    "alphavantage": {"content": "csv", "columns": {"day": "timestamp"}, "time_zone": _NEW_YORK},
    "alphavantage-json": {
        "content": "json",
        "path": "*Time Series*",
        "layout": "by_date",
        "time_zone": _NEW_YORK,
    },
    "tiingo": {},
    "twelvedata": {"content": "csv", "delimiter": ";", "columns": {"day": "datetime"}},
    "twelvedata-json": {"content": "json", "path": "values", "columns": {"day": "datetime"}},
    "polygon": {
        "content": "json",
        "path": "results",
        "columns": _OHLC_LETTERS,
        "date_format": "epoch_ms",
        "time_zone": _NEW_YORK,
    },
    "finnhub": {"content": "json", "layout": "columns", "columns": _OHLC_LETTERS, "date_format": "epoch"},
    "binance": {"header": False, "columns": _OHLC_PLACES, "date_format": "epoch_ms"},
    "eodhd": {"time_zone": "UTC"},
    "eodhd-bulk": {"content": "csv", "columns": {"symbol": "Code"}},
    "fmp": {"content": "json", "path": "historical"},
    "marketstack": {"content": "json", "path": "data", "time_of_day": "ignore"},
    "pandas-split": {"content": "json", "path": "data", "columns": _OHLC_PLACES},
    "metatrader": {"columns": {"volume": "<TICKVOL>"}, "date_format": "%Y.%m.%d"},
    "ib": {"date_format": "%Y%m%d", "missing": [*MISSING, "-1"]},
    "excel-de": {
        "columns": {
            "day": "Datum",
            "open": "Eröffnung",
            "high": "Hoch",
            "low": "Tief",
            "close": "Schluss",
            "volume": "Volumen",
        },
        "decimal": ",",
        "thousands": ".",
        "date_format": "%d.%m.%Y",
    },
    "excel-us": {"content": "csv", "date_format": _US_DATE, "thousands": ",", "currency": "$"},
}
"""The options of each vendor's sources."""


def check_options(value: Any) -> dict[str, Any]:
    """Return `value` if it is an object of valid options.

    Raises:
        FieldError: an option is unknown or wrong.
    """
    options = check_object(value)
    for name in options:
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS)
    plan_of(SourceFormat).read(options)
    return options


def _check_formats(value: Any) -> dict[str, dict[str, Any]]:
    found = {}
    for name, options in check_object(value).items():
        try:
            found[str(name)] = {**PROFILES.get(str(options.get("like")), {}), **check_options(_own(options))}
        except FieldError as error:
            raise error.inside(str(name)[:40]) from None
    return found


def _own(options: Any) -> dict[str, Any]:
    """The options of a format in the configuration, without the name of the one that it is like."""
    like = check_object(options).get("like")
    if like is not None and like not in PROFILES:
        raise unknown("format", str(like), PROFILES).inside("like")
    return {name: value for name, value in options.items() if name != "like"}


OPTIONS_KIND: Final = Custom("object of [options](#options)", check_options)
FORMATS_KIND: Final = Custom("object of objects of [options](#options)", _check_formats)


def read_format(
    name: str | None, options: Mapping[str, Any] | None, own: Mapping[str, Mapping[str, Any]] | None = None
) -> SourceFormat:
    """The format of a source.

    Args:
        name: a profile, or a format of the configuration; None for the defaults.
        options: these options are otherwise.
        own: the formats of the configuration.

    Raises:
        FieldError: there is no such format.
    """
    known = {**PROFILES, **(own or {})}
    if name is not None and name not in known:
        raise unknown("format", name, known)
    return plan_of(SourceFormat).read({**(known[name] if name else {}), **(options or {})})
