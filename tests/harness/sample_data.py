"""The real prices that the repository ships, read without the code under test."""

import csv
import gzip
from datetime import date
from pathlib import Path

from stockworker.market.bars import Bar

SAMPLE_FILE = Path(__file__).parents[2] / "sample-data" / "stocks.csv.gz"


def sample_bars() -> dict[str, list[Bar]]:
    """The bars by symbol, in the order of their days."""
    bars: dict[str, list[Bar]] = {}
    with gzip.open(SAMPLE_FILE, "rt", newline="") as file:
        for row in csv.DictReader(file):
            numbers = (float(row[name]) for name in ("Open", "High", "Low", "Close", "Volume", "Adj Close"))
            bars.setdefault(row["Ticker"], []).append(Bar(date.fromisoformat(row["Date"]), *numbers))
    return bars
