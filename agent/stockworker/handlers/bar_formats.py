"""Reads bars from CSV and JSON as files and providers write them. Checks every row, and keeps invalid ones apart."""

# The text of a source may be hostile, and most of it is never needed at the same time. So rows are read one by one, from a
# text that is decoded as it is read, and the length of a row, the rows and the symbols are bounded. What stays is a `Bar`
# for each valid row.

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import chain
from typing import Annotated, Final, TextIO

from stockworker.adapters import clock
from stockworker.handlers.json_records import LONGEST_RECORD, NotRecords, read_records
from stockworker.handlers.kinds import Custom
from stockworker.handlers.market import (
    HIGHEST_PRICE,
    HIGHEST_VOLUME,
    LOWEST_PRICE,
    Bar,
    Count,
    InvalidBar,
    calendar_day,
    check_symbol,
    number,
)
from stockworker.protocol.wire import Items, Wire


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
    required: bool = True


_PRICE: Final = f"number, {LOWEST_PRICE:g} to {HIGHEST_PRICE:g}"

BAR_FIELDS: Final[Mapping[str, BarField]] = {
    "symbol": BarField(("symbol", "ticker"), "symbol", "Optional if the payload names the symbol.", required=False),
    "day": BarField(("day", "date"), "date, `YYYY-MM-DD`", "The trading day; tomorrow (UTC) at the latest."),
    "open": BarField(("open",), _PRICE, "First price of the day; not outside low and high by more than 0.01 %."),
    "high": BarField(("high",), _PRICE, "Highest price."),
    "low": BarField(("low",), _PRICE, "Lowest price."),
    "close": BarField(("close",), _PRICE, "Last price; not outside low and high by more than 0.01 %."),
    "volume": BarField(("volume",), f"number, 0 to {HIGHEST_VOLUME:g}", "Units traded."),
    "adjusted_close": BarField(
        ("adjclose", "adjustedclose"), _PRICE, "The close after later splits and dividends. Optional.", required=False
    ),
}
"""What a row holds. A CSV file may name its columns, and a JSON object its keys, in any of the recognised ways."""

RECORDS: Final = Items(Custom("bar", lambda value: value), most=1_000_000)
"""Bars in a payload. Each is checked as a row later, and not as a field."""

_FIELD_OF_COLUMN: Final = {column: name for name, each in BAR_FIELDS.items() for column in each.columns}

MOST_ROWS: Final = 1_000_000
MOST_SYMBOLS: Final = 100_000
"""More than all stock exchanges have together."""

_SHOWN_ROWS: Final = 20
_DECODED_BYTES: Final = 65_536
_LOOKS_LIKE_JSON: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*[\[{]")


class UnreadableBars(ValueError):
    """The data as a whole can't be read: wrong encoding, no header, not JSON, too many rows."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is not a valid bar."""

    row: Annotated[Count, Wire("Line in a CSV file, or place in a JSON list counted from 1.")]
    reason: Annotated[str, Wire("Why it is not a valid bar.")]


@dataclass(slots=True)
class ParsedBars:
    """The content of the rows.

    Attributes:
        bars: by symbol, in the order of the rows.
        rows: number of all rows.
        rejected: number of rows that are not valid bars.
        rejected_rows: the first of these.
    """

    bars: dict[str, list[Bar]] = field(default_factory=dict)
    rows: int = 0
    rejected: int = 0
    rejected_rows: list[RejectedRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Expected:
    """How to read the rows.

    Attributes:
        symbol: the symbol of rows that name none; a row that names another one is rejected.
        columns: by field, the name of its column if that is not recognised.
        latest_day: a bar of a later day is rejected, because `price_update` would then never ask for the real bars.
        most_rows: how many rows are read.
        quoted: whether errors show text of the source. They must not if that is a file of the worker: its submitter may
            not be allowed to read it.
    """

    symbol: str | None
    columns: Mapping[str, str]
    latest_day: date
    most_rows: int = MOST_ROWS
    quoted: bool = True


def tomorrow() -> date:
    """The day after today in UTC: no later day has begun anywhere on earth."""
    return clock.utc_now().date() + timedelta(days=1)


def parse_bars(data: bytes, file_format: str | None, expected: Expected) -> ParsedBars:
    """Read a CSV file with a header, or a JSON list of objects, or a JSON object with such a list as ``bars``.

    Args:
        data: UTF-8, with or without byte order mark.
        file_format: "csv", "json", or None to decide by the first character.
        expected: how to read the rows.

    Raises:
        UnreadableBars: the data as a whole can't be read.
    """
    _check_utf8(data)
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
    if file_format == "json" or (file_format is None and _LOOKS_LIKE_JSON.match(data)):
        try:
            return _collect(_record_rows(read_records(text), expected), expected)
        except NotRecords as error:
            raise UnreadableBars(str(error)) from error
    return _collect(_csv_rows(text, expected), expected)


def _check_utf8(data: bytes) -> None:
    """Refuse other text before anything of it is read."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _DECODED_BYTES):
        kept, _ = decoder.getstate()
        part = data[start : start + _DECODED_BYTES]
        try:
            decoder.decode(part, final=start + len(part) == len(data))
        except UnicodeDecodeError as error:
            place = start - len(kept) + error.start
            raise UnreadableBars(f"not UTF-8 text at byte {place}: {error.reason}") from error


def parse_records(records: Sequence[object], expected: Expected) -> ParsedBars:
    """Read bars from JSON objects.

    Raises:
        UnreadableBars: two keys of an object mean the same field.
    """
    return _collect(_record_rows(records, expected), expected)


def _collect(rows: Iterable[tuple[int, Mapping[str, object]]], expected: Expected) -> ParsedBars:
    parsed = ParsedBars()
    for row_number, row in rows:
        parsed.rows += 1
        _check_rows(parsed.rows, expected)
        try:
            symbol, bar = _parse_row(row, expected)
        except InvalidBar as error:
            parsed.rejected += 1
            if len(parsed.rejected_rows) < _SHOWN_ROWS:
                reason = str(error) if expected.quoted else error.unquoted
                parsed.rejected_rows.append(RejectedRow(row_number, reason))
        else:
            parsed.bars.setdefault(symbol, []).append(bar)
            if len(parsed.bars) > MOST_SYMBOLS:
                raise UnreadableBars(f"more than {MOST_SYMBOLS:,} symbols; split the file")
    return parsed


def _check_rows(count: int, expected: Expected) -> None:
    if count > expected.most_rows:
        raise UnreadableBars(
            f"more than {expected.most_rows:,} rows; split the file, or increase limit_rows of the worker"
        )


def _parse_row(row: Mapping[str, object], expected: Expected) -> tuple[str, Bar]:
    day = calendar_day(_required(row, "day"))
    if day > expected.latest_day:
        raise InvalidBar(f"day {day} is in the future")
    open_, high, low, close, volume = (
        _number(name, _required(row, name)) for name in ("open", "high", "low", "close", "volume")
    )
    adjusted_close = row.get("adjusted_close")
    adjusted = None if adjusted_close is None or adjusted_close == "" else _number("adjusted_close", adjusted_close)
    return _symbol(row, expected.symbol), Bar(day, open_, high, low, close, volume, adjusted)


def _required(row: Mapping[str, object], name: str) -> object:
    value = row.get(name)
    if value is None or value == "":
        raise InvalidBar(f"{name} is missing")
    return value


def _number(name: str, value: object) -> float:
    try:
        return number(value)
    except InvalidBar as error:
        raise InvalidBar(f"{name} {error}", f"{name} {error.unquoted}") from None


def _symbol(row: Mapping[str, object], expected: str | None) -> str:
    found = row.get("symbol")
    if found is None or found == "":
        if expected is None:
            raise InvalidBar("symbol is missing; add it to the row, or to the payload for all rows")
        return expected
    if not isinstance(found, str):
        raise InvalidBar("symbol is not a string")
    symbol = check_symbol(found)
    if expected is not None and symbol != expected:
        raise InvalidBar(f"symbol {symbol} is not {expected}", f"symbol is not {expected}")
    return symbol


class _Lines:
    """The lines of a CSV file. A reader needs all of a row at the same time, so `row_length` is bounded.

    Attributes:
        row_length: characters since the owner has set it to 0.
    """

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._line = 0
        self.row_length = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(LONGEST_RECORD + 1):
            self._line += 1
            self.row_length += len(line)
            if self.row_length > LONGEST_RECORD:
                raise UnreadableBars(f"line {self._line}: the row has more than {LONGEST_RECORD:,} characters")
            yield line


def _csv_rows(text: TextIO, expected: Expected) -> Iterator[tuple[int, Mapping[str, object]]]:
    lines = _Lines(text)
    source = iter(lines)
    header = next(source, "")
    reader = csv.reader(chain((header,), source), delimiter=max(",;\t", key=header.count), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        places = {name: names.index(column) for name, column in _match(names, expected).items()}
        missing = [name for name, each in BAR_FIELDS.items() if each.required and name not in places]
        if missing:
            found = f"; its columns are {', '.join(names)[:200]}" if expected.quoted else ""
            raise UnreadableBars(f"the header has no column for {', '.join(missing)}{found}")
        lines.row_length = 0
        for cells in reader:
            lines.row_length = 0
            if cells:
                yield (
                    reader.line_num,
                    {name: cells[place].strip() for name, place in places.items() if place < len(cells)},
                )
            else:
                _check_rows(reader.line_num, expected)  # an empty line is not a row, but takes time as well
    except csv.Error as error:
        raise UnreadableBars(f"line {reader.line_num}: {error}") from error


def _record_rows(records: Iterable[object], expected: Expected) -> Iterator[tuple[int, Mapping[str, object]]]:
    keys: tuple[str, ...] = ()
    matches: Mapping[str, str] = {}
    for row_number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            yield row_number, {}
            continue
        if keys != tuple(record):  # nearly always all records have the same keys
            keys = tuple(record)
            matches = _match(keys, expected)
        yield row_number, {name: record[key] for name, key in matches.items()}


def _match(names: Sequence[str], expected: Expected) -> dict[str, str]:
    """Find the column of each field; other columns are ignored."""
    found = {name: column for name, column in expected.columns.items() if column in names}
    for column in names:
        name = _FIELD_OF_COLUMN.get(re.sub("[^a-z]", "", column.lower()))
        if name is None or name in expected.columns:
            continue
        if name in found:
            both = f"both {_cut(found[name])} and {_cut(column)}"
            which = both if expected.quoted else "two columns"
            raise UnreadableBars(f"{which} hold {name}; remove one, or name the right one in columns")
        found[name] = column
    return found


def _cut(column: str) -> str:
    """A column name for an error: any text can be one, however long."""
    return repr(column[:40])[:60]
