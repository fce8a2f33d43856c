"""A job option is the same everywhere: on the wire, in Python, on the command line, in a batch, in the configuration."""

import argparse
import dataclasses
import json
from typing import Any, Final

import pytest

from stockworker.cli.batch import InvalidLine, read
from stockworker.cli.job_options import OPTIONS, add_job_options, option_values
from stockworker.client import make_submission
from stockworker.config.key import keys
from stockworker.config.kinds import ValueKind, Wrong
from stockworker.config.schema import JobDefaultsConfig
from stockworker.errors import DecodeError, JobRejected
from stockworker.protocol.body import BATCH_CONTENT_TYPE
from stockworker.protocol.codec import decode
from stockworker.protocol.job import JobArguments, JobOptions
from stockworker.protocol.messages import Submission, Submit
from stockworker.protocol.packet import Packet, Properties
from stockworker.protocol.wire import Duration, Integer, Number, PlanField, plan_of

DEFAULTS: Final = {each.name: key.kind for _, key, each in keys(JobDefaultsConfig)}
BOUNDED: Final = [each for each in OPTIONS.values() if isinstance(each.kind, Integer | Number)]


def from_property(option: PlanField, value: Any) -> Submission:
    message = decode(Packet("jobs/queue/low/t", b"1", properties=Properties(user=((option.name, str(value)),))))
    assert isinstance(message, Submit)
    return message.jobs[0]


def from_list(option: PlanField, value: Any) -> Submission:
    body = json.dumps({"schema": 1, "jobs": [{"payload": "1", option.name: value}]}).encode()
    message = decode(Packet("jobs/queue/low/t", body, properties=Properties(BATCH_CONTENT_TYPE)))
    assert isinstance(message, Submit)
    return message.jobs[0]


def from_python(option: PlanField, value: Any) -> Submission:
    arguments: Any = {option.attribute: value}
    return make_submission("t", **arguments)


def from_batch(option: PlanField, value: Any) -> Submission:
    jobs, faults = read([json.dumps({"type": "t", option.name: value}).encode()], {})
    if faults:
        raise JobRejected(faults[0].text)
    return jobs[0].submission


def bounds(option: PlanField) -> tuple[Any, Any]:
    assert isinstance(option.kind, Integer | Number)
    return option.kind.lowest, option.kind.highest


@pytest.mark.parametrize("submit", [from_property, from_list, from_python, from_batch])
@pytest.mark.parametrize("option", BOUNDED, ids=lambda each: each.name)
def test_the_bounds_are_the_same_in_every_way_to_submit(option: PlanField, submit: Any) -> None:
    lowest, highest = bounds(option)
    assert getattr(submit(option, lowest), option.attribute) == lowest
    assert getattr(submit(option, highest), option.attribute) == highest
    for beyond in (lowest - 1, highest + 1):
        with pytest.raises((DecodeError, JobRejected)) as caught:
            submit(option, beyond)
        assert option.name in str(caught.value)


@pytest.mark.parametrize("option", [each for each in BOUNDED if each.attribute in DEFAULTS], ids=lambda each: each.name)
def test_a_default_has_the_bounds_of_its_option(option: PlanField) -> None:
    lowest, highest = bounds(option)
    unit = "s" if isinstance(option.kind, Duration) else ""
    kind = DEFAULTS[option.attribute]
    assert isinstance(kind, ValueKind)
    assert (kind.parse(f"{lowest}{unit}"), kind.parse(f"{highest}{unit}")) == (lowest, highest)
    with pytest.raises(Wrong):
        kind.parse(f"{highest + 1}{unit}")


def test_the_command_line_has_every_option() -> None:
    parser = argparse.ArgumentParser()
    add_job_options(parser.add_argument_group())
    assert option_values(parser.parse_args([])) == {**dict.fromkeys(OPTIONS_OF_PYTHON), "tags": []}
    given = parser.parse_args(
        [
            "--timeout",
            "1m",
            "--backoff",
            "0",
            "--max-attempts",
            "1000",
            "--max-crashes",
            "1",
            "--tag",
            "eu",
            "--tag",
            "gpu",
            "--unique",
            "k",
        ]
    )
    assert {name: value for name, value in option_values(given).items() if value is not None} == {
        "timeout_s": 60.0,
        "backoff_s": 0.0,
        "max_attempts": 1000,
        "max_crashes": 1,
        "tags": ["eu", "gpu"],
        "unique": "k",
    }


OPTIONS_OF_PYTHON: Final = [each.name for each in dataclasses.fields(JobOptions)]


def test_keyword_arguments_are_the_options() -> None:
    assert [*JobArguments.__annotations__] == OPTIONS_OF_PYTHON
    assert {each.attribute for each in plan_of(Submission).fields} == {*OPTIONS_OF_PYTHON, "job_id", "payload"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"timeout_s": 0}, "timeout_s 0: must be from 0.001 to 2592000"),
        ({"max_crashes": 1001}, "max_crashes 1001: must be from 1 to 1000"),
        ({"max_attempts": True}, "max_attempts True: expected a whole number, got true or false"),
        ({"tags": ["a b"]}, r"tags ['a b']: [0]: 'a b' is"),
        ({"unique": ""}, "unique '': '' is"),
        ({"colour": "red"}, "a job has no option 'colour'; options are timeout_s, not_before"),
    ],
)
def test_a_program_is_told_which_option_is_wrong_and_why(options: dict[str, Any], text: str) -> None:
    with pytest.raises(JobRejected) as caught:
        make_submission("t", **options)
    assert str(caught.value).startswith(text)


def test_a_program_may_give_whole_numbers_and_any_iterable() -> None:
    submission = make_submission("t", timeout_s=5, tags=iter(["eu"]))
    assert (submission.timeout_s, submission.tags) == (5.0, frozenset({"eu"}))


def test_a_batch_names_the_line_and_the_field() -> None:
    assert read([b'{"type": "t", "tags": "eu"}'], {})[1] == [InvalidLine(1, "tags: must be a list of strings")]
