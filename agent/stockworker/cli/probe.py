"""Tries the broker as one of its participants: is it there, does it let us in, is there a dispatcher, what may we do?

Nothing is changed by it: the job that it submits has expired, and the others that it speaks of do not exist.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import SystemRandom
from typing import Final

from stockworker.adapters import clock
from stockworker.adapters.mqtt import (
    Delivery,
    Link,
    LinkDown,
    LinkItem,
    LinkSettings,
    LinkUp,
    PublishRefused,
    reason_name,
)
from stockworker.adapters.mqtt_reasons import NO_MATCHING_SUBSCRIBERS
from stockworker.cli.identity import Participant
from stockworker.cli.local_checks import validity
from stockworker.client import make_submission
from stockworker.errors import ConnectionFailed, DecodeError
from stockworker.pki.inspection import inspect_der
from stockworker.protocol import codec, topics
from stockworker.protocol.ids import ClientId, JobId, Token, WorkerId, make_token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import (
    Ack,
    Answer,
    AttemptReport,
    CancelJob,
    Message,
    Presence,
    Query,
    Reply,
    Report,
    RetryJob,
    StatsRequest,
    Submit,
)
from stockworker.protocol.topics import Role, TopicKind
from stockworker.terminal.findings import Finding, fail, ok, warn

_PATIENCE_S: Final = 5.0
_NOBODY: Final = "stockworker-check"
"""A job, job type and worker that do not exist, told apart in logs by this name."""

_ANSWERED: Final = frozenset({"ask", "report"})
"""What is tried that the dispatcher answers on a topic of our own."""


@dataclass(slots=True)
class _Heard:
    presence: Presence | None = None
    echo: bool = False
    refused: dict[str, int] = field(default_factory=dict)  # reason code by what was tried

    def everything(self, role: Role) -> bool:
        """Whether nothing more is to be expected."""
        if role is Role.DISPATCHER:
            return True  # it may not read what it says itself
        if self.presence is None:
            return False
        return self.echo or not self.presence.online or not _ANSWERED.isdisjoint(self.refused)


async def probe(settings: LinkSettings, who: Participant) -> list[Finding]:
    """Connect once, and say what was found."""
    items: asyncio.Queue[LinkItem] = asyncio.Queue()
    client_id = f"{who.name}-check-{make_token(SystemRandom())[:8]}"
    own = (
        topics.receipt(ClientId(who.name)),
        topics.of_worker(TopicKind.ACK, WorkerId(who.name)),
        str(TopicKind.DISPATCHER),
    )
    link = Link(replace(settings, client_id=client_id, subscriptions=own), items.put_nowait)
    running = asyncio.create_task(link.run())
    running.add_done_callback(lambda _: items.put_nowait(LinkDown("closed")))
    where = f"{settings.host}:{settings.port}"
    try:
        first = await items.get()
        if isinstance(first, LinkUp):
            safety = "with TLS" if settings.tls is not None else "without TLS"
            return [
                ok("broker", f"{where} has let us in as {who.name!r}, {safety}"),
                *_judge_certificate(link.broker_certificate),
                *_judge(await _try(link, items, who), who),
            ]
        if isinstance(first, LinkDown) and not running.done():
            return [fail("broker", first.reason)]
    finally:
        await link.close()
        outcome = (await asyncio.gather(running, return_exceptions=True))[0]
    if isinstance(outcome, ConnectionFailed):
        return [fail("broker", str(outcome))]
    raise AssertionError(f"a link that is not closed ends by a refusal, not by {outcome!r}")


async def _try(link: Link, items: "asyncio.Queue[LinkItem]", who: Participant) -> _Heard:
    await link.send([replace(codec.encode(message), tag=name) for name, message in _attempts(who).items()])
    await link.drain(_PATIENCE_S)
    heard = _Heard()
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            while not items.empty() or not heard.everything(who.role):
                _hear(heard, await items.get())
    return heard


def _attempts(who: Participant) -> dict[str, Message]:
    job_id, reply = JobId(_NOBODY), Reply(ClientId(who.name), _NOBODY)
    match who.role:
        case Role.WORKER:
            token = make_token(SystemRandom())
            return {"report": Report(WorkerId(who.name), (AttemptReport(job_id, token, Outcome.RELEASED),))}
        case Role.DISPATCHER:
            return {"acknowledge": Ack(WorkerId(_NOBODY), stale=(Token(_NOBODY),))}
        case Role.CLIENT | Role.OPERATOR:
            expired = make_submission(_NOBODY, id=_NOBODY, expires_at=1.0)
            return {
                "submit": Submit((expired,), reply),
                "ask": Query((job_id,), None, with_results=False, reply=reply),
                "cancel": CancelJob(job_id, reply),
                "see statistics": StatsRequest(reply),
                "retry": RetryJob(job_id, reply),
            }


def _hear(heard: _Heard, item: LinkItem) -> None:
    match item:
        case PublishRefused(packet=packet, reason_code=code):
            heard.refused[str(packet.tag)] = code
        case Delivery(packet=packet):
            try:
                message = codec.decode(packet)
            except DecodeError:
                return
            if isinstance(message, Presence):
                heard.presence = message
            elif isinstance(message, Answer | Ack):
                heard.echo = True
        case _:
            pass


def _judge(heard: _Heard, who: Participant) -> Iterator[Finding]:
    if who.role is not Role.DISPATCHER:
        yield _judge_presence(heard.presence)
    denied = {name: code for name, code in heard.refused.items() if code != NO_MATCHING_SUBSCRIBERS}
    allowed = [name for name in _attempts(who) if name not in denied]
    missing = [name for name in denied if name != "retry"]
    for name in missing:
        text = f"{who.name!r} may not {name}: {reason_name(denied[name])}"
        yield fail("rights", f"{text}. Generate the broker's ACL file anew, with {who.name!r} as what it is")
    if allowed:
        rest = "; retry is for operators" if "retry" in denied else ""
        yield ok("rights", f"{who.name!r} may {', '.join(allowed)}{rest}")
    if who.role is not Role.DISPATCHER and heard.presence is not None and heard.presence.online:
        if heard.echo:
            yield ok("answers", "the dispatcher's answers arrive")
        elif not missing:
            text = f"no answer within {_PATIENCE_S:g} s"
            yield fail(
                "answers", f"{text}: does the broker's ACL let {who.name!r} read them? The dispatcher's log says more"
            )


def _judge_certificate(certificate: bytes | None) -> Iterator[Finding]:
    if certificate is not None:
        facts = inspect_der(certificate)
        yield validity("broker", f"its certificate ({facts.name})", facts, datetime.fromtimestamp(clock.wall(), UTC))


def _judge_presence(presence: Presence | None) -> Finding:
    match presence:
        case None:
            return fail("dispatcher", "none has ever been connected: start stockworker-dispatcher, or look at its log")
        case Presence(online=True):
            return ok("dispatcher", f"version {presence.version} is connected")
        case _:
            return warn("dispatcher", "it is not connected: start stockworker-dispatcher, or look at its log")
