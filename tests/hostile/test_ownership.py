"""A submitter is after the jobs of another one: their IDs, their unique keys, their results and their answers."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from stockworker.client import Client, make_submission
from stockworker.errors import AccessDenied
from stockworker.protocol import codec
from stockworker.protocol.ids import ClientId, JobId, JobType, UniqueKey, WorkerId
from stockworker.protocol.job import Priority
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Answer,
    CancelJob,
    Message,
    Progress,
    Query,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Reply,
    Stats,
    StatsRequest,
    Submission,
    Submit,
)
from stockworker.protocol.packet import Packet, Properties
from tests.harness.attacks import EVIL_CLIENT, EVIL_WORKER, attack, run_good_job
from tests.harness.fleet import Fleet, owned
from tests.harness.jobs import as_client, end_of, run_job, until_running
from tests.harness.peer import Peer, connected
from tests.harness.waiting import TIMEOUT_S, until

EVIL = ClientId(EVIL_CLIENT)
VICTIM = ClientId("client")
REPORT = JobId("daily-report")
ECHO = JobType("echo")
TO_EVIL = Reply(EVIL, "1")
TRIES = 50


def job(job_id: str, payload: str = '"evil"', **options: object) -> Submission:
    return Submission(JobId(job_id), ECHO, Priority.NORMAL, payload, **options)  # type: ignore[arg-type] # options by name


def taking_jobs(*job_ids: str) -> list[Message]:
    """Everything that a client can send about jobs of others, on all topics that it may write."""
    owners: Sequence[ClientId | None] = (EVIL, None)
    messages: list[Message] = []
    for job_id in job_ids:
        messages += [Submit((job(job_id),), TO_EVIL, client_id) for client_id in owners]
        messages += [CancelJob(JobId(job_id), TO_EVIL, client_id) for client_id in owners]
        messages.append(Query((JobId(job_id),), None, with_results=True, reply=TO_EVIL, explain=True))
    messages.append(Query((), JobFilter(limit=1000), with_results=True, reply=TO_EVIL))
    return messages


def as_evil(fleet: Fleet, messages: Sequence[Message], answers: int | None = None) -> Peer:
    """Send all messages; wait for an answer to each, and return what evil has received on all topics."""

    async def run() -> Peer:
        evil = Peer(fleet.broker, EVIL, ("#",))
        async with connected([evil]):
            await evil.link.send([codec.encode(message) for message in messages])
            assert await evil.link.drain(TIMEOUT_S)
            expected = len(messages) if answers is None else answers
            await evil.until(lambda: len(answers_to(evil)) >= expected)
        return evil

    return asyncio.run(run())


def answers_to(evil: Peer) -> list[Receipt | Answer | Stats]:
    heard = (item.packet for item in evil.received if item.packet.topic == f"jobs/receipt/{EVIL}")
    return [message for message in map(codec.decode, heard) if isinstance(message, Receipt | Answer | Stats)]


@attack(EVIL_CLIENT)
def take_jobs_of_others(fleet: Fleet) -> None:
    as_evil(fleet, TRIES * taking_jobs(owned(REPORT), owned("other")), answers=0)


def submit_as_many_jobs(fleet: Fleet) -> None:
    async def run() -> None:
        async with fleet.client(EVIL_CLIENT) as client:
            await client.submit_many([make_submission("echo", "work") for _ in range(10 * TRIES)])

    asyncio.run(run())


@attack(EVIL_CLIENT, work=submit_as_many_jobs)
def answer_in_the_dispatchers_place(fleet: Fleet) -> None:
    """Have receipts of own jobs sent to the victim, for each correlation that it may use."""
    packets = [
        Packet(
            "jobs/queue/normal/echo",
            b'"evil"',
            properties=Properties(None, f"jobs/receipt/{VICTIM}", f"{number}".encode()),
        )
        for number in range(10 * TRIES)
    ]

    async def run() -> None:
        evil = Peer(fleet.broker, EVIL, ())
        async with connected([evil]):
            await evil.link.send(packets)
            # Name the attacker: the bare topics do not, and its own topic does.
            await evil.link.send([codec.encode(CancelJob(JobId(owned("any")), TO_EVIL, EVIL))])
            assert await evil.link.drain(TIMEOUT_S)

    asyncio.run(run())


# --- IDs and unique keys ----------------------------------------------------------------------------------------------


def test_the_first_to_submit_an_id_does_not_take_it_from_others(fleet: Fleet) -> None:
    mine = [
        Submit((job(REPORT),), TO_EVIL, EVIL),
        Submit((job(REPORT),), TO_EVIL),
        Submit((job(owned(REPORT)),), TO_EVIL, EVIL),
        Submit((job(owned(REPORT)),), TO_EVIL),
    ]
    told = {
        (entry.job_id, entry.status)
        for answer in answers_to(as_evil(fleet, mine))
        if isinstance(answer, Receipt)
        for entry in answer.entries
    }
    assert told == {
        (f"{EVIL}:{REPORT}", ReceiptStatus.STORED),
        (REPORT, ReceiptStatus.STORED),
        (owned(REPORT), ReceiptStatus.REJECTED),
    }
    fleet.dispatcher.await_event("job_rejected", client=EVIL, job=owned(REPORT))

    async def victim(client: Client) -> tuple[ReceiptEntry, object]:
        (entry,) = await client.submit_many([Submission(REPORT, ECHO, Priority.NORMAL, '"mine"')])
        return entry, await client.result(REPORT, timeout_s=TIMEOUT_S)

    entry, result = as_client(fleet, victim)
    assert entry == ReceiptEntry(REPORT, ReceiptStatus.STORED)
    assert isinstance(result, dict)
    assert result["payload"] == "mine"


def test_a_parked_job_does_not_block_a_unique_key_of_others(fleet: Fleet) -> None:
    parked = job("parked", unique=UniqueKey("nightly"), tags=frozenset({"on-the-moon"}))
    as_evil(fleet, [Submit((parked,), TO_EVIL, EVIL), Submit((parked,), TO_EVIL)])
    ended, outcomes = run_job(fleet, "echo", "mine", unique="nightly")
    assert (ended.state, outcomes) == (State.COMPLETED, ["ok"])


# --- reading and cancelling -------------------------------------------------------------------------------------------


def test_jobs_of_others_are_neither_shown_nor_cancelled(fleet: Fleet) -> None:
    async def victim(client: Client) -> str:
        job_id = await client.submit("echo", "private", tags=["on-the-moon"], id="waits")
        evil = await asyncio.to_thread(as_evil, fleet, taking_jobs(owned(job_id)))
        shown = [answer for answer in answers_to(evil) if isinstance(answer, Answer)]
        ids = {view.job_id for answer in shown for view in answer.jobs} | {
            story.job_id for answer in shown for story in answer.explanations
        }
        assert not [job_id for job_id in ids if job_id.startswith(f"{VICTIM}:")]
        (view,) = await client.query([job_id])
        assert (view.state, view.cancel_requested) == (State.QUEUED, False)
        await client.cancel(job_id)
        return job_id

    job_id = as_client(fleet, victim)
    for request in ("cancel", "query"):
        fleet.dispatcher.await_event("access_refused", client=EVIL, job=owned(job_id), request=request)


def test_a_result_reaches_only_its_owner(fleet: Fleet) -> None:
    async def run() -> tuple[Peer, object]:
        evil = Peer(fleet.broker, EVIL, ("#", "jobs/completed/#", "jobs/progress/#", "system/monitor"))
        async with connected([evil]), fleet.client() as client:
            job_id = await client.submit("echo", "private")
            result = await client.result(job_id, timeout_s=TIMEOUT_S)
            await evil.link.send([codec.encode(Submit((job("shown"),), TO_EVIL))])
            await evil.until(lambda: any(item.packet.topic == "jobs/completed/shown" for item in evil.received))
        return evil, result

    evil, result = asyncio.run(run())
    assert "private" in json.dumps(result)
    assert [item.packet.topic for item in evil.received if b"private" in item.packet.body] == []
    assert [item.packet.topic for item in evil.received if f"{VICTIM}:" in item.packet.topic] == []


@pytest.mark.parametrize("topic", ["operators/query/{}", "operators/cancel/client:j/{}", "jobs/cancel/client:j/client"])
def test_topics_of_operators_and_of_other_clients_are_denied(fleet: Fleet, topic: str) -> None:
    async def run() -> set[str]:
        evil = Peer(fleet.broker, EVIL, ())
        async with connected([evil]):
            await evil.publish([topic.format(EVIL)], b"{}")
        return evil.denied

    assert asyncio.run(run()) == {topic.format(EVIL)}


def test_commands_say_that_the_job_belongs_to_another_client(fleet: Fleet) -> None:
    async def run() -> None:
        async with fleet.client(EVIL) as evil:
            for ask, verb in ((evil.cancel, "cancel"), (evil.result, "read"), (evil.explain, "read")):
                with pytest.raises(AccessDenied, match=f"belongs to client; only client or an operator may {verb} it"):
                    await ask(owned("any"))

    asyncio.run(run())


def test_an_operator_reads_and_cancels_jobs_of_all(fleet: Fleet) -> None:
    as_client(fleet, lambda client: client.submit("echo", tags=["on-the-moon"], id="of-the-client"))

    async def act(operator: Client) -> tuple[set[JobId], list[JobId], ReceiptStatus]:
        listed = {view.job_id for view in await operator.list(JobFilter(limit=1000))}
        found = [view.job_id for view in await operator.query([owned("of-the-client")])]
        return listed, found, (await operator.cancel(owned("of-the-client"))).status

    listed, found, status = as_client(fleet, act, "operator")
    assert owned("of-the-client") in listed
    assert (found, status) == ([owned("of-the-client")], ReceiptStatus.CANCELLED)


def test_a_shared_job_is_read_and_cancelled_by_all_clients(fleet: Fleet) -> None:
    """The dispatcher can't know who submitted on a bare topic. So clients do not use these topics."""
    as_evil(fleet, [Submit((job("for-all", tags=frozenset({"on-the-moon"})),), TO_EVIL)])

    async def act(client: Client) -> tuple[list[str], ReceiptStatus]:
        return [view.job_id for view in await client.query([":for-all"])], (await client.cancel(":for-all")).status

    assert as_client(fleet, act) == ([":for-all"], ReceiptStatus.CANCELLED)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_statistics_show_no_address(fleet: Fleet) -> None:
    async def run() -> Peer:
        evil = Peer(fleet.broker, EVIL, ("#",))
        async with connected([evil]), fleet.client() as client:
            await client.stats()
            await evil.link.send([codec.encode(StatsRequest(TO_EVIL)), codec.encode(StatsRequest(TO_EVIL, EVIL))])
            await evil.until(lambda: len([True for message in evil.messages() if isinstance(message, Stats)]) >= 2)
        return evil

    evil = asyncio.run(run())
    heard = {item.packet.topic: item.packet for item in evil.received}
    assert heard["system/stats/response"].properties == Properties()
    assert b"correlation" not in heard["system/stats/response"].body
    assert heard[f"jobs/receipt/{EVIL}"].properties.correlation_data == b"1"
    assert not [item for item in evil.received if VICTIM.encode() in item.packet.body]


def test_answers_with_guessed_correlations_have_no_effect(fleet: Fleet) -> None:
    async def run() -> object:
        async with fleet.client() as victim:
            strike = asyncio.create_task(asyncio.to_thread(answer_in_the_dispatchers_place, fleet))
            done = [
                await victim.result(await victim.submit("echo", number), timeout_s=TIMEOUT_S) for number in range(5)
            ]
            await strike
            return [result["payload"] for result in done]

    assert asyncio.run(run()) == list(range(5))
    fleet.dispatcher.await_event("access_refused", client=EVIL)


def test_an_answer_goes_only_to_the_client_that_asked(fleet: Fleet) -> None:
    """On a topic with its client ID, evil can't choose where the answer goes."""

    async def run() -> tuple[Peer, Peer]:
        evil, victim = Peer(fleet.broker, EVIL, ("#",)), Peer(fleet.broker, VICTIM, (f"jobs/receipt/{VICTIM}",))
        properties = Properties(None, f"jobs/receipt/{VICTIM}", b"x", (("id", "astray"),))
        async with connected([evil, victim]):
            await evil.link.send([Packet(f"jobs/queue/low/echo/{EVIL}", b"1", properties=properties)])
            await evil.until(lambda: bool(answers_to(evil)))
        return evil, victim

    evil, victim = asyncio.run(run())
    assert [entry.job_id for answer in answers_to(evil) if isinstance(answer, Receipt) for entry in answer.entries] == [
        f"{EVIL}:astray"
    ]
    # Receipts of an earlier attack may still arrive.
    assert [item for item in victim.received if b"astray" in item.packet.body] == []


# --- progress ---------------------------------------------------------------------------------------------------------


def forged_progress(job_id: str) -> list[Packet]:
    return TRIES * [codec.encode(Progress(WorkerId(EVIL_WORKER), JobId(job_id), 1.0, "forged"))]


def test_progress_of_a_worker_that_does_not_have_the_job_is_not_shown(fleet: Fleet) -> None:
    heard: list[Progress] = []

    async def run() -> None:
        evil = Peer(fleet.broker, EVIL_WORKER, ())
        async with connected([evil]), fleet.client(on_progress=heard.append) as client:
            job_id = await client.submit("wait_for_cancel")
            waiting = asyncio.create_task(end_of(client, job_id))
            await until_running(client, job_id)
            await evil.link.send(forged_progress(owned(job_id)))
            assert await evil.link.drain(TIMEOUT_S)
            await until(lambda: heard, "honest progress")
            await evil.link.send(forged_progress(owned(job_id)))
            assert await evil.link.drain(TIMEOUT_S)
            await client.cancel(job_id)
            await waiting

    asyncio.run(run())
    assert {each.worker_id for each in heard} <= {"host-1", "host-2"}
    assert not [each for each in heard if each.text == "forged"]


def test_honest_work_goes_on(fleet: Fleet) -> None:
    take_jobs_of_others(fleet)
    run_good_job(fleet)
