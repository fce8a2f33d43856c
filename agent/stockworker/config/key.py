"""What a key of the configuration is: its kind, its default and its meaning. `schema` has the keys."""

import dataclasses
from collections.abc import Iterator
from dataclasses import field
from typing import Any, TypeVar

from stockworker.config.kinds import AnyKind, written
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.job import JobOptions
from stockworker.protocol.wire import plan_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key:
    """The properties of a key besides its type and default.

    Attributes:
        kind: allowed values and their format.
        meaning: one or two sentences for the reference.
        name: the key in the file, if it is not the field's name without its unit.
        shown: the default in the reference, if it depends on the machine or on other keys.
    """

    kind: AnyKind
    meaning: str
    name: str = ""
    shown: str = ""


def key(default: T, kind: AnyKind, meaning: str, *, name: str = "", shown: str = "", secret: bool = False) -> T:
    """A key with its default. A secret one is left out of the representation of its section."""
    return field(default=default, repr=not secret, metadata=described(kind, meaning, name=name, shown=shown))


def described(kind: AnyKind, meaning: str, *, name: str = "", shown: str = "") -> dict[str, Key]:
    """The metadata of a field: where a key has no default."""
    return {"key": Key(kind, meaning, name, shown)}


def job_default(default: T, option: str) -> T:
    """The key for the default of a job option: its bounds and meaning are those of the option."""
    (found,) = (each for each in plan_of(JobOptions).fields if each.attribute == option)
    return key(default, written(found.kind), f"{found.meaning[0].upper()}{found.meaning[1:]}.")


def job_limit(default: T, option: str) -> T:
    """The key for the most that a job may ask for by one of its options: within the bounds of that option."""
    (found,) = (each for each in plan_of(JobOptions).fields if each.attribute == option)
    shown = f"`{written(found.kind).show(default)}`, or the default in `job_defaults` if that is more"
    return key(default, written(found.kind), f"Largest `{found.name}` that a job may ask for.", shown=shown)


def type_limit(option: str) -> Any:
    """The key for such a limit of one job type."""
    (found,) = (each for each in plan_of(JobOptions).fields if each.attribute == option)
    meaning = f"Largest `{found.name}` of jobs of this type; bounds the default as well."
    return key(None, written(found.kind), meaning, shown="as in `dispatcher.job_limits`")


def keys(section: type) -> Iterator[tuple[str, Key, "dataclasses.Field[Any]"]]:
    """The keys of a section in file order: name in the file, description, dataclass field."""
    for each in dataclasses.fields(section):
        own: Key = each.metadata["key"]
        yield own.name or each.name.removesuffix("_s").removesuffix("_bytes"), own, each
