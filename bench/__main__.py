"""``make bench``: this product beside what a user would pick instead, in one run.

Rounds alternate between the queues: each workload runs once with every queue before it runs again. Each time, the queue
starts on an empty folder. Client, server and workers share this machine. docs/performance.md explains the workloads.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from bench import plot, report, scoring
from bench.ceilings import measure_ceilings
from bench.flames import record_flames
from bench.machine import facts
from bench.peers.contestants import CONTESTANTS
from bench.peers.setup import ROOT, Setup
from bench.report import Findings
from bench.timeline import measure_timeline
from bench.workloads import WORKLOADS, Measured

RESULTS: Final = ROOT / "build" / "bench"
PAGE: Final = ROOT / "docs" / "performance.md"


def run_once(queue: str, name: str, scale: float) -> Measured:
    """Run one workload with one queue, on an empty folder."""
    workload = WORKLOADS[name]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # PostgreSQL runs as a user of its own
        setup: Setup = CONTESTANTS[queue].setup(Path(folder, "setup"), **workload.options)
        try:
            setup.open()
            return workload.measure(setup, max(20, round(workload.jobs * scale)))
        finally:
            setup.close()


def run_rounds(findings: Findings, queues: Sequence[str], names: Sequence[str], rounds: int, scale: float) -> None:
    """Run all rounds; what fails is reported, and does not end the run."""
    for number in range(1, rounds + 1):
        for name in names:
            for queue in queues:
                if not CONTESTANTS[queue].can_run(name, WORKLOADS[name].needs):
                    continue
                began = time.perf_counter()
                try:
                    measured = run_once(queue, name, scale)
                except Exception as error:  # noqa: BLE001 (libraries of eight queues have errors of their own)
                    findings.failures.append(f"{name}, {queue}, round {number}: {type(error).__name__}: {error}")
                    print(findings.failures[-1], file=sys.stderr, flush=True)
                    continue
                findings.add(name, queue, measured)
                shown = ", ".join(f"{key} {value:,.2f}" for key, value in measured.items())
                print(f"{number} {name:17} {queue:18} {time.perf_counter() - began:5.1f} s: {shown}", flush=True)


def write_page(findings: Findings) -> None:
    """Write the tables of docs/performance.md."""
    titles = {name: contestant.title for name, contestant in CONTESTANTS.items()}
    sections = {
        "machine": report.machine(findings),
        "ceilings": report.ceilings(findings),
        "comparison": report.table(findings, titles),
        "costs": report.costs(findings, titles),
    }
    if findings.timeline:
        sections["timeline"] = report.timeline(findings)
    if (faults := RESULTS / "faults.json").exists():
        scores = scoring.load_scores(faults)
        sections["faults"] = scoring.table(scores, titles)
        if plot.draw_faults(scores, titles, picture := PAGE.with_name("performance-faults.svg")):
            sections["fault-plot"] = f"![Latency under faults]({picture.name})\n"
    if plot.draw(findings, titles, picture := PAGE.with_name("performance.svg")):
        sections["plot"] = f"![The main figures]({picture.name})\n"
    PAGE.write_text(report.with_sections(PAGE.read_text(encoding="utf-8"), sections), encoding="utf-8")


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    usual = [name for name, workload in WORKLOADS.items() if not workload.extra]
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=usual, metavar="NAME")
    parser.add_argument("--peers", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of jobs (default: 1)")
    parser.add_argument("--out", type=Path, default=RESULTS / "latest.json", help="default: build/bench/latest.json")
    parser.add_argument("--add", action="store_true", help="add to the findings in that file")
    parser.add_argument(
        "--no-ceilings", action="store_true", help="measure neither the limits of the machine nor the timeline"
    )
    parser.add_argument("--flames", action="store_true", help="draw a flame graph of each process in a drain, too")
    parser.add_argument("--write-docs", type=Path, metavar="JSON", help="only write docs/performance.md from findings")
    parser.add_argument("--list", action="store_true", help="only list workloads and peers")
    return parser


def main() -> int:
    """Run the comparison; return 1 if something failed."""
    arguments = options().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server stays behind
    if arguments.list:
        print(f"workloads: {' '.join(WORKLOADS)}\npeers: {' '.join(CONTESTANTS)}")
        return 0
    if arguments.write_docs is not None:
        write_page(report.load(arguments.write_docs))
        return 0
    findings = report.load(arguments.out) if arguments.add and arguments.out.exists() else Findings()
    findings.machine = facts(arguments.rounds, arguments.scale)
    try:
        if not arguments.no_ceilings:
            findings.ceilings = measure_ceilings()
            findings.timeline, findings.messages = measure_timeline()
        with suppress(KeyboardInterrupt):
            run_rounds(findings, arguments.peers, arguments.workloads, arguments.rounds, arguments.scale)
    finally:
        report.save(findings, arguments.out)
    titles = {name: contestant.title for name, contestant in CONTESTANTS.items()}
    print(f"\n{report.ceilings(findings)}\n{report.table(findings, titles)}\nFindings: {arguments.out}")
    plot.draw(findings, titles, arguments.out.with_suffix(".svg"))
    if arguments.flames:
        record_flames(arguments.out.parent / "flames", max(2000, round(20_000 * arguments.scale)))
    return 1 if findings.failures else 0


if __name__ == "__main__":
    sys.exit(main())
