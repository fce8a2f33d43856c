"""One turn of a worker: what is committed before anything is returned, and how invalid bytes are refused."""

from collections.abc import Collection

import pytest

from stockworker.errors import StoreError
from stockworker.logs.events import MessageRefused
from stockworker.protocol import codec
from stockworker.protocol.messages import Register
from stockworker.protocol.packet import Packet
from stockworker.shell.turn import Now
from stockworker.worker.effects import Accept, Drain, Entry, Forget, MarkStarted
from stockworker.worker.machine import WorkerMachine
from stockworker.worker.turn import WorkerOutput, WorkerTurns
from stockworker.worker.work import Began
from tests.harness.working import (
    A1,
    CAPABILITIES,
    CONNECTED,
    INTERVALS,
    JOB_A,
    WORKER,
    WorkerBook,
    ack,
    assign,
    finished,
    start,
)

NOW = Now(1000.0, 0.0)


class RecordingJournal:
    """Keeps what is committed, or can't."""

    def __init__(self, error: StoreError | None = None) -> None:
        self.committed: list[Entry] = []
        self._error = error

    def commit(self, entries: Collection[Entry]) -> None:
        if self._error is not None:
            raise self._error
        self.committed += entries


def turns(journal: RecordingJournal) -> WorkerTurns:
    identity = WorkerBook().identity
    return WorkerTurns(WorkerMachine(identity, INTERVALS, CAPABILITIES, [], NOW.steady), journal)


def kinds(output: WorkerOutput) -> list[type]:
    return [type(codec.decode(packet)) for packet in output.packets]


def test_what_leads_to_an_order_is_committed() -> None:
    journal = RecordingJournal()
    output = turns(journal).take([codec.encode(assign(JOB_A))], NOW)
    assert journal.committed == [Accept(JOB_A), MarkStarted(JOB_A.token)]
    assert output.orders == (start(JOB_A),)


def test_without_a_commit_there_is_no_output() -> None:
    with pytest.raises(StoreError, match="full"):
        turns(RecordingJournal(StoreError("the disk is full"))).take([assign(JOB_A)], NOW)


def test_a_turn_that_changes_nothing_commits_nothing() -> None:
    with_error = RecordingJournal(StoreError("the disk is full"))
    assert Register in kinds(turns(with_error).take([CONNECTED], NOW))


def test_an_invalid_message_is_logged_and_counted() -> None:
    worker = turns(RecordingJournal())
    broken = Packet(f"jobs/assign/{WORKER}", b"{")
    events = [worker.take([broken], NOW).log[0] for _ in range(2)]
    assert [event.count for event in events if isinstance(event, MessageRefused)] == [1, 2]


def test_a_worker_that_has_nothing_left_leaves() -> None:
    worker = turns(RecordingJournal())
    assert not worker.take([CONNECTED], NOW).leave
    assert worker.take([Drain(0.0, leave=True)], NOW).leave


def test_a_worker_that_leaves_forgets_what_is_settled() -> None:
    journal = RecordingJournal()
    worker = turns(journal)
    worker.take([CONNECTED, assign(JOB_A)], NOW)
    worker.take([Began(A1), finished(A1), Drain(60.0, leave=True)], NOW)
    assert worker.take([ack(stored=[A1])], NOW).leave
    assert journal.committed[-1] == Forget(A1)
