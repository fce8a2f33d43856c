"""Files, pipes and standard input that a person names on the command line. None of them is read without a bound."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from stockworker.errors import unread
from stockworker.protocol.frozen import dataclass
from stockworker.terminal.exits import UsageError

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class LineBounds:
    """How much is read of a file with a record in each line: bytes of a line, and lines and bytes of the file."""

    line_bytes: int
    lines: int
    bytes: int


def name_of(given: str) -> str:
    """How errors call it."""
    return "standard input" if given == STANDARD_INPUT else given


def read_given(given: str, most_bytes: int, what: str, remedy: str) -> bytes:
    """Read a file to its end, or standard input.

    Args:
        given: the path, or `-`.
        most_bytes: bound of the content.
        what: what it is, for the error if there are more bytes.
        remedy: what to do then.

    Raises:
        UsageError: it is not readable, or has more bytes. The text has the name.
    """
    try:
        with _opened(given) as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise _unreadable(given, error) from None
    if len(content) > most_bytes:
        raise UsageError(f"{name_of(given)}: {what} is too large, more than {most_bytes:,} bytes; {remedy}")
    return content


def read_lines(given: str, bounds: LineBounds) -> Iterator[bytes]:
    """Read a file, or standard input, line by line.

    Raises:
        UsageError: as for `read_given`; for a line that is too long, the text has its number.
    """
    name, total, number = name_of(given), 0, 0
    try:
        with _opened(given) as file:
            while line := file.readline(bounds.line_bytes + 1):
                number, total = number + 1, total + len(line)
                if len(line) > bounds.line_bytes:
                    raise UsageError(
                        f"{name}:{number}: is longer than {bounds.line_bytes:,} bytes; write one record per line, and "
                        "send references to large data"
                    )
                if number > bounds.lines or total > bounds.bytes:
                    raise UsageError(
                        f"{name}: has more than {bounds.lines:,} lines or {bounds.bytes:,} bytes; split it, for example with "
                        "'split --lines 100000'"
                    )
                yield line
    except OSError as error:
        raise _unreadable(given, error) from None


def first_line(given: str, most_bytes: int) -> bytes:
    """Read the first line, without its end.

    Raises:
        UsageError: it is longer.
        OSError: the file is not readable.
    """
    with _opened(given) as file:
        line = file.readline(most_bytes + 1)
    if len(line) > most_bytes:
        raise UsageError(f"{name_of(given)}: the first line is longer than {most_bytes:,} bytes; name the right file")
    return line.rstrip(b"\n")


def _opened(given: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if given == STANDARD_INPUT else Path(given).open("rb")


def _unreadable(given: str, error: OSError) -> UsageError:
    return UsageError(f"{name_of(given)}: can't be read: {unread(error)}")
