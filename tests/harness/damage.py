"""What can happen to the file of a database that nobody has open."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

_PAGE: Final = 4096

Damage = Callable[[Path], None]


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_half(path: Path) -> None:
    _fold_log_in(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // _PAGE // 2 * _PAGE])


def overwrite_its_head(path: Path) -> None:
    _fold_log_in(path)
    with path.open("r+b") as file:
        file.write(b"\0" * 100)


def overwrite_its_pages(path: Path) -> None:
    """All but the first, which is all that is looked at when it is opened."""
    _fold_log_in(path)
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // _PAGE):
            file.seek(page * _PAGE)
            file.write(b"\xff" * 64)


def replace_by_text(path: Path) -> None:
    _fold_log_in(path)
    path.write_bytes(b"symbol,close\n" * 1000)


def lose_it_and_keep_its_log(path: Path) -> None:
    """A kill leaves the log behind."""
    path.unlink()
    path.with_name(f"{path.name}-wal").touch()


SEEN_AT_ONCE: Final[tuple[Damage, ...]] = (
    cut_to_nothing,
    cut_in_half,
    overwrite_its_head,
    replace_by_text,
    lose_it_and_keep_its_log,
)
"""SQLite, or whoever opens the file, sees it at the first look."""

DAMAGES: Final[tuple[Damage, ...]] = (*SEEN_AT_ONCE, overwrite_its_pages)


def _fold_log_in(path: Path) -> None:
    """Bring what is in the write-ahead log into the file: SQLite would take it from there and never see the damage."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
