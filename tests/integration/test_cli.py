"""Every command against a whole fleet: output for people and programs, exit statuses."""

import itertools
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockworker.protocol.job import PRIORITY_BY_LABEL
from tests.harness import command
from tests.harness.advice import follows
from tests.harness.command import Finished
from tests.harness.fleet import Fleet, owned

HANDLERS = ("echo", "fail", "length", "wait_for_cancel")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {
        "worker": {"handler_paths": [str(Path(__file__).parents[1] / "harness")]},
        "handlers": {name: {"python": f"job_handlers:{name}"} for name in HANDLERS},
        "dispatcher": {"job_defaults": {"max_attempts": 1}},
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1, settings=settings) as fleet:
        yield fleet


def run(fleet: Fleet, *words: str, identity: str = "client", stdin: bytes = b"") -> Finished:
    return command.run(fleet.config_file(identity), *words, stdin=stdin)


def new_id() -> str:
    return f"job-{next(_numbers)}"


def test_a_submitted_job_is_named_and_its_result_can_be_had(fleet: Fleet) -> None:
    submitted = run(fleet, "submit", "echo", '{"price": 1.10}')
    job_id = submitted.output.strip()
    result = run(fleet, "result", job_id, "--wait")

    assert (submitted.status, submitted.errors) == (0, "")
    assert (result.status, result.errors) == (0, "")
    assert result.json["id"] == owned(job_id)
    assert result.json["payload"] == {"price": 1.10}


def test_submit_waits_and_prints_the_result_alone(fleet: Fleet) -> None:
    done = run(fleet, "submit", "echo", "[1]", "--wait", "--id", (job_id := new_id()))

    assert (done.status, done.json["payload"]) == (0, [1])
    assert done.errors == f"stockworker: waiting for job {job_id}\n"


def test_quiet_leaves_errors_alone(fleet: Fleet) -> None:
    assert run(fleet, "submit", "echo", "--wait", "--quiet").errors == ""
    assert run(fleet, "submit", "fail", "--wait", "--quiet").errors != ""


def test_the_same_id_is_the_same_job(fleet: Fleet) -> None:
    job_id = new_id()
    first = run(fleet, "submit", "echo", "--id", job_id, "--json")
    second = run(fleet, "submit", "echo", "--id", job_id, "--json")

    assert first.json == {"job_id": job_id, "id": job_id, "status": "stored"}
    assert (second.status, second.json) == (0, {"job_id": job_id, "id": job_id, "status": "duplicate"})
    assert "was submitted before" in second.errors


def test_another_payload_under_the_same_id_is_rejected(fleet: Fleet) -> None:
    job_id = new_id()
    run(fleet, "submit", "echo", "1", "--id", job_id, "--wait")
    done = run(fleet, "submit", "echo", "2", "--id", job_id)

    assert done.status != 0
    assert "a job with another payload is stored under this ID. Submit the new job under another ID" in done.errors
    assert run(fleet, "submit", "echo", "1", "--id", job_id).status == 0


@pytest.mark.parametrize("source", ["-", "@payload.json"])
def test_a_payload_is_read_from_elsewhere(fleet: Fleet, source: str) -> None:
    content = b'{"symbol": "M\xc3\xbcnchen"}'
    (fleet.folder / "payload.json").write_bytes(content)
    given = source.replace("@", f"@{fleet.folder}/")

    done = run(fleet, "submit", "echo", given, "--wait", stdin=content if source == "-" else b"")

    assert done.json["payload"] == {"symbol": "München"}


def test_a_failed_job_is_told_with_its_reason(fleet: Fleet) -> None:
    for_people = run(fleet, "submit", "fail", "--wait", "--quiet", "--id", (job_id := new_id()))
    for_programs = run(fleet, "submit", "fail", "--wait", "--json")

    assert (for_people.status, for_people.output) == (1, "")
    assert for_people.errors.startswith(f"stockworker: error: job {job_id} failed: ValueError: no such ticker")
    assert len(for_people.errors.splitlines()) == 1
    assert for_programs.status == 1
    assert for_programs.json["status"] == "stored"
    assert for_programs.json["state"] == "failed"
    assert for_programs.json["reason"].startswith("ValueError")


def test_a_job_that_the_dispatcher_rejects(fleet: Fleet) -> None:
    done = run(fleet, "submit", "echo", "--expires-at", "2020-01-01T00:00:00Z", "--json")

    assert (done.status, done.json["status"]) == (1, "rejected")
    assert "expires_at is in the past" in done.errors


def test_status_shows_known_jobs_and_complains_of_others(fleet: Fleet) -> None:
    run(fleet, "submit", "fail", "--id", (job_id := new_id()), "--priority", "high", "--wait")
    for_people = run(fleet, "status", job_id, "no-such-job")
    for_programs = run(fleet, "status", "no-such-job", job_id, "--json")

    lines = dict(line.split(":", 1) for line in for_people.output.splitlines()[:4])
    assert {name: value.strip() for name, value in lines.items()} == {
        "job": job_id,
        "type": "fail",
        "priority": "high",
        "state": "failed",
    }
    assert for_people.status == for_programs.status == 3
    assert for_people.errors == "stockworker: error: job no-such-job is unknown to the dispatcher\n"
    assert for_programs.json["id"] == job_id
    assert for_programs.json["worker"] == "host-1"
    assert for_programs.json["failures"] == 1


def test_list_filters_and_limits(fleet: Fleet) -> None:
    ids = [new_id() for _ in range(3)]
    for job_id in ids:
        run(fleet, "submit", "length", '"x"', "--id", job_id, "--wait")

    newest = run(fleet, "list", "--type", "length", "--limit", "2", "--json")
    none = run(fleet, "list", "--type", "length", "--state", "failed")

    assert [job["id"] for job in newest.json_lines] == [ids[2], ids[1]]
    assert (none.status, none.output.split()) == (
        0,
        ["JOB", "TYPE", "PRIORITY", "STATE", "AGE", "ATTEMPT", "WORKER", "REASON"],
    )


def test_wait_says_how_each_job_ended(fleet: Fleet) -> None:
    good, bad = new_id(), new_id()
    run(fleet, "submit", "length", '"four"', "--id", good)
    run(fleet, "submit", "fail", "--id", bad)

    for_people = run(fleet, "wait", good, bad)
    for_programs = run(fleet, "wait", good, bad, "--json")

    assert for_people.status == for_programs.status == 1
    assert f"{good} completed" in for_people.output.splitlines()
    assert {job["id"]: job["state"] for job in for_programs.json_lines} == {good: "completed", bad: "failed"}
    assert next(job for job in for_programs.json_lines if job["id"] == good)["result"] == 4


def test_wait_gives_up_in_time(fleet: Fleet) -> None:
    run(fleet, "submit", "echo", "--tag", "no-worker-has-it", "--id", (job_id := new_id()))

    waited = run(fleet, "wait", job_id, "--timeout", "100ms")
    result = run(fleet, "result", job_id)

    assert (waited.status, waited.output) == (4, "")
    assert waited.errors.endswith(f"not ended in time: {job_id}\n")
    assert result.status == 4
    assert f"job {job_id} has not ended: its state is queued" in result.errors


@pytest.mark.parametrize("words", [("wait",), ("result",), ("result", "--wait"), ("cancel",)])
def test_an_unknown_job_has_an_exit_status_of_its_own(fleet: Fleet, words: tuple[str, ...]) -> None:
    done = run(fleet, *words, "no-such-job")

    assert (done.status, done.output) == (3, "")
    assert "no-such-job" in done.errors


def test_a_job_is_cancelled_and_run_again(fleet: Fleet) -> None:
    waits, failed = new_id(), new_id()
    run(fleet, "submit", "echo", "--not-before", "1h", "--id", waits)
    run(fleet, "submit", "fail", "--id", failed, "--wait")

    cancelled = run(fleet, "cancel", waits)
    cancelled_again = run(fleet, "cancel", waits, "--json")
    retried = run(fleet, "retry", owned(failed), "--json", identity="operator")

    assert (cancelled.status, cancelled.output) == (0, f"{waits} cancelled\n")
    assert cancelled_again.json["id"] == waits
    assert (retried.status, retried.json) == (0, {"job_id": owned(failed), "id": owned(failed), "status": "reopened"})


def test_a_job_that_has_completed_can_not_be_retried(fleet: Fleet) -> None:
    run(fleet, "submit", "echo", "--id", (job_id := new_id()), "--wait")

    done = run(fleet, "retry", owned(job_id), identity="operator")

    assert (done.status, done.output) == (1, "")
    assert done.errors.startswith(f"stockworker: error: job {owned(job_id)}: the job is already completed")


def test_a_client_may_not_retry(fleet: Fleet) -> None:
    done = run(fleet, "retry", "any-job")

    assert (done.status, done.output) == (77, "")
    assert "jobs/retry/client:any-job: not authorized" in done.errors


def test_statistics(fleet: Fleet) -> None:
    run(fleet, "submit", "echo", "--wait")
    for_people = run(fleet, "stats")
    for_programs = run(fleet, "stats", "--json")

    assert for_people.output.startswith("dispatcher ")
    assert "host-1  online" in for_people.output
    assert [worker["id"] for worker in for_programs.json["workers"]] == ["host-1"]
    assert for_programs.json["states"]["completed"] >= 1


def test_statistics_are_shown_again_until_interrupted(fleet: Fleet) -> None:
    words = command.arguments(fleet.config_file("client"), "stats", "--watch", "10ms", "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert all(process.stdout.readline().startswith(b'{"incarnation"') for _ in range(3))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=command.TIMEOUT_S)

    assert (process.returncode, errors) == (130, b"")


def test_a_batch_is_stored_and_waited_for(fleet: Fleet) -> None:
    lines = b"\n".join(
        [
            b'{"payload": "abc", "id": "batch-1", "priority": "high"}',
            b"",
            b'{"type": "fail", "id": "batch-2", "timeout": "5m", "tags": []}',
        ]
    )

    done = run(fleet, "submit", "length", "--batch", "-", "--wait", "--json", stdin=lines)

    receipts = {entry["line"]: entry for entry in done.json_lines if "line" in entry}
    completions = {entry["id"]: entry for entry in done.json_lines if "state" in entry}
    assert done.status == 1
    assert receipts == {
        1: {"line": 1, "job_id": "batch-1", "id": "batch-1", "status": "stored"},
        3: {"line": 3, "job_id": "batch-2", "id": "batch-2", "status": "stored"},
    }
    assert completions["batch-1"] == {"job_id": "batch-1", "id": "batch-1", "state": "completed", "result": 3}
    assert completions["batch-2"]["state"] == "failed"
    assert done.errors == "stockworker: 2 jobs: 2 stored\n"


def test_a_batch_prints_the_ids_of_what_is_stored(fleet: Fleet) -> None:
    file = fleet.folder / "many.jsonl"
    file.write_text("".join(f'{{"type": "length", "payload": "{number}"}}\n' for number in range(200)))

    done = run(fleet, "submit", "--batch", str(file))
    waited = run(fleet, "wait", *done.output.split())

    assert (done.status, done.errors) == (0, "stockworker: 200 jobs: 200 stored\n")
    assert len(set(done.output.split())) == 200
    assert (waited.status, waited.output.count(" completed\n")) == (0, 200)


@follows("nothing was sent. Correct the file, or submit only the valid lines with --skip-bad")
def test_a_batch_with_bad_lines_is_not_sent(fleet: Fleet) -> None:
    good, bad = b'{"type": "echo", "id": "skip-1"}', b'{"type": "echo", "paylod": 1}'

    refused = run(fleet, "submit", "--batch", "-", stdin=good + b"\n" + bad)
    unknown = run(fleet, "status", "skip-1")
    skipped = run(fleet, "submit", "--batch", "-", "--skip-bad", stdin=good + b"\n" + bad)

    assert (refused.status, refused.output) == (2, "")
    assert "standard input:2: paylod: unknown field; did you mean 'payload'?" in refused.errors
    assert "nothing was sent" in refused.errors
    assert unknown.status == 3
    assert (skipped.status, skipped.output) == (2, "skip-1\n")


def test_rejected_lines_of_a_batch_are_named(fleet: Fleet) -> None:
    lines = b'{"type": "echo"}\n{"type": "echo", "expires_at": 1}\n'

    done = run(fleet, "submit", "--batch", "-", stdin=lines)

    assert (done.status, len(done.output.splitlines())) == (1, 1)
    assert "line 2: job" in done.errors
    assert "rejected: expires_at is in the past" in done.errors


def test_an_interrupted_wait_ends_quietly(fleet: Fleet) -> None:
    words = command.arguments(fleet.config_file("client"), "submit", "echo", "--tag", "no-worker-has-it", "--wait")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"waiting for job" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=command.TIMEOUT_S)

    assert (process.returncode, output, errors) == (130, b"", b"")


def test_a_reader_that_has_left_is_no_error(fleet: Fleet) -> None:
    words = command.arguments(fleet.config_file("client"), "stats")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()

    assert (process.returncode, errors) == (141, b"")


@pytest.mark.parametrize(("redirect", "status"), [(">/dev/full", 73), (">&-", 0), ("2>&-", 0), ("2>/dev/full", 0)])
def test_a_job_is_stored_although_nobody_can_be_told(fleet: Fleet, redirect: str, status: int) -> None:
    """Exit status 1 would mean that it was rejected: a script would submit it again."""
    job_id = new_id()
    words = command.arguments(fleet.config_file("client"), "submit", "echo", "1", "--id", job_id)
    done = subprocess.run(["sh", "-c", f"{shlex.join(words)} {redirect}"], capture_output=True, check=False, timeout=60)

    assert done.returncode == status
    assert b"Traceback" not in done.stderr
    assert run(fleet, "wait", job_id).status == 0


def test_a_batch_is_stored_as_a_whole_although_nobody_can_be_told(fleet: Fleet) -> None:
    ids = [new_id() for _ in range(3)]
    lines = "".join(
        f'{{"type": "echo", "id": "{job_id}", "priority": "{priority}"}}\n'
        for job_id, priority in zip(ids, PRIORITY_BY_LABEL, strict=True)
    )
    words = command.arguments(fleet.config_file("client"), "submit", "--batch", "-")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, input=lines.encode(), stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)

    assert done.returncode == 73
    assert run(fleet, "wait", *ids).status == 0


@follows("job … has not ended: its state is …. Use --wait to wait for it")
def test_a_result_that_is_not_there_yet_can_be_waited_for(fleet: Fleet) -> None:
    job_id = run(fleet, "submit", "echo", "1", "--not-before", "2s").output.strip()
    early = run(fleet, "result", job_id)
    assert (early.status, early.output) == (4, "")
    assert "Use --wait to wait for it" in early.errors
    assert run(fleet, "result", job_id, "--wait").json["payload"] == 1
