"""What a built-in job type is made of, as data.

The payload, the settings and the result of a job type are dataclasses. Each field carries its kind and its meaning::

    last: int = field(default=1, metadata=described(integer(1, 2_000), "How many days to return."))

`payload` reads a dataclass from JSON, and `reference` writes docs/job-types.md: both from that line. So a new field is one
line, and the code that uses it. Each way to fail is a `Failure` with its error text and its cause.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from stockworker.handlers.api import PermanentError
from stockworker.handlers.kinds import FieldKind


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
