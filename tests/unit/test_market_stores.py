"""Which market-data stores the workers of a fleet use: how a worker finds out, and when it is a warning."""

import threading
from pathlib import Path

import pytest

from stockworker.cli.wiring import announced_market_data, handler_specs
from stockworker.config import load
from stockworker.market.store import open_market_store
from stockworker.market.store_watch import MarketStoreWatch, read_identity
from stockworker.protocol.market_stores import by_store, describe, warning
from tests.harness.waiting import wait_until


def test_workers_are_grouped_by_their_store() -> None:
    users = by_store([("w3", "b"), ("w1", "a"), ("w4", None), ("w2", "a")])
    assert users == {"a": ["w1", "w2"], "b": ["w3"]}
    assert describe(users) == "a: w1, w2; b: w3"


def test_only_different_stores_are_a_warning() -> None:
    assert warning({}) is None
    assert warning({"a": ["w1", "w2"]}) is None
    assert str(warning({"a": ["w1"], "b": ["w2"]})).startswith(
        "workers have 2 different market-data stores (a: w1; b: w2), so an analysis can miss what another worker imported. "
    )


def test_a_text_names_some_of_many() -> None:
    users = {f"{number:02}" * 20: [f"w{each}" for each in range(7)] for number in range(7)}
    text = describe(users)
    assert text.startswith("0000000000000000: w0, w1, w2, w3, w4, and 2 more; 0101")
    assert text.endswith("04: w0, w1, w2, w3, w4, and 2 more; …")


def test_a_text_that_has_room_names_all() -> None:
    users = {f"{number}": [f"w{each}" for each in range(5)] for number in range(5)}
    assert describe(users) == "; ".join(f"{number}: w0, w1, w2, w3, w4" for number in range(5))


def settled(watch: MarketStoreWatch, now: float) -> list[str | None]:
    """What a look and its thread find."""
    first = watch.look(now)
    wait_until(lambda: watch._thread is None or not watch._thread.is_alive(), "the end of the look")
    return [*first, *watch.look(now)]


def test_the_identity_is_reported_once() -> None:
    watch = MarketStoreWatch("here", {"here": "id-1"}.__getitem__)
    assert settled(watch, 0.0) == ["id-1"]
    assert settled(watch, 1.0) == []


def test_a_store_that_is_made_later_is_found_and_a_new_one_replaces_it() -> None:
    stores: dict[str, str] = {}
    watch = MarketStoreWatch("here", stores.__getitem__)
    assert settled(watch, 0.0) == []
    stores["here"] = "id-1"
    assert settled(watch, 29.0) == []
    assert settled(watch, 30.0) == ["id-1"]
    stores["here"] = "id-2"
    assert settled(watch, 600.0) == []
    assert settled(watch, 630.0) == ["id-2"]
    del stores["here"]
    assert settled(watch, 1300.0) == [None]


def test_a_reload_looks_immediately() -> None:
    watch = MarketStoreWatch("here", {"here": "id-1", "there": "id-2"}.__getitem__)
    assert settled(watch, 0.0) == ["id-1"]
    watch.use("there")
    assert settled(watch, 1.0) == ["id-2"]
    watch.use(None)
    assert settled(watch, 2.0) == [None]


def test_a_reload_looks_again_if_a_look_has_just_ended() -> None:
    stores: dict[str, str] = {}
    watch = MarketStoreWatch("here", stores.__getitem__)
    assert watch.look(0.0) == []
    thread = watch._thread
    assert thread is not None
    wait_until(lambda: not thread.is_alive(), "the end of the look")
    stores["here"] = "id-1"
    watch.use("here")
    assert settled(watch, 1.0) == ["id-1"]


def test_what_was_asked_before_a_reload_does_not_count() -> None:
    answers = threading.Event()

    def read(location: str) -> str:
        if location == "slow":
            answers.wait()
        return location

    watch = MarketStoreWatch("slow", read)
    assert watch.look(0.0) == []
    slow = watch._thread
    watch.use("fast")
    assert settled(watch, 1.0) == ["fast"]
    answers.set()
    assert slow is not None
    slow.join()
    assert watch.look(2.0) == []


def test_nothing_waits_for_a_store_that_does_not_answer() -> None:
    answers = threading.Event()

    def hang(location: str) -> str:
        answers.wait()
        return location

    watch = MarketStoreWatch("here", hang)
    assert [watch.look(now) for now in (0.0, 100.0, 1000.0)] == [[], [], []]
    assert watch._thread is not None
    assert watch._thread.daemon
    answers.set()


def test_the_identity_of_a_file_is_read_and_no_file_is_created(tmp_path: Path) -> None:
    location = str(tmp_path / "market.sqlite3")
    watch = MarketStoreWatch(location)
    assert settled(watch, 0.0) == []
    assert list(tmp_path.iterdir()) == []
    store = open_market_store(location)
    assert settled(watch, 60.0) == [store.identity()]
    assert read_identity(location) == store.identity()
    store.close()


@pytest.mark.parametrize(
    ("section", "announced"),
    [
        ("worker: {types: [data_import]}", True),
        ("worker: {types: [own]}, handlers: {own: {python: 'stockworker.market.data_import:handle'}}", True),
        ("worker: {types: [own]}, handlers: {own: {command: [cat]}}", False),
        ("handlers: {data_import: {enabled: false}}", True),
        ("worker: {types: [data_import]}, handlers: {data_import: {command: [cat]}}", False),
    ],
)
def test_a_worker_announces_the_store_that_its_job_types_use(tmp_path: Path, section: str, announced: bool) -> None:  # noqa: FBT001 (a case)
    path = tmp_path / "job_processor.yml"
    for separate in (False, True):
        store = f"market_data: {{location: /srv/market.sqlite3, separate: {str(separate).lower()}}}"
        path.write_text(f"job_processor: {{{section}, {store}}}\n")
        config = load(path)
        expected = "/srv/market.sqlite3" if announced and not separate else None
        assert announced_market_data(config, handler_specs(config)) == expected
