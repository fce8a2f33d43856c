"""The dispatcher under arbitrary clients, workers, losses, restarts and clocks: its laws hold after every turn.

Messages are stale, doubled, late, from the wrong worker, or nonsense. When the faults stop, every job ends.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stockworker.dispatcher.effects import Denied, Effect, Event, Offer, Prune, Save, SaveJob, Unreached
from stockworker.dispatcher.policy import JobDefaults, Policy, Prefetch
from stockworker.dispatcher.turn import DispatcherTurns
from stockworker.dispatcher.usage import Usage
from stockworker.errors import StoreError
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, Token, UniqueKey, WorkerId, owner_of
from stockworker.protocol.job import JobRecord, Outcome, Priority
from stockworker.protocol.lifecycle import INITIAL, LEASED, TERMINAL, TRANSITIONS, State
from stockworker.protocol.messages import (
    Ack,
    AttemptReport,
    CancelJob,
    Cleanup,
    Disconnect,
    Heartbeat,
    LeaseStatus,
    Message,
    Monitor,
    Notice,
    Order,
    Receipt,
    ReceiptStatus,
    Register,
    Reply,
    Report,
    ReportedLease,
    Request,
    RetryJob,
    SetDrain,
    SetPause,
    StatsRequest,
    Submission,
    Submit,
    Unregister,
)
from stockworker.shell.turn import LinkChanged, Now, Send
from tests.harness.dispatching import (
    BACKTEST,
    DAY,
    IMPORT,
    MIDDAY,
    PRESENCE,
    REPLY,
    UNKNOWN_TOKEN,
    W1,
    W2,
    W3,
    RecordingMachine,
)
from tests.harness.entropy import Counting
from tests.harness.memory_store import MemoryJobStore
from tests.harness.messages import anything
from tests.harness.playbook import VirtualClock

STEPS = {(State(old), new) for (old, _), new in TRANSITIONS.items()}
POLICY = Policy(
    max_wait_s=60.0,
    worker_timeout_s=60.0,
    keep_ended_s=100.0,
    forget_worker_s=300.0,
    defaults=JobDefaults(backoff_s=1.0),
    prefetch={BACKTEST: Prefetch(jobs=3, validity_s=300.0)},
)

MessageT = TypeVar("MessageT")
Lease = tuple[WorkerId, JobId, Token]

workers = st.sampled_from([W1, W2, W3])
incarnations = st.sampled_from(["boot-1", "boot-2"])
job_ids = st.sampled_from([JobId(f"{owner}job-{number}") for owner in ("", "ann:", "bob:") for number in range(3)])
client_ids = st.sampled_from([None, ClientId("ann"), ClientId("eve")])
job_types = st.sampled_from([BACKTEST, IMPORT])
tag_sets = st.frozensets(st.just(Tag("gpu")))
stops = st.sampled_from([partial(SetPause, BACKTEST), partial(SetPause, IMPORT), partial(SetDrain, W1)])
moments = st.sampled_from([None, None, None, None, None, -1.0, 5.0, 40.0, DAY])
"""Relative to now."""
rarely = st.integers(0, 4).map(lambda number: number == 4)
picks = st.integers(0, 7)
"""Which of the newest leases that there ever were."""
submissions = st.builds(
    Submission,
    job_id=st.none() | job_ids,
    type=job_types,
    priority=st.sampled_from(Priority),
    payload=st.just("{}"),
    not_before=moments,
    expires_at=moments,
    max_attempts=st.none() | st.integers(1, 2),
    backoff_s=st.sampled_from([None, 0.0, 3.0]),
    max_crashes=st.none() | st.integers(1, 2),
    tags=tag_sets,
    unique=st.sampled_from([None, UniqueKey("one"), UniqueKey("two")]),
)
presences = st.one_of(
    st.builds(Register, workers, incarnations, st.just("1"), st.just(1), st.just(()), st.just(())),
    st.builds(Unregister, workers, incarnations),
    st.builds(Heartbeat, workers, incarnations, st.just(1), st.just(0), st.just(0), st.just(1.0)),
    st.builds(Disconnect, workers, incarnations),
)


class FailingStore(MemoryJobStore):
    """Commits nothing while it fails."""

    fails = False

    def commit(self, saves: Iterable[Save]) -> Mapping[State, int]:
        if self.fails:
            raise StoreError("memory: fails")
        return super().commit(saves)


class Dispatching(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = FailingStore()
        self.clock = VirtualClock(MIDDAY, MIDDAY)
        self.entropy = Counting(0.5)
        self.leases: list[Lease] = [(W1, JobId("job-0"), UNKNOWN_TOKEN)]
        self.tokens: set[Token] = set()
        self.inbox: list[Event] = []
        self.pruned = Counter[State]()
        self.denied: frozenset[WorkerId] = frozenset()
        self.looked = True
        self.sizes = cycle([1])
        self.enough = 1
        self.start()

    def start(self) -> None:
        self.machine = RecordingMachine(POLICY, self.entropy, PRESENCE, self.store.load(), self.now)
        self.turns = DispatcherTurns(self.machine, self.store, POLICY.lease_s)
        self.inbox = [Denied(self.denied), LinkChanged(up=True)]
        self.pruned.clear()
        self.looked = False

    @property
    def now(self) -> Now:
        return Now(self.clock.steady, self.clock.wall)

    def lease(self, pick: int) -> Lease:
        return self.leases[-1 - pick % len(self.leases)]

    @initialize(sizes=st.lists(st.integers(1, 3), min_size=1))
    def turns_are_of_different_sizes(self, sizes: list[int]) -> None:
        self.sizes = cycle(sizes)

    # --- what may happen ----------------------------------------------------------------------------------------------

    @rule(jobs=st.lists(submissions, min_size=1, max_size=4), stranger=st.none() | client_ids)
    def submit(self, jobs: list[Submission], stranger: ClientId | None) -> None:
        wall = self.clock.wall
        for job in jobs:
            not_before = None if job.not_before is None else wall + job.not_before
            expires_at = None if job.expires_at is None else wall + job.expires_at
            client_id = stranger or (None if job.job_id is None else owner_of(job.job_id))
            self.hear(Submit((replace(job, not_before=not_before, expires_at=expires_at),), REPLY, client_id))

    @rule(job_id=job_ids)
    def retry(self, job_id: JobId) -> None:
        self.hear(RetryJob(job_id, REPLY))

    @rule(job_id=job_ids, client_id=client_ids, by_operator=st.booleans())
    def cancel(self, job_id: JobId, client_id: ClientId | None, *, by_operator: bool) -> None:
        self.hear(CancelJob(job_id, REPLY, client_id, by_operator))

    @rule(pick=picks)
    def cancel_what_is_leased(self, pick: int) -> None:
        self.hear(CancelJob(self.lease(pick)[1], REPLY, by_operator=True))

    @rule(stop=stops, on=st.booleans())
    def pause_or_drain(self, stop: Callable[[bool, Reply], SetPause | SetDrain], *, on: bool) -> None:
        self.hear(stop(on, REPLY))

    @rule(
        worker=workers,
        incarnation=incarnations,
        slots=st.integers(1, 2),
        window=st.integers(0, 4),
        types=st.sets(job_types),
        tags=tag_sets,
        claims=st.lists(st.tuples(picks, st.sampled_from(LeaseStatus)), max_size=3),
        short=st.booleans(),
    )
    def request(  # noqa: PLR0917 (as many as the message has)
        self,
        worker: WorkerId,
        incarnation: str,
        slots: int,
        window: int,
        types: set[JobType],
        tags: frozenset[Tag],
        claims: list[tuple[int, LeaseStatus]],
        *,
        short: bool,
    ) -> None:
        listed = tuple(ReportedLease(*self.lease(pick)[1:], status) for pick, status in claims)
        self.hear(Request(worker, incarnation, slots, window, tuple(types), tuple(tags), "1", listed, short))

    @rule(worker=workers)
    def honest_request(self, worker: WorkerId) -> None:
        """A request that claims all leases of the worker, as running."""
        jobs = [job for job in self.store.jobs.values() if job.state in LEASED and job.worker == worker]
        listed = tuple(ReportedLease(job.spec.job_id, job.token, LeaseStatus.RUNNING) for job in jobs if job.token)
        self.hear(Request(worker, "incarnation-1", 2, 3, (BACKTEST, IMPORT), (Tag("gpu"),), "1", listed))

    @rule(
        picked=st.lists(picks, min_size=1, max_size=2),
        outcome=st.sampled_from(Outcome),
        permanent=st.booleans(),
    )
    def report(self, *, picked: list[int], outcome: Outcome, permanent: bool) -> None:
        for pick in picked:
            worker, job_id, token = self.lease(pick)
            result = f'"{token}"' if outcome is Outcome.OK else None
            self.hear(Report(worker, (AttemptReport(token, outcome, result, None, permanent, job_id=job_id),)))

    @rule(outcome=st.sampled_from(Outcome))
    def honest_report(self, outcome: Outcome) -> None:
        """The newest lease that the store knows of, lost ones included."""
        jobs = [job for job in self.store.jobs.values() if job.state not in TERMINAL and job.token]
        for job in jobs[-1:]:
            if job.token and job.worker:
                self.hear(Report(job.worker, (AttemptReport(job.token, outcome, job_id=job.spec.job_id),)))

    @rule(worker=workers, pick=picks)
    def report_of_another(self, worker: WorkerId, pick: int) -> None:
        _, job_id, token = self.lease(pick)
        self.hear(Report(worker, (AttemptReport(token, Outcome.OK, '"stolen"', job_id=job_id),)))

    @rule(denied=st.sampled_from([frozenset(), frozenset(), frozenset({W1}), frozenset({W1, W2})]))
    def deny(self, denied: frozenset[WorkerId]) -> None:
        self.denied = denied
        self.hear(Denied(denied))

    @rule(pick=picks)
    def unreached(self, pick: int) -> None:
        worker, _, token = self.lease(pick)
        self.hear(Unreached(worker, (token,)))

    @rule(message=presences)
    def presence(self, message: Message) -> None:
        self.hear(message)

    @rule(message=anything | st.just(Cleanup()) | st.just(StatsRequest(None)))
    def nonsense(self, message: Message) -> None:
        self.hear(message)

    @rule(down=rarely)
    def link(self, *, down: bool) -> None:
        self.hear(LinkChanged(up=not down))

    @rule(seconds=st.sampled_from([0.5, 2.0, 20.0, 31.0, 100.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.turn()

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.0, -DAY, -10.0, 10.0, DAY]))
    def wall_clock_steps(self, seconds: float) -> None:
        self.clock.wall += seconds
        self.looked = False

    @rule(happens=rarely, after_deciding=st.booleans())
    def crash(self, *, happens: bool, after_deciding: bool) -> None:
        """A new process, with what was committed; perhaps in the middle of a turn."""
        if not happens:
            return
        if after_deciding:
            self.store.fails = True
            with suppress(StoreError):
                self.turns.take(self.inbox, self.now)
            self.store.fails = False
        self.clock.steady = self.clock.wall  # as `SteadyClock` does
        self.start()

    # --- turns --------------------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Take a turn once enough has come."""
        self.inbox.append(event)
        self.looked = False
        if len(self.inbox) >= self.enough:
            self.enough = next(self.sizes)
            self.turn()

    def turn(self) -> list[Effect]:
        events, self.inbox = self.inbox, []
        before = dict(self.store.jobs)
        self.turns.take(events, self.now)
        effects = list(self.machine.effects)
        saves = [effect for effect in effects if isinstance(effect, Save)]
        assert effects[: len(saves)] == saves, "saves come first"
        self.check_saves(events, effects, before)
        self.check_offers([effect for effect in effects if isinstance(effect, Offer)])
        self.check_answers(events, effects, before.keys() | self.store.jobs.keys())
        assert all(save.before < self.clock.wall for save in saves if isinstance(save, Prune))
        self.pruned = Counter(job.state for job_id, job in before.items() if job_id not in self.store.jobs)
        assert self.pruned.keys() <= TERMINAL
        self.looked = True
        return effects

    def check_saves(self, events: list[Event], effects: list[Effect], stored: dict[JobId, JobRecord]) -> None:
        """Every step is in the table and is published, and a result is that of the newest lease.

        `stored` is what the store had before the turn.
        """
        states: dict[JobId, State | None] = {job_id: job.state for job_id, job in stored.items()}
        ended = Counter[JobId]()
        for step in (step for monitor in sent(effects, Monitor) for step in monitor.transitions):
            before = states.get(step.job_id)
            assert step.state in INITIAL if before is None else (before, step.state) in STEPS
            states[step.job_id] = step.state
            ended[step.job_id] += step.state in TERMINAL
        reports = {
            (event.worker_id, *attempt_key(attempt))
            for event in events
            if isinstance(event, Report) and event.worker_id not in self.machine._denials.workers
            for attempt in event.attempts
        }
        for save in effects:
            if isinstance(save, SaveJob):
                job, before_save = save.job, stored.get(save.job.spec.job_id)
                assert states[job.spec.job_id] is job.state
                assert (save.payload is None) is (before_save is not None)
                assert before_save is None or before_save.state not in TERMINAL - {State.FAILED}
                assert (save.result is not None) is (job.state is State.COMPLETED)
                if save.result is not None:
                    assert before_save is not None
                    key = (before_save.worker, job.spec.job_id, before_save.token, Outcome.OK, save.result)
                    assert key in reports
        notices = Counter(
            effect.message.job_id
            for effect in effects
            if isinstance(effect, Send) and isinstance(effect.message, Notice)
        )
        assert notices == +ended

    def check_offers(self, offers: list[Offer]) -> None:
        """A new lease has a new token and a place in the window, or ahead; an old one is offered as it was."""
        for offer in offers:
            worker = self.machine.roster.workers[offer.worker_id]
            new = {job.spec.type for job in offer.jobs if job.token not in self.tokens}
            ahead = [prefetch.jobs for job_type, prefetch in POLICY.prefetch.items() if job_type in new]
            assert not new or worker.window
            leases = self.machine.ledger.leases.count(worker.worker_id)
            assert not new or leases <= max(worker.window, *(worker.slots + jobs for jobs in ahead), 0)
            for job in offer.jobs:
                assert job.token is not None
                lease = (offer.worker_id, job.spec.job_id, job.token)
                if job.token in self.tokens:
                    assert lease in self.leases
                    continue
                assert job == self.store.jobs[job.spec.job_id]
                assert worker.online
                assert worker.worker_id not in self.machine.ledger.drained
                assert job.spec.type not in self.machine.ledger.paused
                assert worker.may_run(job.spec.type, job.spec.tags)
                self.tokens.add(job.token)
                self.leases.append(lease)

    def check_answers(self, events: list[Event], effects: list[Effect], stored: AbstractSet[JobId]) -> None:
        """Each report and each submission is answered, by what is in the store."""
        acks = sent(effects, Ack)
        submitted = 0
        for event in events:
            if isinstance(event, Report):
                for attempt in event.attempts:
                    own = [ack for ack in acks if ack.worker_id == event.worker_id]
                    assert any(attempt.token in ack.stored + ack.stale for ack in own)
            elif isinstance(event, Submit) and event.reply is not None:
                submitted += len(event.jobs)
        entries = [entry for receipt in sent(effects, Receipt) for entry in receipt.entries]
        orders = [event for event in events if isinstance(event, Order) and event.reply is not None]
        assert len(entries) == submitted + len(orders)
        accepted = [entry for entry in entries if entry.status is not ReceiptStatus.REJECTED]
        about_no_job = [order for order in orders if not isinstance(order, CancelJob | RetryJob)]
        assert [entry.job_id for entry in accepted].count(None) == len(about_no_job)
        assert {entry.job_id for entry in accepted if entry.holder is None} - {None} <= stored
        for entry in entries:
            if entry.holder is not None:
                assert entry.status in {ReceiptStatus.DUPLICATE, ReceiptStatus.REJECTED}
                assert entry.holder in stored

    # --- laws ---------------------------------------------------------------------------------------------------------

    @invariant()
    def the_books_are_what_the_store_has(self) -> None:
        ledger, jobs = self.machine.ledger, self.store.jobs
        live = {job_id: job for job_id, job in jobs.items() if job.state not in TERMINAL}
        assert ledger.jobs.keys() == live.keys()
        for job_id, job in live.items():
            # A start may bring `ready_at` back from a future that the clock has left.
            assert replace(ledger.jobs[job_id], ready_at=job.ready_at) == job
        assert +ledger.totals - self.pruned == Counter(job.state for job in jobs.values())
        snapshot = self.store.load()
        assert ledger.paused == snapshot.paused
        assert ledger.drained == snapshot.drained
        assert all((job.ended_at is not None) is (job.state in TERMINAL) for job in jobs.values())
        assert all(job.crashes <= job.spec.max_crashes for job in jobs.values())
        assert all(job.failures <= job.spec.retry.max_attempts for job in jobs.values())

    @invariant()
    def the_queue_is_what_is_queued(self) -> None:
        ledger = self.machine.ledger
        queued = {job_id for job_id, job in ledger.jobs.items() if job.state is State.QUEUED}
        assert ledger.ready._valid.keys() == queued
        assert ledger.blamed <= {ledger.jobs[job_id].token for job_id in queued}

    @invariant()
    def the_usage_is_that_of_the_live_jobs(self) -> None:
        usage = Usage()
        for job in self.machine.ledger.jobs.values():
            usage.add(job)
        assert vars(self.machine.ledger.usage) == vars(usage)

    @invariant()
    def a_unique_key_has_one_holder(self) -> None:
        live = self.machine.ledger.jobs.values()
        keys = [
            (owner_of(job.spec.job_id), job.spec.type, job.spec.unique) for job in live if job.spec.unique is not None
        ]
        assert len(keys) == len(set(keys))
        for job in live:
            holder = self.machine.ledger.holder(owner_of(job.spec.job_id), job.spec.type, job.spec.unique)
            assert holder == (None if job.spec.unique is None else job.spec.job_id)

    @invariant()
    def every_leased_job_has_one_lease_one_holder_and_one_open_attempt(self) -> None:
        ledger = self.machine.ledger
        leased = {job_id for job_id, job in ledger.jobs.items() if job.state in LEASED}
        assert {lease.attempt.job_id for lease in ledger.leases} == leased
        for job_id, job in self.store.jobs.items():
            attempts = self.store.attempts(job_id)
            assert [attempt.number for attempt in attempts] == list(range(1, job.attempt + 1))
            open_attempts = [attempt for attempt in attempts if attempt.outcome is None]
            assert open_attempts == ([ledger.leases[job_id].attempt] if job.state in LEASED else [])
            for attempt in open_attempts:
                assert (attempt.number, attempt.worker, attempt.token) == (job.attempt, job.worker, job.token)

    @invariant()
    def both_indexes_of_the_leases_agree(self) -> None:
        leases = self.machine.ledger.leases
        for worker_id in (W1, W2, W3):
            by_job = [lease for lease in leases if lease.attempt.worker == worker_id]
            assert leases.of_worker(worker_id) == by_job
            assert leases.count(worker_id) == len(by_job)
        assert len(leases) == sum(map(leases.count, (W1, W2, W3)))

    @invariant()
    def who_is_denied_has_nothing(self) -> None:
        if not self.looked:
            return
        assert not self.denied & self.machine.roster.workers.keys()
        for job in self.machine.ledger.jobs.values():
            assert job.worker not in self.denied or job.token is None or job.state is State.SCHEDULED

    @invariant()
    def no_lease_is_valid_for_longer_than_it_may_be(self) -> None:
        ledger = self.machine.ledger
        for lease in ledger.leases:
            job = ledger.jobs[lease.attempt.job_id]
            wanted_back = job.cancel_requested or job.worker in ledger.drained
            prefetch = None if wanted_back else POLICY.prefetch.get(job.spec.type)
            longest_s = POLICY.lease_s if prefetch is None else prefetch.validity_s
            assert not self.looked or lease.deadline <= self.clock.steady + longest_s

    @invariant()
    def a_token_outlives_its_lease_only_where_it_may_still_be_used(self) -> None:
        """By a worker that was lost, or that repeats a report until it knows that it is stored."""
        for job_id, job in self.store.jobs.items():
            if job.token is not None and job.state not in LEASED:
                newest = self.store.attempts(job_id)[-1]
                assert job.token == newest.token
                assert job.state is not State.QUEUED or newest.outcome is Outcome.LOST

    @invariant()
    def who_waits_for_a_time_has_an_alarm(self) -> None:
        alarms = self.machine._alarms
        steady = {job_id for _, job_id in alarms._steady}
        wall = {job_id for _, job_id in alarms._wall}
        for job_id, job in self.machine.ledger.jobs.items():
            assert job.state is not State.SCHEDULED or job_id in steady | wall
            assert job.state not in INITIAL or job.spec.expires_at is None or job_id in wall

    @invariant()
    def the_machine_sleeps_when_it_has_looked(self) -> None:
        if self.looked:
            assert self.machine.next_in_s(self.now) > 0

    def teardown(self) -> None:
        """The faults stop: workers restart, run every job, and report until no job is left."""
        self.clock.steady += 31 * DAY  # no back-off and no lease is longer
        self.clock.wall = 3e11
        self.denied = frozenset()
        self.inbox += [LinkChanged(up=True), Denied(self.denied)]
        self.turn()
        self.inbox = [
            *(SetPause(job_type, paused=False, reply=None) for job_type in sorted(self.machine.ledger.paused)),
            *(SetDrain(worker_id, drained=False, reply=None) for worker_id in sorted(self.machine.ledger.drained)),
        ]
        self.turn()
        done: dict[WorkerId, list[AttemptReport]] = {W1: [], W2: [], W3: []}
        for _ in range(100):
            jobs = self.machine.ledger.jobs.values()
            if not jobs:
                return
            types = tuple({job.spec.type for job in jobs})
            tags = tuple({tag for job in jobs for tag in job.spec.tags})
            self.clock.advance(10)  # after more than half a lease the dispatcher would take itself for suspended
            for worker_id, reports in done.items():
                self.inbox.append(Report(worker_id, tuple(reports)))
                self.inbox.append(Request(worker_id, "good", 2, 4, types, tags, "1", ()))
                reports.clear()
            for effect in self.turn():
                if isinstance(effect, Offer):
                    done[effect.worker_id] += [
                        AttemptReport(job.token, Outcome.OK, "1", job_id=job.spec.job_id)
                        for job in effect.jobs
                        if job.token
                    ]
        raise AssertionError(f"these never ended: {list(self.machine.ledger.jobs.values())}")


def sent(effects: list[Effect], kind: type[MessageT]) -> list[MessageT]:
    return [effect.message for effect in effects if isinstance(effect, Send) and isinstance(effect.message, kind)]


def attempt_key(attempt: AttemptReport) -> tuple[JobId, Token, Outcome, str | None]:
    result = attempt.result if attempt.outcome is not Outcome.OK else attempt.result or "null"
    return (attempt.job_id, attempt.token, attempt.outcome, result)


pytestmark = pytest.mark.timeout(600)  # before a failure is shown, a short story of it is looked for

TestDispatching = Dispatching.TestCase
TestDispatching.settings = settings(max_examples=3 * settings().max_examples // 2, stateful_step_count=60)
