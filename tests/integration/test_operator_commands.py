"""Operators control a real fleet: pause types, drain workers, retry failed jobs, and ask for reasons."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockworker.client import Client
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus
from stockworker.protocol.views import WorkerView
from tests.harness import command
from tests.harness.advice import follows
from tests.harness.command import Finished
from tests.harness.fleet import Fleet, owned, python_handlers
from tests.harness.jobs import as_client, end_of, run_job, until_running
from tests.harness.waiting import TIMEOUT_S

SHELL = ["/bin/sh", "-c", 'read -r script; eval "$script"']
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {
        "worker": {"max_concurrent_jobs": 1, "poll_interval": 0.5},
        "dispatcher": {"job_defaults": {"max_attempts": 1}},
        "handlers": {
            **python_handlers("echo", "length", "wait_for_file"),
            "shell": {"command": [*SHELL]},
            "old_shell": {"command": [*SHELL]},
        },
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=2, settings=settings) as fleet:
        yield fleet


def run(fleet: Fleet, *words: str, identity: str = "operator") -> Finished:
    return command.run(fleet.config_file(identity), *words)


def new_id() -> str:
    return f"job-{next(_numbers)}"


def state_of(fleet: Fleet, job_id: str) -> State:
    async def ask(client: Client) -> State:
        (view,) = await client.query([job_id])
        return view.state

    return as_client(fleet, ask)


def until_worker(fleet: Fleet, worker_id: str, *, drained: bool, leases: int) -> WorkerView:
    """Wait until the dispatcher knows a worker as such."""

    async def look(client: Client) -> WorkerView:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for worker in (await client.stats()).workers:
                    if (worker.worker_id, worker.online, worker.drained, worker.leases) == (
                        worker_id,
                        True,
                        drained,
                        leases,
                    ):
                        return worker
                await asyncio.sleep(0.02)

    return as_client(fleet, look)


def why(fleet: Fleet, job_id: str) -> list[str]:
    sentences: list[str] = run(fleet, "why", job_id, "--json", identity="client").json["why"]
    return sentences


# --- pause and resume -------------------------------------------------------------------------------------------------


@follows(
    "jobs of type … are paused: stockworker resume …",
)
def test_a_paused_type_waits_and_says_why_until_it_is_resumed(fleet: Fleet) -> None:
    assert run(fleet, "pause", "echo", "length").output == "echo paused\nlength paused\n"
    job_id = run(fleet, "submit", "echo", identity="client").output.strip()
    assert run_job(fleet, "shell", text="echo 1")[1] == ["ok"]
    assert state_of(fleet, job_id) is State.QUEUED
    assert "jobs of type echo are paused: stockworker resume echo" in why(fleet, job_id)
    stats = run(fleet, "stats")
    rows = {line.split()[0]: line.split()[1:] for line in stats.output.splitlines() if line}
    assert (rows["echo"][:2], rows["length"][:2]) == (["paused", "1"], ["paused", "0"])

    assert run(fleet, "resume", "echo", "length", "--json").json_lines == [
        {"type": "echo", "status": "resumed"},
        {"type": "length", "status": "resumed"},
    ]
    assert run(fleet, "wait", job_id, identity="client").status == 0
    assert run_job(fleet, "length", "four")[0].result == "4"


@follows(
    "the dispatcher does not know the … … Nothing was sent. `stockworker stats` lists what it knows. If the … is new, use --force",
)
def test_a_type_that_nobody_runs_may_be_misspelt(fleet: Fleet) -> None:
    done = run(fleet, "pause", "ecoh", "echo")
    assert (done.status, done.output) == (3, "")
    assert done.errors == (
        "stockworker: error: the dispatcher does not know the type 'ecoh'; did you mean 'echo'? Nothing was sent. "
        "`stockworker stats` lists what it knows. If the type is new, use --force\n"
    )
    assert "paused" not in run(fleet, "stats").output

    done = run(fleet, "pause", "ecoh", "--force")
    assert (done.status, done.output) == (0, "ecoh paused\n")
    assert done.errors == "stockworker: ecoh: no known worker runs this type\n"
    assert run(fleet, "resume", "ecoh").status == 0


def test_a_worker_that_is_misspelt_is_not_drained(fleet: Fleet) -> None:
    """A script would go on, and stop the real one while it has jobs."""
    done = run(fleet, "drain", "hots-1", "host-2", "--json")
    assert (done.status, done.output) == (3, "")
    assert "the dispatcher does not know the worker 'hots-1'; did you mean 'host-1'?" in done.errors
    assert "drained" not in run(fleet, "stats").output


@pytest.mark.parametrize("words", [("pause", "echo"), ("drain", "host-1"), ("retry", "--all")])
def test_only_operators_may(fleet: Fleet, words: tuple[str, ...]) -> None:
    run_job(fleet, "shell", text="exit 1")  # something to retry
    assert run(fleet, *words, identity="client").status == 77


# --- drain and undrain ------------------------------------------------------------------------------------------------


@follows(
    "drained (stockworker undrain WORKER)",
)
def test_a_worker_is_drained_over_restarts_of_everybody_and_used_again(fleet: Fleet, tmp_path: Path) -> None:
    async def occupy(client: Client) -> list[JobId]:
        ids = [await client.submit("wait_for_file", str(tmp_path / "go"), id=new_id()) for _ in range(2)]
        for job_id in ids:
            await until_running(client, job_id)
        return ids

    running = as_client(fleet, occupy)
    assert run(fleet, "drain", "host-1").output == "host-1 drained\n"
    until_worker(fleet, "host-1", drained=True, leases=1)  # it finishes what runs
    waiting = run(fleet, "submit", "echo", identity="client").output.strip()

    fleet.dispatcher.kill()
    fleet.dispatcher.start()
    until_worker(fleet, "host-1", drained=True, leases=1)
    (tmp_path / "go").touch()
    assert run(fleet, "wait", *running, waiting, identity="client").status == 0
    ((worker,),) = fleet.stored("SELECT worker FROM attempt WHERE job_id = ?", owned(waiting))
    assert worker == "host-2"
    assert fleet.outcomes(running[0]) == ["ok"]

    fleet.workers[0].stop()
    fleet.workers[0].start()
    until_worker(fleet, "host-1", drained=True, leases=0)
    assert run(fleet, "drain", "host-2").status == 0
    until_worker(fleet, "host-2", drained=True, leases=0)
    waiting = run(fleet, "submit", "echo", identity="client").output.strip()
    assert state_of(fleet, waiting) is State.QUEUED
    assert why(fleet, waiting)[1:] == ["2 of 2 workers for its type: drained (stockworker undrain WORKER)"]
    assert "online, drained" in run(fleet, "stats").output
    assert run(fleet, "undrain", "host-1", "host-2", "--json").json_lines == [
        {"worker": "host-1", "status": "undrained"},
        {"worker": "host-2", "status": "undrained"},
    ]
    assert run(fleet, "wait", waiting, identity="client").status == 0


def test_an_instance_of_this_machine_is_named_by_its_number(fleet: Fleet) -> None:
    """Run on the machine of host-2, whose only configuration names it."""
    config = command.changed(fleet.config_file("operator"), "on-host-2", worker={"id": "host-2"})
    assert command.run(config, "drain", "1").output == "host-2 drained\n"
    until_worker(fleet, "host-2", drained=True, leases=0)
    assert command.run(config, "undrain", "1").output == "host-2 undrained\n"
    until_worker(fleet, "host-2", drained=False, leases=0)


def test_a_worker_that_is_not_there_is_drained_when_it_comes(fleet: Fleet) -> None:
    done = run(fleet, "drain", "host-9", "--json", "--force")
    assert done.json == {"worker": "host-9", "status": "drained", "reason": "no worker of this name is known"}
    assert "offline, drained" in run(fleet, "stats").output
    run(fleet, "undrain", "host-9")
    assert "host-9" not in run(fleet, "stats").output


# --- why --------------------------------------------------------------------------------------------------------------


def test_why_a_job_waits(fleet: Fleet) -> None:
    job_id = run(fleet, "submit", "echo", "--tag", "on-the-moon", identity="client").output.strip()
    done = run(fleet, "why", job_id, identity="client")
    assert done.status == 0
    assert done.output.splitlines()[1:] == ["2 of 2 workers for its type: without one of its tags (on-the-moon)"]
    run(fleet, "cancel", owned(job_id))
    assert why(fleet, job_id) == ["it is cancelled: cancelled before a worker had it"]


def test_why_a_job_failed(fleet: Fleet) -> None:
    ended, _ = run_job(fleet, "shell", text="echo 'no disk' >&2; exit 1", max_attempts=2, backoff_s=0.0)
    done = run(fleet, "why", ended.job_id, identity="client")
    story = run(fleet, "why", ended.job_id, "--json", identity="client").json
    sentence, empty, header, *rows = done.output.splitlines()
    assert (sentence, empty) == ("it is failed: exit code 1", "")
    assert header.split() == ["ATTEMPT", "WORKER", "ASSIGNED", "ENDED", "RAN", "OUTCOME", "ERROR"]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert all(row.endswith("error    exit code 1") for row in rows)
    assert [attempt["error"].partition("\n")[2] for attempt in story["attempts"]] == ["no disk", "no disk"]
    assert story["id"] == ended.job_id


def test_why_an_unknown_job(fleet: Fleet) -> None:
    done = run(fleet, "why", "no-such-job", identity="client")
    assert (done.status, done.errors) == (3, "stockworker: error: job no-such-job is unknown to the dispatcher\n")


# --- unique keys ------------------------------------------------------------------------------------------------------


def test_while_a_job_lives_its_unique_key_brings_one_to_it(fleet: Fleet, tmp_path: Path) -> None:
    words = ("submit", "wait_for_file", json.dumps(str(tmp_path / "go")), "--unique", "daily")
    first = run(fleet, *words, identity="client")
    second = run(fleet, *words, identity="client")
    for_programs = run(fleet, *words, "--json", "--id", "mine", identity="client")
    job_id = first.output.strip()
    assert (second.status, second.output) == (0, first.output)
    assert second.errors == f"stockworker: job {owned(job_id)} holds the unique key daily; nothing was changed\n"
    assert for_programs.json == {
        "job_id": "mine",
        "id": "mine",
        "status": "duplicate",
        "reason": f"job {owned(job_id)} holds the unique key daily",
        "holder": job_id,
    }

    async def share(client: Client) -> tuple[str, State]:
        shared = await client.submit("wait_for_file", str(tmp_path / "go"), unique="daily")
        (tmp_path / "go").touch()
        return shared, (await end_of(client, shared)).state

    assert as_client(fleet, share) == (job_id, State.COMPLETED)
    assert run(fleet, *words, "--wait", identity="client").status == 0
    assert fleet.stored("SELECT count(*) FROM job WHERE unique_key = 'daily'") == [(2,)]


def test_a_batch_takes_the_holders_for_its_jobs(fleet: Fleet, tmp_path: Path) -> None:
    batch = tmp_path / "jobs.jsonl"
    jobs = [{"type": "length", "payload": "four", "unique": "k", "id": f"batch-{number}"} for number in (1, 2)]
    batch.write_text("\n".join(map(json.dumps, jobs)))
    done = run(fleet, "submit", "--batch", str(batch), "--wait", identity="client")
    assert (done.status, done.output) == (0, "batch-1 completed\n")
    assert "1 duplicate, 1 stored" in done.errors


# --- retry --all ------------------------------------------------------------------------------------------------------


def test_everything_that_failed_is_run_again(fleet: Fleet, tmp_path: Path) -> None:
    cause = tmp_path / "repaired"
    script = f"test -e {cause} && echo 42"
    failed = {run_job(fleet, "shell", text=script, id=new_id())[0].job_id for _ in range(3)}
    cause.touch()

    none = run(fleet, "retry", "--all", "--type", "echo")
    assert (none.status, none.output, none.errors) == (0, "", "stockworker: no jobs to retry found\n")
    done = run(fleet, "retry", "--all", "--type", "shell", "--json")
    assert done.status == 0
    assert set(map(owned, failed)) <= {line["id"] for line in done.json_lines}
    assert {line["status"] for line in done.json_lines} == {"reopened"}
    assert run(fleet, "wait", *sorted(map(owned, failed))).status == 0
    assert all(fleet.outcomes(job_id) == ["error", "ok"] for job_id in failed)


def test_what_failed_is_listed_page_by_page(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = [run_job(fleet, "old_shell", text="exit 1", id=new_id())[0].job_id for _ in range(5)]
    monkeypatch.setattr("stockworker.client.api.MAX_QUERY", 2)

    async def retry(client: Client) -> list[tuple[str | None, ReceiptStatus]]:
        return [(entry.job_id, entry.status) async for entry in client.retry_all("old_shell")]

    told = as_client(fleet, retry, "operator")
    assert told == [(owned(job_id), ReceiptStatus.REOPENED) for job_id in reversed(failed)]


def test_a_failed_job_is_not_run_again_beside_the_holder_of_its_key(fleet: Fleet) -> None:
    failed, _ = run_job(fleet, "shell", text="exit 1", unique="k")
    words = ("submit", "shell", "--tag", "on-the-moon", "--unique", "k")
    holder = owned(run(fleet, *words, identity="client").output.strip())

    async def retry(client: Client) -> list[tuple[str | None, ReceiptStatus, str | None]]:
        return [(entry.job_id, entry.status, entry.holder) async for entry in client.retry_all("shell")]

    told = as_client(fleet, retry, "operator")
    assert (owned(failed.job_id), ReceiptStatus.REJECTED, holder) in told
    done = run(fleet, "retry", owned(failed.job_id))
    assert (done.status, done.errors) == (
        1,
        f"stockworker: error: job {owned(failed.job_id)}: job {holder} holds the unique key k\n",
    )
    run(fleet, "cancel", holder)


@pytest.mark.parametrize("words", [(), ("--all", "job-1"), ("--type", "echo", "job-1")])
def test_retry_wants_jobs_or_all(fleet: Fleet, words: tuple[str, ...]) -> None:
    assert run(fleet, "retry", *words).status == 2
