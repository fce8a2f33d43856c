"""What the programs log: a catalogue of events (`events`), and how a record becomes a line (`lines`).

    log_event(logger, Event.JOB_STARTED, job=job.id, type=job.type, attempt=job.attempt)

A payload or a result is never logged, and no value can forge a line: see `lines.escaped`.
"""

from stockworker.logs.events import Event, log_event
from stockworker.logs.setup import configure

__all__ = ["Event", "configure", "log_event"]
