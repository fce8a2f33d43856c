"""A worker under arbitrary assignments, answers, orders, ends, cuts and kills: its laws hold after every turn.

The test plays the journal and the executor. A kill comes between any two steps: before the commit, or after it and
before any order or message.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stockworker.protocol import codec
from stockworker.protocol.ids import JobId, Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import (
    Ack,
    Assign,
    Control,
    ControlAction,
    LeaseStatus,
    Message,
    Report,
    Request,
)
from stockworker.shell.turn import DiskChanged, LinkChanged, Now
from stockworker.worker.effects import Capabilities, Drain, Entry, Event, Start, Stop
from stockworker.worker.machine import WorkerIdentity, WorkerMachine
from stockworker.worker.turn import Input, WorkerTurns
from stockworker.worker.work import AttemptEvent, Began, Work
from tests.harness.messages import anything
from tests.harness.working import BACKTEST, INTERVALS, WORKER, MemoryJournal, finished, job

PICKS = st.integers(0, 5)
"""Index of one of the newest leases."""
QUOTA_BYTES = 25
"""Room for two results."""
OUTCOMES = st.sampled_from(sorted(set(Outcome) - {Outcome.LOST, Outcome.RELEASED}))


class Killed(Exception):
    """The process was killed before its commit."""


class BreakingJournal(MemoryJournal):
    """A journal whose process can be killed before a commit."""

    breaks = False

    def commit(self, entries: Iterable[Entry]) -> None:
        if self.breaks:
            raise Killed
        super().commit(entries)


@dataclass
class PlayedExecutor:
    """Runs nothing, in order, `slots` at the same time; an attempt ends when the test ends it."""

    slots: int
    queue: list[Work] = field(default_factory=list)
    running: list[Work] = field(default_factory=list)
    stopped: set[Token] = field(default_factory=set)

    def start(self, work: Work) -> list[AttemptEvent]:
        assert work.token not in {other.token for other in self.queue + self.running}
        assert work.job_id not in {other.job_id for other in self.queue + self.running}, "two attempts at the same time"
        self.queue.append(work)
        return self.fill()

    def fill(self) -> list[AttemptEvent]:
        began: list[AttemptEvent] = []
        while self.queue and len(self.running) < self.slots:
            self.running.append(self.queue.pop(0))
            began.append(Began(self.running[-1].token))
        return began

    def stop(self, token: Token) -> list[AttemptEvent]:
        assert token not in self.stopped
        for work in self.queue:
            if work.token == token:
                self.queue.remove(work)
                return [finished(token, Outcome.CANCELLED, ran_s=0.0)]
        self.stopped.add(token)
        return []  # ignored if it has just ended

    def end(self, outcome: Outcome, ran_s: float) -> list[AttemptEvent]:
        """The oldest ends."""
        if not self.running:
            return []
        work = self.running.pop(0)
        return [finished(work.token, outcome, ran_s=ran_s), *self.fill()]


class Working(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.journal = BreakingJournal()
        self.now = 1000.0
        self.leases: list[tuple[JobId, Token]] = [(JobId("nobody"), Token("nobody"))]
        self.attempts: dict[JobId, int] = {}
        self.ever_started: set[Token] = set()
        self.settled: set[Token] = set()
        self.incarnation = 0
        self.sizes = cycle([1])
        self.enough = 1
        self.start()

    def start(self) -> None:
        self.incarnation += 1
        self.executor = PlayedExecutor(slots=2)
        self.inbox: list[Input] = []
        self.linked = self.left = False
        self.looked = False
        identity = WorkerIdentity(WORKER, f"boot-{self.incarnation}", "1.0")
        capabilities = Capabilities(2, (BACKTEST,), ())
        self.machine = WorkerMachine(
            identity, INTERVALS, capabilities, self.journal.load(), self.now, quota_bytes=QUOTA_BYTES
        )
        self.turns = WorkerTurns(self.machine, self.journal)

    @initialize(sizes=st.lists(st.integers(1, 3), min_size=1))
    def turns_are_of_different_sizes(self, sizes: list[int]) -> None:
        self.sizes = cycle(sizes)

    # --- what may happen ----------------------------------------------------------------------------------------------

    @rule(numbers=st.lists(st.integers(0, 3), min_size=1, max_size=3))
    def assign(self, numbers: list[int]) -> None:
        """New leases, some of jobs that the worker has already."""
        jobs = []
        for number in numbers:
            job_id = JobId(f"job-{number}")
            attempt = self.attempts[job_id] = self.attempts.get(job_id, 0) + 1
            token = Token(f"{job_id}-{attempt}")
            self.leases.append((job_id, token))
            jobs.append(job(job_id, token, attempt))
        self.hear(Assign(WORKER, 30.0, tuple(jobs)))

    @rule()
    def assign_again(self) -> None:
        """The newest lease, unless it is settled: the dispatcher never assigns a settled one."""
        job_id, token = self.leases[-1]
        if token not in self.settled and job_id in self.attempts:
            self.hear(Assign(WORKER, 30.0, (job(job_id, token, self.attempts[job_id]),)))

    @rule(pick=PICKS, stored=st.booleans())
    def answer(self, *, pick: int, stored: bool) -> None:
        _, token = self.leases[-1 - pick % len(self.leases)]
        self.settled.add(token)
        self.hear(Ack(WORKER, (token,), (), 30.0) if stored else Ack(WORKER, (), (token,), 30.0))

    @rule()
    def store_all_reports(self) -> None:
        tokens = [entry.assignment.token for entry in self.journal.load() if entry.report is not None]
        self.settled.update(tokens)
        self.hear(Ack(WORKER, tuple(tokens), (), 30.0))

    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        self.hear(Control(WORKER, ControlAction.CANCEL, self.leases[-1 - pick % len(self.leases)][1]))

    @rule(action=st.sampled_from([ControlAction.DRAIN, ControlAction.RESUME, ControlAction.RESUME]))
    def control(self, action: ControlAction) -> None:
        self.hear(Control(WORKER, action))

    @rule(sure=st.integers(0, 5), patience_s=st.sampled_from([0.0, 10.0, None]))
    def leave(self, sure: int, patience_s: float | None) -> None:
        if sure == 5:
            self.hear(Drain(patience_s, leave=True))

    @rule(outcome=OUTCOMES, ran_s=st.sampled_from([0.0, 0.001, 10.0]))
    def an_attempt_ends(self, outcome: Outcome, ran_s: float) -> None:
        self.hear(*self.executor.end(outcome, ran_s))

    @rule(up=st.booleans())
    def link(self, *, up: bool) -> None:
        if up is not self.linked:
            self.linked = up
            self.hear(LinkChanged(up))

    @rule(full=st.booleans())
    def disk(self, *, full: bool) -> None:
        self.hear(DiskChanged(full))

    @rule(message=anything)
    def nonsense(self, message: Message) -> None:
        if not isinstance(message, Assign | Control):
            self.hear(message)

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.turn()

    @rule(when=st.sampled_from(["between turns", "before the commit", "before performing"]))
    def kill(self, when: str) -> None:
        if when != "between turns":
            self.journal.breaks = when == "before the commit"
            with suppress(Killed):
                self.turns.take(self.inbox, Now(self.now, self.now))
            self.journal.breaks = False
        self.start()

    # --- turns --------------------------------------------------------------------------------------------------------

    def hear(self, *events: Event) -> None:
        """Take a turn once enough events have arrived."""
        self.inbox += events
        self.looked = False
        if len(self.inbox) >= self.enough:
            self.enough = next(self.sizes)
            self.turn()

    def turn(self) -> None:
        if self.left:
            return
        items, self.inbox = self.inbox, []
        output = self.turns.take(items, Now(self.now, self.now))
        self.looked = True
        for order in output.orders:
            match order:
                case Start(work=work):
                    assert work.token not in self.ever_started, "a token is never started twice"
                    self.ever_started.add(work.token)
                    self.inbox += self.executor.start(work)
                case Stop(token=token):
                    self.inbox += self.executor.stop(token)
        for packet in output.packets:
            self.check_message(codec.decode(packet))
        if output.leave:
            assert not self.executor.queue + self.executor.running
            self.left = True

    def check_message(self, message: Message) -> None:
        """Each message agrees with the journal."""
        journal = {entry.assignment.token: entry for entry in self.journal.load()}
        assert self.linked or not isinstance(message, Report | Request)
        match message:
            case Report(attempts=attempts):
                for attempt in attempts:
                    entry = journal.get(attempt.token)
                    # The journal does not get what is refused: that would fill it.
                    assert entry.report == attempt if entry else attempt.outcome is Outcome.RELEASED
            case Request(leases=leases):
                for lease in leases:
                    claimed = journal[lease.token]
                    assert (claimed.report is not None) is (lease.status is LeaseStatus.FINISHED)
                    assert lease.status is not LeaseStatus.RUNNING or claimed.started
            case _:
                pass

    # --- laws ---------------------------------------------------------------------------------------------------------

    @invariant()
    def results_are_within_the_quota(self) -> None:
        if self.looked:
            reports = [entry.report for entry in self.journal.load() if entry.report is not None]
            kept = sum(len(report.result or "") for report in reports)
            assert kept == self.machine._leases.kept_bytes
            assert kept <= QUOTA_BYTES

    @invariant()
    def the_journal_knows_all_that_is_done(self) -> None:
        journal = {entry.assignment.token: entry for entry in self.journal.load()}
        for work in self.executor.queue + self.executor.running:
            assert journal[work.token].started
        reports = {token for token, entry in journal.items() if entry.report is not None}
        assert self.machine._leases.unreported.keys() >= reports
        assert len(self.executor.running) <= self.executor.slots

    @invariant()
    def what_is_not_finished_is_with_the_executor_or_waits_for_it(self) -> None:
        leases = self.machine._leases
        if self.inbox or not self.looked:
            return
        queued = {work.token for work in self.executor.queue}
        running = {work.token for work in self.executor.running}
        assert leases.running == running
        assert set(leases._with_executor.values()) == queued | running
        journal = {entry.assignment.token for entry in self.journal.load()}
        assert journal == queued | running | set(leases._waiting) | leases.unreported.keys()

    @invariant()
    def the_machine_sleeps_when_it_has_looked(self) -> None:
        if self.looked and not self.left:
            assert self.turns.next_in_s(Now(self.now, self.now)) > 0

    def teardown(self) -> None:
        """The faults stop: everything that was accepted is run, reported, acknowledged and forgotten."""
        if self.left or self.machine._drain is not None:
            self.start()
        self.linked = True
        self.hear(LinkChanged(up=True))
        for _ in range(200):
            if not self.journal.load() and not self.inbox:
                return
            self.now += 1
            self.inbox += self.executor.end(Outcome.OK, 1.0)
            self.store_all_reports()
            self.turn()
        raise AssertionError(f"these were never settled: {self.journal.load()}")


pytestmark = pytest.mark.timeout(600)  # before a failure is shown, a short story of it is looked for

TestWorking = Working.TestCase
TestWorking.settings = settings(max_examples=3 * settings().max_examples // 2, stateful_step_count=50)
