"""A job store in memory, for stories: what is committed survives the machine, not the process."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from stockworker.dispatcher.effects import Save, SaveAttempt, SaveJob
from stockworker.dispatcher.ledger import Snapshot
from stockworker.errors import StoreError
from stockworker.protocol.ids import JobId
from stockworker.protocol.job import Attempt, Job
from stockworker.protocol.lifecycle import LIVE
from stockworker.protocol.messages import JobFilter


class MemoryJobStore:
    """See `stockworker.dispatcher.store.JobStore`."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, Job] = {}
        self._payloads: dict[JobId, str] = {}
        self._results: dict[JobId, str] = {}
        self._attempts: dict[tuple[JobId, int], Attempt] = {}

    def load(self) -> Snapshot:
        jobs = sorted(self.jobs.values(), key=lambda job: job.sequence)
        totals = Counter(job.state for job in jobs)
        highest = max((job.sequence for job in jobs), default=0)
        return Snapshot([job for job in jobs if job.state in LIVE], totals, highest + 1)

    def find(self, ids: Collection[JobId]) -> dict[JobId, Job]:
        return {job_id: self.jobs[job_id] for job_id in ids if job_id in self.jobs}

    def commit(self, saves: Iterable[Save]) -> None:
        saves = list(saves)
        for save in saves:
            if isinstance(save, SaveJob) and save.payload is not None and save.job.spec.id in self.jobs:
                raise StoreError(f"memory: {save.job.spec.id} is there already")
        for save in saves:
            if isinstance(save, SaveAttempt):
                self._attempts[save.attempt.job_id, save.attempt.number] = save.attempt
                continue
            job_id = save.job.spec.id
            self.jobs[job_id] = save.job
            if save.payload is not None:
                self._payloads[job_id] = save.payload
            if save.result is not None:
                self._results[job_id] = save.result

    def payloads(self, jobs: Sequence[Job]) -> Mapping[JobId, str]:
        return {job.spec.id: self._payloads[job.spec.id] for job in jobs}

    def results(self, jobs: Sequence[Job]) -> Mapping[JobId, str]:
        return {job.spec.id: self._results[job.spec.id] for job in jobs if job.spec.id in self._results}

    def search(self, wanted: JobFilter) -> list[Job]:
        found = [
            job
            for job in sorted(self.jobs.values(), key=lambda job: -job.sequence)
            if wanted.state in (None, job.state) and wanted.type in (None, job.spec.type)
        ]
        return found[: wanted.limit]

    def attempts(self, job_id: JobId) -> list[Attempt]:
        return [attempt for (owner, _), attempt in sorted(self._attempts.items()) if owner == job_id]

    def close(self) -> None:
        pass
