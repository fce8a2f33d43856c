"""The order in which turns take what has arrived, and in which a service acknowledges it. Pure."""

# A peer decides how much it sends, so a turn must not take whatever has arrived. The service and the simulation both
# use the rules of this module.
#
# **Bounded.** A turn gets up to `MOST_ITEMS` items and up to `MOST_BYTES` bytes (and the rest of the last message). If
# these messages ask for more work than their size shows, the turn handles a part of them, and gives back the others
# (`TurnOutput.left`). `stockworker.dispatcher.turn` has the arithmetic of the longest turn.
#
# **Fair.** Each sender has a queue: a client or a worker whose ID the broker has proved, as a level of the topic. Messages on
# topics without such a level share one. The queues take turns, and each may take `_QUANTUM` bytes before the next one
# (deficit round robin: M. Shreedhar and G. Varghese, 1995). What a larger message needs is saved up over the rounds. So
# a sender with ten small messages waits for one round, however many large ones another sender has sent. The messages of
# one sender stay in order. MQTT promises no order between senders, nor between topics.
#
# **Short where it matters.** Once all others have what they want, the last sender waits for the next turn, unless its first
# message of this turn is not larger than `_ORDINARY` bytes. A job takes several turns until its result, so a flood would make
# each of these turns as long as it may be. With this rule and a small quantum, a flood adds to a turn about what the largest
# of the other senders has in it. So turns become at most twice as long. A sender without others gets the whole turn, in which
# one commit serves many jobs. It is without others if none of them has sent anything during the last `_QUIET_TURNS` turns: a
# steady sender has sent nothing for most of them.
#
# **Nothing saved up.** A turn may give back what it has taken (`put_back`). Its sender then gets back what it has paid, and no
# more: what it has taken as a whole turn without others, it has not paid. Otherwise a flood would pay for several turns with
# what one of them has given back, and others would wait behind it again and again. Those who got nothing are next.
#
# **Bytes for work.** Small jobs cost more than their bytes show. Each of them is an object in JSON, and each `{` of a body
# counts `_ENVELOPE` bytes. A message counts two of them besides: a job in a message of its own takes 110 µs of the dispatcher's
# time, and one of 50 in a message takes 57. A payload with braces counts more than it costs, which only shortens its sender's
# share. Large bodies mostly have few of them (`objects_in`).
#
# What happens to the service itself comes first, in its order: the link went up or down, a job ended, an operator sends a
# signal. This is little, and the same for any number of peers.
#
# **Acknowledged in order.** A client must acknowledge messages in the order in which they arrived ([MQTT-4.6.0-2]). So a
# message that was handled early waits for its acknowledgement until all messages before it were handled. If the process
# ends before that, the broker delivers it again. That is safe for every message, as after any crash.
#
# **What fairness can't do.** The broker sends up to 1,000 messages ahead of their acknowledgement (the receive maximum),
# in the order in which it got them. A flood fills this window, and then messages of others wait in the broker's queue
# behind the flood. No order of handling changes that, so what counts is that each message of a flood is cheap. Queries are
# answered elsewhere (`stockworker.dispatcher.queries`).
#
# Messages of QoS 0 have no such window: the broker sends them as fast as the link reads, and keeps the rest. If a flood of
# them waits there, so do all messages behind it. So the link reads on, and a sender whose messages fill `MOST_WAITING` bytes
# loses further ones of QoS 0 (`is_full`), which costs less than to handle them. Nothing else is dropped: a submitter without
# a reply address sends a job once.

from collections import deque
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from stockworker.adapters.mqtt import Delayed, Delivery, LinkDown, LinkItem, LinkUp, PublishRefused
from stockworker.protocol import topics
from stockworker.protocol.body import MAX_LIST
from stockworker.protocol.packet import Packet
from stockworker.shell.turn import LinkChanged

MOST_ITEMS: Final = 1000
"""Items of one turn, so that acknowledgements keep flowing under load."""

MOST_BYTES: Final = 4 * 1024 * 1024
"""Bytes of the messages of one turn."""

_QUANTUM: Final = 16 * 1024
"""Bytes that a sender may take in one round: below a millisecond of work."""

_ORDINARY: Final = MAX_LIST * 1536
"""Bytes of a message with as many entries as this software puts into one, each of them small."""

MOST_WAITING: Final = 16 * 1024 * 1024
"""Bytes of the waiting messages of one sender, above which it loses those of QoS 0."""

_QUIET_TURNS: Final = 32
"""Turns after which a sender that has sent nothing does not count as another one any longer."""

_ENVELOPE: Final = 1024
"""Bytes that each object in a message counts besides its body, and half of what the message itself counts."""

_FEW_OBJECTS: Final = 12

T = TypeVar("T")


def turn_input(item: LinkItem) -> Packet | LinkChanged | object | None:
    """Translate an item of the link; None if it does not concern the turn.

    A packet that the broker did not pass on comes back as its tag, which the turn attached to it.
    """
    match item:
        case Delivery(packet=packet):
            return packet
        case LinkUp():
            return LinkChanged(up=True)
        case LinkDown():
            return LinkChanged(up=False)
        case PublishRefused(packet=packet):
            return packet.tag
        case Delayed():
            return None


class _Sender:
    """The messages of one sender that wait, each with its size; their bytes; and what it may take."""

    __slots__ = ("credit", "waiting", "waiting_bytes")

    def __init__(self) -> None:
        self.waiting: deque[tuple[Delivery, int]] = deque()
        self.waiting_bytes = 0
        self.credit = 0

    def put(self, item: Delivery) -> None:
        self.waiting.append((item, _size(item)))
        self.waiting_bytes += len(item.packet.body)

    def take(self) -> tuple[Delivery, int]:
        item, size = self.waiting.popleft()
        self.waiting_bytes -= len(item.packet.body)
        return item, size

    def put_back(self, item: Delivery) -> int:
        size = _size(item)
        self.waiting.appendleft((item, size))
        self.waiting_bytes += len(item.packet.body)
        return size


class Arrivals(Generic[T]):
    """Keeps what arrives until a turn takes it, and received messages until they are acknowledged.

    `T` is what arrives besides messages.
    """

    def __init__(self) -> None:
        self._own: deque[T] = deque()
        self._senders: dict[str | None, _Sender] = {}  # a queue: the first one is the next
        self._turn = 0
        self._sent_at: dict[
            str | None, int
        ] = {}  # the last turn for which a sender had sent something, the oldest first
        self._paid = True
        self._unacknowledged: deque[Delivery] = deque()
        self._handled: set[int] = set()

    def __bool__(self) -> bool:
        """Whether something waits."""
        return bool(self._own or self._senders)

    def put(self, item: T | Delivery) -> None:
        """Add an item."""
        if isinstance(item, Delivery):
            self._unacknowledged.append(item)
            self._senders.setdefault(_name(item), _Sender()).put(item)
        else:
            self._own.append(item)

    def is_full(self, item: Delivery) -> bool:
        """Whether the sender of a message has too many others that wait."""
        sender = self._senders.get(_name(item))
        return sender is not None and sender.waiting_bytes > MOST_WAITING

    def skip(self, item: Delivery) -> list[Delivery]:
        """Drop a message that arrives; return the messages that may be acknowledged now, in their order."""
        self._unacknowledged.append(item)
        return self.handled([item])

    def drop(self, name: str) -> list[Delivery]:
        """Drop the messages of a sender that wait; return them, and regard them as handled next."""
        sender = self._senders.pop(name, None)
        return [] if sender is None else [item for item, _size in sender.waiting]

    def take(self, most_items: int = MOST_ITEMS, most_bytes: int = MOST_BYTES) -> list[T | Delivery]:
        """Take out the items of the next turn."""
        taken: list[T | Delivery] = [self._own.popleft() for _ in range(min(most_items, len(self._own)))]
        alone, served = self._is_without_others(), set[str | None]()
        before = len(taken)
        while self._senders and len(taken) < most_items and most_bytes > 0:
            name = next(iter(self._senders))
            is_last = not alone and len(self._senders) == 1 and len(taken) > before
            if is_last and (name in served or self._senders[name].waiting[0][1] > _ORDINARY):
                break
            sender = self._senders.pop(name)
            sender.credit += _QUANTUM
            while sender.waiting and len(taken) < most_items and most_bytes > 0:
                if sender.waiting[0][1] > sender.credit:
                    break
                item, size = sender.take()
                served.add(name)
                taken.append(item)
                sender.credit -= size
                most_bytes -= size
            if sender.waiting:
                self._senders[name] = sender
        self._paid = not alone
        if alone:
            for sender in self._senders.values():
                sender.credit = 0
        return taken

    def put_back(self, left: Iterable[Delivery]) -> None:
        """Return messages that the last turn has taken but not handled. Their senders are the next ones.

        The first one of them may have been served in part, so it comes last.
        """
        returned: dict[str | None, _Sender] = {}
        for item in reversed(list(left)):
            name = _name(item)
            if name not in returned:
                returned[name] = self._senders.pop(name, _Sender())
            size = returned[name].put_back(item)
            returned[name].credit += size if self._paid else 0
        if returned:
            self._senders = returned | self._senders

    def _is_without_others(self) -> bool:
        """Note who has sent something for this turn; return whether no other sender has, lately."""
        self._turn += 1
        for name in self._senders:
            self._sent_at.pop(name, None)
            self._sent_at[name] = self._turn
        while self._sent_at and self._sent_at[oldest := next(iter(self._sent_at))] <= self._turn - _QUIET_TURNS:
            del self._sent_at[oldest]
        return len(self._sent_at) <= 1

    def handled(self, items: Iterable[object]) -> list[Delivery]:
        """Note what a turn has handled, and return the messages that may be acknowledged now, in their order."""
        self._handled.update(id(item) for item in items if isinstance(item, Delivery))
        ready = []
        while self._unacknowledged and id(self._unacknowledged[0]) in self._handled:
            item = self._unacknowledged.popleft()
            self._handled.discard(id(item))
            ready.append(item)
        return ready


def _name(item: Delivery) -> str | None:
    return topics.sender_of(item.packet.topic)


def objects_in(body: bytes) -> int:
    """How many objects a body may have: the number of its braces."""
    # `count` looks at each byte. A search for the next brace is thirty times as fast where they are far from each other.
    place = -1
    for found in range(_FEW_OBJECTS):
        place = body.find(b"{", place + 1)
        if place < 0:
            return found
    return _FEW_OBJECTS + body.count(b"{", place + 1)


def _size(item: Delivery) -> int:
    body = item.packet.body
    return _ENVELOPE * (2 + objects_in(body)) + len(body)
