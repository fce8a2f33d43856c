"""Which worker gets which job: order, ageing, windows, types and tags."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.dispatcher.assignment import ReadyQueue, Worker, share_out
from stockworker.protocol.body import MAX_LEASES
from stockworker.protocol.ids import JobId, JobType, Tag, WorkerId
from stockworker.protocol.job import JobRecord, Priority
from tests.harness.dispatching import BACKTEST, IMPORT, W1, W2, W3, A, B, C, D, a_job

NEVER_AGED = float("-inf")
GPU, BIG = Tag("gpu"), Tag("big")


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


def a_queue(*jobs: JobRecord) -> ReadyQueue:
    queue = ReadyQueue()
    for job in jobs:
        queue.add(job)
    return queue


def drained(queue: ReadyQueue, worker: Worker, aged_before: float = NEVER_AGED) -> list[JobId]:
    """Everything that the worker may run, in its order."""
    lanes = iter(lambda: queue.next_lane(worker, aged_before), None)
    return [queue.take(lane) for lane in lanes]


def shares(
    queue: ReadyQueue,
    workers: Sequence[Worker],
    aged_before: float = NEVER_AGED,
    prefetch: Mapping[JobType, int] | None = None,
    leases: Mapping[WorkerId, int] | None = None,
) -> list[tuple[str, str]]:
    """Which worker gets which job; `leases` is how many leases each worker has before."""
    counts = Counter(leases)
    given_out = share_out(queue, workers, lambda worker_id: counts[worker_id], aged_before, (), prefetch or {})
    return [(worker.worker_id, job_id) for worker, job_id in given_out]


def counted(given_out: Sequence[tuple[str, str]], *workers: WorkerId) -> list[int]:
    """How many jobs each worker got."""
    counts = Counter(worker_id for worker_id, _ in given_out)
    return [counts[worker_id] for worker_id in workers]


# --- the queue --------------------------------------------------------------------------------------------------------


def test_high_goes_before_normal_and_normal_before_low() -> None:
    queue = a_queue(
        a_job(A, priority=Priority.LOW, sequence=1),
        a_job(B, priority=Priority.NORMAL, sequence=2),
        a_job(C, priority=Priority.HIGH, sequence=3),
    )
    assert drained(queue, a_worker()) == [C, B, A]


def test_within_a_priority_it_is_first_in_first_out_over_all_types() -> None:
    queue = a_queue(
        a_job(A, ready_at=3, sequence=1),
        a_job(B, ready_at=2, sequence=2, of_type=IMPORT),
        a_job(C, ready_at=2, sequence=3),
        a_job(D, ready_at=2, sequence=4, of_type=IMPORT),
    )
    assert drained(queue, a_worker()) == [B, C, D, A]


def test_aged_jobs_go_first_and_the_oldest_before_all() -> None:
    queue = a_queue(
        a_job(A, priority=Priority.HIGH, ready_at=50, sequence=1),
        a_job(B, priority=Priority.LOW, ready_at=10, sequence=2),
        a_job(C, priority=Priority.HIGH, ready_at=20, sequence=3),
        a_job(D, priority=Priority.LOW, ready_at=30.1, sequence=4),
    )
    assert drained(queue, a_worker(), aged_before=30) == [B, C, A, D]


def test_a_worker_gets_only_what_it_can_run() -> None:
    queue = a_queue(
        a_job(A, of_type=IMPORT, sequence=1),
        a_job(B, tags=[GPU], sequence=2),
        a_job(C, tags=[GPU, BIG], sequence=3),
        a_job(D, sequence=4),
    )
    refuser = a_worker()
    refuser.refused[BACKTEST] = 1.0
    assert drained(queue, refuser) == [A]
    assert drained(queue, a_worker(types=[BACKTEST], tags=[GPU])) == [B, D]
    assert drained(queue, a_worker(types=[])) == []
    assert len(queue) == 1


def test_a_job_that_was_taken_out_may_be_added_again() -> None:
    queue = a_queue(a_job(A, sequence=1), a_job(B, sequence=2))
    queue.discard(A)
    queue.discard(A)
    queue.discard(C)
    assert len(queue) == 1
    queue.add(a_job(A, sequence=1))  # beside its old entry
    assert drained(queue, a_worker()) == [A, B]
    assert len(queue) == 0


def test_a_job_that_is_queued_again_has_one_place() -> None:
    queue = a_queue(a_job(A, ready_at=1, sequence=1), a_job(B, ready_at=2, sequence=2))
    queue.discard(A)
    queue.add(a_job(A, ready_at=3, sequence=1))
    assert drained(queue, a_worker()) == [B, A]


def test_the_queue_counts_waiting_jobs_by_type_and_knows_the_oldest() -> None:
    queue = a_queue(
        a_job(A, ready_at=5, sequence=1),
        a_job(B, ready_at=3, sequence=2, priority=Priority.LOW),
        a_job(C, ready_at=4, sequence=3, of_type=IMPORT),
        a_job(D, ready_at=1, sequence=4),
    )
    queue.discard(D)
    assert sorted(queue.waiting()) == [(BACKTEST, 2, 3), (IMPORT, 1, 4)]
    drained(queue, a_worker())
    assert list(queue.waiting()) == []


jobs = st.builds(
    a_job,
    st.integers(0, 5).map(lambda number: JobId(f"job-{number}")),
    priority=st.sampled_from(Priority),
    of_type=st.sampled_from([BACKTEST, IMPORT]),
    tags=st.sets(st.sampled_from([GPU, BIG])),
    ready_at=st.integers(0, 5).map(float),
)


@given(st.lists(jobs | st.integers(0, 5), max_size=30), st.integers(0, 6))
def test_the_queue_is_as_good_as_a_sorted_list(steps: list[JobRecord | int], aged_before: int) -> None:
    queue = ReadyQueue()
    waiting: dict[JobId, JobRecord] = {}
    for step in steps:
        if isinstance(step, int):
            job_id = JobId(f"job-{step}")
            queue.discard(job_id)
            waiting.pop(job_id, None)
        elif step.spec.job_id not in waiting:
            queue.add(step)
            waiting[step.spec.job_id] = step

    def place(job: JobRecord) -> tuple[int, float]:
        return (-1 if job.ready_at <= aged_before else job.spec.priority, job.ready_at)

    worker = a_worker(tags=[GPU])
    mine = [job for job in waiting.values() if job.spec.tags <= {GPU}]
    taken = drained(queue, worker, aged_before)
    assert sorted(taken) == sorted(job.spec.job_id for job in mine)
    assert [place(waiting[job_id]) for job_id in taken] == sorted(map(place, mine))
    assert len(queue) == len(waiting) - len(mine)


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
    assert len(shares(a_queue(*many(1500)), [worker], prefetch={BACKTEST: 500})) == MAX_LEASES
