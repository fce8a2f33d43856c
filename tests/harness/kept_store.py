"""Job stores of each kind, for the contract that all of them must keep."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from stockworker.dispatcher.store import JobStore
from stockworker.dispatcher.store_sqlite import SqliteJobStore
from tests.harness.memory_store import MemoryJobStore


class Kept:
    """A store that can be closed and opened again, with what was committed."""

    def __init__(self, opener: Callable[[], JobStore]) -> None:
        self._opener = opener
        self.store = opener()

    def reopen(self) -> JobStore:
        self.store.close()
        self.store = self._opener()
        return self.store


@contextmanager
def kept(kind: str) -> Iterator[Kept]:
    with TemporaryDirectory() as folder:
        memory = MemoryJobStore()
        made = Kept(lambda: memory if kind == "memory" else SqliteJobStore(Path(folder, "jobs.sqlite3")))
        yield made
        made.store.close()


every_kind = pytest.mark.parametrize("kind", ["memory", "sqlite"])
