"""Reads bars from CSV and JSON as people and providers write them."""

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from stockworker.handlers import bar_formats
from stockworker.handlers.bar_formats import (
    Expected,
    ParsedBars,
    RejectedRow,
    UnreadableBars,
    parse_bars,
    parse_records,
    tomorrow,
)
from stockworker.handlers.market import Bar

BAR = Bar(date(2013, 3, 1), 10.0, 12.0, 9.0, 11.0, 500.0)
EXPECTED = Expected(symbol="AAPL", columns={}, latest_day=date(2013, 12, 31))
RECORD = {"date": "2013-03-01", "open": 10, "high": 12, "low": 9, "close": 11, "volume": 500}


def parse(text: str, file_format: str | None = None, symbol: str | None = "AAPL", **columns: str) -> ParsedBars:
    return parse_bars(text.encode(), file_format, Expected(symbol, columns, EXPECTED.latest_day))


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
    assert parse(text) == ParsedBars(bars={"AAPL": [BAR]}, rows=1)


def test_rows_of_several_symbols_are_kept_apart() -> None:
    text = "Symbol,Date,Open,High,Low,Close,Volume,Adjusted_Close\n"
    text += "AAPL,2013-03-01,10,12,9,11,500,5.5\nMSFT,2013-03-01,10,12,9,11,500,\n"
    parsed = parse(text, symbol=None)
    assert {symbol: bars[0].adjusted_close for symbol, bars in parsed.bars.items()} == {"AAPL": 5.5, "MSFT": None}


def test_columns_can_be_named() -> None:
    text = "Session,First,Top,Bottom,Last,Close,Units\n2013-03-01,10,12,9,11,999,500\n"
    columns = {"day": "Session", "open": "First", "high": "Top", "low": "Bottom", "close": "Last", "volume": "Units"}
    assert parse(text, **columns).bars == {"AAPL": [BAR]}


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("2013-02-30,10,12,9,11,500", "'2013-02-30' is not a date; write YYYY-MM-DD"),
        ("2014-01-01,10,12,9,11,500", "day 2014-01-01 is in the future"),
        ("2013-03-01,x,12,9,11,500", "open 'x' is not a number"),
        ("2013-03-01,10,12,9,11", "volume is missing"),
        ("2013-03-01,10,12,,11,500", "low is missing"),
        ("2013-03-01,10,12,9,13,500", "close 13.0 is not between low 9.0 and high 12.0"),
        ("2013-03-01,10,12,9,11,500,MSFT", "symbol MSFT is not AAPL"),
        ("2013-03-01,10,12,9,11,500,A B", "'A B' is not a valid symbol; use up to 32 letters, digits and . ^ = _ : -"),
    ],
)
def test_an_invalid_row_is_reported_with_its_line(cells: str, reason: str) -> None:
    parsed = parse(f"Date,Open,High,Low,Close,Volume,Symbol\n2013-03-01,10,12,9,11,500,AAPL\n{cells}\n")
    assert (parsed.rows, parsed.rejected, parsed.rejected_rows) == (2, 1, [RejectedRow(3, reason)])
    assert parsed.bars == {"AAPL": [BAR]}


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
        ("", "the header has no column for day, open, high, low, close, volume"),
        ("<html>\n", "the header has no column for .*; its columns are <html>"),
        ("Date,Open,High,Low,Close\n", "the header has no column for volume"),
        (
            "Date,Day,Open,High,Low,Close,Volume\n",
            "both 'Date' and 'Day' hold day; remove one, or name the right one in columns",
        ),
        ('Date,Open,High,Low,Close,Volume\n"2013', "line 2: unexpected end of data"),
        ("Date,Open,High,Low,Close,Volume\n" + "1" * 200_000, "line 2: the row has more than 65,536 characters"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ("[1e999, NaN]", "is not JSON"),
        ('{"data": []}', "expected a list of bars, or an object with such a list as bars"),
        ('[{"date": "2013-03-01", "Day": "2013-03-01"}]', "both 'date' and 'Day' hold day"),
    ],
)
def test_unreadable_data_are_an_error_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(UnreadableBars, match=message):
        parse(text)


def test_only_utf_8_is_read() -> None:
    with pytest.raises(UnreadableBars, match="not UTF-8 text at byte 2"):
        parse_bars(b"ab\xff", None, EXPECTED)
    with pytest.raises(UnreadableBars, match="not UTF-8 text at byte 70002"):
        parse_bars(b"ab" + "\u20ac".encode() * 23_333 + b"a\xe2\x82x", None, EXPECTED)
    with pytest.raises(UnreadableBars, match="not UTF-8 text at byte 65535"):
        parse_bars(b"a" * 65_535 + b"\xe2\x82", None, EXPECTED)


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
    parse_bars(f"{HEADER}{2 * ROW}".encode(), None, replace(EXPECTED, most_rows=2))
    with pytest.raises(UnreadableBars, match=r"more than 2 rows; split the file, or increase limit_rows"):
        parse_bars(text.encode(), None, replace(EXPECTED, most_rows=2))


def test_symbols_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_formats, "MOST_SYMBOLS", 2)
    rows = [RECORD | {"symbol": f"S{number}"} for number in range(3)]
    assert len(parse(json.dumps(rows[:2]), symbol=None).bars) == 2
    with pytest.raises(UnreadableBars, match="more than 2 symbols"):
        parse(json.dumps(rows), symbol=None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("secret,x\n", "the header has no column for day, open, high, low, close, volume"),
        (
            "Date,Day-0,Open,High,Low,Close,Volume\n",
            "two columns hold day; remove one, or name the right one in columns",
        ),
        (HEADER.replace("Date", "Date,D a y"), "two columns hold day; remove one, or name the right one in columns"),
    ],
)
def test_the_columns_of_a_local_file_are_not_shown(text: str, shown: str) -> None:
    with pytest.raises(UnreadableBars) as raised:
        parse_bars(text.encode(), None, replace(EXPECTED, quoted=False))
    assert str(raised.value) == shown


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ("s3cret,10,12,9,11,500,AAPL", "day is not a date; write YYYY-MM-DD"),
        ("2013-03-01,s3cret,12,9,11,500,AAPL", "open is not a number"),
        ("2013-03-01,10,12,9,11,500,s3cret", "symbol is not AAPL"),
        ("2013-03-01,10,12,9,11,500,s3cret!", "symbol is not valid; use up to 32 letters, digits and . ^ = _ : -"),
    ],
)
def test_the_text_of_a_local_file_is_not_shown(row: str, shown: str) -> None:
    text = "Date,Open,High,Low,Close,Volume,Symbol\n" + row
    parsed = parse_bars(text.encode(), None, replace(EXPECTED, quoted=False))
    assert parsed.rejected_rows == [RejectedRow(2, shown)]
