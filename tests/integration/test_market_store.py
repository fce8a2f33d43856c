"""Tests both market-data stores with one suite: on an SQLite file and on a PostgreSQL server."""

import multiprocessing
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psycopg
import pytest

from stockworker.errors import StoreError
from stockworker.market import store_postgresql, store_sqlite
from stockworker.market.bars import (
    Action,
    ActionKind,
    Bar,
    IndicatorValue,
    LastAnswer,
    MarketStore,
    StoredSymbol,
    UpsertCounts,
)
from stockworker.market.interval import DAILY, INTERVALS, MONTHLY, WEEKLY
from stockworker.market.store import open_market_store
from tests.harness.postgresql import postgresql_cluster

FIRST_DAY = date(2013, 2, 25)


def upsert(store: MarketStore, symbol: str, bars: list[Bar]) -> UpsertCounts:
    return store.upsert({symbol: bars})[symbol]


def bar(number: int, close: float = 10.0, adjusted_close: float | None = 5.25) -> Bar:
    return Bar(FIRST_DAY + timedelta(days=number), 10.0, 12.5, 9.75, close, 1_000_000.0, adjusted_close)


@pytest.fixture(scope="session")
def dsn() -> Iterator[str]:
    with postgresql_cluster() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "market.db")
    dsn: str = request.getfixturevalue("dsn")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return dsn


@pytest.fixture
def store(location: str) -> Iterator[MarketStore]:
    opened = open_market_store(location)
    yield opened
    opened.close()


def upsert_together(location: str, barrier: Barrier, close: float) -> None:
    barrier.wait()
    store = open_market_store(location)
    for _ in range(10):
        upsert(store, "AAPL", [bar(number, close) for number in range(300)])
    store.close()


def test_bars_are_read_unchanged_in_the_order_of_their_days(store: MarketStore) -> None:
    bars = [bar(2, adjusted_close=None), bar(0, close=0.1 + 0.2 + 9.5), bar(1)]
    assert upsert(store, "AAPL", bars) == UpsertCounts(inserted=3)
    assert store.bars("AAPL") == sorted(bars, key=lambda found: found.day)


def test_the_same_bars_again_change_nothing(store: MarketStore) -> None:
    upsert(store, "AAPL", [bar(0), bar(1, adjusted_close=None)])
    assert upsert(store, "AAPL", [bar(0), bar(1, adjusted_close=None)]) == UpsertCounts(unchanged=2)


def test_a_correction_replaces_the_bar_of_its_day(store: MarketStore) -> None:
    upsert(store, "AAPL", [bar(0), bar(1), bar(2, adjusted_close=None)])
    corrected = [bar(0), bar(1, close=11.0), bar(2, adjusted_close=6.0), bar(3)]
    assert upsert(store, "AAPL", corrected) == UpsertCounts(inserted=1, updated=2, unchanged=1)
    assert store.bars("AAPL") == corrected


def test_bars_of_several_symbols_are_stored_together(store: MarketStore) -> None:
    upsert(store, "MSFT", [bar(0), bar(1)])
    counts = store.upsert({"MSFT": [bar(1, close=11.0), bar(0)], "AAPL": [bar(2), bar(0)], "IBM": []})
    assert counts == {
        "MSFT": UpsertCounts(updated=1, unchanged=1),
        "AAPL": UpsertCounts(inserted=2),
        "IBM": UpsertCounts(),
    }
    assert store.symbols() == ["AAPL", "MSFT"]


def test_what_is_not_known_stays_unknown(store: MarketStore) -> None:
    close_only = Bar(FIRST_DAY, None, None, None, -37.63)
    assert upsert(store, "CL", [close_only]) == UpsertCounts(inserted=1)
    assert upsert(store, "CL", [close_only]) == UpsertCounts(unchanged=1)
    assert store.bars("CL") == [close_only]
    assert upsert(store, "CL", [close_only._replace(volume=5.0)]) == UpsertCounts(updated=1)


def test_bars_of_the_first_schema_stay(location: str) -> None:
    """A store of a version that needed every price and the volume opens with its bars, and takes bars without them."""
    create(location)
    store = open_market_store(location)
    assert store.bars("AAPL") == [bar(0)]
    upsert(store, "AAPL", [Bar(bar(1).day, None, None, None, 11.0)])
    assert (store.first_day("AAPL"), store.last_day("AAPL")) == (bar(0).day, bar(1).day)
    store.close()


def create(location: str) -> None:
    """Write a store with the first schema."""
    values = (bar(0).day.isoformat(), *bar(0)[1:])
    if location.startswith("postgresql://"):
        with psycopg.connect(location, autocommit=True) as server:
            server.execute(store_postgresql._MIGRATIONS[0])
            server.execute("CREATE TABLE market_data_schema AS SELECT 1 AS version")
            server.execute("INSERT INTO bar VALUES ('AAPL', %s, %s, %s, %s, %s, %s, %s)", values)
        return
    with closing(sqlite3.connect(location)) as file, file:
        file.executescript(store_sqlite._MIGRATIONS[0])
        file.execute(f"PRAGMA application_id = {store_sqlite._APPLICATION_ID}")
        file.execute("PRAGMA user_version = 1")
        file.execute("INSERT INTO bar VALUES ('AAPL', ?, ?, ?, ?, ?, ?, ?)", values)


FOURTH_SCHEMA = 4


def create_fourth(location: str) -> None:
    """Write a store with the schema whose bars had a day instead of an interval and a time."""
    values = (bar(0).day.isoformat(), *bar(0)[1:])
    ancient = ("0001-01-01", None, None, None, 1.5, None, None)
    value = ("sma_20", bar(0).day.isoformat(), "10.5")
    if location.startswith("postgresql://"):
        with psycopg.connect(location, autocommit=True) as server:
            server.execute("SET TIME ZONE 'America/New_York'")
            for script in store_postgresql._MIGRATIONS[:FOURTH_SCHEMA]:
                server.execute(script)
            server.execute("CREATE TABLE market_data_schema AS SELECT 4 AS version")
            for row in (values, ancient):
                server.execute("INSERT INTO bar VALUES ('AAPL', %s, %s, %s, %s, %s, %s, %s)", row)
            server.execute("INSERT INTO indicator VALUES ('AAPL', %s, %s, %s)", value)
            server.execute("INSERT INTO answer VALUES ('AAPL', 'request', 'tag', '', %s)", values[:1])
        return
    with closing(sqlite3.connect(location)) as file, file:
        for script in store_sqlite._MIGRATIONS[:FOURTH_SCHEMA]:
            file.executescript(script)
        file.execute(f"PRAGMA application_id = {store_sqlite._APPLICATION_ID}")
        file.execute("PRAGMA user_version = 4")
        for row in (values, ancient):
            file.execute("INSERT INTO bar VALUES ('AAPL', ?, ?, ?, ?, ?, ?, ?)", row)
        file.execute("INSERT INTO indicator VALUES ('AAPL', ?, ?, ?)", value)
        file.execute("INSERT INTO answer VALUES ('AAPL', 'request', 'tag', '', ?)", values[:1])


def test_daily_bars_and_values_stay_when_bars_get_an_interval(location: str) -> None:
    create_fourth(location)
    with closing(open_market_store(location)) as store:
        assert store.bars("AAPL") == [Bar(date(1, 1, 1), None, None, None, 1.5), bar(0)]
        assert store.indicators("AAPL") == {"sma_20": IndicatorValue(bar(0).day, 10.5)}
        assert store.stored_symbols() == [StoredSymbol("AAPL", 2, date(1, 1, 1), bar(0).day)]
        assert store.last_answer("AAPL") is None  # so the provider is asked again
        assert upsert(store, "AAPL", [bar(0), bar(1)]) == UpsertCounts(inserted=1, unchanged=1)


FIVE_MINUTES, HOURLY = INTERVALS["5min"], INTERVALS["1h"]
FIRST_TIME = datetime(2013, 2, 25, 14, 30, tzinfo=UTC)


def timed(number: int, close: float = 10.0) -> Bar:
    return bar(0, close)._replace(day=FIRST_TIME + timedelta(minutes=5 * number))


def test_bars_of_each_interval_are_kept_apart(store: MarketStore) -> None:
    assert store.upsert({"AAPL": [timed(1), timed(0)]}, FIVE_MINUTES) == {"AAPL": UpsertCounts(inserted=2)}
    assert store.upsert({"AAPL": [timed(0, 11.0)]}, HOURLY) == {"AAPL": UpsertCounts(inserted=1)}
    assert store.upsert({"AAPL": [timed(0), timed(1, 11.0), timed(2)]}, FIVE_MINUTES) == {
        "AAPL": UpsertCounts(inserted=1, updated=1, unchanged=1)
    }
    upsert(store, "AAPL", [bar(0)])
    upsert(store, "MSFT", [bar(1)])
    assert store.bars("AAPL", interval=FIVE_MINUTES) == [timed(0), timed(1, 11.0), timed(2)]
    assert store.bars("AAPL", interval=HOURLY) == [timed(0, 11.0)]
    assert store.bars("AAPL") == [bar(0)]
    assert store.intervals("AAPL") == [FIVE_MINUTES, HOURLY, DAILY]
    assert store.intervals("GOOG") == []
    assert (store.symbols(), store.symbols(DAILY), store.symbols(HOURLY)) == (
        ["AAPL", "MSFT"],
        ["AAPL", "MSFT"],
        ["AAPL"],
    )
    assert store.stored_symbols() == [
        StoredSymbol("AAPL", 3, timed(0).day, timed(2).day, FIVE_MINUTES),
        StoredSymbol("AAPL", 1, timed(0).day, timed(0).day, HOURLY),
        StoredSymbol("AAPL", 1, bar(0).day, bar(0).day),
        StoredSymbol("MSFT", 1, bar(1).day, bar(1).day),
    ]
    assert (store.first_day("AAPL", FIVE_MINUTES), store.last_day("AAPL", FIVE_MINUTES)) == (timed(0).day, timed(2).day)
    assert store.last_day("MSFT", HOURLY) is None


def test_a_part_of_the_bars_with_a_time_can_be_read(store: MarketStore) -> None:
    bars = [timed(number) for number in (-288, 0, 1, 2, 288)]  # 288 are a day
    store.upsert({"AAPL": bars}, FIVE_MINUTES)
    assert store.bars("AAPL", interval=FIVE_MINUTES, until=bars[2].day) == bars[:3]
    assert store.bars("AAPL", interval=FIVE_MINUTES, until=FIRST_DAY) == bars[:4]  # all of that day
    assert store.bars("AAPL", interval=FIVE_MINUTES, until=FIRST_DAY, last=1) == bars[3:4]


def test_weeks_and_months_have_days(store: MarketStore) -> None:
    for interval in (WEEKLY, MONTHLY):
        store.upsert({"AAPL": [bar(0)]}, interval)
        assert store.bars("AAPL", interval=interval) == [bar(0)]
    assert store.intervals("AAPL") == [WEEKLY, MONTHLY]


def test_values_and_answers_of_each_interval_are_kept_apart(store: MarketStore) -> None:
    store.store_indicators({"AAPL": {"sma_20": IndicatorValue(timed(1).day, 10.5)}}, FIVE_MINUTES)
    store.store_indicators({"AAPL": {"sma_20": IndicatorValue(timed(0).day, 99.0)}}, FIVE_MINUTES)
    store.store_indicators({"AAPL": {"sma_20": IndicatorValue(FIRST_DAY, 11.0)}})
    assert store.indicators("AAPL", FIVE_MINUTES) == {"sma_20": IndicatorValue(timed(1).day, 10.5)}
    assert store.indicators("AAPL") == {"sma_20": IndicatorValue(FIRST_DAY, 11.0)}
    answer = LastAnswer("request", '"v1"', "", timed(1).day)
    store.store_answer("AAPL", answer, FIVE_MINUTES)
    assert (store.last_answer("AAPL", FIVE_MINUTES), store.last_answer("AAPL")) == (answer, None)


def test_the_data_of_one_interval_can_be_deleted(store: MarketStore) -> None:
    store.upsert({"AAPL": [timed(0), timed(1)]}, FIVE_MINUTES)
    upsert(store, "AAPL", [bar(0)])
    store.store_indicators({"AAPL": {"sma_20": IndicatorValue(timed(1).day, 10.5)}}, FIVE_MINUTES)
    store.store_indicators({"AAPL": {"sma_20": IndicatorValue(FIRST_DAY, 11.0)}})
    assert store.delete(["AAPL"], FIVE_MINUTES) == {"AAPL": 2}
    assert (store.intervals("AAPL"), store.indicators("AAPL", FIVE_MINUTES)) == ([DAILY], {})
    assert store.indicators("AAPL") == {"sma_20": IndicatorValue(FIRST_DAY, 11.0)}
    assert store.delete(["AAPL"]) == {"AAPL": 1}


def test_an_empty_list_of_bars_is_accepted(store: MarketStore) -> None:
    assert upsert(store, "AAPL", []) == UpsertCounts()
    assert (store.bars("AAPL"), store.last_day("AAPL"), store.symbols()) == ([], None, [])


def test_a_part_of_the_bars_can_be_read(store: MarketStore) -> None:
    bars = [bar(number) for number in range(10)]
    upsert(store, "AAPL", bars)
    assert store.bars("AAPL", last=3) == bars[-3:]
    assert store.bars("AAPL", until=bars[5].day) == bars[:6]
    assert store.bars("AAPL", last=2, until=bars[5].day) == bars[4:6]
    assert store.bars("AAPL", last=100) == bars


def test_some_columns_of_the_bars_can_be_read(store: MarketStore) -> None:
    unknown = Bar(FIRST_DAY, None, None, None, 10.0, None)
    upsert(store, "AAPL", [unknown, bar(1), bar(2, close=11.0)])
    days = [FIRST_DAY + timedelta(days=number) for number in range(3)]
    found = store.columns("AAPL", ("volume", "close", "high"))
    assert list(map(list, found)) == [
        days,
        [],
        [None, 12.5, 12.5],
        [],
        [10.0, 10.0, 11.0],
        [None, 1_000_000.0, 1_000_000.0],
    ]
    assert list(map(list, store.columns("AAPL", ("open",), until=days[1]))) == [days[:2], [None, 10.0], [], [], [], []]
    assert store.columns("AAPL", ("close",), interval=WEEKLY).days == []
    assert store.columns("IBM", ("close", "low")).close == ()


def test_symbols_are_kept_apart(store: MarketStore) -> None:
    upsert(store, "MSFT", [bar(0)])
    upsert(store, "AAPL", [bar(1), bar(2)])
    upsert(store, "aapl", [bar(3)])
    assert store.symbols() == ["AAPL", "MSFT", "aapl"]
    assert store.bars("MSFT") == [bar(0)]
    assert store.last_day("AAPL") == bar(2).day


def test_the_newest_indicator_values_are_stored(store: MarketStore) -> None:
    monday, tuesday = FIRST_DAY, FIRST_DAY + timedelta(days=1)
    bands = IndicatorValue(tuesday, {"lower": 1.0, "middle": 0.1 + 0.2, "upper": 3.0})
    store.store_indicators({"AAPL": {"sma_20": IndicatorValue(monday, 10.5), "cci_20": IndicatorValue(monday, None)}})
    store.store_indicators({"AAPL": {"bollinger_20_2": bands, "sma_20": IndicatorValue(tuesday, 10.75)}})
    store.store_indicators({"AAPL": {"sma_20": IndicatorValue(monday, 99.0)}})  # a late run over older bars
    store.store_indicators({"MSFT": {"sma_20": IndicatorValue(monday, 20.5)}})
    assert store.indicators("AAPL") == {
        "bollinger_20_2": bands,
        "cci_20": IndicatorValue(monday, None),
        "sma_20": IndicatorValue(tuesday, 10.75),
    }
    assert store.indicators("GOOG") == {}


def test_stored_bars_survive_reopening(location: str) -> None:
    first = open_market_store(location)
    upsert(first, "AAPL", [bar(0)])
    first.close()
    second = open_market_store(location)
    assert second.bars("AAPL") == [bar(0)]
    second.close()


def test_processes_that_write_to_one_store_at_the_same_time_all_succeed(location: str) -> None:
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(3)
    writers = [
        fork.Process(target=upsert_together, args=(location, barrier, 10.0 + number / 10)) for number in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    store = open_market_store(location)
    bars = store.bars("AAPL")
    store.close()
    assert len(bars) == 300
    assert len({found.close for found in bars}) == 1  # each upsert was one: no mixture of two writers


def test_a_store_keeps_the_identity_of_its_creation(location: str, store: MarketStore) -> None:
    with closing(open_market_store(location)) as again:
        assert again.identity() == store.identity()
    assert re.fullmatch("[0-9a-f]{16}", store.identity())


def test_another_store_has_another_identity(tmp_path: Path, store: MarketStore) -> None:
    with closing(open_market_store(str(tmp_path / "other.db"))) as other:
        assert other.identity() != store.identity()


def test_the_stored_symbols_are_counted(store: MarketStore) -> None:
    store.upsert({"MSFT": [bar(3)], "AAPL": [bar(0), bar(2)]})
    assert store.stored_symbols() == [
        StoredSymbol("AAPL", 2, bar(0).day, bar(2).day),
        StoredSymbol("MSFT", 1, bar(3).day, bar(3).day),
    ]


def test_the_data_of_symbols_can_be_deleted(store: MarketStore) -> None:
    store.upsert({symbol: [bar(0), bar(1)] for symbol in ("AAPL", "IBM", "MSFT")})
    value = IndicatorValue(FIRST_DAY, 1.5)
    store.store_indicators({symbol: {"sma_1": value} for symbol in ("AAPL", "IBM")})
    store.store_answer("AAPL", LastAnswer("request", '"v1"', "", FIRST_DAY))
    assert store.delete(["AAPL", "MSFT", "GOOG"]) == {"AAPL": 2, "MSFT": 2, "GOOG": 0}
    assert store.symbols() == ["IBM"]
    assert (store.indicators("AAPL"), store.indicators("IBM")) == ({}, {"sma_1": value})
    assert store.last_answer("AAPL") is None


def test_a_store_that_is_open_to_read_can_not_be_changed(location: str, store: MarketStore) -> None:
    upsert(store, "AAPL", [bar(0)])
    with closing(open_market_store(location, read_only=True)) as reader:
        assert reader.bars("AAPL") == [bar(0)]
        assert reader.identity() == store.identity()
        with pytest.raises((sqlite3.OperationalError, psycopg.errors.ReadOnlySqlTransaction), match=r"read-?only"):
            reader.delete(["AAPL"])
    assert store.symbols() == ["AAPL"]


def test_opening_to_read_neither_creates_nor_migrates_a_store(location: str) -> None:
    with pytest.raises(StoreError, match=r"No such file|does not exist"):
        open_market_store(location, read_only=True)
    create(location)
    with pytest.raises(StoreError, match="older schema"):
        open_market_store(location, read_only=True)
    open_market_store(location).close()
    with closing(open_market_store(location, read_only=True)) as reader:
        assert reader.bars("AAPL") == [bar(0)]


def test_a_newer_schema_in_postgresql_is_refused(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        connection.execute("CREATE TABLE market_data_schema AS SELECT 99 AS version")
    for read_only in (False, True):
        with pytest.raises(StoreError, match=r"newer stockworker \(schema 99"):
            open_market_store(dsn, read_only=read_only)


def test_the_last_answer_of_a_provider_is_kept_or_forgotten(store: MarketStore) -> None:
    first, second = (LastAnswer(request, '"v1"', "", FIRST_DAY) for request in ("first", "second"))
    store.store_answer("AAPL", first)
    store.store_answer("MSFT", first)
    store.store_answer("AAPL", second)
    store.store_answer("MSFT", None)
    assert (store.last_answer("AAPL"), store.last_answer("MSFT")) == (second, None)


def test_all_that_use_a_store_share_the_rate_of_a_provider(location: str, store: MarketStore) -> None:
    with closing(open_market_store(location)) as other:
        assert [each.begin_request("one", 3, 1000.0) for each in (store, other, store)] == [0.0, 0.0, 0.0]
        assert all(990 < each.begin_request("one", 3, 1000.0) <= 1000 for each in (store, other, store))
        assert other.begin_request("another", 3, 1000.0) == 0


def test_a_request_is_counted_for_the_period_of_the_rate(store: MarketStore) -> None:
    assert store.begin_request("one", 1, 0.05) == 0
    while delay := store.begin_request("one", 1, 0.05):
        assert delay <= 0.05
        time.sleep(delay)


def test_splits_and_dividends_are_kept_by_symbol_and_day(store: MarketStore) -> None:
    split = Action(FIRST_DAY, ActionKind.SPLIT, 2.0)
    dividend = Action(FIRST_DAY, ActionKind.DIVIDEND, 0.25)
    later = Action(FIRST_DAY + timedelta(days=90), ActionKind.DIVIDEND, 0.3)
    assert store.store_actions({"AAPL": [later, split, dividend], "MSFT": [dividend]}) == 4
    assert store.store_actions({"AAPL": [later, split._replace(value=4.0)], "IBM": []}) == 1
    assert store.store_actions({}) == 0
    assert store.actions("AAPL") == [dividend, split._replace(value=4.0), later]
    assert (store.actions("MSFT"), store.actions("IBM")) == ([dividend], [])
    upsert(store, "AAPL", [bar(0)])
    store.delete(["AAPL"], DAILY)
    assert len(store.actions("AAPL")) == 3
    store.delete(["AAPL"])
    assert (store.actions("AAPL"), store.actions("MSFT")) == ([], [dividend])
