"""Which worker gets which job: turns, windows, types and tags."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest

from stockworker.dispatcher.assignment import MOST_SHARES, Worker
from stockworker.dispatcher.ready_queue import ReadyQueue
from stockworker.protocol.body import MAX_LEASES
from stockworker.protocol.ids import JobId, JobType, Tag, WorkerId
from stockworker.protocol.job import JobRecord, Priority
from stockworker.protocol.messages import Heartbeat, Message
from tests.harness.assigning import an_assignment
from tests.harness.counting import lines_run
from tests.harness.dispatching import (
    BACKTEST,
    IMPORT,
    NEVER_AGED,
    W1,
    W2,
    W3,
    A,
    B,
    D,
    DispatcherBook,
    a_job,
    a_queue,
    report,
    request,
    submit,
)


def a_worker(
    worker_id: WorkerId = W1,
    *,
    slots: int = 1,
    window: int | None = None,
    types: Sequence[JobType] = (BACKTEST, IMPORT),
    tags: Sequence[Tag] = (),
) -> Worker:
    window = slots if window is None else window
    return Worker(worker_id, "boot", slots, window, frozenset(types), frozenset(tags), "1.0", seen=0.0)


def shares(
    queue: ReadyQueue,
    workers: Sequence[Worker],
    aged_before: float = NEVER_AGED,
    prefetch: Mapping[JobType, int] | None = None,
    leases: Mapping[WorkerId, int] | None = None,
) -> list[tuple[str, str]]:
    """Which worker gets which job; `leases` is how many leases each worker has before."""
    assignment = an_assignment(queue, workers, leases or {}, (), prefetch)
    return [(worker.worker_id, job_id) for worker, job_id in assignment.share_out(aged_before)]


def counted(given_out: Sequence[tuple[str, str]], *workers: WorkerId) -> list[int]:
    """How many jobs each worker got."""
    counts = Counter(worker_id for worker_id, _ in given_out)
    return [counts[worker_id] for worker_id in workers]


# --- sharing out ------------------------------------------------------------------------------------------------------


def many(count: int) -> list[JobRecord]:
    return [a_job(JobId(f"job-{number:02}"), sequence=number) for number in range(count)]


def test_each_in_turn_gets_one() -> None:
    given_out = shares(a_queue(*many(4)), [a_worker(W1, slots=2), a_worker(W2, slots=2)])
    assert given_out == [("w1", "job-00"), ("w2", "job-01"), ("w1", "job-02"), ("w2", "job-03")]


def test_the_least_loaded_is_served_first() -> None:
    busy, idle = a_worker(W1, slots=2), a_worker(W2, slots=2)
    assert shares(a_queue(*many(1)), [busy, idle], leases={W1: 1}) == [("w2", "job-00")]


def test_no_worker_gets_more_than_its_window() -> None:
    workers = [a_worker(W1, slots=2), a_worker(W2, slots=4, window=3), a_worker(W3, slots=1, window=0)]
    assert counted(shares(a_queue(*many(20)), workers), W1, W2, W3) == [2, 3, 0]


def test_free_slots_are_filled_before_anything_waits_on_a_worker() -> None:
    fast, slow = a_worker(W1, slots=1, window=8), a_worker(W2, slots=2)
    assert counted(shares(a_queue(*many(4)), [fast, slow]), W1, W2) == [2, 2]


def test_the_jobs_that_wait_on_a_worker_are_filled_up_at_half() -> None:
    worker = a_worker(slots=2, window=10)
    assert shares(a_queue(*many(9)), [worker], leases={W1: 7}) == []
    assert len(shares(a_queue(*many(9)), [worker], leases={W1: 6})) == 4


def test_a_worker_that_can_run_nothing_holds_no_other_up() -> None:
    picky, able = a_worker(W1, slots=4, types=[IMPORT]), a_worker(W2, slots=4)
    assert counted(shares(a_queue(*many(4)), [picky, able]), W1, W2) == [0, 4]


@pytest.mark.parametrize("aged_before", [NEVER_AGED, 100.0])
def test_a_low_job_waits_behind_high_ones_until_it_is_aged(aged_before: float) -> None:
    queue = a_queue(
        a_job(A, priority=Priority.LOW, ready_at=1.0, sequence=1),
        a_job(B, priority=Priority.HIGH, ready_at=2.0, sequence=2),
    )
    first = "b" if aged_before == NEVER_AGED else "a"
    assert shares(queue, [a_worker()], aged_before) == [("w1", first)]


# --- turns ------------------------------------------------------------------------------------------------------------


def trickle(workers: Sequence[Worker], leases: Mapping[WorkerId, int], count: int) -> Counter[str]:
    """Share out one job after another, while the workers have as many leases every time; return who got how many."""
    dealt = [shares(a_queue(job), workers, leases=leases) for job in many(count)]
    return Counter(worker_id for share in dealt for worker_id, _ in share)


def test_a_worker_that_returns_each_job_immediately_gets_its_share_of_a_trickle() -> None:
    """It has no leases whenever a job comes; the others have a free slot each time, and are as hungry."""
    workers = [a_worker(worker_id, slots=5) for worker_id in (W1, W2, W3)]
    assert trickle(workers, {W1: 0, W2: 4, W3: 4}, 30) == {W1: 10, W2: 10, W3: 10}


def test_a_busy_worker_leaves_its_turn_to_others() -> None:
    workers = [a_worker(worker_id, slots=5) for worker_id in (W1, W2)]
    assert trickle(workers, {W1: 0, W2: 5}, 30) == {W1: 30}


def test_a_worker_that_was_busy_does_not_get_what_it_missed() -> None:
    workers = [a_worker(worker_id, slots=5) for worker_id in (W1, W2)]
    trickle(workers, {W1: 0, W2: 5}, 30)
    assert trickle(workers, {}, 30)[W1] in {14, 15}


# --- cost -------------------------------------------------------------------------------------------------------------


def cost(*others: JobRecord, tags: Sequence[Tag] = ()) -> int:
    """How many lines run to share out three jobs to four workers, beside other jobs that no worker can run."""
    queue = a_queue(*many(3), *others)
    workers = [a_worker(WorkerId(f"w{number}"), tags=tags) for number in range(4)]
    given_out: list[tuple[str, str]] = []
    lines = lines_run(lambda: given_out.extend(shares(queue, workers)))
    assert sorted(job_id for _, job_id in given_out) == ["job-00", "job-01", "job-02"]
    return lines


def test_jobs_with_tags_that_no_worker_has_cost_nothing() -> None:
    flood = [
        a_job(JobId(f"x{number}"), tags=[Tag(f"alien-{number}")], sequence=10 + number) for number in range(60_000)
    ]
    assert cost(*flood) == cost(flood[0])


def test_jobs_with_a_tag_that_workers_have_and_one_that_none_has_cost_nothing() -> None:
    gpu = Tag("gpu")
    flood = [a_job(JobId(f"x{number}"), tags=[gpu, Tag(f"z{number}")], sequence=10 + number) for number in range(5_000)]
    assert cost(*flood, tags=[gpu]) == cost(*flood[:2], tags=[gpu])


def test_jobs_of_types_that_no_worker_has_cost_nothing() -> None:
    flood = [a_job(JobId(f"x{number}"), of_type=JobType(f"t{number}"), sequence=10 + number) for number in range(5_000)]
    assert cost(*flood) == cost(flood[0])


def test_workers_that_are_alike_look_at_their_lanes_once() -> None:
    def looks(workers: int, lanes: int) -> int:
        tags = [Tag(f"t{number}") for number in range(lanes)]
        queue = a_queue(*(a_job(JobId(tag), tags=[tag], sequence=number) for number, tag in enumerate(tags)))
        alike = [a_worker(WorkerId(f"w{number}"), tags=tags) for number in range(workers)]
        return lines_run(lambda: shares(queue, alike))

    assert looks(20, 200) - looks(20, 100) < 2 * (looks(1, 200) - looks(1, 100))


# --- ahead ------------------------------------------------------------------------------------------------------------


def test_a_worker_gets_jobs_ahead_beyond_those_that_it_runs() -> None:
    worker, other = a_worker(W1, slots=2), a_worker(W2, slots=1)
    given_out = shares(a_queue(*many(20)), [worker, other], prefetch={BACKTEST: 3})
    assert counted(given_out, W1, W2) == [5, 4]
    assert [to for to, _ in given_out[:3]] == ["w1", "w2", "w1"]  # free slots first


def test_only_types_that_allow_it_are_given_ahead() -> None:
    queue = a_queue(*(a_job(each, sequence=number, of_type=IMPORT) for number, each in enumerate([A, B])))
    assert shares(queue, [a_worker(W1)], prefetch={BACKTEST: 3}) == [("w1", "a")]


def test_a_window_smaller_than_the_slots_binds_types_that_are_not_given_ahead() -> None:
    queue = a_queue(*(a_job(each, sequence=number, of_type=IMPORT) for number, each in enumerate([A, B])))
    assert shares(queue, [a_worker(W1, slots=2, window=1)], prefetch={BACKTEST: 3}) == [("w1", "a")]


def test_nothing_is_given_ahead_past_a_job_whose_turn_has_come() -> None:
    """A worker with many leases ahead could not run it soon. Another may, or this one when it has run the others."""
    worker = a_worker(W1)
    first = a_job(D, priority=Priority.HIGH, sequence=9, of_type=IMPORT)
    assert shares(a_queue(*many(4), first), [worker], prefetch={BACKTEST: 3}, leases={W1: 2}) == []
    assert shares(a_queue(*many(4), first), [worker], prefetch={BACKTEST: 3})[0] == ("w1", "d")


@pytest.mark.parametrize("reason", ["drains", "refused"])
def test_a_worker_that_may_not_have_jobs_gets_none_ahead(reason: str) -> None:
    worker = a_worker(W1, window=0 if reason == "drains" else 1)
    worker.refused = {BACKTEST: 1.0} if reason == "refused" else {}
    assert shares(a_queue(*many(4)), [worker], prefetch={BACKTEST: 3}) == []


def test_no_worker_gets_more_leases_than_a_request_can_name() -> None:
    worker = a_worker(W1, slots=900)
    queue, prefetch = a_queue(*many(1500)), {BACKTEST: 500}
    first = shares(queue, [worker], prefetch=prefetch)
    rest = shares(queue, [worker], prefetch=prefetch, leases={W1: len(first)})
    assert (len(first), len(first) + len(rest)) == (MOST_SHARES, MAX_LEASES)


# --- the size of the fleet --------------------------------------------------------------------------------------------


def cost_in_fleet(idle: int, unservable: int, messages: Callable[[DispatcherBook], list[Message]]) -> int:
    """How many lines a turn runs, beside idle workers, and jobs of types that none of them can run."""
    book = DispatcherBook()
    book.tell(request(W1, types=[IMPORT]))
    for number in range(idle):
        book.tell(request(WorkerId(f"idle-{number}")))
    for number in range(unservable):
        book.tell(submit(JobId(f"alien-{number}"), of_type=JobType(f"alien-{number}"), reply=None))
    book.tell(submit(JobId("tagged"), tags=frozenset({Tag("alien")}), reply=None))
    book.expect()
    given = messages(book)
    return lines_run(lambda: book.turn(given))


def reported(book: DispatcherBook) -> list[Message]:
    book.tell(submit(A, of_type=IMPORT, reply=None))
    book.expect(book.offer(W1, A))
    return [report(W1, book.ended(A))]


FLEET_TURNS: dict[str, Callable[[DispatcherBook], list[Message]]] = {
    "time": lambda _book: [],
    "request": lambda _book: [request(W1, types=[IMPORT])],
    "heartbeat": lambda _book: [Heartbeat(W1, "boot-1", 1, 0, 0, 1.0)],
    "job for one": lambda _book: [submit(A, of_type=IMPORT, reply=None)],
    "job for the idle": lambda _book: [submit(A, reply=None)],
    "job for none": lambda _book: [submit(A, of_type=JobType("alien-0"), reply=None)],
    "report": reported,
}


@pytest.mark.parametrize("kind", FLEET_TURNS)
def test_no_turn_costs_more_with_more_idle_workers(kind: str) -> None:
    few, many = (cost_in_fleet(idle, 1, FLEET_TURNS[kind]) for idle in (10, 1000))
    assert many <= few + 4, "only heaps may be some steps deeper"


@pytest.mark.parametrize("kind", FLEET_TURNS)
def test_no_turn_costs_more_with_more_types_that_nobody_runs(kind: str) -> None:
    few, many = (cost_in_fleet(10, types, FLEET_TURNS[kind]) for types in (1, 21))
    assert many == few
