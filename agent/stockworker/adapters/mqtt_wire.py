"""The used part of gmqtt, and the only module that imports it: sent packets, packet IDs, keepalive."""

# gmqtt's `Client` is not used, because of its behaviour. It reconnects at fixed intervals even after a disconnect, and
# sends a message twice or forgets it, depending on the broker's session. It treats a refused publish as delivered, and
# waits forever for a mute peer. Its parsers of received bytes are not used either: they copy the rest of a packet for each
# property, and the rest of the buffer for each packet. `mqtt_packets` replaces them.

import asyncio
import fcntl
import logging
import socket
import ssl
import struct
import sys
import termios
from collections.abc import Callable, Iterable
from typing import Any, cast

from gmqtt.client import Message
from gmqtt.mqtt.connection import MQTTConnection
from gmqtt.mqtt.handler import MqttPackageHandler
from gmqtt.mqtt.protocol import MQTTProtocol
from gmqtt.mqtt.utils import ConnectionState
from gmqtt.subscription import Subscription

from stockworker.adapters import clock
from stockworker.adapters.mqtt_packets import (
    BadPacket,
    PacketReader,
    read_properties,
    read_publish,
    write_puback,
    write_pubcomp,
    write_publish,
    write_pubrec,
)
from stockworker.adapters.mqtt_reasons import explain_code, explain_error
from stockworker.protocol.body import MAX_PACKET
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.packet import NO_PROPERTIES, Packet

# A write of this size is sent immediately: waiting for more would save nothing, and hide a slow peer from flow control.
_COALESCED_BYTES = 64 * 1024
# An acknowledgement travels with the next message, or alone after this time, or with this many others. Nothing waits for it. A
# job on an idle system has several steps, some milliseconds apart: within this time their acknowledgements share a packet.
_ACKNOWLEDGE_WITHIN_S = 0.05
_MOST_ACKNOWLEDGEMENTS = 64
# MQTT 5.0, section 2.1.4: the largest value of the length field.
_LARGEST_PACKET = 268_435_455

# MQTT 5.0, section 2.1.2: the kind of a packet is in its first four bits. The two kinds of which there are many.
_KIND, _PUBLISH, _PUBACK = 0xF0, 0x30, 0x40

# MQTT 5.0, section 3.8.3.1.
_RETAINED_MESSAGES, _NO_RETAINED_MESSAGES = 0, 2

# linux/tcp.h, struct tcp_info: the offsets of tcpi_bytes_acked and tcpi_min_rtt, and the size up to them.
_TCP_INFO_BYTES_ACKED = 120
_TCP_INFO_MIN_RTT = 148
_TCP_INFO_SIZE = 152
_NO_BYTES = bytes(4)
# Acknowledgements and answers to pings are smaller.
_PART_OF_MESSAGE_BYTES = 1024

# Two TLS records. More would be taken from memory that nothing else needs.
_READ_BYTES = 32 * 1024

_log = logging.getLogger(__name__)
logging.getLogger("gmqtt").setLevel(logging.ERROR)  # as in `stockworker.logs.setup`, which not every command calls


@dataclass(frozen=True, slots=True)
class ConnectionEnd:
    """Why a connection ended. `code` is the broker's reason, if it sent one; `by_peer`: the broker closed it; `reset`: it was reset.

    `bad_packet`: the broker sent a packet that this client can't handle. With the same session it would come again.
    """

    reason: str
    code: int | None = None
    by_peer: bool = False
    bad_packet: bool = False
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The callbacks of a connection: on the loop's thread, in order of arrival. None of them may block."""

    received: Callable[[Packet, int], None]  # the packet, and its ID (0 with QoS 0)
    acknowledged: Callable[[int, int], None]  # the packet ID, the reason code
    writable: Callable[[], None]  # the socket accepts data again, or is closed


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a connection accepts from the broker: by default, the messages of this software."""

    largest_packet: int = MAX_PACKET
    largest_qos: int = 1


ACCEPTED = Accepted()


class PacketTooLarge(Exception):
    """The broker would close the connection because of this packet."""


class MqttWire(MQTTProtocol):  # type: ignore[misc]  # gmqtt has no types
    """The packets of one connection, both ways, as the protocol of an asyncio transport.

    Keeps messages until `flush`, which writes them together: one system call and one TLS record. Acknowledgements wait for it,
    but not for long.
    """

    _transport: Any  # of gmqtt; None before the connection is made, and after it is lost

    def __init__(
        self,
        clean_start: bool,  # noqa: FBT001
        keepalive_s: int,
        callbacks: Callbacks,
        accepted: Accepted = ACCEPTED,
    ) -> None:
        self.answers = _Answers(callbacks, self, accepted.largest_qos)
        super().__init__(connection_state=self.answers.state, id_generator=self.answers.id_generator)
        self.ended: asyncio.Future[ConnectionEnd] = asyncio.get_running_loop().create_future()
        self.congested = False
        self.message_at = 0.0
        """When a part of a large message last arrived. Small messages arrive as a whole, and their receiver notes the time."""
        self.largest_packet = _LARGEST_PACKET
        self._reader = PacketReader(accepted.largest_packet)
        self._clean_start = clean_start
        self._keepalive_s = keepalive_s
        self._writable = callbacks.writable
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._flushes_soon = self._flushes_late = False
        self._cause: ConnectionEnd | None = None
        self._pings = 0

    @property
    def keepalive_s(self) -> int:
        """The configured keepalive, or the one that the broker demands."""
        keepalive_s: int = self._connection.keepalive
        return keepalive_s

    @property
    def closing(self) -> bool:
        """Whether the connection has no socket any more. Then `ended` follows, and the kernel has no figures of it."""
        return self._transport is None or self._transport.get_extra_info("socket") is None

    @property
    def network_s(self) -> float:
        """The shortest round trip of the network in seconds, as measured by the kernel."""
        microseconds: int = struct.unpack_from("I", self._tcp_info(), _TCP_INFO_MIN_RTT)[0]
        return microseconds / 1e6

    @property
    def arrived_bytes(self) -> int:
        """Number of sent bytes that have arrived at the other machine, as far as the kernel knows."""
        arrived: int = struct.unpack_from("Q", self._tcp_info(), _TCP_INFO_BYTES_ACKED)[0]
        return arrived

    @property
    def travelling_bytes(self) -> int:
        """Number of sent bytes that have not arrived yet (tcp(7))."""
        queued = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, _NO_BYTES)
        return int.from_bytes(queued, sys.byteorder)

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate of the broker, in DER; None without TLS, and after the connection is lost."""
        tls = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        certificate: bytes | None = None if tls is None else tls.getpeercert(binary_form=True)
        return certificate

    @property
    def peer_valid_until(self) -> float | None:
        """When the certificate of the broker expires, in seconds since 1970; None as for `peer_certificate`."""
        tls = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        return None if tls is None else float(ssl.cert_time_to_seconds(tls.getpeercert()["notAfter"]))

    @property
    def last_received_s(self) -> float:
        """Seconds since the last byte of the peer."""
        last: float = self._connection._last_data_in  # noqa: SLF001 (gmqtt has no other way to ask)
        return clock.monotonic() - last

    async def connect(
        self, client_id: str, username: str | None, password: str | None, will: Packet | None, **properties: int
    ) -> None:
        await self.send_auth_package(
            client_id,
            None if username is None else username.encode(),
            None if password is None else password.encode(),
            self._clean_start,
            self._keepalive_s,
            will_message=None if will is None else _message(will),
            **properties,
        )

    def subscribe(self, topics: Iterable[str], echo_topic: str | None, *, retained: bool = False) -> None:
        # As published, so that receivers see whether a job was sent with the retain flag. Retained messages arrive only if
        # the caller asks for them, so none can return with each connection. An echo must not wait for the acknowledgement of other messages, and
        # must not be kept for later: QoS 0.
        self.send_subscribe_packet(
            [
                Subscription(
                    topic,
                    qos=int(topic != echo_topic),
                    retain_as_published=True,
                    retain_handling_options=_RETAINED_MESSAGES if retained else _NO_RETAINED_MESSAGES,
                )
                for topic in topics
            ]
        )

    def publish(self, packet: Packet) -> int:
        """Write a message at the next `flush`; return its packet ID, 0 with QoS 0.

        Raises:
            PacketTooLarge: nothing was written.
        """
        packet_id: int = self.id_generator.next_id() if packet.qos else 0
        wire_form = write_publish(packet, packet_id)
        if len(wire_form) > self.largest_packet:
            if packet_id:
                self.id_generator.free_id(packet_id)
            raise PacketTooLarge
        self._append(wire_form)
        return packet_id

    def send_ping_request(self) -> None:
        self._pings += 1
        super().send_ping_request()

    async def settled(self) -> None:
        """Wait until the broker has answered everything that was sent before, or the connection has ended."""
        self.send_ping_request()
        last = self._pings
        while self.answers.pongs < last and not self.ended.done():
            either: set[asyncio.Future[Any]] = {self.answers.next_pong(), self.ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    def accept(self, packet_id: int) -> None:
        """Accept a message of QoS 2. The broker's answer is confirmed without more."""
        self._append(write_pubrec(packet_id))

    def acknowledge(self, packet_id: int) -> None:
        self._append(write_puback(packet_id))
        if len(self._unsent) >= _MOST_ACKNOWLEDGEMENTS:
            self.flush()
        elif not self._flushes_late:
            self._flushes_late = True
            asyncio.get_running_loop().call_later(_ACKNOWLEDGE_WITHIN_S, self._flush_late)

    def disconnect(self, cause: ConnectionEnd) -> None:
        """Send DISCONNECT, which makes the broker drop the will, and close when all data is written."""
        self._cause = self._cause or cause
        self.send_disconnect()
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self, cause: ConnectionEnd) -> None:
        """Drop the connection without waiting. The first cause is the reported one."""
        self._cause = self._cause or cause
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        # asyncio has set TCP_NODELAY. Without this option, the kernel sends data to a dead peer for 15 minutes.
        user_timeout_ms = 2 * self._keepalive_s * 1000
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, user_timeout_ms)
        # Now, because data or a loss may arrive before the caller of create_connection gets the transport.
        MQTTConnection(transport, self, self._clean_start, self._keepalive_s, self.answers)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unsent.clear()
        self.ended.set_result(self._cause or _closed_by_peer(exc))
        self._writable()
        self._release()

    def _tcp_info(self) -> bytes:
        info: bytes = self._transport.get_extra_info("socket").getsockopt(
            socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE
        )
        return info

    def _release(self) -> None:
        """Break gmqtt's reference cycles, which the garbage collector finds very late.

        Until then, each would keep the buffers of its TLS session, some 60 KiB.
        """
        self._connection._keep_connection_callback.cancel()  # noqa: SLF001 (gmqtt has no other way)
        self._connection._transport = None  # noqa: SLF001 (as above)
        self._hard_reader._transport = None  # noqa: SLF001 (as above)
        self._transport = None

    def data_received(self, data: bytes | memoryview) -> None:
        # gmqtt counts only whole packets. On a slow line, a large one takes longer than the tolerated silence.
        now = self._connection._last_data_in = clock.monotonic()  # noqa: SLF001 (see `last_received_s`)
        if len(data) >= _PART_OF_MESSAGE_BYTES:
            self.message_at = now
        try:
            for first, content in self._reader.feed(data):
                self.answers.take(first, content)
                if self._transport is None or self._transport.is_closing():
                    return
        except BadPacket as error:
            self.abort(ConnectionEnd(f"the broker does not follow MQTT 5: {error}", bad_packet=True))

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    async def _read_loop(self) -> None:
        """Replaces gmqtt's task that reads: `data_received` does."""

    def write_data(self, data: bytes) -> None:
        if not self._flushes_soon:
            self._flushes_soon = True
            asyncio.get_running_loop().call_soon(self.flush)
        self._append(data)

    def _append(self, data: bytes) -> None:
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > _COALESCED_BYTES:
            self.flush()

    def _flush_late(self) -> None:
        self._flushes_late = False
        self.flush()

    def flush(self) -> None:
        """Write what was kept."""
        self._flushes_soon = False
        if self._unsent:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._unsent_bytes = 0
            super().write_data(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.congested = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self.congested = False
        self._writable()


class ReadBuffer(asyncio.BufferedProtocol):
    """Passes everything on to a wire, and reads into one buffer.

    For a protocol without a buffer, an event loop makes a new one for each read: of 256 KiB with TLS, which the kernel maps and
    unmaps each time, for a packet of some bytes.
    """

    def __init__(self, wire: MqttWire) -> None:
        self._wire = wire
        self._view = memoryview(bytearray(_READ_BYTES))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire.connection_made(cast("asyncio.Transport", transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.connection_lost(exc)

    def pause_writing(self) -> None:
        self._wire.pause_writing()

    def resume_writing(self) -> None:
        self._wire.resume_writing()

    def eof_received(self) -> bool:
        return self._wire.eof_received()

    def get_buffer(self, _size: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self._wire.data_received(self._view[:nbytes])


class _Answers(MqttPackageHandler):  # type: ignore[misc]  # gmqtt has no types
    """Parses the broker's packets, and does not react to them itself."""

    def __init__(self, callbacks: Callbacks, wire: MqttWire, largest_qos: int) -> None:
        self.state = ConnectionState()
        super().__init__(
            connack_event=asyncio.Event(),
            connection_lost_event=asyncio.Event(),
            connection_state=self.state,
            reconnect_callback=_nothing,
            disconnect_callback=_nothing,
            resend_qos_callback=_nothing,
            clear_qos_callback=lambda: None,
            connect_properties={},
            subscriptions_getter=list,
            remove_message_callback=lambda _packet_id: None,
            store_message_callback=lambda _packet_id, _packet: None,
            send_command_with_mid_callback=lambda *_: None,
            optimistic_acknowledgement=False,
        )
        loop = asyncio.get_running_loop()
        self.connack: asyncio.Future[int] = loop.create_future()  # reason code
        self.suback: asyncio.Future[tuple[int, ...]] = loop.create_future()  # a reason code per subscription
        self.session_present = False
        self.pongs = 0
        self._pong: asyncio.Future[None] = loop.create_future()
        self._callbacks = callbacks
        self._abort = wire.abort
        self._write = wire.write_data
        self._largest_qos = largest_qos
        self.on_subscribe = self._received_suback

    def limit(self, name: str, default: int) -> int:
        """Return a limit that the broker named in CONNACK."""
        values = self._connack_properties.get(name)
        return int(values[0]) if values else default

    def __call__(self, package: Any) -> None:
        self.take(package.cmd, package.data)

    def take(self, first: int, content: bytes) -> None:
        """Handle one packet, given its first byte and the rest behind its length."""
        kind = first & _KIND
        try:
            if kind == _PUBLISH:
                self._callbacks.received(*read_publish(first, content, self._largest_qos))
            elif kind == _PUBACK:
                self._acknowledged(content)
            else:
                self.__get_handler__(first)(first, content)
        except BadPacket:
            raise
        except Exception:  # noqa: BLE001 (the packet or a callback is broken; otherwise the packet would stay unacknowledged)
            _log.exception("a packet of the broker can't be handled")
            reason = "a packet of the broker can't be handled: the log has the details"
            self._abort(ConnectionEnd(reason, bad_packet=True))

    def _handle_connack_packet(self, cmd: int, packet: bytes) -> None:
        code = packet[1]
        self.session_present = bool(packet[0])
        if code == 0:
            super()._handle_connack_packet(cmd, packet)
            self.propagate_error()
        self.connack.set_result(code)

    def _handle_disconnect_packet(self, _cmd: int, packet: bytes) -> None:
        if packet:  # gmqtt makes an empty one at each loss
            properties = self._parse_properties(packet[1:])[0] if packet[1:] else {}
            text = "".join(properties.get("reason_string", ()))
            reason = f"the broker disconnected this client: {explain_code(packet[0], text)}"
            self._abort(ConnectionEnd(reason, packet[0], by_peer=True))

    def _acknowledged(self, packet: bytes) -> None:
        packet_id = packet[0] << 8 | packet[1]
        self.id_generator.free_id(packet_id)
        self._callbacks.acknowledged(packet_id, packet[2] if packet[2:] else 0)

    def next_pong(self) -> asyncio.Future[None]:
        """Done when the broker has answered one more ping."""
        if self._pong.done():
            self._pong = asyncio.get_running_loop().create_future()
        return self._pong

    def _handle_pingresp_packet(self, _cmd: int, _packet: bytes) -> None:
        self.pongs += 1
        if not self._pong.done():
            self._pong.set_result(None)

    def _handle_pubrel_packet(self, _cmd: int, packet: bytes) -> None:
        self._write(write_pubcomp(packet[:2]))

    def _parse_properties(self, packet: bytes) -> tuple[dict[str, Any], bytes]:
        properties, end = read_properties(packet, 0)
        return properties, packet[end:]

    def expect_suback(self) -> asyncio.Future[tuple[int, ...]]:
        """The answer to the next subscription; the one before it must have been answered."""
        if self.suback.done():
            self.suback = asyncio.get_running_loop().create_future()
        return self.suback

    def _received_suback(self, _mid: int, codes: tuple[int, ...], _properties: object) -> None:
        if not self.suback.done():  # that of the sign-in: a later subscription needs no answer
            self.suback.set_result(codes)


async def _nothing(**_options: object) -> None:
    """Replaces gmqtt's own reactions: sessions and reconnects."""


def _closed_by_peer(error: Exception | None) -> ConnectionEnd:
    if error is None:
        return ConnectionEnd("the broker closed the connection without a reason", by_peer=True)
    # A reset: to disconnect a client, a broker closes the connection instead.
    return ConnectionEnd(explain_error(error), reset=isinstance(error, ConnectionResetError))


def _message(packet: Packet) -> Any:
    properties = packet.properties
    if properties is NO_PROPERTIES:
        return Message(packet.topic, packet.body, packet.qos, packet.retain)
    named = {
        "content_type": properties.content_type,
        "response_topic": properties.response_topic,
        "correlation_data": properties.correlation_data,
        "user_property": properties.user or None,
    }
    present = {name: value for name, value in named.items() if value is not None}
    return Message(packet.topic, packet.body, packet.qos, packet.retain, **present)
