"""What an agent decides. Pure: events and the time in, effects out; no I/O, no clock, no randomness.

The twin of `stockworker.dispatcher.machine`. Who drives it does three things, in this order: `WorkerMachine.handle`
(decide), put every entry into the journal (commit), then start, stop and publish (perform). Being cut off changes
nothing but who is told: it goes on with what it holds, and what it has finished is reported when the link returns.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from stockworker.logs.events import (
    AttemptCompleted,
    AttemptFailed,
    DrainStarted,
    LeaseWithdrawn,
    LogEvent,
    MessageRefused,
    RefusedByDispatcher,
    ResultEvicted,
    SpaceEnough,
    SpaceShort,
)
from stockworker.protocol.body import MAX_LEASES, content_size, in_batches
from stockworker.protocol.ids import Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import (
    Ack,
    Assign,
    Assignment,
    AttemptReport,
    Control,
    ControlAction,
    Heartbeat,
    Presence,
    Progress,
    Register,
    Report,
    Request,
    Unregister,
)
from stockworker.protocol.sealed import without_sealed
from stockworker.shell.turn import CertificateSeen, LinkChanged
from stockworker.worker.effects import Capabilities, DiskChanged, Drain, Effect, Event, Leave, Send
from stockworker.worker.leases import JournalEntry, LeaseTable, WorkerLease
from stockworker.worker.window import LeaseWindow
from stockworker.worker.work import AttemptResult, Began, Progressed

_REPEAT_REPORT_S: Final = 5.0
_MOST_UNANSWERED: Final = 512
"""Reports under way at once, so that a long backlog does not flood the broker when the link returns."""

_SHORTEST_REQUEST_S: Final = 0.5
"""Between two regular requests, however short a dispatcher says that its leases are."""

_TELL_LEASE_S: Final = 1.0
"""How long a lease waits, or a job runs, before the dispatcher is told apart from the regular requests: of many short
jobs the reports say enough."""

DEFAULT_QUOTA_BYTES: Final = 256 * 1024**2

_WINDOW_CHANGE_S: Final = 1.0
"""Shortest time between two requests that only change the window."""

_FAREWELL_S: Final = 5.0
"""How long a leaving worker waits for its last reports to be acknowledged; they are in the journal anyway."""


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Who this worker is; `incarnation` is a nonce, new at each start."""

    worker_id: WorkerId
    incarnation: str
    version: str


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often it says what, in seconds."""

    poll_interval_s: float = 5.0
    heartbeat_interval_s: float = 30.0


class WorkerMachine:
    """An agent without its shell.

    Attributes:
        evicted: how many results were evicted since the start.

    Args:
        identity: who it is.
        rhythm: how often it says what.
        offering: what it can do.
        journal: what it held when it last stopped, in order of arrival.
        now: the time of this start, in seconds since the epoch on a clock that never steps while the process lives, as
            every `now` here: times in the journal are to mean the same after a restart.
        quota_bytes: how much of results it keeps until they are acknowledged.
    """

    def __init__(
        self,
        identity: WorkerIdentity,
        rhythm: Intervals,
        offering: Capabilities,
        journal: Iterable[JournalEntry],
        now: float,
        *,
        quota_bytes: int = DEFAULT_QUOTA_BYTES,
    ) -> None:
        self._identity = identity
        self._rhythm = rhythm
        self._offering = offering
        self._started = now
        self._link_up = False
        self._pace = LeaseWindow()
        self._holdings = LeaseTable(journal, quota_bytes)
        self._disk_full = False
        self._certificate_days: int | None = None
        self._told_short = False
        self.evicted = 0
        self._lease_s = 30.0
        self._drain: Drain | None = None
        self._patience_ends: float | None = None
        self._idle_since: float | None = None
        self._left = False
        self._request_due = now
        self._heartbeat_due = now
        self._told_window = 0
        self._told_at = now
        self._untold: dict[Token, float] = {}  # leases whose status has changed, and when: the oldest change first
        self._told_refusal: str | None = None
        self._effects: list[Effect] = []

    # --- the one entry point ------------------------------------------------------------------------------------------

    def handle(self, events: Sequence[Event], now: float) -> list[Effect]:
        """Decide what follows from `events`, and from the time.

        Returns:
            Effects, journal entries first: commit all of those before performing any other.
        """
        for event in events:
            self._handle_one(event, now)
        if self._drain is None:
            self._holdings.hand_over(self._offering.slots, self._pace.window(self._offering.slots), now)
        elif self._link_up or not self._drain.leave:
            self._holdings.give_back_waiting()
        self._look_at_space()
        if self._link_up:
            self._look_at_window()
            self._say(now)
        self._look_at_drain(now)
        entries, orders = self._holdings.flush()
        effects = [*entries, *orders, *self._effects]
        self._effects = []
        return effects

    def next_in_s(self, now: float) -> float:
        """Seconds until `handle` wants to be called again, though nothing may have happened."""
        due = [now + self._rhythm.poll_interval_s]
        if self._link_up:
            due += [self._next_request, self._heartbeat_due]
            oldest = next(iter(self._holdings.unreported.values()), None)
            if oldest is not None and oldest.reported_at is not None:
                due.append(oldest.reported_at + _REPEAT_REPORT_S)
        if self._patience_ends is not None:
            due.append(self._patience_ends)
        if self._idle_since is not None:
            due.append(self._idle_since + _FAREWELL_S)
        return max(0.0, min(due) - now)

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._holdings.running)

    @property
    def unreported(self) -> int:
        """How many results wait for their acknowledgement."""
        return len(self._holdings.unreported)

    def job_of(self, token: Token) -> Assignment | None:
        """What this lease is about, while it is held."""
        held = self._holdings.get(token)
        return None if held is None else held.assignment

    def _handle_one(self, event: Event, now: float) -> None:
        match event:
            case AttemptResult():
                self._finished(event)
            case Began(token=token):
                self._holdings.began(token)
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
                self._dispatcher_seen(event, now)
            case Control():
                self._controlled(event, now)
            case Drain():
                self._begin_drain(event, now)
            case DiskChanged() | CertificateSeen():
                self._looked_around(event)
            case Capabilities():
                self._offering = event
                self._request_due = now
            case _:
                self._log(MessageRefused(topic=type(event).__name__, reason="is not meant for a worker"))

    def _looked_around(self, event: DiskChanged | CertificateSeen) -> None:
        match event:
            case DiskChanged(full=full):
                self._disk_full = full
            case CertificateSeen(days=days):
                self._certificate_days = days

    # --- leases -------------------------------------------------------------------------------------------------------

    def _assigned(self, message: Assign, now: float) -> None:
        self._lease_s = message.lease_s
        for assignment in message.leases:
            held = self._holdings.accept(assignment, now)
            if held is not None:
                self._holdings.queue(held)
                self._lease_changed(assignment.token, now)

    def _lease_changed(self, token: Token, now: float) -> None:
        self._untold.pop(token, None)
        self._untold[token] = now

    def _finished(self, result: AttemptResult) -> None:
        self._untold.pop(result.token, None)
        if result.ran_s is not None:
            self._pace.ended(result.ran_s)
        held = self._holdings.finished(result)
        if held is not None:
            self._note_attempt(held, result)

    def _acknowledged(self, message: Ack) -> None:
        if message.lease_s:
            self._lease_s = message.lease_s
        if message.error is not None and message.error != self._told_refusal:
            self._log(RefusedByDispatcher(reason=message.error))
        self._told_refusal = message.error
        for token in message.stored:
            held = self._holdings.unreported.get(token)
            if held is not None:
                self._holdings.forget(held)
        for token in message.stale:
            held = self._holdings.get(token)
            if held is not None:
                self._log(LeaseWithdrawn(job=held.assignment.job_id, type=held.assignment.type))
                self._holdings.withdraw(held)

    # --- orders -------------------------------------------------------------------------------------------------------

    def _controlled(self, message: Control, now: float) -> None:
        match message.action:
            case ControlAction.CANCEL:
                held = self._holdings.get(message.token)
                if held is not None:
                    self._holdings.cancel(held)
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
        self._holdings.stop_unbegun()

    def _look_at_drain(self, now: float) -> None:
        if self._drain is None:
            return
        if self._patience_ends is not None and now >= self._patience_ends:
            self._patience_ends = None
            self._holdings.stop_all()
        if self._holdings.handed or not self._drain.leave:
            self._idle_since = None
        elif not self._left:
            self._idle_since = now if self._idle_since is None else self._idle_since
            told = not self.unreported or not self._link_up
            if told or now >= self._idle_since + _FAREWELL_S:
                self._left = True
                if self._link_up and not self.unreported:
                    self._effects.append(Send(Unregister(self._identity.worker_id, self._identity.incarnation)))
                self._effects.append(Leave())

    # --- space --------------------------------------------------------------------------------------------------------

    def _look_at_space(self) -> None:
        """Keep within the quota, and say when new jobs are not taken for want of space."""
        for job, size in self._holdings.make_room():
            self.evicted += 1
            self._log(ResultEvicted(job=job.job_id, type=job.type, attempt=job.attempt, bytes=size))
        if self._short != self._told_short:
            self._told_short = self._short
            reason = "the disk is nearly full" if self._disk_full else "the journal is near its quota"
            kept = self._holdings.kept_bytes
            self._log(SpaceShort(reason=reason, kept_bytes=kept) if self._short else SpaceEnough(kept_bytes=kept))

    @property
    def _short(self) -> bool:
        return self._disk_full or self._holdings.nearly_full

    @property
    def _window(self) -> int:
        return 0 if self._drain is not None or self._short else self._pace.window(self._offering.slots)

    def _look_at_window(self) -> None:
        if self._window != self._told_window:
            self._request_due = min(self._request_due, self._told_at + _WINDOW_CHANGE_S)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _link_changed(self, event: LinkChanged, now: float) -> None:
        self._link_up = event.up
        if event.up:
            self._introduce(now)

    def _dispatcher_seen(self, message: Presence, now: float) -> None:
        if message.online:
            self._introduce(now)  # a new dispatcher knows nobody, and one that was cut off has missed something

    def _introduce(self, now: float) -> None:
        identity, offering = self._identity, self._offering
        self._effects.append(
            Send(
                Register(
                    identity.worker_id,
                    identity.incarnation,
                    identity.version,
                    offering.slots,
                    offering.types,
                    offering.tags,
                )
            )
        )
        self._request_due = self._heartbeat_due = now
        for held in self._holdings.unreported.values():
            held.reported_at = None

    def _say(self, now: float) -> None:
        # The request first: a worker that drains must not be given again what it gives back.
        if now >= self._next_request:
            self._request(now)
        self._report(now)
        if now >= self._heartbeat_due:
            self._heartbeat_due = now + self._rhythm.heartbeat_interval_s
            self._effects.append(Send(self._heartbeat(now)))

    def _report(self, now: float) -> None:
        """Report what has not been acknowledged: the oldest first, some again."""
        due = []
        for index, held in enumerate(self._holdings.unreported.values()):
            if index >= _MOST_UNANSWERED:
                break
            if held.report is not None and (held.reported_at is None or now - held.reported_at >= _REPEAT_REPORT_S):
                held.reported_at = now
                due.append(held.report)
        for batch in in_batches(due, _report_size):
            self._effects.append(Send(Report(self._identity.worker_id, batch)))

    @property
    def _next_request(self) -> float:
        oldest = next(iter(self._untold.values()), None)
        return self._request_due if oldest is None else min(self._request_due, oldest + _TELL_LEASE_S)

    def _request(self, now: float) -> None:
        self._request_due = now + max(_SHORTEST_REQUEST_S, min(self._rhythm.poll_interval_s, self._lease_s / 3))
        self._told_window = self._window
        self._told_at = now
        self._untold.clear()
        self._effects.append(
            Send(
                Request(
                    worker_id=self._identity.worker_id,
                    incarnation=self._identity.incarnation,
                    slots=self._offering.slots,
                    window=self._told_window,
                    types=self._offering.types,
                    tags=self._offering.tags,
                    version=self._identity.version,
                    leases=tuple(islice(self._holdings.claims(), MAX_LEASES)),
                    disk_pressure=self._short and self._drain is None,
                )
            )
        )

    def _heartbeat(self, now: float) -> Heartbeat:
        return Heartbeat(
            self._identity.worker_id,
            self._identity.incarnation,
            self._offering.slots,
            self.running,
            self.unreported,
            now - self._started,
            self.evicted,
            self._certificate_days,
        )

    def _progressed(self, event: Progressed) -> None:
        held = self._holdings.get(event.token)
        if held is not None and self._link_up:
            message = Progress(self._identity.worker_id, held.assignment.job_id, event.fraction, event.text)
            self._effects.append(Send(message))

    def _note_attempt(self, held: WorkerLease, result: AttemptResult) -> None:
        job = held.assignment
        outcome = result.outcome if held.report is None else held.report.outcome
        ran_s = round(result.ran_s or 0.0, 3)
        if outcome is Outcome.OK:
            self._log(AttemptCompleted(job=job.job_id, type=job.type, attempt=job.attempt, ran_s=ran_s))
            return
        reason = _first_line(result.error or "")
        self._log(
            AttemptFailed(
                job=job.job_id, type=job.type, attempt=job.attempt, outcome=outcome, reason=reason, ran_s=ran_s
            )
        )

    def _log(self, event: LogEvent) -> None:
        self._effects.append(event)


def _first_line(error: str) -> str:
    return without_sealed(error.partition("\n")[0])


def _report_size(report: AttemptReport) -> int:
    return content_size(report.result or "") + content_size(report.error or "")
