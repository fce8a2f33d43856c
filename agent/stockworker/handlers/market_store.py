"""Opens the market-data store that the configuration names."""

from pathlib import Path

from stockworker.errors import StoreError
from stockworker.handlers.market import MarketStore
from stockworker.handlers.market_sqlite import SqliteMarketStore


def open_market_store(location: str, *, read_only: bool = False) -> MarketStore:
    """Open the store at `location`: a database for ``postgresql://…``, otherwise the SQLite file of that path.

    Args:
        location: where it is.
        read_only: neither create nor change anything.

    Raises:
        StoreError: the store can't be used, or psycopg is missing.
        psycopg.Error: the PostgreSQL server can't be reached, or refuses the connection.
    """
    if not location.startswith(("postgresql://", "postgres://")):
        return SqliteMarketStore(Path(location), read_only=read_only)
    try:
        from stockworker.handlers.market_postgresql import PostgresqlMarketStore  # noqa: PLC0415 (psycopg is optional)
    except ImportError as error:
        message = f"market data in PostgreSQL needs psycopg 3 ({error}); run: apt install python3-psycopg"
        raise StoreError(message) from error
    return PostgresqlMarketStore(location, read_only=read_only)
