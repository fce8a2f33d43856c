"""The messages between workers and the dispatcher, and those that everybody may read, as bytes."""

from collections.abc import Callable
from typing import Any, Final

from stockworker.protocol import topics
from stockworker.protocol.body import MAX_ENTRIES, MAX_TEXT, make_packet, open_body, present
from stockworker.protocol.codec_client import LONGEST_TIMEOUT_S
from stockworker.protocol.fields import Fields
from stockworker.protocol.ids import JobId, JobType, Tag, Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Ack,
    Assign,
    Assignment,
    AttemptReport,
    Control,
    ControlAction,
    Disconnect,
    Heartbeat,
    LeaseStatus,
    Monitor,
    Presence,
    Progress,
    Register,
    Report,
    ReportedLease,
    Request,
    Transition,
    Unregister,
)
from stockworker.protocol.packet import Packet, Properties
from stockworker.protocol.topics import Address, TopicKind

_MOST_SLOTS: Final = 1024
"""A worker's request lists all of its leases, and must fit into one message."""

_LONGEST_LEASE_S: Final = 86400.0


def _worker(address: Address, fields: Fields) -> WorkerId:
    return WorkerId(address.values[0] if address.values else fields.id("worker_id"))


def _types(fields: Fields) -> tuple[JobType, ...]:
    return tuple(JobType(found) for found in fields.ids("types", MAX_ENTRIES))


def _tags(fields: Fields) -> tuple[Tag, ...]:
    return tuple(Tag(found) for found in fields.ids("tags", MAX_ENTRIES))


def _tokens(fields: Fields, name: str) -> tuple[Token, ...]:
    return tuple(Token(found) for found in fields.ids(name, MAX_ENTRIES))


# --- worker -> dispatcher ---------------------------------------------------------------------------------------------


def _decode_request(address: Address, body: bytes, _properties: Properties) -> Request:
    fields = open_body(body)
    return Request(
        worker_id=_worker(address, fields),
        incarnation=fields.id("boot"),
        slots=fields.integer("slots", 1, _MOST_SLOTS),
        window=fields.integer("window", 0, _MOST_SLOTS),
        types=_types(fields),
        tags=_tags(fields),
        version=fields.text("version", 64),
        leases=tuple(
            ReportedLease(JobId(entry.id("job_id")), Token(entry.id("token")), entry.choice("status", LeaseStatus))
            for entry in fields.each("leases", MAX_ENTRIES)
        ),
        disk_pressure=fields.flag("short"),
    )


def _encode_request(message: Request) -> Packet:
    body = {
        "boot": message.incarnation,
        "slots": message.slots,
        "window": message.window,
        "types": list(message.types),
        "tags": list(message.tags),
        "version": message.version,
        "leases": [{"job_id": lease.job_id, "token": lease.token, "status": lease.status} for lease in message.leases],
        "short": message.disk_pressure or None,
    }
    return make_packet(TopicKind.REQUEST, topics.of_worker(TopicKind.REQUEST, message.worker_id), body)


def _decode_report(address: Address, body: bytes, _properties: Properties) -> Report:
    fields = open_body(body)
    attempts = tuple(_read_attempt(entry) for entry in fields.each("attempts", MAX_ENTRIES))
    return Report(_worker(address, fields), attempts)


def _read_attempt(fields: Fields) -> AttemptReport:
    return AttemptReport(
        job_id=JobId(fields.id("job_id")),
        token=Token(fields.id("token")),
        outcome=fields.choice("outcome", Outcome),
        result=fields.optional("result", fields.text),
        error=fields.optional("error", lambda name: fields.text(name, MAX_TEXT)),
        permanent=fields.flag("permanent"),
        ran_s=fields.optional("ran_s", lambda name: fields.number(name, 0, 1e12)),
    )


def _encode_report(message: Report) -> Packet:
    attempts = [
        present(
            {
                "job_id": attempt.job_id,
                "token": attempt.token,
                "outcome": attempt.outcome,
                "result": attempt.result,
                "error": attempt.error,
                "permanent": attempt.permanent or None,
                "ran_s": attempt.ran_s,
            }
        )
        for attempt in message.attempts
    ]
    return make_packet(TopicKind.REPORT, topics.of_worker(TopicKind.REPORT, message.worker_id), {"attempts": attempts})


def _decode_progress(address: Address, body: bytes, _properties: Properties) -> Progress:
    fields = open_body(body)
    worker_id, job_id = address.values
    return Progress(WorkerId(worker_id), JobId(job_id), fields.number("fraction", 0, 1), fields.text("text", MAX_TEXT))


def _encode_progress(message: Progress) -> Packet:
    topic = topics.progress(message.worker_id, message.job_id)
    return make_packet(TopicKind.PROGRESS, topic, {"fraction": message.fraction, "text": message.text})


def _decode_register(address: Address, body: bytes, _properties: Properties) -> Register:
    fields = open_body(body)
    return Register(
        worker_id=_worker(address, fields),
        incarnation=fields.id("boot"),
        version=fields.text("version", 64),
        slots=fields.integer("slots", 1, _MOST_SLOTS),
        types=_types(fields),
        tags=_tags(fields),
    )


def _encode_register(message: Register) -> Packet:
    body = {
        "worker_id": message.worker_id,
        "boot": message.incarnation,
        "version": message.version,
        "slots": message.slots,
        "types": list(message.types),
        "tags": list(message.tags),
    }
    return make_packet(TopicKind.REGISTER, topics.of_worker(TopicKind.REGISTER, message.worker_id), body)


def _decode_unregister(address: Address, body: bytes, _properties: Properties) -> Unregister:
    fields = open_body(body)
    return Unregister(_worker(address, fields), fields.id("boot"))


def _encode_unregister(message: Unregister) -> Packet:
    topic = topics.of_worker(TopicKind.UNREGISTER, message.worker_id)
    return make_packet(TopicKind.UNREGISTER, topic, {"worker_id": message.worker_id, "boot": message.incarnation})


def _decode_heartbeat(address: Address, body: bytes, _properties: Properties) -> Heartbeat:
    fields = open_body(body)
    return Heartbeat(
        worker_id=_worker(address, fields),
        incarnation=fields.id("boot"),
        slots=fields.integer("slots", 1, _MOST_SLOTS),
        running=fields.integer("running", 0, _MOST_SLOTS),
        waiting_reports=fields.integer("waiting_reports", 0, 1 << 53),
        uptime_s=fields.number("uptime_s", 0, 1e12),
        evicted_results=fields.optional("evicted_results", lambda name: fields.integer(name, 0, 1 << 53)) or 0,
        certificate_days=fields.optional("certificate_days", fields.days),
    )


def _encode_heartbeat(message: Heartbeat) -> Packet:
    body = {
        "worker_id": message.worker_id,
        "boot": message.incarnation,
        "slots": message.slots,
        "running": message.running,
        "waiting_reports": message.waiting_reports,
        "uptime_s": message.uptime_s,
        "evicted_results": message.evicted_results or None,
        "certificate_days": message.certificate_days,
    }
    return make_packet(TopicKind.HEARTBEAT, topics.of_worker(TopicKind.HEARTBEAT, message.worker_id), body)


def _decode_disconnect(address: Address, body: bytes, _properties: Properties) -> Disconnect:
    fields = open_body(body)
    return Disconnect(_worker(address, fields), fields.id("boot"))


def _encode_disconnect(message: Disconnect) -> Packet:
    topic = topics.of_worker(TopicKind.DISCONNECT, message.worker_id)
    return make_packet(TopicKind.DISCONNECT, topic, {"worker_id": message.worker_id, "boot": message.incarnation})


# --- dispatcher -> worker ---------------------------------------------------------------------------------------------


def _decode_assign(address: Address, body: bytes, _properties: Properties) -> Assign:
    fields = open_body(body)
    leases = tuple(_read_assignment(entry) for entry in fields.each("leases", MAX_ENTRIES))
    return Assign(_worker(address, fields), fields.number("lease_s", 0.001, _LONGEST_LEASE_S), leases)


def _read_assignment(fields: Fields) -> Assignment:
    return Assignment(
        job_id=JobId(fields.id("job_id")),
        type=JobType(fields.id("type")),
        attempt=fields.integer("attempt", 1, 1 << 31),
        token=Token(fields.id("token")),
        timeout_s=fields.number("timeout_s", 0.001, LONGEST_TIMEOUT_S),
        payload=fields.text("payload"),
        no_crash_budget=fields.flag("strict"),
        expires_in_s=fields.optional("expires_in_s", lambda name: fields.number(name, 0, 1e12)),
    )


def _encode_assign(message: Assign) -> Packet:
    leases = [
        {
            "job_id": lease.job_id,
            "type": lease.type,
            "attempt": lease.attempt,
            "token": lease.token,
            "timeout_s": lease.timeout_s,
            "payload": lease.payload,
            **({"strict": True} if lease.no_crash_budget else {}),
            **({} if lease.expires_in_s is None else {"expires_in_s": lease.expires_in_s}),
        }
        for lease in message.leases
    ]
    body = {"lease_s": message.lease_s, "leases": leases}
    return make_packet(TopicKind.ASSIGN, topics.of_worker(TopicKind.ASSIGN, message.worker_id), body)


def _decode_ack(address: Address, body: bytes, _properties: Properties) -> Ack:
    fields = open_body(body)
    return Ack(
        worker_id=_worker(address, fields),
        stored=_tokens(fields, "stored"),
        stale=_tokens(fields, "stale"),
        lease_s=fields.optional("lease_s", lambda name: fields.number(name, 0, _LONGEST_LEASE_S)) or 0.0,
        error=fields.optional("error", lambda name: fields.text(name, MAX_TEXT)),
    )


def _encode_ack(message: Ack) -> Packet:
    body = {
        "stored": list(message.stored) or None,
        "stale": list(message.stale) or None,
        "lease_s": message.lease_s or None,
        "error": message.error,
    }
    return make_packet(TopicKind.ACK, topics.of_worker(TopicKind.ACK, message.worker_id), body)


def _decode_control(address: Address, body: bytes, _properties: Properties) -> Control:
    fields = open_body(body)
    token = fields.optional("token", fields.id)
    action = fields.choice("action", ControlAction)
    return Control(_worker(address, fields), action, None if token is None else Token(token))


def _encode_control(message: Control) -> Packet:
    topic = topics.of_worker(TopicKind.CONTROL, message.worker_id)
    return make_packet(TopicKind.CONTROL, topic, {"action": message.action, "token": message.token})


# --- dispatcher -> all ------------------------------------------------------------------------------------------------


def _decode_monitor(_address: Address, body: bytes, _properties: Properties) -> Monitor:
    return Monitor(tuple(_read_transition(entry) for entry in open_body(body).each("transitions", MAX_ENTRIES)))


def _read_transition(fields: Fields) -> Transition:
    worker = fields.optional("worker", fields.id)
    return Transition(
        job_id=JobId(fields.id("job_id")),
        type=JobType(fields.id("type")),
        state=fields.choice("state", State),
        attempt=fields.integer("attempt", 0, 1 << 31),
        worker=None if worker is None else WorkerId(worker),
    )


def _encode_monitor(message: Monitor) -> Packet:
    transitions = [
        present(
            {
                "job_id": step.job_id,
                "type": step.type,
                "state": step.state,
                "attempt": step.attempt,
                "worker": step.worker,
            }
        )
        for step in message.transitions
    ]
    return make_packet(TopicKind.MONITOR, str(TopicKind.MONITOR), {"transitions": transitions})


def _decode_presence(_address: Address, body: bytes, _properties: Properties) -> Presence:
    fields = open_body(body)
    return Presence(fields.flag("online"), fields.id("epoch"), fields.text("version", 64))


def _encode_presence(message: Presence) -> Packet:
    body = {"online": message.online, "epoch": message.incarnation, "version": message.version}
    return make_packet(TopicKind.DISPATCHER, str(TopicKind.DISPATCHER), body)


DECODERS: Final[dict[TopicKind, Callable[[Address, bytes, Properties], Any]]] = {
    TopicKind.REQUEST: _decode_request,
    TopicKind.REPORT: _decode_report,
    TopicKind.PROGRESS: _decode_progress,
    TopicKind.REGISTER: _decode_register,
    TopicKind.UNREGISTER: _decode_unregister,
    TopicKind.HEARTBEAT: _decode_heartbeat,
    TopicKind.DISCONNECT: _decode_disconnect,
    TopicKind.ASSIGN: _decode_assign,
    TopicKind.ACK: _decode_ack,
    TopicKind.CONTROL: _decode_control,
    TopicKind.MONITOR: _decode_monitor,
    TopicKind.DISPATCHER: _decode_presence,
}

ENCODERS: Final[dict[type, Callable[[Any], Packet]]] = {
    Request: _encode_request,
    Report: _encode_report,
    Progress: _encode_progress,
    Register: _encode_register,
    Unregister: _encode_unregister,
    Heartbeat: _encode_heartbeat,
    Disconnect: _encode_disconnect,
    Assign: _encode_assign,
    Ack: _encode_ack,
    Control: _encode_control,
    Monitor: _encode_monitor,
    Presence: _encode_presence,
}
