"""Damage to the file of a database that no process has open."""

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
    """All pages but the first, which is the only one that SQLite reads when it opens the file."""
    _fold_log_in(path)
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // _PAGE):
            file.seek(page * _PAGE)
            file.write(b"\xff" * 64)


def replace_by_text(path: Path) -> None:
    _fold_log_in(path)
    path.write_bytes(b"symbol,close\n" * 1000)


def lose_it_and_keep_its_log(path: Path) -> None:
    """SIGKILL leaves the write-ahead log in place."""
    path.unlink()
    path.with_name(f"{path.name}-wal").touch()


SEEN_AT_ONCE: Final[tuple[Damage, ...]] = (
    cut_to_nothing,
    cut_in_half,
    overwrite_its_head,
    replace_by_text,
    lose_it_and_keep_its_log,
)
"""Opening the file must fail."""

DAMAGES: Final[tuple[Damage, ...]] = (*SEEN_AT_ONCE, overwrite_its_pages)


def _fold_log_in(path: Path) -> None:
    """Move the write-ahead log into the file: otherwise SQLite reads the pages from the log and never notices the damage."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
