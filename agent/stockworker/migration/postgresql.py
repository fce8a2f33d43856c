"""A source in a PostgreSQL database."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.types.string import TextLoader

from stockworker.migration.address import SourceAddress
from stockworker.migration.mapping import SourceMapping
from stockworker.migration.source import Container, SourceFailed
from stockworker.migration.statements import SqlStyle, Statement, Statements
from stockworker.migration.table import TableSource, reported, samples

STYLE = SqlStyle(quote='"', mark="%s", lock=" FOR UPDATE SKIP LOCKED")


class PostgresqlDatabase:
    """A connection to a database. See `Database`."""

    failures: tuple[type[Exception], ...] = (psycopg.Error,)

    def __init__(self, address: SourceAddress) -> None:
        self.shown = address.shown
        try:
            # libpq completes the address: PGPASSWORD, ~/.pgpass, a service file.
            url = address.url.replace("postgres://", "postgresql://", 1)
            self._connection = psycopg.connect(url, connect_timeout=30, password=address.password)
        except psycopg.Error as error:
            raise SourceFailed(f"{self.shown}: can't connect: {' '.join(str(error).split())}") from None
        for name in ("json", "jsonb"):  # as text: the payload travels as it is written
            self._connection.adapters.register_loader(name, TextLoader)
        self.server = self._identity()

    def _identity(self) -> str:
        (row,) = self.execute(
            ("SELECT system_identifier::text || '/' || current_database() FROM pg_control_system()", ())
        )
        self.commit()
        return f"postgresql://{row[0]}"

    def execute(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """See `Database`."""
        text, values = statement
        cursor = self._connection.execute(text, values or None)
        return [] if cursor.description is None else cursor.fetchall()

    def commit(self) -> None:
        """See `Database`."""
        self._connection.commit()

    def rollback(self) -> None:
        """See `Database`."""
        self._connection.rollback()

    def close(self) -> None:
        """See `Database`."""
        self._connection.close()


def open_source(address: SourceAddress, mapping: SourceMapping, *, read_only: bool) -> TableSource:
    """Open the table that a mapping names."""
    statements = Statements(STYLE, mapping)
    return TableSource(PostgresqlDatabase(address), statements, mapping, read_only=read_only)


def survey(address: SourceAddress) -> list[Container]:
    """All tables that this user can read."""
    database = PostgresqlDatabase(address)
    try:
        with reported(database):
            found = database.execute((_TABLES, ()))
            return [_sampled(database, str(schema), str(name)) for schema, name in found]
    finally:
        database.close()


_TABLES = (
    "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' "
    "AND table_schema NOT IN ('pg_catalog', 'information_schema') "
    "AND has_table_privilege(format('%%I.%%I', table_schema, table_name), 'SELECT') ORDER BY 1, 2"
).replace("%%", "%")


_COLUMNS = (
    "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s "
    "ORDER BY ordinal_position"
)


def _sampled(database: PostgresqlDatabase, schema: str, name: str) -> Container:
    columns = database.execute((_COLUMNS, (schema, name)))
    shown = name if schema == "public" else f"{schema}.{name}"
    return samples(
        database, shown, [str(column) for (column,) in columns], _quoted, f"{_quoted(schema)}.{_quoted(name)}"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
