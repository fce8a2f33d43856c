"""Which workers, queues and jobs need a person: for the pages and screens that show a fleet. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final

from stockworker.adapters.certificate_watch import SOON_DAYS
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.views import JobView, QueueView, WorkerView

SILENT_S: Final = 60.0
"""A worker that is online, but was silent for this long, is shown as doubtful: two heartbeats are missing."""


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker, and what is wrong with it."""

    view: WorkerView
    state: str
    problems: tuple[str, ...]


def worst_first(workers: Iterable[WorkerView]) -> list[WorkerRow]:
    """Workers with problems before those without; among equals by name."""
    rows = [WorkerRow(view, _state(view), tuple(_problems(view))) for view in workers]
    return sorted(rows, key=lambda row: (-len(row.problems), row.state != "offline", row.view.worker_id))


def _state(view: WorkerView) -> str:
    if not view.online:
        return "offline"
    return "drained" if view.drained else "online"


def _problems(view: WorkerView) -> Iterator[str]:
    if not view.online:
        yield "offline"
    elif view.seen_s > SILENT_S:
        yield "silent"
    if view.certificate_days is not None and view.certificate_days < SOON_DAYS:
        yield (
            "its certificate expired"
            if view.certificate_days < 0
            else (f"its certificate expires in {view.certificate_days} days")
        )


def longest_wait_first(queues: Iterable[QueueView]) -> list[QueueView]:
    """The queues; first those that no worker can run, then the one whose job has waited longest."""
    return sorted(queues, key=lambda queue: (queue.workers > 0, -queue.oldest_s, queue.type))


def may_cancel(view: JobView) -> bool:
    """Whether an order to cancel the job is of use."""
    return view.state not in TERMINAL and not view.cancel_requested


def may_retry(view: JobView) -> bool:
    """Whether an order to run the job again is of use."""
    return view.state is State.FAILED
