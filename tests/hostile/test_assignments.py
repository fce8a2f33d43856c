"""The broker or the dispatcher floods a worker with assignments: its disk and its memory stay bounded."""

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from secrets import token_hex

import pytest

from stockworker.protocol import codec
from stockworker.protocol.body import MAX_CONTENT, MAX_LEASES
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.messages import Assign, Assignment
from tests.harness.attacks import run_good_job
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.peer import Peer, connected
from tests.harness.waiting import TIMEOUT_S

VICTIM = WorkerId("host-1")
QUOTA_BYTES = 1 << 20


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {
        "handlers": python_handlers("echo", "wait_for_file"),
        "worker": {"max_concurrent_jobs": 2, "journal_quota": "1M"},
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1, settings=settings) as fleet:
        yield fleet


def flood(fleet: Fleet, sizes: Iterable[int], at_once: int) -> None:
    """Assign jobs with payloads of these sizes, with the dispatcher's certificate, as a compromised broker could."""
    leases = [
        Assignment(JobId(token_hex(8)), JobType("wait_for_file"), 1, Token(token_hex(8)), 600.0, f'"{"x" * size}"')
        for size in sizes
    ]

    async def run() -> None:
        evil = Peer(fleet.broker, "dispatcher", ())
        async with connected([evil]):
            await evil.link.send(
                [
                    codec.encode(Assign(VICTIM, 600.0, tuple(leases[start : start + at_once])))
                    for start in range(0, len(leases), at_once)
                ]
            )
            assert await evil.link.drain(TIMEOUT_S)

    asyncio.run(run())


def journal(fleet: Fleet) -> tuple[int, int]:
    """How many leases the journal has, and the bytes of their payloads."""
    with closing(sqlite3.connect(fleet.journal(VICTIM))) as connection:
        rows, size = connection.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM lease").fetchone()
    return rows, size


@pytest.mark.parametrize(
    ("sizes", "at_once"),
    [([200_000] * 200, 1), ([10] * 3000, 64)],
    ids=["40 MB of payloads", "3000 small ones"],
)
def test_assignments_beyond_the_bounds_are_given_back(fleet: Fleet, sizes: list[int], at_once: int) -> None:
    (worker,) = fleet.workers
    before = len(worker.events("assignments_refused"))
    flood(fleet, sizes, at_once)
    refused = worker.await_event("assignments_refused", before + 1)
    rows, size = journal(fleet)

    assert rows <= MAX_LEASES
    assert size <= max(QUOTA_BYTES, 2 * MAX_CONTENT)
    assert refused["leases"] <= MAX_LEASES
    assert refused["payload_bytes"] <= QUOTA_BYTES
    # The dispatcher knows none of the leases, and has the worker drop them.
    run_good_job(fleet)
    assert fleet.journal(VICTIM).stat().st_size < 8 * QUOTA_BYTES
    assert worker.alive
