"""Sizes, lists and schema: what all messages have in common as bytes."""

# The limits fit into each other. The largest message has one payload or result (`MAX_CONTENT`, 240 KiB, as it is
# escaped in JSON) and one text (`MAX_TEXT`, at most 12 KiB if each of its characters is escaped in 6 bytes). With the
# other fields that is below `MAX_BODY` (256 KiB). So a result that was accepted can always be reported, and a job that
# was accepted can always be assigned. A body, its topic and its properties fit into the largest packet (`MAX_PACKET`): the
# broker's configuration has the same limit (`max_packet_size`), and each client announces it to its broker.
#
# A payload inside another message is a JSON string, and escaping makes it longer. Therefore its size is counted as it
# will be there (`content_size`), and not as it was submitted.

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from stockworker.protocol.fields import FieldError, Fields, parse_json
from stockworker.protocol.json_text import quoted_content
from stockworker.protocol.packet import NO_PROPERTIES, Packet, Properties
from stockworker.protocol.topics import BY_KIND, TopicKind

SCHEMA: Final = 1
"""Version of the wire. A message of another one is refused with an error that names it."""

MAX_BODY: Final = 256 * 1024
"""Largest body of any message, in bytes. Larger inputs travel by reference."""

MAX_PACKET: Final = 320 * 1024
"""Largest MQTT packet, in bytes, from and to any peer."""

MAX_CONTENT: Final = 240 * 1024
"""Largest payload or result as a JSON string, in bytes: what still fits into a message together with its envelope."""

MAX_OUTPUT: Final = 192 * 1024
"""Largest output of an attempt as a JSON string, in bytes. Beside a result of more than 60 KiB, less of it fits."""

MAX_TEXT: Final = 2048
"""Longest error or progress text, in characters. It fits into a message beside the largest result."""

MAX_LIST: Final = 64
"""Most jobs, leases or reports that this software puts into one message."""

MAX_LEASES: Final = 1000
"""Most leases of one worker: its requests name all of them, each in one message."""

MOST_WAITING: Final = 256
"""Most leases that a worker asks for beyond its slots."""

BATCH_CONTENT_TYPE: Final = "application/vnd.stockworker.jobs+json"

_BODY_ENVELOPE: Final = 1024
ENTRY_ENVELOPE: Final = 512
"""More bytes than the fields of a message, or of an entry of its list, take beside their free texts."""

T = TypeVar("T")

# RFC 8259, section 7: these characters are escaped in a string, and with the quotation mark and the backslash those alone.
_ESCAPED_IN_2: Final = b'"\\\n\r\t\b\f'
_ESCAPED_IN_6: Final = bytes(code for code in range(0x20) if code not in _ESCAPED_IN_2)

_RARE: Final = tuple(map(chr, _ESCAPED_IN_6))


def content_size(text: str | None) -> int:
    """Bytes that `text` takes as a string inside a JSON message; those of an empty one, if there is none."""
    return text_bytes(quoted_content(text)) if text else len('""')


def text_bytes(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def fits(text: str) -> bool:
    """Whether a payload or result is small enough to travel."""
    # No character takes more than 6 bytes ("\u001f"), or more than 2 per byte of UTF-8 if it is not a rare control
    # character. So most texts need not be counted, and a look for 27 characters takes a quarter of the time.
    if 6 * len(text) + 2 <= MAX_CONTENT:
        return True
    if 2 * len(text.encode()) + 2 <= MAX_CONTENT and not any(code in text for code in _RARE):
        return True
    return content_size(text) <= MAX_CONTENT


def output_room(result: str | None, error: str | None) -> int:
    """Bytes that the output of an attempt may have as a JSON string, beside its result or error."""
    others = content_size(result or "") + content_size(error or "")
    return min(MAX_OUTPUT, MAX_BODY - _BODY_ENVELOPE - ENTRY_ENVELOPE - others)


def sendable(text: str, longest: int = MAX_TEXT) -> str:
    """A text of others as a message can carry it: at most `longest` characters, and `?` for what UTF-8 can't hold."""
    return text[:longest].encode(errors="replace").decode()


def in_batches(items: Iterable[T], size_of: Callable[[T], int]) -> Iterator[tuple[T, ...]]:
    """Split `items` into lists that fit into one message each: `MAX_LIST` entries within `MAX_BODY` bytes.

    Args:
        items: what to send, each small enough to travel alone.
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


def make_packet(kind: TopicKind, topic: str, members: str, properties: Properties = NO_PROPERTIES) -> Packet:
    """Make a packet of a body's members as JSON text; each begins with a comma."""
    return Packet(topic, f'{{"schema":{SCHEMA}{members}}}'.encode(), BY_KIND[kind].qos, properties=properties)


def present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an object without the absent ones (None)."""
    return {name: value for name, value in fields.items() if value is not None}


def read_schema(fields: Fields) -> None:
    """Refuse a message of another version than `SCHEMA`."""
    schema = fields.integer("schema", 0, 1 << 31)
    if schema != SCHEMA:
        raise FieldError(f"schema {schema} is unknown here: this side speaks schema {SCHEMA}")


def open_body(body: bytes) -> dict[str, Any]:
    """The fields of a message of this schema.

    Raises:
        ValueError: it is not UTF-8, not JSON, not an object, or of another schema.
    """
    fields: dict[str, Any] = parse_json(body.decode())
    read_schema(Fields(fields))
    return fields
