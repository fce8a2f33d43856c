"""What `stockworker top` asks for, and what it does when the dispatcher refuses an answer."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from stockworker.cli.top import FleetFacts, TopSession
from stockworker.cli.top_model import JOB_STATES, Facts, Page, PageKind, TopState
from stockworker.client import Client
from stockworker.errors import AccessDenied, ConnectionFailed, RequestRefused, StockworkerError
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Stats
from stockworker.protocol.views import JobView
from stockworker.terminal.full_screen import FullScreen


class RefusingClient:
    """Refuses to answer, for one reason."""

    problem: str | None = None

    def __init__(self, error: StockworkerError) -> None:
        self.error = error

    async def stats(self) -> object:
        raise self.error


class PaperScreen:
    """Keeps what is drawn."""

    size = (80, 24)
    lines: Sequence[str] = ()

    def draw(self, lines: Sequence[str]) -> None:
        self.lines = lines


def screen_after(error: StockworkerError) -> Sequence[str]:
    screen = PaperScreen()
    ended: list[int] = []
    session = TopSession(cast("Client", RefusingClient(error)), cast("FullScreen", screen), 2.0, ended.append)
    asyncio.run(session.ask())
    return screen.lines


def test_a_refusal_is_shown_and_is_not_the_end() -> None:
    lines = screen_after(RequestRefused("the dispatcher refused the request: busy"))
    assert lines[:2] == ["stockworker: fleet", "waiting for the dispatcher"]
    assert lines[-1] == "the dispatcher refused the request: busy"


def test_a_lost_connection_is_not_the_end() -> None:
    assert screen_after(ConnectionFailed("no answer")) == ()


def test_a_client_that_the_broker_refuses_ends() -> None:
    with pytest.raises(AccessDenied, match="not authorised"):
        screen_after(AccessDenied("not authorised"))


class SlowClient:
    """Needs two seconds for each list of jobs."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lists: list[State | None] = []

    async def stats(self) -> Stats:
        return Stats(None, "i1", "0.1.0", 1.0, (), (), (), ())

    async def list(self, wanted: JobFilter) -> Sequence[JobView]:
        self.now += 2.0
        self.lists.append(wanted.state)
        return ()


def test_a_slow_list_is_loaded_again_only_after_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    client = SlowClient()
    facts = FleetFacts(cast("Client", client))
    monkeypatch.setattr("stockworker.adapters.clock.monotonic", lambda: client.now)

    def load(state: State | None = None) -> Facts:
        page = Page(PageKind.WORKER, "w1", job_state=JOB_STATES.index(state))
        return asyncio.run(facts.load(TopState(pages=(page,))))

    first = load()
    client.now += 17.9
    assert load().jobs == first.jobs
    assert client.lists == [None]
    client.now += 0.2
    load()
    assert client.lists == [None, None]
    load(State.FAILED)
    assert client.lists == [None, None, State.FAILED]
    facts.expire()
    load(State.FAILED)
    assert client.lists == [None, None, State.FAILED, State.FAILED]
