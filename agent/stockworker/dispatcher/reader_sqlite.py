"""Reads jobs from an SQLite file. See `stockworker.dispatcher.rows` for its columns."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

from stockworker.adapters.sqlite import Connection, DatabaseError, failure
from stockworker.dispatcher.rows import ATTEMPT, JOB, read_attempt, read_job
from stockworker.protocol.ids import ClientId, JobId
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.messages import JobFilter

SELECT_JOB: Final = f"SELECT {', '.join(JOB)} FROM job"
_ATTEMPTS: Final = f"SELECT {', '.join(ATTEMPT)} FROM attempt_row WHERE job_id = ? ORDER BY number DESC LIMIT ?"
_NEWEST_ATTEMPT: Final = f"SELECT {', '.join(ATTEMPT)} FROM newest_attempt WHERE job_id = ?"
SHARED: Final = ""
"""The shared owner, as a condition of searches."""

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

    def search(self, wanted: JobFilter, client_id: ClientId | None = None) -> list[JobRecord]:
        """Read an index of the conditions from the newest job on."""
        owners = (None,) if client_id is None else (f"{client_id}:", SHARED)
        rows = [row for owner in owners for row in self.rows(*search_statement(wanted, owner))]
        return sorted(map(read_job, rows), key=lambda job: -job.sequence)[: wanted.limit]

    def result(self, job: JobRecord) -> str | None:
        """Look a result up."""
        found = self.rows("SELECT body FROM result WHERE sequence = ?", [job.sequence])
        return found[0][0] if found else None

    def attempts(self, job_id: JobId, most: int) -> list[Attempt]:
        """Return the newest of a job's attempts."""
        rows = [*reversed(self.rows(_ATTEMPTS, [job_id, most])), *self.rows(_NEWEST_ATTEMPT, [job_id])]
        found = {attempt.number: attempt for attempt in map(read_attempt, rows)}
        return list(found.values())[-most:]

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


def search_statement(wanted: JobFilter, owner: str | None) -> tuple[str, list[object]]:
    """Return the query of a filter, and its values.

    For every filter without an owner there is an index, so it reads no other rows. With an owner it may read all jobs of
    that owner, whose number is bounded (`dispatcher.limits`) but for those that have ended.

    Args:
        wanted: the filter.
        owner: only jobs of this owner: a client ID and a colon, or `SHARED`.
    """
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
    return f"{SELECT_JOB} WHERE {' AND '.join(conditions)} ORDER BY sequence DESC LIMIT ?", [*values, wanted.limit]


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
