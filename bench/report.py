"""What a run has found: medians and spread, as JSON, as text and as tables of docs/performance.md. Pure, except for files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

OWN: Final = "stockworker"
SCHEMA: Final = 1
NOTHING: Final = "-"
"""What a table shows in place of a figure that was not measured."""

_WHOLE_FROM: Final = 100
_SHOWN_FROM: Final = 0.05


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table.

    Attributes:
        title: what it is, with its unit.
        workload: where it comes from.
        key: its name there.
        more_is_better: whether a larger value is better; None if neither is.
        digits: after the point.
    """

    title: str
    workload: str
    key: str
    more_is_better: bool | None = True
    digits: int = 0


FIGURES: Final = (
    Figure("drain, 1 worker, jobs/s", "drain", "jobs"),
    Figure("drain, 2 workers, jobs/s", "drain-2", "jobs"),
    Figure("submit one at a time, /s", "submit", "submissions"),
    Figure("submit in bulk, /s", "drain", "bulk submissions"),
    Figure("idle: submit to confirmation, p50 ms", "latency", "confirmation p50", more_is_better=False, digits=2),
    Figure("idle: submit to start, p50 ms", "latency", "start p50", more_is_better=False, digits=2),
    Figure("idle: submit to start, p99 ms", "latency", "start p99", more_is_better=False, digits=2),
    Figure("idle: submit to result, p50 ms", "latency", "result p50", more_is_better=False, digits=2),
    Figure("idle: submit to result, p99 ms", "latency", "result p99", more_is_better=False, digits=2),
    Figure("idle: waits of processes per job", "latency", "waits", more_is_better=False, digits=1),
    Figure("idle: CPU µs per job, client included", "latency", "CPU", more_is_better=False),
    Figure("10 ms jobs, 8 at a time, jobs/s (ideal: 800)", "naps", "jobs"),
    Figure("50 urgent jobs through 5,000, s", "urgent", "urgent", more_is_better=False, digits=3),
    Figure("drain: CPU µs per job, all but the client", "drain", "CPU all", more_is_better=False),
    Figure("64 KiB payloads: submit in bulk, /s", "large", "bulk submissions"),
    Figure("64 KiB payloads: drain, jobs/s", "large", "jobs"),
    Figure("worker, idle, MiB", "idle", "worker memory idle", more_is_better=False, digits=1),
    Figure(
        "worker after 200 jobs, with its children, MiB", "idle", "worker memory used", more_is_better=False, digits=1
    ),
    Figure("start of a worker to the end of its first job, s", "idle", "first job", more_is_better=False, digits=2),
    Figure("worker killed: 200 jobs of 0.2 s all done, s", "worker-killed", "all done", more_is_better=False, digits=2),
    Figure("worker killed: jobs lost", "worker-killed", "lost", more_is_better=False),
    Figure("worker killed in a drain: jobs run twice", "killed-draining", "ran twice", more_is_better=False),
    Figure("worker killed in a drain: jobs lost", "killed-draining", "lost", more_is_better=False),
    Figure("broker killed: kept of 1,000", "broker-killed", "kept"),
    Figure("broker killed: all done, s", "broker-killed", "all done", more_is_better=False, digits=2),
    Figure("dispatcher killed: kept of 1,000", "dispatcher-killed", "kept"),
    Figure("dispatcher killed: all done, s", "dispatcher-killed", "all done", more_is_better=False, digits=2),
    Figure("1,000,000 queued: drain, jobs/s", "backlog", "jobs"),
    Figure("1,000,000 queued: CPU µs per job", "backlog", "CPU all", more_is_better=False),
    Figure("1,000,000 queued: memory of the queue, MiB", "backlog", "queue memory", more_is_better=False),
)

Values = dict[str, dict[str, dict[str, list[float]]]]
"""Workload to queue to key to the values of the rounds."""


@dataclass(slots=True)
class Findings:
    """Everything that a run has measured.

    Attributes:
        machine: facts about the machine and the versions.
        ceilings: the limits of the machine, by their titles.
        timeline: the moments of one job, in microseconds after the call.
        messages: how many of each kind of topic one job takes, if it runs alone.
        values: of the workloads.
        failures: what did not end as expected.
    """

    machine: dict[str, str] = field(default_factory=dict)
    ceilings: dict[str, float] = field(default_factory=dict)
    timeline: dict[str, float] = field(default_factory=dict)
    messages: dict[str, float] = field(default_factory=dict)
    values: Values = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, workload: str, queue: str, measured: Mapping[str, float]) -> None:
        """Add the figures of one round."""
        found = self.values.setdefault(workload, {}).setdefault(queue, {})
        for key, value in measured.items():
            found.setdefault(key, []).append(value)

    def of(self, workload: str, queue: str, key: str) -> list[float]:
        """The values of all rounds."""
        return self.values.get(workload, {}).get(queue, {}).get(key, [])

    def queues(self) -> list[str]:
        """The queues, in the order in which they first ran."""
        return list(dict.fromkeys(queue for found in self.values.values() for queue in found))


def save(findings: Findings, file: Path) -> None:
    """Write the findings as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"schema": SCHEMA, **asdict(findings)}, indent=1, ensure_ascii=False) + "\n")


def load(file: Path) -> Findings:
    """Read what `save` has written."""
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if document.pop("schema") != SCHEMA:
        raise ValueError(f"{file} has another schema: measure again")
    return Findings(**document)


def spread(values: Sequence[float]) -> float:
    """The distance of the highest and the lowest value, as a share of the median."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def cell(values: Sequence[float], digits: int) -> str:
    """The median, with half of the spread in percent if there are several values."""
    if not values:
        return NOTHING
    text = f"{median(values):,.{digits}f}"
    return f"{text} ±{spread(values) / 2:.0%}" if len(values) > 1 and spread(values) else text


def best_of(findings: Findings, figure: Figure, queues: Sequence[str]) -> float | None:
    """The best median of some queues; None if none of them has this figure."""
    medians = [median(values) for queue in queues if (values := findings.of(figure.workload, queue, figure.key))]
    if not medians or figure.more_is_better is None:
        return None
    return max(medians) if figure.more_is_better else min(medians)


def share_of_best(findings: Findings, figure: Figure, peers: Sequence[str]) -> str:
    """How many times better this product is than the best of the peers; below 1 it is worse."""
    own = findings.of(figure.workload, OWN, figure.key)
    best = best_of(findings, figure, peers)
    if not own or best is None or not median(own) or not best:
        return NOTHING
    ratio = median(own) / best if figure.more_is_better else best / median(own)
    return f"{ratio:.2f}"


def table(findings: Findings, titles: Mapping[str, str]) -> str:
    """The table of all figures that were measured: one column for each queue."""
    queues = [queue for queue in titles if queue in findings.queues()]
    peers = [queue for queue in queues if not queue.startswith(OWN)]
    head = ["", *(titles[queue] for queue in queues), "times the best peer"]
    rows = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for figure in FIGURES:
        cells = [cell(findings.of(figure.workload, queue, figure.key), figure.digits) for queue in queues]
        if any(text != NOTHING for text in cells):
            rows.append("| " + " | ".join([figure.title, *cells, share_of_best(findings, figure, peers)]) + " |")
    return "\n".join(rows) + "\n"


def ceilings(findings: Findings) -> str:
    """The table of the limits of the machine."""
    rows = [
        f"| {title} | {value:,.{0 if value >= _WHOLE_FROM else 2}f} |" for title, value in findings.ceilings.items()
    ]
    return "\n".join(["| Limit of this machine | |", "|---|---:|", *rows]) + "\n"


def timeline(findings: Findings) -> str:
    """The tables of the moments of one job, and of its messages. Those that are sent now and then are left out."""
    rows, before = ["| Moment | µs after the call | µs after the row above |", "|---|---:|---:|"], 0.0
    for what, at_us in findings.timeline.items():
        rows.append(f"| {what} | {at_us:,.0f} | {at_us - before:,.0f} |")
        before = at_us
    counts = [f"| `{topic}` | {count:.1f} |" for topic, count in findings.messages.items() if count >= _SHOWN_FROM]
    return "\n".join([*rows, "", "| Topic | messages per job |", "|---|---:|", *counts]) + "\n"


def costs(findings: Findings, titles: Mapping[str, str]) -> str:
    """Processor time per job of each part, in a drain with one worker."""
    rows = ["| Queue | Part | CPU µs per job |", "|---|---|---:|"]
    for queue, found in findings.values.get("drain", {}).items():
        for key, values in found.items():
            if key.startswith("CPU "):
                rows.append(f"| {titles.get(queue, queue)} | {key.removeprefix('CPU ')} | {cell(values, 0)} |")
    return "\n".join(rows) + "\n"


def machine(findings: Findings) -> str:
    """The facts about the machine, as a list."""
    return "\n".join(f"- {name}: {fact}" for name, fact in findings.machine.items()) + "\n"


def with_sections(page: str, sections: Mapping[str, str]) -> str:
    """A page with the text of its sections, each between ``<!-- name -->`` and ``<!-- /name -->``, replaced.

    Raises:
        ValueError: the page does not have a section.
    """
    for name, text in sections.items():
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->\n")
        if not end:
            raise ValueError(f"the page has no section {name!r}")
        page = f"{before}{begin}{text}{end}{after}"
    return page
