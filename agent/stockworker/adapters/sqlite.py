"""SQLite as everything here uses it: durable at commit, shared between processes, its schema brought up to date.

The only importer of `sqlite3`; whoever stores something takes the types that it needs from here.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from sqlite3 import Connection, DatabaseError, IntegrityError, OperationalError, Row, connect
from typing import Final

from stockworker.adapters import clock
from stockworker.errors import StoreError

__all__ = [
    "MEMORY",
    "Connect",
    "Connection",
    "DatabaseError",
    "IntegrityError",
    "OperationalError",
    "Row",
    "connect",
    "open_database",
    "transaction",
]

MEMORY: Final = Path(":memory:")
"""Opened in place of a file: a database that is gone with its connection."""

Connect = Callable[..., Connection]
"""`sqlite3.connect`, or what is to take its place: a disk that is not real."""


def open_database(
    path: Path,
    *,
    application_id: int,
    migrations: Sequence[str],
    busy_timeout_s: float = 10.0,
    connect: Connect = connect,
) -> Connection:
    """Open the database at `path`, create it where it is missing, and bring its schema up to date.

    A new file can be read by its owner alone (mode 0600). A commit is on disk when it returns (write-ahead log,
    ``synchronous=FULL``). The connection begins no transaction by itself: write inside `transaction`. It may be handed
    from thread to thread, but used by one at a time.

    Args:
        path: the file, or `MEMORY`.
        application_id: a number of 32 bits that tells this kind of file from others
            (https://sqlite.org/pragma.html#pragma_application_id).
        migrations: SQL scripts; number n brings the schema from version n to n + 1, and is never edited once released.
            A script must not contain transactions, and each of its statements must end at the end of a line. The
            oldest SQLite that it must run on is RHEL 9's 3.34: no STRICT tables (3.37), no RETURNING (3.35).
        busy_timeout_s: how long a statement waits for another process that is writing.
        connect: see `Connect`.

    Raises:
        StoreError: there is no such folder, no permission, the file is damaged, belongs to something else, or was
            written by a newer version.
    """
    try:
        if path != MEMORY:
            _create(path)
        connection = connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    except FileNotFoundError:
        message = f"{path}: the folder {path.parent} does not exist: create it, or configure another path"
        raise StoreError(message) from None
    except (OSError, sqlite3.OperationalError) as error:
        raise StoreError(f"{path}: can't be opened: {error}") from error
    try:
        _configure(connection, busy_timeout_s)
        if _version(connection, path, application_id, len(migrations)) < len(migrations):
            with transaction(connection):
                version = _version(connection, path, application_id, len(migrations))  # another process may be done
                _migrate(connection, application_id, version, migrations)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError):  # locked, read-only, disk full: the file itself may be sound
            raise StoreError(f"{path}: can't be used: {error}") from error
        if type(error) is sqlite3.DatabaseError:  # SQLITE_CORRUPT and SQLITE_NOTADB; a subclass would be our own bug
            message = f"{path}: damaged, or no SQLite file ({error}): restore a backup, or move it away to begin anew"
            raise StoreError(message) from error
        raise
    return connection


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Commit what the body does as one; undo all of it if the body or the commit raises.

    Takes the write lock at once: a transaction that begins by reading and writes later can fail with "database is
    locked" without waiting, because another one may have written in between.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk makes SQLite roll back by itself
            connection.execute("ROLLBACK")
        raise


def _create(path: Path) -> None:
    """Make an empty file that only its owner may read: SQLite gives its -wal and -shm files the same mode.

    A file that is there already must not be opened here: closing it again would drop the locks that other connections
    of this process hold on it (https://sqlite.org/howtocorrupt.html, section 2.2).
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _configure(connection: Connection, busy_timeout_s: float) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Going over to WAL needs the file to itself, and SQLite does not wait for that as it does for a write lock: of
    # several processes that open a new file at once, some would fail. Once set, it stays set in the file.
    deadline = clock.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or clock.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _version(connection: Connection, path: Path, application_id: int, known: int) -> int:
    """Say which version of the schema the file has, out of those `known`."""
    (found_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if found_id != application_id and (found_id, version, objects) != (0, 0, 0):
        raise StoreError(f"{path}: belongs to something else: configure another path")
    if version > known:
        message = f"{path}: written by a newer stockworker (schema {version}, this one knows {known})"
        raise StoreError(f"{message}: upgrade this machine, or restore the backup from before the upgrade")
    return int(version)


def _migrate(connection: Connection, application_id: int, version: int, migrations: Sequence[str]) -> None:
    for script in migrations[version:]:
        for statement in _statements(script):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {application_id:d}")
    connection.execute(f"PRAGMA user_version = {len(migrations):d}")


def _statements(script: str) -> Iterator[str]:
    """Split a script: `sqlite3.Connection.executescript` would commit the transaction that it is to be part of."""
    statement = ""
    for line in script.strip().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement:
        yield statement
