"""One worker is compromised, in a fleet that seals its jobs: it requests jobs of a group to which it does not belong."""

import asyncio
from collections.abc import Iterable, Iterator

import pytest

from stockworker.client import Completion, make_submission
from stockworker.protocol import codec
from stockworker.protocol.ids import JobType, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Assign, Assignment, AttemptReport, Report, Request
from stockworker.sealing import keyring
from stockworker.sealing.envelope import SealKind
from stockworker.sealing.keyring import Holder
from stockworker.sealing.worker_seal import WorkerSeal
from tests.harness import command
from tests.harness.attacks import EVIL_WORKER
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.fleet_keys import FleetKeys
from tests.harness.peer import Peer, connected
from tests.harness.seals import forged_answer
from tests.harness.waiting import TIMEOUT_S

EVIL = WorkerId(EVIL_WORKER)
JOBS = 24
MADE_UP = b"\x2a" * 32
REFUSED = f"the result is refused: worker {EVIL} has signed it, but does not prove that it could open the job"


@pytest.fixture(scope="module")
def fleet_keys(tmp_path_factory: pytest.TempPathFactory) -> FleetKeys:
    groups = {"prices": (["echo"], ["host-1"]), "logs": (["pid"], [EVIL_WORKER])}
    return FleetKeys(tmp_path_factory.mktemp("keys") / "fleet_keys", groups)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, fleet_keys: FleetKeys) -> Iterator[Fleet]:
    settings = {"handlers": python_handlers("echo"), "dispatcher": {"job_defaults": {"max_attempts": 1}}}
    folder = tmp_path_factory.mktemp("fleet")
    with Fleet(folder, workers=1, settings=settings, personal=fleet_keys.settings) as fleet:
        yield fleet


def evil_seal(fleet_keys: FleetKeys) -> WorkerSeal:
    """The attacker's own keys: it is listed as a worker, and is in the group `logs`."""
    keys, logs = fleet_keys.keys(Holder.WORKER, EVIL), fleet_keys.keys(Holder.GROUP, "logs")
    return WorkerSeal(EVIL, keyring.load(fleet_keys.ring), [logs], keys, required=True, sign=True)


def forged_report(seal: WorkerSeal, number: int, lease: Assignment) -> AttemptReport:
    """Of three jobs, one gets a made-up result, one a result of version 1, and one a made-up error text."""
    kind = SealKind.ERROR if number % 3 == 2 else SealKind.RESULT
    forged = forged_answer(seal, lease.payload, None if number % 3 == 1 else MADE_UP, kind)
    if kind is SealKind.ERROR:
        return AttemptReport(lease.token, Outcome.ERROR, None, forged, permanent=True, job_id=lease.job_id)
    return AttemptReport(lease.token, Outcome.OK, forged, job_id=lease.job_id)


async def answer_all(fleet: Fleet, seal: WorkerSeal, kind: str) -> list[Completion]:
    """Submit jobs while the attacker is the only worker, let it answer all of them, and wait for their completions."""
    evil = Peer(fleet.broker, EVIL, (f"jobs/assign/{EVIL}", f"jobs/ack/{EVIL}"))
    async with connected([evil]), fleet.client() as client:
        jobs = [make_submission("echo", number, id=f"{kind}-{number}") for number in range(JOBS)]
        receipts = await client.submit_many(jobs)
        await evil.link.send([codec.encode(Request(EVIL, "start", JOBS, JOBS, (JobType("echo"),), (), "0", ()))])

        def leases() -> list[Assignment]:
            return [lease for message in evil.messages() if isinstance(message, Assign) for lease in message.leases]

        await evil.until(lambda: len(leases()) == JOBS)
        reports = [forged_report(seal, number, lease) for number, lease in enumerate(leases())]
        await evil.link.send([codec.encode(Report(EVIL, (report,))) for report in reports])
        return [ended async for ended in client.wait([str(entry.job_id) for entry in receipts], TIMEOUT_S)]


def reasons(ended: Iterable[Completion], state: State) -> set[str]:
    return {each.reason or "" for each in ended if each.state is state}


def test_a_worker_of_another_group_answers_none_of_the_jobs_that_it_gets(fleet: Fleet, fleet_keys: FleetKeys) -> None:
    (honest,) = fleet.workers
    honest.stop()
    ended = asyncio.run(answer_all(fleet, evil_seal(fleet_keys), "forged"))
    honest.start()

    assert [each.result for each in ended] == [None] * JOBS
    old = f"the result is refused: version 1 does not prove that worker {EVIL} could open the job"
    assert reasons(ended, State.COMPLETED) == {REFUSED, old}
    (failed,) = reasons(ended, State.FAILED)
    assert failed == REFUSED.replace("the result is refused", "(sealed for its submitter)")
    fleet.dispatcher.await_event("worker_seen", worker=EVIL)

    remembers_nothing = [command.run(fleet.config_file("client"), "result", str(each.job_id)) for each in ended[:3]]
    assert all((done.status, done.output) == (1, "") and EVIL in done.errors for done in remembers_nothing)

    async def run_good_job() -> object:
        async with fleet.client() as client:
            return await client.result(await client.submit("echo", "good"), TIMEOUT_S)

    good = asyncio.run(run_good_job())
    assert isinstance(good, dict)
    assert good["payload"] == "good"
