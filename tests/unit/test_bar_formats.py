"""Reads bars from CSV and JSON as people and providers write them."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from random import Random
from typing import Any

import pytest

from stockworker.market import bar_formats, parsed_bars
from stockworker.market.bar_formats import (
    Expected,
    UnreadableBars,
    parse_bars,
    parse_records,
    tomorrow,
)
from stockworker.market.bars import SYMBOL_CHARACTERS, Bar
from stockworker.market.cells import Cells
from stockworker.market.parsed_bars import ParsedBars, RejectedRow
from stockworker.market.source_format import DEFAULTS, read_format

BAR = Bar(date(2013, 3, 1), 10.0, 12.0, 9.0, 11.0, 500.0)
EXPECTED = Expected(symbol="AAPL", latest_day=date(2013, 12, 31))
RECORD = {"date": "2013-03-01", "open": 10, "high": 12, "low": 9, "close": 11, "volume": 500}


def parse(text: str, file_format: str | None = None, symbol: str | None = "AAPL", **columns: str) -> ParsedBars:
    written = read_format(file_format, {"columns": columns})
    return parse_bars(text.encode(), replace(EXPECTED, symbol=symbol, written=written))


def bars_of(parsed: ParsedBars) -> dict[str, list[Bar]]:
    return {symbol: list(bars) for symbol, bars in parsed.bars.items()}


@pytest.mark.parametrize(
    "text",
    [
        "Date,Open,High,Low,Close,Volume\n2013-03-01,10,12,9,11,500\n",
        "\ufeffDATE;OPEN;HIGH;LOW;CLOSE;VOLUME\r\n2013-03-01;10;12;9;11;500\r\n",
        "volume\tclose\tlow\thigh\topen\tday\tnote\n500\t11\t9\t12\t10\t2013-03-01\tx\n\n",
        'Ticker,Date,Open,High,Low,Close,Volume,Adj Close\n"AAPL","2013-03-01","10","12","9","11","500",\n',
        json.dumps([RECORD]),
        "\n " + json.dumps({"bars": [RECORD], "note": "x"}),
        json.dumps([{**RECORD, "symbol": "AAPL", "Adj. Close": None}]),
    ],
)
def test_the_same_bar_in_many_forms(text: str) -> None:
    parsed = parse(text)
    assert (bars_of(parsed), parsed.rows, parsed.rejected_rows) == ({"AAPL": [BAR]}, 1, [])


def test_rows_of_several_symbols_are_kept_apart() -> None:
    text = "Symbol,Date,Open,High,Low,Close,Volume,Adjusted_Close\n"
    text += "AAPL,2013-03-01,10,12,9,11,500,5.5\nMSFT,2013-03-01,10,12,9,11,500,\n"
    parsed = parse(text, symbol=None)
    assert {symbol: bars[0].adjusted_close for symbol, bars in bars_of(parsed).items()} == {"AAPL": 5.5, "MSFT": None}


def test_columns_can_be_named() -> None:
    text = "Session,First,Top,Bottom,Last,Close,Units\n2013-03-01,10,12,9,11,999,500\n"
    columns = {"day": "Session", "open": "First", "high": "Top", "low": "Bottom", "close": "Last", "volume": "Units"}
    assert bars_of(parse(text, **columns)) == {"AAPL": [BAR]}


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("2013-02-30,10,12,9,11,500,", "'2013-02-30' is not a date; write YYYY-MM-DD, or set date_format"),
        ("2014-01-01,10,12,9,11,500,", "day 2014-01-01 is in the future"),
        ("2013-03-01,x,12,9,11,500,", "open 'x' is not a number"),
        ("2013-03-01,10,12,9,11", "5 cells under 7 columns; a number with the delimiter in it needs quotes"),
        ("2013-03-01,10,12,9,11,1,500,AAPL", "8 cells under 7 columns; a number with the delimiter in it needs quotes"),
        ("2013-03-01,10,12,9,,500,", "close is missing"),
        ("2013-03-01,10,12,9,11,501,", "another row has the day 2013-03-01 with other values"),
        ("2013-03-01,10,12,9,13,500,", "close 13.0 is not between low 9.0 and high 12.0; tolerance is 0.0001"),
        ("2013-03-01,10,12,9,11,500,MSFT", "symbol MSFT is not AAPL; set symbols if it is the same"),
        (
            "2013-03-01,10,12,9,11,500,A;B",
            f"'A;B' is not a valid symbol; use up to 32 {SYMBOL_CHARACTERS}, beginning with a letter, a digit or ^ $ @ # .",
        ),
    ],
)
def test_an_invalid_row_is_reported_with_its_line(cells: str, reason: str) -> None:
    parsed = parse(f"Date,Open,High,Low,Close,Volume,Symbol\n2013-03-01,10,12,9,11,500,AAPL\n{cells}\n")
    assert (parsed.rows, parsed.rejected, parsed.rejected_rows) == (2, 1, [RejectedRow(3, reason)])
    assert bars_of(parsed) == {"AAPL": [BAR]}


def test_only_the_first_invalid_rows_are_listed_but_all_are_counted() -> None:
    parsed = parse("Date,Open,High,Low,Close,Volume\n" + "x,10,12,9,11,500\n" * 50)
    assert (parsed.rejected, len(parsed.rejected_rows)) == (50, 20)


@pytest.mark.parametrize("record", [None, 5, "x", [], {}, {**RECORD, "open": [1]}, {**RECORD, "symbol": 5}])
def test_a_record_that_is_not_a_bar_is_rejected(record: Any) -> None:
    parsed = parse_records([RECORD, record], EXPECTED)
    assert (parsed.rows, parsed.rejected, parsed.rejected_rows[0].row) == (2, 1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the source has no column for day, close; set skip_lines"),
        ("<html>\n", "the header has no column for .*; its columns are <html>"),
        ("Date,Open,High,Low,Volume\n", "the header has no column for close"),
        (
            "Date,Day,Open,High,Low,Close,Volume\n",
            "both 'Date' and 'Day' hold day; remove one, or name the right one in columns",
        ),
        ('Date,Open,High,Low,Close,Volume\n"2013', "line 2: unexpected end of data"),
        ("Date,Open,High,Low,Close,Volume\n" + "1" * 200_000, "line 2: the row has more than 65,536 characters"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ("[1e999, NaN]", "is not JSON"),
        (
            '{"data": []}',
            "expected a list of bars, or an object with such a list as bars; set path .*; its keys are data",
        ),
        ('{"Note": "5 calls per minute"}', "its keys are Note; its message is: 5 calls per minute"),
        ('[{"date": "2013-03-01", "Day": "2013-03-01"}]', "both 'date' and 'Day' hold day"),
    ],
)
def test_unreadable_data_are_an_error_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(UnreadableBars, match=message):
        parse(text)


def test_only_utf_8_is_read() -> None:
    with pytest.raises(UnreadableBars, match="not UTF-8 text at byte 2"):
        parse_bars(b"ab\xff", EXPECTED)
    with pytest.raises(UnreadableBars, match="not UTF-8 text at byte 70002"):
        parse_bars(b"ab" + "\u20ac".encode() * 23_333 + b"a\xe2\x82x", EXPECTED)
    with pytest.raises(UnreadableBars, match="not UTF-8 text at byte 65535"):
        parse_bars(b"a" * 65_535 + b"\xe2\x82", EXPECTED)


def test_the_format_can_be_given() -> None:
    with pytest.raises(UnreadableBars, match="is not JSON"):
        parse("Date,Open,High,Low,Close,Volume\n", file_format="json")
    with pytest.raises(UnreadableBars, match="the header has no column"):
        parse("[]", file_format="csv")


def test_tomorrow_is_a_day_away_in_utc() -> None:
    assert tomorrow() > date(2026, 1, 1)


HEADER = "Date,Open,High,Low,Close,Volume\n"
ROW = "2013-03-01,10,12,9,11,500\n"


@pytest.mark.parametrize("text", [HEADER + 3 * ROW, HEADER + "\n" * 100_000, json.dumps([RECORD] * 3)])
def test_rows_are_bounded(text: str) -> None:
    parse_bars(f"{HEADER}{2 * ROW}".encode(), replace(EXPECTED, most_rows=2))
    with pytest.raises(UnreadableBars, match=r"more than 2 rows; split the file, or increase limit_rows"):
        parse_bars(text.encode(), replace(EXPECTED, most_rows=2))


def test_symbols_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_formats, "MOST_SYMBOLS", 2)
    rows = [RECORD | {"symbol": f"S{number}"} for number in range(3)]
    assert len(parse(json.dumps(rows[:2]), symbol=None).bars) == 2
    with pytest.raises(UnreadableBars, match="more than 2 symbols"):
        parse(json.dumps(rows), symbol=None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("secret,x\n", "the header has no column for day, close; set skip_lines"),
        (
            "Date,Day-0,Open,High,Low,Close,Volume\n",
            "two columns hold day; remove one, or name the right one in columns",
        ),
        (HEADER.replace("Date", "Date,D a y"), "two columns hold day; remove one, or name the right one in columns"),
    ],
)
def test_the_columns_of_a_local_file_are_not_shown(text: str, shown: str) -> None:
    with pytest.raises(UnreadableBars) as raised:
        parse_bars(text.encode(), replace(EXPECTED, quoted=False))
    assert str(raised.value).startswith(shown)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ("s3cret,10,12,9,11,500,AAPL", "day is not a date; write YYYY-MM-DD, or set date_format"),
        ("2013-03-01,s3cret,12,9,11,500,AAPL", "open is not a number"),
        ("2013-03-01,10,12,9,11,500,s3cret", "symbol is not AAPL; set symbols if it is the same"),
        ("2013-03-01,10,12,9,11,500,s3cret!", "symbol is not valid; use up to 32 letters, digits"),
    ],
)
def test_the_text_of_a_local_file_is_not_shown(row: str, shown: str) -> None:
    text = "Date,Open,High,Low,Close,Volume,Symbol\n" + row
    parsed = parse_bars(text.encode(), replace(EXPECTED, quoted=False))
    (rejected,) = parsed.rejected_rows
    assert rejected.reason.startswith(shown)
    assert "s3cret" not in rejected.reason


@pytest.mark.parametrize("close", ["1_1", "\uff11\uff11", "nan", "inf", "1e999", "0x0b"])
def test_a_number_that_only_python_reads_is_refused_in_any_row(close: str) -> None:
    """Rows without doubtful cells are read in a shorter way, which must refuse the same."""
    rows = [f"2013-03-0{day},10,12,9,{close if day == 2 else 11},500" for day in (1, 2, 3)]
    parsed = parse("\n".join(["date,open,high,low,close,volume", *rows]))
    assert (parsed.rows, [each.row for each in parsed.rejected_rows]) == (3, [3])


@pytest.mark.parametrize("cell", ["10", " 10", "10 ", "1e1", "+10", "10.", "-", "", "null", "-10", "0"])
def test_the_short_way_reads_what_the_long_one_reads(cell: str) -> None:
    reader = Cells(DEFAULTS)
    cells = (cell,) * 6
    found = reader.usual_bar(date(2013, 3, 1), cells)
    assert (found is not None) == (("10" in cell and "-" not in cell) or cell == "1e1")
    if found is not None:
        assert found[1:] == tuple(reader.number("n", each) for each in cells)


@pytest.mark.parametrize("order", [1, -1, 7], ids=["ascending", "descending", "mixed"])
def test_bars_that_do_not_fit_into_memory_wait_in_a_file(monkeypatch: pytest.MonkeyPatch, order: int) -> None:
    monkeypatch.setattr(parsed_bars, "MOST_IN_MEMORY", 3)
    days = [f"2013-03-{1 + number * order % 11:02}" for number in range(11)]
    rows = [f"{symbol},{day},10,12,9,11,{number}" for number, day in enumerate(days) for symbol in ("AAPL", "IBM")]
    again = [rows[0], rows[12], rows[2].replace("11,", "10,")]
    parsed = parse("\n".join(["symbol,date,open,high,low,close,volume", *rows, *again]), symbol=None)
    assert (parsed.rows, parsed.repeated, parsed.rejected) == (25, 2, 1)
    for bars in parsed.bars.values():
        assert [(bar.day.isoformat(), bar.volume) for bar in bars] == [(day, n) for n, day in enumerate(days)]
        assert len(bars) == 11


_CELLS = ("", "1_1", "\uff11", "nan", "-1", "0", " 10 ", "1e1", "99", "null", "10", "9")


def _usual_rows(chance: Random) -> list[list[str]]:
    """Rows of three symbols: of one after the other, or of one day after the other, some of them backwards."""
    days = [(date(2013, 3, 1) + timedelta(days=number)).isoformat() for number in range(12)]
    named = [(symbol, day) for symbol in ("A", "B", "C") for day in days[:: chance.choice((1, -1))]]
    if chance.random() < 0.5:
        named.sort(key=lambda each: each[1])
    adjusted = chance.choice(("", "10.5"))
    return [[symbol, day, "10", "12", "9", "11", "500", adjusted, "", "0"] for symbol, day in named]


def _with_one_unusual(rows: list[list[str]], chance: Random) -> list[list[str]]:
    """The rows with one change: of a cell, of the number of cells, or another row for a day that has one."""
    place = chance.randrange(len(rows))
    changed = list(rows[place])
    column = chance.randrange(len(changed))
    changed[column] = chance.choice(_CELLS)
    changes: list[Callable[[], list[list[str]]]] = [
        lambda: [*rows[:place], changed, *rows[place + 1 :]],
        lambda: [*rows, rows[place]],
        lambda: [*rows, changed],
        lambda: [*rows[:place], rows[place][:-1], *rows[place + 1 :]],
    ]
    return chance.choice(changes)()


@pytest.mark.parametrize("seed", range(60))
def test_many_rows_are_read_like_each_on_its_own(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = Random(seed)  # noqa: S311 (invented rows)
    monkeypatch.setattr(bar_formats, "_BATCH", chance.choice((4, 12, 36)))
    monkeypatch.setattr(bar_formats, "_RUN", 2)
    monkeypatch.setattr(parsed_bars, "MOST_IN_MEMORY", chance.choice((5, 1_000)))
    rows = _usual_rows(chance)
    rows = _with_one_unusual(rows, chance) if seed % 4 else rows
    header = ["symbol", "day", "open", "high", "low", "close", "volume", "adjclose", "split", "dividend"]
    text = "\n".join(",".join(row) for row in [header, *rows])
    found = parse(text, symbol=None)
    monkeypatch.setattr(bar_formats._RowReader, "read_usual", lambda _self, _rows: None)
    alone = parse(text, symbol=None)
    assert bars_of(found) == bars_of(alone)
    assert found.rejected_rows == alone.rejected_rows
    counts = [(each.rows, each.rejected, each.repeated, each.crowded, each.action_count) for each in (found, alone)]
    assert counts[0] == counts[1]


def test_usual_rows_are_not_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_formats._RowReader, "read", None)
    rows = [f"A,2013-03-{day:02},10,12,9,11,500,10.5" for day in range(1, 31)]
    parsed = parse("\n".join(["symbol,day,open,high,low,close,volume,adjclose", *rows]), symbol=None)
    assert [bar.adjusted_close for bar in parsed.bars["A"]] == [10.5] * 30


@pytest.mark.parametrize(
    ("header", "row", "options", "is_kept"),
    [
        ("day,close", "2013-03-02,9", {}, False),
        ("day,close", "2013-03-02,9", {"unended_line": "keep"}, True),
        ("day,close", "2013-03-02,9\n", {}, True),
        ("day,close", "2013-03-02,9\r", {}, True),
        ("day,close", '2013-03-02,"9"', {}, True),
        ("day,close,note", "2013-03-02,9,", {}, True),
        ("day,close,note", "2013-03-02,9,x", {}, True),
        ("day,close,note", "2013-03-02,9", {}, False),
        ("close,day", "9,2013-03-02", {}, False),
        ("2013-03-01,10,1", "2013-03-02,9,1", {"header": False, "columns": {"day": 1, "close": 2}}, True),
        ("2013-03-01,1,10", "2013-03-02,1,9", {"header": False, "columns": {"day": 1, "close": 3}}, False),
    ],
)
def test_a_last_row_that_may_be_cut_off_is_refused(
    header: str, row: str, options: dict[str, Any], *, is_kept: bool
) -> None:
    expected = replace(EXPECTED, whole=False, written=read_format(None, options))
    parsed = parse_bars(f"{header}\n{row}".encode(), expected)
    assert parsed.rejected == (not is_kept)
    assert [bar.close for bar in parsed.bars.get("AAPL", [])][-1:] != ([9.0] if not is_kept else [])
