"""Sizes, lists, schema and reply address: what all messages have in common as bytes."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from stockworker.protocol import topics
from stockworker.protocol.fields import FieldError, Fields, parse_json
from stockworker.protocol.ids import ClientId
from stockworker.protocol.messages import SCHEMA, Reply
from stockworker.protocol.packet import NO_PROPERTIES, Packet, Properties
from stockworker.protocol.topics import BY_KIND, TopicKind

MAX_BODY: Final = 256 * 1024
"""Largest body of any message, in bytes. Larger inputs travel by reference."""

MAX_CONTENT: Final = 240 * 1024
"""Largest payload or result as a JSON string, in bytes: what still fits into a message together with its envelope."""

MAX_TEXT: Final = 2048
"""Longest error or progress text, in characters. It fits into a message beside the largest result."""

MAX_LIST: Final = 64
"""Most jobs, leases or reports that our own services put into one message."""

MAX_LEASES: Final = 1000
"""Most leases of one worker: its requests name all of them, each in one message."""

MAX_ENTRIES: Final = 4096
"""Most entries of any list that is accepted; the body's size is the limit that counts."""

LONGEST_CORRELATION: Final = 128

BATCH_CONTENT_TYPE: Final = "application/vnd.stockworker.jobs+json"

_BODY_ENVELOPE: Final = 1024
ENTRY_ENVELOPE: Final = 512
"""More bytes than the fields of a message, or of an entry of its list, take beside their free texts."""

T = TypeVar("T")

_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def content_size(text: str) -> int:
    """Bytes that `text` takes as a string inside a JSON message."""
    return len(_encode(text).encode())


def fits(text: str) -> bool:
    """Whether a payload or result is small enough to travel."""
    # No character takes more than 6 bytes ("\u001f"), so most texts need no second look.
    return 6 * len(text) + 2 <= MAX_CONTENT or content_size(text) <= MAX_CONTENT


def in_batches(items: Iterable[T], size_of: Callable[[T], int]) -> Iterator[tuple[T, ...]]:
    """Split `items` into lists that fit into one message each: `MAX_LIST` entries within `MAX_BODY` bytes.

    Args:
        items: what is to be sent, each small enough to travel alone.
        size_of: bytes of an item's free texts, as `content_size` counts them.
    """
    batch: list[T] = []
    size = 0
    for item in items:
        item_size = ENTRY_ENVELOPE + size_of(item)
        if batch and (len(batch) == MAX_LIST or size + item_size > MAX_BODY - _BODY_ENVELOPE):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(item)
        size += item_size
    if batch:
        yield tuple(batch)


def make_packet(kind: TopicKind, topic: str, fields: dict[str, Any], properties: Properties = NO_PROPERTIES) -> Packet:
    """Make a packet of a body's fields; absent ones (None) are left out."""
    body = {"schema": SCHEMA, **{name: value for name, value in fields.items() if value is not None}}
    line = BY_KIND[kind]
    return Packet(topic, _encode(body).encode(), line.qos, line.retained, properties)


def present(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an entry of a list, without the absent ones."""
    return {name: value for name, value in fields.items() if value is not None}


def read_schema(fields: Fields) -> None:
    """Refuse a message of another version than ours."""
    schema = fields.integer("schema", 0, 1 << 31)
    if schema != SCHEMA:
        raise FieldError(f"schema {schema} is unknown here: this side speaks schema {SCHEMA}")


def open_body(body: bytes) -> Fields:
    """The fields of a message of our schema.

    Raises:
        ValueError: it is not UTF-8, not JSON, no object, or of another schema.
    """
    fields = Fields(parse_json(body.decode()))
    read_schema(fields)
    return fields


def read_reply(properties: Properties) -> Reply | None:
    """Where the answer goes: the MQTT 5 response topic, if it is a client's reply topic (MQTT 5.0, section 4.10)."""
    if properties.response_topic is None:
        return None
    try:
        address = topics.parse(properties.response_topic)
    except ValueError:
        return None
    if address.kind is not TopicKind.RECEIPT:
        return None
    try:
        correlation = None if properties.correlation_data is None else properties.correlation_data.decode()
    except UnicodeDecodeError:
        correlation = None
    if correlation is not None and len(correlation) > LONGEST_CORRELATION:
        correlation = None
    return Reply(ClientId(address.values[0]), correlation)


def reply_properties(reply: Reply | None, content_type: str | None = None) -> Properties:
    """The properties that ask for an answer to `reply`."""
    if reply is None:
        return Properties(content_type=content_type)
    correlation = None if reply.correlation is None else reply.correlation.encode()
    return Properties(content_type, topics.receipt(reply.client_id), correlation)
