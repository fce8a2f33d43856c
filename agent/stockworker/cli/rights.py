"""What `stockworker doctor` publishes to learn the rights of a participant, topic by topic. Nothing of it has an effect."""

# A broker confirms each message with a reason: denied, without subscribers, or accepted. A message that is accepted must not
# matter to its readers. So its IDs do not exist, or its incarnation is one that no dispatcher knows: those messages are
# ignored. Reading can't be tested this way, because the broker grants each subscription and then delivers nothing. Only a
# message that returns proves it: the echo of a service.

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from stockworker import __version__
from stockworker.cli.identity import Participant
from stockworker.protocol import codec, topics
from stockworker.protocol.ids import ClientId, JobId, JobType, WorkerId, full_id
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Assign,
    Control,
    ControlAction,
    Disconnect,
    Heartbeat,
    Message,
    Monitor,
    Notice,
    NoticeEntry,
    Notices,
    Progress,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Register,
    Reply,
    Request,
    Unregister,
)
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import BY_KIND, OWN_LEVEL, Role, TopicKind

_PUBLISH: Final = "publish on "


def echo_topic(who: Participant) -> str | None:
    """The topic on which this participant may write to itself; None for a client."""
    match who.role:
        case Role.WORKER:
            return topics.of_worker(TopicKind.WORKER_ECHO, WorkerId(who.name))
        case Role.DISPATCHER:
            return topics.echo(who.name)
        case Role.CLIENT | Role.OPERATOR:
            return None


def publications(who: Participant, nonexistent: str) -> dict[str, Packet]:
    """The packets to try on any broker: what each of them tests, and the packet.

    Args:
        who: the participant.
        nonexistent: ID of a job, a worker, a client and an incarnation that do not exist.
    """
    packets = _named(who, _messages(who, nonexistent))
    echo = echo_topic(who)
    return packets if echo is None else {**packets, f"{_PUBLISH}{echo}": Packet(echo, nonexistent.encode())}


def request(who: Participant, nonexistent: str) -> dict[str, Packet]:
    """As `publications`, for a dispatcher that ignores requests that probe: it has answered with its time."""
    if who.role is not Role.WORKER:
        return {}
    probe = Request(WorkerId(who.name), nonexistent, 1, 0, (), (), __version__, ())
    return _named(who, [probe])


def _named(who: Participant, messages: Iterator[Message] | list[Message]) -> dict[str, Packet]:
    """With QoS 1, because the broker answers nothing to QoS 0."""
    packets = [replace(codec.encode(message), qos=1) for message in messages]
    return {f"{_PUBLISH}{_pattern(who, packet.topic)}": packet for packet in packets}


def _pattern(who: Participant, topic: str) -> str:
    own: Mapping[str, str] = {OWN_LEVEL[who.role]: who.name}
    return BY_KIND[topics.parse(topic).kind].pattern(**own)


def _messages(who: Participant, nonexistent: str) -> Iterator[Message]:
    if who.role is Role.WORKER:
        yield from _of_worker(WorkerId(who.name), nonexistent)
    elif who.role is Role.DISPATCHER:
        yield from _of_dispatcher(nonexistent)


def _of_worker(worker: WorkerId, nonexistent: str) -> Iterator[Message]:
    job_id = full_id(JobId(nonexistent), ClientId(nonexistent))
    yield Register(worker, nonexistent, __version__, 1, (), ())
    yield Heartbeat(worker, nonexistent, 1, 0, 0, 0.0)
    yield Progress(worker, job_id, 0.0, "")
    yield Disconnect(worker, nonexistent)
    yield Unregister(worker, nonexistent)


def _of_dispatcher(nonexistent: str) -> Iterator[Message]:
    client, worker = ClientId(nonexistent), WorkerId(nonexistent)
    job_id, job_type = full_id(JobId(nonexistent), client), JobType(nonexistent)
    yield Assign(worker, 1.0, ())
    yield Control(worker, ControlAction.RESUME)
    yield Receipt(Reply(client, nonexistent), (ReceiptEntry(job_id, ReceiptStatus.REJECTED, "a probe"),))
    yield Notices(client, nonexistent, (NoticeEntry(job_id, job_type, State.EXPIRED, 0, None),))
    yield Notice(job_id, job_type, State.COMPLETED, 0, None, None, None)
    yield Notice(job_id, job_type, State.EXPIRED, 0, None, None, "a probe")
    yield Monitor(())
