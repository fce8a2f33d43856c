"""Run seeds on virtual time: one, to replay what it found; or many, for so many simulated hours."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count, islice
from random import SystemRandom
from typing import Final

from stockworker.adapters import clock
from tests.simulation.invariants import Law, Violation
from tests.simulation.scenario import Outcome, run

_AHEAD: Final = 4
"""Seeds handed to the processes before the first of them is done."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="the seed to replay, or the first of many; random if not given")
    parser.add_argument("--hours", type=float, help="simulate many seeds, until they make up so many hours")
    parser.add_argument("--trace", action="store_true", help="print everything that happens (one seed)")
    options = parser.parse_args()
    seed = SystemRandom().randrange(1 << 40) if options.seed is None else options.seed
    if options.hours is not None:
        return _many(seed, options.hours)
    try:
        outcome = run(seed, sys.stdout if options.trace else None)
    except Violation as violation:
        sys.stdout.write(f"{violation}\n")
        return 1
    _tell([outcome], 0.0)
    return 0


def _many(first: int, hours: float) -> int:
    """Run seeds from `first` on, in two processes."""
    began, outcomes = clock.monotonic(), list[Outcome]()
    with ProcessPoolExecutor(2) as pool:
        for found in _in_order(pool, first, hours):
            if isinstance(found, str):
                sys.stdout.write(f"\n{found}\n")
                pool.shutdown(cancel_futures=True)
                return 1
            outcomes.append(found)
            took_s = clock.monotonic() - began
            simulated = sum(outcome.hours for outcome in outcomes)
            steps = sum(outcome.steps for outcome in outcomes)
            sys.stdout.write(
                f"\r{simulated:,.0f} of {hours:,.0f} simulated hours, {steps / took_s:,.0f} steps/s, "
                f"{len(outcomes)} seeds from {first} in {took_s:.0f} s "
            )
            sys.stdout.flush()
    sys.stdout.write("\n")
    _tell(outcomes, clock.monotonic() - began)
    return 0


def _in_order(pool: ProcessPoolExecutor, first: int, hours: float) -> Iterator[Outcome | str]:
    """The outcomes of seed after seed: which seeds are run does not depend on how fast they are."""
    seeds = count(first)
    running = [pool.submit(_run, seed) for seed in islice(seeds, _AHEAD)]
    simulated = 0.0
    while simulated < hours:
        found = running.pop(0).result()
        yield found
        simulated += found.hours if isinstance(found, Outcome) else 0.0
        running.append(pool.submit(_run, next(seeds)))
    for future in running:
        future.cancel()


def _run(seed: int) -> Outcome | str:
    try:
        return run(seed)
    except Violation as violation:
        return str(violation)


def _tell(outcomes: list[Outcome], took_s: float) -> None:
    """What the hours contained."""
    hours = sum(outcome.hours for outcome in outcomes)
    faults, checked = Counter[str](), Counter[Law]()
    for outcome in outcomes:
        faults += outcome.faults
        checked += outcome.checked
    jobs, attempts = sum(outcome.jobs for outcome in outcomes), sum(outcome.attempts for outcome in outcomes)
    weathers = Counter(outcome.weather for outcome in outcomes)
    lines = [
        f"{len(outcomes)} seeds ({', '.join(f'{number} {name}' for name, number in sorted(weathers.items()))})",
        f"{hours:,.1f} hours in {took_s:.0f} s, {sum(outcome.steps for outcome in outcomes):,} steps",
        f"an hour has {jobs / hours:.1f} jobs, {attempts / hours:.1f} attempts, {faults.total() / hours:.1f} faults",
        f"faults: {', '.join(f'{number} {name}' for name, number in faults.most_common())}",
        f"{len(checked)} of {len(Law)} laws were checked {checked.total():,} times, none was broken",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
