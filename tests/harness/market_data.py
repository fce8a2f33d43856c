"""Reads from a market-data store what no part of the product reads back."""

import json
import sqlite3
from contextlib import closing
from datetime import date

import psycopg

from stockworker.handlers.market import IndicatorValue


def stored_indicators(location: str, symbol: str) -> dict[str, IndicatorValue]:
    """The newest indicator values of a symbol, by label."""
    query = "SELECT name, day, value FROM indicator WHERE symbol = {} ORDER BY name"
    if location.startswith("postgresql://"):
        with psycopg.connect(location) as server:
            rows = [(name, str(day), value) for name, day, value in server.execute(query.format("%s"), (symbol,))]
    else:
        with closing(sqlite3.connect(location)) as file:
            rows = file.execute(query.format("?"), (symbol,)).fetchall()
    return {name: IndicatorValue(date.fromisoformat(day), json.loads(value)) for name, day, value in rows}
