"""A job as a program describes it, checked before anything is sent."""

import json
from collections.abc import Iterable
from random import SystemRandom
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.errors import JobRejected
from stockworker.protocol.body import fits
from stockworker.protocol.ids import JobId, JobType, Tag, UniqueKey, check_id, make_job_id
from stockworker.protocol.job import PRIORITY_BY_LABEL
from stockworker.protocol.messages import Submission

_ENTROPY: Final = SystemRandom()


def make_submission(  # noqa: PLR0913 (each is an option of a job)
    job_type: str,
    payload: Any = None,
    *,
    text: str | None = None,
    id: str | None = None,  # noqa: A002 (the word for it everywhere else)
    priority: str = "normal",
    not_before: float | None = None,
    expires_at: float | None = None,
    timeout_s: float | None = None,
    max_attempts: int | None = None,
    backoff_s: float | None = None,
    max_crashes: int | None = None,
    tags: Iterable[str] = (),
    unique: str | None = None,
) -> Submission:
    """Describe a job.

    Args:
        job_type: which handler is to run it.
        payload: any value that JSON can hold.
        text: the payload as it is, instead of `payload`.
        id: of this job alone; made up here if absent. Submitting an id again is harmless while the job is known.
        priority: high, normal or low.
        not_before: earliest start, in seconds since the epoch.
        expires_at: latest start, in seconds since the epoch.
        timeout_s: how long an attempt may run, in seconds.
        max_attempts: how often it may fail; 1 is no retry.
        backoff_s: wait after the first failure, in seconds; doubles with each further one.
        max_crashes: how many processes it may take down.
        tags: what its worker must have.
        unique: while a job of this type with this key lives, this one is a duplicate of it.

    Raises:
        JobRejected: a value can't be used, or the payload is too large.
    """
    if priority not in PRIORITY_BY_LABEL:
        raise JobRejected(f"priority {priority!r} is none of {', '.join(PRIORITY_BY_LABEL)}")
    try:
        body = json.dumps(payload, ensure_ascii=False, allow_nan=False) if text is None else text
        body.encode()
        if not fits(body):
            raise JobRejected("the payload is too large; put the data where workers can fetch it, and send a reference")
        return Submission(
            job_id=make_job_id(clock.wall(), _ENTROPY) if id is None else JobId(check_id(id)),
            type=JobType(check_id(job_type)),
            priority=PRIORITY_BY_LABEL[priority],
            payload=body,
            not_before=not_before,
            expires_at=expires_at,
            timeout_s=timeout_s,
            max_attempts=max_attempts,
            backoff_s=backoff_s,
            max_crashes=max_crashes,
            tags=frozenset(Tag(check_id(tag)) for tag in tags),
            unique=None if unique is None else UniqueKey(check_id(unique)),
        )
    except (ValueError, TypeError) as error:
        raise JobRejected(str(error)) from None
