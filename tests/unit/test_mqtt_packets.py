"""Received packets: bounds are checked before the work, and the work is linear. Counted in bytes, not in time."""

from collections.abc import Callable
from typing import Any, SupportsIndex, overload

import pytest
from gmqtt.mqtt.handler import MqttPackageHandler
from gmqtt.mqtt.utils import ConnectionState

from stockworker.adapters.mqtt_packets import (
    BadPacket,
    PacketReader,
    UnreadableMessage,
    read_properties,
    read_publish,
    write_pubcomp,
    write_pubrec,
)
from stockworker.protocol.packet import MAX_PROPERTIES, MAX_USER_PROPERTIES, Packet, Properties

QOS_0, QOS_1 = 0x30, 0x32
HEAD = b"\0\3a/b\0\7"  # topic and packet ID
USER = bytes.fromhex("26 0001 61 0001 62")
LARGEST = 20_000


class CountedBytes(bytes):
    """Counts the bytes that its readers copy out of it, and out of the copies."""

    copied = 0

    @overload
    def __getitem__(self, at: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, at: "slice[Any, Any, Any]") -> bytes: ...
    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        if not isinstance(found, bytes):
            return found
        CountedBytes.copied += len(found)
        return CountedBytes(found)


def copied_bytes(read: Callable[[bytes], object], packet: bytes) -> int:
    CountedBytes.copied = 0
    read(CountedBytes(packet))
    return CountedBytes.copied


def number(value: int) -> bytes:
    encoded = b""
    while True:
        value, digit = divmod(value, 128)
        encoded += bytes([digit | (0x80 if value else 0)])
        if not value:
            return encoded


def properties(block: bytes) -> bytes:
    return number(len(block)) + block


def published(block: bytes, body: bytes = b"body") -> bytes:
    return HEAD + properties(block) + body


def gmqtts_reading(packet: bytes) -> object:
    handler = MqttPackageHandler.__new__(MqttPackageHandler)
    handler._connection_state = ConnectionState()
    return handler._parse_properties(packet)


# --- properties -------------------------------------------------------------------------------------------------------


def test_the_work_is_linear_in_the_properties() -> None:
    def read(packet: bytes) -> object:
        return read_properties(packet, 0)

    few, many = (properties(USER * count) for count in (MAX_USER_PROPERTIES // 4, MAX_USER_PROPERTIES))
    assert copied_bytes(read, many) <= len(many)
    assert copied_bytes(read, few) <= len(few)
    # The counter sees what gmqtt does: four times the bytes are sixteen times the work.
    assert copied_bytes(gmqtts_reading, many) > 12 * copied_bytes(gmqtts_reading, few)


def test_properties_above_the_bound_are_not_read_at_all() -> None:
    poison = published(USER * 50_000)
    assert copied_bytes(lambda packet: read_publish(QOS_1, packet), poison) < 20


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        (USER * (MAX_USER_PROPERTIES + 1), "more than the 64 user properties"),
        (USER * 50_000, "350000 bytes of properties are more than the 8192"),
        (bytes.fromhex("26 0001 61 0009 62"), "longer than all of its properties"),
        (bytes.fromhex("26 0001 61 00"), "longer than all of its properties"),
        (bytes.fromhex("23 00"), "longer than all of its properties"),
        (bytes.fromhex("03 0001 ff"), "property content_type is not UTF-8"),
        (bytes.fromhex("0b ff ff ff ff ff"), "malformed"),
        (bytes.fromhex("0b ff"), "malformed"),
        (bytes.fromhex("7f 00"), "property that MQTT 5 does not have"),
    ],
    ids=["too many", "too large", "text too long", "cut off", "number cut off", "no UTF-8", "no end", "no rest", "unknown"],
)  # fmt: skip
def test_a_message_with_unreadable_properties_is_handed_on_as_refused(block: bytes, fault: str) -> None:
    packet, packet_id = read_publish(QOS_1 | 1, published(block))
    assert fault in packet.fault
    assert (packet.topic, packet.body, packet.retain, packet_id) == ("a/b", b"", True, 7)


@pytest.mark.parametrize("length", ["7f", "ff ff ff ff", "ff"])
def test_a_malformed_length_of_the_properties_is_a_refusal(length: str) -> None:
    packet, packet_id = read_publish(QOS_1, HEAD + bytes.fromhex(length))
    assert packet.fault
    assert packet_id == 7


def test_a_topic_that_is_not_utf_8_is_a_refusal_that_shows_it() -> None:
    packet, packet_id = read_publish(QOS_1, b"\0\2a\xff\0\7\0")
    assert (packet.topic, packet.fault, packet_id) == ("a\\xff", "its topic is not UTF-8", 7)


def test_the_properties_of_other_packets_are_within_the_same_bounds() -> None:
    with pytest.raises(UnreadableMessage):
        read_properties(properties(b"\0" * (MAX_PROPERTIES + 1)), 0)


# --- PUBLISH ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_is_read_as_it_was_sent(qos: int) -> None:
    sent = Packet(
        "a/b",
        b"\0body",
        qos,
        retain=True,
        properties=Properties("text/plain", "a/c", b"\0\xff", (("k", "v"), ("k", "\N{EURO SIGN}"))),
    )
    block = bytes.fromhex("03 000a") + b"text/plain" + bytes.fromhex("08 0003") + b"a/c" + bytes.fromhex("09 0002 00ff")
    block += bytes.fromhex("26 0001 6b 0001 76 26 0001 6b 0003 e282ac")
    content = (HEAD if qos else HEAD[:-2]) + properties(block) + sent.body
    assert read_publish((QOS_1 if qos else QOS_0) | 1, content) == (sent, 7 if qos else 0)


@pytest.mark.parametrize(
    ("first", "content"),
    [(QOS_1, b""), (QOS_1, b"\0"), (QOS_1, b"\0\3a"), (QOS_1, b"\0\0\0\7\0"), (QOS_1, b"\0\3a/b\0"), (0x34, HEAD + b"\0")],
    ids=["empty", "half a length", "short topic", "no topic", "no packet ID", "QoS 2"],
)  # fmt: skip
def test_what_only_a_broker_can_get_wrong_is_a_bad_packet(first: int, content: bytes) -> None:
    with pytest.raises(BadPacket):
        read_publish(first, content)


def test_a_message_of_quality_of_service_2_is_read_if_it_was_asked_for() -> None:
    packet, packet_id = read_publish(0x34, HEAD + b"\0body", 2)
    assert (packet, packet_id) == (Packet("a/b", b"body", 2), 7)
    with pytest.raises(BadPacket):
        read_publish(0x36, HEAD + b"\0", 2)
    assert (write_pubrec(258), write_pubcomp(b"\1\2")) == (b"\x50\2\1\2", b"\x70\2\1\2")


# --- packets ----------------------------------------------------------------------------------------------------------


def framed(*contents: bytes) -> bytes:
    return b"".join(bytes([QOS_1]) + number(len(content)) + content for content in contents)


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 1_000_000])
def test_packets_are_cut_out_of_pieces_of_any_size(size: int) -> None:
    contents = [b"", b"x", b"y" * 127, b"z" * 128, b"w" * (LARGEST - 4)]
    data, reader = framed(*contents), PacketReader(LARGEST)
    pieces = [data[begin : begin + size] for begin in range(0, len(data), size)]
    assert [packet for piece in pieces for packet in reader.feed(piece)] == [(QOS_1, content) for content in contents]


def test_a_packet_that_is_too_large_is_refused_at_its_first_bytes() -> None:
    reader = PacketReader(LARGEST)
    with pytest.raises(BadPacket, match="20000 are allowed"):
        list(reader.feed(framed(b"x" * LARGEST)[:4]))


def test_a_length_without_an_end_is_refused() -> None:
    with pytest.raises(BadPacket, match="malformed"):
        list(PacketReader(LARGEST).feed(b"\x30\xff\xff\xff\xff"))


def test_nothing_is_kept_of_packets_that_were_read() -> None:
    reader = PacketReader(LARGEST)
    for _ in range(100):
        assert len(list(reader.feed(framed(b"x" * 1000, b"y" * 1000)))) == 2
        assert len(reader._arrived) == 0
