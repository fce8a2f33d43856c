"""A dispatcher whose disk is full: it stays, stores nothing, gives reasons, and loses nothing."""

import asyncio
from itertools import count
from pathlib import Path
from threading import Event

import pytest

from stockworker.adapters.sqlite import MEMORY, DatabaseError, failure
from stockworker.adapters.systemd import Notifier
from stockworker.cli import dispatcher as command
from stockworker.dispatcher.effects import Denied
from stockworker.dispatcher.store_sqlite import SqliteJobStore
from stockworker.errors import StoreError, StoreFull
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Ack, Receipt, ReceiptStatus
from stockworker.shell.turn import DiskChanged, Send
from tests.harness.dispatching import REPLY, W1, A, B, DispatcherBook, ack, report, request, submit

FULL, EXHAUSTED, ROOM = DiskChanged(full=True), DiskChanged(full=True, exhausted=True), DiskChanged(full=False)
WHY = "the disk of the dispatcher's job store is full; make room there. The worker keeps its jobs and results"


def refused(dispatcher: DispatcherBook) -> Receipt:
    (receipt,) = [
        effect.message
        for effect in dispatcher.turn([submit(B, reply=REPLY)])
        if isinstance(effect, Send) and isinstance(effect.message, Receipt)
    ]
    return receipt


def test_nothing_is_stored_and_every_peer_gets_the_reason(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    ended = dispatcher.ended(A)
    stored = dict(dispatcher.store.jobs)

    dispatcher.tell(EXHAUSTED, report(W1, ended))
    dispatcher.expect(Send(Ack(W1, error=WHY)))
    (entry,) = refused(dispatcher).entries
    assert entry.status is ReceiptStatus.REJECTED
    assert "the disk of its job store is nearly full" in (entry.reason or "")
    dispatcher.tell(request(W1))
    dispatcher.expect(Send(Ack(W1, error=WHY)))
    dispatcher.after(3600)
    assert dispatcher.store.jobs == stored
    assert dict(dispatcher.stats().counters)["disk_full"] == 1

    dispatcher.tell(ROOM)
    dispatcher.tell(report(W1, ended))
    dispatcher.expect(ack(W1, stored=[ended.token]), dispatcher.notice(A, "null"))
    assert "disk_full" not in dict(dispatcher.stats().counters)
    assert [name for name in dispatcher.logged if name.startswith("store_")] == [
        "store_space_short",
        "store_disk_full",
        "store_space_enough",
        "store_disk_usable",
    ]


def test_it_looks_once_a_second_whether_there_is_room(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(EXHAUSTED)
    dispatcher.clock.advance(3600)
    assert dispatcher.next_in_s() == 1.0


def test_denied_workers_are_denied_once_there_is_room(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(EXHAUSTED, Denied(frozenset({W1})))
    assert dict(dispatcher.stats().counters)["workers_denied"] == 0
    dispatcher.turn([FULL])
    assert dict(dispatcher.stats().counters)["workers_denied"] == 1


def test_a_disk_that_is_only_nearly_full_keeps_results(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    ended = dispatcher.ended(A)
    dispatcher.tell(FULL)
    dispatcher.turn([report(W1, ended)])
    assert dispatcher.state(A) is State.COMPLETED


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "free_bytes", lambda _path: 0)


@pytest.mark.usefixtures("full_disk")
def test_a_store_on_a_full_disk_is_opened_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = count()

    def open_store(_path: Path) -> SqliteJobStore:
        if next(tries) < 2:
            raise StoreError("disk I/O error")
        return SqliteJobStore(MEMORY)

    monkeypatch.setattr(command, "open_store", open_store)
    monkeypatch.setattr(command, "_LOOK_FOR_ROOM_S", 0.0)
    store = asyncio.run(command._open_when_there_is_room(tmp_path / "jobs.sqlite3", Notifier()))
    assert isinstance(store, SqliteJobStore)
    assert next(tries) == 3
    assert [record.levelname for record in caplog.records] == ["ERROR"], "logged once"


@pytest.mark.usefixtures("full_disk")
def test_a_dispatcher_that_waits_for_room_can_be_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Event()

    def open_store(_path: Path) -> SqliteJobStore:
        tried.set()
        raise StoreError("disk I/O error")

    async def interrupt() -> None:
        waiting = asyncio.create_task(command._open_when_there_is_room(tmp_path / "jobs.sqlite3", Notifier()))
        await asyncio.to_thread(tried.wait)
        waiting.cancel()
        await asyncio.wait({waiting})

    monkeypatch.setattr(command, "open_store", open_store)
    asyncio.run(interrupt())  # it ends: no thread goes on


def test_other_errors_of_a_store_are_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        asyncio.run(command._open_when_there_is_room(tmp_path / "missing" / "jobs.sqlite3", Notifier()))


def test_an_error_of_a_full_disk_is_known_as_such() -> None:
    error = DatabaseError("database or disk is full")
    assert not isinstance(failure(Path("jobs"), "can't be written", error), StoreFull)
    error.sqlite_errorcode = 13  # SQLITE_FULL
    assert isinstance(failure(Path("jobs"), "can't be written", error), StoreFull)
