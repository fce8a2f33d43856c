"""How the records of an old queue become jobs: data, read from a mapping file or a preset. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from stockworker.migration.source import Standing
from stockworker.protocol.frozen import dataclass

DELETE: Final = "delete"
"""In place of values for moved records: they are deleted."""

STEP: Final = "."
"""The beginning of a step into a value."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers as keys of a value map, both ends included; None is without an end. Written `1..3`, `7..` or `..0`."""

    least: float | None
    most: float | None

    def __contains__(self, value: object) -> bool:
        """Whether a number is in the range."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return (self.least is None or self.least <= value) and (self.most is None or value <= self.most)


@dataclass(frozen=True, slots=True)
class ValueMap:
    """Replaces values: an old word or number → a new one.

    Attributes:
        exact: old value as text → new value. Numbers are compared as text, so that 5 and "5" are the same.
        ranges: checked after `exact`, in this order.
    """

    exact: Mapping[str, str]
    ranges: tuple[tuple[Range, str], ...] = ()

    def find(self, value: Any) -> str | None:
        """The new value; None if this one is not mapped."""
        if (found := self.exact.get(str(value))) is not None:
            return found
        number = _number(value)
        return next((new for old, new in self.ranges if number in old), None)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where a value is in a record.

    Attributes:
        field: the name of a field; None with `fixed`.
        read: what is done with its value, in this order: a decoder (`stockworker.migration.decoding`), or a step into the
            value, such as `.data` or `.0`.
        map: replaces the value; one that is not in it is refused, unless `default` or `others` accepts it.
        keep_others: a value that is not in `map` stays as it is.
        default: used if the value is missing, null or not in `map`.
        fixed: the value itself; nothing is read.
        zone: the offset from UTC, in seconds, of times that are written without one.
    """

    field: str | None
    read: tuple[str, ...] = ()
    map: ValueMap | None = None
    keep_others: bool = False
    default: str | None = None
    fixed: str | None = None
    zone_s: float = 0.0


Values = Mapping[str, tuple[str | None, ...]]
"""Columns and the values that a record of one standing has in them; None is null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMapping:
    """The meaning of the records of one queue.

    Attributes:
        containers: the tables, keys or queues, and their kind.
        standings: which values make a record pending, claimed, …; empty where the source keeps that itself.
        exclude: which values make a record foreign: it is neither read nor counted.
        deletes: moved records are deleted.
        name: the identity of the source in place of its own.
        settings: further settings that only one kind of source knows, as text.
    """

    kind: str
    containers: tuple[str, ...]
    id: Lookup
    type: Lookup
    payload: Lookup
    priority: Lookup | None = None
    attempts: Lookup | None = None
    max_attempts: Lookup | None = None
    scheduled: Lookup | None = None
    expires: Lookup | None = None
    timeout: Lookup | None = None
    standings: Mapping[Standing, Values]
    exclude: Values
    deletes: bool = False
    name: str | None = None
    settings: Mapping[str, str]

    @property
    def lookups(self) -> dict[str, Lookup]:
        """The places of all values that are mapped, by the value's name."""
        named = {name: getattr(self, name) for name in LOOKUPS}
        return {name: lookup for name, lookup in named.items() if lookup is not None}

    @property
    def columns(self) -> tuple[str, ...]:
        """All fields of a record that are read, each once."""
        fields = [lookup.field for lookup in self.lookups.values() if lookup.field is not None]
        return tuple(dict.fromkeys(fields))


LOOKUPS: Final = (
    "id",
    "type",
    "payload",
    "priority",
    "attempts",
    "max_attempts",
    "scheduled",
    "expires",
    "timeout",
)
"""The values of a job that a mapping can name."""

REQUIRED: Final = ("id", "type", "payload")
