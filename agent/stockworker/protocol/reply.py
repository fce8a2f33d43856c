"""Where an answer goes, as MQTT 5 properties."""

from stockworker.protocol import topics
from stockworker.protocol.ids import ClientId
from stockworker.protocol.messages import Reply
from stockworker.protocol.packet import Properties
from stockworker.protocol.topics import TopicKind

LONGEST_CORRELATION = 128


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


def own_reply(client_id: ClientId, asked: Reply | None) -> Reply:
    """Where the answer goes to a client that the broker has verified to be the sender, whatever the message asks for."""
    return asked if asked is not None and asked.client_id == client_id else Reply(client_id)


def reply_properties(reply: Reply | None, content_type: str | None = None) -> Properties:
    """The properties that ask for an answer to `reply`."""
    if reply is None:
        return Properties(content_type=content_type)
    return Properties(content_type, topics.receipt(reply.client_id), _correlation_data(reply))


def answer_properties(reply: Reply) -> Properties:
    """The properties of an answer to `reply`, which is on its topic already."""
    return Properties(correlation_data=_correlation_data(reply))


def _correlation_data(reply: Reply) -> bytes | None:
    return None if reply.correlation is None else reply.correlation.encode()
