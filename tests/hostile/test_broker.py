"""The broker, or the dispatcher, is compromised: the attacker can say everything to everybody.

What is sealed it can neither read nor forge. Without sealing it can have jobs run, and lie about them; still not more
than that: workers run what they are configured to run, and nothing else.
"""

import asyncio

import pytest

from stockworker.protocol import codec, topics
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.messages import Assign, Assignment
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import Kind
from tests.harness.fleet import Fleet
from tests.harness.hostility import run_good_job
from tests.harness.peer import Peer, connected
from tests.harness.waiting import TIMEOUT_S

VICTIM = WorkerId("host-1")


def say(fleet: Fleet, *packets: Packet) -> None:
    """Speak with the dispatcher's certificate, as a broker that is compromised could, too."""

    async def run() -> None:
        evil = Peer(fleet.broker, "dispatcher", ())
        async with connected([evil]):
            await evil.link.send(packets)
            assert await evil.link.drain(TIMEOUT_S)

    asyncio.run(run())


def forged(job_type: str, job_id: str = "forged", payload: str = "1") -> Packet:
    lease = Assignment(JobId(job_id), JobType(job_type), 1, Token("feedfeedfeedfeed"), 10.0, payload)
    return codec.encode(Assign(VICTIM, 30.0, (lease,)))


@pytest.mark.parametrize("job_type", ["sh", "os.system", "job_handlers", "python"])
def test_nothing_but_the_configured_types_can_be_run(fleet: Fleet, job_type: str) -> None:
    job_id = f"forged-{job_type}"
    say(fleet, forged(job_type, job_id))
    # The worker gives it back as refused, and the dispatcher has never heard of it.
    fleet.dispatcher.await_event("report_stale", job=job_id, outcome="refused")
    assert not [line for line in fleet.workers[0].events("attempt_completed") if line["job"] == job_id]
    run_good_job(fleet)


@pytest.mark.parametrize("kind", [Kind.ASSIGN, Kind.ACK, Kind.CONTROL])
@pytest.mark.parametrize("body", [b"\xff", b"[" * 100_000, b'{"schema":1,"leases":[{"id":"../../x"}],"action":"sh"}'])
def test_a_message_made_to_hurt_a_worker_is_refused(fleet: Fleet, kind: Kind, body: bytes) -> None:
    topic = topics.of_worker(kind, VICTIM)
    worker = fleet.workers[0]
    if kind is Kind.ACK and body.startswith(b"{"):
        body = b'{"schema":1,"stored":["+"]}'
    before = len([line for line in worker.events("message_refused") if line["topic"] == topic])
    say(fleet, Packet(topic, body))
    assert worker.await_event("message_refused", before + 1, topic=topic)["reason"]
    run_good_job(fleet)


def test_without_sealing_what_it_forges_is_run_and_never_recorded(fleet: Fleet) -> None:
    """The limit that sealing lifts: a worker can't tell who made a job that is not sealed."""
    say(fleet, forged("echo", "unsealed"))
    fleet.workers[0].await_event("attempt_completed", job="unsealed")
    fleet.dispatcher.await_event("report_stale", job="unsealed")
    assert not fleet.stored("SELECT id FROM job WHERE id = 'unsealed'")
