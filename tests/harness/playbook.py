"""Playbooks: the events that a machine receives and the effects that it returns, on virtual time.

A playbook fails if the machine returns an effect that the test did not expect, in any turn. Time passes only with
`Playbook.after`, which runs the machine exactly when the machine asked for it.
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

_MOST_TURNS_WITHOUT_TIME = 20
"""More turns than this without time passing count as spinning."""


@dataclass(slots=True)
class VirtualClock:
    """The time of a playbook, in seconds; only `wall` can step."""

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
        raise TypeError(f"{self._name} can't be hashed: it may not have a value yet")

    def __repr__(self) -> str:
        return f"<{self._name}>" if self._met is None else repr(self._met)


def placeholder(name: str) -> Any:
    """A value that equals the first object it is compared with, and from then on only that."""
    return _Placeholder(name)


class Playbook(ABC, Generic[EventT, EffectT]):
    """Drives one machine. Use it as a context: leaving it checks that every effect was expected."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._unexpected: list[EffectT] = []

    @abstractmethod
    def turn(self, events: Sequence[EventT]) -> list[EffectT]:
        """Run a turn of the machine, commit what it saves, and return its other effects."""

    @abstractmethod
    def next_in_s(self) -> float:
        """Seconds until the machine must run again without an event."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.expect()

    def tell(self, *events: EventT) -> None:
        """Pass events to the machine in one turn. All effects of earlier turns must have been expected."""
        self.expect()
        self._unexpected = self.turn(events)

    def expect(self, *effects: object) -> None:
        """Check that the machine has returned exactly these effects, in this order, since the last call."""
        returned, self._unexpected = self._unexpected, []
        if list(effects) != returned:
            raise AssertionError(_difference(effects, returned))

    def after(self, seconds: float) -> None:
        """Let time pass; the machine runs whenever it asked for it, and at the end."""
        self.expect()
        left, turns = seconds, 0
        while (pause_s := self.next_in_s()) < left:
            turns = turns + 1 if pause_s == 0 else 0
            if turns > _MOST_TURNS_WITHOUT_TIME:
                raise AssertionError("the machine spins: it asks to run again immediately, and does nothing")
            self.clock.advance(pause_s)
            left -= pause_s
            self._unexpected += self.turn(())
        self.clock.advance(left)
        self._unexpected += self.turn(())


def _difference(expected: Sequence[object], returned: Sequence[object]) -> str:
    lines = difflib.ndiff(_lines(expected), _lines(returned))
    return "\n".join(["expected (-) and returned (+):", *lines])


def _lines(effects: Sequence[object]) -> list[str]:
    return [line for effect in effects for line in pformat(effect, width=118).splitlines()]
