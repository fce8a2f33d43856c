"""Reads the records of a JSON file one by one, so that the file takes no more memory than its longest record."""

# A file of a few kilobytes, packed, can contain millions of empty lists: as Python objects, they need thirty times the
# bytes of the file. So the brackets around the records are read here, and each record by itself, in a window on the text.
# The columns of a file that has a list for each field are the exception: all of them are needed for the first row. So
# their values are counted, and kept as numbers and short texts.

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, Final, TextIO

from stockworker.market.source_format import Layout
from stockworker.protocol.fields import FieldError, parse_json_at
from stockworker.protocol.frozen import dataclass

LONGEST_RECORD: Final = 65_536
"""Characters in a record, or in any other value beside the list. A bar has about 150."""

_READ: Final = 2 * LONGEST_RECORD
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_STEP: Final = re.compile(r"\[(\d{1,6})\]|([^.\[\]]+)")
_MOST_DEPTH: Final = 10
_MOST_COLUMNS: Final = 100
_LONGEST_MESSAGE: Final = 200


class NotRecords(ValueError):
    """The text is not JSON, or not a list of records.

    Attributes:
        message: the first text in an object without records: perhaps the message of a provider.
    """

    def __init__(self, text: str, message: str = "") -> None:
        super().__init__(text)
        self.message = message


@dataclass(frozen=True, slots=True)
class Lists:
    """Which lists of an object with a list for each field are read.

    Attributes:
        wanted: whether a name is that of a field.
        most_values: how many values the lists may have together.
    """

    wanted: Callable[[str], bool]
    most_values: int


def read_records(
    stream: TextIO, path: str | None = None, layout: Layout = Layout.ROWS, columns: Lists | None = None
) -> Iterator[Any]:
    """The records of a JSON text.

    Args:
        stream: the text.
        path: the way to the records; by default they are the text, or under ``bars`` in an object.
        layout: how they are arranged. `Layout.BY_DATE` gives records whose ``date`` is their key, and `Layout.COLUMNS`
            records of the values with the same place.
        columns: which ones are read if that is the layout; by default all.

    Raises:
        NotRecords: the text is something else, or a value is too long.
    """
    window = _TextWindow(stream)
    if layout is Layout.LINES:
        while window.peek():
            yield window.value()
        return
    if path is None and layout is Layout.ROWS and window.peek() == "{":
        path = "bars"
    yield from _Walk(layout, columns or Lists(lambda _name: True, 1_000_000)).to(window, _steps(path or ""))
    if window.peek():
        hint = "; if each line is a value, set layout to lines" if window.peek() == "{" else ""
        raise NotRecords(f"is not JSON: more text after its end, at character {window.place}{hint}")


ABSENT: Final = object()
"""What `read_value` finds where there is nothing, not even null."""


def read_value(stream: TextIO, path: str) -> Any:
    """The value at a path in a JSON text, or None if it is a list or an object; `ABSENT` if there is no such value.

    Raises:
        NotRecords: the text is not JSON, or a value is too long.
    """
    window = _TextWindow(stream)
    return _value_at(window, _steps(path)) if window.peek() else ABSENT


def _value_at(window: "_TextWindow", steps: list[int | str]) -> Any:
    if not steps:
        return window.skip(_MOST_DEPTH)
    found = ABSENT
    opening = "[" if isinstance(steps[0], int) else "{"
    if window.peek() != opening:
        window.skip(_MOST_DEPTH)
        return ABSENT
    for name in _members(window) if opening == "{" else _places(window):
        if _fits(name, steps[0]):
            found = _value_at(window, steps[1:])
        else:
            window.skip(_MOST_DEPTH)
    return found


def _steps(path: str) -> list[int | str]:
    return [int(index) if index else key for index, key in _STEP.findall(path)]


def _fits(name: int | str, step: int | str) -> bool:
    """Whether a name is the one of a step, in which ``*`` is any text."""
    return name == step or (isinstance(step, str) and "*" in step and fnmatchcase(str(name)[:_LONGEST_MESSAGE], step))


class _Walk:
    """The way to the records, and how they are arranged there."""

    def __init__(self, layout: Layout, columns: Lists) -> None:
        self._layout = layout
        self._wanted = columns.wanted
        self._values_left = columns.most_values
        self._message = ""
        self._names: list[str] = []

    def to(self, window: "_TextWindow", steps: list[int | str]) -> Iterator[Any]:
        """Follow the steps through this value, and give the records at their end."""
        if not steps:
            yield from self._records(window)
            return
        step, rest = steps[0], steps[1:]
        opening = "[" if isinstance(step, int) else "{"
        if window.peek() != opening:
            window.skip(_MOST_DEPTH)
            raise self._no_list()
        found = False
        for name in _members(window) if opening == "{" else _places(window):
            is_step = _fits(name, step)
            if is_step and not found:
                found = True
                yield from self.to(window, rest)
            elif is_step:
                raise self._no_list()
            else:
                self._note(name, window)
        if not found:
            raise self._no_list()

    def _records(self, window: "_TextWindow") -> Iterator[Any]:
        wanted = "[" if self._layout is Layout.ROWS else "{"
        if window.peek() != wanted:
            self._note("", window)
            raise self._no_list()
        match self._layout:
            case Layout.BY_DATE:
                for day in _members(window):
                    value = window.value()
                    yield {"date": day, **value} if isinstance(value, dict) else value
            case Layout.COLUMNS:
                yield from self._columns(window)
            case _:
                for _place in _places(window):
                    yield window.value()

    def _columns(self, window: "_TextWindow") -> Iterator[Any]:
        columns: dict[str, list[Any]] = {}
        self._collect(window, columns, _MOST_DEPTH)
        if not columns:
            raise self._no_list()
        if len({len(values) for values in columns.values()}) > 1:
            raise NotRecords("the lists of its fields differ in length")
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))

    def _collect(self, window: "_TextWindow", columns: dict[str, list[Any]], depth: int, name: str = "") -> None:
        """Gather the lists of plain values in an object, by their names."""
        if depth == 0:
            raise NotRecords("is nested too deeply")
        if window.peek() == "{":
            for member in _members(window):
                self._collect(window, columns, depth - 1, member)
        elif window.peek() != "[":
            self._note(name, window)
        else:
            is_wanted = self._wanted(name) and name not in columns and len(columns) < _MOST_COLUMNS
            values: list[Any] | None = [] if is_wanted else None
            for _place in _places(window):
                if window.peek() in {"{", "["}:
                    values = None
                    self._collect(window, columns, depth - 1, name)
                else:
                    self._keep(window.value(), values)
            if values is not None:
                columns[name] = values

    def _keep(self, value: Any, values: list[Any] | None) -> None:
        if values is not None:
            values.append(value)
            self._values_left -= 1
            if self._values_left < 0:
                raise NotRecords("has too many values; split the file, or increase limit_rows of the worker")

    def _note(self, name: int | str, window: "_TextWindow") -> None:
        """Go past a value beside the records, and remember what an error may show of it."""
        value = window.skip(_MOST_DEPTH)
        if len(self._names) < _MOST_DEPTH:
            self._names.append(str(name)[:40])
        if isinstance(value, str) and len(value) > len(self._message):
            self._message = value[:_LONGEST_MESSAGE]

    def _no_list(self) -> NotRecords:
        names = ", ".join(filter(None, self._names))
        shown = f"; its keys are {names}"[:_LONGEST_MESSAGE] if names else ""
        said = f"; its message is: {self._message}" if self._message else ""
        plain = "expected a list of bars, or an object with such a list as bars; set path and layout for another one"
        return NotRecords(plain, f"{shown}{said}")


def _places(window: "_TextWindow") -> Iterator[int]:
    """Go through a list: the caller must read a value after each step."""
    window.take("[")
    if window.peek() == "]":
        window.take("]")
        return
    place, separator = 0, ","
    while separator == ",":
        yield place
        place += 1
        separator = window.take(",]")


def _members(window: "_TextWindow") -> Iterator[str]:
    """Go through an object: the caller must read a value after each name."""
    separator = window.take("{")
    if window.peek() == "}":
        separator = window.take("}")
    while separator != "}":
        if window.peek() != '"':
            raise NotRecords(f"is not JSON: expected '\"' at character {window.place}")
        name = window.value()
        window.take(":")
        yield name
        separator = window.take(",}")


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

    def skip(self, depth: int) -> Any:
        """Go past the next value, however long its lists are; return it if it is neither a list nor an object."""
        if depth == 0 or self.peek() not in {"{", "["}:
            return self.value()
        for _ in _members(self) if self.peek() == "{" else _places(self):
            self.skip(depth - 1)
        return None

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
