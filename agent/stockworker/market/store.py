"""Opens the market-data store that the configuration names."""

import sys
from pathlib import Path

from stockworker.adapters.sqlite import DatabaseError
from stockworker.errors import StoreError
from stockworker.market.bars import MarketStore
from stockworker.market.location import is_file
from stockworker.market.store_sqlite import SqliteMarketStore


def store_failures() -> tuple[type[Exception], ...]:
    """The errors that an open store raises if its file or its server can't be used."""
    psycopg = sys.modules.get("psycopg")  # imported by the first store in PostgreSQL
    return (DatabaseError,) if psycopg is None else (DatabaseError, psycopg.Error)


def open_market_store(location: str, *, read_only: bool = False) -> MarketStore:
    """Open the store at `location`: a database for ``postgresql://…``, otherwise the SQLite file of that path.

    Args:
        location: where it is.
        read_only: neither create nor change anything.

    Raises:
        StoreError: the store can't be used, or psycopg is missing.
        psycopg.Error: the PostgreSQL server can't be reached, or refuses the connection.
    """
    if is_file(location):
        return SqliteMarketStore(Path(location), read_only=read_only)
    try:
        from stockworker.market.store_postgresql import PostgresqlMarketStore  # noqa: PLC0415 (psycopg is optional)
    except ImportError as error:
        message = f"market data in PostgreSQL needs psycopg 3 ({error}); run: apt install python3-psycopg"
        raise StoreError(message) from error
    return PostgresqlMarketStore(location, read_only=read_only)
