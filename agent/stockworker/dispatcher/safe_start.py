"""Ends a loop of restarts: when a dispatcher discards the messages that the broker keeps for it."""

# The broker keeps the messages for a dispatcher until they are acknowledged, which is after the commit. If a message ends
# the process (a defect, too much memory, a hang that the watchdog ends), the broker sends it again to the next process.
# systemd would restart the dispatcher forever.
#
# A mark on the disk breaks this loop. It exists from the start of a process until the process has run well for
# `HEALTHY_S`, or has stopped in good order. It counts the processes in a row that left it. A process that finds
# `BAD_STARTS_MAX` of them discards the session at the broker (MQTT 5.0, clean start), and with it all kept messages.
#
# Not earlier: one or two processes may have ended for another reason, such as a kill by an operator or by the kernel. And
# not every sender repeats its messages: `mosquitto_pub` sends a job once, and relies on the broker. A sender that waits for
# its receipt loses nothing by that. It can also send the same message again, so the mark holds the topics of the turn that
# did not end: the next process logs them, and they name the sender.

from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

from stockworker.protocol.packet import Packet
from stockworker.shell.turn import CommonInput, Now, TurnOutput, Turns

HEALTHY_S: Final = 300.0
"""What a broker keeps arrives long before that, and the watchdog ends a process that hangs."""

BAD_STARTS_MAX: Final = 5
"""Processes in a row that have ended soon after their start, and not in good order."""

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


def read_mark(text: str | None) -> tuple[int, str]:
    """From the text of a mark, the number of processes in a row that have left it, and the topics of the last one."""
    count, _, topics = (text or "").partition(" ")
    return int(count) if count.isdecimal() else 0, topics


class MarkedTurns(Generic[InputT, OutputT]):
    """Takes the turns of another object, and keeps the mark of this process.

    Args:
        turns: decide and commit.
        mark: of this process.
        since: when the process started (`Now.steady`).
        number: of the process, among those in a row that leave a mark.
    """

    def __init__(self, turns: Turns[InputT, OutputT], mark: Mark, since: float, number: int) -> None:
        self._turns = turns
        self._mark = mark
        self._number = number
        self._healthy_at = since + HEALTHY_S
        self._marked = True
        self._write()

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
        self._write(_topics(items))
        output = self._turns.take(items, now)
        self._write()
        return output

    def next_in_s(self, now: Now) -> float:
        """Seconds until the next turn must be taken, even if nothing happens before."""
        return self._turns.next_in_s(now)

    def _write(self, topics: str = "") -> None:
        self._mark.write(f"{self._number} {topics}")


def _topics(items: Sequence[object]) -> str:
    """The first topics of a turn, for people."""
    found = dict.fromkeys(item.topic[:_TOPIC_LENGTH_MAX] for item in items if isinstance(item, Packet))
    return " ".join(list(found)[:_TOPICS_MAX])
