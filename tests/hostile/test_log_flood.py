"""Peers flood the log: each has an allowance, the lines about others stay, and the first lines name the attacker."""

import asyncio
import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest

from stockworker.logs.events import EVENTS
from stockworker.protocol import codec
from stockworker.protocol.ids import ClientId, JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Outcome, Priority
from stockworker.protocol.messages import (
    AttemptReport,
    Disconnect,
    Message,
    Report,
    Request,
    Submission,
    Submit,
    Unregister,
)
from stockworker.protocol.packet import Packet
from tests.harness.attacks import EVIL_CLIENT, EVIL_WORKER, attack, counted, run_good_job
from tests.harness.fleet import Fleet
from tests.harness.peer import Peer, connected
from tests.harness.waiting import TIMEOUT_S, wait_until

FLOOD = 500
"""Messages of each kind."""

W, C = WorkerId(EVIL_WORKER), ClientId(EVIL_CLIENT)
LIMITS = {event.name: event.cause.lines_a_minute for event in EVENTS}


def send(fleet: Fleet, name: str, packets: Iterable[Packet]) -> None:
    async def run() -> None:
        evil = Peer(fleet.broker, name, ())
        async with connected([evil]):
            await evil.link.send(list(packets))
            assert await evil.link.drain(TIMEOUT_S)

    asyncio.run(run())


def life(number: int) -> list[Message]:
    """One life of a worker: it comes, reports what it has no lease of, is cut off, and leaves."""
    incarnation = f"life-{number}"
    stale = AttemptReport(Token(f"{number:016x}"), Outcome.OK, "1", job_id=JobId(f"job-{number}"))
    return [
        Request(W, incarnation, 1, 0, (JobType("echo"),), (), "1", ()),
        Report(W, (stale,)),
        Disconnect(W, incarnation),
        Request(W, incarnation, 1, 0, (JobType("echo"),), (), "1", ()),
        Unregister(W, incarnation),
    ]


@attack(EVIL_WORKER)
def lives_of_a_worker(fleet: Fleet) -> None:
    send(fleet, EVIL_WORKER, (codec.encode(message) for number in range(FLOOD) for message in life(number)))


@attack(EVIL_WORKER)
def flood_of_malformed_messages_of_a_worker(fleet: Fleet) -> None:
    topics = [codec.encode(message).topic for message in life(0)]
    send(fleet, EVIL_WORKER, (Packet(topic, b"{}") for topic in topics for _ in range(FLOOD)))


@attack(EVIL_CLIENT)
def flood_of_job_types(fleet: Fleet) -> None:
    send(fleet, EVIL_CLIENT, (_packet(f"type-{number}") for number in range(FLOOD)))


@attack(EVIL_CLIENT)
def flood_of_rejected_jobs(fleet: Fleet) -> None:
    send(fleet, EVIL_CLIENT, (_packet("echo", expires_at=1.0) for _ in range(FLOOD)))


def _packet(job_type: str, expires_at: float | None = None) -> Packet:
    job = Submission(
        job_id=None, type=JobType(job_type), priority=Priority.LOW, payload="1", expires_at=expires_at, max_attempts=1
    )
    return codec.encode(dataclasses.replace(Submit((job,), None), client_id=C))


@pytest.mark.parametrize(
    ("strike", "attacker", "floods"),
    [
        (lives_of_a_worker, W, {"worker_seen": "worker", "report_stale": "worker", "worker_left": "worker"}),
        (flood_of_malformed_messages_of_a_worker, W, {"message_refused": "sender"}),
        (flood_of_job_types, C, {"type_unserved": "client"}),
        (flood_of_rejected_jobs, C, {"job_rejected": "client"}),
    ],
    ids=["lives", "malformed", "types", "rejected"],
)
def test_a_flood_of_log_lines_is_bounded_and_names_its_author(
    fleet: Fleet, strike: object, attacker: str, floods: dict[str, str]
) -> None:
    assert callable(strike)
    strike(fleet)
    run_good_job(fleet)

    def written(event: str, field: str) -> list[dict[str, Any]]:
        return [line for line in fleet.dispatcher.events(event) if line[field] == attacker]

    for event, field in floods.items():
        wait_until(lambda: any("muted_s" in line for line in written(event, field)), "the flood is cut", TIMEOUT_S)  # noqa: B023 (called in this round)
        lines = written(event, field)
        kinds = {"/".join(line.get("topic", "").split("/")[:2]) for line in lines}
        assert 1 <= len(lines) <= len(kinds) * (LIMITS[event] or 0), event


def test_most_malformed_messages_are_dropped_unread(fleet: Fleet) -> None:
    before = counted(fleet, "messages_refused")
    flood_of_malformed_messages_of_a_worker(fleet)
    run_good_job(fleet)
    fleet.dispatcher.await_event("sender_ignored", sender=EVIL_WORKER)
    wait_until(
        lambda: counted(fleet, "messages_refused") - before == len(life(0)) * FLOOD, "all are counted", TIMEOUT_S
    )


def test_after_a_flood_the_log_has_the_lines_about_others_and_the_number_of_the_rest(fleet: Fleet) -> None:
    lives_of_a_worker(fleet)
    fleet.workers[1].stop()
    fleet.dispatcher.await_event("worker_left", worker="host-2")
    fleet.workers[1].start()
    fleet.dispatcher.await_event("worker_seen", 2, worker="host-2")

    fleet.dispatcher.stop()
    assert fleet.dispatcher.await_event("lines_left_out", key=EVIL_WORKER)["lines"] > 0
    fleet.dispatcher.start()
    run_good_job(fleet)
