"""Denied workers, as the dispatcher's configuration lists them. Pure, a part of the dispatcher's machine."""

# The broker refuses new connections with a revoked certificate, but does not close one that exists. So the dispatcher
# ignores every message of a worker from the moment on that it is denied.

from collections import Counter
from typing import Final

from stockworker.dispatcher.effects import Event
from stockworker.dispatcher.outbox import Outbox
from stockworker.logs.events import WorkerAdmitted, WorkerRefused
from stockworker.protocol.ids import WorkerId
from stockworker.protocol.messages import Ack, FromWorker, Report, Request
from stockworker.shell.turn import Now

_NOTE_EVERY_S: Final = 3600.0
"""Time between two log events about messages of one denied worker, so that it cannot fill the disk."""


class Denials:
    """Keeps the list of denied workers, and refuses their messages.

    Args:
        counters: of the dispatcher.
        outbox: takes answers and log events.

    Attributes:
        workers: the denied workers.
    """

    def __init__(self, counters: Counter[str], outbox: Outbox) -> None:
        self._counters = counters
        self._outbox = outbox
        self._note_at: dict[WorkerId, float] = {}
        self.workers: frozenset[WorkerId] = frozenset()

    def change(self, workers: frozenset[WorkerId]) -> list[WorkerId]:
        """Deny exactly these workers; return those that were not denied before."""
        for worker_id in sorted(self.workers - workers):
            self._note_at.pop(worker_id, None)
            self._outbox.log(WorkerAdmitted(worker=worker_id))
        fresh = sorted(workers - self.workers)
        self.workers = workers
        return fresh

    def drops(self, event: Event, now: Now) -> bool:
        """Whether this is a message of a denied worker. It is refused then, with an answer where one is expected."""
        if not self.workers or not isinstance(event, FromWorker) or event.worker_id not in self.workers:
            return False
        self._refuse(event, now)
        return True

    def _refuse(self, message: FromWorker, now: Now) -> None:
        worker_id = message.worker_id
        self._counters["messages_denied"] += 1
        if now.steady >= self._note_at.get(worker_id, now.steady):
            self._note_at[worker_id] = now.steady + _NOTE_EVERY_S
            self._outbox.log(WorkerRefused(worker=worker_id, message=type(message).__name__.lower()))
        match message:
            case Request(leases=leases):
                tokens = tuple(lease.token for lease in leases)
            case Report(attempts=attempts):
                tokens = tuple(attempt.token for attempt in attempts)
            case _:
                return
        error = (
            f"worker {worker_id} is on the dispatcher's list of denied workers: its messages are ignored, and its jobs "
            "were given to others. If that is a mistake, remove it from dispatcher.denied_workers"
        )
        self._outbox.send(Ack(worker_id, stale=tokens, error=error))
