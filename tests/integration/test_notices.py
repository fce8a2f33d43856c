"""The notice of a job reaches the connection that submitted it, and callers that wait for it, but no other client."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from stockworker.adapters import mqtt
from stockworker.broker import acl as access_list
from stockworker.client import Client
from stockworker.client import api as client_module
from stockworker.client.submission import make_submission
from stockworker.protocol import codec
from stockworker.protocol.ids import ClientId, JobId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Answer, Message, Notice, Query, Receipt, ReceiptEntry, ReceiptStatus, Submit
from stockworker.protocol.topics import TOPICS, Role, TopicKind, subscriptions
from stockworker.protocol.views import JobView
from tests.harness.broker import Broker
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.peer import Peer, connected
from tests.harness.waiting import until

LARGE = "x" * 20_000
JOBS = 20
CONNECTIONS = 10


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {"handlers": python_handlers("echo", "wait_for_file")}
    folder = tmp_path_factory.mktemp("fleet")
    with Fleet(folder, workers=1, settings=settings, clients=("client", "other")) as fleet:
        yield fleet


def record(client: Client) -> list[str]:
    """The topics of what a client receives from now on, besides answers."""
    link, topics = client._conversation._link, list[str]()
    deliver = link._deliver

    def note(item: mqtt.LinkItem) -> None:
        if isinstance(item, mqtt.Delivery) and not item.packet.topic.startswith(TopicKind.RECEIPT):
            topics.append(item.packet.topic)
        deliver(item)

    link._deliver = note
    return topics


def test_a_job_that_ends_costs_its_submitter_alone(fleet: Fleet) -> None:
    """However many clients are connected: even with the same certificate."""

    async def scenario() -> None:
        idle = [fleet.client(name) for name in ("client", "other") for _ in range(CONNECTIONS)]
        client = fleet.client()
        received, unrelated = record(client), list(map(record, idle))
        async with AsyncExitStack() as stack:
            for each in (client, *idle):
                await stack.enter_async_context(each)
            jobs = [make_submission("echo", {"text": LARGE, "number": number}) for number in range(JOBS)]
            entries = await client.submit_many(jobs)
            ended = [each async for each in client.wait([str(entry.job_id) for entry in entries], 60)]
            for each in idle:
                await each.stats()  # it reads this after all that the broker has sent it before
        assert {each.state for each in ended} == {State.COMPLETED}
        assert all(LARGE in (each.result or "") for each in ended)
        assert {topic.rpartition("/")[0] for topic in received} == {"jobs/notice/client"}
        assert unrelated == [[] for _ in idle]

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["short", LARGE], ids=["a small result", "a large result"])
def test_another_connection_of_the_client_gets_a_result_that_it_waits_for(
    fleet: Fleet, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_QUERY_S", 600.0)  # so it is not from a query after a silence
    flag = tmp_path / "end"

    async def scenario() -> None:
        async with fleet.client() as one, fleet.client() as other:
            before = await one.submit("wait_for_file", str(flag))
            job_id = await one.submit("echo", text)
            assert text in json.dumps(await other.result(job_id, 30))
            waits = asyncio.create_task(other.result(before, 30))
            await until(lambda: reads_public(other), "the client reads public notices")
            flag.touch()
            await waits

    asyncio.run(scenario())


def reads_public(client: Client) -> bool:
    return any(str(TopicKind.COMPLETED) in each for each in client._conversation._link._settings.subscriptions)


def test_a_shared_job_ends_for_a_client_that_waits_for_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_QUERY_S", 600.0)

    async def scenario() -> None:
        peer = Peer(fleet.broker, "other", ())
        async with fleet.client() as client, connected([peer]):
            shared = make_submission("echo", LARGE, id="bare")
            await peer.link.send([codec.encode(Submit((shared,), None))])
            assert await peer.link.drain(10)
            async with asyncio.timeout(30):
                while not await client.query([":bare"]):
                    pass
            assert LARGE in json.dumps(await client.result(":bare", 30))

    asyncio.run(scenario())


def test_a_client_gets_results_through_a_broker_with_an_older_access_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There no notice reaches it. So it queries after a while, and reads the public notices from then on."""
    monkeypatch.setattr(access_list, "TOPICS", [topic for topic in TOPICS if topic.kind is not TopicKind.NOTICE])
    monkeypatch.setattr(client_module, "_QUERY_S", 0.5)
    settings = {"handlers": python_handlers("echo")}

    async def scenario(fleet: Fleet) -> None:
        async with fleet.client() as client:
            received = record(client)
            for number in range(2):
                assert (await client.result(await client.submit("echo", number), 30))["payload"] == number
            assert [topic.rpartition("/")[0].partition(":")[0] for topic in received] == ["jobs/completed/client"]

    with Fleet(tmp_path, workers=1, settings=settings) as fleet:
        asyncio.run(scenario(fleet))


# --- other versions ---------------------------------------------------------------------------------------------------


class OlderDispatcher:
    """Answers as a dispatcher does that knows no notices for connections: each job ends immediately."""

    def __init__(self, broker: Broker) -> None:
        self.peer = Peer(broker, "dispatcher", subscriptions(Role.DISPATCHER, "dispatcher"))
        self.served = 0

    async def serve(self) -> None:
        received = self.peer.received
        while True:
            await self.peer.until(lambda: len(received) > self.served)
            delivery, self.served = received[self.served], self.served + 1
            await self.peer.link.send(list(map(codec.encode, answers(codec.decode(delivery.packet)))))


def answers(message: Message) -> list[Message]:
    match message:
        case Submit(jobs=(job,), reply=reply) if reply is not None and job.job_id is not None:
            receipt = Receipt(reply, (ReceiptEntry(job.job_id, ReceiptStatus.STORED),))
            return [receipt, Notice(job.job_id, job.type, State.COMPLETED, 1, None, job.payload)]
        case Query(ids=ids, reply=reply):
            return [Answer(reply, tuple(map(completed, ids)))]
        case _:
            return []


def completed(job_id: JobId) -> JobView:
    job = make_submission("echo")
    times = {"submitted_at": 0.0, "ready_at": 0.0, "ended_at": 1.0}
    counts = {"attempt": 1, "failures": 0, "crashes": 0}
    about = {"type": job.type, "priority": job.priority, "state": State.COMPLETED, "worker": None}
    return JobView(job_id, **times, **counts, **about, cancel_requested=False, reason=None, result='"queried"')  # type: ignore[arg-type]


def test_a_client_gets_results_from_an_older_dispatcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its receipts promise no notices: the client queries, and reads the public notices."""
    monkeypatch.setattr(client_module, "_QUERY_S", 600.0)

    async def scenario(fleet: Fleet) -> None:
        dispatcher = OlderDispatcher(fleet.broker)
        async with connected([dispatcher.peer]), fleet.client() as client:
            serving = asyncio.create_task(dispatcher.serve())
            assert await client.result(await client.submit("echo", 1), 30) == "queried"
            assert reads_public(client)
            serving.cancel()

    with Fleet(tmp_path, workers=0) as fleet:
        fleet.dispatcher.stop()
        asyncio.run(scenario(fleet))


def test_an_older_client_finds_small_results_in_public_notices_and_queries_large_ones(fleet: Fleet) -> None:
    """It can't read a public notice without the result, and asks after a while, as if the notice were lost."""

    async def scenario() -> None:
        older = Peer(fleet.broker, "other", (f"{TopicKind.COMPLETED}/+/other", f"{TopicKind.RECEIPT}/other"))
        async with connected([older]):
            for job_id, payload in (("small", "1"), ("large", LARGE)):
                job = replace(make_submission("echo", payload, id=job_id), job_id=JobId(f"other:{job_id}"))
                await older.link.send([codec.encode(Submit((job,), None, ClientId("other")))])
                notice = await older.until_message(
                    lambda found, full=job.job_id: isinstance(found, Notice) and found.job_id == full  # type: ignore[misc]
                )
                assert isinstance(notice, Notice)
                assert (notice.result is False) is (job_id == "large")

    asyncio.run(scenario())
