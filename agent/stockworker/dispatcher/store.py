"""The port to wherever jobs are kept. What an implementation must do, whatever it is made of."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from stockworker.dispatcher.effects import Save
from stockworker.dispatcher.ledger import Snapshot
from stockworker.protocol.ids import JobId
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import JobFilter


class JobStore(Protocol):
    """Keeps jobs. Called by one thread at a time."""

    def load(self) -> Snapshot:
        """Return what a machine needs to go on where the last one was."""

    def find(self, ids: Collection[JobId]) -> dict[JobId, JobRecord]:
        """Return those of the jobs that there are."""

    def commit(self, saves: Iterable[Save]) -> Mapping[State, int]:
        """Make all of `saves` durable, or none: when this returns, a power cut can't undo them.

        Returns:
            How many jobs of each state were pruned.

        Raises:
            StoreError: nothing of it was made durable. The machine that decided it is ahead of the store now and must
                not be used any more: start a new one from `load`.
        """

    def payloads(self, jobs: Sequence[JobRecord]) -> Mapping[JobId, str]:
        """Return the payload of each of the jobs."""

    def results(self, jobs: Sequence[JobRecord]) -> Mapping[JobId, str]:
        """Return the result of each of the jobs that has one."""

    def search(self, wanted: JobFilter) -> list[JobRecord]:
        """Return jobs that match, newest first; none before a job that there is not."""

    def attempts(self, job_id: JobId) -> list[Attempt]:
        """Return every attempt at a job, first to last."""

    def close(self) -> None:
        """Let go of the store."""
