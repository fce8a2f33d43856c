"""Untrusted JSON becomes typed values here, and nowhere else. Every error names the path of the field."""

# The `check_…` functions check one value, and do not know its place. Their callers add the path: `wire` for messages,
# which are declared, and `Fields` for objects that are read by hand.

import json
import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeVar

from stockworker.protocol.ids import MATCHES_ID, MATCHES_JOB_ID, JobId, check_id, check_job_id

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

LATEST_TIME: Final = 253_402_300_799.0
"""9999-12-31T23:59:59Z, the last second that people's tools can show."""

_EXACT: Final = 1 << 53
"""Whole numbers below it are exact as floats."""


class FieldError(ValueError):
    """A field is missing or wrong; the text starts with its path."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.problem = problem
        self.path = path

    def inside(self, outer: str) -> "FieldError":
        """The same error as seen from the object or list that holds the value."""
        joint = "." if self.path and not self.path.startswith("[") else ""
        return FieldError(self.problem, f"{outer}{joint}{self.path}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON (RFC 8259, section 6)")


BOM: Final = "\ufeff"
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_json(text: str) -> Any:
    """Parse JSON text, strictly.

    Raises:
        FieldError: it is not JSON, or nested too deeply.
    """
    _refuse_bom(text)
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise FieldError("is nested too deeply") from None
    except ValueError as error:
        raise FieldError(f"is not JSON: {error}") from None


def _refuse_bom(text: str) -> None:
    if text.startswith(BOM):  # an error at "column 1" would not help: no editor and no log shows it
        raise FieldError("begins with a byte order mark (BOM), which is not JSON; save it as UTF-8 without BOM")


def parse_json_at(text: str, place: int) -> tuple[Any, int]:
    """Parse the JSON value that begins at a place, strictly; return it, and the place after it.

    Raises:
        FieldError: no JSON value begins there, or it is nested too deeply.
    """
    if place == 0:
        _refuse_bom(text)
    try:
        return _DECODER.raw_decode(text, place)
    except RecursionError:
        raise FieldError("is nested too deeply") from None
    except json.JSONDecodeError as error:  # without its line and column, which count from the beginning of `text`
        raise FieldError(f"is not JSON: {error.msg}") from None
    except ValueError as error:
        raise FieldError(f"is not JSON: {error}") from None


# --- one value --------------------------------------------------------------------------------------------------------


def check_text(value: object, longest: int | None = None) -> str:
    """A string that UTF-8 can hold; at most `longest` characters."""
    if type(value) is not str:
        raise expected("a string", value)
    if longest is not None and len(value) > longest:
        raise FieldError(f"is longer than {longest} characters")
    # JSON can spell half of a surrogate pair ("\ud800"), which no UTF-8 text can hold.
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise FieldError("holds a lone surrogate, which UTF-8 can't carry") from None
    return value


def check_identifier(value: object) -> str:
    """A valid ID."""
    if type(value) is str and MATCHES_ID(value):
        return value
    if type(value) is not str:
        raise expected("an id", value)
    try:
        return check_id(value)
    except ValueError as error:
        raise FieldError(str(error)) from None


def check_job_identifier(value: object) -> JobId:
    """A valid job ID."""
    if type(value) is str and MATCHES_JOB_ID(value):
        return JobId(value)
    if type(value) is not str:
        raise expected("an id", value)
    try:
        return check_job_id(value)
    except ValueError as error:
        raise FieldError(str(error)) from None


def check_integer(value: object, lowest: int, highest: int) -> int:
    """A whole number within bounds, both included."""
    if type(value) is not int:
        raise expected("a whole number", value)
    if not lowest <= value <= highest:
        raise FieldError(f"must be from {lowest} to {highest}")
    return value


def check_number(value: object, lowest: float, highest: float) -> float:
    """A finite number within bounds, both included."""
    if type(value) is int and abs(value) < _EXACT:
        value = float(value)
    if type(value) is not float or not math.isfinite(value):
        raise expected("a number", value)
    if not lowest <= value <= highest:
        raise FieldError(f"must be from {lowest:.15g} to {highest:.15g}")
    return value


def check_flag(value: object) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise expected("true or false", value)
    return value


def check_choice(value: object, of: type[E]) -> E:
    """One of the words of an enumeration."""
    if type(value) is not str:
        raise expected("a word", value)
    try:
        return of(value)
    except ValueError:
        raise FieldError(f"{value[:40]!r} is not one of {', '.join(of)}") from None


def check_list(value: object, check: Callable[[Any], T], most: int) -> tuple[T, ...]:
    """A list of at most `most` values, each of which `check` accepts."""
    if type(value) is not list:
        raise expected("a list", value)
    if len(value) > most:
        raise FieldError(f"holds more than {most} entries")
    found: list[T] = []
    for item in value:
        try:
            found.append(check(item))
        except FieldError as error:
            raise error.inside(f"[{len(found)}]") from None
    return tuple(found)


def check_object(value: object) -> dict[str, Any]:
    """A JSON object."""
    if type(value) is not dict:
        raise expected("an object", value)
    return value


def expected(what: str, value: object) -> FieldError:
    """The error about a value of another kind."""
    return FieldError(f"expected {what}, got {_kind(value)}")


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


# --- an object that is read by hand -----------------------------------------------------------------------------------


class Fields:
    """The fields of one JSON object, read one by one with a check. Unknown fields are ignored."""

    __slots__ = ("_object", "_path")

    def __init__(self, value: object, path: str = "") -> None:
        try:
            self._object = check_object(value)
        except FieldError as error:
            raise error.inside(path.removesuffix(".") or "the message") from None
        self._path = path

    def text(self, name: str, longest: int | None = None) -> str:
        """A string that UTF-8 can hold; at most `longest` characters."""
        return self._read(name, lambda value: check_text(value, longest))

    def id(self, name: str) -> str:
        """A valid ID."""
        return self._read(name, check_identifier)

    def integer(self, name: str, lowest: int, highest: int) -> int:
        """A whole number within bounds, both included."""
        return self._read(name, lambda value: check_integer(value, lowest, highest))

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        """What `read` returns, or None where the field is absent or null."""
        return None if self._object.get(name) is None else read(name)

    def entries(self, name: str, check: Callable[[Any], T], most: int) -> tuple[T, ...]:
        """A list that must be present, each of whose values `check` accepts."""
        return self._read(name, lambda value: check_list(value, check, most))

    def _read(self, name: str, check: Callable[[Any], T]) -> T:
        try:
            return check(self._object.get(name))
        except FieldError as error:
            problem = error if name in self._object else FieldError("is missing")
            raise problem.inside(f"{self._path}{name}") from None
