"""Runs the job type price_update with a real HTTP provider and a real store."""

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


def test_a_symbol_is_updated_from_its_newest_bar_on(run: HandlerRun, server: HttpServer) -> None:
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


def test_a_redirect_to_another_host_is_not_followed(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/daily/AAPL.json"] = Answer(b"", status=302, location=f"http://localhost:{server.port}/secret")
    with pytest.raises(PermanentError, match="the host localhost is not allowed"):
        run({"symbols": ["AAPL"]})
    assert len(server.requests) == 1


def test_a_symbol_can_not_choose_the_host(run: HandlerRun, server: HttpServer) -> None:
    run.settings["provider"] = f"http://{{symbol}}:{server.port}/daily"
    with pytest.raises(PermanentError, match="is not allowed"):
        run({"symbols": ["LOCALHOST"]})
    assert server.requests == []


def test_corrections_are_fetched_from_a_given_day_on(run: HandlerRun, server: HttpServer) -> None:
    provide(server, "AAPL", record("2013-03-01"))
    run({"symbols": ["AAPL"]})
    run({"symbols": ["AAPL"], "since": "2012-01-01"})
    assert server.requests[-1] == "/daily/AAPL.json?since=2012-01-01&key=secret"


def test_without_symbols_every_symbol_with_bars_is_updated(run: HandlerRun, server: HttpServer) -> None:
    with pytest.raises(PermanentError, match="0 symbols have bars"):
        run({})
    for symbol in ("MSFT", "AAPL"):
        provide(server, symbol, record("2013-03-01"))
    run({"symbols": ["MSFT", "AAPL", "MSFT"]})
    assert len(server.requests) == 2
    assert list(run({})["symbols"]) == ["AAPL", "MSFT"]


def test_a_provider_may_answer_with_csv_or_with_nothing_new(run: HandlerRun, server: HttpServer) -> None:
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
        (Answer(json.dumps([record("2013-03-01", close=99)]).encode()), "1 of 1 rows are not valid bars, the first"),
        (Answer(json.dumps([record("9999-01-01")]).encode()), "day 9999-01-01 is in the future"),
        (Answer(json.dumps([record("2013-03-01") | {"symbol": "MSFT"}]).encode()), "symbol MSFT is not AAPL"),
    ],
)
def test_a_symbol_that_fails_does_not_stop_the_others(
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


def test_a_provider_that_is_down_stops_the_job_but_keeps_earlier_updates(run: HandlerRun, server: HttpServer) -> None:
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
        ([], "payload: expected an object"),
        ({"symbol": "AAPL"}, r"payload: unknown field 'symbol'; did you mean 'symbols'\?"),
        ({"symbols": []}, r"payload\.symbols: must have 1 to 1,000 entries"),
        ({"symbols": "AAPL"}, r"payload\.symbols: expected a list, got the string 'AAPL'"),
        ({"symbols": ["../x"]}, r"payload\.symbols\[0\]: '../x' is not a valid symbol"),
        ({"symbols": ["AAPL"], "since": "yesterday"}, r"payload\.since: 'yesterday' is not a date"),
    ],
)
def test_a_wrong_payload_is_explained(run: HandlerRun, payload: Any, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        run(payload)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"provider": None}, r"handlers\.price_update\.settings\.provider: expected a string"),
        ({"provider": "http://127.0.0.1/"}, r"provider: the address must contain \{symbol\}"),
        ({"first_day": "long ago"}, r"settings\.first_day: 'long ago' is not a date"),
    ],
)
def test_a_wrong_configuration_is_explained(run: HandlerRun, settings: dict[str, Any], message: str) -> None:
    run.settings.update(settings)
    with pytest.raises(PermanentError, match=message):
        run({"symbols": ["AAPL"]})
