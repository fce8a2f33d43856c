"""What a built-in job type is made of, as data.

The payload, the settings and the result of a job type are dataclasses. Each field carries its kind and its meaning::

    last: int = field(default=1, metadata=described(integer(1, 2_000), "How many days to return."))

Reading, error texts and docs/job-types.md are derived from that line. So a new field is one line, and the code that
uses it. Each way to fail is a `Failure`, which carries the error text and its cause in the same manner.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final, TypeVar

from stockworker.handlers.api import Context, Job, Json, PermanentError
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


@dataclass(frozen=True, slots=True)
class Description:
    """What the definition of a field adds to its name, type and default.

    Attributes:
        kind: how the value is written. A field that is never read (of a result) has the words alone.
        meaning: one or two sentences for the reference page.
        shown: the default as the page shows it, where the value itself explains nothing.
        parts: the dataclasses of the objects inside this field, if any.
        place: what leads from this field to such an object: ``[]`` in a list, ``.<symbol>`` in an object.
    """

    kind: FieldKind | str
    meaning: str
    shown: str = ""
    parts: tuple[type, ...] = ()
    place: str = ""


def described(
    kind: FieldKind | str, meaning: str, *, shown: str = "", parts: tuple[type, ...] = (), place: str = ""
) -> dict[str, Description]:
    """The metadata of a dataclass field."""
    return {"description": Description(kind, meaning, shown, parts, place)}


def described_fields(of: type) -> Iterator[tuple[str, Description, "dataclasses.Field[Any]"]]:
    """The fields of a dataclass in their order, each with its description."""
    for each in dataclasses.fields(of):
        yield each.name, each.metadata["description"], each


@dataclass(frozen=True, slots=True)
class Failure:
    """One way in which a job can fail.

    Attributes:
        text: the error; ``{name}`` is a part that differs from job to job.
        cause: when it happens, for the reference page.
        retried: whether the job runs again while it has attempts left.
    """

    text: str
    cause: str
    retried: bool = False

    def error(self, **parts: object) -> Exception:
        """The exception that makes a handler fail in this way."""
        text = self.text.format(**parts)
        return InterruptedError(text) if self.retried else PermanentError(text)


@dataclass(frozen=True, slots=True)
class Definition:
    """A built-in job type.

    Attributes:
        summary: what it does, in Markdown.
        payload: the dataclass of its payload.
        result: the dataclass of its result.
        failures: how it can fail, besides `COMMON_FAILURES`.
        settings: the dataclass of ``handlers.<type>.settings``, if there are any.
    """

    summary: str
    payload: type
    result: type
    failures: tuple[Failure, ...]
    settings: type | None = None


NOT_AN_OBJECT: Final = Failure(
    "the payload must be an object with some of: {names}", "The payload is not a JSON object."
)
UNKNOWN_FIELD: Final = Failure(
    "payload: {problem}", "The payload has an unknown field. The text names the known ones, and a similar one if any."
)
WRONG_FIELD: Final = Failure(
    "payload.{field}: {problem}",
    "A payload field is missing, of the wrong kind or out of bounds. The text names what is accepted.",
)
WRONG_SETTING: Final = Failure(
    "the configuration of this worker is wrong: handlers.{job_type}.settings.{field}: {problem}",
    "A setting of the job type is missing, of the wrong kind or out of bounds. Correct it and reload the worker.",
)
NO_MARKET_DATA: Final = Failure(
    "this worker has no market-data store: set market_data in its configuration",
    "The settings override `market_data` with an empty value.",
)
STORE_FAILED: Final = Failure(
    "{problem}",
    "The market-data store can't be opened, read or written: a full disk, a missing folder, a database that is down.",
    retried=True,
)
COMMON_FAILURES: Final = (NOT_AN_OBJECT, UNKNOWN_FIELD, WRONG_FIELD, WRONG_SETTING, NO_MARKET_DATA, STORE_FAILED)
"""How every built-in job type can fail."""


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


def read_fields(of: type[T], source: Mapping[str, Json]) -> T:
    """Make a dataclass of described fields from a JSON object; null is the same as absent.

    Raises:
        FieldError: a field is missing or wrong; the text begins with its name.
    """
    values = {}
    for name, description, each in described_fields(of):
        optional = each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING
        if source.get(name) is None and optional:
            continue
        if name not in source:
            raise FieldError(f"{name}: is missing")
        kind = description.kind
        values[name] = kind.read(source[name], name) if isinstance(kind, FieldKind) else source[name]
    return of(**values)


def read_payload(job: Job, of: type[T]) -> T:
    """The payload of a job.

    Raises:
        PermanentError: it is not an object, has an unknown field, or a field is wrong.
    """
    known = [name for name, _, _ in described_fields(of)]
    if not isinstance(job.payload, dict):
        raise NOT_AN_OBJECT.error(names=", ".join(known))
    for name in job.payload:
        if name not in known:
            raise UNKNOWN_FIELD.error(problem=unknown("field", name, known))
    try:
        return read_fields(of, job.payload)
    except FieldError as error:
        raise WRONG_FIELD.error(**_place(error)) from error


def read_settings(job: Job, context: Context, of: type[T]) -> T:
    """The settings of the job type on this worker.

    Raises:
        PermanentError: a setting is missing or wrong.
    """
    try:
        return read_fields(of, context.settings)
    except FieldError as error:
        raise WRONG_SETTING.error(job_type=job.type, **_place(error)) from error


def _place(error: FieldError) -> dict[str, str]:
    field, _, problem = str(error).partition(": ")
    return {"field": field, "problem": problem}


def market_data(context: Context) -> str:
    """Where the market-data store is.

    Raises:
        PermanentError: the configuration has no location.
    """
    location: Json = context.settings.get("market_data")
    if not isinstance(location, str) or not location:
        raise NO_MARKET_DATA.error()
    return location


def unknown(what: str, name: str, known: Collection[str]) -> str:
    """The error text for an unknown name: which name was probably meant, and which names are known."""
    hint = suggestion(name, known) or "."
    return f"unknown {what} {name[:40]!r}{hint} Known: {', '.join(list(known)[:40])}"


def to_json(value: Any) -> Json:
    """A result as JSON data: dataclasses become objects, days become text."""
    if dataclasses.is_dataclass(value):
        return {each.name: to_json(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: to_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value
