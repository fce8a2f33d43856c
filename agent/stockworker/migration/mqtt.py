"""A source in the topics of an old worker: retained messages, or the messages that a session has."""

# An old worker that is stopped leaves its session at the broker, with the messages that wait for it. `?session=CLIENT_ID` reads
# them under the client ID of that worker. Without it, the source reads the retained messages of the topics.
#
# A claim is only in the memory of this program: MQTT can't move a message in one step. What excludes an old worker is its
# client ID, because a broker has one connection for each. So a message leaves after the receipt alone:
#
# - of a session, it is acknowledged then. After a kill, the broker has all others, and sends them to the next run.
# - a retained one is cleared then, by an empty retained message. After a kill, it is still there.
#
# The next run submits these again, under the same IDs: the dispatcher recognises them. So an old worker must stay stopped until
# the last run has ended. It may get a message whose job the dispatcher has.
#
# `claim_id` is the topic and a digest of topic and body. So the same message is the same job in each run, in each session that
# has a copy of it, and as a retained message. Two equal messages are one job.
#
# A topic has one retained message. Another one that a producer publishes in the same moment may be cleared in place of the
# first. The subscription shows that: the broker sends the new one before it sends the empty one. Then it is published again.
#
# A look (`--dry-run`, `--verify`) does not read a session: to take it over disconnects its worker, and what was published with
# QoS 0 would be lost.

import secrets
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.mqtt_visit import EVERYTHING, NEVER_EXPIRES, Arrival, BrokerVisit, VisitFailed
from stockworker.adapters.tls import TlsFiles
from stockworker.errors import ConfigError
from stockworker.migration.address import SourceAddress
from stockworker.migration.mapping import SourceMapping
from stockworker.migration.source import (
    Container,
    Found,
    Position,
    Record,
    SourceFailed,
    SourcePage,
    SourceToken,
    Standing,
)
from stockworker.migration.topics import claim_id, matches, topic_record
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.packet import Packet

SESSION: Final = "session"
"""The option of an address that names the client ID of an old worker."""

OLD_TOPICS: Final = "jobs/queue/#"
"""Where producers of the old guide publish jobs."""

WINDOW: Final = 65_535
"""Messages that a broker sends before it waits for acknowledgements."""

SAMPLES: Final = 20
_KEEPALIVE_S: Final = 60
_MORE: Final = "more"


@dataclass(frozen=True, slots=True)
class _TopicMessage:
    """A message that is at the broker."""

    token: SourceToken
    arrival: Arrival

    @property
    def topic(self) -> str:
        return self.arrival.packet.topic

    @property
    def found(self) -> Found:
        return Found(self.token, topic_record(self.topic, self.arrival.packet.body))


class TopicSource:
    """What sessions and retained messages have in common. See `Source`."""

    def __init__(self, visit: BrokerVisit, address: SourceAddress, mapping: SourceMapping) -> None:
        self._visit = visit
        self._topics = mapping.containers
        self.shown = f"{address.shown} topic {', '.join(mapping.containers)}"
        self.identity = mapping.name or f"mqtt://{(address.host or 'localhost').lower()}:{port_of(address)}"
        self._known: dict[SourceToken, _TopicMessage] = {}
        self._claimed: dict[SourceToken, _TopicMessage] = {}
        self._unshown: deque[SourceToken] = deque()
        self._shown: set[SourceToken] = set()
        self._left = 0
        self._left_before = -1

    def page(self, standing: Standing, after: Position | None, limit: int) -> SourcePage:
        """See `Source`."""
        if standing is not Standing.PENDING:
            return SourcePage(())
        with self._reported():
            if after is None:
                self._begin()
            while len(self._unshown) < limit and self._look():
                pass
        tokens = [self._unshown.popleft() for _ in range(min(limit, len(self._unshown)))]
        found = tuple(self._known[token].found for token in tokens if token in self._known)
        self._shown.update(tokens)
        hidden = self._waits() or self._full(shown=bool(tokens))
        return SourcePage(found, _MORE if self._unshown or hidden else None)

    def _begin(self) -> None:
        """Begin a pass: what is still there is shown again."""
        self._shown.clear()
        self._unshown = deque(self._known)

    def _waits(self) -> bool:
        """Whether claimed messages may hide further ones, which the broker sends after some have left."""
        progress, self._left_before = self._left != self._left_before, self._left
        return bool(self._claimed) and progress

    def _full(self, *, shown: bool) -> bool:  # noqa: ARG002 (a session needs it)
        """Whether messages that stay may hide further ones; `shown`: the page has some."""
        return False

    def _look(self) -> bool:
        """Take what has arrived; whether there is something new."""
        raise NotImplementedError

    def _add(self, message: _TopicMessage) -> bool:
        """Note a message; whether it is new in this pass."""
        if message.token in self._claimed or message.token in self._known:
            return False
        self._known[message.token] = message
        if message.token not in self._shown:
            self._unshown.append(message.token)
        return True

    def shift(self, tokens: Collection[SourceToken], before: Standing, after: Standing) -> Collection[SourceToken]:
        """See `Source`."""
        with self._reported():
            if (before, after) == (Standing.PENDING, Standing.CLAIMED):
                return self._between(tokens, self._known, self._claimed)
            if (before, after) == (Standing.CLAIMED, Standing.PENDING):
                return self._between(tokens, self._claimed, self._known)
            if (before, after) == (Standing.CLAIMED, Standing.MOVED):
                gone = {token: self._claimed[token] for token in tokens if token in self._claimed}
                self._leave(gone.values())
                for token in gone:
                    del self._claimed[token]
                self._left += len(gone)
                return list(gone)
        raise ConfigError("MQTT keeps no moved messages, so they can't return. Publish them again where they come from")

    @staticmethod
    def _between(
        tokens: Collection[SourceToken],
        before: dict[SourceToken, _TopicMessage],
        after: dict[SourceToken, _TopicMessage],
    ) -> Collection[SourceToken]:
        shifted = [token for token in tokens if token in before]
        after |= {token: before.pop(token) for token in shifted}
        return shifted

    def _leave(self, messages: Collection[_TopicMessage]) -> None:
        """Let the broker delete messages."""
        raise NotImplementedError

    def counts(self) -> Mapping[Standing, int]:
        """See `Source`."""
        with self._reported():
            self._look()
        return {Standing.PENDING: len(self._known), Standing.CLAIMED: len(self._claimed)}

    def close(self) -> None:
        """See `Source`."""
        with suppress(VisitFailed):
            self._visit.close()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except VisitFailed as error:
            raise SourceFailed(f"{self.shown}: {error}") from None


class SessionSource(TopicSource):
    """The messages that wait for an old worker."""

    def __init__(self, visit: BrokerVisit, address: SourceAddress, mapping: SourceMapping) -> None:
        super().__init__(visit, address, mapping)
        self._number = 0
        self._others = 0

    def _look(self) -> bool:
        new = False
        for arrival in self._visit.arrivals():
            if any(matches(each, arrival.packet.topic) for each in self._topics):
                self._number += 1
                new |= self._add(_TopicMessage(self._number, arrival))
            else:
                self._others += 1  # such as orders to this worker: they stay
        return new

    def _full(self, *, shown: bool) -> bool:
        """See above. Messages that can't be moved stay unacknowledged, and a broker sends no more than `WINDOW` of them."""
        if len(self._known) + len(self._claimed) + self._others < WINDOW:
            return False
        if not shown and not self._claimed:
            raise SourceFailed(
                f"{self.shown}: {len(self._known)} messages can't be moved and {self._others} have other topics, so the broker "
                "sends no more. Start the old worker, which takes them, and run the command again"
            )
        return shown

    def _leave(self, messages: Collection[_TopicMessage]) -> None:
        self._visit.acknowledge(each.arrival for each in messages)


class RetainedSource(TopicSource):
    """The retained messages of topics.

    They are cleared through a connection of its own: with both answers on one, each would wait for TCP (Nagle's algorithm).
    """

    def __init__(self, visit: BrokerVisit, address: SourceAddress, mapping: SourceMapping) -> None:
        super().__init__(visit, address, mapping)
        self._address = address
        self._producer: BrokerVisit | None = None
        self._current: dict[str, SourceToken] = {}
        self._clearing: dict[str, SourceToken] = {}
        self._replaced: list[_TopicMessage] = []

    def _look(self) -> bool:
        self._visit.subscribe(self._topics)
        return self._take()

    def _take(self) -> bool:
        new = False
        arrivals = self._visit.arrivals()
        for arrival in arrivals:
            if arrival.packet.retain:
                new |= self._note(arrival)
        self._visit.acknowledge(arrivals)
        return new

    def _note(self, arrival: Arrival) -> bool:
        """Note the retained message that a topic has now; an empty one means that it has none."""
        topic = arrival.packet.topic
        before = self._current.pop(topic, None)
        gone = None if before is None else self._known.get(before)
        if not arrival.packet.body and not arrival.packet.fault:
            if gone is not None and topic in self._clearing:
                self._replaced.append(gone)  # cleared in place of the one that was meant
            elif before is not None:
                self._known.pop(before, None)
            return False
        message = _TopicMessage(claim_id(topic, arrival.packet.body), arrival)
        self._current[topic] = message.token
        if before not in {None, message.token}:
            self._known.pop(before or "", None)
        return self._add(message)

    def _leave(self, messages: Collection[_TopicMessage]) -> None:
        """Clear those that have not been replaced meanwhile; see the head of this module."""
        self._take()
        self._clearing = {each.topic: each.token for each in messages if self._current.get(each.topic) == each.token}
        self._publish(Packet(topic, b"", retain=True) for topic in self._clearing)
        self._take()
        again, self._replaced, self._clearing = self._replaced, [], {}
        self._publish(Packet(each.topic, each.arrival.packet.body, retain=True) for each in again)

    def _publish(self, packets: Iterable[Packet]) -> None:
        if self._producer is None:
            self._producer = visited(self._address, None)
        self._producer.publish(packets)

    def close(self) -> None:
        """See `Source`."""
        super().close()
        with suppress(VisitFailed):
            if self._producer is not None:
                self._producer.close()


def port_of(address: SourceAddress) -> int:
    """The port of an address, or the usual one."""
    return address.port or (8883 if address.scheme == "mqtts" else 1883)


def visited(address: SourceAddress, session: str | None) -> BrokerVisit:
    """Connect: under the client ID of an old worker, or under one of this program.

    Raises:
        SourceFailed: no connection, or no such session.
    """
    try:
        visit = BrokerVisit(_settings(address, session))
        if session is None or visit.resumed:
            return visit
        visit.close()
        BrokerVisit(_settings(address, session, keep=False)).close()  # the session that the first connection has made
    except VisitFailed as error:
        raise SourceFailed(f"{address.shown}: {error}") from None
    raise SourceFailed(
        f"{address.shown}: the broker has no session of the client ID {session!r}. It is the client_id_prefix of the old worker "
        "and its ID; the log of the broker shows it when the worker connects"
    )


def _settings(address: SourceAddress, session: str | None, *, keep: bool = True) -> LinkSettings:
    keep = keep and session is not None
    files = [None if (each := address.options.get(name)) is None else Path(each) for name in _FILES]
    password = address.password
    return LinkSettings(
        address.host or "localhost",
        port_of(address),
        session or f"stockworker-migrate-{secrets.token_hex(6)}",
        username=address.user,
        password=None if password is None else lambda: password,
        tls=TlsFiles(*files) if address.scheme == "mqtts" else None,
        keepalive_s=_KEEPALIVE_S,
        clean_start=not keep,
        session_expiry_s=NEVER_EXPIRES if keep else 0,
        receive_maximum=WINDOW,
        accepted=EVERYTHING,
    )


_FILES: Final = ("cafile", "certfile", "keyfile")


def open_source(address: SourceAddress, mapping: SourceMapping, *, read_only: bool) -> TopicSource:
    """Open the topics that a mapping names."""
    if mapping.kind != "topic":
        raise ConfigError(f"the mapping must name topics of MQTT, such as 'topic: {OLD_TOPICS}'")
    if mapping.standings:
        raise ConfigError(
            "'standings' is not for MQTT: a message is at the broker, or moved. Remove it from the mapping"
        )
    if mapping.settings:
        raise ConfigError(f"settings.{next(iter(mapping.settings))} is not a setting of MQTT, which has none")
    session = address.options.get(SESSION)
    if session is None or read_only:
        source: TopicSource = RetainedSource(visited(address, None), address, mapping)
        if session is not None:
            source.shown += (
                f" (retained messages only: those of the session {session} are not visible before they move)"
            )
        return source
    return SessionSource(visited(address, session), address, mapping)


def survey(address: SourceAddress) -> list[Container]:
    """The retained messages of the topics that the address names with `?topic=FILTER`, or of the old guide's."""
    named = [each for each in address.options.get("topic", "").split(",") if each] or [OLD_TOPICS]
    visit = visited(address, None)
    try:
        visit.subscribe(named)
        packets = [each.packet for each in visit.arrivals() if each.packet.retain]
        visit.close()
    except VisitFailed as error:
        raise SourceFailed(f"{address.shown}: {error}") from None
    containers = [_container(each, packets) for each in named]
    if not any(each.size for each in containers):
        raise SourceFailed(
            f"{address.shown}: {' and '.join(named)} has no retained messages. Name other topics after the address, such as "
            "?topic=jobs/%23. Messages of a session are not visible before they move: for those, begin with --preset mqtt"
        )
    return containers


def _container(topic: str, packets: Iterable[Packet]) -> Container:
    records: list[Record] = [topic_record(each.topic, each.body) for each in packets if matches(topic, each.topic)]
    return Container("topic", topic, tuple(records[:SAMPLES]), len(records))
