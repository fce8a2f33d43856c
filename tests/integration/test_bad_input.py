"""Invalid input of every kind to a real fleet: it is answered or logged with its reason, and the next valid job runs."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import pytest

from stockworker.protocol import codec, topics
from stockworker.protocol.body import BATCH_CONTENT_TYPE, MAX_BODY, MAX_CONTENT
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import (
    Ack,
    Assign,
    Assignment,
    AttemptReport,
    Message,
    Receipt,
    ReceiptStatus,
    Report,
    Request,
)
from stockworker.protocol.packet import Packet, Properties
from stockworker.protocol.topics import TOPICS, Role, TopicKind
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.peer import Peer, connected

RECEIPTS: Final = "jobs/receipt/client"
ECHO: Final = "jobs/queue/normal/echo"
STRANGER: Final = WorkerId("host-9")
"""A client with a worker's certificate, which can send what no real worker sends."""

GARBAGE: Final = {
    "nothing": b"",
    "no UTF-8": b"\xff\xfe{}",
    "no JSON": b"{'schema': 1}",
    "no object": b"[1]",
    "no schema": b"{}",
    "another schema": b'{"schema": 2}',
    "no fields": b'{"schema": 1}',
    "fields of wrong types": b'{"schema": 1, "boot": 5, "slots": "many", "attempts": {}, "leases": "none", "ids": 7}',
    "a deep nest": b'{"schema": 1, "leases": ' + b"[" * 100_000,
    "a huge body": b" " * (MAX_BODY + 1),
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {"handlers": python_handlers("echo")}
    with Fleet(tmp_path_factory.mktemp("fleet"), settings=settings) as fleet:
        yield fleet


@asynccontextmanager
async def peer(fleet: Fleet, name: str, *subscriptions: str) -> AsyncIterator[Peer]:
    found = Peer(fleet.broker, name, subscriptions)
    async with connected([found]):
        yield found


async def count(fleet: Fleet, counter: str) -> int:
    async with fleet.client() as client:
        return dict((await client.stats()).counters).get(counter, 0)


async def run_good_job(fleet: Fleet) -> None:
    async with fleet.client() as client:
        result = await client.result(await client.submit("echo", "good"), timeout_s=30)
    assert result["payload"] == "good"


def submission(body: bytes = b"1", topic: str = ECHO, content_type: str | None = None, **options: str) -> Packet:
    properties = Properties(content_type, RECEIPTS, b"bad", tuple(options.items()))
    return Packet(topic, body, properties=properties)


def batch(*jobs: Mapping[str, Any]) -> Packet:
    return submission(json.dumps({"schema": 1, "jobs": jobs}).encode(), content_type=BATCH_CONTENT_TYPE)


BAD_REQUESTS: Final = {
    "timeout is a word": (submission(timeout="soon"), "property timeout: expected a number, got 'soon'"),
    "timeout is zero": (submission(timeout="0"), "property timeout: must be from 0.001"),
    "timeout is not finite": (submission(timeout="NaN"), "property timeout: expected a number"),
    "not_before is a date": (submission(not_before="2013-03-01"), "property not_before: expected a number"),
    "expires_at is in the past": (submission(expires_at="1000000000"), "expires_at is in the past"),
    "max_attempts is a fraction": (submission(max_attempts="1.5"), "property max_attempts: expected a whole number"),
    "max_attempts is none": (submission(max_attempts="0"), "property max_attempts: must be from 1"),
    "max_crashes is a list": (submission(max_crashes="[1]"), "property max_crashes: expected a whole number"),
    "backoff is negative": (submission(backoff="-1"), "property backoff: must be from 0"),
    "a tag is not an ID": (submission(tags="eu,s s d"), "tags[1]: 's s d' is not a valid ID"),
    "the ID is invalid": (submission(id="../../etc/passwd"), "'../../etc/passwd' is not a valid ID"),
    "another schema": (submission(schema="2"), "schema 2 is unknown here"),
    "no such priority": (submission(topic="jobs/queue/urgent/echo"), "priority 'urgent' is not one of"),
    "the type is not an ID": (submission(topic="jobs/queue/high/no id"), "'no id' is not a valid ID"),
    "not UTF-8": (submission(b"\xff"), "is not UTF-8"),
    "a huge body": (submission(b"x" * (MAX_BODY + 1)), f"{MAX_BODY + 1} bytes are more than the {MAX_BODY}"),
    "a payload that no worker could be sent": (submission(b'"' * (MAX_CONTENT // 2)), "payload: is too large"),
    "a batch that is not JSON": (submission(b"{", content_type=BATCH_CONTENT_TYPE), "is not JSON"),
    "a batch of another schema": (
        submission(b'{"schema": 7, "jobs": []}', content_type=BATCH_CONTENT_TYPE),
        "schema 7 is unknown here",
    ),
    "a batch without jobs": (batch(), "jobs: holds no job"),
    "a batch with one bad job": (batch({"payload": "1"}, {"payload": 2}), "jobs[1].payload: expected a string"),
    "a query that is not JSON": (Packet("jobs/query/client", b"?"), "is not JSON"),
    "a query for no id": (Packet("jobs/query/client", b'{"schema": 1, "ids": ["a b"]}'), "'a b' is not a valid ID"),
    "a cancellation without a valid ID": (submission(topic="jobs/cancel/a b"), "'a b' is not a valid ID"),
    "cancelling what is not there": (submission(topic="jobs/cancel/nobody"), "no such job"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused_with_its_reason(fleet: Fleet, name: str) -> None:
    packet, reason = BAD_REQUESTS[name]

    async def run() -> Message:
        async with peer(fleet, "client", RECEIPTS) as client:
            await client.link.send([packet])
            return await client.until_message(lambda message: isinstance(message, Receipt))

    receipt = asyncio.run(run())
    assert isinstance(receipt, Receipt)
    (entry,) = receipt.entries
    assert entry.status is ReceiptStatus.REJECTED
    assert reason in (entry.reason or "")
    assert receipt.reply.correlation == ("bad" if packet.properties.response_topic else None)


def test_bad_requests_are_counted_logged_and_harmless(fleet: Fleet) -> None:
    topic = "jobs/queue/low/a-bad-batch"
    bad = replace(batch({"payload": "1"}, {"payload": 2}), topic=topic, properties=Properties(BATCH_CONTENT_TYPE))

    async def run() -> int:
        before = await count(fleet, "messages_refused")
        async with peer(fleet, "client") as client:
            await client.link.send([bad, bad])
            assert await client.link.drain(30)
        await run_good_job(fleet)
        return await count(fleet, "messages_refused") - before

    assert asyncio.run(run()) == 2
    logged = fleet.dispatcher.await_event("message_refused", 2, topic=topic)
    assert logged["reason"].startswith("jobs[1].payload: expected a string")


def test_unknown_options_are_ignored(fleet: Fleet) -> None:
    async def run() -> str:
        async with peer(fleet, "client", RECEIPTS) as client:
            await client.link.send([submission(b"5", id="with-unknown-option", colour="blue")])
            await client.until_message(lambda message: isinstance(message, Receipt))
        async with fleet.client() as client:
            result: dict[str, Any] = await client.result(":with-unknown-option")
        return str(result["payload"])

    assert asyncio.run(run()) == "5"


def test_a_payload_outside_json_fails_only_its_job(fleet: Fleet) -> None:
    async def run() -> tuple[str, str | None, int]:
        async with fleet.client() as client:
            job_id = await client.submit("echo", text="{no json")
            async for ended in client.wait([job_id], 30):
                (view,) = await client.query([job_id])
                return ended.state, ended.reason, view.attempt
        raise AssertionError

    state, reason, attempts = asyncio.run(run())
    assert (state, attempts) == ("failed", 1)
    assert (reason or "").startswith("payload is not JSON")
    asyncio.run(run_good_job(fleet))


def test_jobs_without_a_worker_wait_and_are_listed(fleet: Fleet) -> None:
    async def run() -> None:
        async with fleet.client() as client:
            job_id = await client.submit("no_such_type")
            await run_good_job(fleet)
            (queue,) = [queue for queue in (await client.stats()).queues if queue.type == "no_such_type"]
            assert (queue.waiting, queue.workers) == (1, 0)
            assert (await client.cancel(job_id)).status is ReceiptStatus.CANCELLED

    asyncio.run(run())


def test_a_repeated_submission_is_the_same_job_and_another_one_is_rejected(fleet: Fleet) -> None:
    async def run() -> tuple[list[ReceiptStatus], Any]:
        job = submission(b'"first"', id="twice")
        statuses = []
        for packet in (job, job, replace(job, body=b'"second"')):
            async with peer(fleet, "client", RECEIPTS) as client:
                await client.link.send([packet])
                receipt = await client.until_message(lambda message: isinstance(message, Receipt))
            assert isinstance(receipt, Receipt)
            statuses.append(receipt.entries[0].status)
        async with fleet.client() as client:
            return statuses, (await client.result(":twice"))["payload"]

    assert asyncio.run(run()) == ([ReceiptStatus.STORED, ReceiptStatus.DUPLICATE, ReceiptStatus.REJECTED], "first")


@pytest.mark.parametrize("topic", ["jobs", "jobs/nonsense", "jobs/queue/high", "jobs/queue/high/a/b", "else/where"])
def test_topics_outside_the_table_are_denied(fleet: Fleet, topic: str) -> None:
    async def run() -> None:
        for name in ("client", "operator", STRANGER):
            async with peer(fleet, name) as stranger:
                await stranger.link.send([Packet(topic, b"{}")])
                await stranger.until_denied(topic)

    asyncio.run(run())


# --- from workers -----------------------------------------------------------------------------------------------------

WORKERS_TOPICS: Final = [
    line.pattern(worker_id=STRANGER)
    for line in TOPICS
    if Role.WORKER in line.publishers and Role.DISPATCHER in line.subscribers
]


@pytest.mark.parametrize("topic", WORKERS_TOPICS)
def test_invalid_messages_of_a_worker_are_refused_with_a_reason(fleet: Fleet, topic: str) -> None:
    ack_topic = topics.of_worker(TopicKind.ACK, STRANGER)

    async def run() -> list[Ack]:
        async with peer(fleet, STRANGER, ack_topic) as stranger:
            for number, body in enumerate(GARBAGE.values(), start=1):
                await stranger.link.send([Packet(topic, body)])
                await stranger.until(lambda: len(stranger.received) == number)  # noqa: B023 (awaited here and now)
            await run_good_job(fleet)
            return read_acks(stranger)

    acks = asyncio.run(run())
    assert all(ack == Ack(STRANGER, error=ack.error) for ack in acks)
    logged = [event["reason"] for event in fleet.dispatcher.events("message_refused") if event["topic"] == topic]
    assert logged == [ack.error for ack in acks]
    assert len(set(logged)) > 5


async def lease_of_stranger(fleet: Fleet, stranger: Peer, job_id: str) -> Assignment:
    """Request work as a worker with one slot, and return the assignment of the job."""
    await stranger.link.send([codec.encode(Request(STRANGER, "boot-1", 1, 1, (JobType("forged"),), (), "0", ()))])
    async with fleet.client() as client:
        await client.submit("forged", id=job_id)
    assign = await stranger.until_message(lambda message: isinstance(message, Assign) and job_id in str(message))
    assert isinstance(assign, Assign)
    return assign.leases[0]


def read_acks(worker: Peer) -> list[Ack]:
    messages = [codec.decode(delivery.packet) for delivery in worker.received]
    return [message for message in messages if isinstance(message, Ack)]


def report(worker: str, lease: Assignment, token: str, result: str) -> Packet:
    attempt = AttemptReport(Token(token), Outcome.OK, result, job_id=lease.job_id)
    return codec.encode(Report(WorkerId(worker), (attempt,)))


def listener(worker: str) -> tuple[str, str]:
    return topics.of_worker(TopicKind.ASSIGN, WorkerId(worker)), topics.of_worker(TopicKind.ACK, WorkerId(worker))


def test_only_the_worker_with_the_lease_can_report_a_result(fleet: Fleet) -> None:
    async def run() -> None:
        before = await count(fleet, "reports_stale")
        async with (
            peer(fleet, STRANGER, *listener(STRANGER)) as stranger,
            peer(fleet, "host-8", *listener("host-8")) as thief,
        ):
            lease = await lease_of_stranger(fleet, stranger, "forged-1")
            made_up = Token("0123456789abcdef")
            await stranger.link.send([report(STRANGER, lease, made_up, "1")])
            await stranger.until_message(lambda message: isinstance(message, Ack) and message.stale == (made_up,))
            await thief.link.send([report("host-8", lease, lease.token, "2")])
            await thief.until_message(lambda message: isinstance(message, Ack) and message.stale == (lease.token,))
            await thief.link.send([report(STRANGER, lease, lease.token, "3")])
            await thief.until_denied(topics.of_worker(TopicKind.REPORT, STRANGER))
            for result in ("4", "5"):
                stranger.received.clear()
                await stranger.link.send([report(STRANGER, lease, lease.token, result)])
                await stranger.until_message(
                    lambda message: isinstance(message, Ack) and message.stored == (lease.token,)
                )
            await thief.link.send([report("host-8", lease, lease.token, "6")])
            await thief.until(lambda: [ack.stale for ack in read_acks(thief)] == 2 * [(lease.token,)])
            await stranger.link.send([codec.encode(Request(STRANGER, "boot-1", 1, 0, (), (), "0", ()))])
        async with fleet.client() as client:
            assert await client.result("forged-1") == 4
        assert await count(fleet, "reports_stale") - before == 3
        await run_good_job(fleet)

    asyncio.run(run())
    assert fleet.dispatcher.await_event("report_stale", 2, job="client:forged-1", worker="host-8")["outcome"] == "ok"


# --- what comes to workers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TopicKind.ASSIGN, TopicKind.ACK, TopicKind.CONTROL])
def test_a_worker_drops_invalid_messages_and_continues(fleet: Fleet, kind: TopicKind) -> None:
    topic = topics.of_worker(kind, WorkerId("host-1"))
    unreadable = [body for name, body in GARBAGE.items() if kind is not TopicKind.ACK or "fields" not in name]

    async def run() -> None:
        async with peer(fleet, "dispatcher") as impostor:
            await impostor.link.send([Packet(topic, body) for body in unreadable])
            assert await impostor.link.drain(30)
        await run_good_job(fleet)

    asyncio.run(run())
    worker = fleet.workers[0]
    worker.await_event("message_refused", len(unreadable), topic=topic)
    assert len({event["reason"] for event in worker.events("message_refused") if event["topic"] == topic}) > 4
    assert worker.alive


@pytest.mark.parametrize("action", ["explode", "reload"])  # the latter is what an older dispatcher might send
def test_a_worker_refuses_an_unknown_action(fleet: Fleet, action: str) -> None:
    topic = topics.of_worker(TopicKind.CONTROL, WorkerId("host-1"))

    async def run() -> None:
        async with peer(fleet, "dispatcher") as impostor:
            await impostor.link.send([Packet(topic, b'{"schema": 1, "action": "%s"}' % action.encode())])
        await run_good_job(fleet)

    asyncio.run(run())
    reason = f"action: '{action}' is not one of cancel, drain, resume"
    fleet.workers[0].await_event("message_refused", topic=topic, reason=reason)


def test_a_forged_assignment_changes_nothing(fleet: Fleet) -> None:
    host = WorkerId("host-1")
    lease = Assignment(JobId("never-made"), JobType("echo"), 1, Token("feedfeedfeedfeed"), 10.0, "1")

    async def run() -> None:
        async with peer(fleet, "dispatcher") as impostor:
            await impostor.link.send([codec.encode(Assign(host, 30.0, (lease,)))])
        await asyncio.to_thread(fleet.dispatcher.await_event, "report_stale", job="never-made")
        await run_good_job(fleet)
        async with fleet.client() as client:
            assert await client.query(["never-made"]) == []

    asyncio.run(run())
