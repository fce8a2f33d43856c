"""Sharing out, compared with a model that looks at every waiting job for every worker."""

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from stockworker.dispatcher.assignment import Worker
from stockworker.protocol.ids import JobId, JobType, Tag, WorkerId
from stockworker.protocol.job import JobRecord, Priority
from tests.harness.assigning import an_assignment
from tests.harness.dispatching import BACKTEST, IMPORT, W1, W2, W3, a_job, a_queue

TAGS = [Tag("gpu"), Tag("big"), Tag("eu"), Tag("alien")]
TYPES = [BACKTEST, IMPORT]

jobs = st.lists(
    st.builds(
        a_job,
        st.integers(0, 40).map(lambda number: JobId(f"job-{number}")),
        priority=st.sampled_from(Priority),
        of_type=st.sampled_from(TYPES),
        tags=st.sets(st.sampled_from(TAGS)),
        ready_at=st.integers(0, 5).map(float),
        sequence=st.integers(0, 10**9),
    ),
    max_size=30,
    unique_by=(lambda job: job.spec.job_id, lambda job: job.sequence),
)
crew = st.tuples(
    *(
        st.builds(
            Worker,
            worker_id=st.just(worker_id),
            incarnation=st.just("boot"),
            slots=st.integers(1, 4),
            window=st.integers(0, 6),
            types=st.frozensets(st.sampled_from(TYPES)),
            tags=st.frozensets(st.sampled_from(TAGS[:3])),
            version=st.just("1"),
            seen=st.just(0.0),
            refused=st.dictionaries(st.sampled_from(TYPES), st.just(1.0), max_size=1),
            served=st.integers(0, 3),
        )
        for worker_id in (W1, W2, W3)
    )
)


class Model:
    """Jobs in a list, and the workers in the order of their turns."""

    def __init__(self, waiting: Sequence[JobRecord], loads: Mapping[WorkerId, int], aged_before: float) -> None:
        self.waiting = list(waiting)
        self.loads = dict(loads)
        self.aged_before = aged_before
        self.shares: list[tuple[WorkerId, JobId]] = []

    def deal(self, workers: Sequence[Worker], most: Mapping[WorkerId, int]) -> None:
        """Give each worker one job in turn, while there is a job for any of them; the longest unserved is first."""
        newest = {worker_id: number for number, (worker_id, _) in enumerate(self.shares)}
        workers = sorted(workers, key=lambda worker: newest.get(worker.worker_id, -1))
        while workers:
            workers = [worker for worker in workers if self.serve(worker, most[worker.worker_id])]

    def serve(self, worker: Worker, most: int) -> bool:
        able = [job for job in self.waiting if worker.may_run(job.spec.type, job.spec.tags)]
        if not able or self.loads[worker.worker_id] >= most:
            return False
        job = min(able, key=self.place)
        self.waiting.remove(job)
        self.loads[worker.worker_id] += 1
        self.shares.append((worker.worker_id, job.spec.job_id))
        return True

    def place(self, job: JobRecord) -> tuple[int, float, int]:
        return (-1 if job.ready_at <= self.aged_before else job.spec.priority, job.ready_at, job.sequence)


@given(jobs, crew, st.fixed_dictionaries({each: st.integers(0, 3) for each in (W1, W2, W3)}), st.integers(-1, 6))
def test_each_worker_in_turn_gets_the_first_job_that_it_can_run(
    waiting: list[JobRecord], workers: tuple[Worker, ...], loads: dict[WorkerId, int], aged_before: int
) -> None:
    model = Model(waiting, loads, aged_before)
    wanting = [worker for worker in workers if worker.wants_jobs(loads[worker.worker_id])]
    wanting.sort(key=lambda worker: (worker.served, loads[worker.worker_id]))
    model.deal(wanting, {worker.worker_id: min(worker.slots, worker.window) for worker in workers})
    model.deal(wanting, {worker.worker_id: worker.window for worker in workers})
    queue = a_queue(*waiting)
    given_out = an_assignment(queue, workers, loads).share_out(aged_before)
    assert [(worker.worker_id, job_id) for worker, job_id in given_out] == model.shares
    assert queue._valid.keys() == {job.spec.job_id for job in model.waiting}


@given(jobs, crew, st.lists(st.tuples(st.sampled_from((W1, W2, W3)), st.integers(0, 3), st.booleans()), max_size=12))
def test_a_share_out_that_looks_only_at_changes_misses_nothing(
    coming: list[JobRecord], workers: tuple[Worker, ...], changes: list[tuple[WorkerId, int, bool]]
) -> None:
    """After each step, another assignment that knows nothing of earlier steps finds no job for any worker."""
    known = {worker.worker_id: worker for worker in workers}
    loads = dict.fromkeys(known, 0)
    queue, paused = a_queue(), set[JobType]()
    assignment = an_assignment(queue, workers, loads, paused)
    steps: list[JobRecord | tuple[WorkerId, int, bool]] = [*coming, *changes]
    steps[::2], steps[1::2] = steps[: len(steps[::2])], steps[len(steps[::2]) :]
    for step in steps:
        if isinstance(step, JobRecord):
            queue.add(step)
        else:
            worker_id, load, stops = step
            loads[worker_id] = load
            known[worker_id].online = not stops
            assignment.changed.add(worker_id)
            (paused.add if stops else paused.discard)(BACKTEST)
        for worker, _ in assignment.share_out(-1.0):
            loads[worker.worker_id] += 1
            assignment.changed.add(worker.worker_id)
        assert an_assignment(queue, workers, loads, paused).share_out(-1.0) == []
