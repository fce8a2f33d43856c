"""The effects of a turn that follow its commit: messages and log events, in the order of the decisions. Pure."""

# Answers are collected by peer, so that each peer gets few and large messages.

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from stockworker.dispatcher.effects import Effect, Offer, RunQuery, ShowStats
from stockworker.logs.events import JobFailed, JobReleased, JobRetried, LogEvent
from stockworker.protocol.body import MAX_LIST
from stockworker.protocol.ids import Token, WorkerId
from stockworker.protocol.job import JobRecord, Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Ack,
    Message,
    Monitor,
    Receipt,
    ReceiptEntry,
    Reply,
    Transition,
)
from stockworker.protocol.sealed import first_line, without_sealed
from stockworker.shell.turn import Now, Send

_RECEIPTS_PER_MESSAGE = 512
_TOKENS_PER_MESSAGE = 2048


@dataclass(slots=True)
class _AcksOfWorker:
    stored: list[Token] = field(default_factory=list)
    stale: list[Token] = field(default_factory=list)


class Outbox:
    """Collects messages, offers, queries and log events.

    Args:
        lease_s: how long a lease is valid, in seconds: workers get it with each answer.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._effects: list[Effect] = []
        self._receipts: list[Receipt] = []
        self._acks: dict[WorkerId, _AcksOfWorker] = {}

    # --- answers ------------------------------------------------------------------------------------------------------

    def receipt(self, reply: Reply | None, entries: Sequence[ReceiptEntry], *, notices: bool = False) -> None:
        """Answer a client, if it has a reply address. `notices` is as in `Receipt`."""
        if reply is None:
            return
        for start in range(0, len(entries), _RECEIPTS_PER_MESSAGE):
            self._receipts.append(Receipt(reply, tuple(entries[start : start + _RECEIPTS_PER_MESSAGE]), notices))

    def stored(self, worker_id: WorkerId, token: Token) -> None:
        """A report is on disk."""
        self._acks.setdefault(worker_id, _AcksOfWorker()).stored.append(token)

    def stale(self, worker_id: WorkerId, token: Token) -> None:
        """A report was refused, or a claimed lease is not valid."""
        self._acks.setdefault(worker_id, _AcksOfWorker()).stale.append(token)

    def renewed(self, worker_id: WorkerId) -> None:
        """A lease of this worker is valid for another `lease_s`."""
        self._acks.setdefault(worker_id, _AcksOfWorker())

    # --- the rest -----------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Publish a message."""
        self._effects.append(Send(message))

    def offer(self, worker_id: WorkerId, jobs: Sequence[JobRecord]) -> None:
        """Send assignments for these leased jobs."""
        for start in range(0, len(jobs), MAX_LIST):
            self._effects.append(Offer(worker_id, tuple(jobs[start : start + MAX_LIST])))

    def respond(self, asked: RunQuery | ShowStats) -> None:
        """Answer a client outside the turn."""
        self._effects.append(asked)

    def log(self, event: LogEvent) -> None:
        """Log an event of the catalogue."""
        self._effects.append(event)

    def log_outcome(self, job: JobRecord, outcome: Outcome, now: Now) -> None:
        """Log what followed from the outcome of an attempt, where that may interest an operator."""
        match job.state:
            case State.FAILED:
                self.log(JobFailed(**about(job), outcome=outcome, reason=_reason(job)))
            case State.SCHEDULED:
                delay_s = round(job.ready_at - now.steady, 3)
                self.log(JobRetried(**about(job), outcome=outcome, reason=_reason(job), delay_s=delay_s))
            case State.QUEUED if outcome is not Outcome.LOST:
                self.log(JobReleased(**about(job), outcome=outcome, reason=_reason(job)))
            case _:
                pass

    def flush(self, notices: Iterable[Send], transitions: Sequence[Transition]) -> list[Effect]:
        """Return everything since the last call. Answers to workers come before answers to clients: work waits."""
        effects = self._effects
        for worker_id, answers in self._acks.items():
            effects.extend(_acks(worker_id, answers, self._lease_s))
        effects.extend(Send(receipt) for receipt in self._receipts)
        effects.extend(notices)
        for start in range(0, len(transitions), MAX_LIST):
            effects.append(Send(Monitor(tuple(transitions[start : start + MAX_LIST]))))
        self._effects, self._acks, self._receipts = [], {}, []
        return effects


class AboutJob(TypedDict):
    """The fields that every log event about a job has."""

    job: str
    type: str
    attempt: int
    worker: str | None


def about(job: JobRecord) -> AboutJob:
    """Return the fields of `job` that every log event about it has."""
    return AboutJob(job=job.spec.job_id, type=job.spec.type, attempt=job.attempt, worker=job.worker)


def _acks(worker_id: WorkerId, answers: _AcksOfWorker, lease_s: float) -> Iterator[Send]:
    longest = max(1, len(answers.stored), len(answers.stale))
    for start in range(0, longest, _TOKENS_PER_MESSAGE):
        part = slice(start, start + _TOKENS_PER_MESSAGE)
        stored, stale = tuple(answers.stored[part]), tuple(answers.stale[part])
        yield Send(Ack(worker_id, stored=stored, stale=stale, lease_s=lease_s))


def _reason(job: JobRecord) -> str | None:
    return None if job.reason is None else without_sealed(first_line(job.reason))
