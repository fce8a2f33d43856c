"""Reads payloads and settings as their definitions declare them, and makes JSON of results."""

import dataclasses
from collections.abc import Mapping
from datetime import date
from typing import Any, TypeVar

from stockworker.handlers.api import Context, Job, Json
from stockworker.handlers.definition import (
    NO_MARKET_DATA,
    NOT_AN_OBJECT,
    UNKNOWN_FIELD,
    WRONG_FIELD,
    WRONG_SETTING,
    described_fields,
)
from stockworker.handlers.kinds import FieldKind, unknown
from stockworker.protocol.fields import FieldError

T = TypeVar("T")


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


def to_json(value: Any) -> Json:
    """A result as JSON data: dataclasses become objects, days become text."""
    if dataclasses.is_dataclass(value):
        return {each.name: to_json(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: to_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value
