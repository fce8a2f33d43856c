"""One worker is compromised: the attacker has its certificate and key. It can ruin its own jobs, and no others."""

import asyncio

import pytest

from stockworker.protocol import codec, topics
from stockworker.protocol.ids import ClientId, JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Ack,
    AttemptReport,
    Disconnect,
    Heartbeat,
    Message,
    Notice,
    Presence,
    Progress,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Register,
    Reply,
    Report,
    Request,
    Unregister,
)
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import TopicKind
from tests.harness.attacks import RawClient, connections_lost, refused, run_good_job
from tests.harness.fleet import Fleet
from tests.harness.peer import Peer, connected
from tests.harness.waiting import TIMEOUT_S

EVIL = WorkerId("host-9")
VICTIM = WorkerId("host-1")
TOKEN = Token("feedfeedfeedfeed")
FORGED: dict[str, Message] = {
    "completion": Notice(JobId("j1"), JobType("echo"), State.COMPLETED, 1, VICTIM, "1"),
    "failure": Notice(JobId("j1"), JobType("echo"), State.FAILED, 1, VICTIM, None, "because"),
    "report": Report(VICTIM, (AttemptReport(TOKEN, Outcome.OK, "1", job_id=JobId("j1")),)),
    "request": Request(VICTIM, "boot", 9, 9, (JobType("echo"),), (), "0", ()),
    "heartbeat": Heartbeat(VICTIM, "boot", 1, 0, 0, 1.0),
    "registration": Register(VICTIM, "boot", "1", 1, (JobType("echo"),), ()),
    "sign-off": Unregister(VICTIM, "boot"),
    "will": Disconnect(VICTIM, "boot"),
    "progress": Progress(VICTIM, JobId("j1"), 0.5, "half"),
    "acknowledgement": Ack(VICTIM, stored=(TOKEN,)),
    "receipt": Receipt(Reply(ClientId("client")), (ReceiptEntry(JobId("j1"), ReceiptStatus.STORED),)),
    "presence": Presence(online=True, incarnation="forged", version="9"),
}
FORBIDDEN = ["jobs/queue/high/echo", "jobs/cancel/j1", "jobs/retry/j1", "jobs/pause/echo", "workers/cleanup"]
FORBIDDEN += [f"jobs/assign/{VICTIM}", f"workers/control/{VICTIM}", f"jobs/query/{VICTIM}", "system/monitor"]


def act(fleet: Fleet, *packets: Packet, subscriptions: tuple[str, ...] = ()) -> Peer:
    """Publish as the attacker; return the topics that the broker denied, and what the attacker received."""

    async def run() -> Peer:
        evil = Peer(fleet.broker, EVIL, subscriptions)
        async with connected([evil]):
            await evil.link.send(packets)
            assert await evil.link.drain(TIMEOUT_S)
        return evil

    return asyncio.run(run())


@pytest.mark.parametrize("what", FORGED)
def test_a_worker_cannot_act_as_another_participant(fleet: Fleet, what: str) -> None:
    packet = codec.encode(FORGED[what])
    if packet.qos == 0:
        packet = Packet(packet.topic, packet.body)  # to learn that it was denied
    assert act(fleet, packet).denied == {packet.topic}


@pytest.mark.parametrize("topic", FORBIDDEN)
def test_topics_of_other_roles_are_denied(fleet: Fleet, topic: str) -> None:
    assert act(fleet, Packet(topic, b"{}")).denied == {topic}


def test_a_worker_id_in_the_body_is_ignored(fleet: Fleet) -> None:
    """The topic identifies the sender, and the broker has verified it."""
    own = codec.encode(Unregister(EVIL, "boot"))
    claim = Packet(own.topic, own.body.replace(b"{", b'{"worker_id":"host-1","worker":"host-1",', 1))
    act(fleet, claim)
    run_good_job(fleet)
    assert not [line for line in fleet.dispatcher.events("worker_left") if line["worker"] == VICTIM]


def test_a_worker_cannot_read_jobs_of_another(fleet: Fleet) -> None:
    """The broker grants every filter (MQTT reveals no topics), but delivers no message for others."""

    async def run() -> list[str]:
        evil = Peer(fleet.broker, EVIL, ("#", f"jobs/assign/{VICTIM}", "jobs/assign/+", "+/+/+", "$share/g/jobs/#"))
        async with connected([evil]), fleet.client() as client:
            job_id = await client.submit("echo", "a secret payload")
            await client.result(job_id, timeout_s=TIMEOUT_S)
            # Published after everything about the job: by now the attacker has received whatever it may receive.
            await evil.link.send(
                [codec.encode(Report(EVIL, (AttemptReport(TOKEN, Outcome.OK, "1", job_id=JobId("j1")),)))]
            )
            await evil.until(lambda: any(f"jobs/ack/{EVIL}" == heard.packet.topic for heard in evil.received))
        return [heard.packet.topic for heard in evil.received if b"a secret payload" in heard.packet.body] + [
            heard.packet.topic
            for heard in evil.received
            if heard.packet.topic not in {f"jobs/ack/{EVIL}", f"jobs/assign/{EVIL}", "system/dispatcher"}
        ]

    assert asyncio.run(run()) == []


@pytest.mark.parametrize("token", [TOKEN, Token("0000000000000000")])
def test_a_result_for_a_lease_of_another_worker_is_refused(fleet: Fleet, token: Token) -> None:
    forged = Report(EVIL, (AttemptReport(token, Outcome.OK, '"forged"', job_id=JobId("j1")),))
    with refused(fleet, "reports_stale", "report_stale", worker=EVIL, job="j1"):
        act(fleet, codec.encode(forged))


LOOK_ALIKES = [
    "h\N{CYRILLIC SMALL LETTER O}st-1",
    "\N{FULLWIDTH LATIN SMALL LETTER H}ost-1",
    "host-1\N{ZERO WIDTH SPACE}",
]
NO_IDS = [*LOOK_ALIKES, "+", "#", "a/b", "..", "x" * 65, "", "a\\u0000b", "host-1\\n"]


@pytest.mark.parametrize("name", [name for name in NO_IDS if name != ".."])
def test_an_invalid_id_is_refused_in_every_field(fleet: Fleet, name: str) -> None:
    topic = topics.of_worker(TopicKind.REQUEST, EVIL)
    body = (
        '{"schema":1,"boot":"b","slots":1,"window":1,"types":["%s"],"tags":[],"seen":"0","leases":[]}' % name  # noqa: UP031 (braces)
    ).encode()
    with refused(fleet, "messages_refused", "message_refused", topic=topic):
        act(fleet, Packet(topic, body))


@pytest.mark.parametrize("name", [*LOOK_ALIKES, "host-1 ", "HOST-1"])
def test_a_lookalike_name_has_no_rights_of_the_other(fleet: Fleet, name: str) -> None:
    topic = f"jobs/report/{name}"
    assert act(fleet, Packet(topic, b"{}")).denied == {topic}


@pytest.mark.parametrize(
    "topic",
    [b"jobs/request/+", b"jobs/report/#", b"#", b"jobs/request/host-9\0", b"jobs/request/\xed\xa0\x80", b"\xff", b""],
    ids=["plus", "hash", "all", "nul", "surrogate", "no UTF-8", "nothing"],
)
def test_a_publish_to_an_invalid_topic_ends_the_connection(fleet: Fleet, topic: bytes) -> None:
    with RawClient(fleet.broker, fleet.broker.client_context(EVIL), "raw") as client:
        client.publish(topic)
        assert client.is_thrown_out()
    run_good_job(fleet)


@pytest.mark.parametrize("claimed", ["dispatcher", "host-1", "host-1-1", "client"])
def test_guessing_a_client_id_disconnects_no_service(fleet: Fleet, claimed: str) -> None:
    lost = connections_lost(fleet)
    for _ in range(5):
        with RawClient(fleet.broker, fleet.broker.client_context(EVIL), claimed):
            pass
    run_good_job(fleet)
    assert connections_lost(fleet) == lost == 0


def test_a_compromised_worker_ruins_only_its_own_jobs(fleet: Fleet) -> None:
    """It may request jobs of any type, and report anything about the jobs that it gets."""

    async def run() -> object:
        evil = Peer(fleet.broker, EVIL, (f"jobs/assign/{EVIL}", f"jobs/ack/{EVIL}"))
        async with connected([evil]), fleet.client() as client:
            await evil.link.send([codec.encode(Request(EVIL, "boot", 1, 1, (JobType("only_here"),), (), "0", ()))])
            job_id = await client.submit("only_here", max_attempts=1)
            assigned = await evil.until_message(lambda message: job_id in str(message))
            lease = assigned.leases[0]  # type: ignore[union-attr] # what else names the job to a worker
            await evil.link.send(
                [
                    codec.encode(
                        Report(EVIL, (AttemptReport(lease.token, Outcome.CRASHED, None, "x", job_id=lease.job_id),))
                    )
                ]
            )
            async for ended in client.wait([job_id], TIMEOUT_S):
                return ended.state
        return None

    assert asyncio.run(run()) is State.FAILED
    run_good_job(fleet)
