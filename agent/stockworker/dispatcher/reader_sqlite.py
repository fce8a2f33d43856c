"""Reads jobs from an SQLite file. See `stockworker.dispatcher.rows` for its columns."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Final

from stockworker.adapters.sqlite import Connection, DatabaseError, failure
from stockworker.dispatcher.found import FoundJobs
from stockworker.dispatcher.rows import ATTEMPT, JOB, owner_prefix, read_attempt, read_job
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.ids import ClientId, JobId, owner_of
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.job_filter import JobFilter

SELECT_JOB: Final = f"SELECT {', '.join(JOB)} FROM job"
_ATTEMPTS: Final = f"SELECT {', '.join(ATTEMPT)} FROM attempt_row WHERE job_id = ? ORDER BY number DESC LIMIT ?"
_NEWEST_ATTEMPT: Final = f"SELECT {', '.join(ATTEMPT)} FROM newest_attempt WHERE job_id = ?"
SHARED: Final = owner_prefix(None)
"""The shared owner, as a condition of searches."""

MOST_SEARCHED: Final = 100_000
"""Rows that one search compares with conditions that have no index: 20 to 50 ms. After each answer the dispatcher pauses for
three times as long, so a search that takes several queries takes four times as long for each row."""

_IDS: Final = "SELECT id FROM job WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
# One row for all IDs: after each row, this thread may have to wait for the one that runs the turns.
_NEIGHBOURS: Final = """
SELECT group_concat(id || ' ' || coalesce((SELECT max(id) FROM job WHERE id < one.id), '')
    || ' ' || coalesce((SELECT min(id) FROM job WHERE id > one.id), ''), char(10))
FROM (SELECT id FROM job WHERE id IN ({})) AS one
"""
_AFTER_ALL: Final = "\x7f"
_AFTER_OWNER: Final = ";"
"""Characters after all those of IDs, and after the colon."""

_VARIABLES: Final = 512  # below every SQLite's limit of bound variables (999 before 3.32)


class SqliteJobReader:
    """See `stockworker.dispatcher.store.JobReader`.

    Args:
        connection: an open store; `close` closes it.
        path: its file, for error texts.
    """

    def __init__(self, connection: Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read in one transaction, which sees no commit that comes after its first read."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            if self._connection.in_transaction:  # some failures make SQLite roll back by itself
                self._connection.execute("ROLLBACK")

    def find(self, ids: Collection[JobId]) -> dict[JobId, JobRecord]:
        """Look jobs up by id."""
        found: dict[JobId, JobRecord] = {}
        for some in portions(ids):
            rows = self.rows(f"{SELECT_JOB} WHERE id IN ({listed(len(some))})", some)
            found.update((job.spec.job_id, job) for job in map(read_job, rows))
        return found

    def search(self, wanted: JobFilter, client_id: ClientId | None = None) -> FoundJobs:
        """Read an index of the conditions from the newest job on, `MOST_SEARCHED` rows at most."""
        owners = (None,) if client_id is None else (owner_prefix(client_id), SHARED)
        ends: list[tuple[int, str]] = []
        for owner in owners if _conditions(wanted) else ():
            last, *older = self.rows(*_end_statement(wanted, owner)) or [None]
            ends += [last] if older else []
        sequence, job_id = max(ends, default=(0, None))
        rows = [row for owner in owners for row in self.rows(*search_statement(wanted, owner, sequence))]
        jobs = sorted(map(read_job, rows), key=lambda job: -job.sequence)[: wanted.limit]
        searched_to = None if job_id is None or len(jobs) == wanted.limit else JobId(job_id)
        return FoundJobs(jobs, searched_to)

    def beginning_with(self, prefix: JobId, most: int) -> list[JobId]:
        """Read the index of IDs. Between those of the shared owner are those of others: each owner costs one look-up."""
        found: list[JobId] = []
        least, shared = str(prefix), owner_of(prefix) is None
        while len(found) < most:
            rows = self.rows(_IDS, [least, prefix + _AFTER_ALL, most - len(found)])
            ids = [JobId(job_id) for (job_id,) in rows]
            others = next((job_id for job_id in ids if shared and owner_of(job_id) is not None), None)
            if others is None:
                return found + ids
            found += ids[: ids.index(others)]
            least = f"{owner_of(others)}{_AFTER_OWNER}"
        return found

    def prefix_lengths(self, job_ids: Collection[JobId]) -> dict[JobId, int]:
        """Compare each ID with its neighbours in the index."""
        lengths: dict[JobId, int] = {}
        for some in portions(job_ids):
            for (lines,) in self.rows(_NEIGHBOURS.format(listed(len(some))), some):
                for line in (lines or "").splitlines():
                    job_id, before, after = line.split(" ")
                    alike = max(_alike(job_id, other) for other in (before, after))
                    lengths[JobId(job_id)] = min(alike + 1, len(job_id))
        return lengths

    def payload(self, job: JobRecord) -> str:
        """Look a payload up."""
        ((body,),) = self.rows("SELECT body FROM payload WHERE sequence = ?", [job.sequence])
        return str(body)

    def result(self, job: JobRecord) -> str | None:
        """Look a result up."""
        found = self.rows("SELECT body FROM result WHERE sequence = ?", [job.sequence])
        return found[0][0] if found else None

    def attempts(self, job_id: JobId, most: int) -> list[Attempt]:
        """Return the newest of a job's attempts."""
        rows = [*reversed(self.rows(_ATTEMPTS, [job_id, most])), *self.rows(_NEWEST_ATTEMPT, [job_id])]
        found = {attempt.number: attempt for attempt in map(read_attempt, rows)}
        return list(found.values())[-most:]

    def outputs(self, job_id: JobId, first: int) -> list[int]:
        """Read the index of outputs."""
        rows = self.rows("SELECT number FROM output WHERE job_id = ? AND number >= ? ORDER BY number", [job_id, first])
        return [number for (number,) in rows]

    def output(self, job_id: JobId, number: int) -> AttemptOutput:
        """Look an output up."""
        ((text, omitted),) = self.rows(
            "SELECT body, omitted FROM output WHERE job_id = ? AND number = ?", [job_id, number]
        )
        return AttemptOutput(text, omitted)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Return the rows of a query.

        Raises:
            StoreError: the file can't be read.
        """
        try:
            return self._connection.execute(query, values).fetchall()
        except DatabaseError as error:
            raise failure(self._path, "can't be read", error) from error


def _alike(one: str, other: str) -> int:
    """How many characters are alike at the beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def search_statement(wanted: JobFilter, owner: str | None, least: int = 0) -> tuple[str, list[object]]:
    """Return the query of a filter, and its values.

    For state, type and `before` without an owner there is an index, so it reads no other rows. With an owner it may read
    all jobs of that owner, whose number is bounded (`dispatcher.limits`) but for those that have ended. All other
    conditions are compared with `MOST_SEARCHED` rows at most, one after the other: an index for each of them would cost
    every job more than such a search takes.

    Args:
        wanted: the filter.
        owner: only jobs of this owner: a client ID and a colon, or `SHARED`.
        least: only jobs with this sequence number or later ones.
    """
    where, values = _indexed(wanted, owner)
    others = _conditions(wanted)
    conditions = [where, *(condition for condition, _ in others)]
    if least:
        conditions.insert(1, "sequence >= ?")
        values.append(least)
    return (
        f"{SELECT_JOB} WHERE {' AND '.join(conditions)} ORDER BY sequence DESC LIMIT ?",
        [*values, *(value for _, value in others), wanted.limit],
    )


def _end_statement(wanted: JobFilter, owner: str | None) -> tuple[str, list[object]]:
    """Return the query of the last job that a search looks at and of the one before it, and its values."""
    where, values = _indexed(wanted, owner)
    return (
        f"SELECT sequence, id FROM job WHERE {where} ORDER BY sequence DESC LIMIT 2 OFFSET {MOST_SEARCHED - 1}",
        values,
    )


def _conditions(wanted: JobFilter) -> list[tuple[str, object]]:
    """The conditions without an index."""
    conditions: list[tuple[str, object]] = [
        ("worker = ?", wanted.worker),
        ("instr(',' || tags || ',', ',' || ? || ',') > 0", wanted.tag),
        ("unique_key = ?", wanted.unique),
        ("instr(lower(reason), lower(?)) > 0", wanted.reason),
        ("submitted_at >= ?", wanted.since),
        ("submitted_at < ?", wanted.until),
    ]
    return [(condition, value) for condition, value in conditions if value is not None]


def _indexed(wanted: JobFilter, owner: str | None) -> tuple[str, list[object]]:
    """The conditions that have an index, and their values."""
    conditions, values = ["1"], list[object]()
    if owner is not None:
        conditions.append("substr(id, 1, instr(id, ':')) = ?")
        values.append(owner)
    if wanted.state is not None:
        conditions.append("state = ?")
        values.append(str(wanted.state))
    if wanted.type is not None:
        conditions.append("type = ?")
        values.append(wanted.type)
    if wanted.before is not None:
        conditions.append("sequence < (SELECT sequence FROM job WHERE id = ?)")
        values.append(wanted.before)
    return " AND ".join(conditions), values


@cache
def listed(count: int) -> str:
    """Placeholders for a list of values, of one of the lengths that `portions` makes."""
    return ", ".join("?" * count)


def portions(values: Iterable[Any]) -> Iterator[list[Any]]:
    """The values for some statements with a list each; the last value fills a list up to a power of two.

    Every length is a statement of its own, and sqlite3 keeps the 128 newest: of all lengths, they took 5 MiB.
    """
    iterator = iter(values)
    while some := list(islice(iterator, _VARIABLES)):
        yield some + some[-1:] * ((1 << (len(some) - 1).bit_length()) - len(some))
