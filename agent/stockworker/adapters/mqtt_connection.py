"""One MQTT 5 connection, from the first packet to its loss."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any, TypeVar

from stockworker.adapters.mqtt_dial import Dialer, DialFailed
from stockworker.adapters.mqtt_reasons import CLIENT_CERTIFICATE, PERMANENT_REFUSALS, explain_code, explain_error
from stockworker.adapters.mqtt_wire import ACCEPTED, Accepted, Callbacks, ConnectionEnd, MqttWire, ReadBuffer
from stockworker.adapters.tls import Stamp, TlsFiles
from stockworker.errors import ConfigError, ProtocolMisuse
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.packet import Packet

# More unacknowledged messages bring no speed. Without a limit of the broker, 65,535 are allowed (MQTT 5.0, section
# 3.2.2.3.3).
_SEND_WINDOW_MAX = 1000
_SEND_WINDOW_UNNAMED = 65_535
# Reason codes from here on are failures (MQTT 5.0, section 2.4).
_FAILURE = 0x80
_CLOSE_TIMEOUT_S = 5.0

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How to connect. Password and certificate are read again for each connection.

    A worker keeps the defaults; a dispatcher sets `clean_start=False, session_expiry_s=86_400`. With `discard_session`, the
    first connection forgets the session that the broker keeps, with its messages.

    An attempt fails after `connect_timeout_s` without an answer. The time between attempts is random, below a limit. The
    limit starts with `backoff_first_s` and doubles with each failure up to `backoff_cap_s`. It starts again after a
    connection of `healthy_after_s`. On `echo_topic`, which is among the subscriptions, the link publishes to itself every
    `echo_every_s`, to prove that messages arrive.
    """

    host: str
    port: int
    client_id: str
    subscriptions: tuple[str, ...] = ()
    username: str | None = None
    password: Callable[[], str | None] | None = field(default=None, repr=False)
    tls: TlsFiles | None = None
    keepalive_s: int = 20
    clean_start: bool = True
    session_expiry_s: int = 0
    discard_session: bool = False
    receive_maximum: int = 1000
    accepted: Accepted = ACCEPTED
    will: Packet | None = None
    connect_timeout_s: float = 15.0
    backoff_first_s: float = 0.5
    backoff_cap_s: float = 60.0
    healthy_after_s: float = 60.0
    echo_topic: str | None = None
    echo_every_s: float = 10.0

    def __post_init__(self) -> None:
        # gmqtt counts the characters of a client ID, but MQTT counts its bytes.
        if not self.client_id or not self.client_id.isascii():
            raise ProtocolMisuse(f"the client ID {self.client_id!r} must be ASCII, and not empty")

    def identity(self) -> "LinkIdentity":
        """The identity for the next connection.

        Raises:
            ConfigError: the password can't be read.
        """
        password = None if self.password is None else self.password()
        return LinkIdentity(self.username, password, () if self.tls is None else self.tls.stamp)


@dataclass(frozen=True, slots=True)
class LinkIdentity:
    """Equal if the broker would see the same identity."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    certificate: Stamp = ()


class BrokerUnreachable(Exception):
    """An attempt to connect has failed, with the reason in the text.

    `permanent`: a retry can't help. `bad_packet`: the broker sent a packet that this client can't handle.
    """

    def __init__(self, reason: str, *, permanent: bool = False, bad_packet: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent
        self.bad_packet = bad_packet


class Connection:
    """Use `open`, which returns a connection after CONNECT and SUBSCRIBE."""

    def __init__(self, settings: LinkSettings, callbacks: Callbacks, dialer: Dialer) -> None:
        self.wire = MqttWire(settings.clean_start, settings.keepalive_s, callbacks, settings.accepted)
        self.send_window = 1
        self.identity = LinkIdentity()
        self._settings = settings
        self._subscribed = {*settings.subscriptions}
        self._dialer = dialer

    @classmethod
    async def open(cls, settings: LinkSettings, callbacks: Callbacks, dialer: Dialer) -> "Connection":
        """Connect, sign in and subscribe.

        Args:
            settings: how.
            callbacks: of the new connection.
            dialer: for the host and port of the settings; it remembers which addresses have failed.

        Raises:
            BrokerUnreachable: one of the three failed, or they took longer than `connect_timeout_s` together.
        """
        connection = cls(settings, callbacks, dialer)
        try:
            # Not wait_for: in Python 3.11 it returns, and forgets a cancellation, if both happen together.
            async with asyncio.timeout(settings.connect_timeout_s):
                await connection._establish()
        except BaseException as error:
            connection.wire.abort(ConnectionEnd("given up"))
            dialer.fails()
            if isinstance(error, BrokerUnreachable):
                # Another address may lead to a broker that accepts this client.
                permanent = error.permanent and dialer.all_failed
                raise BrokerUnreachable(
                    dialer.named(str(error)), permanent=permanent, bad_packet=error.bad_packet
                ) from error
            if isinstance(error, ConfigError):  # about a replaced file: the missing part may still arrive
                raise BrokerUnreachable(str(error)) from error
            if isinstance(error, OSError | UnicodeError):  # UnicodeError: an invalid host name
                raise BrokerUnreachable(connection._with_file(connection._explain(error))) from error
            raise
        dialer.works()
        return connection

    def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe to those of the topics that are new."""
        new = [topic for topic in topics if topic not in self._subscribed]
        self._subscribed.update(new)
        if new and not self.wire.closing:
            self.wire.subscribe(new, None)

    async def close(self) -> None:
        """Disconnect in good order, which suppresses the will. Drop the connection if the peer does not react."""
        self.wire.disconnect(ConnectionEnd("closed"))
        await asyncio.wait({self.wire.ended}, timeout=_CLOSE_TIMEOUT_S)
        self.wire.abort(ConnectionEnd("closed"))

    async def _establish(self) -> None:
        settings = self._settings
        loop = asyncio.get_running_loop()
        context = None if settings.tls is None else settings.tls.context()
        self.identity = settings.identity()
        connected = await self._dialer.dial()
        # A dot at the end of a host name is for the resolver only: no certificate has it (RFC 6066, section 3).
        name = None if context is None else settings.host.rstrip(".")
        self._dialer.step = "the TLS handshake"
        await loop.create_connection(lambda: ReadBuffer(self.wire), sock=connected, ssl=context, server_hostname=name)
        await self._sign_in()
        if settings.subscriptions:
            await self._subscribe()

    async def _sign_in(self) -> None:
        settings = self._settings
        await self.wire.connect(
            settings.client_id,
            self.identity.username,
            self.identity.password,
            settings.will,
            session_expiry_interval=settings.session_expiry_s,
            receive_maximum=settings.receive_maximum,
            maximum_packet_size=settings.accepted.largest_packet,
        )
        answers = self.wire.answers
        code = await self._answer(answers.connack, "CONNACK")
        if code:
            reason = f"the broker refused the connection: {explain_code(code)}"
            raise BrokerUnreachable(reason, permanent=code in PERMANENT_REFUSALS)
        # gmqtt's packet IDs end one below the broker's limit, and SUBSCRIBE takes one of them.
        window = answers.limit("receive_maximum", _SEND_WINDOW_UNNAMED) - 2
        self.send_window = max(1, min(window, _SEND_WINDOW_MAX))
        self.wire.largest_packet = answers.limit("maximum_packet_size", self.wire.largest_packet)

    async def _subscribe(self) -> None:
        topics = self._settings.subscriptions
        self.wire.subscribe(topics, self._settings.echo_topic)
        codes = await self._answer(self.wire.answers.suback, "SUBACK")
        for topic, code in zip(topics, codes, strict=True):
            if code >= _FAILURE:
                raise BrokerUnreachable(f"the broker refused the subscription to {topic}: {explain_code(code)}")

    async def _answer(self, answer: asyncio.Future[_Answer], name: str) -> _Answer:
        self._dialer.step = name
        ended = self.wire.ended
        either: set[asyncio.Future[Any]] = {answer, ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        end = ended.result()
        reason = f"{end.reason} (instead of {name})"
        if self._settings.tls is not None and (end.by_peer or end.reset):
            # TLS 1.3 refuses a certificate after the handshake, and its alert can get lost behind the reset.
            reason += f": does the broker accept {CLIENT_CERTIFICATE}? Its log has details"
        raise BrokerUnreachable(self._with_file(reason), bad_packet=end.bad_packet)

    def _explain(self, error: OSError | UnicodeError) -> str:
        if isinstance(error, DialFailed):
            return str(error)
        # The time-out of asyncio; that of the kernel has an errno.
        if not isinstance(error, TimeoutError) or error.errno is not None:
            return self._dialer.named(explain_error(error))
        step, address = self._dialer.step, self._dialer.address
        waited = f"no answer within {self._settings.connect_timeout_s:g} s, waiting for {step}"
        if not address:
            return f"{waited}: is the network up, and does /etc/resolv.conf list name servers that answer?"
        return f"{waited} at {address}: is this the broker's port?"

    def _with_file(self, reason: str) -> str:
        """Begin with the file of the client certificate, if the reason is about that."""
        tls = self._settings.tls
        return (
            f"{tls.cert_file}: {reason}"
            if tls is not None and tls.cert_file and CLIENT_CERTIFICATE in reason
            else reason
        )
