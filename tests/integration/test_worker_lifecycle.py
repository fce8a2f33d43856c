"""Workers start, stop and are killed in a real fleet: no job is lost, and no job is blamed for a crash that it did not cause."""

import asyncio
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockworker.client import Client, make_submission
from stockworker.protocol.lifecycle import State
from tests.harness.fleet import Fleet, Service, python_handlers
from tests.harness.jobs import as_client, end_of, run_job, until_running
from tests.harness.processes import is_alive, wait_until_gone
from tests.harness.waiting import until, wait_until

LEASE_S = 2


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Two workers with one slot each, which wait for a moment when they are stopped."""
    functions = ("echo", "hang_in_c", "hang_with_family", "nothing", "wait_for_cancel", "wait_for_file")
    settings: dict[str, Any] = {
        "worker": {"max_concurrent_jobs": 1, "stop_grace": 0.1, "drain_timeout": 30, "poll_interval": 0.5},
        "dispatcher": {"lease": LEASE_S},
        "handlers": python_handlers(*functions),
    }
    with Fleet(tmp_path / "fleet", settings=settings) as fleet:
        yield fleet


async def worker_of(fleet: Fleet, client: Client, job_id: str) -> tuple[Service, Service]:
    """The worker that runs the job, and the other one."""
    await until_running(client, job_id)
    (view,) = await client.query([job_id])
    first, second = fleet.workers
    return (first, second) if view.worker == "host-1" else (second, first)


def signal_stop(worker: Service) -> None:
    worker.send_signal(signal.SIGTERM)
    worker.await_event("drain_started")


def test_a_stopped_worker_finishes_running_jobs_and_releases_waiting_ones(fleet: Fleet, tmp_path: Path) -> None:
    worker, other = fleet.workers
    assert other.stop() == 0

    async def run(client: Client) -> None:
        # Run many short jobs: from now on the worker prefetches.
        short = await client.submit_many(make_submission("nothing") for _ in range(200))
        assert len([ended async for ended in client.wait([entry.job_id or "" for entry in short], 30)]) == 200
        await client.submit("wait_for_file", str(tmp_path / "go"), id="runs", priority="high")
        await until_running(client, "runs")
        await client.submit_many(make_submission("echo", id=f"waits-{number}") for number in range(3))
        waiting = "SELECT count(*) FROM attempt WHERE job_id LIKE '%:waits-%' AND outcome IS NULL"
        await until(lambda: fleet.stored(waiting) == [(3,)], "the others wait on the worker")
        await asyncio.to_thread(signal_stop, worker)
        given_back = "SELECT count(*) FROM job WHERE id LIKE '%:waits-%' AND state = 'queued'"
        await until(lambda: fleet.stored(given_back) == [(3,)], "they are given back")
        assert (await client.query(["runs"]))[0].state is State.RUNNING
        (tmp_path / "go").touch()
        assert (await end_of(client, "runs")).state is State.COMPLETED
        assert await asyncio.to_thread(worker.wait) == 0
        other.start()
        for number in range(3):
            assert (await end_of(client, f"waits-{number}")).state is State.COMPLETED

    as_client(fleet, run)
    assert fleet.outcomes("runs") == ["ok"]
    for number in range(3):
        assert fleet.outcomes(f"waits-{number}") == ["released", "ok"]
    assert fleet.stored("SELECT DISTINCT failures, crashes FROM job") == [(0, 0)]
    fleet.dispatcher.await_event("worker_left", worker="host-1")


def test_a_worker_past_its_drain_time_out_releases_its_running_job(fleet: Fleet, tmp_path: Path) -> None:
    for host in ("host-1", "host-2"):
        fleet.reconfigure(host, "worker", drain_timeout=0.2)
    for worker in fleet.workers:
        assert worker.stop() == 0
        worker.start()

    async def run(client: Client) -> None:
        job_id = await client.submit("wait_for_file", str(tmp_path / "go"), id="moves", max_attempts=1)
        worker, other = await worker_of(fleet, client, job_id)
        assert await asyncio.to_thread(worker.stop) == 0
        assert (await worker_of(fleet, client, job_id))[0] is other
        (tmp_path / "go").touch()
        assert (await end_of(client, job_id)).state is State.COMPLETED

    as_client(fleet, run)
    assert fleet.outcomes("moves") == ["released", "ok"]
    assert fleet.stored("SELECT failures, crashes FROM job") == [(0, 0)]


def test_sighup_adds_a_job_type_and_refuses_a_broken_configuration(fleet: Fleet) -> None:
    worker, other = fleet.workers
    assert other.stop() == 0
    good = fleet.config_file("host-1").read_text()
    fleet.reconfigure("host-1", "handlers", nonsense={"colour": "blue"})
    worker.send_signal(signal.SIGHUP)
    assert "nonsense" in worker.await_event("config_refused")["problem"]
    assert run_job(fleet, "echo")[1] == ["ok"]
    fleet.config_file("host-1").write_text(good)
    fleet.reconfigure("host-1", "handlers", length={"python": "job_handlers:length"})
    worker.send_signal(signal.SIGHUP)
    worker.await_event("config_reloaded")
    ended, outcomes = run_job(fleet, "length", "four")
    assert (ended.result, outcomes) == ("4", ["ok"])


def test_the_children_of_a_killed_worker_exit_and_its_job_runs_elsewhere(fleet: Fleet) -> None:
    async def run(client: Client) -> None:
        job_id = await client.submit("hang_with_family")
        worker, other = await worker_of(fleet, client, job_id)
        family = await asyncio.to_thread(_family, worker)
        assert len(family) == 3
        assert all(map(is_alive, family))
        await asyncio.to_thread(worker.kill)
        await asyncio.to_thread(wait_until_gone, *family)
        heirs = await asyncio.to_thread(_family, other)
        assert not set(heirs) & set(family)
        await client.cancel(job_id)
        assert (await end_of(client, job_id)).state is State.CANCELLED
        assert fleet.outcomes(job_id) == ["lost", "cancelled"]
        await asyncio.to_thread(wait_until_gone, *heirs)

    as_client(fleet, run)
    fleet.dispatcher.await_event("lease_expired")


def _family(worker: Service) -> list[int]:
    """The processes that the job `hang_with_family` has reported."""
    pattern = re.compile(r"[0-9]+ [0-9]+ [0-9]+")

    def told() -> list[str]:
        messages = [event["message"] for event in worker.events("handler_log")]
        return [message for message in messages if pattern.fullmatch(message)]

    wait_until(told, f"{worker.name} runs the family")
    return [int(pid) for pid in told()[-1].split()]


def test_a_restarted_worker_reports_lost_jobs_before_their_leases_expire(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "worker": {"max_concurrent_jobs": 1},
        "dispatcher": {"lease": 600, "job_defaults": {"backoff": 600, "max_attempts": 1}},
        "handlers": python_handlers("wait_for_file"),
    }
    with Fleet(tmp_path / "fleet", workers=1, settings=settings) as fleet:
        (worker,) = fleet.workers

        async def run(client: Client) -> None:
            job_id = await client.submit("wait_for_file", str(tmp_path / "go"), id="again")
            await until_running(client, job_id)
            await asyncio.to_thread(worker.kill)
            worker.start()
            (tmp_path / "go").touch()
            assert (await end_of(client, job_id)).state is State.COMPLETED

        as_client(fleet, run)
        assert fleet.outcomes("again") == ["lost", "ok"]


def test_a_job_longer_than_its_lease_stays_at_its_worker_even_if_it_holds_the_gil(fleet: Fleet) -> None:
    ended, outcomes = run_job(fleet, "hang_in_c", timeout_s=3.2 * LEASE_S, max_attempts=1)
    assert (ended.state, outcomes) == (State.FAILED, ["timed_out"])
    assert (ended.reason or "").startswith("not done after 6.4 s")
    assert fleet.dispatcher.events("lease_expired") == []
