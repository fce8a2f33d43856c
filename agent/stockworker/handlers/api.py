"""The interface of a Python handler: the job that it runs, and the context that it may use.

A handler is a function ``handle(job, context)`` that returns the result of the job, as any value that JSON can hold.
It runs in a child process, never in the worker's own. The same job may run more than once (at-least-once execution):
use `Job.id` and `Job.attempt` to make it idempotent.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from stockworker.protocol.frozen import dataclass

Json = Any  # what json.loads returns: untyped by nature


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at a job.

    Attributes:
        id: the job's full ID, unique in the fleet: `OWNER:ID`, or `ID` for a shared job.
        type: the job's type.
        attempt: number of the attempt, from 1.
        payload: the input, as JSON data.
    """

    id: str
    type: str
    attempt: int
    payload: Json


class PermanentError(Exception):
    """Raised by a handler when a retry can't help: the job fails immediately, whatever attempts are left."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may use while it runs.

    Attributes:
        log: records logged here reach the worker's log with the ID of the job.
        settings: the settings of the job type from the configuration (``handlers.<type>.settings``), and
            ``market_data``, the location of the market-data store.
        progress: ``progress(fraction, message)`` publishes the progress of the job; the fraction is 0.0 to 1.0. Calls
            are rate-limited, so call it as often as is convenient.
        cancelled: ``cancelled()`` is true once the job must stop: it was cancelled, its timeout has passed, or the
            worker is stopping. A handler that ignores it is killed after a grace period.
    """

    log: logging.Logger
    settings: Mapping[str, Json]
    progress: Callable[[float, str], None]
    cancelled: Callable[[], bool]


Handler = Callable[[Job, Context], Json]
