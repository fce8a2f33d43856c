"""One submitter is compromised: the attacker has its certificate and key. It can waste work, and do little else."""

import asyncio
import json
from pathlib import Path

import pytest

from stockworker.logs.events import MessageRefused
from stockworker.protocol.body import BATCH_CONTENT_TYPE, MAX_BODY
from stockworker.protocol.messages import Receipt, ReceiptStatus
from stockworker.protocol.packet import Packet, Properties
from tests.harness.attacks import EVIL_CLIENT, RawClient, attack, counted, refused, run_good_job
from tests.harness.command import run
from tests.harness.fleet import Fleet
from tests.harness.peer import Peer, connected
from tests.harness.waiting import TIMEOUT_S, wait_until

EVIL = EVIL_CLIENT
RECEIPTS = f"jobs/receipt/{EVIL}"
ECHO = "jobs/queue/normal/echo"
FLOOD = 5_000
BAD_TOPIC = "jobs/cancel/fl oo d"

LOOK_ALIKE = "j\N{CYRILLIC SMALL LETTER O}b-1"
NO_IDS = [
    "+",
    "#",
    "a/b",
    "../../etc/passwd",
    "x" * 65,
    LOOK_ALIKE,
    "\N{FULLWIDTH LATIN SMALL LETTER J}ob",
    " job",
]
BODIES = {
    "a deep list": b"[" * 100_000,
    "a deep object": b'{"a":' * 40_000,
    "a deep list that ends": b"[" * 50_000 + b"]" * 50_000,
    "a huge number": b'{"schema": ' + b"9" * 100_000 + b"}",
    "too many bytes": b" " * (MAX_BODY + 1),
    "lone surrogates": b'{"schema": 1, "jobs": [{"payload": "\\ud800"}]}',
    "names that are doubled": b'{"schema": 1, "schema": 2, "jobs": []}',
    "no UTF-8": b"\xff\xfe",
    "a constant outside JSON": b'{"schema": 1, "jobs": [{"payload": "1", "timeout": Infinity}]}',
}


def send(fleet: Fleet, *packets: Packet, receipts: int = 0) -> list[Receipt]:
    """Publish as the attacker; wait for `count` receipts, and return them."""

    async def publish() -> Peer:
        evil = Peer(fleet.broker, EVIL, (RECEIPTS,))
        async with connected([evil]):
            await evil.link.send(packets)
            assert await evil.link.drain(TIMEOUT_S)
            await evil.until(lambda: len(evil.received) >= receipts)
        return evil

    evil = asyncio.run(publish())
    assert evil.denied == set()
    return [message for message in evil.messages() if isinstance(message, Receipt)]


@pytest.mark.parametrize("name", NO_IDS)
def test_an_id_with_a_wildcard_level_or_lookalike_is_refused(fleet: Fleet, name: str) -> None:
    job = Packet(ECHO, b"1", properties=Properties(None, RECEIPTS, b"1", (("id", name),)))
    with refused(fleet, "messages_refused", "message_refused", topic=ECHO):
        (receipt,) = send(fleet, job, receipts=1)
    assert receipt.entries[0].status is ReceiptStatus.REJECTED
    assert "is not a valid ID" in (receipt.entries[0].reason or "")


@pytest.mark.parametrize(
    "topic", ["jobs/queue/normal/ech\N{CYRILLIC SMALL LETTER O}", "jobs/cancel/a b", "jobs/queue/HIGH/x"]
)
def test_a_topic_with_an_invalid_id_is_refused(fleet: Fleet, topic: str) -> None:
    with refused(fleet, "messages_refused", "message_refused", topic=topic):
        send(fleet, Packet(topic, b"1"))


@pytest.mark.parametrize("topic", [b"jobs/queue/+/echo", b"jobs/cancel/#", b"jobs/cancel/a\0b"])
def test_a_publish_to_an_invalid_topic_ends_the_connection(fleet: Fleet, topic: bytes) -> None:
    with RawClient(fleet.broker, fleet.broker.client_context(EVIL), "raw") as client:
        client.publish(topic)
        assert client.is_thrown_out()


@pytest.mark.parametrize("name", BODIES)
def test_a_malicious_body_is_refused(fleet: Fleet, name: str) -> None:
    packet = Packet("jobs/queue/low/batch", BODIES[name], properties=Properties(BATCH_CONTENT_TYPE, RECEIPTS, b"1"))
    with refused(fleet, "messages_refused", "message_refused", topic=packet.topic):
        (receipt,) = send(fleet, packet, receipts=1)
    assert receipt.entries[0].status is ReceiptStatus.REJECTED
    run_good_job(fleet)


def test_an_oversized_packet_ends_only_its_own_connection(fleet: Fleet) -> None:
    with RawClient(fleet.broker, fleet.broker.client_context(EVIL), "raw") as client:
        client.publish(ECHO.encode(), b" " * 2_000_000)
        assert client.is_thrown_out()
    run_good_job(fleet)


@attack(EVIL)
def flood_of_bad_messages(fleet: Fleet) -> None:
    send(fleet, *(Packet(BAD_TOPIC, b"") for _ in range(FLOOD)))


def test_a_flood_of_bad_messages_neither_fills_the_disk_nor_stops_work(fleet: Fleet) -> None:
    before, size = counted(fleet, "messages_refused"), len(fleet.dispatcher.log)
    flood_of_bad_messages(fleet)
    run_good_job(fleet)
    wait_until(lambda: counted(fleet, "messages_refused") - before == FLOOD, "an end of the flood")
    told = [line for line in fleet.dispatcher.events("message_refused") if line["topic"] == BAD_TOPIC]
    assert 0 < len(told) <= (MessageRefused.cause.lines_a_minute or 0)
    assert told[-1]["muted_s"] > 0
    assert len(fleet.dispatcher.log) - size < 100_000


@pytest.mark.parametrize("topic", ["jobs/retry/j1", "jobs/pause/echo", "workers/drain/host-1", "workers/cleanup"])
def test_a_submitter_has_no_rights_of_an_operator(fleet: Fleet, topic: str) -> None:
    assert denied(fleet, topic) == {topic}


@pytest.mark.parametrize(
    "topic",
    ["jobs/completed/j1", "jobs/report/host-1", f"jobs/request/{EVIL}", "jobs/assign/host-1", "jobs/query/operator",
     "jobs/receipt/client", "workers/control/host-1", "system/dispatcher", "$SYS/broker/version"],
)  # fmt: skip
def test_a_submitter_cannot_act_as_another_participant(fleet: Fleet, topic: str) -> None:
    assert denied(fleet, topic) == {topic}


def denied(fleet: Fleet, topic: str) -> set[str]:
    async def run() -> set[str]:
        evil = Peer(fleet.broker, EVIL, ())
        async with connected([evil]):
            await evil.publish([topic], b"{}")
        return evil.denied

    return asyncio.run(run())


def test_a_submitter_cannot_read_jobs_and_answers_of_others(fleet: Fleet) -> None:
    async def run() -> set[str]:
        evil = Peer(fleet.broker, EVIL, ("#", "jobs/queue/#", "jobs/receipt/operator", "jobs/assign/+"))
        async with connected([evil]), fleet.client("operator") as other:
            await other.result(await other.submit("echo", "private"), timeout_s=TIMEOUT_S)
            await evil.link.send([Packet(ECHO, b"1", properties=Properties(user=(("id", "afterwards"),)))])
            await evil.until(lambda: any(heard.packet.topic == "jobs/completed/afterwards" for heard in evil.received))
        return {heard.packet.topic.split("/")[1] for heard in evil.received if b"private" in heard.packet.body}

    assert asyncio.run(run()) == set()


def test_a_forged_reply_topic_reaches_only_clients(fleet: Fleet) -> None:
    """The submitter chooses the reply topic; a client ignores receipts for jobs that it did not submit."""
    aside = Packet(ECHO, b"1", properties=Properties(None, "jobs/assign/host-1", b"1"))
    send(fleet, aside)  # not the reply topic of a client: no receipt
    victims = Packet(ECHO, b"1", properties=Properties(None, "jobs/receipt/operator", b"never-asked"))

    async def run() -> object:
        async with fleet.client("operator") as victim:
            await asyncio.to_thread(send, fleet, victims)
            return await victim.result(await victim.submit("echo", "mine"), timeout_s=TIMEOUT_S)

    assert '"mine"' in json.dumps(asyncio.run(run()))
    assert not [line for line in fleet.workers[0].events("message_refused") if "assign" in line["topic"]]


def test_a_malicious_configuration_is_refused(tmp_path: Path) -> None:
    """The attacker can write a configuration file, and nothing else."""
    laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\njob_processor: *c"
    for text, reason in (
        (laughs, "alias"),
        ("job_processor: {log: {level: info}, log: {level: debug}}", "twice"),
        ("job_processor: !!python/object/apply:os.system [id]", "tag"),
        ("job_processor: " + "[" * 100_000, "nested"),
        ("job_processor: {worker: {<<: {id: x}}}", "<<"),
    ):
        file = tmp_path / "job_processor.yml"
        file.write_text(text)
        done = run(file, "agent")
        assert done.status == 78
        assert reason in done.errors, done.errors
