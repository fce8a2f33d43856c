"""The workers that the dispatcher knows, and the leases that they hold. Pure, a part of the dispatcher's machine.

A worker exists here by its own word (`Request`), and is forgotten by it or after long silence. What an operator wants
of it is in the ledger.
"""

from collections import Counter
from typing import Final

from stockworker.dispatcher.alarms import Alarms
from stockworker.dispatcher.assignment import Worker, share_out
from stockworker.dispatcher.attempt_outcome import AttemptOutcomes
from stockworker.dispatcher.effects import HoldKind, Unreached
from stockworker.dispatcher.ledger import Lease, Ledger
from stockworker.dispatcher.outbox import Outbox
from stockworker.dispatcher.policy import Policy
from stockworker.protocol.ids import Entropy, JobId, JobType, Token, WorkerId, make_token
from stockworker.protocol.job import Attempt, JobRecord, Outcome
from stockworker.protocol.lifecycle import LEASED, State, Trigger
from stockworker.protocol.messages import (
    AttemptReport,
    Control,
    ControlAction,
    Disconnect,
    Heartbeat,
    LeaseStatus,
    Register,
    Report,
    ReportedLease,
    Request,
    Unregister,
)
from stockworker.shell.turn import Now

_FORMER_INCARNATIONS: Final = 8
"""Earlier starts of a worker that are remembered."""


class Roster:
    """Who works, with what; turns what workers say into changes of the ledger, and gives out jobs.

    Args:
        policy: the numbers that it decides by.
        entropy: for tokens and jitter.
        ledger: the books.
        alarms: armed for every job that comes back.
        counters: of the dispatcher.
        outbox: takes what is told to workers and to the log.
    """

    def __init__(
        self,
        policy: Policy,
        entropy: Entropy,
        ledger: Ledger,
        alarms: Alarms,
        counters: Counter[str],
        outbox: Outbox,
    ) -> None:
        self._policy = policy
        self._entropy = entropy
        self._ledger = ledger
        self._alarms = alarms
        self._verdict = AttemptOutcomes(ledger, entropy, counters)
        self._counters = counters
        self._outbox = outbox
        self._unserved: set[JobType] = set()
        self._hears_since = 0.0
        self.workers: dict[WorkerId, Worker] = {}

    def resume(self, now: Now) -> None:
        """Take up the leases of an earlier start; their workers have as long as if they were given now."""
        for job in self._ledger.jobs.values():
            if job.state in LEASED:
                lease = self._ledger.leases[job.spec.job_id] = self._lease(job, now)
                # When it was renewed is not on disk. A long lease counts from when it was given, or whoever restarts
                # us often would keep a dead worker's jobs from all others for ever.
                left_s = lease.attempt.assigned_at + self._validity_s(job) - now.wall
                lease.deadline = max(lease.deadline, now.steady + min(left_s, self._validity_s(job)))

    # --- requests -----------------------------------------------------------------------------------------------------

    def requested(self, message: Request, now: Now) -> None:
        """A worker has said how it stands, and what it wants."""
        worker = self.workers.get(message.worker_id)
        if worker is not None and self._is_old(worker, message, now):
            self._counters["requests_old"] += 1
            return
        restarted = worker is not None and worker.incarnation != message.incarnation
        if worker is None or restarted:
            worker = self._enlist(message, now)
        worker.slots, worker.window, worker.disk_pressure = message.slots, message.window, message.disk_pressure
        worker.types, worker.tags = frozenset(message.types), frozenset(message.tags)
        worker.version, worker.seen, worker.online = message.version, now.steady, True
        worker.refused = {job_type: until for job_type, until in worker.refused.items() if until > now.steady}
        self._unserved -= worker.types - worker.refused.keys()
        self._order_hold(worker)
        for claim in message.leases:
            self._claimed(worker, claim, now)
        claimed = {claim.token for claim in message.leases}
        self._unclaimed(worker, claimed, restarted=restarted, now=now)

    def _is_old(self, worker: Worker, message: Request, now: Now) -> bool:
        """Whether a request is of an earlier start of the worker: a broker that has crashed delivers such ones again.

        Of a start that we don't know we can't tell whether it is a later one: we may have started since. So it is
        believed when the one that we know has said goodbye, as the broker does for whoever is killed, or has missed a
        request. An earlier one is believed only then: where two machines share a name, the one that has started last
        is, unless it falls silent; and one that was only heard late gives way before a lease runs out.
        """
        heard = self._silent_s(worker, now) < self._policy.lease_s / 2
        if message.incarnation in worker.former:
            return heard
        return message.incarnation != worker.incarnation and worker.online and heard

    def _silent_s(self, worker: Worker, now: Now) -> float:
        """For how long a worker has said nothing, while it could be heard."""
        return now.steady - max(worker.seen, self._hears_since)

    def _enlist(self, message: Request, now: Now) -> Worker:
        held = (job_id for job_id, lease in self._ledger.leases.items() if lease.attempt.worker == message.worker_id)
        old = self.workers.get(message.worker_id)
        incarnations = () if old is None else (*old.former, old.incarnation)
        worker = Worker(
            id=message.worker_id,
            incarnation=message.incarnation,
            slots=message.slots,
            window=message.window,
            types=frozenset(message.types),
            tags=frozenset(message.tags),
            version=message.version,
            seen=now.steady,
            former=tuple(each for each in incarnations if each != message.incarnation)[-_FORMER_INCARNATIONS:],
            leases=set(held),
        )
        self.workers[worker.id] = worker
        self._outbox.note("worker_seen", worker=worker.id, version=worker.version, slots=worker.slots)
        return worker

    def _claimed(self, worker: Worker, claim: ReportedLease, now: Now) -> None:
        job = self._ledger.held(claim.job_id, worker.id, claim.token)
        if job is not None and job.state is State.QUEUED and claim.status is not LeaseStatus.WAITING:
            job = self._reclaim(job, worker, now)
        if job is None or job.state not in LEASED:
            # A finished attempt is settled by its report, which the worker repeats until it is answered.
            if claim.status is not LeaseStatus.FINISHED:
                self._outbox.stale(worker.id, claim.token)
                if job is not None and job.state is State.QUEUED:
                    self._forfeit(job)
            return
        lease = self._ledger.leases[claim.job_id]
        lease.deadline = now.steady + self._validity_s(job)
        lease.status = claim.status
        if job.state is State.ASSIGNED and claim.status is not LeaseStatus.WAITING:
            self._ledger.move(job, Trigger.STARTED)
        if job.cancel_requested:
            self.order_cancel(claim.job_id, now)
        self._outbox.renewed(worker.id)

    def _unclaimed(self, worker: Worker, claimed: set[Token], *, restarted: bool, now: Now) -> None:
        """Deal with leases in our books that the worker does not speak of.

        A worker that has restarted does not have them: it wrote down what it accepted. One that has not restarted
        may not have seen them yet; when that has taken too long, the offer got lost.
        """
        again = []
        for job_id in sorted(worker.leases):
            job, lease = self._ledger.jobs[job_id], self._ledger.leases[job_id]
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
            self._counters["leases_reoffered"] += len(again)
            self._outbox.offer(worker.id, again)

    # --- comings and goings -------------------------------------------------------------------------------------------

    def presence_changed(self, message: Register | Unregister | Heartbeat | Disconnect, now: Now) -> None:
        """A worker has come, lives, was cut off, or has left."""
        worker = self.workers.get(message.worker_id)
        if worker is None or worker.incarnation != message.incarnation:
            return
        match message:
            case Heartbeat(certificate_days=days):
                worker.seen, worker.online, worker.certificate_days = now.steady, True, days
            case Disconnect():
                worker.online = False
                self._outbox.note("worker_disconnected", worker=worker.id, leases=len(worker.leases))
            case Unregister():
                for job_id in sorted(worker.leases):
                    self._release(worker, self._ledger.jobs[job_id], f"worker {worker.id} has left", now)
                del self.workers[worker.id]
                self._outbox.note("worker_left", worker=worker.id)
            case Register():
                pass  # the request that comes with it says more

    def unreached(self, event: Unreached, now: Now) -> None:
        """Offers reached nobody: take back what their worker has not claimed since."""
        worker = self.workers.get(event.worker_id)
        if worker is None:
            return
        unreached = set(event.tokens)
        for job_id in sorted(worker.leases):
            lease = self._ledger.leases[job_id]
            if lease.attempt.token in unreached and lease.status is None:
                if worker.seen <= lease.offered:
                    worker.online = False
                self._release(worker, self._ledger.jobs[job_id], f"worker {worker.id} is not connected", now)

    def expel(self, worker_id: WorkerId, now: Now) -> None:
        """Take all jobs from a worker and forget it: no token that it has counts any more, not even of a lost lease."""
        worker = self.workers.pop(worker_id, None)
        held = [job for job in self._ledger.jobs.values() if job.worker == worker_id and job.token is not None]
        leased = [job for job in held if job.state in LEASED]
        self._outbox.note("worker_denied", worker=worker_id, leases=len(leased))
        for job in leased:
            self._release(worker, job, f"worker {worker_id} is denied", now)
        for job in held:
            if job.state is State.QUEUED:
                self._forfeit(job)

    def extend_leases(self, now: Now) -> None:
        """Nobody could be heard for a while: that is not their fault."""
        self._hears_since = now.steady
        for lease in self._ledger.leases.values():
            lease.deadline = max(lease.deadline, now.steady + self._policy.lease_s)

    def look_for_lost(self, now: Now) -> None:
        """Take back leases that have run out, and drop workers that have been silent for long."""
        lost = [job_id for job_id, lease in self._ledger.leases.items() if lease.deadline <= now.steady]
        silent: set[WorkerId] = set()
        for job_id in lost:
            job = self._ledger.jobs[job_id]
            worker = None if job.worker is None else self.workers.get(job.worker)
            self._lose(job, worker, now)
            if worker is not None:
                silent.add(worker.id)
        for worker in list(self.workers.values()):
            silent_s = self._silent_s(worker, now)
            # One that let a lease run out in silence must not get the same job again: the next loss would be blamed
            # on the job, too.
            patience_s = self._policy.lease_s if worker.id in silent else self._policy.worker_timeout_s
            if worker.online and silent_s >= patience_s:
                worker.online = False
                self._outbox.note("worker_lost", worker=worker.id, silent_s=round(silent_s))
            if not worker.leases and silent_s > self._policy.forget_worker_s:
                del self.workers[worker.id]

    def serves(self, job_type: JobType) -> bool:
        """Whether a worker that we know runs jobs of this type."""
        return any(worker.may_run(job_type, frozenset()) for worker in self.workers.values())

    def note_unserved(self, job_type: JobType) -> None:
        """Say once that nobody runs a type, until a worker comes that offers it."""
        if job_type not in self._unserved and not self.serves(job_type):
            self._unserved.add(job_type)
            self._outbox.note("type_unserved", type=job_type)

    # --- orders -------------------------------------------------------------------------------------------------------

    def order_cancel(self, job_id: JobId, now: Now) -> None:
        """Tell the worker of a job that is to be cancelled, if it has one."""
        job = self._ledger.jobs.get(job_id)
        if job is not None and job.state in LEASED and job.cancel_requested and job.worker is not None:
            self._want_back(self._ledger.leases[job_id], now)
            self._outbox.send(Control(job.worker, ControlAction.CANCEL, job.token))

    def hold_changed(self, worker_id: WorkerId, now: Now) -> None:
        """An operator wants a worker to drain, or no longer."""
        if (HoldKind.WORKER, worker_id) in self._ledger.holds:
            for lease in self._ledger.leases.values():
                if lease.attempt.worker == worker_id:
                    self._want_back(lease, now)
        worker = self.workers.get(worker_id)
        if worker is not None:
            self._order_hold(worker)

    def _order_hold(self, worker: Worker) -> None:
        """Tell a worker whether it is to drain, where that is not what it does."""
        worker.drained = (HoldKind.WORKER, worker.id) in self._ledger.holds
        drains = worker.window == 0 and not worker.disk_pressure
        if worker.drained is not drains:
            action = ControlAction.DRAIN if worker.drained else ControlAction.RESUME
            self._outbox.send(Control(worker.id, action))

    # --- reports ------------------------------------------------------------------------------------------------------

    def reported(self, message: Report, now: Now) -> None:
        """A worker has said how attempts ended."""
        worker = self.workers.get(message.worker_id)
        for report in message.attempts:
            job = self._ledger.held(report.job_id, message.worker_id, report.token)
            if job is None:
                self._report_of_another(message.worker_id, report)
            elif job.state is State.SCHEDULED:
                self._outbox.stored(message.worker_id, report.token)  # said before: it was this that scheduled it
            else:
                self._settle(job, report, worker, now)
                self._outbox.stored(message.worker_id, report.token)

    def _settle(self, job: JobRecord, report: AttemptReport, worker: Worker | None, now: Now) -> None:
        if job.state is State.QUEUED:
            job = self._reclaim(job, worker, now)
        job = self._verdict.report(job, report, now)
        self._alarms.arm(job, now)
        if worker is not None:
            worker.leases.discard(job.spec.job_id)
            if report.outcome is Outcome.REFUSED:
                worker.refused[job.spec.type] = now.steady + self._policy.refusal_s
                self.note_unserved(job.spec.type)
        if report.outcome is Outcome.LOST and job.state is State.QUEUED:
            self._outbox.note_job("job_retried", job, outcome=report.outcome, reason=job.reason, delay_s=0.0)
        self._outbox.note_ending(job, report.outcome, now)

    def _report_of_another(self, worker_id: WorkerId, report: AttemptReport) -> None:
        job = self._ledger.past.get(report.job_id)
        if job is not None and job.token == report.token and job.worker == worker_id:
            self._outbox.stored(worker_id, report.token)  # said before: it was this that ended the job
            return
        self._counters["reports_stale"] += 1
        self._outbox.note("report_stale", job=report.job_id, worker=worker_id, outcome=report.outcome)
        self._outbox.stale(worker_id, report.token)

    # --- leases -------------------------------------------------------------------------------------------------------

    def give_out(self, now: Now) -> None:
        """Lease ready jobs to whoever wants some."""
        offers: dict[WorkerId, list[JobRecord]] = {}
        aged_before = now.steady - self._policy.max_wait_s
        held = self._ledger.held_types()
        ahead = {job_type: prefetch.jobs for job_type, prefetch in self._policy.prefetch.items()}
        for worker, job_id in share_out(self._ledger.ready, self.workers.values(), aged_before, held, ahead):
            job = self._ledger.jobs[job_id]
            job = self._ledger.move(
                job,
                Trigger.LEASED,
                attempt=job.attempt + 1,
                worker=worker.id,
                token=make_token(self._entropy),
                assigned_at=now.wall,
                reason=None,
            )
            worker.leases.add(job_id)
            self._ledger.grant(job, self._lease(job, now))
            offers.setdefault(worker.id, []).append(job)
        for worker_id, jobs in offers.items():
            self._outbox.offer(worker_id, jobs)

    def _lease(self, job: JobRecord, now: Now) -> Lease:
        if job.worker is None or job.token is None or job.assigned_at is None:
            raise AssertionError(f"{job.spec.job_id} is {job.state} without a lease")
        attempt = Attempt(job.spec.job_id, job.attempt, job.worker, job.token, job.assigned_at)
        return Lease(attempt, deadline=now.steady + self._policy.lease_s, offered=now.steady)

    def _validity_s(self, job: JobRecord) -> float:
        """How long a lease that its worker has claimed is valid without renewal.

        One that outlives a cut is for who is to finish the job there, cut off or not; nobody waits so long for a job
        that is wanted back.
        """
        prefetch = self._policy.prefetch.get(job.spec.type)
        if prefetch is None or job.cancel_requested or (HoldKind.WORKER, job.worker) in self._ledger.holds:
            return self._policy.lease_s
        return prefetch.validity_s

    def _want_back(self, lease: Lease, now: Now) -> None:
        lease.deadline = min(lease.deadline, now.steady + self._policy.lease_s)

    def _reclaim(self, job: JobRecord, worker: Worker | None, now: Now) -> JobRecord:
        """Take up a lost lease again: its worker lives, and nobody else was given the job."""
        self._counters["leases_reclaimed"] += 1
        self._outbox.note_job("lease_reclaimed", job)
        crashes = job.crashes - (job.token in self._ledger.blamed)
        job = self._ledger.move(job, Trigger.RECLAIMED, crashes=crashes, reason=None)
        self._ledger.grant(job, self._lease(job, now))
        if worker is not None:
            worker.leases.add(job.spec.job_id)
        return job

    def _forfeit(self, job: JobRecord) -> None:
        """Make good that a worker was told to drop a lost lease: what it says in the meantime must not revive it.

        It had not started the job, so that the job is not to blame for the loss.
        """
        crashes = job.crashes
        if job.token is not None and job.token in self._ledger.blamed:
            self._ledger.blamed.remove(job.token)
            crashes -= 1
        self._ledger.amend(job, token=None, crashes=crashes)

    def _lose(self, job: JobRecord, worker: Worker | None, now: Now) -> None:
        self._outbox.note_job("lease_expired", job)
        job = self._verdict.lose(job, now)
        self._alarms.arm(job, now)
        self._outbox.note_ending(job, Outcome.LOST, now)
        if worker is not None:
            worker.leases.discard(job.spec.job_id)

    def _release(self, worker: Worker | None, job: JobRecord, reason: str, now: Now) -> None:
        if worker is not None:
            worker.leases.discard(job.spec.job_id)
        job = self._verdict.release(job, reason, now)
        self._alarms.arm(job, now)
        self._outbox.note_ending(job, Outcome.RELEASED, now)
