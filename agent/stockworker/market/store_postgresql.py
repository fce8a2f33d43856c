"""The market-data store in a PostgreSQL database, through psycopg 3."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final, LiteralString

import psycopg

from stockworker.errors import StoreError
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

_MIGRATIONS: Final = (
    """
    CREATE TABLE bar (
        symbol text NOT NULL COLLATE "C",
        day date NOT NULL,
        open double precision NOT NULL,
        high double precision NOT NULL,
        low double precision NOT NULL,
        close double precision NOT NULL,
        volume double precision NOT NULL,
        adjusted_close double precision,
        PRIMARY KEY (symbol, day)
    );
    CREATE TABLE indicator (
        symbol text NOT NULL COLLATE "C",
        name text NOT NULL COLLATE "C",
        day date NOT NULL,
        value text NOT NULL,
        PRIMARY KEY (symbol, name)
    );
    """,
    """
    ALTER TABLE bar ALTER open DROP NOT NULL, ALTER high DROP NOT NULL, ALTER low DROP NOT NULL, ALTER volume DROP NOT NULL;
    """,
    """
    CREATE TABLE market_data_identity (id text NOT NULL);
    INSERT INTO market_data_identity VALUES (replace(left(gen_random_uuid()::text, 18), '-', ''));
    """,
    """
    CREATE TABLE answer (
        symbol text NOT NULL COLLATE "C" PRIMARY KEY,
        request text NOT NULL,
        etag text NOT NULL,
        modified text NOT NULL,
        last_day date NOT NULL
    );
    CREATE TABLE request (provider text NOT NULL COLLATE "C", begun double precision NOT NULL);
    CREATE INDEX request_of_provider ON request (provider, begun);
    """,
    # A day is its midnight in UTC. Answers are asked for again.
    """
    ALTER TABLE bar ADD interval text NOT NULL COLLATE "C" DEFAULT '1d', DROP CONSTRAINT bar_pkey,
        ALTER day TYPE timestamptz USING day::timestamp AT TIME ZONE 'UTC';
    ALTER TABLE bar RENAME day TO time;
    ALTER TABLE bar ALTER interval DROP DEFAULT, ADD PRIMARY KEY (symbol, interval, time);
    ALTER TABLE indicator ADD interval text NOT NULL COLLATE "C" DEFAULT '1d', DROP CONSTRAINT indicator_pkey,
        ALTER day TYPE timestamptz USING day::timestamp AT TIME ZONE 'UTC';
    ALTER TABLE indicator RENAME day TO time;
    ALTER TABLE indicator ALTER interval DROP DEFAULT, ADD PRIMARY KEY (symbol, interval, name);
    DROP TABLE answer;
    CREATE TABLE answer (
        symbol text NOT NULL COLLATE "C",
        interval text NOT NULL COLLATE "C",
        request text NOT NULL,
        etag text NOT NULL,
        modified text NOT NULL,
        last_time timestamptz NOT NULL,
        PRIMARY KEY (symbol, interval)
    );
    """,
    """
    CREATE TABLE action (
        symbol text NOT NULL COLLATE "C",
        day date NOT NULL,
        kind text NOT NULL COLLATE "C",
        value double precision NOT NULL,
        PRIMARY KEY (symbol, day, kind)
    );
    """,
)
_MIGRATION_LOCK: Final = 0x73776D64  # arbitrary numbers, the same in every version
_REQUEST_LOCK: Final = 0x73777271

# RETURNING skips rows that the WHERE clause leaves unchanged. xmax is 0 in a row that this statement has inserted.
_UPSERT_BARS: Final = """
    INSERT INTO bar AS stored (symbol, interval, time, open, high, low, close, volume, adjusted_close)
    SELECT given.symbol, %s, given.time AT TIME ZONE 'UTC', open, high, low, close, volume, adjusted_close
    FROM unnest(%s::text[], %s::timestamp[], %s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::float8[],
        %s::float8[]) AS given (symbol, time, open, high, low, close, volume, adjusted_close)
    ON CONFLICT (symbol, interval, time) DO UPDATE SET
        open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        volume = excluded.volume, adjusted_close = excluded.adjusted_close
    WHERE (stored.open, stored.high, stored.low, stored.close, stored.volume, stored.adjusted_close) IS DISTINCT FROM
        (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.adjusted_close)
    RETURNING symbol, xmax = 0
    """

_UPSERT_INDICATOR: Final = """
    INSERT INTO indicator AS stored (symbol, interval, name, time, value)
    VALUES (%s, %s, %s, %s::timestamp AT TIME ZONE 'UTC', %s)
    ON CONFLICT (symbol, interval, name) DO UPDATE SET time = excluded.time, value = excluded.value
    WHERE stored.time <= excluded.time
    """

_UPSERT_ACTIONS: Final = """
    INSERT INTO action AS stored (symbol, day, kind, value)
    SELECT * FROM unnest(%s::text[], %s::date[], %s::text[], %s::float8[])
    ON CONFLICT (symbol, day, kind) DO UPDATE SET value = excluded.value WHERE stored.value <> excluded.value
    """

_SELECT_BARS: Final = """
    SELECT time AT TIME ZONE 'UTC', open, high, low, close, volume, adjusted_close FROM bar
    WHERE symbol = %s AND interval = %s AND time <= %s::timestamp AT TIME ZONE 'UTC' ORDER BY time DESC LIMIT %s
    """

_SELECT_SYMBOLS: Final = """
    SELECT symbol, interval, count(*), min(time) AT TIME ZONE 'UTC', max(time) AT TIME ZONE 'UTC' FROM bar
    GROUP BY symbol, interval
    """

_FORGET: Final[Sequence[LiteralString]] = (
    "DELETE FROM indicator WHERE symbol = ANY(%s) AND interval = ANY(%s)",
    "DELETE FROM answer WHERE symbol = ANY(%s) AND interval = ANY(%s)",
)
_DELETE_BARS: Final = "DELETE FROM bar WHERE symbol = %s AND interval = ANY(%s)"
_INSERT_ANSWER: Final = """
    INSERT INTO answer (symbol, interval, request, etag, modified, last_time)
    VALUES (%s, %s, %s, %s, %s, %s::timestamp AT TIME ZONE 'UTC')
    ON CONFLICT (symbol, interval) DO NOTHING
    """  # two jobs may update the same symbol at the same time

_NEWEST_REQUESTS: Final = "SELECT begun FROM request WHERE provider = %s ORDER BY begun DESC LIMIT %s"


class PostgresqlMarketStore:
    """A `MarketStore` in the first schema of the connection's search path."""

    def __init__(self, dsn: str, *, read_only: bool = False) -> None:
        """Connect, and migrate the tables, but not if they are `read_only`.

        Raises:
            psycopg.Error: the server can't be reached, or refuses the connection.
            StoreError: the address is not valid, or the tables were written by a newer version, or they are `read_only`
                and do not exist or have an older schema.
        """
        self._connection = _connect(dsn)
        try:
            if read_only:
                self._connection.execute("SET default_transaction_read_only = on")
                _check_version(self._connection)
            else:
                _migrate(self._connection)
        except BaseException:
            self._connection.close()
            raise

    def identity(self) -> str:
        ((found,),) = self._connection.execute("SELECT id FROM market_data_identity").fetchall()
        return str(found)

    def upsert(self, bars: Mapping[str, Sequence[Bar]], interval: Interval = DAILY) -> dict[str, UpsertCounts]:
        rows = {  # every process locks rows in the same order: no deadlocks
            symbol: sorted(bars[symbol]) for symbol in sorted(bars) if bars[symbol]
        }
        symbols = [symbol for symbol, of_symbol in rows.items() for _ in of_symbol]
        counts = {symbol: [0, 0] for symbol in bars}
        if symbols:
            days, *numbers = zip(*(bar for of_symbol in rows.values() for bar in of_symbol), strict=True)
            columns = (symbols, list(map(_stored, days)), *map(list, numbers))
            for symbol, was_inserted in self._connection.execute(_UPSERT_BARS, (interval.name, *columns)):
                counts[symbol][not was_inserted] += 1
        return {
            symbol: UpsertCounts(inserted, updated, unchanged=len(bars[symbol]) - inserted - updated)
            for symbol, (inserted, updated) in counts.items()
        }

    def bars(
        self, symbol: str, *, interval: Interval = DAILY, last: int | None = None, until: date | None = None
    ) -> list[Bar]:
        latest = _stored(interval.latest(until or date.max))
        newest_first = self._connection.execute(_SELECT_BARS, (symbol, interval.name, latest, last)).fetchall()
        return [make_bar((_day(time, interval), *numbers)) for time, *numbers in reversed(newest_first)]

    def columns(
        self, symbol: str, fields: Sequence[str], *, interval: Interval = DAILY, until: date | None = None
    ) -> BarColumns:
        latest = _stored(interval.latest(until or date.max))
        query = select_columns(fields, "%s").encode()
        rows = self._connection.execute(query, (symbol, interval.name, latest)).fetchall()
        times, *numbers = zip(*rows, strict=True) if rows else ((), *((),) * len(fields))
        return BarColumns([_day(each, interval) for each in times], **dict(zip(fields, numbers, strict=True)))

    def first_day(self, symbol: str, interval: Interval = DAILY) -> date | None:
        return self._day(
            "SELECT min(time) AT TIME ZONE 'UTC' FROM bar WHERE symbol = %s AND interval = %s", symbol, interval
        )

    def last_day(self, symbol: str, interval: Interval = DAILY) -> date | None:
        return self._day(
            "SELECT max(time) AT TIME ZONE 'UTC' FROM bar WHERE symbol = %s AND interval = %s", symbol, interval
        )

    def _day(self, query: LiteralString, symbol: str, interval: Interval) -> date | None:
        ((time,),) = self._connection.execute(query, (symbol, interval.name)).fetchall()
        return None if time is None else _day(time, interval)

    def symbols(self, interval: Interval | None = None) -> list[str]:
        query = "SELECT DISTINCT symbol FROM bar WHERE interval = ANY(%s) ORDER BY symbol"
        return [symbol for (symbol,) in self._connection.execute(query, (_names(interval),))]

    def intervals(self, symbol: str) -> list[Interval]:
        found = self._connection.execute("SELECT DISTINCT interval FROM bar WHERE symbol = %s", (symbol,))
        return sorted((INTERVALS[name] for (name,) in found), key=lambda each: each.seconds)

    def stored_symbols(self) -> list[StoredSymbol]:
        found = self._connection.execute(_SELECT_SYMBOLS).fetchall()
        rows = [(symbol, INTERVALS[name], *others) for symbol, name, *others in found]
        return [
            StoredSymbol(symbol, bars, _day(first, interval), _day(last, interval), interval)
            for symbol, interval, bars, first, last in sorted(rows, key=lambda row: (row[0], row[1].seconds))
        ]

    def indicators(self, symbol: str, interval: Interval = DAILY) -> dict[str, IndicatorValue]:
        found = self._connection.execute(
            "SELECT name, time AT TIME ZONE 'UTC', value FROM indicator WHERE symbol = %s AND interval = %s ORDER BY name",
            (symbol, interval.name),
        )
        return {name: IndicatorValue(_day(time, interval), json.loads(value)) for name, time, value in found}

    def delete(self, symbols: Sequence[str], interval: Interval | None = None) -> dict[str, int]:
        with self._connection.transaction():
            for statement in _FORGET:
                self._connection.execute(statement, (list(symbols), _names(interval)))
            if interval is None:
                self._connection.execute("DELETE FROM action WHERE symbol = ANY(%s)", (list(symbols),))
            return {
                symbol: self._connection.execute(_DELETE_BARS, (symbol, _names(interval))).rowcount
                for symbol in symbols
            }

    def store_actions(self, actions: Mapping[str, Sequence[Action]]) -> int:
        rows = [
            (symbol, each.day, each.kind.value, each.value)
            for symbol, of_symbol in sorted(actions.items())
            for each in sorted(of_symbol)
        ]
        columns = list(map(list, zip(*rows, strict=True))) if rows else [[]] * 4
        return self._connection.execute(_UPSERT_ACTIONS, columns).rowcount

    def actions(self, symbol: str) -> list[Action]:
        query: LiteralString = "SELECT day, kind, value FROM action WHERE symbol = %s ORDER BY day, kind"
        found = self._connection.execute(query, (symbol,))
        return [Action(day, ActionKind(kind), value) for day, kind, value in found]

    def store_indicators(self, values: Mapping[str, Mapping[str, IndicatorValue]], interval: Interval = DAILY) -> None:
        rows = [
            (symbol, interval.name, name, _stored(found.day), json.dumps(found.value))
            for symbol, of_symbol in sorted(values.items())
            for name, found in sorted(of_symbol.items())
        ]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(_UPSERT_INDICATOR, rows)

    def last_answer(self, symbol: str, interval: Interval = DAILY) -> LastAnswer | None:
        query: LiteralString = "SELECT request, etag, modified, last_time AT TIME ZONE 'UTC' FROM answer WHERE symbol = %s AND interval = %s"
        for request, etag, modified, last in self._connection.execute(query, (symbol, interval.name)).fetchall():
            return LastAnswer(request, etag, modified, _day(last, interval))
        return None

    def store_answer(self, symbol: str, answer: LastAnswer | None, interval: Interval = DAILY) -> None:
        key = (symbol, interval.name)
        with self._connection.transaction():
            self._connection.execute("DELETE FROM answer WHERE symbol = %s AND interval = %s", key)
            if answer is not None:
                row = (*key, answer.request, answer.etag, answer.modified, _stored(answer.last_day))
                self._connection.execute(_INSERT_ANSWER, row)

    def begin_request(self, provider: str, most: int, period_s: float) -> float:
        execute = self._connection.execute
        with self._connection.transaction():
            execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_REQUEST_LOCK, provider))
            # The clock of the server is the same for all machines.
            ((now,),) = execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchall()
            old = (provider, now - period_s, now)
            execute("DELETE FROM request WHERE provider = %s AND begun NOT BETWEEN %s AND %s", old)
            newest = execute(_NEWEST_REQUESTS, (provider, most)).fetchall()
            if len(newest) == most:
                return float(newest[-1][0]) + period_s - float(now)
            execute("INSERT INTO request VALUES (%s, %s)", (provider, now))
        return 0.0

    def close(self) -> None:
        self._connection.close()


def _stored(day: date) -> datetime:
    """A day or time without a zone, as statements get it: psycopg writes such a one as it is, in any time zone."""
    return day.replace(tzinfo=None) if isinstance(day, datetime) else datetime(day.year, day.month, day.day)  # noqa: DTZ001 (in UTC)


def _day(time: datetime, interval: Interval) -> date:
    return time.replace(tzinfo=UTC) if interval.has_time else time.date()


def _names(interval: Interval | None) -> list[str]:
    return list(INTERVALS) if interval is None else [interval.name]


def _connect(dsn: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(dsn, autocommit=True)
    except psycopg.Error as error:
        # libpq quotes parts of an address that it can't parse, and a part may be the password.
        if isinstance(error, psycopg.ProgrammingError) or "connection option" in str(error):
            raise StoreError(
                "market_data: the address of the database is not valid. Percent-encode special characters in user and "
                "password; check the port and the parameter names after the question mark"
            ) from None
        raise


def _check_version(connection: "psycopg.Connection[Any]") -> None:
    """Check that the tables have the newest schema."""
    version = _version(connection)
    if version < len(_MIGRATIONS):
        state = f"has an older schema ({version}, this one needs {len(_MIGRATIONS)})" if version else "does not exist"
        raise StoreError(
            f"market data in {connection.info.dbname} {state}. A worker's next job about market data makes it"
        )
    _check_not_newer(connection, version)


def _check_not_newer(connection: "psycopg.Connection[Any]", version: int) -> None:
    if version > len(_MIGRATIONS):
        message = f"market data in {connection.info.dbname} was written by a newer stockworker (schema {version},"
        raise StoreError(f"{message} this one supports {len(_MIGRATIONS)}). Upgrade this machine")


def _migrate(connection: "psycopg.Connection[Any]") -> None:
    if _version(connection) == len(_MIGRATIONS):
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        version = _version(connection)  # another process may have migrated since
        _check_not_newer(connection, version)
        for script in _MIGRATIONS[version:]:
            connection.execute(script)
        connection.execute("CREATE TABLE IF NOT EXISTS market_data_schema (version integer NOT NULL)")
        connection.execute("DELETE FROM market_data_schema")
        connection.execute("INSERT INTO market_data_schema VALUES (%s)", (len(_MIGRATIONS),))


def _version(connection: "psycopg.Connection[Any]") -> int:
    """The version of the schema in the database; 0 without one."""
    # Not to_regclass: it reads a cache, and can miss tables that another process has just created.
    named = "SELECT FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'market_data_schema'"
    if not connection.execute(named).fetchall():
        return 0
    (version,) = connection.execute("SELECT max(version) FROM market_data_schema").fetchall()[0]
    return int(version)
