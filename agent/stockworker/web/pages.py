"""What the templates show, made from what the dispatcher answers. Pure."""

import json

from stockworker.protocol.fields import FieldError, parse_json
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.lifecycle import State
from stockworker.protocol.sealed import first_line
from stockworker.protocol.views import Explanation, JobView


@dataclass(frozen=True, slots=True)
class Moment:
    """A step in the life of a job."""

    at: float
    text: str
    detail: str = ""


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


def pretty(result: str) -> str:
    """A result with a line for each value. Text that is not JSON, such as a sealed result, is unchanged."""
    try:
        return json.dumps(parse_json(result), indent=2, ensure_ascii=False)
    except FieldError:
        return result
