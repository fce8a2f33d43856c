"""What a command says to people on standard error, and to programs on standard output."""

import json
import sys
from typing import Any

from stockworker.logs.lines import escaped


def complain(text: str) -> None:
    """Say what went wrong, a line each."""
    for line in text.splitlines():
        print(f"stockworker: error: {escaped(line)}", file=sys.stderr)


def note(text: str) -> None:
    """Say what is worth knowing and no error."""
    print(f"stockworker: {escaped(text)}", file=sys.stderr)


def print_json(fields: Any) -> None:
    """Print one JSON value on a line of its own; only ASCII, so that no terminal and no locale can spoil it."""
    print(json.dumps(fields), flush=True)


class StatusLine:
    """One line on standard error that is written over again and again; nothing where nobody looks at it."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = sys.stderr.isatty() and not quiet

    def show(self, text: str) -> None:
        """Put `text` in place of what stands there."""
        if self._shown:
            print(f"\r\x1b[K{escaped(text)}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away, before anything else is printed."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
