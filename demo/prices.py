"""The sample prices in two parts: what is known at first, and what the provider of prices has to tell after that."""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

SAMPLE_FILE: Final = Path(__file__).parents[1] / "sample-data" / "stocks.csv.gz"

LAST_IMPORTED_DAY: Final = "2012-12-31"
"""Days up to this one are imported from files, those from it on come from the provider. It is in both, as in life: the
newest stored bar is always asked for again, since it may have been taken before its day was over."""

Row = dict[str, str]


def sample_rows() -> dict[str, list[Row]]:
    """Read the rows of the sample file by symbol, in the order of their days."""
    rows: dict[str, list[Row]] = {}
    with gzip.open(SAMPLE_FILE, "rt", newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["Ticker"], []).append(row)
    return rows


def history(rows: Sequence[Row]) -> bytes:
    """Make the file that is imported: CSV, packed with gzip."""
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
