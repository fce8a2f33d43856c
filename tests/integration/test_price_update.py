"""The job type price_update with a real HTTP provider and a real store."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockworker.adapters.http import HttpStatus
from stockworker.handlers import price_update
from stockworker.handlers.api import PermanentError
from tests.harness.handler_run import HandlerRun
from tests.harness.http_server import Answer, HttpServer


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as running:
        yield running


@pytest.fixture
def run(tmp_path: Path, server: HttpServer) -> HandlerRun:
    settings = {
        "market_data": str(tmp_path / "market.db"),
        "provider": server.url("/daily/{symbol}.json?since={since}&key=secret"),
    }
    return HandlerRun("price_update", price_update.handle, settings)


def record(day: str, close: float = 11) -> dict[str, Any]:
    return {"date": day, "open": 10, "high": 12, "low": 9, "close": close, "volume": 500}


def provide(server: HttpServer, symbol: str, *records: dict[str, Any]) -> None:
    server.answers[f"/daily/{symbol}.json"] = Answer(json.dumps(records).encode(), content_type="application/json")


def test_a_symbol_is_brought_up_to_date_from_its_newest_bar_on(run: HandlerRun, server: HttpServer) -> None:
    provide(server, "AAPL", record("2013-02-28"), record("2013-03-01", close=11))
    assert run({"symbols": ["AAPL"]}) == {
        "symbols": {"AAPL": {"inserted": 2, "updated": 0, "unchanged": 0, "last_day": "2013-03-01"}},
        "updated": 1,
        "failed": 0,
    }
    provide(server, "AAPL", record("2013-03-01", close=11.5), record("2013-03-04"))
    outcome = run({"symbols": ["AAPL"]})["symbols"]["AAPL"]
    assert outcome == {"inserted": 1, "updated": 1, "unchanged": 0, "last_day": "2013-03-04"}
    assert [request.partition("?")[2] for request in server.requests] == [
        "since=1970-01-01&key=secret",
        "since=2013-03-01&key=secret",
    ]


def test_a_provider_that_redirects_elsewhere_is_not_followed(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/daily/AAPL.json"] = Answer(b"", status=302, location=f"http://localhost:{server.port}/secret")
    with pytest.raises(PermanentError, match="the host localhost is not allowed"):
        run({"symbols": ["AAPL"]})
    assert len(server.requests) == 1


def test_a_symbol_does_not_choose_the_host(run: HandlerRun, server: HttpServer) -> None:
    run.settings["provider"] = f"http://{{symbol}}:{server.port}/daily"
    with pytest.raises(PermanentError, match="is not allowed"):
        run({"symbols": ["LOCALHOST"]})
    assert server.requests == []


def test_a_day_can_be_named_to_take_in_corrections(run: HandlerRun, server: HttpServer) -> None:
    provide(server, "AAPL", record("2013-03-01"))
    run({"symbols": ["AAPL"]})
    run({"symbols": ["AAPL"], "since": "2012-01-01"})
    assert server.requests[-1] == "/daily/AAPL.json?since=2012-01-01&key=secret"


def test_without_symbols_all_that_have_bars_are_updated(run: HandlerRun, server: HttpServer) -> None:
    with pytest.raises(PermanentError, match="0 symbols have bars"):
        run({})
    for symbol in ("MSFT", "AAPL"):
        provide(server, symbol, record("2013-03-01"))
    run({"symbols": ["MSFT", "AAPL", "MSFT"]})
    assert len(server.requests) == 2
    assert list(run({})["symbols"]) == ["AAPL", "MSFT"]


def test_a_csv_provider_and_one_without_news_will_do(run: HandlerRun, server: HttpServer) -> None:
    text = b"Date,Open,High,Low,Close,Volume\n2013-03-01,10,12,9,11,500\n"
    server.answers["/daily/AAPL.json"] = Answer(text, content_type="text/csv")
    provide(server, "MSFT")
    outcomes = run({"symbols": ["AAPL", "MSFT"]})["symbols"]
    assert (outcomes["AAPL"]["inserted"], outcomes["MSFT"]["last_day"]) == (1, None)


def test_a_symbol_is_quoted_in_the_address(run: HandlerRun, server: HttpServer) -> None:
    provide(server, "%5EGSPC", record("2013-03-01"))
    run({"symbols": ["^GSPC"]})
    assert server.requests[0].startswith("/daily/%5EGSPC.json?")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(b"", status=404), "answered 404 Not Found"),
        (Answer(b"<html>"), "the provider's answer can't be read: the header has no column"),
        (Answer(json.dumps([record("2013-03-01", close=99)]).encode()), "1 of 1 rows hold no valid bar, the first"),
        (Answer(json.dumps([record("9999-01-01")]).encode()), "day 9999-01-01 lies in the future"),
        (Answer(json.dumps([record("2013-03-01") | {"symbol": "MSFT"}]).encode()), "symbol MSFT is not AAPL"),
    ],
)
def test_one_bad_symbol_does_not_stop_the_others(
    run: HandlerRun, server: HttpServer, answer: Answer, message: str
) -> None:
    server.answers["/daily/AAPL.json"] = answer
    provide(server, "IBM", record("2013-03-01"))
    result = run({"symbols": ["AAPL", "IBM"]})
    assert message in result["symbols"]["AAPL"]["error"]
    assert "secret" not in json.dumps(result)
    assert (result["symbols"]["IBM"]["inserted"], result["updated"], result["failed"]) == (1, 1, 1)
    with pytest.raises(PermanentError, match="none of 1 symbols could be updated: AAPL: "):
        run({"symbols": ["AAPL"]})


def test_a_provider_that_is_down_stops_the_job_and_what_is_stored_stays(run: HandlerRun, server: HttpServer) -> None:
    provide(server, "AAPL", record("2013-03-01"))
    server.answers["/daily/IBM.json"] = Answer(b"", status=503)
    with pytest.raises(HttpStatus):
        run({"symbols": ["AAPL", "IBM", "MSFT"]})
    assert len(server.requests) == 2
    provide(server, "IBM")
    provide(server, "MSFT")
    assert run({"symbols": ["AAPL", "IBM", "MSFT"]})["symbols"]["AAPL"]["unchanged"] == 1


def test_a_cancelled_update_stops_between_symbols(run: HandlerRun, server: HttpServer) -> None:
    provide(server, "AAPL", record("2013-03-01"))
    run.cancelled = lambda: bool(server.requests)
    with pytest.raises(InterruptedError, match="stopped after 1 of 2 symbols"):
        run({"symbols": ["AAPL", "MSFT"]})


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "the payload must be an object"),
        ({"symbol": "AAPL"}, r"unknown payload field 'symbol'; did you mean 'symbols'\?"),
        ({"symbols": []}, r"payload\.symbols: name from 1 to 1000 symbols"),
        ({"symbols": "AAPL"}, r"payload\.symbols: expected a list of strings"),
        ({"symbols": ["../x"]}, r"payload\.symbols: '../x' is no symbol"),
        ({"symbols": ["AAPL"], "since": "yesterday"}, r"payload\.since: 'yesterday' is no date"),
    ],
)
def test_a_wrong_payload_is_explained(run: HandlerRun, payload: Any, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        run(payload)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"provider": None}, r"handlers\.price_update\.settings\.provider: expected a string"),
        ({"provider": "http://127.0.0.1/"}, r"provider: \{symbol\} must stand in the address"),
        ({"first_day": "long ago"}, r"settings\.first_day: 'long ago' is no date"),
    ],
)
def test_a_wrong_configuration_is_explained(run: HandlerRun, settings: dict[str, Any], message: str) -> None:
    run.settings.update(settings)
    with pytest.raises(PermanentError, match=message):
        run({"symbols": ["AAPL"]})
