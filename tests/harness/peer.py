"""A client of a real broker that reads and publishes arbitrary messages."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from stockworker.adapters.mqtt import Delivery, Link, LinkItem, LinkUp, PublishRefused
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.protocol import codec
from stockworker.protocol.messages import Message
from stockworker.protocol.packet import Packet
from tests.harness.broker import Broker

DENIED = 0x87
TIMEOUT_S = 30.0


class Peer:
    """A client that records what it receives, and which publishes the broker denied."""

    def __init__(self, broker: Broker, name: str, subscriptions: tuple[str, ...] = ("#",)) -> None:
        settings = LinkSettings(
            broker.host, broker.port, f"{name}-1", subscriptions, tls=broker.tls(name), backoff_cap_s=0.1
        )
        self.link = Link(settings, self._take)
        self.received: list[Delivery] = []
        self.denied: set[str] = set()
        self._up = False
        self._changed = asyncio.Event()

    def _take(self, item: LinkItem) -> None:
        match item:
            case LinkUp():
                self._up = True
            case Delivery():
                self.received.append(item)
            case PublishRefused() if item.reason_code == DENIED:
                self.denied.add(item.packet.topic)
            case _:
                pass
        self._changed.set()

    async def until_up(self) -> None:
        await self.until(lambda: self._up)

    async def until_read(self, body: bytes) -> None:
        await self.until(lambda: any(delivery.packet.body == body for delivery in self.received))

    async def until_message(self, is_expected: Callable[[Message], bool]) -> Message:
        """Wait for a message that satisfies the condition; return the first one."""

        def expected() -> list[Message]:
            return [message for delivery in self.received if is_expected(message := codec.decode(delivery.packet))]

        await self.until(lambda: bool(expected()))
        return expected()[0]

    def messages(self) -> list[Message]:
        return [codec.decode(delivery.packet) for delivery in self.received]

    async def until_denied(self, topic: str) -> None:
        await self.until(lambda: topic in self.denied)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
                self.link.acknowledge(self.received)

    async def publish(self, topics: Iterable[str], body: bytes) -> None:
        await self.link.send([Packet(topic, body) for topic in topics])
        assert await self.link.drain(TIMEOUT_S)


@asynccontextmanager
async def connected(peers: Sequence[Peer]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        for peer in peers:
            tasks.create_task(peer.link.run())
            stack.push_async_callback(peer.link.close)
            await peer.until_up()
        yield
