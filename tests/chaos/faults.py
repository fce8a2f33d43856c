"""Faults: a plan made from a seed, and how each fault is caused in a real fleet."""

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from tests.harness import damage, processes
from tests.harness.broker import Broker
from tests.harness.damage import Damage
from tests.harness.fleet import Fleet, Service, ServiceFailed
from tests.harness.proxy import Proxy
from tests.harness.volume import Volume
from tests.harness.waiting import wait_until

LEASE_S: Final = 2.0
STORE_REFUSED: Final = 74
"""The exit status of a service that can't use its store or journal."""

_FULL_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        moment: the share of the executions (0 to 1) after which it happens.
        part: the part that it affects: ``broker``, ``client``, ``submitter``, or the identity of a service.
        kind: the name of a method of `Chaos`.
        lasts_s: its duration.
    """

    moment: float
    part: str
    kind: str
    lasts_s: float

    @property
    def role(self) -> str:
        """The role of the part: a key of `KINDS`."""
        return "worker" if self.part.startswith("host-") else self.part


_NETWORK: Final = {"delay": 1, "black_hole": 1, "black_hole_up": 1, "black_hole_down": 1, "reset": 3, "half_open": 1}
_PROCESS: Final = {"kill": 5, "pause": 3, "fill_disk": 2, "truncate": 1, "corrupt": 1, "lose_file": 1}
KINDS: Final = {
    "broker": {"kill": 3, "pause": 2, "wipe": 5},
    "dispatcher": {**_PROCESS, **_NETWORK},
    "worker": {**_PROCESS, **_NETWORK, "kill_job": 2},
    "client": {"delay": 1, "reset": 2},
    "submitter": {"kill": 1},
}
"""For each role, the kinds of faults, with their weights."""

_SHARES: Final = {"broker": 3, "dispatcher": 4, "worker": 3, "client": 1, "submitter": 1}
_LONGER_THAN_A_LEASE: Final = {"pause", "black_hole", "black_hole_up", "black_hole_down"}
_DAMAGES: Final[dict[str, tuple[Damage, ...]]] = {
    "truncate": (damage.cut_to_nothing, damage.cut_in_half),
    "corrupt": (damage.overwrite_its_head, damage.overwrite_its_pages, damage.replace_by_text),
    "lose_file": (damage.lose_it_and_keep_its_log,),
}


def make_plan(random: Random, faults: int, workers: int) -> list[Fault]:
    """Plan faults in the order of their moments: each kind once, if `count` allows, and the others at random.

    The same `random` gives the same plan.
    """
    everything = [(role, kind) for role, kinds in KINDS.items() for kind in kinds]
    chosen = random.sample(everything, min(faults, len(everything)))
    shares = {role: share * (workers if role == "worker" else 1) for role, share in _SHARES.items()}
    for role in random.choices(list(shares), list(shares.values()), k=faults - len(chosen)):
        (kind,) = random.choices(list(KINDS[role]), list(KINDS[role].values()))
        chosen.append((role, kind))
    plan = []
    for role, kind in chosen:
        part = f"host-{random.randint(1, workers)}" if role == "worker" else role
        shortest_s, longest_s = (1.2 * LEASE_S, 2 * LEASE_S) if kind in _LONGER_THAN_A_LEASE else (0.0, 1.0)
        plan.append(Fault(random.uniform(0.0, 0.9), part, kind, random.uniform(shortest_s, longest_s)))
    return sorted(plan, key=lambda fault: fault.moment)


class Chaos:
    """Causes faults in one part, and repairs it after each."""

    def __init__(
        self, fleet: Fleet, part: str, seed: int, *, volume: Volume | None = None, service: Service | None = None
    ) -> None:
        """Prepare a part for faults.

        Args:
            fleet: the fleet of the part.
            part: see `Fault`.
            seed: decides what the plan leaves open.
            volume: the disk of the part.
            service: its process, unless the fleet knows it.
        """
        self._fleet = fleet
        self._part = part
        self._random = Random(seed)  # noqa: S311 (to be replayed)
        self._volume = volume
        self._given = service
        self.ended_by_itself = 0
        """The number of times a service exited because its disk was full."""

    def perform(self, fault: Fault) -> bool:
        """Cause a fault and undo it; return whether this machine allows it at all."""
        self.expect_alive()
        if fault.kind == "fill_disk" and not (self._volume and self._volume.mounted):
            return False
        if fault.kind in _DAMAGES:
            self.damage_with(self._random.choice(_DAMAGES[fault.kind]), fault.lasts_s)
        else:
            act: Callable[[float], None] = getattr(self, fault.kind)
            act(fault.lasts_s)
        return True

    def expect_alive(self) -> None:
        """Check that the service runs: only faults may end it."""
        service = self._fleet.services.get(self._part)
        if service is not None and not service.alive:
            raise ServiceFailed(f"{self._part} has ended with {service.wait()}:\n{service.log[-4000:]}")

    def kill(self, lasts_s: float) -> None:
        victim = self._victim
        if victim is self._given:  # a command: it runs only briefly, and nothing restarts it
            victim.start()
            time.sleep(lasts_s)
            victim.kill()
        else:
            victim.kill()
            time.sleep(lasts_s)
            victim.start()

    def kill_job(self, _lasts_s: float) -> None:
        """Kill a process that runs jobs, as the kernel does when memory runs out."""
        wait_until(lambda: processes.descendants(self._service.pid), f"{self._part} runs jobs")
        with suppress(ProcessLookupError):
            os.kill(self._random.choice(sorted(processes.descendants(self._service.pid))), signal.SIGKILL)

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
        """Fill the disk until the service exits or the time is over; a restart finds the disk still full."""
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
        # The service may be about to exit because of it, which can't be observed from here.
        self._judge_end(service, service.kill())
        service.start()

    def damage_with(self, damage: Damage, lasts_s: float = 0.0) -> None:
        """Damage the file of a service: the operator restores the dispatcher's store; a worker starts a new journal."""
        service = self._service
        service.kill()
        if service is self._fleet.dispatcher:
            self._damage_store(damage)
            time.sleep(lasts_s)
            service.start()
        else:
            self._damage_journal(damage)

    def delay(self, lasts_s: float) -> None:
        self._proxy.delay(0.1)
        time.sleep(lasts_s)
        self._proxy.heal()

    def black_hole(self, lasts_s: float) -> None:
        self._swallow(lasts_s, up=True, down=True)

    def black_hole_up(self, lasts_s: float) -> None:
        self._swallow(lasts_s, up=True, down=False)

    def black_hole_down(self, lasts_s: float) -> None:
        self._swallow(lasts_s, up=False, down=True)

    def reset(self, _lasts_s: float) -> None:
        self._proxy.reset()

    def half_open(self, _lasts_s: float) -> None:
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
        return self._given or self._fleet.services[self._part]

    @property
    def _proxy(self) -> Proxy:
        return self._fleet.proxies[self._part]

    def _restart_if_ended(self, service: Service) -> None:
        if not service.alive:
            self._judge_end(service, service.wait())
            service.start()

    def _judge_end(self, service: Service, status: int) -> None:
        if status not in {STORE_REFUSED, -signal.SIGKILL}:
            raise ServiceFailed(f"{service.name} ended with {status} on a full disk:\n{service.log[-4000:]}")
        self.ended_by_itself += status == STORE_REFUSED

    def _damage_store(self, damage: Damage) -> None:
        service, path = self._fleet.dispatcher, self._fleet.job_store
        backup = _copy(path, path.parent / "backup")
        damage(path)
        said = len(service.log)
        service.start()
        status = service.wait()
        error = service.log[said:]
        if status != STORE_REFUSED or f"{path}: " not in error or "restore a backup" not in error:
            raise ServiceFailed(f"{service.name} ended with {status} on a damaged store:\n{error}")
        for file in _files(path):
            file.unlink()
        for file in backup:
            shutil.copy(file, path.parent)

    def _damage_journal(self, damage: Damage) -> None:
        service, path = self._service, self._fleet.journal(self._part)
        damage(path)
        before = len(service.events("journal_quarantined"))
        service.start()
        told = service.await_event("journal_quarantined", before + 1)
        kept = Path(told["kept"])
        if not list(kept.parent.glob(f"{kept.name}*")):
            raise ServiceFailed(f"{service.name} has not kept its damaged journal as {kept}")
        # Until the new journal has tables, there is nothing to damage.
        wait_until(lambda: _has_tables(path), f"{service.name} begins a new journal")


def _has_tables(path: Path) -> bool:
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_schema")
        return bool(tables)
    return False


def _files(path: Path) -> list[Path]:
    return [file for part in ("", "-wal", "-shm") if (file := path.with_name(path.name + part)).exists()]


def _copy(path: Path, folder: Path) -> list[Path]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return [Path(shutil.copy(file, folder)) for file in _files(path)]
