"""Messages to packets and back. The only raiser of `DecodeError`."""

# Bodies are UTF-8 JSON with a `schema` number, which the plans of `wire` write and read. This module adds the rest: the
# topic of each message, the address of replies, topics that imply a field of their message or carry two messages, and
# topics of older workers. `codec_submit` has submissions.
#
# Payloads and results travel inside other messages as strings: no peer that passes them on parses or encodes them
# again.

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, cast, get_args

from stockworker.errors import DecodeError
from stockworker.protocol import topics
from stockworker.protocol.body import MAX_BODY, make_packet, open_body
from stockworker.protocol.codec_submit import decode_submit, encode_submit
from stockworker.protocol.fields import FieldError, Fields
from stockworker.protocol.ids import ClientId
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import MAX_EXPLAINED, Answer, Message, Notice, Query, Receipt, Reply, Submit
from stockworker.protocol.packet import NO_PROPERTIES, Packet, Properties
from stockworker.protocol.reply import LONGEST_CORRELATION, answer_properties, read_reply, reply_properties
from stockworker.protocol.topics import BY_KIND, Address, TopicKind
from stockworker.protocol.wire import Plan, plan_of

CARRIED: Final[Mapping[TopicKind, type[Message]]] = {
    kind: cls for cls in get_args(Message) if cls is not Answer for kind in cls.topics
}
"""Which message each topic carries. The topics that are missing carry a probe that only its sender reads.

Where this has a `Receipt`, the topic may carry an `Answer` as well: `_decode_receipt` distinguishes them.
"""


@dataclass(frozen=True, slots=True)
class _Route:
    """How the message of a topic travels beside its body.

    Attributes:
        plan: of the message.
        levels: what gets the topic's variable levels from the message.
        repeated: attributes that are levels, and in the body as well.
        implied: attributes whose values follow from the topic.
        replies: whether the message has a `Reply`, as properties.
    """

    plan: Plan[Any]
    levels: tuple[Callable[[Any], str], ...]
    repeated: tuple[str, ...]
    implied: Mapping[str, bool]
    replies: bool


def _route(kind: TopicKind, cls: type[Any]) -> _Route:
    plan = plan_of(cls)
    by_level = {level.name: attribute for attribute, level in plan.levels.items()}
    levels = (by_level.get(name, "reply.client_id") for name in BY_KIND[kind].levels)
    repeated = tuple(attribute for attribute, level in plan.levels.items() if level.also_in_body)
    return _Route(plan, tuple(map(attrgetter, levels)), repeated, cls.topics[kind], "reply" in cls.__slots__)


_ROUTES: Final = {kind: _route(kind, cls) for kind, cls in CARRIED.items()}


def decode(packet: Packet) -> Message:
    """Make a message of a packet from the wire. Anything may be in it.

    Raises:
        DecodeError: it is not a message of this schema; topic and reason are named.
    """
    if packet.fault:
        raise DecodeError(packet.topic, packet.fault)
    try:
        address = topics.parse(packet.topic)
    except ValueError as error:
        raise DecodeError(packet.topic, str(error)) from None
    if packet.retain and not BY_KIND[address.kind].retained:
        raise DecodeError(packet.topic, "carries the retain flag, and such a message is never retained")
    if len(packet.body) > MAX_BODY:
        raise DecodeError(packet.topic, f"{len(packet.body)} bytes are more than the {MAX_BODY} that are allowed")
    if address.kind not in CARRIED:
        raise DecodeError(packet.topic, "is read by its sender alone")
    try:
        return _decode(address, packet.body, packet.properties)
    except UnicodeDecodeError:
        raise DecodeError(packet.topic, "is not UTF-8") from None
    except ValueError as error:
        raise DecodeError(packet.topic, str(error)) from None


def encode(message: Message) -> Packet:
    """Make the packet of `message`."""
    if isinstance(message, Submit):
        return encode_submit(message)
    kind = _kind_of(message)
    route = _ROUTES[kind]
    body = plan_of(type(message)).write(message)
    for attribute in route.repeated:
        body[attribute] = getattr(message, attribute)
    properties = NO_PROPERTIES
    if isinstance(message, Receipt | Answer):
        properties = answer_properties(message.reply)
        if message.reply.correlation is not None:
            body["correlation"] = message.reply.correlation
    elif route.replies:
        properties = reply_properties(getattr(message, "reply"))  # noqa: B009 (only some messages have one)
    topic = "/".join([kind, *[level(message) for level in route.levels]])
    return make_packet(kind, topic, body, properties)


def _kind_of(message: Message) -> TopicKind:
    if isinstance(message, Notice):
        return _notice_kind(message.state)
    return next(
        kind
        for kind, implied in message.topics.items()
        if all(getattr(message, name) == value for name, value in implied.items())
    )


def _decode(address: Address, body: bytes, properties: Properties) -> Message:
    match address.kind:
        case TopicKind.QUEUE:
            return decode_submit(address, body, properties)
        case TopicKind.RECEIPT:
            return _decode_receipt(address, open_body(body), properties)
        case TopicKind.QUERY:
            return _decode_query(address, open_body(body), properties)
        case _:
            pass
    route = _ROUTES[address.kind]
    plan = route.plan
    fields = open_body(body) if plan.fields else {}  # a request that is all in its topic may have any body
    values = _values(plan, address, fields)
    if route.replies:
        values["reply"] = read_reply(properties)
    message: Message = plan.cls(**values, **route.implied)
    if isinstance(message, Notice) and (
        message.state not in TERMINAL or _notice_kind(message.state) is not address.kind
    ):
        raise FieldError(f"{message.state} does not belong on this topic", "state")
    return message


def _values(plan: Plan[Any], address: Address, fields: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(zip((each.attribute for each in plan.fields), plan.values(fields), strict=True))
    # An older worker may leave its ID out of the topic (`topics.LEGACY_PARENTS`): the body has it then.
    found = dict(zip(BY_KIND[address.kind].levels, address.values, strict=False))
    for attribute, level in plan.levels.items():
        values[attribute] = found.get(level.name) or Fields(fields).id(attribute)
    return values


# --- topics of their own kind -----------------------------------------------------------------------------------------


def _notice_kind(state: State) -> TopicKind:
    return TopicKind.COMPLETED if state is State.COMPLETED else TopicKind.FAILED


def _decode_query(address: Address, fields: Mapping[str, Any], properties: Properties) -> Query:
    reply = read_reply(properties)
    client_id = ClientId(address.values[0])
    if reply is None or reply.client_id != client_id:
        reply = Reply(client_id)  # an answer goes to the client that the broker has proved to be the sender
    query = Query(reply=reply, **_values(plan_of(Query), address, fields))
    if query.explain and len(query.ids) > MAX_EXPLAINED:
        raise FieldError(f"holds more than {MAX_EXPLAINED} entries", "ids")
    if query.explain and query.filter is not None:
        raise FieldError("goes with ids, not with a filter", "explain")
    return query


def _decode_receipt(address: Address, fields: dict[str, Any], properties: Properties) -> Receipt | Answer:
    body = Fields(fields)
    correlation = body.optional("correlation", lambda name: body.text(name, LONGEST_CORRELATION))
    if correlation is None and properties.correlation_data is not None:
        correlation = properties.correlation_data.decode()
    reply = Reply(ClientId(address.values[0]), correlation)
    cls = Receipt if fields.get("jobs") is None else Answer
    return cls(reply, *plan_of(cast("type[Any]", cls)).values(fields))
