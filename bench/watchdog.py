"""``make bench-watchdog``: does systemd restart every worker that hangs, and no other service?

On a booted Debian, many workers hang at the same time, HANGS times in each way of `tests.harness.injected_hangs`. A busy
worker, two workers without a broker, and the dispatcher must not restart meanwhile. Needs root, and the packages in dist/.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import uniform
from typing import Any, Final

import yaml

from bench.figures import percentile, show
from stockworker.adapters import clock
from stockworker.client import Client, client_name, link_settings
from stockworker.config import load
from tests.harness import site
from tests.harness.guest import RELEASES, Guest, Overlay, base_root
from tests.harness.injected_hangs import HANGS, Hang, add_to, kill_command
from tests.harness.package_tools import APT

_HOST: Final = f"hangs-{os.getpid()}"
_SHIPPED_S: Final = 30
_BUSY, _NOWHERE, _CLOSED = "busy", "nowhere", "closed"
_BYSTANDERS: Final = tuple(f"stockworker@{name}" for name in (_BUSY, _NOWHERE, _CLOSED))
_MOST_LOG_BYTES: Final = 2**20
_PAUSE_S: Final = 0.2
_PATIENCE: Final = 4
"""In units of WatchdogSec=: twice the promise."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the systemd journal; `at` is in seconds of the monotonic clock."""

    at: float
    event: str
    text: str

    @property
    def notices(self) -> bool:
        """Whether systemd or the service itself has noticed the hang."""
        by_systemd = ": Watchdog timeout" in self.text or ": Watchdog request" in self.text
        return by_systemd or self.event in {"no_progress", "store_failed", "connection_dead"}


class Journal:
    """The systemd journal of the units of a machine."""

    def __init__(self) -> None:
        self._entries: dict[str, list[Entry]] = {}
        self._news = asyncio.Condition()

    async def follow(self, guest: Guest) -> None:
        """Follow the journal until cancelled."""
        # It is a grandchild of this process, so it must exit with its parent.
        with_its_parent = ("setpriv", "--pdeathsig", "TERM")
        command = guest.command(
            *with_its_parent, "journalctl", "--follow", "--lines=0", "--all", "--output=json", "-u", "stockworker@*"
        )
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, limit=_MOST_LOG_BYTES)
        output = process.stdout
        if output is None:
            raise RuntimeError("no pipe to journalctl")
        try:
            async for line in output:
                entry_of_unit = json.loads(line)
                unit = entry_of_unit.get("UNIT", entry_of_unit.get("_SYSTEMD_UNIT", "")).removesuffix(".service")
                at = int(entry_of_unit["__MONOTONIC_TIMESTAMP"]) / 1e6
                entry = Entry(at, entry_of_unit.get("STOCKWORKER_EVENT", ""), str(entry_of_unit.get("MESSAGE", "")))
                async with self._news:
                    self._entries.setdefault(unit, []).append(entry)
                    self._news.notify_all()
        finally:
            process.terminate()
            await process.wait()

    def since(self, unit: str, at: float) -> list[Entry]:
        """The entries of a unit since a time."""
        return [entry for entry in self._entries.get(unit, []) if entry.at >= at]

    async def until(self, unit: str, since: float, is_expected: Callable[[Entry], bool]) -> Entry:
        """Wait for the first entry of this kind."""
        async with self._news:
            while not (found := [entry for entry in self.since(unit, since) if is_expected(entry)]):
                await self._news.wait()
        return found[0]


@dataclass(slots=True)
class Findings:
    """The hangs of one kind: the times until each was noticed and until the worker worked again, and other faults."""

    noticed_s: list[float] = field(default_factory=list)
    recovered_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    stacks: int = 0


class HangTrial:
    """Makes workers hang, and waits until they work again.

    Args:
        guest: the machine with the workers.
        journal: the systemd journal of the machine.
        client: submits jobs; each worker has a job type of its own.
        watchdog_s: the value of WatchdogSec=.
        hangs: the number of hangs of each kind.
    """

    def __init__(self, guest: Guest, journal: Journal, client: Client, watchdog_s: float, hangs: int) -> None:
        self._guest = guest
        self._journal = journal
        self._client = client
        self._watchdog_s = watchdog_s
        self._left = dict.fromkeys(HANGS, hangs)
        self.findings = {hang: Findings() for hang in HANGS}

    async def run(self, victims: Sequence[str]) -> None:
        """Cause all hangs."""
        async with asyncio.TaskGroup() as group:
            for number, victim in enumerate(victims):
                order = HANGS[number % len(HANGS) :] + HANGS[: number % len(HANGS)]
                group.create_task(self._hang_repeatedly(victim, order))

    @property
    def progress(self) -> str:
        """The hangs so far, as text."""
        done = (f"{hang.name} {len(found.recovered_s)}" for hang, found in self.findings.items())
        return f"{', '.join(done)}; load {os.getloadavg()[0]:.1f}"

    async def _hang_repeatedly(self, victim: str, order: Sequence[Hang]) -> None:
        for hang in cycle(order):
            if not any(self._left.values()):
                return
            if self._left[hang]:
                self._left[hang] -= 1
                # So that a hang begins at any moment between two pings.
                await asyncio.sleep(uniform(0, self._watchdog_s / 4))  # noqa: S311 (not for security)
                await self._inflict(hang, victim)

    async def _inflict(self, hang: Hang, victim: str) -> None:
        findings = self.findings[hang]
        unit = f"stockworker@{victim}"
        begun = clock.monotonic()
        try:
            async with asyncio.timeout(_PATIENCE * self._watchdog_s), asyncio.TaskGroup() as group:
                await self._run(*kill_command(hang, unit))
                group.create_task(self._do_job(victim))  # work for the worker that hangs
                noticed = await self._journal.until(unit, begun, lambda entry: entry.notices)
                back = "ready" if hang.fatal else "link_up"
                await self._journal.until(unit, noticed.at, lambda entry: entry.event == back)
                await self._do_job(victim)
        except TimeoutError:
            findings.faults.append(f"{unit} did not work again within {_PATIENCE * self._watchdog_s:g} s")
            await self._run("systemctl", "restart", unit)
            return
        findings.noticed_s.append(noticed.at - begun)
        findings.recovered_s.append(clock.monotonic() - begun)
        if findings.recovered_s[-1] > 2 * self._watchdog_s:
            findings.faults.append(f"{unit} needed {findings.recovered_s[-1]:.1f} s")
        findings.stacks += any(hang.stack in entry.text for entry in self._journal.since(unit, begun))

    async def _do_job(self, victim: str) -> None:
        await self._client.result(await self._client.submit(f"{_HOST}-{victim}"))

    async def _run(self, *command: str) -> None:
        process = await asyncio.create_subprocess_exec(*self._guest.command(*command))
        if await process.wait() != 0:
            raise RuntimeError(f"{command} ended with {process.returncode}")


def install(image: Overlay, packages: Path, victims: Sequence[str], watchdog_s: int) -> None:
    """Install all workers, with this WatchdogSec=."""
    APT.install(image, packages)
    site.set_up(image, _HOST, site.SETTINGS, [*victims, _BUSY, _NOWHERE, _CLOSED])
    etc = image.root / "etc"
    sections: dict[str, dict[str, Any]] = {
        _BUSY: {"handlers": {f"{_BUSY}-{name}": {"python": f"greetings:{name}"} for name in ("greet", "hold")}},
        _NOWHERE: {"queue": {"mqtt": {"host": "broker.invalid"}}},
        _CLOSED: {"queue": {"mqtt": {"port": 1}}},
    }
    for name in (*victims, _BUSY, _NOWHERE, _CLOSED):
        text = site.instance(f"{_HOST}-{name}", **sections.get(name, {}))
        (etc / "stockworker" / "instances" / f"{name}.yml").write_text(text)
    for unit in ("stockworker@", "stockworker-dispatcher") if watchdog_s != _SHIPPED_S else ():
        drop_in = etc / "systemd" / "system" / f"{unit}.service.d" / "watchdog.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(f"[Service]\nWatchdogSec={watchdog_s}s\n")

    def write(path: str, text: str) -> None:
        (image.root / path.lstrip("/")).write_text(text)

    add_to(write)


@asynccontextmanager
async def operator(guest: Guest, folder: Path) -> AsyncIterator[Client]:
    """A client of the guest's broker."""
    guest.join_network()
    tls = guest.root / "etc" / "stockworker" / "tls"
    files = {"ca_file": tls / "ca.crt", "cert_file": tls / "operator.crt", "key_file": tls / "operator.key"}
    file = folder / "operator.yml"
    file.write_text(yaml.safe_dump({"job_processor": {"tls": {key: str(path) for key, path in files.items()}}}))
    config = load(file)
    async with Client(link_settings(config, "operator"), client_name(config)) as client:
        yield client


async def keep_busy(client: Client) -> None:
    """Keep one long job running, and run many small ones after each other."""
    await client.submit(f"{_BUSY}-hold", timeout_s=86_400)
    while True:
        await client.result(await client.submit(f"{_BUSY}-greet"))
        await asyncio.sleep(_PAUSE_S)


async def report_progress(trial: HangTrial) -> None:
    """Print the progress every half minute."""
    while True:
        await asyncio.sleep(30)
        print(trial.progress, flush=True)


async def measure(guest: Guest, folder: Path, victims: Sequence[str], watchdog_s: int, hangs: int) -> HangTrial:
    """Run the trial beside a load."""
    async with operator(guest, folder) as client:
        journal = Journal()
        trial = HangTrial(guest, journal, client, watchdog_s, hangs)
        background = [
            asyncio.create_task(work) for work in (journal.follow(guest), keep_busy(client), report_progress(trial))
        ]
        try:
            await trial.run(victims)
        finally:
            for task in background:
                task.cancel()
            await asyncio.wait(background)
    return trial


def rows(trial: HangTrial, watchdog_s: int, hangs: int) -> Iterator[tuple[str, str]]:
    """The rows of the table."""
    for hang, found in trial.findings.items():
        in_time = sum(recovered_s <= 2 * watchdog_s for recovered_s in found.recovered_s)
        yield (
            hang.name,
            f"{in_time} of {hangs} recovered within {2 * watchdog_s} s, {found.stacks} stacks in the journal",
        )
        for name, times in (("noticed", found.noticed_s), ("recovered", found.recovered_s)):
            if times:
                p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
                yield f"  {name}", f"p50 {p50:.1f} s, p99 {p99:.1f} s, max {max(times):.1f} s"
        yield from (("  fault", fault) for fault in found.faults)


def restarts(guest: Guest, units: Sequence[str]) -> dict[str, int]:
    """The number of restarts of each unit."""
    return {unit: int(guest.show(unit, "NRestarts")) for unit in units}


def main() -> int:
    """Run the benchmark; return 1 if a worker that hung did not recover in time, or another service restarted."""
    parser = argparse.ArgumentParser(prog="make bench-watchdog", description=__doc__.partition("\n")[0])
    parser.add_argument("--hangs", type=int, default=20, help="the number of hangs of each kind (default: 20)")
    parser.add_argument("--victims", type=int, default=20, help="the number of workers that hang (default: 20)")
    parser.add_argument(
        "--watchdog", type=int, default=_SHIPPED_S, help=f"WatchdogSec=, in seconds (default: {_SHIPPED_S}, as shipped)"
    )
    arguments = parser.parse_args()
    watchdog_s, hangs = arguments.watchdog, arguments.hangs
    victims = [str(number) for number in range(1, arguments.victims + 1)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base = base_root(RELEASES[0])
        with Overlay([base], folder / "image") as image:
            install(image, Path("dist"), victims, watchdog_s)
        guest = stack.enter_context(Guest([image.upper, base], folder / _HOST, _HOST))
        guest.wait_until(lambda: site.online(guest) == len(victims) + 1, "the dispatcher knows all workers")
        before = restarts(guest, [f"stockworker@{victim}" for victim in victims])
        trial = asyncio.run(measure(guest, folder, victims, watchdog_s, hangs))
        after = restarts(guest, list(before))
        bystanders = restarts(guest, ["stockworker-dispatcher", *_BYSTANDERS])
        statuses = {unit: guest.show(unit, "StatusText") for unit in bystanders}
    show(f"Workers that hang, with WatchdogSec={watchdog_s}", list(rows(trial, watchdog_s, hangs)))
    caused = sum(after.values()) - sum(before.values())
    fatal = hangs * sum(hang.fatal for hang in HANGS)
    show("Restarts", [("of workers that hung", f"{caused}, for {fatal} that needed one")])
    show("Bystanders", [(unit, f"{count} restarts; {statuses[unit]}") for unit, count in bystanders.items()])
    whole = all(not found.faults and found.stacks == hangs for found in trial.findings.values())
    return 0 if whole and not any(bystanders.values()) and caused == fatal else 1


if __name__ == "__main__":
    sys.exit(main())
