"""What travels: one MQTT application message, without the connection that carries it."""

from dataclasses import field
from typing import Final

from stockworker.protocol.frozen import dataclass

MAX_PROPERTIES: Final = 8 * 1024
"""Most bytes of properties in a message. A receiver refuses more without reading them."""

MAX_USER_PROPERTIES: Final = 64
"""Most user properties of a message."""


@dataclass(frozen=True, slots=True)
class Properties:
    """The MQTT 5 properties that stockworker uses (MQTT 5.0, section 3.3.2.3)."""

    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    user: tuple[tuple[str, str], ...] = ()


NO_PROPERTIES = Properties()


@dataclass(frozen=True, slots=True)
class Packet:
    """One message, received or to be published.

    `tag` never travels: it comes back with the broker's answer, so that the sender knows which of its messages
    was refused. `fault` never travels either: it is the reason why a received message was not read, and must be refused.
    """

    topic: str
    body: bytes
    qos: int = 1
    retain: bool = False
    properties: Properties = NO_PROPERTIES
    tag: object = field(default=None, compare=False)
    fault: str = ""
