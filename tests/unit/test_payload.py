"""Payloads, settings and results follow from their definitions."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Annotated, Any

import pytest

from docs.pages import job_types
from stockworker.handlers.api import Context, Job, PermanentError
from stockworker.handlers.definition import Definition, Failure
from stockworker.handlers.kinds import Checked, Several
from stockworker.handlers.payload import read_payload, read_settings, to_json
from stockworker.protocol.wire import Integer, Number, Text, Wire


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Sample:
    name: Annotated[str, Wire("The name.")]
    count: Annotated[int, Integer(1, 2_000), Wire("How many.")] = 3
    ratio: Annotated[float | None, Number(0, 1), Wire("How much.")] = None
    colour: Annotated[Colour, Wire("Which colour.")] = Colour.RED
    day: Annotated[date | None, Checked("a date", date.fromisoformat), Wire("When.")] = None
    tags: Annotated[tuple[str, ...], Several(Text(), 2), Wire("Tags.")] = ()


def read(payload: Any) -> Sample:
    return read_payload(Job("job-1", "sample", 1, payload), Sample)


def test_fields_are_read_as_their_kinds_declare() -> None:
    payload = {"name": "x", "count": 5, "ratio": 1, "colour": "blue", "day": "2013-03-01", "tags": ["a", "b"]}
    expected = Sample(name="x", count=5, ratio=1.0, colour=Colour.BLUE, day=date(2013, 3, 1), tags=("a", "b"))
    assert read(payload) == expected


@pytest.mark.parametrize("payload", [{"name": "x"}, dict.fromkeys(("count", "ratio", "day", "tags")) | {"name": "x"}])
def test_an_absent_field_and_null_mean_the_default(payload: dict[str, Any]) -> None:
    assert read(payload) == Sample(name="x")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "payload: expected an object, got a list"),
        ({}, "payload.name: is missing"),
        ({"name": None}, "payload.name: expected a string, got null"),
        (
            {"nam": "x"},
            "payload: unknown field 'nam'; did you mean 'name'? Known: name, count, ratio, colour, day, tags",
        ),
        ({"name": "x", "count": "5"}, "payload.count: expected a whole number, got the string '5'"),
        ({"name": "x", "count": True}, "payload.count: expected a whole number, got true or false"),
        ({"name": "x", "count": 0}, "payload.count: must be from 1 to 2000"),
        ({"name": "x", "ratio": 1.5}, "payload.ratio: must be from 0 to 1"),
        ({"name": "x", "day": "now"}, "payload.day: Invalid isoformat string: 'now'"),
        ({"name": "x", "tags": "a"}, "payload.tags: expected a list, got the string 'a'"),
        ({"name": "x", "tags": []}, "payload.tags: must have 1 to 2 entries"),
        ({"name": "x", "tags": ["a", 5]}, "payload.tags[1]: expected a string, got the number 5"),
    ],
)
def test_a_wrong_payload_is_explained(payload: Any, message: str) -> None:
    with pytest.raises(PermanentError) as caught:
        read(payload)
    assert str(caught.value) == message


def test_a_wrong_setting_is_explained() -> None:
    settings: Mapping[str, Any] = {"market_data": "x", "name": "x", "count": 0}
    context = Context(logging.getLogger("test"), settings, lambda _fraction, _message: None, lambda: False)
    message = r"^the configuration of this worker is wrong: handlers\.sample\.settings\.count: must be from 1 to 2000$"
    with pytest.raises(PermanentError, match=message):
        read_settings(Job("job-1", "sample", 1, None), context, Sample)


def test_a_new_field_is_documented_by_its_definition() -> None:
    page = job_types.job_type("sample", Definition(Sample, Sample, ()), 64 << 20, {"examples": []})
    assert "| `name` | text | required | The name. |\n" in page
    assert "| `count` | whole number, 1 to 2,000 | `3` | How many. |\n" in page
    assert "| `ratio` | number, 0 to 1 |  | How much. |\n" in page
    assert "| `colour` | one of `red`, `blue` | `red` | Which colour. |\n" in page
    assert "A job may use 64M of memory by default." in page


def test_a_failure_makes_the_error_with_its_text() -> None:
    permanent, retried = Failure("{count} rows", "…"), Failure("stopped after {count}", "…", retried=True)
    assert str(permanent.error(count=3)) == "3 rows"
    assert isinstance(permanent.error(count=3), PermanentError)
    assert not isinstance(retried.error(count=3), PermanentError)


def test_a_result_becomes_json() -> None:
    result = to_json({"a": (Sample(name="x", day=date(2013, 3, 1)),)})
    expected = {"name": "x", "count": 3, "ratio": None, "colour": "red", "day": "2013-03-01", "tags": []}
    assert result == {"a": [expected]}
