"""Each source keeps the promises of its port, beside a real old worker."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from stockworker.errors import ConfigError
from stockworker.migration.address import parse_address
from stockworker.migration.decoding import record_id_of
from stockworker.migration.mapping_file import read_mapping
from stockworker.migration.source import Found, Source, SourceFailed, SourceToken, Standing
from stockworker.migration.sources import open_source
from tests.harness.old_queues import OLD_QUEUES, OldQueue, SqliteQueue, numbered, opened

PENDING, CLAIMED, MOVED, RETURNING = Standing.PENDING, Standing.CLAIMED, Standing.MOVED, Standing.RETURNING


@pytest.fixture(params=OLD_QUEUES)
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OldQueue]:
    with OLD_QUEUES[request.param](tmp_path) as queue:
        yield queue


def read(source: Source, standing: Standing, limit: int = 1000) -> list[Found]:
    """All records of a standing, page by page."""
    page = source.page(standing, None, limit)
    found = list(page.found)
    while page.after is not None:
        source.shift((), standing, CLAIMED)
        page = source.page(standing, page.after, limit)
        found += page.found
    source.shift((), standing, CLAIMED)
    return found


def claim(source: Source, count: int) -> list[SourceToken]:
    tokens = [found.token for found in source.page(PENDING, None, count).found]
    assert sorted(map(str, source.shift(tokens, PENDING, CLAIMED))) == sorted(map(str, tokens))
    return tokens


def ids(queue: OldQueue, found: Collection[Found]) -> list[str]:
    return sorted(record_id_of(each.record, queue.mapping) for each in found)


def taken(queue: OldQueue) -> list[int]:
    """What an old worker takes until nothing is left."""
    return sorted(iter(queue.take, None))


def test_pages_show_every_record_once(queue: OldQueue) -> None:
    queue.add(numbered(range(1, 26)))

    with opened(queue, read_only=True) as source:
        found = read(source, PENDING, limit=10)
        assert source.counts()[PENDING] == 25

    assert len(set(ids(queue, found))) == 25
    assert sorted(queue.waiting()) == list(range(1, 26))


def test_an_old_worker_gets_what_is_not_claimed(queue: OldQueue) -> None:
    queue.add(numbered(range(1, 11)))

    with opened(queue) as source:
        claim(source, 4)
        others = taken(queue)

        assert len(others) == 6
        assert len(read(source, CLAIMED)) == 4


def test_a_claim_outlives_its_connection(queue: OldQueue) -> None:
    queue.add(numbered(range(1, 6)))
    with opened(queue) as source:
        claim(source, 3)
        before = ids(queue, read(source, CLAIMED))

    with opened(queue) as source:
        assert ids(queue, read(source, CLAIMED)) == before
        assert len(read(source, PENDING)) == 2


def test_what_was_read_and_not_claimed_goes_back(queue: OldQueue) -> None:
    queue.add(numbered(range(1, 6)))
    with opened(queue) as source:
        source.page(PENDING, None, 3)

    assert taken(queue) == [1, 2, 3, 4, 5]


def test_a_record_that_an_old_worker_has_is_not_claimed(queue: OldQueue) -> None:
    queue.add(numbered([1, 2]))
    with opened(queue, read_only=True) as source:
        tokens = [found.token for found in read(source, PENDING)]
    gone = queue.take()

    with opened(queue) as source:
        source.page(PENDING, None, 10)
        assert len(source.shift(tokens, PENDING, CLAIMED)) == 1
    assert gone is not None


def test_a_shift_is_done_once(queue: OldQueue) -> None:
    queue.add(numbered([1]))
    with opened(queue) as source:
        tokens = claim(source, 1)

        assert list(source.shift(tokens, CLAIMED, MOVED)) == tokens
        assert list(source.shift(tokens, CLAIMED, MOVED)) == []
        assert list(source.shift(tokens, CLAIMED, PENDING)) == []
        assert read(source, CLAIMED) == []
    assert taken(queue) == []


def test_a_released_record_belongs_to_the_old_workers_again(queue: OldQueue) -> None:
    queue.add(numbered([1, 2]))
    with opened(queue) as source:
        tokens = claim(source, 2)
        assert list(source.shift(tokens[:1], CLAIMED, PENDING)) == tokens[:1]

    assert len(taken(queue)) == 1


def test_a_moved_record_returns(queue: OldQueue) -> None:
    if not queue.keeps_moved:
        with opened(queue) as source:
            assert read(source, MOVED) == []
        return
    queue.add(numbered(range(1, 4)))
    with opened(queue) as source:
        tokens = claim(source, 3)
        source.shift(tokens, CLAIMED, MOVED)
        moved = read(source, MOVED)
        source.shift([each.token for each in moved], MOVED, RETURNING)
        returning = read(source, RETURNING)
        assert ids(queue, returning) == ids(queue, moved)
        source.shift([returning[0].token], RETURNING, PENDING)
        source.shift([each.token for each in returning[1:]], RETURNING, MOVED)
        assert len(read(source, MOVED)) == 2

    assert len(taken(queue)) == 1


def test_the_identity_stays(queue: OldQueue) -> None:
    with opened(queue) as source, opened(queue, read_only=True) as again:
        assert source.identity == again.identity


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SourceFailed, match=r"sqlite:///no/such\.db: /no/such\.db is not a file; correct the path"):
        open_source(parse_address("sqlite:///no/such.db"), read_mapping(None, "jobs"), read_only=True)


def test_a_column_that_is_missing_is_named_with_its_source(tmp_path: Path) -> None:
    queue = SqliteQueue(tmp_path)
    source = open_source(parse_address(queue.url), read_mapping(None, "laravel"), read_only=True)

    with pytest.raises(SourceFailed, match=f"{queue.url}: no such column: "):
        source.counts()
    source.close()


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="name a file by its absolute path, as in sqlite:///var/lib/app/jobs"):
        open_source(parse_address("sqlite://jobs.db"), read_mapping(None, "jobs"), read_only=True)
