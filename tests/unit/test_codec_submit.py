"""Submissions as packets: a single job with its options as user properties, several jobs as a list."""

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from stockworker.errors import DecodeError
from stockworker.protocol import codec, topics
from stockworker.protocol.body import BATCH_CONTENT_TYPE, MAX_CONTENT
from stockworker.protocol.codec_submit import in_submits, submission_size
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, UniqueKey
from stockworker.protocol.job import Priority
from stockworker.protocol.messages import Reply, Submission, Submit
from stockworker.protocol.packet import Packet, Properties

PRICES = JobType("price_update")
BARE = Submission(job_id=None, type=PRICES, priority=Priority.NORMAL, payload="{}")
FULL = Submission(
    job_id=JobId("job-1"),
    type=PRICES,
    priority=Priority.HIGH,
    payload='{"symbol": "AAPL"}',
    timeout_s=1.5,
    not_before=1.0,
    expires_at=2.0,
    max_attempts=5,
    backoff_s=0.25,
    max_crashes=2,
    tags=frozenset({Tag("gpu"), Tag("fast")}),
    unique=UniqueKey("aapl"),
)
REPLY = Reply(ClientId("desk-1"), "4711")


def packet(
    body: bytes = b"{}", content_type: str | None = None, options: Mapping[str, str] = MappingProxyType({})
) -> Packet:
    user = tuple(options.items())
    return Packet(topics.queue(Priority.NORMAL, PRICES), body, properties=Properties(content_type, user=user))


def submission(received: Packet) -> Submission:
    message = codec.decode(received)
    assert isinstance(message, Submit)
    (job,) = message.jobs
    return job


def test_a_plain_publish_is_a_job_without_options() -> None:
    assert submission(packet()) == BARE


@pytest.mark.parametrize(
    "jobs",
    [(BARE,), (FULL,), (FULL, replace(FULL, job_id=JobId("job-2")))],
    ids=["bare", "full", "list"],
)
def test_a_submission_is_read_as_it_was_written(jobs: tuple[Submission, ...]) -> None:
    sent = Submit(jobs, REPLY)
    assert codec.decode(codec.encode(sent)) == sent


def test_the_body_of_a_single_job_is_its_payload() -> None:
    sent = codec.encode(Submit((FULL,), None))
    assert sent.body.decode() == FULL.payload
    assert dict(sent.properties.user)["tags"] == "fast,gpu"


def repeated(*user: tuple[str, str]) -> Packet:
    return Packet(topics.queue(Priority.NORMAL, PRICES), b"{}", properties=Properties(user=user))


def test_repeated_tags_add_up() -> None:
    job = submission(repeated(("tags", "eu"), ("trace", "a"), ("tags", "ssd,gpu"), ("trace", "b"), ("tags", "")))
    assert job.tags == {Tag("eu"), Tag("ssd"), Tag("gpu")}


@pytest.mark.parametrize(
    ("name", "values"), [("id", ("a", "b")), ("timeout", ("60", "1")), ("unique", ("a", "a")), ("schema", ("1", "1"))]
)
def test_any_other_option_that_is_given_twice_is_refused(name: str, values: tuple[str, str]) -> None:
    with pytest.raises(DecodeError, match=f"property {name}: is given twice; give it once"):
        submission(repeated(*((name, value) for value in values)))


def test_a_single_job_whose_options_are_too_large_for_properties_is_a_list() -> None:
    tags = frozenset(Tag(f"{number:064}") for number in range(100))
    sent = Submit((replace(FULL, tags=tags),), REPLY)
    encoded = codec.encode(sent)
    assert encoded.properties.content_type == BATCH_CONTENT_TYPE
    assert codec.decode(encoded) == sent


def test_a_message_that_its_receiver_could_not_read_is_refused_with_the_cause() -> None:
    with pytest.raises(DecodeError, match="too many properties"):
        codec.decode(replace(packet(), fault="too many properties"))


def test_several_jobs_are_told_from_a_payload_by_the_content_type() -> None:
    body = json.dumps({"schema": 1, "jobs": [{"payload": "{}"}]}).encode()
    assert submission(packet(body, BATCH_CONTENT_TYPE)) == BARE
    assert submission(packet(body)).payload == body.decode()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"timeout": "soon"}, "property timeout: expected a number, got 'soon'"),
        ({"timeout": "0"}, "property timeout: must be from"),
        ({"max_attempts": "1.5"}, "property max_attempts: expected a whole number"),
        ({"tags": "a,b c"}, "property tags[1]: "),
        ({"id": "a b"}, "property id: "),
        ({"schema": "2"}, "schema"),
    ],
)
def test_an_invalid_property_is_refused_by_its_name(options: dict[str, str], reason: str) -> None:
    with pytest.raises(DecodeError) as refused:
        codec.decode(packet(options=options))
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("jobs", "reason"),
    [
        ([], "jobs: holds no job"),
        ([{"payload": "{}"}, {}], "jobs[1].payload: is missing"),
        ([{"payload": "{}", "backoff": -1}], "jobs[0].backoff: must be from"),
    ],
)
def test_an_invalid_list_is_refused_with_the_path(jobs: list[dict[str, Any]], reason: str) -> None:
    body = json.dumps({"schema": 1, "jobs": jobs}).encode()
    with pytest.raises(DecodeError) as refused:
        codec.decode(packet(body, BATCH_CONTENT_TYPE))
    assert reason in str(refused.value)


def test_unknown_properties_are_ignored() -> None:
    assert submission(packet(options={"newer": "1"})) == BARE


def test_a_payload_that_no_assignment_could_carry_is_refused() -> None:
    with pytest.raises(DecodeError, match="is too large"):
        codec.decode(packet(b'"' + b"x" * MAX_CONTENT + b'"'))


def test_a_large_payload_travels_alone_and_as_it_is() -> None:
    """In a list it would be escaped by the client, and unescaped by the dispatcher."""
    small, large = replace(BARE, payload='"s"'), replace(BARE, payload='"' + "\\\\" * 20_000 + '"')
    batches = list(in_submits([small, small, large, large, small]))
    assert batches == [(small, small), (large,), (large,), (small,)]
    assert codec.encode(Submit(batches[1], None)).body == large.payload.encode()


def test_the_size_of_a_submission_covers_its_payload_and_tags() -> None:
    assert submission_size(FULL) > len(FULL.payload) + sum(len(tag) for tag in FULL.tags)
