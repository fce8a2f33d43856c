"""Output of commands: messages to standard error, JSON to standard output."""

import json
import sys
from typing import Any

from stockworker.logs.lines import escaped


def complain(text: str) -> None:
    """Print an error message, with a prefix before each line."""
    for line in text.splitlines():
        print(f"stockworker: error: {escaped(line)}", file=sys.stderr)


def note(text: str) -> None:
    """Print a message that is not an error."""
    print(f"stockworker: {escaped(text)}", file=sys.stderr)


def print_json(fields: Any) -> None:
    """Print one JSON value on a line; ASCII only, so that it does not depend on the terminal or the locale."""
    print(json.dumps(fields), flush=True)


class StatusLine:
    """A line on standard error that is overwritten; shown only on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = sys.stderr.isatty() and not quiet

    def show(self, text: str) -> None:
        """Replace the line by `text`."""
        if self._shown:
            print(f"\r\x1b[K{escaped(text)}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Erase the line. Call it before anything else is printed."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
