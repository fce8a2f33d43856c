"""Answers that a peer makes long or many: large results, many queries, long lists. Work goes on; others get answers."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from stockworker.dispatcher.effects import Save, SaveJob
from stockworker.dispatcher.store_sqlite import SqliteJobStore
from stockworker.protocol import codec
from stockworker.protocol.ids import ClientId, JobId, JobType, WorkerId
from stockworker.protocol.job import Priority
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    MAX_EXPLAINED,
    Message,
    Query,
    Reply,
    Request,
    Stats,
    StatsRequest,
    Submission,
    Submit,
)
from tests.harness import command
from tests.harness.attacks import EVIL_CLIENT, EVIL_WORKER, attack, connections_lost, counted, run_good_job
from tests.harness.dispatching import MIDDAY, a_job
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.peer import Peer, connected
from tests.harness.waiting import TIMEOUT_S, wait_until

RESULTS, RESULT_BYTES = 300, 230_000
QUERIES = 500


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose store has many large results. Its service manager expects a sign of life twice a second."""
    settings = {"handlers": python_handlers("echo")}
    folder = tmp_path_factory.mktemp("fleet")
    fleet = Fleet(folder, settings=settings, clients=("client", EVIL_CLIENT), watchdog_s=10.0)
    with closing(SqliteJobStore(fleet.job_store)) as store:
        for number in range(1, RESULTS + 1):
            job = replace(a_job(JobId(f"old-{number}"), State.COMPLETED, sequence=number), ended_at=MIDDAY + 4e8)
            saves: list[Save] = [SaveJob(job, "{}", '"' + "x" * RESULT_BYTES + '"')]
            store.commit(saves)
    with fleet:
        yield fleet


def flood(fleet: Fleet, *messages: Message, as_name: str = EVIL_CLIENT) -> None:
    """Publish as the attacker."""

    async def run() -> None:
        evil = Peer(fleet.broker, as_name, ())
        async with connected([evil]):
            await evil.link.send([codec.encode(message) for message in messages])
            assert await evil.link.drain(TIMEOUT_S)
        assert evil.denied == set()

    asyncio.run(run())


def reply(number: int) -> Reply:
    return Reply(ClientId(EVIL_CLIENT), str(number))


@attack(EVIL_CLIENT)
def ask_for_all_results(fleet: Fleet) -> None:
    """A small message that asks for all results of the store, many times."""
    wanted = JobFilter(limit=1000)
    flood(fleet, *(Query((), wanted, with_results=True, reply=reply(number)) for number in range(QUERIES)))


@attack(EVIL_CLIENT)
def ask_why(fleet: Fleet) -> None:
    """Each answer takes a look at each worker for each job."""
    ids = tuple(JobId(f"old-{number}") for number in range(1, MAX_EXPLAINED + 1))
    flood(
        fleet,
        *(Query(ids, None, with_results=True, reply=reply(number), explain=True) for number in range(QUERIES)),
    )


@attack(EVIL_CLIENT)
def ask_for_statistics(fleet: Fleet) -> None:
    """Statistics are as long as the fleet is large."""
    flood(fleet, *(StatsRequest(reply(number), ClientId(EVIL_CLIENT)) for number in range(QUERIES)))


@pytest.mark.parametrize("strike", [ask_for_all_results, ask_why, ask_for_statistics])
def test_a_client_that_asks_too_much_delays_only_itself(fleet: Fleet, strike: object) -> None:
    assert callable(strike)
    dropped, lost = counted(fleet, "queries_dropped"), connections_lost(fleet)
    strike(fleet)
    run_good_job(fleet)
    # A flood enters in many small turns, and some of it is answered meanwhile: how much depends on the machine.
    assert counted(fleet, "queries_dropped") > dropped
    (logged,) = {line["client"] for line in fleet.dispatcher.events("queries_dropped")}
    assert logged == EVIL_CLIENT
    assert connections_lost(fleet) == lost
    manager = fleet.dispatcher.manager
    assert manager is not None
    assert "WATCHDOG=trigger" not in manager.assignments


def test_others_are_answered_while_the_attacker_waits(fleet: Fleet) -> None:
    ask_for_all_results(fleet)

    async def run() -> None:
        async with fleet.client() as client:
            newest = await client.list(JobFilter(State.COMPLETED, limit=5))
            assert len(newest) == 5
            (view,) = await client.query([":old-1"], with_results=True)
            assert len(view.result or "") == RESULT_BYTES + 2
            assert (await client.explain(":old-1")).why == ("it is completed",)

    asyncio.run(run())


# --- long lists -------------------------------------------------------------------------------------------------------

MANY_TYPES = [JobType(f"{'0' * 55}-{number:06}") for number in range(400)]


@attack(EVIL_WORKER)
def offer_many_types(fleet: Fleet) -> None:
    """A worker whose list of types alone fills the list of workers."""
    types = tuple(JobType(f"{'0' * 55}-{number:06}") for number in range(2_500))
    request = Request(WorkerId(EVIL_WORKER), "boot", 1, 0, types, (), "0", ())
    flood(fleet, request, as_name=EVIL_WORKER)


@attack(EVIL_CLIENT)
def submit_many_types(fleet: Fleet) -> None:
    """Job types that no worker runs, with names that are sorted before others."""
    jobs = [Submission(None, job_type, Priority.NORMAL, "1") for job_type in MANY_TYPES]
    flood(fleet, *(Submit((job,), reply(number)) for number, job in enumerate(jobs)))


def test_long_lists_hide_neither_workers_nor_queues(fleet: Fleet) -> None:
    async def run() -> Stats:
        async with fleet.client() as client:
            await client.submit("echo", 1, tags=["nowhere"])
            return await client.stats()

    offer_many_types(fleet)
    submit_many_types(fleet)
    wait_until(lambda: counted(fleet, "jobs_stored") >= len(MANY_TYPES), "all jobs are stored", TIMEOUT_S)
    stats = asyncio.run(run())
    by_name = {worker.worker_id: worker for worker in stats.workers}
    assert {"host-1", "host-2", EVIL_WORKER} <= by_name.keys()
    assert "echo" in by_name[WorkerId("host-1")].types
    evil = by_name[WorkerId(EVIL_WORKER)]
    assert len(evil.types) + evil.types_omitted == 2_500
    queues = {queue.type: queue for queue in stats.queues}
    assert queues[JobType("echo")].workers == 2
    assert len(queues) + stats.queues_omitted == len(MANY_TYPES) + 1
    shown = command.run(fleet.config_file("client"), "stats").output
    assert f"… and {stats.queues_omitted} more queues" in shown
    assert "2,500 types: 000" in shown
    run_good_job(fleet)


# --- long turns -------------------------------------------------------------------------------------------------------

JOBS_OF_MESSAGE, MESSAGES = 256, 128


@attack(EVIL_CLIENT)
def submit_as_fast_as_possible(fleet: Fleet) -> None:
    """Few messages, with as many jobs as they can hold: they fill the window of the dispatcher's connection."""
    job = Submission(None, JobType("unserved"), Priority.HIGH, "1")
    client = ClientId(EVIL_CLIENT)
    flood(fleet, *(Submit((job,) * JOBS_OF_MESSAGE, reply(number), client) for number in range(MESSAGES)))


def test_a_flood_of_jobs_does_not_hold_up_the_messages_of_others(fleet: Fleet) -> None:
    before = handled(fleet)

    async def run() -> None:
        async with fleet.client() as client:
            await asyncio.to_thread(submit_as_fast_as_possible, fleet)
            await client.result(await client.submit("echo", 1), timeout_s=TIMEOUT_S)

    asyncio.run(run())
    wait_until(lambda: handled(fleet) - before > JOBS_OF_MESSAGE * MESSAGES, "the flood is handled", TIMEOUT_S)
    run_good_job(fleet)
    manager = fleet.dispatcher.manager
    assert manager is not None
    assert "WATCHDOG=trigger" not in manager.assignments


def handled(fleet: Fleet) -> int:
    """How many submitted jobs the dispatcher has stored or rejected."""
    return sum(counted(fleet, counter) for counter in ("jobs_stored", "submissions_rejected"))
