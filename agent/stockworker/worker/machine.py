"""What a worker decides. Pure: events and the time in, effects out; no I/O, no clock, no randomness."""

# The twin of `stockworker.dispatcher.machine`; `turn` drives it. The leases are in `leases`, with the model of their
# life. This module decides when the worker sends what:
#
# - **Requests** are absolute: all leases, the slots, the window. One is due every `poll_interval`, or three times per
#   lease if that is more often, because a request renews the leases that it names. Therefore any request may get lost.
#   One is due immediately when the link or the dispatcher comes up, when the worker begins or stops to drain, and when
#   what it can do has changed. A changed lease makes one due after `_SEND_CHANGE_S`: most jobs are shorter than that,
#   and need only their report.
# - **The window** is the number of leases that the worker wants to hold (see `window`); 0 while it drains or while its
#   disk is nearly full. A new window makes a request due, but not more often than every `_WINDOW_CHANGE_S`.
# - **A shortage** of memory, processes or descriptors makes the executor release an attempt that it could not start.
#   For `_SHORTAGE_S` the worker then starts nothing beside what runs, and wants no more than that.
# - **Assignments** beyond all bounds are refused, and so is each one while the disk is nearly full: `leases` explains it.
# - **Reports** are sent as soon as an attempt has ended, and again every `_REPEAT_REPORT_S` until they are
#   acknowledged: the oldest first, and never more than `_MOST_UNACKNOWLEDGED` at the same time. An acknowledgement is
#   `stored`, or `stale`: the dispatcher refuses that result. Both settle the lease.
# - **Without a dispatcher** the broker answers that no client has subscribed to requests. If that lasts, the worker logs it.
# - **Losing the link changes nothing but this.** The worker continues with its leases, and reports when the link
#   returns.
#
# A worker drains in three steps: it starts nothing more; jobs that wait are released, so that others can run them;
# after `patience_s` running jobs are stopped and released as well. One that also leaves ends when the executor is
# empty, and its reports are acknowledged or `_FAREWELL_S` are over: what is not acknowledged is in the journal for the
# next start.

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from stockworker.logs.events import LogEvent, MessageRefused
from stockworker.logs.worker_events import (
    AssignmentsRefused,
    AttemptCompleted,
    AttemptFailed,
    DispatcherFound,
    DispatcherMissing,
    DrainStarted,
    LeaseWithdrawn,
    RefusedByDispatcher,
    ResultEvicted,
    SpaceEnough,
    SpaceShort,
)
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.body import MAX_LEASES, content_size, in_batches
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import PROBE, Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import (
    Ack,
    Assign,
    Assignment,
    AttemptReport,
    Control,
    ControlAction,
    Heartbeat,
    Message,
    Presence,
    Progress,
    Register,
    Report,
    Request,
    Unregister,
)
from stockworker.protocol.sealed import first_line, without_sealed
from stockworker.shell.turn import CertificateSeen, DiskChanged, LinkChanged, Send
from stockworker.worker.effects import Capabilities, Drain, Effect, Event, Leave, MarketStoreSeen, Unheard
from stockworker.worker.leases import JournalEntry, WorkerLease, WorkerLeases
from stockworker.worker.window import LeaseWindow
from stockworker.worker.work import Began, Progressed

_REPEAT_REPORT_S: Final = 5.0
_MOST_UNACKNOWLEDGED: Final = 512
"""Unacknowledged reports at the same time, so that a long backlog does not flood the broker when the link returns."""

_SHORTEST_REQUEST_S: Final = 0.5
"""Between two regular requests, however short the dispatcher's leases are."""

_SEND_CHANGE_S: Final = 1.0
"""How long a lease waits, or a job runs, before a request that names it is due."""

_OF_DISPATCHER: Final = (Ack, Assign, Control)

DEFAULT_QUOTA_BYTES: Final = 256 * 1024**2

_WINDOW_CHANGE_S: Final = 1.0
"""Shortest time between two requests that only change the window."""

_UNHEARD_S: Final = 60.0
"""How long a worker waits for a dispatcher until it logs that there is none: a restart takes less."""

_SHORTAGE_S: Final = 5.0

_FAREWELL_S: Final = 5.0
"""How long a leaving worker waits for its last reports to be acknowledged; they are in the journal anyway."""


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """What names this process: `incarnation` is a nonce, new at each start."""

    worker_id: WorkerId
    incarnation: str
    version: str


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often the worker sends requests and heartbeats, in seconds."""

    poll_interval_s: float = 5.0
    heartbeat_interval_s: float = 30.0


class WorkerMachine:
    """A worker without its shell.

    Attributes:
        evicted: results that were evicted since the start.

    Args:
        identity: names this process.
        intervals: how often to send requests and heartbeats.
        capabilities: what the worker can do.
        journal: its leases when it last stopped, in order of arrival.
        now: the time of this start, as `Now.steady`. It counts from the epoch, as every `now` here, because times in the
            journal must mean the same after a restart.
        quota_bytes: the most bytes of unacknowledged results that it keeps, and of payloads.
        verbose: log each completed attempt as well.
    """

    def __init__(  # noqa: PLR0913 (each is a setting of its own)
        self,
        identity: WorkerIdentity,
        intervals: Intervals,
        capabilities: Capabilities,
        journal: Iterable[JournalEntry],
        now: float,
        *,
        quota_bytes: int = DEFAULT_QUOTA_BYTES,
        verbose: bool = True,
    ) -> None:
        self._identity = identity
        self._intervals = intervals
        self._capabilities = capabilities
        self._started = now
        self._verbose = verbose
        self._link_up = False
        self._lease_window = LeaseWindow()
        self._leases = WorkerLeases(journal, quota_bytes)
        self._disk_full = False
        self._certificate_days: int | None = None
        self._market_store: str | None = None
        self._logged_pressure = False
        self.evicted = 0
        self._lease_s = 30.0
        self._drain: Drain | None = None
        self._patience_ends: float | None = None
        self._shortage_ends: float | None = None
        self._idle_since: float | None = None
        self._left = False
        self._request_due = now
        self._heartbeat_due = now
        self._sent_window = 0
        self._window_sent_at = now
        self._unsent_changes: dict[Token, float] = {}  # leases whose status has changed, and when; the oldest first
        self._logged_refusal: str | None = None
        self._unheard_since: float | None = None
        self._logged_unheard = False
        self._refused: list[AttemptReport] = []
        self._effects: list[Effect] = []

    # --- the one entry point ------------------------------------------------------------------------------------------

    def handle(self, events: Sequence[Event], now: float) -> list[Effect]:
        """Decide what follows from `events`, and from the time.

        Returns:
            Effects; all journal entries among them must be committed before any other is carried out.
        """
        for event in events:
            if isinstance(event, _OF_DISPATCHER) or (isinstance(event, Presence) and event.online):
                self._heard()
            self._handle_one(event, now)
        if self._shortage_ends is not None and now >= self._shortage_ends:
            self._shortage_ends = None
        if self._drain is None:
            self._leases.start_waiting(self._slots, self._most_leases, now)
        elif self._link_up or not self._drain.leave:
            self._leases.release_waiting()
        self._keep_within_quota()
        self._report_refused()
        if self._link_up:
            self._send_new_window()
            self._send_due(now)
        self._advance_drain(now)
        entries, orders = self._leases.flush()
        effects = [*entries, *orders, *self._effects]
        self._effects = []
        return effects

    def next_in_s(self, now: float) -> float:
        """Seconds until `handle` must be called, even if nothing happens before."""
        due = [now + self._intervals.poll_interval_s]
        if self._link_up:
            due += [self._next_request, self._heartbeat_due]
            oldest = next(iter(self._leases.unreported.values()), None)
            if oldest is not None and oldest.reported_at is not None:
                due.append(oldest.reported_at + _REPEAT_REPORT_S)
        due += [each for each in (self._patience_ends, self._shortage_ends) if each is not None]
        if self._idle_since is not None:
            due.append(self._idle_since + _FAREWELL_S)
        return max(0.0, min(due) - now)

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._leases.running)

    @property
    def unreported(self) -> int:
        """How many reports are not acknowledged."""
        return len(self._leases.unreported)

    @property
    def unheard(self) -> bool:
        """Whether no dispatcher has received the last requests."""
        return self._link_up and self._unheard_since is not None

    def job_of(self, token: Token) -> Assignment | None:
        """The job of a lease that this worker has."""
        lease = self._leases.get(token)
        return None if lease is None else lease.assignment

    def _handle_one(self, event: Event, now: float) -> None:  # noqa: C901, PLR0912 (one case per class of a union)
        match event:
            case AttemptResult():
                self._finished(event, now)
            case Began(token=token):
                self._leases.began(token)
                self._lease_changed(token, now)
            case Assign():
                self._assigned(event, now)
            case Ack():
                self._acknowledged(event)
            case Progressed():
                self._progressed(event)
            case LinkChanged():
                self._link_changed(event, now)
            case Presence():
                self._dispatcher_changed(event, now)
            case Control():
                self._controlled(event, now)
            case Drain():
                self._begin_drain(event, now)
            case DiskChanged(full=full):
                self._disk_full = full
            case CertificateSeen(days=days):
                self._certificate_days = days
            case MarketStoreSeen(identity=identity):
                self._market_store = identity
                self._heartbeat_due = now
            case Unheard():
                self._note_unheard(now)
            case Capabilities():
                self._capabilities = event
                self._request_due = now
                if self._link_up:
                    self._register(now)  # the dispatcher then assigns jobs of types again that could not run here
            case _:
                self._log(MessageRefused(topic=type(event).__name__, reason="is not meant for a worker"))

    # --- leases -------------------------------------------------------------------------------------------------------

    def _assigned(self, message: Assign, now: float) -> None:
        self._lease_s = message.lease_s
        for assignment in message.leases:
            if assignment.token.startswith(PROBE):
                self._answer_tracer(assignment)
                continue
            if self._leases.knows(assignment.token):
                continue
            if self._disk_full:
                self._refuse(assignment, "the disk of the worker's journal is nearly full")
            elif not self._leases.has_room(assignment, self._capabilities.slots):
                self._refuse(assignment, "the worker has more leases, or more bytes of payloads, than it has room for")
            else:
                self._leases.queue(self._leases.accept(assignment, now))
                self._lease_changed(assignment.token, now)

    def _answer_tracer(self, tracer: Assignment) -> None:
        """Report a tracer of the dispatcher as done, without a lease: it starts nothing, and nothing repeats it."""
        if self._link_up:
            outcome = Outcome.OK if tracer.type in self._capabilities.types else Outcome.RELEASED
            report = AttemptReport(tracer.token, outcome, job_id=tracer.job_id)
            self._send(Report(self._identity.worker_id, (report,)))

    def _refuse(self, assignment: Assignment, reason: str) -> None:
        self._refused.append(self._leases.refuse(assignment, reason))

    def _report_refused(self) -> None:
        if not self._refused:
            return
        refused, self._refused = self._refused, []
        self._log(
            AssignmentsRefused(
                assignments=len(refused),
                reason=refused[-1].error or "",
                leases=self._leases.total,
                payload_bytes=self._leases.payload_bytes,
            )
        )
        if self._link_up:
            for batch in in_batches(refused, _report_size):
                self._send(Report(self._identity.worker_id, batch))

    def _lease_changed(self, token: Token, now: float) -> None:
        self._unsent_changes.pop(token, None)
        self._unsent_changes[token] = now

    def _finished(self, result: AttemptResult, now: float) -> None:
        self._unsent_changes.pop(result.token, None)
        if result.outcome is Outcome.RELEASED:
            self._shortage_ends = now + _SHORTAGE_S
            self._request_due = now  # before the report, or the dispatcher would assign the job here again
        elif result.ran_s is not None:
            self._lease_window.ended(result.ran_s)
        lease = self._leases.finished(result)
        if lease is not None:
            self._log_attempt(lease, result)

    def _acknowledged(self, message: Ack) -> None:
        if message.lease_s:
            self._lease_s = message.lease_s
        if message.error is not None and message.error != self._logged_refusal:
            self._log(RefusedByDispatcher(reason=message.error))
        self._logged_refusal = message.error
        for token in message.stored:
            lease = self._leases.unreported.get(token)
            if lease is not None:
                self._leases.forget(lease)
        for token in message.stale:
            lease = self._leases.get(token)
            if lease is not None:
                self._log(LeaseWithdrawn(job=lease.assignment.job_id, type=lease.assignment.type))
                self._leases.withdraw(lease)

    def _note_unheard(self, now: float) -> None:
        self._unheard_since = now if self._unheard_since is None else self._unheard_since
        after_s = now - self._unheard_since
        if after_s >= _UNHEARD_S and not self._logged_unheard:
            self._logged_unheard = True
            self._log(DispatcherMissing(after_s=round(after_s)))

    def _heard(self) -> None:
        self._unheard_since = None
        if self._logged_unheard:
            self._logged_unheard = False
            self._log(DispatcherFound())

    # --- orders -------------------------------------------------------------------------------------------------------

    def _controlled(self, message: Control, now: float) -> None:
        match message.action:
            case ControlAction.CANCEL:
                lease = self._leases.get(message.token)
                if lease is not None:
                    self._leases.cancel(lease)
            case ControlAction.DRAIN:
                if self._drain is None:
                    self._begin_drain(Drain(patience_s=None, leave=False), now)
            case ControlAction.RESUME:
                if self._drain is not None and not self._drain.leave:
                    self._drain = None
                    self._request_due = now

    def _begin_drain(self, drain: Drain, now: float) -> None:
        self._drain = drain
        self._patience_ends = None if drain.patience_s is None else now + drain.patience_s
        self._request_due = now
        self._log(DrainStarted(running=self.running))
        self._leases.stop_queued()

    def _advance_drain(self, now: float) -> None:
        if self._drain is None:
            return
        if self._patience_ends is not None and now >= self._patience_ends:
            self._patience_ends = None
            self._leases.stop_all()
        if self._leases.with_executor or not self._drain.leave:
            self._idle_since = None
        elif not self._left:
            self._idle_since = now if self._idle_since is None else self._idle_since
            nothing_to_wait_for = not self.unreported or not self._link_up
            if nothing_to_wait_for or now >= self._idle_since + _FAREWELL_S:
                self._left = True
                if self._link_up and not self.unreported:
                    self._send(Unregister(self._identity.worker_id, self._identity.incarnation))
                self._effects.append(Leave())

    # --- space --------------------------------------------------------------------------------------------------------

    def _keep_within_quota(self) -> None:
        """Evict results beyond the quota, and log when space begins or ceases to be short."""
        for job, size in self._leases.make_room():
            self.evicted += 1
            self._log(ResultEvicted(job=job.job_id, type=job.type, attempt=job.attempt, bytes=size))
        if self._disk_pressure != self._logged_pressure:
            self._logged_pressure = self._disk_pressure
            reason = "the disk is nearly full" if self._disk_full else "the journal is near its quota"
            kept = self._leases.kept_bytes
            self._log(
                SpaceShort(reason=reason, kept_bytes=kept) if self._disk_pressure else SpaceEnough(kept_bytes=kept)
            )

    @property
    def _disk_pressure(self) -> bool:
        return self._disk_full or self._leases.nearly_full

    @property
    def _window(self) -> int:
        wants_none = self._drain is not None or self._disk_pressure
        return 0 if wants_none else self._most_leases

    @property
    def _most_leases(self) -> int:
        return self._slots if self._shortage_ends is not None else self._lease_window.window(self._slots)

    @property
    def _slots(self) -> int:
        """How many attempts may run at the same time now."""
        return self._capabilities.slots if self._shortage_ends is None else min(self._capabilities.slots, self.running)

    def _send_new_window(self) -> None:
        if self._window != self._sent_window:
            self._request_due = min(self._request_due, self._window_sent_at + _WINDOW_CHANGE_S)

    # --- messages ------------------------------------------------------------------------------------------------------

    def _link_changed(self, event: LinkChanged, now: float) -> None:
        self._link_up = event.up
        self._unheard_since = None
        if event.up:
            self._register(now)

    def _dispatcher_changed(self, message: Presence, now: float) -> None:
        if message.online:
            self._register(now)  # a new dispatcher has seen no worker, and one that was cut off has missed messages

    def _register(self, now: float) -> None:
        identity, capabilities = self._identity, self._capabilities
        self._send(
            Register(
                identity.worker_id,
                identity.incarnation,
                identity.version,
                capabilities.slots,
                capabilities.types,
                capabilities.tags,
            )
        )
        self._request_due = self._heartbeat_due = now
        for lease in self._leases.unreported.values():
            lease.reported_at = None

    def _send_due(self, now: float) -> None:
        # The request first: its window of 0 keeps the dispatcher from assigning again what the report releases.
        if now >= self._next_request:
            self._request(now)
        self._report(now)
        if now >= self._heartbeat_due:
            self._heartbeat_due = now + self._intervals.heartbeat_interval_s
            self._send(self._heartbeat(now))

    def _report(self, now: float) -> None:
        """Report what is not acknowledged: the oldest first, some again."""
        due = []
        for index, lease in enumerate(self._leases.unreported.values()):
            if index >= _MOST_UNACKNOWLEDGED:
                break
            if lease.report is not None and (lease.reported_at is None or now - lease.reported_at >= _REPEAT_REPORT_S):
                lease.reported_at = now
                due.append(lease.report)
        for batch in in_batches(due, _report_size):
            self._send(Report(self._identity.worker_id, batch))

    @property
    def _next_request(self) -> float:
        oldest = next(iter(self._unsent_changes.values()), None)
        return self._request_due if oldest is None else min(self._request_due, oldest + _SEND_CHANGE_S)

    def _request(self, now: float) -> None:
        self._request_due = now + max(_SHORTEST_REQUEST_S, min(self._intervals.poll_interval_s, self._lease_s / 3))
        self._sent_window = self._window
        self._window_sent_at = now
        self._unsent_changes.clear()
        self._send(
            Request(
                worker_id=self._identity.worker_id,
                incarnation=self._identity.incarnation,
                slots=self._capabilities.slots,
                window=self._sent_window,
                types=self._capabilities.types,
                tags=self._capabilities.tags,
                version=self._identity.version,
                leases=tuple(islice(self._leases.reported(), MAX_LEASES)),
                disk_pressure=self._disk_pressure and self._drain is None,
            )
        )

    def _heartbeat(self, now: float) -> Heartbeat:
        return Heartbeat(
            self._identity.worker_id,
            self._identity.incarnation,
            self._capabilities.slots,
            self.running,
            self.unreported,
            now - self._started,
            self.evicted,
            self._certificate_days,
            self._market_store,
        )

    def _progressed(self, event: Progressed) -> None:
        lease = self._leases.get(event.token)
        if lease is not None and self._link_up:
            self._send(Progress(self._identity.worker_id, lease.assignment.job_id, event.fraction, event.text))

    def _log_attempt(self, lease: WorkerLease, result: AttemptResult) -> None:
        job = lease.assignment
        outcome = result.outcome if lease.report is None else lease.report.outcome
        if outcome is Outcome.OK and not self._verbose:
            return
        ran_s = round(result.ran_s or 0.0, 3)
        if outcome is Outcome.OK:
            self._log(AttemptCompleted(job=job.job_id, type=job.type, attempt=job.attempt, ran_s=ran_s))
            return
        reason = without_sealed(first_line(result.error))
        self._log(
            AttemptFailed(
                job=job.job_id, type=job.type, attempt=job.attempt, outcome=outcome, reason=reason, ran_s=ran_s
            )
        )

    def _send(self, message: Message) -> None:
        self._effects.append(Send(message))

    def _log(self, event: LogEvent) -> None:
        self._effects.append(event)


def _report_size(report: AttemptReport) -> int:
    output = None if report.output is None else report.output.text
    return content_size(report.result) + content_size(report.error) + content_size(output)
