"""Reads received MQTT 5 packets, in linear time and within bounds; writes messages and acknowledgements. Pure."""

# Any peer of the fleet chooses topic, properties and body of a message, and the broker checks little of that. A message
# that hurts its reader is worse than its bytes: it stays unacknowledged, and the broker sends it again on the next
# connection. So there are two rules:
#
# - No byte is moved or read more often than a constant number of times. Readers get the whole packet and an offset, and
#   return the next offset. They never copy the rest of a packet. Sizes are compared with their bounds before the work.
# - Whatever a publisher can choose leads to a message, never to an exception. If it can't be read, or exceeds a bound,
#   the message has a `fault` instead of properties and body. Its receiver refuses, logs and acknowledges it.
#
# `BadPacket` is left for what the broker alone decides: lengths, flags and packet IDs. A connection with such a packet
# can't go on.

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from stockworker.protocol.packet import MAX_PROPERTIES, MAX_USER_PROPERTIES, NO_PROPERTIES, Packet, Properties

_LENGTH_BYTES_MAX: Final = 4
"""MQTT 5.0, section 1.5.5."""

_SIZE: Final = 2
"""Bytes of a packet ID, and of the length before each text."""

_RETAIN, _QOS = 0x01, 0x06
_PUBLISH: Final = 0x30
_PUBACK: Final = b"\x40\x02"
_PUBREC: Final = b"\x50\x02"
_PUBCOMP: Final = b"\x70\x02"
_DIGIT: Final = 0x7F
_QOS_MAX: Final = 1
"""Subscriptions of this software ask for no more."""


class BadPacket(Exception):
    """The broker does not follow the protocol."""


class UnreadableMessage(Exception):
    """A part of a message exceeds a bound, or is malformed. The text names the cause."""


class PacketReader:
    """Cuts the bytes of a connection into packets.

    Args:
        largest: most bytes of a packet, which this client has announced to the broker.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._arrived = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
        """Take the next bytes; yield the first byte and the content of each packet that is now complete.

        Raises:
            BadPacket: the next packet is too large, or its length is malformed.
        """
        self._arrived += data
        start = 0
        try:
            while (place := self._next(start)) is not None:
                begin, end = place
                first = self._arrived[start]
                with memoryview(self._arrived) as view:
                    content = bytes(view[begin:end])
                start = end
                yield first, content
        finally:
            del self._arrived[:start]  # once for all packets of a call; CPython does not move the rest

    def _next(self, start: int) -> tuple[int, int] | None:
        """Where the content of the packet at `start` begins and ends; None if it is not complete."""
        length = 0
        for digit in range(_LENGTH_BYTES_MAX):
            offset = start + 1 + digit
            if offset >= len(self._arrived):
                return None
            length |= (self._arrived[offset] & 0x7F) << 7 * digit
            if not self._arrived[offset] & 0x80:
                begin = offset + 1
                if begin - start + length > self._largest:
                    raise BadPacket(f"it sent a packet of {length} bytes, and {self._largest} are allowed")
                return (begin, begin + length) if begin + length <= len(self._arrived) else None
        raise BadPacket("it sent a packet whose length is malformed")


def read_publish(first: int, content: bytes, largest_qos: int = _QOS_MAX) -> tuple[Packet, int]:
    """Read a PUBLISH packet (MQTT 5.0, section 3.3); return the message and its packet ID, 0 with QoS 0.

    Raises:
        BadPacket: the packet has no topic, no packet ID or a quality of service that was not asked for.
    """
    qos = (first & _QOS) >> 1
    end = _SIZE + int.from_bytes(content[:_SIZE])
    begin = end + _SIZE if qos else end
    if qos > largest_qos or end == _SIZE or begin > len(content):
        raise BadPacket("it sent a message whose topic, packet ID or quality of service is malformed")
    packet_id = int.from_bytes(content[end:begin])
    retain = bool(first & _RETAIN)
    topic = content[_SIZE:end].decode(errors="backslashreplace")
    if topic.encode() != content[_SIZE:end]:
        return Packet(topic, b"", qos, retain, fault="its topic is not UTF-8"), packet_id
    try:
        found, body = read_properties(content, begin)
    except UnreadableMessage as error:
        return Packet(topic, b"", qos, retain, fault=str(error)), packet_id
    return Packet(topic, content[body:], qos, retain, _known(found)), packet_id


def write_publish(packet: Packet, packet_id: int) -> bytes:
    """The PUBLISH packet of a message; `packet_id` is 0 with QoS 0."""
    topic = packet.topic.encode()
    head = len(topic).to_bytes(_SIZE) + topic
    if packet.qos:
        head += packet_id.to_bytes(_SIZE)
    if packet.properties is NO_PROPERTIES:
        head += b"\0"
    else:
        properties = _write_properties(packet.properties)
        head += _write_number(len(properties)) + properties
    first = _PUBLISH | packet.qos << 1 | packet.retain
    return b"".join((bytes((first,)), _write_number(len(head) + len(packet.body)), head, packet.body))


def write_puback(packet_id: int) -> bytes:
    """The PUBACK packet that accepts a message: without a reason code, it means success (MQTT 5.0, section 3.4.2.1)."""
    return _PUBACK + packet_id.to_bytes(_SIZE)


def write_pubrec(packet_id: int) -> bytes:
    """The PUBREC packet that accepts a message of QoS 2 (MQTT 5.0, section 3.5)."""
    return _PUBREC + packet_id.to_bytes(_SIZE)


def write_pubcomp(packet_id: bytes) -> bytes:
    """The PUBCOMP packet that ends the delivery of a message of QoS 2 (MQTT 5.0, section 3.7)."""
    return _PUBCOMP + packet_id


def _write_properties(properties: Properties) -> bytes:
    parts: list[bytes] = []
    if properties.content_type is not None:
        parts += (b"\x03", _write_binary(properties.content_type.encode()))
    if properties.response_topic is not None:
        parts += (b"\x08", _write_binary(properties.response_topic.encode()))
    if properties.correlation_data is not None:
        parts += (b"\x09", _write_binary(properties.correlation_data))
    for name, value in properties.user:
        parts += (b"\x26", _write_binary(name.encode()), _write_binary(value.encode()))
    return b"".join(parts)


def _write_binary(value: bytes) -> bytes:
    return len(value).to_bytes(_SIZE) + value


def _write_number(value: int) -> bytes:
    """A variable byte integer (MQTT 5.0, section 1.5.5)."""
    if value <= _DIGIT:
        return bytes((value,))
    digits = bytearray()
    while value > _DIGIT:
        digits.append(value & _DIGIT | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def read_properties(packet: bytes, offset: int) -> tuple[dict[str, list[Any]], int]:
    """Read the properties of any packet (MQTT 5.0, section 2.2.2), and the offset behind them.

    Raises:
        UnreadableMessage: they exceed a bound, or are malformed.
    """
    size, offset = _number(packet, offset, len(packet))
    end = offset + size
    if size > MAX_PROPERTIES:
        raise UnreadableMessage(f"{size} bytes of properties are more than the {MAX_PROPERTIES} that are allowed")
    if end > len(packet):
        raise UnreadableMessage("its properties are longer than the packet")
    found: dict[str, list[Any]] = defaultdict(list)
    while offset < end:
        name, read = _PROPERTIES.get(packet[offset], _UNKNOWN)
        try:
            value, offset = read(packet, offset + 1, end)
        except UnicodeDecodeError:
            raise UnreadableMessage(f"its property {name} is not UTF-8") from None
        found[name].append(value)
        if name == _USER and len(found[name]) > MAX_USER_PROPERTIES:
            raise UnreadableMessage(f"it has more than the {MAX_USER_PROPERTIES} user properties that are allowed")
    return found, end


def _known(found: Mapping[str, list[Any]]) -> Properties:
    if not found:
        return NO_PROPERTIES
    return Properties(
        content_type=found.get("content_type", [None])[0],
        response_topic=found.get("response_topic", [None])[0],
        correlation_data=found.get("correlation_data", [None])[0],
        user=tuple(found.get(_USER, ())),
    )


# --- values: each reader gets the packet, an offset and the end of the properties, and returns the next offset ---------


def _number(packet: bytes, offset: int, end: int) -> tuple[int, int]:
    """A variable byte integer."""
    value = 0
    for digit in range(_LENGTH_BYTES_MAX):
        if offset + digit >= end:
            break
        value |= (packet[offset + digit] & 0x7F) << 7 * digit
        if not packet[offset + digit] & 0x80:
            return value, offset + digit + 1
    raise UnreadableMessage("a number in its properties is malformed")


def _fixed(size: int) -> Callable[[bytes, int, int], tuple[int, int]]:
    def read(packet: bytes, offset: int, end: int) -> tuple[int, int]:
        return int.from_bytes(_part(packet, offset, offset + size, end)), offset + size

    return read


def _binary(packet: bytes, offset: int, end: int) -> tuple[bytes, int]:
    begin = offset + _SIZE
    stop = begin + int.from_bytes(_part(packet, offset, begin, end))
    return _part(packet, begin, stop, end), stop


def _text(packet: bytes, offset: int, end: int) -> tuple[str, int]:
    encoded, offset = _binary(packet, offset, end)
    return encoded.decode(), offset


def _pair(packet: bytes, offset: int, end: int) -> tuple[tuple[str, str], int]:
    name, offset = _text(packet, offset, end)
    value, offset = _text(packet, offset, end)
    return (name, value), offset


def _part(packet: bytes, begin: int, stop: int, end: int) -> bytes:
    if stop > end:
        raise UnreadableMessage("a property is longer than all of its properties")
    return packet[begin:stop]


def _unknown(_packet: bytes, _offset: int, _end: int) -> tuple[Any, int]:
    raise UnreadableMessage("it has a property that MQTT 5 does not have")


_BYTE, _TWO_BYTES, _FOUR_BYTES = _fixed(1), _fixed(2), _fixed(4)
_USER: Final = "user_property"
_UNKNOWN: Final = ("", _unknown)
# MQTT 5.0, section 2.2.2.2, with the names of gmqtt.
_PROPERTIES: Final[Mapping[int, tuple[str, Callable[[bytes, int, int], tuple[Any, int]]]]] = {
    1: ("payload_format_id", _BYTE),
    2: ("message_expiry_interval", _FOUR_BYTES),
    3: ("content_type", _text),
    8: ("response_topic", _text),
    9: ("correlation_data", _binary),
    11: ("subscription_identifier", _number),
    17: ("session_expiry_interval", _FOUR_BYTES),
    18: ("assigned_client_identifier", _text),
    19: ("server_keep_alive", _TWO_BYTES),
    21: ("auth_method", _text),
    22: ("auth_data", _binary),
    23: ("request_problem_info", _BYTE),
    24: ("will_delay_interval", _FOUR_BYTES),
    25: ("request_response_info", _BYTE),
    26: ("response_info", _text),
    28: ("server_reference", _text),
    31: ("reason_string", _text),
    33: ("receive_maximum", _TWO_BYTES),
    34: ("topic_alias_maximum", _TWO_BYTES),
    35: ("topic_alias", _TWO_BYTES),
    36: ("max_qos", _BYTE),
    37: ("retain_available", _BYTE),
    38: (_USER, _pair),
    39: ("maximum_packet_size", _FOUR_BYTES),
    40: ("wildcard_subscription_available", _BYTE),
    41: ("sub_id_available", _BYTE),
    42: ("shared_subscription_available", _BYTE),
}
