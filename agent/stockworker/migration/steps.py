"""The decisions of a migration: what receipts and states of jobs mean for the records. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from stockworker.migration.decoding import MigratedJob
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus
from stockworker.protocol.views import JobView

_WAITING = frozenset({State.SCHEDULED, State.QUEUED})


@dataclass(frozen=True, slots=True)
class Receipts:
    """The jobs of a page, by what the dispatcher answered.

    Attributes:
        stored: the dispatcher has stored them now.
        known: the dispatcher had them before.
        rejected: with the reason. The dispatcher does not have them.
    """

    stored: tuple[MigratedJob, ...]
    known: tuple[MigratedJob, ...]
    rejected: tuple[tuple[MigratedJob, str], ...]


def first_of_each(jobs: Sequence[MigratedJob]) -> tuple[list[MigratedJob], list[MigratedJob]]:
    """Separate the first job of each ID from its copies: an old queue may have the same job twice."""
    first: dict[str, MigratedJob] = {}
    copies = [job for job in jobs if first.setdefault(job.record_id, job) is not job]
    return list(first.values()), copies


def sort_receipts(jobs: Mapping[JobId, MigratedJob], entries: Iterable[ReceiptEntry]) -> Receipts:
    """Sort jobs by their receipts.

    Args:
        jobs: by the ID under which they were submitted.
        entries: the receipts; a job without one is in no group, and stays claimed.
    """
    stored, known, rejected = [], [], []
    for entry in entries:
        job = None if entry.job_id is None else jobs.get(entry.job_id)
        if job is None:
            continue
        if entry.status is ReceiptStatus.STORED:
            stored.append(job)
        elif entry.status is ReceiptStatus.DUPLICATE and entry.holder is None:
            known.append(job)
        else:
            rejected.append((job, entry.reason or "the dispatcher gave no reason"))
    return Receipts(tuple(stored), tuple(known), tuple(rejected))


def was_withdrawn(view: JobView) -> bool:
    """Whether a job was cancelled before a worker had it: so ends a job whose record returns to its source."""
    return view.state is State.CANCELLED and view.attempt == 0


def may_return(view: JobView) -> bool:
    """Whether no worker has ever had a job, so that an old worker may run it."""
    return view.state in _WAITING and view.attempt == 0 and not view.cancel_requested


def pause_s(done: int, rate: float | None, elapsed_s: float) -> float:
    """How long to wait, so that on average no more than `rate` jobs are moved each second."""
    return 0.0 if rate is None else max(0.0, done / rate - elapsed_s)


def eta_s(done: int, left: int, elapsed_s: float) -> float | None:
    """The time that the rest will take; None if that is not known yet."""
    return left * elapsed_s / done if done and elapsed_s > 0 else None


def newest_lives(
    lives: Mapping[str, Sequence[JobId]], views: Mapping[JobId, JobView]
) -> tuple[dict[str, JobView], Collection[str]]:
    """The job that is the newest one of each record, as far as they were asked for.

    Args:
        lives: the IDs that were asked for, by record, oldest first.
        views: the jobs that the dispatcher knows.

    Returns:
        The newest known job of each record, and the records whose next life must be asked for.
    """
    newest: dict[str, JobView] = {}
    further = []
    for record_id, ids in lives.items():
        known = [views[each] for each in ids if each in views]
        if known:
            newest[record_id] = known[-1]
        if ids and ids[-1] in views and was_withdrawn(views[ids[-1]]):
            further.append(record_id)
    return newest, further
