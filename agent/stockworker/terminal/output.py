"""What commands print: the only place that writes to the terminal. Lines to standard output, messages to standard error."""

# A terminal obeys what is printed on it, and remote text may be anything. So everything that is printed goes through
# `printable`, the line as a whole: no field, file name or error text can be forgotten. JSON is ASCII, where every such
# character is escaped already. A result or a generated file keeps each byte where no terminal reads it.

import io
import json
import os
import sys
from collections.abc import Iterable
from typing import Any, Final, TextIO

from stockworker.logs.lines import printable
from stockworker.terminal.colour import pieces

# An error while writing does not stop a command: it finishes its work. Afterwards `flush_output` returns the error, which
# has an exit status of its own. Only a closed pipe stops a command, because its reader does not want more.

_ERASE_LINE: Final = "\r\x1b[K"
_HOME_AND_CLEAR: Final = "\x1b[H\x1b[2J"


_lost: list[OSError] = []
"""Errors while writing standard output."""


def open_streams() -> None:
    """Give a process that was started without some standard streams empty ones, and make all text printable.

    Without them, files that are opened later would get their numbers, and messages for the user would go there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _discard(number)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115 (descriptors for the life of the process)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the encoding of the terminal can't show


def flush_output() -> OSError | None:
    """Write what is left; return the first error of all writes."""
    write(sys.stdout, "", flush=True)
    return _lost[0] if _lost else None


def write(stream: TextIO, text: str, *, flush: bool = False) -> None:
    """Write text; remember that it was lost if it can't be written."""
    try:
        print(text, end="", file=stream, flush=flush)
    except BrokenPipeError:
        raise
    except OSError as error:
        if stream is sys.stdout:
            _lost.append(error)
        _discard(stream.fileno())  # Python keeps the text, and would fail again at its exit


def _discard(descriptor: int) -> None:
    """Let a descriptor discard everything."""
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != descriptor:
        os.dup2(nothing, descriptor)
        os.close(nothing)


def discard_output() -> None:
    """Discard what is left to write, because its reader has left."""
    _discard(sys.stdout.fileno())


def print_line(text: object) -> None:
    """Print a line."""
    print_lines([text if isinstance(text, str) else str(text)])


def print_lines(lines: Iterable[str]) -> None:
    """Print lines."""
    write(sys.stdout, "".join(f"{_on_terminal(line)}\n" for line in lines), flush=True)


def _on_terminal(line: str) -> str:
    return "".join(pieces(line, printable))


def print_screen(lines: Iterable[str]) -> None:
    """Print lines; on a terminal, in place of all that it shows."""
    if sys.stdout.isatty():
        write(sys.stdout, _HOME_AND_CLEAR)
    print_lines(lines)


def print_document(text: str) -> None:
    """Print a result or the content of a file: unchanged, but for a terminal."""
    if sys.stdout.isatty():
        text = "\n".join(map(printable, text.split("\n")))
    write(sys.stdout, text if text.endswith("\n") else f"{text}\n", flush=True)


def print_json(fields: Any) -> None:
    """Print one JSON value on a line; ASCII only, so that it does not depend on the terminal or the locale."""
    write(sys.stdout, f"{json.dumps(fields)}\n", flush=True)


def complain(text: str) -> None:
    """Print an error message, with a prefix before each line."""
    for line in text.splitlines():
        write(sys.stderr, f"stockworker: error: {printable(line)}\n")


def note(text: str) -> None:
    """Print a message that is not an error."""
    write(sys.stderr, f"stockworker: {printable(text)}\n")


class StatusLine:
    """A line on standard error that is overwritten; shown only on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = sys.stderr.isatty() and not quiet

    def show(self, text: str) -> None:
        """Replace the line by `text`."""
        if self._shown:
            write(sys.stderr, f"{_ERASE_LINE}{printable(text)}", flush=True)

    def clear(self) -> None:
        """Erase the line. Call it before anything else is printed."""
        if self._shown:
            write(sys.stderr, _ERASE_LINE, flush=True)
