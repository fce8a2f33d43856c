"""The files of the dispatcher and the workers: killed writers, full disks, damaged files and foreign files."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from stockworker.adapters.sqlite import open_database
from stockworker.dispatcher.effects import SaveAttempt, SaveJob
from stockworker.dispatcher.ready_queue import BEFORE_ALL, Refill
from stockworker.dispatcher.rows import ATTEMPT, JOB, attempt_row, job_row
from stockworker.dispatcher.store_sqlite import APPLICATION_ID, MIGRATIONS, SqliteJobStore
from stockworker.errors import StoreError
from stockworker.protocol.ids import JobId
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.worker.journal import Journal
from tests.harness.dispatching import MIDDAY
from tests.harness.store_writer import OPENERS, PAYLOAD, a_job, a_report, an_assignment, an_attempt, commit

ROOT: Final = Path(__file__).parents[2]
MANY_BYTES: Final = 1 << 30
KINDS: Final = ("jobs", "journal")

every_kind = pytest.mark.parametrize("kind", KINDS)


def start_writer(kind: str, path: Path, most_bytes: int = MANY_BYTES) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.harness.store_writer", kind, str(path), str(most_bytes)]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "agent:."}, stdout=subprocess.PIPE, text=True
    )


def found(kind: str, path: Path) -> int:
    """The number of items; each is complete, and none is missing in between."""
    if kind == "journal":
        journal = Journal(path)
        entries = journal.load()
        journal.close()
        for number, entry in enumerate(entries, 1):
            assert entry.started
            assert entry.assignment.token == an_assignment(number).token
            assert entry.report == a_report(number)
        return len(entries)
    store = SqliteJobStore(path)
    jobs = list(store.load().jobs)
    assert jobs == [a_job(number) for number in range(1, len(jobs) + 1)]
    assert store.payloads(jobs) == {job.spec.job_id: PAYLOAD for job in jobs}
    for number in range(1, len(jobs) + 1):
        assert store.reader().attempts(JobId(f"job-{number}"), 9) == [an_attempt(number)]
    store.close()
    return len(jobs)


@every_kind
def test_only_committed_items_survive_a_kill(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file.sqlite3"
    for _ in range(3):
        with start_writer(kind, path) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(100)]
            process.send_signal(signal.SIGKILL)
            said += process.stdout.readlines()
        committed = int(said[-1])
        assert found(kind, path) in (committed, committed + 1)  # it may have died between the commit and its word
        for leftover in tmp_path.iterdir():
            leftover.unlink()


@every_kind
def test_a_full_disk_is_an_error_that_names_the_file_and_loses_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file.sqlite3"
    with start_writer(kind, path, most_bytes=600_000) as process:
        said, _ = process.communicate(timeout=60)
    *numbers, error = said.splitlines()
    assert error.startswith(f"{path}: can't be written: ")
    assert len(numbers) > 10
    assert found(kind, path) == len(numbers)
    file = OPENERS[kind](path)
    commit(file, len(numbers) + 1)  # there is space again
    file.close()
    assert found(kind, path) == len(numbers) + 1


@every_kind
def test_a_foreign_file_is_not_changed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file.sqlite3"
    other = KINDS[1 - KINDS.index(kind)]
    OPENERS[other](path).close()
    with pytest.raises(StoreError, match=f"{path}: belongs to another program"):
        OPENERS[kind](path)
    assert found(other, path) == 0


@every_kind
def test_a_file_that_is_not_a_database_is_refused_and_not_changed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file.sqlite3"
    path.write_text("symbol,close\nAAPL,1\n" * 100)
    with pytest.raises(StoreError, match=f"{path}: can't be used: damaged, or not an SQLite file"):
        OPENERS[kind](path)
    assert path.read_text().startswith("symbol,close")


@every_kind
def test_a_missing_folder_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "missing" / "file.sqlite3"
    with pytest.raises(StoreError, match=f"{path}: the folder {path.parent} does not exist"):
        OPENERS[kind](path)


@every_kind
def test_a_file_damaged_while_open_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file.sqlite3"
    with start_writer(kind, path, most_bytes=600_000) as process:
        process.communicate(timeout=60)
    OPENERS[kind](path).close()  # what is in the write-ahead log goes into the file
    pages = range(1, path.stat().st_size // 4096)
    assert len(pages) > 10
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    opened = OPENERS[kind](path)
    with pytest.raises(StoreError, match=f"{path}: can't be read: "):
        opened.load()
    opened.close()


def test_an_older_store_gets_the_sizes_of_its_payloads_and_its_waiting_jobs_are_parked(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    before = next(number for number, each in enumerate(MIGRATIONS) if "payload_bytes" in each)
    old = open_database(path, application_id=APPLICATION_ID, migrations=MIGRATIONS[:before])
    columns = [column for column in JOB if column not in ("payload_bytes", "parked")]
    values = dict(zip(JOB, job_row(a_job(1)), strict=True))
    old.execute(
        f"INSERT INTO job ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608 (own columns)
        [values[column] for column in columns],
    )
    old.execute("INSERT INTO payload (sequence, body) VALUES (1, '\N{EURO SIGN}')")
    old.commit()
    old.close()
    store = SqliteJobStore(path)
    (parked,) = store.load().parked
    assert store.parked(Refill(parked.lane, BEFORE_ALL, 9)) == [replace(a_job(1), payload_bytes=3, parked=True)]
    store.close()


def test_an_older_store_keeps_its_attempts(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    before = next(number for number, each in enumerate(MIGRATIONS) if "newest_here" in each)
    old = open_database(path, application_id=APPLICATION_ID, migrations=MIGRATIONS[:before])
    done = replace(a_job(1), state=State.COMPLETED, ended_at=MIDDAY, attempt=1)
    for table, columns, row in (("job", JOB, job_row(done)), ("attempt", ATTEMPT, attempt_row(an_attempt(1)))):
        old.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608 (own columns)
            row,
        )
    old.commit()
    old.close()
    with closing(SqliteJobStore(path)) as store:
        assert store.reader().attempts(done.spec.job_id, 9) == [an_attempt(1)]
    assert attempts_in_sql(path) == [(done.spec.job_id, 1, None)]


def test_a_job_that_completes_at_once_has_no_row_for_its_attempt(tmp_path: Path) -> None:
    """And people who read the file still find the attempt, where it has always been."""
    path = tmp_path / "jobs.sqlite3"
    job, attempt = a_job(1), replace(an_attempt(1), ended_at=MIDDAY, outcome=Outcome.OK, ran_s=0.5)
    leased = replace(
        job,
        state=State.ASSIGNED,
        attempt=1,
        worker=attempt.worker,
        token=attempt.token,
        assigned_at=attempt.assigned_at,
    )
    with closing(SqliteJobStore(path)) as store:
        store.commit([SaveJob(job, "{}")])
        store.commit([SaveJob(leased), SaveAttempt(an_attempt(1))])
        assert attempts_in_sql(path) == [(job.spec.job_id, 1, None)]
        store.commit([SaveJob(replace(leased, state=State.COMPLETED, ended_at=MIDDAY)), SaveAttempt(attempt)])
        assert attempts_in_sql(path) == [(job.spec.job_id, 1, "ok")]
        assert attempts_in_sql(path, "attempt_row") == []


def attempts_in_sql(path: Path, table: str = "attempt") -> list[tuple[str, int, str | None]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT job_id, number, outcome FROM {table}").fetchall()  # noqa: S608 (own names)
