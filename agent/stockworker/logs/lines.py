"""Turns a log record into a line: text for people, JSON for programs; either one with a priority for the systemd journal."""

import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

Render = Callable[[logging.LogRecord], str]

MAX_VALUE_CHARACTERS = 2000
_BARE = re.compile(r"[^\s\"'=\\]+")
# sd-daemon(3): the number in "<N>" at the start of a line is its syslog priority.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7
_TRACEBACK_MARGIN = "    | "
_TRACEBACKS = logging.Formatter()


def text_line(record: logging.LogRecord) -> str:
    """Return time, level, text and fields. A traceback follows on separate lines, each behind a margin."""
    return f"{_time(record)} {record.levelname:<7} {bare_line(record)}"


def bare_line(record: logging.LogRecord) -> str:
    """Return what `text_line` does without time and level, which the systemd journal adds itself."""
    text = escaped(record.getMessage())
    if "event" not in record.__dict__:
        text = f"{record.name}: {text}"
    fields = "".join(f" {name}={_value(value)}" for name, value in _fields(record).items())
    traceback = "".join(f"\n{_TRACEBACK_MARGIN}{escaped(line)}" for line in _traceback(record).splitlines())
    return f"{text}{fields}{traceback}"


def json_line(record: logging.LogRecord) -> str:
    """Return one JSON object in ASCII, so that no terminal and no line splitter can misread it."""
    entry: dict[str, object] = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
    if event := record.__dict__.get("event"):
        entry["event"] = event.name
    entry["text"] = record.getMessage()
    entry |= {name: _json(value) for name, value in _fields(record).items()}
    if traceback := _traceback(record):
        entry["exception"] = traceback
    return json.dumps(entry)


def for_journal(render: Render) -> Render:
    """Return a renderer that puts the priority before each line, in the notation of sd-daemon(3)."""

    def rendered(record: logging.LogRecord) -> str:
        return "\n".join(f"<{priority(record.levelno)}>{line}" for line in render(record).split("\n"))

    return rendered


def priority(level: int) -> int:
    """Return the syslog(3) priority of a `logging` level."""
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG_PRIORITY)


def escaped(text: str) -> str:
    r"""Return `text` on one line: characters that can't be printed are escaped as in Python, a line feed as ``\n``.

    This covers terminal escapes, Unicode line separators and the marks that reverse the writing direction. A client
    that chooses a job ID or an error text must not be able to forge or hide a line.
    """
    return printable(text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[:MAX_VALUE_CHARACTERS]}...")


def printable(text: str) -> str:
    """Return `text` on one line as `escaped` does, however long it is."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _value(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if _BARE.fullmatch(text) and text.isprintable():
        return escaped(text)
    return '"' + escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _json(value: object) -> object:
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)[:MAX_VALUE_CHARACTERS]


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields: Mapping[str, object] = record.__dict__.get("fields", {})
    return {name: value for name, value in fields.items() if value is not None}


def _traceback(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[0]:
        return _TRACEBACKS.formatException(record.exc_info)
    stack: str | None = record.__dict__.get("stack")
    return stack or ""


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
