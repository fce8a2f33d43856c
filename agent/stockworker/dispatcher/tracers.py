"""Tracers: probes that travel the way of a job, to notice messages that are lost. Pure, a part of the dispatcher's machine."""

# A tracer is submitted on the topic of a job type, gets a receipt, is assigned to a worker of this type, and is answered with
# a report, and with a notice for its submitter. It uses the topics and rights of a job, but it is not stored, starts nothing,
# and is in no count, list or event. Only the dispatcher itself may submit one (`stockworker.dispatcher.tracer_client`).
#
# **Nothing repeats a tracer.** Jobs survive lost messages, because all parties repeat themselves until they are answered.
# Tracers do not, so they show what is lost. A tracer without an answer therefore means a loss, but only if its worker could
# have answered: one that is offline, has restarted or connected again, or has been silent since, proves nothing. Such a
# tracer ends with a notice that it has failed.
#
# The workers of a type take turns, so that in time each of them is tried.
#
# **Assignments that no client reads** are a loss as well, if the worker remains connected: it has no subscription, or no right
# to read. Where a worker has just disconnected, the broker reports that soon after, and they are forgotten.

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.effects import Unreached
from stockworker.dispatcher.outbox import Outbox
from stockworker.logs.metrics_events import TracerUnanswered
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import PROBE, ClientId, JobId, JobType, Token, WorkerId, short_id
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Ack,
    Assign,
    Assignment,
    NoticeEntry,
    Notices,
    ReceiptEntry,
    ReceiptStatus,
    Report,
    Submission,
    Submit,
)
from stockworker.shell.turn import Now

PATIENCE_S: Final = 10.0
"""How long a worker has to answer. A tracer without an answer ends at the next turn after that, at most 5 s later."""

SETTLED_S: Final = 15.0
"""After how long an assignment that no client has read is counted: the message that its worker was disconnected has arrived
by then."""

UNHEARD_S: Final = 300.0
"""For how long an assignment that no client has read is counted."""

_MOST_OPEN: Final = 256
_MOST_UNHEARD: Final = 100
"""Of one worker."""

_NO_WORKER: Final = "no connected worker runs this type"


@dataclass(frozen=True, slots=True)
class _Tracer:
    job_id: JobId
    type: JobType
    connection: str | None
    worker: WorkerId
    incarnation: str
    sent: float


class Tracers:
    """The tracers on their way.

    Args:
        owner: the ID of the dispatcher; only it may submit tracers.
        lease_s: goes with every assignment.
        outbox: takes the messages.
    """

    def __init__(self, owner: ClientId, lease_s: float, outbox: Outbox) -> None:
        self._owner = owner
        self._lease_s = lease_s
        self._outbox = outbox
        self._open: dict[Token, _Tracer] = {}
        self._turns: Counter[JobType] = Counter()
        self._unheard: dict[WorkerId, list[float]] = {}

    def takes(self, event: Submit) -> bool:
        """Whether a submission is a tracer."""
        return event.client_id == self._owner and all(self._token(job).startswith(PROBE) for job in event.jobs)

    def _token(self, job: Submission) -> Token:
        return Token("" if job.job_id is None else short_id(job.job_id, self._owner))

    def submit(self, event: Submit, workers: Iterable[Worker], now: Now) -> None:
        """Send each tracer of a submission to a worker."""
        online = [worker for worker in workers if worker.online]
        entries = []
        for job in event.jobs:
            job_id = job.job_id or JobId("")
            if len(self._open) >= _MOST_OPEN:
                entries.append(ReceiptEntry(job_id, ReceiptStatus.REJECTED, "too many tracers are on their way"))
                continue
            entries.append(ReceiptEntry(job_id, ReceiptStatus.STORED))
            self._send(job_id, job, event.notify, online, now)
        self._outbox.receipt(event.reply, entries, notices=True)

    def _send(self, job_id: JobId, job: Submission, connection: str | None, online: Iterable[Worker], now: Now) -> None:
        able = sorted((worker for worker in online if job.type in worker.types), key=lambda worker: worker.worker_id)
        if not able:
            self._notify(connection, NoticeEntry(job_id, job.type, State.FAILED, 0, None, reason=_NO_WORKER))
            return
        worker = able[self._turns[job.type] % len(able)]
        self._turns[job.type] += 1
        token = self._token(job)
        self._open[token] = _Tracer(job_id, job.type, connection, worker.worker_id, worker.incarnation, now.steady)
        # A worker of another version takes it for a job that has expired, and releases it.
        assignment = Assignment(job_id, job.type, 1, token, 1.0, "", expires_in_s=0.0)
        self._outbox.send(Assign(worker.worker_id, self._lease_s, (assignment,)))

    def answer(self, report: Report) -> bool:
        """Take the report of a tracer; return whether it is one."""
        if len(report.attempts) != 1:
            return False
        attempt = report.attempts[0]
        tracer = self._open.get(attempt.token)
        if tracer is None or tracer.worker != report.worker_id:
            return False
        del self._open[attempt.token]
        self._outbox.send(Ack(report.worker_id, stored=(attempt.token,)))
        state = State.COMPLETED if attempt.outcome is Outcome.OK else State.FAILED
        self._end(tracer, state, attempt.error)
        return True

    def worker_changed(self, worker_id: WorkerId) -> None:
        """A worker has connected again, was disconnected, or has left: what was sent to it may have been lost with that."""
        self._unheard.pop(worker_id, None)
        for token, tracer in list(self._open.items()):
            if tracer.worker == worker_id:
                del self._open[token]
                self._end(tracer, State.FAILED, f"worker {worker_id} was disconnected")

    def interrupted(self) -> None:
        """The dispatcher has lost its connection, or has a new one: nothing that was sent proves anything."""
        self._open.clear()
        self._unheard.clear()

    def unreached(self, event: Unreached, now: Now) -> None:
        """The broker has passed assignments to no client."""
        times = self._unheard.setdefault(event.worker_id, [])
        if len(times) < _MOST_UNHEARD:
            times.append(now.steady)

    def check(self, workers: Mapping[WorkerId, Worker], now: Now) -> None:
        """End the tracers that were not answered in time."""
        for token, tracer in list(self._open.items()):
            if now.steady - tracer.sent < PATIENCE_S:
                break  # they are in the order of their time
            del self._open[token]
            worker = workers.get(tracer.worker)
            if worker is None or not worker.online or worker.incarnation != tracer.incarnation:
                self._end(tracer, State.FAILED, f"worker {tracer.worker} is offline or has restarted")
            elif worker.seen <= tracer.sent:
                self._end(tracer, State.FAILED, f"worker {tracer.worker} is silent")
            else:
                self._outbox.log(TracerUnanswered(worker=tracer.worker, type=tracer.type))
        for worker_id, times in list(self._unheard.items()):
            if now.steady - times[-1] >= UNHEARD_S:
                del self._unheard[worker_id]

    def unheard(self, workers: Mapping[WorkerId, Worker], now: float) -> int:
        """How many assignments of the last minutes no client has read, although their worker has stayed connected."""
        return sum(
            SETTLED_S <= now - each < UNHEARD_S
            for worker_id, times in self._unheard.items()
            if worker_id in workers and workers[worker_id].online
            for each in times
        )

    def _end(self, tracer: _Tracer, state: State, reason: str | None) -> None:
        entry = NoticeEntry(tracer.job_id, tracer.type, state, 1, tracer.worker, reason=reason)
        self._notify(tracer.connection, entry)

    def _notify(self, connection: str | None, entry: NoticeEntry) -> None:
        if connection is not None:
            self._outbox.send(Notices(self._owner, connection, (entry,)))
