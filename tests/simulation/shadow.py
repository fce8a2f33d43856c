"""What the dispatcher's disk must hold, kept apart from it; and the laws about every commit."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from stockworker.dispatcher.effects import Prune, Save, SaveAttempt, SaveDrain, SaveJob, SavePause
from stockworker.dispatcher.policy import Policy
from stockworker.dispatcher.store import JobStore
from stockworker.protocol.ids import ClientId, JobId, JobType, Token, UniqueKey, WorkerId, owner_of
from stockworker.protocol.job import Attempt, JobRecord, Outcome
from stockworker.protocol.lifecycle import LEASED, TERMINAL, State
from stockworker.shell.turn import Now
from tests.simulation.calm import Calm
from tests.simulation.invariants import Law, Laws


@dataclass(slots=True)
class Facts:
    """What really happened, independent of what each process knows.

    Attributes:
        payloads: as submitted, by job; of jobs without an id under None.
        cancels, retries: jobs for which a client asked for it.
        receipted: jobs of which a receipt speaks, unless they are `pruned`.
        reported: outcomes that a worker has noted, by lease; `permanent` are those that trying again can't help.
        accepted: leases that a worker has noted.
        waiting: leases that the newest request of their worker names as waiting.
        left_s: how far ahead the expires_at of a lease was when its assignment was sent, at most.
        unreached: leases whose assignment the broker could not deliver, as this dispatcher knows.
        granted, renewed: when the dispatcher granted a lease, and when a request last named it, if any did, else the same.
        booted: when each worker last started, and `boots` as what.
        misled: workers that are disconnected, and of which this turn gets a message of an earlier incarnation.
        linked_since: when the dispatcher last learned that its link came up.
        clock_set_at: when the clock of its machine was last set.
        taken_down: leases under which something was taken down, by job.
        faults: what was broken, how often.
    """

    payloads: defaultdict[JobId | None, set[str]] = field(default_factory=lambda: defaultdict(set))
    cancels: set[JobId] = field(default_factory=set)
    retries: set[JobId] = field(default_factory=set)
    receipted: set[JobId] = field(default_factory=set)
    pruned: set[JobId] = field(default_factory=set)
    reported: defaultdict[Token, set[Outcome]] = field(default_factory=lambda: defaultdict(set))
    permanent: set[Token] = field(default_factory=set)
    accepted: set[Token] = field(default_factory=set)
    waiting: set[Token] = field(default_factory=set)
    left_s: dict[Token, float] = field(default_factory=dict)
    unreached: set[Token] = field(default_factory=set)
    granted: dict[Token, float] = field(default_factory=dict)
    renewed: dict[Token, float] = field(default_factory=dict)
    booted: dict[str, float] = field(default_factory=dict)
    boots: dict[str, str] = field(default_factory=dict)
    misled: set[str] = field(default_factory=set)
    linked_since: float = 0.0
    clock_set_at: float = 0.0
    taken_down: defaultdict[JobId, set[Token]] = field(default_factory=lambda: defaultdict(set))
    faults: Counter[str] = field(default_factory=Counter)


class Shadow:
    """Every job and attempt as committed.

    Args:
        laws, facts, calm: shared by all.
        policy: of the dispatcher.
        soon_s: within which a connected worker sends a request, and everything that is repeated to it arrives.

    Attributes:
        paused, drained: job types and workers that get no new leases.
        drain_set_at: when a worker was last drained or undrained.
        ends: how each job has ended last, whether it is forgotten or not.
        ended_at: the true time of that.
        stored: how many jobs there ever were.
        life: which life of a job this is: what was forgotten may be submitted again, and what failed be reopened.
        lives: to which one a lease belongs.
        excused: leases that were lost while they waited, as far as the dispatcher knew.
        new_leases: of the newest commit.
        before: the state of each job that the newest commit changed, before it; None for a new one.
        forgotten: what the newest commit has forgotten.
        untouched: no job came, changed or was forgotten in this turn.
    """

    def __init__(self, laws: Laws, facts: Facts, calm: Calm, policy: Policy, soon_s: float) -> None:
        self._laws = laws
        self._facts = facts
        self._calm = calm
        self._policy = policy
        self._soon_s = soon_s
        self._by_key: dict[tuple[ClientId | None, JobType, UniqueKey | None], JobId] = {}
        self.paused: set[JobType] = set()
        self.drained: set[WorkerId] = set()
        self.drain_set_at: dict[WorkerId, float] = {}
        self.ends: dict[JobId, State] = {}
        self.ended_at: dict[JobId, float] = {}
        self._cancelled_at: dict[JobId, float] = {}
        self.jobs: dict[JobId, JobRecord] = {}
        self.attempts: dict[Token, Attempt] = {}
        self.open: defaultdict[JobId, set[Token]] = defaultdict(set)
        self.open_leases: defaultdict[WorkerId, set[Token]] = defaultdict(set)
        self.results: dict[JobId, str] = {}
        self.stored = 0
        self.life: dict[JobId, tuple[int, int]] = {}
        self.lives: dict[Token, tuple[int, int]] = {}
        self.totals: Counter[State] = Counter()
        self.excused: set[Token] = set()
        self.new_leases: list[JobRecord] = []
        self.before: dict[JobId, State | None] = {}
        self.forgotten: dict[JobId, JobRecord] = {}
        self.untouched = True

    def begin_turn(self) -> None:
        self.new_leases, self.before, self.forgotten, self.untouched = [], {}, {}, True

    def committed(self, saves: Sequence[Save], now: Now, calmed_before: float) -> None:
        """Take over a commit. Jobs that become ready after `calmed_before` may have been moved up at the start."""
        self.begin_turn()
        touched: set[JobId] = set()
        for save in saves:
            if isinstance(save, SaveJob):
                self._job(save, now, calmed_before)
                touched.add(save.job.spec.job_id)
        for save in saves:
            if isinstance(save, SaveAttempt):
                self._attempt(save.attempt)
                touched.add(save.attempt.job_id)
            elif isinstance(save, SavePause):
                (self.paused.add if save.paused else self.paused.discard)(save.job_type)
            elif isinstance(save, SaveDrain):
                (self.drained.add if save.drained else self.drained.discard)(save.worker_id)
                self.drain_set_at[save.worker_id] = self._calm.now
        self._keys(touched)
        self.untouched = not touched
        for job_id in touched:
            job, open_ = self.jobs[job_id], self.open[job_id]
            wanted = {job.token} if job.state in LEASED else set()
            self._laws.hold(Law.ONE_LIVE_LEASE, open_ == wanted, job, "has open:", open_)

    def _keys(self, touched: set[JobId]) -> None:
        for job_id in touched:
            spec = self.jobs[job_id].spec
            if self._by_key.get((owner_of(job_id), spec.type, spec.unique)) == job_id:
                del self._by_key[owner_of(job_id), spec.type, spec.unique]
        for job_id in touched:
            job = self.jobs[job_id]
            if job.spec.unique is not None and job.state not in TERMINAL:
                holder = self._by_key.setdefault((owner_of(job_id), job.spec.type, job.spec.unique), job_id)
                self._laws.hold(Law.ONE_LIFE_PER_KEY, holder == job_id, job, "lives beside", holder)

    def pruned(self, saves: Sequence[Save], counts: Mapping[State, int], store: JobStore, now: Now) -> None:
        """Forget what the newest commit has forgotten."""
        before = max((save.before for save in saves if isinstance(save, Prune)), default=0.0)
        if not counts:
            return
        self.untouched = False
        old = {job_id: job for job_id, job in self.jobs.items() if job.ended_at is not None and job.ended_at < before}
        gone = old.keys() - store.find(sorted(old)).keys()
        counted = Counter(old[job_id].state for job_id in gone)
        hold, keep_s = self._laws.hold, self._policy.keep_ended_s
        hold(Law.PRUNED_WHEN_OLD, counted == Counter(counts), counts, "were pruned, and should be", counted)
        hold(Law.PRUNED_WHEN_OLD, before <= now.wall - keep_s, before, "at", now)
        for job_id in gone:
            ended_at = self.ended_at.pop(job_id)
            aged = self._calm.now - ended_at >= keep_s - 1.0 or self._facts.clock_set_at >= ended_at
            hold(Law.PRUNED_WHEN_OLD, aged, old[job_id], "ended at", ended_at, "and now it is", self._calm.now)
            self.forgotten[job_id] = self.jobs.pop(job_id)
            self.results.pop(job_id, None)
        self.totals.subtract(counted)
        self._facts.receipted -= gone
        self._facts.pruned |= gone

    def _job(self, save: SaveJob, now: Now, calmed_before: float) -> None:
        hold, job, job_id = self._laws.hold, save.job, save.job.spec.job_id
        before = self.jobs.get(job_id)
        self.before[job_id] = None if before is None else before.state
        hold(Law.SPEC_NEVER_CHANGES, (save.payload is None) is (before is not None), job, "comes as new over", before)
        if job.cancel_requested:
            self._cancelled_at.setdefault(job_id, self._calm.now)
        if before is not None:
            same = (before.spec, before.sequence, before.submitted_at) == (job.spec, job.sequence, job.submitted_at)
            hold(Law.SPEC_NEVER_CHANGES, same, before, "became", job)
            may_change = before.state not in TERMINAL or (
                before.state is State.FAILED and job_id in self._facts.retries
            )
            hold(Law.TERMINAL_IS_FINAL, may_change, before, "became", job)
            self.totals[before.state] -= 1
        else:
            submitted = self._facts.payloads[job_id] | self._facts.payloads[None]
            hold(Law.PAYLOAD_UNCHANGED, save.payload in submitted, job, "has", save.payload)
        self.stored += before is None
        self._begins(before, job)
        self._lease_changes(before, job)
        self._time_came(before, job, now, calmed_before)
        if job.state in TERMINAL:
            self._ended(before, job, now)
        hold(Law.ENDED_WHEN_TERMINAL, (job.ended_at is not None) is (job.state in TERMINAL), job)
        bounded = job.failures <= job.spec.retry.max_attempts and job.crashes <= job.spec.max_crashes
        hold(Law.FAILURES_BOUNDED, bounded, job)
        self._result(before, save)
        self.jobs[job_id] = job
        self.totals[job.state] += 1

    def _begins(self, before: JobRecord | None, job: JobRecord) -> None:
        """A job that is new, or reopened, has done nothing yet."""
        job_id = job.spec.job_id
        if before is None:
            self.life[job_id] = (job.sequence, 0)
        elif before.state is State.FAILED and job.state is not State.FAILED:
            sequence, reopened = self.life[job_id]
            self.life[job_id] = (sequence, reopened + 1)
            self._laws.hold(Law.RETRY_HEEDED, not (job.failures or job.crashes or job.cancel_requested), job)

    def _lease_changes(self, before: JobRecord | None, job: JobRecord) -> None:
        attempt, token = (0, None) if before is None else (before.attempt, before.token)
        if job.token is not None and job.token != token:
            self._laws.hold(Law.TOKEN_IS_NEW, job.token not in self.attempts, job)
            self._laws.hold(Law.ATTEMPTS_COUNT_UP, job.attempt == attempt + 1, before, "became", job)
            self.new_leases.append(job)
            self.lives[job.token] = self.life[job.spec.job_id]
        else:
            self._laws.hold(Law.ATTEMPTS_COUNT_UP, job.attempt == attempt, before, "became", job)

    def _time_came(self, before: JobRecord | None, job: JobRecord, now: Now, calmed_before: float) -> None:
        if before is None or before.state is not State.SCHEDULED or job.state not in (State.QUEUED, State.ASSIGNED):
            return
        not_before = job.spec.not_before
        due = min(before.ready_at, calmed_before) <= now.steady and (not_before is None or not_before <= now.wall)
        self._laws.hold(Law.NOT_BEFORE_ITS_TIME, due, before, "became", job, "at", now)

    def _ended(self, before: JobRecord | None, job: JobRecord, now: Now) -> None:
        hold, spec = self._laws.hold, job.spec
        self.ends[spec.job_id], self.ended_at[spec.job_id] = job.state, self._calm.now
        if job.state is State.CANCELLED:
            hold(Law.CANCELLED_ON_REQUEST, spec.job_id in self._facts.cancels, job)
        elif job.state is State.EXPIRED:
            hold(Law.EXPIRED_IN_TIME, spec.expires_at is not None and spec.expires_at <= now.wall, job, "at", now)
        elif job.state is State.FAILED:
            spent = job.failures >= spec.retry.max_attempts or job.crashes >= spec.max_crashes
            token = None if before is None else before.token
            hold(Law.FAILED_FOR_A_REASON, job.reason and (spent or token in self._facts.permanent), job)

    def _result(self, before: JobRecord | None, save: SaveJob) -> None:
        job, job_id = save.job, save.job.spec.job_id
        completes = job.state is State.COMPLETED
        self._laws.hold(Law.ONE_RESULT, (save.result is not None) is completes, save)
        if save.result is not None:
            self._laws.hold(Law.ONE_RESULT, job_id not in self.results, save, "has", self.results.get(job_id))
            newest = None if before is None else before.token
            self._laws.hold(Law.RESULT_OF_NEWEST, save.result == f'"{newest}"', save, "newest token is", newest)
            self.results[job_id] = save.result

    def _attempt(self, attempt: Attempt) -> None:
        hold = self._laws.hold
        before = self.attempts.get(attempt.token)
        if before is not None:
            same = replace(before, ended_at=None, outcome=None, ran_s=None, error=None) == replace(
                attempt, ended_at=None, outcome=None, ran_s=None, error=None
            )
            may_change = before.outcome in (None, Outcome.LOST) or before == attempt
            hold(Law.ATTEMPT_ENDS_ONCE, same and may_change, before, "became", attempt)
        job = self.jobs[attempt.job_id]
        if attempt.outcome is not None and (before is None or before.outcome is None):
            self._let_go(attempt, job)
        self.attempts[attempt.token] = attempt
        if attempt.outcome is None:
            hold(Law.ONE_LIVE_LEASE, job.token == attempt.token, job, "has another lease open:", attempt)
            self.open[attempt.job_id].add(attempt.token)
            self.open_leases[attempt.worker].add(attempt.token)
        else:
            self.open[attempt.job_id].discard(attempt.token)
            self.open_leases[attempt.worker].discard(attempt.token)

    def _let_go(self, attempt: Attempt, job: JobRecord) -> None:
        """An attempt has ended: if its worker has not reported that, there is a reason."""
        hold, facts, token = self._laws.hold, self._facts, attempt.token
        calm_s = self._calm.lasts_s("dispatcher", attempt.worker)
        cancelled_s = self._calm.now - self._cancelled_at.pop(attempt.job_id, self._calm.now)
        if attempt.outcome in facts.reported[token]:
            late = attempt.outcome is Outcome.OK and min(calm_s, cancelled_s) > self._soon_s
            hold(Law.CANCEL_REPEATED, not late, job, "should be cancelled for", cancelled_s, "in calm of", calm_s)
            return
        hold(Law.LIVE_WORK_KEPT, calm_s <= self._policy.lease_s + 1, attempt, "was taken in calm of", calm_s)
        if attempt.outcome is not Outcome.LOST:
            return
        if token in facts.waiting:
            self.excused.add(token)
        renewed = facts.renewed[token]
        heard_s = self._calm.now - max(renewed, facts.linked_since)
        # One that restarted without it has lost it; so have, in turn, two machines that share a name.
        restarted = facts.booted[attempt.worker] > facts.granted[token] or facts.faults["twin_joined"]
        honoured = heard_s >= self._policy.lease_s - 0.01 or restarted or attempt.worker in facts.misled
        hold(Law.LEASE_HONOURED, honoured, attempt, "was lost, but its worker could send for", heard_s)
        if token not in facts.accepted:
            hold(Law.OFFER_REPEATED, calm_s <= self._soon_s, attempt, "never arrived in calm of", calm_s)
            hold(Law.UNREACHED_TAKEN_BACK, token not in facts.unreached, attempt, "was kept though it never arrived")

    def corrected(self, latest: float) -> None:
        """The store has corrected the times of parked jobs, which a wrong clock had set."""
        for job_id, job in self.jobs.items():
            if job.parked and job.ready_at > latest:
                self.jobs[job_id] = replace(job, ready_at=latest)

    # --- at a start, and at the end -----------------------------------------------------------------------------------

    def equals(self, store: JobStore, *, thoroughly: bool) -> None:
        """The store has what was committed: all that lives, and, if `thoroughly`, all that has ended."""
        snapshot = store.load()
        parked = store.find([job_id for job_id, job in self.jobs.items() if job.parked])
        counts = sum(each.count for each in snapshot.parked)
        self._laws.hold(Law.TOTALS_EQUAL_STORE, counts == len(parked), snapshot.parked, "should count", parked)
        live = parked | {job.spec.job_id: job for job in snapshot.jobs}
        ours = {job_id: job for job_id, job in self.jobs.items() if job.state not in TERMINAL}
        self._laws.hold(Law.DISK_IS_DURABLE, live == ours, "the store has", live, "and should have", ours)
        self._laws.hold(Law.TOTALS_EQUAL_STORE, +Counter(snapshot.totals) == +self.totals, snapshot.totals, self.totals)
        ended = self.jobs.keys() - live.keys() if thoroughly else self._facts.receipted - live.keys()
        found = store.find(sorted(ended)) if thoroughly else store.find(sorted(ended)[-200:])
        for job_id, job in found.items():
            self._laws.hold(Law.DISK_IS_DURABLE, job == self.jobs[job_id], job, "should be", self.jobs[job_id])
        if thoroughly:
            lost = self._facts.receipted - found.keys() - live.keys()
            self._laws.hold(Law.RECEIPTED_SURVIVES, not lost, "lost:", lost)
            reader = store.reader()
            read = {job_id: reader.result(job) for job_id, job in found.items()}
            results = {job_id: result for job_id, result in read.items() if result is not None}
            self._laws.hold(Law.DISK_IS_DURABLE, results == self.results, "results differ")
        else:
            lost = set(sorted(ended)[-200:]) - found.keys()
            self._laws.hold(Law.RECEIPTED_SURVIVES, not lost, "lost:", lost)
