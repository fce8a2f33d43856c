"""What goes wrong: at random times, from one seed, and never for ever."""

from collections.abc import Callable
from random import Random
from typing import Final

from stockworker.protocol import topics
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import TopicKind
from tests.simulation.broker import Limits, Noise
from tests.simulation.calm import EVERYBODY
from tests.simulation.dispatcher import DAY, MIDDAY
from tests.simulation.fleet import Fleet
from tests.simulation.process import Process

_BOUNDARIES: Final = ("decide", "commit", "committed", "perform")
_DETECTION_S: Final = 40.0
"""How long a machine may take a connection for open after its broker lost power."""


class Faults:
    """Breaks things, and mends them again."""

    def __init__(self, fleet: Fleet, per_hour: float, until: float) -> None:
        self._fleet = fleet
        self._world = fleet.world
        self._dice: Random = fleet.world.dice("faults")
        self._per_hour = per_hour
        self._until = until
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "process_killed": (8, self._kill),
            "killed_at_boundary": (20, self._doom),
            "power_cut": (6, self._power_cut),
            "process_paused": (4, self._pause),
            "broker_restarted": (6, self._broker),
            "cable_cut": (12, self._cut),
            "network_slow": (5, self._slow_network),
            "messages_mangled": (5, self._noise),
            "broker_stingy": (2, self._limits),
            "disk_full": (4, self._full_disk),
            "disk_slow": (4, self._slow_disk),
            "clock_stepped": (6, self._step_clock),
            "clock_wrong_at_boot": (2, self._boot_in_1970),
            "twin_joined": (2, self._twin),
            "worker_stopped": (4, self._leave),
            "reboot_while_offline": (4, self._reboot_offline),
            "client_killed": (2, self._kill_client),
            "nonsense_published": (4, self._nonsense),
            "dispatcher_stopped": (2, self._stop_dispatcher),
        }
        self._names = list(self._kinds)
        self._weights = [weight for weight, _ in self._kinds.values()]
        self._next()

    def _next(self) -> None:
        if self._per_hour:
            self._world.after(self._dice.expovariate(self._per_hour / 3600.0), self._strike)

    def _strike(self) -> None:
        if self._world.now >= self._until:
            return
        (name,) = self._dice.choices(self._names, self._weights)
        self._world.note("faults", name)
        self._fleet.facts.faults[name] += 1
        self._kinds[name][1]()
        self._next()

    # --- how long, and whom -------------------------------------------------------------------------------------------

    def _while(self) -> float:
        """Mostly short, sometimes long, never beyond the end."""
        length_s = self._dice.choice((2.0, 20.0, 60.0, 60.0, 300.0, 1800.0)) * self._dice.uniform(0.3, 1.0)
        return min(length_s, max(1.0, self._until - self._world.now))

    def _process(self) -> Process:
        fleet = self._fleet
        return self._dice.choice([fleet.dispatcher, fleet.dispatcher, *fleet.workers])

    def _for_a_while(self, part: str, trouble: str, begin: Callable[[], None], end: Callable[[], None]) -> float:
        calm, length_s = self._fleet.calm, self._while()
        name = f"{trouble} {self._world.step}"
        calm.begin(part, name)
        begin()

        def over() -> None:
            end()
            calm.end(part, name)

        self._world.after(length_s, over)
        return length_s

    # --- processes ----------------------------------------------------------------------------------------------------

    def _kill(self) -> None:
        self._fleet.kill(self._process(), self._while())

    def _power_cut(self) -> None:
        self._fleet.power_cut(self._process(), self._while())

    def _doom(self) -> None:
        """Die at the n-th boundary of one kind from now."""
        process, point = self._process(), self._dice.choice(_BOUNDARIES)
        left = self._dice.randint(1, 5)
        dark = self._dice.random() < 0.3

        def doomed(here: str) -> bool:
            nonlocal left
            left -= here == point
            if left <= 0 and dark:
                self._world.after(0.0, lambda: process.disk.power_cut(all_lost=True) if not process.alive else None)
            return left <= 0

        process.doom = doomed

    def _pause(self) -> None:
        process, length_s = self._process(), self._while()
        name = f"paused {self._world.step}"
        self._fleet.calm.begin(process.name, name)
        process.pause(length_s)
        self._world.after(length_s + 0.1, lambda: self._fleet.calm.end(process.name, name))

    def _leave(self) -> None:
        self._dice.choice(self._fleet.workers).leave(self._while())

    def _stop_dispatcher(self) -> None:
        self._fleet.dispatcher.stop()

    def _twin(self) -> None:
        self._fleet.add_twin(self._dice.choice(self._fleet.workers), self._while())

    def _reboot_offline(self) -> None:
        worker = self._dice.choice(self._fleet.workers)

        def begin() -> None:
            worker.cable.cut(up=True, down=True)
            self._fleet.power_cut(worker, self._dice.uniform(5.0, 60.0))

        self._for_a_while(worker.name, "offline", begin, lambda: worker.cable.cut(up=False, down=False))

    def _kill_client(self) -> None:
        self._dice.choice(self._fleet.clients).kill()

    # --- broker and network -------------------------------------------------------------------------------------------

    def _broker(self) -> None:
        broker, fleet = self._fleet.broker, self._fleet
        if not broker.running:
            return
        silent, orderly = self._dice.random() < 0.3, self._dice.random() < 0.4
        persistent = self._dice.random() < 0.5

        def begin() -> None:
            broker.stop(orderly=orderly and not silent, persistent=persistent, silent=silent)
            if silent:
                for peer in fleet.peers:
                    if peer.link is not None:
                        peer.link.pings_fail()

        def end() -> None:
            broker.start()
            if silent:
                name = f"unnoticed {self._world.step}"
                fleet.calm.begin(EVERYBODY, name)
                self._world.after(_DETECTION_S, lambda: fleet.calm.end(EVERYBODY, name))

        self._for_a_while(EVERYBODY, "no broker", begin, end)

    def _cut(self) -> None:
        fleet = self._fleet
        peer = self._dice.choice(fleet.peers)
        up, down = self._dice.choice(((True, True), (True, False), (False, True)))

        def begin() -> None:
            peer.cable.cut(up=up, down=down)
            if peer.link is not None:
                if up:
                    peer.link.silenced()
                if down:
                    peer.link.pings_fail()

        self._for_a_while(peer.name, "cut", begin, lambda: peer.cable.cut(up=False, down=False))

    def _slow_network(self) -> None:
        peer = self._dice.choice(self._fleet.peers)

        def set_to(slow_s: float) -> None:
            peer.cable.slow_s = slow_s

        slow_s = self._dice.choice((0.5, 3.0, 20.0))
        self._for_a_while(peer.name, "slow", lambda: set_to(slow_s), lambda: set_to(0.0))
        trouble = f"in flight {self._world.step}"
        self._fleet.calm.begin(peer.name, trouble)
        self._world.after(1840.0, lambda: self._fleet.calm.end(peer.name, trouble))

    def _noise(self) -> None:
        broker, dice = self._fleet.broker, self._dice
        noise = Noise(
            loss=dice.choice((0.0, 0.05, 0.3)),
            doubling=dice.choice((0.0, 0.05, 0.3)),
            lateness=dice.choice((0.0, 0.05, 0.3)),
            longest_delay_s=dice.choice((0.1, 3.0, 60.0, 300.0)),
        )

        def begin() -> None:
            broker.noise = noise

        def end() -> None:
            broker.noise = Noise()
            trouble = f"late messages {self._world.step}"
            self._fleet.calm.begin(EVERYBODY, trouble)
            self._world.after(300.0, lambda: self._fleet.calm.end(EVERYBODY, trouble))

        self._for_a_while(EVERYBODY, "noise", begin, end)

    def _limits(self) -> None:
        broker = self._fleet.broker

        def set_to(limits: Limits) -> None:
            broker.limits = limits

        limits = Limits(inflight=self._dice.choice((1, 20)), queued=self._dice.choice((0, 1, 30)))
        self._for_a_while(EVERYBODY, "stingy", lambda: set_to(limits), lambda: set_to(Limits()))

    def _nonsense(self) -> None:
        """A foreign client publishes nonsense."""
        dice, workers = self._dice, self._fleet.workers
        topic = dice.choice(
            (
                topics.of_worker(TopicKind.REQUEST, workers[0].worker_id),
                topics.of_worker(TopicKind.ASSIGN, workers[0].worker_id),
                topics.of_worker(TopicKind.REPORT, workers[0].worker_id),
                "jobs/queue/high/../../etc",
                "jobs/query/nobody",
                str(TopicKind.CLEANUP),
                str(TopicKind.STATS_REQUEST),
                "workers/disconnect/w1",
            )
        )
        body = dice.choice((b"", b"{}", b"[1]", b'{"schema":2}', b"\xff\xfe", b'{"schema":1,"attempts":[{}]}'))
        self._fleet.broker.publish(Packet(topic, body), "nobody")

    # --- disks and clocks ---------------------------------------------------------------------------------------------

    def _full_disk(self) -> None:
        process = self._process()

        def set_to(*, full: bool) -> None:
            process.disk.full = full

        self._for_a_while(process.name, "disk full", lambda: set_to(full=True), lambda: set_to(full=False))

    def _slow_disk(self) -> None:
        process = self._process()

        def set_to(seconds: float) -> None:
            process.disk_s = seconds

        disk_s = self._dice.choice((0.05, 1.0, 8.0))
        self._for_a_while(process.name, "disk slow", lambda: set_to(disk_s), lambda: set_to(0.0))

    def _step_clock(self) -> None:
        self._fleet.dispatcher.wall_offset += self._dice.choice((-DAY, DAY, -5.0, 5.0, -3600.0, 3600.0))

    def _boot_in_1970(self) -> None:
        """The dispatcher's machine has no battery for its clock; a time server corrects it later."""
        dispatcher = self._fleet.dispatcher
        self._fleet.power_cut(dispatcher, self._dice.uniform(15.0, 60.0))
        dispatcher.wall_offset = -MIDDAY - self._world.now

        def correct() -> None:
            dispatcher.wall_offset = 0.0

        self._world.after(self._while(), correct)
