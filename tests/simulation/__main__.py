"""Run seeds on virtual time: one, to replay what it found; or many, until they fill a number of simulated hours."""

import argparse
import sys
from collections import Counter
from contextlib import closing
from random import SystemRandom

from stockworker.adapters import clock
from tests.simulation import seeds
from tests.simulation.invariants import Law, Violation
from tests.simulation.scenario import Outcome, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="the seed to replay, or the first of many; random if not given")
    parser.add_argument("--hours", type=float, help="simulate many seeds, until they make up this number of hours")
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
    """Run seeds from `first` on: how many does not depend on how fast they are."""
    began, outcomes = clock.monotonic(), list[Outcome]()
    simulated = 0.0
    with closing(seeds.outcomes(first)) as found:
        while simulated < hours:
            outcome = next(found)
            if isinstance(outcome, str):
                sys.stdout.write(f"\n{outcome}\n")
                return 1
            outcomes.append(outcome)
            took_s = clock.monotonic() - began
            simulated += outcome.hours
            steps = sum(outcome.steps for outcome in outcomes)
            sys.stdout.write(
                f"\r{simulated:,.0f} of {hours:,.0f} simulated hours, {steps / took_s:,.0f} steps/s, "
                f"{len(outcomes)} seeds from {first} in {took_s:.0f} s "
            )
            sys.stdout.flush()
    sys.stdout.write("\n")
    _tell(outcomes, clock.monotonic() - began)
    return 0


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
