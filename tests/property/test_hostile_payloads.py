"""For any JSON as payload, a built-in handler returns a result or raises a permanent error, and nothing else."""

import json
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.pages.job_types import DEFINITIONS
from stockworker.handlers.api import PermanentError
from stockworker.market import data_import, price_update, technical_analysis
from stockworker.market.bar_fields import BAR_FIELDS
from stockworker.market.bars import HIGHEST_PRICE, HIGHEST_VOLUME
from stockworker.market.indicators.table import INDICATORS
from stockworker.protocol.wire import plan_of
from tests.harness.handler_run import HandlerRun

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["AAPL", "sma", "2013-03-01"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
LOWEST_PRICE = 1e-9
FIELDS = {field.name for each in DEFINITIONS.values() for field in plan_of(each.payload).fields}
NAMES = sorted({*FIELDS, *(column for each in BAR_FIELDS.values() for column in each.columns), "name"})
OBJECTS = st.dictionaries(
    st.sampled_from(NAMES),
    JSON | st.lists(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6), max_size=4),
    max_size=6,
)
PAYLOADS = JSON | OBJECTS


def price() -> st.SearchStrategy[float]:
    return st.floats(LOWEST_PRICE, HIGHEST_PRICE) | st.sampled_from([LOWEST_PRICE, 1.0, 1.0 + 1e-15, HIGHEST_PRICE])


@st.composite
def bar_records(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Valid bars with values that no market produces, but that data may hold."""
    records = []
    for number in range(draw(st.integers(0, 60))):
        low, open_, close, high = sorted(draw(st.lists(price(), min_size=4, max_size=4)))
        volume = draw(st.floats(0, HIGHEST_VOLUME) | st.just(0))
        day = (date(2000, 1, 1) + timedelta(days=number)).isoformat()
        records.append({"date": day, "open": open_, "high": high, "low": low, "close": close, "volume": volume})
    return records


@st.composite
def requested_indicators(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(INDICATORS)))
    parameters = INDICATORS[name].parameters
    return {"name": name, **{each.name: draw(st.integers(1, 12)) for each in parameters}}


def answers(run: HandlerRun, payload: Any) -> None:
    try:
        answer = run(payload)
    except PermanentError as error:
        answer = str(error)
    json.dumps(answer, allow_nan=False, ensure_ascii=False).encode()  # only UTF-8 JSON can be sent


@settings(deadline=None)  # a busy machine must not fail the test
@given(payload=PAYLOADS)
def test_data_import(tmp_path_factory: pytest.TempPathFactory, payload: Any) -> None:
    location = str(tmp_path_factory.getbasetemp() / "market.db")
    answers(HandlerRun("data_import", data_import.handle, {"market_data": location, "timeout_s": 0.1}), payload)


@settings(deadline=None)  # a busy machine must not fail the test
@given(payload=PAYLOADS)
def test_price_update(tmp_path_factory: pytest.TempPathFactory, payload: Any) -> None:
    location = str(tmp_path_factory.getbasetemp() / "market.db")
    configured = {"market_data": location, "provider": "none://{symbol}"}
    answers(HandlerRun("price_update", price_update.handle, configured), payload)


@settings(deadline=None)  # a busy machine must not fail the test
@given(payload=PAYLOADS)
def test_technical_analysis(tmp_path_factory: pytest.TempPathFactory, payload: Any) -> None:
    location = str(tmp_path_factory.getbasetemp() / "market.db")
    answers(HandlerRun("technical_analysis", technical_analysis.handle, {"market_data": location}), payload)


@settings(deadline=None)  # a busy machine must not fail the test
@given(bars=bar_records(), indicators=st.lists(requested_indicators(), min_size=1, max_size=4), last=st.integers(1, 60))
def test_extreme_but_valid_bars(bars: list[Any], indicators: list[Any], last: int) -> None:
    payload = {"symbol": "X", "bars": bars, "indicators": indicators, "last": last}
    answers(HandlerRun("technical_analysis", technical_analysis.handle, {}), payload)
