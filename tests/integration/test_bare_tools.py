"""Mosquitto's own tools work on a real fleet: one command submits, another one watches."""

import json
from collections.abc import Iterator

import pytest

from tests.harness.fleet import Fleet, python_handlers
from tests.harness.tools import Watcher, publish
from tests.harness.waiting import wait_until

PAYLOAD = '{"symbol": "AAPL", "note": "\N{EURO SIGN} and a blank"}'


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {
        "worker": {"heartbeat_interval": 1, "poll_interval": 0.5, "types": ["echo", "fail_for_good"]},
        "handlers": python_handlers("echo", "fail_for_good"),
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), settings=settings, clients=("client", "other")) as fleet:
        yield fleet


def body(line: str) -> dict[str, object]:
    """The message in a line of output of `mosquitto_sub -v`."""
    fields: dict[str, object] = json.loads(line.partition(" ")[2])
    return fields


def test_a_plain_publish_submits_a_job(fleet: Fleet) -> None:
    with Watcher(fleet.broker, "operator", "jobs/completed/+") as completed:
        publish(fleet.broker, "client", "jobs/queue/normal/echo", PAYLOAD)
        completed.wait_for("jobs/completed/")
    (line,) = completed.lines
    notice = body(line)
    assert (notice["type"], notice["state"], notice["attempt"]) == ("echo", "completed", 1)
    assert json.loads(str(notice["result"]))["payload"] == json.loads(PAYLOAD)


def test_steps_are_published_once_an_operator_watches(fleet: Fleet) -> None:
    """No client has watched the first job, so the dispatcher begins to publish again a moment after the subscription."""
    publish(fleet.broker, "client", "jobs/queue/normal/echo", PAYLOAD)
    with Watcher(fleet.broker, "operator", "system/monitor") as watcher:

        def completed() -> bool:
            publish(fleet.broker, "client", "jobs/queue/normal/echo", PAYLOAD)
            return any('"state":"completed"' in line for line in watcher.found("system/monitor"))

        wait_until(completed, "the steps of a job")


def test_a_client_submits_asks_and_cancels_by_hand(fleet: Fleet) -> None:
    """The commands of docs/protocol.md, on topics that end with the client's ID."""
    moon = ("-D", "publish", "user-property", "tags", "on-the-moon")
    client, other = (Watcher(fleet.broker, name, "jobs/#") for name in ("client", "other"))
    with client as own, other:
        publish(fleet.broker, "client", "jobs/queue/normal/echo/client", PAYLOAD, *_named("aapl-1"))
        own.wait_for("jobs/receipt/client {", "jobs/completed/client:aapl-1/client {")
        publish(fleet.broker, "client", "jobs/queue/normal/echo/client", PAYLOAD, *_named("aapl-2"), *moon)
        publish(fleet.broker, "client", "jobs/query/client", '{"schema": 1, "ids": ["aapl-2"]}')
        publish(fleet.broker, "client", "jobs/cancel/aapl-2/client", "now")
        own.wait_for("jobs/failed/client:aapl-2/client {")
        publish(fleet.broker, "client", "jobs/queue/normal/echo", PAYLOAD, *_named("aapl-3"))
        other.wait_for("jobs/completed/aapl-3 {")
    assert {line.split("/")[1] for line in other.lines} == {"completed"}
    assert all(line.startswith("jobs/completed/aapl-3 ") for line in other.lines if "aapl-" in line)
    answers = [body(line) for line in own.found("jobs/receipt/client")]
    (view,) = [job for answer in answers for job in answer.get("jobs", ())]  # type: ignore[attr-defined] # a list
    assert (view["id"], view["state"]) == ("client:aapl-2", "queued")


def _named(job_id: str) -> tuple[str, ...]:
    return "-D", "publish", "user-property", "id", job_id


def test_watching_jobs_shows_every_transition(fleet: Fleet) -> None:
    with Watcher(fleet.broker, "operator", "jobs/#") as jobs:
        for job_type in ("echo", "fail_for_good"):
            properties = ("-D", "publish", "user-property", "id", f"watched-{job_type}")
            publish(fleet.broker, "client", f"jobs/queue/high/{job_type}", PAYLOAD, *properties)
        jobs.wait_for(
            f"jobs/queue/high/echo {PAYLOAD}",
            "jobs/request/host-1 {",
            "jobs/request/host-2 {",
            "jobs/completed/watched-echo {",
            "jobs/failed/watched-fail_for_good {",
        )
    (failed,) = jobs.found("jobs/failed/watched-fail_for_good")
    assert body(failed)["reason"] == "ACME was delisted"


def test_watching_completed_jobs_shows_no_others(fleet: Fleet) -> None:
    with (
        Watcher(fleet.broker, "operator", "jobs/completed/+") as completed,
        Watcher(fleet.broker, "operator", "jobs/failed/+") as failed,
    ):
        publish(fleet.broker, "client", "jobs/queue/normal/fail_for_good", PAYLOAD)
        failed.wait_for("jobs/failed/")
        publish(fleet.broker, "client", "jobs/queue/normal/echo", PAYLOAD)
        completed.wait_for("jobs/completed/")
    assert [body(line)["type"] for line in completed.lines] == ["echo"]
    assert [body(line)["type"] for line in failed.lines] == ["fail_for_good"]


def test_every_worker_sends_heartbeats_repeatedly(fleet: Fleet) -> None:
    with Watcher(fleet.broker, "operator", "workers/heartbeat/+") as heartbeats:
        for _ in range(2):
            heartbeats.wait_for("workers/heartbeat/host-1 {", "workers/heartbeat/host-2 {")
            heartbeats.lines.clear()
        heartbeats.wait_for("workers/heartbeat/")
    fields = body(heartbeats.lines[0])
    assert (fields["slots"], fields["running"], fields["waiting_reports"]) == (5, 0, 0)


def test_watching_workers_shows_them_come_and_go(fleet: Fleet) -> None:
    worker = fleet.workers[1]
    with Watcher(fleet.broker, "operator", "workers/#") as workers:
        workers.wait_for("workers/heartbeat/host-1 {")
        worker.kill()
        workers.wait_for("workers/disconnect/host-2 {")
        worker.start()
        workers.wait_for("workers/register/host-2 {")
        assert worker.stop() == 0
        workers.wait_for("workers/unregister/host-2 {")
        worker.start()
    came, left = workers.found("workers/register/host-2")[0], workers.found("workers/unregister/host-2")[0]
    assert body(came)["types"] == ["echo", "fail_for_good"]
    assert body(came)["boot"] == body(left)["boot"] != body(workers.found("workers/disconnect/host-2")[0])["boot"]
