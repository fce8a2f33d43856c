"""The port of the job store: what a store must do, whatever keeps the jobs. The stores that exist are in `stores`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from stockworker.dispatcher.effects import Save
from stockworker.dispatcher.ledger import Snapshot
from stockworker.protocol.ids import ClientId, JobId
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import JobFilter


class JobStore(Protocol):
    """Keeps jobs. Called by one thread at a time."""

    def check(self) -> None:
        """Read everything that is stored, to find damage before any decision follows from it.

        Raises:
            StoreDamaged: a part of it makes no sense.
        """

    def load(self) -> Snapshot:
        """Return what a machine needs to continue where the last one stopped."""

    def find(self, ids: Collection[JobId]) -> dict[JobId, JobRecord]:
        """Return the jobs with these IDs; an unknown ID is left out."""

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

    def results(self, jobs: Sequence[JobRecord]) -> Mapping[JobId, str]:
        """Return the result of each job that has one."""

    def search(self, wanted: JobFilter, reader: ClientId | None = None) -> list[JobRecord]:
        """Return the jobs that match, newest first; none if `wanted.before` is unknown.

        With a `reader`, only its own jobs and the shared ones; else those of all owners.
        """

    def attempts(self, job_id: JobId) -> list[Attempt]:
        """Return every attempt at a job, first to last."""

    def free_bytes(self) -> int:
        """Return how many bytes are free where the store keeps the jobs.

        Raises:
            StoreError: that place is gone.
        """

    def close(self) -> None:
        """Close the store."""
