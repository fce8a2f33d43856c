"""The market-data store in an SQLite file."""

# An upsert counts what it changed, without reading the bars first. `total_changes` counts rows: those that the INSERT adds,
# because it leaves out the days that have a bar, and those that the UPDATE changes, because it leaves out equal bars.

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.adapters.sqlite import Connection, open_database, open_migrated_to_read, transaction
from stockworker.market.bars import Bar, IndicatorValue, LastAnswer, StoredSymbol, UpsertCounts

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
    """
    CREATE TABLE bar_of_day (
        symbol TEXT NOT NULL,
        day TEXT NOT NULL,
        open REAL,
        high REAL,
        low REAL,
        close REAL NOT NULL,
        volume REAL,
        adjusted_close REAL,
        PRIMARY KEY (symbol, day)
    ) WITHOUT ROWID;
    INSERT INTO bar_of_day SELECT symbol, day, open, high, low, close, volume, adjusted_close FROM bar;
    DROP TABLE bar;
    ALTER TABLE bar_of_day RENAME TO bar;
    """,
    """
    CREATE TABLE identity (id TEXT NOT NULL);
    INSERT INTO identity VALUES (lower(hex(randomblob(8))));
    """,
    """
    CREATE TABLE answer (
        symbol TEXT NOT NULL PRIMARY KEY,
        request TEXT NOT NULL,
        etag TEXT NOT NULL,
        modified TEXT NOT NULL,
        last_day TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE request (provider TEXT NOT NULL, begun REAL NOT NULL);
    CREATE INDEX request_of_provider ON request (provider, begun);
    """,
)

_INSERT_BAR: Final = """
    INSERT INTO bar (symbol, day, open, high, low, close, volume, adjusted_close) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (symbol, day) DO NOTHING
    """

_UPDATE_BAR: Final = """
    UPDATE bar SET open = ?3, high = ?4, low = ?5, close = ?6, volume = ?7, adjusted_close = ?8
    WHERE symbol = ?1 AND day = ?2
        AND (open, high, low, close, volume, adjusted_close) IS NOT (?3, ?4, ?5, ?6, ?7, ?8)
    """

_UPSERT_INDICATOR: Final = """
    INSERT INTO indicator (symbol, name, day, value) VALUES (?, ?, ?, ?)
    ON CONFLICT (symbol, name) DO UPDATE SET day = excluded.day, value = excluded.value WHERE day <= excluded.day
    """


class SqliteMarketStore:
    """A `MarketStore` in one file. Processes that write at the same time wait for each other's short transactions."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the file, which is created and migrated first, but not if it is `read_only`.

        Raises:
            StoreError: the file can't be used, or is `read_only` and does not exist or has an older schema.
        """
        open_ = open_migrated_to_read if read_only else open_database
        self._connection: Connection = open_(path, application_id=_APPLICATION_ID, migrations=_MIGRATIONS)

    def identity(self) -> str:
        ((found,),) = self._connection.execute("SELECT id FROM identity").fetchall()
        return str(found)

    def upsert(self, bars: Mapping[str, Sequence[Bar]]) -> dict[str, UpsertCounts]:
        with transaction(self._connection):
            return {symbol: self._upsert(symbol, of_symbol) for symbol, of_symbol in bars.items()}

    def _upsert(self, symbol: str, bars: Sequence[Bar]) -> UpsertCounts:
        rows = [(symbol, bar.day.isoformat(), *bar[1:]) for bar in bars]
        inserted = self._changes(_INSERT_BAR, rows)
        updated = self._changes(_UPDATE_BAR, rows) if inserted < len(rows) else 0
        return UpsertCounts(inserted, updated, unchanged=len(rows) - inserted - updated)

    def _changes(self, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
        before = self._connection.total_changes
        self._connection.executemany(statement, rows)
        return self._connection.total_changes - before

    def bars(self, symbol: str, *, last: int | None = None, until: date | None = None) -> list[Bar]:
        newest_first = self._connection.execute(
            "SELECT day, open, high, low, close, volume, adjusted_close FROM bar WHERE symbol = ? AND day <= ?"
            " ORDER BY day DESC LIMIT ?",
            (symbol, (until or date.max).isoformat(), -1 if last is None else last),
        )
        return [_from_row(row) for row in reversed(newest_first.fetchall())]

    def first_day(self, symbol: str) -> date | None:
        return self._day("SELECT min(day) FROM bar WHERE symbol = ?", symbol)

    def last_day(self, symbol: str) -> date | None:
        return self._day("SELECT max(day) FROM bar WHERE symbol = ?", symbol)

    def _day(self, query: str, symbol: str) -> date | None:
        (day,) = self._connection.execute(query, (symbol,)).fetchone()
        return None if day is None else date.fromisoformat(day)

    def symbols(self) -> list[str]:
        return [symbol for (symbol,) in self._connection.execute("SELECT DISTINCT symbol FROM bar ORDER BY symbol")]

    def stored_symbols(self) -> list[StoredSymbol]:
        found = self._connection.execute(
            "SELECT symbol, count(*), min(day), max(day) FROM bar GROUP BY symbol ORDER BY symbol"
        )
        return [
            StoredSymbol(symbol, bars, date.fromisoformat(first), date.fromisoformat(last))
            for symbol, bars, first, last in found
        ]

    def indicators(self, symbol: str) -> dict[str, IndicatorValue]:
        found = self._connection.execute(
            "SELECT name, day, value FROM indicator WHERE symbol = ? ORDER BY name", (symbol,)
        )
        return {name: IndicatorValue(date.fromisoformat(day), json.loads(value)) for name, day, value in found}

    def delete(self, symbols: Sequence[str]) -> dict[str, int]:
        with transaction(self._connection):
            for statement in ("DELETE FROM indicator WHERE symbol = ?", "DELETE FROM answer WHERE symbol = ?"):
                self._connection.executemany(statement, [(symbol,) for symbol in symbols])
            return {
                symbol: self._connection.execute("DELETE FROM bar WHERE symbol = ?", (symbol,)).rowcount
                for symbol in symbols
            }

    def store_indicators(self, values: Mapping[str, Mapping[str, IndicatorValue]]) -> None:
        rows = [
            (symbol, name, found.day.isoformat(), json.dumps(found.value))
            for symbol, of_symbol in values.items()
            for name, found in of_symbol.items()
        ]
        with transaction(self._connection):
            self._connection.executemany(_UPSERT_INDICATOR, rows)

    def last_answer(self, symbol: str) -> LastAnswer | None:
        query = "SELECT request, etag, modified, last_day FROM answer WHERE symbol = ?"
        for request, etag, modified, last_day in self._connection.execute(query, (symbol,)).fetchall():
            return LastAnswer(request, etag, modified, date.fromisoformat(last_day))
        return None

    def store_answer(self, symbol: str, answer: LastAnswer | None) -> None:
        with transaction(self._connection):
            self._connection.execute("DELETE FROM answer WHERE symbol = ?", (symbol,))
            if answer is not None:
                row = (symbol, answer.request, answer.etag, answer.modified, answer.last_day.isoformat())
                self._connection.execute("INSERT INTO answer VALUES (?, ?, ?, ?, ?)", row)

    def begin_request(self, provider: str, most: int, period_s: float) -> float:
        execute = self._connection.execute
        with transaction(self._connection):
            now = clock.wall()
            begun = "FROM request WHERE provider = ?"
            execute(f"DELETE {begun} AND begun NOT BETWEEN ? AND ?", (provider, now - period_s, now))
            newest = execute(f"SELECT begun {begun} ORDER BY begun DESC LIMIT ?", (provider, most)).fetchall()
            if len(newest) == most:
                return float(newest[-1][0]) + period_s - now
            execute("INSERT INTO request VALUES (?, ?)", (provider, now))
        return 0.0

    def close(self) -> None:
        self._connection.close()


def _from_row(row: tuple[Any, ...]) -> Bar:
    return Bar(date.fromisoformat(row[0]), *row[1:])
