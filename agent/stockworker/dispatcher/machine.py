"""What the dispatcher decides. Pure: events and the time in, effects out; no I/O, no clock, no randomness of its own.

Who drives it does three things, in this order: `Machine.handle` (decide), put every save into one transaction
(commit), publish the rest (perform). A crash between any two of them is harmless: whoever did not get an answer asks
again, and what was sent can be said again from the books.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from stockworker.dispatcher.alarms import Alarms
from stockworker.dispatcher.assignment import Worker, share_out
from stockworker.dispatcher.effects import Effect, Event, LinkChanged, Look, Note, Now, Offer, Send, Unreached
from stockworker.dispatcher.intake import Intake
from stockworker.dispatcher.ledger import Lease, Ledger, Snapshot
from stockworker.dispatcher.overview import queue_views, worker_views
from stockworker.dispatcher.policy import Policy
from stockworker.dispatcher.replies import Replies
from stockworker.dispatcher.verdict import Verdict
from stockworker.protocol.body import MAX_LIST
from stockworker.protocol.ids import Entropy, JobId, JobType, Token, WorkerId, make_token
from stockworker.protocol.job import Attempt, Job, Outcome
from stockworker.protocol.lifecycle import LEASED, State, Trigger
from stockworker.protocol.messages import (
    AttemptReport,
    CancelJob,
    Cleanup,
    Control,
    ControlAction,
    Disconnect,
    Heartbeat,
    HeldLease,
    LeaseStatus,
    Presence,
    Query,
    ReceiptEntry,
    ReceiptStatus,
    Register,
    Report,
    Request,
    RetryJob,
    Stats,
    StatsRequest,
    Submit,
    Unregister,
)

_PATIENCE_S = 5.0
"""Longest time between two looks at the clock, so that a step of the wall clock is noticed."""


class Machine:
    """The dispatcher without its shell.

    Args:
        policy: the numbers that it decides by.
        entropy: for tokens, job ids and jitter.
        presence: which start of the dispatcher this is, for whoever asks.
        snapshot: what the store has.
        now: the time of this start.
    """

    def __init__(self, policy: Policy, entropy: Entropy, presence: Presence, snapshot: Snapshot, now: Now) -> None:
        self._policy = policy
        self._entropy = entropy
        self._presence = presence
        self._started = now.steady
        self._link_up = False
        self._next_sweep = now.steady
        self._handled = now.steady
        self.counters: Counter[str] = Counter()
        self.workers: dict[WorkerId, Worker] = {}
        self.ledger = Ledger(replace(snapshot, jobs=[_calm(job, now) for job in snapshot.jobs]))
        self._alarms = Alarms()
        self._intake = Intake(self.ledger, policy.defaults, entropy, self.counters)
        self._verdict = Verdict(self.ledger, entropy, self.counters)
        self._replies = Replies()
        self._unserved: set[JobType] = set()
        self._effects: list[Effect] = []
        for job in self.ledger.jobs.values():
            self._alarms.arm(job, now)
            if job.state in LEASED:
                self.ledger.leases[job.spec.id] = self._lease(job, now)

    # --- the one entry point ------------------------------------------------------------------------------------------

    def handle(self, events: Sequence[Event], now: Now, past: Mapping[JobId, Job] | None = None) -> list[Effect]:
        """Decide what follows from `events`, and from the time.

        Args:
            events: what has happened, in order.
            now: the time.
            past: the jobs that have ended among those that `past_wanted` named.

        Returns:
            Effects, saves first: commit all of those before performing any other.
        """
        self.ledger.past = dict(past or {})
        if now.steady - self._handled > self._policy.lease_s / 2:
            self._extend_leases(now)  # we were suspended, or the disk hung: renewals may be on their way
        self._handled = now.steady
        for event in events:
            self._handle_one(event, now)
        self._look_at_clock(now)
        self._assign(now)
        saves, notices, transitions = self.ledger.flush()
        effects = [*saves, *self._effects, *self._replies.flush(notices, transitions, self._policy.lease_s)]
        self._effects = []
        return effects

    def past_wanted(self, events: Iterable[Event]) -> set[JobId]:
        """The jobs that `events` speak of and that are not in memory: they have ended, or never were."""
        wanted: set[JobId] = set()
        for event in events:
            match event:
                case Submit(jobs=jobs):
                    wanted.update(job.id for job in jobs if job.id is not None)
                case CancelJob(job_id=job_id) | RetryJob(job_id=job_id):
                    wanted.add(job_id)
                case Report(attempts=attempts):
                    wanted.update(attempt.job_id for attempt in attempts)
                case _:
                    pass
        return wanted - self.ledger.jobs.keys()

    def next_in_s(self, now: Now) -> float:
        """Seconds until `handle` wants to be called again, though nothing may have happened."""
        alarm = self._alarms.next_in_s(now)
        waits = [_PATIENCE_S if alarm is None else min(alarm, _PATIENCE_S)]
        if self.ledger.leases and self._link_up:
            waits.append(max(0.0, self._next_sweep - now.steady))
        return min(waits)

    def _handle_one(self, event: Event, now: Now) -> None:
        match event:
            case Report():
                self._reported(event, now)
            case Request():
                self._requested(event, now)
            case Submit():
                self._submitted(event, now)
            case CancelJob():
                entry = self._intake.cancel(event.job_id, now)
                self._replies.receipt(event.reply, [entry])
                self._order_cancel(event.job_id)
            case RetryJob():
                self._replies.receipt(event.reply, [self._intake.retry(event.job_id, now)])
                self._arm([event.job_id], now)
            case Unreached():
                self._unreached(event, now)
            case LinkChanged():
                self._link_changed(event, now)
            case Query():
                self._effects.append(Look(event))
            case StatsRequest():
                self._effects.append(Send(self._stats(event, now)))
            case Cleanup():
                self._next_sweep = now.steady
            case Register() | Unregister() | Heartbeat() | Disconnect():
                self._presence_changed(event, now)
            case _:
                self.counters["messages_unexpected"] += 1

    def _submitted(self, event: Submit, now: Now) -> None:
        entries = [self._intake.submit(job, now) for job in event.jobs]
        self._arm((entry.job_id for entry in entries), now)
        self._note_rejected(event, entries)
        if any(entry.status is ReceiptStatus.STORED for entry in entries):
            self._note_unserved(event.jobs[0].type)
        self._replies.receipt(event.reply, entries)

    # --- workers ------------------------------------------------------------------------------------------------------

    def _requested(self, message: Request, now: Now) -> None:
        worker = self.workers.get(message.worker_id)
        restarted = worker is not None and worker.boot != message.boot
        if worker is None or restarted:
            leases = {
                job_id for job_id, lease in self.ledger.leases.items() if lease.attempt.worker == message.worker_id
            }
            self._note("worker_seen", worker=message.worker_id, version=message.version, slots=message.slots)
            worker = Worker(
                id=message.worker_id,
                boot=message.boot,
                slots=message.slots,
                window=message.window,
                types=frozenset(message.types),
                tags=frozenset(message.tags),
                version=message.version,
                seen=now.steady,
                leases=leases,
            )
            self.workers[message.worker_id] = worker
        worker.slots, worker.window = message.slots, message.window
        worker.types, worker.tags = frozenset(message.types), frozenset(message.tags)
        worker.version, worker.seen, worker.online = message.version, now.steady, True
        self._unserved -= worker.types - worker.refused
        for claim in message.leases:
            self._claimed(worker, claim, now)
        claimed = {claim.token for claim in message.leases}
        self._unclaimed(worker, claimed, restarted=restarted, now=now)

    def _claimed(self, worker: Worker, claim: HeldLease, now: Now) -> None:
        job = self.ledger.held(claim.job_id, worker.id, claim.token)
        if job is not None and job.state is State.QUEUED and claim.status is not LeaseStatus.WAITING:
            job = self._reclaim(job, worker, now)
        if job is None or job.state not in LEASED:
            # A finished attempt is settled by its report, which the worker repeats until it is answered.
            if claim.status is not LeaseStatus.FINISHED:
                self._replies.stale(worker.id, claim.token)
                if job is not None and job.state is State.QUEUED:
                    self._forfeit(job)
            return
        lease = self.ledger.leases[claim.job_id]
        lease.deadline = now.steady + self._policy.lease_s
        lease.status = claim.status
        if job.state is State.ASSIGNED and claim.status is not LeaseStatus.WAITING:
            self.ledger.move(job, Trigger.STARTED)
        if job.cancel_requested:
            self._order_cancel(claim.job_id)
        self._replies.renewed(worker.id, claim.token)

    def _forfeit(self, job: Job) -> None:
        """Make good that a worker was told to drop a lost lease: what it says in the meantime must not revive it.

        It had not started the job, so that the job is not to blame for the loss.
        """
        crashes = job.crashes
        if job.token is not None and job.token in self.ledger.blamed:
            self.ledger.blamed.remove(job.token)
            crashes -= 1
        self.ledger.amend(job, token=None, crashes=crashes)

    def _unclaimed(self, worker: Worker, claimed: set[Token], *, restarted: bool, now: Now) -> None:
        """Deal with leases in our books that the worker does not speak of.

        A worker that has restarted does not have them: it wrote down what it accepted. One that has not restarted
        may not have seen them yet; when that has taken too long, the offer got lost.
        """
        again = []
        for job_id in sorted(worker.leases):
            job, lease = self.ledger.jobs[job_id], self.ledger.leases[job_id]
            if lease.attempt.token in claimed:
                continue
            if restarted and lease.status is LeaseStatus.RUNNING:
                self._lose(job, worker, now)  # it ran there, and not even the journal knows: it took the machine down
            elif restarted:
                self._release(worker, job, f"worker {worker.id} restarted without it", now)
            elif now.steady - lease.offered >= self._policy.reoffer_s:
                lease.offered = now.steady
                again.append(job)
        if again:
            self.counters["leases_reoffered"] += len(again)
            self._offer(worker.id, again)

    def _reclaim(self, job: Job, worker: Worker | None, now: Now) -> Job:
        """Take up a lost lease again: its worker lives, and nobody else was given the job."""
        self.counters["leases_reclaimed"] += 1
        self._note_job("lease_reclaimed", job)
        crashes = job.crashes - (job.token in self.ledger.blamed)
        job = self.ledger.move(job, Trigger.RECLAIMED, crashes=crashes, reason=None)
        self.ledger.grant(job, self._lease(job, now))
        if worker is not None:
            worker.leases.add(job.spec.id)
        return job

    def _presence_changed(self, message: Register | Unregister | Heartbeat | Disconnect, now: Now) -> None:
        worker = self.workers.get(message.worker_id)
        if worker is None or (worker.boot != message.boot and not isinstance(message, Register)):
            return
        match message:
            case Heartbeat():
                worker.seen, worker.online = now.steady, True
            case Disconnect():
                worker.online = False
                self._note("worker_disconnected", worker=worker.id, leases=len(worker.leases))
            case Unregister():
                for job_id in sorted(worker.leases):
                    self._release(worker, self.ledger.jobs[job_id], f"worker {worker.id} has left", now)
                del self.workers[worker.id]
                self._note("worker_left", worker=worker.id)
            case Register():
                worker.seen = now.steady

    def _unreached(self, event: Unreached, now: Now) -> None:
        worker = self.workers.get(event.worker_id)
        if worker is None:
            return
        unreached = set(event.tokens)
        for job_id in sorted(worker.leases):
            lease = self.ledger.leases[job_id]
            if lease.attempt.token in unreached and lease.status is None:
                if worker.seen <= lease.offered:
                    worker.online = False
                self._release(worker, self.ledger.jobs[job_id], f"worker {worker.id} is not connected", now)

    # --- reports ------------------------------------------------------------------------------------------------------

    def _reported(self, message: Report, now: Now) -> None:
        worker = self.workers.get(message.worker_id)
        if worker is not None:
            worker.seen = now.steady
        for report in message.attempts:
            job = self.ledger.held(report.job_id, message.worker_id, report.token)
            if job is None:
                self._report_of_another(message.worker_id, report)
            elif job.state is State.SCHEDULED:
                self._replies.stored(message.worker_id, report.token)  # said before: it was this that scheduled it
            else:
                self._settle(job, report, worker, now)
                self._replies.stored(message.worker_id, report.token)

    def _settle(self, job: Job, report: AttemptReport, worker: Worker | None, now: Now) -> None:
        if job.state is State.QUEUED:
            job = self._reclaim(job, worker, now)
        job = self._verdict.report(job, report, now)
        self._alarms.arm(job, now)
        if worker is not None:
            worker.leases.discard(job.spec.id)
            if report.outcome is Outcome.REFUSED:
                worker.refused.add(job.spec.type)
                self._note_unserved(job.spec.type)
        self._note_ending(job, report.outcome, now)

    def _report_of_another(self, worker_id: WorkerId, report: AttemptReport) -> None:
        job = self.ledger.past.get(report.job_id)
        if job is not None and job.token == report.token and job.worker == worker_id:
            self._replies.stored(worker_id, report.token)  # said before: it was this that ended the job
            return
        self.counters["reports_stale"] += 1
        self._note("report_stale", job=report.job_id, worker=worker_id, outcome=report.outcome)
        self._replies.stale(worker_id, report.token)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _look_at_clock(self, now: Now) -> None:
        if now.steady >= self._next_sweep and self._link_up:
            # Without a link no renewal can reach us: then nobody's lease runs out.
            self._next_sweep = now.steady + min(1.0, self._policy.lease_s / 10)
            self._look_for_lost(now)
        # After that: a job that came back from its worker may have expired meanwhile.
        for job_id in sorted(self._alarms.ring(now)):
            self._look_at_waiting(job_id, now)
        self._alarms.sweep(self.ledger.jobs.keys())

    def _look_at_waiting(self, job_id: JobId, now: Now) -> None:
        job = self.ledger.jobs.get(job_id)
        if job is None or job.state not in (State.SCHEDULED, State.QUEUED):
            return
        spec = job.spec
        if spec.expires_at is not None and spec.expires_at <= now.wall:
            self.ledger.move(
                job, Trigger.EXPIRED, token=None, ended_at=now.wall, reason="nobody started it before expires_at"
            )
        elif job.state is State.SCHEDULED:
            due = job.ready_at <= now.steady and (spec.not_before is None or spec.not_before <= now.wall)
            if due:
                self.ledger.move(job, Trigger.DUE, token=None, ready_at=now.steady)
            else:
                self._alarms.arm(job, now)

    def _look_for_lost(self, now: Now) -> None:
        lost = [job_id for job_id, lease in self.ledger.leases.items() if lease.deadline <= now.steady]
        silent: set[WorkerId] = set()
        for job_id in lost:
            job = self.ledger.jobs[job_id]
            worker = None if job.worker is None else self.workers.get(job.worker)
            self._lose(job, worker, now)
            if worker is not None:
                silent.add(worker.id)
        for worker in list(self.workers.values()):
            silent_s = now.steady - worker.seen
            # One that let a lease run out in silence must not get the same job again: the next loss would be blamed
            # on the job, too.
            patience_s = self._policy.lease_s if worker.id in silent else self._policy.worker_timeout_s
            if worker.online and silent_s >= patience_s:
                worker.online = False
                self._note("worker_lost", worker=worker.id, silent_s=round(silent_s))
            if not worker.leases and silent_s > self._policy.forget_worker_s:
                del self.workers[worker.id]

    def _link_changed(self, event: LinkChanged, now: Now) -> None:
        self._link_up = event.up
        if not event.up:
            return
        self._next_sweep = now.steady
        self._extend_leases(now)
        self._effects.append(Send(self._presence))

    def _extend_leases(self, now: Now) -> None:
        """Nobody could be heard for a while: that is not their fault."""
        for lease in self.ledger.leases.values():
            lease.deadline = max(lease.deadline, now.steady + self._policy.lease_s)

    # --- giving out ---------------------------------------------------------------------------------------------------

    def _assign(self, now: Now) -> None:
        if not self._link_up or not len(self.ledger.ready):
            return
        offers: dict[WorkerId, list[Job]] = {}
        aged_before = now.steady - self._policy.max_wait_s
        for worker, job_id in share_out(self.ledger.ready, self.workers.values(), aged_before):
            job = self.ledger.move(
                self.ledger.jobs[job_id],
                Trigger.LEASED,
                attempt=self.ledger.jobs[job_id].attempt + 1,
                worker=worker.id,
                token=make_token(self._entropy),
                assigned_at=now.wall,
                reason=None,
            )
            worker.leases.add(job_id)
            self.ledger.grant(job, self._lease(job, now))
            offers.setdefault(worker.id, []).append(job)
        for worker_id, jobs in offers.items():
            self._offer(worker_id, jobs)

    def _offer(self, worker_id: WorkerId, jobs: list[Job]) -> None:
        for start in range(0, len(jobs), MAX_LIST):
            self._effects.append(Offer(worker_id, tuple(jobs[start : start + MAX_LIST])))

    def _lease(self, job: Job, now: Now) -> Lease:
        if job.worker is None or job.token is None or job.assigned_at is None:
            raise AssertionError(f"{job.spec.id} is {job.state} without a lease")
        attempt = Attempt(job.spec.id, job.attempt, job.worker, job.token, job.assigned_at)
        return Lease(attempt, deadline=now.steady + self._policy.lease_s, offered=now.steady)

    def _lose(self, job: Job, worker: Worker | None, now: Now) -> None:
        self._note_job("lease_expired", job)
        job = self._verdict.lose(job, now)
        self._alarms.arm(job, now)
        self._note_ending(job, Outcome.LOST, now)
        if worker is not None:
            worker.leases.discard(job.spec.id)

    def _release(self, worker: Worker, job: Job, reason: str, now: Now) -> None:
        worker.leases.discard(job.spec.id)
        job = self._verdict.release(job, reason, now)
        self._alarms.arm(job, now)
        self._note_ending(job, Outcome.RELEASED, now)

    def _order_cancel(self, job_id: JobId) -> None:
        job = self.ledger.jobs.get(job_id)
        if job is not None and job.state in LEASED and job.cancel_requested and job.worker is not None:
            self._effects.append(Send(Control(job.worker, ControlAction.CANCEL, job.token)))

    def _arm(self, job_ids: Iterable[JobId | None], now: Now) -> None:
        for job_id in job_ids:
            job = None if job_id is None else self.ledger.jobs.get(job_id)
            if job is not None:
                self._alarms.arm(job, now)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _stats(self, message: StatsRequest, now: Now) -> Stats:
        online = sum(worker.online for worker in self.workers.values())
        census = {"workers_known": len(self.workers), "workers_online": online}
        return Stats(
            reply=message.reply,
            epoch=self._presence.epoch,
            version=self._presence.version,
            uptime_s=now.steady - self._started,
            states=tuple((state, self.ledger.totals[state]) for state in State),
            queues=queue_views(self.ledger.ready, self.workers.values(), now.steady),
            workers=worker_views(self.workers.values(), now.steady),
            counters=tuple(sorted({**self.counters, **census}.items())),
        )

    def _note_unserved(self, job_type: JobType) -> None:
        """Say once that nobody runs a type, until a worker comes that offers it."""
        served = any(job_type in worker.types - worker.refused for worker in self.workers.values())
        if not served and job_type not in self._unserved:
            self._unserved.add(job_type)
            self._note("type_unserved", type=job_type)

    def _note_rejected(self, message: Submit, entries: Sequence[ReceiptEntry]) -> None:
        for entry in entries:
            if entry.status is ReceiptStatus.REJECTED:
                self._note("job_rejected", job=entry.job_id, type=message.jobs[0].type, reason=entry.reason)

    def _note_ending(self, job: Job, outcome: Outcome, now: Now) -> None:
        match job.state:
            case State.FAILED:
                self._note_job("job_failed", job, outcome=outcome, reason=_first_line(job.reason))
            case State.SCHEDULED:
                delay_s = round(job.ready_at - now.steady, 3)
                self._note_job("job_retried", job, outcome=outcome, reason=_first_line(job.reason), delay_s=delay_s)
            case State.QUEUED if outcome is not Outcome.LOST:
                self._note_job("job_released", job, outcome=outcome, reason=_first_line(job.reason))
            case _:
                pass

    def _note_job(self, event: str, job: Job, **fields: object) -> None:
        self._note(event, job=job.spec.id, type=job.spec.type, attempt=job.attempt, worker=job.worker, **fields)

    def _note(self, event: str, **fields: object) -> None:
        self._effects.append(Note(event, tuple(fields.items())))


def _calm(job: Job, now: Now) -> Job:
    """Bound what a clock that was wrong at the last start could have put into the far future."""
    latest = now.steady + (job.spec.retry.backoff_max_s if job.state is State.SCHEDULED else 0.0)
    return replace(job, ready_at=latest) if job.ready_at > latest else job


def _first_line(text: str | None) -> str | None:
    return None if text is None else text.partition("\n")[0]
