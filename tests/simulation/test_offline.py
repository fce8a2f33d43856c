"""Two days without a link and two reboots: a worker goes on, keeps within its quota, and merges when it is back.

The real machines, journal and store, and the real bytes between them, on virtual time: everybody looks at the clock
once a minute. Jobs are modelled: each takes four hours.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from stockworker.adapters.sqlite import MEMORY
from stockworker.dispatcher.effects import Unreached
from stockworker.dispatcher.machine import DispatcherMachine
from stockworker.dispatcher.policy import JobDefaults, Policy, Prefetch
from stockworker.dispatcher.store_sqlite import SqliteJobStore
from stockworker.dispatcher.turn import DispatcherTurns
from stockworker.logs.worker_events import ResultEvicted
from stockworker.protocol import codec
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Outcome, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Ack, Assign, Control, Presence, Submission, Submit
from stockworker.protocol.packet import Packet
from stockworker.shell.turn import LinkChanged, Now
from stockworker.worker.effects import (
    Capabilities,
    Drain,
    Start,
    Stop,
)
from stockworker.worker.journal import Journal
from stockworker.worker.machine import Intervals, WorkerIdentity, WorkerMachine
from stockworker.worker.turn import Input, WorkerTurns
from stockworker.worker.work import Began, Work
from tests.harness.entropy import Counting

MIDDAY: Final = 1_700_000_000.0
STEP_S: Final = 60.0
HOUR: Final = 3600.0
RUN_S: Final = 4 * HOUR
SLOTS: Final = 2
PREFETCH: Final = 20
JOBS: Final = 30
QUOTA_BYTES: Final = 4000
BACKTEST: Final = JobType("backtest")
EDGE, HOME = WorkerId("edge-1"), WorkerId("home-1")


def result_of(job_id: str) -> str:
    """What a job comes to: of a size that is its own, neither rising nor falling with its number."""
    size = 100 + int(job_id.removeprefix("job-")) * 7 % JOBS * 50
    return f'"{job_id:.<{size}}"'


@dataclass
class Host:
    """A worker's machine: its journal outlives its processes."""

    worker_id: WorkerId
    file: Path
    boots: int = 0
    linked: bool = False
    runs: dict[Token, tuple[Work, float]] = field(default_factory=dict)
    inbox: list[Input] = field(default_factory=list)
    evicted: list[str] = field(default_factory=list)
    completed: list[list[str]] = field(default_factory=list)
    left: bool = False

    def boot(self, now: float) -> None:
        self.boots += 1
        self.left = False
        self.journal = Journal(self.file)
        identity = WorkerIdentity(self.worker_id, f"boot-{self.boots}", "1")
        self.machine = WorkerMachine(
            identity,
            Intervals(600.0, 60.0),
            Capabilities(SLOTS, (BACKTEST,), ()),
            self.journal.load(),
            now,
            quota_bytes=QUOTA_BYTES,
        )
        self.turns = WorkerTurns(self.machine, self.journal)
        self.inbox = [LinkChanged(up=self.linked)]

    def die(self) -> None:
        """As in a power cut."""
        self.journal.close()
        self.runs, self.inbox = {}, []

    def look(self, now: float) -> None:
        """See what has ended by now."""
        ended: list[str] = []
        for token, (work, begun) in list(self.runs.items()):
            if now - begun >= RUN_S:
                del self.runs[token]
                ended.append(work.job_id)
                self.inbox.append(
                    AttemptResult(token, Outcome.OK, result_of(work.job_id), None, permanent=False, ran_s=RUN_S)
                )
        self.completed.append(ended)

    def turn(self, now: float) -> list[Packet]:
        items, self.inbox = self.inbox, []
        output = self.turns.take(items, Now(now, now))
        for order in output.orders:
            match order:
                case Start(work=work):
                    self.runs[work.token] = (work, now)
                    self.inbox.append(Began(work.token))
                case Stop(token=token):
                    del self.runs[token]
                    self.inbox.append(
                        AttemptResult(token, Outcome.CANCELLED, None, "stopped", permanent=False, ran_s=0.0)
                    )
        self.evicted += [event.job for event in output.log if isinstance(event, ResultEvicted)]
        self.left = self.left or output.leave
        return list(output.packets)


class Story:
    """A dispatcher, a worker far away and one at home."""

    def __init__(self, folder: Path, validity_s: float) -> None:
        self.now = 0.0
        self.store = SqliteJobStore(MEMORY)
        policy = Policy(
            lease_s=600.0,
            worker_timeout_s=300.0,
            defaults=JobDefaults(timeout_s=RUN_S + HOUR, backoff_s=60.0),
            prefetch={BACKTEST: Prefetch(PREFETCH, validity_s)},
        )
        presence = Presence(online=True, incarnation="epoch", version="1")
        self.dispatcher = DispatcherMachine(policy, Counting(), presence, self.store.load(), self.clock())
        self.turns = DispatcherTurns(self.dispatcher, self.store, policy.lease_s)
        self.inbox: list[Packet | LinkChanged | Unreached] = [LinkChanged(up=True)]
        self.hosts = {name: Host(name, folder / f"{name}.sqlite3") for name in (EDGE, HOME)}

    @property
    def edge(self) -> Host:
        return self.hosts[EDGE]

    def clock(self) -> Now:
        return Now(MIDDAY + self.now, MIDDAY + self.now)

    def submit(self, expires_at: float | None = None) -> None:
        ids = [JobId(f"job-{number:02}") for number in range(JOBS)]
        jobs = [Submission(job_id, BACKTEST, Priority.NORMAL, "{}", expires_at=expires_at) for job_id in ids]
        self.inbox.append(codec.encode(Submit(tuple(jobs), None)))
        self.settle()

    def join(self, worker_id: WorkerId) -> None:
        self.hosts[worker_id].linked = True
        self.hosts[worker_id].boot(self.now)
        self.settle()

    def link(self, *, up: bool) -> None:
        self.edge.linked = up
        self.edge.inbox.append(LinkChanged(up))
        self.settle()

    def until(self, hour: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        while self.now < hour * HOUR and not enough():
            self.now += STEP_S
            for host in self.hosts.values():
                host.look(self.now)
            self.settle()

    def settle(self) -> None:
        """Take turns until no process sends anything."""
        again = True
        while again:
            items, self.inbox = self.inbox, []
            for packet in self.turns.take(items, self.clock()).packets:
                self.deliver(packet)
            for host in self.hosts.values():
                if host.boots and not host.left:
                    packets = host.turn(self.now)
                    self.inbox += packets if host.linked else []
            again = bool(self.inbox) or any(host.inbox for host in self.hosts.values() if not host.left)

    def deliver(self, packet: Packet) -> None:
        message = codec.decode(packet)
        if isinstance(message, Assign | Ack | Control):
            host = self.hosts[message.worker_id]
            if host.linked:
                host.inbox.append(packet)
            elif isinstance(packet.tag, Unreached):
                self.inbox.append(packet.tag)

    # --- what came of it ----------------------------------------------------------------------------------------------

    def ended(self) -> bool:
        return self.dispatcher.ledger.totals[State.COMPLETED] == JOBS

    def outcomes(self) -> dict[str, list[Outcome | None]]:
        ids = [f"job-{number:02}" for number in range(JOBS)]
        return {
            job_id: [attempt.outcome for attempt in self.store.reader().attempts(JobId(job_id), 99)] for job_id in ids
        }

    def results(self) -> dict[str, str]:
        jobs = self.store.find([JobId(f"job-{number:02}") for number in range(JOBS)])
        read = {str(job_id): self.store.reader().result(job) for job_id, job in jobs.items()}
        return {job_id: result for job_id, result in read.items() if result is not None}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[float], Story]]:
    """A story that has not begun; the argument is the validity of its leases in hours."""
    stories: list[Story] = []

    def tell(validity_h: float) -> Story:
        stories.append(Story(tmp_path, validity_h * HOUR))
        return stories[-1]

    yield tell
    for story in stories:
        story.store.close()
        for host in story.hosts.values():
            if host.boots:
                host.journal.close()


@pytest.fixture
def begin(make: Callable[[float], Story]) -> Callable[[float], Story]:
    """A story in which the worker is cut off after half an hour, loses power after 10 hours, and reboots after 30."""

    def tell(validity_h: float) -> Story:
        story = make(validity_h)
        story.join(EDGE)
        story.submit()
        story.until(0.5)
        assert len(story.edge.journal.load()) == SLOTS + PREFETCH
        story.link(up=False)
        story.join(HOME)
        story.until(10)
        story.edge.die()
        story.edge.boot(story.now)
        story.until(30)
        story.edge.inbox.append(Drain(0.0, leave=True))
        story.settle()
        assert story.edge.left
        story.edge.die()
        story.edge.boot(story.now)
        story.until(48.5)
        return story

    return tell


def evicted_first(completed: list[list[str]]) -> list[str]:
    """Return what must be evicted by the documentation: the largest result, of equally large ones the oldest.

    Args:
        completed: the jobs of each turn.
    """
    kept: dict[str, int] = {}
    gone = []
    for ended in completed:
        kept.update((job_id, len(result_of(job_id))) for job_id in ended)
        while sum(kept.values()) > QUOTA_BYTES:
            largest = max(kept, key=lambda each: kept[each])
            del kept[largest]
            gone.append(largest)
    return gone


def test_two_days_offline_with_two_reboots_are_merged(begin: Callable[[float], Story]) -> None:
    story = begin(49)
    edge = story.edge
    reports = [entry.report for entry in edge.journal.load()]
    assert len(reports) == SLOTS + PREFETCH
    assert None not in reports, "all that it journaled has ended"
    journaled = {report.job_id: report.outcome for report in reports if report is not None}
    assert edge.evicted == evicted_first(edge.completed)
    assert len(edge.evicted) > 5
    assert sum(len(report.result or "") for report in reports if report is not None) <= QUOTA_BYTES
    assert sorted(journaled[JobId(each)] for each in edge.evicted) == [Outcome.ERROR] * len(edge.evicted)
    assert [outcome for outcome in journaled.values() if outcome is Outcome.LOST] == [Outcome.LOST] * SLOTS
    assert [outcome for outcome in journaled.values() if outcome is Outcome.RELEASED] == [Outcome.RELEASED] * SLOTS
    assert all(worker_of(story, job_id) == EDGE for job_id in journaled)

    story.link(up=True)
    assert edge.machine.unreported == 0
    story.until(100, story.ended)
    assert story.results() == {job_id: result_of(job_id) for job_id in story.outcomes()}
    for job_id, outcomes in story.outcomes().items():
        first = journaled.get(JobId(job_id), Outcome.OK)
        assert outcomes == ([Outcome.OK] if first is Outcome.OK else [first, Outcome.OK])
    for job_id in edge.evicted:
        error = story.store.reader().attempts(JobId(job_id), 99)[0].error
        assert error is not None
        assert error.startswith("its result (")
    assert story.dispatcher.counters["reports_stale"] == 0


def test_who_comes_back_after_its_window_is_fenced(begin: Callable[[float], Story]) -> None:
    story = begin(24)
    journaled = [entry.assignment.job_id for entry in story.edge.journal.load()]
    assert len(journaled) == SLOTS + PREFETCH
    given_to_others = [job_id for job_id in journaled if worker_of(story, job_id) == HOME]
    assert len(given_to_others) > SLOTS

    story.link(up=True)
    assert story.dispatcher.counters["reports_stale"] == len(given_to_others)
    story.until(150, story.ended)
    assert story.results() == {job_id: result_of(job_id) for job_id in story.outcomes()}
    assert [outcomes.count(Outcome.OK) for outcomes in story.outcomes().values()] == [1] * JOBS


def test_what_expires_while_it_waits_on_a_worker_that_is_cut_off_is_not_run(make: Callable[[float], Story]) -> None:
    """Of 22 jobs there two run and two are lost before a reboot after 5 hours, and two more begin within their 6 hours."""
    story = make(49)
    edge = story.edge
    story.join(EDGE)
    story.submit(expires_at=MIDDAY + 6 * HOUR)
    story.until(0.5)
    story.link(up=False)
    story.until(5)
    edge.die()
    edge.boot(story.now)
    story.until(10)
    reports = [entry.report.outcome for entry in edge.journal.load() if entry.report is not None]
    assert Counter(reports) == {Outcome.OK: 4, Outcome.LOST: 2, Outcome.RELEASED: 16}

    story.link(up=True)
    assert +story.dispatcher.ledger.totals == {State.COMPLETED: 4, State.EXPIRED: JOBS - 4}
    assert edge.journal.load() == []


def worker_of(story: Story, job_id: JobId) -> WorkerId | None:
    """Return the worker that has, or last had, a job by the dispatcher's ledger."""
    return story.store.find([job_id])[job_id].worker
