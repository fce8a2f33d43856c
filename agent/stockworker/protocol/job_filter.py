"""Which jobs a query lists."""

from typing import Annotated, Final

from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId, JobType, Tag, UniqueKey, WorkerId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.values import Instant, ShortText
from stockworker.protocol.wire import Integer, Wire

MAX_QUERY: Final = 1000
"""Most jobs that one query asks for."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list, newest first."""

    state: Annotated[State | None, Wire("only jobs in this state")] = None
    type: Annotated[JobType | None, Wire("only jobs of this type")] = None
    limit: Annotated[int, Integer(1, MAX_QUERY), Wire("most jobs to list", always=True)] = 100
    before: Annotated[
        JobId | None,
        Wire("only jobs submitted before this one: the full ID of the last job of one page asks for the next page"),
    ] = None
    with_prefixes: Annotated[
        bool, Wire("whether the answer has the length of the shortest prefix that names each job", "prefixes")
    ] = False
    worker: Annotated[WorkerId | None, Wire("only jobs that this worker has, or had last")] = None
    tag: Annotated[Tag | None, Wire("only jobs with this tag")] = None
    unique: Annotated[UniqueKey | None, Wire("only jobs with this unique key")] = None
    reason: Annotated[
        ShortText | None, Wire("only jobs whose reason contains this text, in upper or lower case; no sealed ones")
    ] = None
    since: Annotated[Instant | None, Wire("only jobs submitted at this time or later")] = None
    until: Annotated[Instant | None, Wire("only jobs submitted before this time")] = None
