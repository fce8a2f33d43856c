"""``make bench-watching``: what people and tools that watch a large fleet wait for, and what they cost the dispatcher.

Each of two fleets has 1,000 registered workers and 100,000 jobs in its store. One of them writes metrics, and is watched: by
`stockworker top`, by a browser, and by a person who lists jobs with one filter after the other. Each asks every two seconds, as
`top` and the page do. The other fleet is left alone. Both take turns to run new jobs, on one real worker each. The other 999
are played by one connection: they send what idle workers send.

It prints the times of all views, at rest and while jobs run, and the costs of a job in the watched fleet as multiples of those
in the other one. The processor time is that of the dispatcher, which depends little on other load of this machine. The time
also has the work of the watchers, which share the processors of this machine with the fleet.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from aiohttp import ClientError, ClientSession

from bench.figures import cpu_s, percentile, show
from bench.pairs import ratios
from bench.probe import together
from stockworker import __version__
from stockworker.adapters import clock
from stockworker.adapters.mqtt import Link
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.broker.configuration import Profile
from stockworker.cli.top import FleetFacts
from stockworker.cli.top_model import TopState
from stockworker.cli.top_screen import render
from stockworker.client import Client
from stockworker.dispatcher.effects import SaveJob
from stockworker.dispatcher.store_sqlite import SqliteJobStore
from stockworker.errors import StockworkerError
from stockworker.protocol import codec
from stockworker.protocol.ids import JobId, JobType, Tag, UniqueKey, WorkerId
from stockworker.protocol.job import JobRecord
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Request
from tests.harness.dispatching import a_job
from tests.harness.fleet import Fleet
from tests.harness.web_page import serving

_EVERY_S: Final = 2.0
_REPEAT_S: Final = 20.0
"""How often a worker without jobs sends its state."""

_LONGEST_S: Final = 600.0
_AT_ONCE: Final = 5000
_LATER: Final = JobType("later")
_FAILED_EVERY: Final = 20
_QUEUED_EVERY: Final = 10

Looks = dict[str, list[float]]
"""View → how long each look at it took, in seconds."""

Look = Callable[[], Awaitable[object]]


# --- a large fleet ----------------------------------------------------------------------------------------------------


def worker_name(number: int) -> WorkerId:
    """The ID of a worker that is played."""
    return WorkerId(f"edge-{number}")


def old_job(sequence: int, workers: int, now: float) -> JobRecord:
    """A job of the store: one of ten waits, one of twenty has failed, and all others are completed."""
    number = sequence * 7919 % 1_000_003  # IDs do not arrive in their order
    job = a_job(
        JobId(f"client:{number:07}"), sequence=sequence, of_type=_LATER, tags=[Tag("red")] if sequence % 3 else []
    )
    job = replace(job, submitted_at=now - 1_000_000 + sequence)
    if sequence % _QUEUED_EVERY == 1:
        return job
    job = replace(job, state=State.COMPLETED, ended_at=job.submitted_at + 1, worker=worker_name(sequence % workers))
    if sequence % _FAILED_EVERY:
        return job
    return replace(job, state=State.FAILED, reason="No such symbol: ACME")


def fill(path: Path, jobs: int, workers: int) -> None:
    """Write the store of a dispatcher that has had many jobs."""
    now = clock.wall()
    with closing(SqliteJobStore(path)) as store:
        for first in range(1, jobs + 1, _AT_ONCE):
            some = range(first, min(first + _AT_ONCE, jobs + 1))
            store.commit([SaveJob(old_job(each, workers, now), '{"symbol": "ACME"}') for each in some])


async def play_workers(fleet: Fleet, workers: int) -> None:
    """Send what idle workers send, until cancelled."""
    settings = LinkSettings(fleet.broker.host, fleet.broker.port, "many-workers")
    link = Link(settings, lambda _item: None)
    running = asyncio.create_task(link.run())
    requests = [
        codec.encode(Request(worker_name(number), "bench", 4, 0, (_LATER,), (), __version__, ()))
        for number in range(1, workers)
    ]
    try:
        while True:
            await link.send(requests)
            await asyncio.sleep(_REPEAT_S)
    finally:
        await link.close()
        await asyncio.gather(running, return_exceptions=True)


async def await_workers(client: Client, workers: int) -> None:
    """Wait until the dispatcher knows all workers."""
    async with asyncio.timeout(60.0):
        while len([worker async for worker in client.workers()]) < workers:  # noqa: ASYNC110 (no event reports it)
            await asyncio.sleep(0.1)


# --- those who watch --------------------------------------------------------------------------------------------------


def filters(workers: int) -> dict[str, JobFilter]:
    """What a person lists: with each filter, with those that match nothing too, since they search all jobs."""
    wanted = JobFilter(limit=51, with_prefixes=True)
    hour_ago = clock.wall() - 3600
    return {
        "list": wanted,
        "list --state failed": replace(wanted, state=State.FAILED),
        "list --type": replace(wanted, type=_LATER),
        "list --worker": replace(wanted, worker=worker_name(workers // 2)),
        "list --worker (no job)": replace(wanted, worker=WorkerId("no-such-worker")),
        "list --tag": replace(wanted, tag=Tag("red")),
        "list --tag (no job)": replace(wanted, tag=Tag("blue")),
        "list --unique (no job)": replace(wanted, unique=UniqueKey("no-such-key")),
        "list --reason": replace(wanted, reason="symbol"),
        "list --reason (no job)": replace(wanted, reason="no such reason"),
        "list --since": replace(wanted, since=hour_ago),
        "list --before": replace(wanted, until=hour_ago),
    }


async def refresh(facts: FleetFacts) -> None:
    """What `top` does every two seconds: ask, and draw a screen."""
    state = TopState()
    found = await facts.load(state)
    render(replace(state, facts=found, now=found.at), 200, 50)


async def read_page(session: ClientSession, url: str) -> None:
    """What a browser does when a person opens a page."""
    async with session.get(url) as response:
        response.raise_for_status()
        await response.read()


async def read_event(session: ClientSession, url: str) -> None:
    """Open the live part of the page, and wait for its first content."""
    async with session.get(f"{url}/events") as response:
        response.raise_for_status()
        await response.content.readany()


@asynccontextmanager
async def watching(config: Path, url: str, workers: int) -> AsyncIterator[dict[str, Look]]:
    """All views of a fleet, connected."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client.from_config(config))
        session = await stack.enter_async_context(ClientSession())
        facts = FleetFacts(client)

        def lister(wanted: JobFilter) -> Look:
            return lambda: client.list(wanted)

        yield {
            "top, one refresh": lambda: refresh(facts),
            "page, the fleet": lambda: read_page(session, url),
            "page, its first live content": lambda: read_event(session, url),
            "page, jobs": lambda: read_page(session, f"{url}/jobs"),
            **{name: lister(wanted) for name, wanted in filters(workers).items()},
        }


async def look_at(looks: Looks, name: str, look: Look) -> None:
    """Look once, and note the time that it took."""
    began = time.perf_counter()
    try:
        await look()
    except (ClientError, StockworkerError):
        name = f"{name}: no answer"
    looks[name].append(time.perf_counter() - began)


async def look_around(views: Mapping[str, Look], looks: Looks) -> None:
    """Look at the views as the watchers do, until cancelled."""

    async def repeatedly(names: Sequence[str]) -> None:
        while True:
            for name in names:
                began = time.perf_counter()
                await look_at(looks, name, views[name])
                await asyncio.sleep(max(0.0, _EVERY_S - (time.perf_counter() - began)))

    kinds = [[name for name in views if name.startswith(kind)] for kind in ("top", "page", "list")]
    await asyncio.gather(*map(repeatedly, kinds))


async def watch(config: Path, url: str, workers: int) -> None:
    """The watching process: from one line of standard input to the next one it looks, then it prints its times."""
    async with watching(config, url, workers) as views:
        while await asyncio.to_thread(sys.stdin.readline):
            looks: Looks = defaultdict(list)
            looking = asyncio.create_task(look_around(views, looks))
            await asyncio.to_thread(sys.stdin.readline)
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            print(json.dumps(looks), flush=True)


# --- pairs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setup:
    """The sizes of a run."""

    jobs: int
    workers: int
    drained: int
    pairs: int
    at_rest: int


@asynccontextmanager
async def ready(fleet: Fleet, setup: Setup) -> AsyncIterator[Client]:
    """A client of a fleet whose workers are registered."""
    playing = asyncio.create_task(play_workers(fleet, setup.workers))
    try:
        async with fleet.client(timeout_s=_LONGEST_S) as client:
            await await_workers(client, setup.workers)
            await together(client, setup.drained // 10, _LONGEST_S)  # warms up
            yield client
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)


async def drain(fleet: Fleet, client: Client, jobs: int) -> dict[str, float]:
    """Run jobs; return the costs of each."""
    spent, began = cpu_s(fleet.dispatcher.pid), time.perf_counter()
    await together(client, jobs, _LONGEST_S)
    return {
        "processor time of the dispatcher": (cpu_s(fleet.dispatcher.pid) - spent) / jobs,
        "time": (time.perf_counter() - began) / jobs,
    }


async def drain_watched(
    fleet: Fleet, client: Client, jobs: int, watchers: asyncio.subprocess.Process, looks: Looks
) -> dict[str, float]:
    """Run jobs while the watching process looks."""
    if watchers.stdin is None or watchers.stdout is None:
        raise AssertionError("both are pipes")
    watchers.stdin.write(b"look\n")
    figures = await drain(fleet, client, jobs)
    watchers.stdin.write(b"stop\n")
    for name, times in json.loads(await watchers.stdout.readline()).items():
        looks[name] += times
    return figures


async def measure(alone: Fleet, watched: Fleet, url: str, setup: Setup) -> None:
    """Look at rest, then run pairs."""
    config = watched.config_file("operator")
    words = (str(config), url, str(setup.workers))
    at_rest: Looks = defaultdict(list)
    looks: Looks = defaultdict(list)
    pairs = []
    async with ready(alone, setup) as one, ready(watched, setup) as other:
        async with watching(config, url, setup.workers) as views:
            for _ in range(setup.at_rest):
                for name, view in views.items():
                    await look_at(at_rest, name, view)
        watchers = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.watching", "--watch", *words, stdin=-1, stdout=-1, limit=2**20
        )
        for _ in range(setup.pairs):
            left = await drain(alone, one, setup.drained)
            pairs.append((left, await drain_watched(watched, other, setup.drained, watchers, looks)))
        watchers.terminate()
        await watchers.wait()
    report(at_rest, looks, pairs)


def report(at_rest: Looks, looks: Looks, pairs: Sequence[tuple[dict[str, float], dict[str, float]]]) -> None:
    """Print all figures."""
    for title, found in (("at rest", at_rest), ("while jobs run", looks)):
        rows = [
            (name, f"p50 {percentile(each, 0.5) * 1e3:4.0f} ms, max {max(each) * 1e3:4.0f} ms, {len(each)} times")
            for name, each in found.items()
        ]
        show(f"Time until a view is complete, {title}", rows)
    rows = [(name, str(ratio)) for name, ratio in ratios(pairs).items()]
    show(f"Costs of a job, watched / left alone: mean (range) of {len(pairs)} pairs", rows)
    costs = [f"{sum(pair[side]['time'] for pair in pairs) / len(pairs) * 1e6:.0f} µs" for side in (0, 1)]
    show("Time for each job", [("left alone", costs[0]), ("watched", costs[1])])


@contextmanager
def fleets(folder: Path, setup: Setup) -> Iterator[tuple[Fleet, Fleet]]:
    """The fleet that is left alone, and the one that is watched."""
    work = {"max_concurrent_jobs": 2, "handler_paths": [str(Path(__file__).parent)], "recycle_after_jobs": 1_000_000}
    settings = {"handlers": {"nothing": {"python": "handlers:nothing"}}, "worker": work}
    metrics = {"enabled": True, "folder": str(folder)}
    with ExitStack() as stack:
        found = []
        for name, own in (("alone", {}), ("watched", {"metrics": metrics})):
            fleet = Fleet(folder / name, workers=1, settings=settings | own, profile=Profile.DEVELOPMENT)
            fill(fleet.job_store, setup.jobs, setup.workers)
            found.append(stack.enter_context(fleet))
        yield found[0], found[1]


def main() -> None:
    """Run the benchmark, or its watching process."""
    parser = argparse.ArgumentParser(prog="make bench-watching", description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs in each store")
    parser.add_argument("--workers", type=int, default=1000, help="registered workers of each fleet")
    parser.add_argument("--drained", type=int, default=10_000, help="jobs that run in each turn")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--at-rest", type=int, default=5, help="how often to look at each view while no job runs")
    parser.add_argument("--watch", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.watch:
        config, url, workers = arguments.watch
        asyncio.run(watch(Path(config), url, int(workers)))
        return
    setup = Setup(arguments.jobs, arguments.workers, arguments.drained, arguments.pairs, arguments.at_rest)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{setup.jobs} jobs, {setup.workers} workers; {os.cpu_count()} processors, load averages before: {load}")
    with (
        tempfile.TemporaryDirectory() as folder,
        fleets(Path(folder), setup) as (alone, watched),
        serving(watched, Path(folder)) as page,
    ):
        asyncio.run(measure(alone, watched, page.url, setup))


if __name__ == "__main__":
    main()
