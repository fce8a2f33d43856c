"""The outcome of a search for jobs. Pure."""

from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId
from stockworker.protocol.job import JobRecord


@dataclass(frozen=True, slots=True)
class FoundJobs:
    """What a search has found.

    Attributes:
        jobs: newest first.
        searched_to: the last job that the search has looked at, if there are older ones that it has not looked at.
    """

    jobs: list[JobRecord]
    searched_to: JobId | None = None
