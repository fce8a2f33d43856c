"""What clients say to the dispatcher, as bytes."""

from collections.abc import Callable
from typing import Any, Final

from stockworker.protocol import topics
from stockworker.protocol.body import (
    BATCH_CONTENT_TYPE,
    MAX_ENTRIES,
    content_size,
    fits,
    make_packet,
    open_body,
    present,
    read_reply,
    read_schema,
    reply_properties,
)
from stockworker.protocol.fields import FieldError, Fields, parse_json
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, UniqueKey, WorkerId
from stockworker.protocol.job import PRIORITY_BY_LABEL, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    CancelJob,
    Cleanup,
    JobFilter,
    Query,
    Reply,
    RetryJob,
    SetDrain,
    SetPause,
    Submission,
    Submit,
)
from stockworker.protocol.packet import Packet, Properties
from stockworker.protocol.topics import Address, TopicKind

LONGEST_TIMEOUT_S: Final = 30 * 86400.0
MOST_ATTEMPTS: Final = 1000
MAX_QUERY: Final = 1000
MAX_EXPLAINED: Final = 64
"""Jobs whose stories are told at once: for each of them every worker is looked at."""

_NUMBERS: Final = frozenset({"schema", "not_before", "expires_at", "timeout", "max_attempts", "backoff", "max_crashes"})


# --- submissions ------------------------------------------------------------------------------------------------------


def _decode_submit(address: Address, body: bytes, properties: Properties) -> Submit:
    priority = PRIORITY_BY_LABEL[address.values[0]]
    job_type = JobType(address.values[1])
    reply = read_reply(properties)
    text = body.decode()
    if properties.content_type != BATCH_CONTENT_TYPE:
        options = _read_properties(properties.user)
        return Submit((_read_submission(options, priority, job_type, text),), reply)
    fields = Fields(parse_json(text))
    read_schema(fields)
    jobs = tuple(
        _read_submission(entry, priority, job_type, entry.text("payload")) for entry in fields.each("jobs", MAX_ENTRIES)
    )
    if not jobs:
        raise FieldError("jobs: holds no job")
    return Submit(jobs, reply)


def _read_properties(user: tuple[tuple[str, str], ...]) -> Fields:
    options: dict[str, Any] = {}
    for name, value in user:
        if name in _NUMBERS:
            try:
                options[name] = parse_json(value)
            except FieldError:
                raise FieldError(f"property {name}: expected a number, got {value[:40]!r}") from None
        elif name == "tags":
            options[name] = [tag for tag in value.split(",") if tag]
        else:
            options[name] = value
    fields = Fields(options, "property ")
    if "schema" in options:
        read_schema(fields)
    return fields


def _read_submission(fields: Fields, priority: Priority, job_type: JobType, payload: str) -> Submission:
    if not fits(payload):
        raise FieldError("payload: is too large; put the data where workers can fetch it, and send a reference")
    job_id, unique = fields.optional("id", fields.id), fields.optional("unique", fields.id)
    return Submission(
        job_id=None if job_id is None else JobId(job_id),
        type=job_type,
        priority=priority,
        payload=payload,
        not_before=fields.optional("not_before", fields.time),
        expires_at=fields.optional("expires_at", fields.time),
        timeout_s=fields.optional("timeout", lambda name: fields.number(name, 0.001, LONGEST_TIMEOUT_S)),
        max_attempts=fields.optional("max_attempts", lambda name: fields.integer(name, 1, MOST_ATTEMPTS)),
        backoff_s=fields.optional("backoff", lambda name: fields.number(name, 0.0, LONGEST_TIMEOUT_S)),
        max_crashes=fields.optional("max_crashes", lambda name: fields.integer(name, 1, MOST_ATTEMPTS)),
        tags=frozenset(Tag(tag) for tag in fields.ids("tags", MAX_ENTRIES)),
        unique=None if unique is None else UniqueKey(unique),
    )


def _options(job: Submission) -> dict[str, Any]:
    return present(
        {
            "id": job.job_id,
            "not_before": job.not_before,
            "expires_at": job.expires_at,
            "timeout": job.timeout_s,
            "max_attempts": job.max_attempts,
            "backoff": job.backoff_s,
            "max_crashes": job.max_crashes,
            "unique": job.unique,
        }
    )


def submission_size(job: Submission) -> int:
    """Bytes of a job's free texts, for `body.in_batches`."""
    return content_size(job.payload) + sum(len(tag) + 3 for tag in job.tags)


def encode_submit(message: Submit) -> Packet:
    """One job travels as its payload with user properties, several of one type and priority as a list."""
    first = message.jobs[0]
    topic = topics.queue(first.priority, first.type)
    if len(message.jobs) == 1:
        user = [(name, str(value)) for name, value in _options(first).items()]
        if first.tags:
            user.append(("tags", ",".join(sorted(first.tags))))
        plain = reply_properties(message.reply)
        properties = Properties(None, plain.response_topic, plain.correlation_data, tuple(user))
        return Packet(topic, first.payload.encode(), properties=properties)
    jobs = [
        _options(job) | {"payload": job.payload} | ({"tags": sorted(job.tags)} if job.tags else {})
        for job in message.jobs
    ]
    return make_packet(TopicKind.QUEUE, topic, {"jobs": jobs}, reply_properties(message.reply, BATCH_CONTENT_TYPE))


# --- requests about jobs ----------------------------------------------------------------------------------------------


def _decode_cancel(address: Address, _body: bytes, properties: Properties) -> CancelJob:
    return CancelJob(JobId(address.values[0]), read_reply(properties))


def _encode_cancel(message: CancelJob) -> Packet:
    topic = topics.of_job(TopicKind.CANCEL, message.job_id)
    return make_packet(TopicKind.CANCEL, topic, {}, reply_properties(message.reply))


def _decode_retry(address: Address, _body: bytes, properties: Properties) -> RetryJob:
    return RetryJob(JobId(address.values[0]), read_reply(properties))


def _encode_retry(message: RetryJob) -> Packet:
    topic = topics.of_job(TopicKind.RETRY, message.job_id)
    return make_packet(TopicKind.RETRY, topic, {}, reply_properties(message.reply))


def _decode_query(address: Address, body: bytes, properties: Properties) -> Query:
    fields = open_body(body)
    reply = read_reply(properties)
    client_id = ClientId(address.values[0])
    if reply is None or reply.client_id != client_id:
        reply = Reply(client_id)
    explain = fields.flag("explain")
    ids = tuple(JobId(found) for found in fields.ids("ids", MAX_EXPLAINED if explain else MAX_QUERY))
    wanted = fields.optional("filter", fields.within)
    if explain and wanted is not None:
        raise FieldError("explain: goes with ids, not with a filter")
    chosen = None if wanted is None else _read_filter(wanted)
    return Query(ids, chosen, fields.flag("results"), reply, explain)


def _read_filter(fields: Fields) -> JobFilter:
    job_type, before = fields.optional("type", fields.id), fields.optional("before", fields.id)
    return JobFilter(
        state=fields.optional("state", lambda name: fields.choice(name, State)),
        type=None if job_type is None else JobType(job_type),
        limit=fields.integer("limit", 1, MAX_QUERY),
        before=None if before is None else JobId(before),
    )


def _filter_fields(wanted: JobFilter) -> dict[str, Any]:
    return present({"state": wanted.state, "type": wanted.type, "limit": wanted.limit, "before": wanted.before})


def _encode_query(message: Query) -> Packet:
    body = {
        "ids": list(message.ids) or None,
        "filter": None if message.filter is None else _filter_fields(message.filter),
        "results": message.with_results,
        "explain": message.explain or None,
    }
    topic = f"{TopicKind.QUERY}/{message.reply.client_id}"
    return make_packet(TopicKind.QUERY, topic, body, reply_properties(message.reply))


def _decode_pause(address: Address, _body: bytes, properties: Properties) -> SetPause:
    return SetPause(JobType(address.values[0]), address.kind is TopicKind.PAUSE, read_reply(properties))


def _encode_pause(message: SetPause) -> Packet:
    kind = TopicKind.PAUSE if message.paused else TopicKind.RESUME
    return make_packet(kind, f"{kind}/{message.job_type}", {}, reply_properties(message.reply))


def _decode_drain(address: Address, _body: bytes, properties: Properties) -> SetDrain:
    return SetDrain(WorkerId(address.values[0]), address.kind is TopicKind.DRAIN, read_reply(properties))


def _encode_drain(message: SetDrain) -> Packet:
    kind = TopicKind.DRAIN if message.drained else TopicKind.UNDRAIN
    return make_packet(kind, topics.of_worker(kind, message.worker_id), {}, reply_properties(message.reply))


def _decode_cleanup(_address: Address, _body: bytes, _properties: Properties) -> Cleanup:
    return Cleanup()


def _encode_cleanup(_message: Cleanup) -> Packet:
    return make_packet(TopicKind.CLEANUP, str(TopicKind.CLEANUP), {})


DECODERS: Final[dict[TopicKind, Callable[[Address, bytes, Properties], Any]]] = {
    TopicKind.QUEUE: _decode_submit,
    TopicKind.CANCEL: _decode_cancel,
    TopicKind.RETRY: _decode_retry,
    TopicKind.PAUSE: _decode_pause,
    TopicKind.RESUME: _decode_pause,
    TopicKind.DRAIN: _decode_drain,
    TopicKind.UNDRAIN: _decode_drain,
    TopicKind.QUERY: _decode_query,
    TopicKind.CLEANUP: _decode_cleanup,
}

ENCODERS: Final[dict[type, Callable[[Any], Packet]]] = {
    Submit: encode_submit,
    CancelJob: _encode_cancel,
    RetryJob: _encode_retry,
    SetPause: _encode_pause,
    SetDrain: _encode_drain,
    Query: _encode_query,
    Cleanup: _encode_cleanup,
}
