"""Runs the job type price_update with a real HTTP provider and a real store."""

import gzip
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from stockworker.handlers.api import PermanentError
from stockworker.market import price_update
from stockworker.market.store import open_market_store
from tests.harness.handler_run import HandlerRun
from tests.harness.http_server import Answer, HttpServer, Limiter

COUNTS = {"inserted": 0, "updated": 0, "unchanged": 0, "rejected": 0, "note": None}


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
        "symbols": {"AAPL": {**COUNTS, "inserted": 2, "last_day": "2013-03-01"}},
        "updated": 1,
        "failed": 0,
    }
    provide(server, "AAPL", record("2013-02-28"), record("2013-03-01", close=11.5), record("2013-03-04"))
    outcome = run({"symbols": ["AAPL"]})["symbols"]["AAPL"]
    assert outcome == {**COUNTS, "inserted": 1, "updated": 1, "unchanged": 1, "last_day": "2013-03-04"}
    assert [request.partition("?")[2] for request in server.requests] == [
        "since=1970-01-01&key=secret",
        "since=2013-02-28&key=secret",
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
    assert (outcomes["AAPL"]["inserted"], outcomes["MSFT"]["error"]) == (1, "the provider has no bars of this symbol")
    provide(server, "AAPL")
    assert run({"symbols": ["AAPL"]})["symbols"]["AAPL"] == {**COUNTS, "last_day": "2013-03-01"}


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


def test_a_symbol_that_always_fails_stops_no_other_one(run: HandlerRun, server: HttpServer) -> None:
    for symbol in ("AAA", "CCC", "DDD"):
        provide(server, symbol, record("2013-03-01"))
    server.answers["/daily/BAD.json"] = Answer(b"", status=500)
    result = run({"symbols": ["AAA", "BAD", "CCC", "DDD"]})
    assert (result["updated"], result["failed"]) == (3, 1)
    assert list(result["symbols"]) == ["AAA", "BAD", "CCC", "DDD"]
    assert "answered 500" in result["symbols"]["BAD"]["error"]
    with pytest.raises(InterruptedError, match=r"no symbol could be updated now: BAD: .* answered 500"):
        run({"symbols": ["BAD", "NEVER"]})


def test_a_provider_that_is_down_is_given_up_soon(run: HandlerRun) -> None:
    run.settings["provider"] = "http://127.0.0.1:1/{symbol}"
    with pytest.raises(InterruptedError, match=r"no symbol could be updated now: .*can't be reached"):
        run({"symbols": [f"S{number}" for number in range(1_000)]})


def test_a_second_attempt_goes_on_where_the_first_one_stopped(run: HandlerRun, server: HttpServer) -> None:
    for symbol in ("A", "B", "C"):
        provide(server, symbol, record("2013-03-01"))
    run.cancelled = lambda: bool(server.requests)
    with pytest.raises(InterruptedError, match="stopped after 1 of 3 symbols"):
        run({"symbols": ["A", "B", "C"]})
    run.cancelled = lambda: False
    run({"symbols": ["A", "B", "C"]})
    assert [request[7] for request in server.requests] == ["A", "B", "C", "A"]


SYMBOLS = [f"S{number:02}" for number in range(12)]


@pytest.mark.parametrize(("retry_after", "requests"), [("1", 1), ("1", 4), ("", 1)])
def test_every_symbol_is_updated_by_a_provider_that_limits_requests(
    run: HandlerRun, server: HttpServer, retry_after: str, requests: int
) -> None:
    for symbol in SYMBOLS:
        provide(server, symbol, record("2013-03-01"))
    server.limited = limiter = Limiter(5, 1.0, retry_after)
    run.settings["requests"] = requests
    assert run({"symbols": SYMBOLS})["updated"] == 12
    assert limiter.refused


def test_with_a_rate_no_request_is_refused(run: HandlerRun, server: HttpServer) -> None:
    for symbol in SYMBOLS:
        provide(server, symbol, record("2013-03-01"))
    server.limited = limiter = Limiter(5, 0.5, "1")
    run.settings |= {"rate": "5/s", "requests": 3}
    assert run({"symbols": SYMBOLS})["updated"] == 12
    assert (limiter.refused, len(server.requests)) == (0, 12)


def test_a_provider_that_asks_for_too_long_a_wait_is_left(run: HandlerRun, server: HttpServer) -> None:
    server.limited = lambda: Answer(b"", status=429, retry_after="3600")
    with pytest.raises(InterruptedError, match="answered 429 Too Many Requests"):
        run({"symbols": ["AAPL"]})
    assert len(server.requests) == 1


def csv(*rows: str) -> Answer:
    return Answer("\n".join(("Date,Open,High,Low,Close,Volume", *rows, "")).encode(), content_type="text/csv")


def stored(run: HandlerRun, symbol: str) -> dict[str, float]:
    store = open_market_store(run.settings["market_data"])
    found = {bar.day.isoformat(): bar.close for bar in store.bars(symbol)}
    store.close()
    return found


def test_an_invalid_row_costs_only_itself(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/daily/A.json"] = csv(
        "2024-01-02,10,12.5,9.75,11.25,1000", "2024-01-03,null,null,null,null,null", "2024-01-04,11.25,12,11,11.5,null"
    )
    outcome = run({"symbols": ["A"]})["symbols"]["A"]
    expected = {"inserted": 2, "rejected": 1, "last_day": "2024-01-04", "note": "row 3: close is missing"}
    assert outcome == {**COUNTS, **expected}
    with pytest.raises(PermanentError, match="1 of 3 rows are not valid bars, the first is row 3: close is missing"):
        run({"symbols": ["A"], "on_error": "fail"})


def test_a_last_row_that_may_be_cut_off_costs_only_itself(run: HandlerRun, server: HttpServer) -> None:
    """An answer without a length whose last line has no end: its volume may have been 900."""
    cut = replace(csv("2024-01-02,10,12.5,9.75,11.25,1000", "2024-01-03,11.25,12,11,11.5,9"), has_length=False)
    cut = replace(cut, body=cut.body.rstrip())
    server.answers["/daily/A.json"] = cut
    outcome = run({"symbols": ["A"]})["symbols"]["A"]
    assert (outcome["inserted"], outcome["rejected"], outcome["last_day"]) == (1, 1, "2024-01-02")
    assert outcome["note"] == (
        "row 3: is the last one, its line has no end, and the server has sent no length: it may be cut off; "
        "set unended_line to keep if the source always ends like this"
    )
    for whole in (
        replace(cut, has_length=True),
        replace(cut, body=cut.body + b"\n"),
        replace(cut, body=gzip.compress(cut.body)),
        replace(cut, body=gzip.compress(cut.body), content_encoding="gzip"),
    ):
        server.answers["/daily/A.json"] = whole
        assert run({"symbols": ["A"]})["symbols"]["A"]["rejected"] == 0


BEFORE = tuple(f"2024-01-{day:02},100,102,99,{100 + day / 10},1000" for day in range(2, 12))
SPLIT = tuple(f"2024-01-{day:02},50,51,49.5,{(100 + day / 10) / 2},2000" for day in range(2, 12))
AFTER = ("2024-01-12,50.5,51.5,50,51,2000", "2024-01-15,51,52,50.5,51.5,2000")


def test_a_split_makes_an_update_fetch_the_whole_history(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/daily/A.json"] = csv(*BEFORE)
    run({"symbols": ["A"]})
    answers = iter([csv(*SPLIT[-5:], *AFTER), csv(*SPLIT, *AFTER)])
    server.limited = lambda: next(answers)
    outcome = run({"symbols": ["A"]})["symbols"]["A"]
    assert outcome["note"] == "stored prices changed by the factor 0.5, so all bars were fetched again"
    assert (outcome["inserted"], outcome["updated"]) == (2, 10)
    assert [request.partition("?since=")[2][:10] for request in server.requests[1:]] == ["2024-01-07", "2024-01-02"]
    assert max(stored(run, "A").values()) < 52


def test_two_adjustments_are_never_mixed(run: HandlerRun, server: HttpServer) -> None:
    """A provider that adjusts its prices, and has only the newest ones."""
    server.answers["/daily/A.json"] = csv(*BEFORE)
    run({"symbols": ["A"]})
    before = stored(run, "A")
    server.answers["/daily/A.json"] = csv(*SPLIT[-5:], *AFTER)
    with pytest.raises(
        PermanentError, match=r"prices changed by the factor 0.5, .* such as 2024-01-02. Import all bars"
    ):
        run({"symbols": ["A"]})
    assert stored(run, "A") == before


def test_the_answer_of_a_provider_that_does_not_reach_back_is_not_stored(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/daily/A.json"] = csv(*BEFORE)
    run({"symbols": ["A"]})
    server.answers["/daily/A.json"] = csv("2024-05-20,50,51,49.5,50.5,2000", "2024-05-21,50,51,49.5,50.5,2000")
    message = "begins on 2024-05-20, but the newest stored bar is of 2024-01-11: the days between would be missing"
    with pytest.raises(PermanentError, match=message):
        run({"symbols": ["A"]})
    assert len(stored(run, "A")) == 10


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ('{"Note": "The standard limit is 5 calls per minute"}', "its message is: The standard limit is 5 calls per"),
        ('{"Information": "25 requests per day"}', "its message is: 25 requests per day"),
        (
            '{"code": 429, "message": "You have run out of API credits", "status": "error"}',
            "its message is: You have run out of API credits",
        ),
        ("Exceeded the daily hits limit", "its columns are Exceeded the daily hits limit"),
    ],
)
def test_what_a_provider_says_is_shown(run: HandlerRun, server: HttpServer, body: str, shown: str) -> None:
    server.answers["/daily/A.json"] = Answer(body.encode())
    with pytest.raises(PermanentError, match=shown):
        run({"symbols": ["A"]})


def test_a_volume_that_a_provider_does_not_know_is_stored_as_unknown(run: HandlerRun, server: HttpServer) -> None:
    provide(server, "A", record("2024-01-02"), {**record("2024-01-03"), "volume": None})
    assert run({"symbols": ["A"]})["symbols"]["A"]["inserted"] == 2
    with closing(open_market_store(run.settings["market_data"])) as store:
        assert [bar.volume for bar in store.bars("A")] == [500, None]


def test_a_packed_answer_and_its_charset_are_read(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/daily/A.json"] = Answer(gzip.compress(csv(*BEFORE).body))
    latin = "Date,Name,Close\n2024-01-02,Nestl\xe9,10\n".encode("latin-1")
    server.answers["/daily/B.json"] = Answer(latin, content_type="text/csv; charset=ISO-8859-1")
    assert run({"symbols": ["A", "B"]})["updated"] == 2


def test_the_format_the_headers_and_other_names_of_symbols_are_settings(run: HandlerRun, server: HttpServer) -> None:
    row = {"t": 1704171600000, "o": 10, "h": 12, "l": 9, "c": 11, "v": 500}
    server.answers["/v2/BRK-B"] = Answer(json.dumps({"ticker": "BRK-B", "results": [row]}).encode())
    run.settings |= {
        "provider": server.url("/v2/{symbol}?from={since:%Y%m%d}&period1={since:epoch}&to={until}"),
        "format": "polygon",
        "options": {"symbols": {"BRK.B": "BRK-B"}},
        "headers": {"Authorization": "Bearer s3cret"},
        "first_day": "2024-01-01",
    }
    assert run({"symbols": ["BRK.B"]})["symbols"]["BRK.B"]["last_day"] == "2024-01-02"
    assert server.requests[0].startswith("/v2/BRK-B?from=20240101&period1=1704067200&to=20")
    assert server.headers[0]["Authorization"] == "Bearer s3cret"


def test_a_redirect_leads_to_a_listed_host_without_the_headers(run: HandlerRun, server: HttpServer) -> None:
    provide(server, "moved", record("2013-03-01"))
    server.answers["/daily/A.json"] = Answer(
        b"", status=302, location=f"http://localhost:{server.port}/daily/moved.json"
    )
    run.settings |= {"redirect_hosts": [f"localhost:{server.port}"], "headers": {"Authorization": "Bearer s3cret"}}
    assert run({"symbols": ["A"]})["updated"] == 1
    assert [each.get("Authorization") for each in server.headers] == ["Bearer s3cret", None]


@pytest.mark.parametrize("symbol", ["M&M.NS", "EUR/USD", "$SPX", ".DJI", "BRK B"])
def test_any_symbol_is_escaped_in_the_address(run: HandlerRun, server: HttpServer, symbol: str) -> None:
    provide(server, quote(symbol, safe=""), record("2013-03-01"))
    assert run({"symbols": [symbol]})["updated"] == 1


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
        (
            {"provider": "http://127.0.0.1/{symbol}?t={today}"},
            r"\{today\} is not known; use \{symbol\}, \{since\}, \{until\} and",
        ),
        (
            {"provider": "http://127.0.0.1/{symbol}?t={since:iso}"},
            r"\{since:iso\} is not known; write \{since:%Y%m%d\}",
        ),
        ({"provider": "http://127.0.0.1/{symbol}}"}, "a bracket without its partner"),
        ({"rate": "5 per minute"}, r"settings\.rate: '5 per minute' is not a rate; write 5/min"),
        ({"headers": {"Host": "x"}}, r"settings\.headers\.Host: is not a header that can be set"),
        ({"headers": {"X-Key": "a\r\nb"}}, r"settings\.headers\.X-Key: must be printable ASCII"),
        ({"format": "nasdak"}, r"settings\.format: unknown format 'nasdak'; did you mean 'nasdaq'"),
        ({"formats": {"own": {"like": "nasdak"}}}, r"settings\.formats\.own\.like: unknown format 'nasdak'"),
    ],
)
def test_a_wrong_configuration_is_explained(run: HandlerRun, settings: dict[str, Any], message: str) -> None:
    run.settings.update(settings)
    with pytest.raises(PermanentError, match=message):
        run({"symbols": ["AAPL"]})


def timed(time: str, close: float = 11) -> dict[str, Any]:
    return {**record(time, close), "date": time}


def test_bars_with_a_time_are_updated_by_interval(run: HandlerRun, server: HttpServer) -> None:
    run.settings["provider"] = server.url("/{interval}/{symbol}?since={since}&from={since:%H:%M}&to={since:epoch}")
    run.settings["intervals"] = {"5min": "5m"}
    run.settings["options"] = {"time_zone": "America/New_York"}
    times = ["2024-01-02 19:25:00", "2024-01-02 19:30:00"]
    server.answers["/5m/AAPL"] = Answer(json.dumps([timed(each) for each in times]).encode())
    server.answers["/1d/AAPL"] = Answer(json.dumps([record("2024-01-02")]).encode())
    assert run({"symbols": ["AAPL"], "interval": "5min"})["symbols"]["AAPL"]["last_day"] == "2024-01-03T00:30:00Z"
    assert run({"symbols": ["AAPL"]})["symbols"]["AAPL"]["last_day"] == "2024-01-02"
    again = run({"interval": "5min"})["symbols"]["AAPL"]
    assert (again["inserted"], again["unchanged"]) == (0, 2)
    assert [request.partition("?") for request in server.requests][2] == (
        "/5m/AAPL",
        "?",
        "since=2024-01-02&from=19%3A25&to=1704241500",  # local, as the provider counts days
    )


def test_a_provider_of_one_interval_is_not_asked_for_another(run: HandlerRun, server: HttpServer) -> None:
    with pytest.raises(PermanentError, match=r"payload\.interval: the provider of this worker has bars of 1d only"):
        run({"symbols": ["AAPL"], "interval": "1h"})
    assert server.requests == []


def test_an_answer_of_another_interval_is_not_stored(run: HandlerRun, server: HttpServer) -> None:
    run.settings["provider"] = server.url("/daily/{symbol}.json?interval={interval}")
    provide(server, "AAPL", *(timed(f"2024-01-02T14:{minute}:00Z") for minute in (30, 31, 32)))
    with pytest.raises(PermanentError, match="the interval is 5min, but two bars begin 1 min after each other"):
        run({"symbols": ["AAPL"], "interval": "5min"})
    provide(server, "AAPL", *(record(f"2024-01-{day:02}") for day in (1, 8, 15, 22)))
    with pytest.raises(PermanentError, match="the interval is 1d, but the bars are a week apart"):
        run({"symbols": ["AAPL"]})
    with closing(open_market_store(run.settings["market_data"])) as store:
        assert store.symbols() == []


def test_a_hole_between_bars_with_a_time_is_noticed(run: HandlerRun, server: HttpServer) -> None:
    run.settings["options"] = {"interval": "1h"}
    provide(server, "AAPL", timed("2024-01-02T14:00:00Z"))
    run({"symbols": ["AAPL"]})
    provide(server, "AAPL", timed("2024-01-04T14:00:00Z"))
    with pytest.raises(
        PermanentError, match="begins on 2024-01-04T14:00:00Z, but the newest stored bar is of 2024-01-02T"
    ):
        run({"symbols": ["AAPL"]})
