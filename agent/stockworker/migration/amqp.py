"""A source in queues of RabbitMQ."""

# A worker that consumes a message owns it until it acknowledges, and only as long as its connection lasts. So a claim moves the
# message into a queue of its own, `stockworker.claimed.<first old queue>`: one transaction of AMQP publishes it there and
# acknowledges it in the old queue. The server commits a transaction as a whole, also if the client is killed meanwhile.
# Moved messages are deleted: a queue is not a place to keep them.
#
# A message has a claim ID from the claim on, in a header. It is random, so two equal messages without an ID are two records, and
# two jobs. A token is a digest of the message, with a number that distinguishes equal messages.
#
# Messages that were read and not claimed, such as malformed ones, stay unacknowledged until the next pass begins or the
# connection ends. To return them sooner would show them again and again. Then they are in their old places again.
#
# What this can't promise: RabbitMQ commits a transaction over two queues one after the other. If the power of the server fails
# in between, a message can be in both queues or in neither. Keep the server running while jobs are moved.

import hashlib
import math
import secrets
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from stockworker.errors import ConfigError
from stockworker.migration.address import SourceAddress
from stockworker.migration.mapping import SourceMapping
from stockworker.migration.source import (
    Container,
    Found,
    Position,
    Raw,
    Record,
    SourceFailed,
    SourcePage,
    SourceToken,
    Standing,
)
from stockworker.protocol.frozen import dataclass

_Library = Any  # the objects of pika, which has no annotations

SAMPLES: Final = 20
"""Messages of a queue that `--inspect` looks at."""

USUAL: Final = ("celery", "default", "jobs", "queue", "tasks", "messages")
"""Queues that `--inspect` looks for if the address names none: a client can't list the queues of a server."""

_CLAIMED: Final = "stockworker.claimed."
_CLAIM_ID: Final = "x-stockworker-claim"
_TOKEN: Final = "x-stockworker-token"  # noqa: S105 (the name of a header)
_ORIGIN: Final = "x-stockworker-queue"
_EXPIRATION: Final = "x-stockworker-expiration"
_LONGEST_NAME: Final = 200
_IDLE_S: Final = 0.2
_TIMEOUT_S: Final = 30.0
_PERSISTENT: Final = 2

PROPERTIES: Final = (
    "content_type",
    "content_encoding",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
)
"""The properties of a message that a record has as fields, beside `body`, `headers`, `queue` and `due`."""


@dataclass(frozen=True, slots=True)
class _Message:
    """A message that this connection has and has not acknowledged."""

    tag: int
    queue: str
    token: str
    claim_id: str
    properties: _Library
    body: bytes


class _Queue:
    """The messages of one queue, for this connection."""

    def __init__(self, channel: _Library, name: str) -> None:
        self._channel = channel
        self.name = name

    def ready(self) -> int:
        """The number of messages that no consumer has."""
        return int(self._channel.queue_declare(self.name, passive=True).method.message_count)

    def take(self, limit: int) -> list[tuple[int, _Library, bytes]]:
        """Get messages, at most `limit`, with all that are ready: delivery tag, properties, body."""
        taken: deque[tuple[int, _Library, bytes]] = deque()

        def receive(_channel: _Library, method: _Library, properties: _Library, body: bytes) -> None:
            taken.append((method.delivery_tag, properties, body))

        wanted = min(limit, self.ready())
        if wanted <= 0:
            return []
        # With this bound, exactly the wanted messages are delivered: none has to be given back when the consumer ends.
        self._channel.basic_qos(prefetch_count=wanted)
        consumer = self._channel.basic_consume(self.name, receive)
        while len(taken) < wanted:
            before = len(taken)
            self._channel.connection.process_data_events(time_limit=_IDLE_S)
            if len(taken) == before and self.ready() == 0:
                break  # another consumer was faster
        self._channel.basic_cancel(consumer)
        return list(taken)


class RabbitSource:
    """Queues. See `Source`."""

    def __init__(
        self, connection: _Library, address: SourceAddress, mapping: SourceMapping, *, read_only: bool
    ) -> None:
        if mapping.kind != "queue":
            raise ConfigError("the mapping must name queues of RabbitMQ, such as 'queue: jobs'")
        if mapping.standings:
            raise ConfigError(
                "'standings' is not for RabbitMQ: a message is in its queue, or moved. Remove it from the mapping"
            )
        if mapping.settings:
            raise ConfigError(f"settings.{next(iter(mapping.settings))} is not a setting of RabbitMQ, which has none")
        self._connection = connection
        self._read_only = read_only
        self._names = mapping.containers
        self._own = f"{_CLAIMED}{mapping.containers[0]}"[:_LONGEST_NAME]
        self.shown = f"{address.shown} queue {', '.join(mapping.containers)}"
        cluster = server_properties(connection).get("cluster_name", b"")
        server = cluster.decode() if isinstance(cluster, bytes) else str(cluster)
        place = f"amqp://{server or address.host}{address.path or '/'}"
        self.identity = mapping.name or f"{place}/{','.join(mapping.containers)}"
        self._unacknowledged: dict[SourceToken, _Message] = {}
        self._waiting: list[tuple[int, _Message]] = []
        self._claimed: dict[SourceToken, _Message] = {}
        with self._reported():
            self._channel = self._opened()

    def _opened(self) -> _Library:
        """The channel on which messages are read, and moved in transactions."""
        channel = self._connection.channel()
        for name in self._names:
            declared(channel, name, self.shown)
        if not self._read_only:
            channel.queue_declare(self._own, durable=True)
            channel.tx_select()
        return channel

    def page(self, standing: Standing, after: Position | None, limit: int) -> SourcePage:
        """See `Source`. Messages are kept from other consumers until the next pass."""
        with self._reported():
            if standing is Standing.PENDING:
                return self._pending(after, limit)
            if standing is Standing.CLAIMED and not self._read_only:
                return self._page_of_claimed(after, limit)
        return SourcePage(())

    def _pending(self, after: Position | None, limit: int) -> SourcePage:
        if after is None:
            self._give_back()
            if not self._read_only:
                self._take_claimed()  # for their tokens
        first, left = (int(each) for each in str(after or "0:-1").split(":"))
        for place in range(first, len(self._names)):
            queue = _Queue(self._channel, self._names[place])
            # Messages that arrive during a pass, such as those that return, belong to the next one: a pass has an end.
            left = queue.ready() if place != first or left < 0 else left
            messages = [
                self._read(tag, queue.name, properties, body) for tag, properties, body in queue.take(min(limit, left))
            ]
            if messages:
                return SourcePage(tuple(map(found, messages)), f"{place}:{left - len(messages)}")
        return SourcePage(())

    def _read(self, tag: int, queue: str, properties: _Library, body: bytes) -> _Message:
        digest = hashlib.sha256(f"{queue}\n{properties.message_id}\n".encode() + body).hexdigest()[:32]
        number = 0
        while (token := f"{digest}-{number}") in self._unacknowledged or token in self._claimed:
            number += 1
        message = _Message(tag, queue, token, secrets.token_hex(12), properties, body)
        self._unacknowledged[token] = message
        return message

    def _give_back(self) -> None:
        """Return the messages that were read and not claimed to their places."""
        messages, self._unacknowledged = self._unacknowledged, {}
        for each in messages.values():
            self._channel.basic_reject(each.tag, requeue=True)
        if not self._read_only:
            self._channel.tx_commit()
        for name in self._names if messages else ():
            _Queue(self._channel, name).ready()  # answered after the messages have returned

    def _page_of_claimed(self, after: Position | None, limit: int) -> SourcePage:
        self._take_claimed()
        tokens = sorted(str(token) for token in self._claimed if after is None or str(token) > str(after))[:limit]
        page = tuple(found(self._claimed[token]) for token in tokens)
        return SourcePage(page, tokens[-1] if len(tokens) == limit else None)

    def _take_claimed(self) -> None:
        """Have all messages of the own queue: there are few, and only this program reads them."""
        for tag, properties, body in _Queue(self._channel, self._own).take(1 << 15):
            headers = dict(properties.headers or {})
            claim_id, token, origin = (str(headers.pop(name, "")) for name in (_CLAIM_ID, _TOKEN, _ORIGIN))
            properties.expiration = headers.pop(_EXPIRATION, None)
            properties.headers = headers or None
            self._claimed[token] = _Message(tag, origin, token, claim_id, properties, body)

    def shift(self, tokens: Collection[SourceToken], before: Standing, after: Standing) -> Collection[SourceToken]:
        """See `Source`."""
        if not tokens:
            return ()
        with self._reported():
            if (before, after) == (Standing.PENDING, Standing.CLAIMED):
                return self._move(tokens, self._unacknowledged, claim=True)
            if (before, after) == (Standing.CLAIMED, Standing.PENDING):
                return self._move(tokens, self._all_claimed(tokens), claim=False)
            if (before, after) == (Standing.CLAIMED, Standing.MOVED):
                return self._forget(tokens)
        raise ConfigError(
            "RabbitMQ keeps no moved messages, so they can't return. Submit them again where their jobs come from"
        )

    def _all_claimed(self, tokens: Collection[SourceToken]) -> dict[SourceToken, _Message]:
        if any(token not in self._claimed for token in tokens):
            self._take_claimed()
        return self._claimed

    def _move(
        self, tokens: Collection[SourceToken], among: dict[SourceToken, _Message], *, claim: bool
    ) -> Collection[SourceToken]:
        """Move messages into the own queue, or back from it, in one transaction."""
        moved = [among[token] for token in tokens if token in among]
        for each in moved:
            target, properties = (self._own, claim_properties(each)) if claim else (each.queue, each.properties)
            self._channel.basic_publish("", target, each.body, properties)
        self._acknowledge(moved)
        self._channel.tx_commit()
        for each in moved:
            del among[each.token]
        return [each.token for each in moved]

    def _acknowledge(self, messages: Collection[_Message]) -> None:
        """Acknowledge messages: those before all others together, because each packet costs as much as a message."""
        tags = {each.tag for each in messages}
        others = [
            each.tag for had in (self._unacknowledged, self._claimed) for each in had.values() if each.tag not in tags
        ]
        until = min(others, default=math.inf)
        together = [tag for tag in tags if tag < until]
        if together:
            self._channel.basic_ack(max(together), multiple=True)
        for tag in tags.difference(together):
            self._channel.basic_ack(tag)

    def _forget(self, tokens: Collection[SourceToken]) -> Collection[SourceToken]:
        claimed = self._all_claimed(tokens)
        gone = [claimed[token] for token in tokens if token in claimed]
        self._acknowledge(gone)
        self._channel.tx_commit()
        for each in gone:
            del claimed[each.token]
        return [each.token for each in gone]

    def counts(self) -> Mapping[Standing, int]:
        """See `Source`."""
        with self._reported():
            pending = sum(_Queue(self._channel, name).ready() for name in self._names)
            counted = {Standing.PENDING: pending + len(self._unacknowledged)}
            if not self._read_only:
                counted[Standing.CLAIMED] = _Queue(self._channel, self._own).ready() + len(self._claimed)
            return counted

    def close(self) -> None:
        """See `Source`. Messages that were read and not claimed return; the server returns those of the own queue."""
        from pika.exceptions import AMQPError  # noqa: PLC0415 (the library is optional)

        with suppress(AMQPError, OSError):  # the server returns all messages of a broken connection
            self._give_back()
            self._connection.close()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        from pika.exceptions import AMQPError  # noqa: PLC0415 (the library is optional)

        try:
            yield
        except (AMQPError, OSError) as error:
            raise SourceFailed(f"{self.shown}: {explained(error)}") from error


def found(message: _Message) -> Found:
    """A message as a record."""
    fields: dict[str, Raw] = {name: plain(getattr(message.properties, name, None)) for name in PROPERTIES}
    headers = plain(message.properties.headers or {})
    fields |= {"body": message.body, "headers": headers, "queue": message.queue, "claim_id": message.claim_id}
    return Found(message.token, {**fields, "due": due(fields, headers)})


def due(fields: Record, headers: Mapping[str, Raw]) -> float | None:
    """When a delayed message is due, in seconds since the epoch: its time stamp and its delay. None if it has none."""
    sent = fields.get("timestamp")
    delay = headers.get("x-delay", fields.get("expiration"))
    try:
        return None if sent is None or delay is None else float(sent) + abs(float(delay)) / 1000
    except (TypeError, ValueError):
        return None


def plain(value: Any) -> Raw:
    """A value of AMQP in the form that `decoding` expects."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.timestamp()
    return float(value) if isinstance(value, Decimal) else value


def claim_properties(message: _Message) -> _Library:
    """The properties of a message in the own queue: it must not expire there, and it must survive a restart."""
    from pika import BasicProperties  # noqa: PLC0415 (the library is optional)

    properties = message.properties
    headers = {**(properties.headers or {}), _CLAIM_ID: message.claim_id, _TOKEN: message.token, _ORIGIN: message.queue}
    if properties.expiration is not None:
        headers[_EXPIRATION] = properties.expiration
    kept = {name: getattr(properties, name) for name in PROPERTIES if name not in {"expiration", "user_id"}}
    return BasicProperties(headers=headers, delivery_mode=_PERSISTENT, **kept)


def declared(channel: _Library, name: str, shown: str) -> None:
    """Check that a queue exists."""
    from pika.exceptions import ChannelClosedByBroker  # noqa: PLC0415 (the library is optional)

    try:
        channel.queue_declare(name, passive=True)
    except ChannelClosedByBroker as error:
        raise SourceFailed(
            f"{shown}: {explained(error)}. Correct the name of the queue; 'rabbitmqctl list_queues' lists all"
        ) from error


def explained(error: BaseException) -> str:
    """The text of an error of pika, which may be in an inner error or only in its name."""
    inner = error.args[0] if error.args and isinstance(error.args[0], BaseException) else error
    return " ".join(str(inner).split()) or type(inner).__name__


def server_properties(connection: _Library) -> Mapping[str, Any]:
    """What the server reports about itself; pika keeps it in its inner connection."""
    found: Mapping[str, Any] = getattr(connection._impl, "server_properties", None) or {}  # noqa: SLF001 (no other way)
    return found


def connected(address: SourceAddress) -> _Library:
    """A connection to the server of an address."""
    import ssl  # noqa: PLC0415 (for amqps alone)

    from pika import BlockingConnection, ConnectionParameters, PlainCredentials, SSLOptions  # noqa: PLC0415 (optional)
    from pika.exceptions import AMQPError  # noqa: PLC0415 (the library is optional)

    secure = address.scheme == "amqps"
    options: dict[str, Any] = {}
    if secure:
        context = ssl.create_default_context(cafile=address.options.get("cafile"))
        options["ssl_options"] = SSLOptions(context, address.host)
    parameters = ConnectionParameters(
        host=address.host or "localhost",
        port=address.port or (5671 if secure else 5672),
        virtual_host=address.path[1:] or "/",
        credentials=PlainCredentials(address.user or "guest", address.password or "guest"),
        heartbeat=0,  # nothing answers them while the dispatcher stores jobs
        blocked_connection_timeout=_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S,
        **options,
    )
    try:
        return BlockingConnection(parameters)
    except (AMQPError, OSError) as error:
        raise SourceFailed(
            f"{address.shown}: can't connect: {explained(error)}. Check the address, the user and the password"
        ) from error


def open_source(address: SourceAddress, mapping: SourceMapping, *, read_only: bool) -> RabbitSource:
    """Open the queues that a mapping names."""
    connection = connected(address)
    try:
        return RabbitSource(connection, address, mapping, read_only=read_only)
    except BaseException:
        connection.close()
        raise


def survey(address: SourceAddress) -> list[Container]:
    """The queue that the address names with `?queue=NAME`, or those with a usual name."""
    from pika.exceptions import AMQPError, ChannelClosedByBroker  # noqa: PLC0415 (the library is optional)

    named = [each for each in address.options.get("queue", "").split(",") if each]
    connection = connected(address)
    containers: list[Container] = []
    try:
        for name in named or USUAL:
            channel = connection.channel()
            with suppress(ChannelClosedByBroker):
                containers.append(_container(channel, name))
                channel.close()  # the server returns the messages to their places
    except (AMQPError, OSError) as error:
        raise SourceFailed(f"{address.shown}: {explained(error)}") from error
    finally:
        with suppress(AMQPError):
            connection.close()
    if not containers:
        raise SourceFailed(
            f"{address.shown}: has no queue named {' or '.join(named or USUAL)}. Name one after the address, such as "
            "?queue=jobs; 'rabbitmqctl list_queues' lists all"
        )
    return containers


def _container(channel: _Library, name: str) -> Container:
    queue = _Queue(channel, name)
    size = queue.ready()
    messages = [_Message(tag, name, "", "", properties, body) for tag, properties, body in queue.take(SAMPLES)]
    samples: Sequence[Record] = [found(each).record for each in messages]
    return Container("queue", name, tuple(samples), size)
