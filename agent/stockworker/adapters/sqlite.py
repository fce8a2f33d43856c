"""SQLite as everything here uses it: durable at commit, shared between processes, its schema brought up to date.

The only importer of `sqlite3`; whoever stores something takes the types that it needs from here.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from sqlite3 import Connection, DatabaseError, IntegrityError, OperationalError, Row, connect
from tempfile import NamedTemporaryFile
from typing import Final, TypeGuard

from stockworker.adapters import clock
from stockworker.errors import StoreDamaged, StoreError

__all__ = [
    "MEMORY",
    "Connect",
    "Connection",
    "DatabaseError",
    "IntegrityError",
    "OperationalError",
    "Row",
    "back_up",
    "check_integrity",
    "connect",
    "damaged",
    "failure",
    "move_aside",
    "open_database",
    "transaction",
]

MEMORY: Final = Path(":memory:")
"""Opened in place of a file: a database that is gone with its connection."""

_BACKUP_PAGES: Final = 4096
"""Pages that are copied between two words of progress: 16 MiB."""

_REMEDY: Final = "restore a backup, or move it away with its -wal and -shm files to begin anew"
_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

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
        StoreDamaged: the file is damaged, or not there though its write-ahead log is.
        StoreError: there is no such folder, no permission, the file belongs to something else, or was written by a
            newer version.
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
        connection.execute("BEGIN")  # or another process that is about to create the schema is seen half-way
        version = _version(connection, path, application_id, len(migrations))
        connection.execute("ROLLBACK")
        if version < len(migrations):
            with transaction(connection):
                version = _version(connection, path, application_id, len(migrations))  # another process may be done
                _migrate(connection, application_id, version, migrations)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError) or _is_damage(error):  # any other would be our own bug
            raise failure(path, "can't be used", error) from error
        raise
    return connection


def check_integrity(connection: Connection, path: Path) -> None:
    """Read all of an open database: its structure, and that each index has what its table has.

    Opening it looks at its first page alone. Takes a few seconds per GiB.

    Raises:
        StoreDamaged: a part of it makes no sense.
        StoreError: it can't be read for another reason.
    """
    try:
        ((verdict, *_), *_) = connection.execute("PRAGMA integrity_check(1)").fetchall()
    except DatabaseError as error:
        raise failure(path, "can't be read", error) from error
    if verdict != "ok":
        raise damaged(path, " ".join(verdict.split()))


def back_up(
    path: Path,
    target: Path,
    *,
    application_id: int,
    migrations: Sequence[str],
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Copy a database as it is at one moment, while others read and write it; and read all of the copy.

    Args:
        path: the database.
        target: the copy, which only its owner may read (mode 0600). There must be no such file.
        application_id: see `open_database`.
        migrations: likewise.
        progress: told now and then which part is done, from 0 to 1.

    Raises:
        StoreDamaged: what was read makes no sense. There is no copy then.
        StoreError: there is no such database, or the copy can't be written. There is no copy then.
    """
    try:
        source = connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    except OperationalError as error:
        raise StoreError(f"{path}: can't be opened: {error}") from error
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        source.close()
        raise StoreError(f"{target}: can't be written: {error.strerror}") from error
    try:
        with closing(source), closing(connect(target, isolation_level=None)) as copy:
            source.execute("BEGIN")  # what is read from here on is one state: or each commit would begin the copy anew
            _version(source, path, application_id, len(migrations))
            source.backup(copy, pages=_BACKUP_PAGES, progress=lambda _, left, all_: progress(1 - left / all_))
            check_integrity(copy, target)
    except BaseException as error:
        target.unlink()
        if isinstance(error, DatabaseError):
            raise failure(path, "can't be copied", error) from error
        raise


def damaged(path: Path, what: object) -> StoreDamaged:
    """Say what is to be raised because of something in the file at `path` that nobody has written."""
    return StoreDamaged(f"{path}: damaged: {what}: {_REMEDY}")


def failure(path: Path, problem: str, error: DatabaseError) -> StoreError:
    """Say what is to be raised because of SQLite's error.

    Args:
        path: the file.
        problem: what we could not do.
        error: a damaged file makes it a `StoreDamaged`; if it is locked, read-only or the disk is full, the file itself
            may be sound.
    """
    if _is_damage(error):
        return StoreDamaged(f"{path}: {problem}: damaged, or no SQLite file ({error}): {_REMEDY}")
    return StoreError(f"{path}: {problem}: {error}")


def move_aside(path: Path, suffix: str) -> Path:
    """Rename a database that nobody has open, together with what belongs to it; returns its new name.

    Its write-ahead log must not stay behind: SQLite would play it back into a new file of the old name
    (https://sqlite.org/howtocorrupt.html, section 1.4).
    """
    aside = path.with_name(path.name + suffix)
    for part in ("", "-wal", "-shm"):  # the file itself first: a log without its file is taken for damage as well
        with suppress(FileNotFoundError):
            path.with_name(path.name + part).rename(f"{aside}{part}")
    return aside


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


def _is_damage(error: BaseException) -> TypeGuard[DatabaseError]:
    if type(error) not in {DatabaseError, OperationalError}:
        return False
    # Text that is no UTF-8 is found by Python: there is no code of SQLite's. Extended codes have the plain one in front.
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in _DAMAGE


def _create(path: Path) -> None:
    """Make a database that only its owner may read, if there is none: SQLite gives its other files the same mode.

    It gets its name when it has a header. So an empty file is one that has lost what was in it, which SQLite would take
    for a new one. A file that is there already must not be opened here: closing it again would drop the locks that other
    connections of this process hold on it (https://sqlite.org/howtocorrupt.html, section 2.2).
    """
    has_log = path.with_name(f"{path.name}-wal").exists()  # looked for first: a file of another process comes before it
    if path.exists():
        if path.stat().st_size == 0:
            raise damaged(path, "the file is empty")
        return
    if has_log:
        raise damaged(path, "the file is missing, and its -wal file is there")
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.") as new:
        with closing(connect(new.name, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        with suppress(FileExistsError):  # another process was faster
            os.link(new.name, path)


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
