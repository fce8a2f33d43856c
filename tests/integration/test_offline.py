"""A worker is offline and killed twice: it runs its prefetched jobs, keeps results within the quota, and they are accepted."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockworker.client import Client, make_submission
from stockworker.protocol.lifecycle import State
from tests.harness.fleet import Fleet, owned, python_handlers
from tests.harness.jobs import as_client, end_of, until_explained, until_running

SLOTS, AHEAD = 2, 8
RESULT_BYTES = 230_000
"""Four of these results fit into the smallest quota, five do not."""

GATES = [f"gate-{number}" for number in range(4)]
LARGE = [f"large-{number}" for number in range(5)]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Two workers, each with its own connection to the broker."""
    settings: dict[str, Any] = {
        "worker": {"max_concurrent_jobs": SLOTS, "poll_interval": 0.5, "journal_quota": "1M", "stop_grace": 0.1},
        "dispatcher": {
            "lease": 2,
            "types": {name: {"prefetch": AHEAD, "prefetch_validity": "48h"} for name in ("wait_for_file", "large")},
            "job_defaults": {"backoff": 0.01},
        },
        "handlers": python_handlers("wait_for_cancel", "wait_for_file", "large"),
        "log": {"level": "debug"},
    }
    with Fleet(tmp_path / "fleet", settings=settings, proxied=True) as fleet:
        yield fleet


async def stock_up(client: Client, gates: Path) -> None:
    """A worker runs a job of a type without prefetching and the first gate; all other jobs wait on it.

    A crash would end a large job, so that none of them waits where the crash of the worker counts against it.
    """
    await client.submit("wait_for_cancel", id="ordinary")
    await until_running(client, "ordinary")
    await client.submit_many(make_submission("wait_for_file", str(gates / gate), id=gate) for gate in GATES)
    await client.submit_many(make_submission("large", RESULT_BYTES, id=job_id, max_crashes=1) for job_id in LARGE)
    await until_explained(client, LARGE[-1], "worker host-1 has it waiting for a free slot")


def work_offline(fleet: Fleet, gates: Path) -> None:
    """The worker is offline; it is killed twice while it runs two jobs, and then runs the others."""
    worker = fleet.workers[0]
    worker.kill()
    worker.start()
    (gates / GATES[1]).touch()
    worker.await_event("attempt_completed", job=owned(GATES[1]))
    worker.kill()
    worker.start()
    for job_id in LARGE:
        worker.await_event("attempt_completed", job=owned(job_id))
    worker.await_event("result_evicted")


def test_prefetched_jobs_survive_an_outage_and_two_crashes(fleet: Fleet, tmp_path: Path) -> None:
    worker, other = fleet.workers
    assert other.stop() == 0

    async def run(client: Client) -> None:
        await stock_up(client, tmp_path)
        fleet.proxies["host-1"].swallow()
        fleet.proxies["host-1"].reset()
        other.start()
        await asyncio.to_thread(fleet.dispatcher.await_event, "lease_expired", job=owned("ordinary"))
        await asyncio.to_thread(work_offline, fleet, tmp_path)
        await until_running(client, "ordinary")
        views = await client.query([*GATES, *LARGE])
        assert {(view.worker, view.attempt) for view in views} == {("host-1", 1)}
        for gate in GATES:
            (tmp_path / gate).touch()
        fleet.proxies["host-1"].heal()
        for job_id in (*GATES, *LARGE):
            assert (await end_of(client, job_id)).state is State.COMPLETED
        assert [await client.result(job_id) for job_id in LARGE] == ["x" * RESULT_BYTES] * len(LARGE)
        await client.cancel("ordinary")
        assert (await end_of(client, "ordinary")).state is State.CANCELLED

    as_client(fleet, run)
    (evicted,) = worker.events("result_evicted")
    expected = {job_id: ["ok"] for job_id in (GATES[1], *LARGE)}
    expected |= {job_id: ["lost", "ok"] for job_id in (GATES[0], *GATES[2:])}
    expected |= {evicted["job"].removeprefix("client:"): ["error", "ok"]}
    assert {job_id: fleet.outcomes(job_id) for job_id in expected} == expected
    assert fleet.outcomes("ordinary") == ["lost", "cancelled"]
    assert {line["job"] for line in fleet.dispatcher.events("lease_expired")} == {owned("ordinary")}
    ((error,),) = fleet.stored("SELECT error FROM attempt WHERE outcome = 'error'")
    assert error.startswith(f"its result ({RESULT_BYTES + 2} bytes) was evicted")
