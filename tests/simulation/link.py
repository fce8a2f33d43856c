"""A client's link, as `stockworker.adapters.mqtt.Link` behaves: reconnects with jitter, keeps nothing, reports everything."""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final

from stockworker.adapters.mqtt import Backoff, Delivery, LinkDown, LinkItem, LinkUp, PublishRefused, Takeovers
from stockworker.adapters.mqtt_wire import ConnectionEnd
from stockworker.protocol.packet import Packet
from tests.simulation.broker import KEEPALIVE_S, Broker, SignIn
from tests.simulation.network import Cable, Wire
from tests.simulation.world import World

_CONNECT_TIMEOUT_S: Final = 15.0
_BACKOFF_CAP_S: Final = 60.0
_SILENCE_MAX_S: Final = 1.75 * KEEPALIVE_S
_HEALTHY_AFTER_S: Final = 60.0
_SILENCE: Final = ConnectionEnd("no data from the broker")


class Link:
    """One client of the broker, over any number of connections.

    Attributes:
        up: signed in, as far as this end knows.
        gives_up: called when the broker reports too often that another client uses the ID.
        on_send: called with each message before it is sent.
    """

    def __init__(self, world: World, broker: Broker, cable: Cable, dice: Random, ask: SignIn) -> None:
        self._world = world
        self._broker = broker
        self._cable = cable
        self._dice = dice
        self._ask = ask
        self._backoff = Backoff(0.5, _BACKOFF_CAP_S, dice.random)
        self._wire: Wire | None = None
        self._closed = False
        self._generation = 0
        self._since = 0.0
        self._takeovers = Takeovers(_BACKOFF_CAP_S + _CONNECT_TIMEOUT_S)
        self.up = False
        self.deliver: Callable[[LinkItem], None] = lambda _item: None
        self.gives_up: Callable[[], None] = lambda: None
        self.on_send: Callable[[Packet], None] = lambda _packet: None

    def open(self) -> None:
        """Connect, and stay connected."""
        if self._closed:
            return
        if not self._cable.whole:
            self._world.after(_CONNECT_TIMEOUT_S, self._failed)
        elif not self._broker.running:
            self._world.after(0.01, self._failed)
        else:
            self._generation += 1
            wire = Wire(self._world, self._dice, self._cable)
            wire.lost_at_machine = lambda end: self._lost(wire, end)
            self._wire = wire
            wire.up(lambda: self._arrived(wire, self._generation))
            self._world.after(_CONNECT_TIMEOUT_S, lambda: self._look_at_attempt(wire))

    def _arrived(self, wire: Wire, generation: int) -> None:
        """At the broker's end."""
        if not self._broker.running:
            wire.drop()
            return

        def receive(packet: Packet, packet_id: int) -> None:
            if self._wire is wire and self.up:
                self.deliver(Delivery(packet, packet_id, generation))

        def accepted() -> None:
            if self._wire is wire and not self._closed:
                self.up, self._since = True, self._world.now
                self.deliver(LinkUp())

        self._broker.sign_in(self._ask, wire, accepted, receive)

    def _look_at_attempt(self, wire: Wire) -> None:
        if self._wire is wire and not self.up:
            wire.vanish()
            self._lost(wire, _SILENCE)

    def _failed(self) -> None:
        if not self._closed:
            self._takeovers.count = 0
            self.deliver(LinkDown("no connection"))
            self._world.after(self._backoff.next_s(), self.open)

    def _lost(self, wire: Wire, end: ConnectionEnd) -> None:
        if self._wire is not wire or self._closed:
            return
        was_up, self._wire, self.up = self.up, None, False
        if not was_up:
            self._failed()
            return
        self.deliver(LinkDown(end.reason))
        lasted_s = self._world.now - self._since
        self._takeovers.note(end, lasted_s)
        if lasted_s >= _HEALTHY_AFTER_S:
            self._backoff.reset()
            self._takeovers.count = 0
        elif self._takeovers.certain:
            self._closed = True
            self.gives_up()
            return
        self._world.after(self._backoff.next_s(), self.open)

    def send(self, packet: Packet) -> None:
        """Publish; what the broker does not pass on comes back as `PublishRefused`, and what can't be sent is gone."""
        wire = self._wire
        if not self.up or wire is None:
            return
        self.on_send(packet)
        wire.up(lambda: self._published(packet, wire))

    def _published(self, packet: Packet, wire: Wire) -> None:
        """At the broker's end."""
        code = self._broker.publish(packet, self._ask.client_id)
        if code and packet.qos:
            wire.down(lambda: self.deliver(PublishRefused(packet, code)) if self._wire is wire else None)

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """The broker may forget these."""
        wire = self._wire
        ids = [item.packet_id for item in deliveries if item.packet_id and item.generation == self._generation]
        if wire is not None and ids:
            wire.up(lambda: self._broker.acknowledge(self._ask.client_id, wire, ids))

    def pings_fail(self) -> None:
        """The cable was just cut, or the broker has gone dark: this end notices after a while without an answer."""
        wire = self._wire

        def look() -> None:
            if wire is not None and self._wire is wire and (self._cable.down_blocked or not wire.broker_open):
                wire.hang_up()
                self._lost(wire, _SILENCE)

        self._world.after(_SILENCE_MAX_S, look)

    def close(self, last_words: Sequence[Packet] = ()) -> None:
        """Disconnect in good order."""
        for packet in last_words:
            self.send(packet)
        wire = self._wire
        if wire is not None:
            wire.up(lambda: self._broker.sign_out(self._ask.client_id, wire))
            wire.vanish()
        self._end()

    def die(self, *, dark: bool) -> None:
        """Its process is killed; `dark`: its machine is off, so that not even the kernel closes its connections."""
        wire = self._wire
        self._end()
        if wire is not None:
            if dark:
                wire.vanish()
                self._broker.silent(wire)
            else:
                wire.hang_up()

    def silenced(self, paused_s: float = 0.0) -> None:
        """Nothing arrives at the broker from now on: the cable is cut, or the process is stopped for `paused_s`."""
        if self._wire is not None:
            self._wire.quiet_until = self._world.now + paused_s
            self._broker.silent(self._wire)

    def _end(self) -> None:
        self._closed, self.up, self._wire = True, False, None
