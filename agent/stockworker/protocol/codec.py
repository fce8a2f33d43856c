"""Messages to packets and back. The only raiser of `DecodeError`."""

# Bodies are UTF-8 JSON with a `schema` number, which the plans of `wire` write and read. This module adds the rest: the
# topic of each message, the address of replies, topics that imply a field of their message or carry two messages, and
# topics of older workers. `codec_submit` has submissions.
#
# Payloads and results travel inside other messages as strings: no peer that passes them on parses or encodes them
# again.

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, Final, get_args

from stockworker.errors import DecodeError
from stockworker.protocol import topics
from stockworker.protocol.body import MAX_BODY, make_packet, open_body
from stockworker.protocol.codec_submit import decode_submit, encode_submit
from stockworker.protocol.fields import FieldError, Fields
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import ClientId, owner_of
from stockworker.protocol.json_text import quoted
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import (
    MAX_EXPLAINED,
    Answer,
    Assign,
    Message,
    Notice,
    Notices,
    Progress,
    Query,
    Receipt,
    Reply,
    Stats,
    Submit,
)
from stockworker.protocol.packet import NO_PROPERTIES, Packet, Properties
from stockworker.protocol.reply import (
    LONGEST_CORRELATION,
    answer_properties,
    own_reply,
    read_reply,
    reply_properties,
)
from stockworker.protocol.straight_code import copier
from stockworker.protocol.topics import BY_KIND, Address, TopicKind
from stockworker.protocol.wire import Plan, plan_of

CARRIED: Final[Mapping[TopicKind, type[Message]]] = {
    kind: cls for cls in get_args(Message) if cls is not Answer for kind in cls.topics
}
"""Which message each topic carries. The topics that are missing carry a probe that only its sender reads.

Where this has a `Receipt`, the topic may carry an `Answer` or `Stats` as well: `_decode_receipt` distinguishes them.
"""


@dataclass(frozen=True, slots=True)
class _Route:
    """How the message of a topic travels beside its body.

    Attributes:
        plan: of the message.
        levels: what gets the topic's variable levels from the message; a level that is None is left out.
        repeated: attributes that are levels, and in the body as well.
        implied: attributes whose values follow from the topic.
        replies: whether the message has a `Reply`, as properties.
    """

    plan: Plan[Any]
    levels: tuple[Callable[[Any], str | None], ...]
    repeated: tuple[str, ...]
    implied: Mapping[str, bool]
    replies: bool


def _route(kind: TopicKind, cls: type[Any]) -> _Route:
    plan = plan_of(cls)
    by_level = {level.name: attribute for attribute, level in plan.levels.items()}
    levels = (by_level.get(name, name) for name in BY_KIND[kind].levels)
    repeated = tuple(attribute for attribute, level in plan.levels.items() if level.also_in_body)
    return _Route(plan, tuple(map(attrgetter, levels)), repeated, cls.topics[kind], "reply" in cls.__slots__)


_ROUTES: Final = {kind: _route(kind, cls) for kind, cls in CARRIED.items()}
changed_packet: Final = copier(Packet)
"""Returns a packet with other values, by name."""

_ONLY_TOPIC: Final = {cls: kind for kind, cls in CARRIED.items() if len(cls.topics) == 1 and cls is not Stats}


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
    if packet.retain and address.kind is not TopicKind.DISPATCHER:  # an older dispatcher retains its presence
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
    return _packet(message, plan_of(type(message)).members(message))


def encode_entry(entry: Any) -> str:
    """The text of an entry of a message's list."""
    text: str = plan_of(type(entry)).text(entry)
    return text


def encode_entries(message: Assign, entries: Iterable[str]) -> Packet:
    """Make the packet of a message whose list is empty, with these entries, which `encode_entry` has written.

    So their sizes are known before it is decided which of them are in the message.
    """
    members = plan_of(type(message)).members(message)
    if not members.endswith("[]"):
        raise AssertionError(f"{members}: the list is not the last one of its members, or not empty")
    return _packet(message, f"{members[:-1]}{','.join(entries)}]")


def _packet(message: Message, members: str) -> Packet:
    kind = _kind_of(message)
    route = _ROUTES[kind]
    for attribute in route.repeated:
        members += f",{quoted(attribute)}:{quoted(getattr(message, attribute))}"
    properties = NO_PROPERTIES
    if kind is TopicKind.RECEIPT:
        reply: Reply = getattr(message, "reply")  # noqa: B009 (only some messages have one)
        properties = answer_properties(reply)
        if reply.correlation is not None:
            members += f',"correlation":{quoted(reply.correlation)}'
    elif route.replies:
        properties = reply_properties(getattr(message, "reply"))  # noqa: B009 (only some messages have one)
    topic = "/".join([kind, *filter(None, [level(message) for level in route.levels])])
    return make_packet(kind, topic, members, properties)


def _kind_of(message: Message) -> TopicKind:
    only = _ONLY_TOPIC.get(type(message))
    if only is not None:
        return only
    if isinstance(message, Notice):
        return _notice_kind(message.state)
    if isinstance(message, Stats) and message.reply is not None:
        return TopicKind.RECEIPT
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
        case TopicKind.QUERY | TopicKind.OPERATOR_QUERY:
            return _decode_query(address, open_body(body), properties)
        case _:
            pass
    route = _ROUTES[address.kind]
    plan = route.plan
    fields = _fields(address.kind, plan, body)
    values = _levels(plan, address, fields)
    if route.replies:
        reply, client_id = read_reply(properties), values.get("client_id")
        values["reply"] = reply if client_id is None else own_reply(client_id, reply)
    message: Message = plan.make(fields, **values, **route.implied)
    if isinstance(message, Notice) and (
        message.state not in TERMINAL or _notice_kind(message.state) is not address.kind
    ):
        raise FieldError(f"{message.state} does not belong on this topic", "state")
    if isinstance(message, Notices):
        _check_entries(message)
    if isinstance(message, Notice | Progress) and message.client_id != address.by_level.get("client_id"):
        raise FieldError(f"{message.job_id} does not belong on this topic of another owner", "job_id")
    return message


def _fields(kind: TopicKind, plan: Plan[Any], body: bytes) -> dict[str, Any]:
    """The fields of a body. A request that is all in its topic may have any body, and one for statistics as well."""
    if not plan.fields:
        return {}
    if kind is not TopicKind.STATS_REQUEST:
        return open_body(body)
    try:
        return open_body(body)
    except ValueError:
        return {}


def _check_entries(notices: Notices) -> None:
    for entry in notices.entries:
        if entry.state not in TERMINAL:
            raise FieldError(f"{entry.state} does not belong on this topic", "state")
        if owner_of(entry.job_id) != notices.client_id:
            raise FieldError(f"{entry.job_id} does not belong on this topic of another owner", "job_id")


def _levels(plan: Plan[Any], address: Address, fields: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    found = address.by_level
    for attribute, level in plan.levels.items():
        if level.name in found:
            values[attribute] = found[level.name]
        elif level.also_in_body:  # an older worker leaves its ID out of the topic (`topics.LEGACY_PARENTS`)
            values[attribute] = Fields(fields).id(attribute)
    return values


# --- topics of their own kind -----------------------------------------------------------------------------------------


def _notice_kind(state: State) -> TopicKind:
    return TopicKind.COMPLETED if state is State.COMPLETED else TopicKind.FAILED


def _decode_query(address: Address, fields: Mapping[str, Any], properties: Properties) -> Query:
    reply = own_reply(ClientId(address.values[0]), read_reply(properties))
    route = _ROUTES[address.kind]
    query: Query = route.plan.make(fields, reply=reply, **_levels(route.plan, address, fields), **route.implied)
    for name in ("explain", "details"):
        if getattr(query, name) and len(query.ids) > MAX_EXPLAINED:
            raise FieldError(f"holds more than {MAX_EXPLAINED} entries", "ids")
        if getattr(query, name) and query.filter is not None:
            raise FieldError("goes with ids, not with a filter", name)
    if query.outputs_from is not None and (len(query.ids) != 1 or query.filter is not None):
        raise FieldError("goes with one ID", "outputs")
    return query


def _decode_receipt(address: Address, fields: dict[str, Any], properties: Properties) -> Receipt | Answer | Stats:
    body = Fields(fields)
    correlation = body.optional("correlation", lambda name: body.text(name, LONGEST_CORRELATION))
    if correlation is None and properties.correlation_data is not None:
        correlation = properties.correlation_data.decode()
    reply = Reply(ClientId(address.values[0]), correlation)
    found = (cls for name, cls in _BY_FIELD.items() if fields.get(name) is not None)
    cls: type[Any] = next(found, Receipt)
    answer: Receipt | Answer | Stats = cls(reply, *plan_of(cls).values(fields))
    return answer


_BY_FIELD: Final[Mapping[str, type[Receipt | Answer | Stats]]] = {"jobs": Answer, "states": Stats}
"""A field that only one of the messages on the topic of receipts has."""
