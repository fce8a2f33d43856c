"""The broker or the dispatcher is compromised: the attacker can send any message to any participant.

It can neither read nor forge sealed payloads. Without sealing it can make workers run jobs and forge results, but no more:
workers run only the job types that they are configured for.
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
    """Send messages with the dispatcher's certificate, as a compromised broker could."""

    async def run() -> None:
        evil = Peer(fleet.broker, "dispatcher", ())
        async with connected([evil]):
            await evil.link.send(packets)
            assert await evil.link.drain(TIMEOUT_S)

    asyncio.run(run())


def forged(job_type: str, job_id: str = "forged", payload: str = "1") -> Packet:
    # An assignment with a new token: a worker accepts no lease twice.
    lease = Assignment(JobId(job_id), JobType(job_type), 1, Token(token_hex(8)), 10.0, payload)
    return codec.encode(Assign(VICTIM, 30.0, (lease,)))


@pytest.mark.parametrize("job_type", ["sh", "os.system", "job_handlers", "python"])
def test_a_worker_runs_configured_job_types_only(fleet: Fleet, job_type: str) -> None:
    job_id = f"forged-{job_type}"
    say(fleet, forged(job_type, job_id))
    # The worker reports it as refused, and the dispatcher knows no such job.
    fleet.dispatcher.await_event("report_stale", job=job_id, outcome="refused")
    assert not [line for line in fleet.workers[0].events("attempt_completed") if line["job"] == job_id]
    run_good_job(fleet)


@pytest.mark.parametrize("kind", [TopicKind.ASSIGN, TopicKind.ACK, TopicKind.CONTROL])
@pytest.mark.parametrize("body", [b"\xff", b"[" * 100_000, b'{"schema":1,"leases":[{"id":"../../x"}],"action":"sh"}'])
def test_a_worker_refuses_malicious_messages(fleet: Fleet, kind: TopicKind, body: bytes) -> None:
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


def test_without_sealing_a_forged_job_runs_and_is_not_recorded(fleet: Fleet) -> None:
    """A limit without sealing: a worker can't verify who submitted a job."""
    say(fleet, forged("echo", "unsealed"))
    fleet.workers[0].await_event("attempt_completed", job="unsealed")
    fleet.dispatcher.await_event("report_stale", job="unsealed")
    assert not fleet.stored("SELECT id FROM job WHERE id = 'unsealed'")


def test_without_sealing_a_forged_result_is_accepted(fleet: Fleet, tmp_path: Path) -> None:
    """Another limit without sealing: a participant that sees an assignment can report on it."""

    async def run() -> object:
        sniffing = {worker: Peer(fleet.broker, worker, (f"jobs/assign/{worker}",)) for worker in ("host-1", "host-2")}
        async with connected(list(sniffing.values())), fleet.client() as client:
            job_id = await client.submit("wait_for_file", str(tmp_path / "go"))
            await until(lambda: any(peer.received for peer in sniffing.values()), "the attacker sees the assignment")
            worker, evil = next((worker, peer) for worker, peer in sniffing.items() if peer.received)
            (lease,) = [lease for message in evil.messages() if isinstance(message, Assign) for lease in message.leases]
            forged_result = AttemptReport(lease.token, Outcome.OK, '"forged"', job_id=lease.job_id)
            await evil.link.send([codec.encode(Report(WorkerId(worker), (forged_result,)))])
            result = await client.result(job_id, timeout_s=TIMEOUT_S)
        (tmp_path / "go").touch()
        return result

    assert asyncio.run(run()) == "forged"
    run_good_job(fleet)
