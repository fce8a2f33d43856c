"""The messages between clients and the dispatcher, as bytes."""

from collections.abc import Callable
from typing import Any, Final

from stockworker.protocol import topics
from stockworker.protocol.body import (
    BATCH_CONTENT_TYPE,
    LONGEST_CORRELATION,
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
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, WorkerId
from stockworker.protocol.job import PRIORITY_BY_LABEL, Priority
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import (
    Answer,
    CancelJob,
    Cleanup,
    JobFilter,
    JobView,
    Notice,
    Query,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Reply,
    RetryJob,
    Submission,
    Submit,
)
from stockworker.protocol.packet import Packet, Properties
from stockworker.protocol.topics import Address, Kind

LONGEST_TIMEOUT_S: Final = 30 * 86400.0
MOST_ATTEMPTS: Final = 1000
MAX_QUERY: Final = 1000

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
    job_id = fields.optional("id", fields.id)
    return Submission(
        id=None if job_id is None else JobId(job_id),
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
    )


def _options(job: Submission) -> dict[str, Any]:
    return present(
        {
            "id": job.id,
            "not_before": job.not_before,
            "expires_at": job.expires_at,
            "timeout": job.timeout_s,
            "max_attempts": job.max_attempts,
            "backoff": job.backoff_s,
            "max_crashes": job.max_crashes,
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
    return make_packet(Kind.QUEUE, topic, {"jobs": jobs}, reply_properties(message.reply, BATCH_CONTENT_TYPE))


# --- requests about jobs ----------------------------------------------------------------------------------------------


def _decode_cancel(address: Address, _body: bytes, properties: Properties) -> CancelJob:
    return CancelJob(JobId(address.values[0]), read_reply(properties))


def _encode_cancel(message: CancelJob) -> Packet:
    topic = topics.of_job(Kind.CANCEL, message.job_id)
    return make_packet(Kind.CANCEL, topic, {}, reply_properties(message.reply))


def _decode_retry(address: Address, _body: bytes, properties: Properties) -> RetryJob:
    return RetryJob(JobId(address.values[0]), read_reply(properties))


def _encode_retry(message: RetryJob) -> Packet:
    topic = topics.of_job(Kind.RETRY, message.job_id)
    return make_packet(Kind.RETRY, topic, {}, reply_properties(message.reply))


def _decode_query(address: Address, body: bytes, properties: Properties) -> Query:
    fields = open_body(body)
    reply = read_reply(properties)
    client_id = ClientId(address.values[0])
    if reply is None or reply.client_id != client_id:
        reply = Reply(client_id)
    ids = tuple(JobId(found) for found in fields.ids("ids", MAX_QUERY))
    wanted = fields.optional("filter", fields.within)
    return Query(ids, None if wanted is None else _read_filter(wanted), fields.flag("results"), reply)


def _read_filter(fields: Fields) -> JobFilter:
    job_type = fields.optional("type", fields.id)
    return JobFilter(
        state=fields.optional("state", lambda name: fields.choice(name, State)),
        type=None if job_type is None else JobType(job_type),
        limit=fields.integer("limit", 1, MAX_QUERY),
    )


def _encode_query(message: Query) -> Packet:
    wanted = message.filter
    body = {
        "ids": list(message.ids) or None,
        "filter": None
        if wanted is None
        else present({"state": wanted.state, "type": wanted.type, "limit": wanted.limit}),
        "results": message.with_results,
    }
    topic = f"{Kind.QUERY}/{message.reply.client_id}"
    return make_packet(Kind.QUERY, topic, body, reply_properties(message.reply))


def _decode_cleanup(_address: Address, _body: bytes, _properties: Properties) -> Cleanup:
    return Cleanup()


def _encode_cleanup(_message: Cleanup) -> Packet:
    return make_packet(Kind.CLEANUP, str(Kind.CLEANUP), {})


# --- what the dispatcher says -----------------------------------------------------------------------------------------


def _decode_receipt(address: Address, body: bytes, properties: Properties) -> Receipt | Answer:
    fields = open_body(body)
    correlation = fields.optional("correlation", lambda name: fields.text(name, LONGEST_CORRELATION))
    if correlation is None and properties.correlation_data is not None:
        correlation = properties.correlation_data.decode()
    reply = Reply(ClientId(address.values[0]), correlation)
    if fields.optional("jobs", str) is not None:
        jobs = tuple(_read_view(entry) for entry in fields.each("jobs", MAX_ENTRIES))
        return Answer(reply, jobs, tuple(JobId(left) for left in fields.ids("omitted", MAX_ENTRIES)))
    return Receipt(reply, tuple(_read_entry(entry) for entry in fields.each("receipts", MAX_ENTRIES)))


def _read_entry(fields: Fields) -> ReceiptEntry:
    job_id = fields.optional("id", fields.id)
    return ReceiptEntry(
        None if job_id is None else JobId(job_id),
        fields.choice("status", ReceiptStatus),
        fields.optional("reason", fields.text),
    )


def _read_view(fields: Fields) -> JobView:
    worker = fields.optional("worker", fields.id)
    return JobView(
        id=JobId(fields.id("id")),
        type=JobType(fields.id("type")),
        priority=_read_priority(fields),
        state=fields.choice("state", State),
        submitted_at=fields.time("submitted_at"),
        ready_at=fields.time("ready_at"),
        ended_at=fields.optional("ended_at", fields.time),
        attempt=fields.integer("attempt", 0, 1 << 31),
        failures=fields.integer("failures", 0, 1 << 31),
        crashes=fields.integer("crashes", 0, 1 << 31),
        worker=None if worker is None else WorkerId(worker),
        cancel_requested=fields.flag("cancel_requested"),
        reason=fields.optional("reason", fields.text),
        result=fields.optional("result", fields.text),
    )


def _read_priority(fields: Fields) -> Priority:
    label = fields.text("priority")
    if label not in PRIORITY_BY_LABEL:
        raise FieldError(f"priority: {label[:20]!r} is none of {', '.join(PRIORITY_BY_LABEL)}")
    return PRIORITY_BY_LABEL[label]


def _answer_properties(reply: Reply) -> Properties:
    return Properties(correlation_data=None if reply.correlation is None else reply.correlation.encode())


def _encode_receipt(message: Receipt) -> Packet:
    entries = [
        present({"id": entry.job_id, "status": entry.status, "reason": entry.reason}) for entry in message.entries
    ]
    topic = topics.receipt(message.reply.client_id)
    body = {"correlation": message.reply.correlation, "receipts": entries}
    return make_packet(Kind.RECEIPT, topic, body, _answer_properties(message.reply))


def view_fields(view: JobView) -> dict[str, Any]:
    """A job as a JSON object: on the wire, and in the output of commands."""
    return present(
        {
            "id": view.id,
            "type": view.type,
            "priority": view.priority.label,
            "state": view.state,
            "submitted_at": view.submitted_at,
            "ready_at": view.ready_at,
            "ended_at": view.ended_at,
            "attempt": view.attempt,
            "failures": view.failures,
            "crashes": view.crashes,
            "worker": view.worker,
            "cancel_requested": view.cancel_requested,
            "reason": view.reason,
            "result": view.result,
        }
    )


def _encode_answer(message: Answer) -> Packet:
    body = {
        "correlation": message.reply.correlation,
        "jobs": [view_fields(view) for view in message.jobs],
        "omitted": list(message.omitted) or None,
    }
    return make_packet(Kind.RECEIPT, topics.receipt(message.reply.client_id), body, _answer_properties(message.reply))


def _notice_kind(state: State) -> Kind:
    return Kind.COMPLETED if state is State.COMPLETED else Kind.FAILED


def _decode_notice(address: Address, body: bytes, _properties: Properties) -> Notice:
    fields = open_body(body)
    worker = fields.optional("worker", fields.id)
    state = fields.choice("state", State)
    if state not in TERMINAL or _notice_kind(state) is not address.kind:
        raise FieldError(f"state: {state} does not belong on this topic")
    return Notice(
        job_id=JobId(address.values[0]),
        type=JobType(fields.id("type")),
        state=state,
        attempt=fields.integer("attempt", 0, 1 << 31),
        worker=None if worker is None else WorkerId(worker),
        result=fields.optional("result", fields.text),
        reason=fields.optional("reason", fields.text),
    )


def _encode_notice(message: Notice) -> Packet:
    kind = _notice_kind(message.state)
    body = {
        "job_id": message.job_id,
        "type": message.type,
        "state": message.state,
        "attempt": message.attempt,
        "worker": message.worker,
        "reason": message.reason,
        "result": message.result,
    }
    return make_packet(kind, topics.of_job(kind, message.job_id), body)


DECODERS: Final[dict[Kind, Callable[[Address, bytes, Properties], Any]]] = {
    Kind.QUEUE: _decode_submit,
    Kind.CANCEL: _decode_cancel,
    Kind.RETRY: _decode_retry,
    Kind.QUERY: _decode_query,
    Kind.CLEANUP: _decode_cleanup,
    Kind.RECEIPT: _decode_receipt,
    Kind.COMPLETED: _decode_notice,
    Kind.FAILED: _decode_notice,
}

ENCODERS: Final[dict[type, Callable[[Any], Packet]]] = {
    Submit: encode_submit,
    CancelJob: _encode_cancel,
    RetryJob: _encode_retry,
    Query: _encode_query,
    Cleanup: _encode_cleanup,
    Receipt: _encode_receipt,
    Answer: _encode_answer,
    Notice: _encode_notice,
}
