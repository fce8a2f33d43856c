"""A source in a SQLite file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stockworker.adapters.sqlite import Connection, DatabaseError, connect
from stockworker.errors import ConfigError
from stockworker.migration.address import SourceAddress
from stockworker.migration.mapping import SourceMapping
from stockworker.migration.source import Container, Raw, SourceFailed
from stockworker.migration.statements import SqlStyle, Statement, Statements
from stockworker.migration.table import TableSource, reported, samples

# A writer of SQLite locks the whole file: while a page is claimed, no old worker can claim a row of it. Identifiers are in
# backticks, because SQLite takes an unknown name in double quotes for a text (https://sqlite.org/quirks.html, section 8).
STYLE = SqlStyle(quote="`", mark="?", lock="")

_BUSY_S = 30.0


class SqliteDatabase:
    """A connection to a file. See `Database`."""

    failures: tuple[type[Exception], ...] = (DatabaseError,)

    def __init__(self, address: SourceAddress, *, read_only: bool) -> None:
        path = Path(address.path)
        if address.host or not address.path:
            raise ConfigError(
                f"SOURCE: {address.shown}: name a file by its absolute path, as in sqlite:///var/lib/app/jobs.db"
            )
        if not path.is_file():
            raise SourceFailed(f"{address.shown}: {path} is not a file; correct the path")
        self.shown = address.shown
        self.server = f"sqlite://{path.resolve()}"
        self._begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        uri = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rw'}"
        self._connection: Connection = connect(
            uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        self._connection.text_factory = _text

    def execute(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """See `Database`."""
        if not self._connection.in_transaction:
            self._connection.execute(self._begin)
        return self._connection.execute(*statement).fetchall()

    def commit(self) -> None:
        """See `Database`."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """See `Database`."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """See `Database`."""
        self._connection.close()


def open_source(address: SourceAddress, mapping: SourceMapping, *, read_only: bool) -> TableSource:
    """Open the table that a mapping names."""
    statements = Statements(STYLE, mapping)
    return TableSource(SqliteDatabase(address, read_only=read_only), statements, mapping, read_only=read_only)


def survey(address: SourceAddress) -> list[Container]:
    """All tables of the file."""
    database = SqliteDatabase(address, read_only=True)
    try:
        with reported(database):
            found = database.execute(
                ("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name", ())
            )
            return [_sampled(database, str(name)) for (name,) in found]
    finally:
        database.close()


def _sampled(database: SqliteDatabase, name: str) -> Container:
    columns = database.execute(("SELECT name FROM pragma_table_info(?)", (name,)))
    return samples(database, name, [str(column) for (column,) in columns], _quoted, _quoted(name))


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _text(value: bytes) -> Raw:
    """Text, or the bytes of a text that is not UTF-8: `decoding` refuses it with a reason."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
