"""Services that are started with closed standard streams, or get SIGHUP before they are ready for it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockworker.client import Client
from stockworker.protocol.lifecycle import State
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.jobs import as_client, end_of

HUNG_UP_WHILE_STARTING = """
import os, signal, sys
from stockworker.cli import main, services
become_service = services.become_service
def hung_up():
    os.kill(os.getpid(), signal.SIGHUP)
    become_service()
services.become_service = hung_up
sys.exit(main())
"""
MUTE_NAME_SERVER = """
import socket, sys, time
from stockworker.cli import main
def wait(*_arguments, **_options):
    print("asked", flush=True)
    time.sleep(600)
socket.getaddrinfo = wait
sys.exit(main())
"""
HUNG_UP = """
import os, signal
from stockworker.cli import hangup
hangup.defer()
os.kill(os.getpid(), signal.SIGHUP)
print("deferred", flush=True)
hangup.release()
print("released")
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path / "fleet", workers=1, settings={"handlers": python_handlers("echo")}) as fleet:
        yield fleet


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_service_without_standard_streams_runs(fleet: Fleet, closed: str) -> None:
    async def run(client: Client) -> State:
        return (await end_of(client, await client.submit("echo", 1))).state

    services = (fleet.dispatcher, *fleet.workers)
    for service in services:
        service.kill()
        service.command = ["sh", "-c", f'exec "$@" {closed}', "sh", *service.command]
        service.start()
    assert as_client(fleet, run) is State.COMPLETED
    assert [service.stop() for service in reversed(services)] == [0, 0]


def test_a_command_without_standard_error_has_its_usual_status() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m stockworker --config /nonexistent stats 2>&-', sys.executable], check=False
    )
    assert done.returncode == 78


def test_a_hangup_while_a_service_starts_is_a_reload(fleet: Fleet) -> None:
    for service in (fleet.dispatcher, *fleet.workers):
        at = list(service.command).index("stockworker")
        service.kill()
        service.command = [sys.executable, "-c", HUNG_UP_WHILE_STARTING, *service.command[at + 1 :]]
        service.start()
        service.await_event("config_reloaded")
        assert service.stop() == 0


@pytest.mark.parametrize(
    ("action", "printed", "status"), [("", "deferred\n", -signal.SIGHUP), ("nohup", "deferred\nreleased\n", 0)]
)
def test_a_hangup_ends_a_command_as_ever(action: str, printed: str, status: int) -> None:
    command = ["sh", "-c", f"exec {action} \"$0\" -c '{HUNG_UP}' </dev/null 2>/dev/null", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == (printed, status)


def test_no_stop_waits_for_a_mute_name_server(fleet: Fleet) -> None:
    services = (fleet.dispatcher, *fleet.workers)
    commands = [(service, signal.SIGTERM, 0) for service in services]
    commands.append((fleet.command("client", "stats"), signal.SIGINT, 130))
    for service, number, status in commands:
        at = list(service.command).index("stockworker")
        service.kill()
        service.command = [sys.executable, "-c", MUTE_NAME_SERVER, *service.command[at + 1 :]]
        service.start()
        service.await_log("asked")
        service.send_signal(number)
        assert service.wait() == status
