"""Calls a built-in handler as a child process would."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stockworker.handlers.api import Context, Handler, Job


@dataclass(slots=True)
class HandlerRun:
    """One handler with its settings; `progress` keeps what it has reported."""

    job_type: str
    handler: Handler
    settings: dict[str, Any]
    progress: list[float] = field(default_factory=list)
    cancelled: Callable[[], bool] = lambda: False

    def __call__(self, payload: Any) -> Any:
        context = Context(
            log=logging.getLogger("test"),
            settings=self.settings,
            progress=lambda fraction, _message: self.progress.append(fraction),
            cancelled=self.cancelled,
        )
        return self.handler(Job(id="job-1", type=self.job_type, attempt=1, payload=payload), context)
