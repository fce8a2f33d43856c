"""Updates from providers that divide their answers into pages, or answer that nothing is new."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stockworker.handlers.api import PermanentError
from stockworker.market import price_update
from stockworker.market.bars import Bar
from stockworker.market.store import open_market_store
from tests.harness.handler_run import HandlerRun
from tests.harness.http_server import Answer, HttpServer


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as running:
        yield running


@pytest.fixture
def run(tmp_path: Path, server: HttpServer) -> HandlerRun:
    settings = {"market_data": str(tmp_path / "market.db"), "provider": server.url("/{symbol}?key=k")}
    return HandlerRun("price_update", price_update.handle, settings)


def bars(*days: int) -> list[dict[str, Any]]:
    return [{"date": f"2024-01-{day:02}", "open": 10, "high": 12, "low": 9, "close": 11, "volume": day} for day in days]


def page(*days: int, **others: Any) -> Answer:
    return Answer(json.dumps({"bars": bars(*days), **others}).encode(), content_type="application/json")


def stored(run: HandlerRun, symbol: str = "A") -> list[Bar]:
    with closing(open_market_store(run.settings["market_data"])) as store:
        return store.bars(symbol)


def days(run: HandlerRun) -> list[int]:
    return [bar.day.day for bar in stored(run)]


@pytest.mark.parametrize("absolute", [True, False])
def test_each_page_may_have_the_address_of_the_next_one(run: HandlerRun, server: HttpServer, *, absolute: bool) -> None:
    following = [server.url("/more?p=2") if absolute else "/more?p=2", "more?p=3", None]
    for path, own, link in zip(("/A?key=k", "/more?p=2", "/more?p=3"), ([2, 3], [4, 5], [8]), following, strict=True):
        server.answers[path] = page(*own, next_url=link)
    run.settings |= {"next_page": "next_url", "headers": {"Authorization": "Bearer s3cret"}}
    assert run({"symbols": ["A"]})["symbols"]["A"]["inserted"] == 5
    assert days(run) == [2, 3, 4, 5, 8]
    assert {each["Authorization"] for each in server.headers} == {"Bearer s3cret"}


def test_each_page_may_have_the_token_of_the_next_one(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/A?key=k"] = page(2, 3, meta={"next": "a b&c"})
    server.answers["/A?key=k&cursor=a%20b%26c"] = page(4, meta={"next": ""})
    run.settings |= {"next_page": "meta.next", "page_parameter": "cursor"}
    run({"symbols": ["A"]})
    assert days(run) == [2, 3, 4]


PAST_THE_END = [page(), Answer(b""), Answer(b"no such page", status=404), page(4, 5), Answer(b"date,close\n")]


@pytest.mark.parametrize("last", PAST_THE_END, ids=["no bars", "no text", "404", "the same again", "only a header"])
def test_pages_may_have_numbers(run: HandlerRun, server: HttpServer, last: Answer) -> None:
    for number, answer in enumerate((page(2, 3), page(4, 5), last)):
        server.answers[f"/A?key=k&page={number}"] = answer
    run.settings |= {"page_parameter": "page", "first_page": 0}
    run({"symbols": ["A"]})
    assert days(run) == [2, 3, 4, 5]
    assert len(server.requests) == 3


def test_a_page_that_fails_stores_nothing(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/A"] = page(2, 3, next_url="/gone")
    run.settings["next_page"] = "next_url"
    with pytest.raises(PermanentError, match="/gone: answered 404"):
        run({"symbols": ["A"]})
    assert stored(run) == []


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("/A", "more than 3 pages; increase limit_pages, or ask for less"),
        ("http://localhost:1/", "the host localhost is not allowed"),
        ("ftp://127.0.0.1/", "only http and https are fetched"),
        ("http://[::1/", "the value of next_page is not a valid address"),
        (True, "the value of next_page, next_url, is neither an address nor a token"),
    ],
)
def test_a_page_that_leads_nowhere_is_an_error(run: HandlerRun, server: HttpServer, link: Any, message: str) -> None:
    server.answers["/A"] = page(2, 3, next_url=link)
    run.settings |= {"next_page": "next_url", "limit_pages": 3}
    with pytest.raises(PermanentError, match=message):
        run({"symbols": ["A"]})
    assert stored(run) == []


@pytest.mark.parametrize(
    ("others", "last_day", "noted"),
    [({}, 25, True), ({"next_url": None}, 25, False), ({"next_url": ""}, 25, False), ({}, 21, False)],
    ids=["misspelt", "null", "empty", "short"],
)
def test_a_long_answer_without_the_way_to_the_next_page_is_noted(
    run: HandlerRun, server: HttpServer, others: dict[str, Any], last_day: int, *, noted: bool
) -> None:
    server.answers["/A"] = page(*range(2, last_day + 1), **others)
    run.settings["next_page"] = "next_url"
    note = run({"symbols": ["A"]})["symbols"]["A"]["note"]
    text = "the answer has no next_url, so it is the only page; correct next_page if the provider has more"
    assert note == (text if noted else None)


def test_a_page_elsewhere_does_not_get_the_headers(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/A"] = page(2, next_url=f"http://localhost:{server.port}/more")
    server.answers["/more"] = page(3)
    run.settings |= {
        "next_page": "next_url",
        "redirect_hosts": [f"localhost:{server.port}"],
        "headers": {"Authorization": "Bearer s3cret"},
    }
    run({"symbols": ["A"]})
    assert [each.get("Authorization") for each in server.headers] == ["Bearer s3cret", None]


def test_the_rows_of_all_pages_are_bounded(run: HandlerRun, server: HttpServer) -> None:
    server.answers |= {"/A": page(2, 3, next_url="/more"), "/more": page(4, 5)}
    run.settings |= {"next_page": "next_url", "limit_rows": 3}
    with pytest.raises(PermanentError, match="the provider's pages have more than 3 rows"):
        run({"symbols": ["A"]})


VALIDATORS = [("If-None-Match", '"v1"', ""), ("If-Modified-Since", "", "Tue, 02 Jan 2024 22:00:00 GMT")]


@pytest.mark.parametrize(("header", "etag", "modified"), VALIDATORS, ids=["etag", "modified"])
def test_a_provider_with_nothing_new_is_not_read_again(
    run: HandlerRun, server: HttpServer, header: str, etag: str, modified: str
) -> None:
    server.answers["/A"] = Answer(page(2, 3).body, etag=etag, modified=modified)
    run({"symbols": ["A"]})
    outcome = run({"symbols": ["A"]})["symbols"]["A"]
    assert (outcome["note"], outcome["last_day"]) == ("the provider has nothing new", "2024-01-03")
    assert [each.get(header) for each in server.headers] == [None, etag or modified]
    server.answers["/A"] = Answer(page(2, 3, 4).body, etag='"v2"')
    assert run({"symbols": ["A"]})["symbols"]["A"]["inserted"] == 1


def test_a_request_is_conditional_only_if_its_answer_is_stored(run: HandlerRun, server: HttpServer) -> None:
    """Other bars, another format, or a wish for corrections: then the provider's answer is needed again."""
    server.answers["/A"] = Answer(page(2, 3).body, etag='"v1"')
    run({"symbols": ["A"]})
    run({"symbols": ["A"], "since": "2024-01-01"})
    run.settings["options"] = {"tolerance": 0.5}
    run({"symbols": ["A"]})
    with closing(open_market_store(run.settings["market_data"])) as store:
        store.upsert({"A": [stored(run)[-1]._replace(day=stored(run)[-1].day.replace(day=9))]})
    run({"symbols": ["A"]})
    assert [each.get("If-None-Match") for each in server.headers] == [None, None, None, None]


def test_an_answer_with_an_invalid_row_is_read_again(run: HandlerRun, server: HttpServer) -> None:
    """The row stays in the result until the provider has corrected it."""
    body = json.dumps([*bars(2, 3), {"date": "2024-01-04"}]).encode()
    server.answers["/A"] = Answer(body, etag='"v1"')
    assert [run({"symbols": ["A"]})["symbols"]["A"]["rejected"] for _ in range(2)] == [1, 1]


def test_a_status_without_a_condition_is_an_error(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/A"] = Answer(b"", status=304)
    with pytest.raises(PermanentError, match="answered 304 Not Modified"):
        run({"symbols": ["A"]})
