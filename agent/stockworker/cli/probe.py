"""Probes the broker for `stockworker check`: connection, identity, dispatcher, access rights."""

# A probe changes nothing. The job that it submits has already expired, and the other IDs in its messages do not exist:
# they are random, so that no other client can make a job of that name beforehand.

import asyncio
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from secrets import token_hex
from typing import Final

from stockworker.adapters import clock
from stockworker.adapters.mqtt import Delivery, Link, LinkDown, LinkItem, LinkUp, PublishRefused
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.mqtt_reasons import NO_MATCHING_SUBSCRIBERS, reason_name
from stockworker.cli.identity import Participant
from stockworker.cli.local_checks import validity
from stockworker.cli.rights import echo_topic, publications, request
from stockworker.client import make_submission
from stockworker.errors import ConnectionFailed, DecodeError
from stockworker.pki.inspection import inspect_der
from stockworker.protocol import codec, topics
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import PROBE, ClientId, JobId, Token, WorkerId, full_id
from stockworker.protocol.job import IN_THE_PAST, Outcome
from stockworker.protocol.market_stores import by_store, warning
from stockworker.protocol.messages import (
    Ack,
    Answer,
    AttemptReport,
    CancelJob,
    Message,
    Query,
    Receipt,
    Reply,
    Report,
    RetryJob,
    Stats,
    StatsRequest,
    Submit,
)
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import Role, TopicKind
from stockworker.terminal.findings import Finding, fail, ok, warn

_PATIENCE_S: Final = 5.0
_SUBMITTED: Final = "-new"
"""The end of the correlation of a submission."""

_STATS: Final = "see statistics"

_ANSWERED: Final = frozenset({"ask", "report"})
"""The attempts that the dispatcher answers on a topic of this participant."""


@dataclasses.dataclass(slots=True)
class _Received:
    """What came back.

    Attributes:
        nonexistent: ID of a job, a lease and a worker that do not exist, and correlation of the answers.
        echo: the topic of an echo that must return; None without one.
        echoed: whether it has returned.
        answer: whether an answer of the dispatcher arrived.
        stats: its statistics, for a client.
        version: of the dispatcher.
        ahead_s: how far its clock is ahead of that of this machine; None if it did not send its time.
        problem: what the dispatcher reports about itself.
        refused: name of each attempt that the broker refused → reason code.
    """

    nonexistent: str
    echo: str | None = None
    echoed: bool = False
    answer: bool = False
    stats: Stats | None = None
    version: str | None = None
    ahead_s: float | None = None
    problem: str | None = None
    refused: dict[str, int] = field(default_factory=dict)

    def everything(self, role: Role) -> bool:
        """Whether no further message is expected."""
        if self.echo is not None and not self.echoed and f"publish on {self.echo}" not in self.refused:
            return False
        if role is Role.DISPATCHER:
            return True  # a dispatcher may not read its own messages
        if not _ANSWERED.isdisjoint(self.refused):
            return True
        return self.answer and (role is Role.WORKER or self.stats is not None or _STATS in self.refused)


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe has found.

    Attributes:
        findings: about broker, rights and dispatcher.
        version: of the dispatcher, if it answered.
        ahead_s: how far its clock is ahead of that of this machine, in seconds.
        workers: the version of each worker that is online, where a client may know.
    """

    findings: list[Finding]
    version: str | None = None
    ahead_s: float | None = None
    workers: Mapping[str, str] = field(default_factory=dict)


async def probe(settings: LinkSettings, who: Participant, *, each_topic: bool = False) -> Probed:
    """Connect once, and try what this participant needs.

    Args:
        settings: of the connection.
        who: the participant.
        each_topic: also try each topic that it publishes on, and an echo.
    """
    items: asyncio.Queue[LinkItem] = asyncio.Queue()
    received = _Received(f"{PROBE}-{token_hex(16)}", echo_topic(who) if each_topic else None)
    client_id = f"{who.name}-check-{token_hex(16)}"
    own = (
        topics.receipt(ClientId(who.name)),
        topics.of_worker(TopicKind.ACK, WorkerId(who.name)),
        *(() if received.echo is None else (received.echo,)),
    )
    link = Link(replace(settings, client_id=client_id, subscriptions=own), items.put_nowait)
    running = asyncio.create_task(link.run())
    running.add_done_callback(lambda _: items.put_nowait(LinkDown("closed")))
    where = f"{settings.host}:{settings.port}"
    try:
        first = await items.get()
        if isinstance(first, LinkUp):
            safety = "with TLS" if settings.tls is not None else "without TLS"
            tried = await _try(link, items, who, received, each_topic=each_topic)
            findings = [
                ok("broker", f"{where} accepted the connection of {who.name!r}, {safety}"),
                *_judge_certificate(link.broker_certificate),
                *_judge(received, tried, who),
            ]
            return Probed(findings, received.version, received.ahead_s, _versions(received.stats))
        if isinstance(first, LinkDown) and not running.done():
            return Probed([fail("broker", first.reason)])
    finally:
        await link.close()
        outcome = (await asyncio.gather(running, return_exceptions=True))[0]
    if isinstance(outcome, ConnectionFailed):
        return Probed([fail("broker", str(outcome))])
    raise AssertionError(f"an open link must end with a refusal, not with {outcome!r}")


async def _try(
    link: Link, items: "asyncio.Queue[LinkItem]", who: Participant, received: _Received, *, each_topic: bool
) -> list[str]:
    """Publish, and collect what comes back; return what was tried."""
    nonexistent = received.nonexistent
    packets = {name: codec.encode(message) for name, message in _attempts(who, nonexistent).items()}
    if each_topic:
        packets |= publications(who, nonexistent)
    await _publish(link, packets)
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            while not items.empty() or not received.everything(who.role):
                _add(received, await items.get())
    if each_topic and received.ahead_s is not None:
        last = request(who, nonexistent)
        await _publish(link, last)
        while not items.empty():
            _add(received, items.get_nowait())
        packets |= last
    return list(packets)


async def _publish(link: Link, packets: Mapping[str, Packet]) -> None:
    """Publish, and wait for the broker's answers."""
    await link.send([replace(packet, tag=name) for name, packet in packets.items()])
    await link.drain(_PATIENCE_S)


def _attempts(who: Participant, nonexistent: str) -> dict[str, Message]:
    client_id, token = ClientId(who.name), Token(nonexistent)
    job_id, reply = full_id(JobId(nonexistent), client_id), Reply(client_id, nonexistent)
    match who.role:
        case Role.WORKER:
            return {"report": Report(WorkerId(who.name), (AttemptReport(token, Outcome.RELEASED, job_id=job_id),))}
        case Role.DISPATCHER:
            return {"acknowledge": Ack(WorkerId(nonexistent), stale=(token,))}
        case Role.CLIENT | Role.OPERATOR:
            expired = make_submission(PROBE, id=nonexistent, expires_at=1.0)
            return {
                "submit": Submit((expired,), replace(reply, correlation=nonexistent + _SUBMITTED), client_id),
                "ask": Query((job_id,), None, with_results=False, reply=reply),
                "cancel": CancelJob(job_id, reply, client_id),
                _STATS: StatsRequest(reply, client_id),
                "retry": RetryJob(job_id, reply),
            }


def _add(received: _Received, item: LinkItem) -> None:
    match item:
        case PublishRefused(packet=packet, reason_code=code):
            received.refused[str(packet.tag)] = code
        case Delivery(packet=packet) if packet.topic == received.echo:
            received.echoed = received.echoed or packet.body == received.nonexistent.encode()
        case Delivery(packet=packet):
            try:
                message = codec.decode(packet)
            except DecodeError:
                return
            _learn(received, message)
            if _is_answer(message, received.nonexistent):
                received.answer = True
            received.problem = _problem_in(message, received.nonexistent) or received.problem
        case _:
            pass


def _learn(received: _Received, message: Message) -> None:
    """Keep what the dispatcher reports about itself."""
    match message:
        case Stats(version=version, time=time):
            received.stats, received.version = message, version
        case Ack(stale=stale, version=version, time=time) if received.nonexistent in stale:
            received.version = version
        case _:
            return
    if time is not None:
        received.ahead_s = time - clock.wall()


def _versions(stats: Stats | None) -> dict[str, str]:
    return {} if stats is None else {each.worker_id: each.version for each in stats.workers if each.online}


def _is_answer(message: Message, nonexistent: str) -> bool:
    match message:
        case Answer(reply=Reply(correlation=correlation)):
            return correlation == nonexistent
        case Ack(stale=stale, error=error):
            return nonexistent in stale or error is not None
        case _:
            return False


def _problem_in(message: Message, correlation: str) -> str | None:
    """What the dispatcher reports about itself, such as a full disk, instead of the expected refusal."""
    match message:
        case Ack(error=str() as error):
            return error
        case Receipt(reply=Reply(correlation=answered), entries=(entry,)) if answered == correlation + _SUBMITTED:
            return None if entry.reason == IN_THE_PAST else entry.reason
        case _:
            return None


def _judge(received: _Received, tried: Sequence[str], who: Participant) -> Iterator[Finding]:
    denied = {name: code for name, code in received.refused.items() if code != NO_MATCHING_SUBSCRIBERS}
    allowed = [name for name in tried if name not in denied]
    missing = [name for name in denied if name != "retry"]
    for name in missing:
        text = f"{who.name!r} may not {name}: {reason_name(denied[name])}"
        yield fail("rights", f"{text}. {_remedy(who)}")
    if received.echo is not None and not received.echoed and f"publish on {received.echo}" not in denied:
        yield fail(
            "rights", f"{who.name!r} may not read {received.echo}: its own message did not return. {_remedy(who)}"
        )
    if allowed:
        rest = "; retry requires operator rights" if "retry" in denied else ""
        yield ok("rights", f"{who.name!r} may {', '.join(allowed)}{rest}")
    if who.role is not Role.DISPATCHER and not missing:
        yield _judge_dispatcher(received, who)
    if received.stats is not None:
        workers = ((each.worker_id, each.market_store) for each in received.stats.workers if each.online)
        if (differing := warning(by_store(workers))) is not None:
            yield warn("market data", differing)


def _remedy(who: Participant) -> str:
    right = "run `stockworker broker setup` on the broker's machine. With a user name, configure the one of this ID"
    if who.role is Role.CLIENT:
        return f"If it is a service, check it with --role. If it has a client's certificate: {right}"
    return f"If its certificate is one of a {who.role}: {right}. If not, install its own"


def _judge_certificate(certificate: bytes | None) -> Iterator[Finding]:
    if certificate is not None:
        facts = inspect_der(certificate)
        renew = "'stockworker broker setup --renew' on the broker's machine"
        yield validity("broker", f"its certificate ({facts.name})", facts, clock.utc_now(), renew)


def _judge_dispatcher(received: _Received, who: Participant) -> Finding:
    if received.answer and received.problem is not None:
        return warn("dispatcher", f"it is connected, but: {received.problem}")
    if received.answer:
        return ok("dispatcher", "it is connected, and its answers arrive")
    if NO_MATCHING_SUBSCRIBERS in received.refused.values():
        return fail(
            "dispatcher",
            "no dispatcher has connected to this broker, or not for a day. Start stockworker-dispatcher, or check its log",
        )
    return fail(
        "dispatcher",
        "no dispatcher answers. Start stockworker-dispatcher, or check its log. If it runs, check that the broker's ACL lets "
        f"{who.name!r} read answers",
    )
