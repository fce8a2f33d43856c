"""A job store in memory, for stories: what is committed survives the machine, not the process."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from stockworker.dispatcher.effects import (
    LimitOutputs,
    Prune,
    Save,
    SaveAttempt,
    SaveDrain,
    SaveJob,
    SaveOutput,
    SavePause,
)
from stockworker.dispatcher.found import FoundJobs
from stockworker.dispatcher.ledger import Snapshot
from stockworker.dispatcher.ready_queue import Lane, ParkedJobs, ReadExpired, Refill, lane_of
from stockworker.errors import StoreError
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.ids import ClientId, JobId, JobType, WorkerId, owner_of
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import LIVE, State


class MemoryJobStore:
    """See `stockworker.dispatcher.store.JobStore`."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, JobRecord] = {}
        self._payloads: dict[JobId, str] = {}
        self._results: dict[JobId, str] = {}
        self._attempts: dict[tuple[JobId, int], Attempt] = {}
        self._outputs: dict[tuple[JobId, int], AttemptOutput] = {}
        self._paused: set[JobType] = set()
        self._drained: set[WorkerId] = set()

    def check(self) -> None:
        pass

    def load(self, latest: float = math.inf) -> Snapshot:
        for job_id, job in self.jobs.items():
            if job.parked and job.ready_at > latest:
                self.jobs[job_id] = replace(job, ready_at=latest)
        jobs = sorted(self.jobs.values(), key=lambda job: job.sequence)
        totals = Counter(job.state for job in jobs)
        highest = max((job.sequence for job in jobs), default=0)
        live = [job for job in jobs if job.state in LIVE and not job.parked]
        alike: dict[Lane, list[JobRecord]] = {}
        for job in jobs:
            if job.parked:
                alike.setdefault(lane_of(job), []).append(job)
        parked = [
            ParkedJobs(
                lane,
                len(some),
                sum(job.payload_bytes for job in some),
                min(job.ready_at for job in some),
                min((job.spec.expires_at for job in some if job.spec.expires_at is not None), default=None),
            )
            for lane, some in alike.items()
        ]
        return Snapshot(live, totals, highest + 1, frozenset(self._paused), frozenset(self._drained), tuple(parked))

    def parked(self, refill: Refill) -> list[JobRecord]:
        after = [
            job
            for job in self.jobs.values()
            if job.parked and lane_of(job) == refill.lane and (job.ready_at, job.sequence) > refill.after
        ]
        return sorted(after, key=lambda job: (job.ready_at, job.sequence))[: refill.most]

    def expired(self, wanted: ReadExpired) -> tuple[list[JobRecord], float]:
        by_expiry = sorted(
            (job.spec.expires_at, job.sequence, job)
            for job in self.jobs.values()
            if job.parked and job.spec.expires_at is not None
        )
        due = [job for at, _, job in by_expiry if at <= wanted.until][: wanted.most]
        left = [at for at, _, _ in by_expiry if at > wanted.until]
        return due, wanted.until if len(due) == wanted.most else min(left, default=math.inf)

    def find(self, ids: Collection[JobId]) -> dict[JobId, JobRecord]:
        return {job_id: self.jobs[job_id] for job_id in ids if job_id in self.jobs}

    def commit(self, saves: Iterable[Save]) -> Mapping[State, int]:
        saves = list(saves)
        for save in saves:
            if isinstance(save, SaveJob) and save.payload is not None and save.job.spec.job_id in self.jobs:
                raise StoreError(f"memory: {save.job.spec.job_id} exists already")
        pruned: Counter[State] = Counter()
        for save in saves:
            match save:
                case SaveJob():
                    self._save_job(save)
                case SaveAttempt(attempt=attempt):
                    self._attempts[attempt.job_id, attempt.number] = attempt
                case SaveOutput():
                    self._save_output(save)
                case LimitOutputs(most_bytes=most_bytes):
                    self._limit_outputs(most_bytes)
                case SavePause(job_type=job_type, paused=paused):
                    (self._paused.add if paused else self._paused.discard)(job_type)
                case SaveDrain(worker_id=worker_id, drained=drained):
                    (self._drained.add if drained else self._drained.discard)(worker_id)
                case Prune():
                    pruned.update(self._prune(save))
        return pruned

    def _save_job(self, save: SaveJob) -> None:
        job_id = save.job.spec.job_id
        self.jobs[job_id] = save.job
        if save.payload is not None:
            self._payloads[job_id] = save.payload
        if save.result is not None:
            self._results[job_id] = save.result

    def _save_output(self, save: SaveOutput) -> None:
        for job_id, number in [*self._outputs]:
            if job_id == save.job_id and (number <= save.number - 10 or number == save.number):
                del self._outputs[job_id, number]
        self._outputs[save.job_id, save.number] = save.output

    def _limit_outputs(self, most_bytes: int) -> None:
        while True:
            sizes: Counter[ClientId | None] = Counter()
            for (job_id, _), output in self._outputs.items():
                sizes[owner_of(job_id)] += len(output.text.encode())
            if sizes.total() <= most_bytes:
                return
            ((owner, _),) = sizes.most_common(1)
            del self._outputs[next(key for key in self._outputs if owner_of(key[0]) == owner)]

    def output_of(self, job_id: JobId) -> dict[int, AttemptOutput]:
        """The outputs of the attempts at a job: for tests."""
        return {number: output for (owner, number), output in self._outputs.items() if owner == job_id}

    def _prune(self, prune: Prune) -> list[State]:
        ended = [(job.ended_at, job) for job in self.jobs.values() if job.ended_at is not None]
        old = sorted(((at, job) for at, job in ended if at < prune.before), key=lambda found: found[0])
        for _, job in old[: prune.most]:
            job_id = job.spec.job_id
            del self.jobs[job_id], self._payloads[job_id]
            self._results.pop(job_id, None)
            self._attempts = {key: attempt for key, attempt in self._attempts.items() if key[0] != job_id}
            self._outputs = {key: output for key, output in self._outputs.items() if key[0] != job_id}
        return [job.state for _, job in old[: prune.most]]

    def payloads(self, jobs: Sequence[JobRecord]) -> Mapping[JobId, str]:
        return {job.spec.job_id: self._payloads[job.spec.job_id] for job in jobs}

    def results(self, jobs: Sequence[JobRecord]) -> Mapping[JobId, str]:
        """The results of the jobs that have one: for tests."""
        return {job.spec.job_id: self._results[job.spec.job_id] for job in jobs if job.spec.job_id in self._results}

    def attempts(self, job_id: JobId) -> list[Attempt]:
        """All attempts at a job: for tests."""
        return [attempt for (owner, _), attempt in sorted(self._attempts.items()) if owner == job_id]

    def free_bytes(self) -> int:
        return 1024**4

    def reader(self) -> "MemoryJobReader":
        return MemoryJobReader(self)

    def close(self) -> None:
        pass


def is_wanted(job: JobRecord, wanted: JobFilter) -> bool:
    """Whether a job matches a filter, besides its state, its type and its place."""
    return (
        wanted.worker in (None, job.worker)
        and wanted.unique in (None, job.spec.unique)
        and (wanted.tag is None or wanted.tag in job.spec.tags)
        and (wanted.reason is None or _contains(job.reason, wanted.reason))
        and (wanted.since is None or job.submitted_at >= wanted.since)
        and (wanted.until is None or job.submitted_at < wanted.until)
    )


def _contains(reason: str | None, text: str) -> bool:
    """Whether a reason has this text; a job without a reason has not even an empty one."""
    return reason is not None and text.encode().lower() in reason.encode().lower()


class MemoryJobReader:
    """See `stockworker.dispatcher.store.JobReader`."""

    def __init__(self, store: MemoryJobStore) -> None:
        self._store = store

    def snapshot(self) -> AbstractContextManager[None]:
        return nullcontext()  # one thread has both

    def find(self, ids: Collection[JobId]) -> dict[JobId, JobRecord]:
        return {job_id: self._store.jobs[job_id] for job_id in ids if job_id in self._store.jobs}

    def result(self, job: JobRecord) -> str | None:
        return self._store.results([job]).get(job.spec.job_id)

    def beginning_with(self, prefix: JobId, most: int) -> list[JobId]:
        alike = (job_id for job_id in self._store.jobs if job_id.startswith(prefix))
        return sorted(job_id for job_id in alike if owner_of(job_id) == owner_of(prefix))[:most]

    def prefix_lengths(self, job_ids: Collection[JobId]) -> dict[JobId, int]:
        return {job_id: self._prefix_length(job_id) for job_id in job_ids}

    def _prefix_length(self, job_id: JobId) -> int:
        others = self._store.jobs.keys() - {job_id}
        lengths = (
            length for length in range(1, len(job_id)) if not any(other.startswith(job_id[:length]) for other in others)
        )
        return next(lengths, len(job_id))

    def payload(self, job: JobRecord) -> str:
        return self._store.payloads([job])[job.spec.job_id]

    def search(self, wanted: JobFilter, client_id: ClientId | None = None) -> FoundJobs:
        newest = max((job.sequence for job in self._store.jobs.values()), default=0)
        before = newest + 1 if wanted.before is None else 0
        if wanted.before in self._store.jobs:
            before = self._store.jobs[wanted.before].sequence
        found = [
            job
            for job in sorted(self._store.jobs.values(), key=lambda job: -job.sequence)
            if job.sequence < before
            if wanted.state in (None, job.state) and wanted.type in (None, job.spec.type)
            if client_id is None or owner_of(job.spec.job_id) in (None, client_id)
            if is_wanted(job, wanted)
        ]
        return FoundJobs(found[: wanted.limit])

    def attempts(self, job_id: JobId, most: int) -> list[Attempt]:
        return self._store.attempts(job_id)[-most:]

    def outputs(self, job_id: JobId, first: int) -> list[int]:
        return [number for number in sorted(self._store.output_of(job_id)) if number >= first]

    def output(self, job_id: JobId, number: int) -> AttemptOutput:
        return self._store.output_of(job_id)[number]

    def close(self) -> None:
        pass
