"""What a log event is: its level, its cause, its text and its meaning. PURE."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, Final, Never, TypeVar, dataclass_transform


class LogLevel(IntEnum):
    """How important an event is: the numbers of the standard library's `logging`."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Cause:
    """The origin of an event: `logs.flood` limits its lines by it.

    Attributes:
        lines_a_minute: the most lines of each key in a minute; None where only this program or its administrator can
            cause the event, and every line is logged.
        key: fields by whose values lines are counted. Their values must not be free for a peer to choose, or it would
            have a new allowance for each of them. A topic counts by its first two levels.
    """

    lines_a_minute: int | None
    key: tuple[str, ...] = ()


HERE: Final = Cause(None)
"""Only this program or its administrator."""


def peer(*key: str) -> Cause:
    """Another program, as often as it likes: a client, a worker, the dispatcher or the broker."""
    return Cause(50, key)


def work(*key: str) -> Cause:
    """A job, or its handler: on a busy fleet often, without any attacker."""
    return Cause(600, key)


@dataclass_transform(frozen_default=True, kw_only_default=True)
class LogEvent:
    """What happened. A field that is None is not logged.

    A subclass declares its fields as a frozen dataclass with keyword-only fields does, and behaves like one. It is none,
    because `dataclasses` compiles six functions for each class: every start of a service would compile hundreds.

    Attributes:
        name: the `event` of a JSON line and of an entry in the systemd journal; the class name in snake case.
        field_names: its fields, in the order in which they are logged.
        level: how important it is.
        cause: what can make it occur.
        text: the same words every time, to search for.
        meaning: what happened and what to do about it, for `docs/logging.md` and `journalctl -x`.
    """

    name: ClassVar[str]
    field_names: ClassVar[tuple[str, ...]] = ()
    level: ClassVar[LogLevel]
    cause: ClassVar[Cause]
    text: ClassVar[str]
    meaning: ClassVar[str]
    _defaults: ClassVar[dict[str, object]] = {}

    def __init_subclass__(cls) -> None:
        added = tuple(cls.__annotations__)
        cls.field_names = cls.field_names + added
        cls._defaults = cls._defaults | {name: getattr(cls, name) for name in added if hasattr(cls, name)}

    if not TYPE_CHECKING:  # a type checker derives it from the fields

        def __init__(self, **values: object) -> None:
            own = self.__dict__
            own.update(self._defaults, **values)
            if own.keys() != set(self.field_names):
                raise TypeError(f"{type(self).__name__} has the fields {self.field_names}, not {tuple(own)}")

    def __setattr__(self, name: str, _value: object) -> Never:
        raise AttributeError(f"{name} can't be changed")

    def __delattr__(self, name: str) -> Never:
        raise AttributeError(f"{name} can't be deleted")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.values().values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.values().items())})"

    def values(self) -> dict[str, object]:
        """The fields with their values."""
        return {name: getattr(self, name) for name in self.field_names}


E = TypeVar("E", bound=LogEvent)

EVENTS: Final[list[type[LogEvent]]] = []
"""Every event, in the order of the catalogue."""


def declare(level: LogLevel, cause: Cause, text: str, meaning: str) -> Callable[[type[E]], type[E]]:
    def enter(cls: type[E]) -> type[E]:
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        cls.level, cls.cause, cls.text, cls.meaning = level, cause, text, meaning
        EVENTS.append(cls)
        return cls

    return enter


class EventOfAttempt(LogEvent):
    """An event about an attempt."""

    job: str
    type: str
    attempt: int
