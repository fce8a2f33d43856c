"""What `stockworker top` does when the dispatcher refuses an answer."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from stockworker.cli.top import TopSession
from stockworker.client import Client
from stockworker.errors import AccessDenied, ConnectionFailed, RequestRefused, StockworkerError
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
