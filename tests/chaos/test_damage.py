"""Services with damaged files: the dispatcher waits for its operator, a worker continues."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from stockworker.client import Client
from stockworker.protocol.lifecycle import State
from tests.chaos.faults import Chaos
from tests.harness.damage import DAMAGES, Damage
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.jobs import as_client, end_of, until_running

JOBS: Final = 20
SEED: Final = 1


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    settings = {
        "worker": {"stop_grace": 0.1, "poll_interval": 0.5},
        "dispatcher": {"lease": 2, "job_defaults": {"backoff": 0.01}},
        "handlers": python_handlers("echo", "wait_for_file"),
    }
    with Fleet(tmp_path / "fleet", workers=1, settings=settings) as fleet:
        yield fleet


def test_a_dispatcher_refuses_a_damaged_store_and_runs_on_the_backup(fleet: Fleet) -> None:
    async def run(client: Client) -> None:
        for number in range(JOBS):
            await client.result(await client.submit("echo", number, id=f"job-{number}"), timeout_s=30)

    as_client(fleet, run)
    for damage in DAMAGES:
        Chaos(fleet, "dispatcher", SEED).damage_with(damage)
        fleet.dispatcher.await_event("ready", DAMAGES.index(damage) + 2)
        assert fleet.stored("SELECT state, count(*) FROM job GROUP BY state") == [(State.COMPLETED, JOBS)]
    as_client(fleet, lambda client: client.result("job-0"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_job_whose_worker_has_lost_its_journal_runs_again(fleet: Fleet, tmp_path: Path, damage: Damage) -> None:
    async def run(client: Client) -> None:
        job_id = await client.submit("wait_for_file", str(tmp_path / "go"), id="held")
        await until_running(client, job_id)
        Chaos(fleet, "host-1", SEED).damage_with(damage)
        (tmp_path / "go").touch()
        assert (await end_of(client, job_id)).state is State.COMPLETED

    as_client(fleet, run)
    assert len(fleet.outcomes("held")) == 2
    (told,) = fleet.workers[0].events("journal_quarantined")
    assert told["level"] == "error"
    kept = Path(told["kept"])
    assert [file for file in kept.parent.iterdir() if file.name.startswith(kept.name)]
