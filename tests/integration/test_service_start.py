"""The notifications of a service to systemd while it starts, works, reloads its configuration and stops."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from stockworker.client import Client
from tests.harness.fleet import Fleet, Service, python_handlers
from tests.harness.jobs import as_client, until_running
from tests.harness.service_manager import ServiceManager

WATCHDOG_S = 30.0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    settings: dict[str, Any] = {
        "worker": {"max_concurrent_jobs": 2, "stop_grace": 0.1, "drain_timeout": 30, "poll_interval": 0.5},
        "handlers": {**python_handlers("wait_for_file"), "slow": {"command": ["true"], "limits": {"processors": 0.5}}},
    }
    with Fleet(tmp_path / "fleet", workers=1, settings=settings, watchdog_s=WATCHDOG_S) as fleet:
        for service in fleet.services.values():
            manager_of(service).await_assignment("READY=1")
        yield fleet


def manager_of(service: Service) -> ServiceManager:
    assert service.manager is not None
    return service.manager


def test_a_dispatcher_that_loads_its_store_extends_its_time_out(tmp_path: Path) -> None:
    config = tmp_path / "job_processor.yml"
    broker = {"backend": "mqtt", "mqtt": {"host": "localhost", "port": 1}}
    sections = {"queue": broker, "dispatcher": {"store": str(tmp_path / "jobs.sqlite3")}}
    config.write_text(yaml.safe_dump({"job_processor": sections}))
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.settimeout(30)
        manager.bind(str(tmp_path / "notify"))
        command = [sys.executable, "-m", "stockworker", "--config", str(config), "dispatcher"]
        with subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}) as dispatcher:
            try:
                assert manager.recv(4096).startswith(b"EXTEND_TIMEOUT_USEC=")
            finally:
                dispatcher.kill()


@pytest.mark.parametrize("service", ["dispatcher", "worker"])
def test_a_service_undoes_that_its_parent_ignores_sigchld(tmp_path: Path, service: str) -> None:
    """Else the kernel would forget how jobs end, and a killed one would look like a success."""
    config = tmp_path / "job_processor.yml"
    sections = {
        "queue": {"backend": "mqtt", "mqtt": {"host": "localhost", "port": 1}},
        "dispatcher": {"store": str(tmp_path / "jobs.sqlite3")},
        "worker": {"journal": str(tmp_path / "journal.sqlite3")},
    }
    config.write_text(yaml.safe_dump({"job_processor": sections}))
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.settimeout(30)
        manager.bind(str(tmp_path / "notify"))
        command = ["env", "--ignore-signal=CHLD", sys.executable, "-m", "stockworker", "--config", str(config), service]
        with subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}) as one:
            try:
                manager.recv(4096)
                status = Path(f"/proc/{one.pid}/status").read_text()
            finally:
                one.kill()
    ignored = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn:"))
    assert not ignored & 1 << signal.SIGCHLD - 1


def test_a_worker_is_ready_once_it_has_registered(fleet: Fleet) -> None:
    (worker,) = fleet.workers
    fleet.dispatcher.await_event("worker_seen", worker="host-1")
    assert manager_of(worker).assignments.count("READY=1") == 1
    assert worker.log.index('"link_up"') < worker.log.index('"ready"')


def test_a_worker_logs_how_it_confines_its_jobs_and_which_limits_it_cannot_enforce(fleet: Fleet) -> None:
    (worker,) = fleet.workers
    assert worker.await_event("confined")["by"] in {
        "process groups",
        "control groups",
    }  # the user of the tests may be in such a group
    assert worker.await_event("limit_unenforced")["type"] == "slow"
    worker.send_signal(signal.SIGHUP)
    worker.await_event("limit_unenforced", 2)


def test_a_service_without_a_broker_is_ready_too(fleet: Fleet) -> None:
    (worker,) = fleet.workers
    fleet.broker.kill()
    for service in (worker, fleet.dispatcher):
        service.kill()
        service.start()
        manager_of(service).await_assignment("READY=1", 2)
        assert manager_of(service).status.startswith("not connected: ")


def test_the_status_shows_the_current_work(fleet: Fleet, tmp_path: Path) -> None:
    (worker,) = fleet.workers
    connected = f"connected to localhost:{fleet.broker.port}, "
    manager_of(worker).await_status(f"{connected}0/2 slots busy")

    async def run(client: Client) -> None:
        await client.submit("wait_for_file", str(tmp_path / "go"), id="runs")
        await until_running(client, "runs")

    as_client(fleet, run)
    manager_of(worker).await_status(f"{connected}1/2 slots busy")
    manager_of(fleet.dispatcher).await_status(f"{connected}0 jobs waiting, 1 with workers, 1 workers connected")
    fleet.broker.kill()
    (tmp_path / "go").touch()
    # The end of the job and the loss of the broker are seen in either order: wait for the status that shows both.
    manager_of(worker).await_status(r"not connected: .*, 0/2 slots busy, 1 results waiting")


def test_a_reload_has_a_beginning_and_an_end(fleet: Fleet) -> None:
    for service in (*fleet.workers, fleet.dispatcher):
        manager = manager_of(service)
        service.send_signal(signal.SIGHUP)
        manager.await_assignment("READY=1", 2)
        first = manager.assignments.index("RELOADING=1")
        assert manager.assignments[first + 1].startswith("MONOTONIC_USEC=")
        assert "READY=1" in manager.assignments[first:]
        assert "connected to" in manager.status
        assert service.stop() == 0
        assert manager.assignments.count("STOPPING=1") == 1


def test_a_draining_service_extends_its_time_out(fleet: Fleet, tmp_path: Path) -> None:
    (worker,) = fleet.workers
    manager = manager_of(worker)

    async def run(client: Client) -> None:
        await client.submit("wait_for_file", str(tmp_path / "go"), id="runs")
        await until_running(client, "runs")

    as_client(fleet, run)
    worker.send_signal(signal.SIGTERM)
    manager.await_assignment("STOPPING=1")
    manager.await_assignment("EXTEND_TIMEOUT_USEC=")
    manager_of(worker).await_status("draining, connected to ")
    (tmp_path / "go").touch()
    assert worker.wait() == 0


def test_a_worker_whose_broker_has_no_dispatcher_shows_it(fleet: Fleet) -> None:
    worker = manager_of(fleet.workers[0])
    fleet.dispatcher.stop()
    fleet.broker.stop()
    fleet.broker.wipe()  # with the session of the dispatcher, for which the broker keeps requests
    fleet.broker.start()
    worker.await_status(r"connected to .*, no dispatcher receives its requests")
    fleet.dispatcher.start()
    worker.await_status(r"connected to [^,]*, 0/2 slots busy$")
