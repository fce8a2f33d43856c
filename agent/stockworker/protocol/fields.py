"""Untrusted bytes become typed values here, and nowhere else. Every error names the path of the field."""

import json
import math
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeVar

from stockworker.protocol.ids import check_id

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

LATEST_TIME: Final = 253_402_300_799.0
"""9999-12-31T23:59:59Z, the last second that people's tools can show."""


class FieldError(ValueError):
    """A field is missing or wrong; the text starts with its path."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON (RFC 8259, section 6)")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_json(text: str) -> Any:
    """Parse JSON text, strictly.

    Raises:
        FieldError: it is no JSON, or nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise FieldError("is nested too deeply") from None
    except ValueError as error:
        raise FieldError(f"is not JSON: {error}") from None


class Fields:
    """The fields of one JSON object, read one by one with a check. Unknown fields are ignored."""

    __slots__ = ("_object", "_path")

    def __init__(self, value: object, path: str = "") -> None:
        if type(value) is not dict:
            raise FieldError(f"{path or 'the message'}: expected an object, got {_kind(value)}")
        self._object: dict[str, Any] = value
        self._path = path

    def _fail(self, name: str, problem: str) -> NoReturn:
        raise FieldError(f"{self._path}{name}: {problem}")

    def _wrong(self, name: str, expected: str) -> NoReturn:
        if name not in self._object:
            self._fail(name, "is missing")
        self._fail(name, f"expected {expected}, got {_kind(self._object[name])}")

    def text(self, name: str, longest: int | None = None) -> str:
        """A string that UTF-8 can hold; at most `longest` characters."""
        value = self._object.get(name)
        if type(value) is not str:
            self._wrong(name, "a string")
        if longest is not None and len(value) > longest:
            self._fail(name, f"is longer than {longest} characters")
        self._check_utf8(name, value)
        return value

    def texts(self, name: str, most: int = 4096) -> tuple[str, ...]:
        """A list of strings; an absent one is empty."""
        found = []
        for index, value in enumerate(self._list(name, most, optional=True)):
            found.append(Fields({"": value}, f"{self._path}{name}[{index}]").text(""))
        return tuple(found)

    def id(self, name: str) -> str:
        """A valid id."""
        value = self._object.get(name)
        if type(value) is not str:
            self._wrong(name, "an id")
        try:
            return check_id(value)
        except ValueError as error:
            self._fail(name, str(error))

    def ids(self, name: str, most: int) -> tuple[str, ...]:
        """A list of ids; an absent one is empty."""
        found = []
        for index, value in enumerate(self._list(name, most, optional=True)):
            if type(value) is not str:
                self._fail(f"{name}[{index}]", f"expected an id, got {_kind(value)}")
            try:
                found.append(check_id(value))
            except ValueError as error:
                self._fail(f"{name}[{index}]", str(error))
        return tuple(found)

    def integer(self, name: str, lowest: int, highest: int) -> int:
        """A whole number within bounds, both included."""
        value = self._object.get(name)
        if type(value) is not int:
            self._wrong(name, "a whole number")
        if not lowest <= value <= highest:
            self._fail(name, f"must be from {lowest} to {highest}")
        return value

    def days(self, name: str) -> int:
        """Whole days until something; below zero after it."""
        return self.integer(name, -(1 << 31), 1 << 31)

    def number(self, name: str, lowest: float, highest: float) -> float:
        """A finite number within bounds, both included."""
        value = self._object.get(name)
        if type(value) is int and abs(value) < 1 << 53:
            value = float(value)
        if type(value) is not float or not math.isfinite(value):
            self._wrong(name, "a number")
        if not lowest <= value <= highest:
            self._fail(name, f"must be from {lowest:g} to {highest:g}")
        return value

    def time(self, name: str) -> float:
        """Seconds since the epoch."""
        return self.number(name, 0.0, LATEST_TIME)

    def flag(self, name: str) -> bool:
        """True or false; absent is false."""
        value = self._object.get(name, False)
        if type(value) is not bool:
            self._wrong(name, "true or false")
        return value

    def choice(self, name: str, of: type[E]) -> E:
        """One of the words of an enumeration."""
        value = self._object.get(name)
        if type(value) is not str:
            self._wrong(name, "a word")
        try:
            return of(value)
        except ValueError:
            self._fail(name, f"{value[:40]!r} is none of {', '.join(of)}")

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        """What `read` returns, or None where the field is absent or null."""
        return None if self._object.get(name) is None else read(name)

    def each(self, name: str, most: int) -> "Iterator[Fields]":
        """The objects of a list that must be there."""
        for index, value in enumerate(self._list(name, most, optional=False)):
            yield Fields(value, f"{self._path}{name}[{index}].")

    def within(self, name: str) -> "Fields":
        """An object inside this one."""
        if name not in self._object:
            self._wrong(name, "an object")
        return Fields(self._object[name], f"{self._path}{name}.")

    def items(self, name: str) -> "Iterator[tuple[str, Fields]]":
        """The names in an object inside this one, each with that object's fields."""
        inner = self.within(name)
        for key in inner._object:  # noqa: SLF001 (the same class)
            self._check_utf8(name, key)
            yield key, inner

    def _check_utf8(self, name: str, text: str) -> None:
        # JSON can spell half of a surrogate pair ("\ud800"), and nothing that we send could hold it.
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                self._fail(name, "holds a lone surrogate, which UTF-8 can't carry")

    def _list(self, name: str, most: int, *, optional: bool) -> list[Any]:
        value = self._object.get(name, [] if optional else None)
        if type(value) is not list:
            self._wrong(name, "a list")
        if len(value) > most:
            self._fail(name, f"holds more than {most} entries")
        return value


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return f"the number {value!r}"[:40]
        case str():
            return f"the string {value[:40]!r}"
        case list():
            return "a list"
        case _:
            return "an object"
