"""A source in a table of a database, by Python's DB-API."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Protocol
from uuid import UUID

from stockworker.migration.mapping import SourceMapping
from stockworker.migration.source import (
    Container,
    Found,
    Position,
    Raw,
    Record,
    SourceFailed,
    SourcePage,
    SourceToken,
    Standing,
)
from stockworker.migration.statements import CHUNK, Statement, Statements

SAMPLES: Final = 20
"""Records of a table that `--inspect` looks at."""


class Database(Protocol):
    """A connection of one kind of database."""

    shown: str
    server: str
    """Identifies the server and the database, with any spelling of their address."""

    failures: tuple[type[Exception], ...]
    """The errors of the library."""

    def execute(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Run one statement; return its rows. Begins a transaction if none runs."""

    def commit(self) -> None:
        """Make everything since the last commit durable."""

    def rollback(self) -> None:
        """Undo everything since the last commit, and free its locks."""

    def close(self) -> None:
        """End the connection."""


@contextmanager
def reported(database: Database) -> Iterator[None]:
    """Undo a failed transaction, and name the database in its error."""
    try:
        yield
    except database.failures as error:
        with suppress(*database.failures):
            database.rollback()
        raise SourceFailed(f"{database.shown}: {' '.join(str(error).split())}") from error
    except BaseException:
        with suppress(*database.failures):
            database.rollback()
        raise


class TableSource:
    """The rows of one table. See `Source`."""

    def __init__(self, database: Database, statements: Statements, mapping: SourceMapping, *, read_only: bool) -> None:
        self._database = database
        self._statements = statements
        self._locks = not read_only
        self._deletes = mapping.deletes
        self.identity = mapping.name or f"{database.server}/{mapping.containers[0]}"
        self.shown = f"{database.shown} table {mapping.containers[0]}"

    def page(self, standing: Standing, after: Position | None, limit: int) -> SourcePage:
        """See `Source`. Pending rows stay locked until the next `shift`."""
        if standing is Standing.MOVED and self._deletes:
            return SourcePage(())
        with reported(self._database):
            locks = self._locks and standing is Standing.PENDING
            rows = self._database.execute(self._statements.page(standing, after, limit, lock=locks))
            if not locks:
                self._database.commit()
        columns = self._statements.columns
        found = tuple(
            Found(values[0], dict(zip(columns, values, strict=True)))
            for values in (tuple(map(raw, row)) for row in rows)
        )
        return SourcePage(found, found[-1].token if len(found) == limit else None)

    def shift(self, tokens: Collection[SourceToken], before: Standing, after: Standing) -> Collection[SourceToken]:
        """See `Source`."""
        shifted: list[SourceToken] = []
        wanted = list(tokens)
        with reported(self._database):
            for start in range(0, len(wanted), CHUNK):
                some = wanted[start : start + CHUNK]
                rows = self._database.execute(self._statements.among(before, some, lock=True))
                if own := [raw(token) for (token,) in rows]:
                    self._shift(own, before, after)
                    shifted += own
            self._database.commit()
        return shifted

    def _shift(self, tokens: Sequence[SourceToken], before: Standing, after: Standing) -> None:
        self._database.execute(self._statements.shift(tokens, before, after))
        if after is Standing.MOVED and self._deletes:
            return
        # A database may keep another value without an error: MySQL writes an empty text for an unknown word of an ENUM.
        rows = self._database.execute(self._statements.among(after, tokens, lock=False))
        if len(rows) != len(tokens):
            raise SourceFailed(
                f"{self.shown}: the values of standings.{after} do not fit into their columns. Choose other values in the "
                "mapping. Nothing was changed"
            )

    def counts(self) -> Mapping[Standing, int]:
        """See `Source`."""
        counted: dict[Standing, int] = {}
        with reported(self._database):
            for standing in Standing:
                if self._statements.knows(standing):
                    ((number,), *_) = self._database.execute(self._statements.count(standing))
                    counted[standing] = number
            self._database.commit()
        return counted

    def close(self) -> None:
        """See `Source`."""
        with suppress(*self._database.failures):
            self._database.rollback()
        self._database.close()


def raw(value: Any) -> Raw:
    """A value of a database in the form that `decoding` expects."""
    convert = next((how for kind, how in _CONVERSIONS if isinstance(value, kind)), None)
    return value if convert is None else convert(value)


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


_CONVERSIONS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], Raw]], ...]] = (
    ((datetime, date, time), lambda value: value.isoformat()),
    (timedelta, lambda value: value.total_seconds()),
    (Decimal, _number),
    (UUID, str),
    ((memoryview, bytearray), bytes),
)


def samples(
    database: Database, name: str, columns: Sequence[str], quoted: Callable[[str], str], table: str
) -> Container:
    """A few rows of a table, and its size.

    Args:
        database: is read.
        name: of the table, as a mapping names it.
        columns: its columns; those of a table without rows are known, too.
        quoted: quotes an identifier.
        table: its quoted name.
    """
    listed = ", ".join(map(quoted, columns))
    rows = database.execute((f"SELECT {listed} FROM {table} LIMIT {SAMPLES:d}", ()))
    ((size,), *_) = database.execute((f"SELECT COUNT(*) FROM {table}", ()))
    records: list[Record] = [dict(zip(columns, map(raw, row), strict=True)) for row in rows]
    return Container("table", name, tuple(records) or (dict.fromkeys(columns),), size)
