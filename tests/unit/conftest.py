"""Books of the machines, each checked to its end."""

from collections.abc import Iterator

import pytest

from tests.harness.dispatching import DispatcherBook


@pytest.fixture
def dispatcher() -> Iterator[DispatcherBook]:
    """A dispatcher that has just connected, at midday, without jobs or workers."""
    with DispatcherBook() as book:
        yield book
