"""Reads bars with a time, as vendors ship them; refuses what could mean two things, and what contradicts its interval."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from stockworker.market import parsed_bars
from stockworker.market.bar_formats import Expected, UnreadableBars, parse_bars
from stockworker.market.bars import Bar
from stockworker.market.interval import INTERVALS
from stockworker.market.parsed_bars import ParsedBars
from stockworker.market.source_format import read_format
from stockworker.market.spacing import contradiction
from stockworker.protocol.fields import FieldError

NEW_YORK = "America/New_York"
BAR = Bar(datetime(2024, 1, 2, 14, 30, tzinfo=UTC), 10.0, 10.2, 9.9, 10.1, 1000.0)
NEXT = Bar(datetime(2024, 1, 2, 14, 31, tzinfo=UTC), 10.1, 10.6, 10.0, 10.5, 2000.0)
HEADER = "Date,Open,High,Low,Close,Volume\n"
PRICES = "10.0,10.2,9.9,10.1,1000"


def read(source: str, name: str | None = None, interval: str | None = "1min", **options: Any) -> ParsedBars:
    written = read_format(name, {**({"interval": interval} if interval else {}), **options})
    return parse_bars(source.encode(), Expected("XYZ", date(2030, 1, 1), written))


def bars(source: str, name: str | None = None, interval: str | None = "1min", **options: Any) -> list[Bar]:
    parsed = read(source, name, interval, **options)
    assert parsed.rejected_rows == []
    return list(parsed.bars["XYZ"])


def refusal(source: str, **options: Any) -> str:
    parsed = read(source, **options)
    assert (len(parsed.bars), parsed.rejected) == (0, parsed.rows)
    return parsed.rejected_rows[0].reason


@pytest.mark.parametrize(
    ("source", "name", "options"),
    [
        ("Date,Time,Open,High,Low,Close,Volume\n2024-01-02,09:30,10.0,10.2,9.9,10.1,1000\n2024-01-02,09:31,10.1,10.6,10.0,10.5,2000\n", None, {"time_zone": NEW_YORK}),
        (HEADER + f"2024-01-02 09:30:00,{PRICES}\n2024-01-02 09:31:00,10.1,10.6,10.0,10.5,2000\n", None, {"time_zone": NEW_YORK}),
        (
            "timestamp,open,high,low,close,volume\n2024-01-02 09:31:00,10.1,10.6,10.0,10.5,2000\n2024-01-02 09:30:00,10.0,10.2,9.9,10.1,1000\n",
            "alphavantage",
            {},
        ),
        (
            json.dumps({"Meta Data": {"1. Information": "Intraday (1min)", "6. Time Zone": "US/Eastern"}, "Time Series (1min)": {
                "2024-01-02 09:30:00": {"1. open": "10.0", "2. high": "10.2", "3. low": "9.9", "4. close": "10.1", "5. volume": "1000"},
                "2024-01-02 09:31:00": {"1. open": "10.1", "2. high": "10.6", "3. low": "10.0", "4. close": "10.5", "5. volume": "2000"}}}),
            "alphavantage-json",
            {},
        ),
        (
            "datetime;open;high;low;close;volume\n2024-01-02 09:31:00;10.1;10.6;10.0;10.5;2000\n2024-01-02 09:30:00;10.0;10.2;9.9;10.1;1000\n",
            "twelvedata",
            {"time_zone": NEW_YORK},
        ),
        (
            json.dumps({"meta": {"symbol": "XYZ", "exchange_timezone": NEW_YORK}, "values": [
                {"datetime": "2024-01-02 09:30:00", "open": "10.0", "high": "10.2", "low": "9.9", "close": "10.1", "volume": "1000"},
                {"datetime": "2024-01-02 09:31:00", "open": "10.1", "high": "10.6", "low": "10.0", "close": "10.5", "volume": "2000"}]}),
            "twelvedata-json",
            {"time_zone": NEW_YORK},
        ),
        (
            json.dumps({"ticker": "XYZ", "results": [{"v": 1000, "o": 10.0, "c": 10.1, "h": 10.2, "l": 9.9, "t": 1704205800000},
                                                      {"v": 2000, "o": 10.1, "c": 10.5, "h": 10.6, "l": 10.0, "t": 1704205860000}]}),
            "polygon",
            {},
        ),
        ('[[1704205800000, "10.0", "10.2", "9.9", "10.1", "1000", 1704205859999], [1704205860000, "10.1", "10.6", "10.0", "10.5", "2000", 0]]', "binance", {}),
        ("1704205800000000,10.0,10.2,9.9,10.1,1000\n1704205860000000,10.1,10.6,10.0,10.5,2000\n", "binance", {"date_format": "epoch_us"}),
        (
            ("<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n2024.01.02\t16:30:00\t10.0\t10.2\t9.9\t10.1\t1000\t0\t1\n"
            "2024.01.02\t16:31:00\t10.1\t10.6\t10.0\t10.5\t2000\t0\t1\n"),
            "metatrader",
            {"time_zone": "Europe/Athens"},
        ),
        (
            "date,open,high,low,close,volume,average,barCount\n20240102 09:30:00,10.0,10.2,9.9,10.1,1000,10,4\n20240102  09:31:00,10.1,10.6,10.0,10.5,2000,10,4\n",
            "ib",
            {"time_zone": NEW_YORK},
        ),
        (
            "date,open,high,low,close,volume\n20240102 09:30:00 US/Eastern,10.0,10.2,9.9,10.1,1000\n20240102 14:31:00 UTC,10.1,10.6,10.0,10.5,2000\n",
            "ib",
            {},
        ),
        (
            "date,open,high,low,close,volume,average\n2024-01-02 09:30:00-05:00,10.0,10.2,9.9,10.1,1000,-1\n2024-01-02 09:31:00-05:00,10.1,10.6,10.0,10.5,2000,-1\n",
            "ib",
            {},
        ),
        (
            "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\nXYZ,1,20240102,153000,10.0,10.2,9.9,10.1,1000,0\nXYZ,1,20240102,153100,10.1,10.6,10.0,10.5,2000,0\n",
            "stooq-bulk",
            {"time_zone": "Europe/Warsaw", "interval": None},
        ),
        (
            "Timestamp,Gmtoffset,Datetime,Open,High,Low,Close,Volume\n1704205800,0,2024-01-02 14:30:00,10.0,10.2,9.9,10.1,1000\n1704205860,0,2024-01-02 14:31:00,10.1,10.6,10.0,10.5,2000\n",
            "eodhd",
            {},
        ),
        (
            json.dumps([{"date": "2024-01-02T14:30:00.000Z", "open": 10.0, "high": 10.2, "low": 9.9, "close": 10.1, "volume": 1000},
                        {"date": "2024-01-02T14:31:00.000Z", "open": 10.1, "high": 10.6, "low": 10.0, "close": 10.5, "volume": 2000}]),
            "tiingo",
            {},
        ),
        (
            "Price,Close,High,Low,Open,Volume\nTicker,XYZ,XYZ,XYZ,XYZ,XYZ\nDatetime,,,,,\n2024-01-02 14:30:00+00:00,10.1,10.2,9.9,10.0,1000\n2024-01-02 14:31:00+00:00,10.5,10.6,10.0,10.1,2000\n",
            "yfinance",
            {},
        ),
        ("time,open,high,low,close,volume\n1704205800,10.0,10.2,9.9,10.1,1000\n1704205860,10.1,10.6,10.0,10.5,2000\n", None, {"date_format": "epoch"}),
        ("Day,Time,Open,High,Low,Close,Volume\n01/02/2024,9:30 AM,10.0,10.2,9.9,10.1,1000\n01/02/2024,09:31:00 am,10.1,10.6,10.0,10.5,2000\n", None, {"date_format": "%m/%d/%Y", "time_zone": NEW_YORK}),
        ("Date,Open,High,Low,Close,Volume\n02.01.2024 15:30,10.0,10.2,9.9,10.1,1000\n02.01.2024 15:31,10.1,10.6,10.0,10.5,2000\n", None, {"date_format": "%d.%m.%Y %H:%M", "time_zone": "Europe/Berlin"}),
        ("date,time,open,high,low,close,volume\n2024-01-02 00:00:00,930,10.0,10.2,9.9,10.1,1000\n2024-01-02,93100,10.1,10.6,10.0,10.5,2000\n", None, {"time_zone": NEW_YORK}),
        ("interval,date,open,high,low,close,volume\n1m,2024-01-02T14:30:00Z,10.0,10.2,9.9,10.1,1000\n1min,2024-01-02T14:31:00Z,10.1,10.6,10.0,10.5,2000\n", None, {"interval": None}),
    ],
)  # fmt: skip
def test_the_files_of_vendors_with_a_time_are_read(source: str, name: str | None, options: dict[str, Any]) -> None:
    interval = options.pop("interval", "1min")
    assert sorted(bars(source, name, interval, **options)) == [BAR, NEXT]


@pytest.mark.parametrize(
    ("cells", "options", "reason"),
    [
        (f"2024-01-02 09:30:00,{PRICES}", {}, "2024-01-02 09:30:00 has no time zone; set time_zone, such as America/New_York or UTC"),
        (f"2024-01-02,{PRICES}", {"time_zone": "UTC"}, "'2024-01-02' has no time, but its interval needs one; set interval to 1d if bars are of days"),
        (f"2024-03-10 02:30:00,{PRICES}", {"time_zone": NEW_YORK}, "2024-03-10 02:30:00 does not exist in America/New_York, because of its change of clocks"),
        (f"2024-11-03 01:30:00,{PRICES}", {"time_zone": NEW_YORK}, "2024-11-03 01:30:00 exists twice in America/New_York, because of its change of clocks; set ambiguous_time"),
        (f"2024-01-02 25:30:00,{PRICES}", {"time_zone": "UTC"}, "'2024-01-02 25:30:00' is not a time; write YYYY-MM-DD hh:mm:ss, or set date_format"),
        (f"yesterday,{PRICES}", {"time_zone": "UTC"}, "'yesterday' is not a time"),
        (f"20240102 09:30:00 ../../etc,{PRICES}", {"date_format": "%Y%m%d"}, "is not a time; write %Y%m%d"),
        (f"20240102 09:30:00 Mars/Olympus,{PRICES}", {"date_format": "%Y%m%d"}, "is not a time; write %Y%m%d"),
        (f"{'9' * 30},{PRICES}", {"date_format": "epoch"}, "is not a time"),
        (f"2035-01-02 09:30:00,{PRICES}", {"time_zone": "UTC"}, "day 2035-01-02T09:30:00Z is in the future"),
    ],
)  # fmt: skip
def test_a_time_that_could_mean_two_things_is_refused(cells: str, options: dict[str, Any], reason: str) -> None:
    assert reason in refusal(f"{HEADER}{cells}\n", **options)


@pytest.mark.parametrize(("which", "hour"), [("first", 5), ("second", 6)])
def test_an_ambiguous_time_means_what_the_option_names(which: str, hour: int) -> None:
    source = f"{HEADER}2024-11-03 01:30:00,{PRICES}\n"
    (found,) = bars(source, time_zone=NEW_YORK, ambiguous_time=which)
    assert found.day == datetime(2024, 11, 3, hour, 30, tzinfo=UTC)


def test_an_hour_that_exists_twice_is_never_stored_as_one() -> None:
    source = f"{HEADER}2024-11-03 01:30:00,{PRICES}\n2024-11-03 01:30:00,10.0,10.2,9.9,10.0,7\n"
    parsed = read(source, time_zone=NEW_YORK, ambiguous_time="first")
    assert (len(parsed.bars["XYZ"]), parsed.rejected) == (1, 1)
    assert parsed.rejected_rows[0].reason == "another row has the time 2024-11-03T05:30:00Z with other values"


def test_bars_of_days_refuse_a_time_and_name_the_option() -> None:
    reason = refusal(f"{HEADER}2024-01-02 09:30:00,{PRICES}\n", interval=None)
    assert (
        "has the time 09:30:00, but bars are of days; set interval if they are not, time_of_day to ignore it" in reason
    )


def test_all_rows_have_one_interval() -> None:
    source = "interval,date,close\n1h,2024-01-02T14:00:00Z,10\n1d,2024-01-02,11\n1 hour,2024-01-02T15:00:00Z,12\n"
    parsed = read(source, interval=None)
    assert (parsed.interval.name, len(parsed.bars["XYZ"]), parsed.rejected) == ("1h", 2, 1)
    assert "interval 1d is not 1h; set interval to import the rows of one of them" in parsed.rejected_rows[0].reason
    assert [bar.day for bar in read(source, interval="1d").bars["XYZ"]] == [date(2024, 1, 2)]
    assert "unknown interval '7x'" in refusal("interval,date,close\n7x,2024-01-02,10\n", interval=None)


def test_weeks_are_stored_by_their_monday_and_months_by_their_first_day() -> None:
    source = "date,close\n2024-01-05,10\n2024-01-08,11\n2024-01-10,12\n"
    parsed = read(source, interval="1w")
    assert [bar.day for bar in parsed.bars["XYZ"]] == [date(2024, 1, 1), date(2024, 1, 8)]
    assert parsed.rejected_rows[0].reason == "another row has the week of 2024-01-08 with other values"
    assert [bar.day for bar in bars("date,close\n2024-01-31,10\n2024-02-29,11\n", interval="1mo")] == [
        date(2024, 1, 1),
        date(2024, 2, 1),
    ]


def test_bars_with_a_time_wait_in_a_file_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsed_bars, "MOST_IN_MEMORY", 3)
    first = datetime(1969, 12, 31, 23, 58, tzinfo=UTC)
    times = [first + timedelta(minutes=number) for number in (0, 1, 2, 4, 3, 5, 6)]
    source = "date,close\n" + "".join(f"{time:%Y-%m-%dT%H:%M:%SZ},{number}\n" for number, time in enumerate(times, 1))
    assert [bar.day for bar in bars(source)] == times
    again = read(source + f"{times[1]:%Y-%m-%dT%H:%M:%SZ},99\n" + f"{times[2]:%Y-%m-%dT%H:%M:%SZ},3\n")
    assert (again.rejected, again.repeated) == (1, 1)


def spaced(minutes: list[float], interval: str) -> str | None:
    first = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    times = [first + timedelta(minutes=each) for each in minutes]
    return contradiction(
        read("date,close\n" + "".join(f"{each.isoformat()},10\n" for each in times), interval=interval)
    )


@pytest.mark.parametrize(
    ("minutes", "interval", "problem"),
    [
        ([0, 1, 2], "1min", None),
        ([0, 1, 2], "5min", "the interval is 5min, but two bars begin 1 min after each other; set interval to 1min"),
        ([0, 30, 90, 150, 210], "1h", None),  # an exchange that opens at half past
        ([0, 30, 60, 90, 120], "1h", "the interval is 1h, but most bars begin 30 min after the one before; set interval to 30min"),
        ([0, 5, 10, 15], "1min", "the interval is 1min, but no bar begins earlier than 5 min after the one before; set interval to 5min"),
        ([0, 5, 11, 40, 45], "1min", None),  # a share that is rarely traded
        ([0, 7, 14, 21], "1min", None),
        ([0, 60], "1min", None),
        ([0, 390, 1440, 1830], "4h", None),
        ([2, 1, 0], "1min", None),
        ([0], "1min", None),
    ],
)  # fmt: skip
def test_distances_that_contradict_the_interval_are_found(
    minutes: list[float], interval: str, problem: str | None
) -> None:
    assert spaced(minutes, interval) == problem


@pytest.mark.parametrize(
    ("days", "interval", "problem"),
    [
        ([0, 1, 2, 3], "1d", None),
        ([0, 7, 14, 21], "1d", "the interval is 1d, but the bars are a week apart; set interval to 1w"),
        ([0, 7, 15, 21, 28], "1d", "the interval is 1d, but the bars are a week apart; set interval to 1w"),
        ([0, 7, 8], "1d", None),
        ([0, 31, 60, 91], "1d", "the interval is 1d, but the bars are a month apart; set interval to 1mo"),
        ([0, 31, 60, 91], "1mo", None),
        ([0, 31, 60, 91], "1w", "the interval is 1w, but the bars are a month apart; set interval to 1mo"),
        ([0, 7, 14, 21], "1w", None),
        ([0, 91, 182, 274], "1d", None),
        (list(range(14)), "1w", "the interval is 1w, but most rows are in the same 1w as another one; set interval to 1d if they are days"),
    ],
)  # fmt: skip
def test_days_that_contradict_the_interval_are_found(days: list[int], interval: str, problem: str | None) -> None:
    rows = "".join(f"{date(2024, 1, 1) + timedelta(days=each)},{each + 1}\n" for each in days)
    assert contradiction(read("date,close\n" + rows, interval=interval)) == problem


def test_the_key_of_a_json_path_may_have_any_text() -> None:
    source = json.dumps({"Meta": {}, "Time Series (5min)": {"2024-01-02": {"close": 10}}})
    assert len(bars(source, interval="1d", layout="by_date", path="Time*")) == 1
    with pytest.raises(UnreadableBars, match="set path"):
        bars(source, interval="1d", layout="by_date", path="Weekly*")


def test_an_interval_that_is_not_known_is_refused() -> None:
    with pytest.raises(FieldError, match="interval: unknown interval '5m'; did you mean '5min'"):
        read_format(None, {"interval": "5m"})
    assert read_format(None, {"interval": "5min"}).interval is INTERVALS["5min"]
