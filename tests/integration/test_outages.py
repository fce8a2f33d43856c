"""The broker or the dispatcher is down for a while: work continues, and every promise holds."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockworker.client import Client, make_submission
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus
from tests.harness.fleet import Fleet, Service, python_handlers
from tests.harness.jobs import as_client, end_of, until_running
from tests.harness.ledger import SETTING, Ledger
from tests.harness.waiting import until, wait_until

LOAD = 2_000


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def fleet(tmp_path: Path, ledger: Ledger) -> Iterator[Fleet]:
    settings: dict[str, Any] = {
        "worker": {"max_concurrent_jobs": 1, "stop_grace": 0.1, "poll_interval": 0.5},
        "dispatcher": {"lease": 2, "job_defaults": {"backoff": 0.01}},
        "log": {"level": "debug"},
        "handlers": {
            **python_handlers("wait_for_cancel", "wait_for_file"),
            "echo": {"python": "ledger:echo", "settings": {SETTING: str(ledger.path)}},
        },
    }
    with Fleet(tmp_path / "fleet", settings=settings) as fleet:
        yield fleet


def restart_dispatcher(fleet: Fleet) -> None:
    fleet.dispatcher.kill()
    fleet.dispatcher.start()


def finishers(fleet: Fleet) -> list[Service]:
    """The workers that have completed an attempt, from the files of the handlers."""
    return [worker for worker in fleet.workers if worker.events("attempt_completed")]


def test_a_job_stays_at_its_worker_through_kills_of_the_dispatcher(fleet: Fleet, tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        job_id = await client.submit("wait_for_file", str(tmp_path / "go"), id="steady")
        restart_dispatcher(fleet)  # it is queued, or has just been given out
        await until_running(client, job_id)
        restart_dispatcher(fleet)
        assert await client.submit("wait_for_file", str(tmp_path / "go"), id="steady") == job_id
        await until_running(client, job_id)
        fleet.dispatcher.kill()
        (tmp_path / "go").touch()
        await until(lambda: finishers(fleet), "the job has ended")
        fleet.dispatcher.start()
        assert (await end_of(client, job_id)).state is State.COMPLETED
        restart_dispatcher(fleet)
        (view,) = await client.query([job_id], with_results=True)
        assert (view.state, view.attempt, view.failures, view.crashes) == (State.COMPLETED, 1, 0, 0)
        assert json.loads(view.result or "") > 1

    as_client(fleet, run)
    assert fleet.outcomes("steady") == ["ok"]


def test_a_cancellation_survives_a_restart_of_the_dispatcher(fleet: Fleet) -> None:
    async def run(client: Client) -> None:
        job_id = await client.submit("wait_for_cancel", id="unwanted")
        await until_running(client, job_id)
        assert (await client.cancel(job_id)).status is ReceiptStatus.CANCELLING
        restart_dispatcher(fleet)
        assert (await end_of(client, job_id)).state is State.CANCELLED

    as_client(fleet, run)


def test_an_offline_worker_finishes_its_job_restarts_and_reports_later(fleet: Fleet, tmp_path: Path) -> None:
    async def start_it() -> None:
        async with fleet.client() as client:
            await client.submit("wait_for_file", str(tmp_path / "go"), id="offline")
            await until_running(client, "offline")

    async def result() -> int:
        async with fleet.client() as client:
            return int(await client.result("offline", timeout_s=30))

    asyncio.run(start_it())
    fleet.broker.kill()
    (tmp_path / "go").touch()
    wait_until(lambda: finishers(fleet), "the job has ended")
    (done,) = finishers(fleet)
    done.kill()
    done.start()
    done.await_event("ready", 2)  # it has found out that there is no broker
    fleet.broker.start()
    assert asyncio.run(result()) > 1
    assert fleet.outcomes("offline") == ["ok"]
    assert fleet.stored("SELECT attempt, failures, crashes FROM job") == [(1, 0, 0)]


def test_a_wiped_broker_loses_no_job(fleet: Fleet, ledger: Ledger) -> None:
    submissions = [make_submission("echo", number, id=f"job-{number}") for number in range(LOAD)]

    async def wipe_under_load() -> None:
        for share in (0.2, 0.6):
            await until(lambda share=share: ledger.executions > share * LOAD, "the load flows")  # type: ignore[misc] # bound now
            fleet.broker.kill()
            fleet.broker.wipe()
            fleet.broker.start()

    async def run() -> Counter[State]:
        async with fleet.client(timeout_s=60) as client, asyncio.TaskGroup() as group:
            group.create_task(wipe_under_load())
            receipts = await client.submit_many(submissions)
            assert len(receipts) == LOAD
            return Counter([ended.state async for ended in client.wait([job.job_id or "" for job in submissions], 60)])

    assert asyncio.run(run()) == {State.COMPLETED: LOAD}
    assert fleet.stored("SELECT count(*), count(DISTINCT job_id) FROM attempt WHERE outcome = 'ok'") == [(LOAD, LOAD)]
    results = dict(fleet.stored("SELECT substr(id, instr(id, ':') + 1), body FROM job JOIN result USING (sequence)"))
    assert results == {f"job-{number}": str(number) for number in range(LOAD)}
