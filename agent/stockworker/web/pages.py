"""What the templates show, made from what the dispatcher answers. Pure."""

import json
from collections.abc import Iterable, Iterator
from typing import Final

from stockworker.protocol.fields import FieldError, parse_json
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.sealed import first_line
from stockworker.protocol.views import Explanation, JobView, QueueView, WorkerView

SILENT_S: Final = 60.0
"""A worker that is online, but was silent for this long, is shown as doubtful: two heartbeats are missing."""

_SOON_DAYS: Final = 14


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker, and what is wrong with it."""

    view: WorkerView
    state: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """A step in the life of a job."""

    at: float
    text: str
    detail: str = ""


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
    if view.certificate_days is not None and view.certificate_days < _SOON_DAYS:
        yield (
            "its certificate expired"
            if view.certificate_days < 0
            else (f"its certificate expires in {view.certificate_days} days")
        )


def longest_wait_first(queues: Iterable[QueueView]) -> list[QueueView]:
    """The queues; first those that no worker can run, then the one whose job has waited longest."""
    return sorted(queues, key=lambda queue: (queue.workers > 0, -queue.oldest_s, queue.type))


def timeline(view: JobView, explanation: Explanation | None) -> list[Moment]:
    """The life of a job, in the order of time."""
    moments = [Moment(view.submitted_at, "submitted")]
    if view.state is State.SCHEDULED:
        moments.append(Moment(view.ready_at, "will enter the queue"))
    for attempt in () if explanation is None else explanation.attempts:
        moments.append(Moment(attempt.assigned_at, f"attempt {attempt.number} assigned to {attempt.worker}"))
        if attempt.ended_at is not None:
            ran = "" if attempt.ran_s is None else f" after {attempt.ran_s:.2f} s"
            outcome = attempt.outcome or "ended"
            moments.append(Moment(attempt.ended_at, f"attempt {attempt.number}: {outcome}{ran}", attempt.error or ""))
    if view.ended_at is not None:
        moments.append(Moment(view.ended_at, str(view.state), first_line(view.reason) or ""))
    return sorted(moments, key=lambda moment: moment.at)


def may_cancel(view: JobView) -> bool:
    """Whether a button to cancel the job is of use."""
    return view.state not in TERMINAL and not view.cancel_requested


def may_retry(view: JobView) -> bool:
    """Whether a button to run the job again is of use."""
    return view.state is State.FAILED


def pretty(result: str) -> str:
    """A result with a line for each value. Text that is not JSON, such as a sealed result, is unchanged."""
    try:
        return json.dumps(parse_json(result), indent=2, ensure_ascii=False)
    except FieldError:
        return result
