"""The kinds of job store that exist. To add one, implement the port in a file of its own, and return it here."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from stockworker.dispatcher.store import JobStore
from stockworker.dispatcher.store_sqlite import SqliteStores


class StoreKind(Protocol):
    """One way to keep jobs: how a store of this kind is opened, and how it is copied while a dispatcher uses it."""

    def open(self, path: Path) -> JobStore:
        """Open the store at `path`, and create it where it is missing.

        Raises:
            StoreError: it can't be used; the text has the reason.
        """

    def back_up(self, path: Path, target: Path, progress: Callable[[float], None]) -> None:
        """Copy all jobs as they are at one moment, and check the copy.

        Args:
            path: the store.
            target: the copy; it must not exist.
            progress: called now and then with the part that is done, from 0 to 1.

        Raises:
            StoreDamaged: what was read makes no sense. No copy is left then.
            StoreError: there is no such store, or the copy can't be written. No copy is left then.
        """


def store_kind(path: Path) -> StoreKind:
    """Return the kind of the store that the configuration places at `path`."""
    del path  # every path is an SQLite file
    return SqliteStores()


def open_store(path: Path) -> JobStore:
    """Open the store at `path`, and check all of it.

    Raises:
        StoreDamaged: the check failed. Nothing was changed: what a dispatcher does with damaged jobs can't be undone.
        StoreError: the store can't be used for another reason.
    """
    store = store_kind(path).open(path)
    try:
        store.check()
    except BaseException:
        store.close()
        raise
    return store
