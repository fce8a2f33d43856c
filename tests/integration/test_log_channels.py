"""Services without a reader of their log: jobs go on, and signals are obeyed."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from stockworker.client import Client
from stockworker.protocol.lifecycle import State
from tests.harness.fleet import Fleet, Service, python_handlers
from tests.harness.jobs import as_client, end_of

TIMEOUT_S = 30
WITH_JOURNAL = (
    "import sys; from pathlib import Path; from stockworker.adapters.journal import JournalHandler; "
    "JournalHandler.__init__.__defaults__ = (Path(sys.argv.pop(1)),); from stockworker.cli import main; sys.exit(main())"
)
"""A service that has another file in the place of the systemd journal's socket."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    settings = {"handlers": python_handlers("echo"), "log": {"level": "debug", "format": "auto"}}
    with Fleet(tmp_path / "fleet", workers=1, settings=settings) as fleet:
        yield fleet


@contextmanager
def full_pipe() -> Iterator[int]:
    """The writing end of a pipe that takes not one byte more."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x")
    except BlockingIOError:
        os.set_blocking(write, True)
    yield write
    os.close(read)
    os.close(write)


@contextmanager
def mute(service: Service, command: Sequence[str], **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the service again, with standard error in a full pipe."""
    service.kill()
    with full_pipe() as write:
        status = os.fstat(write)
        stream = f"{status.st_dev}:{status.st_ino}" if environment else "none"
        own = {**os.environ, "JOURNAL_STREAM": stream}
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=write, stderr=write, env=own) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.mark.parametrize("channel", ["pipe", "journal"])
def test_jobs_go_on_and_signals_are_obeyed(fleet: Fleet, tmp_path: Path, channel: str) -> None:
    async def run(client: Client) -> bool:
        job_ids = [await client.submit("echo", number) for number in range(30)]
        return all([(await end_of(client, job_id)).state is State.COMPLETED for job_id in job_ids])

    path = tmp_path / "journal"
    with ExitStack() as stack:
        journal = stack.enter_context(closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)))
        journal.bind(str(path))
        processes = []
        for service in (fleet.dispatcher, *fleet.workers):
            command = list(service.command)
            if channel == "journal":
                at = command.index("stockworker")
                command = [sys.executable, "-c", WITH_JOURNAL, str(path), *command[at + 1 :]]
            variables = {"JOURNAL_STREAM": "its own"} if channel == "journal" else {}
            processes.append(stack.enter_context(mute(service, command, **variables)))
        assert as_client(fleet, run)
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0


def test_a_hung_service_is_aborted_though_its_stacks_go_nowhere(fleet: Fleet) -> None:
    (worker,) = fleet.workers
    fleet.dispatcher.await_log("a worker registered")
    with mute(worker, worker.command) as process:
        fleet.dispatcher.await_log("a worker registered", 2)
        process.send_signal(signal.SIGABRT)
        assert process.wait(TIMEOUT_S) == -signal.SIGABRT


def test_a_service_that_fails_with_a_reason_ends_though_nobody_reads_it(fleet: Fleet) -> None:
    (worker,) = fleet.workers
    with mute(worker, [*worker.command, "--config", "/nonexistent"]) as process:
        assert process.wait(TIMEOUT_S) == 78
