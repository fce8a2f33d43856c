"""Sizes, lists and JSON text: what all messages have in common as bytes."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from stockworker.protocol.messages import SCHEMA
from stockworker.protocol.packet import NO_PROPERTIES, Packet, Properties
from stockworker.protocol.topics import BY_KIND, Kind

MAX_BODY: Final = 256 * 1024
"""Largest body of any message, in bytes. Larger inputs travel by reference."""

MAX_CONTENT: Final = 240 * 1024
"""Largest payload or result as a JSON string, in bytes: what still fits into a message together with its envelope."""

MAX_TEXT: Final = 4096
"""Longest error or progress text, in characters."""

MAX_LIST: Final = 64
"""Most jobs, leases or reports that our own services put into one message."""

MAX_ENTRIES: Final = 4096
"""Most entries of any list that is accepted; the body's size is the limit that counts."""

BATCH_CONTENT_TYPE: Final = "application/vnd.stockworker.jobs+json"

_BODY_ENVELOPE: Final = 1024
_ENTRY_ENVELOPE: Final = 512
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
        item_size = _ENTRY_ENVELOPE + size_of(item)
        if batch and (len(batch) == MAX_LIST or size + item_size > MAX_BODY - _BODY_ENVELOPE):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(item)
        size += item_size
    if batch:
        yield tuple(batch)


def make_packet(kind: Kind, topic: str, fields: dict[str, Any], properties: Properties = NO_PROPERTIES) -> Packet:
    """Make a packet of a body's fields; absent ones (None) are left out."""
    body = {"schema": SCHEMA, **{name: value for name, value in fields.items() if value is not None}}
    line = BY_KIND[kind]
    return Packet(topic, _encode(body).encode(), line.qos, line.retained, properties)


def present(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an entry of a list, without the absent ones."""
    return {name: value for name, value in fields.items() if value is not None}
