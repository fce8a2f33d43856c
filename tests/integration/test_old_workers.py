"""Workers of the PHP system on the broker of a fleet: docs/migrating.md defines what happens to each of their messages."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from stockworker.broker.acl import acl
from tests.harness.fleet import Fleet, owned, python_handlers
from tests.harness.jobs import as_client
from tests.harness.tools import Watcher, options, publish
from tests.harness.waiting import wait_until

OLD_USER = "stockworker"
SHARED = f"user {OLD_USER}\n" + "".join(f"topic readwrite {level}/#\n" for level in ("jobs", "workers", "system"))
"""The access list of the old guide: one user for all workers."""

V3 = ("-V", "311")
"""php-mosquitto has MQTT 3.1.1."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {"worker": {"poll_interval": 0.5}, "handlers": python_handlers("echo")}
    changes: dict[str, str | None] = {"retain_available": "true"}  # as on the broker of the old guide
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1, settings=settings, broker_changes=changes) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def shared(fleet: Fleet) -> Fleet:
    """The fleet, from now on with the shared user of the old guide in its access list. The tests with it come last."""
    fleet.broker.replace_acl(acl(operators=["operator"], clients=["client"], legacy_workers=True) + SHARED)
    return fleet


def run_one(fleet: Fleet, job_id: str) -> None:
    """Submit a job, and wait for its only end."""
    publish(
        fleet.broker, "client", "jobs/queue/normal/echo/client", "1", "-D", "publish", "user-property", "id", job_id
    )
    done = "SELECT id FROM job WHERE id = ? AND state = 'completed'"
    wait_until(lambda: fleet.stored(done, owned(job_id)), "the job of the new system has completed")
    assert fleet.outcomes(job_id) == ["ok"]


def test_an_old_worker_gets_no_jobs(fleet: Fleet) -> None:
    """Its subscription is granted, and the broker delivers nothing. So each job has one owner: the dispatcher."""
    with Watcher(fleet.broker, OLD_USER, "jobs/#") as old:
        run_one(fleet, "not-for-old-ones")
        publish(fleet.broker, OLD_USER, f"jobs/request/{OLD_USER}", '{"max_jobs": 5}', *V3)
        old.wait_for(f"jobs/ack/{OLD_USER} ")
    assert {line.split(" ")[0] for line in old.lines} == {f"jobs/ack/{OLD_USER}"}


def test_an_old_request_is_answered_with_an_error(fleet: Fleet) -> None:
    with Watcher(fleet.broker, OLD_USER, "jobs/ack/+") as old:
        publish(fleet.broker, OLD_USER, f"jobs/request/{OLD_USER}", '{"worker_id": "old", "status": "idle"}', *V3)
        old.wait_for(f"jobs/ack/{OLD_USER} ")
    answer = json.loads(old.lines[0].partition(" ")[2])
    assert "schema" in answer["error"], answer
    fleet.dispatcher.await_event("message_refused", topic=f"jobs/request/{OLD_USER}")
    run_one(fleet, "after-an-old-request")


def test_an_old_worker_ends_no_job(fleet: Fleet) -> None:
    """Its notice is denied, and reaches no client. The dispatcher does not read this topic either."""
    with Watcher(fleet.broker, "client", "jobs/completed/#") as client:
        publish(fleet.broker, OLD_USER, "jobs/completed/job-of-the-new-system", '{"result": "forged"}', *V3)
        run_one(fleet, "a-job-of-the-new-system")
        client.wait_for(f"jobs/completed/{owned('a-job-of-the-new-system')}/client ")
    assert not client.found("jobs/completed/job-of-the-new-system ")


@pytest.mark.parametrize("topic", ["jobs/completed/1", "jobs/assign/host-1", "workers/register", "jobs/request/host-1"])
def test_other_topics_of_an_old_worker_are_denied(fleet: Fleet, topic: str) -> None:
    command = ["mosquitto_pub", *options(fleet.broker, OLD_USER), "-V", "5", "-q", "1", "-t", topic, "-m", "{}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert "Not authorized" in done.stderr


def test_a_retained_job_is_dropped(fleet: Fleet) -> None:
    """It may be old. `stockworker migrate` moves those that wait."""
    topic = "jobs/queue/low/echo"
    publish(fleet.broker, "client", topic, '{"retained": true}', *V3, "-r")
    fleet.dispatcher.await_event("message_refused", topic=topic)
    clear = ["mosquitto_pub", *options(fleet.broker, "client"), "-q", "1", "-r", "-n", "-t", topic]
    subprocess.run(clear, check=True, timeout=30)
    assert fleet.stored("SELECT body FROM payload WHERE body LIKE '%retained%'") == []


def test_a_payload_in_an_envelope_is_a_payload(fleet: Fleet) -> None:
    """The dispatcher opens no envelope of an old producer: the handler gets all of it."""
    envelope = '{"id": "17", "type": "echo", "payload": {"symbol": "ACME"}}'
    publish(fleet.broker, "client", "jobs/queue/normal/echo", envelope, *V3)
    seen = "SELECT id FROM job JOIN payload USING (sequence) WHERE body = ? AND state = 'completed'"
    wait_until(lambda: fleet.stored(seen, envelope), "the job with an envelope has completed")
    ((job_id,),) = fleet.stored(seen, envelope)
    assert job_id != "17"


def test_the_shipped_broker_refuses_retained_jobs(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Fleet(tmp_path_factory.mktemp("shipped"), workers=0) as shipped:
        command = ["mosquitto_pub", *options(shipped.broker, "client"), *V3, "-q", "1", "-r", "-t"]
        done = subprocess.run(
            [*command, "jobs/queue/low/echo", "-m", "1"], check=False, capture_output=True, timeout=30
        )
    assert done.returncode != 0


def test_with_the_shared_user_an_old_worker_gets_each_job_too(shared: Fleet) -> None:
    """A job would run twice: in the old worker, and in the new system. So the shared user must leave first."""
    with Watcher(shared.broker, OLD_USER, "jobs/queue/#") as old:
        run_one(shared, "for-both")
        old.wait_for("jobs/queue/normal/echo/client 1")


def test_new_workers_ignore_what_an_old_system_assigns(shared: Fleet) -> None:
    body = '{"job_id": "17", "type": "echo", "data": {}}'
    publish(shared.broker, OLD_USER, "jobs/assign/host-1", body, *V3)
    shared.workers[0].await_event("message_refused", topic="jobs/assign/host-1")
    run_one(shared, "after-a-foreign-assignment")


def test_an_old_registration_is_no_worker_of_the_fleet(shared: Fleet) -> None:
    publish(shared.broker, OLD_USER, "workers/register", '{"worker_id": "old-7", "pid": 4711}', *V3)
    shared.dispatcher.await_event("message_refused", topic="workers/register")
    run_one(shared, "after-an-old-registration")
    workers = as_client(shared, lambda client: client.stats()).workers
    assert [each.worker_id for each in workers] == ["host-1"]


def test_clients_see_the_notice_of_an_old_worker(shared: Fleet) -> None:
    """The dispatcher does not read it: the state of its job stays."""
    moon = ("-D", "publish", "user-property", "tags", "on-the-moon")
    named = ("-D", "publish", "user-property", "id", "waits")
    publish(shared.broker, "client", "jobs/queue/normal/echo", "1", *named, *moon)
    with Watcher(shared.broker, "client", "jobs/completed/+") as client:
        publish(shared.broker, OLD_USER, "jobs/completed/waits", '{"result": "of an old worker"}', *V3)
        client.wait_for("jobs/completed/waits ")
    run_one(shared, "after-an-old-notice")
    assert shared.stored("SELECT state FROM job WHERE id = 'waits'") == [("queued",)]
