"""Fuzz the parsers of untrusted bytes: all in parallel for some minutes each, or replay one input."""

import argparse
import os
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import SystemRandom

from stockworker.adapters import clock
from tests.fuzz.fuzzing import Fuzzer, Report, execute, save
from tests.fuzz.targets import TARGETS

FINDINGS = Path("fuzz-findings")
_TELL_EVERY_S = 15.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)}; all by default")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to run each target (default: 1)")
    parser.add_argument(
        "--calls",
        type=int,
        help="stop each target after this number of function calls: the same mutants on every machine",
    )
    parser.add_argument("--seed", type=int, help="repeat the mutants of this seed; random if not given")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one target on the content of a file")
    options = parser.parse_args()
    names = options.target or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"unknown target {', '.join(sorted(unknown))}; known: {', '.join(TARGETS)}")
    if options.replay is not None:
        if len(names) != 1:
            parser.error("name the one target that must run the file")
        return replay(names[0], options.replay)
    seed = SystemRandom().randrange(1 << 40) if options.seed is None else options.seed
    tell(f"{len(names)} targets, {options.minutes:g} minutes each, seed {seed}, {os.cpu_count()} at a time")
    with ProcessPoolExecutor() as pool:
        runs = [pool.submit(fuzz, name, seed, options.minutes * 60, options.calls) for name in names]
        reports = dict(zip(names, (run.result() for run in runs), strict=True))
    return show(reports, seed)


def fuzz(name: str, seed: int, most_s: float, most_calls: int | None) -> Report:
    """Run one target until its time or number of calls is up."""
    began = told = clock.monotonic()
    fuzzer = Fuzzer(name, TARGETS[name], seed)
    while (now := clock.monotonic()) - began < most_s:
        if most_calls is not None and fuzzer.report.calls >= most_calls:
            break
        if now - told > _TELL_EVERY_S:
            told = now
            tell(f"{name}: {summary(fuzzer.report)} after {now - began:.0f} s")
        fuzzer.step()
    tell(f"{name}: {summary(fuzzer.report)}: done")
    return fuzzer.report


def summary(report: Report) -> str:
    return f"{report.executions:,} executions, {report.kept} new inputs, {len(report.findings)} findings"


def show(reports: dict[str, Report], seed: int) -> int:
    """Print and save what was found; the exit status."""
    for name, report in reports.items():
        for kind, (content, trace) in report.findings.items():
            file = save(FINDINGS, name, content)
            tell(f"\n{name}: {kind}\n{trace}seed {seed}; repeat with: python -m tests.fuzz {name} --replay {file}")
    executions = sum(report.executions for report in reports.values())
    findings = sum(len(report.findings) for report in reports.values())
    tell(f"{len(reports)} targets, {executions:,} executions, {findings} findings, seed {seed}")
    return 1 if findings else 0


def replay(name: str, file: Path) -> int:
    """Run a target on a file; the exit status."""
    try:
        execute(TARGETS[name], file.read_bytes())
    except OSError as error:
        tell(f"{file} can't be read: {error.strerror}")
        return 2
    except BaseException as error:  # noqa: BLE001 (whatever it raises is the finding)
        tell("".join(traceback.format_exception(error)))
        return 1
    tell(f"{name} keeps its promise for {file}")
    return 0


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
