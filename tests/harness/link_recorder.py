"""A link that records every item it delivers, so that a test can wait for one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from stockworker.adapters.mqtt import Delayed, Delivery, Link, LinkDown, LinkItem, LinkUp, PublishRefused
from stockworker.adapters.mqtt_connection import LinkSettings
from tests.harness.broker import Broker

TIMEOUT_S = 20.0

_Item = TypeVar("_Item", LinkUp, LinkDown, Delivery, PublishRefused, Delayed)


class LinkRecorder:
    """A link and the items it has delivered; with `acknowledging` it confirms each delivery immediately."""

    def __init__(self, settings: LinkSettings, *, acknowledging: bool = True, jitter: float = 0.1) -> None:
        self.items: list[LinkItem] = []
        self.link = Link(settings, self._take, random=lambda: jitter)
        self._acknowledging = acknowledging
        self._arrived = asyncio.Event()

    @property
    def up(self) -> bool:
        return self.link._up

    @property
    def unacknowledged(self) -> int:
        """Messages that the broker has not confirmed yet."""
        return len(self.link._unconfirmed)

    @property
    def last_received_s(self) -> float | None:
        """Seconds since the last data of the broker; None without a connection."""
        connection = self.link._connection
        return None if connection is None else connection.wire.last_received_s

    def all(self, kind: type[_Item]) -> list[_Item]:
        return [item for item in self.items if isinstance(item, kind)]

    def bodies(self) -> list[bytes]:
        return [delivery.packet.body for delivery in self.all(Delivery)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until an item makes the condition true."""
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()

    async def next(self, kind: type[_Item], number: int = 1) -> _Item:
        """Wait for the `number`th item of a kind, and return it."""
        await self.until(lambda: len(self.all(kind)) >= number)
        return self.all(kind)[number - 1]

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        self.link.acknowledge(deliveries)

    def _take(self, item: LinkItem) -> None:
        self.items.append(item)
        self._arrived.set()
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
async def running(recorder: LinkRecorder) -> AsyncIterator[LinkRecorder]:
    """Run the link: it is up when the context is entered, and closed when it is left."""
    run = asyncio.create_task(recorder.link.run())
    try:
        await recorder.next(LinkUp)
        yield recorder
    finally:
        await recorder.link.close()
        await run


@asynccontextmanager
async def connected(
    broker: Broker, name: str, *topics: str, acknowledging: bool = True, **changes: Any
) -> AsyncIterator[LinkRecorder]:
    """A recorder on the broker, under the certificate `name`, subscribed to the topics."""
    settings = settings_for(broker, name, subscriptions=topics, **changes)
    async with running(LinkRecorder(settings, acknowledging=acknowledging)) as recorder:
        yield recorder
