"""Runs the job type technical_analysis over a real store."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stockworker.handlers.api import PermanentError
from stockworker.market import technical_analysis
from stockworker.market.bars import Bar, IndicatorValue
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
