"""The jobs of the demo: three steps, each with one job per symbol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from stockworker.client import make_submission
from stockworker.protocol.ids import JobId
from stockworker.protocol.messages import Submission

CHART_DAYS: Final = 250
"""About a year of trading days."""

_INDICATORS: Final = ({"name": "sma", "period": 50}, "bollinger", "rsi", "macd", "atr")


@dataclass(frozen=True, slots=True)
class Step:
    """Jobs that may run in parallel; the next step needs their results.

    Attributes:
        title: what the jobs do.
        jobs: by symbol.
    """

    title: str
    jobs: Mapping[str, Submission]

    @property
    def ids(self) -> dict[JobId, str]:
        """The symbol of each job, by job ID."""
        return {submission.job_id: symbol for symbol, submission in self.jobs.items() if submission.job_id is not None}


def import_step(symbols: Sequence[str], folder: Path) -> Step:
    """Import a file ``<symbol>.csv.gz`` for each symbol."""
    jobs = {
        symbol: _job("import", symbol, "data_import", {"source": str(folder / f"{symbol}.csv.gz"), "symbol": symbol})
        for symbol in symbols
    }
    return Step("import the history of each symbol from a file", jobs)


def update_step(symbols: Sequence[str]) -> Step:
    """Fetch newer prices from the provider that the workers are configured with."""
    jobs = {symbol: _job("update", symbol, "price_update", {"symbols": [symbol]}) for symbol in symbols}
    return Step("fetch the latest prices over HTTP", jobs)


def analysis_step(symbols: Sequence[str]) -> Step:
    """Compute indicators; the jobs differ in priority."""
    payload = {"indicators": _INDICATORS, "last": CHART_DAYS}
    jobs = {
        symbol: _job("analyse", symbol, "technical_analysis", {"symbol": symbol, **payload}, priority)
        for symbol, priority in zip(symbols, cycle(("high", "normal", "low")), strict=False)
    }
    return Step("compute indicators, with mixed priorities", jobs)


def plot_command(symbol: str, path: Path) -> tuple[str, ...]:
    """The arguments that draw a symbol, with some of these indicators."""
    names = "sma:50,bollinger,rsi,macd"
    return ("market", "plot", symbol, "--indicators", names, "--last", str(CHART_DAYS), "--out", str(path))


def _job(verb: str, symbol: str, job_type: str, payload: Any, priority: str = "normal") -> Submission:
    return make_submission(job_type, payload, id=f"{verb}-{symbol}", priority=priority)
