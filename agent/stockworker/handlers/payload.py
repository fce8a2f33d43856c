"""Reads payloads and settings as their classes declare them, and makes JSON of results."""

import dataclasses
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, TypeVar

from stockworker.handlers import MARKET_DATA
from stockworker.handlers.api import Context, Job, Json
from stockworker.handlers.definition import NO_MARKET_DATA, WRONG_PAYLOAD, WRONG_SETTING
from stockworker.handlers.kinds import unknown
from stockworker.protocol.fields import FieldError, check_object
from stockworker.protocol.wire import plan_of

T = TypeVar("T")


def read_payload(job: Job, of: type[T]) -> T:
    """The payload of a job.

    Raises:
        PermanentError: it is not an object, has an unknown field, or a field is wrong.
    """
    plan = plan_of(of)
    known = [each.name for each in plan.fields]
    try:
        for name in check_object(job.payload):
            if name not in known:
                raise unknown("field", name, known)
        return plan.read(job.payload)
    except FieldError as error:
        raise WRONG_PAYLOAD.error(field=error.path and f".{error.path}", problem=error.problem) from error


def read_settings(job: Job, context: Context, of: type[T]) -> T:
    """The settings of the job type on this worker.

    Raises:
        PermanentError: a setting is unknown, missing or wrong.
    """
    try:
        return parse_settings(context.settings, of)
    except FieldError as error:
        raise WRONG_SETTING.error(job_type=job.type, field=error.path, problem=error.problem) from error


def parse_settings(settings: Mapping[str, Json], of: type[T]) -> T:
    """Read the settings of a job type; ``market_data`` is known everywhere.

    Raises:
        FieldError: a setting is unknown, missing or wrong.
    """
    plan = plan_of(of)
    known = [each.name for each in plan.fields]
    for name in settings:
        if name not in known and name != MARKET_DATA:
            raise unknown("setting", name, known)
    return plan.read(dict(settings))


def market_data(context: Context) -> str:
    """Where the market-data store is.

    Raises:
        PermanentError: the configuration has no location.
    """
    location: Json = context.settings.get(MARKET_DATA)
    if not isinstance(location, str) or not location:
        raise NO_MARKET_DATA.error()
    return location


def to_json(value: Any) -> Json:
    """A result as JSON data: dataclasses become objects, days and times (UTC) become text. Fields that are None are null."""
    if dataclasses.is_dataclass(value):
        return {each.name: to_json(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: to_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return value.isoformat() if isinstance(value, date) else value
