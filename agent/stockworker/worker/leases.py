"""The leases that a worker holds: waiting, with the executor, or finished and not yet acknowledged. Pure.

A part of the agent's machine, as the ledger is of the dispatcher's: every change goes through here, so that what is in
the journal follows.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from enum import Enum, auto
from typing import Final

from stockworker.protocol.ids import JobId, Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import Assignment, AttemptReport, LeaseStatus, ReportedLease
from stockworker.worker.effects import Accept, Entry, Forget, MarkStarted, RecordOutcome, Start, Stop
from stockworker.worker.work import AttemptResult, Work

_NEARLY_FULL: Final = 0.75
"""Share of the quota from which on no new jobs are to be taken: what is held will need room for its results, too."""

_REMEMBERED: Final = 10_000
"""Settled leases that are remembered, to know an assignment that comes again: as many as come in a few seconds."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What the journal has of one lease: not started (but by `start_by`), started, or finished (with a report)."""

    assignment: Assignment
    started: bool
    report: AttemptReport | None
    start_by: float | None = None


class StopReason(Enum):
    """Why a job was told to stop: what its end means to the dispatcher depends on it."""

    CANCELLED = auto()
    DRAINED = auto()
    STALE = auto()


@dataclass(slots=True)
class WorkerLease:
    """A lease.

    Attributes:
        start_by: its latest start; None is never too late.
        handed: the executor has it.
        stop: why it was told to stop, if it was.
        report: how it ended.
        reported_at: when the report was last sent.
    """

    assignment: Assignment
    start_by: float | None = None
    status: LeaseStatus = LeaseStatus.WAITING
    handed: bool = False
    stop: StopReason | None = None
    report: AttemptReport | None = None
    reported_at: float | None = None


class LeaseTable:
    """All leases of one worker, by token.

    Args:
        journal: what it held when it last stopped.
        quota_bytes: how much of results it may keep.

    Attributes:
        running: those that run now.
        unreported: those whose report is not acknowledged, the oldest first.
        kept_bytes: size of the results among them.
    """

    def __init__(self, journal: Iterable[JournalEntry], quota_bytes: int) -> None:
        self._quota_bytes = quota_bytes
        self.kept_bytes = 0
        self._held: dict[Token, WorkerLease] = {}
        self._settled: dict[Token, None] = {}
        self._newest: dict[JobId, Token] = {}
        self._waiting: deque[Token] = deque()
        self._handed: dict[JobId, Token] = {}
        self.running: set[Token] = set()
        self.unreported: dict[Token, WorkerLease] = {}
        self._entries: list[Entry] = []
        self._orders: list[Start | Stop] = []
        for entry in journal:
            self._recover(entry)

    def _recover(self, entry: JournalEntry) -> None:
        held = self._add(entry.assignment, entry.start_by)
        if entry.report is not None:
            self._keep(held, entry.report)
        elif entry.started:
            self._end_here(held, Outcome.LOST, "the agent was killed, or its machine went down, while it ran")
        else:
            self._waiting.append(entry.assignment.token)

    def get(self, token: Token | None) -> WorkerLease | None:
        """The lease of this token, while it is held."""
        return None if token is None else self._held.get(token)

    @property
    def handed(self) -> int:
        """How many the executor has."""
        return len(self._handed)

    def accept(self, assignment: Assignment, now: float) -> WorkerLease | None:
        """Take a lease; returns None if it is held already, or was. An older lease of the same job is stale now."""
        if assignment.token in self._held or assignment.token in self._settled:
            return None
        older = self.get(self._newest.get(assignment.job_id))
        if older is not None:
            self.withdraw(older)
        start_by = None if assignment.expires_in_s is None else now + assignment.expires_in_s
        self._entries.append(Accept(assignment, start_by))
        return self._add(assignment, start_by)

    def _add(self, assignment: Assignment, start_by: float | None) -> WorkerLease:
        held = self._held[assignment.token] = WorkerLease(assignment, start_by)
        self._newest[assignment.job_id] = assignment.token
        return held

    def queue(self, held: WorkerLease) -> None:
        """Let it wait for its turn."""
        self._waiting.append(held.assignment.token)

    def hand_over(self, slots: int, window: int, now: float) -> None:
        """Hand waiting jobs to the executor, a few ahead of the free slots where they are short (see `pace`).

        One whose time is over at its turn is given back: whether it has expired is the dispatcher's decision.

        Whatever is handed over counts as started, should we be killed: nobody could tell. So a job that has been
        tried before, or that one crash would end, is handed over only when it starts at once.
        """
        blocked = []
        while self._waiting:
            held = self._held[self._waiting[0]]
            job = held.assignment
            if len(self._handed) >= (window if job.attempt == 1 and not job.no_crash_budget else slots):
                break
            self._waiting.popleft()
            if held.start_by is not None and held.start_by <= now:
                self._end_here(held, Outcome.RELEASED, "expires_at passed while it waited on the worker")
                continue
            if job.job_id in self._handed:
                blocked.append(job.token)  # an older attempt at the same job is being stopped
                continue
            held.handed = True
            self._handed[job.job_id] = job.token
            self._entries.append(MarkStarted(job.token, again=job.attempt > 1))
            work = Work(job.token, job.job_id, job.type, job.attempt, job.payload, job.timeout_s)
            self._orders.append(Start(work))
        self._waiting.extendleft(reversed(blocked))

    def began(self, token: Token) -> None:
        """The executor runs it."""
        self._held[token].status = LeaseStatus.RUNNING
        self.running.add(token)

    def finished(self, result: AttemptResult) -> WorkerLease | None:
        """The executor is done with it; returns None if nobody wants to know any more."""
        held = self._held[result.token]
        held.handed = False
        del self._handed[held.assignment.job_id]
        self.running.discard(result.token)
        if held.stop is StopReason.STALE:
            self.forget(held)
            return None
        if result.outcome is Outcome.CANCELLED and held.stop is StopReason.DRAINED:
            result = replace(result, outcome=Outcome.RELEASED)
        self._end(held, result)
        return held

    def _end_here(self, held: WorkerLease, outcome: Outcome, error: str) -> None:
        """Record the outcome of an attempt that the executor does not have."""
        self._end(held, AttemptResult(held.assignment.token, outcome, error=error))

    def _end(self, held: WorkerLease, result: AttemptResult) -> None:
        """Record how an attempt ended; that is reported until it is acknowledged."""
        report = AttemptReport(held.assignment.job_id, **asdict(result))
        self._keep(held, report)
        self._entries.append(RecordOutcome(report))

    def _keep(self, held: WorkerLease, report: AttemptReport) -> None:
        held.status, held.report = LeaseStatus.FINISHED, report
        self.unreported[report.token] = held
        self.kept_bytes += _result_bytes(held)

    @property
    def nearly_full(self) -> bool:
        """Whether the results take so much of the quota that no new jobs should be taken."""
        return self.kept_bytes >= _NEARLY_FULL * self._quota_bytes

    def make_room(self) -> list[tuple[Assignment, int]]:
        """Evict results until the others are within the quota; returns whose, and the bytes of each.

        The largest goes first, so that as few jobs as possible run again; of equally large ones the oldest. The report
        stays, and says what became of the result: as an error, for the dispatcher to have the job run again or not.
        """
        evicted = []
        while self.kept_bytes > self._quota_bytes:
            held = max(self.unreported.values(), key=_result_bytes)
            evicted.append((held.assignment, _result_bytes(held)))
            self._evict(held)
        return evicted

    def _evict(self, held: WorkerLease) -> None:
        if held.report is None:
            raise AssertionError(f"{held.assignment.token} has no report")
        size = _result_bytes(held)
        error = (
            f"its result ({size} bytes) was evicted: the worker could not report it, and keeps at most "
            f"{self._quota_bytes} bytes of results (worker.journal_quota)"
        )
        held.report = replace(held.report, outcome=Outcome.ERROR, result=None, error=error)
        held.reported_at = None
        self.kept_bytes -= size
        self._entries.append(RecordOutcome(held.report))

    def cancel(self, held: WorkerLease) -> None:
        """Somebody wants the job cancelled."""
        if held.handed:
            self.stop(held, StopReason.CANCELLED)
        elif held.status is LeaseStatus.WAITING:
            self._waiting.remove(held.assignment.token)
            self._end_here(held, Outcome.CANCELLED, "cancelled before it started")

    def withdraw(self, held: WorkerLease) -> None:
        """The lease is no longer ours: whatever came of it would be refused."""
        if held.handed:
            self.stop(held, StopReason.STALE)
            held.stop = StopReason.STALE
        else:
            self.forget(held)

    def give_back_waiting(self) -> None:
        """Report as released what the executor does not have."""
        while self._waiting:
            self._end_here(self._held[self._waiting.popleft()], Outcome.RELEASED, "the worker drains")

    def stop_unbegun(self) -> None:
        """Stop what the executor has and has not begun, to give it back."""
        for token in self._handed.values():
            if token not in self.running:
                self.stop(self._held[token], StopReason.DRAINED)

    def stop_all(self) -> None:
        """Stop what runs, to give it back."""
        for token in self._handed.values():
            self.stop(self._held[token], StopReason.DRAINED)

    def stop(self, held: WorkerLease, reason: StopReason) -> None:
        """Have the executor stop it, unless it has been told to."""
        if held.stop is None:
            held.stop = reason
            self._orders.append(Stop(held.assignment.token))

    def forget(self, held: WorkerLease) -> None:
        """It is nothing to us any more."""
        token, job_id = held.assignment.token, held.assignment.job_id
        del self._held[token]
        self.kept_bytes -= _result_bytes(held)
        self._settled[token] = None
        if len(self._settled) > _REMEMBERED:
            del self._settled[next(iter(self._settled))]
        self.unreported.pop(token, None)
        if token in self._waiting:
            self._waiting.remove(token)
        if self._newest.get(job_id) == token:
            del self._newest[job_id]
        self._entries.append(Forget(token))

    def claims(self) -> Iterator[ReportedLease]:
        """All leases, those first that the dispatcher can't learn of from a report."""
        for finished in (False, True):
            for token, held in self._held.items():
                if held.stop is not StopReason.STALE and (held.status is LeaseStatus.FINISHED) is finished:
                    yield ReportedLease(held.assignment.job_id, token, held.status)

    def flush(self) -> tuple[list[Entry], list[Start | Stop]]:
        """Return what is to be committed, and then to be ordered of the executor, since the last call."""
        changes = self._entries, self._orders
        self._entries, self._orders = [], []
        return changes


def _result_bytes(held: WorkerLease) -> int:
    result = None if held.report is None else held.report.result
    return 0 if result is None else len(result) if result.isascii() else len(result.encode())
