"""``make bench-faults``: a steady load, and a fault in the middle of it, for this product and its peers.

A producer submits at a fixed rate, whatever happens. Each job counts from the moment at which it was due. The time after
the fault is compared with the time before it: `bench.scoring`. A worker that exits is started again, as by systemd.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from bench import plot, scoring
from bench.apps.driving import schedule
from bench.machine import facts
from bench.peers.contestants import CONTESTANTS
from bench.peers.setup import ROOT, Setup, SetupFailed
from bench.scoring import Load, Score, Scores
from bench.workloads import first_ends, rate
from stockworker.adapters import clock

RESULTS: Final = ROOT / "build" / "bench" / "faults.json"
_LATE_S: Final = 60.0
"""How long jobs may end after the end of the load."""
_LOOK_S: Final = 0.5
_MB: Final = 1e6
_WARM_UP: Final = 500
_OTHERS: Final = 10_000_000
"""The number of the first job that does not belong to the load."""

Do = Callable[[Setup, float], Mapping[str, float]]
"""Does the fault for a number of seconds; returns further figures."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        title: for tables.
        do: see `Do`.
        seconds: how long it lasts, at scale 1.
        needs: the fault that a setup must know, if any.
        options: how the setup is made.
        load: the rate before, during and after, as multiples of the capacity; None means the fixed rate.
    """

    title: str
    do: Do
    seconds: float = 30.0
    needs: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    load: tuple[float, float, float] | None = None


def _nothing(setup: Setup, seconds: float) -> Mapping[str, float]:
    watch(setup, seconds)
    return {}


def _kill_workers(setup: Setup, seconds: float) -> Mapping[str, float]:
    """Kill the worker every 20 s."""
    kills = max(1, round(seconds / 20.0))
    for _ in range(kills):
        setup.kill_workers()
        setup.start_worker()
        watch(setup, seconds / kills)
    return {"kills": kills}


def _absence(part: str) -> Do:
    def do(setup: Setup, seconds: float) -> Mapping[str, float]:
        setup.kill(part)
        watch(setup, seconds)
        began = clock.monotonic()
        setup.restart(part)
        return {"start s": clock.monotonic() - began}

    return do


def _cut(setup: Setup, seconds: float) -> Mapping[str, float]:
    """Cut all connections every 5 s."""
    cuts = max(1, round(seconds / 5.0))
    for _ in range(cuts):
        setup.cut()
        watch(setup, seconds / cuts)
    return {"cuts": cuts}


def _pin(setup: Setup, seconds: float) -> Mapping[str, float]:
    """Keep a read transaction open, so that the store can't reuse what it writes."""
    before = setup.store_bytes()
    with setup.reader():
        watch(setup, seconds)
        return {"store grew by MB": (setup.store_bytes() - before) / _MB}


def _connect(setup: Setup, seconds: float) -> Mapping[str, float]:
    """Connect 300 clients that do nothing; they stay until the end of the load."""
    until = clock.monotonic() + seconds
    others = setup.make_driver()
    connected = others.ask("idle", count=300)["connected"]
    watch(setup, max(0.0, until - clock.monotonic()))
    return {"clients": connected}


FAULTS: Final[dict[str, Fault]] = {
    "none": Fault("nothing", _nothing),
    "worker-kills": Fault("worker killed every 20 s", _kill_workers, 120.0),
    "broker-down": Fault("broker down", _absence("broker"), needs="broker"),
    "dispatcher-down": Fault("dispatcher down", _absence("dispatcher"), needs="dispatcher"),
    "cuts": Fault("connections cut every 5 s", _cut, 60.0, needs="cuts", options={"proxied": True}),
    "overload": Fault("1.5 times the capacity", _nothing, 30.0, load=(0.5, 1.5, 0.5)),
    "long-reader": Fault("a long reader of the store", _pin, 60.0, needs="store"),
    "idle-clients": Fault("300 idle clients", _connect, 60.0, needs="clients"),
}


def watch(setup: Setup, seconds: float) -> None:
    """Wait, and start workers that have exited."""
    until = clock.monotonic() + seconds
    while (left := until - clock.monotonic()) > 0:
        time.sleep(min(_LOOK_S, left))
        setup.revive_workers()


def capacity(setup: Setup, jobs: int) -> float:
    """The rate at which a worker drains jobs that were there before it, per second. It leaves their records behind."""
    before = setup.records.count
    setup.driver.ask("together", first=_OTHERS, count=jobs)
    setup.start_worker()
    setup.await_records(before + jobs)
    return rate(setup, before, jobs)


def suffer(setup: Setup, fault: Fault, calm_s: float, fault_s: float, per_s: float) -> Score:
    """Run the load with the fault in it."""
    full = capacity(setup, _WARM_UP if fault.load is None else max(_WARM_UP, round(per_s * calm_s)))
    rates = [per_s] * 3 if fault.load is None else [share * full for share in fault.load]
    earlier = setup.records.count
    segments = list(zip(rates, (calm_s, fault_s, 2 * calm_s), strict=True))
    began = clock.monotonic()
    setup.driver.order("steady", first=0, segments=segments)
    watch(setup, calm_s)
    begins = clock.monotonic()
    notes = fault.do(setup, fault_s)
    ends = clock.monotonic()
    watch(setup, max(0.0, began + calm_s + fault_s + 2 * calm_s - clock.monotonic()))
    if (late := ends - begins - fault_s) > calm_s:
        raise SetupFailed(f"the fault took {late:.1f} s too long: choose a larger scale")
    answer = setup.driver.answer()
    due = schedule(segments)
    found = first_ends(setup, range(len(due)), _LATE_S)
    began = answer["began"]
    ended = [found[number] - began if number in found else None for number in range(len(due))]
    executions = setup.records.count - earlier
    return scoring.score(
        Load(due, ended, (begins - began, ends - began), calm_s + fault_s + 2 * calm_s, executions),
        {**notes, **({"failed calls": answer["errors"]} if answer["errors"] else {})},
    )


@contextmanager
def opened(queue: str, fault: Fault) -> Iterator[Setup]:
    """The queue, on an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # PostgreSQL runs as a user of its own
        setup = CONTESTANTS[queue].setup(Path(folder, "setup"), **fault.options)
        try:
            setup.open()
            yield setup
        finally:
            setup.close()


def run_all(arguments: argparse.Namespace, scores: Scores) -> int:
    """Run all faults with all queues; return the number of failures."""
    failures = 0
    for number in range(1, arguments.rounds + 1):
        for name in arguments.faults:
            fault = FAULTS[name]
            for queue in arguments.peers:
                if not CONTESTANTS[queue].can_run(name, fault.needs):
                    continue
                try:
                    with opened(queue, fault) as setup:
                        found = suffer(
                            setup,
                            fault,
                            arguments.calm * arguments.scale,
                            fault.seconds * arguments.scale,
                            arguments.rate,
                        )
                except Exception as error:  # noqa: BLE001 (libraries of eight queues have errors of their own)
                    failures += 1
                    print(
                        f"{name}, {queue}, round {number}: {type(error).__name__}: {error}", file=sys.stderr, flush=True
                    )
                    continue
                scores.setdefault(fault.title, {}).setdefault(queue, []).append(found)
                print(f"{number} {name:15} {queue:12} {replace(found, seconds=[])}", flush=True)
                scoring.save(scores, facts(arguments.rounds, arguments.scale), arguments.out)
    return failures


def main() -> int:
    """Run; return 1 if something failed."""
    usual = [name for name, contestant in CONTESTANTS.items() if not contestant.only]
    parser = argparse.ArgumentParser(prog="make bench-faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS), metavar="NAME")
    parser.add_argument("--peers", nargs="+", choices=list(CONTESTANTS), default=usual, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rate", type=float, default=200.0, help="jobs per second (default: 200)")
    parser.add_argument("--calm", type=float, default=30.0, help="seconds before the fault; twice as long after it")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual durations (default: 1)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: build/bench/faults.json")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server stays behind
    scores: Scores = {}
    failures = run_all(arguments, scores)
    titles = {name: contestant.title for name, contestant in CONTESTANTS.items()}
    plot.draw_faults(scores, titles, arguments.out.with_suffix(".svg"))
    print("\n" + scoring.table(scores, titles))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
