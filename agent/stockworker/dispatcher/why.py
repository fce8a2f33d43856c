"""Explains a live job in sentences for operators: what it waits for. Pure, a part of the dispatcher's machine."""

from collections.abc import Callable, Collection, Iterator

from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.ledger import Ledger
from stockworker.dispatcher.policy import Policy
from stockworker.protocol.body import MAX_TEXT
from stockworker.protocol.ids import JobType
from stockworker.protocol.job import JobRecord
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import LeaseStatus
from stockworker.protocol.sealed import first_line
from stockworker.shell.turn import Now

_DOING = {
    None: "has not reported this lease yet",
    LeaseStatus.WAITING: "has it waiting for a free slot",
    LeaseStatus.RUNNING: "runs it",
    LeaseStatus.FINISHED: "has finished it, and is about to report",
}


def why(job: JobRecord, ledger: Ledger, workers: Collection[Worker], policy: Policy, now: Now) -> tuple[str, ...]:
    """Explain what a live job waits for, or which worker has it. Each sentence is within `MAX_TEXT`."""
    match job.state:
        case State.SCHEDULED:
            sentences = _scheduled(job, now)
        case State.QUEUED:
            sentences = _queued(job, ledger, workers, now)
        case _:
            sentences = _leased(job, ledger, policy, now)
    return tuple(sentence[:MAX_TEXT] for sentence in sentences)


def _scheduled(job: JobRecord, now: Now) -> Iterator[str]:
    spec = job.spec
    if job.reason is not None:
        yield f"failure {job.failures} of at most {spec.retry.max_attempts}: {first_line(job.reason)}"
    if job.ready_at > now.steady:
        yield f"it will be tried again in {_seconds(job.ready_at - now.steady)}"
    if spec.not_before is not None and spec.not_before > now.wall:
        yield f"it must not start for another {_seconds(spec.not_before - now.wall)} (not_before)"
    yield from _expiry(job, now)


def _queued(job: JobRecord, ledger: Ledger, workers: Collection[Worker], now: Now) -> Iterator[str]:
    spec = job.spec
    yield f"it has waited for {_seconds(now.steady - job.ready_at)} at priority {spec.priority.label}"
    if job.reason is not None:
        yield f"it is queued again: {first_line(job.reason)}"
    paused = spec.type in ledger.paused
    if paused:
        yield f"jobs of type {spec.type} are paused: stockworker resume {spec.type}"
    able = [worker for worker in workers if spec.type in worker.types]
    if able:
        yield from _obstacles(job, able, ledger, now, paused=paused)
    else:
        yield f"none of the {len(workers)} known workers runs jobs of type {spec.type}"
    yield from _expiry(job, now)


def _refused(job_type: JobType, able: Collection[Worker], now: Now) -> str:
    until = min((worker.refused[job_type] for worker in able if job_type in worker.refused), default=now.steady)
    left = _seconds(until - now.steady)
    return (
        f"unable to run it, see their logs; tried again in {left}, or after systemctl reload stockworker@INSTANCE there"
    )


def _obstacles(job: JobRecord, able: Collection[Worker], ledger: Ledger, now: Now, *, paused: bool) -> Iterator[str]:
    """Count the workers that run the job's type by the first obstacle that keeps each of them from this job."""
    spec = job.spec
    obstacles: tuple[tuple[str, Callable[[Worker], bool]], ...] = (
        (_refused(spec.type, able, now), lambda worker: spec.type in worker.refused),
        (f"without one of its tags ({', '.join(sorted(spec.tags))})", lambda worker: not spec.tags <= worker.tags),
        ("not connected", lambda worker: not worker.online),
        ("drained (stockworker undrain WORKER)", lambda worker: worker.worker_id in ledger.drained),
        ("low on disk space, see their logs", lambda worker: worker.disk_pressure),
        ("about to stop, or short of memory or descriptors", lambda worker: worker.window == 0),
        ("busy", lambda worker: not worker.wants_jobs(ledger.leases.count(worker.worker_id))),
    )
    left = list(able)
    for text, applies in obstacles:
        stopped = sum(map(applies, left))
        left = [worker for worker in left if not applies(worker)]
        if stopped:
            yield f"{stopped} of {len(able)} workers for its type: {text}"
    if left and not paused:
        yield f"{len(left)} of {len(able)} workers for its type: ready to get it"


def _leased(job: JobRecord, ledger: Ledger, policy: Policy, now: Now) -> Iterator[str]:
    lease = ledger.leases[job.spec.job_id]
    yield f"attempt {job.attempt}: worker {job.worker} {_DOING[lease.status]}"
    yield f"its lease ends in {_seconds(lease.deadline - now.steady)} unless renewed"
    if job.cancel_requested:
        yield "it is being cancelled: its worker was ordered to stop it"
    elif job.spec.type in policy.prefetch and job.worker not in ledger.drained:
        yield f"it stays there if the worker is cut off (prefetch). To take it back: stockworker drain {job.worker}"


def _expiry(job: JobRecord, now: Now) -> Iterator[str]:
    if job.spec.expires_at is not None:
        yield f"it expires in {_seconds(job.spec.expires_at - now.wall)} unless started (expires_at)"


def _seconds(duration_s: float) -> str:
    return f"{max(0.0, duration_s):.0f} s"
