"""What the dispatcher says to clients, as bytes: receipts, answers and notices."""

from collections.abc import Callable
from typing import Any, Final

from stockworker.protocol import topics
from stockworker.protocol.body import LONGEST_CORRELATION, MAX_ENTRIES, make_packet, open_body, present
from stockworker.protocol.fields import FieldError, Fields
from stockworker.protocol.ids import ClientId, JobId, JobType, Token, WorkerId
from stockworker.protocol.job import PRIORITY_BY_LABEL, Attempt, Outcome, Priority
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import (
    Answer,
    Explanation,
    JobView,
    Notice,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Reply,
)
from stockworker.protocol.packet import Packet, Properties
from stockworker.protocol.topics import Address, TopicKind


def _decode_receipt(address: Address, body: bytes, properties: Properties) -> Receipt | Answer:
    fields = open_body(body)
    correlation = fields.optional("correlation", lambda name: fields.text(name, LONGEST_CORRELATION))
    if correlation is None and properties.correlation_data is not None:
        correlation = properties.correlation_data.decode()
    reply = Reply(ClientId(address.values[0]), correlation)
    if fields.optional("jobs", str) is not None:
        jobs = tuple(_read_view(entry) for entry in fields.each("jobs", MAX_ENTRIES))
        omitted = tuple(JobId(left) for left in fields.ids("omitted", MAX_ENTRIES))
        told = fields.optional(
            "stories", lambda name: tuple(_read_story(each) for each in fields.each(name, MAX_ENTRIES))
        )
        return Answer(reply, jobs, omitted, told or ())
    return Receipt(reply, tuple(_read_entry(entry) for entry in fields.each("receipts", MAX_ENTRIES)))


def _read_entry(fields: Fields) -> ReceiptEntry:
    job_id, holder = fields.optional("id", fields.id), fields.optional("holder", fields.id)
    return ReceiptEntry(
        None if job_id is None else JobId(job_id),
        fields.choice("status", ReceiptStatus),
        fields.optional("reason", fields.text),
        None if holder is None else JobId(holder),
    )


def _read_story(fields: Fields) -> Explanation:
    job_id = JobId(fields.id("id"))
    return Explanation(
        job_id, fields.texts("why"), tuple(_read_attempt(job_id, each) for each in fields.each("attempts", MAX_ENTRIES))
    )


def _read_attempt(job_id: JobId, fields: Fields) -> Attempt:
    return Attempt(
        job_id=job_id,
        number=fields.integer("number", 1, 1 << 31),
        worker=WorkerId(fields.id("worker")),
        token=Token(fields.id("token")),
        assigned_at=fields.time("assigned_at"),
        ended_at=fields.optional("ended_at", fields.time),
        outcome=fields.optional("outcome", lambda name: fields.choice(name, Outcome)),
        ran_s=fields.optional("ran_s", lambda name: fields.number(name, 0, 1e12)),
        error=fields.optional("error", fields.text),
    )


def _read_view(fields: Fields) -> JobView:
    worker = fields.optional("worker", fields.id)
    return JobView(
        job_id=JobId(fields.id("id")),
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
        present({"id": entry.job_id, "status": entry.status, "reason": entry.reason, "holder": entry.holder})
        for entry in message.entries
    ]
    topic = topics.receipt(message.reply.client_id)
    body = {"correlation": message.reply.correlation, "receipts": entries}
    return make_packet(TopicKind.RECEIPT, topic, body, _answer_properties(message.reply))


def view_fields(view: JobView) -> dict[str, Any]:
    """A job as a JSON object: on the wire, and in the output of commands."""
    return present(
        {
            "id": view.job_id,
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


def story_fields(story: Explanation) -> dict[str, Any]:
    """A job's story as a JSON object: on the wire, and in the output of commands."""
    attempts = [
        present(
            {
                "number": attempt.number,
                "worker": attempt.worker,
                "token": attempt.token,
                "assigned_at": attempt.assigned_at,
                "ended_at": attempt.ended_at,
                "outcome": attempt.outcome,
                "ran_s": attempt.ran_s,
                "error": attempt.error,
            }
        )
        for attempt in story.attempts
    ]
    return {"id": story.job_id, "why": list(story.why), "attempts": attempts}


def _encode_answer(message: Answer) -> Packet:
    body = {
        "correlation": message.reply.correlation,
        "jobs": [view_fields(view) for view in message.jobs],
        "omitted": list(message.omitted) or None,
        "stories": [story_fields(story) for story in message.explanations] or None,
    }
    return make_packet(
        TopicKind.RECEIPT, topics.receipt(message.reply.client_id), body, _answer_properties(message.reply)
    )


def _notice_kind(state: State) -> TopicKind:
    return TopicKind.COMPLETED if state is State.COMPLETED else TopicKind.FAILED


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


DECODERS: Final[dict[TopicKind, Callable[[Address, bytes, Properties], Any]]] = {
    TopicKind.RECEIPT: _decode_receipt,
    TopicKind.COMPLETED: _decode_notice,
    TopicKind.FAILED: _decode_notice,
}

ENCODERS: Final[dict[type, Callable[[Any], Packet]]] = {
    Receipt: _encode_receipt,
    Answer: _encode_answer,
    Notice: _encode_notice,
}
