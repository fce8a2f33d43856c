"""``make bench-install``: the time from the installation to a ready worker.

On each release of Debian, with apt and with dnf: a booted machine has certificates, configuration and a running Mosquitto.
The benchmark installs all packages, and then starts the dispatcher and a worker, one after the other.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from bench.figures import percentile, show
from stockworker.adapters import clock
from tests.harness import site
from tests.harness.guest import Guest, Overlay
from tests.harness.package_tools import WITH_APT, WITH_DNF, System

GOAL_S = 5.0
_DIST = Path(__file__).resolve().parents[1] / "dist"
_STEPS = ("install", "start of the dispatcher", "start of the worker", "whole")


def prepare(system: System, host: str, folder: Path) -> tuple[Path, ...]:
    """The layers of a machine on which everything but the packages is installed."""
    with Overlay(system.layers(), folder) as image:
        system.tool.install(image, _DIST)
        site.set_up(image, host)
        system.tool.remove(image)
    return (folder / "upper", *system.layers())


def measure(system: System, layers: Sequence[Path], host: str, folder: Path) -> list[float]:
    """The seconds of each step, on a machine that has just booted."""
    with Guest(layers, folder, host) as guest:
        guest.wait_until(lambda: site.is_active(guest, "mosquitto"), "the broker runs")
        moments = [clock.monotonic()]
        system.tool.install(guest, _DIST)
        moments.append(clock.monotonic())
        for service in ("stockworker-dispatcher", "stockworker@1"):
            guest.run("systemctl", "start", service)
            moments.append(clock.monotonic())
        if not guest.show("stockworker@1", "StatusText").startswith("connected to "):
            raise RuntimeError(guest.journal("stockworker@1"))
    steps = [after - before for before, after in pairwise(moments)]
    return [*steps, sum(steps)]


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="machines of each kind (default: %(default)s)")
    times = parser.parse_args().times
    for system in (*WITH_APT, *WITH_DNF):
        host = f"{system}-{os.getpid()}"
        with tempfile.TemporaryDirectory() as name:
            layers = prepare(system, host, Path(name) / "ready")
            runs = [measure(system, layers, host, Path(name) / str(number)) for number in range(times)]
        rows = [
            (step, f"p50 {percentile(taken, 0.5):.1f} s, max {max(taken):.1f} s")
            for step, taken in zip(_STEPS, zip(*runs, strict=True), strict=True)
        ]
        show(f"{system}, {times} machines (goal: {GOAL_S:g} s)", rows)


if __name__ == "__main__":
    main()
