"""The dispatcher's decisions. Pure: events and the time in, effects out; no I/O, no clock, no randomness of its own."""

# `stockworker.dispatcher.turn` drives it: decide, commit every save in one transaction, then send the rest. A crash
# between two of these steps is harmless. A peer without an answer asks again, and every message can be made again from
# the store.

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from stockworker.dispatcher.alarms import MOST_DUE, Alarms
from stockworker.dispatcher.announcements import Announcements
from stockworker.dispatcher.denials import Denials
from stockworker.dispatcher.effects import (
    Answered,
    Denied,
    Effect,
    Event,
    Expired,
    Prune,
    Pruned,
    Refilled,
    RunQuery,
    ShowStats,
    StoredJobs,
    Unreached,
    Unwatched,
)
from stockworker.dispatcher.ledger import Ledger, Snapshot
from stockworker.dispatcher.orders import Orders
from stockworker.dispatcher.outbox import Outbox
from stockworker.dispatcher.overview import queue_views, worker_views
from stockworker.dispatcher.owners import readable
from stockworker.dispatcher.policy import Policy
from stockworker.dispatcher.queries import Queries
from stockworker.dispatcher.ready_queue import ReadExpired, Refill
from stockworker.dispatcher.roster import Roster
from stockworker.dispatcher.submissions import Submissions
from stockworker.dispatcher.tracers import Tracers
from stockworker.dispatcher.why import why
from stockworker.logs.events import (
    AccessRefused,
    JobRejected,
    MessageRefused,
    StoreDiskFull,
    StoreDiskUsable,
    StoreSpaceEnough,
    StoreSpaceShort,
)
from stockworker.protocol.ids import PROBE, Entropy, JobId
from stockworker.protocol.job import JobRecord
from stockworker.protocol.lifecycle import State, Trigger
from stockworker.protocol.messages import (
    Ack,
    AttemptReport,
    Cleanup,
    Disconnect,
    Heartbeat,
    Order,
    Presence,
    Query,
    ReceiptEntry,
    ReceiptStatus,
    Register,
    Report,
    Request,
    Stats,
    StatsRequest,
    Submit,
    Unregister,
)
from stockworker.shell.turn import CertificateSeen, DiskChanged, LinkChanged, Now

_LONGEST_PAUSE_S: Final = 5.0
"""The longest time between two turns, so that a step of the wall clock is noticed."""

_FROZEN: Final = (
    "the disk of the dispatcher's job store is full; make room there. The worker keeps its jobs and results"
)
_FROZEN_PAUSE_S: Final = 1.0

_UNWATCHED_S: Final = 1.0
"""For how long the dispatcher publishes no steps of jobs after the broker had no client to pass them to."""

_CLOCK_STEPPED_S: Final = 3600.0
_PRUNE_EVERY_S: Final = 60.0
_PRUNE_PER_TURN: Final = 1000
"""How many jobs one turn deletes at most, so that new jobs do not wait for a long clean-up."""

_MOST_LOOKS: Final = 16_384
"""How many times one turn looks at a worker to explain jobs, at most: each explanation looks at all workers."""


class DispatcherMachine:
    """The dispatcher without its shell.

    Args:
        policy: the numbers that it decides by.
        entropy: for tokens, job ids and jitter.
        presence: what the dispatcher announces: its incarnation and version.
        snapshot: the contents of the store.
        now: the time of this start.
    """

    def __init__(self, policy: Policy, entropy: Entropy, presence: Presence, snapshot: Snapshot, now: Now) -> None:
        self._policy = policy
        self._presence = presence
        self._started = now.steady
        self._link_up = False
        self._unwatched_until = 0.0
        self._assigns_more = False
        self._frozen = False
        self._overdue: set[JobId] = set()
        self._postponed: list[Denied] = []
        self._next_sweep = now.steady
        self._certificate_days: int | None = None
        self._next_prune = now.steady
        self._handled = now.steady
        self.counters: Counter[str] = Counter()
        jobs = [_clamp_ready_at(job, now) for job in snapshot.jobs]
        self.ledger = Ledger(replace(snapshot, jobs=jobs), policy.queue, policy.limits.output_bytes)
        self._alarms = Alarms()
        self._outbox = Outbox(policy.lease_s)
        self._announcements = Announcements(policy.notice_result_bytes)
        self._submissions = Submissions(self.ledger, policy, entropy, self.counters)
        self.roster = Roster(policy, entropy, self.ledger, self._alarms, self.counters, self._outbox)
        self.roster.resume(now)
        self._orders = Orders(self.ledger, self._submissions, self.roster, self._alarms, self._outbox)
        self._denials = Denials(self.counters, self._outbox)
        self.tracers = Tracers(policy.dispatcher_id, policy.lease_s, self._outbox)
        self._queries = Queries(self.counters, self._outbox)
        for job in self.ledger.jobs.values():
            self._alarms.arm(job, now)

    # --- the one entry point ------------------------------------------------------------------------------------------

    def handle(self, events: Sequence[Event], now: Now) -> list[Effect]:
        """Decide what follows from `events` and from the time.

        Returns:
            Effects, saves first: commit all of those before performing any other.
        """
        if now.steady - self._handled > self._policy.lease_s / 2:
            self.roster.extend_leases(now)  # the machine was suspended, or its disk hung: renewals may wait
        self._handled = now.steady
        self.ledger.watched = now.steady >= self._unwatched_until
        for event in events:
            # First: with an exhausted disk, nothing of this turn can be stored.
            if isinstance(event, DiskChanged) and event.exhausted is not self._frozen:
                self._disk_changed(event, now)
        if self._frozen:
            return self._handle_frozen(events, now)
        events, self._postponed = [*self._postponed, *events], []
        for event in events:
            if isinstance(event, Denied):  # first: messages of this turn from a denied worker are refused as well
                self._deny(event, now)
        for event in events:
            if not isinstance(event, Denied) and not self._denials.drops(event, now):
                self._handle_one(event, now)
        self._check_clock(now)
        self.roster.compare_market_stores()
        self._assigns_more = self._link_up and len(self.ledger.ready) > 0 and self.roster.assign_jobs(now)
        self._respond(now)
        saves, notices, transitions = self.ledger.flush()
        announced = self._announcements.publish(notices)
        return [*saves, *self._prune(now), *self._reads(now), *self._outbox.flush(announced, transitions)]

    def next_in_s(self, now: Now) -> float:
        """Seconds until `handle` must be called again, even if nothing happens before."""
        if self._frozen:
            return _FROZEN_PAUSE_S
        alarm = self._alarms.next_in_s(now)
        waits = [_LONGEST_PAUSE_S if alarm is None else min(alarm, _LONGEST_PAUSE_S)]
        if self._assigns_more or self.ledger.ready.is_short:
            waits.append(0.0)
        waits.append(max(0.0, self.ledger.ready.parked_expiry - now.wall))
        if len(self.ledger.leases) and self._link_up:
            waits.append(max(0.0, self._next_sweep - now.steady))
        return min(waits)

    def _handle_one(self, event: Event, now: Now) -> None:  # noqa: C901, PLR0912 (one case for each kind of event)
        match event:
            case Report():
                self._reported(event, now)
            case Request():
                self.roster.requested(event, now)
            case Submit():
                self._submitted(event, now)
            case _ if isinstance(event, Order):
                self._orders.carry_out(event, now)
            case Unreached():
                self._unreached(event, now)
            case Unwatched():
                self._unwatched_until = now.steady + _UNWATCHED_S
            case LinkChanged(up=up):
                self._link_changed(up=up, now=now)
            case CertificateSeen(days=days):
                self._certificate_days = days
            case DiskChanged():
                self._disk_changed(event, now)
            case StoredJobs(jobs=jobs):
                self.ledger.recall(jobs)
            case Refilled(refill=refill, jobs=jobs):
                self._refilled(refill, jobs, now)
            case Expired(jobs=jobs, following=following):
                self._expired(jobs, following, now)
            case Pruned(counts=counts):
                self._pruned(dict(counts), now)
            case Query():
                self._asked(self._readable(event), now)
            case StatsRequest():
                self._queries.add(event, now)
            case Answered():
                self._queries.answered()
            case Cleanup():
                self._next_sweep = now.steady
            case Register() | Unregister() | Heartbeat() | Disconnect():
                self._presence_changed(event, now)
            case _:
                self.counters["messages_refused"] += 1
                self._outbox.log(
                    MessageRefused(topic=type(event).__name__, reason="is not a message for the dispatcher")
                )

    # --- a full disk --------------------------------------------------------------------------------------------------

    def _disk_changed(self, event: DiskChanged, now: Now) -> None:
        if event.full != self._submissions.disk_full:
            self._submissions.disk_full = event.full
            self._outbox.log(StoreSpaceShort() if event.full else StoreSpaceEnough())
        if event.exhausted and not self._frozen:
            self._outbox.log(StoreDiskFull())
        if self._frozen and not event.exhausted:
            self._outbox.log(StoreDiskUsable())
            self.roster.extend_leases(now)  # renewals were refused
        self._frozen = event.exhausted

    def _handle_frozen(self, events: Sequence[Event], now: Now) -> list[Effect]:
        """Decide nothing that must be stored. Peers repeat their messages until the disk has room again."""
        for event in events:
            match event:
                case Denied():
                    self._postponed = [event]
                case Report(worker_id=worker_id) | Request(worker_id=worker_id):
                    if not self._denials.drops(event, now):
                        self._outbox.send(Ack(worker_id, error=_FROZEN))
                case Submit() | Query() | StatsRequest() | Answered() | StoredJobs() | Refilled() | Pruned():
                    self._handle_one(event, now)
                case LinkChanged() | CertificateSeen():
                    self._handle_one(event, now)
                case _:
                    pass
        self._respond(now)
        return self._outbox.flush((), ())

    def _deny(self, event: Denied, now: Now) -> None:
        for worker_id in self._denials.change(event.workers):
            self.roster.expel(worker_id, now)

    def _reported(self, report: Report, now: Now) -> None:
        match report.attempts:
            case (AttemptReport(token=token),) if token.startswith(PROBE) and self.tracers.answer(report):
                pass
            case (AttemptReport(token=token),) if token.startswith(PROBE):
                version = self._presence.version
                self._outbox.send(Ack(report.worker_id, stale=(token,), version=version, time=now.wall))
            case _:
                self.roster.reported(report, now)

    def _unreached(self, event: Unreached, now: Now) -> None:
        self.tracers.unreached(event, now)
        self.roster.unreached(event, now)

    def _presence_changed(self, event: Register | Unregister | Heartbeat | Disconnect, now: Now) -> None:
        if not isinstance(event, Heartbeat):
            self.tracers.worker_changed(event.worker_id)
        self.roster.presence_changed(event, now)

    # --- requests of clients ------------------------------------------------------------------------------------------

    def _submitted(self, event: Submit, now: Now) -> None:
        if not self._frozen and self.tracers.takes(event):
            self.tracers.submit(event, self.roster.workers.values(), now)
            return
        entries = [self._submissions.submit(job, event.client_id, now) for job in event.jobs]
        self._arm((entry.job_id for entry in entries), now)
        self._log_rejected(event, entries)
        if any(entry.status is ReceiptStatus.STORED for entry in entries):
            self.roster.note_unserved(event.jobs[0].type, event.client_id)
        self._outbox.receipt(event.reply, entries, notices=self._announcements.expect(event, entries))

    def _readable(self, query: Query) -> Query:
        allowed = readable(query)
        denied = next((job_id for job_id in query.ids if job_id not in allowed.ids), None)
        if denied is not None:
            self._outbox.log(AccessRefused(client=query.client_id, job=denied, request="query"))
        return allowed

    def _asked(self, query: Query, now: Now) -> None:
        recalled = map(self.ledger.recalled.get, query.ids) if query.explain else ()
        self._queries.add(query, now, tuple(job for job in recalled if job is not None and job.parked))

    def _respond(self, now: Now) -> None:
        """Begin to answer the next query, with the jobs as they are at the end of the turn: the store shows the same."""
        match self._queries.next():
            case Query() as query, parked if query.explain:
                self._outbox.respond(self._explained(query, parked, now))
            case Query() as query, _:
                self._outbox.respond(RunQuery(query))
            case StatsRequest() as request, _:
                self._outbox.respond(ShowStats(self._stats(request, now)))
            case None:
                pass

    def _explained(self, query: Query, parked: Sequence[JobRecord], now: Now) -> RunQuery:
        """Explain the live jobs of a query. A job that was parked when it arrived, and is not in memory, still is."""
        known = self.roster.workers.values()
        most = max(1, _MOST_LOOKS // max(1, len(known)))
        jobs = {job.spec.job_id: job for job in parked} | {
            job_id: self.ledger.jobs[job_id] for job_id in query.ids if job_id in self.ledger.jobs
        }
        live = (jobs[job_id] for job_id in query.ids if job_id in jobs)
        explained = ((job.spec.job_id, why(job, self.ledger, known, self._policy, now)) for job in islice(live, most))
        return RunQuery(query, tuple(explained), most)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _check_clock(self, now: Now) -> None:
        if now.steady >= self._next_sweep and self._link_up:
            # Without a link no renewal can arrive, so no lease runs out then.
            self._next_sweep = now.steady + min(1.0, self._policy.lease_s / 10)
            self.roster.end_overdue_leases(now)
        self.roster.check_unserved(now)
        self.tracers.check(self.roster.workers, now)
        # Then the alarms: a job that was just queued again may have expired meanwhile.
        due, self._overdue = self._alarms.ring(now) | self._overdue, set()
        for job_id in sorted(due):
            self._check_waiting(job_id, now)
        self._alarms.sweep(self.ledger.jobs.keys())

    def _check_waiting(self, job_id: JobId, now: Now) -> None:
        job = self.ledger.find(job_id)
        if job is None or job.state not in (State.SCHEDULED, State.QUEUED):
            return
        spec = job.spec
        if spec.expires_at is not None and spec.expires_at <= now.wall:
            self.ledger.move(
                job, Trigger.EXPIRED, token=None, ended_at=now.wall, reason="no worker started it before expires_at"
            )
        elif job.state is State.SCHEDULED:
            due = job.ready_at <= now.steady and (spec.not_before is None or spec.not_before <= now.wall)
            if due:
                self.ledger.move(job, Trigger.DUE, token=None, ready_at=now.steady)
            else:
                self._alarms.arm(job, now)

    def _refilled(self, refill: Refill, jobs: Sequence[JobRecord], now: Now) -> None:
        self.ledger.refill(refill, jobs)
        for job in jobs:
            self._alarms.arm(job, now)

    def _expired(self, jobs: Sequence[JobRecord], following: float, now: Now) -> None:
        """Check parked jobs that had expired by the clock of the last turn; it may have been set back since."""
        self.ledger.recall(jobs)
        self._overdue = {job.spec.job_id for job in jobs}
        left = (
            job.spec.expires_at for job in jobs if job.spec.expires_at is not None and job.spec.expires_at > now.wall
        )
        self.ledger.ready.parked_expiry = min(following, *left, following)

    def _reads(self, now: Now) -> Iterator[Refill | ReadExpired]:
        """What to read of the parked jobs after the commit."""
        ready = self.ledger.ready
        if ready.is_short:
            yield from ready.refills()
        if ready.parked_expiry <= now.wall:
            yield ReadExpired(now.wall, MOST_DUE)

    def _link_changed(self, *, up: bool, now: Now) -> None:
        self._link_up = up
        self.tracers.interrupted()
        if up:
            self._next_sweep = now.steady
            self.roster.extend_leases(now)
            self._outbox.send(self._presence)

    def _prune(self, now: Now) -> Iterator[Prune]:
        if now.steady >= self._next_prune:
            self._next_prune = now.steady + _PRUNE_EVERY_S
            if abs(now.wall - now.steady) > _CLOCK_STEPPED_S:
                return  # the clock was set since the start: the times of ended jobs may be wrong
            yield Prune(now.wall - self._policy.keep_ended_s, _PRUNE_PER_TURN)

    def _pruned(self, counts: Mapping[State, int], now: Now) -> None:
        self.ledger.totals.subtract(counts)
        if sum(counts.values()) >= _PRUNE_PER_TURN:  # there may be more
            self._next_prune = now.steady

    def _arm(self, job_ids: Iterable[JobId | None], now: Now) -> None:
        for job_id in job_ids:
            job = None if job_id is None else self.ledger.jobs.get(job_id)
            if job is not None:
                self._alarms.arm(job, now)

    # --- statistics and log -------------------------------------------------------------------------------------------

    def _stats(self, message: StatsRequest, now: Now) -> Stats:
        workers, up_s = self.roster.workers.values(), now.steady - self._started
        census = {
            **({"disk_full": 1} if self._submissions.disk_full else {}),
            "workers_denied": len(self._denials.workers),
            "workers_known": len(workers),
            "workers_online": sum(worker.online for worker in workers),
        }
        queues, queues_omitted = queue_views(self.ledger, workers, now.steady)
        shown, workers_omitted = worker_views(self.ledger, workers, up_s, now.steady, message.workers_after)
        probes = message.reply is not None and (message.reply.correlation or "").startswith(PROBE)
        return Stats(
            reply=None if message.client_id is None else message.reply,
            incarnation=self._presence.incarnation,
            version=self._presence.version,
            uptime_s=up_s,
            states=tuple((state, self.ledger.totals[state]) for state in State),
            queues=queues,
            workers=shown,
            counters=tuple(sorted({**self.counters, **census}.items())),
            certificate_days=self._certificate_days,
            queues_omitted=queues_omitted,
            workers_omitted=workers_omitted,
            time=now.wall if probes else None,
        )

    def _log_rejected(self, message: Submit, entries: Sequence[ReceiptEntry]) -> None:
        for entry in entries:
            if entry.status is ReceiptStatus.REJECTED and message.jobs[0].type != PROBE:
                self._outbox.log(
                    JobRejected(
                        client=message.client_id, job=entry.job_id, type=message.jobs[0].type, reason=entry.reason
                    )
                )


def _clamp_ready_at(job: JobRecord, now: Now) -> JobRecord:
    """Bound a time that a wrong clock may have put into the far future, at an earlier start."""
    latest = now.steady + (job.spec.retry.backoff_max_s if job.state is State.SCHEDULED else 0.0)
    return replace(job, ready_at=latest) if job.ready_at > latest else job
