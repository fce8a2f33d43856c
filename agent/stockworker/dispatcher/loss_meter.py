"""The loss meter: folds every sign that jobs or messages are lost into one figure. Pure."""

# Four causes add up. Jobs that are unaccounted for, tracers without an end, messages that the broker has dropped, and
# assignments that no client has read. All but the first are events, and each is in the figure for `WINDOW_S`.
#
# A tracer has ended when both its receipt and its notice have arrived, in any order. One that ends after its patience was not
# lost but late: it leaves the figure again.
#
# A loss is in the figure within two minutes: a tracer starts every `EVERY_S`, and is lost after `PATIENCE_S`. The rest of the
# time is for the file of metrics and for Prometheus.

import dataclasses
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from stockworker.adapters.metric import LONG_BOUNDS_S, Histogram, Measured, counter, gauge, histogram
from stockworker.dispatcher.assignment import Worker
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import PROBE, JobId, JobType
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus

EVERY_S: Final = 60.0
PATIENCE_S: Final = 20.0
WINDOW_S: Final = 300.0
MOST_TYPES: Final = 100

LOST: Final = gauge(
    "stockworker_lost",
    "Signs of the last five minutes that jobs or messages were lost, of all causes. 0 while nothing is lost.",
)
LOST_BY_CAUSE: Final = gauge("stockworker_lost_by_cause", "The same, by cause.", "cause")
TRACERS: Final = counter("stockworker_tracers_total", "Tracers, by their outcome.", "outcome")
TRACER_SECONDS: Final = histogram(
    "stockworker_tracer_seconds",
    "Time from the submission of a tracer to its notice: the way of a job, without its wait and its run.",
)
METRICS: Final = (LOST, LOST_BY_CAUSE, TRACERS, TRACER_SECONDS)

COMPLETED: Final = "completed"
LOST_TRACER: Final = "lost"
INCONCLUSIVE: Final = "inconclusive"
REFUSED: Final = "refused"
_OUTCOMES: Final = (COMPLETED, LOST_TRACER, INCONCLUSIVE, REFUSED)


@dataclasses.dataclass(slots=True)
class _OpenTracer:
    type: JobType
    began: float
    received: bool = False
    ended: bool = False
    lost_at: float | None = None


@dataclass(frozen=True, slots=True)
class LostTracer:
    """A tracer of this type was lost.

    Attributes:
        type: its job type.
        stage: what has not arrived.
    """

    type: JobType
    stage: str


@dataclass(frozen=True, slots=True)
class Losses:
    """The figure by its causes.

    Attributes:
        accounting: jobs that are unaccounted for.
        tracers: tracers without an end.
        broker: messages that the broker has dropped.
        unheard: assignments that no client has read.
    """

    accounting: int = 0
    tracers: int = 0
    broker: int = 0
    unheard: int = 0

    @property
    def total(self) -> int:
        """The one figure."""
        return self.accounting + self.tracers + self.broker + self.unheard


def types_of(workers: Iterable[Worker]) -> list[JobType]:
    """The types that get tracers: those that the most connected workers run."""
    offered = Counter(each for worker in workers if worker.online for each in worker.types)
    return sorted(sorted(offered, key=lambda each: (-offered[each], each))[:MOST_TYPES])


class LossMeter:
    """Decides which tracers to submit, and counts what is lost.

    Args:
        incarnation: of the dispatcher; the IDs of its tracers have it, so that they are new.
    """

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        self._number = 0
        self._due: dict[JobType, float] = {}
        self._tracers: dict[JobId, _OpenTracer] = {}
        self._outcomes: Counter[str] = Counter()
        self._seconds = Histogram(LONG_BOUNDS_S)
        self._broker_total: int | None = None
        self._broker: deque[tuple[float, int]] = deque()

    # --- tracers -----------------------------------------------------------------------------------------------------

    def start(self, types: Collection[JobType], now: float) -> list[tuple[JobId, JobType]]:
        """The tracers to submit now: one for each type that is due."""
        self._due = {each: self._due.get(each, now) for each in types}
        started = []
        for each in sorted(types):
            if now >= self._due[each]:
                self._due[each] = now + EVERY_S
                self._number += 1
                job_id = JobId(f"{PROBE}-{self._incarnation}-{self._number}")
                self._tracers[job_id] = _OpenTracer(each, now)
                started.append((job_id, each))
        return started

    def received(self, job_id: JobId, status: ReceiptStatus, now: float) -> None:
        """The receipt of a tracer has arrived."""
        if status is not ReceiptStatus.STORED:
            self.refused(job_id)
        elif (tracer := self._tracers.get(job_id)) is not None:
            tracer.received = True
            self._settle(job_id, tracer, now)

    def ended(self, job_id: JobId, state: State, now: float) -> None:
        """The notice of a tracer has arrived."""
        tracer = self._tracers.get(job_id)
        if tracer is None:
            return
        if state is not State.COMPLETED:
            del self._tracers[job_id]
            self._outcomes[INCONCLUSIVE] += 1
            return
        tracer.ended = True
        self._settle(job_id, tracer, now)

    def _settle(self, job_id: JobId, tracer: _OpenTracer, now: float) -> None:
        if tracer.received and tracer.ended:
            del self._tracers[job_id]
            self._outcomes[COMPLETED] += 1
            self._seconds.observe(now - tracer.began)

    def refused(self, job_id: JobId) -> None:
        """The broker or the dispatcher has refused a tracer. It was not lost."""
        if self._tracers.pop(job_id, None) is not None:
            self._outcomes[REFUSED] += 1

    def unread(self, job_id: JobId, now: float) -> list[LostTracer]:
        """The broker has passed a tracer to no dispatcher."""
        tracer = self._tracers.get(job_id)
        return [] if tracer is None or tracer.lost_at is not None else [self._lose(tracer, "subscriber", now)]

    def interrupted(self) -> None:
        """A connection was lost or made: tracers that were on their way prove nothing."""
        for job_id, tracer in list(self._tracers.items()):
            if tracer.lost_at is None:
                del self._tracers[job_id]
                self._outcomes[INCONCLUSIVE] += 1

    def check(self, now: float) -> list[LostTracer]:
        """The tracers that are lost since the last call."""
        lost = []
        for job_id, tracer in list(self._tracers.items()):
            if tracer.lost_at is not None:
                if now - tracer.lost_at >= WINDOW_S:
                    del self._tracers[job_id]
            elif now - tracer.began >= PATIENCE_S:
                lost.append(self._lose(tracer, "notice" if tracer.received else "receipt", now))
        return lost

    def _lose(self, tracer: _OpenTracer, stage: str, now: float) -> LostTracer:
        tracer.lost_at = now
        self._outcomes[LOST_TRACER] += 1
        return LostTracer(tracer.type, stage)

    # --- the figure ---------------------------------------------------------------------------------------------------

    def dropped_by_broker(self, total: int, now: float) -> None:
        """The broker has dropped this many messages since its start.

        It reports 0 when it starts, and later changes alone. So the first report means at least one drop, unless it is 0.
        """
        known, self._broker_total = self._broker_total, total
        known = max(0, total - 1) if known is None else known
        if total != known:
            self._broker.append((now, total - known if total > known else total))

    def losses(self, unaccounted: int, unheard: int, now: float) -> Losses:
        """The figure as it is now."""
        while self._broker and now - self._broker[0][0] >= WINDOW_S:
            self._broker.popleft()
        return Losses(
            abs(unaccounted),
            sum(tracer.lost_at is not None for tracer in self._tracers.values()),
            sum(count for _, count in self._broker),
            unheard,
        )

    def measured(self, losses: Losses) -> Iterator[Measured]:
        """The metrics as they are now."""
        yield LOST.of(losses.total)
        yield LOST_BY_CAUSE.of(losses.accounting, "accounting")
        yield LOST_BY_CAUSE.of(losses.tracers, "tracers")
        yield LOST_BY_CAUSE.of(losses.broker, "broker")
        yield LOST_BY_CAUSE.of(losses.unheard, "unheard")
        yield from (TRACERS.of(self._outcomes[outcome], outcome) for outcome in _OUTCOMES)
        yield TRACER_SECONDS.of(self._seconds.now())
