"""What clients order about jobs, job types and workers. Pure, a part of the dispatcher's machine."""

# Each order is answered with one receipt. An order may name a job type or a worker that the dispatcher does not know: the
# name may be misspelt, or the worker may come later. So the order is accepted, and the receipt has a hint.

from stockworker.dispatcher.alarms import Alarms
from stockworker.dispatcher.ledger import Ledger
from stockworker.dispatcher.outbox import Outbox
from stockworker.dispatcher.roster import Roster
from stockworker.dispatcher.submissions import Submissions
from stockworker.logs.events import AccessRefused, TypePaused, TypeResumed, WorkerDrained, WorkerUndrained
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.messages import CancelJob, Order, ReceiptEntry, ReceiptStatus, RetryJob, SetDrain, SetPause
from stockworker.shell.turn import Now


class Orders:
    """Carries out orders.

    Args:
        ledger: the jobs, paused types and drained workers.
        submissions: cancels and retries jobs.
        roster: the workers.
        alarms: armed for every job that is retried.
        outbox: takes receipts, and log events.
    """

    def __init__(
        self, ledger: Ledger, submissions: Submissions, roster: Roster, alarms: Alarms, outbox: Outbox
    ) -> None:
        self._ledger = ledger
        self._submissions = submissions
        self._roster = roster
        self._alarms = alarms
        self._outbox = outbox

    def carry_out(self, order: Order, now: Now) -> None:
        """Carry out an order, and answer it."""
        self._outbox.receipt(order.reply, [self._carry_out(order, now)])

    def _carry_out(self, order: Order, now: Now) -> ReceiptEntry:
        match order:
            case CancelJob():
                return self._cancel(order, now)
            case RetryJob(job_id=job_id):
                return self._retry(job_id, now)
            case SetPause(job_type=job_type, paused=paused):
                return self._set_pause(job_type, paused=paused)
            case SetDrain(worker_id=worker_id, drained=drained):
                return self._set_drain(worker_id, drained=drained, now=now)

    def _cancel(self, order: CancelJob, now: Now) -> ReceiptEntry:
        refused = self._submissions.refuse_cancel(order)
        if refused is not None:
            self._outbox.log(AccessRefused(client=order.client_id, job=order.job_id, request="cancel"))
            return refused
        entry = self._submissions.cancel(order.job_id, now)
        self._roster.order_cancel(order.job_id, now)
        return entry

    def _retry(self, job_id: JobId, now: Now) -> ReceiptEntry:
        entry = self._submissions.retry(job_id, now)
        job = self._ledger.jobs.get(job_id)
        if job is not None:
            self._alarms.arm(job, now)
        return entry

    def _set_pause(self, job_type: JobType, *, paused: bool) -> ReceiptEntry:
        if self._ledger.set_pause(job_type, paused=paused):
            self._outbox.log(TypePaused(type=job_type) if paused else TypeResumed(type=job_type))
        hint = None if self._roster.serves(job_type) else "no known worker runs this type"
        return ReceiptEntry(None, _dispatch_status(stopped=paused), hint)

    def _set_drain(self, worker_id: WorkerId, *, drained: bool, now: Now) -> ReceiptEntry:
        if self._ledger.set_drain(worker_id, drained=drained):
            self._outbox.log(WorkerDrained(worker=worker_id) if drained else WorkerUndrained(worker=worker_id))
        self._roster.drain_changed(worker_id, now)
        return ReceiptEntry(None, _dispatch_status(stopped=drained), self._unknown(worker_id))

    def _unknown(self, worker_id: WorkerId) -> str | None:
        return None if worker_id in self._roster.workers else "no worker of this name is known"


def _dispatch_status(*, stopped: bool) -> ReceiptStatus:
    return ReceiptStatus.DISPATCH_STOPPED if stopped else ReceiptStatus.DISPATCH_RESUMED
