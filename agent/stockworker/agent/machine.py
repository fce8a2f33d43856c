"""What an agent decides. Pure: events and the time in, effects out; no I/O, no clock, no randomness.

The twin of `stockworker.dispatcher.machine`. Who drives it does three things, in this order: `Machine.handle`
(decide), put every entry into the journal (commit), then start, stop and publish (perform). Being cut off changes
nothing but who is told: it goes on with what it holds, and what it has finished is reported when the link returns.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import Final

from stockworker.agent.effects import (
    Accept,
    Drain,
    Effect,
    Entry,
    Event,
    Forget,
    Leave,
    LinkChanged,
    MarkStarted,
    Note,
    Offering,
    Record,
    Reload,
    Send,
    Start,
    Stop,
)
from stockworker.agent.pace import Pace
from stockworker.agent.work import Began, Finished, Progressed, Work
from stockworker.protocol.body import content_size, in_batches
from stockworker.protocol.ids import JobId, Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import (
    Ack,
    Assign,
    Assignment,
    AttemptReport,
    Control,
    ControlAction,
    Heartbeat,
    HeldLease,
    LeaseStatus,
    Presence,
    Progress,
    Register,
    Report,
    Request,
    Unregister,
)

_REPEAT_REPORT_S: Final = 5.0
_MOST_UNANSWERED: Final = 512
"""Reports under way at once, so that a long backlog does not flood the broker when the link returns."""

_MOST_CLAIMS: Final = 1000
"""Leases named in one request, so that it stays within the size of a message."""

_TELL_RUNNING_S: Final = 1.0
"""How long a job runs before the dispatcher is told apart from the regular requests."""

_WINDOW_CHANGE_S: Final = 1.0
"""Shortest time between two requests that only change the window."""

_FAREWELL_S: Final = 5.0
"""How long a leaving worker waits for its last reports to be acknowledged; they are in the journal anyway."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this worker is; `boot` is made anew at each start."""

    worker_id: WorkerId
    boot: str
    version: str


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often it says what, in seconds."""

    poll_interval_s: float = 5.0
    heartbeat_interval_s: float = 30.0


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What the journal has of one lease: not started, started, or finished (with a report)."""

    assignment: Assignment
    started: bool
    report: AttemptReport | None


class _StopReason(Enum):
    CANCELLED = auto()
    DRAINED = auto()
    STALE = auto()


@dataclass(slots=True)
class _Held:
    """A lease. `reported_at` is when its report was last sent, `started_at` when it began to run."""

    assignment: Assignment
    status: LeaseStatus = LeaseStatus.WAITING
    started_at: float = 0.0
    stop: _StopReason | None = None
    report: AttemptReport | None = None
    reported_at: float | None = None


class Machine:
    """An agent without its shell.

    Args:
        identity: who it is.
        rhythm: how often it says what.
        offering: what it can do.
        journal: what it held when it last stopped, in order of arrival.
        now: the time of this start, in seconds on a clock that never steps; so is every `now` here.
    """

    def __init__(
        self, identity: Identity, rhythm: Rhythm, offering: Offering, journal: Iterable[JournalEntry], now: float
    ) -> None:
        self._identity = identity
        self._rhythm = rhythm
        self._offering = offering
        self._started = now
        self._link_up = False
        self._pace = Pace()
        self._held: dict[Token, _Held] = {}
        self._waiting: deque[Token] = deque()
        self._handed: dict[JobId, Token] = {}
        self._running: set[Token] = set()
        self._unreported: dict[Token, _Held] = {}
        self._lease_s = 30.0
        self._epoch: str | None = None
        self._drain: Drain | None = None
        self._drain_began = 0.0
        self._idle_since: float | None = None
        self._left = False
        self._request_due = now
        self._heartbeat_due = now
        self._told_window = 0
        self._told_at = now
        self._told_running: set[Token] = set()
        self._entries: list[Entry] = []
        self._effects: list[Effect] = []
        for entry in journal:
            self._recover(entry)

    def _recover(self, entry: JournalEntry) -> None:
        token = entry.assignment.token
        held = _Held(entry.assignment, report=entry.report)
        self._held[token] = held
        if entry.report is not None:
            held.status = LeaseStatus.FINISHED
            self._unreported[token] = held
        elif entry.started:
            self._end(held, Outcome.CRASHED, error="the agent was killed, or its machine went down, while it ran")
        else:
            self._waiting.append(token)

    # --- the one entry point ------------------------------------------------------------------------------------------

    def handle(self, events: Sequence[Event], now: float) -> list[Effect]:
        """Decide what follows from `events`, and from the time.

        Returns:
            Effects, journal entries first: commit all of those before performing any other.
        """
        for event in events:
            self._handle_one(event, now)
        self._start_waiting()
        if self._link_up:
            self._say(now)
        self._look_at_drain(now)
        effects = [*self._entries, *self._effects]
        self._entries, self._effects = [], []
        return effects

    def next_in_s(self, now: float) -> float:
        """Seconds until `handle` wants to be called again, though nothing may have happened."""
        due = [now + self._rhythm.poll_interval_s]
        if self._link_up:
            due += [self._request_due, self._heartbeat_due]
            due += [
                held.started_at + _TELL_RUNNING_S
                for held in map(self._held.__getitem__, self._running - self._told_running)
            ]
            oldest = next(iter(self._unreported.values()), None)
            if oldest is not None and oldest.reported_at is not None:
                due.append(oldest.reported_at + _REPEAT_REPORT_S)
        if self._drain is not None and self._drain.patience_s is not None:
            due.append(self._drain_began + self._drain.patience_s)
        if self._idle_since is not None:
            due.append(self._idle_since + _FAREWELL_S)
        return max(0.0, min(due) - now)

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._running)

    def job_of(self, token: Token) -> Assignment | None:
        """What this lease is about, while it is held."""
        held = self._held.get(token)
        return None if held is None else held.assignment

    @property
    def unreported(self) -> int:
        """How many results wait for their acknowledgement."""
        return len(self._unreported)

    def _handle_one(self, event: Event, now: float) -> None:
        match event:
            case Finished():
                self._finished(event)
            case Began(token=token):
                self._running.add(token)
                self._held[token].status, self._held[token].started_at = LeaseStatus.RUNNING, now
            case Assign():
                self._assigned(event)
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
                self._drain_began = now
                self._begin_drain(event)
            case Offering():
                self._offering = event
                self._request_due = now
            case _:
                self._note("message_refused", topic=type(event).__name__, reason="is not meant for a worker")

    # --- leases -------------------------------------------------------------------------------------------------------

    def _assigned(self, message: Assign) -> None:
        self._lease_s = message.lease_s
        for assignment in message.leases:
            if assignment.token in self._held:
                continue
            for held in list(self._held.values()):
                if held.assignment.job_id == assignment.job_id:
                    self._withdrawn(held)  # a newer lease of the same job makes ours stale
            held = _Held(assignment)
            self._held[assignment.token] = held
            self._entries.append(Accept(assignment))
            if self._drain is None:
                self._waiting.append(assignment.token)
            else:
                self._end(held, Outcome.RELEASED, error="the worker drains")

    def _start_waiting(self) -> None:
        """Hand jobs to the executor, a few ahead of the free slots where they are short (see `pace`).

        Whatever is handed over counts as started, should we be killed: nobody could tell. So a job that has been
        tried before is handed over only when it starts at once: it is suspected once by mistake, but not again.
        """
        slots, window = self._offering.slots, self._pace.window(self._offering.slots)
        blocked = []
        while self._waiting:
            job = self._held[self._waiting[0]].assignment
            if len(self._handed) >= (window if job.attempt == 1 else slots):
                break
            token = self._waiting.popleft()
            if job.job_id in self._handed:
                blocked.append(token)  # an older attempt at the same job is being stopped
                continue
            self._handed[job.job_id] = token
            self._entries.append(MarkStarted(token))
            work = Work(token, job.job_id, job.type, job.attempt, job.payload, job.timeout_s)
            self._effects.append(Start(work))
        self._waiting.extendleft(reversed(blocked))

    def _finished(self, event: Finished) -> None:
        held = self._held[event.token]
        del self._handed[held.assignment.job_id]
        self._running.discard(event.token)
        self._told_running.discard(event.token)
        self._pace.ended(event.ran_s)
        if self._pace.window(self._offering.slots) != self._told_window:
            self._request_due = min(self._request_due, self._told_at + _WINDOW_CHANGE_S)
        if held.stop is _StopReason.STALE:
            self._forget(event.token)
            return
        outcome = event.outcome
        if outcome is Outcome.CANCELLED and held.stop is _StopReason.DRAINED:
            outcome = Outcome.RELEASED
        self._end(held, outcome, event.result, event.error, permanent=event.permanent, ran_s=event.ran_s)
        self._note_attempt(held, outcome, event)

    def _end(
        self,
        held: _Held,
        outcome: Outcome,
        result: str | None = None,
        error: str | None = None,
        *,
        permanent: bool = False,
        ran_s: float | None = None,
    ) -> None:
        job = held.assignment
        held.status = LeaseStatus.FINISHED
        held.report = AttemptReport(job.job_id, job.token, outcome, result, error, permanent, ran_s)
        self._unreported[job.token] = held
        self._entries.append(Record(held.report))

    def _acknowledged(self, message: Ack) -> None:
        if message.lease_s:
            self._lease_s = message.lease_s
        if message.error is not None:
            self._note("refused_by_dispatcher", reason=message.error)
        for token in message.stored:
            if token in self._unreported:
                self._forget(token)
        for token in message.stale:
            held = self._held.get(token)
            if held is not None:
                self._note("lease_withdrawn", job=held.assignment.job_id, type=held.assignment.type)
                self._withdrawn(held)

    def _withdrawn(self, held: _Held) -> None:
        """A lease is no longer ours: whatever comes of it would be refused."""
        if self._is_handed(held):
            self._stop(held, _StopReason.STALE)
            held.stop = _StopReason.STALE
        else:
            self._forget(held.assignment.token)

    def _is_handed(self, held: _Held) -> bool:
        return self._handed.get(held.assignment.job_id) == held.assignment.token

    def _stop(self, held: _Held, reason: _StopReason) -> None:
        if held.stop is None:
            held.stop = reason
            self._effects.append(Stop(held.assignment.token))

    def _forget(self, token: Token) -> None:
        del self._held[token]
        self._unreported.pop(token, None)
        if token in self._waiting:
            self._waiting.remove(token)
        self._entries.append(Forget(token))

    # --- orders -------------------------------------------------------------------------------------------------------

    def _controlled(self, message: Control, now: float) -> None:
        match message.action:
            case ControlAction.CANCEL:
                held = None if message.token is None else self._held.get(message.token)
                if held is not None:
                    self._cancel(held)
            case ControlAction.DRAIN:
                if self._drain is None:
                    self._drain_began = now
                    self._begin_drain(Drain(patience_s=None, leave=False))
            case ControlAction.RESUME:
                if self._drain is not None and not self._drain.leave:
                    self._drain = None
                    self._request_due = now
            case ControlAction.RELOAD:
                self._effects.append(Reload())

    def _cancel(self, held: _Held) -> None:
        if self._is_handed(held):
            self._stop(held, _StopReason.CANCELLED)
        elif held.status is LeaseStatus.WAITING:
            self._waiting.remove(held.assignment.token)
            self._end(held, Outcome.CANCELLED, error="cancelled before it started")

    def _begin_drain(self, drain: Drain) -> None:
        self._drain = drain
        self._request_due = self._drain_began
        self._note("drain_started", running=len(self._running))
        while self._waiting:
            self._end(self._held[self._waiting.popleft()], Outcome.RELEASED, error="the worker drains")
        for token in self._handed.values():
            if token not in self._running:
                self._stop(self._held[token], _StopReason.DRAINED)

    def _look_at_drain(self, now: float) -> None:
        if self._drain is None:
            return
        patience_s = self._drain.patience_s
        if patience_s is not None and now >= self._drain_began + patience_s:
            for token in self._handed.values():
                self._stop(self._held[token], _StopReason.DRAINED)
        if self._handed or not self._drain.leave:
            self._idle_since = None
        elif not self._left:
            self._idle_since = now if self._idle_since is None else self._idle_since
            told = not self._unreported or not self._link_up
            if told or now >= self._idle_since + _FAREWELL_S:
                self._left = True
                if self._link_up and not self._unreported:
                    self._effects.append(Send(Unregister(self._identity.worker_id, self._identity.boot)))
                self._effects.append(Leave())

    # --- telling ------------------------------------------------------------------------------------------------------

    def _link_changed(self, event: LinkChanged, now: float) -> None:
        self._link_up = event.up
        if event.up:
            self._introduce(now)

    def _dispatcher_seen(self, message: Presence, now: float) -> None:
        if message.online and message.epoch != self._epoch:
            self._epoch = message.epoch
            self._introduce(now)  # a new dispatcher knows nobody

    def _introduce(self, now: float) -> None:
        identity, offering = self._identity, self._offering
        self._effects.append(
            Send(
                Register(
                    identity.worker_id,
                    identity.boot,
                    identity.version,
                    offering.slots,
                    offering.types,
                    offering.tags,
                )
            )
        )
        self._request_due = self._heartbeat_due = now
        for held in self._unreported.values():
            held.reported_at = None

    def _say(self, now: float) -> None:
        self._report(now)
        if now >= self._request_due or self._runs_untold(now):
            self._request(now)
        if now >= self._heartbeat_due:
            self._heartbeat_due = now + self._rhythm.heartbeat_interval_s
            self._effects.append(Send(self._heartbeat(now)))

    def _report(self, now: float) -> None:
        """Report what has not been acknowledged: the oldest first, some again."""
        due = []
        for index, held in enumerate(self._unreported.values()):
            if index >= _MOST_UNANSWERED:
                break
            if held.report is not None and (held.reported_at is None or now - held.reported_at >= _REPEAT_REPORT_S):
                held.reported_at = now
                due.append(held.report)
        for batch in in_batches(due, _report_size):
            self._effects.append(Send(Report(self._identity.worker_id, batch)))

    def _runs_untold(self, now: float) -> bool:
        return any(
            now - self._held[token].started_at >= _TELL_RUNNING_S for token in self._running - self._told_running
        )

    def _request(self, now: float) -> None:
        self._request_due = now + min(self._rhythm.poll_interval_s, self._lease_s / 3)
        self._told_window = 0 if self._drain is not None else self._pace.window(self._offering.slots)
        self._told_at = now
        self._told_running = set(self._running)
        self._effects.append(
            Send(
                Request(
                    worker_id=self._identity.worker_id,
                    boot=self._identity.boot,
                    slots=self._offering.slots,
                    window=self._told_window,
                    types=self._offering.types,
                    tags=self._offering.tags,
                    version=self._identity.version,
                    leases=tuple(islice(self._claims(), _MOST_CLAIMS)),
                )
            )
        )

    def _claims(self) -> Iterator[HeldLease]:
        """All leases, those first that the dispatcher can't learn of from a report."""
        for finished in (False, True):
            for token, held in self._held.items():
                if held.stop is not _StopReason.STALE and (held.status is LeaseStatus.FINISHED) is finished:
                    yield HeldLease(held.assignment.job_id, token, held.status)

    def _heartbeat(self, now: float) -> Heartbeat:
        return Heartbeat(
            self._identity.worker_id,
            self._identity.boot,
            self._offering.slots,
            len(self._running),
            len(self._unreported),
            now - self._started,
        )

    def _progressed(self, event: Progressed) -> None:
        held = self._held.get(event.token)
        if held is not None and self._link_up:
            message = Progress(self._identity.worker_id, held.assignment.job_id, event.fraction, event.text)
            self._effects.append(Send(message))

    def _note_attempt(self, held: _Held, outcome: Outcome, event: Finished) -> None:
        job = held.assignment
        common = {"job": job.job_id, "type": job.type, "attempt": job.attempt, "ran_s": round(event.ran_s, 3)}
        if outcome is Outcome.OK:
            self._note("attempt_completed", **common)
        else:
            self._note("attempt_failed", outcome=outcome, reason=(event.error or "").partition("\n")[0], **common)

    def _note(self, event: str, **fields: object) -> None:
        self._effects.append(Note(event, tuple(fields.items())))


def _report_size(report: AttemptReport) -> int:
    return content_size(report.result or "") + content_size(report.error or "")
