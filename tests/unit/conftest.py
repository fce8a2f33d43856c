"""Books of the machines, each checked to its end."""

from collections.abc import Iterator

import pytest

from tests.harness.dispatching import DispatcherBook
from tests.harness.working import WorkerBook


@pytest.fixture
def dispatcher() -> Iterator[DispatcherBook]:
    """A dispatcher that has just connected, at midday, without jobs or workers."""
    with DispatcherBook() as book:
        yield book


@pytest.fixture
def worker() -> Iterator[WorkerBook]:
    """An worker with one slot that has just connected, with an empty journal."""
    with WorkerBook() as book:
        book.connect()
        yield book
