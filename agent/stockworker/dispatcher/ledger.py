"""The ledger: the live jobs in memory, every lease, and the changes since the last commit. Pure."""

# Every change of a job's state goes through `Ledger.move`. So each change obeys the lifecycle table, is committed, is
# published, and moves the job in or out of the queue. The lease of a job changes together with its state, in the
# methods below "leases", and nowhere else: a job has a lease exactly while it is assigned or running.
#
# A turn may change a job several times. The store gets only the last state, once: `_saves` has one entry per job. The
# payload of a new job is in its first entry, so each later one takes it over. Observers get every step while
# there are any: `_transitions` and `_notices` are lists.
#
# Two kinds of jobs are in the store alone: those that have ended, and those that are parked (`dispatcher.ready_queue`). An
# event may name any of them, and the ID of a job must stay taken for as long as the store has it. So the turn looks up the
# jobs that its events name and that are not in memory, and `recall` enters them before any other event is handled.

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from stockworker.dispatcher.effects import LimitOutputs, Save, SaveAttempt, SaveDrain, SaveJob, SaveOutput, SavePause
from stockworker.dispatcher.leases import LeaseTable
from stockworker.dispatcher.policy import LiveLimits, QueueLimits
from stockworker.dispatcher.ready_queue import ParkedJobs, ReadyQueue, Refill
from stockworker.dispatcher.usage import Usage
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import ClientId, JobId, JobType, Token, UniqueKey, WorkerId, owner_of
from stockworker.protocol.job import Attempt, JobRecord, Outcome, changed
from stockworker.protocol.lifecycle import TERMINAL, State, Trigger, advance
from stockworker.protocol.messages import NoticeEntry, Transition
from stockworker.shell.turn import Now

_OUTPUT_BYTES: Final = LiveLimits().output_bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The contents of the store at a start.

    Attributes:
        jobs: every live job that is not parked.
        totals: how many jobs of each state the store has.
        next_sequence: one more than the highest `JobRecord.sequence`.
        paused: job types that are not dispatched.
        drained: workers that get no new jobs, whether they are known or not.
        parked: the parked jobs, counted.
    """

    jobs: Iterable[JobRecord]
    totals: Mapping[State, int]
    next_sequence: int
    paused: frozenset[JobType] = frozenset()
    drained: frozenset[WorkerId] = frozenset()
    parked: Sequence[ParkedJobs] = ()


class Ledger:
    """The dispatcher's tables in memory.

    Args:
        snapshot: the contents of the store.
        limits: how many queued jobs are in memory.
        output_bytes: the most bytes of outputs in the store.

    Attributes:
        jobs: every live job in memory: all but those that are parked.
        leases: every valid lease.
        usage: how many live jobs each submitter has.
        ready: the queued jobs, in the order in which workers get them.
        totals: how many jobs of each state the store has, ended ones included.
        recalled: jobs that have ended or are parked, as far as this turn is about them; forgotten at its end.
        blamed: tokens of lost leases that count as crashes, unless the lease is reclaimed or invalidated.
        next_sequence: `JobRecord.sequence` of the next new job.
        paused: job types that are not dispatched.
        drained: workers that get no new jobs, whether they are known or not.
        watched: whether steps are published, as far as is known.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        limits: QueueLimits = QueueLimits(),  # noqa: B008 (it is frozen)
        output_bytes: int = _OUTPUT_BYTES,
    ) -> None:
        self.jobs: dict[JobId, JobRecord] = {}
        self.recalled: dict[JobId, JobRecord] = {}
        self.leases = LeaseTable()
        self.blamed: set[Token] = set()
        self.ready = ReadyQueue(limits)
        self.usage = Usage()
        self.totals: Counter[State] = Counter(snapshot.totals)
        self.next_sequence = snapshot.next_sequence
        self.paused = set(snapshot.paused)
        self.drained = set(snapshot.drained)
        self.watched = True
        self._output_bytes = output_bytes
        self._keys: dict[tuple[ClientId | None, JobType, UniqueKey], JobId] = {}
        self._saves: dict[JobId, SaveJob] = {}
        self._attempts: dict[tuple[JobId, int], SaveAttempt] = {}
        self._outputs: list[SaveOutput] = []
        self._pauses: dict[JobType, SavePause] = {}
        self._drains: dict[WorkerId, SaveDrain] = {}
        self._transitions: list[Transition] = []
        self._notices: list[NoticeEntry] = []
        for job in snapshot.jobs:
            self._admit(job)
        for parked in snapshot.parked:
            lane = parked.lane
            self.usage.count(lane.owner, lane.type, lane.tags, parked.count, parked.payload_bytes)
            self.ready.park_all(parked)

    def add(self, job: JobRecord, payload: str) -> None:
        """Enter a new job."""
        self.next_sequence += 1
        job = self._enter(job)
        self._saves[job.spec.job_id] = SaveJob(job, payload)

    def reopen(self, job: JobRecord, **changes: Any) -> JobRecord:
        """Queue an ended job again."""
        self.totals[job.state] -= 1
        self.recalled.pop(job.spec.job_id, None)
        reopened = self._enter(changed(job, state=advance(job.state, Trigger.REOPENED), **changes))
        self._note_save(reopened)
        return reopened

    def recall(self, jobs: Iterable[JobRecord]) -> None:
        """Enter jobs that the events of this turn name and that are in the store alone."""
        self.recalled.update((job.spec.job_id, job) for job in jobs)

    def refill(self, refill: Refill, jobs: Sequence[JobRecord]) -> None:
        """Take parked jobs into memory."""
        self.jobs.update((job.spec.job_id, job) for job in jobs)
        self.ready.refill(refill, jobs)

    def find(self, job_id: JobId) -> JobRecord | None:
        """Return a live job, or an ended one that this turn is about."""
        return self.jobs.get(job_id) or self.recalled.get(job_id)

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

    def _enter(self, job: JobRecord) -> JobRecord:
        job = self._parked_if_late(job)
        self._admit(job)
        self.totals[job.state] += 1
        self._note_transition(job, job.state)
        return job

    def _admit(self, job: JobRecord) -> None:
        self.usage.add(job)
        if job.spec.unique is not None:
            self._keys[owner_of(job.spec.job_id), job.spec.type, job.spec.unique] = job.spec.job_id
        self._keep(job)

    def _parked_if_late(self, job: JobRecord) -> JobRecord:
        """Mark a job that comes to the queue as parked, if it comes after the front of its lane."""
        return changed(job, parked=True) if job.state is State.QUEUED and self.ready.parks(job) else job

    def _keep(self, job: JobRecord) -> None:
        """Keep a live job in memory and in the queue, or park it."""
        if job.parked:
            self.jobs.pop(job.spec.job_id, None)
            self.recalled[job.spec.job_id] = job
            self.ready.park(job)
            return
        self.jobs[job.spec.job_id] = job
        if job.state is State.QUEUED:
            self.ready.add(job)

    def move(self, job: JobRecord, *triggers: Trigger, result: str | None = None, **changes: Any) -> JobRecord:
        """Move a job to the state that `triggers` lead to, one after the other, and change the given fields with it."""
        job_id, state, passed = job.spec.job_id, job.state, []
        for trigger in triggers:
            state = advance(state, trigger)
            passed.append(state)
        moved = self._parked_if_late(changed(job, state=state, parked=False, **changes))
        self.totals[job.state] -= 1
        self.totals[state] += 1
        self._note_save(moved, result)
        for each in passed:
            self._note_transition(moved, each)
        if job.state is State.QUEUED:
            if job_id in self.jobs:
                self.ready.discard(job_id)
            else:
                self.ready.unpark(job)
            if job.token is not None:
                self.blamed.discard(job.token)
        if state in TERMINAL:
            self.jobs.pop(job_id, None)
            self.usage.remove(job)
            self.recalled[job_id] = moved
            if job.spec.unique is not None:
                del self._keys[owner_of(job_id), job.spec.type, job.spec.unique]
            self._note_end(moved, result)
        else:
            self._keep(moved)
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

    def close(
        self,
        job_id: JobId,
        outcome: Outcome,
        ended_at: float,
        ran_s: float | None,
        error: str | None,
        output: AttemptOutput | None = None,
    ) -> None:
        """End the lease of a job, and record how the attempt ended. The caller moves the job to its next state."""
        given = self.leases.end(job_id).attempt
        ended = Attempt(
            job_id, given.number, given.worker, given.token, given.assigned_at, ended_at, outcome, ran_s, error
        )
        self._record(ended)
        if output is not None:
            self._outputs.append(SaveOutput(job_id, given.number, output))

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

    def flush(self) -> tuple[list[Save], list[NoticeEntry], list[Transition]]:
        """Return what has to be committed, announced and published since the last call."""
        pending: tuple[dict[Any, Any], ...] = (self._saves, self._attempts, self._pauses, self._drains)
        saves: list[Save] = [save for saves in pending for save in saves.values()]
        if self._outputs:
            saves += [*self._outputs, LimitOutputs(self._output_bytes)]
            self._outputs = []
        changes = saves, self._notices, self._transitions
        self._saves, self._attempts, self._pauses, self._drains = {}, {}, {}, {}
        self._notices, self._transitions = [], []
        self.recalled = {}
        return changes

    def _note_save(self, job: JobRecord, result: str | None = None) -> None:
        before = self._saves.get(job.spec.job_id)
        payload = None if before is None else before.payload
        self._saves[job.spec.job_id] = SaveJob(job, payload, result)

    def _note_end(self, job: JobRecord, result: str | None) -> None:
        self._notices.append(
            NoticeEntry(job.spec.job_id, job.spec.type, job.state, job.attempt, job.worker, result, job.reason)
        )

    def _note_transition(self, job: JobRecord, state: State) -> None:
        if self.watched:
            self._transitions.append(Transition(job.spec.job_id, job.spec.type, state, job.attempt, job.worker))
