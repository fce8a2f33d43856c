"""Reads payloads and settings: whatever is wrong with one is a permanent error that says what and where."""

from collections.abc import Callable, Collection, Mapping
from datetime import date
from typing import TypeVar

from stockworker.handlers.api import Context, Job, Json, PermanentError
from stockworker.handlers.market import InvalidBar, calendar_day, check_symbol
from stockworker.protocol.fields import FieldError, Fields
from stockworker.protocol.suggestion import suggestion

T = TypeVar("T")


def read_payload(job: Job, known: Collection[str], read: Callable[[Fields, dict[str, Json]], T]) -> T:
    """Return what `read` makes of the payload: its fields to read checked, and as it is.

    Raises:
        PermanentError: it is no object, has a field that is not `known`, or `read` raised `FieldError`.
    """
    if not isinstance(job.payload, dict):
        raise PermanentError(f"the payload must be an object with some of: {', '.join(known)}")
    for name in job.payload:
        if name not in known:
            raise PermanentError(unknown("payload field", name, known))
    try:
        return read(Fields(job.payload), job.payload)
    except FieldError as error:
        raise PermanentError(f"payload.{error}") from error


def read_settings(context: Context, job_type: str, read: Callable[[Fields, Mapping[str, Json]], T]) -> T:
    """Return what `read` makes of the settings of the job type.

    Raises:
        PermanentError: `read` raised `FieldError`.
    """
    try:
        return read(Fields(dict(context.settings)), context.settings)
    except FieldError as error:
        message = f"the configuration of this worker is wrong: handlers.{job_type}.settings.{error}"
        raise PermanentError(message) from error


def market_data(context: Context) -> str:
    """Where the market-data store is.

    Raises:
        PermanentError: the configuration does not say.
    """
    location: Json = context.settings.get("market_data")
    if not isinstance(location, str) or not location:
        raise PermanentError("this worker has no market-data store: set market_data in its configuration")
    return location


def symbol(fields: Fields, name: str) -> str:
    """A symbol.

    Raises:
        FieldError: it is none.
    """
    try:
        return check_symbol(fields.text(name))
    except InvalidBar as error:
        raise FieldError(f"{name}: {error}") from None


def day(fields: Fields, name: str) -> date:
    """A day, written YYYY-MM-DD.

    Raises:
        FieldError: it is none.
    """
    try:
        return calendar_day(fields.text(name))
    except InvalidBar as error:
        raise FieldError(f"{name}: {error}") from None


def texts(fields: Mapping[str, Json], name: str) -> tuple[str, ...] | None:
    """A list of strings, or None where there is none.

    Raises:
        FieldError: it is something else.
    """
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise FieldError(f"{name}: expected a list of strings")
    return tuple(value)


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """The error text for an unknown name: which name was probably meant, and which names are known."""
    hint = suggestion(name, known) or "."
    return f"unknown {kind} {name[:40]!r}{hint} Known: {', '.join(list(known)[:40])}"
