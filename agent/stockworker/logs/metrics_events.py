"""The catalogue of log events, continued: the metrics of both services. PURE."""

from stockworker.logs.event import HERE, LogEvent, LogLevel
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
