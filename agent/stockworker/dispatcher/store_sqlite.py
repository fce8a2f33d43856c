"""Jobs in an SQLite file: the default store. See `stockworker.dispatcher.rows` for its columns."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from stockworker.adapters.sqlite import (
    MEMORY,
    Connect,
    DatabaseError,
    back_up,
    check_integrity,
    connect,
    damaged,
    failure,
    free_bytes,
    open_database,
    open_to_read,
    transaction,
)
from stockworker.dispatcher.effects import (
    LimitOutputs,
    Prune,
    Save,
    SaveAttempt,
    SaveDrain,
    SaveJob,
    SaveOutput,
    SavePause,
)
from stockworker.dispatcher.ledger import Snapshot
from stockworker.dispatcher.outputs_sqlite import SqliteOutputs
from stockworker.dispatcher.reader_sqlite import SELECT_JOB, SqliteJobReader, listed, portions
from stockworker.dispatcher.ready_queue import ReadExpired, Refill
from stockworker.dispatcher.rows import (
    ATTEMPT,
    JOB,
    PROGRESS,
    attempt_row,
    contains,
    job_row,
    owner_prefix,
    progress_row,
    read_job,
    read_parked,
    tags_text,
)
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.lifecycle import State

APPLICATION_ID: Final = 0x53574A53  # "SWJS"

# Payloads and results have tables of their own: a job's row is written several times, they only once.
MIGRATIONS: Final = (
    """
    CREATE TABLE job (
        sequence INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        type TEXT NOT NULL,
        priority INTEGER NOT NULL,
        not_before REAL,
        expires_at REAL,
        timeout_s REAL NOT NULL,
        max_attempts INTEGER NOT NULL,
        backoff_s REAL NOT NULL,
        backoff_max_s REAL NOT NULL,
        max_crashes INTEGER NOT NULL,
        tags TEXT NOT NULL,
        unique_key TEXT,
        submitted_at REAL NOT NULL,
        state TEXT NOT NULL,
        ready_at REAL NOT NULL,
        attempt INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        crashes INTEGER NOT NULL,
        worker TEXT,
        token TEXT,
        assigned_at REAL,
        cancel_requested INTEGER NOT NULL,
        ended_at REAL,
        reason TEXT
    );
    CREATE INDEX job_live ON job (sequence) WHERE ended_at IS NULL;
    CREATE INDEX job_ended ON job (ended_at) WHERE ended_at IS NOT NULL;
    CREATE TABLE hold (kind TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;
    CREATE INDEX job_ended_badly ON job (state, sequence) WHERE state IN ('failed', 'cancelled', 'expired');
    CREATE TABLE payload (sequence INTEGER PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE result (sequence INTEGER PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE attempt (
        job_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        worker TEXT NOT NULL,
        token TEXT NOT NULL,
        assigned_at REAL NOT NULL,
        ended_at REAL,
        outcome TEXT,
        ran_s REAL,
        error TEXT,
        PRIMARY KEY (job_id, number)
    ) WITHOUT ROWID;
    """,
    # The owner of a job, and a colon; empty for the shared owner.
    """
    CREATE INDEX job_owner ON job (substr(id, 1, instr(id, ':')), sequence);
    """,
    # Tells another payload under the same ID from the same one; NULL where it can't.
    """
    ALTER TABLE job ADD COLUMN payload_digest BLOB;
    """,
    """
    ALTER TABLE job ADD COLUMN payload_bytes INTEGER NOT NULL DEFAULT 0;
    UPDATE job SET payload_bytes = coalesce(
        (SELECT length(CAST(body AS BLOB)) FROM payload WHERE payload.sequence = job.sequence), 0
    );
    """,
    # Every filter of a query has an index that ends with the sequence: see `reader_sqlite.search_statement`.
    """
    CREATE INDEX job_by_state ON job (state, sequence);
    CREATE INDEX job_by_type ON job (type, sequence);
    CREATE INDEX job_by_state_and_type ON job (state, type, sequence);
    DROP INDEX job_ended_badly;
    """,
    # Parked jobs, by lane and place (`ready_queue`). Jobs that have waited since an earlier version become parked ones.
    """
    ALTER TABLE job ADD COLUMN parked INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX job_parked ON job (type, tags, priority, ready_at) WHERE parked;
    CREATE INDEX job_parked_expiry ON job (expires_at) WHERE parked AND expires_at IS NOT NULL;
    UPDATE job SET parked = 1
        WHERE state = 'queued' AND token IS NULL AND unique_key IS NULL AND expires_at IS NULL;
    """,
    # `newest_here`: the newest attempt has no row of its own, because that of its job contains all of it (`rows.contains`).
    """
    ALTER TABLE job ADD COLUMN newest_here INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE job ADD COLUMN newest_ran_s REAL;
    ALTER TABLE attempt RENAME TO attempt_row;
    CREATE VIEW newest_attempt (job_id, number, worker, token, assigned_at, ended_at, outcome, ran_s, error) AS
        SELECT id, attempt, worker, token, assigned_at, ended_at, CASE state WHEN 'completed' THEN 'ok' END, newest_ran_s, NULL
        FROM job WHERE newest_here;
    CREATE VIEW attempt AS
        SELECT * FROM newest_attempt
        UNION ALL
        SELECT * FROM attempt_row
        WHERE NOT EXISTS (SELECT 1 FROM job WHERE id = job_id AND attempt = number AND newest_here);
    """,
    # What attempts have printed and logged, in order of arrival; see `outputs_sqlite`.
    """
    CREATE TABLE output (
        id INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        omitted INTEGER NOT NULL,
        body TEXT NOT NULL,
        UNIQUE (job_id, number)
    );
    CREATE INDEX output_owner ON output (substr(job_id, 1, instr(job_id, ':')), id, bytes);
    """,
    # A lane has the jobs of one owner.
    """
    DROP INDEX job_parked;
    CREATE INDEX job_parked ON job (type, tags, priority, substr(id, 1, instr(id, ':')), ready_at) WHERE parked;
    """,
)

_NEWEST: Final = ("newest_here", "newest_ran_s")


def _insert_job(columns: Sequence[str]) -> str:
    return f"INSERT INTO job ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _update_job(columns: Sequence[str]) -> str:
    return f"UPDATE job SET {', '.join(f'{column} = ?' for column in columns)} WHERE sequence = ?"


_INSERT_JOB: Final = _insert_job((*_NEWEST, *JOB))
_UPDATE_JOB: Final = _update_job(PROGRESS)
_UPDATE_JOB_AND_NEWEST: Final = _update_job((*_NEWEST, *PROGRESS))
_NEWEST_HAS_A_ROW: Final = "UPDATE job SET newest_here = 0 WHERE id = ? AND attempt = ?"
_SAVE_ATTEMPT: Final = (
    f"INSERT OR REPLACE INTO attempt_row ({', '.join(ATTEMPT)}) VALUES ({', '.join('?' * len(ATTEMPT))})"
)
_PARKED: Final = (
    "SELECT substr(id, 1, instr(id, ':')), type, tags, priority, count(*), sum(payload_bytes), min(ready_at), "
    "min(expires_at) "
    "FROM job INDEXED BY job_parked WHERE parked GROUP BY type, tags, priority, 1"
)
_OF_LANE: Final = (
    f"{SELECT_JOB} WHERE parked AND type = ? AND tags = ? AND priority = ? AND substr(id, 1, instr(id, ':')) = ?"
)
# Two statements: for a comparison of pairs, SQLite would read all jobs with the first of the two values.
_SAME_TIME: Final = f"{_OF_LANE} AND ready_at = ? AND sequence > ? ORDER BY sequence LIMIT ?"
_LATER: Final = f"{_OF_LANE} AND ready_at > ? ORDER BY ready_at, sequence LIMIT ?"
_EXPIRED: Final = f"{SELECT_JOB} WHERE parked AND expires_at <= ? ORDER BY expires_at LIMIT ?"
_NEXT_EXPIRY: Final = "SELECT min(expires_at) FROM job WHERE parked AND expires_at > ?"
_IN_MEMORY: Final = "ended_at IS NULL AND NOT parked"
_PAUSED: Final = "type"
_DRAINED: Final = "worker"
_HOLD: Final = "INSERT OR IGNORE INTO hold (kind, name) VALUES (?, ?)"
_RELEASE: Final = "DELETE FROM hold WHERE kind = ? AND name = ?"


_Newest = dict[JobId, tuple[bool, float | None]]
"""The values of `_NEWEST` for jobs whose newest attempt has changed."""


class SqliteJobStore:
    """See `stockworker.dispatcher.store.JobStore`.

    Args:
        path: the file; created where it is missing.
        connect: see `stockworker.adapters.sqlite.Connect`.

    Raises:
        StoreError: it can't be used; the text has the reason.
    """

    def __init__(self, path: Path, connect: Connect = connect) -> None:
        self._path = path
        self._connect = connect
        self._connection = open_database(path, application_id=APPLICATION_ID, migrations=MIGRATIONS, connect=connect)
        self._reader = SqliteJobReader(self._connection, path)
        self._outputs = SqliteOutputs(self._connection)

    def load(self, latest: float = math.inf) -> Snapshot:
        """Return every live job that is not parked, and the counts of all."""
        self._correct_parked(latest)
        parked = tuple(read_parked(row) for row in self._reader.rows(_PARKED))
        jobs = self._live_jobs()
        totals = {
            State(state): count for state, count in self._reader.rows("SELECT state, count(*) FROM job GROUP BY state")
        }
        ((newest,),) = self._reader.rows("SELECT coalesce(max(sequence), 0) FROM job")
        holds = self._reader.rows("SELECT kind, name FROM hold")
        paused = frozenset(JobType(name) for kind, name in holds if kind == _PAUSED)
        drained = frozenset(WorkerId(name) for kind, name in holds if kind == _DRAINED)
        return Snapshot(jobs, totals, newest + 1, paused, drained, parked)

    def _live_jobs(self) -> list[JobRecord]:
        return [read_job(row) for row in self._reader.rows(f"{SELECT_JOB} WHERE {_IN_MEMORY} ORDER BY sequence")]

    def _correct_parked(self, latest: float) -> None:
        if not self._reader.rows("SELECT 1 FROM job WHERE parked AND ready_at > ? LIMIT 1", [latest]):
            return
        try:
            with transaction(self._connection):
                self._connection.execute("UPDATE job SET ready_at = ? WHERE parked AND ready_at > ?", (latest, latest))
        except DatabaseError as error:
            raise failure(self._path, "can't be written", error) from error

    def parked(self, refill: Refill) -> list[JobRecord]:
        """Read the next jobs of a lane from the index of parked jobs."""
        lane, (ready_at, sequence) = refill.lane, refill.after
        where = [lane.type, tags_text(lane.tags), lane.priority, owner_prefix(lane.owner), ready_at]
        rows = self._reader.rows(_SAME_TIME, [*where, sequence, refill.most])
        rows += self._reader.rows(_LATER, [*where, refill.most - len(rows)])
        return self._jobs(rows)

    def expired(self, wanted: ReadExpired) -> tuple[list[JobRecord], float]:
        """Read the next jobs of the index of expiries."""
        jobs = self._jobs(self._reader.rows(_EXPIRED, [wanted.until, wanted.most]))
        ((following,),) = self._reader.rows(_NEXT_EXPIRY, [wanted.until])
        if len(jobs) == wanted.most:
            following = wanted.until
        return jobs, math.inf if following is None else following

    def _jobs(self, rows: Iterable[Sequence[Any]]) -> list[JobRecord]:
        try:
            return [read_job(row) for row in rows]
        except ValueError as error:
            raise damaged(self._path, error) from error

    def check(self) -> None:
        """Read all of the file: an index that has lost an entry would let a job be stored twice.

        Raises:
            StoreDamaged: a part of it makes no sense.
        """
        check_integrity(self._connection, self._path)
        try:
            self._live_jobs()
        except ValueError as error:
            raise damaged(self._path, error) from error

    def find(self, ids: Collection[JobId]) -> dict[JobId, JobRecord]:
        """Look jobs up by id."""
        return self._reader.find(ids)

    def commit(self, saves: Iterable[Save]) -> Mapping[State, int]:
        """Write all in one transaction."""
        jobs: list[SaveJob] = []
        attempts: list[Attempt] = []
        holds: list[tuple[str, str, bool]] = []
        prunes: list[Prune] = []
        outputs: list[SaveOutput | LimitOutputs] = []
        for save in saves:
            match save:
                case SaveJob():
                    jobs.append(save)
                case SaveAttempt(attempt=attempt):
                    attempts.append(attempt)
                case SavePause(job_type=job_type, paused=paused):
                    holds.append((_PAUSED, job_type, paused))
                case SaveDrain(worker_id=worker_id, drained=drained):
                    holds.append((_DRAINED, worker_id, drained))
                case Prune():
                    prunes.append(save)
                case SaveOutput() | LimitOutputs():
                    outputs.append(save)
        pruned: Counter[State] = Counter()
        try:
            with transaction(self._connection):
                self._write_jobs(jobs, self._write_attempts(attempts, jobs) if attempts else {})
                for kind, name, on in holds:
                    self._connection.execute(_HOLD if on else _RELEASE, (kind, name))
                if outputs:
                    self._outputs.write(outputs)
                for prune in prunes:
                    pruned += self._prune(prune)
        except DatabaseError as error:
            self._outputs = SqliteOutputs(self._connection)  # its counts are of what was not committed
            raise failure(self._path, "can't be written", error) from error
        return pruned

    def _write_attempts(self, attempts: Sequence[Attempt], saves: Sequence[SaveJob]) -> _Newest:
        """Write the attempts that need a row; return what the rows of jobs must have about their newest ones."""
        jobs = {save.job.spec.job_id: save.job for save in saves}
        rows: list[tuple[Any, ...]] = []
        alone: list[tuple[JobId, int]] = []
        newest: _Newest = {}
        for attempt in attempts:
            job = jobs.get(attempt.job_id)
            here = job is not None and contains(job, attempt)
            if not here:
                rows.append(attempt_row(attempt))
            if job is None:
                alone.append((attempt.job_id, attempt.number))
            elif attempt.number == job.attempt:
                newest[attempt.job_id] = (here, attempt.ran_s)
        self._write(_SAVE_ATTEMPT, rows)
        self._write(_NEWEST_HAS_A_ROW, alone)
        return newest

    def _write_jobs(self, saves: Sequence[SaveJob], newest: _Newest) -> None:
        new: list[tuple[Any, ...]] = []
        payloads: list[tuple[int, str]] = []
        changed: list[tuple[Any, ...]] = []
        changed_with_newest: list[tuple[Any, ...]] = []
        results: list[tuple[int, str]] = []
        for save in saves:
            about_newest = newest.get(save.job.spec.job_id)
            if save.payload is not None:
                new.append((*(about_newest or (False, None)), *job_row(save.job)))
                payloads.append((save.job.sequence, save.payload))
            elif about_newest is None:
                changed.append(progress_row(save.job))
            else:
                changed_with_newest.append((*about_newest, *progress_row(save.job)))
            if save.result is not None:
                results.append((save.job.sequence, save.result))
        self._write(_INSERT_JOB, new)
        self._write("INSERT INTO payload (sequence, body) VALUES (?, ?)", payloads)
        self._write(_UPDATE_JOB, changed)
        self._write(_UPDATE_JOB_AND_NEWEST, changed_with_newest)
        self._write("INSERT OR REPLACE INTO result (sequence, body) VALUES (?, ?)", results)

    def _write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            self._connection.executemany(statement, rows)

    def _prune(self, prune: Prune) -> Counter[State]:
        rows = self._connection.execute(
            "SELECT sequence, id, state FROM job WHERE ended_at IS NOT NULL AND ended_at < ? ORDER BY ended_at LIMIT ?",
            (prune.before, prune.most),
        ).fetchall()
        sequences = [(sequence,) for sequence, _, _ in rows]
        self._write("DELETE FROM attempt_row WHERE job_id = ?", [(job_id,) for _, job_id, _ in rows])
        self._outputs.forget([job_id for _, job_id, _ in rows])
        self._write("DELETE FROM payload WHERE sequence = ?", sequences)
        self._write("DELETE FROM result WHERE sequence = ?", sequences)
        self._write("DELETE FROM job WHERE sequence = ?", sequences)
        return Counter(State(state) for _, _, state in rows)

    def payloads(self, jobs: Sequence[JobRecord]) -> Mapping[JobId, str]:
        """Look payloads up."""
        by_sequence = {job.sequence: job.spec.job_id for job in jobs}
        found = {}
        for some in portions(by_sequence):
            query = f"SELECT sequence, body FROM payload WHERE sequence IN ({listed(len(some))})"
            for sequence, body in self._reader.rows(query, some):
                found[by_sequence[sequence]] = body
        return found

    def reader(self) -> SqliteJobReader:
        """Open the file once more. A store in `MEMORY` has one connection, so its reader belongs to the same thread."""
        connection = self._connection if self._path == MEMORY else open_to_read(self._path, connect=self._connect)
        return SqliteJobReader(connection, self._path)

    def free_bytes(self) -> int:
        """Return how many bytes are free on the disk of the file."""
        return free_bytes(self._path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class SqliteStores:
    """Stores in SQLite files; see `stockworker.dispatcher.stores.StoreKind`."""

    def open(self, path: Path) -> SqliteJobStore:
        """Open the file, or create it."""
        return SqliteJobStore(path)

    def back_up(self, path: Path, target: Path, progress: Callable[[float], None]) -> None:
        """Copy the file as it is at one moment, and check the copy."""
        back_up(path, target, application_id=APPLICATION_ID, migrations=MIGRATIONS, progress=progress)
