"""Percentiles, processor time of process trees, and tables."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

from tests.harness.processes import children

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share (0 to 1) of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(values: Sequence[float]) -> str:
    """Median and 99th percentile of times in seconds."""
    return f"p50 {percentile(values, 0.5) * 1e3:.2f} ms, p99 {percentile(values, 0.99) * 1e3:.2f} ms"


def cpu_s(pid: int, *, with_children: bool = True) -> float:
    """Processor time of the threads of a process, and of its living and reaped children, in seconds (proc(5)).

    The time of living threads is exact. That of reaped children is in ticks of 10 ms.
    """
    own = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            own += int((task / "schedstat").read_text().split()[0]) / 1e9
    if not with_children:
        return own
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own += sum(int(ticks) for ticks in fields[13:15]) / _TICKS_PER_S
    return own + sum(_child_cpu_s(child) for child in children(pid))


def _child_cpu_s(pid: int) -> float:
    with suppress(FileNotFoundError, ProcessLookupError):  # it ended: its parent has its time now
        return cpu_s(pid)
    return 0.0


def waits(pid: int) -> int:
    """How often the threads of a process and of its living children have waited, and given up the processor."""
    count = 0
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            status = (task / "status").read_text()
            count += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        count += sum(map(waits, children(pid)))
    return count


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident and proportional set size of one process, in MiB."""

    rss: float
    pss: float

    @property
    def text(self) -> str:
        """Both."""
        return f"{self.rss:.1f}/{self.pss:.1f}"


def memory(pid: int) -> Memory:
    """Memory of one process, without its children (proc(5))."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines[1:])}
    return Memory(kib["Rss"] / 1024, kib["Pss"] / 1024)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the second value over the first, by least squares."""
    xs, ys = zip(*points, strict=True)
    return linear_regression(xs, ys).slope


def show(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print one table."""
    print(f"\n{title}")
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")
