"""Plots of the main figures and of the faults, as SVG."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import matplotlib as mpl

from bench.report import FIGURES, OWN, Figure, Findings
from bench.scoring import Scores

_SHOWN: Final = (
    ("drain", "jobs"),
    ("drain-2", "jobs"),
    ("submit", "submissions"),
    ("latency", "start p50"),
    ("latency", "result p50"),
    ("drain", "CPU all"),
)
_COLUMNS: Final = 3


def draw(findings: Findings, titles: Mapping[str, str], file: Path) -> bool:
    """Draw the main figures: a bar for each queue, with the lowest and the highest round. False if there are none."""
    shown = [figure for figure in FIGURES if (figure.workload, figure.key) in _SHOWN and _has(findings, figure)]
    if not shown:
        return False
    axes, finish = _grid(len(shown), file)
    for axis, figure in zip(axes, shown, strict=True):
        bars = [(queue, findings.of(figure.workload, queue, figure.key)) for queue in titles]
        bars = [(queue, values) for queue, values in reversed(bars) if values]
        middles = [median(values) for _, values in bars]
        errors = [
            [middle - min(values) for middle, (_, values) in zip(middles, bars, strict=True)],
            [max(values) - middle for middle, (_, values) in zip(middles, bars, strict=True)],
        ]
        colours = ["tab:blue" if queue.startswith(OWN) else "silver" for queue, _ in bars]
        axis.barh([titles[queue] for queue, _ in bars], middles, xerr=errors, color=colours)
        axis.set_title(f"{figure.title} ({'more' if figure.more_is_better else 'less'} is better)", fontsize=9)
        axis.tick_params(labelsize=8)
    finish()
    return True


def draw_faults(scores: Scores, titles: Mapping[str, str], file: Path) -> bool:
    """Draw the rolling p99 of the last round of each fault: a line for each queue. False if there is none."""
    if not scores:
        return False
    axes, finish = _grid(len(scores), file)
    for axis, (fault, found) in zip(axes, scores.items(), strict=True):
        for queue, rounds in found.items():
            seconds, _, p99s_ms = zip(*rounds[-1].seconds, strict=True)
            axis.plot(seconds, p99s_ms, label=titles.get(queue, queue), linewidth=2 if queue.startswith(OWN) else 1)
        axis.set_yscale("log")
        axis.set_title(f"{fault}: p99, ms, by the second in which a job was due", fontsize=9)
        axis.legend(fontsize=7)
    finish()
    return True


def _grid(count: int, file: Path) -> tuple[Sequence[Any], Callable[[], None]]:
    """The axes of a drawing, and a function that writes it."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same findings give the same file
    from matplotlib import pyplot as plt  # noqa: PLC0415 (after the choice of the backend)

    rows = -(-count // _COLUMNS)
    drawing, axes = plt.subplots(rows, _COLUMNS, figsize=(15, 3.6 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[count:]:
        axis.set_axis_off()

    def finish() -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(file, metadata={"Date": None})
        plt.close(drawing)

    return list(axes.flat[:count]), finish


def _has(findings: Findings, figure: Figure) -> bool:
    return any(findings.of(figure.workload, queue, figure.key) for queue in findings.queues())
