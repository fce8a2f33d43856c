"""``make bench-market``: imports and indicators beside short programs with polars, pandas and TA-Lib, as ratios.

Each task runs in a process of its own, which reports its processor time and its peak of memory. The rounds of this product
and its peers alternate, so that a busy machine slows all of them down. Stores are in memory, if the machine has /dev/shm:
so disks add no noise. The prices are invented. Only this product checks them.
"""

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

from bench import market_fleet
from bench.figures import show
from bench.market_peers import JOBS
from stockworker.handlers.api import Context, Handler, Job
from stockworker.market import acceleration, data_import, technical_analysis

_ROOT: Final = Path(__file__).parents[1]
_PEERS: Final = _ROOT / ".venv-peers/bin/python"
_HEADER: Final = "Symbol,Date,Open,High,Low,Close,Volume,Adj Close\n"
_FIRST_DAY: Final = date(1995, 1, 2)

Figures = dict[str, float]
"""``cpu_s`` and ``peak_mib`` of a run."""


def write_file(path: Path, symbols: int, days: int) -> None:
    """Write a CSV file with bars of invented prices."""
    chance = Random(1)  # noqa: S311 (invented prices)
    written = [(_FIRST_DAY + timedelta(days=number)).isoformat() for number in range(days)]
    with path.open("w") as file:
        file.write(_HEADER)
        for number in range(symbols):
            close = 100.0
            for day in written:
                before, close = close, round(max(5.0, close * chance.uniform(0.98, 1.02)), 2)
                high, low = round(max(before, close) * 1.01, 2), round(min(before, close) * 0.99, 2)
                file.write(f"S{number:05},{day},{before},{high},{low},{close},{chance.randrange(10**6)},{close}\n")


def run_own(task: str, source: Path, store: Path) -> Figures:
    """Run a task of this product in this process."""
    settings = {"market_data": str(store)}
    reading = {**settings, "import_folders": [str(source.parent)], "limit_mib": 1024, "limit_rows": 1_000_000_000}
    _call(data_import.handle, "data_import", reading, {"source": str(source)})
    cpu_s = time.process_time()  # with the imports of the modules
    if task.startswith("analyse"):
        if task == "analyse_pure":
            vars(acceleration)["find_spec"] = lambda _name: None  # as if numpy was not installed
        cpu_s = _analyse(settings)
    return {"cpu_s": cpu_s, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _analyse(settings: Mapping[str, Any]) -> float:
    """The processor time of a job in a process that has run some jobs before, as those of a worker have."""
    payload = {"symbols": "all", "last": 0}
    first = _call(technical_analysis.handle, "technical_analysis", settings, payload)
    jobs: int = max(1, JOBS // first["analysed"])
    began = 0.0
    for job in range(2 * jobs):
        if job == jobs:
            began = time.process_time()
        _call(technical_analysis.handle, "technical_analysis", settings, payload)
    return (time.process_time() - began) / jobs


def _call(handler: Handler, job_type: str, settings: Mapping[str, Any], payload: Any) -> Any:
    context = Context(logging.getLogger("bench"), settings, lambda _fraction, _message: None, lambda: False)
    return handler(Job(id="bench", type=job_type, attempt=1, payload=payload), context)


def run(command: Sequence[str], source: Path) -> Figures:
    """Run a task in a process of its own, on an empty store."""
    shared = Path("/dev/shm")  # noqa: S108 (a folder of its own is made there)
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        arguments = [*command, str(source), str(Path(folder, "market.sqlite3"))]
        done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, cwd=_ROOT)
    found: Figures = json.loads(done.stdout)
    return found


def contestants(task: str) -> dict[str, list[str]]:
    """The command of each program that can run a task here; the first one is this product."""
    own = {"stockworker": [sys.executable, "-m", "bench.market", "--own", task]}
    peers = str(_ROOT / "bench" / "market_peers.py")
    if task.startswith("analyse"):
        return {**own, "TA-Lib": [sys.executable, peers, "talib"]}
    libraries = {name: [str(_PEERS), peers, name] for name in ("polars", "pandas")} if _PEERS.exists() else {}
    return {**own, **libraries, "csv": [sys.executable, peers, "csv"]}


def measure(task: str, source: Path, rounds: int) -> dict[str, Figures]:
    """The medians of each program's figures."""
    runs: dict[str, list[Figures]] = {name: [] for name in contestants(task)}
    for _ in range(rounds):
        for name, command in contestants(task).items():
            runs[name].append(run(command, source))
    return {
        name: {key: median(figures[key] for figures in found) for key in ("cpu_s", "peak_mib")}
        for name, found in runs.items()
    }


def report(title: str, found: Mapping[str, Figures]) -> None:
    """Print the figures of a task, and how many times the processor time of each peer this product needs."""
    own = found["stockworker"]["cpu_s"]
    rows = [
        (name, f"{each['cpu_s']:8.3f} s CPU, peak {each['peak_mib']:5.0f} MiB, ratio {own / each['cpu_s']:5.2f}")
        for name, each in found.items()
    ]
    show(title, rows)
    sys.stdout.flush()


def report_fleet(symbols: int, rounds: int, folder: Path) -> None:
    """Print what the analysis of many symbols takes through a fleet."""
    source = folder / "fleet.csv"
    write_file(source, symbols, 2_520)
    rows = [
        (
            f"{jobs} jobs" if jobs > 1 else "1 job",
            f"{each['wall_s']:8.2f} s, {each['cpu_s']:8.2f} s CPU of all services",
        )
        for jobs, each in market_fleet.measure(source, folder / "run", rounds).items()
    ]
    show(f"Nine indicators of 2,520 bars of {symbols} symbols through a fleet of two workers", rows)
    sys.stdout.flush()


def tasks(scale: float) -> list[tuple[str, str, int, int]]:
    """Title, task, symbols and days of each measurement."""
    symbols, daily = max(1, round(100 * scale)), max(1, round(8_000 * scale))
    analysed = max(1, round(500 * scale))
    return [
        (f"Import of {symbols * 10_000:,} rows, {symbols} symbols", "import", symbols, 10_000),
        (f"Import of {3 * symbols * 10_000:,} rows, {3 * symbols} symbols", "import", 3 * symbols, 10_000),
        (f"Import of one day of {daily:,} symbols", "import", daily, 1),
        ("Nine indicators of 2,520 bars", "analyse", 1, 2_520),
        ("Nine indicators of 2,520 bars, without numpy", "analyse_pure", 1, 2_520),
        (f"Nine indicators of 2,520 bars of {analysed} symbols", "analyse", analysed, 2_520),
    ]


def main() -> None:
    """Measure everything, or run one task of this product for such a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the files")
    parser.add_argument("--own", nargs=3, metavar=("TASK", "SOURCE", "STORE"), help="used by the measurement itself")
    chosen = parser.parse_args()
    if chosen.own:
        task, source, store = chosen.own
        json.dump(run_own(task, Path(source), Path(store)), sys.stdout)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "bars.csv")
        for title, task, symbols, days in tasks(chosen.scale):
            write_file(source, symbols, days)
            report(title, measure(task, source, chosen.rounds))
        report_fleet(max(1, round(500 * chosen.scale)), chosen.rounds, Path(folder))


if __name__ == "__main__":
    main()
