"""The ledger: every live job, every lease, and the changes since the last commit. Pure."""

# Every change of a job's state goes through `Ledger.move`. So each change obeys the lifecycle table, is committed, is
# published, and moves the job in or out of the queue. The lease of a job changes together with its state, in the
# methods below "leases", and nowhere else: a job has a lease exactly while it is assigned or running.
#
# A turn may change a job several times. The store gets only the last state, once: `_saves` has one entry per job. The
# payload of a new job is in its first entry, so each later one takes it over. Observers get every step while
# there are any: `_transitions` and `_notices` are lists.
#
# An ended job leaves memory with the turn. Its ID must stay taken for as long as the store has the job, so the turn
# looks up the ended jobs that the events of a turn name, and `recall` enters them before any other event is handled.

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stockworker.dispatcher.effects import Save, SaveAttempt, SaveDrain, SaveJob, SavePause
from stockworker.dispatcher.leases import LeaseTable
from stockworker.dispatcher.ready_queue import ReadyQueue
from stockworker.dispatcher.usage import Usage
from stockworker.protocol.ids import ClientId, JobId, JobType, Token, UniqueKey, WorkerId, owner_of
from stockworker.protocol.job import Attempt, JobRecord, Outcome, changed
from stockworker.protocol.lifecycle import TERMINAL, State, Trigger, advance
from stockworker.protocol.messages import Notice, Transition
from stockworker.shell.turn import Now


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The contents of the store at a start.

    Attributes:
        jobs: every live job.
        totals: how many jobs of each state the store has.
        next_sequence: one more than the highest `JobRecord.sequence`.
        paused: job types that are not dispatched.
        drained: workers that get no new jobs, whether they are known or not.
    """

    jobs: Iterable[JobRecord]
    totals: Mapping[State, int]
    next_sequence: int
    paused: frozenset[JobType] = frozenset()
    drained: frozenset[WorkerId] = frozenset()


class Ledger:
    """The dispatcher's tables in memory.

    Attributes:
        jobs: every live job.
        leases: every valid lease.
        usage: how many live jobs each submitter has.
        ready: the queued jobs, in the order in which workers get them.
        totals: how many jobs of each state the store has, ended ones included.
        ended: jobs that have ended, as far as the events of this turn name them; forgotten at its end.
        blamed: tokens of lost leases that count as crashes, unless the lease is reclaimed or invalidated.
        next_sequence: `JobRecord.sequence` of the next new job.
        paused: job types that are not dispatched.
        drained: workers that get no new jobs, whether they are known or not.
        watched: whether steps are published, as far as is known.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.jobs: dict[JobId, JobRecord] = {}
        self.ended: dict[JobId, JobRecord] = {}
        self.leases = LeaseTable()
        self.blamed: set[Token] = set()
        self.ready = ReadyQueue()
        self.usage = Usage()
        self.totals: Counter[State] = Counter(snapshot.totals)
        self.next_sequence = snapshot.next_sequence
        self.paused = set(snapshot.paused)
        self.drained = set(snapshot.drained)
        self.watched = True
        self._keys: dict[tuple[ClientId | None, JobType, UniqueKey], JobId] = {}
        self._saves: dict[JobId, SaveJob] = {}
        self._attempts: dict[tuple[JobId, int], SaveAttempt] = {}
        self._pauses: dict[JobType, SavePause] = {}
        self._drains: dict[WorkerId, SaveDrain] = {}
        self._transitions: list[Transition] = []
        self._notices: list[Notice] = []
        for job in snapshot.jobs:
            self._admit(job)

    def add(self, job: JobRecord, payload: str) -> None:
        """Enter a new job."""
        self.next_sequence += 1
        self._saves[job.spec.job_id] = SaveJob(job, payload)
        self._enter(job)

    def reopen(self, job: JobRecord, **changes: Any) -> JobRecord:
        """Queue an ended job again."""
        self.totals[job.state] -= 1
        self.ended.pop(job.spec.job_id, None)
        reopened = changed(job, state=advance(job.state, Trigger.REOPENED), **changes)
        self._note_save(reopened)
        self._enter(reopened)
        return reopened

    def recall(self, jobs: Iterable[JobRecord]) -> None:
        """Enter ended jobs that the events of this turn name."""
        self.ended.update((job.spec.job_id, job) for job in jobs)

    def holder(self, owner: ClientId | None, job_type: JobType, unique: UniqueKey | None) -> JobId | None:
        """Return the live job of this owner and type with this unique key."""
        return None if unique is None else self._keys.get((owner, job_type, unique))

    def set_pause(self, job_type: JobType, *, paused: bool) -> bool:
        """Pause a job type, or resume it; returns whether that is a change."""
        if (job_type in self.paused) == paused:
            return False
        (self.paused.add if paused else self.paused.discard)(job_type)
        self._pauses[job_type] = SavePause(job_type, paused)
        return True

    def set_drain(self, worker_id: WorkerId, *, drained: bool) -> bool:
        """Drain a worker, or end that; returns whether that is a change."""
        if (worker_id in self.drained) == drained:
            return False
        (self.drained.add if drained else self.drained.discard)(worker_id)
        self._drains[worker_id] = SaveDrain(worker_id, drained)
        return True

    def _enter(self, job: JobRecord) -> None:
        self._admit(job)
        self.totals[job.state] += 1
        self._note_transition(job, job.state)

    def _admit(self, job: JobRecord) -> None:
        self.jobs[job.spec.job_id] = job
        self.usage.add(job)
        if job.spec.unique is not None:
            self._keys[owner_of(job.spec.job_id), job.spec.type, job.spec.unique] = job.spec.job_id
        if job.state is State.QUEUED:
            self.ready.add(job)

    def move(self, job: JobRecord, *triggers: Trigger, result: str | None = None, **changes: Any) -> JobRecord:
        """Move a job to the state that `triggers` lead to, one after the other, and change the given fields with it."""
        job_id, state, passed = job.spec.job_id, job.state, []
        for trigger in triggers:
            state = advance(state, trigger)
            passed.append(state)
        moved = changed(job, state=state, **changes)
        self.totals[job.state] -= 1
        self.totals[state] += 1
        self._note_save(moved, result)
        for each in passed:
            self._note_transition(moved, each)
        if state in TERMINAL:
            del self.jobs[job_id]
            self.usage.remove(job)
            self.ended[job_id] = moved
            if job.spec.unique is not None:
                del self._keys[owner_of(job_id), job.spec.type, job.spec.unique]
            self._note_end(moved, result)
        else:
            self.jobs[job_id] = moved
        if job.state is State.QUEUED:
            self.ready.discard(job_id)
            if job.token is not None:
                self.blamed.discard(job.token)
        if state is State.QUEUED:
            self.ready.add(moved)
        return moved

    def amend(self, job: JobRecord, **changes: Any) -> JobRecord:
        """Change fields of a job without changing its state."""
        amended = changed(job, **changes)
        self.jobs[job.spec.job_id] = amended
        self._note_save(amended)
        return amended

    # --- leases: see stockworker.dispatcher.leases for their life -----------------------------------------------------

    def lease(self, job: JobRecord, worker_id: WorkerId, token: Token, now: Now, valid_s: float) -> JobRecord:
        """Give a queued job to a worker."""
        given: dict[str, Any] = {"worker": worker_id, "token": token, "assigned_at": now.wall, "reason": None}
        leased = self.move(job, Trigger.LEASED, attempt=job.attempt + 1, **given)
        self._open(leased, now, valid_s)
        return leased

    def reclaim(self, job: JobRecord, now: Now, valid_s: float) -> JobRecord:
        """Start a lost lease again. Its worker is alive, so the loss no longer counts as a crash."""
        crashes = job.crashes - (job.token in self.blamed)
        reclaimed = self.move(job, Trigger.RECLAIMED, crashes=crashes, reason=None)
        self._open(reclaimed, now, valid_s)
        return reclaimed

    def restore_lease(self, job: JobRecord, now: Now, valid_s: float) -> None:
        """Enter the lease of a job that was leased before this start of the dispatcher."""
        self.leases.grant(job, now.steady, valid_s)

    def close(self, job_id: JobId, outcome: Outcome, ended_at: float, ran_s: float | None, error: str | None) -> None:
        """End the lease of a job, and record how the attempt ended. The caller moves the job to its next state."""
        given = self.leases.end(job_id).attempt
        ended = Attempt(
            job_id, given.number, given.worker, given.token, given.assigned_at, ended_at, outcome, ran_s, error
        )
        self._record(ended)

    def lose(self, job: JobRecord, *, blamed: bool, **changes: Any) -> JobRecord:
        """Queue a job again whose lease was lost; a blamed loss counts as a crash."""
        lost = self.move(job, Trigger.LOST, crashes=job.crashes + blamed, **changes)
        if blamed and lost.token is not None:
            self.blamed.add(lost.token)
        return lost

    def invalidate_token(self, job: JobRecord) -> JobRecord:
        """End a lost lease for good. The job was not started under it, so the loss no longer counts as a crash."""
        crashes = job.crashes - (job.token in self.blamed)
        self.blamed -= {job.token}
        return self.amend(job, token=None, crashes=crashes)

    def job_of_lease(self, job_id: JobId, worker_id: WorkerId, token: Token) -> JobRecord | None:
        """Return the live job whose newest lease this is: a valid one, or a lost one that may be reclaimed."""
        job = self.jobs.get(job_id)
        return job if job is not None and job.token == token and job.worker == worker_id else None

    def _open(self, job: JobRecord, now: Now, valid_s: float) -> None:
        self._record(self.leases.grant(job, now.steady, valid_s).attempt)

    def _record(self, attempt: Attempt) -> None:
        self._attempts[attempt.job_id, attempt.number] = SaveAttempt(attempt)

    # --- the end of a turn --------------------------------------------------------------------------------------------

    def flush(self) -> tuple[list[Save], list[Notice], list[Transition]]:
        """Return what has to be committed, announced and published since the last call."""
        pending: tuple[dict[Any, Any], ...] = (self._saves, self._attempts, self._pauses, self._drains)
        saves: list[Save] = [save for saves in pending for save in saves.values()]
        changes = saves, self._notices, self._transitions
        self._saves, self._attempts, self._pauses, self._drains = {}, {}, {}, {}
        self._notices, self._transitions = [], []
        self.ended = {}
        return changes

    def _note_save(self, job: JobRecord, result: str | None = None) -> None:
        before = self._saves.get(job.spec.job_id)
        payload = None if before is None else before.payload
        self._saves[job.spec.job_id] = SaveJob(job, payload, result)

    def _note_end(self, job: JobRecord, result: str | None) -> None:
        self._notices.append(
            Notice(job.spec.job_id, job.spec.type, job.state, job.attempt, job.worker, result, job.reason)
        )

    def _note_transition(self, job: JobRecord, state: State) -> None:
        if self.watched:
            self._transitions.append(Transition(job.spec.job_id, job.spec.type, state, job.attempt, job.worker))
