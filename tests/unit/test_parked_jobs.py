"""Parked jobs: of a long lane only the front is in memory, and nothing else differs."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockworker.dispatcher.effects import RunQuery
from stockworker.dispatcher.policy import QueueLimits
from stockworker.dispatcher.ready_queue import LaneChoice, ParkedJobs, ReadyQueue, lane_of
from stockworker.protocol.ids import JobId
from stockworker.protocol.job import JobRecord, Outcome, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Cleanup,
    Disconnect,
    Heartbeat,
    Message,
    Query,
    ReceiptStatus,
    Register,
    StatsRequest,
    Unregister,
)
from tests.harness.counting import lines_run
from tests.harness.dispatching import (
    BACKTEST,
    MIDDAY,
    NEVER_AGED,
    POLICY,
    REPLY,
    W1,
    W2,
    A,
    DispatcherBook,
    a_job,
    cancel,
    drain,
    pause,
    receipt,
    report,
    request,
    resume,
    retry,
    submit,
    undrain,
)

ONE_IN_MEMORY = replace(POLICY, queue=QueueLimits(jobs=0, front=1))
MOST = 16
"""As many jobs as a lane and its refills have in memory here."""


def named(count: int, first: int = 0) -> list[JobId]:
    return [JobId(f"job-{number:05}") for number in range(first, first + count)]


@pytest.fixture
def book() -> DispatcherBook:
    return DispatcherBook(ONE_IN_MEMORY)


def in_memory(book: DispatcherBook) -> list[JobId]:
    return list(book.machine.ledger.jobs)


# --- the order --------------------------------------------------------------------------------------------------------


class Shelf:
    """A queue with its parked jobs, as the turn and the store have them."""

    def __init__(self, limits: QueueLimits) -> None:
        self.queue = ReadyQueue(limits)
        self.parked: dict[JobId, JobRecord] = {}

    def add(self, job: JobRecord) -> None:
        if self.queue.parks(job):
            self.queue.park(job)
            self.parked[job.spec.job_id] = job
        else:
            self.queue.add(job)

    def discard(self, job_id: JobId) -> None:
        job = self.parked.pop(job_id, None)
        if job is None:
            self.queue.discard(job_id)
        else:
            self.queue.unpark(job)

    def end_turn(self) -> None:
        for refill in list(self.queue.refills()):
            places = sorted((job.ready_at, job.sequence, job_id) for job_id, job in self.parked.items())
            wanted = [
                job_id
                for *place, job_id in places
                if tuple(place) > refill.after and lane_of(self.parked[job_id]) == refill.lane
            ]
            self.queue.refill(refill, [self.parked.pop(job_id) for job_id in wanted[: refill.most]])

    def take(self, most: int) -> Iterator[JobId]:
        choice = LaneChoice(self.queue, frozenset({BACKTEST}), frozenset(), NEVER_AGED)
        while most and (lane := choice.next_lane()) is not None:
            most -= 1
            yield choice.take(lane)


owners = st.sampled_from(["", "ann:", "bob:"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(Priority), st.sampled_from([-3.0, 0.0, 0.0]), owners),
        st.tuples(st.just("discard"), st.integers(0, 60), owners),
        st.tuples(st.just("take"), st.integers(1, 5)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(steps, st.integers(0, 5), st.integers(1, 4))
def test_jobs_leave_in_the_order_in_which_they_would_if_all_were_in_memory(
    story: list[tuple[object, ...]], jobs: int, front: int
) -> None:
    shelf, plain = Shelf(QueueLimits(jobs, front)), Shelf(QueueLimits(1 << 30, 1))
    taken: list[JobId] = []
    expected: list[JobId] = []
    for number, step in enumerate([*story, ("take", 100)]):
        match step:
            case "add", Priority() as priority, float() as late, owner:
                job = a_job(JobId(f"{owner}{number}"), priority=priority, ready_at=number + late, sequence=number + 1)
                shelf.add(job)
                plain.add(job)
            case "discard", int() as which, owner:
                shelf.discard(JobId(f"{owner}{which}"))
                plain.discard(JobId(f"{owner}{which}"))
            case "take", int() as most:
                before = len(taken)
                while found := list(shelf.take(most - (len(taken) - before))):
                    taken += found
                    shelf.end_turn()
                expected += plain.take(len(taken) - before)
            case _:
                raise AssertionError(step)
        shelf.end_turn()
        assert taken == expected
        assert not shelf.queue.is_short
        assert sum(count for _, _, count, _ in shelf.queue.waiting()) == len(shelf.parked) + len(shelf.queue)
    assert len(plain.queue) == len(shelf.queue) + len(shelf.parked) == 0


def test_a_dry_lane_lets_nothing_else_pass() -> None:
    """Its head is unknown, and may come first."""
    shelf = Shelf(QueueLimits(jobs=0, front=1))
    for number, priority in enumerate([Priority.HIGH, Priority.HIGH, Priority.LOW]):
        shelf.add(a_job(JobId(f"{number}"), priority=priority, sequence=number + 1))
    assert list(shelf.take(9)) == ["0"]
    shelf.end_turn()
    assert list(shelf.take(9)) == ["1", "2"]


def test_a_job_waits_behind_those_of_its_lane_though_memory_has_room() -> None:
    shelf = Shelf(QueueLimits(jobs=1, front=1))
    for number in range(2):
        shelf.add(a_job(JobId(f"{number}"), sequence=number + 1))
    shelf.discard(JobId("0"))
    shelf.add(a_job(JobId("2"), sequence=3))
    assert list(shelf.parked) == ["1", "2"]


def test_the_shortest_lanes_are_refilled_first_and_together_they_read_two_fronts() -> None:
    queue = ReadyQueue(QueueLimits(jobs=0, front=4))
    for number, priority in enumerate(Priority):
        job = a_job(JobId(f"{number}"), priority=priority, sequence=number + 1, ready_at=1.0)
        if priority is Priority.HIGH:
            queue.add(job)
        queue.park_all(ParkedJobs(lane_of(job), 100, 0, oldest=2.0))
    assert [refill.lane.priority for refill in queue.refills()] == [Priority.NORMAL, Priority.LOW]


def test_jobs_that_must_be_found_by_something_else_stay_in_memory(book: DispatcherBook) -> None:
    book.tell(submit(A, JobId("b"), reply=None))
    book.tell(submit(JobId("keyed"), reply=None, unique="key"))
    assert in_memory(book) == [A, "keyed"]
    assert book.job(JobId("b")).parked


# --- what clients see -------------------------------------------------------------------------------------------------


def test_every_job_runs_once_and_in_order(book: DispatcherBook) -> None:
    book.tell(submit(*named(20), reply=None))
    assert in_memory(book) == named(1)
    ran: list[JobId] = []
    for turn in range(40):
        book.expect()
        leases = [lease.attempt.job_id for lease in book.machine.ledger.leases]
        ran += leases
        book.turn([report(W1, *map(book.ended, leases))] if leases else [])
        if turn % 2 == 0:
            book.turn([request(W1)])
    assert ran == named(20)
    assert {book.state(job_id) for job_id in ran} == {State.COMPLETED}
    assert not book.machine.ledger.jobs


def test_a_parked_job_is_cancelled_once(book: DispatcherBook) -> None:
    book.tell(submit(*named(3), reply=None))
    job_id = named(3)[1]
    book.tell(cancel(job_id))
    book.expect(receipt(job_id, ReceiptStatus.CANCELLED), book.notice(job_id))
    book.tell(cancel(job_id))
    book.expect(receipt(job_id, ReceiptStatus.CANCELLED))
    assert dict(book.stats().states)[State.QUEUED] == 2
    assert book.stats().queues[0].waiting == 2


def test_a_parked_job_can_be_cancelled_in_the_turn_of_its_submission(book: DispatcherBook) -> None:
    job_id = named(2)[1]
    book.tell(submit(*named(2), reply=None), cancel(job_id))
    book.expect(receipt(job_id, ReceiptStatus.CANCELLED), book.notice(job_id))
    assert not book.job(job_id).parked


def test_a_parked_job_is_stored_once(book: DispatcherBook) -> None:
    book.tell(submit(*named(2), reply=None))
    job_id = named(2)[1]
    book.tell(submit(job_id))
    book.expect(receipt(job_id, ReceiptStatus.DUPLICATE))
    book.tell(retry(job_id))
    book.expect(receipt(job_id, ReceiptStatus.REJECTED, "the job is queued; only a failed job can be retried"))


def test_a_failed_job_that_is_retried_behind_others_is_parked(book: DispatcherBook) -> None:
    book.run_to(State.FAILED)
    book.tell(submit(*named(3), reply=None))
    book.expect(book.offer(W1, named(1)[0]))
    book.after(1)
    book.tell(retry(A))
    book.expect(receipt(A, ReceiptStatus.REOPENED))
    assert book.job(A).parked
    assert A not in in_memory(book)


def test_a_parked_job_is_explained(book: DispatcherBook) -> None:
    book.tell(submit(*named(2), reply=None))
    job_id = named(2)[1]
    (asked,) = book.turn([Query((job_id,), None, with_results=False, reply=REPLY, explain=True, by_operator=True)])
    assert isinstance(asked, RunQuery)
    ((explained, sentences),) = asked.why
    assert explained == job_id
    assert "it has waited for 0 s at priority normal" in sentences


def test_a_new_dispatcher_knows_the_parked_jobs_and_their_shares(book: DispatcherBook) -> None:
    book.tell(submit(*(JobId(f"ann:{job_id}") for job_id in named(5)), reply=None))
    before = vars(book.machine.ledger.usage)
    book.restart()
    assert vars(book.machine.ledger.usage) == before
    assert len(book.machine.ledger.jobs) == 1
    assert book.stats().queues[0].waiting == 5
    book.connect()
    book.tell(request(W1, slots=9))
    while len(book.machine.ledger.leases) < 5:
        book.expect()
        assert book.turn([]) != [] or book.next_in_s() == 0.0


def test_parked_jobs_expire(book: DispatcherBook) -> None:
    first, later, last, endless = named(4)
    book.tell(submit(first, reply=None), submit(last, reply=None, expires_at=MIDDAY + 30))
    book.tell(submit(later, reply=None, expires_at=MIDDAY + 20), submit(endless, reply=None))
    book.after(20.1)
    book.expect(book.notice(later))
    assert (book.state(later), book.state(last)) == (State.EXPIRED, State.QUEUED)
    book.restart()
    book.connect()
    book.after(10)
    book.expect(book.notice(last))
    assert book.state(last) is State.EXPIRED
    assert book.stats().queues[0].waiting == 2
    assert book.next_in_s() > 0


def test_a_job_that_expires_when_it_comes_to_the_front_is_not_assigned(book: DispatcherBook) -> None:
    first, second = named(2)
    book.tell(submit(first, reply=None), submit(second, reply=None, expires_at=MIDDAY + 20))
    book.tell(request(W1))
    book.expect(book.offer(W1, first))
    book.clock.advance(20)
    book.turn([report(W1, book.ended(first)), request(W1)])
    book.turn([])
    assert book.state(second) is State.EXPIRED
    assert book.job(second).attempt == 0


def test_times_of_a_wrong_clock_are_corrected_at_a_start(book: DispatcherBook) -> None:
    """Otherwise these jobs would wait behind all new ones, and would never age."""
    book.tell(submit(*named(2), reply=None))
    book.clock.steady -= 1e6
    book.restart()
    assert book.job(named(2)[1]).ready_at == book.clock.steady


# --- the cost ---------------------------------------------------------------------------------------------------------

LIMITED = replace(POLICY, queue=QueueLimits(jobs=0, front=MOST))


def turns() -> dict[str, Callable[[DispatcherBook], list[Message]]]:
    """Each kind of turn, in a dispatcher with a backlog; every one leaves the jobs waiting."""

    def lasting(*messages: Message) -> Callable[[DispatcherBook], list[Message]]:
        return lambda _book: list(messages)

    return {
        "time": lasting(),
        "submit": lasting(submit(JobId("new"))),
        "duplicate": lasting(submit(named(1, MOST + 9)[0])),
        "cancel": lasting(cancel(named(1, MOST + 9)[0])),
        "retry": lasting(retry(named(1, MOST + 9)[0])),
        "request": lasting(request(W2, slots=2)),
        "report": lambda book: [report(W1, *(book.ended(each.attempt.job_id) for each in book.machine.ledger.leases))],
        "failure": lambda book: [
            report(W1, *(book.ended(each.attempt.job_id, Outcome.ERROR) for each in book.machine.ledger.leases))
        ],
        "query": lasting(Query((named(1, MOST + 9)[0],), None, with_results=True, reply=REPLY)),
        "why": lasting(Query((named(1, MOST + 9)[0],), None, with_results=False, reply=REPLY, explain=True)),
        "stats": lasting(StatsRequest(REPLY)),
        "heartbeat": lasting(Heartbeat(W1, "boot-1", 1, 0, 0, 1.0)),
        "register": lasting(Register(W1, "boot-1", "1.0", 1, (BACKTEST,), ())),
        "unregister": lasting(Unregister(W1, "boot-1")),
        "disconnect": lasting(Disconnect(W1, "boot-1")),
        "pause": lasting(pause(BACKTEST), resume(BACKTEST)),
        "drain": lasting(drain(W1), undrain(W1)),
        "cleanup": lasting(Cleanup()),
    }


def cost(kind: str, backlog: int) -> int:
    """The lines of a turn while this many jobs wait."""
    book = DispatcherBook(LIMITED)
    for start in range(0, backlog, 200):
        book.tell(submit(*named(200, start), reply=None))
    book.tell(request(W1))
    book.turn([])
    messages = turns()[kind](book)
    book.clock.advance(1.5)
    return lines_run(lambda: book.turn(messages))


@pytest.mark.parametrize("kind", turns())
def test_no_turn_costs_more_with_more_waiting_jobs(kind: str) -> None:
    few, many = cost(kind, 400), cost(kind, 4000)
    assert many <= few + 20, "the heap of a refill may be a step deeper"


def test_the_jobs_in_memory_do_not_grow_with_those_that_wait() -> None:
    book = DispatcherBook(LIMITED)
    for start in range(0, 4000, 200):
        book.tell(submit(*named(200, start), reply=None))
    assert len(book.machine.ledger.jobs) == MOST
    book.restart()
    book.turn([])
    assert len(book.machine.ledger.jobs) <= 2 * MOST
