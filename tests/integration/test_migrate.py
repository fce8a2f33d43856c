"""Jobs move from an old queue to a real dispatcher, with kills at every step, and back."""

import itertools
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from stockworker.adapters import clock
from stockworker.migration.back import BackStep
from stockworker.migration.run import Step
from tests.harness import command
from tests.harness.advice import follows
from tests.harness.command import Finished
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.old_queues import OldJob, SqliteQueue, numbered
from tests.harness.terminal import until_closed
from tests.harness.waiting import wait_until

COUNT = 25
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """No worker runs, so that jobs stay as they were submitted."""
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=0, settings={"handlers": python_handlers("echo")}) as fleet:
        yield fleet


class Move:
    """One migration from a new queue."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.queue = SqliteQueue(folder)
        self.report = folder / "report.jsonl"
        self.type = f"echo-{next(_numbers)}"

    def add(self, numbers: Sequence[int], **options: object) -> None:
        self.queue.add(numbered(numbers, type=self.type, **options))

    def command(self, *words: str, identity: str = "operator", preset: bool = True) -> Finished:
        described = self.queue.options if preset else ()
        shared = ("migrate", self.queue.url, *described, "--report", str(self.report))
        return command.run(self.fleet.config_file(identity), *shared, *words)

    def killed(self, step: str, number: int, *mode: str) -> None:
        """Run until SIGKILL after a step."""
        program = [
            sys.executable,
            "-m",
            "tests.harness.migrating",
            str(self.fleet.config_file("operator")),
            self.queue.url,
        ]
        done = subprocess.run(
            [*program, str(self.report), step, str(number), *mode], capture_output=True, check=False, timeout=60
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    @property
    def stored(self) -> list[int]:
        """The numbers of the jobs that wait at the dispatcher."""
        rows = self.fleet.stored(
            "SELECT body FROM payload JOIN job USING (sequence) WHERE type = ? AND state IN ('queued', 'scheduled')",
            self.type,
        )
        return sorted(json.loads(payload)["number"] for (payload,) in rows)

    @property
    def reported(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.report.read_text().splitlines()]


@pytest.fixture
def move(fleet: Fleet, tmp_path: Path) -> Move:
    return Move(fleet, tmp_path)


def test_jobs_arrive_with_their_priority_delay_and_attempts(move: Move) -> None:
    later = int(clock.wall()) + 3600
    move.add([1], priority="high", attempts=2)
    move.add([2], priority="low", scheduled_at=later)

    done = move.command()

    assert done.status == 0, done.errors
    assert done.output == "2 jobs moved (0 of them were known), 0 refused, 0 rejected\n"
    jobs = move.fleet.stored(
        "SELECT priority, state, not_before, max_attempts FROM job WHERE type = ? ORDER BY priority", move.type
    )
    assert [tuple(job) for job in jobs] == [(0, "queued", None, 1), (2, "scheduled", float(later), 3)]
    assert move.queue.waiting() == []
    assert move.command("--verify").output.splitlines()[1] == (
        "dispatcher: 2 moved jobs: 1 queued, 1 scheduled, 0 unknown"
    )


def test_what_can_not_be_mapped_stays_and_is_reported(move: Move) -> None:
    move.add([1])
    bad = {2: b"{broken", 3: b'"\xff"', 4: json.dumps("x" * 300_000).encode()}
    move.queue.add(OldJob(number, move.type, payload) for number, payload in bad.items())

    shown = move.command("--dry-run")
    done = move.command()

    assert (shown.status, done.status) == (1, 1)
    for number in bad:
        assert f"record {number} can't be moved: payload: " in shown.output
    assert sorted(move.queue.waiting()) == [2, 3, 4]
    assert {line["record"]: line["result"] for line in move.reported} == {
        "1": "moved", "2": "refused", "3": "refused", "4": "refused",
    }  # fmt: skip
    assert move.stored == [1]


@pytest.mark.parametrize(
    ("step", "number"),
    [
        (Step.READ, 2),
        (Step.CLAIMED, 1),
        (Step.CLAIMED, 2),
        (Step.SUBMITTED, 1),
        (Step.REPORTED, 2),
        (Step.LEFT, 1),
    ],
)
def test_a_kill_after_any_step_loses_and_doubles_nothing(move: Move, step: Step, number: int) -> None:
    move.add(range(1, COUNT + 1))

    move.killed(step, number)
    while move.queue.take() is not None:  # an old worker gets what is not claimed
        pass
    old = COUNT - len(move.queue.waiting())
    done = move.command()

    assert done.status == 0, done.errors
    taken = {number for (number,) in move.queue._run("SELECT id FROM jobs WHERE status = 'running'")}
    assert old
    assert taken.isdisjoint(move.stored)
    assert taken.union(move.stored) == set(range(1, COUNT + 1))
    assert len(move.stored) == len(set(move.stored))
    assert move.command("--verify").status == 0


def test_ctrl_c_finishes_the_page_and_the_next_run_continues(move: Move) -> None:
    """Nothing is claimed or pending twice: the first Ctrl-C ends the run between two pages."""
    move.add(range(1, 2_001))
    program = command.arguments(
        move.fleet.config_file("operator"), "migrate", move.queue.url, *move.queue.options,
        "--report", str(move.report), "--rate", "100",
    )  # fmt: skip
    terminal, its = pty.openpty()
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=its, text=True) as process:
        wait_until(lambda: bool(move.stored), "jobs arrive")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    os.close(its)
    errors = until_closed(terminal)
    moved = len(move.stored)

    assert (process.returncode, "Traceback" in errors) == (130, False), errors
    assert output == f"{moved} jobs moved (0 of them were known), 0 refused, 0 rejected\n"
    assert "stopped after a page; run the same command again to continue" in errors
    assert 0 < moved < 2_000
    assert re.findall(r"(\d+) of 2000 jobs moved, \d+ a second, \S.* left", errors)[0] == "100"  # a page of --rate 100
    assert len(move.queue.waiting()) == 2_000 - moved
    assert move.command().output == f"{2_000 - moved} jobs moved (0 of them were known), 0 refused, 0 rejected\n"
    assert (move.stored, move.queue.waiting()) == (list(range(1, 2_001)), [])
    assert move.command("--verify").status == 0


def test_a_second_ctrl_c_ends_the_command_and_loses_nothing(move: Move) -> None:
    """As a kill: what is claimed waits for the next run."""
    move.add(range(1, 201))
    program = command.arguments(
        move.fleet.config_file("operator"), "migrate", move.queue.url, *move.queue.options, "--report", str(move.report)
    )
    move.fleet.dispatcher.kill()
    try:
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wait_until(lambda: not move.queue.waiting(), "the records are claimed")
            process.send_signal(signal.SIGINT)
            wait_until(lambda: process.poll() is not None or stops_again(process), "the command ends", 60)
            _, errors = process.communicate(timeout=60)
    finally:
        move.fleet.dispatcher.start()

    assert (process.returncode, "Traceback" in errors) == (-signal.SIGINT, False), errors  # 130 in a shell
    assert move.command().output.startswith("200 jobs moved")
    assert move.stored == list(range(1, 201))


def stops_again(process: "subprocess.Popen[str]") -> bool:
    """Press Ctrl-C once more."""
    process.send_signal(signal.SIGINT)
    return False


def test_a_job_that_ended_and_was_forgotten_does_not_run_again(move: Move) -> None:
    """Killed after the report, with the job gone from the dispatcher: the record leaves, and the job is not submitted."""
    move.add([1])
    move.killed(Step.REPORTED, 1)
    config = move.fleet.config_file("operator")
    (line,) = move.reported
    command.run(config, "cancel", str(line["job"]))
    move.report.write_text(json.dumps({**line, "job": "migrated-forgotten"}) + "\n")

    assert move.command().output == "1 jobs moved (1 of them were known), 0 refused, 0 rejected\n"
    assert move.stored == []


def test_jobs_return_and_move_again(move: Move) -> None:
    move.add([1, 2, 3])
    move.command()

    assert move.command("--back").output == "3 jobs returned to the old queue\n"
    assert (sorted(move.queue.waiting()), move.stored) == ([1, 2, 3], [])
    assert move.queue.take() == 1
    assert move.command().output == "2 jobs moved (0 of them were known), 0 refused, 0 rejected\n"
    assert (move.queue.waiting(), move.stored) == ([], [2, 3])
    assert move.command("--verify").status == 0


def test_deleted_records_can_not_return(move: Move, tmp_path: Path) -> None:
    file = tmp_path / "mapping.yml"
    file.write_text("migration: {preset: jobs, standings: {moved: delete}}\n")
    move.add([1])
    done = move.command("--mapping", str(file), preset=False)
    back = move.command("--mapping", str(file), "--back", preset=False)

    assert done.output.startswith("1 jobs moved")
    assert move.queue._run("SELECT * FROM jobs") == []
    assert move.command("--mapping", str(file), "--verify", preset=False).status == 0
    assert (back.status, back.output) == (2, "")
    assert "--back needs records that stay in the old queue" in back.errors


@pytest.mark.parametrize("step", [BackStep.PAUSED, BackStep.RETURNING, BackStep.CANCELLED, BackStep.RETURNED])
def test_a_return_that_is_killed_continues(move: Move, step: str) -> None:
    move.add(range(1, COUNT + 1))
    move.command()

    move.killed(step, 1, "back")
    done = move.command("--back")

    assert done.status == 0, done.errors
    assert (sorted(move.queue.waiting()), move.stored) == (list(range(1, COUNT + 1)), [])
    command.run(move.fleet.config_file("operator"), "resume", move.type)


def test_the_bridge_moves_what_producers_add_until_it_is_stopped(move: Move, tmp_path: Path) -> None:
    program = command.arguments(
        move.fleet.config_file("client"), "migrate", move.queue.url, *move.queue.options,
        "--report", str(tmp_path / "bridge.jsonl"), "--follow", "--interval", "100ms",
    )  # fmt: skip
    with subprocess.Popen(program, stdout=subprocess.PIPE) as bridge:
        for number in range(1, 6):
            move.add([number])
            wait_until(lambda: not move.queue.waiting(), "the bridge moves the job")
        bridge.send_signal(signal.SIGTERM)
        output, _ = bridge.communicate(timeout=30)

    assert bridge.returncode == 0
    assert output.startswith(b"5 jobs moved")
    assert move.stored == [1, 2, 3, 4, 5]


def test_the_proposed_mapping_works(move: Move, tmp_path: Path) -> None:
    move.queue._run(
        "CREATE TABLE old_tasks (uuid TEXT PRIMARY KEY, task TEXT, args TEXT, prio INT, state TEXT, run_at TEXT)",
        f"INSERT INTO old_tasks VALUES ('a-1', '{move.type}', '{{\"number\": 7}}', 9, 'queued', NULL)",  # noqa: S608
    )
    proposed = move.command("--inspect", "--from", "old_tasks", preset=False)
    file = tmp_path / "mapping.yml"
    file.write_text(proposed.output)
    done = move.command("--mapping", str(file), preset=False)

    assert proposed.status == 0, proposed.errors
    assert yaml.safe_load(proposed.output)["migration"]["table"] == "old_tasks"
    assert done.status == 0, done.errors
    assert move.stored == [7]


def test_a_common_layout_is_recognised(move: Move) -> None:
    assert move.command("--inspect", preset=False).output == "migration:\n  preset: jobs\n  table: jobs\n"


@follows(
    "other users of this machine can see the password in the command line; pass the URL as @FILE or env:NAME, or the password "
    "with --password-file FILE"
)
def test_a_password_in_the_command_line_is_noted_and_not_shown(move: Move, tmp_path: Path) -> None:
    url = "postgresql://shop:secret@127.0.0.1:1/shop"
    config = move.fleet.config_file("client")
    noted = command.run(config, "migrate", url, "--preset", "jobs", "--dry-run")
    file = tmp_path / "url"
    file.write_text(f"{url}\n")
    file.chmod(0o600)
    silent = command.run(config, "migrate", f"@{file}", "--preset", "jobs", "--dry-run")
    file.write_text("secret\n")
    bare = url.replace(":secret", "")
    separate = command.run(config, "migrate", bare, "--preset", "jobs", "--dry-run", "--password-file", str(file))
    file.chmod(0o644)
    open_to_all = command.run(config, "migrate", bare, "--preset", "jobs", "--password-file", str(file))

    assert "other users" not in separate.errors
    assert "postgresql://shop@127.0.0.1:1/shop: can't connect: " in separate.errors
    assert "--password-file: every user of this machine can read or change it" in open_to_all.errors
    assert "other users of this machine can see the password" in noted.errors
    assert "other users" not in silent.errors
    assert "secret" not in noted.errors + silent.errors
    assert "postgresql://shop@127.0.0.1:1/shop: can't connect: " in silent.errors


@follows("describe the old queue with --mapping FILE or --preset NAME; --inspect proposes a mapping")
@follows("other candidates: …; see one with --from NAME")
def test_a_source_without_a_description_is_refused(move: Move) -> None:
    move.queue._run("CREATE TABLE old_jobs AS SELECT * FROM jobs")
    done = move.command(preset=False)
    inspected = move.command("--inspect", preset=False)
    other = move.command("--inspect", "--from", "old_jobs", preset=False)

    assert done.status == 2
    assert "describe the old queue with --mapping FILE or --preset NAME; --inspect proposes a mapping" in done.errors
    assert "other candidates: old_jobs; see one with --from NAME" in inspected.errors
    assert other.output == "migration:\n  preset: jobs\n  table: old_jobs\n"
    assert move.command("--preset", "jobs", "--from", "old_jobs", preset=False).status == 0


@follows(
    "move the jobs that wait in the old queue: stockworker migrate … --inspect > mapping.yml && stockworker migrate … "
    "--mapping mapping.yml --dry-run. Add --password-file FILE if it needs a password: docs/migrating.md"
)
@follows("queue.… does not name its database; name it in place of URL: stockworker migrate URL --inspect")
def test_the_command_that_check_prints_works(move: Move, tmp_path: Path) -> None:
    move.add([1])
    old = tmp_path / "job_processor.yml"
    old.write_text(f"job_processor: {{queue: {{backend: database, database: {{dsn: 'sqlite:{move.queue.path}'}}}}}}\n")
    checked = command.run(old, "check")
    (line,) = [line for line in checked.output.splitlines() if " migration " in line]
    advised = line.split("the old queue: ")[1].split(". Add --password-file")[0]
    own = shlex.join(command.arguments(move.fleet.config_file("client")))
    script = ["/bin/sh", "-c", advised.replace("stockworker", own)]
    done = subprocess.run(script, check=False, capture_output=True, text=True, cwd=tmp_path)

    assert checked.status == 1
    assert done.returncode == 0, done.stderr
    assert "1 jobs can be moved, 0 can't" in done.stderr
