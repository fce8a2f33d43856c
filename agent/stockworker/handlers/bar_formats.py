"""Reads bars from CSV and JSON as files and providers write them. Checks every row, and keeps invalid ones apart."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Annotated, Final

from stockworker.adapters import clock
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
from stockworker.protocol.fields import FieldError, parse_json
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

_SHOWN_ROWS: Final = 20


class UnreadableBars(ValueError):
    """The data as a whole can't be read: wrong encoding, no header, not JSON."""


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
    """

    symbol: str | None
    columns: Mapping[str, str]
    latest_day: date


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
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableBars(f"not UTF-8 text at byte {error.start}: {error.reason}") from error
    if file_format == "json" or (file_format is None and text.lstrip()[:1] in {"[", "{"}):
        return parse_records(_json_records(text), expected)
    return _collect(_csv_rows(text, expected.columns), expected)


def parse_records(records: Sequence[object], expected: Expected) -> ParsedBars:
    """Read bars from JSON objects.

    Raises:
        UnreadableBars: two keys of an object mean the same field.
    """
    return _collect(_record_rows(records, expected.columns), expected)


def _collect(rows: Iterable[tuple[int, Mapping[str, object]]], expected: Expected) -> ParsedBars:
    parsed = ParsedBars()
    for row_number, row in rows:
        parsed.rows += 1
        try:
            symbol, bar = _parse_row(row, expected)
        except InvalidBar as error:
            parsed.rejected += 1
            if len(parsed.rejected_rows) < _SHOWN_ROWS:
                parsed.rejected_rows.append(RejectedRow(row_number, str(error)))
        else:
            parsed.bars.setdefault(symbol, []).append(bar)
    return parsed


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
        raise InvalidBar(f"{name} {error}") from None


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
        raise InvalidBar(f"symbol {symbol} is not {expected}")
    return symbol


def _csv_rows(text: str, columns: Mapping[str, str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        places = {name: names.index(column) for name, column in _match(names, columns).items()}
        missing = [name for name, each in BAR_FIELDS.items() if each.required and name not in places]
        if missing:
            raise UnreadableBars(
                f"the header has no column for {', '.join(missing)}; its columns are {', '.join(names)[:200]}"
            )
        for cells in reader:
            if cells:
                yield (
                    reader.line_num,
                    {name: cells[place].strip() for name, place in places.items() if place < len(cells)},
                )
    except csv.Error as error:
        raise UnreadableBars(f"line {reader.line_num}: {error}") from error


def _json_records(text: str) -> Sequence[object]:
    try:
        document = parse_json(text)
    except FieldError as error:
        raise UnreadableBars(str(error)) from error
    records = document.get("bars") if isinstance(document, dict) else document
    if not isinstance(records, list):
        raise UnreadableBars("expected a list of bars, or an object with such a list as bars")
    return records


def _record_rows(records: Sequence[object], columns: Mapping[str, str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    matches: dict[tuple[str, ...], Mapping[str, str]] = {}  # nearly always all records have the same keys
    for row_number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            yield row_number, {}
            continue
        keys = tuple(record)
        if keys not in matches:
            matches[keys] = _match(keys, columns)
        yield row_number, {name: record[key] for name, key in matches[keys].items()}


def _match(names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Find the column of each field; other columns are ignored."""
    found = {name: column for name, column in columns.items() if column in names}
    for column in names:
        name = _FIELD_OF_COLUMN.get(re.sub("[^a-z]", "", column.lower()))
        if name is None or name in columns:
            continue
        if name in found:
            raise UnreadableBars(
                f"both {found[name]!r} and {column[:40]!r} hold {name}; remove one, or name the right one in columns"
            )
        found[name] = column
    return found
