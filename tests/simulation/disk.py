"""A disk with one SQLite database: it survives its processes, and a power cut takes what was not synced.

The store and the journal are the real ones; their database is in memory, and opened through `Disk.connect`.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from stockworker.adapters.sqlite import OperationalError

_FULL: Final = 2
"""`PRAGMA synchronous` where a commit syncs (https://sqlite.org/pragma.html#pragma_synchronous)."""


class _Connection(sqlite3.Connection):
    """Asks its disk before and after each commit; one of a transaction that only reads does not touch it."""

    disk: "Disk"
    writes: bool = False

    def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
        if sql.startswith("BEGIN"):
            self.writes = sql == "BEGIN IMMEDIATE"
            if self.writes:
                self.disk.begins(self)
        elif sql == "COMMIT" and self.writes:
            self.disk.commits()
            done = super().execute(sql)
            self.disk.committed()
            return done
        return super().execute(sql, values)


class Disk:
    """See the module.

    Attributes:
        full: commits fail.
        synced: nothing would be lost if the power went now.
        at_boundary: called before each commit; what it raises, the commit raises.
    """

    def __init__(self) -> None:
        self.full = False
        self.synced = True
        self.at_boundary: Callable[[str], None] = lambda _point: None
        self._connection: _Connection | None = None
        self._safe: bytes | None = None
        self._syncs = True

    def connect(self, *_: object, **_options: object) -> _Connection:
        """Open it; takes the place of `sqlite3.connect`."""
        if self._connection is None:
            self._connection = self._new()
        elif self._connection.in_transaction:
            self._connection.rollback()  # of a process that died
        return self._connection

    def power_cut(self, *, all_lost: bool) -> None:
        """The machine loses power. Data that was not synced may be lost, or not."""
        if self._connection is None:
            return
        if self._connection.in_transaction:
            self._connection.rollback()
        if all_lost and self._safe is not None:
            self._connection.close()
            self._connection = self._new()
            self._connection.deserialize(self._safe)
        self._safe, self.synced = None, True

    def copy(self) -> "Disk":
        """A copy of the whole disk, as of an SD card."""
        twin = Disk()
        if self._connection is not None:
            twin._connection = twin._new()
            twin._connection.deserialize(self._connection.serialize())
        return twin

    def rows(self, query: str, *values: object) -> list[Any]:
        """Look at what is stored, synced or not."""
        if self._connection is None:
            return []
        return sqlite3.Connection.execute(self._connection, query, values).fetchall()

    def begins(self, connection: _Connection) -> None:
        ((level,),) = connection.execute("PRAGMA synchronous").fetchall()
        self._syncs = level >= _FULL
        if not self._syncs and self.synced:
            self._safe = connection.serialize()

    def commits(self) -> None:
        self.at_boundary("commit")
        if self.full:
            error = OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    def committed(self) -> None:
        self.synced = self._syncs
        if self._syncs:
            self._safe = None

    def _new(self) -> _Connection:
        connection = sqlite3.connect(":memory:", isolation_level=None, factory=_Connection)
        connection.disk = self
        return connection
