"""Reads bars from CSV and JSON as files and providers write them. Every row is checked; bad ones are kept apart."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from stockworker.adapters import clock
from stockworker.handlers.market import Bar, InvalidBar, calendar_day, check_symbol, number
from stockworker.protocol.fields import FieldError, parse_json

FIELDS: Final = ("symbol", "day", "open", "high", "low", "close", "volume", "adjusted_close")

_USUAL_NAMES: Final = {
    "symbol": "symbol",
    "ticker": "symbol",
    "day": "day",
    "date": "day",
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "adjclose": "adjusted_close",
    "adjustedclose": "adjusted_close",
}
"""What columns are called, in lower case and without anything but letters, and the field that is meant."""

_SHOWN_ROWS: Final = 20


class UnreadableBars(ValueError):
    """The data as a whole can't be read: wrong encoding, no header, no JSON."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that holds no valid bar; `number` is its line in a CSV file, its place in a JSON list counted from 1."""

    number: int
    reason: str


@dataclass(slots=True)
class ParsedBars:
    """What the rows held.

    Attributes:
        bars: by symbol, in the order of the rows.
        rows: how many rows there were.
        rejected: how many of them hold no valid bar.
        rejected_rows: the first of these.
    """

    bars: dict[str, list[Bar]] = field(default_factory=dict)
    rows: int = 0
    rejected: int = 0
    rejected_rows: list[RejectedRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the rows are read as.

    Attributes:
        symbol: the symbol of rows that name none; a row that names another is rejected.
        columns: by field, the name of its column where it is not a usual one.
        latest_day: a bar of a later day is rejected: it would keep the real bars from being asked for.
    """

    symbol: str | None
    columns: Mapping[str, str]
    latest_day: date


def tomorrow() -> date:
    """The latest day that has begun anywhere on earth, and then some."""
    return datetime.fromtimestamp(clock.wall(), UTC).date() + timedelta(days=1)


def parse_bars(data: bytes, file_format: str | None, expected: Expected) -> ParsedBars:
    """Read a CSV file with a header, or a JSON list of objects, which may stand under ``bars`` in an object.

    Args:
        data: UTF-8, with or without byte order mark.
        file_format: "csv", "json", or None to tell by the first character.
        expected: what the rows are read as.

    Raises:
        UnreadableBars: the data as a whole can't be read.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableBars(f"is not UTF-8 text: byte {error.start}: {error.reason}") from error
    if file_format == "json" or (file_format is None and text.lstrip()[:1] in {"[", "{"}):
        return parse_records(_json_records(text), expected)
    return _collect(_csv_rows(text, expected.columns), expected)


def parse_records(records: Sequence[object], expected: Expected) -> ParsedBars:
    """Read bars that came as JSON objects.

    Raises:
        UnreadableBars: two fields of an object mean the same.
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
    day = calendar_day(_needed(row, "day"))
    if day > expected.latest_day:
        raise InvalidBar(f"day {day} lies in the future")
    open_, high, low, close, volume = (
        _number(name, _needed(row, name)) for name in ("open", "high", "low", "close", "volume")
    )
    adjusted_close = row.get("adjusted_close")
    adjusted = None if adjusted_close is None or adjusted_close == "" else _number("adjusted_close", adjusted_close)
    return _symbol(row, expected.symbol), Bar(day, open_, high, low, close, volume, adjusted)


def _needed(row: Mapping[str, object], name: str) -> object:
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
            raise InvalidBar("symbol is missing: name it in the payload if the rows don't")
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
        missing = [name for name in FIELDS[1:-1] if name not in places]
        if missing:
            raise UnreadableBars(
                f"the header has no column for {', '.join(missing)}; columns: {', '.join(names)[:200]}"
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
        raise UnreadableBars("expected a list of bars, or an object with one under bars")
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
    """Find for each field the column that holds it; columns that hold none are ignored."""
    found = {name: column for name, column in columns.items() if column in names}
    for column in names:
        name = _USUAL_NAMES.get(re.sub("[^a-z]", "", column.lower()))
        if name is None or name in columns:
            continue
        if name in found:
            raise UnreadableBars(f"both {found[name]!r} and {column[:40]!r} are {name}: name one in columns")
        found[name] = column
    return found
