"""A plot of the main figures, as SVG."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Final

import matplotlib as mpl

from bench.report import FIGURES, OWN, Figure, Findings

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
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same findings give the same file
    from matplotlib import pyplot as plt  # noqa: PLC0415 (after the choice of the backend)

    rows = -(-len(shown) // _COLUMNS)
    drawing, axes = plt.subplots(rows, _COLUMNS, figsize=(15, 3.6 * rows), squeeze=False, layout="constrained")
    for axis, figure in zip(axes.flat, shown, strict=False):
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
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    file.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(file, metadata={"Date": None})
    plt.close(drawing)
    return True


def _has(findings: Findings, figure: Figure) -> bool:
    return any(findings.of(figure.workload, queue, figure.key) for queue in findings.queues())
