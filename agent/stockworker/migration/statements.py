"""The SQL of a source in a database: text and values. Pure."""

# Identifiers come from the mapping, and are quoted. All values are bound. They are text, also for columns of numbers: each
# database converts a bound text to the type of the column that it is compared with.

from collections.abc import Mapping, Sequence
from typing import Final

from stockworker.errors import ConfigError
from stockworker.migration.mapping import SourceMapping, Values
from stockworker.migration.source import Position, SourceToken, Standing
from stockworker.protocol.frozen import dataclass

Bound = str | int | float | None
Statement = tuple[str, tuple[Bound, ...]]

CHUNK: Final = 500
"""Most tokens of one statement: SQLite and others bound the number of values."""


@dataclass(frozen=True, slots=True)
class SqlStyle:
    """How a database writes SQL.

    Attributes:
        quote: around identifiers.
        mark: for a bound value.
        lock: at the end of a SELECT whose rows must not change before the transaction ends.
    """

    quote: str
    mark: str
    lock: str


class Statements:
    """The statements for one table."""

    def __init__(self, style: SqlStyle, mapping: SourceMapping) -> None:
        if mapping.kind != "table" or len(mapping.containers) != 1:
            raise ConfigError("the mapping must name one table of a database, such as 'table: jobs'")
        if mapping.id.field is None or mapping.id.read:
            raise ConfigError(
                "'id' of the mapping must be a column, without 'fixed' and 'read': it finds the row again"
            )
        self._style = style
        self._mapping = mapping
        self._table = ".".join(map(self.quoted, mapping.containers[0].split(".")))
        self._id = self.quoted(mapping.id.field)
        self.columns = tuple(dict.fromkeys((mapping.id.field, *mapping.columns)))

    def quoted(self, name: str) -> str:
        """An identifier."""
        quote = self._style.quote
        text = f"{quote}{name.replace(quote, quote * 2)}{quote}"
        return text.replace("%", "%%") if self._style.mark == "%s" else text

    def page(self, standing: Standing, after: Position | None, limit: int, *, lock: bool) -> Statement:
        """Read rows of one standing, in the order of their IDs."""
        where, values = self._where(standing)
        if after is not None:
            where, values = f"{where} AND {self._id} > {self._style.mark}", (*values, after)
        columns = ", ".join(map(self.quoted, self.columns))
        text = f"SELECT {columns} FROM {self._table} WHERE {where} ORDER BY {self._id} LIMIT {limit:d}"
        return f"{text}{self._style.lock if lock else ''}", values

    def among(self, standing: Standing, tokens: Sequence[SourceToken], *, lock: bool) -> Statement:
        """The tokens among these that are in a standing."""
        where, values = self._where(standing)
        text = f"SELECT {self._id} FROM {self._table} WHERE {self._in(tokens)} AND {where}"
        return f"{text}{self._style.lock if lock else ''}", (*tokens, *values)

    def shift(self, tokens: Sequence[SourceToken], before: Standing, after: Standing) -> Statement:
        """Change the standing of rows that are in `before`."""
        where, values = self._where(before)
        if after is Standing.MOVED and self._mapping.deletes:
            return f"DELETE FROM {self._table} WHERE {self._in(tokens)} AND {where}", (*tokens, *values)
        written = self._written(after)
        assignments = ", ".join(f"{self.quoted(column)} = {self._style.mark}" for column in written)
        text = f"UPDATE {self._table} SET {assignments} WHERE {self._in(tokens)} AND {where}"
        return text, (*written.values(), *tokens, *values)

    def count(self, standing: Standing) -> Statement:
        """Count the rows of a standing."""
        where, values = self._where(standing)
        return f"SELECT COUNT(*) FROM {self._table} WHERE {where}", values

    def knows(self, standing: Standing) -> bool:
        """Whether the mapping has values for a standing."""
        return standing in self._mapping.standings

    def _written(self, standing: Standing) -> Mapping[str, str | None]:
        """What makes a row one of this standing.

        To make it pending, undo what the other standings write: the first value that the mapping has for a pending row, or null
        in a column of which it has none.
        """
        values = self._values(standing)
        own = [column for each in _WRITTEN for column in self._mapping.standings.get(each, {})]
        columns = own if standing is Standing.PENDING else [*values, *(name for name in own if name not in values)]
        pending = self._values(Standing.PENDING)
        return {column: (values.get(column) or pending.get(column) or (None,))[0] for column in dict.fromkeys(columns)}

    def _values(self, standing: Standing) -> Values:
        values = self._mapping.standings.get(standing)
        if not values:
            raise ConfigError(
                f"standings.{standing} is missing in the mapping; add the columns and values of such a row, or use a preset"
            )
        return values

    def _where(self, standing: Standing) -> tuple[str, tuple[Bound, ...]]:
        parts, bound = self._conditions(self._values(standing), negated=False)
        excluded, more = self._conditions(self._mapping.exclude, negated=True)
        return " AND ".join([*parts, *excluded]), (*bound, *more)

    def _conditions(self, values: Values, *, negated: bool) -> tuple[list[str], list[Bound]]:
        parts: list[str] = []
        bound: list[Bound] = []
        for column, allowed in values.items():
            name, present = self.quoted(column), [value for value in allowed if value is not None]
            choices = [f"{name} IN ({self._marks(len(present))})"] if present else []
            choices += [f"{name} IS NULL"] if None in allowed else []
            condition = f"({' OR '.join(choices)})"
            if negated:  # a comparison with null is neither true nor false
                condition = f"NOT COALESCE({condition}, FALSE)"
            parts.append(condition)
            bound += present
        return parts, bound

    def _in(self, tokens: Sequence[SourceToken]) -> str:
        return f"{self._id} IN ({self._marks(len(tokens))})"

    def _marks(self, number: int) -> str:
        return ", ".join([self._style.mark] * number)


_WRITTEN: Final = (Standing.CLAIMED, Standing.MOVED, Standing.RETURNING)
"""The standings whose values this program writes."""
