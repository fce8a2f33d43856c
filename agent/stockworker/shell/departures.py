"""Messages become packets, at the end of each turn of both services. Pure."""

# Every text that may be in a message was checked where it came in, so each message can be encoded. If one can't, that is
# a defect; but the service must not end for it, because the same text may come again after each start.

from collections.abc import Iterator

from stockworker.logs.events import LogEvent, MessageUnsendable
from stockworker.protocol import codec
from stockworker.protocol.messages import Message
from stockworker.protocol.packet import Packet


def departures(message: Message, log: list[LogEvent]) -> Iterator[Packet]:
    """Yield the packet of a message; nothing if it can't be encoded, which is then entered into `log`."""
    try:
        yield codec.encode(message)
    except (ValueError, TypeError) as error:  # what UTF-8, JSON or a topic can't hold
        job_id = getattr(message, "job_id", None)
        log.append(MessageUnsendable(message=type(message).__name__, job=job_id, reason=str(error)))
