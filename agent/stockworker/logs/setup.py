"""Configures where log lines go, and in which form."""

import logging
import os
from collections.abc import Callable
from typing import Literal, TextIO

from stockworker.logs.detached import detached, standard_error
from stockworker.logs.flood import FloodFilter
from stockworker.logs.lines import Render, bare_line, for_journal, json_line, text_line


def configure(
    level: str = "info",
    format: Literal["auto", "text", "json"] = "auto",  # noqa: A002 (named as in the configuration)
    stream: TextIO | None = None,
    journal: Callable[[logging.Handler], logging.Handler] | None = None,
) -> None:
    """Send all log records of this process to one place. A second call replaces the settings.

    Args:
        level: the least important level that is logged: debug, info, warning or error.
        format: `json` or `text`. `auto` means `text`, unless `journal` is used.
        stream: None means standard error. If systemd connected the stream to its journal, each line carries its
            priority instead of a time.
        journal: makes the handler that writes entries to the systemd journal. It is called with the handler that
            writes to the stream, as a fallback. It is used only for `auto`, and only if the stream leads to the
            systemd journal.
    """
    stream = stream or standard_error()
    to_journal = _is_journal(stream)
    handler: logging.Handler = _StreamHandler(stream)
    handler.setFormatter(_Formatter(_render(format, journal=to_journal)))
    if journal is not None and to_journal and format == "auto":
        handler = journal(handler)
    handler = detached(handler)
    handler.addFilter(FloodFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # At debug level gmqtt logs whole packets, payloads included. Warnings are tracebacks of losses, which `LinkDown` covers.
    logging.getLogger("gmqtt").setLevel(logging.ERROR)


def escape_warnings() -> None:
    """Print warnings of libraries without control characters, in a program that does not call `configure`."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter(text_line))


def report_left_out(now: float) -> None:
    """Log how many lines were left out, once their minute is over. Call it now and then.

    Args:
        now: seconds since the epoch; infinity at the end of the process.
    """
    for handler in logging.getLogger().handlers:
        for each in handler.filters:
            if isinstance(each, FloodFilter):
                each.report(now)


class _StreamHandler(logging.StreamHandler[TextIO]):
    """Raises if a line can't be written: printing the failure to the same stream, as `logging` does, can't help."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 (as in the standard library)
        raise  # noqa: PLE0704 (called by `emit` in its exception handler)


class _Formatter(logging.Formatter):
    def __init__(self, render: Render) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        return self._render(record)


def _render(form: str, *, journal: bool) -> Render:
    if journal:
        return for_journal(json_line if form == "json" else bare_line)
    return json_line if form == "json" else text_line


def _is_journal(stream: TextIO) -> bool:
    """Return whether systemd connected `stream` to its journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # the stream has no file, or is closed
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
