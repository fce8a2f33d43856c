"""Finds out which market-data store the jobs of this worker use, so that the worker can announce its identity."""

# The store may be a server that does not answer. So a thread of its own asks, and nothing waits for it, not even the end of
# the process. It never creates a store: a fleet without market data has none, and nothing to announce.

import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from stockworker.errors import StoreError
from stockworker.market.location import is_file

_ABSENT_S: Final = 30.0
"""Between two looks for a store that does not exist yet or can't be used."""
_KNOWN_S: Final = 600.0
"""Between two looks at a known store: it may be moved away and made again."""


class MarketStoreWatch:
    """Looks at the store from time to time.

    Args:
        location: where the store is; None if no job of this worker uses it.
        read: returns the identity of a store; raises an error if there is none.
    """

    def __init__(self, location: str | None, read: Callable[[str], str] | None = None) -> None:
        self._location = location
        self._read = read or read_identity
        self._look_at = float("-inf")
        self._thread: _Look | None = None
        self._found: str | None = None
        self._reported: str | None = None

    def use(self, location: str | None) -> None:
        """Look at another store, after a reload; also immediately at the same one."""
        self._location = location
        self._look_at = float("-inf")
        self._thread = None  # what it finds may be old

    def look(self, now: float) -> Sequence[str | None]:
        """Return the identity, or None without one, in a list that is empty if it has not changed since the last call."""
        if self._thread is not None and not self._thread.is_alive():
            self._found = self._thread.found
            self._thread = None
            self._look_at = now + (_ABSENT_S if self._found is None else _KNOWN_S)
        if self._location is None:
            self._found = None
        elif self._thread is None and now >= self._look_at:
            self._thread = _Look(self._location, self._read)
            self._thread.start()
        former, self._reported = self._reported, self._found
        return [self._reported] if self._reported != former else []


class _Look(threading.Thread):
    """Reads the identity of a store. Nothing waits for it: a database server may never answer."""

    def __init__(self, location: str, read: Callable[[str], str]) -> None:
        super().__init__(daemon=True, name="market store")
        self._location = location
        self._read = read
        self.found: str | None = None

    def run(self) -> None:
        with suppress(Exception):  # a job that uses the store reports what is wrong with it
            self.found = self._read(self._location)


def read_identity(location: str) -> str:
    """The identity of an existing store.

    Raises:
        StoreError: there is none.
    """
    if is_file(location) and not Path(location).exists():
        raise StoreError(f"{location}: does not exist")
    from stockworker.market.store import open_market_store  # noqa: PLC0415 (8 ms that a worker without data does not need)

    with closing(open_market_store(location, read_only=True)) as store:
        return store.identity()
