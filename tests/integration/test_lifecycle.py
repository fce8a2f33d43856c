"""Every end of a job in `docs/lifecycle.md`, in a real fleet with real processes."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockworker.adapters import clock
from stockworker.client import Client, Completion
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Progress, ReceiptStatus
from tests.harness.fleet import Fleet, owned, python_handlers
from tests.harness.jobs import as_client, end_of, run_job, until_running
from tests.harness.ledger import SETTING, Ledger
from tests.harness.waiting import until

OLD_PROGRAM = """\
import json, os, sys
job = json.load(sys.stdin)
print("checked", os.environ["STOCKWORKER_JOB_ID"], file=sys.stderr)
if "symbol" not in job:
    sys.exit(65)
json.dump({"symbol": job["symbol"].upper(), "settings": json.load(open(os.environ["STOCKWORKER_SETTINGS_FILE"]))}, sys.stdout)
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    program = folder / "old_program.py"
    program.write_text(OLD_PROGRAM)
    functions = ("die", "die_by_signal", "echo", "fail", "fail_for_good", "hang_in_c", "read_null")
    settings = {
        "worker": {"max_concurrent_jobs": 1, "stop_grace": 0.1},
        "dispatcher": {"job_defaults": {"backoff": 0.01}},
        "handlers": {
            **python_handlers(*functions, "wait_for_cancel", "wait_for_file"),
            "old_program": {"command": [sys.executable, "-I", str(program)], "settings": {"market": "XETRA"}},
            "shell": {"command": ["/bin/sh", "-c", 'read -r script; eval "$script"']},
        },
    }
    with Fleet(folder, workers=1, settings=settings) as fleet:
        yield fleet


# --- attempts that fail -----------------------------------------------------------------------------------------------


def test_a_handler_that_hangs_in_c_times_out_until_no_attempt_is_left(fleet: Fleet) -> None:
    # The time-out covers the start of a process, which a loaded machine needs a second for; before it hangs it can be
    # stopped without being killed.
    ended, outcomes = run_job(fleet, "hang_in_c", timeout_s=3, max_attempts=2)
    assert (ended.state, outcomes) == (State.FAILED, ["timed_out", "timed_out"])
    assert ended.reason == "not done after 3 s; killed, because it did not stop within 0.1 s (attempt 2 of 2)"


@pytest.mark.parametrize(
    ("job_type", "payload", "reason"),
    [
        ("die", 7, "the process exited with code 7\nlast words"),
        ("die_by_signal", 6, "the process was killed by SIGABRT"),
        ("read_null", None, "the process was killed by SIGSEGV"),
    ],
)
def test_a_poison_job_crashes_at_most_max_crashes_processes(
    fleet: Fleet, job_type: str, payload: Any, reason: str
) -> None:
    ended, outcomes = run_job(fleet, job_type, payload, max_attempts=9, max_crashes=2)
    assert (ended.state, outcomes) == (State.FAILED, ["crashed", "crashed"])
    assert (ended.reason or "").startswith(reason)
    assert (ended.reason or "").endswith("(2 crashes; max_crashes is 2)")


def test_an_error_is_retried_until_no_attempt_is_left(fleet: Fleet) -> None:
    ended, outcomes = run_job(fleet, "fail", max_attempts=3)
    assert (ended.state, outcomes) == (State.FAILED, ["error", "error", "error"])
    assert (ended.reason or "").startswith("ValueError: no such ticker")


def test_a_permanent_error_fails_immediately(fleet: Fleet) -> None:
    ended, outcomes = run_job(fleet, "fail_for_good", max_attempts=3)
    assert (ended.state, ended.reason, outcomes) == (State.FAILED, "ACME was delisted", ["error"])


def test_after_all_of_these_the_next_job_runs_at_the_first_attempt(fleet: Fleet) -> None:
    ended, outcomes = run_job(fleet, "echo", "good")
    assert (ended.state, outcomes) == (State.COMPLETED, ["ok"])


# --- commands ---------------------------------------------------------------------------------------------------------


def test_an_existing_program_runs_unchanged(fleet: Fleet) -> None:
    ended, outcomes = run_job(fleet, "old_program", {"symbol": "aapl"}, id="old-1")
    assert (ended.state, outcomes) == (State.COMPLETED, ["ok"])
    assert json.loads(ended.result or "") == {"symbol": "AAPL", "settings": {"market": "XETRA"}}
    fleet.workers[0].await_event("handler_log", message="checked client:old-1", job=owned("old-1"), level="warning")


def test_exit_code_65_prevents_retries(fleet: Fleet) -> None:
    ended, outcomes = run_job(fleet, "old_program", {"ticker": "aapl"}, max_attempts=3)
    assert (ended.state, outcomes) == (State.FAILED, ["error"])
    assert (ended.reason or "").startswith("exit code 65\nchecked ")


@pytest.mark.parametrize(
    ("script", "outcomes", "reason"),
    [
        ("echo 'no disk' >&2; exit 1", ["error", "error"], "exit code 1\nno disk"),
        ("kill -SEGV $$", ["crashed", "crashed"], "the process was killed by SIGSEGV"),
        ("sleep 1000", ["timed_out", "timed_out"], "not done after 0.2 s"),
        ("echo done", ["error"], "exit code 0, but standard output is not a result"),
    ],
)
def test_the_exit_code_of_a_command_decides_its_outcome(
    fleet: Fleet, script: str, outcomes: list[str], reason: str
) -> None:
    ended, found = run_job(fleet, "shell", text=script, timeout_s=0.2, max_attempts=2)
    assert (ended.state, found) == (State.FAILED, outcomes)
    assert (ended.reason or "").startswith(reason)


# --- what people ask for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job_type", ["hang_in_c", "wait_for_cancel"])
def test_cancelling_a_running_job_stops_it(fleet: Fleet, job_type: str) -> None:
    async def cancel(client: Client) -> tuple[ReceiptStatus, Completion]:
        job_id = await client.submit(job_type)
        await until_running(client, job_id)
        receipt = await client.cancel(job_id)
        return receipt.status, await end_of(client, job_id)

    status, ended = as_client(fleet, cancel)
    assert (status, ended.state) == (ReceiptStatus.CANCELLING, State.CANCELLED)
    assert fleet.outcomes(ended.job_id) == ["cancelled"]
    assert run_job(fleet, "echo")[1] == ["ok"]


def test_a_cancelled_waiting_job_never_starts(fleet: Fleet, tmp_path: Path) -> None:
    async def cancel(client: Client) -> tuple[Completion, Completion]:
        # A job with a tag that no worker has: it waits for as long as the test needs.
        waiting = await client.submit("echo", tags=["on-the-moon"])
        assert (await client.cancel(waiting)).status is ReceiptStatus.CANCELLED
        blocking = await client.submit("wait_for_file", str(tmp_path / "go"))
        await until_running(client, blocking)
        behind = await client.submit("echo")
        assert (await client.cancel(behind)).status in {ReceiptStatus.CANCELLED, ReceiptStatus.CANCELLING}
        (tmp_path / "go").touch()
        assert (await end_of(client, blocking)).state is State.COMPLETED
        return await end_of(client, waiting), await end_of(client, behind)

    waiting, behind = as_client(fleet, cancel)
    assert (waiting.state, waiting.reason) == (State.CANCELLED, "cancelled before a worker had it")
    assert fleet.outcomes(waiting.job_id) == []
    assert behind.state is State.CANCELLED
    assert fleet.outcomes(behind.job_id) in ([], ["cancelled"])


def test_an_ended_job_can_be_neither_cancelled_nor_retried(fleet: Fleet) -> None:
    ended, _ = run_job(fleet, "echo")

    async def ask(client: Client) -> list[str | None]:
        return [(await client.cancel(owned(ended.job_id))).reason, (await client.retry(owned(ended.job_id))).reason]

    assert as_client(fleet, ask, "operator") == 2 * ["the job is already completed"]


def test_an_operator_can_retry_a_failed_job(fleet: Fleet, tmp_path: Path) -> None:
    cause = tmp_path / "repaired"
    failed, _ = run_job(fleet, "shell", text=f"test -e {cause} && echo 42", max_attempts=1)
    assert failed.state is State.FAILED
    cause.touch()

    async def retry(client: Client) -> tuple[ReceiptStatus, Any]:
        status = (await client.retry(owned(failed.job_id))).status
        return status, await client.result(owned(failed.job_id), timeout_s=30)

    assert as_client(fleet, retry, "operator") == (ReceiptStatus.REOPENED, 42)
    assert fleet.outcomes(failed.job_id) == ["error", "ok"]


def test_a_job_does_not_start_before_its_time(fleet: Fleet) -> None:
    not_before = clock.wall() + 0.8

    async def submit(client: Client) -> tuple[State, Completion]:
        job_id = await client.submit("echo", not_before=not_before)
        (view,) = await client.query([job_id])
        return view.state, await end_of(client, job_id)

    state, ended = as_client(fleet, submit)
    assert (state, ended.state) == (State.SCHEDULED, State.COMPLETED)
    ((assigned_at,),) = fleet.stored("SELECT assigned_at FROM attempt WHERE job_id = ?", owned(ended.job_id))
    assert assigned_at >= not_before


def test_a_job_that_does_not_start_in_time_expires(fleet: Fleet) -> None:
    ended, outcomes = run_job(fleet, "echo", tags=["on-the-moon"], expires_at=clock.wall() + 0.5)
    assert (ended.state, ended.reason) == (State.EXPIRED, "no worker started it before expires_at")
    assert outcomes == []


def test_progress_reaches_every_subscriber(fleet: Fleet) -> None:
    received: list[Progress] = []

    async def listen() -> None:
        async with fleet.client(on_progress=received.append) as client:
            job_id = await client.submit("wait_for_cancel")
            await until(lambda: received, "progress is received")
            await client.cancel(job_id)
            await end_of(client, job_id)
            assert received[0].job_id == job_id

    asyncio.run(listen())
    assert (received[0].fraction, received[0].text) == (0.0, "started")


def test_priorities_decide_which_job_runs_next(tmp_path: Path) -> None:
    """Uses a worker of its own: one that has just run very short jobs prefetches more, in the order of arrival."""
    ledger = Ledger(tmp_path / "ledger")
    handlers = {
        **python_handlers("wait_for_file"),
        "echo": {"python": "ledger:echo", "settings": {SETTING: str(ledger.path)}},
    }
    settings = {"worker": {"max_concurrent_jobs": 1}, "handlers": handlers}

    async def submit(client: Client) -> None:
        blocking = await client.submit("wait_for_file", str(tmp_path / "go"))
        await until_running(client, blocking)
        jobs = [("low-1", "low"), ("normal-1", "normal"), ("high-1", "high"), ("low-2", "low"), ("high-2", "high")]
        for job_id, priority in jobs:
            await client.submit("echo", id=job_id, priority=priority)
        (tmp_path / "go").touch()
        for job_id, _ in jobs:
            await client.result(job_id, timeout_s=30)

    with Fleet(tmp_path, workers=1, settings=settings) as fleet:
        as_client(fleet, submit)
    ran = [execution.job_id for execution in ledger.all()]
    assert ran == ["high-1", "high-2", "normal-1", "low-1", "low-2"]
