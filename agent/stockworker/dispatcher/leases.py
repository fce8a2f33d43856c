"""Leases: which worker may run which job, and what happens when a worker falls silent. Pure."""

# A lease is the right of one worker to one attempt at one job. It is known by its fencing token: a report or claim
# under any other token is refused. The dispatcher grants and ends leases; a worker can only claim, renew and return
# them.
#
# The life of a lease:
#
# ==============  =====================================================================================================
# offered         The job goes from queued to assigned. The token is committed, and then sent in an assignment. An
#                 assignment can get lost: if the worker's requests do not name the lease, it is offered again.
# claimed         A request of the worker names the token: it waits for a slot there, runs, or is finished.
# renewed         Each later claim moves the deadline. A worker claims all its leases in each request.
# settled         The worker reports the outcome of the attempt, and the lease ends. A repeated report is acknowledged
#                 again, as long as the job waits for its next attempt or is in the store as ended.
# released        The worker never had the lease, returned it, left, or was denied. The job is queued again under no
#                 token, and nothing counts against it.
# lost            The deadline passed, or the worker restarted and no longer knows a lease that it had been running. The
#                 job is queued again, but its token stays valid: the worker may be cut off and still running the job.
# ==============  =====================================================================================================
#
# A lost lease ends in one of these ways, whichever comes first:
#
# ==============  =====================================================================================================
# reclaimed       The worker returns, and claims that it runs or has finished the job, or reports an outcome. The same
#                 lease starts again, and the attempt is open again.
# invalidated     The worker returns, and has not started the job. The dispatcher calls the lease stale, because another
#                 worker may get the job any moment. After that answer nothing may revive the lease, so the token is
#                 deleted. It is deleted too when the worker is denied.
# superseded      The job is leased again, under a new token. Every message under the old one is stale now.
# ==============  =====================================================================================================
#
# Blame. A job that kills its machine cannot report that. So a lost lease counts as a crash of the job, unless its
# worker is known not to have started it, which means that its last claim was "waiting". A job that no claim has named
# counts as started: it may have killed the worker before the first claim. The blame is provisional. It is taken back
# when the lease is reclaimed, because the worker is alive, and when the token is invalidated, because the job had not
# been started. Which losses are blamed is not stored: after a restart of the dispatcher the blame stays. A job that has
# used up its crash budget (`JobSpec.max_crashes`) fails when the lease is lost, and cannot be reclaimed.
#
# Time-outs. Its worker ends a job after its time-out. A worker that does not, and renews for ever, would keep the job for
# ever. So the dispatcher adds up for how long a worker has claimed that it runs a job, or has finished it. After the
# time-out and a grace (`timeout_grace_s`) the attempt has timed out, and the lease ends. Renewals do not change that.
# Time when nothing was received does not count: only the time between two claims does, and of that at most `lease_s`.
# A worker that is cut off for days, and then reports, is therefore not too late.
#
# A lease that waits on its worker has no such time: it waits until the jobs before it have ended. So the dispatcher adds
# up for how long a worker has had waiting leases and made no progress: it has started no job, and reported none. After
# the longest time-out of the jobs that it runs, and the grace, its waiting leases are released.
#
# Deadlines hold only while renewals can arrive. While the link to the broker is down no lease is lost, and when the
# link is back, or after the dispatcher itself was suspended, every worker gets a full lease time to renew.
#
# The dispatcher stores the attempt and the token, but not the deadline. After a restart each lease is valid for a full
# lease time. A long one (prefetch) is valid until it would end without renewals, if that is later.

from collections.abc import Iterator
from dataclasses import dataclass

from stockworker.protocol.ids import JobId, WorkerId
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import LeaseStatus


@dataclass(slots=True)
class Lease:
    """A worker's right to one attempt. Times are on the steady clock.

    Attributes:
        attempt: the record of the attempt, which names the job, the worker and the token.
        deadline: when the lease is lost, unless it is renewed before.
        offered: when it was last sent to the worker.
        status: what the worker claimed last; None before its first claim.
        claimed: when that was, or when the lease was granted.
        started: whether the worker has claimed to run the job, or to have finished it.
        ran_s: for how long it has claimed that.
    """

    attempt: Attempt
    deadline: float
    offered: float
    status: LeaseStatus | None = None
    claimed: float = 0.0
    started: bool = False
    ran_s: float = 0.0

    def claim(self, status: LeaseStatus, steady: float, lease_s: float) -> bool:
        """Note a claim of the worker; return whether the job was started since the last one.

        The time between two claims counts as run time, but at most `lease_s` of it: the worker may have been cut off.
        """
        if self.started:
            self.ran_s += min(lease_s, steady - self.claimed)
        starts = not self.started and status is not LeaseStatus.WAITING
        self.status, self.claimed, self.started = status, steady, self.started or starts
        return starts


class LeaseTable:
    """Every valid lease, by job and by worker. Only the ledger changes it.

    Attributes:
        changed: workers whose leases have changed since the assignment has cleared this.
    """

    def __init__(self) -> None:
        self.changed: set[WorkerId] = set()
        self._by_job: dict[JobId, Lease] = {}
        self._by_worker: dict[WorkerId, dict[JobId, Lease]] = {}

    def __len__(self) -> int:
        return len(self._by_job)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._by_job.values())

    def __getitem__(self, job_id: JobId) -> Lease:
        return self._by_job[job_id]

    def of_worker(self, worker_id: WorkerId) -> list[Lease]:
        """Return the leases of a worker, the oldest first."""
        return list(self._by_worker.get(worker_id, {}).values())

    def count(self, worker_id: WorkerId) -> int:
        """Return how many leases a worker has."""
        return len(self._by_worker.get(worker_id, ()))

    def grant(self, job: JobRecord, steady: float, valid_s: float) -> Lease:
        """Enter the lease that a job was given: a new one, a reclaimed one, or one from before a restart."""
        if job.worker is None or job.token is None or job.assigned_at is None:
            raise AssertionError(f"{job.spec.job_id} is {job.state} without a lease")
        attempt = Attempt(job.spec.job_id, job.attempt, job.worker, job.token, job.assigned_at)
        started = job.state is State.RUNNING
        lease = Lease(attempt, deadline=steady + valid_s, offered=steady, claimed=steady, started=started)
        self.changed.add(job.worker)
        self._by_job[job.spec.job_id] = lease
        self._by_worker.setdefault(job.worker, {})[job.spec.job_id] = lease
        return lease

    def end(self, job_id: JobId) -> Lease:
        """Take out the lease of a job."""
        lease = self._by_job.pop(job_id)
        self.changed.add(lease.attempt.worker)
        of_worker = self._by_worker[lease.attempt.worker]
        del of_worker[job_id]
        if not of_worker:
            del self._by_worker[lease.attempt.worker]
        return lease
