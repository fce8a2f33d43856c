"""Passwords instead of certificates, over TLS: the same rights, and a helpful error for a wrong password."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stockworker.protocol.lifecycle import State
from tests.harness.command import changed, run
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.jobs import run_job


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with Fleet(folder, workers=1, settings={"handlers": python_handlers("echo")}, passwords=True) as fleet:
        yield fleet


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    file = tmp_path / "wrong"
    file.write_text("guessed\n")
    file.chmod(0o600)
    return str(file)


def test_jobs_run(fleet: Fleet) -> None:
    ended, outcomes = run_job(fleet, "echo")
    assert (ended.state, outcomes) == (State.COMPLETED, ["ok"])


def test_check_finds_nothing_wrong(fleet: Fleet) -> None:
    for identity, role in (("client", "client"), ("host-1", "worker"), ("dispatcher", "dispatcher")):
        done = run(fleet.config_file(identity), "check", "--role", role)
        assert done.status == 0, done.output


def test_the_user_name_decides_what_is_allowed(fleet: Fleet) -> None:
    done = run(fleet.config_file("host-1"), "submit", "echo", "1")
    assert done.status == 77
    assert "host-1" in done.errors


def test_a_wrong_password_is_reported(fleet: Fleet, wrong: str) -> None:
    queue = {"mqtt": {"host": "localhost", "port": fleet.broker.port, "username": "client", "password_file": wrong}}
    done = run(changed(fleet.config_file("client"), "wrong", queue=queue), "stats")
    assert done.status == 77
    assert "check the user name and the password" in done.errors


def test_a_service_with_a_wrong_password_exits_with_the_reason(fleet: Fleet, wrong: str) -> None:
    worker = fleet.workers[0]
    worker.stop()
    queue = {"mqtt": {"host": "localhost", "port": fleet.broker.port, "username": "host-1", "password_file": wrong}}
    done = run(changed(fleet.config_file("host-1"), "host-wrong", queue=queue), "agent")
    assert done.status == 77
    assert "check the user name and the password" in done.errors
    worker.start()
    worker.await_event("link_up", times=2)


def test_a_password_is_changed_while_the_worker_runs(fleet: Fleet) -> None:
    """Changes the worker's file first: Mosquitto disconnects clients whose password changed, and they reconnect with the new one."""
    worker = fleet.workers[0]
    before = len(worker.events("link_up"))
    fleet.broker.set_password("host-1", "another")
    worker.await_event("link_up", times=before + 1)
    ended, _ = run_job(fleet, "echo")
    assert (ended.state, worker.alive) == (State.COMPLETED, True)
