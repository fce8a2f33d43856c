"""The peers of `bench.market`: the short programs that one would write instead, with usual libraries.

They run in an environment that has these libraries and nothing of this product. They check nothing: no prices, no bars of the
same day, no future days.
"""

import argparse
import csv
import json
import resource
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

JOBS = 10
"""Repetitions of the analysis of one symbol, which takes some milliseconds; of several symbols, fewer."""

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS bar (
        symbol TEXT NOT NULL, day TEXT NOT NULL, open REAL, high REAL, low REAL, close REAL, volume REAL, adjusted REAL,
        PRIMARY KEY (symbol, day)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS indicator (symbol TEXT, name TEXT, value REAL, PRIMARY KEY (symbol, name));
"""


def open_file(path: Path) -> sqlite3.Connection:
    """Open a database as durable as the store of this product."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_SCHEMA)
    return connection


def rows_of(peer: str, source: Path) -> Iterable[Any]:
    """The rows of a file."""
    if peer == "csv":
        return _plain_rows(source)
    table: Any = import_module(peer).read_csv(source)
    rows: Iterable[Any] = table.iter_rows() if peer == "polars" else table.itertuples(index=False, name=None)
    return rows


def _plain_rows(source: Path) -> Iterator[tuple[Any, ...]]:
    with source.open(newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for symbol, day, *numbers in reader:
            yield (symbol, day, *map(float, numbers))


def import_file(peer: str, source: Path, store: Path) -> None:
    """Store the bars of a file in one transaction."""
    with closing(open_file(store)) as connection:
        connection.execute("BEGIN")
        connection.executemany("INSERT OR REPLACE INTO bar VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows_of(peer, source))
        connection.execute("COMMIT")


def analyse(store: Path) -> int:
    """Store the newest values of nine indicators of each symbol, with TA-Lib. How many symbols there are."""
    numpy, talib = import_module("numpy"), import_module("talib")  # an environment may lack them
    with closing(open_file(store)) as connection:
        connection.execute("BEGIN")
        symbols = connection.execute("SELECT DISTINCT symbol FROM bar").fetchall()
        for (symbol,) in symbols:
            query = "SELECT high, low, close, volume FROM bar WHERE symbol = ? ORDER BY day"
            high, low, close, volume = numpy.array(
                connection.execute(query, (symbol,)).fetchall(), dtype=float
            ).T.copy()
            found = {
                "sma": talib.SMA(close, 20),
                "ema": talib.EMA(close, 20),
                "rsi": talib.RSI(close, 14),
                "macd": talib.MACD(close)[0],
                "bollinger": talib.BBANDS(close, 20)[0],
                "atr": talib.ATR(high, low, close, 14),
                "adx": talib.ADX(high, low, close, 14),
                "stochastic": talib.STOCH(high, low, close)[0],
                "obv": talib.OBV(close, volume),
            }
            values = [(symbol, name, float(each[-1])) for name, each in found.items()]
            connection.executemany("INSERT OR REPLACE INTO indicator VALUES (?, ?, ?)", values)
        connection.execute("COMMIT")
    return len(symbols)


def main() -> None:
    """Run one task, and print its processor time and peak of memory as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer")
    parser.add_argument("source", type=Path)
    parser.add_argument("store", type=Path)
    chosen = parser.parse_args()
    if chosen.peer == "talib":
        import_file("csv", chosen.source, chosen.store)
        symbols = analyse(chosen.store)  # once to import the libraries
        began = time.process_time()
        jobs = max(1, JOBS // symbols)
        for _ in range(jobs):
            analyse(chosen.store)
        cpu_s = (time.process_time() - began) / jobs
    else:
        import_file(chosen.peer, chosen.source, chosen.store)
        cpu_s = time.process_time()  # with the imports of the libraries, which a job in a new process needs as well
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    json.dump({"cpu_s": cpu_s, "peak_mib": peak_mib}, sys.stdout)


if __name__ == "__main__":
    main()
