"""The market-data store in an SQLite file."""

# An upsert counts what it changed, without reading the bars first. `total_changes` counts rows: those that the INSERT adds,
# because it leaves out the days that have a bar, and those that the UPDATE changes, because it leaves out equal bars.

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

from stockworker.adapters import clock
from stockworker.adapters.sqlite import Connection, open_database, open_migrated_to_read, transaction
from stockworker.market.bars import (
    Action,
    ActionKind,
    Bar,
    BarColumns,
    IndicatorValue,
    LastAnswer,
    StoredSymbol,
    UpsertCounts,
    make_bar,
    select_columns,
)
from stockworker.market.interval import DAILY, INTERVALS, Interval

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
    # Times are seconds from 1970 (UTC): of a day, those to its midnight. Answers are asked for again.
    """
    CREATE TABLE bar_of_interval (
        symbol TEXT NOT NULL,
        interval TEXT NOT NULL,
        time INTEGER NOT NULL,
        open REAL,
        high REAL,
        low REAL,
        close REAL NOT NULL,
        volume REAL,
        adjusted_close REAL,
        PRIMARY KEY (symbol, interval, time)
    ) WITHOUT ROWID;
    INSERT INTO bar_of_interval SELECT symbol, '1d', CAST(strftime('%s', day) AS INTEGER), open, high, low, close, volume,
        adjusted_close FROM bar;
    DROP TABLE bar;
    ALTER TABLE bar_of_interval RENAME TO bar;
    CREATE TABLE indicator_of_interval (
        symbol TEXT NOT NULL,
        interval TEXT NOT NULL,
        name TEXT NOT NULL,
        time INTEGER NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (symbol, interval, name)
    ) WITHOUT ROWID;
    INSERT INTO indicator_of_interval SELECT symbol, '1d', name, CAST(strftime('%s', day) AS INTEGER), value FROM indicator;
    DROP TABLE indicator;
    ALTER TABLE indicator_of_interval RENAME TO indicator;
    DROP TABLE answer;
    CREATE TABLE answer (
        symbol TEXT NOT NULL,
        interval TEXT NOT NULL,
        request TEXT NOT NULL,
        etag TEXT NOT NULL,
        modified TEXT NOT NULL,
        last_time INTEGER NOT NULL,
        PRIMARY KEY (symbol, interval)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE action (
        symbol TEXT NOT NULL,
        day TEXT NOT NULL,
        kind TEXT NOT NULL,
        value REAL NOT NULL,
        PRIMARY KEY (symbol, day, kind)
    ) WITHOUT ROWID;
    """,
)

_INSERT_BAR: Final = """
    INSERT INTO bar (symbol, interval, time, open, high, low, close, volume, adjusted_close)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (symbol, interval, time) DO NOTHING
    """

_UPDATE_BAR: Final = """
    UPDATE bar SET open = ?4, high = ?5, low = ?6, close = ?7, volume = ?8, adjusted_close = ?9
    WHERE symbol = ?1 AND interval = ?2 AND time = ?3
        AND (open, high, low, close, volume, adjusted_close) IS NOT (?4, ?5, ?6, ?7, ?8, ?9)
    """

_UPSERT_INDICATOR: Final = """
    INSERT INTO indicator (symbol, interval, name, time, value) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (symbol, interval, name) DO UPDATE SET time = excluded.time, value = excluded.value
    WHERE time <= excluded.time
    """

_UPSERT_ACTION: Final = """
    INSERT INTO action (symbol, day, kind, value) VALUES (?, ?, ?, ?)
    ON CONFLICT (symbol, day, kind) DO UPDATE SET value = excluded.value WHERE value IS NOT excluded.value
    """

_FORGET: Final = (
    "DELETE FROM indicator WHERE symbol = ?1 AND (?2 IS NULL OR interval = ?2)",
    "DELETE FROM answer WHERE symbol = ?1 AND (?2 IS NULL OR interval = ?2)",
)
_DELETE_BARS: Final = "DELETE FROM bar WHERE symbol = ?1 AND (?2 IS NULL OR interval = ?2)"


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

    def upsert(self, bars: Mapping[str, Sequence[Bar]], interval: Interval = DAILY) -> dict[str, UpsertCounts]:
        with transaction(self._connection):
            return {symbol: self._upsert(symbol, of_symbol, interval) for symbol, of_symbol in bars.items()}

    def _upsert(self, symbol: str, bars: Sequence[Bar], interval: Interval) -> UpsertCounts:
        name = interval.name
        times = interval.all_seconds(bar.day for bar in bars)
        rows = [(symbol, name, time, *bar[1:]) for time, bar in zip(times, bars, strict=True)]
        inserted = self._changes(_INSERT_BAR, rows)
        updated = self._changes(_UPDATE_BAR, rows) if inserted < len(rows) else 0
        return UpsertCounts(inserted, updated, unchanged=len(rows) - inserted - updated)

    def _changes(self, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
        before = self._connection.total_changes
        self._connection.executemany(statement, rows)
        return self._connection.total_changes - before

    def bars(
        self, symbol: str, *, interval: Interval = DAILY, last: int | None = None, until: date | None = None
    ) -> list[Bar]:
        latest = interval.seconds_of(interval.latest(until or date.max))
        newest_first = self._connection.execute(
            "SELECT time, open, high, low, close, volume, adjusted_close FROM bar"
            " WHERE symbol = ? AND interval = ? AND time <= ? ORDER BY time DESC LIMIT ?",
            (symbol, interval.name, latest, -1 if last is None else last),
        ).fetchall()
        newest_first.reverse()
        times, *numbers = zip(*newest_first, strict=True) if newest_first else ((),)
        return list(map(make_bar, zip(interval.all_days(times), *numbers, strict=True))) if times else []

    def columns(
        self, symbol: str, fields: Sequence[str], *, interval: Interval = DAILY, until: date | None = None
    ) -> BarColumns:
        latest = interval.seconds_of(interval.latest(until or date.max))
        rows = self._connection.execute(select_columns(fields, "?"), (symbol, interval.name, latest)).fetchall()
        times, *numbers = zip(*rows, strict=True) if rows else ((), *((),) * len(fields))
        return BarColumns(interval.all_days(times), **dict(zip(fields, numbers, strict=True)))

    def first_day(self, symbol: str, interval: Interval = DAILY) -> date | None:
        return self._day("SELECT min(time) FROM bar WHERE symbol = ? AND interval = ?", symbol, interval)

    def last_day(self, symbol: str, interval: Interval = DAILY) -> date | None:
        return self._day("SELECT max(time) FROM bar WHERE symbol = ? AND interval = ?", symbol, interval)

    def _day(self, query: str, symbol: str, interval: Interval) -> date | None:
        (time,) = self._connection.execute(query, (symbol, interval.name)).fetchone()
        return None if time is None else interval.day_of(time)

    def symbols(self, interval: Interval | None = None) -> list[str]:
        query = "SELECT DISTINCT symbol FROM bar WHERE ?1 IS NULL OR interval = ?1 ORDER BY symbol"
        return [symbol for (symbol,) in self._connection.execute(query, (_name(interval),))]

    def intervals(self, symbol: str) -> list[Interval]:
        found = self._connection.execute("SELECT DISTINCT interval FROM bar WHERE symbol = ?", (symbol,))
        return sorted((INTERVALS[name] for (name,) in found), key=lambda each: each.seconds)

    def stored_symbols(self) -> list[StoredSymbol]:
        found = self._connection.execute(
            "SELECT symbol, interval, count(*), min(time), max(time) FROM bar GROUP BY symbol, interval"
        )
        rows = [(symbol, INTERVALS[name], *numbers) for symbol, name, *numbers in found]
        return [
            StoredSymbol(symbol, bars, interval.day_of(first), interval.day_of(last), interval)
            for symbol, interval, bars, first, last in sorted(rows, key=lambda row: (row[0], row[1].seconds))
        ]

    def indicators(self, symbol: str, interval: Interval = DAILY) -> dict[str, IndicatorValue]:
        found = self._connection.execute(
            "SELECT name, time, value FROM indicator WHERE symbol = ? AND interval = ? ORDER BY name",
            (symbol, interval.name),
        )
        return {name: IndicatorValue(interval.day_of(time), json.loads(value)) for name, time, value in found}

    def delete(self, symbols: Sequence[str], interval: Interval | None = None) -> dict[str, int]:
        with transaction(self._connection):
            for statement in _FORGET:
                self._connection.executemany(statement, [(symbol, _name(interval)) for symbol in symbols])
            if interval is None:
                self._connection.executemany("DELETE FROM action WHERE symbol = ?", [(symbol,) for symbol in symbols])
            return {
                symbol: self._connection.execute(_DELETE_BARS, (symbol, _name(interval))).rowcount for symbol in symbols
            }

    def store_actions(self, actions: Mapping[str, Sequence[Action]]) -> int:
        rows = [
            (symbol, each.day.isoformat(), each.kind.value, each.value)
            for symbol, of_symbol in actions.items()
            for each in of_symbol
        ]
        with transaction(self._connection):
            return self._changes(_UPSERT_ACTION, rows)

    def actions(self, symbol: str) -> list[Action]:
        query = "SELECT day, kind, value FROM action WHERE symbol = ? ORDER BY day, kind"
        found = self._connection.execute(query, (symbol,))
        return [Action(date.fromisoformat(day), ActionKind(kind), value) for day, kind, value in found]

    def store_indicators(self, values: Mapping[str, Mapping[str, IndicatorValue]], interval: Interval = DAILY) -> None:
        rows = [
            (symbol, interval.name, name, interval.seconds_of(found.day), json.dumps(found.value))
            for symbol, of_symbol in values.items()
            for name, found in of_symbol.items()
        ]
        with transaction(self._connection):
            self._connection.executemany(_UPSERT_INDICATOR, rows)

    def last_answer(self, symbol: str, interval: Interval = DAILY) -> LastAnswer | None:
        query = "SELECT request, etag, modified, last_time FROM answer WHERE symbol = ? AND interval = ?"
        for request, etag, modified, last in self._connection.execute(query, (symbol, interval.name)).fetchall():
            return LastAnswer(request, etag, modified, interval.day_of(last))
        return None

    def store_answer(self, symbol: str, answer: LastAnswer | None, interval: Interval = DAILY) -> None:
        with transaction(self._connection):
            self._connection.execute("DELETE FROM answer WHERE symbol = ? AND interval = ?", (symbol, interval.name))
            if answer is not None:
                last = interval.seconds_of(answer.last_day)
                row = (symbol, interval.name, answer.request, answer.etag, answer.modified, last)
                self._connection.execute("INSERT INTO answer VALUES (?, ?, ?, ?, ?, ?)", row)

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


def _name(interval: Interval | None) -> str | None:
    return None if interval is None else interval.name
