"""Files of the dispatcher and of the agents that have lost what was in them: nothing of that passes in silence."""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from stockworker.agent.journal import Journal, open_journal
from stockworker.errors import StoreDamaged, StoreError
from tests.harness.store_writer import OPENERS, commit

PAGE: Final = 4096
LOGGED: Final = 20


def fill(kind: str, path: Path) -> None:
    file = OPENERS[kind](path)
    for number in range(1, LOGGED + 1):
        commit(file, number)
    file.close()  # what is in the write-ahead log goes into the file


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // PAGE // 2 * PAGE])


def overwrite_its_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * 100)


def lose_it_and_keep_its_log(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}-wal"))


def overwrite_its_pages(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // PAGE):
            file.seek(page * PAGE)
            file.write(b"\xff" * 64)


def write_no_text(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE lease SET job_id = CAST(x'ff' AS TEXT)")


def write_no_outcome(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE lease SET outcome = 'splendid'")


Damage = Callable[[Path], None]
SEEN_AT_ONCE: Final[list[Damage]] = [cut_to_nothing, cut_in_half, overwrite_its_head, lose_it_and_keep_its_log]
SEEN_BY_READING: Final[list[Damage]] = [overwrite_its_pages, write_no_text, write_no_outcome]


@pytest.mark.parametrize("kind", OPENERS)
@pytest.mark.parametrize("damage", SEEN_AT_ONCE)
def test_a_damaged_file_is_refused_with_the_remedy_and_left_alone(tmp_path: Path, kind: str, damage: Damage) -> None:
    path = tmp_path / "file.sqlite3"
    fill(kind, path)
    damage(path)
    left = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(StoreDamaged, match=f"{path}: .*damaged.*: restore a backup, or move it away with its -wal"):
        OPENERS[kind](path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == left


@pytest.mark.parametrize("damage", [*SEEN_AT_ONCE, *SEEN_BY_READING])
def test_a_damaged_journal_is_kept_aside_and_a_new_one_begun(
    tmp_path: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.sqlite3"
    fill("journal", path)
    damage(path)
    left = sorted(file.read_bytes() for file in tmp_path.iterdir())
    with caplog.at_level(logging.ERROR):
        journal = open_journal(path)
    assert journal.load() == []
    journal.close()
    kept = [file for file in tmp_path.iterdir() if ".damaged-" in file.name]
    assert sorted(file.read_bytes() for file in kept if not file.name.endswith("-shm")) == left
    (record,) = caplog.records
    fields = record.__dict__["fields"]
    assert fields["journal"] == path
    assert {file.name.removesuffix("-wal") for file in kept} >= {fields["kept"].name}
    assert str(path) in str(fields["reason"])


def test_a_sound_journal_is_opened_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    fill("journal", path)
    journal = open_journal(path)
    assert len(journal.load()) == LOGGED
    journal.close()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("path", [Path("missing/journal.sqlite3"), Path()])
def test_a_journal_that_is_not_damaged_is_not_moved(tmp_path: Path, path: Path) -> None:
    with pytest.raises(StoreError, match=str(tmp_path)):
        open_journal(tmp_path / path)
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_another_is_no_damaged_journal(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite3"
    fill("jobs", path)
    with pytest.raises(StoreError, match="belongs to something else"):
        open_journal(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_page_that_rots_while_the_journal_is_open_is_called_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    fill("journal", path)
    journal = Journal(path)
    overwrite_its_pages(path)
    with pytest.raises(StoreDamaged, match=f"{path}: can't be read: damaged"):
        journal.load()
    journal.close()
