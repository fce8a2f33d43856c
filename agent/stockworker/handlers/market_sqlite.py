"""The market-data store in an SQLite file."""

# An upsert counts what it changed, without reading the bars first. `total_changes` counts inserted and updated rows,
# and the WHERE clause of the upsert leaves out an update that would change nothing. The number of rows before and after
# gives the inserted ones. `IS NOT` compares the adjusted close, because it may be NULL, which equals nothing.

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

from stockworker.adapters.sqlite import Connection, open_database, transaction
from stockworker.handlers.market import Bar, IndicatorValue, UpsertCounts

_APPLICATION_ID: Final = 0x73776D64  # "swmd"

_MIGRATIONS: Final = (
    """
    CREATE TABLE bar (
        symbol TEXT NOT NULL,
        day TEXT NOT NULL,
        open REAL NOT NULL,
        high REAL NOT NULL,
        low REAL NOT NULL,
        close REAL NOT NULL,
        volume REAL NOT NULL,
        adjusted_close REAL,
        PRIMARY KEY (symbol, day)
    ) WITHOUT ROWID;
    CREATE TABLE indicator (
        symbol TEXT NOT NULL,
        name TEXT NOT NULL,
        day TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (symbol, name)
    ) WITHOUT ROWID;
    """,
)

_UPSERT_BAR: Final = """
    INSERT INTO bar (symbol, day, open, high, low, close, volume, adjusted_close) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (symbol, day) DO UPDATE SET
        open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        volume = excluded.volume, adjusted_close = excluded.adjusted_close
    WHERE (open, high, low, close, volume) != (excluded.open, excluded.high, excluded.low, excluded.close,
        excluded.volume) OR adjusted_close IS NOT excluded.adjusted_close
    """

_UPSERT_INDICATOR: Final = """
    INSERT INTO indicator (symbol, name, day, value) VALUES (?, ?, ?, ?)
    ON CONFLICT (symbol, name) DO UPDATE SET day = excluded.day, value = excluded.value WHERE day <= excluded.day
    """


class SqliteMarketStore:
    """A `MarketStore` in one file. Processes that write at the same time wait for each other's short transactions."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            StoreError: the file can't be used.
        """
        self._connection: Connection = open_database(path, application_id=_APPLICATION_ID, migrations=_MIGRATIONS)

    def upsert_bars(self, symbol: str, bars: Sequence[Bar]) -> UpsertCounts:
        rows = {bar.day: (symbol, *_to_row(bar)) for bar in bars}
        with transaction(self._connection):
            bars_before, changes_before = self._count(symbol), self._connection.total_changes
            self._connection.executemany(_UPSERT_BAR, rows.values())
            inserted = self._count(symbol) - bars_before
            changed = self._connection.total_changes - changes_before
        return UpsertCounts(inserted, updated=changed - inserted, unchanged=len(rows) - changed)

    def _count(self, symbol: str) -> int:
        (count,) = self._connection.execute("SELECT count(*) FROM bar WHERE symbol = ?", (symbol,)).fetchone()
        return int(count)

    def bars(self, symbol: str, *, last: int | None = None, until: date | None = None) -> list[Bar]:
        newest_first = self._connection.execute(
            "SELECT day, open, high, low, close, volume, adjusted_close FROM bar WHERE symbol = ? AND day <= ?"
            " ORDER BY day DESC LIMIT ?",
            (symbol, (until or date.max).isoformat(), -1 if last is None else last),
        )
        return [_from_row(row) for row in reversed(newest_first.fetchall())]

    def last_day(self, symbol: str) -> date | None:
        (day,) = self._connection.execute("SELECT max(day) FROM bar WHERE symbol = ?", (symbol,)).fetchone()
        return None if day is None else date.fromisoformat(day)

    def symbols(self) -> list[str]:
        return [symbol for (symbol,) in self._connection.execute("SELECT DISTINCT symbol FROM bar ORDER BY symbol")]

    def store_indicators(self, symbol: str, values: Mapping[str, IndicatorValue]) -> None:
        rows = [(symbol, name, found.day.isoformat(), json.dumps(found.value)) for name, found in values.items()]
        with transaction(self._connection):
            self._connection.executemany(_UPSERT_INDICATOR, rows)

    def close(self) -> None:
        self._connection.close()


def _to_row(bar: Bar) -> tuple[str | float | None, ...]:
    return (bar.day.isoformat(), bar.open, bar.high, bar.low, bar.close, bar.volume, bar.adjusted_close)


def _from_row(row: tuple[str, float, float, float, float, float, float | None]) -> Bar:
    day, open_, high, low, close, volume, adjusted_close = row
    return Bar(date.fromisoformat(day), open_, high, low, close, volume, adjusted_close)
