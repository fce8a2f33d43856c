"""Cables that are cut, and connections whose ends do not know it."""

from collections.abc import Callable
from random import Random
from typing import Final

from stockworker.adapters.mqtt_reasons import SESSION_TAKEN_OVER
from stockworker.adapters.mqtt_wire import ConnectionEnd
from tests.simulation.world import World

CLOSED: Final = ConnectionEnd("the broker hung up", by_peer=True)
TAKEN_OVER: Final = ConnectionEnd("another client uses the ID", SESSION_TAKEN_OVER, by_peer=True)
SHUTTING_DOWN: Final = ConnectionEnd("the broker stops", 0x8B, by_peer=True)
_RESET: Final = ConnectionEnd("connection reset")
_NEAR_S: Final = 0.0005
_FAR_S: Final = 0.02


class Cable:
    """What joins one machine to the broker.

    Attributes:
        up_blocked: nothing gets from the machine to the broker.
        down_blocked: nothing gets from the broker to the machine.
        slow_s: how much longer than usual everything takes, at most.
    """

    def __init__(self) -> None:
        self.up_blocked = False
        self.down_blocked = False
        self.slow_s = 0.0
        self.wires: set[Wire] = set()

    @property
    def whole(self) -> bool:
        return not (self.up_blocked or self.down_blocked)

    def cut(self, *, up: bool, down: bool) -> None:
        self.up_blocked, self.down_blocked = up, down
        if self.whole:
            for wire in sorted(self.wires, key=lambda wire: wire.number):
                wire.resume()


class _Way:
    """One direction of a connection: what is sent arrives in order, later where the cable is cut."""

    def __init__(self, world: World, dice: Random, cable: Cable) -> None:
        self._world = world
        self._dice = dice
        self._cable = cable
        self._busy_until = 0.0
        self._stalled: list[Callable[[], None]] = []

    def send(self, action: Callable[[], None], *, blocked: bool) -> None:
        if blocked:
            self._stalled.append(action)
            return
        delay_s = self._dice.uniform(_NEAR_S, _FAR_S) + self._dice.random() * self._cable.slow_s
        self._busy_until = max(self._busy_until, self._world.now + delay_s)
        self._world.after(self._busy_until - self._world.now, action)

    def resume(self) -> None:
        """Deliver what the cut has delayed: TCP retransmits by itself."""
        stalled, self._stalled = self._stalled, []
        for action in stalled:
            self.send(action, blocked=False)


class Wire:
    """One TCP connection. It loses nothing while it is open; when it breaks, each end notices at a time of its own.

    Attributes:
        machine_open, broker_open: whether that end takes it for open.
        quiet_until: the machine's process is stopped, and sends nothing before this time.
        lost_at_machine, lost_at_broker: called when that end learns that the other is gone.
    """

    _numbers = 0

    def __init__(self, world: World, dice: Random, cable: Cable) -> None:
        Wire._numbers += 1
        self.number = Wire._numbers
        self._world = world
        self._cable = cable
        self._up = _Way(world, dice, cable)
        self._down = _Way(world, dice, cable)
        self.machine_open = self.broker_open = True
        self.quiet_until = 0.0
        self.lost_at_machine: Callable[[ConnectionEnd], None] = lambda _end: None
        self.lost_at_broker: Callable[[], None] = lambda: None
        cable.wires.add(self)

    @property
    def silenced(self) -> bool:
        """Whether nothing from there arrives at the broker."""
        return self._cable.up_blocked or not self.machine_open or self._world.now < self.quiet_until

    def up(self, action: Callable[[], None]) -> None:
        """Send to the broker; a broker that has given the connection up answers with a reset."""

        def arrive() -> None:
            if self.broker_open:
                action()
            else:
                self.down(lambda: self._close_machine(_RESET))

        if self.machine_open:
            self._up.send(arrive, blocked=self._cable.up_blocked)

    def down(self, action: Callable[[], None]) -> None:
        """Send to the machine."""

        def arrive() -> None:
            if self.machine_open:
                action()

        self._down.send(arrive, blocked=self._cable.down_blocked)

    def hang_up(self) -> None:
        """The machine's end closes in good order."""
        self.up(self.close_broker)
        self.vanish()

    def drop(self, end: ConnectionEnd = CLOSED) -> None:
        """The broker's end closes in good order."""
        self.broker_open = False
        self.down(lambda: self._close_machine(end))
        self._settle()

    def vanish(self) -> None:
        """The machine's end is gone without a word."""
        self.machine_open = False
        self._settle()

    def disappear(self) -> None:
        """The broker's end is gone without a word."""
        self.broker_open = False
        self._settle()

    def _close_machine(self, end: ConnectionEnd) -> None:
        if self.machine_open:
            self.vanish()
            self.lost_at_machine(end)

    def close_broker(self) -> None:
        if self.broker_open:
            self.disappear()
            self.lost_at_broker()

    def resume(self) -> None:
        self._up.resume()
        self._down.resume()

    def _settle(self) -> None:
        if not (self.machine_open or self.broker_open):
            self._cable.wires.discard(self)
