"""Jobs of `async def` handlers in a real fleet: many in one process, and none blamed for what another one did."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockworker.client import Client, make_submission
from stockworker.protocol.lifecycle import State
from tests.harness.fleet import Fleet, owned
from tests.harness.jobs import as_client, end_of, until_running
from tests.harness.waiting import until

TYPE = "coroutine"
NEIGHBOURS = [f"neighbour-{number}" for number in range(3)]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """One worker, with a process for all its jobs."""
    settings: dict[str, Any] = {
        "worker": {"max_concurrent_jobs": 50, "stop_grace": 5, "drain_timeout": 0, "poll_interval": 0.5},
        "handlers": {TYPE: {"python": "coroutine_handlers:by_name", "concurrency": 50}},
        "dispatcher": {"job_defaults": {"backoff": 0.1}},
    }
    with Fleet(tmp_path / "fleet", workers=1, settings=settings) as fleet:
        yield fleet


async def meet(client: Client, gate: Path, names: list[str]) -> None:
    """Run jobs that wait for a file."""
    await client.submit_many(make_submission(TYPE, ["meet", str(gate)], id=name) for name in names)
    for name in names:
        await until_running(client, name)


def test_as_many_jobs_as_the_worker_has_slots_run_in_one_process(fleet: Fleet, tmp_path: Path) -> None:
    names = [f"job-{number}" for number in range(50)]

    async def run(client: Client) -> None:
        await meet(client, tmp_path / "gate", names)
        (tmp_path / "gate").touch()
        assert len({(await end_of(client, name)).result for name in names}) == 1

    as_client(fleet, run)
    assert fleet.stored("SELECT DISTINCT attempt, failures, crashes FROM job") == [(1, 0, 0)]


def test_a_poison_job_costs_at_most_max_crashes_processes_and_its_neighbours_complete(
    fleet: Fleet, tmp_path: Path
) -> None:
    async def run(client: Client) -> None:
        await meet(client, tmp_path / "gate", NEIGHBOURS)
        await client.submit(TYPE, ["die", None], id="poison", max_crashes=3)
        assert (await end_of(client, "poison")).state is State.FAILED
        (tmp_path / "gate").touch()
        for name in NEIGHBOURS:
            assert (await end_of(client, name)).state is State.COMPLETED

    as_client(fleet, run)
    outcomes = fleet.outcomes("poison")
    assert len(outcomes) == 3
    assert outcomes[0] == "lost"  # its neighbours share that, and no later crash that would fail them
    assert set(outcomes) <= {"lost", "crashed"}
    failures = fleet.stored("SELECT DISTINCT failures FROM job WHERE id != ?", owned("poison"))
    assert failures == [(0,)]


def test_the_log_names_who_keeps_the_event_loop_and_the_type_of_other_output(fleet: Fleet, tmp_path: Path) -> None:
    (worker,) = fleet.workers

    async def run(client: Client) -> None:
        await meet(client, tmp_path / "gate", NEIGHBOURS)
        await client.submit(TYPE, ["speak", "hello"], id="speaks")
        assert (await end_of(client, "speaks")).state is State.COMPLETED
        await client.submit(TYPE, ["block_for_a_while", str(tmp_path / "gate")], id="blocks")
        await until(lambda: worker.events("event_loop_blocked") != [], "the worker warns")
        (tmp_path / "gate").touch()
        for name in (*NEIGHBOURS, "blocks"):
            assert (await end_of(client, name)).state is State.COMPLETED

    as_client(fleet, run)
    (warning,) = worker.events("event_loop_blocked")
    assert warning["job"] == owned("blocks")
    assert warning["place"].endswith(" in block_for_a_while")
    assert [(each["type"], each["message"]) for each in worker.events("process_output")] == [(TYPE, "writes hello")]
    spoken = [each["message"] for each in worker.events("handler_log") if each["job"] == owned("speaks")]
    assert {"logs hello 0", "prints hello 0", "prints hello 0 in a thread"} <= {*spoken}


def test_a_stopped_worker_gives_back_all_jobs_of_the_process_and_another_start_runs_them(
    fleet: Fleet, tmp_path: Path
) -> None:
    (worker,) = fleet.workers

    async def run(client: Client) -> None:
        await meet(client, tmp_path / "gate", NEIGHBOURS)
        assert worker.stop() == 0
        given_back = "SELECT count(*) FROM job WHERE state = 'queued'"
        await until(lambda: fleet.stored(given_back) == [(len(NEIGHBOURS),)], "the jobs are given back")
        (tmp_path / "gate").touch()
        worker.start()
        for name in NEIGHBOURS:
            assert (await end_of(client, name)).state is State.COMPLETED

    as_client(fleet, run)
    assert [fleet.outcomes(name) for name in NEIGHBOURS] == [["released", "ok"]] * len(NEIGHBOURS)
    assert fleet.stored("SELECT DISTINCT failures, crashes FROM job") == [(0, 0)]


def test_the_jobs_of_a_killed_worker_are_lost_and_run_again(fleet: Fleet, tmp_path: Path) -> None:
    (worker,) = fleet.workers

    async def run(client: Client) -> None:
        await meet(client, tmp_path / "gate", NEIGHBOURS)
        worker.kill()
        (tmp_path / "gate").touch()
        worker.start()
        for name in NEIGHBOURS:
            assert (await end_of(client, name)).state is State.COMPLETED

    as_client(fleet, run)
    assert [fleet.outcomes(name) for name in NEIGHBOURS] == [["lost", "ok"]] * len(NEIGHBOURS)
