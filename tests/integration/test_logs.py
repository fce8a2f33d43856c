"""What a job has printed and logged is kept with each attempt, and shown from anywhere."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stockworker.client import Client, Output
from stockworker.errors import AccessDenied
from stockworker.protocol.lifecycle import State
from tests.harness import command
from tests.harness.command import Finished
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.jobs import as_client, end_of, run_job, until_running, until_state
from tests.harness.terminal import on_terminal
from tests.harness.waiting import wait_until

KEPT = 64 * 1024


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {
        "worker": {"poll_interval": 0.5},
        "dispatcher": {"job_defaults": {"max_attempts": 3, "backoff": 0.01}},
        "handlers": {
            **python_handlers("talk", "nothing", "say"),
            "stubborn": {"command": ["/bin/sh", "-c", "echo to standard error >&2; echo 1; exit $(cat)"]},
        },
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1, settings=settings, clients=("client", "stranger")) as fleet:
        yield fleet


def logs(fleet: Fleet, *words: str, identity: str = "client") -> Finished:
    return command.run(fleet.config_file(identity), "logs", *words)


def records(output: str) -> list[str]:
    """The lines of an output, those of log records without their time."""
    return [line.partition("Z ")[2] or line for line in output.splitlines()]


def test_logs_shows_what_each_attempt_has_printed_and_logged(fleet: Fleet) -> None:
    run_job(fleet, "talk", {"failures": 1}, id="retried")
    shown = logs(fleet, "retried")
    assert (shown.status, shown.errors) == (0, "")
    assert records(shown.output) == [
        "==> attempt 1 on host-1: error: ValueError: fails in attempt 1 <==",
        "prints in attempt 1",
        "WARNING logs in attempt 1: ",
        "==> attempt 2 on host-1: ok <==",
        "prints in attempt 2",
        "WARNING logs in attempt 2: ",
    ]
    assert logs(fleet, "retried", "--follow").output == shown.output
    second = logs(fleet, "retr", "--attempt", "2")
    assert records(second.output) == ["prints in attempt 2", "WARNING logs in attempt 2: "]
    first, last = logs(fleet, "retried", "--json").json_lines
    assert records(first.pop("text")) == ["prints in attempt 1", "WARNING logs in attempt 1: "]
    assert first == {"job_id": "retried", "attempt": 1, "worker": "host-1", "outcome": "error", "omitted": 0}
    assert (last["attempt"], last["outcome"]) == (2, "ok")
    assert "prints in attempt 2" in fleet.workers[0].log


def test_the_end_of_a_mebibyte_is_kept_and_the_rest_is_counted(fleet: Fleet) -> None:
    run_job(fleet, "talk", {"lines": 65_536}, id="long")
    shown = logs(fleet, "long")
    assert len(shown.output) == KEPT
    assert f"\n{65_535:>15}\n" in shown.output
    written = len("prints in attempt 1\n") + 65_536 * 16 + len("12:00:00Z WARNING logs in attempt 1: \n")
    assert shown.errors == f"stockworker: attempt 1: {written - KEPT:,} bytes of its output are not kept\n"
    assert logs(fleet, "long", "--json").json["omitted"] == written - KEPT


def test_what_a_command_writes_to_standard_error_is_its_output(fleet: Fleet) -> None:
    run_job(fleet, "stubborn", 65, id="stubborn")
    assert logs(fleet, "stubborn").output == "to standard error\n"


def test_a_terminal_never_obeys_an_output_and_a_pipe_gets_each_byte(fleet: Fleet) -> None:
    run_job(fleet, "say", {"way": "output", "text": "\x1b[2J\rdone", "times": 1}, id="hostile")
    assert logs(fleet, "hostile").output == "\x1b[2J\rdone\n"
    screen = on_terminal(fleet.config_file("client"), "logs", "hostile")
    assert "\x1b[2J" not in screen
    assert "\\x1b[2J" in screen


def test_an_output_arrives_although_the_worker_was_killed_when_it_had_journaled_it(
    fleet: Fleet, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    async def start(client: Client) -> None:
        await client.submit("talk", {"gate": str(gate)}, id="killed")
        await until_running(client, "killed")

    as_client(fleet, start)
    fleet.dispatcher.kill()
    gate.touch()

    def journaled() -> bool:
        with closing(sqlite3.connect(fleet.journal("host-1"))) as journal:
            rows = journal.execute("SELECT output FROM lease").fetchall()
        return any("prints in" in (output or "") for (output,) in rows)

    wait_until(journaled, "the output is in the journal")
    fleet.workers[0].kill()
    fleet.dispatcher.start()
    fleet.workers[0].start()
    until_state(fleet, "client:killed", State.COMPLETED)
    assert records(logs(fleet, "killed").output) == ["prints in attempt 1", "WARNING logs in attempt 1: "]


def test_a_client_reads_outputs_in_python(fleet: Fleet) -> None:
    async def read(client: Client) -> tuple[list[Output], list[Output]]:
        await end_of(client, await client.submit("talk", {"failures": 2}, id="python"))
        return [*await client.outputs("python")], [*await client.outputs("python", attempt=3)]

    all_of_them, last = as_client(fleet, read)
    assert [(each.attempt, each.omitted, each.refusal) for each in all_of_them] == [(1, 0, ""), (2, 0, ""), (3, 0, "")]
    assert last == all_of_them[2:]
    assert "prints in attempt 3\n" in (last[0].text or "")


def test_only_the_owner_and_operators_read_an_output(fleet: Fleet) -> None:
    run_job(fleet, "talk", {}, id="mine")
    assert "prints in attempt 1" in logs(fleet, "client:mine", identity="operator").output
    denied = logs(fleet, "client:mine", identity="stranger")
    assert (denied.status, denied.output) == (77, "")
    assert logs(fleet, "mine", identity="stranger").status == 3

    async def read(client: Client) -> None:
        with pytest.raises(AccessDenied):
            await client.outputs("client:mine")

    as_client(fleet, read, "stranger")


def test_logs_explains_why_there_is_no_output(fleet: Fleet, tmp_path: Path) -> None:
    run_job(fleet, "nothing", id="silent")

    async def start(client: Client) -> None:
        await client.submit("talk", {"gate": str(tmp_path / "gate")}, id="running")
        await until_running(client, "running")
        await client.submit("unknown", id="waiting")
        await client.submit("unknown", id="cancelled")
        await client.cancel("cancelled")

    as_client(fleet, start)
    cases = {
        ("silent",): (
            1,
            "no output of job silent is kept: it has printed and logged nothing, or its worker keeps no output",
        ),
        ("silent", "--attempt", "2"): (1, "job silent has no attempt 2: its newest one is attempt 1"),
        ("running",): (4, "job running has no output yet: attempt 1 is running on host-1"),
        ("waiting",): (4, "job waiting has no output: it has not started. Its state is queued"),
        ("cancelled",): (1, "job cancelled has no output: it has not started. Its state is cancelled"),
        ("none-such",): (3, "job none-such is unknown to the dispatcher"),
        ("silent", "--attempt", "0"): (2, "must be"),
    }
    for words, (status, problem) in cases.items():
        shown = logs(fleet, *words)
        assert (shown.status, shown.output) == (status, ""), words
        assert problem in shown.errors
    (tmp_path / "gate").touch()
