"""The workers that the dispatcher knows, and what follows from their messages. Pure, a part of its machine."""

# A worker enters the roster with its first request. It leaves when it unregisters, when it is denied, or after a long
# silence. Its leases are in the ledger (`stockworker.dispatcher.leases` explains them), and so are drains: both outlive
# the worker's entry here.
#
# Incarnations. Each start of a worker has a random ID, and every message of that start carries it. Incarnations have no
# order. A message under an unknown one can come from a later start. It can also come from an earlier start: a broker
# that has crashed delivers old messages again, and the dispatcher may have started since and not know that one.
# Requests are therefore judged by what is known of the current incarnation, the one of the last accepted request:
#
# ================  ====================================================================================================
# Incarnation       Its request is accepted
# ================  ====================================================================================================
# current           always
# unknown           if the current one has unregistered, was reported as disconnected by the broker, or has been silent
#                   for half a lease
# former            only after that silence
# ================  ====================================================================================================
#
# So a late message cannot displace a live worker. Of two machines that share a name, the one that started last wins
# until it falls silent. And where the wrong one was accepted, the right one is back before a lease runs out.
#
# A worker that restarts keeps the leases that its journal has, and lists them in its first request. All others end: a
# lease that was running is lost, because the job may have taken the machine down, and any other is released.
#
# The dispatcher has an incarnation as well, and announces it in its presence. Workers answer with a request, because a
# new dispatcher starts with an empty roster.

import math
from collections import Counter
from typing import Final

from stockworker.dispatcher.alarms import Alarms
from stockworker.dispatcher.allowances import Allowances
from stockworker.dispatcher.assignment import MOST_SHARES, JobSharing, Worker
from stockworker.dispatcher.attempt_outcome import AttemptOutcomes
from stockworker.dispatcher.dealt import Dealt
from stockworker.dispatcher.effects import Unreached
from stockworker.dispatcher.leases import Lease
from stockworker.dispatcher.ledger import Ledger
from stockworker.dispatcher.outbox import Outbox, about
from stockworker.dispatcher.policy import Policy
from stockworker.logs.events import (
    AttemptOverrun,
    JobRetried,
    LeaseExpired,
    LeaseReclaimed,
    MarketStoresDiffer,
    ReportStale,
    TypeUnserved,
    WorkerDenied,
    WorkerDisconnected,
    WorkerLeft,
    WorkerLost,
    WorkerSeen,
    WorkerStalled,
)
from stockworker.protocol.ids import PROBE, ClientId, Entropy, JobId, JobType, Token, WorkerId, make_token, owner_of
from stockworker.protocol.job import JobRecord, Outcome
from stockworker.protocol.lifecycle import LEASED, State, Trigger
from stockworker.protocol.market_stores import LONGEST_IDENTITY, by_store, describe
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

_MOST_UNSERVED: Final = 1000
"""Job types without a worker that are remembered: a client can name any number of them."""

_REGISTRATION_S: Final = 60.0
"""How long workers may take to register after a start of the dispatcher: the longest pause before they connect again."""

_FORMER_INCARNATIONS: Final = 8
"""How many earlier starts of a worker are remembered."""


class Roster:
    """Turns messages of workers into changes of the ledger, and assigns jobs.

    Args:
        policy: the numbers that it decides by.
        entropy: for tokens and jitter.
        ledger: the jobs and their leases.
        alarms: armed for every job that is released or lost.
        counters: of the dispatcher.
        outbox: takes messages to workers, and log events.

    Attributes:
        workers: every known worker.
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
        self._outcomes = AttemptOutcomes(ledger, entropy, counters)
        self._counters = counters
        self._outbox = outbox
        self._allowances = Allowances(policy.workers, outbox)
        self._dealt = Dealt()
        self._unserved: dict[JobType, None] = {}
        self._serving: dict[JobType, WorkerId] = {}  # one that does, as long as it does
        self._early: dict[JobType, ClientId | None] = {}
        self._logged_stores: frozenset[str] = frozenset()
        self._stores_changed = False
        self._receives_since = 0.0
        self._counts_unserved_from: float | None = None
        self.workers: dict[WorkerId, Worker] = {}
        prefetch = {job_type: prefetch.jobs for job_type, prefetch in policy.prefetch.items()}
        self._sharing = JobSharing(ledger.ready, ledger.leases, self.workers, ledger.drained, ledger.paused, prefetch)

    def resume(self, now: Now) -> None:
        """Restore the leases from before this start. Each is valid for as long as a new one."""
        if any(self._ledger.totals.values()):  # otherwise no worker has ever had a reason to be here
            self._counts_unserved_from = math.inf
        for job in self._ledger.jobs.values():
            if job.state in LEASED and job.assigned_at is not None:
                # The time of the last renewal is not stored. A long lease (prefetch) therefore counts from its start:
                # else a dispatcher that restarts often would never take a dead worker's jobs back.
                left_s = min(job.assigned_at + self._validity_s(job) - now.wall, self._validity_s(job))
                self._ledger.restore_lease(job, now, max(self._policy.lease_s, left_s))

    # --- requests -----------------------------------------------------------------------------------------------------

    def requested(self, message: Request, now: Now) -> None:
        """A worker has sent its whole state: what it can run, how many jobs it wants, and its leases."""
        if message.incarnation.startswith(PROBE):
            return  # it tests whether the broker accepts the message
        worker = self.workers.get(message.worker_id)
        if worker is not None and self._is_old(worker, message, now):
            self._counters["requests_old"] += 1
            return
        message = self._allowances.limit(message, now)
        restarted = worker is not None and worker.incarnation != message.incarnation
        if worker is None or restarted:
            worker = self._enlist(message, now)
        self._sharing.changed.add(worker.worker_id)
        worker.slots, worker.window, worker.disk_pressure = message.slots, message.window, message.disk_pressure
        worker.types, worker.tags = frozenset(message.types), frozenset(message.tags)
        worker.version, worker.seen, worker.online = message.version, now.steady, True
        worker.refused = {job_type: until for job_type, until in worker.refused.items() if until > now.steady}
        for job_type in worker.types - worker.refused.keys():
            self._unserved.pop(job_type, None)
        self._order_drain(worker)
        for claim in message.leases:
            self._claimed(worker, claim, now)
        claimed = {claim.token for claim in message.leases}
        self._unclaimed(worker, claimed, restarted=restarted, now=now)
        self._release_stalled(worker, now)

    def _is_old(self, worker: Worker, message: Request, now: Now) -> bool:
        """Whether a request is counted as one of an earlier start of the worker: the table at the head."""
        active = self._silent_s(worker, now) < self._policy.lease_s / 2
        if message.incarnation in worker.former:
            return active
        return message.incarnation != worker.incarnation and worker.online and active

    def _silent_s(self, worker: Worker, now: Now) -> float:
        """For how long a worker has been silent, not counting the time when nothing could be received."""
        return now.steady - max(worker.seen, self._receives_since)

    def _enlist(self, message: Request, now: Now) -> Worker:
        old = self.workers.get(message.worker_id)
        incarnations = () if old is None else (*old.former, old.incarnation)
        worker = Worker(
            worker_id=message.worker_id,
            incarnation=message.incarnation,
            slots=message.slots,
            window=message.window,
            types=frozenset(message.types),
            tags=frozenset(message.tags),
            version=message.version,
            seen=now.steady,
            former=tuple(each for each in incarnations if each != message.incarnation)[-_FORMER_INCARNATIONS:],
            asked=now.steady if old is None else old.asked,
            stalled_s=None if old is None else old.stalled_s,
        )
        self.workers[worker.worker_id] = worker
        self._sharing.enter(worker)
        self._outbox.log(WorkerSeen(worker=worker.worker_id, version=worker.version, slots=worker.slots))
        return worker

    def _claimed(self, worker: Worker, claim: ReportedLease, now: Now) -> None:
        job = self._ledger.job_of_lease(claim.job_id, worker.worker_id, claim.token)
        if job is not None and job.state is State.QUEUED and claim.status is not LeaseStatus.WAITING:
            job = self._reclaim(job, now)
        if job is None or job.state not in LEASED:
            # A finished attempt is settled by its report, which the worker repeats until it is answered.
            if claim.status is not LeaseStatus.FINISHED:
                self._outbox.stale(worker.worker_id, claim.token)
                if job is not None and job.state is State.QUEUED:
                    self._ledger.invalidate_token(job)
            return
        lease = self._ledger.leases[claim.job_id]
        lease.deadline = now.steady + self._validity_s(job)
        if lease.claim(claim.status, now.steady, self._policy.lease_s):
            worker.stalled_s = None
        if job.state is State.ASSIGNED and claim.status is not LeaseStatus.WAITING:
            job = self._ledger.move(job, Trigger.STARTED)
        if lease.ran_s > job.spec.timeout_s + self._policy.timeout_grace_s + self._policy.lease_s:
            self._end_overrun(worker, job, lease.ran_s, now)
            return
        if job.cancel_requested:
            self.order_cancel(claim.job_id, now)
        self._outbox.renewed(worker.worker_id)

    def _unclaimed(self, worker: Worker, claimed: set[Token], *, restarted: bool, now: Now) -> None:
        """Handle the leases that a request of their worker does not name.

        A worker that has restarted does not have them: its journal has all that it accepted. One that has not restarted
        may not have received them yet. After `reoffer_s` the assignment is taken for lost, and is sent again.
        """
        again = []
        for lease in self._ledger.leases.of_worker(worker.worker_id):
            if lease.attempt.token in claimed:
                continue
            job = self._ledger.jobs[lease.attempt.job_id]
            if restarted and lease.status is LeaseStatus.RUNNING:
                self._lose(job, now)  # it may have taken the machine down, and the journal with it
            elif restarted:
                self._release(job, f"worker {worker.worker_id} restarted without this job", now)
            elif now.steady - lease.offered >= self._policy.reoffer_s:
                lease.offered = now.steady
                again.append(job)
        if again:
            self._counters["leases_reoffered"] += len(again)
            self._outbox.offer(worker.worker_id, again)

    def _end_overrun(self, worker: Worker, job: JobRecord, ran_s: float, now: Now) -> None:
        """End an attempt that its worker does not end, and withdraw the lease. For a while, others get such jobs."""
        self._outbox.log(AttemptOverrun(**about(job), timeout_s=job.spec.timeout_s, ran_s=round(ran_s)))
        token = self._ledger.leases[job.spec.job_id].attempt.token
        self._outbox.stale(worker.worker_id, token)
        self._outbox.send(Control(worker.worker_id, ControlAction.CANCEL, token))
        self._avoid(worker, job, now)
        job = self._outcomes.overrun(job, ran_s, now)
        self._alarms.arm(job, now)
        self._outbox.log_outcome(job, Outcome.TIMED_OUT, now)

    def _release_stalled(self, worker: Worker, now: Now) -> None:
        """Release the leases that wait on a worker which makes no progress: see `stockworker.dispatcher.leases`."""
        since_s, worker.asked = now.steady - worker.asked, now.steady
        leases = self._ledger.leases.of_worker(worker.worker_id)
        waiting = [lease for lease in leases if lease.status is LeaseStatus.WAITING and not lease.started]
        if not waiting:
            worker.stalled_s = None
            return
        # Only the time between two requests with waiting leases: before the first one, they may not have existed.
        worker.stalled_s = 0.0 if worker.stalled_s is None else worker.stalled_s + min(since_s, self._policy.lease_s)
        timeouts = [self._ledger.jobs[lease.attempt.job_id].spec.timeout_s for lease in leases if lease.started]
        if worker.stalled_s <= max(timeouts, default=0.0) + self._policy.timeout_grace_s:
            return
        self._outbox.log(WorkerStalled(worker=worker.worker_id, leases=len(waiting), stalled_s=round(worker.stalled_s)))
        worker.stalled_s = None
        for lease in waiting:
            self._outbox.stale(worker.worker_id, lease.attempt.token)
            job = self._ledger.jobs[lease.attempt.job_id]
            self._avoid(worker, job, now)
            self._release(job, f"worker {worker.worker_id} had it waiting, and made no progress", now)

    def _avoid(self, worker: Worker, job: JobRecord, now: Now) -> None:
        """Give the worker no jobs of this type for a while: it can't run them, or does not."""
        worker.refused[job.spec.type] = now.steady + self._policy.refusal_s
        self._sharing.changed.add(worker.worker_id)
        self.note_unserved(job.spec.type, owner_of(job.spec.job_id))

    # --- presence -----------------------------------------------------------------------------------------------------

    def presence_changed(self, message: Register | Unregister | Heartbeat | Disconnect, now: Now) -> None:
        """A worker has registered, is alive, was disconnected, or has left."""
        worker = self.workers.get(message.worker_id)
        if worker is None or worker.incarnation != message.incarnation:
            return
        self._sharing.changed.add(worker.worker_id)
        match message:
            case Heartbeat(certificate_days=days, market_store=store):
                worker.seen, worker.online, worker.certificate_days = now.steady, True, days
                store = None if store is None else store[:LONGEST_IDENTITY]
                if worker.market_store != store:
                    worker.market_store = store
                    self._stores_changed = True
            case Disconnect():
                worker.online = False
                self._outbox.log(
                    WorkerDisconnected(worker=worker.worker_id, leases=self._ledger.leases.count(worker.worker_id))
                )
            case Unregister():
                for lease in self._ledger.leases.of_worker(worker.worker_id):
                    self._release(self._ledger.jobs[lease.attempt.job_id], f"worker {worker.worker_id} has left", now)
                del self.workers[worker.worker_id]
                self._outbox.log(WorkerLeft(worker=worker.worker_id))
            case Register():
                worker.refused.clear()  # it has reloaded its configuration or has a new link: let it try again

    def compare_market_stores(self) -> None:
        """Log once that workers have different market-data stores: what one imports, others do not have.

        This looks at all workers, so it is for the end of a turn: a worker may send any number of heartbeats.
        """
        if not self._stores_changed:
            return
        self._stores_changed = False
        users = by_store((worker.worker_id, worker.market_store) for worker in self.workers.values() if worker.online)
        if len(users) > 1 and users.keys() - self._logged_stores:
            self._outbox.log(MarketStoresDiffer(stores=len(users), workers=describe(users)))
        self._logged_stores = frozenset(users)

    def unreached(self, event: Unreached, now: Now) -> None:
        """The broker could not deliver assignments: release the leases that the worker has not claimed since."""
        worker = self.workers.get(event.worker_id)
        if worker is None:
            return
        unreached = set(event.tokens)
        for lease in self._ledger.leases.of_worker(worker.worker_id):
            if lease.attempt.token in unreached and lease.status is None:
                if worker.seen <= lease.offered:
                    worker.online = False
                    self._sharing.changed.add(worker.worker_id)
                self._release(
                    self._ledger.jobs[lease.attempt.job_id], f"worker {worker.worker_id} is not connected", now
                )

    def expel(self, worker_id: WorkerId, now: Now) -> None:
        """Remove a denied worker. Every token that it has becomes invalid, those of lost leases included."""
        self.workers.pop(worker_id, None)
        self._sharing.changed.add(worker_id)
        leases = self._ledger.leases.of_worker(worker_id)
        self._outbox.log(WorkerDenied(worker=worker_id, leases=len(leases)))
        for lease in leases:
            self._release(self._ledger.jobs[lease.attempt.job_id], f"worker {worker_id} is denied", now)
        for job in list(self._ledger.jobs.values()):
            if job.state is State.QUEUED and job.worker == worker_id and job.token is not None:
                self._ledger.invalidate_token(job)

    def extend_leases(self, now: Now) -> None:
        """Give every lease the full time again: for a while, no renewal could be received."""
        self._receives_since = now.steady
        if self._counts_unserved_from == math.inf:
            self._counts_unserved_from = now.steady + _REGISTRATION_S
        for lease in self._ledger.leases:
            lease.deadline = max(lease.deadline, now.steady + self._policy.lease_s)

    def end_overdue_leases(self, now: Now) -> None:
        """End the leases whose deadline has passed, and remove workers that have been silent for long."""
        lost = [lease.attempt for lease in self._ledger.leases if lease.deadline <= now.steady]
        for attempt in lost:
            self._lose(self._ledger.jobs[attempt.job_id], now)
        silent = {attempt.worker for attempt in lost}
        for worker in list(self.workers.values()):
            silent_s = self._silent_s(worker, now)
            # A silent worker that has just lost a lease must not get the same job again: the next loss would be blamed
            # on the job, too.
            patience_s = self._policy.lease_s if worker.worker_id in silent else self._policy.worker_timeout_s
            if worker.online and silent_s >= patience_s:
                worker.online = False
                self._sharing.changed.add(worker.worker_id)
                self._outbox.log(WorkerLost(worker=worker.worker_id, silent_s=round(silent_s)))
            if not self._ledger.leases.count(worker.worker_id) and silent_s > self._policy.forget_worker_s:
                del self.workers[worker.worker_id]
                self._sharing.changed.add(worker.worker_id)

    def serves(self, job_type: JobType) -> bool:
        """Whether a known worker runs jobs of this type."""
        known = self.workers.get(self._serving.get(job_type, WorkerId("")))
        if known is not None and known.may_run(job_type, frozenset()):
            return True
        found = next((worker for worker in self.workers.values() if worker.may_run(job_type, frozenset())), None)
        if found is None:
            self._serving.pop(job_type, None)
        else:
            self._serving[job_type] = found.worker_id
        return found is not None

    def note_unserved(self, job_type: JobType, client_id: ClientId | None) -> None:
        """Log that no worker runs a type that this client asked for: once, until a worker offers it.

        Workers need some time to register after a restart of the dispatcher, so `check_unserved` asks again then.
        """
        if self._counts_unserved_from is not None:
            if len(self._early) < _MOST_UNSERVED:
                self._early.setdefault(job_type, client_id)
        elif job_type not in self._unserved and not self.serves(job_type):
            self._unserved[job_type] = None
            if len(self._unserved) > _MOST_UNSERVED:
                del self._unserved[next(iter(self._unserved))]
            self._outbox.log(TypeUnserved(type=job_type, client=client_id))

    def check_unserved(self, now: Now) -> None:
        """Log the types that no worker runs, once workers have had time to register."""
        if self._counts_unserved_from is not None and now.steady >= self._counts_unserved_from:
            self._counts_unserved_from = None
            early, self._early = self._early, {}
            for job_type, client_id in early.items():
                self.note_unserved(job_type, client_id)

    # --- orders -------------------------------------------------------------------------------------------------------

    def order_cancel(self, job_id: JobId, now: Now) -> None:
        """Order the worker of a job to stop it, if a cancellation was requested and the job has a worker."""
        job = self._ledger.jobs.get(job_id)
        if job is not None and job.state in LEASED and job.cancel_requested and job.worker is not None:
            self._want_back(self._ledger.leases[job_id], now)
            self._outbox.send(Control(job.worker, ControlAction.CANCEL, job.token))

    def drain_changed(self, worker_id: WorkerId, now: Now) -> None:
        """An operator has drained a worker, or has ended that."""
        self._sharing.changed.add(worker_id)
        if worker_id in self._ledger.drained:
            for lease in self._ledger.leases.of_worker(worker_id):
                self._want_back(lease, now)
        worker = self.workers.get(worker_id)
        if worker is not None:
            self._order_drain(worker)

    def _order_drain(self, worker: Worker) -> None:
        """Order a worker to drain, or to resume, if its request shows that it does not."""
        drained = worker.worker_id in self._ledger.drained
        drains = worker.window == 0 and not worker.disk_pressure
        if drained is not drains:
            self._outbox.send(Control(worker.worker_id, ControlAction.DRAIN if drained else ControlAction.RESUME))

    # --- reports ------------------------------------------------------------------------------------------------------

    def reported(self, message: Report, now: Now) -> None:
        """A worker has reported the outcomes of attempts."""
        worker = self.workers.get(message.worker_id)
        for report in message.attempts:
            job = self._ledger.job_of_lease(report.job_id, message.worker_id, report.token)
            if job is None:
                self._report_of_no_lease(message.worker_id, report)
            elif job.state is State.SCHEDULED:
                self._outbox.stored(
                    message.worker_id, report.token
                )  # repeated: it was this report that scheduled the job
            else:
                self._settle(job, report, worker, now)
                self._outbox.stored(message.worker_id, report.token)

    def _settle(self, job: JobRecord, report: AttemptReport, worker: Worker | None, now: Now) -> None:
        if job.state is State.QUEUED:
            job = self._reclaim(job, now)
        if worker is not None:
            worker.stalled_s = None
        job = self._outcomes.report(job, report, now)
        self._alarms.arm(job, now)
        if worker is not None and report.outcome is Outcome.REFUSED:
            self._avoid(worker, job, now)
        if report.outcome is Outcome.LOST and job.state is State.QUEUED:
            self._outbox.log(JobRetried(**about(job), outcome=report.outcome, reason=job.reason, delay_s=0.0))
        self._outbox.log_outcome(job, report.outcome, now)

    def _report_of_no_lease(self, worker_id: WorkerId, report: AttemptReport) -> None:
        job = self._ledger.recalled.get(report.job_id)
        if job is not None and job.token == report.token and job.worker == worker_id:
            self._outbox.stored(worker_id, report.token)  # repeated: it was this report that ended the job
            return
        self._counters["reports_stale"] += 1
        self._outbox.log(ReportStale(job=report.job_id, worker=worker_id, outcome=report.outcome))
        self._outbox.stale(worker_id, report.token)

    # --- leases -------------------------------------------------------------------------------------------------------

    def assign_jobs(self, now: Now) -> bool:
        """Lease ready jobs to workers that want some; return whether the next turn may assign more immediately."""
        offers: dict[WorkerId, list[JobRecord]] = {}
        shares = self._sharing.share_out(now.steady - self._policy.max_wait_s)
        for worker, job_id in shares:
            token = make_token(self._entropy)
            job = self._ledger.lease(self._ledger.jobs[job_id], worker.worker_id, token, now, self._policy.lease_s)
            offers.setdefault(worker.worker_id, []).append(job)
            self._dealt.count(worker.worker_id, job.spec.type)
        for event in self._dealt.remarkable(self.workers.values(), now):
            self._outbox.log(event)
        for worker_id, jobs in offers.items():
            self._outbox.offer(worker_id, jobs)
        return len(shares) == MOST_SHARES

    def _validity_s(self, job: JobRecord) -> float:
        """How long a lease is valid after a claim.

        A worker that is cut off keeps jobs of a type with prefetch for longer, and finishes them there. A job that is
        wanted back, because it was cancelled or its worker drained, gets the usual time.
        """
        prefetch = self._policy.prefetch.get(job.spec.type)
        if prefetch is None or job.cancel_requested or job.worker in self._ledger.drained:
            return self._policy.lease_s
        return prefetch.validity_s

    def _want_back(self, lease: Lease, now: Now) -> None:
        lease.deadline = min(lease.deadline, now.steady + self._policy.lease_s)

    def _reclaim(self, job: JobRecord, now: Now) -> JobRecord:
        """Start a lost lease again: its worker is alive, and no other worker was given the job."""
        self._counters["leases_reclaimed"] += 1
        self._outbox.log(LeaseReclaimed(**about(job)))
        return self._ledger.reclaim(job, now, self._policy.lease_s)

    def _lose(self, job: JobRecord, now: Now) -> None:
        self._outbox.log(LeaseExpired(**about(job)))
        job = self._outcomes.lose(job, now)
        self._alarms.arm(job, now)
        self._outbox.log_outcome(job, Outcome.LOST, now)

    def _release(self, job: JobRecord, reason: str, now: Now) -> None:
        job = self._outcomes.release(job, reason, now)
        self._alarms.arm(job, now)
        self._outbox.log_outcome(job, Outcome.RELEASED, now)
