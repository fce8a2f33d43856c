"""Stories of a machine: what it is told, and what follows, on virtual time.

A book fails where an effect was not expected, and where one was not told before the story ended. Time passes only with
`Playbook.after`, which looks at the machine exactly when the machine asked for it.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pprint import pformat
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

EventT = TypeVar("EventT")
EffectT = TypeVar("EffectT")

_MOST_LOOKS_AT_ONCE = 20
"""Looks at the clock while no time passes, before that counts as spinning."""


@dataclass(slots=True)
class VirtualClock:
    """The time of a story, in seconds; only `wall` can step."""

    steady: float
    wall: float

    def advance(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds


class _Placeholder:
    def __init__(self, name: str) -> None:
        self._name = name
        self._met: object = None

    def __eq__(self, other: object) -> bool:
        if self._met is None:
            self._met = other
        return self._met == other

    def __hash__(self) -> int:
        raise TypeError(f"{self._name} can't be looked up: it may not have met its value")

    def __repr__(self) -> str:
        return f"<{self._name}>" if self._met is None else repr(self._met)


def placeholder(name: str) -> Any:
    """Stands for whatever it is compared with first, and only for that from then on."""
    return _Placeholder(name)


class Playbook(ABC, Generic[EventT, EffectT]):
    """One story. Use as a context: it ends with the check that nothing is left untold."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._untold: list[EffectT] = []

    @abstractmethod
    def turn(self, events: Sequence[EventT]) -> list[EffectT]:
        """Let the machine take a turn, commit what it saves, and return the effects that the story is about."""

    @abstractmethod
    def next_in_s(self) -> float:
        """Seconds until the machine wants to look at the clock."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.expect()

    def tell(self, *events: EventT) -> None:
        """Let these events happen in one turn. What came of earlier ones must have been expected."""
        self.expect()
        self._untold = self.turn(events)

    def expect(self, *effects: object) -> None:
        """Exactly these effects came, in this order, since the last call."""
        came, self._untold = self._untold, []
        if list(effects) != came:
            raise AssertionError(_difference(effects, came))

    def after(self, seconds: float) -> None:
        """Let time pass; the machine takes its turns when it wants to, and at the end."""
        self.expect()
        left, looks = seconds, 0
        while (pause_s := self.next_in_s()) < left:
            looks = looks + 1 if pause_s == 0 else 0
            if looks > _MOST_LOOKS_AT_ONCE:
                raise AssertionError("the machine spins: it wants to look at the clock, and nothing comes of it")
            self.clock.advance(pause_s)
            left -= pause_s
            self._untold += self.turn(())
        self.clock.advance(left)
        self._untold += self.turn(())


def _difference(expected: Sequence[object], came: Sequence[object]) -> str:
    lines = difflib.ndiff(_lines(expected), _lines(came))
    return "\n".join(["what was expected (-) and what came (+):", *lines])


def _lines(effects: Sequence[object]) -> list[str]:
    return [line for effect in effects for line in pformat(effect, width=118).splitlines()]
