"""Try mutants of the modules that decide against the fast tests, and print the share that they notice."""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from random import SystemRandom
from types import MappingProxyType
from typing import Final

import pytest

from stockworker.adapters import clock
from tests.harness.commits import chosen_base, git
from tests.mutation.mutators import mutants
from tests.mutation.sample import Equivalent, Try, chosen_modules, importers, sample, stages
from tests.mutation.suite import FAST, PRODUCT, ROOT, Called, Change, record, recorded, start

GOAL_PERCENT: Final = 95.0
EQUIVALENTS: Final = Path(__file__).with_name("equivalents.toml")
_CACHE: Final = ROOT / ".mutation"
_SHARES: Final = 4
"""The tests are recorded in as many processes, on each machine: what a test calls can depend on the tests before it."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument(
        "module", nargs="*", help="such as 'dispatcher/machine' or 'protocol/*'; by default all that decide"
    )
    parser.add_argument("--samples", type=int, default=10, help="mutants of each module (default: 10)")
    parser.add_argument("--seed", type=int, help="repeat the choice of this seed; random if not given")
    parser.add_argument(
        "--goal", type=float, default=GOAL_PERCENT, help=f"percent to notice (default: {GOAL_PERCENT:g})"
    )
    parser.add_argument(
        "--changed-since",
        nargs="?",
        const="",
        metavar="BASE",
        help="only modules that have changed since this commit (without BASE: see tests/harness/commits.py)",
    )
    parser.add_argument(
        "--minutes", type=float, help="begin no mutant after this time, which starts with the first one"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at the same time")
    options = parser.parse_args()
    try:
        modules = chosen_modules([*sources()], options.module)
        if options.changed_since is not None:
            modules = _changed(modules, options.changed_since)
    except ValueError as error:
        parser.error(str(error))
    if not modules:
        print("no module that decides has changed")
        return 0
    seed = SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"{len(modules)} modules, up to {options.samples} mutants of each, seed {seed}", flush=True)
    tries = list(sample({module: mutants(sources()[module].read_text()) for module in modules}, options.samples, seed))
    tests = calls(options.jobs)
    until = None if options.minutes is None else clock.monotonic() + 60 * options.minutes
    around = importers({module: path.read_text() for module, path in sources().items()})
    results = Run(tests, equivalents(), options.jobs, until, around).all(tries)
    return show(results, options.goal)


def sources() -> dict[str, Path]:
    """All modules of the product by their names, such as `dispatcher/machine`."""
    return {str(path.relative_to(PRODUCT).with_suffix("")): path for path in sorted(PRODUCT.rglob("*.py"))}


def _changed(modules: Sequence[str], wanted: str) -> list[str]:
    """Those that have changed since a commit; all, if there is none to compare with.

    Raises:
        ValueError: this clone does not have the wanted commit.
    """
    base = chosen_base(wanted)
    if base is None and wanted:
        raise ValueError(f"this clone has no commit {wanted}")
    if base is None:
        print("this clone has no earlier commit, so all modules have changed")
        return [*modules]
    print(f"modules that have changed since {git('log', '-1', '--format=%h %s', base)}")
    changed = changed_since(base)
    return [module for module in modules if module in changed]


def changed_since(base: str) -> set[str]:
    """The modules that have changed since a commit, those that are not committed included."""
    command = ["git", "diff", "--name-only", base, "--", str(PRODUCT)]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return {module for module, path in sources().items() if str(path.relative_to(ROOT)) in names}


def equivalents() -> list[Equivalent]:
    """The mutants that change nothing that matters, from the data file."""
    return [Equivalent(**entry) for entry in tomllib.loads(EQUIVALENTS.read_text()).get("equivalent", [])]


def calls(jobs: int) -> dict[str, Called]:
    """Which functions each test calls: recorded once for each state of the product and the tests."""
    files = [
        file for part in FAST for file in ([ROOT / part] if part.endswith(".py") else (ROOT / part).glob("test_*.py"))
    ]
    read = (*sources().values(), *sorted(files), *sorted((ROOT / "tests" / "harness").rglob("*.py")))
    state = hashlib.sha256(b"".join(path.read_bytes() for path in read)).hexdigest()
    cache = _CACHE / f"calls-{state[:16]}.json"
    if not cache.exists():
        print("recording which functions each test calls", flush=True)
        _CACHE.mkdir(exist_ok=True)
        for old in _CACHE.iterdir():
            old.unlink()
        by_size = sorted(files, key=lambda file: (-file.stat().st_size, file.name))  # for shares of about the same time
        found = _recorded([by_size[number::_SHARES] for number in range(_SHARES)], jobs)
        cache.write_text(json.dumps({test: [called.cpu_s, sorted(called.functions)] for test, called in found.items()}))
    return {test: Called(cpu_s, frozenset(names)) for test, (cpu_s, names) in json.loads(cache.read_text()).items()}


def _recorded(shares: Sequence[Sequence[Path]], jobs: int) -> dict[str, Called]:
    """Run each share of the test files in a process of its own, with a record of what the tests call."""
    records = [_CACHE / f"share-{number}.json" for number in range(len(shares))]
    running: dict[int, Path] = {}
    failed: list[str] = []
    for share, record_file in zip(shares, records, strict=True):
        if len(running) == jobs:
            failed += _await_record(running)
        process = record([str(file.relative_to(ROOT)) for file in share], record_file, record_file.with_suffix(".log"))
        running[process] = record_file.with_suffix(".log")
    while running:
        failed += _await_record(running)
    if failed:
        sys.exit("\n".join([*failed, "the fast tests can not be recorded: correct that first"]))
    return recorded(records)


def _await_record(running: dict[int, Path]) -> list[str]:
    """What the first process to end has printed, if it has no record. Tests that fail are only printed."""
    process, status = os.wait()
    output = running.pop(process).read_text()
    if os.waitstatus_to_exitcode(status) not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return [output]
    for line in output.splitlines():
        if line.startswith("FAILED "):
            print(f"left out, because it fails without any change: {line.removeprefix('FAILED ')}", flush=True)
    return []


class Run:
    """Tries mutants, some at the same time.

    Args:
        tests: what they call.
        equivalents: mutants that need not be noticed.
        jobs: how many at the same time.
        until: begins no mutant after that time of the monotonic clock.
        importers: the modules that import each module.
    """

    def __init__(
        self,
        tests: dict[str, Called],
        equivalents: Sequence[Equivalent],
        jobs: int,
        until: float | None,
        importers: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        self._tests = tests
        self._equivalents = equivalents
        self._jobs = jobs
        self._until = until
        self._importers = importers
        self._running: dict[int, tuple[Try, list[list[str]]]] = {}
        self.results: dict[str, Counter[str]] = {}

    def all(self, tries: Sequence[Try]) -> dict[str, Counter[str]]:
        """Try them all; return the number of each result for each module."""
        waiting = self._worthwhile(tries)
        while True:
            while len(self._running) < self._jobs and (each := next(waiting, None)) is not None:
                self._next_stage(each, stages(each.mutant, each.module, self._tests, self._importers))
            if not self._running:
                return self.results
            self._await_one()

    def _worthwhile(self, tries: Sequence[Try]) -> Iterator[Try]:
        for each in tries:
            if self._until is not None and clock.monotonic() > self._until:
                self._count(each, "no time")
            elif any(known.covers(each.module, each.mutant) for known in self._equivalents):
                self._count(each, "equivalent")
            else:
                yield each

    def _next_stage(self, each: Try, stages: list[list[str]]) -> None:
        if not stages:
            self._count(each, "survived")
            return
        tests, *rest = stages
        change = Change(PRODUCT / f"{each.module}.py", each.mutant.source)
        process = start(tests, change, cpu_s=sum(self._tests[test].cpu_s for test in tests))
        self._running[process] = each, rest

    def _await_one(self) -> None:
        process, status = os.wait()
        each, rest = self._running.pop(process)
        if status:
            self._count(each, "killed")
        else:
            self._next_stage(each, rest)

    def _count(self, each: Try, result: str) -> None:
        self.results.setdefault(each.module, Counter())[result] += 1
        if result == "survived":
            name = each.mutant.name or "outside of functions"
            print(
                f"survived: agent/stockworker/{each.module}.py:{each.mutant.line} ({name}): {each.mutant.change}",
                flush=True,
            )


def show(results: dict[str, Counter[str]], goal: float) -> int:
    """Print the score of each module and of all; return 1 if it is below the goal. In a small sample, one may survive."""
    total: Counter[str] = sum(results.values(), Counter())
    for name, counts in [*sorted(results.items()), ("all", total)]:
        judged = counts["killed"] + counts["survived"]
        percent = 100 * counts["killed"] / judged if judged else 100.0
        extra = "".join(f", {counts[kind]} {kind}" for kind in ("equivalent", "no time") if counts[kind])
        print(f"{name:32} {counts['killed']:4} of {judged:4} noticed, {percent:5.1f} %{extra}")
    judged = total["killed"] + total["survived"]
    if total["survived"] > max(1.0, (100 - goal) / 100 * judged):
        print(
            f"below the goal of {goal:g} %: write a test for each survivor, or list it in {EQUIVALENTS.relative_to(ROOT)}"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
