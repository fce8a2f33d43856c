"""The kinds of value in a payload or in settings: what each accepts, and how it is read from JSON."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from stockworker.handlers.api import Json
from stockworker.protocol.fields import FieldError, Fields
from stockworker.protocol.suggestion import suggestion

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FieldKind:
    """How one kind of value is written in JSON.

    Attributes:
        meaning: what is accepted, for people.
        read: returns the value for a JSON value and its path; raises `FieldError`.
    """

    meaning: str
    read: Callable[[Json, str], Any]


def _by(read: Callable[[Fields, str], T]) -> Callable[[Json, str], T]:
    return lambda value, path: read(Fields({path: value}), path)


TEXT: Final = FieldKind("a string", _by(Fields.text))


def integer(lowest: int, highest: int) -> FieldKind:
    """A whole number within bounds, both included."""
    meaning = f"a whole number, {lowest:,} to {highest:,}"
    return FieldKind(meaning, _by(lambda fields, name: fields.integer(name, lowest, highest)))


def number(lowest: float, highest: float) -> FieldKind:
    """A number within bounds, both included."""
    meaning = f"a number, {lowest:,g} to {highest:,g}"
    return FieldKind(meaning, _by(lambda fields, name: fields.number(name, lowest, highest)))


def choice(of: type[StrEnum]) -> FieldKind:
    """One of the words of an enumeration."""
    meaning = " or ".join(f"`{word}`" for word in of)
    return FieldKind(meaning, _by(lambda fields, name: fields.choice(name, of)))


def checked(meaning: str, check: Callable[[str], T]) -> FieldKind:
    """A string that `check` turns into a value; it raises `ValueError` with the problem for any other string."""

    def read(value: Json, path: str) -> T:
        text = TEXT.read(value, path)
        try:
            return check(text)
        except ValueError as error:
            raise FieldError(f"{path}: {error}") from None

    return FieldKind(meaning, read)


def list_of(kind: FieldKind, items: str, lowest: int = 0, highest: int = 4_096) -> FieldKind:
    """A list of values of one kind; `items` is what they are called."""
    expected = f"a list of {lowest:,} to {highest:,} {items}" if lowest else f"a list of {items}"

    def read(value: Json, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise FieldError(f"{path}: expected {expected}")
        if not lowest <= len(value) <= highest:
            raise FieldError(f"{path}: expected {expected}, got {len(value):,}")
        return tuple(kind.read(item, f"{path}[{place}]") for place, item in enumerate(value))

    return FieldKind(expected, read)


def unknown(what: str, name: str, known: Collection[str]) -> str:
    """The error text for an unknown name: which name was probably meant, and which names are known."""
    hint = suggestion(name, known) or "."
    return f"unknown {what} {name[:40]!r}{hint} Known: {', '.join(list(known)[:40])}"
