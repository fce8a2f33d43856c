"""Jobs that `stockworker migrate` moves in a second, from each kind of old queue: `make bench-migration`."""

import argparse
import json
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.harness import command
from tests.harness.fleet import Fleet
from tests.harness.old_queues import OLD_QUEUES, numbered
from tests.harness.old_topics import TOPIC_QUEUES

PRIORITIES = ("high", "normal", "low")
KINDS = {**OLD_QUEUES, **TOPIC_QUEUES}


def rate(kind: str, count: int) -> float:
    """Move jobs of mixed types and priorities once, by the command with its start; return jobs per second."""
    with tempfile.TemporaryDirectory(prefix="bench-migration-") as folder:
        place = Path(folder)
        with Fleet(place / "fleet", workers=0) as fleet, KINDS[kind](place) as queue:
            jobs = numbered(range(count))
            queue.add(
                replace(job, type=f"type-{job.number % 3}", priority=PRIORITIES[job.number // 3 % 3]) for job in jobs
            )
            report = str(place / "report.jsonl")
            words = ("migrate", queue.url, *queue.options, "--report", report, "--json", "--quiet")
            program = command.arguments(fleet.config_file("client"), *words)
            began = time.perf_counter()
            done = subprocess.run(program, check=True, capture_output=True)
            elapsed_s = time.perf_counter() - began
            moved = json.loads(done.stdout)["moved"]
            if moved != count:
                raise SystemExit(f"{kind}: {moved} of {count} jobs moved")
            return count / elapsed_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs of each old queue (default: 20000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure; the median is shown (default: 3)")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS), help="old queues (default: all)")
    arguments = parser.parse_args()
    for kind in arguments.kinds:
        rates = sorted(rate(kind, arguments.jobs) for _ in range(arguments.rounds))
        print(f"{kind:<13} {rates[len(rates) // 2]:>8,.0f} jobs/s   ({rates[0]:,.0f} to {rates[-1]:,.0f})", flush=True)


if __name__ == "__main__":
    main()
