"""Damaged files of the dispatcher and the workers are always noticed and reported."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from stockworker.dispatcher.stores import open_store
from stockworker.errors import StoreDamaged, StoreError
from stockworker.protocol.ids import WorkerId
from stockworker.worker.journal import Journal, open_journal
from tests.harness.advice import follows
from tests.harness.damage import DAMAGES, SEEN_AT_ONCE, Damage, overwrite_its_pages
from tests.harness.store_writer import OPENERS, commit

LOGGED: Final = 20
WORKER: Final = WorkerId("host-1")


def fill(kind: str, path: Path) -> None:
    file = OPENERS[kind](path)
    for number in range(1, LOGGED + 1):
        commit(file, number)
    file.close()  # what is in the write-ahead log goes into the file


def write_no_text(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE lease SET job_id = CAST(x'ff' AS TEXT)")


def swap_two_indexes(path: Path) -> None:
    """No job can be found by its ID any more, although all exist: the dispatcher would accept them a second time."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        names = ("sqlite_autoindex_job_1", "job_ended")
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        roots = [connection.execute(query, [name]).fetchone() for name in names]
        for (root,), name in zip(roots, reversed(names), strict=True):
            connection.execute("UPDATE sqlite_schema SET rootpage = ? WHERE name = ?", [root, name])


def write_no_state(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE job SET state = 'splendid'")


def write_no_outcome(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE lease SET outcome = 'splendid'")


@pytest.mark.parametrize("kind", OPENERS)
@pytest.mark.parametrize("damage", SEEN_AT_ONCE)
def test_a_damaged_file_is_refused_with_the_remedy_and_not_changed(tmp_path: Path, kind: str, damage: Damage) -> None:
    path = tmp_path / "file.sqlite3"
    fill(kind, path)
    damage(path)
    left = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(StoreDamaged, match=f"{path}: .*damaged.*: restore a backup, or move it away with its -wal"):
        OPENERS[kind](path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == left


@pytest.mark.parametrize("damage", [*DAMAGES, write_no_state, swap_two_indexes])
def test_a_dispatcher_does_not_start_with_a_damaged_store(tmp_path: Path, damage: Damage) -> None:
    path = tmp_path / "jobs.sqlite3"
    fill("jobs", path)
    damage(path)
    left = path.read_bytes() if path.exists() else None
    with pytest.raises(StoreDamaged, match=f"{path}: .*damaged.*: restore a backup, or move it away with its -wal"):
        open_store(path)
    assert (path.read_bytes() if path.exists() else None) == left


@follows("restore a backup, or move it away with its -wal and -shm files to start with an empty one")
@pytest.mark.parametrize("remedy", ["backup", "empty"])
def test_a_dispatcher_starts_after_the_remedy(tmp_path: Path, remedy: str) -> None:
    path, backup = tmp_path / "jobs.sqlite3", tmp_path / "backup.sqlite3"
    fill("jobs", path)
    path.rename(backup)
    path.write_bytes(b"not a store")
    with pytest.raises(StoreDamaged, match="restore a backup, or move it away with its -wal and -shm files"):
        open_store(path)
    for file in tmp_path.glob("jobs.sqlite3*"):
        file.rename(tmp_path / f"{file.name}.away")
    if remedy == "backup":
        backup.rename(path)
    with closing(open_store(path)) as store:
        assert bool(store.load().jobs) == (remedy == "backup")


def test_an_intact_store_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    fill("jobs", path)
    store = open_store(path)
    assert len(list(store.load().jobs)) == LOGGED
    store.close()


@pytest.mark.parametrize("damage", [*DAMAGES, write_no_text, write_no_outcome])
def test_a_damaged_journal_is_set_aside_and_a_new_one_created(
    tmp_path: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.sqlite3"
    fill("journal", path)
    damage(path)
    left = sorted(file.read_bytes() for file in tmp_path.iterdir())
    with caplog.at_level(logging.ERROR):
        journal = open_journal(path, WORKER)
    assert journal.load() == []
    journal.close()
    kept = [file for file in tmp_path.iterdir() if ".damaged-" in file.name]
    assert sorted(file.read_bytes() for file in kept if not file.name.endswith("-shm")) == left
    (record,) = caplog.records
    fields = record.__dict__["fields"]
    assert fields["journal"] == str(path)
    assert {file.name.removesuffix("-wal") for file in kept} >= {Path(fields["kept"]).name}
    assert str(path) in str(fields["reason"])


def test_two_damaged_journals_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    for text in ("first", "second"):
        path.write_text(text)
        open_journal(path, WORKER).close()
    kept = [file.read_text() for file in sorted(tmp_path.iterdir()) if ".damaged-" in file.name]
    assert kept == ["first", "second"]


def test_an_intact_journal_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    fill("journal", path)
    journal = open_journal(path, WORKER)
    assert len(journal.load()) == LOGGED
    journal.close()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("path", [Path("missing/journal.sqlite3"), Path()])
def test_a_journal_that_is_not_damaged_is_not_moved(tmp_path: Path, path: Path) -> None:
    with pytest.raises(StoreError, match=str(tmp_path)):
        open_journal(tmp_path / path, WORKER)
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_file_is_not_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite3"
    fill("jobs", path)
    with pytest.raises(StoreError, match="belongs to another program"):
        open_journal(path, WORKER)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_page_damaged_while_the_journal_is_open_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    fill("journal", path)
    journal = Journal(path)
    overwrite_its_pages(path)
    with pytest.raises(StoreDamaged, match=f"{path}: can't be read: damaged"):
        journal.load()
    journal.close()
