"""The link to the broker: connects, stays connected, and reports the fate of each message."""

# State is truth, messages are hints: the link keeps nothing for later. It drops and counts messages that it can't send.
# A received message stays unacknowledged until the owner has stored it; then the broker deletes it. All methods belong
# to the thread of the event loop.
#
# Three signs show that a connection is dead (`_signs_of_death`), although TCP still keeps it: the broker is silent,
# echoes do not return, or confirmations are missing. The link then drops it and connects again.
#
# Windows. In MQTT 5 each side limits the messages of QoS 1 that the other side may have unacknowledged (receive
# maximum). Towards the broker, `send` waits while its window is full. From the broker, the window is the back-pressure:
# an owner that needs long to store messages gets only that many, and the others wait at the broker.
#
# A packet that this client can't handle stays unacknowledged, and comes again with the same session. So the next connection
# discards the session (`_discard_session`).
#
# A message of QoS 0 has no window: the broker sends it as fast as this client reads. So the link counts what its owner has not
# acknowledged yet, and drops messages of QoS 0 above `_UNHANDLED_BYTES_MAX`. They may get lost anyway.
#
# Order. A kept session may deliver messages before it has granted all subscriptions. They wait in `_early`, so that the
# owner gets `LinkUp` before the first delivery. A delivery has the generation of its connection, because the
# same packet ID may belong to another message on the next one.

import asyncio
import logging
import random as system_random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from stockworker.adapters import clock
from stockworker.adapters.mqtt_connection import BrokerUnreachable, Connection, LinkSettings
from stockworker.adapters.mqtt_dial import Dialer
from stockworker.adapters.mqtt_echo import Echo, is_delayed
from stockworker.adapters.mqtt_reasons import NO_MATCHING_SUBSCRIBERS, PACKET_TOO_LARGE, SESSION_TAKEN_OVER, SUCCESS
from stockworker.adapters.mqtt_unconfirmed import Unconfirmed
from stockworker.adapters.mqtt_wire import Callbacks, ConnectionEnd, PacketTooLarge
from stockworker.adapters.stacks import stack_of_tasks
from stockworker.errors import ConfigError, ConnectionFailed
from stockworker.logs import log_event
from stockworker.logs.events import ConnectionDead, MessagesDropped
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.packet import Packet

_log = logging.getLogger(__name__)

# After this number of connections in a row that the broker soon closed, another client may use the same ID.
_TAKEOVERS_MAX: Final = 5
# In keepalive intervals. gmqtt pings after 0.8 to 1.3 of them; the broker itself closes the connection after 1.5.
_SILENCE_MAX: Final = 1.75
_CHECKS_PER_KEEPALIVE: Final = 8
# The addresses of a host may fail for different reasons, in turn.
_REPORTED_MAX: Final = 8
_DOUBLINGS_MAX: Final = 30
_UNHANDLED_BYTES_MAX: Final = 64 * 1024 * 1024
_OBJECTS_BYTES: Final = 1024
"""About what the objects of a message take beside its body."""
_RENEWED: Final = ConnectionEnd("reconnecting with the new certificate or password")


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Signed in, and all subscriptions granted. Deliveries come between this and `LinkDown`.

    `certified_until`: when the broker's certificate expires, in seconds since 1970; None without TLS.
    """

    certified_until: float | None = None


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The connection is lost, or an attempt failed for another reason than the one before it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that has arrived. With QoS 1 it arrives again after a reconnect unless it was acknowledged.

    `packet_id` and `generation` (of the connection) are for the link only.
    """

    packet: Packet
    packet_id: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class PublishRefused:
    """The broker has refused to pass a message on; or the link has not sent it, because it is too large for the broker.

    `reason_code` (see `reason_name`): 0x10 no subscriber, 0x87 denied by the ACL, 0x95 too large, …
    """

    packet: Packet
    reason_code: int


@dataclass(frozen=True, slots=True)
class Delayed:
    """The broker is near, but as slow as one whose kernel collects small packets (Nagle's algorithm).

    Reported once per connection, with its median round trip and that of the network, in seconds.
    """

    round_trip_s: float
    network_s: float


LinkItem = LinkUp | LinkDown | Delivery | PublishRefused | Delayed


class Link:
    """One client of the broker, over any number of connections.

    `deliver` gets every `LinkItem`, in order. It must only store it, and not call back into the link.
    """

    def __init__(
        self,
        settings: LinkSettings,
        deliver: Callable[[LinkItem], None],
        *,
        random: Callable[[], float] = system_random.random,
    ) -> None:
        self._settings = settings
        self._deliver = deliver
        self._dialer = Dialer(settings.host, settings.port)
        self._backoff = Backoff(settings.backoff_first_s, settings.backoff_cap_s, random)
        self._connection: Connection | None = None
        self._work: asyncio.Task[None] | None = None
        self._closed = False
        self._discard_session = settings.discard_session
        self._generation = 0
        self._up = False
        self._echo: Echo | None = None
        self._received_at = 0.0
        self._early: list[Delivery] = []
        self._unhandled_bytes = 0
        self._flooded = False
        self._unconfirmed = Unconfirmed()
        self._progress = asyncio.Event()
        self._reported: deque[str] = deque(maxlen=_REPORTED_MAX)
        # Another client with the same ID returns within its longest pause, which is as long as that of this link.
        self._takeovers = Takeovers(settings.backoff_cap_s + settings.connect_timeout_s)
        self.dropped = 0
        """Messages that were not sent because the link was down, or not confirmed when it went down."""

    @property
    def give_up_at(self) -> float | None:
        """When the link will drop the connection as dead, if nothing arrives; None without a connection.

        If the link is not down shortly after that, the link itself hangs.
        """
        if self._connection is None:
            return None
        return min(dead_at for dead_at, _reason in self._signs_of_death(self._connection))

    @property
    def unconfirmed(self) -> int:
        """How many messages were sent and are not confirmed."""
        return len(self._unconfirmed)

    @property
    def broker_certificate(self) -> bytes | None:
        """The certificate of the broker, in DER; None without a connection, and without TLS."""
        return None if self._connection is None else self._connection.wire.peer_certificate

    async def run(self) -> None:
        """Stay connected until `close`. A cancellation drops the connection, and the broker sends the will.

        Raises:
            ConnectionFailed: the broker refuses this client permanently, or another client uses its client ID.
        """
        if self._closed:
            return
        self._work = asyncio.create_task(self._stay_connected(), name=f"mqtt {self._settings.client_id}")
        try:
            await asyncio.wait({self._work})
        finally:
            self._work.cancel()
            await asyncio.wait({self._work})
            if self._connection is not None:
                self._connection.wire.abort(ConnectionEnd("stopped"))
                self._forget()
        if not self._work.cancelled():
            self._work.result()

    async def send(self, packets: Sequence[Packet]) -> None:
        """Write all packets, in order and together; wait while the broker still handles earlier ones.

        Refused messages come back as `PublishRefused`. While the link is down, it drops packets and counts them in
        `dropped`: repeat them from your own state after `LinkUp`.
        """
        for packet in packets:
            while self._must_wait(packet):
                self._flush()
                self._progress.clear()
                await self._progress.wait()
            self._write(packet)
        self._flush()

    def subscribe(self, filters: Iterable[str]) -> None:
        """Subscribe to more topics, on this connection and on each later one.

        The broker has the subscription before it gets any message that is sent after this call.
        """
        subscriptions = tuple(dict.fromkeys((*self._settings.subscriptions, *filters)))
        self._settings = replace(self._settings, subscriptions=subscriptions)
        if self._connection is not None:
            self._connection.subscribe(subscriptions)

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge these messages, so that the broker deletes them.

        Pass each delivery once, whatever its quality of service and connection.
        """
        for delivery in deliveries:
            self._unhandled_bytes -= _size(delivery.packet)
            if self._connection is not None and delivery.packet_id and delivery.generation == self._generation:
                self._connection.wire.acknowledge(delivery.packet_id)
        self._flooded = self._flooded and self._unhandled_bytes > _UNHANDLED_BYTES_MAX // 2

    async def drain(self, timeout_s: float) -> bool:
        """Wait until the broker has confirmed all messages; False if it has not in time, or the link went down."""
        dropped = self.dropped
        try:
            async with asyncio.timeout(timeout_s):
                while self._unconfirmed:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            return False
        return self.dropped == dropped

    def renew(self, settings: LinkSettings) -> None:
        """Use the user name, password and certificate of `settings`; ignore the rest of it.

        If the connection has another identity, disconnect in good order and reconnect. The client ID stays, because it
        identifies the session at the broker.
        """
        new = replace(self._settings, username=settings.username, password=settings.password, tls=settings.tls)
        self._settings = new
        connection = self._connection
        with suppress(ConfigError):  # the next connection reports unreadable files
            if connection is not None and connection.identity != new.identity():
                connection.wire.disconnect(_RENEWED)

    async def close(self) -> None:
        """Disconnect in good order, so that the broker does not send the will, and end `run`."""
        self._closed = True
        if self._connection is not None:
            self._up = False
            await self._connection.close()
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait({self._work})

    async def _stay_connected(self) -> None:
        while not self._closed:
            try:
                settings = self._settings
                if self._discard_session:
                    settings = replace(settings, clean_start=True)
                connection = await Connection.open(settings, self._callbacks(), self._dialer)
            except BrokerUnreachable as failure:
                if failure.permanent:
                    raise ConnectionFailed(self._named(str(failure))) from failure
                self._discard_session |= failure.bad_packet
                self._takeovers.count = 0
                self._report_down(str(failure))
            else:
                self._come_up(connection)
                since = clock.monotonic()
                end = await self._until_lost(connection)
                self._discard_session = end.bad_packet
                self._forget()
                self._takeovers.note(end, clock.monotonic() - since)
                suspected = self._takeovers.suspected and not self._takeovers.certain
                self._report_down(f"{end.reason}, {self._suspicion()}" if suspected else end.reason)
                if end is _RENEWED:
                    continue
                self._assess(lasted_s=clock.monotonic() - since)
            await asyncio.sleep(self._backoff.next_s())

    def _callbacks(self) -> Callbacks:
        self._generation += 1
        self._early = []
        return Callbacks(self._received, self._acknowledged, self._progress.set)

    def _come_up(self, connection: Connection) -> None:
        self._connection = connection
        connection.subscribe(self._settings.subscriptions)  # those that were added while it was made
        self._up = True
        self._reported.clear()
        self._deliver(LinkUp(connection.wire.peer_valid_until))
        early, self._early = self._early, []
        for delivery in early:
            self._deliver(delivery)
        if self._settings.echo_topic is not None:
            self._echo = Echo(self._settings.echo_every_s, connection.wire.keepalive_s, clock.monotonic())
            self._publish_echo()

    async def _until_lost(self, connection: Connection) -> ConnectionEnd:
        wire = connection.wire
        keepalive_s = wire.keepalive_s
        written_bytes = 0
        while not wire.ended.done():
            await asyncio.wait({wire.ended}, timeout=keepalive_s / _CHECKS_PER_KEEPALIVE)
            if wire.closing:
                continue
            now = clock.monotonic()
            # Some data is always on its way: the other kernel alone may delay its acknowledgement by 40 ms (tcp(7),
            # TCP_QUICKACK). A line is slow if data that was written before the last check has not arrived yet.
            arrived_bytes = wire.arrived_bytes
            if arrived_bytes < written_bytes:
                self._unconfirmed.leaving(now)
            written_bytes = arrived_bytes + wire.travelling_bytes
            dead = [reason for dead_at, reason in self._signs_of_death(connection) if now > dead_at]
            if dead:
                log_event(_log, ConnectionDead(reason=dead[0]), stack=stack_of_tasks())
                wire.abort(ConnectionEnd(dead[0]))
            self._publish_echo()
        return wire.ended.result()

    def _signs_of_death(self, connection: Connection) -> list[tuple[float, str]]:
        """The times at which each sign would show that the connection is dead, if nothing arrives; the clearest first."""
        wire = connection.wire
        keepalive_s = wire.keepalive_s
        # With unsent data, a socket of a vanished peer does not close: gmqtt and asyncio would wait forever.
        silence = f"no data from the broker for {wire.last_received_s:.0f} s"
        echo = f"echoes on {self._settings.echo_topic} do not return: does the ACL allow this client to read it?"
        mute = f"the broker confirms no messages; {len(self._unconfirmed)} are unconfirmed"
        signs = [
            (clock.monotonic() - wire.last_received_s + _SILENCE_MAX * keepalive_s, silence),
            (self._unconfirmed.missing_at(keepalive_s, self._received_at, wire.message_at), mute),
            (None if self._echo is None else self._echo.missing_at(max(self._received_at, wire.message_at)), echo),
        ]
        return [(dead_at, reason) for dead_at, reason in signs if dead_at is not None]

    def _forget(self) -> None:
        self._connection = None
        self._echo = None
        self._up = False
        self.dropped += len(self._unconfirmed)
        self._unconfirmed.clear()
        self._progress.set()

    def _report_down(self, reason: str) -> None:
        if not self._closed and reason not in self._reported:
            self._reported.append(reason)
            self._deliver(LinkDown(self._named(reason)))

    def _assess(self, *, lasted_s: float) -> None:
        if lasted_s >= self._settings.healthy_after_s:
            self._backoff.reset()
            self._takeovers.count = 0
        elif self._takeovers.certain:
            raise ConnectionFailed(
                self._named(
                    f"closed {self._takeovers.count} connections in a row soon after it accepted them: another client "
                    f"uses the ID {self._settings.client_id!r}. Stop the other client, or give it its own identity"
                )
            )

    def _suspicion(self) -> str:
        return (
            f"{self._takeovers.count} times in a row soon after it accepted one: does another client use the ID "
            f"{self._settings.client_id!r}, or does the broker crash?"
        )

    def _must_wait(self, packet: Packet) -> bool:
        connection = self._connection
        if connection is None:
            return False
        return connection.wire.congested or (packet.qos > 0 and len(self._unconfirmed) >= connection.send_window)

    def _write(self, packet: Packet) -> None:
        if self._connection is None:
            self.dropped += 1
            return
        try:
            packet_id = self._connection.wire.publish(packet)
        except PacketTooLarge:
            self._deliver(PublishRefused(packet, PACKET_TOO_LARGE))
            return
        if packet_id:
            self._unconfirmed.add(packet_id, packet, clock.monotonic())

    def _flush(self) -> None:
        if self._connection is not None:
            self._connection.wire.flush()

    def _publish_echo(self) -> None:
        topic = self._settings.echo_topic
        if self._echo is None or topic is None or not self._up or self._must_wait(Packet(topic, b"")):
            return
        body = self._echo.next(clock.monotonic())
        if body is not None:
            self._write(Packet(topic, body))
            self._flush()

    def _measured(self, round_trip_s: float | None) -> None:
        if round_trip_s is not None and self._connection is not None and not self._connection.wire.closing:
            network_s = self._connection.wire.network_s
            if is_delayed(round_trip_s, network_s):
                self._deliver(Delayed(round_trip_s, network_s))
        self._publish_echo()

    def _received(self, packet: Packet, packet_id: int) -> None:
        now = clock.monotonic()
        if packet.topic == self._settings.echo_topic:
            if self._echo is not None:
                self._measured(self._echo.returned(packet.body, now, self._received_at))
            return
        self._received_at = now
        if not packet.qos and self._unhandled_bytes > _UNHANDLED_BYTES_MAX:
            self._drop(packet)
            return
        self._unhandled_bytes += _size(packet)
        delivery = Delivery(packet, packet_id, self._generation)
        if self._up:
            self._deliver(delivery)
        else:
            # A kept session starts to send before it has confirmed the subscriptions.
            self._early.append(delivery)

    def _drop(self, packet: Packet) -> None:
        if not self._flooded:
            self._flooded = True
            log_event(_log, MessagesDropped(topic=packet.topic))

    def _acknowledged(self, packet_id: int, reason_code: int) -> None:
        packet = self._unconfirmed.confirmed(packet_id, clock.monotonic())
        self._progress.set()
        if packet is None:
            return
        if self._echo is not None and packet.topic == self._settings.echo_topic:
            if reason_code in {SUCCESS, NO_MATCHING_SUBSCRIBERS}:
                self._measured(self._echo.acknowledged(clock.monotonic(), self._received_at))
                return
            self._echo.bar()
        if reason_code:
            self._deliver(PublishRefused(packet, reason_code))

    def _named(self, reason: str) -> str:
        return f"broker {self._settings.host}:{self._settings.port}: {reason}"


def _size(packet: Packet) -> int:
    return len(packet.body) + _OBJECTS_BYTES


class Takeovers:
    """Counts the connections in a row that another client with the same ID seems to have ended.

    Only a broker that sends the reason (Mosquitto from 2.1 on) proves it. A connection that is closed without a reason
    looks the same if the broker crashes and restarts, or a balancer in between loses it: then a client must never give up.

    Args:
        soon_s: a connection that lasts longer ended for another reason: the broker or the network is unstable.
    """

    def __init__(self, soon_s: float) -> None:
        self._soon_s = soon_s
        self.count = 0
        self._proven = 0

    def note(self, end: ConnectionEnd, lasted_s: float) -> None:
        """Count the end of a connection."""
        taken_over = lasted_s <= self._soon_s and end.by_peer and end.code in {None, SESSION_TAKEN_OVER}
        self.count = self.count + 1 if taken_over else 0
        self._proven = self._proven + 1 if taken_over and end.code is not None else 0

    @property
    def suspected(self) -> bool:
        """Whether another client may use the ID."""
        return self.count >= _TAKEOVERS_MAX

    @property
    def certain(self) -> bool:
        """Whether another client certainly uses the ID."""
        return min(self.count, self._proven) >= _TAKEOVERS_MAX


class Backoff:
    """Full jitter: a random time below a ceiling that doubles, so that a fleet does not return at the same moment."""

    def __init__(self, first_s: float, cap_s: float, random: Callable[[], float]) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._random = random
        self._failures = 0

    def next_s(self) -> float:
        ceiling_s = min(self._cap_s, self._first_s * 2.0**self._failures)
        self._failures = min(self._failures + 1, _DOUBLINGS_MAX)
        return self._random() * ceiling_s

    def reset(self) -> None:
        self._failures = 0
