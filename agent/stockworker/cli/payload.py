"""Payloads on the command line: JSON text from an argument, a file or standard input."""

import sys
from pathlib import Path
from typing import Final

from stockworker.errors import unread
from stockworker.protocol.fields import parse_json
from stockworker.terminal.exits import UsageError

_HINT: Final = """A payload is JSON in single quotes: '{"symbol": "ACME"}', 5, or '"text"'"""


def read_payload(given: str | None) -> str:
    """Read the payload that an argument names; without an argument it is ``null``.

    Args:
        given: JSON text; or ``@file``; or ``-`` for standard input.

    Raises:
        UsageError: the file is not readable, or the text is not valid JSON; the message names the place.
    """
    if given is None:
        return "null"
    if given == "-":
        source, content = "standard input", sys.stdin.buffer.read()
    elif given.startswith("@"):
        source, content = given[1:], read_file(given[1:])
    else:
        source, content = "payload", given.encode(errors="surrogateescape")
    try:
        text = content.decode()
        parse_json(text)
    except ValueError as error:  # UnicodeDecodeError is one
        raise UsageError(f"{source}: {error}. {_HINT}") from None
    return text


def read_file(name: str) -> bytes:
    """Read a file.

    Raises:
        UsageError: the file is not readable.
    """
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: can't be read: {unread(error)}") from None
