"""One submitter or one worker takes more than its share: others have room, and the log names the attacker."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest

from stockworker.client import make_submission
from stockworker.protocol import codec
from stockworker.protocol.body import in_batches
from stockworker.protocol.codec_submit import submission_size
from stockworker.protocol.ids import ClientId, JobType, Token, WorkerId, make_token
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Ack,
    Assign,
    AttemptReport,
    LeaseStatus,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Reply,
    Report,
    ReportedLease,
    Request,
    Submission,
    Submit,
)
from tests.harness.attacks import EVIL_CLIENT, EVIL_WORKER, Strike, attack, counted, run_good_job
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.peer import Peer, connected
from tests.harness.waiting import wait_until

EVIL = WorkerId(EVIL_WORKER)
ECHO, KEPT = JobType("echo"), JobType("kept")
LIVE_JOBS, COMBINATIONS = 400, 50
FLOOD, MOST_FLOODS = 2000, 100
RENEWALS, RENEW_EVERY_S = 60, 0.2

ABSURD: list[tuple[dict[str, Any], str]] = [
    (
        {"max_crashes": 1000},
        "max_crashes is 1000, and the dispatcher allows at most 10 (dispatcher.job_limits.max_crashes)",
    ),
    (
        {"max_attempts": 1000},
        "max_attempts is 1000, and the dispatcher allows at most 100 (dispatcher.job_limits.max_attempts)",
    ),
    (
        {"timeout_s": 30 * 86400},
        "timeout is 2592000 s, and the dispatcher allows at most 86400 s (dispatcher.job_limits.timeout)",
    ),
]

FORGED = 300
"""Most results that a rogue worker makes up."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {
        "handlers": {**python_handlers("echo", "wait_for_file"), "kept": {"python": "job_handlers:echo"}},
        "dispatcher": {
            "limits": {"live_jobs": LIVE_JOBS, "combinations": COMBINATIONS},
            "lease": "2s",
            "timeout_grace": "1s",
        },
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), settings=settings, clients=("client", EVIL_CLIENT)) as fleet:
        yield fleet


# --- submitters -------------------------------------------------------------------------------------------------------


def submit_all(fleet: Fleet, name: str, submissions: Sequence[Submission]) -> list[ReceiptEntry]:
    """Submit as a client whose ID the broker verifies, and return all receipts."""
    client_id = ClientId(name)

    async def submit() -> list[ReceiptEntry]:
        peer = Peer(fleet.broker, name, (f"jobs/receipt/{name}",))

        def entries() -> list[ReceiptEntry]:
            return [entry for receipt in peer.messages() if isinstance(receipt, Receipt) for entry in receipt.entries]

        async with connected([peer]):
            for batch in in_batches(submissions, submission_size):
                await peer.link.send([codec.encode(Submit(batch, Reply(client_id), client_id))])
            await peer.until(lambda: len(entries()) >= len(submissions))
        return entries()

    return asyncio.run(submit())


@attack(EVIL_CLIENT)
def flood_of_tags(fleet: Fleet) -> None:
    submit_all(fleet, EVIL_CLIENT, [make_submission("echo", tags=[f"t{number}"]) for number in range(FLOOD)])


@attack(EVIL_CLIENT)
def flood_of_jobs_without_a_worker(fleet: Fleet) -> None:
    for _ in range(MOST_FLOODS):
        entries = submit_all(fleet, EVIL_CLIENT, [make_submission("echo", tags=["t0"]) for _ in range(FLOOD)])
        if any(entry.status is ReceiptStatus.REJECTED for entry in entries):
            return


@attack(EVIL_CLIENT)
def absurd_options(fleet: Fleet) -> None:
    submit_all(fleet, EVIL_CLIENT, [make_submission("echo", **options) for options, _ in ABSURD])


def stored(fleet: Fleet, owner: str) -> int:
    """How many live jobs of a submitter are stored."""
    ((count,),) = fleet.stored("SELECT count(*) FROM job WHERE id LIKE ? AND ended_at IS NULL", f"{owner}:%")
    return int(count)


def await_rejection(fleet: Fleet, reason: str) -> None:
    """The log names the attacker and the reason."""
    wait_until(
        lambda: any(
            line.get("client") == EVIL_CLIENT and line["reason"].startswith(reason)
            for line in fleet.dispatcher.events("job_rejected")
        ),
        f"the dispatcher logs {reason!r}",
    )


def test_a_client_with_many_jobs_delays_those_of_others_by_turns(fleet: Fleet) -> None:
    assert fleet.command("operator", "pause", "echo").wait() == 0
    submit_all(fleet, EVIL_CLIENT, [make_submission("echo") for _ in range(LIVE_JOBS // 2)])
    submit_all(fleet, "client", [make_submission("echo")])
    assert fleet.command("operator", "resume", "echo").wait() == 0

    def ended() -> list[tuple[str, float]]:
        return fleet.stored("SELECT id, ended_at FROM job WHERE ended_at IS NOT NULL")

    wait_until(lambda: len(ended()) > LIVE_JOBS // 2, "all jobs end")
    (at,) = (ended_at for job_id, ended_at in ended() if job_id.startswith("client:"))
    ahead = [job_id for job_id, ended_at in ended() if ended_at < at]
    assert len(ahead) <= LIVE_JOBS // 4, "the job waited for those that were submitted before"


def test_tags_that_no_worker_has_take_no_room_from_others(fleet: Fleet) -> None:
    flood_of_tags(fleet)
    assert stored(fleet, EVIL_CLIENT) == COMBINATIONS
    await_rejection(
        fleet, "too many combinations of type and tags: live jobs of submitter mallory have 50 different ones"
    )
    run_good_job(fleet)


def test_a_flood_of_jobs_leaves_room_for_others(fleet: Fleet) -> None:
    flood_of_jobs_without_a_worker(fleet)
    (more,) = submit_all(fleet, EVIL_CLIENT, [make_submission("echo", tags=["t0"])])
    assert (more.reason or "").startswith("too many live jobs: submitter mallory has 200, the most for one submitter")
    assert stored(fleet, EVIL_CLIENT) == LIVE_JOBS // 2
    others = submit_all(fleet, "client", [make_submission("echo") for _ in range(LIVE_JOBS // 4)])
    assert all(entry.status is ReceiptStatus.STORED for entry in others)
    run_good_job(fleet)


def test_a_rejection_names_the_bound_and_the_submitter(fleet: Fleet) -> None:
    before = counted(fleet, "submissions_rejected")
    absurd_options(fleet)
    assert counted(fleet, "submissions_rejected") - before == len(ABSURD)
    for options, reason in ABSURD:
        (entry,) = submit_all(fleet, "client", [make_submission("echo", **options)])
        assert entry.reason == reason


# --- workers ----------------------------------------------------------------------------------------------------------


class Rogue:
    """A worker that claims 1000 slots.

    Attributes:
        leases: the leases that it has.
        stale: leases that the dispatcher has withdrawn.
    """

    def __init__(self, fleet: Fleet, job_type: JobType) -> None:
        self.peer = Peer(fleet.broker, EVIL, (f"jobs/assign/{EVIL}", f"jobs/ack/{EVIL}"))
        self._type = job_type
        self._incarnation = make_token(SystemRandom())
        self._read = 0
        self.leases: dict[Token, ReportedLease] = {}
        self.stale: set[Token] = set()

    async def ask(self, status: LeaseStatus) -> None:
        claims = tuple(ReportedLease(lease.job_id, lease.token, status) for lease in self.leases.values())
        request = Request(EVIL, self._incarnation, 1000, 1000, (self._type,), (), "0", claims)
        await self.peer.link.send([codec.encode(request)])

    async def listen(self, timeout_s: float) -> None:
        """Take in what has arrived, and wait for more if nothing has."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.peer.until(lambda: len(self.peer.received) > self._read)
        fresh = self.peer.messages()[self._read :]
        self._read += len(fresh)
        for message in fresh:
            match message:
                case Assign(leases=leases):
                    self.leases |= {
                        each.token: ReportedLease(each.job_id, each.token, LeaseStatus.RUNNING) for each in leases
                    }
                case Ack(stale=stale):
                    self.stale.update(stale)
                case _:
                    pass

    async def forge(self) -> int:
        """Report a result for each lease; return for how many."""
        reports = [
            AttemptReport(token, Outcome.OK, '"forged"', job_id=lease.job_id) for token, lease in self.leases.items()
        ]
        self.leases = {}
        for start in range(0, len(reports), 32):
            await self.peer.link.send([codec.encode(Report(EVIL, tuple(reports[start : start + 32])))])
        return len(reports)


@attack(EVIL_WORKER)
def results_out_of_thin_air(fleet: Fleet) -> None:
    """Report each job as completed, immediately, and ask for more."""

    async def run() -> None:
        rogue, forged = Rogue(fleet, ECHO), 0
        async with connected([rogue.peer]):
            await rogue.ask(LeaseStatus.RUNNING)
            for _ in range(FORGED):
                await rogue.listen(timeout_s=5)
                if not rogue.leases or forged >= FORGED:
                    return
                forged += await rogue.forge()
                await rogue.ask(LeaseStatus.RUNNING)

    asyncio.run(run())


async def keep(fleet: Fleet, status: LeaseStatus) -> None:
    """Renew leases until all are withdrawn."""
    rogue = Rogue(fleet, KEPT)
    async with connected([rogue.peer]):
        for _ in range(RENEWALS):
            await rogue.ask(status)
            await asyncio.sleep(RENEW_EVERY_S)  # the pace of the attacker, not of the test
            await rogue.listen(RENEW_EVERY_S)
            if rogue.leases.keys() <= rogue.stale and rogue.stale:
                return


@attack(EVIL_WORKER)
def leases_that_are_renewed_for_ever(fleet: Fleet) -> None:
    asyncio.run(keep(fleet, LeaseStatus.RUNNING))


@attack(EVIL_WORKER)
def leases_that_are_never_started(fleet: Fleet) -> None:
    asyncio.run(keep(fleet, LeaseStatus.WAITING))


def workers_of(fleet: Fleet, job_ids: Sequence[str]) -> Counter[str]:
    """How many of these jobs each worker had last."""
    rows = {name.rpartition(":")[2]: worker for name, worker in fleet.stored("SELECT id, worker FROM job")}
    return Counter(rows[job_id] for job_id in job_ids)


def test_a_worker_that_returns_jobs_immediately_gets_its_turn_and_no_more(fleet: Fleet, tmp_path: Path) -> None:
    """Each honest worker is busy with one job and has free slots. The rogue one has no job whenever the next comes."""
    gate = tmp_path / "gate"

    async def run() -> Sequence[str]:
        async with fleet.client() as client:
            busy = [await client.submit("wait_for_file", str(gate)) for _ in fleet.workers]
            strike = asyncio.create_task(asyncio.to_thread(results_out_of_thin_air, fleet))
            await asyncio.to_thread(fleet.dispatcher.await_event, "worker_seen", worker=EVIL)
            ids = []
            for _ in range(90):
                ids.append(await client.submit("echo"))
                await client.result(ids[-1], timeout_s=30)
            gate.touch()
            async for _ in client.wait(busy, 30):
                pass
            await strike
        return ids

    workers = workers_of(fleet, asyncio.run(run()))
    assert workers[EVIL] <= 31
    assert min(workers["host-1"], workers["host-2"]) >= 29


@pytest.mark.parametrize(
    ("strike", "event"),
    [(leases_that_are_renewed_for_ever, "attempt_overrun"), (leases_that_are_never_started, "worker_stalled")],
)
def test_a_worker_that_keeps_jobs_loses_them(fleet: Fleet, strike: Strike, event: str) -> None:
    async def run() -> Sequence[str]:
        async with fleet.client() as client:
            attack_ends = asyncio.create_task(asyncio.to_thread(strike, fleet))
            await asyncio.to_thread(
                wait_until,
                lambda: len(fleet.dispatcher.events("worker_seen")) > seen,
                "the dispatcher knows the attacker",
            )
            ids = [await client.submit("kept", timeout_s=1, backoff_s=0) for _ in range(12)]
            async for ended in client.wait(ids, 60):
                assert ended.state is State.COMPLETED
            await attack_ends
        return ids

    before, seen = len(fleet.dispatcher.events(event)), len(fleet.dispatcher.events("worker_seen"))
    ids = asyncio.run(run())
    assert workers_of(fleet, ids).keys() == {"host-1", "host-2"}
    fleet.dispatcher.await_event(event, before + 1, worker=EVIL)
    kept = fleet.stored("SELECT count(*) FROM attempt WHERE worker = ? AND outcome IN ('timed_out', 'released')", EVIL)
    assert kept[0][0] > 0


def test_a_worker_that_claims_more_than_it_may_is_logged(fleet: Fleet) -> None:
    results_out_of_thin_air(fleet)
    line = fleet.dispatcher.await_event("worker_claims_too_much", worker=EVIL)
    assert line["claims"] == "1000 slots instead of 64"
