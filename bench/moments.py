"""Moments of many jobs, and their medians. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from statistics import median

Moment = tuple[float, str]
"""A time in seconds, and what happened."""


def medians(began: Sequence[float], moments: Iterable[Moment]) -> dict[str, float]:
    """The median of each kind of moment in microseconds after its job began, sorted; a job's first one of a kind counts.

    A moment belongs to the last job that began before it. A kind that not even half of the jobs have is left out.
    """
    found: dict[str, dict[int, float]] = {}
    for at, what in sorted(moments):
        if (job := bisect_right(began, at) - 1) >= 0:
            found.setdefault(what, {}).setdefault(job, at - began[job])
    usual = {what: median(each.values()) * 1e6 for what, each in found.items() if len(each) * 2 >= len(began)}
    return dict(sorted(usual.items(), key=lambda item: item[1]))
