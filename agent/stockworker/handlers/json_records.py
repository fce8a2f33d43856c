"""Reads the records of a JSON file one by one, so that the file takes no more memory than its longest record."""

# A file of a few kilobytes, packed, can contain millions of empty lists: as Python objects, they need thirty times the
# bytes of the file. So the brackets around the records are read here, and each record by itself, in a window on the text.

import re
from collections.abc import Iterator
from typing import Any, Final, TextIO

from stockworker.protocol.fields import FieldError, parse_json_at

LONGEST_RECORD: Final = 65_536
"""Characters in a record, or in any other value beside the list. A bar has about 150."""

_READ: Final = 2 * LONGEST_RECORD
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class NotRecords(ValueError):
    """The text is not JSON, or not a list of records."""


def read_records(stream: TextIO) -> Iterator[Any]:
    """The values of a list, or of the list in an object as ``bars``.

    Raises:
        NotRecords: the text is something else, or a value is too long.
    """
    window = _TextWindow(stream)
    if window.peek() == "[":
        yield from _items(window)
    elif window.peek() == "{":
        yield from _bars(window)
    else:
        window.value()
        raise _no_list()
    if window.peek():
        raise NotRecords(f"is not JSON: more text after its end, at character {window.place}")


def _items(window: "_TextWindow") -> Iterator[Any]:
    window.take("[")
    if window.peek() == "]":
        window.take("]")
        return
    separator = ","
    while separator == ",":
        yield window.value()
        separator = window.take(",]")


def _bars(window: "_TextWindow") -> Iterator[Any]:
    found = False
    separator = window.take("{")
    if window.peek() == "}":
        separator = window.take("}")
    while separator != "}":
        if window.peek() != '"':
            raise NotRecords(f"is not JSON: expected '\"' at character {window.place}")
        name = window.value()
        window.take(":")
        if name != "bars":
            window.value()
        elif found or window.peek() != "[":
            raise _no_list()
        else:
            found = True
            yield from _items(window)
        separator = window.take(",}")
    if not found:
        raise _no_list()


def _no_list() -> NotRecords:
    return NotRecords("expected a list of bars, or an object with such a list as bars")


class _TextWindow:
    """The part of a text that is being read; at least a longest record of it, until the text ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._next = 0
        self._before = 0

    @property
    def place(self) -> int:
        """Where the next character is in the whole text."""
        return self._before + self._next

    def peek(self) -> str:
        """The next character that is not white space; empty at the end of the text."""
        more = True
        while more:
            end = _SPACE.match(self._text, self._next)
            self._next = self._next if end is None else end.end()
            if self._next < len(self._text):
                return self._text[self._next]
            more = self._fill()
        return ""

    def take(self, expected: str) -> str:
        """Go past the next character, which must be one of these."""
        found = self.peek()
        if not found or found not in expected:
            wanted = " or ".join(map(repr, expected))
            raise NotRecords(f"is not JSON: expected {wanted} at character {self.place}")
        self._next += 1
        return found

    def value(self) -> Any:
        """Go past the next value."""
        self.peek()
        more = len(self._text) - self._next > LONGEST_RECORD or self._fill()
        try:
            value, end = parse_json_at(self._text, self._next)
        except FieldError as error:
            hint = f", or a value has more than {LONGEST_RECORD:,} characters" if more else ""
            raise NotRecords(f"{error}, in the value at character {self.place}{hint}") from error
        if end - self._next > LONGEST_RECORD:
            raise NotRecords(f"the value at character {self.place} has more than {LONGEST_RECORD:,} characters")
        self._next = end
        return value

    def _fill(self) -> bool:
        """Move the window on; whether the text goes on."""
        text = self._stream.read(_READ)
        self._before += self._next
        self._text = self._text[self._next :] + text
        self._next = 0
        return bool(text)
