"""What goes wrong, when, and how it is done: a plan made from a seed, and its performance on a real fleet."""

import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from tests.harness.broker import Broker
from tests.harness.fleet import Fleet, Service, ServiceFailed
from tests.harness.proxy import Proxy
from tests.harness.volume import Volume
from tests.harness.waiting import wait_until

LEASE_S: Final = 2.0
STORE_REFUSED: Final = 74
"""The exit status of a service whose store or journal can't be used."""

_FULL_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        moment: the share of the executions (0 to 1) after which it happens.
        part: to whom: ``broker``, ``client``, or the identity of a service.
        kind: what; the name of a method of `Chaos`.
        lasts_s: for how long.
    """

    moment: float
    part: str
    kind: str
    lasts_s: float


_NETWORK: Final = {"delay": 1, "swallow_all": 1, "swallow_up": 1, "swallow_down": 1, "reset": 3, "forget": 1}
_PROCESS: Final = {"kill": 5, "pause": 3, "fill_disk": 2, "damage": 3}
KINDS: Final = {
    "broker": {"kill": 3, "pause": 2, "wipe": 5},
    "client": {"delay": 1, "reset": 2},
    "dispatcher": {**_PROCESS, **_NETWORK},
    "worker": {**_PROCESS, **_NETWORK},
}
"""For each part what can happen to it, and how often in comparison."""

_SHARES: Final = {"broker": 3, "dispatcher": 4, "client": 1, "worker": 3}
_LONGER_THAN_A_LEASE: Final = {"pause", "swallow_all", "swallow_up", "swallow_down"}


def make_plan(random: Random, faults: int, workers: int) -> list[Fault]:
    """Say what goes wrong when, in order; everything follows from `random`."""
    identities = {f"host-{number}": "worker" for number in range(1, workers + 1)}
    parts = {"broker": "broker", "client": "client", "dispatcher": "dispatcher", **identities}
    shares = [_SHARES[role] for role in parts.values()]
    plan = []
    for part in random.choices(list(parts), shares, k=faults):
        kinds = KINDS[parts[part]]
        (kind,) = random.choices(list(kinds), list(kinds.values()))
        shortest_s, longest_s = (1.2 * LEASE_S, 2 * LEASE_S) if kind in _LONGER_THAN_A_LEASE else (0.0, 1.0)
        plan.append(Fault(random.uniform(0.0, 0.9), part, kind, random.uniform(shortest_s, longest_s)))
    return sorted(plan, key=lambda fault: fault.moment)


def _files(path: Path) -> Sequence[Path]:
    return [file for part in ("", "-wal", "-shm") if (file := path.with_name(path.name + part)).exists()]


def _cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def _overwrite(path: Path) -> None:
    path.write_bytes(b"symbol,close\n" * 1000)
    for file in _files(path)[1:]:
        file.unlink()


def _lose(path: Path) -> None:
    """Lose the file and keep its write-ahead log: a kill leaves one behind."""
    path.unlink()
    path.with_name(f"{path.name}-wal").touch()


Damage = Callable[[Path], None]
DAMAGES: Final[tuple[Damage, ...]] = (_cut_to_nothing, _overwrite, _lose)
"""What can happen to a file of SQLite's."""


class Chaos:
    """Performs faults on one part; it is whole again after each."""

    def __init__(self, fleet: Fleet, part: str, volume: Volume | None, random: Random) -> None:
        self._fleet = fleet
        self._part = part
        self._volume = volume
        self._random = random
        self.ended_by_itself = 0
        """How often a service ended because its disk was full."""

    def perform(self, fault: Fault) -> None:
        """Do it, and undo it."""
        self.expect_alive()
        act: Callable[[float], None] = getattr(self, fault.kind)
        act(fault.lasts_s)

    def expect_alive(self) -> None:
        """Nobody ends a service but its faults."""
        if self._part.startswith(("dispatcher", "host-")) and not self._service.alive:
            raise ServiceFailed(f"{self._part} has ended with {self._service.wait()}:\n{self._service.log[-4000:]}")

    def kill(self, lasts_s: float) -> None:
        self._victim.kill()
        time.sleep(lasts_s)
        self._victim.start()

    def pause(self, lasts_s: float) -> None:
        victim = self._victim
        if isinstance(victim, Broker):
            victim.pause()
            time.sleep(lasts_s)
            victim.resume()
        else:
            victim.send_signal(signal.SIGSTOP)
            time.sleep(lasts_s)
            victim.send_signal(signal.SIGCONT)

    def wipe(self, lasts_s: float) -> None:
        broker = self._fleet.broker
        broker.kill()
        broker.wipe()
        time.sleep(lasts_s)
        broker.start()

    def fill_disk(self, _lasts_s: float) -> None:
        """Until the service gives up, or for a while; started like systemd does, it finds the disk still full."""
        service, volume = self._service, self._volume
        if volume is None:
            raise AssertionError(f"{self._part} has no disk of its own")
        volume.fill()
        try:
            for _ in range(2):
                with suppress(TimeoutError):
                    wait_until(lambda: not service.alive, "the disk is full", _FULL_S)
                self._restart_if_ended(service)
        finally:
            volume.free()
        with suppress(TimeoutError):
            wait_until(lambda: not service.alive, "a last complaint", 0.2)
        self._restart_if_ended(service)

    def damage(self, lasts_s: float) -> None:
        """Damage its file in one way or another."""
        self.damage_with(self._random.choice(DAMAGES), lasts_s)

    def damage_with(self, damage: Damage, lasts_s: float = 0.0) -> None:
        """Damage its file; the operator restores the dispatcher's, a worker goes on without."""
        service = self._service
        path = self._fleet.job_store if service is self._fleet.dispatcher else self._fleet.journal(self._part)
        service.kill()
        if service is self._fleet.dispatcher:
            backup = _copy(path, path.parent / "backup")
            damage(path)
            self._expect_refusal(service, path)
            for file in _files(path):
                file.unlink()
            for file in backup:
                shutil.copy(file, path.parent)
            time.sleep(lasts_s)
            service.start()
        else:
            damage(path)
            before = len(service.events("journal_quarantined"))
            service.start()
            service.await_event("journal_quarantined", before + 1)

    def delay(self, lasts_s: float) -> None:
        self._proxy.delay(0.1)
        time.sleep(lasts_s)
        self._proxy.heal()

    def swallow_all(self, lasts_s: float) -> None:
        self._swallow(lasts_s, up=True, down=True)

    def swallow_up(self, lasts_s: float) -> None:
        self._swallow(lasts_s, up=True, down=False)

    def swallow_down(self, lasts_s: float) -> None:
        self._swallow(lasts_s, up=False, down=True)

    def reset(self, _lasts_s: float) -> None:
        self._proxy.reset()

    def forget(self, _lasts_s: float) -> None:
        self._proxy.forget()

    def _swallow(self, lasts_s: float, *, up: bool, down: bool) -> None:
        self._proxy.swallow(up=up, down=down)
        time.sleep(lasts_s)
        self._proxy.heal()

    @property
    def _victim(self) -> Broker | Service:
        return self._fleet.broker if self._part == "broker" else self._service

    @property
    def _service(self) -> Service:
        if self._part == "dispatcher":
            return self._fleet.dispatcher
        return self._fleet.workers[int(self._part.removeprefix("host-")) - 1]

    @property
    def _proxy(self) -> Proxy:
        return self._fleet.proxies[self._part]

    def _restart_if_ended(self, service: Service) -> None:
        if not service.alive:
            status = service.wait()
            if status != STORE_REFUSED:
                raise ServiceFailed(f"{service.name} ended with {status} on a full disk:\n{service.log[-4000:]}")
            self.ended_by_itself += 1
            service.start()

    @staticmethod
    def _expect_refusal(service: Service, path: Path) -> None:
        said = len(service.log)
        service.start()
        status = service.wait()
        if status != STORE_REFUSED or f"{path}: " not in service.log[said:] or "restore a backup" not in service.log:
            raise ServiceFailed(f"{service.name} ended with {status} on a damaged store:\n{service.log[said:]}")


def _copy(path: Path, folder: Path) -> list[Path]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return [Path(shutil.copy(file, folder)) for file in _files(path)]
