"""What a connection writes, and when: packets of one round of the event loop together, and acknowledgements with them."""

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from stockworker.adapters import mqtt_wire as module
from stockworker.adapters.mqtt_packets import write_puback, write_publish
from stockworker.adapters.mqtt_wire import Callbacks, ConnectionEnd, MqttWire
from stockworker.protocol.packet import Packet
from tests.harness.waiting import until

MESSAGE = Packet("jobs/query/ann", b"{}", qos=0)


class RecordingTransport:
    """Records each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def get_extra_info(self, name: str) -> Any:
        return SimpleNamespace(setsockopt=lambda *_: None) if name == "socket" else None

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


def play(story: Callable[[MqttWire, RecordingTransport], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        callbacks = Callbacks(lambda _packet, _id: None, lambda _id, _code: None, lambda: None)
        wire, transport = MqttWire(True, 20, callbacks), RecordingTransport()  # noqa: FBT003 (as the connection calls it)
        wire.connection_made(transport)  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            await story(wire, transport)
        wire.connection_lost(None)

    asyncio.run(main())


def test_an_acknowledgement_travels_with_the_next_message() -> None:
    async def story(wire: MqttWire, transport: RecordingTransport) -> None:
        wire.acknowledge(7)
        await asyncio.sleep(0)
        assert transport.writes == []
        wire.publish(MESSAGE)
        wire.acknowledge(8)
        assert transport.writes == []
        wire.flush()
        assert transport.writes == [write_puback(7) + write_publish(MESSAGE, 0) + write_puback(8)]

    play(story)


def test_an_acknowledgement_travels_alone_after_a_while() -> None:
    async def story(wire: MqttWire, transport: RecordingTransport) -> None:
        for number, packet_id in enumerate((7, 8), 1):
            wire.acknowledge(packet_id)
            await until(lambda many=number: len(transport.writes) == many, "it is written")  # type: ignore[misc]
        assert transport.writes == [write_puback(7), write_puback(8)]

    play(story)


def test_many_acknowledgements_do_not_wait() -> None:
    """The broker sends no more messages than it may have unacknowledged."""

    async def story(wire: MqttWire, transport: RecordingTransport) -> None:
        ids = range(1, module._MOST_ACKNOWLEDGEMENTS + 1)
        for packet_id in ids:
            wire.acknowledge(packet_id)
        assert transport.writes == [b"".join(map(write_puback, ids))]

    play(story)


def test_acknowledgements_are_written_before_a_connection_is_closed_in_good_order() -> None:
    async def story(wire: MqttWire, transport: RecordingTransport) -> None:
        wire.acknowledge(7)
        wire.disconnect(ConnectionEnd("closed"))
        assert transport.writes[0].startswith(write_puback(7))

    play(story)


def test_a_reset_is_not_a_close_by_the_peer() -> None:
    """A broker that takes a session over closes the connection. A reset may hide the alert about a certificate."""
    end = module._closed_by_peer(ConnectionResetError())
    assert (end.by_peer, end.reset) == (False, True)
    assert module._closed_by_peer(None).by_peer
