"""The port of the job store: what a store must do, whatever keeps the jobs. The stores that exist are in `stores`."""

# Two threads use a store, and neither waits for the other. The thread of the turns has the `JobStore`: it looks up by
# ID, and writes. The thread of the answers has the `JobReader`: it reads what clients ask for, as it was committed.

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from stockworker.dispatcher.effects import Save
from stockworker.dispatcher.found import FoundJobs
from stockworker.dispatcher.ledger import Snapshot
from stockworker.dispatcher.ready_queue import ReadExpired, Refill
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.ids import ClientId, JobId
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State


class JobReader(Protocol):
    """Reads what is committed, while a `JobStore` writes. The cost of each call is proportional to what it returns.

    Every method but `close` raises StoreError if the store can't be read.
    """

    def snapshot(self) -> AbstractContextManager[None]:
        """Show the store as it is now, until the context is left."""

    def find(self, ids: Collection[JobId]) -> dict[JobId, JobRecord]:
        """Return the jobs with these IDs; an unknown ID is left out."""

    def search(self, wanted: JobFilter, client_id: ClientId | None = None) -> FoundJobs:
        """Return the jobs that match, newest first; none if `wanted.before` is unknown.

        With a `client_id`, only its own jobs and the shared ones; else those of all owners.
        """

    def beginning_with(self, prefix: JobId, most: int) -> list[JobId]:
        """Return the first IDs that begin with a prefix, `most` of them at most, and only of jobs of its owner."""

    def prefix_lengths(self, job_ids: Collection[JobId]) -> dict[JobId, int]:
        """Return how many characters of each job's ID no other ID begins with."""

    def payload(self, job: JobRecord) -> str:
        """Return the payload of a job."""

    def result(self, job: JobRecord) -> str | None:
        """Return the result of a job, if it has one."""

    def attempts(self, job_id: JobId, most: int) -> list[Attempt]:
        """Return the newest attempts at a job, `most` of them at most, first to last."""

    def outputs(self, job_id: JobId, first: int) -> list[int]:
        """Return the attempts at a job from `first` on whose output is kept, in order."""

    def output(self, job_id: JobId, number: int) -> AttemptOutput:
        """Return the output of an attempt that has one."""

    def close(self) -> None:
        """Close the reader."""


class JobStore(Protocol):
    """Keeps jobs. Called by one thread at a time."""

    def check(self) -> None:
        """Read everything that is stored, to find damage before any decision follows from it.

        Raises:
            StoreDamaged: a part of it makes no sense.
        """

    def load(self, latest: float = math.inf) -> Snapshot:
        """Return what a machine needs to continue where the last one stopped.

        Args:
            latest: no parked job is ready later than that. A time beyond it is of a wrong clock, and is corrected.
        """

    def parked(self, refill: Refill) -> Sequence[JobRecord]:
        """Return the parked jobs that a refill asks for, by `ready_at` and `sequence`.

        Raises:
            StoreError: they can't be read.
        """

    def find(self, ids: Collection[JobId]) -> dict[JobId, JobRecord]:
        """Return the jobs with these IDs; an unknown ID is left out."""

    def expired(self, wanted: ReadExpired) -> tuple[Sequence[JobRecord], float]:
        """Return the parked jobs that have expired, and when the next one does: infinity if none does.

        Raises:
            StoreError: they can't be read.
        """

    def commit(self, saves: Iterable[Save]) -> Mapping[State, int]:
        """Make all of `saves` durable, or none: when this returns, a power cut can't undo them.

        Returns:
            How many jobs of each state were pruned.

        Raises:
            StoreError: nothing was made durable. The machine that decided `saves` is ahead of the store now, and must
                not be used any more: start a new one from `load`.
        """

    def payloads(self, jobs: Sequence[JobRecord]) -> Mapping[JobId, str]:
        """Return the payload of each job."""

    def reader(self) -> JobReader:
        """Open a reader of this store, for one other thread.

        Raises:
            StoreError: it can't be opened.
        """

    def free_bytes(self) -> int:
        """Return how many bytes are free where the store keeps the jobs.

        Raises:
            StoreError: that place is gone.
        """

    def close(self) -> None:
        """Close the store."""
