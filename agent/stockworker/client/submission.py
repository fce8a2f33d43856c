"""A job as a program describes it, checked before anything is sent."""

import json
import math
from random import SystemRandom
from typing import Any, Final, Unpack

from stockworker.adapters import clock
from stockworker.errors import JobRejected
from stockworker.protocol.body import fits
from stockworker.protocol.fields import FieldError
from stockworker.protocol.ids import JobId, JobType, check_id, make_job_id
from stockworker.protocol.job import NEVER_RUNS, PRIORITY_BY_LABEL, JobArguments, JobOptions
from stockworker.protocol.messages import Submission
from stockworker.protocol.wire import Unordered, plan_of

_ENTROPY: Final = SystemRandom()
_OPTIONS: Final = {each.attribute: each for each in plan_of(JobOptions).fields}


def make_submission(
    job_type: str,
    payload: Any = None,
    *,
    text: str | None = None,
    id: str | None = None,  # noqa: A002 (the word for it everywhere else)
    priority: str = "normal",
    **options: Unpack[JobArguments],
) -> Submission:
    """Describe a job.

    Args:
        job_type: which handler runs it.
        payload: any value that JSON can hold.
        text: the payload as it is, instead of `payload`.
        id: the job's ID; made here if absent. Submitting an ID again is harmless while the job is known.
        priority: high, normal or low.
        options: `stockworker.protocol.job.JobOptions` explains them; None is the dispatcher's default.

    Raises:
        JobRejected: a value can't be used, or the payload is too large; the text names it and its bounds.
    """
    if priority not in PRIORITY_BY_LABEL:
        raise JobRejected(f"priority {priority!r} is not one of {', '.join(PRIORITY_BY_LABEL)}")
    try:
        body = json.dumps(payload, ensure_ascii=False, allow_nan=False) if text is None else text
        body.encode()
        if not fits(body):
            raise JobRejected("the payload is too large; put the data where workers can fetch it, and send a reference")
        checked = {name: _checked(name, value) for name, value in options.items() if value is not None}
        if checked.get("expires_at", math.inf) <= checked.get("not_before", -math.inf):
            raise JobRejected(NEVER_RUNS)
        return Submission(
            job_id=make_job_id(clock.wall(), _ENTROPY) if id is None else JobId(check_id(id)),
            type=JobType(check_id(job_type)),
            priority=PRIORITY_BY_LABEL[priority],
            payload=body,
            **checked,
        )
    except (ValueError, TypeError) as error:
        raise JobRejected(str(error)) from None


def _checked(name: str, value: Any) -> Any:
    """The value of an option, within the bounds that the wire has for it."""
    if name not in _OPTIONS:
        raise TypeError(f"a job has no option {name!r}; options are {', '.join(_OPTIONS)}")
    kind = _OPTIONS[name].kind
    try:
        return kind.read(list(value) if isinstance(kind, Unordered) else value)
    except FieldError as error:
        raise JobRejected(f"{name} {value!r}: {error}") from None
