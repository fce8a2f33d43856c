"""How an event becomes a record of the standard library's `logging`."""

import logging

from stockworker.logs.events import LogEvent


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
        extra = {"event": event, "fields": event.values(), "stack": stack}
        logger.log(level, event.text, exc_info=exc_info, extra=extra)
