"""The queue of ready jobs: order, ageing, types and tags."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stockworker.dispatcher.ready_queue import LaneChoice, ReadyQueue
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag
from stockworker.protocol.job import JobRecord, Priority
from tests.harness.dispatching import BACKTEST, IMPORT, NEVER_AGED, A, B, C, D, a_job, a_queue

GPU, BIG = Tag("gpu"), Tag("big")
BOTH = (BACKTEST, IMPORT)


def drained(
    queue: ReadyQueue, types: Iterable[JobType] = BOTH, tags: Iterable[Tag] = (), aged_before: float = NEVER_AGED
) -> list[JobId]:
    """Everything that a worker of these types and tags may run, in its order."""
    choice = LaneChoice(queue, frozenset(types), frozenset(tags), aged_before)
    return [choice.take(lane) for lane in iter(choice.next_lane, None)]


def test_high_goes_before_normal_and_normal_before_low() -> None:
    queue = a_queue(
        a_job(A, priority=Priority.LOW, sequence=1),
        a_job(B, priority=Priority.NORMAL, sequence=2),
        a_job(C, priority=Priority.HIGH, sequence=3),
    )
    assert drained(queue) == [C, B, A]


def test_within_a_priority_it_is_first_in_first_out_over_all_types() -> None:
    queue = a_queue(
        a_job(A, ready_at=3, sequence=1),
        a_job(B, ready_at=2, sequence=2, of_type=IMPORT),
        a_job(C, ready_at=2, sequence=3),
        a_job(D, ready_at=2, sequence=4, of_type=IMPORT),
    )
    assert drained(queue) == [B, C, D, A]


def test_aged_jobs_go_first_and_the_oldest_before_all() -> None:
    queue = a_queue(
        a_job(A, priority=Priority.HIGH, ready_at=50, sequence=1),
        a_job(B, priority=Priority.LOW, ready_at=10, sequence=2),
        a_job(C, priority=Priority.HIGH, ready_at=20, sequence=3),
        a_job(D, priority=Priority.LOW, ready_at=30.1, sequence=4),
    )
    assert drained(queue, aged_before=30) == [B, C, A, D]


# --- turns ------------------------------------------------------------------------------------------------------------


def jobs_of(owner: str, count: int, *, first: int = 1, **options: Any) -> list[JobRecord]:
    """Jobs of an owner that are named by their order of arrival: ``ann:1``."""
    return [a_job(JobId(f"{owner}:{n}"), sequence=n, ready_at=n, **options) for n in range(first, first + count)]


def next_job(queue: ReadyQueue, types: Iterable[JobType] = BOTH, tags: Iterable[Tag] = ()) -> JobId | None:
    """The next job for a worker of these types and tags, in a share-out of its own."""
    choice = LaneChoice(queue, frozenset(types), frozenset(tags), NEVER_AGED)
    lane = choice.next_lane()
    return None if lane is None else choice.take(lane)


def test_owners_take_turns() -> None:
    flood = jobs_of("ann", 4)
    late, shared = jobs_of("bob", 2, first=5), a_job(A, sequence=7, ready_at=7)
    assert drained(a_queue(*flood, *late, shared)) == ["ann:1", "bob:5", A, "ann:2", "bob:6", "ann:3", "ann:4"]


def test_an_owner_that_comes_later_waits_for_one_job_of_each_other() -> None:
    queue = a_queue(*jobs_of("ann", 4))
    assert [next_job(queue), next_job(queue)] == ["ann:1", "ann:2"]
    queue.add(a_job(JobId("bob:5"), sequence=5, ready_at=5))
    assert drained(queue) == ["ann:3", "bob:5", "ann:4"]


def test_an_owner_that_keeps_one_job_waiting_does_not_get_each_turn() -> None:
    queue = a_queue(*jobs_of("ann", 6))
    taken = []
    for number in range(7, 13):
        if not any(lane.owner == "bob" for lane in queue.lanes(frozenset(BOTH), frozenset())):
            queue.add(a_job(JobId(f"bob:{number}"), sequence=number, ready_at=number))
        taken.append(next_job(queue))
    assert [str(job_id)[:3] for job_id in taken] == ["ann", "bob", "ann", "bob", "ann", "bob"]


def test_an_owner_has_one_turn_for_all_its_types_and_tags() -> None:
    many = [job for n in range(1, 4) for job in jobs_of("ann", 1, first=n, tags=[GPU, BIG][: n - 1])]
    imports = jobs_of("ann", 1, first=4, of_type=IMPORT)
    queue = a_queue(*many, *imports, *jobs_of("bob", 2, first=5))
    taken = [next_job(queue, tags=[GPU, BIG]) for _ in range(6)]
    assert taken == ["ann:1", "bob:5", "ann:2", "bob:6", "ann:3", "ann:4"]


def test_a_turn_with_other_workers_does_not_count() -> None:
    queue = a_queue(*jobs_of("ann", 2), *jobs_of("ann", 3, first=3, of_type=IMPORT), *jobs_of("bob", 2, first=6))
    assert next_job(queue, [BACKTEST]) == "ann:1"
    assert [next_job(queue, [IMPORT]), next_job(queue, [IMPORT])] == ["ann:3", "ann:4"]
    assert next_job(queue, [BACKTEST]) == "bob:6"
    assert [next_job(queue, [IMPORT]), next_job(queue, [IMPORT])] == ["ann:5", None]
    assert next_job(queue, [BACKTEST]) == "ann:2"


def test_a_higher_priority_is_before_all_turns() -> None:
    queue = a_queue(
        *jobs_of("ann", 3, priority=Priority.HIGH), *jobs_of("bob", 1, first=4), *jobs_of("ann", 1, first=5)
    )
    assert drained(queue) == ["ann:1", "ann:2", "ann:3", "bob:4", "ann:5"]


def test_aged_jobs_of_owners_take_turns_too() -> None:
    queue = a_queue(*jobs_of("ann", 3), *jobs_of("bob", 1, first=4), *jobs_of("eve", 1, first=5))
    assert drained(queue, aged_before=4) == ["ann:1", "bob:4", "ann:2", "ann:3", "eve:5"]


def test_workers_that_change_their_tags_do_not_fill_the_memory() -> None:
    queue = a_queue(*jobs_of("ann", 600))
    sizes = []
    for number in range(500):
        next_job(queue, tags=[Tag(f"t{number}")])
        sizes.append(len(queue._owners[ClientId("ann")].turns))
    assert max(sizes) == sizes[255] == 256
    queue.add(a_job(JobId("bob:601"), sequence=601, ready_at=601))
    assert [next_job(queue), next_job(queue)] == ["ann:501", "bob:601"]


def test_an_owner_without_waiting_jobs_is_forgotten() -> None:
    queue = a_queue(*jobs_of("ann", 2), *jobs_of("ann", 1, first=3, of_type=IMPORT))
    assert drained(queue, [BACKTEST]) == ["ann:1", "ann:2"]
    assert list(queue._owners) == ["ann"]
    queue.discard(JobId("ann:3"))
    assert queue._owners == {}


# --- what can be run --------------------------------------------------------------------------------------------------


def test_a_worker_gets_only_what_it_can_run() -> None:
    queue = a_queue(
        a_job(A, of_type=IMPORT, sequence=1),
        a_job(B, tags=[GPU], sequence=2),
        a_job(C, tags=[GPU, BIG], sequence=3),
        a_job(D, sequence=4),
    )
    assert drained(queue, [IMPORT]) == [A]
    assert drained(queue, [BACKTEST], [GPU]) == [B, D]
    assert drained(queue, []) == []
    assert len(queue) == 1


def test_a_job_that_was_taken_out_may_be_added_again() -> None:
    queue = a_queue(a_job(A, sequence=1), a_job(B, sequence=2))
    queue.discard(A)
    queue.discard(A)
    queue.discard(C)
    assert len(queue) == 1
    queue.add(a_job(A, sequence=1))  # beside its old entry
    assert drained(queue) == [A, B]
    assert len(queue) == 0


def test_a_job_that_is_queued_again_has_one_place() -> None:
    queue = a_queue(a_job(A, ready_at=1, sequence=1), a_job(B, ready_at=2, sequence=2))
    queue.discard(A)
    queue.add(a_job(A, ready_at=3, sequence=1))
    assert drained(queue) == [B, A]


def test_the_queue_counts_waiting_jobs_by_type_and_priority_and_knows_the_oldest() -> None:
    queue = a_queue(
        a_job(A, ready_at=5, sequence=1),
        a_job(B, ready_at=3, sequence=2, priority=Priority.LOW),
        a_job(C, ready_at=4, sequence=3, of_type=IMPORT),
        a_job(D, ready_at=1, sequence=4),
        a_job(JobId("e"), ready_at=6, sequence=5, tags=[GPU]),
    )
    queue.discard(D)
    assert sorted(queue.waiting()) == [
        (BACKTEST, Priority.NORMAL, 2, 5),
        (BACKTEST, Priority.LOW, 1, 3),
        (IMPORT, Priority.NORMAL, 1, 4),
    ]
    queue.discard(JobId("e"))
    drained(queue)
    assert list(queue.waiting()) == []


def test_a_type_that_is_paused_is_left_out() -> None:
    queue = a_queue(a_job(A, sequence=1), a_job(B, sequence=2, of_type=IMPORT))
    choice = LaneChoice(queue, frozenset(BOTH), frozenset(), NEVER_AGED, {BACKTEST})
    assert [choice.take(lane) for lane in iter(choice.next_lane, None)] == [B]


def test_jobs_that_leave_early_leave_nothing_behind() -> None:
    """No worker looks at the lane, so nothing else would remove them."""
    queue = a_queue(a_job(A, tags=[GPU], sequence=1))
    for number in range(10_000):
        job_id = JobId(f"job-{number}")
        queue.add(a_job(job_id, tags=[GPU], sequence=2 + number))
        queue.discard(job_id)
    (lane,) = queue._lanes.values()
    assert len(lane.entries) < 100
    queue.discard(A)
    assert (queue._lanes, queue._filed) == ({}, {})


def test_entries_of_jobs_that_have_left_are_as_many_as_those_that_wait_and_a_few() -> None:
    queue = a_queue(*jobs_of("ann", 100))
    most = 0
    for number in range(101, 601):
        job_id = JobId(f"ann:{number}")
        queue.add(a_job(job_id, sequence=number, ready_at=number))
        queue.discard(job_id)
        (lane,) = queue._lanes.values()
        most = max(most, len(lane.entries))
    assert most == 100 + 100 + 64


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
    for sequence, step in enumerate(steps):
        if isinstance(step, int):
            job_id = JobId(f"job-{step}")
            queue.discard(job_id)
            waiting.pop(job_id, None)
        elif step.spec.job_id not in waiting:
            queue.add(replace(step, sequence=sequence))
            waiting[step.spec.job_id] = step

    def place(job: JobRecord) -> tuple[int, float]:
        return (-1 if job.ready_at <= aged_before else job.spec.priority, job.ready_at)

    mine = [job for job in waiting.values() if job.spec.tags <= {GPU}]
    taken = drained(queue, tags=[GPU], aged_before=aged_before)
    assert sorted(taken) == sorted(job.spec.job_id for job in mine)
    assert [place(waiting[job_id]) for job_id in taken] == sorted(map(place, mine))
    assert len(queue) == len(waiting) - len(mine)
