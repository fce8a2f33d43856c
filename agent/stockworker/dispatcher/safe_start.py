"""Ends a loop of restarts: when a dispatcher discards the messages that the broker keeps for it."""

# The broker keeps the messages for a dispatcher until they are acknowledged, which is after the commit. If a message ends
# the process (a defect, too much memory, a hang that the watchdog ends), the broker sends it again to the next process.
# systemd would restart the dispatcher forever.
#
# A mark on the disk breaks this loop. It exists from the start of a process until the process has run well for
# `HEALTHY_S`, or has stopped in good order. A process that finds the mark of its predecessor discards the session at the
# broker (MQTT 5.0, clean start), and with it all kept messages. So a kept message ends two processes at most:
#
# ===========  ====================================================================  ====================================
# process 1    has run well for long; the message arrives, and ends it               it leaves no mark
# process 2    finds no mark, receives the message again, and ends                   it leaves its mark
# process 3    finds the mark, and discards the session                              it works
# ===========  ====================================================================  ====================================
#
# This loses no job: senders repeat their messages until the dispatcher has answered, and only its answer is a promise. A
# sender that is still there can send the same message again. So the mark holds the topics of the turn that did not end:
# the next process logs them, and they name the sender.

from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

from stockworker.protocol.packet import Packet
from stockworker.shell.turn import CommonInput, Now, TurnOutput, Turns

HEALTHY_S: Final = 300.0
"""What a broker keeps arrives long before that, and the watchdog ends a process that hangs."""

_TOPICS_MAX: Final = 20
_TOPIC_LENGTH_MAX: Final = 200

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT", bound=TurnOutput)


class Mark(Protocol):
    """A text on the disk, outside of the job store."""

    def write(self, text: str) -> None:
        """Create the mark, or replace its text."""

    def remove(self) -> None:
        """Remove the mark."""


class MarkedTurns(Generic[InputT, OutputT]):
    """Takes the turns of another object, and keeps the mark of this process.

    Args:
        turns: decide and commit.
        mark: of this process; it exists already.
        since: when the process started (`Now.steady`).
    """

    def __init__(self, turns: Turns[InputT, OutputT], mark: Mark, since: float) -> None:
        self._turns = turns
        self._mark = mark
        self._healthy_at = since + HEALTHY_S
        self._marked = True

    def take(self, items: Sequence[CommonInput | InputT], now: Now) -> OutputT:
        """Decide and commit.

        Raises:
            StoreError: nothing of this turn is durable.
        """
        if self._marked and now.steady >= self._healthy_at:
            self._mark.remove()
            self._marked = False
        if not self._marked:
            return self._turns.take(items, now)
        self._mark.write(_topics(items))
        output = self._turns.take(items, now)
        self._mark.write("")
        return output

    def next_in_s(self, now: Now) -> float:
        """Seconds until the next turn must be taken, even if nothing happens before."""
        return self._turns.next_in_s(now)


def _topics(items: Sequence[object]) -> str:
    """The first topics of a turn, for people."""
    found = dict.fromkeys(item.topic[:_TOPIC_LENGTH_MAX] for item in items if isinstance(item, Packet))
    return " ".join(list(found)[:_TOPICS_MAX])
