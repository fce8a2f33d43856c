"""How many live jobs each submitter has, and whether it may have one more. Pure, a part of the ledger."""

# A live job takes memory in the dispatcher until it ends, its payload takes room on the disk, and both are loaded at
# each start. So all of them together are bounded. A part of each bound is the most that one submitter may use, so that
# no submitter can keep the others out.
#
# The submitter is the owner of the job's ID. Jobs without an owner belong to one submitter, the shared owner.
#
# Bounds are for new submissions alone. Jobs that are live at a start stay, however many they are, and so does a job that
# an operator retries.

from collections import Counter
from collections.abc import Mapping
from typing import Final

from stockworker.dispatcher.policy import LiveLimits
from stockworker.protocol.ids import ClientId, JobType, Tag, owner_of
from stockworker.protocol.job import JobRecord, JobSpec

_REMEDY: Final = "Submit again when some of them have ended, or cancel some"

_Combination = tuple[JobType, frozenset[Tag]]


class Usage:
    """Counts live jobs."""

    def __init__(self) -> None:
        self._all_jobs = 0
        self._all_bytes = 0
        self._jobs: Counter[ClientId | None] = Counter()
        self._bytes: Counter[ClientId | None] = Counter()
        self._types: Counter[JobType] = Counter()
        self._combinations: dict[ClientId | None, Counter[_Combination]] = {}

    def add(self, job: JobRecord) -> None:
        """Count a job that is live now."""
        self.count(owner_of(job.spec.job_id), job.spec.type, job.spec.tags, 1, job.payload_bytes)

    def count(
        self, owner: ClientId | None, job_type: JobType, tags: frozenset[Tag], jobs: int, payload_bytes: int
    ) -> None:
        """Count jobs of one owner, type and combination of tags."""
        self._all_jobs += jobs
        self._all_bytes += payload_bytes
        self._jobs[owner] += jobs
        self._bytes[owner] += payload_bytes
        self._types[job_type] += jobs
        combinations = self._combinations.get(owner)
        if combinations is None:
            combinations = self._combinations[owner] = Counter()
        combinations[job_type, tags] += jobs

    def remove(self, job: JobRecord) -> None:
        """Stop counting a job that has ended."""
        owner, job_type, tags = owner_of(job.spec.job_id), job.spec.type, job.spec.tags
        self.count(owner, job_type, tags, -1, -job.payload_bytes)
        combinations = self._combinations[owner]
        if not combinations[job_type, tags]:
            del combinations[job_type, tags]
        if not self._types[job_type]:
            del self._types[job_type]
        if not self._jobs[owner]:
            del self._jobs[owner], self._bytes[owner], self._combinations[owner]

    def excess(self, spec: JobSpec, payload_bytes: int, limits: LiveLimits) -> str | None:
        """Explain which bound one more job would exceed, and what to do; None if it may be stored."""
        owner = owner_of(spec.job_id)
        who = "the shared owner" if owner is None else f"submitter {owner}"
        jobs, size = self._jobs[owner], self._bytes[owner] + payload_bytes
        share, of_type = limits.submitter_share, limits.live_jobs_of_type.get(spec.type)
        combinations: Mapping[_Combination, int] = self._combinations.get(owner, {})
        if jobs >= max(1, int(limits.live_jobs * share)):
            return (
                f"too many live jobs: {who} has {jobs}, the most for one submitter (dispatcher.limits.live_jobs, "
                f"{limits.live_jobs}, times submitter_share, {share:g}). {_REMEDY}"
            )
        if self._all_jobs >= limits.live_jobs:
            return (
                f"too many live jobs: all submitters have {limits.live_jobs} (dispatcher.limits.live_jobs). {_REMEDY}"
            )
        if of_type is not None and self._types[spec.type] >= of_type:
            return (
                f"too many live jobs of type {spec.type}: {of_type} (dispatcher.types.{spec.type}.live_jobs). {_REMEDY}"
            )
        if size > limits.payload_bytes * share:
            return (
                f"too many bytes in payloads of live jobs: {who} would have {size} "
                f"(dispatcher.limits.payloads, {limits.payload_bytes}, times submitter_share, {share:g}). {_REMEDY}"
            )
        if self._all_bytes + payload_bytes > limits.payload_bytes:
            return (
                f"too many bytes in payloads of live jobs: all submitters would have more than {limits.payload_bytes} "
                f"(dispatcher.limits.payloads). {_REMEDY}"
            )
        if len(combinations) >= limits.combinations and (spec.type, spec.tags) not in combinations:
            return (
                f"too many combinations of type and tags: live jobs of {who} have {len(combinations)} different ones "
                f"(dispatcher.limits.combinations). Submit jobs with fewer different tags. {_REMEDY}"
            )
        return None
