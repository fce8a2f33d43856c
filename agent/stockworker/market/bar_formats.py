"""Reads bars from CSV and JSON as files and providers write them. Checks every row, and keeps invalid ones apart."""

# The text of a source may be hostile, and most of it is never needed at the same time. So rows are read one by one, from a
# text that is decoded as it is read, and the length of a row, the rows and the symbols are bounded. What stays is a `Bar`
# for each valid row. Rows that are as usual are checked some hundred at a time, column by column, without a loop in Python.

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import date, timedelta
from enum import StrEnum
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any, BinaryIO, Final, TextIO

from stockworker.adapters import clock
from stockworker.market.bar_fields import FIELD_OF_COLUMN
from stockworker.market.bars import (
    HIGHEST_PRICE,
    Action,
    ActionKind,
    Bar,
    InvalidBar,
    bars_of,
    check_bar,
    check_symbol,
)
from stockworker.market.cells import KEPT_DAYS, Cells
from stockworker.market.interval import DAILY, MONTHLY, WEEKLY, Interval, vendor_interval
from stockworker.market.interval import written as written_day
from stockworker.market.json_records import LONGEST_RECORD, Lists, NotRecords, read_records
from stockworker.market.parsed_bars import ParsedBars
from stockworker.market.source_format import (
    DEFAULTS,
    FIELDS,
    Content,
    Layout,
    Prices,
    SourceFormat,
    UnendedLine,
    encoding_name,
)
from stockworker.market.times import Times
from stockworker.protocol.fields import FieldError
from stockworker.protocol.frozen import dataclass

MOST_ROWS: Final = 1_000_000
MOST_SYMBOLS: Final = 100_000
"""More than all stock exchanges have together."""

_BATCH: Final = 500  # rows
_RUN: Final = 8  # rows of the same symbol that are worth more than one call

_NO_ACTION: Final = frozenset((None, "", "0", "0.0", "0.00"))
"""Cells of splits and dividends on most days."""

_DECODED_BYTES: Final = 65_536
_LOOKS_LIKE_JSON: Final = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[ \t\r\n\0]*[\[{]")
_DELIMITERS: Final = ",;\t|"
_SEPARATOR_LINE: Final = re.compile(r"\ufeff?sep=(.)\s*", re.IGNORECASE)


_CUT: Final = (
    "is the last one, its line has no end, and the server has sent no length: it may be cut off; set unended_line to keep "
    "if the source always ends like this"
)

MOST_ACTIONS: Final = 100_000
"""Splits and dividends of a source: several for each share of the world."""


class RowKind(StrEnum):
    """What the rows of a source are."""

    BARS = "bars"
    SPLITS = "splits"
    DIVIDENDS = "dividends"

    @property
    def required(self) -> tuple[str, ...]:
        """The fields without which a row is not one."""
        return ("day", "close") if self is RowKind.BARS else ("day", self.value.removesuffix("s"))


class UnreadableBars(ValueError):
    """The data as a whole can't be read: wrong encoding, no header, not JSON, too many rows."""


@dataclass(frozen=True, slots=True)
class Expected:
    """How to read the rows.

    Attributes:
        symbol: the symbol of rows that name none; a row that names another one is rejected.
        latest_day: a bar of a later day is rejected, because `price_update` would then never ask for the real bars.
        written: how the source is written.
        most_rows: how many rows are read.
        kind: what the rows are.
        whole: whether the source is known to be complete. Otherwise a last line without an end may be a part of one.
        quoted: whether errors show text of the source. They must not if that is a file of the worker: its submitter may
            not be allowed to read it.
    """

    symbol: str | None
    latest_day: date
    written: SourceFormat = DEFAULTS
    most_rows: int = MOST_ROWS
    quoted: bool = True
    kind: RowKind = RowKind.BARS
    whole: bool = True


def tomorrow() -> date:
    """The day after today in UTC: no later day has begun anywhere on earth."""
    return clock.utc_now().date() + timedelta(days=1)


def parse_bars(data: bytes, expected: Expected, charset: str | None = None) -> ParsedBars:
    """Read bars from a CSV or JSON text in memory; see `parse_file`."""
    return parse_file(io.BytesIO(data), expected, charset)


def parse_file(file: BinaryIO, expected: Expected, charset: str | None = None) -> ParsedBars:
    """Read bars from a CSV or JSON text, of which only a part is in memory at any time.

    Args:
        file: the text, from its beginning; it can be read twice.
        expected: how to read it.
        charset: its encoding as a server has named it; the options may name another one.

    Raises:
        UnreadableBars: the data as a whole can't be read.
    """
    written = expected.written
    head = file.read(_DECODED_BYTES)
    encoding = written.encoding or _encoding(head, charset)
    file.seek(0)
    last = _check_text(file, encoding)
    file.seek(0)
    text = io.TextIOWrapper(file, "utf-8-sig" if encoding == "utf-8" else encoding, newline="")
    try:
        if written.content is Content.JSON or (written.content is None and _LOOKS_LIKE_JSON.match(head)):
            return _json_bars(text, expected)
        table = _Table(text, expected)
        is_ended = expected.whole or last in '\r\n"' or written.unended_line is UnendedLine.KEEP
        return _collect(table if is_ended or not table.reads_last else _without_last(table), expected)
    except UnicodeError as error:
        raise UnreadableBars("the text has changed while it was read") from error
    finally:
        text.detach()


def _json_bars(text: TextIO, expected: Expected) -> ParsedBars:
    written = expected.written
    most = expected.most_rows * len(FIELDS)
    named = {column for column in (written.columns or {}).values() if isinstance(column, str)}
    wanted = lambda name: name in named or _letters(name) in FIELD_OF_COLUMN  # noqa: E731 (of two words)
    try:
        records = read_records(text, written.path, written.layout or Layout.ROWS, Lists(wanted, most))
        return _collect(_record_rows(records, expected), expected)
    except NotRecords as error:
        raise UnreadableBars(f"{error}{error.message if expected.quoted else ''}") from error


def _encoding(data: bytes, charset: str | None) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    with suppress(ValueError):
        return encoding_name(charset or "utf-8")
    return "utf-8"


def _check_text(file: BinaryIO, encoding: str) -> str:
    """Refuse text in another encoding before anything of it is read; return the end of the text."""
    decoder = codecs.getincrementaldecoder(encoding)()
    start, more, last = 0, True, ""
    while more:
        part = file.read(_DECODED_BYTES)
        more = len(part) == _DECODED_BYTES
        kept = len(decoder.getstate()[0])
        try:
            last = decoder.decode(part, final=not more)[-1:] or last
        except UnicodeError as error:
            place = start - kept + getattr(error, "start", 0)
            reason = getattr(error, "reason", "no byte order mark")
            problem = f"not {encoding.upper()} text at byte {place}: {reason}; set encoding"
            raise UnreadableBars(problem) from error
        start += len(part)
    return last


def parse_records(records: Sequence[object], expected: Expected) -> ParsedBars:
    """Read bars from JSON objects.

    Raises:
        UnreadableBars: two keys of an object mean the same field.
    """
    return _collect(_record_rows(records, expected), expected)


Row = tuple[Any, ...] | InvalidBar
"""The cells of the fields in the order of `FIELDS`, or why a row has none."""


def _collect(rows: Iterable[tuple[int, Row]], expected: Expected) -> ParsedBars:
    parsed = ParsedBars(interval=expected.written.interval or DAILY)
    reader = _RowReader(expected)
    source = iter(rows)
    while batch := list(islice(source, _BATCH)):
        is_much = parsed.rows + len(batch) > expected.most_rows
        if is_much or not _take_usual(batch, parsed, reader):
            for number, row in batch:
                _take(number, row, parsed, reader)
        if len(parsed.bars) > MOST_SYMBOLS:
            raise UnreadableBars(f"more than {MOST_SYMBOLS:,} symbols; split the file")
    return parsed


def _take(number: int, row: Row, parsed: ParsedBars, reader: "_RowReader") -> None:
    parsed.rows += 1
    _check_rows(parsed.rows, reader.expected)
    if isinstance(row, InvalidBar):  # raising it would keep it, and frames, until the garbage collector finds the cycle
        parsed.reject(number, reader.shown(row))
        return
    try:
        symbol, bar, actions = reader.read(row)
        if not parsed.bars:
            parsed.interval = reader.interval or DAILY
        if actions:
            parsed.check_actions(symbol, actions)
        if bar is not None:
            parsed.add(symbol, bar)
        if actions:
            _add_actions(symbol, actions, parsed, is_bar=bar is not None)
    except InvalidBar as error:
        parsed.reject(number, reader.shown(error))


def _add_actions(symbol: str, actions: Sequence[Action], parsed: ParsedBars, *, is_bar: bool) -> None:
    is_new = parsed.add_actions(symbol, actions)
    parsed.repeated += not is_bar and not is_new
    if parsed.action_count > MOST_ACTIONS:
        raise UnreadableBars(f"more than {MOST_ACTIONS:,} splits and dividends; split the file")


def _take_usual(batch: Sequence[tuple[int, Row]], parsed: ParsedBars, reader: "_RowReader") -> bool:
    """Keep the bars of many rows, in a sixth of the time that each on its own takes. False if not all rows are usual."""
    found = reader.read_usual([row for _, row in batch])
    if found is None:
        return False
    if not parsed.bars:
        parsed.interval = reader.interval or DAILY
    parsed.rows += len(batch)
    symbols, days, columns = found
    begin = 0
    for symbol, run in groupby(symbols):
        end = begin + sum(1 for _ in run)
        part = days[begin:end], [column[begin:end] for column in columns]
        if end - begin < _RUN or not parsed.add_many(symbol, *part):
            _add_each(symbol, bars_of(*part), [number for number, _ in batch[begin:end]], parsed, reader)
        begin = end
    return True


def _add_each(
    symbol: str, bars: Iterable[Bar], numbers: Iterable[int], parsed: ParsedBars, reader: "_RowReader"
) -> None:
    for number, bar in zip(numbers, bars, strict=True):
        try:
            parsed.add(symbol, bar)
        except InvalidBar as error:
            parsed.reject(number, reader.shown(error))


def _too_many(expected: Expected) -> UnreadableBars:
    return UnreadableBars(
        f"more than {expected.most_rows:,} rows; split the file, or increase limit_rows of the worker"
    )


def _check_rows(count: int, expected: Expected) -> None:
    if count > expected.most_rows:
        raise _too_many(expected)


class _RowReader:
    """Makes a bar of each row."""

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        written = expected.written
        self._cells = Cells(written)
        self._times = Times(written)
        self._latest_day = self._latest = expected.latest_day
        self._kind = expected.kind
        self._interval_cell: object = None
        self.interval = written.interval
        self._use(written.interval or DAILY)
        self._above_zero, self._tolerance = written.prices is Prices.POSITIVE, written.tolerance
        self._expected = expected.symbol
        self._ours = {theirs: symbol for symbol, theirs in (written.symbols or {}).items()}
        self._last_symbol: tuple[object, str] | None = None

    def read(self, row: tuple[Any, ...]) -> tuple[str, Bar | None, Sequence[Action]]:
        """The symbol, the bar, and the splits and dividends of a row.

        Raises:
            InvalidBar: it is not a valid bar.
        """
        symbol, day, time, open_, high, low, close, volume, adjusted, interval, split, dividend = row
        if interval != self._interval_cell or self.interval is None:
            self._check_interval(interval)
        found = self._days.get(day) if time is None and type(day) is str else None
        if found is None:
            found = self._day(day, time)
        actions = () if split is None and dividend is None else self._actions(found, split, dividend)
        if self._kind is not RowKind.BARS:
            if not actions:
                raise InvalidBar(f"{self._kind.required[1]} is missing, or without an effect")
            return self._symbol(symbol), None, actions
        usual = self._cells.usual_bar(found, row[3:9])
        if usual is not None:
            return self._symbol(symbol), usual, actions
        number = self._cells.number
        last = number("close", close)
        if last is None:
            raise InvalidBar("close is missing")
        prices = number("open", open_), number("high", high), number("low", low), last
        bar = Bar(found, *prices, number("volume", volume), number("adjusted_close", adjusted))
        return self._symbol(symbol), check_bar(bar, above_zero=self._above_zero, tolerance=self._tolerance), actions

    def read_usual(self, rows: Sequence[Row]) -> tuple[list[str], list[date], list[list[float]]] | None:
        """The symbols, the days and the columns of the numbers of many rows; None if one of them needs `read`."""
        try:
            symbols, days, times, *cells, intervals, splits, dividends = zip(*rows, strict=True)
            if not (_NO_ACTION.issuperset(splits) and _NO_ACTION.issuperset(dividends) and {None}.issuperset(times)):
                return None
            if intervals[0] != self._interval_cell or self.interval is None:
                self._check_interval(intervals[0])
            columns = self._cells.usual_columns(cells)
            if columns is None or self._kind is not RowKind.BARS or not {intervals[0]}.issuperset(intervals):
                return None
            known = {each: self._days.get(each) or self._day(each, None) for each in dict.fromkeys(days)}
            names = {each: self._read_symbol(each) for each in dict.fromkeys(symbols)}
        except (TypeError, ValueError):  # no cells, cells of another type, or a symbol or a day that is not valid
            return None
        return [names[each] for each in symbols], [known[each] for each in days], columns

    def shown(self, error: InvalidBar) -> str:
        """Why a row is not valid."""
        return str(error) if self.expected.quoted else error.unquoted

    def _actions(self, day: date, split: object, dividend: object) -> Sequence[Action]:
        """The split and the dividend of a day, if it has any."""
        ratio, money = self._cells.ratio(split), self._cells.number("dividend", dividend) or 0.0
        if not 0 <= money <= HIGHEST_PRICE:
            raise InvalidBar(f"dividend {money} is not between 0 and {HIGHEST_PRICE:g}")
        if self._has_time:
            day = self._times.local_day(day)
        found = [Action(day, ActionKind.SPLIT, ratio)] if ratio != 1 else []
        return [*found, Action(day, ActionKind.DIVIDEND, money)] if money else found

    def _day(self, day: object, time: object) -> date:
        if self._cells.is_missing(day):
            raise InvalidBar("day is missing")
        found = self._times.read(day, time) if self._has_time else self._cells.day(day, time)
        if found > self._latest:
            raise InvalidBar(f"day {written_day(found)} is in the future")
        if self._begin is not None:
            found = self._begin(found)
        if time is None and type(day) is str and len(self._days) < KEPT_DAYS:
            self._days[day] = found
        return found

    def _check_interval(self, cell: object) -> None:
        """All rows of a source have one interval: that of the options, or that of the first row."""
        if self._cells.is_missing(cell):
            found = self.interval or DAILY
        else:
            try:
                found = vendor_interval(str(cell).strip())
            except FieldError as error:
                raise InvalidBar(str(error), "interval is not known") from None
        if self.interval is None:
            self.interval = found
            self._use(found)
        if found is not self.interval:
            how = f"is not {self.interval}; set interval to import the rows of one of them, and skip the others"
            raise InvalidBar(f"interval {found} {how}")
        self._interval_cell = cell

    def _use(self, interval: Interval) -> None:
        self._days: dict[str, date] = {}
        self._has_time = interval.has_time
        self._latest = interval.latest(self._latest_day)
        self._begin = interval.begin if interval in {WEEKLY, MONTHLY} else None

    def _symbol(self, found: object) -> str:
        """The symbol of a row: nearly always that of the row before it."""
        if self._last_symbol is None or found != self._last_symbol[0]:
            self._last_symbol = found, self._read_symbol(found)
        return self._last_symbol[1]

    def _read_symbol(self, found: object) -> str:
        if found is None or found == "":
            if self._expected is None:
                raise InvalidBar("symbol is missing; add it to the row, or to the payload for all rows")
            return self._expected
        if not isinstance(found, str):
            raise InvalidBar("symbol is not a string")
        symbol = self._ours.get(found) or check_symbol(found.strip())
        if self._expected is not None and symbol != self._expected:
            hint = "; set symbols if it is the same"
            raise InvalidBar(f"symbol {symbol} is not {self._expected}{hint}", f"symbol is not {self._expected}{hint}")
        return symbol


class _Lines:
    """The lines of a CSV file. A reader needs all of a row at the same time, so `row_length` is bounded.

    Attributes:
        row_length: characters since the owner has set it to 0.
    """

    def __init__(self, text: TextIO, written: SourceFormat) -> None:
        self._text = text
        self._comment = written.comment or None
        self._line = 0
        self.row_length = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(LONGEST_RECORD + 1):
            self._line += 1
            self.row_length += len(line)
            if self.row_length > LONGEST_RECORD:
                raise UnreadableBars(f"line {self._line}: the row has more than {LONGEST_RECORD:,} characters")
            if self._comment is not None and line.startswith(self._comment):
                line = "\n"
            yield line


class _Table:
    """The rows of a CSV text, with their lines.

    Attributes:
        reads_last: whether the last cell of a row is one of a field.
    """

    def __init__(self, text: TextIO, expected: Expected) -> None:
        self._expected = expected
        self._lines = _Lines(text, expected.written)
        source = iter(self._lines)
        self._before, first, delimiter = _first_row(self._lines, source, expected)
        self._reader = csv.reader(chain((first,), source), delimiter=delimiter, strict=True)
        try:
            self._names = [name.strip() for name in next(self._reader, [])]
        except csv.Error as error:
            raise self._unreadable(error) from error
        columns = _places(self._names, expected)
        self.reads_last = len(self._names) in columns.values()
        # the last cell is that of fields without a column, for which the caller puts None
        self._cells_of = itemgetter(*(columns.get(name, 0) - 1 for name in FIELDS))

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        reader, places, columns, before = self._reader, self._cells_of, len(self._names), self._before
        if not self._expected.written.header:
            yield before + 1, _row_of(self._names, places, columns)
        try:
            for cells in reader:
                self._lines.row_length = 0
                if len(cells) > 1 or (cells and cells[0].strip()):
                    row = places([*cells, None]) if len(cells) == columns else _row_of(cells, places, columns)
                    yield reader.line_num + before, row
                else:
                    _check_rows(reader.line_num, self._expected)  # an empty line is not a row, but takes time as well
        except csv.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: csv.Error) -> UnreadableBars:
        return UnreadableBars(f"line {self._reader.line_num + self._before}: {error}")


def _without_last(rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    """The rows with the reason why the last one may be a part of a row: 9 in it may be the beginning of 900."""
    last: tuple[int, Row] | None = None
    for each in rows:
        if last is not None:
            yield last
        last = each
    if last is not None:
        yield last[0], InvalidBar(_CUT)


def _first_row(lines: _Lines, source: Iterator[str], expected: Expected) -> tuple[int, str, str]:
    """The number of lines before the first row, its text, and the delimiter."""
    written = expected.written
    before, delimiter = 0, written.delimiter
    for line in source:
        lines.row_length = 0
        if separator := _SEPARATOR_LINE.fullmatch(line):
            delimiter = delimiter or separator[1]
        elif before >= written.skip_lines and line.strip():
            return before, line, delimiter or max(_DELIMITERS, key=line.count)
        before += 1
        _check_rows(before, expected)  # takes time as well
    return before, "", delimiter or ","


def _row_of(cells: list[str], places: Callable[[list[Any]], tuple[Any, ...]], columns: int) -> Row:
    """The cells of the fields; `places` has -1 for a field without a column."""
    count = len(cells)
    if count != columns:
        if count < columns or any(cells[columns:]):
            return InvalidBar(f"{count} cells under {columns} columns; a number with the delimiter in it needs quotes")
        del cells[columns:]
    return places([*cells, None])


def _places(names: Sequence[str], expected: Expected) -> dict[str, int]:
    """The columns of the fields in rows with this header, counted from 1."""
    columns = expected.written.columns or {}
    if expected.written.header:
        found = _match(names, expected)
        hint = "; set skip_lines if the header is not the first line, columns if it has other names, or header if there is none"
    else:
        found = {name: place for name, place in columns.items() if isinstance(place, int)}
        hint = "; set columns to their numbers"
    missing = [name for name in expected.kind.required if name not in found]
    if missing:
        shown = f"; its columns are {', '.join(names)[:200]}" if expected.quoted and any(names) else ""
        what = "the header has" if expected.written.header and any(names) else "the source has"
        raise UnreadableBars(f"{what} no column for {', '.join(missing)}{shown}{hint}")
    for name, place in found.items():
        if place > len(names):
            raise UnreadableBars(f"columns: {name} is column {place}, but the first row has {len(names)} cells")
    return found


def _record_rows(records: Iterable[object], expected: Expected) -> Iterator[tuple[int, Row]]:
    columns = expected.written.columns or {}
    places = [column if isinstance(column := columns.get(name), int) else None for name in FIELDS]
    keys: tuple[str, ...] = ()
    matches: Sequence[str | None] = [None] * len(FIELDS)
    for row_number, record in enumerate(records, 1):
        if isinstance(record, list):
            yield row_number, _row_of_list(record, places)
        elif not isinstance(record, dict):
            yield row_number, InvalidBar("is not an object or a list")
        else:
            if keys != tuple(record):  # nearly always all records have the same keys
                keys = tuple(record)
                found = _match(keys, expected)
                matches = [keys[found[name] - 1] if name in found else None for name in FIELDS]
            yield row_number, tuple(None if key is None else record[key] for key in matches)


def _row_of_list(record: list[Any], places: Sequence[int | None]) -> Row:
    if not any(places):
        return InvalidBar("is a list, not an object; set columns to the numbers of its values")
    return tuple(record[place - 1] if place is not None and place <= len(record) else None for place in places)


def _match(names: Sequence[str], expected: Expected) -> dict[str, int]:
    """Find the column of each field, counted from 1; other columns are ignored."""
    columns = expected.written.columns or {}
    found = {}
    for name, column in columns.items():
        if isinstance(column, int):
            if column <= len(names):
                found[name] = column
        elif column in names:
            found[name] = names.index(column) + 1
            if names.count(column) > 1:
                both = _cut(column) if expected.quoted else "a name"
                raise UnreadableBars(f"{both} is the name of two columns; set the number of the right one in columns")
    for place, column in enumerate(names, 1):
        known = FIELD_OF_COLUMN.get(_letters(column))
        if known is None or known in columns:
            continue
        if known in found:
            both = f"both {_cut(names[found[known] - 1])} and {_cut(column)}" if expected.quoted else "two columns"
            raise UnreadableBars(f"{both} hold {known}; remove one, or name the right one in columns")
        found[known] = place
    if "day" not in found and "time" in found:
        found["day"] = found.pop("time")
    return found


def _letters(column: str) -> str:
    return re.sub("[^a-z]", "", column.lower())


def _cut(column: str) -> str:
    """A column name for an error: any text can be one, however long."""
    return repr(column[:40])[:60]
