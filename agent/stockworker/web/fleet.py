"""The fleet as the page sees it: one connection to the dispatcher for all browsers, and its newest statistics."""

# However many browsers look, the dispatcher answers one request for statistics every two seconds, and every fifteen while
# no browser looks: the chart has a past when one comes.

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

from stockworker.adapters import clock
from stockworker.client import Client
from stockworker.client.throughput import Throughput
from stockworker.errors import ConnectionFailed, StockworkerError
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.messages import Stats

_WATCHED_S: Final = 2.0
_UNWATCHED_S: Final = 15.0
_RECONNECT_S: Final = 2.0
_PATIENCE_S: Final = 3.0
MOST_WATCHERS: Final = 100


@dataclass(frozen=True, slots=True)
class News:
    """The newest that is known.

    Attributes:
        stats: the newest statistics; None before the first.
        at: when they arrived.
        problem: why they are old, if they are.
        version: rises with each change.
    """

    stats: Stats | None
    at: float
    problem: str | None
    version: int


class Fleet:
    """Keeps a client connected, and asks for statistics.

    Args:
        make_client: makes a client that is not connected yet.
    """

    def __init__(self, make_client: Callable[[], Client]) -> None:
        self._make_client = make_client
        self._client: Client | None = None
        self._watchers = 0
        self._wanted = asyncio.Event()
        self._changed = asyncio.Condition()
        self.throughput = Throughput()
        self.news = News(None, clock.wall(), "this page is connecting to the broker", 0)

    async def run(self) -> None:
        """Stay connected, and ask periodically, until cancelled."""
        while True:
            try:
                async with self._make_client() as client:
                    async with self._changed:
                        self._client = client
                        self._changed.notify_all()
                    await self._ask_periodically(client)
            except StockworkerError as error:
                await self._note(replace(self.news, problem=str(error)))
            finally:
                self._client = None
            await asyncio.sleep(_RECONNECT_S)

    async def client(self) -> Client:
        """The connected client; waits a moment for a connection that is being made.

        Raises:
            ConnectionFailed: there is no connection to the broker.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S), self._changed:
                await self._changed.wait_for(lambda: self._client is not None)
        if self._client is None:
            raise ConnectionFailed(self.news.problem or "there is no connection to the broker")
        return self._client

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Ask more often meanwhile.

        Raises:
            ConnectionFailed: too many browsers watch.
        """
        if self._watchers >= MOST_WATCHERS:
            raise ConnectionFailed(f"{MOST_WATCHERS} browsers watch already; close one of their windows")
        self._watchers += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._watchers -= 1

    async def next_news(self, after: int) -> News:
        """Wait for a change."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.news.version > after)
        return self.news

    async def _ask_periodically(self, client: Client) -> None:
        while True:
            self._wanted.clear()
            try:
                stats = await client.stats()
            except ConnectionFailed as error:
                await self._note(replace(self.news, problem=str(error)))
            else:
                now = clock.wall()
                self.throughput.add(stats, now)
                await self._note(replace(self.news, stats=stats, at=now, problem=None))
            if self._watchers:
                await asyncio.sleep(_WATCHED_S)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_UNWATCHED_S):
                        await self._wanted.wait()

    async def _note(self, news: News) -> None:
        async with self._changed:
            self.news = replace(news, version=self.news.version + 1)
            self._changed.notify_all()
