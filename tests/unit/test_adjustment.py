"""Prices adjusted for splits and dividends, compared with series computed by hand and with the column of a vendor."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from stockworker.market.adjustment import Adjust, CantAdjust, adjusted_for
from stockworker.market.bar_formats import Expected, RowKind, UnreadableBars, parse_bars
from stockworker.market.bars import Action, ActionKind, Bar
from stockworker.market.interval import DAILY, INTERVALS, WEEKLY
from stockworker.market.parsed_bars import ParsedBars
from stockworker.market.source_format import read_format
from tests.harness.sample_data import sample_bars


def day(number: int) -> date:
    return date(2024, 1, number)


def bar(number: int, close: float, volume: float | None = 100.0) -> Bar:
    return Bar(day(number), close, close + 2, close - 2, close, volume)


SPLIT = Action(day(4), ActionKind.SPLIT, 2.0)
DIVIDEND = Action(day(3), ActionKind.DIVIDEND, 1.0)
BARS = [bar(2, 100.0), bar(3, 99.0), bar(4, 50.0), bar(5, 51.0)]


def closes(adjust: str, *actions: Action, bars: list[Bar] = BARS) -> list[float]:
    return [each.close for each in adjusted_for(bars, DAILY, actions, Adjust(adjust))]


def test_prices_before_a_split_are_divided_and_volumes_multiplied() -> None:
    adjusted = adjusted_for(BARS, DAILY, [DIVIDEND, SPLIT], Adjust.SPLITS)
    assert adjusted == [
        Bar(day(2), 50.0, 51.0, 49.0, 50.0, 200.0),
        Bar(day(3), 49.5, 50.5, 48.5, 49.5, 200.0),
        *BARS[2:],
    ]


def test_prices_before_a_dividend_are_multiplied_by_what_is_left_of_the_close() -> None:
    assert closes("dividends", DIVIDEND, SPLIT) == [pytest.approx(100 * (1 - 1 / 100)), 99, 50, 51]
    assert closes("all", SPLIT, DIVIDEND) == [pytest.approx(49.5), 49.5, 50, 51]
    assert closes("none", SPLIT, DIVIDEND) == [100, 99, 50, 51]


def test_a_dividend_on_the_day_of_a_split_is_one_of_a_new_share() -> None:
    same = Action(day(4), ActionKind.DIVIDEND, 0.99)
    assert closes("all", same, SPLIT)[1] == pytest.approx(49.5 * (1 - 0.99 / 49.5))


def test_what_happens_after_the_newest_bar_or_before_the_oldest_changes_nothing() -> None:
    others = [
        Action(day(6), ActionKind.SPLIT, 3.0),
        Action(day(1), ActionKind.DIVIDEND, 5.0),
        SPLIT._replace(day=day(2)),
    ]
    assert closes("all", *others) == [100, 99, 50, 51]


def test_an_action_on_a_day_without_a_bar_is_effective_on_the_next() -> None:
    assert closes("all", SPLIT, bars=[bar(3, 99.0), bar(5, 51.0)]) == [49.5, 51]


def test_two_actions_between_two_bars_use_the_same_close() -> None:
    first, second = Action(day(3), ActionKind.DIVIDEND, 1.0), Action(day(4), ActionKind.DIVIDEND, 2.0)
    assert closes("all", first, second, bars=[bar(2, 100.0), bar(5, 97.0)]) == [pytest.approx(97.0), 97]


def test_unknown_values_stay_unknown_and_the_adjusted_close_of_the_source_goes() -> None:
    raw = [Bar(day(3), None, None, None, 100.0, None, 7.0), bar(4, 50.0)]
    assert adjusted_for(raw, DAILY, [SPLIT], Adjust.ALL)[0] == Bar(day(3), None, None, None, 50.0)
    assert adjusted_for(raw, DAILY, [], Adjust.ALL)[0].adjusted_close is None
    assert adjusted_for([], DAILY, [SPLIT], Adjust.ALL) == []


def test_times_belong_to_the_day_of_the_exchange() -> None:
    zone, hourly = ZoneInfo("America/New_York"), INTERVALS["1h"]
    times = [datetime(2024, 1, 4, hour, tzinfo=UTC) for hour in (4, 5)]  # the split is at 05:00 UTC
    bars = [Bar(times[0], 99.0, 99.0, 99.0, 99.0), Bar(times[1], 50.0, 50.0, 50.0, 50.0)]
    assert [each.close for each in adjusted_for(bars, hourly, [SPLIT], Adjust.ALL, zone)] == [49.5, 50.0]


@pytest.mark.parametrize(
    ("bars", "action", "problem"),
    [
        ([bar(3, 50.0), bar(4, 50.5)], SPLIT, "the close went from 50 to 50.5 with the split of 2 on 2024-01-04: these prices are adjusted"),
        ([bar(2, 1.0), bar(3, 1.0)], DIVIDEND, "the dividend of 1 on 2024-01-03 is not below the close before it, 1"),
        ([bar(2, -1.0), bar(3, 1.0)], DIVIDEND, "prices of 0 and below, such as before 2024-01-03, can't be adjusted"),
    ],
)  # fmt: skip
def test_prices_that_can_not_be_adjusted_are_refused(bars: list[Bar], action: Action, problem: str) -> None:
    with pytest.raises(CantAdjust, match=problem):
        adjusted_for(bars, DAILY, [action], Adjust.ALL)


def test_bars_of_weeks_are_not_adjusted() -> None:
    with pytest.raises(CantAdjust, match="bars of 1w can't be adjusted; make them of bars of 1d"):
        adjusted_for(BARS, WEEKLY, [SPLIT], Adjust.ALL)


def test_real_prices_adjusted_for_real_splits_and_dividends_are_those_of_the_vendor() -> None:
    """13 years of AAPL: the column of the vendor also has later changes, which are one factor over all days."""
    bars = sample_bars()["AAPL"]
    splits = [Action(each, ActionKind.SPLIT, 2.0) for each in (date(2000, 6, 21), date(2005, 2, 28))]
    days = (date(2012, 8, 9), date(2012, 11, 7), date(2013, 2, 7))
    dividends = [Action(each, ActionKind.DIVIDEND, 2.65) for each in days]
    adjusted = adjusted_for(bars, DAILY, [*splits, *dividends], Adjust.ALL)
    theirs = [each.adjusted_close or 0.0 for each in bars]
    factor = theirs[-1] / adjusted[-1].close
    assert [each.close * factor for each in adjusted] == pytest.approx(theirs, rel=2e-4)
    assert theirs[0] / bars[0].close < factor / 4  # there was something to adjust


TIINGO = """date,close,high,low,open,volume,adjClose,divCash,splitFactor
2024-01-03,99,101,97,99,100,49.5,1.0,1.0
2024-01-04,50,52,48,50,100,50,0.0,2.0
"""
ALPHA_VANTAGE = """timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient
2024-01-04,50,52,48,50,50,100,0.0000,2.0
2024-01-03,99,101,97,99,49.5,100,1.0000,1.0
"""
YFINANCE = """Date,Open,High,Low,Close,Volume,Dividends,Stock Splits
2024-01-03 00:00:00-05:00,99,101,97,99,100,1.0,0.0
2024-01-04 00:00:00-05:00,50,52,48,50,100,0.0,2.0
"""


def read(text: str, name: str | None = None, kind: RowKind = RowKind.BARS, **options: object) -> ParsedBars:
    written = read_format(name, options)
    return parse_bars(text.encode(), Expected("AAPL", date(2030, 1, 1), written, kind=kind))


@pytest.mark.parametrize(("text", "name"), [(TIINGO, "tiingo"), (ALPHA_VANTAGE, "alphavantage"), (YFINANCE, "yahoo")])
def test_the_columns_of_vendors_beside_daily_bars_are_read(text: str, name: str) -> None:
    parsed = read(text, name)
    assert (parsed.rejected_rows, len(parsed.bars["AAPL"])) == ([], 2)
    assert sorted(parsed.of_actions()["AAPL"]) == [DIVIDEND, SPLIT]


@pytest.mark.parametrize(
    ("cell", "ratio"),
    [("2", 2.0), ("2:1", 2.0), ("4/1", 4.0), ("3-for-2", 1.5), ("1:10", 0.1), ("4.000000/1.000000", 4.0), ("0.5", 0.5)],
)
def test_a_split_is_written_in_several_ways(cell: str, ratio: float) -> None:
    parsed = read(f"Date,Stock Splits\n2024-01-04,{cell}\n", kind=RowKind.SPLITS)
    assert parsed.of_actions() == {"AAPL": [Action(day(4), ActionKind.SPLIT, ratio)]}
    assert parsed.bars == {}


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("Date,Split\n2024-01-04,2:0\n", RowKind.SPLITS, "split '2:0' is not a ratio, such as 2 or 2:1"),
        ("Date,Split\n2024-01-04,-2\n", RowKind.SPLITS, "split '-2' is not a ratio"),
        ("Date,Split\n2024-01-04,x\n", RowKind.SPLITS, "split 'x' is not a number"),
        ("Date,Split\n2024-01-04,1\n", RowKind.SPLITS, "split is missing, or without an effect"),
        ("Date,Dividends\n2024-01-04,\n", RowKind.DIVIDENDS, "dividend is missing, or without an effect"),
        ("Date,Dividends\n2024-01-04,-0.1\n", RowKind.DIVIDENDS, "dividend -0.1 is not between 0 and"),
        ("Date,Close,Dividends\n2024-01-04,10,x\n", RowKind.BARS, "dividend 'x' is not a number"),
    ],
)  # fmt: skip
def test_a_split_or_dividend_that_is_none_is_refused(text: str, kind: RowKind, reason: str) -> None:
    parsed = read(text, kind=kind)
    assert (parsed.actions, parsed.rejected) == ({}, 1)
    assert reason in parsed.rejected_rows[0].reason


def test_two_dividends_of_one_day_are_refused_and_equal_ones_are_one() -> None:
    parsed = read("Date,Dividends\n2024-01-04,0.2\n2024-01-04,0.2\n2024-01-04,0.3\n", kind=RowKind.DIVIDENDS)
    assert parsed.of_actions() == {"AAPL": [Action(day(4), ActionKind.DIVIDEND, 0.2)]}
    assert "another row has a dividend on 2024-01-04 with another value" in parsed.rejected_rows[0].reason
    assert (parsed.rows, parsed.repeated, parsed.rejected) == (3, 1, 1)


def test_a_row_whose_dividend_is_refused_has_no_bar_either() -> None:
    parsed = read("Date,Close,Dividends\n2024-01-04,10,0.2\n2024-01-04,10,0.3\n2024-01-05,x,0.4\n")
    assert (len(parsed.bars["AAPL"]), parsed.repeated, parsed.rejected) == (1, 0, 2)
    assert parsed.of_actions() == {"AAPL": [Action(day(4), ActionKind.DIVIDEND, 0.2)]}


def test_a_source_of_splits_needs_their_column() -> None:
    with pytest.raises(UnreadableBars, match="no column for split; its columns are Date, Close"):
        read("Date,Close\n2024-01-04,10\n", kind=RowKind.SPLITS)
