"""A job store of each kind, and its reader."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from stockworker.dispatcher.store import JobReader, JobStore
from tests.harness.kept_store import kept


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest) -> Iterator[JobStore]:
    with kept(request.param) as made:
        yield made.store


@pytest.fixture
def reader(store: JobStore) -> Iterator[JobReader]:
    with closing(store.reader()) as made:
        yield made
