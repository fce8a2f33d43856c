"""A source in a MariaDB or MySQL database."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pymysql

from stockworker.errors import ConfigError
from stockworker.migration.address import SourceAddress
from stockworker.migration.mapping import SourceMapping
from stockworker.migration.source import Container, SourceFailed
from stockworker.migration.statements import SqlStyle, Statement, Statements
from stockworker.migration.table import TableSource, reported, samples

_OPTION_FILE = Path("~/.my.cnf")
_SKIPS_LOCKED = {True: (10, 6), False: (8, 0)}
"""The first version that has SKIP LOCKED: of MariaDB, and of MySQL."""


class MysqlDatabase:
    """A connection to a database. See `Database`."""

    failures: tuple[type[Exception], ...] = (pymysql.Error,)

    def __init__(self, address: SourceAddress) -> None:
        self.shown = address.shown
        name = address.path.strip("/")
        if not name:
            raise ConfigError(f"SOURCE: {self.shown}: name the database after the host, such as mysql://HOST/shop")
        known: dict[str, Any] = {
            "host": address.host,
            "port": address.port,
            "user": address.user,
            "password": address.password,
            "unix_socket": address.options.get("unix_socket") or address.options.get("socket"),
        }
        file = _OPTION_FILE.expanduser()
        if file.exists():  # as the programs of MySQL do: what the address lacks
            known["read_default_file"] = str(file)
        try:
            self._connection = pymysql.connect(
                database=name,
                charset="utf8mb4",
                connect_timeout=30,
                autocommit=False,
                init_command="SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
                **{key: value for key, value in known.items() if value is not None},
            )
        except pymysql.Error as error:
            raise SourceFailed(f"{self.shown}: can't connect: {_reason(error)}") from None
        ((version, host, port),) = self.execute(("SELECT VERSION(), @@hostname, @@port", ()))
        self.commit()
        self.server = f"mysql://{host}:{port}/{name}"
        numbers = re.findall(r"\d+", str(version))
        self.skips_locked = tuple(map(int, numbers[:2])) >= _SKIPS_LOCKED["MariaDB" in str(version)]

    def execute(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """See `Database`."""
        text, values = statement
        with self._connection.cursor() as cursor:
            cursor.execute(text, values or None)
            return list(cursor.fetchall()) if cursor.description else []

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
    database = MysqlDatabase(address)
    lock = " FOR UPDATE SKIP LOCKED" if database.skips_locked else " FOR UPDATE"
    return TableSource(database, Statements(SqlStyle("`", "%s", lock), mapping), mapping, read_only=read_only)


def survey(address: SourceAddress) -> list[Container]:
    """All tables of the database."""
    database = MysqlDatabase(address)
    try:
        with reported(database):
            found = database.execute(("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'", ()))
            return [_sampled(database, str(name)) for name, _ in found]
    finally:
        database.close()


_COLUMNS = (
    "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s "
    "ORDER BY ordinal_position"
)


def _sampled(database: MysqlDatabase, name: str) -> Container:
    columns = database.execute((_COLUMNS, (name,)))
    return samples(database, name, [str(column) for (column,) in columns], _quoted, _quoted(name))


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _reason(error: pymysql.Error) -> str:
    return " ".join(str(error.args[-1] if error.args else error).split())
