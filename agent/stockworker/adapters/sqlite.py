"""SQLite with this product's settings: durable commits, files shared between processes, schema migrations."""

# The only importer of `sqlite3`. All stores import its types from here.
#
# Durability: a commit returns when its data is on the disk. In write-ahead mode that takes `synchronous=FULL`; the
# usual `NORMAL` would lose the last commits in a power cut, and the dispatcher has promised those jobs to clients.
#
# Versions: `application_id` identifies the program, `user_version` counts the applied migrations. Migrations run inside
# one transaction that also sets both numbers, so a crash leaves the old schema or the new one. A file of a newer
# version is refused: an older program does not know what its tables mean.
#
# Damage differs from other failures. `StoreDamaged` means that the content is wrong, and a worker may then start a new
# journal. Any other `StoreError` (a full disk, a lock, a missing permission) leaves a file that may be sound, so
# nothing may replace it.

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from shutil import disk_usage
from sqlite3 import Connection, DatabaseError, IntegrityError, OperationalError, connect
from tempfile import NamedTemporaryFile
from typing import Final, TypeGuard

from stockworker.adapters import clock
from stockworker.errors import StoreDamaged, StoreError, StoreFull

__all__ = [
    "MEMORY",
    "Connect",
    "Connection",
    "DatabaseError",
    "IntegrityError",
    "OperationalError",
    "back_up",
    "check_integrity",
    "connect",
    "damaged",
    "failure",
    "free_bytes",
    "move_aside",
    "open_database",
    "open_migrated_to_read",
    "open_to_read",
    "transaction",
]

MEMORY: Final = Path(":memory:")
"""In place of a path: a database in memory, which vanishes with its connection."""

_BACKUP_PAGES: Final = 4096
"""Pages that are copied between two reports of progress: 16 MiB."""

_LOG_BYTES: Final = 16 * 1024 * 1024
"""The write-ahead log is cut to this size when all of it is in the database."""

_REMEDY: Final = "restore a backup, or move it away with its -wal and -shm files to start with an empty one"
_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

Connect = Callable[..., Connection]
"""`sqlite3.connect`, or its replacement in a test: a simulated disk."""


def open_database(
    path: Path,
    *,
    application_id: int,
    migrations: Sequence[str],
    busy_timeout_s: float = 10.0,
    connect: Connect = connect,
) -> Connection:
    """Open the database at `path`, create it if it is missing, and migrate its schema.

    Only its owner can read a new file (mode 0600). A commit is on disk when it returns (write-ahead log,
    ``synchronous=FULL``). The connection begins no transaction by itself: write inside `transaction`. Several threads
    may use it, one at a time.

    Args:
        path: the file, or `MEMORY`.
        application_id: a number of 32 bits that identifies this kind of file
            (https://sqlite.org/pragma.html#pragma_application_id).
        migrations: SQL scripts; number n brings the schema from version n to n + 1, and never changes once released.
            A script must not contain transactions, and each of its statements must end at the end of a line. The
            oldest supported SQLite is RHEL 9's 3.34: no STRICT tables (3.37), no RETURNING (3.35).
        busy_timeout_s: how long a statement waits for another process that writes.
        connect: see `Connect`.

    Raises:
        StoreDamaged: the file is damaged, or missing although its write-ahead log exists.
        StoreError: the folder is missing, the permission is missing, the file belongs to another program, or a newer
            version has written it.
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
        connection.execute("BEGIN")  # excludes another process that is creating the schema
        version = _version(connection, path, application_id, len(migrations))
        connection.execute("ROLLBACK")
        if version < len(migrations):
            with transaction(connection):
                # Another process may have finished.
                version = _version(connection, path, application_id, len(migrations))
                _migrate(connection, application_id, version, migrations)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError) or _is_damage(error):  # any other error is a bug here
            raise failure(path, "can't be used", error) from error
        raise
    return connection


def open_to_read(path: Path, *, busy_timeout_s: float = 10.0, connect: Connect = connect) -> Connection:
    """Open a second connection to a database that `open_database` has opened. It can't write.

    In write-ahead mode, its reads and the writes of others do not wait for each other. Several threads may use it, one
    at a time.

    Raises:
        StoreError: it can't be opened.
    """
    try:
        return connect(
            _read_only(path), uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
        )
    except OperationalError as error:
        raise StoreError(f"{path}: can't be opened: {error}") from error


def open_migrated_to_read(path: Path, *, application_id: int, migrations: Sequence[str]) -> Connection:
    """Open a database of `open_database` that no service of this process has open. It can't write.

    Raises:
        StoreDamaged: the file is damaged.
        StoreError: it can't be read, does not exist, belongs to another program, or has an older or newer schema.
    """
    try:
        path.stat()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    connection = open_to_read(path)
    try:
        _check_migrated(_version(connection, path, application_id, len(migrations)), path, len(migrations))
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError) or _is_damage(error):
            raise failure(path, "can't be read", error) from error
        raise
    return connection


def _check_migrated(version: int, path: Path, known: int) -> None:
    if version < known:
        message = f"{path}: has an older schema ({version}, this one reads {known})"
        raise StoreError(f"{message}: the service that owns it migrates it when it opens it")


def check_integrity(connection: Connection, path: Path) -> None:
    """Read all of an open database, and check its structure and its indexes.

    Opening reads only the first page. This check takes a few seconds per GiB.

    Raises:
        StoreDamaged: a part of it is invalid.
        StoreError: it can't be read for another reason.
    """
    try:
        ((result, *_), *_) = connection.execute("PRAGMA integrity_check(1)").fetchall()
    except DatabaseError as error:
        raise failure(path, "can't be read", error) from error
    if result != "ok":
        raise damaged(path, " ".join(result.split()))


def back_up(
    path: Path,
    target: Path,
    *,
    application_id: int,
    migrations: Sequence[str],
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Copy the state of a database at one moment, while others read and write it, and check the copy.

    Args:
        path: the database.
        target: the copy, which only its owner may read (mode 0600). It must not exist.
        application_id: see `open_database`.
        migrations: see `open_database`.
        progress: called periodically with the completed part, from 0 to 1.

    Raises:
        StoreDamaged: the database is invalid. There is no copy then.
        StoreError: there is no such database, or the copy can't be written. There is no copy then.
    """
    try:
        source = connect(_read_only(path), uri=True, isolation_level=None)
    except OperationalError as error:
        raise StoreError(f"{path}: can't be opened: {error}") from error
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        source.close()
        raise StoreError(f"{target}: can't be written: {error.strerror}") from error
    try:
        with closing(source), closing(connect(target, isolation_level=None)) as copy:
            source.execute("BEGIN")  # one state for all reads; otherwise each commit would restart the copy
            _version(source, path, application_id, len(migrations))
            source.backup(copy, pages=_BACKUP_PAGES, progress=lambda _, left, all_: progress(1 - left / all_))
            check_integrity(copy, target)
    except BaseException as error:
        target.unlink()
        if isinstance(error, DatabaseError):
            raise failure(path, "can't be copied", error) from error
        raise


def free_bytes(path: Path) -> int:
    """Free bytes on the disk of a database.

    Raises:
        StoreError: its folder is gone.
    """
    try:
        return disk_usage(path.parent).free
    except OSError as error:
        raise StoreError(f"{path}: {error}") from error


def _read_only(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"


def damaged(path: Path, what: object) -> StoreDamaged:
    """The error for content of the file at `path` that this program has not written."""
    return StoreDamaged(f"{path}: damaged: {what}: {_REMEDY}")


def failure(path: Path, problem: str, error: DatabaseError) -> StoreError:
    """The error to raise for an error of SQLite.

    Args:
        path: the file.
        problem: the action that failed.
        error: a damaged file gives a `StoreDamaged`. If the file is locked or read-only, or the disk is full, the
            file itself may be sound.
    """
    if _is_damage(error):
        return StoreDamaged(f"{path}: {problem}: damaged, or not an SQLite file ({error}): {_REMEDY}")
    cause = ": its file system is mounted read-only" if _is_read_only(path) else ""
    kind = StoreFull if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL else StoreError
    return kind(f"{path}: {problem}: {error}{cause}")


def _is_read_only(path: Path) -> bool:
    try:
        return bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def move_aside(path: Path, suffix: str) -> Path:
    """Rename a closed database together with its other files; return its new name.

    Its write-ahead log must not stay: SQLite would apply it to a new file of the old name
    (https://sqlite.org/howtocorrupt.html, section 1.4).
    """
    aside = path.with_name(path.name + suffix)
    for part in ("", "-wal", "-shm"):  # the file first: a log without its file also counts as damage
        with suppress(FileNotFoundError):
            path.with_name(path.name + part).rename(f"{aside}{part}")
    return aside


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Commit all writes of the body as one transaction; roll back if the body or the commit raises.

    Takes the write lock immediately. A transaction that first reads and then writes can fail with "database is locked"
    without waiting, because another one may have written in between.
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
    # Python itself finds text that is not UTF-8, without a code of SQLite. Extended codes contain the plain one.
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in _DAMAGE


def _create(path: Path) -> None:
    """Make a database that only its owner may read, if it is missing. SQLite gives its other files the same mode.

    The file gets its name after its header is written. So an empty file has lost its content, although SQLite would accept
    it as a new one. An existing file must not be opened here: closing it would drop the locks of other connections of this
    process (https://sqlite.org/howtocorrupt.html, section 2.2).
    """
    # Checked first: another process makes the file before its log.
    has_log = path.with_name(f"{path.name}-wal").exists()
    if path.exists():
        if path.stat().st_size == 0:
            raise damaged(path, "the file is empty")
        return
    if has_log:
        raise damaged(path, "the file is missing, but its -wal file exists")
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.") as new:
        with closing(connect(new.name, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        with suppress(FileExistsError):  # another process was faster
            os.link(new.name, path)


def _configure(connection: Connection, busy_timeout_s: float) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # A reader that takes long makes the log grow. The next checkpoint after it shrinks the file again.
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
    # The change to WAL needs exclusive access, and SQLite does not wait for that as it does for a write lock. If several
    # processes open a new file at the same time, some would fail. The setting stays in the file.
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
    """The version of the file's schema, at most `known`."""
    (found_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if found_id != application_id and (found_id, version, objects) != (0, 0, 0):
        raise StoreError(f"{path}: belongs to another program: configure another path")
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
    """Split a script: `sqlite3.Connection.executescript` would commit the surrounding transaction."""
    statement = ""
    for line in script.strip().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement:
        yield statement
