"""Tracers in the dispatcher's machine: the way there and back, and what proves nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.effects import Unreached
from stockworker.dispatcher.outbox import Outbox
from stockworker.dispatcher.tracers import PATIENCE_S, SETTLED_S, UNHEARD_S, Tracers
from stockworker.logs.metrics_events import TracerUnanswered
from stockworker.protocol.ids import DEFAULT_DISPATCHER, PROBE, ClientId, JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Ack,
    Assign,
    Assignment,
    AttemptReport,
    Disconnect,
    Heartbeat,
    NoticeEntry,
    Notices,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Register,
    Reply,
    Report,
    Request,
    Submit,
    Unregister,
)
from stockworker.shell.turn import DiskChanged, LinkChanged, Now, Send
from tests.harness.dispatching import (
    BACKTEST,
    CONNECTED,
    CUT_OFF,
    DRAIN,
    IMPORT,
    POLICY,
    PRESENCE,
    W1,
    W2,
    DispatcherBook,
    drain,
    order,
    pause,
    request,
    submit,
)

OWN = DEFAULT_DISPATCHER
REPLY_TO = Reply(OWN, "c")
LEASE_S = POLICY.lease_s


def name(number: int = 1) -> Token:
    return Token(f"{PROBE}-x-{number}")


def job(number: int = 1) -> JobId:
    return JobId(f"{OWN}:{name(number)}")


def tracer(*numbers: int, of_type: JobType = BACKTEST) -> Submit:
    sent = submit(*(job(number) for number in numbers or (1,)), of_type=of_type, payload="", reply=REPLY_TO)
    return replace(sent, notify="back")


def received(*numbers: int) -> Send:
    entries = tuple(ReceiptEntry(job(number), ReceiptStatus.STORED) for number in numbers or (1,))
    return Send(Receipt(REPLY_TO, entries, notices=True))


def assigned(worker_id: WorkerId = W1, number: int = 1) -> Send:
    lease = Assignment(job(number), BACKTEST, 1, name(number), 1.0, "", expires_in_s=0.0)
    return Send(Assign(worker_id, LEASE_S, (lease,)))


def answer(worker_id: WorkerId = W1, number: int = 1, outcome: Outcome = Outcome.OK) -> Report:
    return Report(worker_id, (AttemptReport(name(number), outcome, job_id=job(number)),))


def ended(
    state: State = State.COMPLETED,
    reason: str | None = None,
    worker_id: WorkerId | None = W1,
    number: int = 1,
    attempt: int = 1,
) -> Send:
    entry = NoticeEntry(job(number), BACKTEST, state, attempt, worker_id, reason=reason)
    return Send(Notices(OWN, "back", (entry,)))


def acked(worker_id: WorkerId = W1, number: int = 1) -> Send:
    return Send(Ack(worker_id, stored=(name(number),)))


def receipts(book: DispatcherBook) -> list[ReceiptEntry]:
    """The entries of the last turn."""
    sent = (effect.message for effect in book.machine.effects if isinstance(effect, Send))
    return [entry for message in sent if isinstance(message, Receipt) for entry in message.entries]


def enlist(book: DispatcherBook, *requests: Request) -> None:
    book.tell(*requests)
    book.expect()


def on_its_way(book: DispatcherBook, *workers: WorkerId) -> None:
    enlist(book, *(request(each) for each in workers or (W1,)))
    book.tell(tracer())
    book.expect(assigned(), received())


def test_a_tracer_goes_to_a_worker_and_back_and_leaves_no_trace() -> None:
    with DispatcherBook() as book:
        on_its_way(book)
        book.tell(answer())
        book.expect(acked(), ended())
        book.after(60)
    assert (dict(book.store.jobs), book.steps, book.tally.received) == ({}, [], 0)
    assert sum(book.machine.ledger.totals.values()) == 0
    assert (book.counter("jobs_stored"), book.counter("reports_stale")) == (0, 0)
    assert book.logged == ["worker_seen"]


def test_a_worker_that_does_not_run_the_type_any_longer_answers_as_well() -> None:
    with DispatcherBook() as book:
        on_its_way(book)
        book.tell(answer(outcome=Outcome.RELEASED))
        book.expect(acked(), ended(State.FAILED))


def test_the_workers_of_a_type_take_turns_also_while_it_is_paused_and_they_are_drained() -> None:
    with DispatcherBook() as book:
        enlist(book, request(W2), request(W1), request(WorkerId("w3"), types=(IMPORT,)))
        book.tell(pause(BACKTEST))
        book.tell(drain(W2))
        book.expect(order(W2, DRAIN))
        for number, worker_id in enumerate((W1, W2, W1), 1):
            book.tell(tracer(number))
            book.expect(assigned(worker_id, number), received(number))
            book.tell(answer(worker_id, number))
            book.expect(acked(worker_id, number), ended(worker_id=worker_id, number=number))


def test_without_a_worker_it_ends_at_once() -> None:
    none = ended(State.FAILED, "no connected worker runs this type", None, attempt=0)
    with DispatcherBook() as book:
        book.tell(tracer())
        book.expect(none, received())
        enlist(book, request(W1))
        book.tell(Disconnect(W1, "boot-1"), tracer())
        book.expect(none, received())


def test_only_the_dispatcher_itself_submits_tracers() -> None:
    """For any other client it is a job under an unusual ID; and so is another job of the dispatcher."""
    other = JobId(f"alice:{name()}")
    own = JobId(f"{OWN}:a")
    with DispatcherBook() as book:
        book.tell(submit(other, reply=None), submit(own, reply=None), submit(job(), own, reply=None))
    assert {*book.store.jobs} == {other, own, job()}


def test_an_answer_of_another_worker_or_to_nothing_is_that_of_a_probe() -> None:
    def probed(worker_id: WorkerId) -> Send:
        version, now = "1.0", book.clock.wall
        return Send(Ack(worker_id, stale=(name(),), version=version, time=now))

    with DispatcherBook() as book:
        on_its_way(book)
        book.tell(answer(W2))
        book.expect(probed(W2))
        book.tell(answer())
        book.expect(acked(), ended())
        book.tell(answer())
        book.expect(probed(W1))


@pytest.mark.parametrize(
    "change", [Register(W1, "boot-1", "1.0", 1, (), ()), Unregister(W1, "boot-1"), Disconnect(W1, "boot-1")]
)
def test_one_whose_worker_was_disconnected_proves_nothing(change: Register | Unregister | Disconnect) -> None:
    with DispatcherBook() as book:
        on_its_way(book, W1, W2)
        book.tell(replace(change, worker_id=W2), Heartbeat(W1, "boot-1", 1, 0, 0, 0.0))
        book.expect()
        book.tell(change)
        book.expect(ended(State.FAILED, "worker w1 was disconnected"))
        book.after(60)


def test_one_whose_worker_is_silent_proves_nothing() -> None:
    with DispatcherBook() as book:
        on_its_way(book)
        book.after(PATIENCE_S - 1)
        book.expect()
        book.after(6)
        book.expect(ended(State.FAILED, "worker w1 is silent"))


def test_one_whose_worker_has_restarted_proves_nothing() -> None:
    with DispatcherBook() as book:
        on_its_way(book)
        book.machine.roster.workers[W1].incarnation = "boot-2"
        book.after(PATIENCE_S + 5)
        book.expect(ended(State.FAILED, "worker w1 is offline or has restarted"))


def test_one_that_a_connected_worker_does_not_answer_is_lost() -> None:
    with DispatcherBook() as book:
        on_its_way(book)
        book.after(5)
        book.tell(request(W1))
        book.after(20)
        book.expect()
    assert book.only(TracerUnanswered) == TracerUnanswered(worker=W1, type=BACKTEST)


@pytest.mark.parametrize("link", [CUT_OFF, CONNECTED])
def test_after_an_interruption_nothing_is_expected(link: LinkChanged) -> None:
    book = DispatcherBook()
    on_its_way(book)
    book.tell(link, request(W1))
    book.expect(*([Send(PRESENCE)] if link.up else []))
    book.after(20)
    assert not any(isinstance(event, TracerUnanswered) for event in book.log)
    book.tell(answer())
    assert not any(isinstance(effect, Send) and isinstance(effect.message, Notices) for effect in book.machine.effects)


def test_with_an_exhausted_disk_it_is_rejected() -> None:
    book = DispatcherBook()
    enlist(book, request(W1))
    book.tell(DiskChanged(full=True, exhausted=True), tracer())
    assert [entry.status for entry in receipts(book)] == [ReceiptStatus.REJECTED]


def test_their_number_is_bounded() -> None:
    book = DispatcherBook()
    enlist(book, request(W1))
    book.tell(tracer(*range(200)), tracer(*range(200, 257)))
    *sent, last = receipts(book)
    assert {entry.status for entry in sent} == {ReceiptStatus.STORED}
    assert len(sent) == 256
    assert last == ReceiptEntry(job(256), ReceiptStatus.REJECTED, "too many tracers are on their way")


# --- assignments that no client reads ---------------------------------------------------------------------------------


def worker(*, online: bool = True) -> dict[WorkerId, Worker]:
    return {W1: Worker(W1, "boot-1", 1, 1, frozenset(), frozenset(), "1.0", 0.0, online=online)}


def made() -> Tracers:
    return Tracers(ClientId("d"), 30.0, Outbox(30.0))


def at(steady: float) -> Now:
    return Now(steady, 0.0)


def test_an_unread_assignment_counts_once_it_is_certain_that_the_worker_stays_and_for_five_minutes() -> None:
    tracers = made()
    tracers.unreached(Unreached(W1, ()), at(100))
    tracers.unreached(Unreached(W1, ()), at(101))
    counts = {after: tracers.unheard(worker(), after) for after in (114.9, 115, 116, 399, 400, 401)}
    assert counts == {114.9: 0, 115: 1, 116: 2, 399: 2, 400: 1, 401: 0}
    assert (SETTLED_S, UNHEARD_S) == (15, 300)
    assert tracers.unheard(worker(online=False), 120) == tracers.unheard({}, 120) == 0


def test_it_is_forgotten_with_the_worker_the_connection_and_time() -> None:
    tracers = made()
    ways: list[Callable[[], None]] = [
        lambda: tracers.worker_changed(W1),
        tracers.interrupted,
        lambda: tracers.check({}, at(400)),
    ]
    for forget in ways:
        tracers.unreached(Unreached(W1, ()), at(100))
        tracers.worker_changed(W2)
        tracers.check({}, at(399.9))
        assert tracers.unheard(worker(), 120) == 1
        forget()
        assert tracers.unheard(worker(), 120) == 0


def test_the_unread_assignments_of_a_worker_are_bounded() -> None:
    tracers = made()
    for _ in range(150):
        tracers.unreached(Unreached(W1, ()), at(100))
    assert tracers.unheard(worker(), 120) == 100


def test_the_machine_counts_them() -> None:
    book = DispatcherBook()
    enlist(book, request(W1))
    book.tell(Unreached(W1, (Token("t"),)))
    assert book.machine.tracers.unheard(book.machine.roster.workers, book.clock.steady + 20) == 1
