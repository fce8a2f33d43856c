"""How an event becomes a record of the standard library's `logging`."""

import logging

from stockworker.logs.event import LogEvent

_log = logging.getLogger(__name__)


def log_event(
    logger: logging.Logger,
    event: LogEvent,
    *,
    level: int | None = None,
    exc_info: BaseException | None = None,
    stack: str | None = None,
) -> None:
    """Log one event of the catalogue.

    Args:
        logger: the logger of the calling module.
        event: what happened.
        level: replaces the event's own level, for `HandlerLog` and `CertificateExpires`.
        exc_info: an exception whose traceback is logged as well.
        stack: lines of a stack that is logged as well.
    """
    if logger.isEnabledFor(level := level or event.level):
        logger.log(level, event.text, exc_info=exc_info, extra=_extra(event, stack))


def as_record(event: LogEvent) -> logging.LogRecord:
    """A record for one handler alone."""
    return _log.makeRecord(_log.name, event.level, "", 0, event.text, (), None, extra=_extra(event, None))


def _extra(event: LogEvent, stack: str | None) -> dict[str, object]:
    return {"event": event, "fields": event.values(), "stack": stack}
