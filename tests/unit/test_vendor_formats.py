"""Reads bars as vendors ship them, with the options and the profiles of vendors; refuses what could mean two things."""

import bz2
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from stockworker.market.bar_formats import Expected, UnreadableBars, parse_bars
from stockworker.market.bars import Bar
from stockworker.market.parsed_bars import ParsedBars
from stockworker.market.source_format import MISSING, OPTIONS, PROFILES, read_format
from stockworker.protocol.fields import FieldError

JAN_2, JAN_3 = date(2024, 1, 2), date(2024, 1, 3)
BAR = Bar(JAN_2, 10.0, 12.5, 9.75, 11.25, 1_234_500.0)
NEXT = Bar(JAN_3, 11.25, 12.0, 11.0, 11.5, 987_600.0)
ADJUSTED = BAR._replace(adjusted_close=11.1)
LARGE = Bar(JAN_2, 1110.0, 1112.5, 1109.75, 1111.25, 1_230_000.0)
HEADER = "Date,Open,High,Low,Close,Volume\n"
ROW = "2024-01-02,10.0,12.5,9.75,11.25,1234500\n"
RECORD = {"date": "2024-01-02", "open": 10.0, "high": 12.5, "low": 9.75, "close": 11.25, "volume": 1234500}
LETTERS = {"v": 1234500, "vw": 11.02, "o": 10.0, "c": 11.25, "h": 12.5, "l": 9.75}


def read(source: str | bytes, name: str | None = None, symbol: str | None = "XYZ", **options: Any) -> ParsedBars:
    data = source.encode() if isinstance(source, str) else source
    return parse_bars(data, Expected(symbol, date(2030, 1, 1), read_format(name, options)))


def bars(source: str | bytes, name: str | None = None, **options: Any) -> list[Bar]:
    parsed = read(source, name, **options)
    assert parsed.rejected_rows == []
    return list(parsed.bars["XYZ"])


def refusal(source: str | bytes, name: str | None = None, **options: Any) -> str:
    parsed = read(source, name, **options)
    assert (len(parsed.bars), parsed.rejected) == (0, parsed.rows)
    return parsed.rejected_rows[0].reason


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        ("Date,Open,High,Low,Close,Adj Close,Volume\n2024-01-02,10,12.5,9.75,11.25,11.10,1234500\n", "yahoo", [ADJUSTED]),
        (
            json.dumps({"chart": {"result": [{"meta": {"validRanges": ["1d", "5d"]}, "timestamp": [1704205800],
             "indicators": {"quote": [{"open": [10.0], "high": [12.5], "low": [9.75], "close": [11.25], "volume": [1234500]}],
                            "adjclose": [{"adjclose": [11.1]}]}}], "error": None}}),
            "yahoo-chart",
            [ADJUSTED],
        ),
        (
            "Price,Close,High,Low,Open,Volume\nTicker,XYZ,XYZ,XYZ,XYZ,XYZ\nDate,,,,,\n2024-01-02,11.25,12.5,9.75,10.0,1234500\n",
            "yfinance",
            [BAR],
        ),
        (HEADER + ROW, "stooq", [BAR]),
        (
            "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\nXYZ,D,20240102,000000,10,12.5,9.75,11.25,1234500,0\n",
            "stooq-bulk",
            [BAR],
        ),
        (
            "Date,Close/Last,Volume,Open,High,Low\n01/03/2024,$11.50,987600,$11.25,$12.00,$11.00\n01/02/2024,$11.25,1234500,$10.00,$12.50,$9.75\n",
            "nasdaq",
            [NEXT, BAR],
        ),
        (
            '\ufeff"Date","Price","Open","High","Low","Vol.","Change %"\n"01/02/2024","1,111.25","1,110.00","1,112.50","1,109.75","1.23M","-3.58%"\n',
            "investing",
            [LARGE],
        ),
        ("timestamp,open,high,low,close,volume\n2024-01-02,10.0,12.5,9.75,11.25,1234500\n", "alphavantage", [BAR]),
        (
            json.dumps({"Meta Data": {"1. Information": "Daily Prices", "2. Symbol": "XYZ"}, "Time Series (Daily)": {"2024-01-02":
             {"1. open": "10.0", "2. high": "12.5", "3. low": "9.75", "4. close": "11.25", "5. volume": "1234500"}}}),
            "alphavantage-json",
            [BAR],
        ),
        (
            "date,close,high,low,open,volume,adjClose,adjHigh,divCash\n2024-01-02,11.25,12.5,9.75,10.0,1234500,11.10,12.3,0.0\n",
            "tiingo",
            [ADJUSTED],
        ),
        (json.dumps([{**RECORD, "date": "2024-01-02T00:00:00.000Z", "adjClose": 11.1, "adjHigh": 12.3}]), "tiingo", [ADJUSTED]),
        ("datetime;open;high;low;close;volume\n2024-01-02;10.0;12.5;9.75;11.25;1234500\n", "twelvedata", [BAR]),
        (
            json.dumps({"meta": {"symbol": "XYZ"}, "values": [{"datetime": "2024-01-02", "open": "10.0", "high": "12.5", "low":
             "9.75", "close": "11.25", "volume": "1234500"}], "status": "ok"}),
            "twelvedata-json",
            [BAR],
        ),
        (json.dumps({"ticker": "XYZ", "results": [{**LETTERS, "t": 1704171600000, "n": 4321}]}), "polygon", [BAR]),
        (json.dumps({"s": "ok", **{key: [value] for key, value in LETTERS.items()}, "t": [1704153600]}), "finnhub", [BAR]),
        ('[[1704153600000, "10", "12.5", "9.75", "11.25", "1234500", 1704239999999, "85.32", 10]]', "binance", [BAR]),
        ("1704153600000,10,12.5,9.75,11.25,1234500,1704239999999\n", "binance", [BAR]),
        ("Date,Open,High,Low,Close,Adjusted_close,Volume\n2024-01-02,10,12.5,9.75,11.25,11.1,1234500\n", "eodhd", [ADJUSTED]),
        ("Code,Ex,Date,Open,High,Low,Close,Volume\nXYZ,US,2024-01-02,10.0,12.5,9.75,11.25,1234500\n", "eodhd-bulk", [BAR]),
        (json.dumps({"symbol": "XYZ", "historical": [{**RECORD, "adjClose": 11.1}]}), "fmp", [ADJUSTED]),
        (json.dumps({"pagination": {"total": 1}, "data": [{**RECORD, "date": "2024-01-02T00:00:00+0000"}]}), "marketstack", [BAR]),
        (json.dumps({"columns": [*RECORD], "index": [0], "data": [[*RECORD.values()]]}), "pandas-split", [BAR]),
        (
            "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n2024.01.02\t10.0\t12.5\t9.75\t11.25\t1234500\t0\t1\n",
            "metatrader",
            [BAR],
        ),
        ("date,open,high,low,close,volume,average,barCount\n20240102,10,12.5,9.75,11.25,1234500,11.02,432\n", "ib", [BAR]),
        (
            "date,open,high,low,close,volume,average\n2024-01-02,10,12.5,9.75,11.25,-1,-1\n",
            "ib",
            [BAR._replace(volume=None)],
        ),
        (
            "\ufeffDatum;Eröffnung;Hoch;Tief;Schluss;Volumen\n02.01.2024;1.110,00;1.112,50;1.109,75;1.111,25;1.230.000\n",
            "excel-de",
            [LARGE],
        ),
        ('Date,Open,High,Low,Close,Volume\n01/02/2024,$10.00,$12.50,$9.75,$11.25,"1,234,500"\n', "excel-us", [BAR]),
        (HEADER + ROW, "csv", [BAR]),
        (json.dumps([RECORD]), "json", [BAR]),
        (json.dumps(RECORD) + "\n" + json.dumps({**RECORD, "date": "2024-01-03"}) + "\n", "ndjson", [BAR, BAR._replace(day=JAN_3)]),
    ],
)  # fmt: skip
def test_the_profile_of_a_vendor_reads_its_files(source: str, name: str, expected: list[Bar]) -> None:
    assert bars(source, name) == expected


def test_profiles_are_nothing_but_options() -> None:
    for name, options in PROFILES.items():
        assert options.keys() <= set(OPTIONS), name
        read_format(name, {})


@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        (HEADER + "2024-01-02 00:00:00-05:00,10.0,12.5,9.75,11.25,1234500\n", {}, BAR),
        (HEADER + "2024-01-02 00:00:00,10.0,12.5,9.75,11.25,1234500\n", {}, BAR),
        (HEADER + "2024-01-02T05:00:00Z,10.0,12.5,9.75,11.25,1234500\n", {"time_zone": "America/New_York"}, BAR),
        (HEADER + "2024-01-02 21:00:00,10.0,12.5,9.75,11.25,1234500\n", {"time_of_day": "ignore"}, BAR),
        ("Date,Time,Open,High,Low,Close,Volume\n2024-01-02,00:00,10,12.5,9.75,11.25,1234500\n", {}, BAR),
        ("Date,Open,High,Low,Close\n2024-01-02,10,12.5,9.75,11.25\n", {}, BAR._replace(volume=None)),
        (HEADER + "2024-01-02,10,12.5,9.75,11.25,\n", {}, BAR._replace(volume=None)),
        (HEADER + "2024-01-02,10,12.5,9.75,11.25,-\n", {}, BAR._replace(volume=None)),
        (HEADER + "2024-01-02,10,12.5,9.75,11.25,N/D\n", {}, BAR._replace(volume=None)),
        ("Date,NAV\n2024-01-02,11.25\n", {"columns": {"close": "NAV"}}, Bar(JAN_2, None, None, None, 11.25)),
        ("Date;Open;High;Low;Close;Volume\n2024-01-02;10,0;12,5;9,75;11,25;1234500\n", {"decimal": ","}, BAR),
        (("Date\tOpen\tHigh\tLow\tClose\tVolume\n2024-01-02\t10\t12.5\t9.75\t11.25\t1234500\n").encode("utf-16"), {}, BAR),
        ("Date,Name,Open,High,Low,Close,Volume\n2024-01-02,Nestl\xe9,10,12.5,9.75,11.25,1234500\n".encode("latin-1"), {"encoding": "latin-1"}, BAR),
        ("sep=;\nDate;Open;High;Low;Close;Volume\n2024-01-02;10.0;12.5;9.75;11.25;1234500\n", {}, BAR),
        ("https://vendor.example/data\n" + HEADER + ROW, {"skip_lines": 1}, BAR),
        ("# exported 2024-01-05\n" + HEADER + "# note\n" + ROW, {"comment": "#"}, BAR),
        ("\n" + HEADER + "\n  2024-01-02 , 10.0 ,12.5 , 9.75, 11.25 ,1234500 \n\n", {}, BAR),
        (HEADER + '2024-01-02,"1,110.00","1,112.50","1,109.75","1,111.25","1,230,000"\n', {"thousands": ","}, LARGE),
        (HEADER + "2024-01-02,1 110.00,1 112.50,1\u00a0109.75,1\u202f111.25,1 230 000\n", {"thousands": " "}, LARGE),
        (HEADER + "2024-01-02,1.0E1,1.25E1,9.75,11.25,1.2345E+6\n", {}, BAR),
        (HEADER.replace("\n", "\r") + ROW.replace("\n", "\r"), {}, BAR),
        (HEADER.replace(",", "|") + ROW.replace(",", "|"), {}, BAR),
        ("timestamp,open,high,low,close,volume\n1704153600,10.0,12.5,9.75,11.25,1234500\n", {"columns": {"day": "timestamp"}, "date_format": "epoch"}, BAR),
        ("Date,Open,High,Low,Close,Close,Volume\n2024-01-02,10.0,12.5,9.75,11.25,11.1,1234500\n", {"columns": {"close": 5}}, BAR),
        ("2024-01-02,10.0,12.5,9.75,11.25,1234500\n", {"header": False, "columns": {"day": 1, "open": 2, "high": 3, "low": 4, "close": 5, "volume": 6}}, BAR),
        ("symbol,date,open,high,low,close,volume\nXYZ.US,2024-01-02,10,12.5,9.75,11.25,1234500\n", {"symbols": {"XYZ": "XYZ.US"}}, BAR),
        (HEADER + "2020-04-20,17.73,17.85,-40.32,-37.63,247947\n", {"prices": "any"}, Bar(date(2020, 4, 20), 17.73, 17.85, -40.32, -37.63, 247947)),
        (HEADER + "2024-01-15,9936.37,10022.85,9907.54,9878.71,21185\n", {"tolerance": 0.005}, Bar(date(2024, 1, 15), 9936.37, 10022.85, 9907.54, 9878.71, 21185)),
        (HEADER + "2024-01-02,31e-11,32e-11,3e-10,31e-11,2500000000000000\n", {}, Bar(JAN_2, 3.1e-10, 3.2e-10, 3e-10, 3.1e-10, 2.5e15)),
        ("Date,Open,High,Low,Close,Volume,Note\n2024-01-02,10,12.5,9.75,11.25,0,x\n", {"missing": [*MISSING, "0"]}, BAR._replace(volume=None)),
    ],
)  # fmt: skip
def test_an_option_reads_what_needs_it(source: str | bytes, options: Mapping[str, Any], expected: Bar) -> None:
    assert bars(source, **options) == [expected]


@pytest.mark.parametrize("word", ["null", "NaN", "N/A", "", "None"])
def test_a_word_for_missing_leaves_an_optional_field_unknown(word: str) -> None:
    source = f"Date,Open,High,Low,Close,Adj Close,Volume\n2024-01-02,10.0,12.5,9.75,11.25,{word},1234500\n"
    assert bars(source) == [BAR]


@pytest.mark.parametrize(
    ("source", "options", "reason"),
    [
        (HEADER + "2024-01-02,10.0,12.5,9.75,11.25,1,234,500\n", {}, "8 cells under 6 columns"),
        (HEADER + "2024-01-02,10,10,10,10,10,55,1200\n", {}, "8 cells under 6 columns"),
        ("Date,Time,Close\n2024-01-02,09:30,10.1\n", {}, "has the time 09:30, but bars are of days; set interval if they are not, time_of_day"),
        (json.dumps([{**RECORD, "time": "09:31"}]), {}, "has the time 09:31"),
        (HEADER + "2024-01-02 09:30:00,10.0,12.5,9.75,11.25,1234500\n", {}, "has the time 09:30:00"),
        (HEADER + "2024-01-02,1_0.0,1_2.5,9.75,1_1.25,1_234_500\n", {}, "close '1_1.25' is not a number"),
        (HEADER + "2024-01-02,\uff11\uff10,12,9,\uff11\uff11,5\n", {}, "is not a number"),
        (HEADER + "2024-01-02,10,12,9,11,\u0661\u0662\n", {}, "volume '\u0661\u0662' is not a number"),
        (HEADER + "2024-01-02,10.0,12.5,9.75,$11.25,5\n", {}, "close '$11.25' is not a number; set currency"),
        (HEADER + '2024-01-02,10.0,12.5,9.75,11.25,"1,234"\n', {}, "volume '1,234' is not a number; set decimal or thousands"),
        (HEADER + "2024-01-02,10.0,12.5,9.75,11.25,1.2M\n", {}, "volume '1.2M' is not a number; set multipliers"),
        (HEADER + '2024-01-02,10.0,12.5,9.75,11.25,"1,23"\n', {"thousands": ","}, "volume '1,23' is not a number"),
        (HEADER + '2024-01-02,10.0,12.5,9.75,11.25,"1,234,5"\n', {"thousands": ","}, "volume '1,234,5' is not a number"),
        (HEADER + "03/04/2024,10.0,12.5,9.75,11.25,5\n", {}, "'03/04/2024' is not a date; write YYYY-MM-DD, or set date_format"),
        (HEADER + "20240102,10.0,12.5,9.75,11.25,5\n", {}, "'20240102' is not a date"),
        (HEADER + "13/04/2024,10.0,12.5,9.75,11.25,5\n", {"date_format": "%m/%d/%Y"}, "is not a date; write %m/%d/%Y"),
        (HEADER + "1972-06-01,0.0,2.25,2.0,2.125,0\n", {}, "open 0.0 is not above 0; if its market allows this, set prices to any"),
        (HEADER + "2024-01-02,10.0,9.0,9.75,9.5,100\n", {}, "low 9.75 is above high 9.0"),
        (HEADER + "2024-01-15,9936.37,10022.85,9907.54,9878.71,21185\n", {}, "close 9878.71 is not between"),
        (HEADER + "2024-01-02,null,null,null,null,null\n", {}, "close is missing"),
        ("Date,Close\n2024-01-02,\n", {}, "close is missing"),
        ("[[1704153600000, 10]]", {}, "is a list, not an object; set columns to the numbers of its values"),
        ("symbol,date,close\nxyz,2024-01-02,10\n", {}, "symbol xyz is not XYZ; set symbols if it is the same"),
    ],
)  # fmt: skip
def test_a_row_that_is_written_otherwise_is_refused(source: str, options: Mapping[str, Any], reason: str) -> None:
    assert reason in refusal(source, **options)


def test_the_word_null_costs_only_its_row() -> None:
    source = HEADER + ROW + "2024-01-03,null,null,null,null,null\nData provided by a vendor\n"
    parsed = read(source)
    assert list(parsed.bars["XYZ"]) == [BAR]
    assert [(each.row, each.reason[:16]) for each in parsed.rejected_rows] == [
        (3, "close is missing"),
        (4, "1 cells under 6 "),
    ]


def test_two_bars_of_one_day_are_refused_and_equal_ones_are_counted() -> None:
    source = HEADER + ROW + ROW + "2024-01-03,11.25,12,11,11.5,987600\n2024-01-02,20.0,22.5,19.75,21.25,7\n" + ROW
    parsed = read(source)
    assert list(parsed.bars["XYZ"]) == [BAR, NEXT]
    assert (parsed.rows, parsed.repeated, parsed.rejected) == (5, 2, 1)
    assert parsed.rejected_rows[0].reason == "another row has the day 2024-01-02 with other values"
    assert parsed.rejected_rows[0].row == 5


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("Datum;Schluss\n02.01.2024;5\n", {}, "the header has no column for day, close; its columns are Datum, Schluss; set skip_lines"),
        ("Date,Open,High,Low,Close,Close,Volume\n", {"columns": {"close": "Close"}}, "'Close' is the name of two columns; set the number"),
        ("Date,Open,High,Low,Close,Close,Volume\n", {}, "both 'Close' and 'Close' hold close"),
        (ROW, {"header": False}, "no column for day, close; .* set columns to their numbers"),
        (ROW, {"header": False, "columns": {"day": 1, "close": 9}}, "close is column 9, but the first row has 6 cells"),
        (json.dumps(RECORD) + json.dumps(RECORD), {}, "expected a list of bars"),
        (json.dumps({"data": [RECORD]}), {}, "set path and layout for another one; its keys are data"),
        ('{"Information": "The limit of your API key"}', {}, "its keys are Information; its message is: The limit of your API key"),
        ('{"code": 429, "status": {"message": "slow"}}', {}, "its keys are code, status"),
        ('{"a": {"b": 5}}', {"path": "a.b"}, "expected a list of bars"),
        ('{"t": [1, 2], "c": [5]}', {"layout": "columns", "columns": {"day": "t", "close": "c"}}, "the lists of its fields differ in length"),
        ('{"s": "no_data"}', {"layout": "columns"}, "its message is: no_data"),
        (b"Nestl\xe9\n", {}, "not UTF-8 text at byte 5: .*; set encoding"),
        (b"abc", {"encoding": "utf-16-le"}, "not UTF-16-LE text"),
        (bz2.compress(b"x"), {}, "not UTF-8 text"),
    ],
)  # fmt: skip
def test_an_unreadable_source_names_the_option(source: str | bytes, options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UnreadableBars, match=message):
        read(source, **options)


def test_the_encoding_that_a_server_names_is_used() -> None:
    source = "Date,Name,Close\n2024-01-02,Nestl\xe9,5\n".encode("latin-1")
    expected = Expected("XYZ", date(2030, 1, 1))
    assert len(parse_bars(source, expected, "ISO-8859-1").bars["XYZ"]) == 1
    assert len(parse_bars(source.replace(b"\xe9", b""), expected, "unknown").bars["XYZ"]) == 1
    with pytest.raises(UnreadableBars):
        parse_bars(source, replace(expected, written=read_format(None, {"encoding": "utf-8"})), "ISO-8859-1")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nasdak", {}, "unknown format 'nasdak'; did you mean 'nasdaq'"),
        (None, {"encoding": "zip"}, "^encoding: 'zip' is not an encoding that is read"),
        (None, {"encoding": "utf-7"}, "^encoding: 'utf-7'"),
        (None, {"time_zone": "Mars"}, "^time_zone: 'Mars' is not a time zone"),
        (None, {"time_zone": "../x"}, "^time_zone: '../x' is not a time zone"),
        (None, {"delimiter": ";;"}, "^delimiter: must be one character"),
        (None, {"decimal": ";"}, "^decimal: ';' is not one of '.' ','"),
        (None, {"date_format": "iso"}, "^date_format: 'iso' is not a date format"),
        (None, {"columns": {"clos": "Last"}}, "^columns: unknown field 'clos'; did you mean 'close'"),
        (None, {"columns": {"close": 0}}, "^columns.close: must be from 1 to 1000"),
        (None, {"columns": {"close": None}}, "^columns.close: expected a whole number"),
        (None, {"symbols": {"XYZ": 5}}, "^symbols.XYZ: expected a string"),
        (None, {"symbols": {"X;Z": "x"}}, "^symbols.X;Z: 'X;Z' is not a valid symbol"),
        (None, {"tolerance": 2}, "^tolerance: must be from 0 to 1"),
    ],
)
def test_a_wrong_option_is_explained(name: str | None, options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(FieldError, match=message):
        read_format(name, options)
