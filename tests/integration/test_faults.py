"""A service that meets a defect of its own logs it as `fault` and ends; what it had stored is not lost."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockworker.client import Client
from stockworker.protocol.lifecycle import State
from stockworker.terminal.exits import Exit
from tests.chaos.storm import stop_cleanly
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.jobs import as_client, end_of
from tests.harness.planted_faults import PlantedFault, start_with_fault
from tests.harness.waiting import until

IN_A_TURN = PlantedFault("stockworker.worker.machine", "WorkerMachine", "_assigned")
IN_A_CALLBACK = PlantedFault("stockworker.worker.executor", "Executor", "ended")
IN_THE_DISPATCHER = PlantedFault("stockworker.dispatcher.machine", "DispatcherMachine", "_submitted")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    settings = {"dispatcher": {"lease": 2}, "handlers": python_handlers("echo")}
    with Fleet(tmp_path / "fleet", workers=1, settings=settings) as fleet:
        yield fleet


async def submit(client: Client) -> None:
    await client.submit("echo", "1", id="job")


async def wait(client: Client) -> None:
    assert (await end_of(client, "job")).state is State.COMPLETED


@pytest.mark.parametrize("fault", [IN_A_TURN, IN_A_CALLBACK], ids=str)
def test_a_worker_logs_its_fault_ends_and_a_new_process_finishes_the_job(fleet: Fleet, fault: PlantedFault) -> None:
    (worker,) = fleet.workers
    worker.stop()
    start_with_fault(worker, fault)
    as_client(fleet, submit)
    assert worker.wait() == Exit.SOFTWARE
    (logged,) = worker.events("fault")
    assert logged["where"].startswith("stockworker.")
    assert "TimeoutError: planted" in logged["exception"]
    worker.start()
    as_client(fleet, wait)


def test_a_dispatcher_logs_its_fault_ends_and_a_new_process_gets_the_message_again(fleet: Fleet) -> None:
    dispatcher = fleet.dispatcher
    dispatcher.stop()
    start_with_fault(dispatcher, IN_THE_DISPATCHER)

    async def submit_to_both(client: Client) -> None:
        receipt = asyncio.create_task(client.submit("echo", "1", id="job"))
        await until(lambda: not dispatcher.alive, "the dispatcher has ended")
        assert dispatcher.wait() == Exit.SOFTWARE
        dispatcher.start()
        await receipt

    as_client(fleet, submit_to_both)
    assert len(dispatcher.events("fault")) == 1


def test_the_check_of_a_storm_finds_the_fault_of_a_service_that_was_started_again(fleet: Fleet) -> None:
    (worker,) = fleet.workers
    worker.stop()
    start_with_fault(worker, IN_A_TURN)
    as_client(fleet, submit)
    worker.wait()
    worker.start()
    as_client(fleet, wait)
    with pytest.raises(AssertionError, match="has logged a fault"):
        stop_cleanly([worker])
