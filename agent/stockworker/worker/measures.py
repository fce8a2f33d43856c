"""The metrics of a worker. Pure."""

from collections.abc import Iterator
from typing import Final

from stockworker.adapters.metric import Measured, counter, gauge, histogram
from stockworker.protocol.ids import WorkerId
from stockworker.protocol.job import Outcome
from stockworker.worker.machine import WorkerMachine
from stockworker.worker.tally import WorkerTally

SLOTS: Final = gauge("stockworker_worker_slots", "How many jobs the worker runs at the same time.", "worker")
RUNNING: Final = gauge("stockworker_worker_running", "Jobs that run.", "worker")
UNREPORTED: Final = gauge(
    "stockworker_worker_unreported_results",
    "Results in the journal that the dispatcher has not acknowledged.",
    "worker",
)
EVICTED: Final = counter(
    "stockworker_worker_evicted_results_total",
    "Results that were deleted because the journal was full. Their jobs run again.",
    "worker",
)
ATTEMPTS: Final = counter(
    "stockworker_worker_attempts_total", "Attempts that ended on the worker, by their outcome.", "worker", "outcome"
)
START_SECONDS: Final = histogram(
    "stockworker_worker_start_seconds", "Time from the arrival of a job at the worker to its start.", "worker"
)
RUN_SECONDS: Final = histogram("stockworker_worker_run_seconds", "How long attempts ran.", "worker")
REPORT_SECONDS: Final = histogram(
    "stockworker_worker_report_seconds",
    "Time from the end of an attempt to the acknowledgement of its result.",
    "worker",
)

METRICS: Final = (
    SLOTS,
    RUNNING,
    UNREPORTED,
    EVICTED,
    ATTEMPTS,
    START_SECONDS,
    RUN_SECONDS,
    REPORT_SECONDS,
)


def measured_worker(worker_id: WorkerId, slots: int, machine: WorkerMachine, tally: WorkerTally) -> Iterator[Measured]:
    """The metrics as they are now."""
    yield SLOTS.of(slots, worker_id)
    yield RUNNING.of(machine.running, worker_id)
    yield UNREPORTED.of(machine.unreported, worker_id)
    yield EVICTED.of(machine.evicted, worker_id)
    yield from (ATTEMPTS.of(tally.attempts[outcome], worker_id, outcome) for outcome in Outcome)
    yield START_SECONDS.of(tally.start_s.now(), worker_id)
    yield RUN_SECONDS.of(tally.run_s.now(), worker_id)
    yield REPORT_SECONDS.of(tally.report_s.now(), worker_id)
