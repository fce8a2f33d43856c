"""Submissions as packets and back."""

# The body of a single job is its payload, and its options are MQTT 5 user properties, so that a bare ``mosquitto_pub``
# is a valid submitter. Several jobs of one type and priority are a list, with a content type of its own. Both have the
# fields of `Submission`: as text in properties, as JSON in a list. Which connection gets the notices is a property in
# both.

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any, Final

from stockworker.protocol import topics
from stockworker.protocol.body import (
    BATCH_CONTENT_TYPE,
    content_size,
    fits,
    in_batches,
    make_packet,
    open_body,
    read_schema,
)
from stockworker.protocol.fields import FieldError, Fields, check_identifier, check_object, parse_json
from stockworker.protocol.ids import ClientId, JobType
from stockworker.protocol.job import PRIORITY_BY_LABEL
from stockworker.protocol.messages import Submission, Submit
from stockworker.protocol.packet import MAX_PROPERTIES, Packet, Properties
from stockworker.protocol.reply import own_reply, read_reply, reply_properties
from stockworker.protocol.topics import Address, TopicKind
from stockworker.protocol.wire import Integer, Number, Unordered, plan_of

MAX_JOBS: Final = 256
"""Most jobs of one message. They are stored in one turn, and others wait meanwhile."""

_PLAN: Final = plan_of(Submission)
_NUMBERS: Final = {"schema", *(each.name for each in _PLAN.fields if isinstance(each.kind, Integer | Number))}
_MOST_OPTIONS: Final = MAX_PROPERTIES // 2  # in characters; the rest is for the reply and the lengths
_SINGLE: Final = {"schema", *(each.name for each in _PLAN.fields if not isinstance(each.kind, Unordered))}
_NOTIFY: Final = "notify"
_LARGE: Final = 8 * 1024
"""Characters of a payload from which on a message of its own costs less than a place in a list."""

_LISTS: Final = {each.name for each in _PLAN.fields if isinstance(each.kind, Unordered)}


def decode_submit(address: Address, body: bytes, properties: Properties) -> Submit:
    """Read one job, or a list of them."""
    found, reply = address.by_level.get("client_id"), read_reply(properties)
    client_id = None if found is None else ClientId(found)
    if client_id is not None:
        reply = own_reply(client_id, reply)
    notify = _read_notify(properties)
    if properties.content_type != BATCH_CONTENT_TYPE:
        options = _read_properties(properties.user)
        try:
            job = _submission(address, options | {"payload": body.decode()})
        except FieldError as error:
            raise error if error.path == "payload" else FieldError(error.problem, f"property {error.path}") from None
        return Submit((job,), reply, client_id, notify)
    fields = Fields(open_body(body))
    jobs = fields.entries("jobs", lambda entry: _submission(address, check_object(entry)), MAX_JOBS)
    if not jobs:
        raise FieldError("holds no job", "jobs")
    return Submit(jobs, reply, client_id, notify)


def _read_notify(properties: Properties) -> str | None:
    for name, value in properties.user:
        if name == _NOTIFY:
            try:
                return check_identifier(value)
            except FieldError as error:
                raise error.inside(f"property {_NOTIFY}") from None
    return None


def _read_properties(user: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in user:
        if name in options and name in _SINGLE:
            raise FieldError("is given twice; give it once", f"property {name}")
        if name in _NUMBERS:
            try:
                options[name] = parse_json(value)
            except FieldError:
                raise FieldError(f"expected a number, got {value[:40]!r}", f"property {name}") from None
        elif name in _LISTS:
            options[name] = [*options.get(name, ()), *(each for each in value.split(",") if each)]
        else:
            options[name] = value
    if "schema" in options:
        read_schema(Fields(options, "property "))
    return options


def _submission(address: Address, fields: Mapping[str, Any]) -> Submission:
    priority, job_type = address.values[:2]
    submission = _PLAN.make(fields, priority=PRIORITY_BY_LABEL[priority], type=JobType(job_type))
    if not fits(submission.payload):
        problem = "is too large; put the data where workers can fetch it, and send a reference"
        raise FieldError(problem, "payload")
    return submission


def encode_submit(message: Submit) -> Packet:
    """One job as its payload with user properties, several of one type and priority as a list.

    One job whose options are too large for properties is a list too.
    """
    first = message.jobs[0]
    topic = topics.queue(first.priority, first.type, message.client_id)
    options = _PLAN.write(first)
    payload = options.pop("payload")
    user = tuple((name, ",".join(value) if name in _LISTS else str(value)) for name, value in options.items())
    notify = () if message.notify is None else ((_NOTIFY, message.notify),)
    if len(message.jobs) > 1 or sum(len(name) + len(value) for name, value in user) > _MOST_OPTIONS:
        properties = replace(reply_properties(message.reply, BATCH_CONTENT_TYPE), user=notify)
        return make_packet(TopicKind.QUEUE, topic, f',"jobs":[{",".join(map(_PLAN.text, message.jobs))}]', properties)
    reply = reply_properties(message.reply)
    return Packet(
        topic,
        payload.encode(),
        properties=Properties(None, reply.response_topic, reply.correlation_data, user + notify),
    )


def in_submits(jobs: Iterable[Submission]) -> Iterator[tuple[Submission, ...]]:
    """Split jobs of one type and priority into lists for one message each, in their order.

    A large payload travels alone: it is the body then, and needs no escapes.
    """
    for large, some in groupby(jobs, lambda job: len(job.payload) >= _LARGE):
        if large:
            yield from zip(some)
        else:
            yield from in_batches(some, submission_size)


def submission_size(job: Submission) -> int:
    """Bytes of a job's free texts, for `body.in_batches`."""
    return content_size(job.payload) + sum(len(tag) + 3 for tag in job.tags)
