"""Statistics about the whole system, as bytes."""

from collections.abc import Callable
from typing import Any, Final

from stockworker.protocol.body import MAX_ENTRIES, MAX_TEXT, make_packet, open_body, read_reply, reply_properties
from stockworker.protocol.fields import Fields
from stockworker.protocol.ids import JobType, WorkerId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import QueueView, Stats, StatsRequest, WorkerView
from stockworker.protocol.packet import Packet, Properties
from stockworker.protocol.topics import Address, TopicKind


def _decode_stats_request(_address: Address, _body: bytes, properties: Properties) -> StatsRequest:
    return StatsRequest(read_reply(properties))


def _encode_stats_request(message: StatsRequest) -> Packet:
    return make_packet(TopicKind.STATS_REQUEST, str(TopicKind.STATS_REQUEST), {}, reply_properties(message.reply))


def _decode_stats(_address: Address, body: bytes, properties: Properties) -> Stats:
    fields = open_body(body)
    return Stats(
        reply=read_reply(properties),
        incarnation=fields.text("epoch", MAX_TEXT),
        version=fields.text("version", MAX_TEXT),
        uptime_s=fields.number("uptime_s", 0, 1e12),
        states=tuple((State(name), inner.integer(name, 0, 1 << 53)) for name, inner in fields.items("states")),
        queues=tuple(_read_queue(entry) for entry in fields.each("queues", MAX_ENTRIES)),
        workers=tuple(_read_worker(entry) for entry in fields.each("workers", MAX_ENTRIES)),
        counters=tuple((name, inner.integer(name, 0, 1 << 53)) for name, inner in fields.items("counters")),
        certificate_days=fields.optional("certificate_days", fields.days),
    )


def _read_queue(fields: Fields) -> QueueView:
    return QueueView(
        JobType(fields.id("type")),
        fields.integer("waiting", 0, 1 << 53),
        fields.number("oldest_s", 0, 1e12),
        fields.integer("workers", 0, 1 << 53),
        fields.flag("held"),
    )


def _read_worker(fields: Fields) -> WorkerView:
    return WorkerView(
        worker_id=WorkerId(fields.id("id")),
        online=fields.flag("online"),
        slots=fields.integer("slots", 0, 1 << 31),
        leases=fields.integer("leases", 0, 1 << 31),
        types=tuple(JobType(found) for found in fields.ids("types", MAX_ENTRIES)),
        seen_s=fields.number("seen_s", 0, 1e12),
        version=fields.text("version", MAX_TEXT),
        drained=fields.flag("held"),
        certificate_days=fields.optional("certificate_days", fields.days),
    )


def stats_fields(stats: Stats) -> dict[str, Any]:
    """Statistics as a JSON object: on the wire, and in the output of commands."""
    return {
        "epoch": stats.incarnation,
        "version": stats.version,
        "uptime_s": stats.uptime_s,
        "states": dict(stats.states),
        "queues": [
            {
                "type": queue.type,
                "waiting": queue.waiting,
                "oldest_s": queue.oldest_s,
                "workers": queue.workers,
                "held": queue.paused,
            }
            for queue in stats.queues
        ],
        "workers": [
            {
                "id": worker.worker_id,
                "online": worker.online,
                "slots": worker.slots,
                "leases": worker.leases,
                "types": list(worker.types),
                "seen_s": worker.seen_s,
                "version": worker.version,
                "held": worker.drained,
                "certificate_days": worker.certificate_days,
            }
            for worker in stats.workers
        ],
        "counters": dict(stats.counters),
        "certificate_days": stats.certificate_days,
    }


def _encode_stats(message: Stats) -> Packet:
    topic = str(TopicKind.STATS_RESPONSE)
    return make_packet(TopicKind.STATS_RESPONSE, topic, stats_fields(message), reply_properties(message.reply))


DECODERS: Final[dict[TopicKind, Callable[[Address, bytes, Properties], Any]]] = {
    TopicKind.STATS_REQUEST: _decode_stats_request,
    TopicKind.STATS_RESPONSE: _decode_stats,
}

ENCODERS: Final[dict[type, Callable[[Any], Packet]]] = {
    StatsRequest: _encode_stats_request,
    Stats: _encode_stats,
}
