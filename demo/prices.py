"""The sample prices in two parts: a history to import, and newer prices from the provider."""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

SAMPLE_FILE: Final = Path(__file__).parents[1] / "sample-data" / "stocks.csv.gz"

LAST_IMPORTED_DAY: Final = "2012-12-31"
"""Days up to this one are imported from files; days from this one on come from the provider. This day is in both, as in
production: the newest stored bar is always fetched again, because it may be from the middle of its day."""

Row = dict[str, str]


def sample_rows() -> dict[str, list[Row]]:
    """Read the rows of the sample file by symbol, in the order of their days."""
    rows: dict[str, list[Row]] = {}
    with gzip.open(SAMPLE_FILE, "rt", newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["Ticker"], []).append(row)
    return rows


def history(rows: Sequence[Row]) -> bytes:
    """Make the file to import: CSV, compressed with gzip."""
    return gzip.compress(_to_csv(row for row in rows if row["Date"] <= LAST_IMPORTED_DAY))


def news(rows: Sequence[Row]) -> bytes:
    """Make the provider's answer: CSV."""
    return _to_csv(row for row in rows if row["Date"] >= LAST_IMPORTED_DAY)


def _to_csv(rows: Iterable[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, row)
            writer.writeheader()
        writer.writerow(row)
    return text.getvalue().encode()
