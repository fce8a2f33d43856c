"""Received packets: what gmqtt writes is read as it was sent, and as gmqtt reads it; any other bytes do no harm."""

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from gmqtt.client import Message
from gmqtt.mqtt.handler import MqttPackageHandler
from gmqtt.mqtt.package import PackageFactory, PublishPacket
from gmqtt.mqtt.property import PROPERTIES
from gmqtt.mqtt.utils import ConnectionState
from hypothesis import assume, given
from hypothesis import strategies as st

from stockworker.adapters.mqtt_packets import BadPacket, PacketReader, read_properties, read_publish, write_publish
from stockworker.protocol.packet import MAX_PROPERTIES, Packet, Properties

PUBLISH_QOS_0, PUBLISH_QOS_1 = 0x30, 0x32
LARGEST = 5_000

texts = st.text(st.characters(codec="utf-8"), max_size=30)
VALUES = {
    "u8": texts,
    "u8x2": st.tuples(texts, texts),
    "b": st.binary(max_size=30),
    "vbi": st.integers(0, 268_435_455),
    "!B": st.integers(0, 0xFF),
    "!H": st.integers(0, 0xFFFF),
    "!L": st.integers(0, 0xFFFF_FFFF),
}
blocks = st.lists(
    st.sampled_from(PROPERTIES).flatmap(lambda each: st.tuples(st.just(each), VALUES[each.bytes_struct])), max_size=60
)
written = st.builds(
    Properties,
    st.none() | texts,
    st.none() | texts,
    st.none() | st.binary(max_size=30),
    st.lists(st.tuples(texts, texts), max_size=20).map(tuple),
)


def gmqtts_reading(packet: bytes) -> Any:
    handler = MqttPackageHandler.__new__(MqttPackageHandler)
    handler._connection_state = ConnectionState()
    return handler._parse_properties(packet)


def named(properties: Properties) -> dict[str, Any]:
    """The properties as gmqtt names them."""
    names = {
        "content_type": properties.content_type,
        "response_topic": properties.response_topic,
        "correlation_data": properties.correlation_data,
        "user_property": properties.user or None,
    }
    return {name: value for name, value in names.items() if value is not None}


@given(
    topic=st.text("ab/\u00e9", min_size=1, max_size=30),
    body=st.binary(max_size=200) | st.sampled_from([b"x" * 20_000, b"x" * 3_000_000]),
    properties=written,
    qos=st.sampled_from([0, 1]),
    retain=st.booleans(),
)
def test_a_message_is_written_as_gmqtt_writes_it_and_read_as_it_was_written(
    topic: str, body: bytes, properties: Properties, qos: int, *, retain: bool
) -> None:
    packet = Packet(topic, body, qos, retain, properties)
    message = Message(topic, body, qos, retain, **named(properties))
    protocol = SimpleNamespace(proto_ver=5, id_generator=SimpleNamespace(next_id=lambda: 0x0102))
    expected = bytes(PublishPacket.build_package(message, protocol)[1])
    if topic.isascii():  # gmqtt counts the characters of a topic
        assert write_publish(packet, 0x0102) == expected
    ((first, content),) = PacketReader(4_000_000).feed(write_publish(packet, 0x0102))
    assert read_publish(first, content) == (packet, 0x0102 if qos else 0)


@given(blocks, st.binary(max_size=20))
def test_properties_are_read_as_gmqtt_reads_them(block: list[tuple[Any, Any]], rest: bytes) -> None:
    encoded = b"".join(bytes(each.dumps(value)) for each, value in block)
    assume(len(encoded) <= MAX_PROPERTIES)
    length = bytes([len(encoded)]) if len(encoded) < 128 else bytes([len(encoded) % 128 | 0x80, len(encoded) // 128])
    packet = length + encoded + rest
    found, end = read_properties(packet, 0)
    assert (dict(found), packet[end:]) == gmqtts_reading(packet)


@given(
    topic=st.text("abc/", min_size=1, max_size=30),
    body=st.binary(max_size=200),
    properties=written,
    qos=st.sampled_from([0, 1]),
    retain=st.booleans(),
)
def test_a_message_is_read_as_gmqtt_writes_it(
    topic: str, body: bytes, properties: Properties, qos: int, *, retain: bool
) -> None:
    present = named(properties)
    content = len(topic).to_bytes(2) + topic.encode() + (b"\1\2" if qos else b"")
    content += bytes(PackageFactory._build_properties_data(present, 5)) + body
    first = (PUBLISH_QOS_1 if qos else PUBLISH_QOS_0) | retain
    assert read_publish(first, content) == (Packet(topic, body, qos, retain, properties), 0x0102 if qos else 0)


@given(st.integers(0, 255), st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_bad_packet(first: int, content: bytes) -> None:
    with suppress(BadPacket):
        packet, _ = read_publish(first, content)
        assert not packet.fault or packet.body == b""


@given(st.binary(max_size=300))
def test_any_properties_behind_a_topic_are_a_message(rest: bytes) -> None:
    packet, packet_id = read_publish(PUBLISH_QOS_1, b"\0\1t\0\5" + rest)
    assert (packet.topic, packet_id) == ("t", 5)


@given(st.lists(st.binary(max_size=400)))
def test_any_stream_is_packets_or_a_bad_packet(pieces: list[bytes]) -> None:
    reader = PacketReader(LARGEST)
    with suppress(BadPacket):
        for piece in pieces:
            for _ in reader.feed(piece):
                pass
            assert len(reader._arrived) <= LARGEST
