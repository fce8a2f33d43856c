"""The list of attacks; tools of an attacker: raw MQTT packets; and checks that an attack had no effect."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from stockworker.adapters.mqtt_packets import PacketReader
from stockworker.protocol.body import MAX_PACKET
from tests.harness.broker import Broker
from tests.harness.fleet import Fleet

_TIMEOUT_S = 20.0
_CONNACK, _PUBACK = 0x20, 0x40
_PINGREQ, _PINGRESP, _RETAINED = 0xC0, 0xD0, 0x31

EVIL_CLIENT: Final = "mallory"
"""A client in the ACL whose certificate the attacker has."""

EVIL_WORKER: Final = "host-9"
"""A worker whose certificate the attacker has."""

Strike = Callable[[Fleet], None]


@dataclass(frozen=True, slots=True)
class Attack:
    """What an attacker does to a running fleet with the certificate of one party.

    Attributes:
        name: the name of the function that does it.
        attacker: the party's name, which the logs must show afterwards.
        strike: does it once, at full strength; returns when everything was sent.
        work: submits the same jobs as an honest client would, if the workers run the attack's jobs: what they cost is not
            the attack.
    """

    name: str
    attacker: str
    strike: Strike
    work: Strike | None = None


ATTACKS: Final[list[Attack]] = []
"""Every attack on a running fleet, from the modules of `tests.hostile` that were imported."""


def attack(attacker: str, work: Strike | None = None) -> Callable[[Strike], Strike]:
    """Enter a function into the list of attacks. A test calls it too, and checks that it has no effect.

    The arguments are attributes of `Attack`.
    """

    def enter(strike: Strike) -> Strike:
        ATTACKS.append(Attack(strike.__name__, attacker, strike, work))
        return strike

    return enter


class RawClient:
    """Sends MQTT 5 packets as bytes (MQTT 5.0, section 2.1), also those that the protocol forbids."""

    def __init__(self, broker: Broker, context: ssl.SSLContext, client_id: str, keepalive_s: int = 60) -> None:
        self._broker = broker
        self._context = context
        self._client_id = client_id
        self._keepalive_s = keepalive_s

    def __enter__(self) -> Self:
        self._socket = socket.create_connection((self._broker.host, self._broker.port), timeout=_TIMEOUT_S)
        try:
            self._socket = self._context.wrap_socket(self._socket, server_hostname="localhost")
            keepalive = self._keepalive_s.to_bytes(2)
            self.send(0x10, _text(b"MQTT") + b"\x05\x02" + keepalive + b"\0" + _text(self._client_id.encode()))
            if self.answer()[:1] != bytes([_CONNACK]):
                raise ConnectionRefusedError("the broker closed the connection")  # noqa: TRY301 (closes the socket below)
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, head: int, rest: bytes) -> None:
        self._socket.sendall(bytes([head]) + _number(len(rest)) + rest)

    def publish(
        self, topic: bytes, body: bytes = b"{}", properties: bytes = b"", *, qos: int = 1, retain: bool = False
    ) -> None:
        """Publish with encoded properties, without waiting for an answer."""
        packet_id = b"\0\1" if qos else b""
        with suppress(
            ssl.SSLError, ConnectionError
        ):  # the broker may close the connection before it has read everything
            self.send(0x30 | qos << 1 | retain, _text(topic) + packet_id + _number(len(properties)) + properties + body)

    def gets_retained(self, *filters: bytes) -> bool:
        """Subscribe; return whether the broker sends any retained message."""
        self.send(0x82, b"\0\2\0" + b"".join(_text(each) + b"\1" for each in filters))
        self.send(_PINGREQ, b"")
        reader, found = PacketReader(MAX_PACKET), set[int]()
        while _PINGRESP not in found and (data := self.answer()):
            found |= {first for first, _content in reader.feed(data)}
        assert _PINGRESP in found
        return any(first & 0xF1 == _RETAINED for first in found)

    def answer(self) -> bytes:
        """The next bytes from the broker; empty once it has closed the connection."""
        try:
            return self._socket.recv(4096)
        except (ConnectionError, ssl.SSLError):
            return b""

    def is_thrown_out(self) -> bool:
        """Whether the broker closes the connection because of a packet; False if it acknowledges it."""
        while answer := self.answer():
            if answer[0] == _PUBACK:
                return False
        return True


def _text(encoded: bytes) -> bytes:
    return len(encoded).to_bytes(2) + encoded


def _number(value: int) -> bytes:
    """A variable byte integer (MQTT 5.0, section 1.5.5)."""
    value, digit = divmod(value, 128)
    return bytes([digit | 0x80]) + _number(value) if value else bytes([digit])


@contextmanager
def refused(fleet: Fleet, counter: str, event: str, times: int = 1, **fields: object) -> Iterator[None]:
    """Checks that the dispatcher refuses what happens inside: in its counters, and in its log with a reason."""
    before, logged = counted(fleet, counter), _matching(fleet, event, fields)
    yield
    fleet.dispatcher.await_event(event, logged + times, **fields)
    assert counted(fleet, counter) - before == times
    assert all(line.get("reason") or line.get("outcome") for line in fleet.dispatcher.events(event))


def counted(fleet: Fleet, counter: str) -> int:
    """A counter of the dispatcher, as clients see it."""

    async def ask() -> int:
        async with fleet.client() as client:
            return dict((await client.stats()).counters).get(counter, 0)

    return asyncio.run(ask())


def run_good_job(fleet: Fleet) -> None:
    """Check that the fleet still completes a job."""

    async def run() -> object:
        async with fleet.client() as client:
            return await client.result(await client.submit("echo", "good"), timeout_s=30)

    result = asyncio.run(run())
    assert isinstance(result, dict)
    assert result["payload"] == "good"


def connections_lost(fleet: Fleet) -> int:
    """How often any service of the fleet lost the broker."""
    return sum(len(service.events("link_down")) for service in (fleet.dispatcher, *fleet.workers))


def _matching(fleet: Fleet, event: str, fields: dict[str, object]) -> int:
    return sum(fields.items() <= line.items() for line in fleet.dispatcher.events(event))
