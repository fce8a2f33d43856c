"""A link with a memory: what it was told, and waiting for what it will be told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from stockworker.adapters.mqtt import Delayed, Delivery, Link, LinkDown, LinkItem, LinkSettings, LinkUp, PublishRefused
from tests.harness.broker import Broker

TIMEOUT_S = 20.0

_Kind = TypeVar("_Kind", LinkUp, LinkDown, Delivery, PublishRefused, Delayed)


class Station:
    """`acknowledging`: confirm each delivery as it comes."""

    def __init__(self, settings: LinkSettings, *, acknowledging: bool = True, jitter: float = 0.1) -> None:
        self.told: list[LinkItem] = []
        self.link = Link(settings, self._take, random=lambda: jitter)
        self._acknowledging = acknowledging
        self._news = asyncio.Event()

    def all(self, kind: type[_Kind]) -> list[_Kind]:
        return [item for item in self.told if isinstance(item, kind)]

    def bodies(self) -> list[bytes]:
        return [delivery.packet.body for delivery in self.all(Delivery)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until news make the condition true."""
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def next(self, kind: type[_Kind], number: int = 1) -> _Kind:
        """Return the `number`th item of a kind, once it is there."""
        await self.until(lambda: len(self.all(kind)) >= number)
        return self.all(kind)[number - 1]

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        self.link.acknowledge(deliveries)

    def _take(self, item: LinkItem) -> None:
        self.told.append(item)
        self._news.set()
        if self._acknowledging and isinstance(item, Delivery):
            asyncio.get_running_loop().call_soon(self.link.acknowledge, [item])


def settings_for(broker: Broker, name: str, **changes: Any) -> LinkSettings:
    defaults: dict[str, Any] = {
        "host": "localhost",
        "port": broker.port,
        "client_id": name,
        "tls": broker.tls(name),
        "backoff_first_s": 0.05,
    }
    return LinkSettings(**(defaults | changes))


@asynccontextmanager
async def running(station: Station) -> AsyncIterator[Station]:
    """Run the link, up on entering; closed on leaving."""
    run = asyncio.create_task(station.link.run())
    try:
        await station.next(LinkUp)
        yield station
    finally:
        await station.link.close()
        await run


@asynccontextmanager
async def connected(
    broker: Broker, name: str, *topics: str, acknowledging: bool = True, **changes: Any
) -> AsyncIterator[Station]:
    """A station on the broker, under the certificate `name`, subscribed to the topics."""
    settings = settings_for(broker, name, subscriptions=topics, **changes)
    async with running(Station(settings, acknowledging=acknowledging)) as station:
        yield station
