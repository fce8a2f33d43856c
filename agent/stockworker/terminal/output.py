"""What commands print: the only place that writes to the terminal. Lines to standard output, messages to standard error."""

# A terminal obeys what is printed on it, and remote text may be anything. So everything that is printed goes through
# `printable`, the line as a whole: no field, file name or error text can be forgotten. JSON is ASCII, where every such
# character is escaped already. A result or a generated file keeps each byte where no terminal reads it.

import json
import sys
from collections.abc import Iterable
from typing import Any, Final

from stockworker.logs.lines import printable

_ERASE_LINE: Final = "\r\x1b[K"
_HOME_AND_CLEAR: Final = "\x1b[H\x1b[2J"


def print_line(text: object) -> None:
    """Print a line."""
    print(printable(str(text)), flush=True)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines."""
    print("".join(f"{printable(line)}\n" for line in lines), end="", flush=True)


def print_screen(lines: Iterable[str]) -> None:
    """Print lines; on a terminal, in place of all that it shows."""
    if sys.stdout.isatty():
        print(_HOME_AND_CLEAR, end="")
    print_lines(lines)


def print_document(text: str) -> None:
    """Print a result or the content of a file: unchanged, but for a terminal."""
    if sys.stdout.isatty():
        text = "\n".join(map(printable, text.split("\n")))
    print(text, end="" if text.endswith("\n") else "\n", flush=True)


def print_json(fields: Any) -> None:
    """Print one JSON value on a line; ASCII only, so that it does not depend on the terminal or the locale."""
    print(json.dumps(fields), flush=True)


def complain(text: str) -> None:
    """Print an error message, with a prefix before each line."""
    for line in text.splitlines():
        print(f"stockworker: error: {printable(line)}", file=sys.stderr)


def note(text: str) -> None:
    """Print a message that is not an error."""
    print(f"stockworker: {printable(text)}", file=sys.stderr)


class StatusLine:
    """A line on standard error that is overwritten; shown only on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = sys.stderr.isatty() and not quiet

    def show(self, text: str) -> None:
        """Replace the line by `text`."""
        if self._shown:
            print(f"{_ERASE_LINE}{printable(text)}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Erase the line. Call it before anything else is printed."""
        if self._shown:
            print(_ERASE_LINE, end="", file=sys.stderr, flush=True)
