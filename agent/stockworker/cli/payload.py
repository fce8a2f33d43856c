"""Payloads on the command line: JSON text from an argument, a file or standard input."""

from typing import Final

from stockworker.protocol.body import MAX_CONTENT
from stockworker.protocol.fields import parse_json
from stockworker.terminal.exits import UsageError
from stockworker.terminal.given import STANDARD_INPUT, name_of, read_given

_HINT: Final = """A payload is JSON in single quotes: '{"symbol": "ACME"}', 5, or '"text"'"""


def read_payload(given: str | None) -> str:
    """Read the payload that an argument names; without an argument it is ``null``.

    Args:
        given: JSON text; or ``@file``; or ``-`` for standard input.

    Raises:
        UsageError: the file is not readable or too large, or the text is not valid JSON; the message names the place.
    """
    if given is None:
        return "null"
    if given == STANDARD_INPUT:
        source, content = name_of(given), _read(given)
    elif given.startswith("@"):
        source, content = given[1:], _read(f"./{given[1:]}" if given[1:] == STANDARD_INPUT else given[1:])
    else:
        source, content = "payload", given.encode(errors="surrogateescape")
    try:
        text = content.decode()
        parse_json(text)
    except ValueError as error:  # UnicodeDecodeError is one
        raise UsageError(f"{source}: {error}. {_HINT}") from None
    return text


def _read(given: str) -> bytes:
    return read_given(
        given, MAX_CONTENT, "the payload", "put the data where workers can fetch it, and send a reference"
    )
