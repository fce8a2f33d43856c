"""The SQLite gateway against real files and real processes."""

import multiprocessing
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from stockworker.adapters.sqlite import (
    MEMORY,
    IntegrityError,
    OperationalError,
    back_up,
    connect,
    failure,
    open_database,
    open_to_read,
    transaction,
)
from stockworker.errors import StoreDamaged, StoreError
from tests.harness.damage import overwrite_its_pages

APPLICATION_ID = 0x73776B00
NOTES = """
CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TRIGGER shout AFTER INSERT ON note BEGIN
    UPDATE note SET text = upper(text) WHERE id = new.id;
END;
"""
AUTHORS = "ALTER TABLE note ADD COLUMN author TEXT;"


def add_notes(path: Path, barrier: Barrier, count: int) -> None:
    barrier.wait()
    connection = open_database(path, application_id=APPLICATION_ID, migrations=[NOTES])
    for number in range(count):
        with transaction(connection):
            connection.execute("INSERT INTO note (text) VALUES (?)", (str(number),))
    connection.close()


def open_and_close(path: Path, migrations: Sequence[str], application_id: int = APPLICATION_ID) -> None:
    open_database(path, application_id=application_id, migrations=migrations).close()


def test_a_new_file_is_private_and_durable(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connection = open_database(path, application_id=APPLICATION_ID, migrations=[NOTES])
    with transaction(connection):
        connection.execute("INSERT INTO note (text) VALUES ('first')")
    settings = [
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
    ]
    modes = [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()]
    connection.close()
    assert settings == ["wal", 2, 1]
    assert modes == [0o600] * 3  # the file, its -wal and its -shm


def test_a_database_in_memory_needs_no_file() -> None:
    connection = open_database(MEMORY, application_id=APPLICATION_ID, migrations=[NOTES, AUTHORS])
    with transaction(connection):
        connection.execute("INSERT INTO note (text, author) VALUES ('first', 'me')")
    assert connection.execute("SELECT text, author FROM note").fetchall() == [("FIRST", "me")]
    connection.close()
    assert not MEMORY.exists()


def test_a_later_version_adds_what_is_new_and_keeps_the_data(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connection = open_database(path, application_id=APPLICATION_ID, migrations=[NOTES])
    connection.execute("INSERT INTO note (text) VALUES ('kept')")
    connection.close()
    connection = open_database(path, application_id=APPLICATION_ID, migrations=[NOTES, AUTHORS])
    assert connection.execute("SELECT text, author FROM note").fetchall() == [("KEPT", None)]
    connection.close()


def test_a_migration_that_fails_leaves_the_schema_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with pytest.raises(StoreError, match="no such table: nowhere"):
        open_and_close(path, [NOTES, "ALTER TABLE nowhere ADD COLUMN x TEXT;"])
    connection = open_database(path, application_id=APPLICATION_ID, migrations=[])
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    connection.close()


def test_a_transaction_that_raises_is_undone() -> None:
    connection = open_database(MEMORY, application_id=APPLICATION_ID, migrations=[NOTES])
    connection.execute("INSERT INTO note (id, text) VALUES (1, 'first')")
    with pytest.raises(IntegrityError), transaction(connection):
        connection.executemany("INSERT INTO note (id, text) VALUES (?, '')", [(2,), (1,)])
    assert connection.execute("SELECT id FROM note").fetchall() == [(1,)]
    assert not connection.in_transaction
    connection.close()


def test_a_missing_folder_is_named_with_the_next_step(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "store.db"
    with pytest.raises(StoreError, match=rf"{path}: the folder {path.parent} does not exist: create it"):
        open_and_close(path, [NOTES])


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=rf"{tmp_path}: can't be opened"):
        open_and_close(tmp_path, [NOTES])


@pytest.mark.parametrize("content", [b"Ticker,Date,Open\n" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=rf"{path}: can't be used: damaged, or not an SQLite file .*restore a backup"):
        open_and_close(path, [NOTES])
    assert path.read_bytes() == content


def test_a_file_system_without_the_right_to_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.statvfs(tmp_path)
    flags = os.statvfs_result((*found[:8], found.f_flag | os.ST_RDONLY, found.f_namemax))
    monkeypatch.setattr(os, "statvfs", lambda _path: flags)
    with pytest.raises(OperationalError) as refused:
        connect(tmp_path / "missing" / "a")
    error = failure(tmp_path / "a", "can't be used", refused.value)
    assert str(error).endswith("can't be used: unable to open database file: its file system is mounted read-only")


def test_a_log_that_a_reader_has_made_grow_shrinks_again(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    log = tmp_path / "a.sqlite3-wal"
    with closing(open_database(path, application_id=APPLICATION_ID, migrations=[NOTES])) as writer:
        writer.execute("CREATE TABLE large (content BLOB)")
        with closing(open_to_read(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM large").fetchone()
            for _ in range(5):
                writer.execute("INSERT INTO large VALUES (zeroblob(5000000))")
            assert log.stat().st_size > 20 << 20
        writer.execute("DELETE FROM large")
        writer.execute("INSERT INTO large VALUES (1)")  # the log begins again
        assert log.stat().st_size <= 16 << 20


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    open_and_close(path, [NOTES, AUTHORS])
    with pytest.raises(StoreError, match=r"newer stockworker \(schema 2, this one knows 1\): upgrade"):
        open_and_close(path, [NOTES])


def test_the_file_of_another_purpose_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    open_and_close(path, [NOTES])
    with pytest.raises(StoreError, match="belongs to another program"):
        open_and_close(path, [NOTES], application_id=APPLICATION_ID + 1)


def test_a_writer_waits_only_as_long_as_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    first = open_database(path, application_id=APPLICATION_ID, migrations=[NOTES])
    second = open_database(path, application_id=APPLICATION_ID, migrations=[NOTES], busy_timeout_s=0.01)
    with transaction(first), pytest.raises(OperationalError, match="locked"), transaction(second):
        pass
    with transaction(second):
        second.execute("INSERT INTO note (text) VALUES ('later')")
    first.close()
    second.close()


def test_processes_that_create_and_write_one_file_at_once_all_succeed(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    for round_number in range(5):
        path = tmp_path / f"{round_number}.db"
        barrier = spawn.Barrier(4)
        writers = [spawn.Process(target=add_notes, args=(path, barrier, 20)) for _ in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        assert [writer.exitcode for writer in writers] == [0] * 4
        connection = open_database(path, application_id=APPLICATION_ID, migrations=[NOTES])
        assert connection.execute("SELECT count(*) FROM note").fetchone() == (80,)
        connection.close()


def test_opening_a_file_again_keeps_the_locks_of_this_process(tmp_path: Path) -> None:
    """POSIX drops every lock of a process on a file when the process closes any descriptor of it.

    Another process would then conclude that it is the last one, and remove the log while the connection is open.
    """
    path = tmp_path / "store.db"
    first = open_database(path, application_id=APPLICATION_ID, migrations=[NOTES])
    open_and_close(path, [NOTES])
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM note').fetchall()"
    subprocess.run([sys.executable, "-c", program, path], check=True)
    assert (tmp_path / "store.db-wal").exists()
    first.close()


def notes(path: Path, count: int, text: str = "x") -> None:
    connection = open_database(path, application_id=APPLICATION_ID, migrations=[NOTES])
    with transaction(connection):
        connection.executemany("INSERT INTO note (text) VALUES (?)", [(text,)] * count)
    connection.close()


def copy(path: Path, target: Path, progress: Callable[[float], None] = lambda _: None) -> None:
    back_up(path, target, application_id=APPLICATION_ID, migrations=[NOTES], progress=progress)


def test_a_copy_is_one_state_whatever_is_written_meanwhile(tmp_path: Path) -> None:
    path, target = tmp_path / "store.db", tmp_path / "copy.db"
    notes(path, 6000, "x" * 4000)
    writer = open_database(path, application_id=APPLICATION_ID, migrations=[NOTES])
    done = []

    def write_more(part: float) -> None:
        done.append(part)
        with transaction(writer):
            writer.execute("UPDATE note SET text = 'y'")
            writer.execute("INSERT INTO note (text) VALUES ('later')")

    copy(path, target, write_more)
    writer.close()

    assert len(done) == 2, "a commit does not restart it"
    assert done[-1] == 1
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert {file.name for file in tmp_path.iterdir()} == {"store.db", "copy.db"}
    copied = open_database(target, application_id=APPLICATION_ID, migrations=[NOTES])
    assert copied.execute("SELECT DISTINCT length(text), count(*) FROM note").fetchall() == [(4000, 6000)]
    copied.close()


def test_a_copy_has_what_its_writer_has_not_yet_moved_out_of_the_log(tmp_path: Path) -> None:
    path, target = tmp_path / "store.db", tmp_path / "copy.db"
    writer = open_database(path, application_id=APPLICATION_ID, migrations=[NOTES])
    writer.execute("INSERT INTO note (text) VALUES ('first')")
    copy(path, target)
    writer.close()
    copied = open_database(target, application_id=APPLICATION_ID, migrations=[NOTES])
    assert copied.execute("SELECT text FROM note").fetchall() == [("FIRST",)]
    copied.close()


def test_of_a_damaged_database_there_is_no_copy(tmp_path: Path) -> None:
    path, target = tmp_path / "store.db", tmp_path / "copy.db"
    notes(path, 2000)
    overwrite_its_pages(path)
    with pytest.raises(StoreDamaged, match=str(tmp_path)):
        copy(path, target)
    assert not target.exists()


def test_a_copy_takes_nobodys_place(tmp_path: Path) -> None:
    path, target = tmp_path / "store.db", tmp_path / "copy.db"
    notes(path, 1)
    target.write_text("mine")
    with pytest.raises(StoreError, match="File exists"):
        copy(path, target)
    assert target.read_text() == "mine"
    with pytest.raises(StoreError, match="No such file"):
        copy(path, tmp_path / "nowhere" / "copy.db")
    with pytest.raises(StoreError, match="can't be opened"):
        copy(tmp_path / "missing.db", tmp_path / "third.db")
    with pytest.raises(StoreError, match="belongs to another program"):
        back_up(path, tmp_path / "fourth.db", application_id=1, migrations=[NOTES])
    assert not (tmp_path / "third.db").exists()
    assert not (tmp_path / "fourth.db").exists()
