"""Where log lines go, and in which form."""

import logging
import os
import sys
from typing import Literal, TextIO

from stockworker.logs.flood import FloodFilter
from stockworker.logs.lines import Render, bare_line, for_journal, json_line, text_line


def configure(
    level: str = "info",
    format: Literal["auto", "text", "json"] = "auto",  # noqa: A002 (named as in the configuration)
    stream: TextIO | None = None,
) -> None:
    """Send everything that is logged in this process to one stream; may be called again to change the settings.

    Args:
        level: the least important level that is logged: debug, info, warning or error.
        format: `json`, or `text`, which `auto` stands for too.
        stream: standard error if None. Where systemd has connected it to the journal, lines carry their priority
            instead of a time.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.addFilter(FloodFilter())
    handler.setFormatter(_Formatter(_render(format, journal=_is_journal(stream))))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # At debug level the MQTT client logs whole packets, payloads included; at info each connection, which we say ourselves.
    logging.getLogger("gmqtt").setLevel(max(root.level, logging.WARNING))


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
    """Whether systemd has connected `stream` to the journal: systemd.exec(5), JOURNAL_STREAM."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file behind it, or closed
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
