"""`stockworker events`: what happens in a real fleet, as a person or a program sees it."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stockworker import __version__
from stockworker.client import Client
from tests.harness import command
from tests.harness.fleet import Fleet, owned, python_handlers
from tests.harness.jobs import as_client, run_job
from tests.harness.waiting import wait_until


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {
        "worker": {"max_concurrent_jobs": 1, "poll_interval": 0.5},
        "dispatcher": {"job_defaults": {"max_attempts": 1}},
        "handlers": python_handlers("echo", "fail"),
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1, settings=settings) as fleet:
        yield fleet


class Watching:
    """A `stockworker events --json` that runs, and the events that it has printed."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: int) -> None:
        self.process = process
        self._output = output
        self._read = b""

    @property
    def events(self) -> list[dict[str, Any]]:
        try:
            while chunk := os.read(self._output, 65536):
                self._read += chunk
        except BlockingIOError:
            pass
        return [json.loads(line) for line in self._read.rpartition(b"\n")[0].splitlines()]

    def of(self, **fields: object) -> list[dict[str, Any]]:
        return [event for event in self.events if fields.items() <= event.items()]

    def await_event(self, **fields: object) -> dict[str, Any]:
        wait_until(lambda: self.of(**fields), f"an event with {fields}")
        return self.of(**fields)[0]


@contextmanager
def watching(fleet: Fleet, *words: str) -> Iterator[Watching]:
    arguments = command.arguments(fleet.config_file("operator"), "events", "--json", *words)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        try:
            seen = Watching(process, process.stdout.fileno())
            seen.await_event(event="watching")
            yield seen
        finally:
            process.kill()


def test_an_operator_sees_jobs_and_workers(fleet: Fleet) -> None:
    with watching(fleet) as seen:

        def step_seen() -> bool:  # the first second is not complete
            run_job(fleet, "echo")
            return bool(seen.of(event="running"))

        wait_until(step_seen, "steps of jobs")
        done, _ = run_job(fleet, "echo", "x", id="good")
        seen.await_event(event="completed", job_id=owned("good"))
        assert [event["event"] for event in seen.of(job_id=owned("good"))] == [
            "queued",
            "assigned",
            "running",
            "completed",
        ]
        failed, _ = run_job(fleet, "fail", id="bad")
        event = seen.await_event(event="failed", job_id=owned("bad"))
        assert (event["kind"], event["type"], event["attempt"], event["worker"]) == ("job", "fail", 1, "host-1")
        assert event["text"] == failed.reason
        assert len(seen.of(event="failed", job_id=owned("bad"))) == 1
        assert done.reason is None
        fleet.workers[0].stop()
        assert seen.await_event(event="left") == {
            "at": seen.of(event="left")[0]["at"],
            "kind": "worker",
            "event": "left",
            "worker": "host-1",
        }
        fleet.workers[0].start()
        seen.await_event(event="connected", worker="host-1")
        fleet.dispatcher.stop()
        assert seen.await_event(event="offline")["kind"] == "dispatcher"
        fleet.dispatcher.start()
        assert seen.await_event(event="online")["text"] == __version__
        seen.process.send_signal(signal.SIGINT)
        assert seen.process.wait(command.TIMEOUT_S) == 130


def test_filters_and_a_count_select_and_end(fleet: Fleet) -> None:
    with watching(fleet, "--kind", "job", "--type", "fail", "--event", "failed", "--count", "2") as seen:

        def ended() -> bool:
            run_job(fleet, "echo")
            run_job(fleet, "fail")
            return seen.process.poll() is not None

        wait_until(ended, "two events")
        assert seen.process.returncode == 0
        assert [(event["event"], event["type"]) for event in seen.of(kind="job")] == [("failed", "fail")] * 2


def test_a_stream_ends_after_its_time_and_names_one_job(fleet: Fleet) -> None:
    done = command.run(fleet.config_file("operator"), "events", "--job", "client:nowhere", "--for", "10ms")
    assert (done.status, done.errors) == (0, "")
    assert [line.split()[2:] for line in done.output.splitlines()] == [["watching"]]


def test_a_gap_is_marked(fleet: Fleet) -> None:
    with watching(fleet, "--kind", "worker") as seen:
        fleet.broker.kill()
        assert seen.await_event(event="broken")["kind"] == "stream"
        fleet.broker.start()
        seen.await_event(event="restored")
        fleet.dispatcher.stop()
        fleet.dispatcher.start()
        seen.await_event(event="connected", worker="host-1")
        assert seen.of(kind="dispatcher") == []


def test_only_an_operator_may_watch(fleet: Fleet) -> None:
    done = command.run(fleet.config_file("client"), "events", "--count", "1")
    assert (done.status, done.output) == (77, "")
    assert "'client' is not an operator" in done.errors


def test_the_api_has_events(fleet: Fleet) -> None:
    async def first(client: Client) -> str:
        async for event in client.events():
            return event.name
        raise AssertionError("the stream has no end")

    assert as_client(fleet, first, "operator") == "watching"
