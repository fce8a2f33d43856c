"""A service on one machine: an inbox, turns, and any number of lives, each of which may end at any boundary."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

from stockworker.adapters.mqtt import Delivery, LinkDown, LinkItem, LinkUp
from stockworker.errors import StoreError
from stockworker.shell.arrivals import Arrivals, turn_input
from stockworker.shell.turn import TurnOutput
from tests.simulation.broker import Broker, SignIn
from tests.simulation.calm import Calm
from tests.simulation.disk import Disk
from tests.simulation.invariants import Law, Laws, Violation
from tests.simulation.link import Link
from tests.simulation.network import Cable
from tests.simulation.world import Timer, World

_MOST_LOOKS_AT_ONCE: Final = 20
_SHORTEST_SLEEP_S: Final = 0.001
"""Turns in a row without a message, each this soon after the last one, that count as spinning."""

_TICK_S: Final = 1e-6
"""The resolution of times since the epoch."""


class Died(Exception):
    """A process was killed at a boundary between decide, commit and perform."""


class Process(ABC):
    """See the module.

    Attributes:
        name: of the machine.
        alive: whether the process runs now.
        lives: how many there were.
        disk, cable: the machine's.
        doom: asked at each boundary, with its name, whether to die there.
        decided: called with each list of effects that its machine returns, before anything is done with it.
        born: called when a life has begun.
        died: called when a life has ended by itself or at a boundary, with the reason; the fleet boots it again.
        disk_s: how long a commit takes, at most.
    """

    def __init__(self, world: World, broker: Broker, calm: Calm, laws: Laws, name: str) -> None:
        self.world = world
        self.broker = broker
        self.calm = calm
        self.laws = laws
        self.name = name
        self.dice = world.dice(name)
        self.disk = Disk()
        self.disk.at_boundary = self.boundary
        self.cable = Cable()
        self.link: Link | None = None
        self.alive = False
        self.lives = 0
        self.disk_s = 0.0
        self.doom: Callable[[str], bool] | None = None
        self.decided: Callable[[Sequence[object]], None] = lambda _effects: None
        self.born: Callable[[], None] = lambda: None
        self.died: Callable[[str], None] = lambda _reason: None
        self._inbox: Arrivals[Any] = Arrivals()
        self._wake: Timer | None = None
        self._wakes_at = 0.0
        self._busy_until = 0.0
        self._looks = (0.0, 0, 0)

    # --- life and death -----------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Begin a life, with what the disk has."""
        if self.alive:
            raise AssertionError(f"{self.name} lives already")
        self.lives += 1
        self.alive = True
        self._inbox = Arrivals()
        self._busy_until = 0.0
        self.world.note(self.name, "boots", self.lives)
        self.calm.disturb(self.name)
        link = Link(self.world, self.broker, self.cable, self.dice, self.begin())
        link.deliver = self.put
        link.on_send = self.on_send
        link.gives_up = self.give_up
        self.link = link
        link.open()
        self.born()
        self._look_again()

    def kill(self, reason: str, *, dark: bool = False) -> None:
        """End this life immediately; `dark`: the whole machine goes off."""
        if not self.alive:
            return
        self.world.note(self.name, "dies:", reason)
        self.alive = False
        self.doom = None
        self.calm.begin(self.name, "dead")
        if self._wake is not None:
            self._wake.cancel()
        if self.link is not None:
            self.link.die(dark=dark)
        self.end()

    def boundary(self, point: str) -> None:
        """Die here, if `doom` demands it.

        Raises:
            Died: it does.
        """
        if self.doom is not None and self.doom(point):
            raise Died(point)

    def pause(self, seconds: float) -> None:
        """Stop it, as SIGSTOP does, and let it go on later."""
        if not self.alive:
            return
        self._busy_until = max(self._busy_until, self.world.now + seconds)
        if self.link is not None:
            self.link.silenced(seconds)
        self._look_again()

    # --- turns --------------------------------------------------------------------------------------------------------

    def put(self, item: Any) -> None:
        """Hear of something."""
        if self.alive:
            self.linked(item)
            self._inbox.put(item)
            self._wake_in(self.dice.uniform(0.0001, 0.002))

    def _wake_in(self, delay_s: float) -> None:
        when = max(self.world.now + delay_s, self._busy_until)
        if self._wake is None or self._wake.action is None or when < self._wakes_at:
            if self._wake is not None:
                self._wake.cancel()
            self._wakes_at = when
            self._wake = self.world.after(when - self.world.now, self._turn)

    def _look_again(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        self._wake_in(0.001 if self._inbox else max(_TICK_S, self.next_in_s()))

    def _turn(self) -> None:
        items = self._inbox.take()
        when, looks, left = self._looks
        idle = not items and self.world.now - when < _SHORTEST_SLEEP_S and left == self.left_to_read()
        self._looks = (self.world.now, looks + 1 if idle else 0, self.left_to_read())
        self.laws.hold(Law.NEVER_SPINS, self._looks[1] <= _MOST_LOOKS_AT_ONCE, self.name)
        life = self.lives
        try:
            self.boundary("decide")
            output = self._take(items)
        except Died as death:
            self._die(f"killed at {death}")
            return
        except Violation:
            raise
        except Exception as error:
            self.laws.hold(Law.FAILS_WITH_DISK_ONLY, None, self.name, repr(error))
            raise
        deliveries = [item for item in items if isinstance(item, Delivery)]
        if output is not None and output.left:
            self._inbox.put_back(deliveries[-output.left :])
            del deliveries[-output.left :]
        if self.disk_s and output is not None:
            self._busy_until = self.world.now + self.dice.random() * self.disk_s
            self.world.after(self._busy_until - self.world.now, lambda: self._perform(deliveries, output, life))
        elif output is not None:
            self._perform(deliveries, output, life)
        if self.alive and self.lives == life:
            self._look_again()

    def _take(self, items: list[Any]) -> TurnOutput | None:
        """Take a turn with what has come; None if the disk does not let it, which ends this life."""
        inputs = [turn_input(item) if isinstance(item, LinkItem) else item for item in items]
        try:
            return self.take([found for found in inputs if found is not None])
        except StoreError as error:
            self.laws.hold(Law.FAILS_WITH_DISK_ONLY, self.disk.full, error)
            self.fail(str(error))
            return None

    def _perform(self, deliveries: list[Delivery], output: TurnOutput, life: int) -> None:
        if not self.alive or self.lives != life or self.link is None:
            return
        try:
            self.link.acknowledge(self._inbox.handled(deliveries))
            for event in output.log:
                self.world.note(self.name, event.name, *(f"{name}={value}" for name, value in event.values().items()))
            self.perform(output)
            self.boundary("performed")
        except Died as death:
            self._die(f"killed at {death}")

    def perform(self, output: Any) -> None:
        """Do what a turn wants done."""
        for packet in output.packets:
            self.boundary("perform")
            if self.link is not None:
                self.link.send(packet)

    def fail(self, reason: str) -> None:
        """This life can't go on."""
        self._die(reason)

    def _die(self, reason: str) -> None:
        self.kill(reason)
        self.died(reason)

    # --- what each kind of process does -------------------------------------------------------------------------------

    @abstractmethod
    def begin(self) -> SignIn:
        """Start from the disk; returns how to sign in."""

    @abstractmethod
    def end(self) -> None:
        """Let go of everything that does not survive."""

    @abstractmethod
    def take(self, inputs: list[Any]) -> TurnOutput:
        """Decide and commit, with the turns that ship."""

    @abstractmethod
    def next_in_s(self) -> float:
        """Seconds until a turn is wanted, though nothing may have happened."""

    def left_to_read(self) -> int:
        """How many jobs of its disk it has still to read: a turn that reads some does not spin."""
        return 0

    @abstractmethod
    def on_send(self, packet: Any) -> None:
        """It publishes a packet."""

    @abstractmethod
    def give_up(self) -> None:
        """The link gave up: another client uses the ID."""

    def linked(self, item: Any) -> None:
        """Note whether the link is up."""
        if isinstance(item, LinkUp):
            self.calm.end(self.name, "dead")
            self.calm.end(self.name, "link")
        elif isinstance(item, LinkDown):
            self.calm.begin(self.name, "link")
