"""One turn of a worker: packets and events in, the machine decides, the journal commits, orders and packets out."""

# The twin of `stockworker.dispatcher.turn`. Synchronous, without a broker and without a clock of its own: the service
# runs it in the thread that owns the journal, the simulation on virtual time.
#
# What is journaled, and why before anything else happens:
#
# =================  ==========================================  =======================================================
# entry              committed before                            or else, after a crash
# =================  ==========================================  =======================================================
# `Accept`           the lease is claimed in a request           the worker would claim a lease whose payload it lost
# `MarkStarted`      the executor gets the attempt               a job that kills its worker would be started for ever
# `RecordOutcome`    the outcome is reported                     the dispatcher would store a result that can change
# `Forget`           the acknowledgement is acknowledged         nothing: the report is sent again, and is known
# =================  ==========================================  =======================================================

from collections.abc import Collection, Sequence
from typing import Protocol

from stockworker.errors import DecodeError
from stockworker.logs.events import LogEvent, MessageRefused
from stockworker.protocol import codec
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.messages import Message
from stockworker.protocol.packet import Packet
from stockworker.shell.departures import departures
from stockworker.shell.turn import Now, Send, TurnOutput
from stockworker.worker.effects import Accept, Entry, Event, Forget, Leave, MarkStarted, RecordOutcome, Start, Stop
from stockworker.worker.machine import WorkerMachine
from stockworker.worker.tally import WorkerTally

Input = Packet | Event
"""What a turn is about. A packet is decoded; an event goes to the machine as it is."""


class LeaseJournal(Protocol):
    """Where leases are kept: `stockworker.worker.journal`, on disk."""

    def commit(self, entries: Collection[Entry]) -> None:
        """Make all of `entries` durable, in order, or none.

        Raises:
            StoreError: none of them is durable.
        """


@dataclass(frozen=True, slots=True)
class WorkerOutput(TurnOutput):
    """What to do once a turn is committed.

    Attributes:
        orders: for the executor, before anything is published.
        leave: nothing is left to do: the worker ends when the packets are sent.
    """

    orders: tuple[Start | Stop, ...]
    leave: bool


class WorkerTurns:
    """Takes turns with one machine and one journal.

    Args:
        machine: decides.
        journal: keeps.

    Attributes:
        tally: what was committed.
    """

    def __init__(self, machine: WorkerMachine, journal: LeaseJournal) -> None:
        self._machine = machine
        self._journal = journal
        self._refused = 0
        self.tally = WorkerTally()

    def take(self, items: Sequence[Input], now: Now) -> WorkerOutput:
        """Decide and commit. When this returns, everything that led to the orders and packets is durable.

        Raises:
            StoreError: nothing of this turn is durable, and the machine must not be used any more.
        """
        log: list[LogEvent] = []
        events: list[Event] = []
        for item in items:
            if isinstance(item, Packet):
                try:
                    events.append(codec.decode(item))
                except DecodeError as error:
                    log.append(self._refuse(error))
            else:
                events.append(item)
        effects = self._machine.handle(events, now.steady)
        orders: list[Start | Stop] = []
        messages: list[Message] = []
        entries: list[Entry] = []
        leave = False
        for effect in effects:  # one look at each of them: in a drain, they are half a dozen for each job
            match effect:
                case Accept() | MarkStarted() | RecordOutcome() | Forget():
                    entries.append(effect)
                case Start() | Stop():
                    orders.append(effect)
                case Send(message=message):
                    messages.append(message)
                case Leave():
                    leave = True
                case _:
                    log.append(effect)
        if entries:
            self._journal.commit(entries)
            self.tally.committed(entries, now.steady)
        packets = [packet for message in messages for packet in departures(message, log)]
        return WorkerOutput(tuple(packets), tuple(log), tuple(orders), leave)

    def next_in_s(self, now: Now) -> float:
        """Seconds until the next turn is wanted, though nothing may have happened."""
        return self._machine.next_in_s(now.steady)

    def _refuse(self, error: DecodeError) -> MessageRefused:
        self._refused += 1
        return MessageRefused(topic=error.topic, reason=error.reason, count=self._refused)
