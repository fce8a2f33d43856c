"""The catalogue of log events, continued: metrics, the loss meter and notifications. PURE."""

from stockworker.logs.event import HERE, LogEvent, LogLevel, peer
from stockworker.logs.event import declare as _event


@_event(
    LogLevel.ERROR,
    HERE,
    "can't write the metrics",
    "The service goes on without them, and tries again. Logged once until a file is written. See docs/monitoring.md.",
)
class MetricsUnwritten(LogEvent):
    file: str
    reason: str


@_event(
    LogLevel.WARNING,
    peer("type"),
    "a tracer is lost",
    "A message that travels the way of a job did not return, so others may be lost as well. `stage` is what is missing: "
    "`receipt`, `notice` or `subscriber`. See docs/monitoring.md.",
)
class TracerLost(LogEvent):
    type: str
    stage: str


@_event(
    LogLevel.WARNING,
    peer("worker"),
    "a worker did not answer a tracer",
    "The worker is connected, and sends other messages. Check the access list of the broker with `stockworker check` on the "
    "machine of the worker.",
)
class TracerUnanswered(LogEvent):
    worker: str
    type: str


@_event(
    LogLevel.WARNING,
    HERE,
    "no tracers: the broker refuses them",
    "The access list of the broker is older than this dispatcher, or the broker refuses a second connection. "
    "`stockworker broker setup` writes a new one. The dispatcher goes on without tracers.",
)
class TracersRefused(LogEvent):
    reason: str


@_event(
    LogLevel.WARNING,
    HERE,
    "a notification was not delivered",
    "The dispatcher tries again, with longer and longer pauses. Logged once until a notification is delivered or given up. "
    "`stockworker check --notify` sends a test notification.",
)
class NotificationDelayed(LogEvent):
    reason: str


@_event(
    LogLevel.ERROR,
    HERE,
    "a notification was given up",
    "No person was informed of these occurrences. The log has the failed jobs.",
)
class NotificationLost(LogEvent):
    occurrences: int
    reason: str
