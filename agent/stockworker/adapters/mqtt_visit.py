"""A visit to the broker of another system, for callers without an event loop.

Received messages stay at the broker until the caller acknowledges them, one by one. The connection has an event loop in a thread
of its own, so that it stays alive between two calls. All calls come from one thread.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Coroutine, Iterable
from threading import Thread
from typing import Any, Final, TypeVar

from stockworker.adapters.mqtt_connection import BrokerUnreachable, Connection, LinkSettings
from stockworker.adapters.mqtt_dial import Dialer
from stockworker.adapters.mqtt_reasons import explain_code
from stockworker.adapters.mqtt_wire import Accepted, Callbacks
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.packet import Packet

EVERYTHING: Final = Accepted(largest_packet=268_435_460, largest_qos=2)
"""All that MQTT 5 allows. A broker drops a message that is larger than the client accepts, so a visit accepts each."""

NEVER_EXPIRES: Final = 0xFFFF_FFFF
"""MQTT 5.0, section 3.1.2.11.2."""

_FAILURE: Final = 0x80
_AT_LEAST_ONCE: Final = 1

T = TypeVar("T")


class VisitFailed(Exception):
    """The broker can't be reached, refuses something, or has closed the connection. The text has the reason."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message of the broker, which stays there until it is acknowledged. `packet_id` is 0 with QoS 0."""

    packet: Packet
    packet_id: int


class BrokerVisit:
    """An open connection.

    Args:
        settings: how to connect; the subscriptions in it are not used.

    Raises:
        VisitFailed: no connection.
    """

    def __init__(self, settings: LinkSettings) -> None:
        self._arrived: deque[Arrival] = deque()
        self._unconfirmed: dict[int, str] = {}
        self._refused: list[tuple[str, int]] = []
        self._progress = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=f"mqtt {settings.client_id}", daemon=True)
        self._thread.start()
        callbacks = Callbacks(self._receive, self._confirm, self._progress.set)
        try:
            self._connection: Connection = self._wait(
                Connection.open(settings, callbacks, Dialer(settings.host, settings.port))
            )
        except BrokerUnreachable as error:
            self._end_thread()
            raise VisitFailed(str(error)) from None

    @property
    def resumed(self) -> bool:
        """Whether the broker had a session of this client ID."""
        return self._connection.wire.answers.session_present

    def arrivals(self) -> list[Arrival]:
        """The messages that have arrived since the last call, when the broker has sent all that it may send now.

        A broker sends no more than the receive maximum before some are acknowledged. Mosquitto sends everything else before
        it answers a ping. From another broker, a message may arrive later: the next call returns it.
        """
        self._wait(self._settled())
        arrived: list[Arrival] = []
        while self._arrived:
            arrived.append(self._arrived.popleft())
        return arrived

    def subscribe(self, topics: Collection[str]) -> None:
        """Subscribe with QoS 1. The broker sends all retained messages of these topics, each time."""
        self._wait(self._subscribe(topics))

    def acknowledge(self, arrivals: Iterable[Arrival]) -> None:
        """Let the broker delete messages; return when it has done that."""
        self._wait(self._acknowledge(arrivals))

    def publish(self, packets: Iterable[Packet]) -> None:
        """Publish; return when the broker has confirmed each of them."""
        self._wait(self._publish(packets))

    def close(self) -> None:
        """Disconnect in good order. The broker keeps what was not acknowledged."""
        self._wait(self._connection.close())
        self._end_thread()

    # --- in the thread of the loop ------------------------------------------------------------------------------------

    async def _settled(self) -> None:
        wire = self._connection.wire
        if not wire.ended.done():
            await wire.settled()
        if wire.ended.done():
            raise VisitFailed(wire.ended.result().reason)

    async def _subscribe(self, topics: Collection[str]) -> None:
        wire = self._connection.wire
        answer = wire.answers.expect_suback()
        wire.subscribe(topics, None, retained=True)
        await self._settled()
        for topic, code in zip(topics, answer.result(), strict=True):
            if code >= _FAILURE:
                raise VisitFailed(f"the broker refuses the subscription to {topic}: {explain_code(code)}")

    async def _acknowledge(self, arrivals: Iterable[Arrival]) -> None:
        wire = self._connection.wire
        for each in arrivals:
            if each.packet.qos > _AT_LEAST_ONCE:
                wire.accept(each.packet_id)
            elif each.packet_id:
                wire.acknowledge(each.packet_id)
        await self._settled()

    async def _publish(self, packets: Iterable[Packet]) -> None:
        wire = self._connection.wire
        for packet in packets:
            while len(self._unconfirmed) >= self._connection.send_window:
                wire.flush()
                await self._confirmed_one()
            self._unconfirmed[wire.publish(packet)] = packet.topic
        wire.flush()
        while self._unconfirmed:
            await self._confirmed_one()
        if self._refused:
            topic, code = self._refused[0]
            self._refused = []
            raise VisitFailed(f"the broker refuses a message to {topic}: {explain_code(code)}")

    async def _confirmed_one(self) -> None:
        self._progress.clear()
        if self._connection.wire.ended.done():
            raise VisitFailed(self._connection.wire.ended.result().reason)
        await self._progress.wait()

    def _receive(self, packet: Packet, packet_id: int) -> None:
        self._arrived.append(Arrival(packet, packet_id))

    def _confirm(self, packet_id: int, code: int) -> None:
        topic = self._unconfirmed.pop(packet_id, "")
        if code >= _FAILURE:
            self._refused.append((topic, code))
        self._progress.set()

    # --- between the threads ------------------------------------------------------------------------------------------

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
