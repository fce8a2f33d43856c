"""The outputs of attempts in the SQLite file of the job store: they are bounded, for each job and in total."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from stockworker.adapters.sqlite import Connection
from stockworker.dispatcher.effects import LimitOutputs, SaveOutput
from stockworker.dispatcher.reader_sqlite import listed, portions
from stockworker.protocol.body import text_bytes
from stockworker.protocol.ids import JobId

OUTPUTS_PER_JOB: Final = 10
"""Of the newest attempts at a job."""

_OWNER: Final = "substr(job_id, 1, instr(job_id, ':'))"
_ROW: Final = f"SELECT id, {_OWNER}, bytes FROM output"
_REPLACED: Final = f"{_ROW} WHERE job_id = ? AND (number <= ? OR number = ?)"
_OLDEST: Final = f"{_ROW} WHERE {_OWNER} = ? ORDER BY id LIMIT ?"
_INSERT: Final = "INSERT INTO output (job_id, number, bytes, omitted, body) VALUES (?, ?, ?, ?, ?)"
_AT_A_TIME: Final = 64


class SqliteOutputs:
    """Writes outputs inside the transactions of a store.

    Args:
        connection: of the store.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._counted: Counter[str] | None = None

    def write(self, saves: Iterable[SaveOutput | LimitOutputs]) -> None:
        """Write and delete in order."""
        for save in saves:
            if isinstance(save, SaveOutput):
                self._save(save)
            else:
                self._limit(save.most_bytes)

    def forget(self, job_ids: Sequence[JobId]) -> None:
        """Delete the outputs of jobs."""
        for some in portions(job_ids):
            self._delete(self._rows(f"{_ROW} WHERE job_id IN ({listed(len(some))})", some))

    def _save(self, save: SaveOutput) -> None:
        number, text = save.number, save.output.text
        bytes_of_owner, size = self._bytes(), text_bytes(text)
        self._delete(self._rows(_REPLACED, [save.job_id, number - OUTPUTS_PER_JOB, number]))
        self._connection.execute(_INSERT, (save.job_id, number, size, save.output.omitted, text))
        bytes_of_owner[_owner(save.job_id)] += size

    def _limit(self, most_bytes: int) -> None:
        bytes_of_owner = self._bytes()
        while (excess := bytes_of_owner.total() - most_bytes) > 0:
            owner = max(bytes_of_owner, key=bytes_of_owner.__getitem__)
            oldest = []
            for row in self._rows(_OLDEST, [owner, _AT_A_TIME]):
                if excess > 0:
                    excess -= row[2]
                    oldest.append(row)
            self._delete(oldest)

    def _delete(self, rows: Sequence[Any]) -> None:
        if rows:
            self._connection.executemany("DELETE FROM output WHERE id = ?", [(number,) for number, _, _ in rows])
            for _, owner, size in rows:
                self._bytes()[owner] -= size

    def _bytes(self) -> Counter[str]:
        """Bytes of each owner, counted when they are first needed."""
        if self._counted is None:
            self._counted = Counter(dict(self._rows(f"SELECT {_OWNER}, sum(bytes) FROM output GROUP BY 1", ())))
        return self._counted

    def _rows(self, query: str, values: Sequence[object]) -> list[Any]:
        return self._connection.execute(query, values).fetchall()


def _owner(job_id: JobId) -> str:
    """The owner and a colon; empty for the shared owner."""
    return job_id[: job_id.find(":") + 1]
