"""Messages to packets and back. The only raiser of `DecodeError`.

Bodies are UTF-8 JSON with a `schema` number. The exception is a single job, whose body is its payload: its options
travel as MQTT 5 user properties, so that a bare ``mosquitto_pub`` is a valid submitter. Payloads and results travel
inside other messages as strings: whoever passes them on neither parses nor re-encodes them.
"""

from typing import Final, cast

from stockworker.errors import DecodeError
from stockworker.protocol import codec_answer, codec_client, codec_stats, codec_worker, topics
from stockworker.protocol.body import MAX_BODY
from stockworker.protocol.messages import Message
from stockworker.protocol.packet import Packet

_DECODERS: Final = codec_client.DECODERS | codec_answer.DECODERS | codec_stats.DECODERS | codec_worker.DECODERS
_ENCODERS: Final = codec_client.ENCODERS | codec_answer.ENCODERS | codec_stats.ENCODERS | codec_worker.ENCODERS


def decode(packet: Packet) -> Message:
    """Make a message of what came from the wire, whatever it is.

    Raises:
        DecodeError: it is no message of ours; topic and reason are named.
    """
    try:
        address = topics.parse(packet.topic)
    except ValueError as error:
        raise DecodeError(packet.topic, str(error)) from None
    if packet.retain and not topics.BY_KIND[address.kind].retained:
        raise DecodeError(packet.topic, "carries the retain flag, and such a message is never retained")
    if len(packet.body) > MAX_BODY:
        raise DecodeError(packet.topic, f"{len(packet.body)} bytes are more than the {MAX_BODY} that are allowed")
    decoder = _DECODERS.get(address.kind)
    if decoder is None:
        raise DecodeError(packet.topic, "is read by its sender alone")
    try:
        return cast("Message", decoder(address, packet.body, packet.properties))
    except UnicodeDecodeError:
        raise DecodeError(packet.topic, "is not UTF-8") from None
    except ValueError as error:
        raise DecodeError(packet.topic, str(error)) from None


def encode(message: Message) -> Packet:
    """Make the packet that says `message`."""
    return _ENCODERS[type(message)](message)
