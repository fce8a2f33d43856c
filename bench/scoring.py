"""What a fault has done to a steady load: rates, latency and time to recover, from when jobs were due and ended. Pure."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.figures import percentile

SCHEMA: Final = 1
_SLOWER: Final = 2.0
_SLACK_S: Final = 0.05
"""Latency is normal again once its p99 is at most this much longer than, or this multiple of, that before the fault."""
_CALM: Final = 2
"""How many seconds in a row must be normal."""


@dataclass(frozen=True, slots=True)
class Score:
    """The effect of one fault.

    Attributes:
        rate_before: completed jobs per second before the fault.
        recovery: completed jobs per second after the fault, divided by those before it.
        during: the same, during the fault.
        p99_before_ms: of the time from when a job was due to its end.
        p99_during_ms: of jobs that were due during the fault.
        p99_after_ms: of jobs that were due after the fault.
        recovered_s: seconds from the end of the fault until latency was normal again; None if that did not happen.
        lost: jobs that did not end.
        twice: executions beyond the first one of each job.
        notes: further figures of the fault.
        seconds: for each second of the load: its number, the jobs that ended in it, and the p99 of the latency of the
            jobs that were due in it, in milliseconds.
    """

    rate_before: float
    recovery: float
    during: float
    p99_before_ms: float
    p99_during_ms: float
    p99_after_ms: float
    recovered_s: float | None
    lost: int
    twice: int
    notes: dict[str, float] = field(default_factory=dict)
    seconds: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Load:
    """A steady load with a fault in it. All times in seconds since the load began.

    Attributes:
        due: when each job was due.
        ended: when each job has ended first; None if it did not.
        fault: when the fault began and ended.
        until: the end of the load.
        executions: of all jobs.
    """

    due: Sequence[float]
    ended: Sequence[float | None]
    fault: tuple[float, float]
    until: float
    executions: int


def score(load: Load, notes: Mapping[str, float] | None = None) -> Score:
    """Compare the time after the fault with the time before it."""
    begins, ends = load.fault
    spans = (0.0, begins), (begins, ends), (ends, load.until)
    before, during, after = (_rate(load, span) for span in spans)
    # A job that was running when the fault began belongs to neither side.
    calm = [end - due for due, end in zip(load.due, load.ended, strict=True) if end is not None and end < begins]
    waits = calm, _latencies(load, spans[1]), _latencies(load, spans[2])
    p99s = [percentile(latencies, 0.99) * 1e3 if latencies else 0.0 for latencies in waits]
    finished = sum(end is not None for end in load.ended)
    return Score(
        rate_before=before,
        recovery=after / before if before else 0.0,
        during=during / before if before else 0.0,
        p99_before_ms=p99s[0],
        p99_during_ms=p99s[1],
        p99_after_ms=p99s[2],
        recovered_s=recovered_s(load, p99s[0] / 1e3),
        lost=len(load.due) - finished,
        twice=load.executions - finished,
        notes=dict(notes or {}),
        seconds=[[second, ended, p99_s * 1e3] for second, (ended, p99_s) in rolling(load).items()],
    )


def rolling(load: Load) -> dict[int, tuple[int, float]]:
    """For each second of the load: the jobs that ended, and the p99 of the latency of those that were due, in seconds."""
    ended: dict[int, int] = defaultdict(int)
    latencies: dict[int, list[float]] = defaultdict(list)
    for due, end in zip(load.due, load.ended, strict=True):
        # A job that did not end has waited at least until the end of the load.
        latencies[int(due)].append(max(load.until, due) - due if end is None else end - due)
        if end is not None:
            ended[int(end)] += 1
    return {second: (ended[second], percentile(times, 0.99)) for second, times in sorted(latencies.items())}


def recovered_s(load: Load, p99_before_s: float) -> float | None:
    """Seconds from the end of the fault until the rolling p99 was normal, and stayed so; None if it did not."""
    normal_s = max(_SLOWER * p99_before_s, p99_before_s + _SLACK_S)
    calm = 0
    for second, (_, p99_s) in rolling(load).items():
        if second < int(load.fault[1]):
            continue
        calm = calm + 1 if p99_s <= normal_s else 0
        if calm == _CALM:
            return max(0.0, second - _CALM + 1 - load.fault[1])
    return None


def _rate(load: Load, span: tuple[float, float]) -> float:
    begins, ends = span
    return sum(end is not None and begins <= end < ends for end in load.ended) / (ends - begins)


def _latencies(load: Load, span: tuple[float, float]) -> list[float]:
    begins, ends = span
    pairs = zip(load.due, load.ended, strict=True)
    return [end - due for due, end in pairs if end is not None and begins <= due < ends]


Scores = dict[str, dict[str, list[Score]]]
"""Fault to queue to the scores of the rounds."""


def save(scores: Scores, machine: Mapping[str, str], file: Path) -> None:
    """Write the scores as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    plain = {
        fault: {queue: [asdict(each) for each in found] for queue, found in by.items()} for fault, by in scores.items()
    }
    file.write_text(json.dumps({"schema": SCHEMA, "machine": dict(machine), "scores": plain}, indent=1) + "\n")


def load_scores(file: Path) -> Scores:
    """Read what `save` has written."""
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if document["schema"] != SCHEMA:
        raise ValueError(f"{file} has another schema: measure again")
    return {
        fault: {queue: [Score(**each) for each in found] for queue, found in by.items()}
        for fault, by in document["scores"].items()
    }


def table(scores: Scores, titles: Mapping[str, str]) -> str:
    """One row for each fault and queue: medians of the rounds."""
    columns = (
        "score",
        "rate during",
        "jobs/s before",
        "p99 before",
        "during",
        "after, ms",
        "recovered, s",
        "lost",
        "twice",
    )
    rows = ["| Fault | Queue | " + " | ".join(columns) + " | also |", "|---|---" + "|---:" * len(columns) + "|---|"]
    for fault, by_queue in scores.items():
        for queue, found in by_queue.items():
            times = [each.recovered_s for each in found if each.recovered_s is not None]
            cells = [
                f"**{median(each.recovery for each in found):.2f}**",
                f"{median(each.during for each in found):.2f}",
                f"{median(each.rate_before for each in found):,.0f}",
                *(f"{median(p99):,.0f}" for p99 in zip(*map(_p99s, found), strict=True)),
                f"{median(times):.0f}" if len(times) == len(found) else "not",
                f"{max(each.lost for each in found)}",
                f"{max(each.twice for each in found)}",
                "; ".join(f"{name} {median(values):,.1f}" for name, values in _notes(found).items()),
            ]
            rows.append(f"| {fault} | {titles.get(queue, queue)} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _p99s(found: Score) -> tuple[float, float, float]:
    return found.p99_before_ms, found.p99_during_ms, found.p99_after_ms


def _notes(found: Sequence[Score]) -> dict[str, list[float]]:
    names = dict.fromkeys(name for each in found for name in each.notes)
    return {name: [each.notes[name] for each in found if name in each.notes] for name in names}
