"""Counts what a worker commits, for its metrics. Pure."""

# Every step of a lease is a journal entry, and all times are of one clock, that of the turns. A lease of an earlier process is
# counted from its first step in this one.

from collections import Counter
from collections.abc import Iterable

from stockworker.adapters.metric import LONG_BOUNDS_S, Histogram
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import AttemptReport
from stockworker.worker.effects import Accept, Entry, Forget, MarkStarted, RecordOutcome


class WorkerTally:
    """Counts the commits since the start.

    Attributes:
        attempts: ended attempts by their outcome.
        start_s: from the arrival of a job to its start.
        run_s: how long attempts ran.
        report_s: from the end of an attempt to the dispatcher's acknowledgement.
    """

    def __init__(self) -> None:
        self.attempts: Counter[Outcome] = Counter()
        self.start_s = Histogram(LONG_BOUNDS_S)
        self.run_s = Histogram(LONG_BOUNDS_S)
        self.report_s = Histogram(LONG_BOUNDS_S)
        self._accepted: dict[Token, float] = {}
        self._ended: dict[Token, float] = {}

    def committed(self, entries: Iterable[Entry], now: float) -> None:
        """A turn has written this."""
        for entry in entries:
            match entry:
                case Accept(assignment=assignment):
                    self._accepted[assignment.token] = now
                case MarkStarted(token=token):
                    if (since := self._accepted.pop(token, None)) is not None:
                        self.start_s.observe(now - since)
                case RecordOutcome(report=report):
                    self._outcome(report, now)
                case Forget(token=token):
                    self._accepted.pop(token, None)
                    if (since := self._ended.pop(token, None)) is not None:
                        self.report_s.observe(now - since)

    def _outcome(self, report: AttemptReport, now: float) -> None:
        if report.token in self._ended:
            return  # its result was evicted: the attempt is counted
        self._ended[report.token] = now
        self.attempts[report.outcome] += 1
        if report.ran_s is not None:
            self.run_s.observe(report.ran_s)
