"""Old queues with their old workers: the sources that `stockworker migrate` reads, as their users have them.

To add one, write a class that fulfils `OldQueue`, and add it to `OLD_QUEUES`: the contract of sources and the tests in
`tests/migration` run with each of them.
"""

import atexit
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg
import pymysql

from stockworker.adapters import clock
from stockworker.migration.address import parse_address
from stockworker.migration.mapping import SourceMapping
from stockworker.migration.mapping_file import read_mapping
from stockworker.migration.source import Source
from stockworker.migration.sources import open_source
from tests.harness.mariadb import mariadb_server
from tests.harness.old_brokers import rabbitmq_queue, redis_queue
from tests.harness.postgresql import postgresql_cluster


@dataclass(frozen=True, slots=True)
class OldJob:
    """A job of an old queue. `payload` may be anything, such as text that is not JSON or not UTF-8."""

    number: int
    type: str = "echo"
    payload: bytes = b"{}"
    priority: str = "normal"
    attempts: int = 0
    scheduled_at: int | None = None


class OldQueue(Protocol):
    """An old queue.

    Attributes:
        url: the SOURCE of the command.
        options: how the command reads it: ``--preset`` or ``--mapping``.
        mapping: the same.
        keeps_moved: moved records stay, so that `--back` can return them.
    """

    url: str
    options: tuple[str, ...]
    mapping: SourceMapping
    keeps_moved: bool

    def add(self, jobs: Iterable[OldJob]) -> None:
        """What an old producer does."""

    def take(self) -> int | None:
        """What an old worker does: take a job that waits and may run now, for good. Returns its number."""

    def waiting(self) -> Collection[int]:
        """The numbers of the jobs that an old worker could take, now or later."""


def job_number(payload: bytes) -> int:
    """The number of a job whose payload is that of `numbered`."""
    number: int = json.loads(payload)["number"]
    return number


def numbered(numbers: Iterable[int], **options: Any) -> list[OldJob]:
    """Jobs whose payload has their number."""
    return [OldJob(number, payload=json.dumps({"number": number}).encode(), **options) for number in numbers]


def opened(queue: OldQueue, *, read_only: bool = False) -> AbstractContextManager[Source]:
    """The source of a queue."""
    return closing(open_source(parse_address(queue.url), queue.mapping, read_only=read_only))


class SqliteQueue:
    """A table with a column for the status. Its payloads are BLOBs, which may hold anything."""

    options: tuple[str, ...] = ("--preset", "jobs")
    keeps_moved = True

    def __init__(self, folder: Path) -> None:
        self.path = folder / "old.sqlite3"
        self.url = f"sqlite://{self.path}"
        self.mapping = read_mapping(None, "jobs")
        self._run(
            "CREATE TABLE jobs (id INTEGER PRIMARY KEY, type TEXT, payload BLOB, priority TEXT, attempts INTEGER, "
            "scheduled_at INTEGER, status TEXT)"
        )

    def _run(self, *statements: str, rows: Sequence[Sequence[object]] = ()) -> list[Any]:
        found: list[Any] = []
        with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
            for statement in statements:
                if rows:
                    connection.executemany(statement, rows)
                else:
                    found = connection.execute(statement).fetchall()
        return found

    def add(self, jobs: Iterable[OldJob]) -> None:
        rows = [
            (job.number, job.type, job.payload, job.priority, job.attempts, job.scheduled_at, "pending") for job in jobs
        ]
        self._run("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)", rows=rows)

    def take(self) -> int | None:
        waits = "status = 'pending' AND COALESCE(scheduled_at, 0) <= unixepoch()"
        found = self._run(
            f"UPDATE jobs SET status = 'running' WHERE id = (SELECT id FROM jobs WHERE {waits} ORDER BY id LIMIT 1) "  # noqa: S608
            f"AND {waits} RETURNING id"
        )
        return found[0][0] if found else None

    def waiting(self) -> Collection[int]:
        return [number for (number,) in self._run("SELECT id FROM jobs WHERE status = 'pending' ORDER BY id")]


class ServerQueue:
    """The same table in a server, whose old workers lock the rows that they take."""

    keeps_moved = True
    options: tuple[str, ...] = ("--preset", "jobs")

    def __init__(self, url: str, connect: Callable[[], Any], binary: str) -> None:
        self.url = url
        self.mapping = read_mapping(None, "jobs")
        self._connect = connect
        self._run(
            "DROP TABLE IF EXISTS jobs",
            f"CREATE TABLE jobs (id INTEGER PRIMARY KEY, type TEXT, payload {binary}, priority VARCHAR(9), "
            "attempts INTEGER, scheduled_at BIGINT, status VARCHAR(20))",
            "CREATE INDEX jobs_by_status ON jobs (status, id)",
        )

    def _run(self, *statements: str, rows: Sequence[Sequence[object]] = ()) -> list[Any]:
        found: list[Any] = []
        with closing(self._connect()) as connection:
            cursor = connection.cursor()
            for statement in statements:
                if rows:
                    cursor.executemany(statement, rows)
                else:
                    cursor.execute(statement)
                    found = list(cursor.fetchall()) if cursor.description else []
            connection.commit()
        return found

    def add(self, jobs: Iterable[OldJob]) -> None:
        rows = [
            (job.number, job.type, job.payload, job.priority, job.attempts, job.scheduled_at, "pending") for job in jobs
        ]
        self._run("INSERT INTO jobs VALUES (%s, %s, %s, %s, %s, %s, %s)", rows=rows)

    def take(self) -> int | None:
        with closing(self._connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT id FROM jobs WHERE status = 'pending' AND COALESCE(scheduled_at, 0) <= %s ORDER BY id LIMIT 1 "
                "FOR UPDATE SKIP LOCKED",
                (int(clock.wall()),),
            )
            row = cursor.fetchone()
            if row is not None:
                cursor.execute("UPDATE jobs SET status = 'running' WHERE id = %s", (row[0],))
            connection.commit()
        return None if row is None else int(row[0])

    def waiting(self) -> Collection[int]:
        return [number for (number,) in self._run("SELECT id FROM jobs WHERE status = 'pending' ORDER BY id")]


def _until_exit(server: AbstractContextManager[str]) -> str:
    stack = ExitStack()
    url = stack.enter_context(server)
    atexit.register(stack.close)  # last, so that it runs before the folder of the server vanishes
    return url


@cache
def postgresql_url() -> str:
    """The URL of the PostgreSQL of this process."""
    return _until_exit(postgresql_cluster())


@cache
def mariadb_url() -> str:
    """The URL of the MariaDB of this process."""
    return _until_exit(mariadb_server())


@contextmanager
def _postgresql(_folder: Path) -> Iterator[OldQueue]:
    url = postgresql_url()
    yield ServerQueue(url, lambda: psycopg.connect(url), "BYTEA")


@contextmanager
def _mariadb(_folder: Path) -> Iterator[OldQueue]:
    url = mariadb_url()
    socket = parse_address(url).options["unix_socket"]
    yield ServerQueue(url, lambda: pymysql.connect(unix_socket=socket, user="root", database="old"), "LONGBLOB")


@contextmanager
def _sqlite(folder: Path) -> Iterator[OldQueue]:
    yield SqliteQueue(folder)


OLD_QUEUES: Final[dict[str, Callable[[Path], AbstractContextManager[OldQueue]]]] = {
    "sqlite": _sqlite,
    "redis": redis_queue,
    "rabbitmq": rabbitmq_queue,
    "postgresql": _postgresql,
    "mariadb": _mariadb,
}
"""Each kind of old queue: given a folder for its files, yields one that is empty."""
