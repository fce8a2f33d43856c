"""A service that hangs stops feeding its watchdog or recovers by itself; a service that works or is offline keeps running.

Each test runs a whole fleet: while the victim hangs, one worker is busy and another one has no broker.
"""

import asyncio
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stockworker.broker.configuration import Profile
from stockworker.client import Client
from stockworker.terminal.exits import Exit
from tests.harness.external_hangs import blocked_loop, dead_reader, locked_database, withheld_confirmations
from tests.harness.fleet import Fleet, Service, python_handlers
from tests.harness.jobs import as_client, run_job, until_running
from tests.harness.service_manager import ServiceManager
from tests.harness.waiting import wait_until

WATCHDOG_S = 2.0
VICTIM, BUSY, OFFLINE = "host-1", "host-2", "host-3"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Each worker has a job type named after itself."""
    folder = tmp_path_factory.mktemp("watchdog")

    def personal(identity: str) -> dict[str, Any]:
        handlers = {identity: {"python": "job_handlers:nothing"}}
        return {"handlers": {**python_handlers("wait_for_file"), **handlers} if identity == BUSY else handlers}

    with Fleet(
        folder,
        workers=3,
        settings={"worker": {"poll_interval": 0.5}, "dispatcher": {"lease": 60}},
        personal=personal,
        profile=Profile.DEVELOPMENT,
        proxied=True,
        keepalive_s=5,
        watchdog_s=WATCHDOG_S,
    ) as fleet:
        for service in fleet.services.values():
            manager_of(service).await_assignment("READY=1")
        as_client(fleet, lambda client: keep_busy(client, folder / "go"))
        fleet.proxies[OFFLINE].swallow()
        fleet.proxies[OFFLINE].reset()
        fleet.services[OFFLINE].await_event("link_down")
        yield fleet


async def keep_busy(client: Client, until: Path) -> None:
    await client.submit("wait_for_file", str(until), id="long")
    await until_running(client, "long")


def manager_of(service: Service) -> ServiceManager:
    assert service.manager is not None
    return service.manager


def await_others_alive(fleet: Fleet) -> None:
    """Wait until the busy and the offline worker have each sent two more pings."""
    for identity in (BUSY, OFFLINE):
        manager = manager_of(fleet.services[identity])
        manager.await_assignment("WATCHDOG=1", manager.pings + 2)


def submit_for(fleet: Fleet, identity: str) -> None:
    """Give a service something to write."""

    async def submit(client: Client) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.result(await client.submit(identity))

    as_client(fleet, submit)


def await_recovery(fleet: Fleet, identity: str) -> None:
    """Restart the service if it has exited, and check that it works."""
    service = fleet.services[identity]
    pings = manager_of(service).pings
    if not service.alive:
        service.wait()
        service.start()
    manager_of(service).await_assignment("WATCHDOG=1", pings + 2)
    assert run_job(fleet, VICTIM)[1][-1] == "ok"


@pytest.mark.parametrize("identity", [VICTIM, "dispatcher"])
def test_a_hanging_event_loop_ends_the_service(fleet: Fleet, identity: str) -> None:
    with blocked_loop(fleet, identity) as given_up:
        wait_until(given_up, f"{identity} gives no sign of life")
        await_others_alive(fleet)
        assert given_up()
    await_recovery(fleet, identity)


@pytest.mark.parametrize("identity", [VICTIM, "dispatcher"])
def test_a_hanging_commit_ends_the_service(fleet: Fleet, identity: str) -> None:
    with locked_database(fleet, identity) as given_up:
        submit_for(fleet, VICTIM)
        wait_until(given_up, f"{identity} gives no sign of life")
        await_others_alive(fleet)
        assert given_up()
    await_recovery(fleet, identity)


def test_a_service_that_hangs_logs_its_stack(fleet: Fleet) -> None:
    service = fleet.services[VICTIM]
    with locked_database(fleet, VICTIM) as given_up:
        submit_for(fleet, VICTIM)
        wait_until(given_up, "no sign of life")
        service.send_signal(signal.SIGABRT)
        assert service.wait() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in service.log
    assert "journal.py" in service.log.rpartition("Fatal Python error: Aborted")[2]
    await_recovery(fleet, VICTIM)


def test_a_failed_commit_ends_the_service_and_logs_its_stack(fleet: Fleet) -> None:
    service = fleet.services[VICTIM]
    with closing(sqlite3.connect(fleet.journal(VICTIM))) as journal:
        journal.execute("CREATE TRIGGER full BEFORE INSERT ON lease BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        submit_for(fleet, VICTIM)
        assert service.wait() == Exit.STORE
        journal.execute("DROP TRIGGER full")
    failed = service.await_event("store_failed")
    assert "disk full" in failed["problem"]
    assert "in commit" in failed["exception"]
    await_recovery(fleet, VICTIM)


def test_a_link_without_confirmations_reconnects(fleet: Fleet) -> None:
    with withheld_confirmations(fleet, VICTIM) as reconnects:
        wait_until(reconnects, "it gives the connection up")
        await_others_alive(fleet)
    given_up = fleet.services[VICTIM].await_event("connection_dead")
    assert "confirms no messages" in given_up["reason"]
    assert "Task turns" in given_up["exception"]
    await_recovery(fleet, VICTIM)


@pytest.mark.parametrize("identity", [VICTIM, "dispatcher"])
def test_a_link_that_receives_nothing_reconnects(fleet: Fleet, identity: str) -> None:
    with dead_reader(fleet, identity) as reconnects:
        wait_until(reconnects, f"{identity} gives the connection up")
        await_others_alive(fleet)
    await_recovery(fleet, identity)
