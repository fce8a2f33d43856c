"""``stockworker top``: the fleet on a screen of its own, with keys to look closer and to act."""

import argparse
import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.cli.connection import converse
from stockworker.cli.show import story_lines, story_of
from stockworker.cli.top_model import (
    MOST_JOBS,
    Facts,
    Quit,
    TopOrder,
    TopState,
    Verb,
    press,
    wanted,
)
from stockworker.cli.top_screen import clamped, render
from stockworker.client import Client
from stockworker.client.throughput import Throughput
from stockworker.errors import AccessDenied, ConnectionFailed, RequestRefused, StockworkerError
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus, SetDrain, SetPause, Stats
from stockworker.protocol.views import JobView, WorkerView
from stockworker.terminal.arguments import add_client_options, timeout
from stockworker.terminal.exits import Exit
from stockworker.terminal.full_screen import FullScreen, check_terminal
from stockworker.terminal.output import print_lines

_EVERY_S: Final = 2.0
_ALL_WORKERS_EVERY_S: Final = 10.0
"""How often all workers of a large fleet are listed: that is several queries."""

_REST: Final = 9.0
"""After a list of jobs, this many times its duration must pass before the same list: some need a search of all jobs."""

_CLOCK_S: Final = 1.0
_NO_KEYS: Final = 100
"""After this many reads without a key the terminal has gone: nothing can be typed any more."""


def top(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker top``."""
    parser.description = (
        "Show queues, workers and jobs, live. Keys open a queue, a worker or a job, search, sort, and send orders after a "
        "question: retry, cancel, drain, pause. `?` lists the keys, `q` leaves with status 0, Ctrl-C with 130. Orders "
        "require operator rights."
    )
    parser.add_argument(
        "--every", type=timeout, default=_EVERY_S, metavar="DURATION", help="how often to ask (default: 2s)"
    )
    parser.add_argument("--once", action="store_true", help="print one screen as text, and exit")
    add_client_options(parser, json=False)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.once:
        converse(arguments, _print_once, notices=False)
        return Exit.OK
    ended: list[int] = []

    async def talk(client: Client) -> None:
        with FullScreen() as screen:
            await TopSession(client, screen, arguments.every, ended.append).run()

    check_terminal()
    converse(arguments, talk, notices=False)
    for number in ended:  # with the terminal as it was
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return Exit.OK


async def _print_once(client: Client) -> None:
    state = TopState()
    facts = await FleetFacts(client).load(state)
    print_lines(render(replace(state, facts=facts, now=facts.at), *shutil.get_terminal_size()))


class FleetFacts:
    """Asks for what the screen shows."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._throughput = Throughput()
        self._workers: tuple[WorkerView, ...] = ()
        self._workers_at: float | None = None
        self._listed: JobFilter | None = None
        self._jobs: tuple[JobView, ...] = ()
        self._list_again_at = 0.0

    async def load(self, state: TopState) -> Facts:
        """Ask the dispatcher.

        Raises:
            AccessDenied: the broker refuses this client.
            ConnectionFailed: no answer arrived in time.
        """
        stats = await self._client.stats()
        self._throughput.add(stats, clock.wall())
        facts = Facts(
            stats=stats,
            at=clock.wall(),
            workers=await self._all_workers(stats),
            rates=tuple(self._throughput.newest_rates().items()),
        )
        jobs, job_id = wanted(state.page)
        return await self._with_story(await self._with_jobs(facts, jobs), job_id)

    async def _all_workers(self, stats: Stats) -> tuple[WorkerView, ...]:
        """All workers. The statistics of a large fleet have only a part of them, and that part is newer."""
        if not stats.workers_omitted:
            return stats.workers
        now = clock.monotonic()
        if self._workers_at is None or now - self._workers_at >= _ALL_WORKERS_EVERY_S:
            self._workers = tuple([worker async for worker in self._client.workers()])
            self._workers_at = now
        newer = {worker.worker_id: worker for worker in stats.workers}
        return tuple(newer.get(worker.worker_id, worker) for worker in self._workers)

    async def _with_jobs(self, facts: Facts, listed: JobFilter | None) -> Facts:
        if listed is None:
            return facts
        begun = clock.monotonic()
        if listed != self._listed or begun >= self._list_again_at:
            self._jobs = tuple(await self._client.list(listed))
            ended = clock.monotonic()
            self._listed, self._list_again_at = listed, ended + _REST * (ended - begun)
        return replace(facts, jobs=(listed, self._jobs[:MOST_JOBS]), more_jobs=len(self._jobs) > MOST_JOBS)

    def expire(self) -> None:
        """Load the list of jobs with the next question: an order has changed one."""
        self._listed = None

    async def _with_story(self, facts: Facts, job_id: str | None) -> Facts:
        if job_id is None:
            return facts
        try:
            story = await story_of(self._client, JobId(job_id))
        except (ConnectionFailed, AccessDenied):
            raise
        except StockworkerError as error:  # the job was deleted meanwhile
            return replace(facts, story=(job_id, (str(error),)))
        return replace(facts, story=(job_id, tuple(story_lines(story))), job=story.view)


class TopSession:
    """One run on one screen."""

    def __init__(self, client: Client, screen: FullScreen, every_s: float, ended: Callable[[int], object]) -> None:
        self._client = client
        self._screen = screen
        self._every_s = every_s
        self._ended = ended
        self._state = TopState(now=clock.wall())
        self._facts = FleetFacts(client)
        self._stopped = asyncio.Event()
        self._wanted = asyncio.Event()
        self._orders: set[asyncio.Task[None]] = set()
        self._empty_reads = 0

    async def run(self) -> None:
        """Show the fleet until the person leaves.

        Raises:
            AccessDenied: the broker refuses this client for good.
        """
        with self._input():
            asking = asyncio.create_task(self._ask_periodically())
            ticking = asyncio.create_task(self._tick())
            stopped = asyncio.create_task(self._stopped.wait())
            tasks: set[asyncio.Task[Any]] = {asking, ticking, stopped}
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in (asking, ticking):
                    if task.done():
                        task.result()
            finally:
                for task in (*tasks, *self._orders):
                    task.cancel()
                await asyncio.gather(*tasks, *self._orders, return_exceptions=True)

    @contextmanager
    def _input(self) -> Iterator[None]:
        """Let keys, a new size and the end of the terminal reach the session."""
        loop = asyncio.get_running_loop()
        loop.add_reader(0, self._read_keys)
        loop.add_signal_handler(signal.SIGWINCH, self._resized)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._end, number)
        try:
            yield
        finally:
            loop.remove_reader(0)
            for number in (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _end(self, number: int) -> None:
        self._ended(number)
        self._stopped.set()

    def _resized(self) -> None:
        self._screen.resized()
        self._draw()

    def _read_keys(self) -> None:
        keys = self._screen.keys()
        self._empty_reads = 0 if keys else self._empty_reads + 1
        if self._empty_reads > _NO_KEYS:
            self._stopped.set()
        for key in keys:
            self._press(key)
        self._draw()

    def _press(self, key: str) -> None:
        if key == "redraw":
            self._screen.redraw()
            return
        page = self._state.page
        self._state, request = press(self._state, key)
        match request:
            case Quit():
                self._stopped.set()
            case TopOrder():
                task = asyncio.create_task(self._carry_out(request))
                self._orders.add(task)
                task.add_done_callback(self._orders.discard)
            case None:
                if wanted(page) != wanted(self._state.page):
                    self._wanted.set()

    async def _carry_out(self, order: TopOrder) -> None:
        self._note(f"{order.verb} {order.name}: sent")
        try:
            entry = await send(self._client, order)
        except StockworkerError as error:
            self._note(f"{order.verb} {order.name}: {error}")
        else:
            reason = f": {entry.reason}" if entry.reason else ""
            word = "rejected" if entry.status is ReceiptStatus.REJECTED else "done"
            self._note(f"{order.verb} {order.name}: {word}{reason}")
        self._facts.expire()
        self._wanted.set()

    def _note(self, text: str) -> None:
        self._state = replace(self._state, note=text)
        self._draw()

    async def _ask_periodically(self) -> None:
        while True:
            self._wanted.clear()
            await self.ask()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._wanted.wait()

    async def ask(self) -> None:
        """Ask for what the screen shows, and show it.

        Raises:
            AccessDenied: the broker refuses this client.
        """
        try:
            facts = await self._facts.load(self._state)
        except AccessDenied:
            raise
        except ConnectionFailed:
            return  # the screen shows how old its facts are
        except RequestRefused as error:  # the dispatcher is too busy, or of an older version
            self._note(str(error))
            return
        self._state = replace(self._state, facts=facts)
        self._draw()

    async def _tick(self) -> None:
        while True:
            self._draw()
            await asyncio.sleep(_CLOCK_S)

    def _draw(self) -> None:
        size = self._screen.size
        self._state = clamped(replace(self._state, now=clock.wall(), problem=self._client.problem), *size)
        self._screen.draw(render(self._state, *size))


async def send(client: Client, order: TopOrder) -> ReceiptEntry:
    """Send an order, and return its receipt.

    Raises:
        StockworkerError: it can't be carried out; the text names the reason.
    """
    match order.verb:
        case Verb.CANCEL:
            return await client.cancel(order.name)
        case Verb.RETRY:
            return await client.retry(order.name)
        case Verb.DRAIN | Verb.UNDRAIN:
            return await client.order(SetDrain(WorkerId(order.name), drained=order.verb is Verb.DRAIN))
        case Verb.PAUSE | Verb.RESUME:
            return await client.order(SetPause(JobType(order.name), paused=order.verb is Verb.PAUSE))
