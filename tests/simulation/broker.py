"""A model of Mosquitto: subscriptions, sessions, limits that drop in silence, wills, restarts that forget."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Final

from stockworker.adapters.mqtt_reasons import NO_MATCHING_SUBSCRIBERS
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import TopicKind
from tests.simulation.network import CLOSED, SHUTTING_DOWN, TAKEN_OVER, Wire
from tests.simulation.world import Timer, World

KEEPALIVE_S: Final = 20.0
_GIVES_UP_S: Final = 1.5 * KEEPALIVE_S
_AUTOSAVE_S: Final = 60.0
_WATCHED: Final = str(TopicKind.MONITOR)
"""An operator watches the steps of jobs, so that the laws see all of them."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """What a client asks for when it connects."""

    client_id: str
    subscriptions: tuple[str, ...]
    will: Packet | None
    clean_start: bool = True
    session_expiry_s: float = 0.0


@dataclass(slots=True)
class Noise:
    """What bridges and bad brokers do to messages that they have acknowledged. Chances are 0 to 1."""

    loss: float = 0.0
    doubling: float = 0.0
    lateness: float = 0.0
    longest_delay_s: float = 0.0


@dataclass(slots=True)
class Limits:
    """See mosquitto.conf(5): what is beyond `queued` is dropped, and the sender gets a success."""

    inflight: int = 1000
    queued: int = 100_000


@dataclass(slots=True)
class _Kept:
    """A message for one session, until it is acknowledged; and a minute longer, for a broker that crashes."""

    packet: Packet
    since: float
    until: float = inf


@dataclass(slots=True)
class _Session:
    sign_in: SignIn
    filters: dict[tuple[int, str, str], list[list[str]]]
    created: float
    wire: Wire | None = None
    receive: Callable[[Packet, int], None] | None = None
    will: Packet | None = None
    inflight: dict[int, _Kept] = field(default_factory=dict)
    queue: deque[_Kept] = field(default_factory=deque)
    history: deque[_Kept] = field(default_factory=deque)
    expiry: Timer | None = None
    last_id: int = 0
    wanted: dict[str, bool] = field(default_factory=dict)

    def wants(self, topic: str) -> bool:
        known = self.wanted.get(topic)
        if known is None:
            levels = topic.split("/")
            known = self.wanted[topic] = any(
                all(wanted in ("+", level) for wanted, level in zip(filter_, levels, strict=True))
                for filter_ in self.filters.get((len(levels), levels[0], levels[1]), ())
            )
        return known


class Broker:
    """See the module.

    Attributes:
        running: whether it takes connections.
        noise: how badly it behaves.
        limits: how much it keeps.
        dropped: messages dropped in silence.
        received: called with each message that arrives, and the client id of its sender.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._dice: Random = world.dice("broker")
        self.running = True
        self.noise = Noise()
        self.limits = Limits()
        self.dropped = 0
        self._names_takeovers = world.dice("broker version").random() < 0.5  # Mosquitto does so since 2.1
        self._sessions: dict[str, _Session] = {}

    # --- connections --------------------------------------------------------------------------------------------------

    def sign_in(
        self,
        ask: SignIn,
        wire: Wire,
        accepted: Callable[[], None],
        receive: Callable[[Packet, int], None],
    ) -> None:
        """Connect and subscribe in one.

        At the machine's end `accepted` is called once, and `receive` with each message and its packet ID.
        """
        old = self._sessions.get(ask.client_id)
        if old is not None and old.wire is not None:
            self._world.note("broker", "takeover", ask.client_id)
            taken = old.wire
            self._end_connection(old, with_will=True)
            taken.drop(TAKEN_OVER if self._names_takeovers else CLOSED)
            old = self._sessions.get(ask.client_id)
        present = old is not None and not ask.clean_start
        session = old if old is not None and present else _Session(ask, _filters(ask), self._world.now)
        self._sessions[ask.client_id] = session
        if session.expiry is not None:
            session.expiry.cancel()
        session.sign_in, session.wire, session.receive, session.will = ask, wire, receive, ask.will
        wire.lost_at_broker = lambda: self._lost(session, wire)
        wire.down(accepted)
        for packet_id, kept in session.inflight.items():
            self._send(session, kept.packet, packet_id)
        self._fill(session)

    def sign_out(self, client_id: str, wire: Wire) -> None:
        """A client disconnects in good order."""
        session = self._sessions.get(client_id)
        if session is not None and session.wire is wire:
            self._end_connection(session, with_will=False)
            wire.drop()

    def silent(self, wire: Wire) -> None:
        """A machine may be cut off or dark from now on: give it up after a while, unless it sends again."""

        def look() -> None:
            session = next((found for found in self._sessions.values() if found.wire is wire), None)
            if session is not None and wire.silenced:
                self._end_connection(session, with_will=True)
                wire.drop()

        self._world.after(_GIVES_UP_S, look)

    def _lost(self, session: _Session, wire: Wire) -> None:
        if session.wire is wire:
            self._end_connection(session, with_will=True)

    def _end_connection(self, session: _Session, *, with_will: bool) -> None:
        will, session.wire, session.receive, session.will = session.will, None, None, None
        client_id, expiry_s = session.sign_in.client_id, session.sign_in.session_expiry_s
        if not expiry_s:
            del self._sessions[client_id]
        else:
            session.expiry = self._world.after(expiry_s, lambda: self._expire(session))
        if with_will and will is not None:
            self.publish(will, client_id)

    def _expire(self, session: _Session) -> None:
        if session.wire is None and self._sessions.get(session.sign_in.client_id) is session:
            del self._sessions[session.sign_in.client_id]

    # --- messages -----------------------------------------------------------------------------------------------------

    def publish(self, packet: Packet, sender: str) -> int:
        """Pass a message on; returns the reason code for its sender."""
        listeners = [session for session in self._sessions.values() if session.wants(packet.topic)]
        if not listeners and packet.topic != _WATCHED:
            return NO_MATCHING_SUBSCRIBERS
        for session in listeners:
            self._pass_on(session, packet, sender)
        return 0

    def _pass_on(self, session: _Session, packet: Packet, sender: str) -> None:
        noise = self.noise
        if noise.loss and self._dice.random() < noise.loss:
            self.dropped += 1
            self._world.note("broker", "loses", packet.topic, "from", sender)
            return
        if noise.doubling and self._dice.random() < noise.doubling:
            self._later(session, packet)
        if noise.lateness and self._dice.random() < noise.lateness:
            self._later(session, packet)
        else:
            self._offer(session, packet)

    def _later(self, session: _Session, packet: Packet) -> None:
        def offer() -> None:
            current = self._sessions.get(session.sign_in.client_id)
            if self.running and current is not None:
                self._offer(current, packet)

        self._world.after(self._dice.random() * self.noise.longest_delay_s, offer)

    def _offer(self, session: _Session, packet: Packet) -> None:
        if packet.qos == 0:
            if session.wire is not None:
                self._send(session, packet, 0)
            return
        kept = _Kept(packet, self._world.now)
        if session.wire is not None and len(session.inflight) < self.limits.inflight:
            self._send_kept(session, kept)
        elif len(session.queue) < self.limits.queued:
            session.queue.append(kept)
        else:
            self.dropped += 1
            self._world.note("broker", "drops", packet.topic)
            return
        if session.sign_in.session_expiry_s:
            session.history.append(kept)
            while session.history and session.history[0].until < self._world.now - _AUTOSAVE_S:
                session.history.popleft()

    def _fill(self, session: _Session) -> None:
        while session.queue and session.wire is not None and len(session.inflight) < self.limits.inflight:
            self._send_kept(session, session.queue.popleft())

    def _send_kept(self, session: _Session, kept: _Kept) -> None:
        if session.sign_in.session_expiry_s:
            session.last_id += 1
            session.inflight[session.last_id] = kept
            self._send(session, kept.packet, session.last_id)
        else:
            self._send(session, kept.packet, 0)  # nothing is repeated to one without a session

    def _send(self, session: _Session, packet: Packet, packet_id: int) -> None:
        receive, wire = session.receive, session.wire
        if receive is not None and wire is not None:
            wire.down(lambda: receive(packet, packet_id))

    def acknowledge(self, client_id: str, wire: Wire, packet_ids: list[int]) -> None:
        """A client has taken these messages over."""
        session = self._sessions.get(client_id)
        if session is None or session.wire is not wire:
            return
        for packet_id in packet_ids:
            kept = session.inflight.pop(packet_id, None)
            if kept is not None:
                kept.until = self._world.now
        self._fill(session)

    # --- its own life -------------------------------------------------------------------------------------------------

    def stop(self, *, orderly: bool, persistent: bool, silent: bool) -> None:
        """End, and keep what its persistence keeps; `silent` is a power cut: no client notices."""
        self.running = False
        wires = [session.wire for session in self._sessions.values() if session.wire is not None]
        kept = {name: session for name, session in self._sessions.items() if session.sign_in.session_expiry_s}
        self._sessions = kept if persistent else {}
        saved_at = self._world.now if orderly else self._world.now - self._dice.random() * _AUTOSAVE_S
        for name, session in list(self._sessions.items()):
            session.wire = session.receive = session.will = None
            if session.created > saved_at:
                del self._sessions[name]
            elif not orderly:
                session.inflight = {}
                session.queue = deque(
                    _Kept(kept.packet, self._world.now)
                    for kept in session.history
                    if kept.since <= saved_at < kept.until
                )
        for wire in wires:
            if silent:
                wire.disappear()
            else:
                wire.drop(SHUTTING_DOWN if orderly else CLOSED)

    def start(self) -> None:
        self.running = True


def _filters(ask: SignIn) -> dict[tuple[int, str, str], list[list[str]]]:
    found: dict[tuple[int, str, str], list[list[str]]] = {}
    for pattern in ask.subscriptions:
        levels = pattern.split("/")
        found.setdefault((len(levels), levels[0], levels[1]), []).append(levels)
    return found
