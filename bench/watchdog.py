"""``make bench-watchdog``: is each service that is stuck found out, and nobody else?

Workers get stuck in every way that `tests.harness.wedges` knows, WEDGES times in each, several at once; a busy worker
and one without a broker are watched all the while. systemd is played by sockets that take notes.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.figures import percentile, show
from stockworker.adapters import clock
from stockworker.client import make_submission
from stockworker.config.broker import Profile
from tests.harness.fleet import Fleet, Service, python_handlers
from tests.harness.service_manager import ServiceManager
from tests.harness.wedges import Wedge, blocked_loop, dead_reader, locked_database, withheld_confirmations

_LONGEST_S: Final = 60.0
_LOOK_S: Final = 0.05
WEDGES: Final[dict[str, Wedge]] = {
    "event loop hangs": blocked_loop,
    "journal is locked": locked_database,
    "confirmations are withheld": withheld_confirmations,
    "reader is dead": dead_reader,
}


@dataclass(slots=True)
class Findings:
    """What became of each kind: how long each took to be noticed, and how many were not."""

    noticed_s: dict[str, list[float]] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)


def manager_of(service: Service) -> ServiceManager:
    """Who watches it."""
    if service.manager is None:
        raise ValueError(f"nobody watches {service.name}")
    return service.manager


async def give_work(fleet: Fleet, types: Sequence[str]) -> None:
    """Submit a job of each type, and don't wait for any."""
    async with fleet.client() as client:
        await client.submit_many(make_submission(job_type) for job_type in types)


def wedge(fleet: Fleet, name: str, victims: Sequence[str], findings: Findings) -> None:
    """Get all victims stuck in one way, see that each is noticed, and bring them back to work."""
    with ExitStack() as stack:
        begun, noticed = {}, {}
        for identity in victims:
            noticed[identity] = stack.enter_context(WEDGES[name](fleet, identity))
            begun[identity] = clock.monotonic()
        asyncio.run(give_work(fleet, victims))
        while begun and clock.monotonic() < min(begun.values()) + _LONGEST_S:
            for identity in [one for one in begun if noticed[one]()]:
                findings.noticed_s.setdefault(name, []).append(clock.monotonic() - begun.pop(identity))
            time.sleep(_LOOK_S)
        findings.missed += [f"{name}: {identity}" for identity in begun]
    services = [fleet.services[identity] for identity in victims]
    pings = [manager_of(service).pings for service in services]
    for service in services:
        if not service.alive:
            service.wait()
            service.start()
    for service, before in zip(services, pings, strict=True):
        manager_of(service).await_told("WATCHDOG=1", before + 2)
        manager_of(service).await_status("connected to")


def set_up(fleet: Fleet, busy: str, offline: str) -> None:
    """Give one worker a job that does not end, and take the broker from another one."""
    asyncio.run(give_work(fleet, [f"{busy}-for-long"]))
    fleet.proxies[offline].swallow()
    fleet.proxies[offline].reset()
    fleet.services[offline].await_event("link_down")


def rounds(count: int, victims: Sequence[str]) -> Iterator[Sequence[str]]:
    """So many victims, as many at once as there are."""
    while count > 0:
        yield victims[:count]
        count -= len(victims)


def main() -> int:
    """Run the benchmark; 1 if a service that was stuck was not found out, or one that was not was taken for it."""
    parser = argparse.ArgumentParser(prog="make bench-watchdog", description=__doc__.partition("\n")[0])
    parser.add_argument("--wedges", type=int, default=20, help="how often in each way (default: 20)")
    parser.add_argument("--victims", type=int, default=8, help="how many at once (default: 8)")
    parser.add_argument("--watchdog", type=float, default=5.0, help="WatchdogSec=, in seconds (default: 5)")
    arguments = parser.parse_args()
    victims = [f"host-{number}" for number in range(1, arguments.victims + 1)]
    busy, offline = f"host-{arguments.victims + 1}", f"host-{arguments.victims + 2}"

    def personal(identity: str) -> dict[str, Any]:
        handlers = {identity: {"python": "job_handlers:nothing"}}
        if identity == busy:
            handlers[f"{busy}-for-long"] = python_handlers("wait_for_cancel")["wait_for_cancel"]
        return {"handlers": handlers, "dispatcher": {"job_defaults": {"timeout": "24h"}}}

    findings = Findings()
    with (
        tempfile.TemporaryDirectory() as folder,
        Fleet(
            Path(folder),
            workers=arguments.victims + 2,
            settings={"worker": {"poll_interval": 1}},
            personal=personal,
            profile=Profile.DEVELOPMENT,
            proxied=True,
            keepalive_s=5,
            watchdog_s=arguments.watchdog,
        ) as fleet,
    ):
        set_up(fleet, busy, offline)
        for name in WEDGES:
            for some in rounds(arguments.wedges, victims):
                wedge(fleet, name, some, findings)
        sound = [manager_of(fleet.services[identity]) for identity in (busy, offline, "dispatcher")]
        silences_s = [manager.longest_silence_s for manager in sound]
    show(
        f"Services that are stuck, watched every {arguments.watchdog:g} s",
        [
            (
                name,
                f"{len(waits)} of {arguments.wedges} noticed, p50 {percentile(waits, 0.5):.1f} s, max {max(waits):.1f} s",
            )
            for name, waits in findings.noticed_s.items()
        ]
        + [("missed", ", ".join(findings.missed) or "none")]
        + [
            (f"longest silence of the {name} one", f"{silence_s:.1f} s")
            for name, silence_s in zip(("busy", "offline", "dispatching"), silences_s, strict=True)
        ],
    )
    return 1 if findings.missed or max(silences_s) > arguments.watchdog else 0


if __name__ == "__main__":
    sys.exit(main())
