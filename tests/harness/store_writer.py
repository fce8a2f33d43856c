"""A process that writes into a store or a journal until it is killed, or until the file can't grow any more.

Run as `python -m tests.harness.store_writer {jobs|journal} PATH MOST_BYTES`. It prints the number of each item after its
commit, and the error that ended it.
"""

import resource
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final

from stockworker.dispatcher.effects import SaveAttempt, SaveJob
from stockworker.dispatcher.store_sqlite import SqliteJobStore
from stockworker.errors import StoreError
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Attempt, JobRecord, JobSpec, Outcome, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Assignment, AttemptReport
from stockworker.worker.effects import Accept, MarkStarted, RecordOutcome
from stockworker.worker.journal import Journal

PAYLOAD: Final = "x" * 2000
OPENERS: Final[dict[str, Callable[[Path], SqliteJobStore | Journal]]] = {"jobs": SqliteJobStore, "journal": Journal}


def a_job(number: int) -> JobRecord:
    spec = JobSpec(
        job_id=JobId(f"job-{number}"),
        type=JobType("t"),
        priority=Priority.NORMAL,
        timeout_s=60.0,
        max_attempts=3,
        backoff_s=1.0,
        backoff_max_s=60.0,
        max_crashes=3,
    )
    return JobRecord(spec, number, State.QUEUED, submitted_at=0.0, ready_at=0.0)


def an_attempt(number: int) -> Attempt:
    return Attempt(JobId(f"job-{number}"), 1, WorkerId("w"), Token(f"token-{number}"), 0.0)


def an_assignment(number: int) -> Assignment:
    return Assignment(JobId(f"job-{number}"), JobType("t"), 1, Token(f"token-{number}"), 60.0, PAYLOAD)


def a_report(number: int) -> AttemptReport:
    return AttemptReport(Token(f"token-{number}"), Outcome.OK, PAYLOAD, job_id=JobId(f"job-{number}"))


def commit(file: SqliteJobStore | Journal, number: int) -> None:
    """Commit item `number`, whose parts must become durable together."""
    if isinstance(file, SqliteJobStore):
        file.commit([SaveJob(a_job(number), PAYLOAD), SaveAttempt(an_attempt(number))])
    else:
        file.commit(
            [Accept(an_assignment(number)), MarkStarted(Token(f"token-{number}")), RecordOutcome(a_report(number))]
        )


def main(kind: str, path: str, most_bytes: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes), int(most_bytes)))
    try:
        file = OPENERS[kind](Path(path))
        for number in count(1):
            commit(file, number)
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
    except StoreError as error:
        sys.stdout.write(f"{error}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
