"""The broker, or the dispatcher, is compromised: the attacker can say everything to everybody.

What is sealed it can neither read nor forge. Without sealing it can have jobs run, and lie about them; still not more
than that: workers run what they are configured to run, and nothing else.
"""

import asyncio
from pathlib import Path
from secrets import token_hex

import pytest

from stockworker.protocol import codec, topics
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import Assign, Assignment, AttemptReport, Report
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import TopicKind
from tests.harness.attacks import run_good_job
from tests.harness.fleet import Fleet
from tests.harness.peer import Peer, connected
from tests.harness.waiting import TIMEOUT_S, until

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
    # A token of its own: a worker takes no lease twice.
    lease = Assignment(JobId(job_id), JobType(job_type), 1, Token(token_hex(8)), 10.0, payload)
    return codec.encode(Assign(VICTIM, 30.0, (lease,)))


@pytest.mark.parametrize("job_type", ["sh", "os.system", "job_handlers", "python"])
def test_nothing_but_the_configured_types_can_be_run(fleet: Fleet, job_type: str) -> None:
    job_id = f"forged-{job_type}"
    say(fleet, forged(job_type, job_id))
    # The worker gives it back as refused, and the dispatcher has never heard of it.
    fleet.dispatcher.await_event("report_stale", job=job_id, outcome="refused")
    assert not [line for line in fleet.workers[0].events("attempt_completed") if line["job"] == job_id]
    run_good_job(fleet)


@pytest.mark.parametrize("kind", [TopicKind.ASSIGN, TopicKind.ACK, TopicKind.CONTROL])
@pytest.mark.parametrize("body", [b"\xff", b"[" * 100_000, b'{"schema":1,"leases":[{"id":"../../x"}],"action":"sh"}'])
def test_a_message_made_to_hurt_a_worker_is_refused(fleet: Fleet, kind: TopicKind, body: bytes) -> None:
    topic = topics.of_worker(kind, VICTIM)
    worker = fleet.workers[0]
    if kind is TopicKind.ACK and body.startswith(b"{"):
        body = b'{"schema":1,"stored":["+"]}'
    before = len([line for line in worker.events("message_refused") if line["topic"] == topic])
    counted = len(worker.events("message_refused"))
    say(fleet, Packet(topic, body))
    refusal = worker.await_event("message_refused", before + 1, topic=topic)
    assert refusal["reason"]
    assert refusal["count"] == counted + 1
    run_good_job(fleet)


def test_without_sealing_what_it_forges_is_run_and_never_recorded(fleet: Fleet) -> None:
    """The limit that sealing lifts: a worker can't tell who made a job that is not sealed."""
    say(fleet, forged("echo", "unsealed"))
    fleet.workers[0].await_event("attempt_completed", job="unsealed")
    fleet.dispatcher.await_event("report_stale", job="unsealed")
    assert not fleet.stored("SELECT id FROM job WHERE id = 'unsealed'")


def test_without_sealing_a_result_in_the_name_of_a_worker_is_believed(fleet: Fleet, tmp_path: Path) -> None:
    """The other limit that sealing lifts: who sees an assignment go by can answer it."""

    async def run() -> object:
        sniffing = {worker: Peer(fleet.broker, worker, (f"jobs/assign/{worker}",)) for worker in ("host-1", "host-2")}
        async with connected(list(sniffing.values())), fleet.client() as client:
            job_id = await client.submit("wait_for_file", str(tmp_path / "go"))
            await until(lambda: any(peer.received for peer in sniffing.values()), "the assignment is seen")
            worker, evil = next((worker, peer) for worker, peer in sniffing.items() if peer.received)
            (lease,) = [lease for message in evil.messages() if isinstance(message, Assign) for lease in message.leases]
            forged_result = AttemptReport(job_id, lease.token, Outcome.OK, '"forged"')
            await evil.link.send([codec.encode(Report(WorkerId(worker), (forged_result,)))])
            result = await client.result(job_id, timeout_s=TIMEOUT_S)
        (tmp_path / "go").touch()
        return result

    assert asyncio.run(run()) == "forged"
    run_good_job(fleet)
