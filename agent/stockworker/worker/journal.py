"""The leases of this worker and the results that are not acknowledged, on its own disk."""

import logging
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.adapters.sqlite import (
    Connect,
    DatabaseError,
    check_integrity,
    connect,
    damaged,
    failure,
    free_bytes,
    move_aside,
    open_database,
    transaction,
)
from stockworker.errors import StoreDamaged
from stockworker.logs import log_event
from stockworker.logs.worker_events import JournalOfAnother, JournalQuarantined
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import Assignment, AttemptReport
from stockworker.worker.effects import Accept, Entry, Forget, MarkStarted, RecordOutcome
from stockworker.worker.leases import JournalEntry

_log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x53574A4C  # "SWJL"

MIGRATIONS: Final = (
    """
    CREATE TABLE lease (
        sequence INTEGER PRIMARY KEY,
        token TEXT NOT NULL UNIQUE,
        job_id TEXT NOT NULL,
        type TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        timeout_s REAL NOT NULL,
        payload TEXT NOT NULL,
        strict INTEGER NOT NULL,
        started INTEGER NOT NULL DEFAULT 0,
        outcome TEXT,
        result TEXT,
        error TEXT,
        permanent INTEGER,
        ran_s REAL
    );
    """,
    """
    ALTER TABLE lease ADD COLUMN start_by REAL;
    """,
    """
    CREATE TABLE writer (worker_id TEXT NOT NULL);
    """,
    """
    ALTER TABLE lease ADD COLUMN output TEXT;
    ALTER TABLE lease ADD COLUMN omitted INTEGER;
    """,
)

_SELECT: Final = (
    "SELECT token, job_id, type, attempt, timeout_s, payload, strict, started, outcome, result, error, permanent, "
    "ran_s, start_by, output, omitted "
    "FROM lease ORDER BY sequence"
)

_ACCEPT: Final = (
    "INSERT INTO lease (token, job_id, type, attempt, timeout_s, payload, strict, start_by, started) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

# The journal keeps a payload while its job waits here: a job that has started does not start again after a crash. Most jobs
# start immediately, so their payloads are never written.
_RECORD: Final = (
    "UPDATE lease SET payload = '', outcome = ?, result = ?, error = ?, permanent = ?, ran_s = ?, output = ?, omitted = ? "
    "WHERE token = ?"
)

_MARK_STARTED: Final = "UPDATE lease SET started = 1, payload = '' WHERE token = ? AND NOT started"
_FORGET: Final = "DELETE FROM lease WHERE token = ?"


class Journal:
    """The journal of one worker, in a SQLite file.

    Args:
        path: the file; created where it is missing.
        connect: see `stockworker.adapters.sqlite.Connect`.

    Raises:
        StoreError: it can't be used; the text names the reason.
    """

    def __init__(self, path: Path, connect: Connect = connect) -> None:
        self._path = path
        self._synchronous = ""
        self._connection = open_database(path, application_id=APPLICATION_ID, migrations=MIGRATIONS, connect=connect)

    def load(self) -> list[JournalEntry]:
        """Return every lease that is not settled, in order of arrival."""
        try:
            rows = self._connection.execute(_SELECT).fetchall()
        except DatabaseError as error:
            raise failure(self._path, "can't be read", error) from error
        return [_entry(row) for row in rows]

    def check(self) -> None:
        """Read all of the file.

        Raises:
            StoreDamaged: a part of it can't be read or has no meaning.
        """
        check_integrity(self._connection, self._path)
        try:
            self.load()
        except ValueError as error:
            raise damaged(self._path, error) from error

    def claim(self, worker_id: WorkerId) -> WorkerId | None:
        """Note which worker writes to it; return the one that did so before.

        Raises:
            StoreError: it can't be written.
        """
        try:
            with transaction(self._connection):
                found = self._connection.execute("SELECT worker_id FROM writer").fetchone()
                if found != (worker_id,):
                    self._connection.execute("DELETE FROM writer")
                    self._connection.execute("INSERT INTO writer VALUES (?)", (worker_id,))
        except DatabaseError as error:
            raise failure(self._path, "can't be written", error) from error
        return None if found is None else WorkerId(found[0])

    def commit(self, entries: Collection[Entry]) -> None:
        """Make all of `entries` durable, in order, or none.

        Results are synced, and so are the starts of jobs that were tried before: they survive a power cut. All else
        survives a crash of this process, and is synced with the next result. If a power cut takes a lease, the dispatcher
        offers it again, so only time is lost.

        Raises:
            StoreError: nothing of it was made durable; the machine that decided it must not be used any more.
        """
        synced = any(
            isinstance(entry, RecordOutcome) or (isinstance(entry, MarkStarted) and entry.again) for entry in entries
        )
        try:
            self._set_synchronous("FULL" if synced else "NORMAL")
            with transaction(self._connection):
                self._write(entries)
        except DatabaseError as error:
            raise failure(self._path, "can't be written", error) from error

    def _set_synchronous(self, mode: str) -> None:
        if mode != self._synchronous:
            self._connection.execute(f"PRAGMA synchronous = {mode}")
            self._synchronous = mode

    def _write(self, entries: Iterable[Entry]) -> None:
        """Write entries in order, those of a kind that follow each other with one statement."""
        write = self._connection.executemany
        groups = [(kind, list(group)) for kind, group in groupby(entries, type)]
        for (kind, group), (_, following) in pairwise([*groups, (type(None), [])]):
            if kind is Accept:
                started = {each.token for each in following if isinstance(each, MarkStarted)}  # most start immediately
                write(_ACCEPT, [_row(each, started) for each in group if isinstance(each, Accept)])
            elif kind is RecordOutcome:
                write(_RECORD, [_outcome(each.report) for each in group if isinstance(each, RecordOutcome)])
            else:
                tokens = [(each.token,) for each in group if isinstance(each, MarkStarted | Forget)]
                write(_MARK_STARTED if kind is MarkStarted else _FORGET, tokens)

    def free_bytes(self) -> int:
        """Free bytes on its disk.

        Raises:
            StoreError: its folder is gone.
        """
        return free_bytes(self._path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def open_journal(path: Path, worker_id: WorkerId) -> Journal:
    """Open the journal of a worker; if it is damaged, move it aside and begin a new one.

    If another worker has written it, such as this machine under an earlier name, the log has a warning.

    Its jobs are not lost: the dispatcher assigns them again, because the worker does not name their leases.

    Raises:
        StoreError: it can't be used for another reason.
    """
    try:
        journal = Journal(path)
        try:
            journal.check()
            before = journal.claim(worker_id)
            if before not in {None, worker_id}:
                leases = len(journal.load())
                log_event(_log, JournalOfAnother(journal=str(path), id=worker_id, before=before, leases=leases))
        except BaseException:
            journal.close()
            raise
    except StoreDamaged as error:
        kept = move_aside(path, f".damaged-{clock.utc_now():%Y%m%dT%H%M%S.%fZ}")
        log_event(_log, JournalQuarantined(journal=str(path), kept=str(kept), reason=str(error)))
        journal = Journal(path)
        journal.claim(worker_id)
    return journal


def _row(entry: Accept, started: Collection[Token]) -> tuple[Any, ...]:
    job = entry.assignment
    is_started = job.token in started
    payload = "" if is_started else job.payload
    first = (job.token, job.job_id, job.type, job.attempt, job.timeout_s, payload, job.no_crash_budget)
    return *first, entry.start_by, is_started


def _outcome(report: AttemptReport) -> tuple[Any, ...]:
    output = (None, None) if report.output is None else (report.output.text, report.output.omitted)
    return str(report.outcome), report.result, report.error, report.permanent, report.ran_s, *output, report.token


def _entry(row: Sequence[Any]) -> JournalEntry:
    token, job_id, job_type, attempt, timeout_s, payload, strict, started, outcome, result, error = row[:11]
    permanent, ran_s, start_by, text, omitted = row[11:]
    assignment = Assignment(JobId(job_id), JobType(job_type), attempt, Token(token), timeout_s, payload, bool(strict))
    if outcome is None:
        return JournalEntry(assignment, bool(started), None, start_by)
    output = None if text is None else AttemptOutput(text, omitted)
    report = AttemptReport(
        Token(token), Outcome(outcome), result, error, bool(permanent), ran_s, output, job_id=JobId(job_id)
    )
    return JournalEntry(assignment, bool(started), report, start_by)
