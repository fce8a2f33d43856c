"""The metrics of the dispatcher. Pure."""

# A client can make up job types, and so can a worker. So a type has values of its own only if a known worker runs it or an
# operator has paused it, and only the types with the most workers have. All others are together under `OTHERS`, which is not a
# valid ID. Everything is counted in the turns, or follows from the tables in memory: a query of the store is never necessary.

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from stockworker.adapters.metric import Measured, counter, gauge, histogram
from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.ledger import Ledger
from stockworker.dispatcher.tally import Tally
from stockworker.protocol.ids import JobType
from stockworker.protocol.job import Outcome, Priority
from stockworker.protocol.lifecycle import TERMINAL, State

OTHERS: Final = "(others)"
"""The label of everything beyond a bound."""

DAY_S: Final = 86_400.0
MOST_TYPES: Final = 100
MOST_WORKERS: Final = 5000
MOST_VERSIONS: Final = 20

JOBS: Final = gauge("stockworker_jobs", "Jobs in the store, by their state.", "state")
RECEIVED: Final = counter("stockworker_jobs_received_total", "New jobs that the dispatcher stored.")
ENDED: Final = counter("stockworker_jobs_ended_total", "Jobs that ended, by their state.", "state")
UNACCOUNTED: Final = gauge(
    "stockworker_jobs_unaccounted",
    "Jobs that were received, less those that wait, run or have ended. Always 0: other values are a defect.",
)
WAITING: Final = gauge(
    "stockworker_queue_jobs", "Jobs that wait for a worker, by type and priority.", "type", "priority"
)
OLDEST_SECONDS: Final = gauge(
    "stockworker_queue_oldest_seconds",
    "How long the oldest of these jobs has been waiting for a worker.",
    "type",
    "priority",
)
ABLE: Final = gauge("stockworker_queue_workers", "Connected workers that could run jobs of a type now.", "type")
PAUSED: Final = gauge("stockworker_queue_paused", "1 while an operator has paused the type.", "type")
ATTEMPTS: Final = counter("stockworker_attempts_total", "Attempts that ended, by their outcome.", "outcome")
LEASES_LOST: Final = counter(
    "stockworker_leases_expired_total",
    "Leases that expired, or whose worker was lost, so that the job was queued again.",
)
STALE: Final = counter(
    "stockworker_reports_stale_total", "Results that were refused, because their lease was not valid any longer."
)
REJECTED: Final = counter("stockworker_submissions_rejected_total", "Jobs that the dispatcher did not accept.")
REFUSED: Final = counter("stockworker_messages_refused_total", "Malformed messages.")
DENIED: Final = counter("stockworker_messages_denied_total", "Messages of denied workers.")
QUERIES_DROPPED: Final = counter(
    "stockworker_queries_dropped_total", "Queries that were dropped, because too many waited."
)
WAIT_SECONDS: Final = histogram("stockworker_job_wait_seconds", "Time from the queue to the assignment of a job.")
ATTEMPT_SECONDS: Final = histogram("stockworker_attempt_seconds", "Time from the assignment to the end of an attempt.")
JOB_SECONDS: Final = histogram("stockworker_job_seconds", "Time from the receipt to the end of a job.")
ONLINE: Final = gauge("stockworker_fleet_worker_online", "1 if the dispatcher can reach the worker, else 0.", "worker")
WORKER_CERTIFICATE_SECONDS: Final = gauge(
    "stockworker_fleet_worker_certificate_seconds",
    "Time until the certificate of a worker expires, in whole days.",
    "worker",
)
VERSIONS: Final = gauge("stockworker_fleet_workers", "Workers that are online, by their version.", "version")

METRICS: Final = (
    JOBS,
    RECEIVED,
    ENDED,
    UNACCOUNTED,
    WAITING,
    OLDEST_SECONDS,
    ABLE,
    PAUSED,
    ATTEMPTS,
    LEASES_LOST,
    STALE,
    REJECTED,
    REFUSED,
    DENIED,
    QUERIES_DROPPED,
    WAIT_SECONDS,
    ATTEMPT_SECONDS,
    JOB_SECONDS,
    ONLINE,
    WORKER_CERTIFICATE_SECONDS,
    VERSIONS,
)

_COUNTERS: Final = {
    LEASES_LOST: "leases_lost",
    STALE: "reports_stale",
    REJECTED: "submissions_rejected",
    REFUSED: "messages_refused",
    DENIED: "messages_denied",
    QUERIES_DROPPED: "queries_dropped",
}
"""Counters of the machine."""


def unaccounted(ledger: Ledger, tally: Tally) -> int:
    """Committed jobs that are not in the tables in memory, or the other way round."""
    ended = sum(ledger.totals[state] for state in TERMINAL)
    return tally.stored - (len(ledger.jobs) + ledger.ready.parked + ended)


def measured_jobs(ledger: Ledger, tally: Tally, counters: Mapping[str, int]) -> Iterator[Measured]:
    """The metrics of jobs and attempts."""
    yield RECEIVED.of(tally.received)
    yield UNACCOUNTED.of(unaccounted(ledger, tally))
    yield from (JOBS.of(ledger.totals[state], state) for state in State)
    yield from (ENDED.of(tally.ended[state], state) for state in sorted(TERMINAL))
    yield from (ATTEMPTS.of(tally.attempts[outcome], outcome) for outcome in Outcome)
    yield from (metric.of(counters.get(name, 0)) for metric, name in _COUNTERS.items())
    yield WAIT_SECONDS.of(tally.wait_s.now())
    yield ATTEMPT_SECONDS.of(tally.attempt_s.now())
    yield JOB_SECONDS.of(tally.job_s.now())


def measured_queues(ledger: Ledger, workers: Iterable[Worker], steady: float) -> Iterator[Measured]:
    """The metrics of the queues."""
    offered: Counter[JobType] = Counter()
    able: Counter[str] = Counter()
    for worker in workers:
        offered.update(worker.types)
        if worker.online and worker.worker_id not in ledger.drained:
            able.update(worker.types - worker.refused.keys())
    shown = _shown(offered, ledger.paused)
    waiting: dict[tuple[str, Priority], tuple[int, float]] = {
        (name, priority): (0, steady) for name in shown for priority in Priority
    }
    for lane, size, oldest in ledger.ready.lanes_waiting():
        key = (lane.type if lane.type in shown else OTHERS, lane.priority)
        count, since = waiting.get(key, (0, steady))
        waiting[key] = (count + size, min(since, oldest))
    for (name, priority), (count, since) in waiting.items():
        yield WAITING.of(count, name, priority.label)
        yield OLDEST_SECONDS.of(max(0.0, steady - since), name, priority.label)
    yield from (ABLE.of(able[name], name) for name in shown)
    yield from (PAUSED.of(int(name in ledger.paused), name) for name in shown)


def _shown(offered: Counter[JobType], paused: Collection[JobType]) -> list[JobType]:
    """The types with values of their own: paused ones, and those that the most workers run."""
    names = {*offered, *paused}
    first = sorted(names, key=lambda name: (name not in paused, -offered[name], name))
    return sorted(first[:MOST_TYPES])


def measured_workers(workers: Iterable[Worker]) -> Iterator[Measured]:
    """The metrics of the workers, as the dispatcher sees them: those that are online come first."""
    listed = sorted(workers, key=lambda worker: (not worker.online, worker.worker_id))
    for worker in listed[:MOST_WORKERS]:
        yield ONLINE.of(int(worker.online), worker.worker_id)
        if worker.certificate_days is not None:
            yield WORKER_CERTIFICATE_SECONDS.of(DAY_S * worker.certificate_days, worker.worker_id)
    versions = Counter(worker.version for worker in listed if worker.online).most_common()
    yield from (VERSIONS.of(count, version) for version, count in versions[:MOST_VERSIONS])
    if len(versions) > MOST_VERSIONS:
        yield VERSIONS.of(sum(count for _, count in versions[MOST_VERSIONS:]), OTHERS)
