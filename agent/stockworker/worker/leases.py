"""The leases of a worker, from their assignment to the acknowledgement of their report. Pure."""

# A part of the worker's machine, as the ledger is of the dispatcher's: every change of a lease goes through
# `WorkerLeases`, which also returns the journal entry that belongs to it. A lease is the right to one attempt; its
# fencing token names it. Its phases, with the journal entry that is committed before each:
#
#         Assign                start_waiting           AttemptResult            Ack
#     ───────────► waiting ───────────────► with the ───────────────► finished ───────► settled
#       (Accept)      │      (MarkStarted)  executor  (RecordOutcome)     ▲     (Forget)
#                     │                                                   │
#                     └───────── released, cancelled: (RecordOutcome) ────┘
#
# **waiting**. The lease is in the journal with its payload. A restart finds it there and goes on. A worker that drains
# releases it, and so does one that finds `expires_at` passed: whether a job has expired is the dispatcher's decision.
#
# **with the executor**. It runs, or is queued there for a slot. `MarkStarted` is committed before the executor gets it, and the
# journal has no payload of it any more. So after a crash the worker can't know whether it ran, and reports it as `lost`: it
# may have caused the crash, and the dispatcher counts it against the job's crash budget. Jobs that wait in the executor's
# queue therefore share the risk. A job that was tried before, or that one crash would end, does not go there before a slot
# is free for it.
#
# **finished**. The report is in the journal, the payload is not any more. It is sent until it is acknowledged. Results
# beyond the quota are evicted, the largest first: the report stays, and becomes an error.
#
# **refused**. The dispatcher knows how many leases the worker wants, so more than `MAX_LEASES`, or payloads beyond the
# quota, mean a defect or an attack. Such an assignment gets no lease and no entry, whatever their number: it is reported as
# released once, and only its token is remembered. If that report is lost, the lease expires.
#
# **settled**. Acknowledged as stored, or as stale. The last `_REMEMBERED` tokens are remembered, so that an assignment
# that the broker delivers again starts nothing.
#
# A lease can be asked to stop while the executor has it. What its end then means depends on the reason: `CANCELLED` is
# reported as such. `DRAINED` turns a cancelled attempt into a released one; one that had just ended keeps its outcome.
# `STALE`, because the dispatcher has given the job to another worker or a newer lease of the same job has arrived,
# means that the result would be refused: it is dropped. Only one lease of a job is with the executor at any time: a
# newer one waits until the older one has stopped.

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from stockworker.protocol.attempt import AttemptOutput, AttemptResult
from stockworker.protocol.body import MAX_CONTENT, MAX_LEASES
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId, Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import Assignment, AttemptReport, LeaseStatus, ReportedLease
from stockworker.protocol.straight_code import copier
from stockworker.worker.effects import Accept, Entry, Forget, MarkStarted, RecordOutcome, Start, Stop
from stockworker.worker.work import Work

_NEARLY_FULL: Final = 0.75
"""Share of the quota from which on the worker accepts no new jobs: those that it has need room for their results."""

_REMEMBERED: Final = 10_000
"""Settled leases that are remembered, to recognise an assignment that arrives again: the number of a few seconds."""


_changed: Final = copier(Assignment)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A lease in the journal: not started (`start_by` is its latest start), started, or finished (with a report).

    The payload is empty once it has started.
    """

    assignment: Assignment
    started: bool
    report: AttemptReport | None
    start_by: float | None = None


class StopReason(Enum):
    """Why a job was asked to stop: see the top of this module."""

    CANCELLED = auto()
    DRAINED = auto()
    STALE = auto()


@dataclasses.dataclass(slots=True)
class WorkerLease:
    """A lease.

    Attributes:
        start_by: its latest start, if it has one.
        with_executor: it runs, or is queued for a slot.
        stop: why it was asked to stop, if it was.
        report: how it ended.
        reported_at: when the report was last sent.
    """

    assignment: Assignment
    start_by: float | None = None
    status: LeaseStatus = LeaseStatus.WAITING
    with_executor: bool = False
    stop: StopReason | None = None
    report: AttemptReport | None = None
    reported_at: float | None = None


class WorkerLeases:
    """All leases of one worker, by token.

    Args:
        journal: the leases when the worker last stopped.
        quota_bytes: the most bytes of results that it keeps, and of payloads.

    Attributes:
        running: tokens of the attempts that run now.
        unreported: leases whose report is not acknowledged, the oldest first.
        kept_bytes: size of their results and outputs.
        payload_bytes: size of the payloads of all other leases.
    """

    def __init__(self, journal: Iterable[JournalEntry], quota_bytes: int) -> None:
        self._quota_bytes = quota_bytes
        self.kept_bytes = 0
        self._output_bytes = 0
        self.payload_bytes = 0
        self._leases: dict[Token, WorkerLease] = {}
        self._settled: dict[Token, None] = {}
        self._newest: dict[JobId, Token] = {}
        self._waiting: deque[Token] = deque()
        self._with_executor: dict[JobId, Token] = {}
        self.running: set[Token] = set()
        self.unreported: dict[Token, WorkerLease] = {}
        self._entries: list[Entry] = []
        self._orders: list[Start | Stop] = []
        for entry in journal:
            self._recover(entry)

    def _recover(self, entry: JournalEntry) -> None:
        lease = self._add(entry.assignment, entry.start_by)
        if entry.report is not None:
            self._keep(lease, entry.report)
        elif entry.started:
            self._end_here(lease, Outcome.LOST, "the worker was killed, or its machine went down, while it ran")
        else:
            self._waiting.append(entry.assignment.token)

    def get(self, token: Token | None) -> WorkerLease | None:
        """The lease of this token, unless it is settled."""
        return None if token is None else self._leases.get(token)

    @property
    def total(self) -> int:
        """How many leases are not settled."""
        return len(self._leases)

    @property
    def with_executor(self) -> int:
        """How many leases the executor has."""
        return len(self._with_executor)

    def knows(self, token: Token) -> bool:
        """Whether the table has a lease of this token, or had it, or refused it."""
        return token in self._leases or token in self._settled

    def has_room(self, assignment: Assignment, slots: int) -> bool:
        """Whether a lease more is within the bounds: see the top of this module."""
        most_bytes = max(self._quota_bytes, slots * MAX_CONTENT)  # each slot may have the largest payload
        return len(self._leases) < MAX_LEASES and self.payload_bytes + _size(assignment.payload) <= most_bytes

    def refuse(self, assignment: Assignment, reason: str) -> AttemptReport:
        """Refuse an assignment; returns what to report once."""
        self._remember(assignment.token)
        return AttemptReport(assignment.token, Outcome.RELEASED, error=reason, job_id=assignment.job_id)

    def accept(self, assignment: Assignment, now: float) -> WorkerLease:
        """Accept a lease that the table does not know. An older lease of the same job becomes stale."""
        older = self.get(self._newest.get(assignment.job_id))
        if older is not None:
            self.withdraw(older)
        start_by = None if assignment.expires_in_s is None else now + assignment.expires_in_s
        self._entries.append(Accept(assignment, start_by))
        return self._add(assignment, start_by)

    def _add(self, assignment: Assignment, start_by: float | None) -> WorkerLease:
        lease = self._leases[assignment.token] = WorkerLease(assignment, start_by)
        self._newest[assignment.job_id] = assignment.token
        self.payload_bytes += _size(assignment.payload)
        return lease

    def queue(self, lease: WorkerLease) -> None:
        """Let a lease wait for a slot."""
        self._waiting.append(lease.assignment.token)

    def start_waiting(self, slots: int, window: int, now: float) -> None:
        """Give waiting jobs to the executor: as many as it has slots, or as the window allows for first attempts.

        See the top of this module for why other attempts get no place in the executor's queue.
        """
        blocked = []
        while self._waiting:
            lease = self._leases[self._waiting[0]]
            job = lease.assignment
            if len(self._with_executor) >= (window if job.attempt == 1 and not job.no_crash_budget else slots):
                break
            self._waiting.popleft()
            if lease.start_by is not None and lease.start_by <= now:
                self._end_here(lease, Outcome.RELEASED, "expires_at passed while it waited on the worker")
                continue
            if job.job_id in self._with_executor:
                blocked.append(job.token)  # an older attempt at the same job is being stopped
                continue
            lease.with_executor = True
            self._with_executor[job.job_id] = job.token
            self._entries.append(MarkStarted(job.token, again=job.attempt > 1))
            work = Work(
                job.token, job.job_id, job.type, job.attempt, job.payload, job.timeout_s, alone=job.no_crash_budget
            )
            self._orders.append(Start(work))
        self._waiting.extendleft(reversed(blocked))

    def began(self, token: Token) -> None:
        """An attempt has left the executor's queue, and runs."""
        self._leases[token].status = LeaseStatus.RUNNING
        self.running.add(token)

    def finished(self, result: AttemptResult) -> WorkerLease | None:
        """An attempt has ended; returns None if its lease is stale, so that nothing is reported."""
        lease = self._leases[result.token]
        lease.with_executor = False
        del self._with_executor[lease.assignment.job_id]
        self.running.discard(result.token)
        if lease.stop is StopReason.STALE:
            self.forget(lease)
            return None
        if result.outcome is Outcome.CANCELLED and lease.stop is StopReason.DRAINED:
            result = replace(result, outcome=Outcome.RELEASED)
        self._end(lease, result)
        return lease

    def _end_here(self, lease: WorkerLease, outcome: Outcome, error: str) -> None:
        """Record the outcome of an attempt that the executor does not have."""
        self._end(lease, AttemptResult(lease.assignment.token, outcome, error=error))

    def _end(self, lease: WorkerLease, result: AttemptResult) -> None:
        """Record how an attempt ended; that is reported until it is acknowledged."""
        report = AttemptReport(
            result.token,
            result.outcome,
            result.result,
            result.error,
            result.permanent,
            result.ran_s,
            result.output,
            job_id=lease.assignment.job_id,
        )
        self._keep(lease, report)
        self._entries.append(RecordOutcome(report))

    def _keep(self, lease: WorkerLease, report: AttemptReport) -> None:
        lease.status, lease.report = LeaseStatus.FINISHED, report
        self._drop_payload(lease)
        self.unreported[report.token] = lease
        self._count(lease, 1)

    @property
    def nearly_full(self) -> bool:
        """Whether results take so much of the quota that the worker must not accept new jobs."""
        return self.kept_bytes >= _NEARLY_FULL * self._quota_bytes

    def make_room(self) -> list[tuple[Assignment, int]]:
        """Evict results until the others are within the quota; returns the jobs and the bytes of each.

        Outputs go before, so that they never keep jobs away. Of the results the largest goes first, so that as few jobs as possible run again; of equally large ones the oldest. Its report
        stays, as an error, and the dispatcher decides whether the job runs again.
        """
        if self._output_bytes and self.nearly_full:
            self._drop_outputs()
        evicted = []
        while self.kept_bytes > self._quota_bytes:
            lease = max(self.unreported.values(), key=_result_bytes)
            evicted.append((lease.assignment, _result_bytes(lease)))
            self._evict(lease)
        return evicted

    def _drop_outputs(self) -> None:
        """Drop outputs, the oldest first, until the rest does not nearly fill the quota."""
        for lease in self.unreported.values():
            if lease.report is not None and lease.report.output is not None and self.nearly_full:
                self._count(lease, -1)
                dropped = AttemptOutput("", lease.report.output.omitted + _size(lease.report.output.text))
                lease.report = replace(lease.report, output=dropped)
                self._count(lease, 1)
                self._entries.append(RecordOutcome(lease.report))

    def _count(self, lease: WorkerLease, sign: int) -> None:
        """Count the result and the output of a lease, or stop counting them."""
        output = _output_bytes(lease)
        self._output_bytes += sign * output
        self.kept_bytes += sign * (_result_bytes(lease) + output)

    def _evict(self, lease: WorkerLease) -> None:
        if lease.report is None:
            raise AssertionError(f"{lease.assignment.token} has no report")
        size = _result_bytes(lease)
        error = (
            f"its result ({size} bytes) was evicted: the worker could not report it, and keeps at most "
            f"{self._quota_bytes} bytes of results (worker.journal_quota)"
        )
        lease.report = replace(lease.report, outcome=Outcome.ERROR, result=None, error=error)
        lease.reported_at = None
        self.kept_bytes -= size
        self._entries.append(RecordOutcome(lease.report))

    def cancel(self, lease: WorkerLease) -> None:
        """Cancel the job of a lease."""
        if lease.with_executor:
            self.stop(lease, StopReason.CANCELLED)
        elif lease.status is LeaseStatus.WAITING:
            self._waiting.remove(lease.assignment.token)
            self._end_here(lease, Outcome.CANCELLED, "cancelled before it started")

    def withdraw(self, lease: WorkerLease) -> None:
        """The lease is stale: stop its attempt, and drop its result."""
        if lease.with_executor:
            self.stop(lease, StopReason.STALE)
            lease.stop = StopReason.STALE
        else:
            self.forget(lease)

    def release_waiting(self) -> None:
        """Release the jobs that the executor does not have."""
        while self._waiting:
            self._end_here(self._leases[self._waiting.popleft()], Outcome.RELEASED, "the worker drains")

    def stop_queued(self) -> None:
        """Stop the attempts in the executor's queue, to release them."""
        for token in self._with_executor.values():
            if token not in self.running:
                self.stop(self._leases[token], StopReason.DRAINED)

    def stop_all(self) -> None:
        """Stop all attempts, to release them."""
        for token in self._with_executor.values():
            self.stop(self._leases[token], StopReason.DRAINED)

    def stop(self, lease: WorkerLease, reason: StopReason) -> None:
        """Order the executor to stop an attempt, unless it was ordered to."""
        if lease.stop is None:
            lease.stop = reason
            self._orders.append(Stop(lease.assignment.token))

    def forget(self, lease: WorkerLease) -> None:
        """Settle a lease: remove it, and remember its token."""
        token, job_id = lease.assignment.token, lease.assignment.job_id
        del self._leases[token]
        self._count(lease, -1)
        self._drop_payload(lease)
        self._remember(token)
        self.unreported.pop(token, None)
        if token in self._waiting:
            self._waiting.remove(token)
        if self._newest.get(job_id) == token:
            del self._newest[job_id]
        self._entries.append(Forget(token))

    def _drop_payload(self, lease: WorkerLease) -> None:
        if lease.assignment.payload:
            self.payload_bytes -= _size(lease.assignment.payload)
            lease.assignment = _changed(lease.assignment, payload="")

    def _remember(self, token: Token) -> None:
        self._settled[token] = None
        if len(self._settled) > _REMEMBERED:
            del self._settled[next(iter(self._settled))]

    def reported(self) -> Iterator[ReportedLease]:
        """All leases for a request; finished ones last, because their reports name them as well."""
        for finished in (False, True):
            for token, lease in self._leases.items():
                if lease.stop is not StopReason.STALE and (lease.status is LeaseStatus.FINISHED) is finished:
                    yield ReportedLease(lease.assignment.job_id, token, lease.status)

    def flush(self) -> tuple[list[Entry], list[Start | Stop]]:
        """Return the journal entries and the orders since the last call. Commit the entries first."""
        changes = self._entries, self._orders
        self._entries, self._orders = [], []
        return changes


def _result_bytes(lease: WorkerLease) -> int:
    result = None if lease.report is None else lease.report.result
    return 0 if result is None else _size(result)


def _output_bytes(lease: WorkerLease) -> int:
    output = None if lease.report is None else lease.report.output
    return 0 if output is None else _size(output.text)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
