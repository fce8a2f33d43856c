"""What the programs log: a catalogue of events (`events`), and how an event becomes a line (`record`, `lines`).

    log_event(logger, JobFailed(job=job.id, type=job.type, …))

A payload or a result is never logged, and no value can forge a line: see `lines.escaped`.
"""

from stockworker.logs import metrics_events, web_events, worker_events
from stockworker.logs.detached import detach, finish
from stockworker.logs.events import LogEvent
from stockworker.logs.record import log_event
from stockworker.logs.setup import configure, escape_warnings, report_left_out

__all__ = [
    "LogEvent",
    "configure",
    "detach",
    "escape_warnings",
    "finish",
    "log_event",
    "metrics_events",
    "report_left_out",
    "web_events",
    "worker_events",
]
