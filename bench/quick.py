"""``make bench-quick``: compares this checkout with a commit, pair by pair, in less than three minutes.

Both checkouts run their own fleet with the measurements of this one, and take turns. So the load of the machine changes
both figures of a pair. The check looks at costs that hardly depend on that load: processor time per job, and how often a
process waits per job. It prints the times beside them. A cost above the limit is measured again before the check fails.

`tests/harness/commits.py` chooses the commit.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench.figures import show
from bench.pairs import MOST, Figures, Ratio, ratios, too_costly
from tests.harness.commits import ROOT, SAME_WORK_H, chosen_base, git

CHECKED: Final = (
    "µs of processor time, jobs together",
    "µs of processor time, one at a time",
    "waits of processes, one at a time",
)
"""The figures that can fail the check."""


BASE: Final = "the base"
_JSON: Final = ROOT / "build" / "bench" / "quick.json"


class ProbeFailed(Exception):
    """The measuring process of a checkout ended.

    Attributes:
        name: which checkout.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"the fleet of {name} does not run the measurements; its errors are above")
        self.name = name


class Probe:
    """The measuring process of one checkout."""

    def __init__(self, name: str, checkout: Path) -> None:
        self._name = name
        environment = os.environ | {"PYTHONPATH": f"{checkout / 'agent'}:{checkout}"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.probe"],
            cwd=checkout,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, batch: int, singles: int) -> Figures:
        """One set of figures.

        Raises:
            ProbeFailed: the process ended; its errors are on standard error.
        """
        standard_input, output = self._process.stdin, self._process.stdout
        if standard_input is None or output is None:
            raise AssertionError("both are pipes")
        try:
            standard_input.write(f"{batch} {singles}\n")
            standard_input.flush()
        except BrokenPipeError:
            raise ProbeFailed(self._name) from None
        if not (line := output.readline()):
            raise ProbeFailed(self._name)
        figures: Figures = json.loads(line)
        return figures

    def close(self) -> None:
        """Let the process end its fleet."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()


def measured_pairs(old: Path, new: Path, pairs: int, batch: int, singles: int) -> Iterator[tuple[Figures, Figures]]:
    """Measure both checkouts in turn; which one is first alternates."""
    with ExitStack() as stack:
        probes = [Probe(name, checkout) for name, checkout in ((BASE, old), ("this checkout", new))]
        for probe in probes:
            stack.callback(probe.close)
            probe.measure(batch, singles)  # warms up
        for number in range(pairs):
            order = probes if number % 2 == 0 else probes[::-1]
            found = [probe.measure(batch, singles) for probe in order]
            first, second = found if number % 2 == 0 else found[::-1]
            yield first, second


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The files of a commit in a temporary folder, with the benchmarks of this checkout."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "--extract", "--directory", folder], input=archive, check=True)
        shutil.rmtree(Path(folder, "bench"), ignore_errors=True)
        shutil.copytree(ROOT / "bench", Path(folder, "bench"), ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(folder)


def compare(old: Path, new: Path, arguments: argparse.Namespace) -> list[str]:
    """Measure, print the ratios, and measure costs that are too high again; return those that stay too high."""
    wrong: Sequence[str] = CHECKED
    for attempt in range(arguments.attempts):
        pairs = list(measured_pairs(old, new, arguments.pairs, arguments.jobs, arguments.singles))
        _JSON.parent.mkdir(parents=True, exist_ok=True)
        _JSON.write_text(json.dumps(pairs, indent=1))
        found = ratios(pairs)
        _show(attempt, found, pairs)
        wrong = too_costly(found, wrong, arguments.most)
        if not wrong:
            return []
    return list(wrong)


def _show(attempt: int, found: dict[str, Ratio], pairs: Sequence[tuple[Figures, Figures]]) -> None:
    show(
        f"Costs per job, new / old: mean (range) of {len(pairs)} pairs" + (", again" if attempt else ""),
        [(f"{name}{'' if name in CHECKED else ' (not checked)'}", str(ratio)) for name, ratio in found.items()],
    )


def main() -> int:
    """Compare; return 1 if this checkout costs too much."""
    parser = argparse.ArgumentParser(prog="make bench-quick", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--base", help="the commit, tag or branch to compare with (default: see tests/harness/commits.py)"
    )
    parser.add_argument(
        "--same-work", type=float, default=SAME_WORK_H, metavar="HOURS", help="see tests/harness/commits.py"
    )
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1500, help="submitted together in each measurement")
    parser.add_argument("--singles", type=int, default=100, help="submitted one at a time in each measurement")
    parser.add_argument("--attempts", type=int, default=3, help="how often a cost must be too high (default: 3)")
    parser.add_argument("--most", type=float, default=MOST, help=f"the limit of the ratio (default: {MOST})")
    arguments = parser.parse_args()
    base = chosen_base(arguments.base, arguments.same_work)
    if base is None and arguments.base:
        parser.error(f"this clone has no commit {arguments.base}")
    if base is None:
        print("bench-quick: compared nothing, because this clone has no earlier commit")
        return 0
    print(f"bench-quick: this checkout beside {git('log', '-1', '--format=%h %s', base)}")
    with checkout(base) as old:
        try:
            wrong = compare(old, ROOT, arguments)
        except ProbeFailed as failure:
            print(f"bench-quick: compared nothing: {failure}", file=sys.stderr)
            return 0 if failure.name == BASE else 1
    for name in wrong:
        print(f"bench-quick: {name}: more than {arguments.most} times the cost of {base}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
