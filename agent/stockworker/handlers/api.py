"""What a Python handler sees: the job that it is to do, and the context that it does it in.

A handler is a function ``handle(job, context)`` that returns the job's result: any value that JSON can hold. It runs
in a child process, never in the agent's own. The same job may run more than once (at-least-once execution): use
`Job.id` and `Job.attempt` to be idempotent.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Json = Any  # what json.loads returns: untyped by nature


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at a job."""

    id: str
    type: str
    attempt: int
    payload: Json


class PermanentError(Exception):
    """Raised by a handler when trying again can't help: the job fails at once, its retries are not used up."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may use while it runs.

    Attributes:
        log: records logged here reach the agent's log under the job's id.
        settings: the options of the job type from the configuration (``handlers.<type>.settings``), and
            ``market_data``, where the market-data store is.
        progress: ``progress(fraction, message)`` tells whoever watches how far the job is; 0.0 to 1.0. Calls are
            rate-limited, so call it as often as is convenient.
        cancelled: ``cancelled()`` is true once the job should stop: it was cancelled, its time is up, or the
            agent is stopping. A handler that does not look is killed after a grace period.
    """

    log: logging.Logger
    settings: Mapping[str, Json]
    progress: Callable[[float, str], None]
    cancelled: Callable[[], bool]


Handler = Callable[[Job, Context], Json]
