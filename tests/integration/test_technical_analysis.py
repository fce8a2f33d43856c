"""Runs the job type technical_analysis over a real store."""

import json
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from stockworker.handlers.api import PermanentError
from stockworker.market import data_import, technical_analysis
from stockworker.market.bars import Bar, IndicatorValue
from stockworker.market.interval import INTERVALS
from stockworker.market.store import open_market_store
from tests.harness.handler_run import HandlerRun
from tests.harness.sample_data import sample_bars

AAPL = sample_bars()["AAPL"]


@pytest.fixture
def run(tmp_path: Path) -> HandlerRun:
    location = str(tmp_path / "market.db")
    store = open_market_store(location)
    store.upsert({"AAPL": AAPL})
    store.close()
    return HandlerRun("technical_analysis", technical_analysis.handle, {"market_data": location})


def stored(run: HandlerRun) -> dict[str, IndicatorValue]:
    with closing(open_market_store(run.settings["market_data"], read_only=True)) as store:
        return store.indicators("AAPL")


def inline(count: int) -> list[dict[str, Any]]:
    names = ("open", "high", "low", "close", "volume", "adjusted_close")
    return [{"day": bar.day.isoformat(), **{name: getattr(bar, name) for name in names}} for bar in AAPL[:count]]


def average(name: str, count: int) -> float:
    return float(sum(getattr(bar, name) for bar in AAPL[-count:]) / count)


def test_the_newest_values_are_returned_and_stored(run: HandlerRun) -> None:
    result = run({"symbol": "AAPL", "indicators": [{"name": "sma", "period": 50}, "bollinger"]})
    assert (result["symbol"], result["as_of"], result["bars"]) == ("AAPL", "2013-03-01", 3270)
    (found,) = result["indicators"]["sma_50"]
    assert found == {"day": "2013-03-01", "value": pytest.approx(average("close", 50), rel=1e-12)}
    assert set(result["indicators"]["bollinger_20_2"][0]["value"]) == {"lower", "middle", "upper"}
    assert stored(run)["sma_50"] == IndicatorValue(AAPL[-1].day, found["value"])
    assert stored(run)["bollinger_20_2"].value == result["indicators"]["bollinger_20_2"][0]["value"]


def test_several_days_can_be_asked_for(run: HandlerRun) -> None:
    values = run({"symbol": "AAPL", "indicators": ["rsi"], "last": 5})["indicators"]["rsi_14"]
    assert [value["day"] for value in values] == [bar.day.isoformat() for bar in AAPL[-5:]]


def test_values_of_an_earlier_day_do_not_replace_stored_ones(run: HandlerRun) -> None:
    run({"symbol": "AAPL", "indicators": ["rsi"]})
    result = run({"symbol": "AAPL", "indicators": ["rsi"], "until": "2012-06-30"})
    assert result["as_of"] == "2012-06-29"
    assert stored(run)["rsi_14"].day == AAPL[-1].day


def test_adjusted_prices_have_their_own_label(run: HandlerRun) -> None:
    result = run({"symbol": "AAPL", "indicators": [{"name": "sma", "period": 50}], "price": "adjusted_close"})
    (found,) = result["indicators"]["sma_50_adjusted"]
    assert found["value"] == pytest.approx(average("adjusted_close", 50), rel=1e-12)


def test_without_indicators_the_usual_ones_are_computed(run: HandlerRun) -> None:
    labels = set(run({"symbol": "AAPL"})["indicators"])
    assert {"sma_20", "ema_20", "rsi_14", "macd_12_26_9", "bollinger_20_2", "atr_14", "obv"} <= labels
    assert set(run({"symbol": "NEW", "bars": inline(5)})["indicators"]) == {"obv"}


def test_with_bars_in_the_payload_the_store_is_neither_read_nor_changed(run: HandlerRun) -> None:
    bars = list(reversed(inline(30)))
    given = run({"symbol": "AAPL", "bars": bars, "indicators": ["rsi"]})
    until = run({"symbol": "AAPL", "until": bars[0]["day"], "indicators": ["rsi"]})
    assert given == until
    del run.settings["market_data"]
    assert run({"symbol": "AAPL", "bars": bars, "indicators": ["rsi"]}) == given


def test_the_result_of_many_values_fits_into_a_message(run: HandlerRun) -> None:
    bulkiest = [{"name": "adx", "di_period": period, "period": 100} for period in range(2, 12)]
    result = run({"symbol": "AAPL", "indicators": bulkiest, "last": 200})
    assert len(json.dumps(result)) < 256 * 1024


def test_a_cancelled_analysis_stops_between_indicators(run: HandlerRun) -> None:
    run.cancelled = lambda: len(run.progress) == 1
    with pytest.raises(InterruptedError, match="stopped after 1 of 2 indicators"):
        run({"symbol": "AAPL", "indicators": ["rsi", "sma"]})
    assert stored(run) == {}


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("AAPL", "payload: expected an object"),
        ({}, r"payload\.symbol: give either symbol or symbols"),
        ({"symbol": "APL"}, r"there are no bars: unknown symbol 'APL'; did you mean 'AAPL'\?"),
        (
            {"symbol": "AAPL", "until": "1999-01-01"},
            "AAPL has 0 bars until 1999-01-01, too few for the usual indicators",
        ),
        ({"symbol": "AAPL", "indicator": "rsi"}, r"payload: unknown field 'indicator'; did you mean 'indicators'\?"),
        ({"symbol": "AAPL", "indicators": "rsi"}, r"payload\.indicators: expected a list, got the string 'rsi'"),
        ({"symbol": "AAPL", "indicators": []}, r"payload\.indicators: must have 1 to 100 entries"),
        ({"symbol": "AAPL", "indicators": ["rsii"]}, r"payload\.indicators\[0\]: unknown .*; did you mean 'rsi'\?"),
        ({"symbol": "AAPL", "indicators": ["rsi"], "last": 2001}, r"payload\.last: must be from 0 to 2000"),
        ({"symbol": "AAPL", "indicators": ["rsi"] * 3, "last": 1000}, r"payload\.last: must be from 0 to 666 for"),
        ({"symbol": "AAPL", "price": "open"}, r"payload\.price: 'open' is not one of close, adjusted_close"),
        ({"symbol": "AAPL", "indicators": ["rsi"], "until": "2000-03-05"}, "rsi_14 needs 15 bars: AAPL has 3 until"),
        ({"symbol": "X", "bars": inline(19), "indicators": ["sma"]}, "sma_20 needs 20 bars: X has 19"),
        ({"symbol": "X", "bars": []}, "X has 0 bars, too few"),
        ({"symbol": "X", "bars": [*inline(2), {}]}, r"payload\.bars: bar 3 of 3: day is missing"),
        ({"symbol": "X", "bars": inline(2) * 2}, r"payload\.bars: two bars have the same day"),
        ({"symbol": "X", "bars": [{"date": "", "day": ""}]}, r"payload\.bars: both 'date' and 'day' hold day"),
        (
            {"symbol": "X", "price": "adjusted_close", "bars": [inline(1)[0] | {"adjusted_close": None}]},
            "X: 2000-03-01 has no adjusted close; use price close",
        ),
    ],
)
def test_a_wrong_payload_is_explained(run: HandlerRun, payload: Any, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        run(payload)


def test_all_symbols_are_analysed_and_stored_together(run: HandlerRun) -> None:
    store = open_market_store(run.settings["market_data"])
    store.upsert({"FUND": [Bar(bar.day, None, None, None, bar.close) for bar in AAPL[:60]], "NEW": AAPL[:1]})
    store.close()
    result = run({"symbols": "all", "indicators": ["sma", "obv"]})
    assert (result["analysed"], result["failed"]) == (1, 2)
    assert result["symbols"]["FUND"] == {"error": f"obv needs volume, and the bar of FUND on {AAPL[0].day} has none"}
    assert result["symbols"]["NEW"] == {"error": "sma_20 needs 20 bars: NEW has 1"}
    single = run({"symbol": "AAPL", "indicators": ["sma", "obv"]})
    assert result["symbols"]["AAPL"] == single
    assert set(stored(run)) == {"sma_20", "obv"}
    only_stored = run({"symbols": "all", "indicators": ["ema"], "last": 0})
    assert only_stored["symbols"]["AAPL"] == {**single, "indicators": {}}
    assert "ema_20" in stored(run)
    usual = run({"symbols": ["FUND"]})["symbols"]["FUND"]["indicators"]
    assert set(usual) == {"sma_20", "ema_20", "rsi_14", "macd_12_26_9", "bollinger_20_2"}


def test_bars_of_nothing_but_closes_are_enough_for_indicators_of_closes(run: HandlerRun) -> None:
    closes = [{"day": each["day"], "close": each["close"]} for each in inline(30)]
    found = run({"symbol": "X", "bars": closes, "indicators": ["sma"]})["indicators"]["sma_20"][0]["value"]
    assert found == pytest.approx(sum(each["close"] for each in closes[-20:]) / 20)
    without_volume = [{**each, "volume": None} for each in inline(30)]
    assert "atr_14" in run({"symbol": "EURUSD=X", "bars": without_volume})["indicators"]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, r"payload\.symbol: give either symbol or symbols"),
        ({"symbol": "AAPL", "symbols": "all"}, r"payload\.symbol: give either symbol or symbols"),
        ({"symbols": "every"}, r"payload\.symbols: expected a list, got the string 'every'"),
        ({"symbols": []}, r"payload\.symbols: must have 1 to 1,000 entries"),
        ({"symbols": ["A"], "bars": []}, r"payload\.symbols: bars are of one symbol"),
        ({"symbols": ["A", "B"], "indicators": ["sma"], "last": 1001}, r"payload\.last: must be from 0 to 1000"),
        ({"symbols": [f"S{number}" for number in range(500)]}, r"payload\.last: must be from 0 to 0 for that many"),
        ({"symbols": ["A"]}, r"none of 1 symbols could be analysed: there are no bars: unknown symbol 'A'"),
        (
            {"symbol": "A", "indicators": ["sma", {"name": "rsi", "period": 14.5}]},
            r"payload\.indicators\[1\]\.period: must",
        ),
    ],
)
def test_a_wrong_payload_about_several_symbols_is_explained(run: HandlerRun, payload: object, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        run(payload)


MINUTES = [
    {"date": f"2024-01-02T14:{minute:02}:00Z", "open": 10, "high": 20, "low": 9, "close": 10 + minute / 10, "volume": 5}
    for minute in range(30, 60)
]


def test_longer_bars_are_made_of_stored_shorter_ones(run: HandlerRun) -> None:
    location = run.settings["market_data"]
    importer = HandlerRun("data_import", data_import.handle, {"market_data": location})
    importer({"symbol": "XYZ", "interval": "1min", "bars": MINUTES})
    sma = {"symbol": "XYZ", "indicators": [{"name": "sma", "period": 1}]}
    found = run({**sma, "interval": "5min", "last": 2})
    assert (found["bars"], found["as_of"]) == (6, "2024-01-02T14:55:00Z")
    assert found["indicators"]["sma_1"] == [
        {"day": "2024-01-02T14:50:00Z", "value": pytest.approx(15.4)},
        {"day": "2024-01-02T14:55:00Z", "value": pytest.approx(15.9)},
    ]
    assert run(sma)["as_of"] == "2024-01-02"
    assert run({**sma, "time_zone": "Pacific/Kiritimati"})["as_of"] == "2024-01-03"
    assert run({**sma, "interval": "1w"})["as_of"] == "2024-01-01"
    with pytest.raises(PermanentError, match=r"XYZ has no bars of 5min; it has bars of 1min"):
        run({**sma, "interval": "1h", "made_of": "5min"})
    with pytest.raises(PermanentError, match=r"payload\.made_of: bars of 1h can't make bars of 30min"):
        run({**sma, "interval": "30min", "made_of": "1h"})
    with closing(open_market_store(location)) as store:
        assert store.indicators("XYZ", INTERVALS["5min"])["sma_1"].day == datetime(2024, 1, 2, 14, 55, tzinfo=UTC)
        assert store.indicators("XYZ")["sma_1"].day == date(2024, 1, 3)


def test_an_incomplete_bar_is_left_out_on_request(run: HandlerRun) -> None:
    payload = {
        "symbol": "XYZ",
        "interval": "1w",
        "made_of": "1d",
        "indicators": ["typical_price"],
        "until": "2024-01-10",
    }
    bars = [{"date": f"2024-01-{day:02}", "high": 2, "low": 1, "close": 1 + day / 100} for day in (2, 3, 8, 9, 10)]
    assert run({**payload, "bars": bars})["as_of"] == "2024-01-08"
    assert run({**payload, "bars": bars, "incomplete": "drop"})["as_of"] == "2024-01-01"


def test_stored_splits_and_dividends_are_applied_on_request(run: HandlerRun) -> None:
    importer = HandlerRun("data_import", data_import.handle, {"market_data": run.settings["market_data"]})
    importer({"symbol": "XYZ", "bars": [{"date": "2024-01-02", "close": 100}, {"date": "2024-01-03", "close": 99}]})
    importer({"symbol": "XYZ", "bars": [{"date": "2024-01-04", "close": 50, "splitFactor": 2.0, "divCash": 0}]})
    payload = {"symbol": "XYZ", "indicators": [{"name": "sma", "period": 3}]}
    dividends = [{"date": "2024-01-03", "dividend": 1.0}]
    assert importer({"symbol": "XYZ", "kind": "dividends", "bars": dividends})["actions"] == 1
    values = {each: run({**payload, "adjust": each})["indicators"] for each in ("none", "splits", "dividends", "all")}
    assert {label: found[0]["value"] for each in values.values() for label, found in each.items()} == {
        "sma_3": pytest.approx((100 + 99 + 50) / 3),
        "sma_3_adjusted_for_splits": pytest.approx((50 + 49.5 + 50) / 3),
        "sma_3_adjusted_for_dividends": pytest.approx((99 + 99 + 50) / 3),
        "sma_3_adjusted_for_all": pytest.approx((49.5 + 49.5 + 50) / 3),
    }
    with pytest.raises(PermanentError, match=r"payload\.adjust: needs stored bars and price close"):
        run({**payload, "adjust": "all", "price": "adjusted_close"})
